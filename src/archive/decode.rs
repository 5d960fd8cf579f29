//! The decoder of Parquet, kept from ending a task.
//!
//! On damaged bytes it panics in places where it should fail (its own documentation says so of some). What is damaged is to be
//! named, and everything else to be read.

use std::panic::{AssertUnwindSafe, catch_unwind};

use parquet::errors::ParquetError;

/// What `work` gives; a panic in it is an error like others. What it was working on is of no use afterwards.
pub(crate) fn decode<T>(work: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    let given_up = || ParquetError::General("it is so damaged that its decoder gave up".into());
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(given_up()))
}

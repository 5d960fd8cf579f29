//! The decoder of Parquet, kept from ending a task.
//!
//! On damaged bytes it panics in places where it should fail (its own documentation says so of some). What is damaged is to be
//! named, and everything else to be read.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use parquet::errors::ParquetError;

/// What `work` gives; a panic in it is an error like others, with its words. What it was working on is of no use afterwards.
pub(crate) fn decode<T>(work: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(gave_up(&*panic)))
}

fn gave_up(panic: &(dyn Any + Send)) -> ParquetError {
    let words = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    ParquetError::General(format!("its decoder gave up: {}", words.unwrap_or("no reason given")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_words() {
        let check = |work: fn() -> Result<(), ParquetError>, expected: &str| {
            assert_eq!(decode(work).unwrap_err().to_string(), expected);
        };
        check(|| panic!("no page"), "Parquet error: its decoder gave up: no page");
        check(|| panic!("page {}", 7), "Parquet error: its decoder gave up: page 7");
        check(|| std::panic::panic_any(7), "Parquet error: its decoder gave up: no reason given");
        check(|| Err(ParquetError::General("short".into())), "Parquet error: short");
        assert_eq!(decode(|| Ok(7)).unwrap(), 7);
    }
}

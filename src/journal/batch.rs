//! Records read in one go: one buffer, and where each record begins in it.
//!
//! Invariant: every position listed has passed the record's checks, so reading a batch cannot fail.

use super::Record;
use super::format::Head;

/// Records read in one go; they share one buffer, of which something else may stand behind them.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub(super) buffer: Vec<u8>,
    pub(super) records: Vec<(usize, Head)>,
}

impl Batch {
    /// The records in order.
    pub fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        self.records.iter().map(|(at, head)| head.record(self.buffer.get(*at..).unwrap_or_default()))
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

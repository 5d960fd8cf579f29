//! Which way measurements go into their table: straight, while all are new; by a staging table, while some may be there.
//!
//! COPY cannot pass over a row that is there: one ends all of it, and what it had written is dead weight until vacuum. But
//! nearly always all rows are new, and straight Postgres has 40 % less to do for them. So: after a row that was there, by the
//! staging table until [`CLEAN`] batches in a row had none. Meters that publish to two brokers hardly ever go straight.

use std::sync::atomic::{AtomicU32, Ordering};

/// Batches of new rows only, behind which the next is trusted to be one too.
const CLEAN: u32 = 16;

/// What the last batches were like.
pub(super) struct Way {
    clean: AtomicU32,
}

impl Default for Way {
    /// The journal is replayed from the last commit: its rows are not there.
    fn default() -> Self {
        Self { clean: AtomicU32::new(CLEAN) }
    }
}

impl Way {
    /// Whether the next batch may be tried straight.
    pub(super) fn is_straight(&self) -> bool {
        self.clean.load(Ordering::Relaxed) >= CLEAN
    }

    /// A batch had no row that was there, or one.
    pub(super) fn note(&self, is_clean: bool) {
        // One connection commits at a time: nothing is overwritten.
        let clean = if is_clean { self.clean.load(Ordering::Relaxed).saturating_add(1) } else { 0 };
        self.clean.store(clean, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_row_that_was_there_is_sixteen_batches_of_detour() {
        let way = Way::default();
        assert!(way.is_straight());
        way.note(false);
        for _ in 0..CLEAN {
            assert!(!way.is_straight());
            way.note(true);
        }
        assert!(way.is_straight());
        way.note(true);
        assert!(way.is_straight());
    }
}

//! The thread that removes segments nobody needs any more, beside the writer: giving a file's blocks back can take a medium
//! long (measured 8 ms a segment of 64 MiB on ext4 with `discard`), and no acknowledgement shall wait for that.
//!
//! Invariants: a segment is off the books before its file goes; its name is durably gone before the next one's goes, so that
//! what is left has no gap. A removal that fails is never repeated, it ends the journal as a failed write does. It ends by
//! itself when nothing more is appended and nothing is left to remove.

use std::sync::{Arc, PoisonError};

use super::disk::{self, Disk};
use super::shared::{Phase, Segment, Shared};

/// Runs until the journal is closed or has failed.
pub(super) fn run(shared: &Shared, disk: &Arc<dyn Disk>) {
    while let Some(segment) = next(shared) {
        let removed = disk.remove(&disk::segment_path(&shared.dir, segment.first));
        let is_end = removed.is_err();
        let mut state = shared.lock();
        state.is_removing = false;
        state.not_removed = removed.err();
        drop(state);
        // The writer may have waited for the space, or have to end.
        shared.work.notify_one();
        if is_end {
            return;
        }
    }
}

/// Waits for a segment to remove and takes it off the books.
fn next(shared: &Shared) -> Option<Segment> {
    let mut state = shared.lock();
    loop {
        if state.phase == Phase::Ended {
            return None;
        }
        if let Some(segment) = state.take_trimmed() {
            state.is_removing = true;
            return Some(segment);
        }
        if state.phase == Phase::Closing {
            return None;
        }
        state = shared.trim.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

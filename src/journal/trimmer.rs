//! The thread beside the writer: removes segments nobody needs any more, and makes the file of the next one ahead. Either can
//! take a medium long (measured 8 ms to give back the blocks of a segment of 64 MiB on ext4 with `discard`), and no
//! acknowledgement shall wait for that.
//!
//! Invariant: a segment is off the books before its file goes; its name is durably gone before the next one's goes, so that
//! what is left has no gap. A removal that fails is never repeated, it ends the journal as a failed write does. It ends by
//! itself when nothing more is appended and nothing is left to remove.

use std::sync::{Arc, PoisonError};

use super::disk::{self, Disk};
use super::shared::{Phase, Segment, Shared};
use super::spare::{self, Spare};

enum Work {
    Remove(Segment),
    /// A spare of so many bytes.
    Make(u64),
}

/// Runs until the journal is closed or has failed.
pub(super) fn run(shared: &Shared, disk: &Arc<dyn Disk>) {
    while let Some(work) = next(shared) {
        match work {
            Work::Remove(segment) => {
                let removed = disk.remove(&disk::segment_path(&shared.dir, segment.first));
                let is_end = removed.is_err();
                let mut state = shared.lock();
                state.is_removing = false;
                state.not_removed = removed.err();
                drop(state);
                // The writer may have waited for the space, or have to end.
                shared.work.notify_one();
                if is_end {
                    break;
                }
            }
            Work::Make(length) => {
                let made = spare::make(shared, &**disk, length);
                shared.lock().spare = made;
            }
        }
    }
    spare::take_back(shared);
}

/// Waits for a segment to remove, which it takes off the books, or a spare to make.
fn next(shared: &Shared) -> Option<Work> {
    let mut state = shared.lock();
    loop {
        if state.phase == Phase::Ended {
            return None;
        }
        if let Some(segment) = state.take_trimmed() {
            state.is_removing = true;
            return Some(Work::Remove(segment));
        }
        if state.phase == Phase::Closing {
            return None;
        }
        if state.spare == Spare::Wanted
            && let Some(length) = spare::length(shared.segment_limit)
        {
            state.spare = Spare::Making;
            return Some(Work::Make(length));
        }
        state = shared.trim.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

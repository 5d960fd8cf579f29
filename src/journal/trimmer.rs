//! The thread beside the writer: removes segments nobody needs any more, and makes the file of the next one ahead. Either can
//! take a medium long, and no acknowledgement shall wait for that.
//!
//! On a file system mounted with `discard` (the images of clouds are) the blocks of a segment of 64 MiB keep the medium from
//! everything else for 8 to 25 ms. So they are given back a step at a time, when the name is gone already, and the writer's
//! syncs come in between. Who still reads the file keeps all of it: then it goes when it is closed. A few files are kept
//! instead, to be the next spares (see `spare`).
//!
//! Invariant: a segment is off the books before its file goes; its name is durably gone before the next one's goes, so that
//! what is left has no gap. A removal that fails is never repeated, it ends the journal as a failed write does. It ends by
//! itself when nothing more is appended and nothing is left to remove.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;

use super::disk::{self, Disk};
use super::shared::{Phase, Segment, Shared};
use super::spare::{self, Spare};

/// Blocks are given back in steps of this …
const STEP: u64 = 1 << 20;
/// … so far apart.
const PAUSE: Duration = Duration::from_millis(5);

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
                let path = disk::segment_path(&shared.dir, segment.first);
                let unread = disk::open_unread(&path);
                let place = unread.as_ref().and_then(|_| spare::place(shared, segment.bytes));
                let removed = place.as_ref().map_or_else(|| disk.remove(&path), |place| disk.rename(&path, place));
                let is_end = removed.is_err();
                // Somebody may have given it a second name meanwhile; now nobody can any more.
                let names = unread.as_ref().and_then(|file| file.metadata().ok()).map(|metadata| metadata.nlink());
                match (unread.filter(|_| !is_end), place, names) {
                    (Some(file), Some(place), Some(1)) => spare::keep(shared, place, file),
                    (Some(file), None, Some(0)) => shrink(shared, &**disk, &file, segment.bytes),
                    (_, Some(place), _) => drop(std::fs::remove_file(place)),
                    _ => {}
                }
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

/// Gives back the blocks of a file without a name, from its end on, as long as nobody waits for all of them at once.
fn shrink(shared: &Shared, disk: &dyn Disk, file: &File, bytes: u64) {
    let mut left = bytes;
    while left > STEP && !shared.lock().is_in_haste() {
        left -= STEP;
        // Closing the file does the same.
        if disk.set_len(file, left).and_then(|()| disk.sync_data(file)).is_err() {
            return;
        }
        thread::sleep(PAUSE);
    }
}

/// Waits for a segment to remove, which it takes off the books, or a spare to make.
fn next(shared: &Shared) -> Option<Work> {
    let mut state = shared.lock();
    loop {
        if state.phase == Phase::Ended {
            return None;
        }
        let wanted = spare::length(shared.segment_limit).filter(|_| state.spare == Spare::Wanted);
        // The writer comes to the end of its segment soon; what is to go has time, unless somebody waits for the space.
        if let Some(length) = wanted.filter(|_| !state.is_in_haste()) {
            state.spare = Spare::Making;
            return Some(Work::Make(length));
        }
        if let Some(segment) = state.take_trimmed() {
            state.is_removing = true;
            return Some(Work::Remove(segment));
        }
        if state.phase == Phase::Closing {
            return None;
        }
        if let Some(length) = wanted {
            state.spare = Spare::Making;
            return Some(Work::Make(length));
        }
        state = shared.trim.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

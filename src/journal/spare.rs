//! The file of the next segment, made ahead beside the writer: its blocks are on the medium, filled with zeros.
//!
//! A write into blocks that were written before is on disk with one flush; into a file that grows, the file system has to
//! write down first where its blocks are, and waits for whatever else it has to write down. (Measured at 20 000 messages/s:
//! 99 % are acknowledged within 12 to 18 ms, without it within 32 to 56.) So while the active segment fills, the next one is
//! filled with zeros. Best in the file of a segment that nobody needs any more: it has its blocks, and its pages are in memory.
//! (Measured there: new pages cost 7 % of two processors, and what is not given back keeps no medium busy.)
//!
//! Invariants: a spare is no segment, whatever it holds: it gets a segment's name only after its header is on disk, and what
//! a start finds of one, or of a file that was to be one, is removed. Nothing depends on it: where it cannot be made, the next
//! segment grows as it is written. A full disk takes it back, so does the end.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::disk::Disk;
use super::shared::{Phase, Shared};

/// Zeros are written and synced in steps of this, so that no sync of the writer waits for more than one.
const STEP: usize = 1 << 20;
/// In a smaller segment there is nothing to gain …
const LEAST: u64 = 4 << 20;
/// … and beyond this a segment grows as it is written.
const MOST: u64 = 256 << 20;

/// Most files kept for spares: as many segments as are done with at once at a high rate.
const MOST_USED: usize = 3;

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Spare {
    /// There is none.
    Absent,
    /// The active segment is half full: it is time.
    Wanted,
    /// It is being made.
    Making,
    /// It is there, of this length.
    Ready(u64),
    /// It could not be made, or was taken back: not before the next segment is it tried again.
    Refused,
}

/// Where it lies.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("spare.journal.new")
}

/// The file of a segment that nobody needs any more. Nobody reads it, and nobody begins to while it is open.
pub(super) struct Used {
    path: PathBuf,
    file: File,
}

impl Used {
    /// Gives its space back. Another one may lie at its place already.
    fn remove(&self) {
        let of = |metadata: std::io::Result<Metadata>| metadata.ok().map(|metadata| metadata.ino());
        if of(std::fs::metadata(&self.path)) == of(self.file.metadata()) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn used_path(dir: &Path, number: usize) -> PathBuf {
    dir.join(format!("used-{number}.journal.new"))
}

/// Whether that is a spare, or a file that was to be one.
pub(super) fn is_one(dir: &Path, file: &Path) -> bool {
    file == path(dir) || (0..MOST_USED).any(|number| file == used_path(dir, number))
}

/// The length of a spare for segments of this length; none where it does not pay.
pub(super) fn length(segment_bytes: u64) -> Option<u64> {
    (segment_bytes >= LEAST).then(|| segment_bytes.min(MOST))
}

/// Makes it; how long it is. Gives up when the journal ends.
pub(super) fn make(shared: &Shared, disk: &dyn Disk, length: u64) -> Spare {
    let path = path(&shared.dir);
    let used = shared.lock().used.pop();
    let fill = || {
        let file = match &used {
            Some(used) => {
                std::fs::rename(&used.path, &path)?;
                disk.set_len(&used.file, length)?;
                &used.file
            }
            None => &disk.create(&path)?,
        };
        let zeros = vec![0; STEP];
        let mut at = 0;
        while at < length && shared.lock().phase == Phase::Open {
            let step = (length - at).min(STEP as u64);
            disk.write_at(file, &zeros[..usize::try_from(step).unwrap_or(STEP)], at)?;
            disk.sync_data(file)?;
            at += step;
        }
        // Of a used file: its readers to come shall find it free, whoever else has a copy of the handle.
        let _ = file.unlock();
        std::io::Result::Ok(at == length)
    };
    match fill() {
        Ok(true) => return Spare::Ready(length),
        Ok(false) => {}
        Err(error) => tracing::debug!(%error, "the next journal segment is not made ahead"),
    }
    if let Some(used) = &used {
        used.remove();
    }
    remove(shared);
    Spare::Refused
}

/// Where the file of a segment of so many bytes goes to be kept; `None` where there are enough, or its space is wanted.
pub(super) fn place(shared: &Shared, bytes: u64) -> Option<PathBuf> {
    let state = shared.lock();
    let is_fit = length(shared.segment_limit).is_some_and(|length| (length / 2..=length).contains(&bytes));
    if !is_fit || state.is_in_haste() {
        return None;
    }
    let mut places = (0..MOST_USED).map(|number| used_path(&shared.dir, number));
    places.find(|place| state.used.iter().all(|used| used.path != *place))
}

/// Keeps a file, which lies at its place, for a spare.
pub(super) fn keep(shared: &Shared, path: PathBuf, file: File) {
    shared.lock().used.push(Used { path, file });
}

/// Gives the space of what there is back; whether there was any.
pub(super) fn take_back(shared: &Shared) -> bool {
    let mut state = shared.lock();
    let used = std::mem::take(&mut state.used);
    let is_ready = matches!(state.spare, Spare::Ready(_));
    if is_ready {
        state.spare = Spare::Refused;
    }
    drop(state);
    used.iter().for_each(Used::remove);
    if is_ready {
        remove(shared);
    }
    is_ready || !used.is_empty()
}

fn remove(shared: &Shared) {
    // It means nothing, so neither does it that it stays.
    let _ = std::fs::remove_file(path(&shared.dir));
}

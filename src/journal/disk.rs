//! The few things the journal asks of a file system, and the names of its files.
//!
//! Invariant: a segment's name appears only after its header is on disk, and the name itself is synced before the
//! segment is used. A trait so that tests can let any call fail; its methods are the real thing.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::format::SegmentHeader;
use super::{Error, spare};

const EXTENSION: &str = "journal";

/// Calls that can fail while writing.
pub(super) trait Disk: Send + Sync + 'static {
    /// Writes all of `bytes` at `position`.
    fn write_at(&self, file: &File, bytes: &[u8], position: u64) -> io::Result<()> {
        file.write_all_at(bytes, position)
    }

    /// Puts data, and what is needed to find it, on the medium.
    fn sync_data(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    /// Cuts or extends (with zeros that take no space) the file.
    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    /// A new file, replacing a left-over of the same name.
    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)
    }

    /// Gives a file another name in its folder; its own is durably gone then.
    fn rename(&self, path: &Path, to: &Path) -> Result<(), Error> {
        fs::rename(path, to).map_err(Error::io("rename", path))?;
        path.parent().map_or(Ok(()), sync_dir)
    }

    /// Removes a file, if it is there; its name is durably gone then.
    fn remove(&self, path: &Path) -> Result<(), Error> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", path)(error)),
            Ok(()) | Err(_) => {}
        }
        path.parent().map_or(Ok(()), sync_dir)
    }
}

/// The operating system's.
pub(super) struct RealDisk;

impl Disk for RealDisk {}

/// Path of the segment whose first record is `first`.
pub(super) fn segment_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.{EXTENSION}"))
}

/// Path of a segment in the making.
pub(super) fn draft_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.{EXTENSION}.new"))
}

/// First offsets of the segments in `dir`, ascending. Other files are none of ours.
pub(super) fn list(dir: &Path) -> Result<Vec<u64>, Error> {
    let mut firsts = Vec::new();
    for item in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let name = item.map_err(Error::io("list", dir))?.file_name();
        firsts.extend(name.to_str().and_then(first_of_name));
    }
    firsts.sort_unstable();
    Ok(firsts)
}

fn first_of_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(EXTENSION)?.strip_suffix('.')?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// Opens a segment for reading. While the file is open its bytes stay, also when its name goes: who takes the name away asks
/// for a lock (`flock`) that this one holds off. One that is on its way out already is not found.
pub(super) fn open_read(path: &Path) -> Result<File, Error> {
    let open = || {
        let file = File::open(path)?;
        // Where a file system has no locks, nobody gets the other one either.
        let is_going = matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        // It may have got another name, or none, before it was locked.
        if is_going || fs::metadata(path)?.ino() != file.metadata()?.ino() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(file)
    };
    open().map_err(Error::io("open", path))
}

/// Opens a segment that is to go, if nobody reads it; nobody can begin to while it is open. One with a second name is
/// somebody's copy (`cp -l`), and stays as it is.
pub(super) fn open_unread(path: &Path) -> Option<File> {
    let file = OpenOptions::new().read(true).write(true).open(path).ok()?;
    file.try_lock().ok()?;
    (file.metadata().ok()?.nlink() == 1).then_some(file)
}

/// Makes names created, renamed or removed in `dir` durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(Error::io("sync", dir))
}

/// Writes a segment that has only its header under its draft name, synced. After an error nothing is left of it.
pub(super) fn create_draft(disk: &dyn Disk, dir: &Path, header: &SegmentHeader) -> Result<File, Error> {
    let path = draft_path(dir, header.first);
    let make = || {
        let file = disk.create(&path)?;
        disk.write_at(&file, &header.encode(), 0)?;
        disk.sync_data(&file)?;
        Ok(file)
    };
    make().map_err(|error| {
        // The draft means nothing without its name; removing it is tidiness, and frees its block on a full disk.
        let _ = fs::remove_file(&path);
        Error::io("create", &path)(error)
    })
}

/// Makes a spare file, which lies at `from`, a segment that has only its header.
pub(super) fn adopt(disk: &dyn Disk, from: &Path, dir: &Path, header: &SegmentHeader) -> Result<File, Error> {
    let file = OpenOptions::new().read(true).write(true).open(from).map_err(Error::io("open", from))?;
    let written = disk.write_at(&file, &header.encode(), 0).and_then(|()| disk.sync_data(&file));
    written.map_err(Error::io("create", from))?;
    publish(from, dir, header.first)?;
    Ok(file)
}

/// Gives the draft its name, durably.
pub(super) fn publish_draft(dir: &Path, first: u64) -> Result<(), Error> {
    publish(&draft_path(dir, first), dir, first)
}

fn publish(draft: &Path, dir: &Path, first: u64) -> Result<(), Error> {
    fs::rename(draft, segment_path(dir, first)).map_err(Error::io("rename", draft))?;
    sync_dir(dir)
}

/// Removes drafts that a crash left behind, a spare, and a file that was to be one.
pub(super) fn remove_drafts(dir: &Path) -> Result<(), Error> {
    for item in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let path = item.map_err(Error::io("list", dir))?.path();
        let draft = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".new"));
        if draft.and_then(first_of_name).is_some() || spare::is_one(dir, &path) {
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}

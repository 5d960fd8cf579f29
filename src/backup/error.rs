//! What can go wrong with a backup, in words for who runs it.

use std::io;
use std::path::{Path, PathBuf};

use crate::{journal, store};

/// A backup could not be made or restored.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("cannot {operation} {}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "the disk of {} is full: {needed_bytes} bytes are needed and {free_bytes} are free; make room, or name a file on \
         another disk",
        path.display()
    )]
    NoSpace { path: PathBuf, needed_bytes: u64, free_bytes: u64 },
    #[error("the disk of {} became full: nothing is left of what was begun; make room and try again", path.display())]
    DiskFull { path: PathBuf },
    #[error("{} is there already; name another file, or remove it", path.display())]
    Exists { path: PathBuf },
    #[error("another backup is writing {} right now", path.display())]
    Busy { path: PathBuf },
    /// Bytes that are no backup, or not the ones that were written.
    #[error("{} is damaged or cut short: {what}; nothing was restored", path.display())]
    Damaged { path: PathBuf, what: String },
    #[error("{} is of format {found}, and this program reads format {known}; use a newer one", path.display())]
    Format { path: PathBuf, found: u32, known: u32 },
    #[error(
        "the backup is of a {found} database, and the target is a {wanted} database; restore into one of the same kind"
    )]
    Dialect { found: String, wanted: String },
    #[error("the backup has no database: restore that by its own means, and of the backup all but the database")]
    NoDatabase,
    #[error(
        "{} is not empty: it has {what}; restore into an empty directory, or a new one", dir.display()
    )]
    NotEmpty { dir: PathBuf, what: String },
    #[error(
        "{} holds a restore that was cut short, or is running: unless one is, remove everything in it and restore again",
        dir.display()
    )]
    Unfinished { dir: PathBuf },
    #[error("the keys in the backup are sealed: name the passphrase they were sealed with, or restore without them")]
    PassphraseMissing,
    #[error(
        "a passphrase was named, but the keys in the backup are {form}: it may not be the backup that was sealed; if it is the \
         right one, restore it without a passphrase (leave --passphrase-file out)"
    )]
    NotSealed { form: &'static str },
    #[error("the passphrase is not the one the backup was sealed with")]
    PassphraseWrong,
    #[error("a passphrase has {min} characters or more; the first line of {} has fewer", path.display())]
    PassphraseShort { path: PathBuf, min: usize },
    #[error(
        "the archive {url} is no directory: copy it by the object store's own means, and leave the archive out of the backup"
    )]
    ArchiveElsewhere { url: String },
    #[error("{} changed while it was copied", path.display())]
    Changed { path: PathBuf },
    #[error("{} lies among the keys and has more than {max_bytes} bytes; move it elsewhere", path.display())]
    KeyTooLarge { path: PathBuf, max_bytes: u64 },
    #[error("{} has a name that a backup cannot hold", path.display())]
    Name { path: PathBuf },
    #[error(transparent)]
    Journal(#[from] journal::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Database(store::CopyError),
}

impl Error {
    /// What an operation on a path failed with. A full disk has its own words.
    pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Io { operation, path, source },
        }
    }

    pub(super) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.into() }
    }
}

//! The archive: every received message, exact bytes, as rows of Parquet objects that any engine reads; and reading them
//! back, together with what has not been archived yet, as one list.
//!
//! Promises: a record of the journal is released only after its object is safe; every record is in exactly one object,
//! whatever crashes when; the archive being away costs nothing but journal space; memory is bounded.
//! Must not know: SQL, HTTP, the journal's files.
//!
//! ```text
//! journal ─▶ log ─▶ archiver: batch ─▶ classify ─▶ encode, shred ─▶ bucket (object store) ◀── compact: merge, retention
//!              └──▶ reader: tail (journal) + walk, past ─▶ object ─▶ source ─▶ bucket
//! ```
//!
//! Start from [`Archiver`] (in) and [`Reader`] (out); both need a [`Bucket`]. `key` says how things are named, `schema` which
//! columns an object has, `shred` how a payload becomes columns. Beside the
//! messages, in a folder of their own, [`Images`] keeps firmware.

mod adopt;
mod archiver;
mod batch;
mod bucket;
mod classify;
mod compact;
mod decode;
mod encode;
mod full;
mod images;
mod inspect;
mod key;
mod log;
mod merge;
mod numbers;
mod object;
mod past;
mod reader;
mod recover;
mod schema;
mod shred;
mod source;
mod tail;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod verify;
mod walk;

use std::path::PathBuf;

use object_store::path::Path;
use parquet::errors::ParquetError;

pub use adopt::{Adopted, Adopter};
pub use archiver::{Archiver, ArchiverOptions};
pub use bucket::{Bucket, CloudOptions, dir_of};
pub use compact::{Done, TASK as UPKEEP_TASK, Upkeep, UpkeepOptions};
pub use images::{Images, Stored, Upload};
pub use inspect::{Archived, ObjectInfo, Part, first_day, messages, objects};
pub use key::CATEGORIES;
use key::message_name;
pub use object::PastMessage;
pub use past::Past;
pub use reader::{MAX_LIST, Reader, ReaderOptions};

pub use verify::{ArchiveFault, ArchiveReport, verify};

use crate::domain::Timestamp;
use crate::journal;

/// A received message as shown in a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RawEntry {
    /// `{device_id}/{category}/{time}-{journal offset}.json`, for example
    /// `m-1/hello/2026-02-12T10-00-10.123456Z-42.json`; the offset keeps messages of the same microsecond apart. Stable:
    /// the same before and after archiving.
    pub filename: String,
    /// Bytes of the payload.
    pub size: u64,
    /// When it was received.
    pub last_modified: Timestamp,
}

/// The archive failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("the archive URL {url:?} is not of the form file:///directory or s3://bucket/folder")]
    BadUrl { url: String },
    #[error("the archive URL's scheme {scheme:?} is not supported (known: file, s3, az, gs)")]
    UnknownScheme { scheme: String },
    #[error("this program was built without \"{scheme}://\"; build it with --features {feature}")]
    NotBuilt { scheme: String, feature: &'static str },
    /// A setting of the object store cannot be what it must be. What it is, is not shown.
    #[error("{setting} {wanted}")]
    Setting { setting: &'static str, wanted: &'static str },
    /// A setting of the object store is missing or wrong.
    #[error("the settings of the archive's object store cannot be used")]
    Cloud { source: object_store::Error },
    #[error("cannot use the archive directory {}", dir.display())]
    Directory { dir: PathBuf, source: std::io::Error },
    /// The object store failed: worth trying again.
    #[error("cannot {operation} {key} in the archive")]
    Store { operation: &'static str, key: String, source: object_store::Error },
    #[error("cannot encode the archive object {key}")]
    Encode { key: String, source: ParquetError },
    #[error("the archive object {key} is damaged")]
    Damaged { key: String, source: ParquetError },
    /// Two journals with one node id write to one archive, or one was replaced.
    #[error("the archive object {key} exists with other records")]
    Conflict { key: String },
    #[error("the archive cannot read the journal")]
    Journal { source: journal::Error },
    #[error("reading the archive was cut short")]
    Interrupted,
    /// The archive was away for so long that what it lacks cannot be read along.
    #[error("too much is not yet in the archive: old telemetry can be read when it has caught up")]
    Behind,
}

impl Error {
    fn store(operation: &'static str, key: &Path, source: object_store::Error) -> Self {
        Self::Store { operation, key: key.to_string(), source }
    }

    /// What reading an object ran into: the store's failure, or damage.
    fn reading(key: &Path, error: ParquetError) -> Self {
        match error {
            ParquetError::External(inner) => match inner.downcast::<object_store::Error>() {
                Ok(source) => Self::store("read", key, *source),
                Err(inner) => Self::Damaged { key: key.to_string(), source: ParquetError::External(inner) },
            },
            source => Self::Damaged { key: key.to_string(), source },
        }
    }

    /// Whether trying again can help: once a store is back, or a damaged object was restored or moved away.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Store { .. } | Self::Directory { .. } | Self::Conflict { .. } | Self::Damaged { .. })
    }
}

impl From<journal::Error> for Error {
    fn from(source: journal::Error) -> Self {
        Self::Journal { source }
    }
}

//! What can go wrong in the journal, each with the file, position and offset it concerns.
//!
//! Cloneable, because one failure of the writer is the answer to everybody who waits for it. Does not know what the
//! process does about it: `serve` ends, the command line explains.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Offset;

/// The journal could not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    /// The operating system refused; the journal is unusable when this came from the writer.
    #[error("cannot {operation} {}", path.display())]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: Arc<io::Error>,
    },
    /// A record that must be there is not readable.
    #[error("{} is damaged at byte {position}, where offset {offset} should be: {fault}", file.display())]
    Damaged { file: PathBuf, position: u64, offset: Offset, fault: Fault },
    /// A segment's header is not readable, or not that of the file's name.
    #[error("{} is damaged at byte 0, before offset {first}: {fault}", file.display())]
    Header { file: PathBuf, first: Offset, fault: Fault },
    /// A sealed segment is missing or has another length than when it was sealed.
    #[error("{} is damaged at byte {found_bytes}: it was sealed with {expected_bytes} bytes before offset {next}", file.display())]
    Length { file: PathBuf, found_bytes: u64, expected_bytes: u64, next: Offset },
    /// A segment between two others is missing.
    #[error("{} is missing: the journal has a gap from it to offset {next}", file.display())]
    Missing { file: PathBuf, next: Offset },
    /// The directory belongs to another node.
    #[error("{} was written by node {found}, not by node {expected}", file.display())]
    Node { file: PathBuf, found: uuid::Uuid, expected: uuid::Uuid },
    /// No segment tells which node wrote the journal, so none of it can be trusted.
    #[error("no segment in {} has a readable header or record", dir.display())]
    Unreadable { dir: PathBuf },
    /// An append of more than the hard limit.
    #[error("an append of {bytes} bytes is over the limit of {limit} bytes")]
    TooLarge { bytes: usize, limit: usize },
    /// A topic, identity or content type that does not fit its length field.
    #[error("a {field} of {bytes} bytes is over the limit of 65535 bytes")]
    TextTooLong { field: &'static str, bytes: usize },
    /// The cursor's place was trimmed: whoever stored it has missed records.
    #[error("offset {at} was trimmed, the journal begins at offset {first}")]
    Trimmed { at: Offset, first: Offset },
    /// The cursor's place was never written: it belongs to another journal, or this one has lost records.
    #[error("offset {at} lies behind the journal's end at offset {head}")]
    Ahead { at: Offset, head: Offset },
    /// A cursor of this name is in use.
    #[error("the journal already has a cursor named {name}")]
    NameTaken { name: &'static str },
    /// Closing while the disk was full: what was queued was neither written nor acknowledged.
    #[error("the disk of {} is full: {queued_bytes} queued bytes were given up at closing", path.display())]
    DiskFull { path: PathBuf, queued_bytes: usize },
    /// The journal takes no appends any more.
    #[error("the journal is closed")]
    Closed,
    /// The writer thread ended by a panic.
    #[error("the journal's writer thread died")]
    WriterDied,
}

/// Why bytes are not the record or header that should be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Fault {
    #[error("the file ends inside it")]
    Truncated,
    #[error("there are only zeros")]
    Zeros,
    #[error("its header's checksum is wrong")]
    HeaderChecksum,
    #[error("its content's checksum is wrong")]
    BodyChecksum,
    #[error("its lengths contradict each other")]
    Lengths,
    #[error("a text in it is not UTF-8")]
    Text,
    #[error("its kind {0} is unknown")]
    Kind(u8),
    #[error("offset {found} stands there")]
    Sequence { found: Offset },
    #[error("it does not begin like a journal segment")]
    Magic,
    #[error("its format version {0} is unknown")]
    Version(u32),
    #[error("it says its first offset is {found}")]
    FirstOffset { found: Offset },
}

impl Error {
    /// Wraps what the operating system said.
    pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { operation, path: path.to_owned(), source: Arc::new(source) }
    }

    /// Whether the disk or its quota is full, the one failure that heals.
    pub(super) fn is_no_space(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_no_space(source))
    }

    /// The error with its cause, in one line.
    pub(super) fn in_words(&self) -> String {
        match self {
            Self::Io { source, .. } => format!("{self}: {source}"),
            _ => self.to_string(),
        }
    }
}

/// Whether the disk or its quota is full.
pub(super) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

//! The journal: every accepted message, in order, on disk before it is acknowledged.
//!
//! Promise: after [`Journal::wait_durable`] returned `Ok`, the records survive `kill -9` and power loss.
//! Must not know: what the bytes mean. Start from [`Journal::open`]; read with a [`Cursor`].
//!
//! A directory of segment files, each named by the offset of its first record, read and written in order:
//!
//! ```text
//! 00000000000000000000.journal   sealed: exactly as long as its successor's header says
//! 00000000000000081920.journal   active: the last one; may end in zeros (space taken ahead of the writes)
//!
//! segment = header, record, record, …                       all numbers little-endian
//!
//! header  0  magic "IOTMJRNL"   8  version u32   12  zero u32   16  node id (16 bytes)
//!        32  first offset u64  40  predecessor's first offset u64 (all ones: none)
//!        48  predecessor's length in bytes u64   56  zero u32   60  CRC-32C of bytes 0..60
//!
//! record  0  CRC-32C of bytes 4..40, started from the node's own seed
//!         4  length of the whole record u32       8  offset u64      16  received at, µs since 1970, i64
//!        24  records before it in the same write u32                 28  CRC-32C of bytes 40..length
//!        32  flags u8 (bits 0–1 QoS, 2 retain, 3 duplicate)          33  kind u8 (0 message, 1 hole)
//!        34  topic bytes u16   36  identity bytes u16                38  content type bytes u16
//!        40  topic, identity, content type, payload (hole: number of offsets it stands for, u64)
//! ```
//!
//! What follows from it:
//! - One write is begun only after the one before it was synced. So bytes that are no record are a *torn tail* exactly
//!   when nothing behind them belongs to a later write ("records before it in the same write" tells); else *damage*.
//!   An orderly close ends with a hole of no offsets, a write of its own: then all before it is known to have been synced.
//! - The seed depends on the node id, so no payload can imitate a record.
//! - A segment appears under its name only after its header was synced, and only after its predecessor was sealed.
//! - Offsets have no gaps; what a salvage had to give up, or a restored copy skips, is stood for by a hole record.

mod batch;
pub(crate) mod checksum;
mod copy;
mod cursor;
mod disk;
mod error;
mod format;
mod handle;
pub(crate) mod large;
mod recovery;
mod salvage;
mod scan;
mod shared;
mod spare;
mod survey;
#[cfg(test)]
mod tests;
mod trimmer;
mod verify;
mod writer;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::Timestamp;

pub use batch::Batch;
pub use copy::{Copied, CopiedSegment, LIFE, begin_new_life, copy};
pub use cursor::Cursor;
pub use error::{Error, Fault};
pub use handle::Journal;
pub use salvage::{Salvage, salvage};
pub use verify::{Finding, FindingKind, Report, inspect, verify};

/// The most bytes one [`Journal::append`] may need, headers included.
pub const MAX_APPEND_BYTES: usize = 64 << 20;

/// A record's number: consecutive from 0 over the journal's whole life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Offset(pub u64);

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How the message came: MQTT QoS, retain and duplicate flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Flags {
    pub qos: u8,
    pub retain: bool,
    pub dup: bool,
}

/// A record to append, borrowed. The three texts may have 65 535 bytes each.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Entry<'a> {
    pub received_at: Timestamp,
    pub topic: &'a str,
    /// The authenticated identity that sent it.
    pub identity: &'a str,
    /// MIME type where the sender said one, else empty.
    pub content_type: &'a str,
    pub flags: Flags,
    pub payload: &'a [u8],
}

/// A record read back, borrowed from its [`Batch`].
#[derive(Clone, Copy, PartialEq, Debug)]
#[allow(missing_docs)]
pub struct Record<'a> {
    pub offset: Offset,
    pub received_at: Timestamp,
    pub topic: &'a str,
    pub identity: &'a str,
    pub content_type: &'a str,
    pub flags: Flags,
    pub payload: &'a [u8],
}

/// Where and how large.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory of the segment files.
    pub dir: PathBuf,
    /// Written in each segment's header. A journal of another node is refused.
    pub node_id: uuid::Uuid,
    /// A segment is closed at this size (one larger write still stays in one segment).
    pub segment_bytes: u64,
    /// With this much on disk not yet released by all cursors, appends wait. Inside a segment the released part is
    /// estimated by the number of its records. Files themselves may take up to two segments more: one that is partly released,
    /// and one that is made ahead.
    pub max_bytes: u64,
    /// Bytes queued for the writer at which appends wait.
    pub queue_bytes: usize,
}

/// Told after each sync: how long it took and how many bytes it made durable. Called on the writer thread; must be quick.
pub type OnSync = Arc<dyn Fn(Duration, u64) + Send + Sync>;

/// Figures of the journal. `head` and `durable` are exclusive ends.
#[derive(Clone, PartialEq, Debug, Default)]
#[allow(missing_docs)]
pub struct Status {
    pub first: Offset,
    pub head: Offset,
    pub durable: Offset,
    /// On disk, released or not.
    pub bytes: u64,
    /// Of `bytes` and of what is queued: not yet released by all cursors. Appends wait when it reaches `max_bytes`.
    pub unreleased_bytes: u64,
    /// The `max_bytes` it was opened with.
    pub limit_bytes: u64,
    pub segments: u64,
    /// Set while the disk is full: writing is tried again and again, appends wait, nothing is lost or acknowledged.
    pub stalled: Option<String>,
    /// Set once a write or fsync has failed; nothing is acknowledged any more.
    pub failed: Option<String>,
}

impl Status {
    /// Whether appends do not wait: neither for the disk nor for those who read.
    pub fn has_room(&self) -> bool {
        self.stalled.is_none() && self.failed.is_none() && self.unreleased_bytes < self.limit_bytes
    }
}

/// What opening found.
#[derive(Clone, PartialEq, Debug, Default)]
#[allow(missing_docs)]
pub struct Recovery {
    pub first: Offset,
    pub head: Offset,
    /// Bytes of a torn tail that were cut.
    pub cut_bytes: u64,
}

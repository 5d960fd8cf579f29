//! The journal: every accepted message, in order, on disk before it is acknowledged.
//!
//! Promise: after [`Journal::wait_durable`] returned `Ok`, the records survive `kill -9` and power loss.
//! Must not know: what the bytes mean.
//!
//! (signatures to build against; the bodies are to be written)

use std::path::PathBuf;
use std::time::Duration;

use crate::domain::Timestamp;

/// A record's number: consecutive from 0 over the journal's whole life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Offset(pub u64);

/// How the message came: MQTT QoS, retain and duplicate flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Flags {
    pub qos: u8,
    pub retain: bool,
    pub dup: bool,
}

/// A record to append, borrowed.
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
#[derive(Clone, Copy, Debug)]
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
    /// Written in each segment's header.
    pub node_id: uuid::Uuid,
    /// A segment is closed at this size.
    pub segment_bytes: u64,
    /// With this much on disk not yet released by all cursors, appends wait.
    pub max_bytes: u64,
    /// Bytes queued for the writer at which appends wait.
    pub queue_bytes: usize,
}

/// The journal failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("to be written")]
pub struct Error;

/// Figures of the journal. `head` and `durable` are exclusive ends.
#[derive(Clone, PartialEq, Debug, Default)]
#[allow(missing_docs)]
pub struct Status {
    pub first: Offset,
    pub head: Offset,
    pub durable: Offset,
    pub bytes: u64,
    pub segments: u64,
    /// Set once a write or fsync has failed; nothing is acknowledged any more.
    pub failed: Option<String>,
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

/// Handle of the journal; clones share it. One writer thread owns the files.
#[derive(Clone, Debug)]
pub struct Journal;

impl Journal {
    /// Opens (or creates) the journal and recovers it.
    pub fn open(_options: Options) -> Result<(Self, Recovery), Error> {
        unimplemented!()
    }
    /// Queues the entries as consecutive records; waits while the journal is full. Returns the exclusive end: the entries
    /// are durable once [`durable`](Self::durable) ≥ it.
    pub async fn append(&self, _entries: &[Entry<'_>]) -> Result<Offset, Error> {
        unimplemented!()
    }
    /// Exclusive end of what is on disk; changes after each fsync. The sender is dropped when the journal failed or closed.
    pub fn durable(&self) -> tokio::sync::watch::Receiver<Offset> {
        unimplemented!()
    }
    /// Waits until everything below `end` is on disk.
    pub async fn wait_durable(&self, _end: Offset) -> Result<(), Error> {
        unimplemented!()
    }
    /// Figures of now.
    pub fn status(&self) -> Status {
        unimplemented!()
    }
    /// A reader that holds back trimming: records from `at` on stay until [`Cursor::release`]d.
    pub fn cursor(&self, _name: &'static str, _at: Offset) -> Result<Cursor, Error> {
        unimplemented!()
    }
    /// A reader that holds nothing back; reading what was trimmed meanwhile skips to the first record there is.
    pub fn reader(&self, _at: Offset) -> Result<Cursor, Error> {
        unimplemented!()
    }
    /// Stops taking appends, writes and syncs what is queued, ends the writer. Cursors can still read to the end.
    pub async fn close(&self) -> Result<(), Error> {
        unimplemented!()
    }
    /// Resolves when the writer has failed (never on an orderly close).
    pub async fn failed(&self) -> Error {
        unimplemented!()
    }
}

/// A reader's place. Its calls block on file reads: use it from a blocking thread.
#[derive(Debug)]
pub struct Cursor;

impl Cursor {
    /// Offset of the next record to read.
    pub fn position(&self) -> Offset {
        unimplemented!()
    }
    /// The next durable records, at least one if there is any, at most the limits; empty at the durable end.
    pub fn next_batch(&mut self, _max_records: usize, _max_bytes: usize) -> Result<Batch, Error> {
        unimplemented!()
    }
    /// Blocks until there is something to read (`true`), the journal is closed and read to its end, or the time is over.
    pub fn wait(&self, _timeout: Duration) -> bool {
        unimplemented!()
    }
    /// Whether the journal is closed and this cursor has read all of it.
    pub fn is_finished(&self) -> bool {
        unimplemented!()
    }
    /// Everything below `below` may be trimmed as far as this cursor is concerned.
    pub fn release(&self, _below: Offset) {
        unimplemented!()
    }
}

/// Records read in one go; they share one buffer.
#[derive(Debug, Default)]
pub struct Batch;

impl Batch {
    /// The records in order.
    pub fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        std::iter::empty()
    }
    /// Number of records.
    pub fn len(&self) -> usize {
        unimplemented!()
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

//! What appenders, the writer and the cursors share, under one short lock.
//!
//! Invariant: `first ≤ durable ≤ head`; the buffer holds exactly the records `buffer_first..head`; the records in between
//! are with the writer. No file is touched while the lock is held.

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::format::{self, SEGMENT_HEADER};
use super::spare::{Spare, Used};
use super::{Entry, Error, Offset, Options, large};

/// A segment as far as it is durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Segment {
    pub first: u64,
    /// Offset after its last durable record.
    pub end: u64,
    /// Durable bytes, header included.
    pub bytes: u64,
}

/// What a cursor holds back. It outlives the cursor, so that a reader that is started anew finds its records.
pub(super) struct Hold {
    pub name: &'static str,
    pub released: u64,
    pub is_open: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Open,
    /// No more appends; what is queued is still written.
    Closing,
    /// The writer is gone.
    Ended,
}

/// Everything under the lock.
pub(super) struct State {
    pub buffer: Vec<u8>,
    pub buffer_first: u64,
    pub head: u64,
    /// Bytes with the writer.
    pub in_flight: u64,
    pub durable: u64,
    pub segments: VecDeque<Segment>,
    pub bytes: u64,
    /// Of `bytes`, without the headers: what all cursors have released.
    pub released_bytes: u64,
    pub holds: Vec<Hold>,
    pub phase: Phase,
    pub is_writer_idle: bool,
    /// A segment that is off the books is being removed.
    pub is_removing: bool,
    /// Why that failed, for the writer to end with.
    pub not_removed: Option<Error>,
    /// The file of the next segment.
    pub spare: Spare,
    /// Files of removed segments, of which the next spares will be made.
    pub used: Vec<Used>,
    pub stalled: Option<String>,
    pub failed: Option<Error>,
}

/// The journal without its files.
pub(super) struct Shared {
    pub dir: PathBuf,
    pub seed: u32,
    pub(super) segment_limit: u64,
    queue_limit: usize,
    pub(super) unreleased_limit: u64,
    state: Mutex<State>,
    /// For the writer: something to write, a segment that was removed or could not be, or the end.
    pub work: Condvar,
    /// For the trimmer: something to remove or to make, or the end.
    pub trim: Condvar,
    /// For cursors: something to read, or the end.
    pub published: Condvar,
    /// For the first of the waiting appends: there may be room.
    pub room: Notify,
    /// Orders waiting appends; its holder is the only one that listens to `room`.
    pub turnstile: tokio::sync::Mutex<()>,
    /// Appends that wait. Others must not overtake them.
    pub waiting: AtomicUsize,
    pub durable: watch::Receiver<Offset>,
}

impl Shared {
    pub fn new(options: &Options, segments: VecDeque<Segment>, durable: watch::Receiver<Offset>) -> Self {
        let head = segments.back().map_or(0, |s| s.end);
        let state = State {
            buffer: Vec::new(),
            buffer_first: head,
            head,
            in_flight: 0,
            durable: head,
            bytes: segments.iter().map(|s| s.bytes).sum(),
            segments,
            released_bytes: 0,
            holds: Vec::new(),
            phase: Phase::Open,
            is_writer_idle: false,
            is_removing: false,
            spare: Spare::Absent,
            used: Vec::new(),
            not_removed: None,
            stalled: None,
            failed: None,
        };
        Self {
            dir: options.dir.clone(),
            seed: format::seed(options.node_id),
            segment_limit: options.segment_bytes,
            queue_limit: options.queue_bytes.max(1),
            unreleased_limit: options.max_bytes.max(1),
            state: Mutex::new(state),
            work: Condvar::new(),
            trim: Condvar::new(),
            published: Condvar::new(),
            room: Notify::new(),
            turnstile: tokio::sync::Mutex::new(()),
            waiting: AtomicUsize::new(0),
            durable,
        }
    }

    /// A panic elsewhere leaves no half-made state behind: every change under the lock is completed or nothing.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a write of `bytes` more belongs into a new segment.
    pub fn is_segment_full(&self, used: u64, bytes: usize) -> bool {
        used.saturating_add(bytes as u64) > self.segment_limit
    }

    /// Encodes the entries (of `bytes` bytes) into the queue; `None` while there is no room.
    pub fn try_append(&self, entries: &[Entry<'_>], bytes: usize) -> Result<Option<Offset>, Error> {
        let mut state = self.lock();
        let state = &mut *state;
        state.check_open()?;
        if state.buffer.len() >= self.queue_limit || state.unreleased() >= self.unreleased_limit {
            return Ok(None);
        }
        large::reserve(&mut state.buffer, bytes);
        for entry in entries {
            let nth = u32::try_from(state.head - state.buffer_first).unwrap_or(u32::MAX);
            format::encode_record(&mut state.buffer, self.seed, state.head, nth, entry);
            state.head += 1;
        }
        if state.is_writer_idle {
            self.work.notify_one();
        }
        Ok(Some(Offset(state.head)))
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl State {
    /// The first offset there is.
    pub fn first(&self) -> u64 {
        self.segments.front().map_or(0, |s| s.first)
    }

    /// Why nothing can be appended any more, if so.
    pub fn check_open(&self) -> Result<(), Error> {
        match (&self.failed, self.phase) {
            (Some(error), _) => Err(error.clone()),
            (None, Phase::Open) => Ok(()),
            (None, Phase::Closing | Phase::Ended) => Err(Error::Closed),
        }
    }

    /// Bytes of records on disk or on the way there that not all cursors have released.
    pub fn unreleased(&self) -> u64 {
        let headers = self.segments.len() as u64 * SEGMENT_HEADER as u64;
        let records = self.bytes + self.in_flight + self.buffer.len() as u64;
        records.saturating_sub(headers + self.released_bytes)
    }

    /// The segment of this offset.
    pub fn segment_of(&self, offset: u64) -> Option<Segment> {
        let after = self.segments.partition_point(|s| s.first <= offset);
        self.segments.get(after.checked_sub(1)?).copied()
    }

    /// Everything below is released by all; without cursors nothing is.
    fn released(&self) -> u64 {
        self.holds.iter().map(|h| h.released).min().unwrap_or(0)
    }

    /// To be called whenever a hold or the segments have changed.
    pub fn count_released(&mut self) {
        let released = self.released();
        let passed = self.segments.iter().take_while(|s| s.first < released);
        self.released_bytes = passed.map(|s| s.bytes_below(released)).sum();
    }

    /// Whether the oldest segment is sealed and nobody needs it.
    pub fn is_trim_due(&self) -> bool {
        self.segments.len() > 1 && self.segments.front().is_some_and(|s| s.end <= self.released())
    }

    /// Whether one is to be removed, or is being so.
    pub fn is_trimming(&self) -> bool {
        self.is_removing || self.is_trim_due()
    }

    /// Whether somebody waits for space, or for the end.
    pub fn is_in_haste(&self) -> bool {
        self.stalled.is_some() || self.phase != Phase::Open
    }

    /// Takes such a segment off the books; its file is the caller's to remove.
    pub fn take_trimmed(&mut self) -> Option<Segment> {
        let segment = if self.is_trim_due() { self.segments.pop_front() } else { None }?;
        self.bytes -= segment.bytes;
        self.count_released();
        Some(segment)
    }
}

impl Segment {
    /// About how many bytes the records below `offset` take.
    fn bytes_below(&self, offset: u64) -> u64 {
        let records = self.bytes.saturating_sub(SEGMENT_HEADER as u64);
        if offset >= self.end {
            return records;
        }
        let (passed, all) = (offset - self.first, self.end - self.first);
        (u128::from(records) * u128::from(passed) / u128::from(all)) as u64
    }
}

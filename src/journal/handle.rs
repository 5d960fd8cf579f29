//! The journal as its users hold it.
//!
//! Invariant: nothing here blocks for longer than the shared lock, but for opening and for dropping the last handle.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use tokio::sync::watch;

use super::cursor::Cursor;
use super::disk::{Disk, RealDisk};
use super::shared::{Phase, Shared};
use super::writer::Writer;
use super::{Entry, Error, Offset, OnSync, Options, Recovery, Status, format, recovery, trimmer};

/// Handle of the journal; clones share it. One writer thread owns the files. Dropping the last clone closes the journal
/// and waits for the writer to end; cursors can still read to the end.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Journal {
    /// Opens (or creates) the journal and recovers it. Blocks: the last segment is read to its end.
    pub fn open(options: Options) -> Result<(Self, Recovery), Error> {
        Self::open_observed(options, None)
    }

    /// [`open`](Self::open), telling `on_sync` of each sync.
    pub fn open_observed(options: Options, on_sync: Option<OnSync>) -> Result<(Self, Recovery), Error> {
        Self::open_on(Arc::new(RealDisk), options, on_sync)
    }

    /// [`open_observed`](Self::open_observed) on a disk that may fail.
    pub(super) fn open_on(
        disk: Arc<dyn Disk>,
        options: Options,
        on_sync: Option<OnSync>,
    ) -> Result<(Self, Recovery), Error> {
        let opened = recovery::open(&*disk, &options)?;
        let (sender, durable) = watch::channel(opened.recovery.head);
        let active = opened.segments.back().copied();
        let (first, len) = active.map_or((0, 0), |s| (s.first, s.bytes));
        let shared = Arc::new(Shared::new(&options, opened.segments, durable));
        let start = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let thread = thread::Builder::new().name(name.into()).spawn(run);
            thread.map_err(Error::io("start the threads of", &options.dir))
        };
        let trimming = (Arc::clone(&shared), Arc::clone(&disk));
        let trimmer = start("trimmer", Box::new(move || trimmer::run(&trimming.0, &trimming.1)))?;
        let writer = Writer {
            shared: Arc::clone(&shared),
            disk,
            node_id: options.node_id,
            active: opened.active,
            first,
            len,
            file_len: len,
            is_marked: opened.is_marked,
            on_sync,
            last: None,
            trimmer: Some(trimmer),
            durable: sender,
        };
        let thread = start("journal", Box::new(move || writer.run()))?;
        Ok((Self { inner: Arc::new(Inner { shared, writer: Mutex::new(Some(thread)) }) }, opened.recovery))
    }

    /// Queues the entries as consecutive records; waits while the journal is full. Returns the exclusive end: the entries
    /// are durable once [`durable`](Self::durable) ≥ it. All or none of them are queued; dropping the future before it is
    /// ready queues none. At most [`MAX_APPEND_BYTES`](super::MAX_APPEND_BYTES) at once.
    pub async fn append(&self, entries: &[Entry<'_>]) -> Result<Offset, Error> {
        let shared = &*self.inner.shared;
        let bytes = format::encoded_len(entries)?;
        if shared.waiting.load(Ordering::Acquire) == 0
            && let Some(end) = shared.try_append(entries, bytes)?
        {
            return Ok(end);
        }
        let _waiting = Waiting::count(&shared.waiting);
        let _turn = shared.turnstile.lock().await;
        loop {
            // A permit given between the attempt and the wait is kept for the wait.
            if let Some(end) = shared.try_append(entries, bytes)? {
                return Ok(end);
            }
            shared.room.notified().await;
        }
    }

    /// Exclusive end of what is on disk; changes after each fsync. The sender is dropped when the journal failed or closed.
    pub fn durable(&self) -> watch::Receiver<Offset> {
        self.inner.shared.durable.clone()
    }

    /// Waits until everything below `end` is on disk.
    pub async fn wait_durable(&self, end: Offset) -> Result<(), Error> {
        let mut durable = self.durable();
        if durable.wait_for(|at| *at >= end).await.is_ok() || *durable.borrow() >= end {
            return Ok(());
        }
        self.inner.shared.lock().check_open()
    }

    /// Whether the queue still has the memory of a burst.
    #[cfg(test)]
    pub(super) fn has_large_queue(&self) -> bool {
        super::large::is_large(&self.inner.shared.lock().buffer)
    }

    /// The file of the next segment.
    #[cfg(test)]
    pub(super) fn spare(&self) -> super::spare::Spare {
        self.inner.shared.lock().spare
    }

    /// Figures of now.
    pub fn status(&self) -> Status {
        let state = self.inner.shared.lock();
        Status {
            first: Offset(state.first()),
            head: Offset(state.head),
            durable: Offset(state.durable),
            bytes: state.bytes,
            unreleased_bytes: state.unreleased(),
            limit_bytes: self.inner.shared.unreleased_limit,
            segments: state.segments.len() as u64,
            stalled: state.stalled.clone(),
            failed: state.failed.as_ref().map(Error::in_words),
        }
    }

    /// A reader that holds back trimming: records from `at` on stay until [`Cursor::release`]d.
    ///
    /// Make all cursors before the first of them releases: what all there are have released is trimmed. The hold stays
    /// when the cursor is dropped, and is taken over by the next cursor of that name.
    pub fn cursor(&self, name: &'static str, at: Offset) -> Result<Cursor, Error> {
        Cursor::holding(Arc::clone(&self.inner.shared), name, at)
    }

    /// A reader that holds nothing back; reading what was trimmed meanwhile skips to the first record there is.
    pub fn reader(&self, at: Offset) -> Result<Cursor, Error> {
        Cursor::reading(Arc::clone(&self.inner.shared), at)
    }

    /// Stops taking appends, writes and syncs what is queued, ends the writer. Cursors can still read to the end.
    pub async fn close(&self) -> Result<(), Error> {
        self.inner.shared.begin_closing();
        let mut durable = self.durable();
        while durable.changed().await.is_ok() {}
        self.inner.shared.lock().failed.clone().map_or(Ok(()), Err)
    }

    /// Resolves when the writer has failed (never on an orderly close).
    pub async fn failed(&self) -> Error {
        let mut durable = self.durable();
        while durable.changed().await.is_ok() {}
        let failed = self.inner.shared.lock().failed.clone();
        match failed {
            Some(error) => error,
            None => std::future::pending().await,
        }
    }
}

impl Shared {
    /// No more appends; the writer ends when it has written the queue.
    fn begin_closing(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Closing;
        }
        drop(state);
        self.work.notify_one();
        self.trim.notify_one();
        self.room.notify_one();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.begin_closing();
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // A panic of the writer has been recorded as its failure.
        let _ = writer.map(JoinHandle::join);
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("dir", &self.inner.shared.dir).field("status", &self.status()).finish()
    }
}

/// Counts an append among the waiting ones for as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn count(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::AcqRel);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

//! The one thread that owns the files that are written: takes what has queued, writes it, syncs it, publishes the durable
//! mark; rolls segments. (Removing them is [`trimmer`](super::trimmer)'s.)
//!
//! Invariants: the mark moves only after a successful sync; a write begins only after the sync of the one before; a
//! failed sync is never repeated, because the kernel may have dropped the pages: the journal is dead then. Only a full
//! disk at *writing* heals: the partial write is cut off, the batch kept, and tried again.

use std::fs::File;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::disk::{self, Disk};
use super::format::{self, SEGMENT_HEADER, SegmentHeader};
use super::shared::{Phase, Segment, Shared, State};
use super::spare::{self, Spare};
use super::{Error, Offset, OnSync, large};

/// Zeros are put behind the records in steps of this, so that most syncs need not write a new file length: measured
/// 15 to 40 % less time a sync.
const AHEAD: u64 = 4 << 20;

/// While much is coming, writes begin at least so far apart: where a sync takes less, what comes meanwhile shares the next
/// one. Measured at 40 000 messages/s on two cores: 740 syncs/s instead of 2 000.
const GATHER: Duration = Duration::from_millis(1);
/// Much: bytes of the write before. Who waits for one acknowledgement after the other does not wait for this.
const GATHER_FROM: usize = 16 << 10;

/// How long large buffers stay when nothing comes.
const BUFFERS_KEPT: Duration = Duration::from_secs(1);

const FIRST_RETRY: Duration = Duration::from_millis(20);
const LAST_RETRY: Duration = Duration::from_secs(2);

pub(super) struct Writer {
    pub shared: Arc<Shared>,
    pub disk: Arc<dyn Disk>,
    pub node_id: uuid::Uuid,
    pub active: File,
    /// The active segment: its first offset, and the bytes of its records and header.
    pub first: u64,
    pub len: u64,
    /// Length of the file, zeros included.
    pub file_len: u64,
    /// Whether the last record is the mark of an orderly close.
    pub is_marked: bool,
    pub on_sync: Option<OnSync>,
    /// When the write before began, and its bytes.
    pub last: Option<(Instant, usize)>,
    /// Ends by itself when the journal is closed or has failed.
    pub trimmer: Option<JoinHandle<()>>,
    /// Dropped with the writer: that is how waiters learn of the end.
    pub durable: watch::Sender<Offset>,
}

enum Work {
    /// Records up to this offset are in the batch buffer.
    Batch(u64),
    /// There is a segment that should be gone.
    NotRemoved(Error),
    End,
}

/// Why waiting for space ended.
enum Wake {
    Retry,
    Closing,
}

impl Writer {
    /// Runs until the journal is closed or has failed.
    pub fn run(mut self) {
        let ending = Ending(Arc::clone(&self.shared));
        let mut result = self.work();
        if result.is_ok()
            && let Some(trimmer) = self.trimmer.take()
        {
            // What may go is gone when the journal is closed.
            self.shared.trim.notify_one();
            let _ = trimmer.join();
            result = self.shared.lock().not_removed.take().map_or(Ok(()), Err);
        }
        ending.end(result);
        // `self.durable` is dropped behind this line: whoever it wakes sees how it ended.
    }

    fn work(&mut self) -> Result<(), Error> {
        let mut batch = Vec::new();
        loop {
            match self.take(&mut batch) {
                Work::Batch(end) => {
                    self.last = Some((Instant::now(), batch.len()));
                    self.write(&batch)?;
                    self.sync(batch.len() as u64)?;
                    self.publish(end, batch.len() as u64);
                    batch.clear();
                }
                Work::NotRemoved(error) => return Err(error),
                Work::End => return self.seal(true),
            }
        }
    }

    /// Waits for something to do; swaps `batch`, which is empty, with the queue.
    fn take(&self, batch: &mut Vec<u8>) -> Work {
        let mut state = self.shared.lock();
        loop {
            if let Some(error) = state.not_removed.take() {
                return Work::NotRemoved(error);
            }
            if !state.buffer.is_empty() {
                if let Some(pause) = self.gathers(&state) {
                    let waited = self.shared.work.wait_timeout(state, pause);
                    (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
                std::mem::swap(&mut state.buffer, batch);
                state.buffer_first = state.head;
                state.in_flight = batch.len() as u64;
                self.shared.room.notify_one();
                return Work::Batch(state.head);
            }
            if state.phase != Phase::Open {
                return Work::End;
            }
            state.is_writer_idle = true;
            state = match large::is_large(batch) || large::is_large(&state.buffer) {
                true => self.wait_with_buffers(state, batch),
                false => self.shared.work.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
            state.is_writer_idle = false;
        }
    }

    /// How long to wait for more before the next write; `None` = not at all.
    fn gathers(&self, state: &State) -> Option<Duration> {
        let (began, bytes) = self.last?;
        if bytes < GATHER_FROM || state.phase != Phase::Open {
            return None;
        }
        GATHER.checked_sub(began.elapsed()).filter(|pause| !pause.is_zero())
    }

    /// Waits a while, and gives back what a burst has made large when it is over.
    fn wait_with_buffers<'a>(&self, state: MutexGuard<'a, State>, batch: &mut Vec<u8>) -> MutexGuard<'a, State> {
        let waited = self.shared.work.wait_timeout(state, BUFFERS_KEPT);
        let (mut state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            large::give_back(&mut state.buffer);
            large::give_back(batch);
        }
        state
    }

    /// Writes the batch behind the last record, rolling the segment before if it is full; waits while the disk is.
    fn write(&mut self, batch: &[u8]) -> Result<(), Error> {
        let is_used = self.len > SEGMENT_HEADER as u64;
        if is_used && self.shared.is_segment_full(self.len, batch.len()) {
            self.seal(false)?;
            self.until_space(batch.len(), Self::next_segment)?;
        }
        self.until_space(batch.len(), |writer| writer.put(batch))
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let end = self.len + bytes.len() as u64;
        if end > self.file_len {
            let ahead = end.next_multiple_of(AHEAD);
            // Only an optimisation: where the file cannot be extended, the write does it or says why not.
            if self.disk.set_len(&self.active, ahead).is_ok() {
                self.file_len = ahead;
            }
        }
        match self.disk.write_at(&self.active, bytes, self.len) {
            Ok(()) => {
                self.len = end;
                self.file_len = self.file_len.max(end);
                self.is_marked = false;
                Ok(())
            }
            Err(error) => {
                let path = disk::segment_path(&self.shared.dir, self.first);
                // Gives back what was written in part. Should that fail too, recovery cuts it: it is not synced.
                let cut = self.disk.set_len(&self.active, self.len);
                self.file_len = if cut.is_ok() { self.len } else { end.max(self.file_len) };
                Err(Error::io("write", &path)(error))
            }
        }
    }

    fn sync(&mut self, bytes: u64) -> Result<(), Error> {
        let began = Instant::now();
        let path = || disk::segment_path(&self.shared.dir, self.first);
        self.disk.sync_data(&self.active).map_err(|e| Error::io("sync", &path())(e))?;
        if let Some(on_sync) = &self.on_sync {
            on_sync(began.elapsed(), bytes);
        }
        Ok(())
    }

    fn publish(&self, end: u64, bytes: u64) {
        let mut state = self.shared.lock();
        state.in_flight = 0;
        state.bytes += bytes;
        state.durable = end;
        if let Some(active) = state.segments.back_mut() {
            active.end = end;
            active.bytes += bytes;
        }
        let is_half_full = self.len > self.shared.segment_limit / 2;
        if is_half_full && state.spare == Spare::Absent && spare::length(self.shared.segment_limit).is_some() {
            state.spare = Spare::Wanted;
            self.shared.trim.notify_one();
        }
        drop(state);
        self.durable.send_replace(Offset(end));
        self.shared.published.notify_all();
    }

    /// Cuts the zeros off, and at an orderly end marks that all was synced.
    fn seal(&mut self, is_end: bool) -> Result<(), Error> {
        let path = disk::segment_path(&self.shared.dir, self.first);
        if is_end && !self.is_marked {
            let mut mark = Vec::new();
            format::encode_hole(&mut mark, self.shared.seed, self.shared.lock().durable, 0);
            // Without the mark a torn tail is a little harder to tell from damage; a full disk shall not make that an error.
            match self.put(&mark) {
                Err(error) if !error.is_no_space() => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        let cut = self.disk.set_len(&self.active, self.len).and_then(|()| self.disk.sync_data(&self.active));
        self.file_len = self.len;
        cut.map_err(Error::io("sync", &path))
    }

    fn next_segment(&mut self) -> Result<(), Error> {
        let first = self.shared.lock().durable;
        let header = SegmentHeader { node_id: self.node_id, first, previous: Some((self.first, self.len)) };
        (self.active, self.file_len) = self.next_file(&header)?;
        (self.first, self.len) = (first, SEGMENT_HEADER as u64);
        let mut state = self.shared.lock();
        state.bytes += self.len;
        state.segments.push_back(Segment { first, end: first, bytes: self.len });
        drop(state);
        // The one before may have been needed by nobody, but as the last.
        self.shared.trim.notify_one();
        Ok(())
    }

    /// The spare if there is one, else a new file; with its length.
    fn next_file(&self, header: &SegmentHeader) -> Result<(File, u64), Error> {
        let dir = &self.shared.dir;
        let mut state = self.shared.lock();
        let spare = state.spare;
        if spare != Spare::Making {
            state.spare = Spare::Absent;
        }
        drop(state);
        if let Spare::Ready(length) = spare {
            return Ok((disk::adopt(&*self.disk, &spare::path(dir), dir, header)?, length));
        }
        let file = disk::create_draft(&*self.disk, dir, header)?;
        disk::publish_draft(dir, header.first)?;
        Ok((file, SEGMENT_HEADER as u64))
    }

    /// Does `step` until it works or fails for another reason than a full disk. At closing it is tried once more.
    fn until_space(
        &mut self,
        queued_bytes: usize,
        mut step: impl FnMut(&mut Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut pause = FIRST_RETRY;
        let mut is_last = false;
        loop {
            let error = match step(self) {
                Err(error) if error.is_no_space() => error,
                result => {
                    self.shared.lock().stalled = None;
                    return result;
                }
            };
            if is_last {
                return Err(Error::DiskFull { path: self.shared.dir.clone(), queued_bytes });
            }
            is_last = matches!(self.wait_for_space(&error, pause)?, Wake::Closing);
            pause = (2 * pause).min(LAST_RETRY);
        }
    }

    /// Says that the disk is full and waits a while, or until a segment is gone: that is what makes space. At closing all that
    /// may go goes first. Before any of it the spare goes.
    fn wait_for_space(&self, error: &Error, pause: Duration) -> Result<Wake, Error> {
        if spare::take_back(&self.shared) {
            return Ok(Wake::Retry);
        }
        let mut state = self.shared.lock();
        state.stalled.get_or_insert_with(|| error.in_words());
        let first = state.first();
        let is_needed = |s: &mut State| match s.phase {
            Phase::Open => s.is_removing || s.first() == first && s.not_removed.is_none(),
            Phase::Closing | Phase::Ended => s.is_trimming() && s.not_removed.is_none(),
        };
        let waited = self.shared.work.wait_timeout_while(state, pause, is_needed);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = state.not_removed.take() {
            return Err(error);
        }
        Ok(if state.phase == Phase::Open { Wake::Retry } else { Wake::Closing })
    }
}

/// Tells everybody how the writer ended, also when it panicked.
struct Ending(Arc<Shared>);

impl Ending {
    fn end(self, result: Result<(), Error>) {
        let mut state = self.0.lock();
        state.phase = Phase::Ended;
        state.stalled = None;
        state.failed = result.err();
        drop(state);
        self.0.trim.notify_one();
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if state.phase != Phase::Ended {
            state.phase = Phase::Ended;
            state.failed = Some(Error::WriterDied);
        }
        drop(state);
        self.0.trim.notify_one();
        self.0.published.notify_all();
        self.0.room.notify_one();
    }
}

//! The task that moves records from the journal into objects.
//!
//! Order, which is the whole of its safety: read → write the object (never over another) → release the journal. A crash
//! anywhere repeats work and changes nothing; see `recover`.
//!
//! Invariant: memory holds one batch (`flush_bytes`), the numbers of its messages and one encoded object; it is used again as
//! long as batches fill, and given back when one is written for its age. Does not know how objects are read back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use object_store::path::Path;
use tokio::sync::watch;

use super::Error;
use super::batch::Pending;
use super::bucket::Bucket;
use super::classify::{Classify, classify};
use super::encode::Encoder;
use super::key::{Hour, ROOT, is_expired};
use super::log::{Follow, Log, READ_BYTES, READ_RECORDS};
use super::object::{Footers, Object, footers};
use super::recover::{Resume, resume};
use crate::domain::{Clock, Timestamp};
use crate::journal::Journal;
use crate::observe::{Board, Progress, TaskState, backoff::Backoff, counted, metrics};
use crate::payload::{Classes, Window};

/// Its name on the task board.
const TASK: &str = "archiver";
/// Largest wait for records, so that being told to give up is noticed.
const WAIT: Duration = Duration::from_secs(1);

/// A collector that has decoded nothing for so long stands still.
const STANDS_STILL: Duration = Duration::from_secs(1);

/// A batch of so many bytes is worth an object of its own when nothing has come for a while: a burst that is over need not
/// take memory until it is old.
const QUIET_BYTES: usize = 1024 * 1024;
const QUIET: Duration = Duration::from_secs(10);

/// How to archive.
#[derive(Clone, Debug)]
pub struct ArchiverOptions {
    /// This node's id: part of the objects' names.
    pub node: uuid::Uuid,
    /// A batch is written when its first record was read this long ago (60 s), or sooner in a pause.
    pub flush_age: Duration,
    /// A batch is written when it takes this much memory (16 MiB).
    pub flush_bytes: usize,
    /// The clock of `flush_age`.
    pub clock: Clock,
    /// Accepted range of `ts`.
    pub window: Window,
    /// How long days of receipt are kept once they are over, as upkeep has it; `None` = for ever.
    pub keep: Option<Duration>,
    /// What the collector has decoded already.
    pub classes: Classes,
    /// Where to say how far it has come.
    pub progress: Progress,
    /// Where to say how it is.
    pub board: Board,
}

/// The task. Making it holds back the journal's trimming, so make it before anything that releases records.
pub struct Archiver {
    options: ArchiverOptions,
    node: String,
    bucket: Bucket,
    footers: Footers,
    encoder: Encoder,
    log: Arc<dyn Log>,
    hold: Box<dyn Follow>,
    pub(crate) classify: Classify,
    /// Where the collector was when it last stood still (0 = at its start): there it is not waited for.
    stood_at: u64,
    /// Pauses between attempts, before the first.
    pub(crate) backoff: Backoff,
}

impl std::fmt::Debug for Archiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archiver").field("options", &self.options).field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

impl Archiver {
    /// An archiver of `journal` into `bucket`. Touches neither the disk nor the network.
    pub fn new(options: ArchiverOptions, bucket: Bucket, journal: &Journal) -> Result<Self, Error> {
        Self::over(options, bucket, Arc::new(journal.clone()))
    }

    pub(crate) fn over(options: ArchiverOptions, bucket: Bucket, log: Arc<dyn Log>) -> Result<Self, Error> {
        options.board.set(TASK, TaskState::Starting);
        let hold = log.hold(log.first())?;
        let node = options.node.hyphenated().to_string();
        // An object store may be far away, and away for long.
        let backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        let (footers, encoder) = (footers(), Encoder::default());
        Ok(Self { options, node, bucket, footers, encoder, log, hold, classify, stood_at: 0, backoff })
    }

    /// Archives until the journal is closed and everything in it is written. Blocks: give it a thread of its own.
    ///
    /// The object store failing is retried for ever and shows on the board. `abandon` becoming `true` (the deadline of
    /// stopping has passed) ends it with what is not written left in the journal for the next start.
    pub fn run(mut self, mut abandon: watch::Receiver<bool>) -> Result<(), Error> {
        let result = self.work(&mut abandon);
        let state = match &result {
            Ok(()) => TaskState::Stopped,
            Err(Error::Journal { .. }) => TaskState::Failed("the journal cannot be read".into()),
            Err(_) => TaskState::Failed("the archive cannot be written".into()),
        };
        self.options.board.set(TASK, state);
        result
    }

    fn work(&mut self, abandon: &mut watch::Receiver<bool>) -> Result<(), Error> {
        let (keep, now) = (self.options.keep, self.options.clock.now());
        let is_gone = |hour: Hour| is_expired(hour.day_end(), keep, now);
        let found = self.persist(abandon, |a| resume(&a.bucket, &a.footers, &*a.log, &a.node, &is_gone))?;
        let Some(Resume { next, redo_until }) = found else { return Ok(()) };
        self.released(next, None);
        self.sweep(next);
        self.options.board.set(TASK, TaskState::Running);
        if let Some(end) = redo_until
            && !self.flush(&mut self.exactly(next, end)?, abandon)?
        {
            return Ok(());
        }
        self.follow(&mut *self.log.reader(redo_until.unwrap_or(next))?, abandon)
    }

    /// The records in `first..end`, which once were a batch.
    fn exactly(&self, first: u64, end: u64) -> Result<Pending, Error> {
        let mut pending = Pending::default();
        let mut reader = self.log.reader(first)?;
        let mut at = first;
        while at < end && self.read(&mut *reader, &mut pending, &mut at, end)? > 0 {}
        Ok(pending)
    }

    /// Reads and writes until there will be nothing more.
    fn follow(&mut self, reader: &mut dyn Follow, abandon: &mut watch::Receiver<bool>) -> Result<(), Error> {
        let mut pending = Pending::default();
        let mut since: Option<Timestamp> = None;
        let mut last = self.options.clock.now();
        while !*abandon.borrow() {
            let now = self.options.clock.now();
            // A clock set back must not put off the writing.
            since = since.map(|t| t.min(now));
            last = last.min(now);
            let left = since.map_or(WAIT, |t| self.options.flush_age.saturating_sub(now.since(t)));
            let finished = reader.is_finished();
            let is_full = pending.bytes() >= self.options.flush_bytes;
            let is_pause = pending.bytes() >= QUIET_BYTES && now.since(last) >= QUIET;
            if finished || left.is_zero() || is_full || is_pause {
                if !finished {
                    self.wait_for_collector(pending.end(), abandon);
                }
                if !self.flush(&mut pending, abandon)? || finished {
                    return Ok(());
                }
                since = None;
            } else if reader.wait(left.min(WAIT)) {
                if self.read(reader, &mut pending, &mut 0, u64::MAX)? > 0 {
                    since = since.or(Some(now));
                    last = self.options.clock.now();
                    self.options.progress.set(self.options.progress.position(), pending.oldest());
                } else if pending.oldest().is_none() {
                    // Only a hole was passed.
                    self.released(reader.position(), None);
                }
            } else if pending.oldest().is_none() {
                // Nothing comes: no memory is kept for it.
                (pending, self.encoder) = (Pending::default(), Encoder::default());
            }
        }
        Ok(())
    }

    /// Reads some records, of which those below `end` become pending; `at` becomes the exclusive end of what was read.
    fn read(&self, reader: &mut dyn Follow, pending: &mut Pending, at: &mut u64, end: u64) -> Result<usize, Error> {
        let read = reader.read(READ_RECORDS, READ_BYTES, &mut |record| {
            *at = record.offset.0 + 1;
            if *at <= end {
                pending.push(record);
            }
        });
        Ok(read?)
    }

    /// Writes what is pending and releases it; `false` when it was abandoned.
    fn flush(&mut self, pending: &mut Pending, abandon: &mut watch::Receiver<bool>) -> Result<bool, Error> {
        let oldest = pending.oldest();
        let is_full = pending.bytes() >= self.options.flush_bytes;
        let mut known = self.options.classes.take(pending.end());
        let known = |offset: u64| {
            while known.pop_front_if(|(of, _)| *of < offset).is_some() {}
            known.pop_front_if(|(of, _)| *of == offset).map(|(_, class)| class)
        };
        let batch = pending.take(known, |record| (self.classify)(record, self.options.window));
        let Some(batch) = batch else { return Ok(true) };
        self.options.progress.set(self.options.progress.position(), oldest);
        let mut encoder = std::mem::take(&mut self.encoder);
        let parts = batch.parts(&self.node);
        let keys: Vec<Path> = parts.iter().map(|part| part.name.key(part.hour)).collect();
        let siblings = keys.iter().map(Path::as_ref).collect::<Vec<_>>().join(" ");
        for (part, key) in parts.iter().zip(&keys) {
            let (bytes, digest) = encoder
                .encode(&batch, part, &siblings)
                .map_err(|source| Error::Encode { key: key.to_string(), source })?;
            tracing::debug!(%key, records = part.order.len(), bytes = bytes.len(), "archiving");
            if self.persist(abandon, |a| a.put(key, &bytes, &digest))?.is_none() {
                return Ok(false);
            }
        }
        self.released(batch.end(), None);
        // More will come as fast as this came. In quieter times no memory is kept for it.
        if is_full {
            self.encoder = encoder;
            pending.reuse(batch);
        }
        Ok(true)
    }

    /// Waits for the collector to have decoded everything below `end` while it comes nearer, but not where it stands still: its
    /// store may be away.
    fn wait_for_collector(&mut self, end: u64, abandon: &watch::Receiver<bool>) {
        let mut reached = self.options.classes.reached();
        while reached < end && reached != self.stood_at && !*abandon.borrow() {
            let now = self.options.classes.wait_beyond(reached, STANDS_STILL);
            if now == reached {
                self.stood_at = now;
            }
            reached = now;
        }
    }

    /// Writes an object, or finds that it is there already.
    fn put(&self, key: &Path, bytes: &Bytes, digest: &str) -> Result<(), Error> {
        let started = Instant::now();
        if self.bucket.put_new(key, bytes.clone())? {
            metrics::ARCHIVE_WRITE_SECONDS.observe(&[], started.elapsed());
            metrics::ARCHIVE_OBJECTS.increment(&[], 1);
            metrics::ARCHIVE_BYTES.increment(&[], bytes.len() as u64);
            return Ok(());
        }
        let size = self.bucket.size(key)?.unwrap_or(0);
        let there = Object::open(&self.bucket, &self.footers, key, size)?;
        match there.as_ref().and_then(Object::digest) == Some(digest) {
            true => Ok(()),
            false => Err(Error::Conflict { key: key.to_string() }),
        }
    }

    /// Removes leftovers of a crash: they can only lie where the record at `next` was being archived, or later.
    fn sweep(&self, next: u64) {
        let swept = self.log.reader(next).map_err(Error::from).and_then(|mut reader| {
            let mut from = None;
            reader.read(1, 1, &mut |record| from = Some(Hour::of(record.received_at)))?;
            let mut swept = 0;
            for date in self.bucket.folders(&Path::from(ROOT))? {
                if from.is_some_and(|hour| date < hour.date_folder()) {
                    continue;
                }
                for folder in self.bucket.folders(&date)? {
                    swept += self.bucket.sweep(&folder, &self.node)?;
                }
            }
            Ok(swept)
        });
        match swept {
            Ok(0) => {}
            Ok(files) => tracing::info!(files, "removed unfinished archive writes of an earlier run"),
            Err(error) => tracing::warn!(%error, "cannot remove unfinished archive writes of an earlier run"),
        }
    }

    fn released(&self, below: u64, oldest: Option<Timestamp>) {
        self.hold.release(below);
        self.options.progress.set(below, oldest);
    }

    /// Tries until it works; `None` when told to give up.
    fn persist<T>(
        &self,
        abandon: &mut watch::Receiver<bool>,
        attempt: impl Fn(&Self) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let mut backoff = self.backoff;
        loop {
            match attempt(self) {
                Ok(value) => {
                    self.options.board.set(TASK, TaskState::Running);
                    return Ok(Some(value));
                }
                Err(e) if !e.is_transient() => return Err(e),
                Err(e) => self.report(&e),
            }
            if *abandon.borrow() || self.pause(abandon, backoff.next_pause()) {
                return Ok(None);
            }
        }
    }

    /// The log has the cause; the board, which anybody may see, only the kind.
    fn report(&self, error: &Error) {
        counted!(
            warn,
            metrics::ARCHIVE_FAILURES,
            [],
            1,
            error = error as &dyn std::error::Error,
            "the archive does not take data; trying again"
        );
        let text = match error {
            Error::Conflict { .. } => "an archive object exists with other records",
            Error::Damaged { .. } => "an archive object is damaged",
            _ => "the archive cannot be reached or written",
        };
        self.options.board.set(TASK, TaskState::Retrying(text.into()));
    }

    /// Waits; `true` when told to give up meanwhile.
    fn pause(&self, abandon: &mut watch::Receiver<bool>, delay: Duration) -> bool {
        self.bucket.runtime().block_on(async {
            let sleep = tokio::time::sleep(delay);
            tokio::pin!(sleep);
            tokio::select! {
                Ok(_) = abandon.wait_for(|told| *told) => true,
                () = sleep => false,
            }
        })
    }
}

//! Reading back: the archive and the journal's tail as one list.
//!
//! Why nothing is missing or shown twice while an object is being written: the tail is taken first and says which offsets
//! it has seen; the archive is listed afterwards and gives all of this node's others. A record leaves the journal only
//! after its object exists, so whatever the tail came too late for, the listing finds.
//!
//! While the archive cannot be read, a listing is what the journal holds if that is as much as was asked for: what is older cannot
//! change it. (What other nodes archived in the same time is then not in it.) Anything else fails as a whole.
//!
//! Invariant: blocking work runs on blocking threads, [`READS`] at a time; a walk that nobody awaits any more ends before its
//! next object. Of other nodes only what they have archived is seen, not their journals.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quick_cache::sync::Cache;
use tokio::sync::{Semaphore, oneshot};

use super::bucket::Bucket;
use super::classify::{Classify, classify, device_of};
use super::key::{MessageName, message_name};
use super::log::{Log, NoLog};
use super::object::{Entry, Footers, PastMessage, footers};
use super::past::{Past, Span};
use super::tail::{Judge, Tail, Wanted, scan};
use super::walk::{Budget, MAX_LOOKS, MAX_TIME, Newest, Shelf};
use super::{Error, RawEntry};
use crate::domain::{DeviceId, Timestamp};
use crate::journal::Journal;
use crate::observe::{Progress, trace};
use crate::payload::Window;

/// The most messages one listing gives.
pub const MAX_LIST: usize = 10_000;
/// Reads that run at once; others wait.
pub(super) const READS: usize = 4;
/// Objects of which it is remembered which message times are in them.
const KNOWN_TIMES: usize = 20_000;
/// A message counts as possibly received so long before its own time, whatever the settings of now say.
const LEAST_AHEAD: Duration = Duration::from_secs(86_400);
/// The journal's tail is read in steps of so many records and bytes.
const TAIL_RECORDS: usize = 4096;
const TAIL_STEP: usize = 4 * 1024 * 1024;
/// Bytes of one device's old telemetry that the tail may hold.
const MAX_TAIL: usize = 64 * 1024 * 1024;

/// What a reader needs to know.
#[derive(Clone, Debug)]
pub struct ReaderOptions {
    /// This node's id, as the archiver has it.
    pub node: uuid::Uuid,
    /// Accepted range of `ts`, as the archiver has it.
    pub window: Window,
    /// The archiver's progress.
    pub progress: Progress,
}

/// Reads the archive and the journal's not yet archived tail as one list. Clones share it.
#[derive(Clone)]
pub struct Reader {
    inner: Arc<Inner>,
    permits: Arc<Semaphore>,
}

pub(super) struct Inner {
    node: String,
    judge: Judge,
    progress: Progress,
    pub(super) bucket: Bucket,
    pub(super) footers: Footers,
    /// Message times in objects whose names do not say them.
    pub(super) times: Cache<String, Option<(Timestamp, Timestamp)>>,
    log: Arc<dyn Log>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("node", &self.inner.node).field("bucket", &self.inner.bucket).finish()
    }
}

impl Reader {
    /// A reader of `bucket` and `journal`.
    pub fn new(options: ReaderOptions, bucket: Bucket, journal: &Journal) -> Self {
        Self::over(options, bucket, Arc::new(journal.clone()), classify)
    }

    /// A reader of a bucket alone, with no journal at hand.
    pub fn of_bucket(bucket: Bucket, window: Window) -> Self {
        let options = ReaderOptions { node: uuid::Uuid::nil(), window, progress: Progress::default() };
        Self::over(options, bucket, Arc::new(NoLog), classify)
    }

    /// The device's telemetry with a message time in `from..to`, piece by piece. Blocks: call it, and what it gives, on
    /// threads that may.
    pub fn past(&self, device: &DeviceId, from: Timestamp, to: Timestamp) -> Result<Past, Error> {
        Past::open(Arc::clone(&self.inner), Span { device: device.clone(), from, to })
    }

    pub(crate) fn over(options: ReaderOptions, bucket: Bucket, log: Arc<dyn Log>, classify: Classify) -> Self {
        let inner = Inner {
            node: options.node.hyphenated().to_string(),
            judge: Judge { classify, window: options.window },
            progress: options.progress,
            bucket,
            footers: footers(),
            times: Cache::new(KNOWN_TIMES),
            log,
        };
        Self { inner: Arc::new(inner), permits: Arc::new(Semaphore::new(READS)) }
    }

    /// The newest `limit` (at most [`MAX_LIST`]) messages of a device by time of receipt, newest first; only those whose
    /// category is `category` if given. Looks at a bounded number of objects, for a bounded time: see `walk`. An archive that
    /// cannot be read fails it, unless the journal alone holds `limit` of them.
    pub async fn list(&self, device: &DeviceId, category: Option<&str>, limit: usize) -> Result<Vec<RawEntry>, Error> {
        let (device, category) = (device.clone(), category.map(str::to_owned));
        let limit = limit.min(MAX_LIST);
        self.blocking(move |inner, is_awaited| {
            let wanted = Wanted { device: &device, category: category.as_deref(), limit };
            inner.list(wanted, is_awaited)
        })
        .await
    }

    /// The exact bytes of a message named by a listing (content type, empty where the sender said none; payload). The
    /// device in front of the name may be left out. `None` = no such message.
    pub async fn read(&self, device: &DeviceId, filename: &str) -> Result<Option<(String, Vec<u8>)>, Error> {
        let Some(name) = MessageName::parse(device, filename) else { return Ok(None) };
        let device = device.clone();
        self.blocking(move |inner, _| inner.read(&device, &name)).await
    }

    /// [`read`](Self::read), on the caller's thread: it blocks.
    pub fn read_blocking(&self, device: &DeviceId, filename: &str) -> Result<Option<(String, Vec<u8>)>, Error> {
        let Some(name) = MessageName::parse(device, filename) else { return Ok(None) };
        self.inner.read(device, &name)
    }

    /// Does some work that can ask whether its result is still awaited.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner, &dyn Fn() -> bool) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| Error::Interrupted)?;
        let inner = Arc::clone(&self.inner);
        let (answer, answered) = oneshot::channel();
        self.inner.bucket.runtime().spawn_blocking(trace::carry(move || {
            let result = work(&inner, &|| !answer.is_closed());
            drop(permit);
            // Who has gone misses nothing.
            let _ = answer.send(result);
        }));
        answered.await.map_err(|_| Error::Interrupted)?
    }
}

impl Inner {
    /// How long before its own time a message may have been received, in µs.
    pub(super) fn ahead_us(&self) -> i64 {
        let future = self.judge.window.future.max(LEAST_AHEAD);
        i64::try_from(future.as_micros()).unwrap_or(i64::MAX)
    }

    /// What of it is in the journal only.
    pub(super) fn tail_of(&self, span: &Span) -> Result<Vec<PastMessage>, Error> {
        let (start, end) = (self.progress.position().max(self.log.first()), self.log.durable());
        let (mut found, mut bytes, mut at) = (Vec::new(), 0, start);
        let mut reader = self.log.reader(start)?;
        while at < end {
            let read = reader.read(TAIL_RECORDS, TAIL_STEP, &mut |record| {
                at = record.offset.0 + 1;
                if device_of(record) != span.device.as_str() {
                    return;
                }
                let class = (self.judge.classify)(record, self.judge.window);
                let ts = class.ts.filter(|ts| class.category == "telemetry" && (span.from..span.to).contains(ts));
                if let Some(ts) = ts {
                    bytes += record.payload.len();
                    found.push(PastMessage {
                        ts,
                        received_at: record.received_at,
                        content_type: record.content_type.to_owned(),
                        payload: Bytes::copy_from_slice(record.payload),
                    });
                }
            })?;
            if bytes > MAX_TAIL {
                return Err(Error::Behind);
            }
            if read == 0 {
                break;
            }
        }
        Ok(found)
    }

    const fn shelf(&self) -> Shelf<'_> {
        Shelf { bucket: &self.bucket, footers: &self.footers }
    }

    fn list(&self, wanted: Wanted<'_>, is_awaited: &dyn Fn() -> bool) -> Result<Vec<RawEntry>, Error> {
        if wanted.limit == 0 {
            return Ok(Vec::new());
        }
        let mut tail = scan(&*self.log, self.progress.position(), wanted, self.judge)?;
        let is_enough = tail.entries.len() >= wanted.limit;
        let mut newest = Newest::new(wanted.limit);
        newest.add(std::mem::take(&mut tail.entries));
        let skip = |node: &str, offset: u64| node == self.node && Tail::has_seen(&tail, offset);
        let mut budget = Budget::new(MAX_LOOKS, MAX_TIME, is_awaited);
        match self.shelf().list(wanted, &mut newest, &skip, &mut budget) {
            Err(error @ Error::Store { .. }) if is_enough => {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(device_id = %wanted.device, error, "a listing is answered from the journal alone");
            }
            listed => listed?,
        }
        let device = wanted.device.as_str();
        let shown = newest.into_entries().into_iter().map(|entry| RawEntry {
            filename: message_name(device, &entry.category, entry.received_at, entry.offset),
            size: entry.size,
            last_modified: entry.received_at,
        });
        Ok(shown.collect())
    }

    fn read(&self, device: &DeviceId, name: &MessageName) -> Result<Option<(String, Vec<u8>)>, Error> {
        match self.read_tail(device, name)? {
            Some(content) => Ok(Some(content)),
            None => self.shelf().find(device.as_str(), name),
        }
    }

    /// The journal is asked first, but for what surely is in the archive; what has left the journal meanwhile is there too.
    fn read_tail(&self, device: &DeviceId, name: &MessageName) -> Result<Option<(String, Vec<u8>)>, Error> {
        let unarchived = self.progress.position().max(self.log.first())..self.log.durable();
        if !unarchived.contains(&name.offset) {
            return Ok(None);
        }
        let mut content = None;
        self.log.reader(name.offset)?.read(1, 1, &mut |record| {
            let entry = Entry {
                received_at: record.received_at,
                offset: record.offset.0,
                category: (self.judge.classify)(record, self.judge.window).category.to_owned(),
                size: record.payload.len() as u64,
            };
            if entry.has_name(name) && device_of(record) == device.as_str() {
                content = Some((record.content_type.to_owned(), record.payload.to_vec()));
            }
        })?;
        Ok(content)
    }
}

//! A journal in memory, an object store that fails when told to, and what archiving and reading must do with them.

mod archiving;
mod columns;
mod compacting;
mod reading;
mod size;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::*;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, watch};

use super::full::Scan;
use super::log::{Follow, Log};
use super::{Archiver, ArchiverOptions, Bucket, Error, Reader, ReaderOptions};
use crate::domain::{Clock, DeviceId, Timestamp};
use crate::journal::{self, Flags, Offset, Record};
use crate::observe::backoff::Backoff;
use crate::observe::{Board, Progress, TaskState};
use crate::payload::{Class, Classes, Window};

pub(super) const HOUR: i64 = 3_600_000_000;
pub(super) const DAY: Duration = Duration::from_secs(86_400);
/// Long enough for anything that is going to happen.
const PATIENCE: Duration = Duration::from_secs(20);
pub(super) const WINDOW: Window = Window { past: DAY, future: DAY };
pub(super) const NODE: uuid::Uuid = uuid::Uuid::from_u128(7);

/// A record that no disk has seen.
#[derive(Clone, Debug)]
pub(super) struct Rec {
    pub(super) at: i64,
    pub(super) topic: String,
    pub(super) content_type: String,
    pub(super) payload: Vec<u8>,
}

/// A telemetry record of a device; the payload says its own number.
pub(super) fn rec(device: &str, at: i64, number: usize) -> Rec {
    let payload = format!("{device}:{number}").into_bytes();
    Rec { at, topic: format!("iot/{device}/telemetry"), content_type: String::new(), payload }
}

/// Payloads that begin with `bad` are invalid; the others are what their topic ends with.
pub(super) fn classify(record: &Record<'_>, _: Window) -> Class {
    if record.payload.starts_with(b"bad") {
        return Class { category: "invalid", ts: None, seq: None, reason: Some("malformed") };
    }
    let category = if record.topic.ends_with("/hello") { "hello" } else { "telemetry" };
    Class { category, ts: Some(record.received_at.plus_us(-1)), seq: Some(5), reason: None }
}

#[derive(Default)]
struct State {
    first: u64,
    records: BTreeMap<u64, Rec>,
    durable: u64,
    /// Arrive one by one, when somebody waits; with the last one taken the journal closes.
    later: VecDeque<Rec>,
    closed: bool,
    released: u64,
}

/// A journal in memory.
#[derive(Clone)]
pub(super) struct Memory {
    state: Arc<Mutex<State>>,
    clock: Clock,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memory")
    }
}

impl Memory {
    pub(super) fn new(records: &[Rec]) -> Self {
        let log = Self { state: Arc::default(), clock: Clock::manual(Timestamp(0)) };
        log.append(records);
        log
    }

    pub(super) fn append(&self, records: &[Rec]) {
        let mut state = self.state.lock().unwrap();
        for record in records {
            let offset = state.durable;
            state.records.insert(offset, record.clone());
            state.durable += 1;
        }
    }

    pub(super) fn arrive_later(&self, records: &[Rec]) {
        self.state.lock().unwrap().later.extend(records.iter().cloned());
    }

    /// Loses the newest record, as a salvage of a damaged journal may: its offset is not given again.
    pub(super) fn lose_newest(&self) {
        self.state.lock().unwrap().records.pop_last();
    }

    /// Goes on at `next`, as a restored journal does.
    pub(super) fn skip_to(&self, next: u64) {
        self.state.lock().unwrap().durable = next;
    }

    /// Forgets everything below `below`, as trimming does.
    pub(super) fn trim(&self, below: u64) {
        let mut state = self.state.lock().unwrap();
        state.first = below;
        state.records = state.records.split_off(&below);
    }

    pub(super) fn released(&self) -> u64 {
        self.state.lock().unwrap().released
    }
}

struct Place {
    log: Memory,
    next: u64,
    hole: Option<u64>,
}

impl Log for Memory {
    fn first(&self) -> u64 {
        self.state.lock().unwrap().first
    }
    fn durable(&self) -> u64 {
        self.state.lock().unwrap().durable
    }
    fn hold(&self, at: u64) -> Result<Box<dyn Follow>, journal::Error> {
        self.reader(at)
    }
    fn reader(&self, at: u64) -> Result<Box<dyn Follow>, journal::Error> {
        Ok(Box::new(Place { log: self.clone(), next: at, hole: None }))
    }
}

impl Follow for Place {
    fn read(
        &mut self,
        max_records: usize,
        max_bytes: usize,
        each: &mut dyn FnMut(&Record<'_>),
    ) -> Result<usize, journal::Error> {
        let state = self.log.state.lock().unwrap();
        let (mut count, mut bytes) = (0, 0);
        if !state.records.contains_key(&self.next) {
            let before = state.records.range(..self.next).next_back().map_or(state.first, |(offset, _)| offset + 1);
            self.hole = (before < self.next).then_some(before);
        }
        for (&offset, r) in state.records.range(self.next..).take(max_records) {
            if count > 0 && bytes + r.payload.len() > max_bytes {
                break;
            }
            let device = r.topic.split('/').nth(1).unwrap();
            each(&Record {
                offset: Offset(offset),
                received_at: Timestamp(r.at),
                topic: &r.topic,
                identity: device,
                content_type: &r.content_type,
                flags: Flags { qos: 1, retain: false, dup: false },
                payload: &r.payload,
            });
            self.next = offset + 1;
            count += 1;
            bytes += r.payload.len();
        }
        Ok(count)
    }

    fn position(&self) -> u64 {
        self.next
    }

    fn hole(&self) -> Option<u64> {
        self.hole
    }

    fn wait(&self, timeout: Duration) -> bool {
        if self.next < self.log.durable() {
            return true;
        }
        let until = self.log.clock.now().plus(timeout);
        let mut state = self.log.state.lock().unwrap();
        if state.later.front().is_some_and(|record| record.at > until.0) {
            self.log.clock.set(until);
            return false;
        }
        let later = state.later.pop_front();
        drop(state);
        match later {
            Some(record) => {
                self.log.clock.set(Timestamp(record.at));
                self.log.append(&[record]);
                true
            }
            None => {
                self.log.clock.set(until);
                self.log.state.lock().unwrap().closed = true;
                false
            }
        }
    }

    fn is_finished(&self) -> bool {
        let state = self.log.state.lock().unwrap();
        state.closed && self.next >= state.durable
    }

    fn release(&self, below: u64) {
        self.log.state.lock().unwrap().released = below;
    }
}

/// An object store in memory that counts, and fails when told to.
#[derive(Debug, Default)]
pub(super) struct Flaky {
    inner: InMemory,
    pub(super) puts: AtomicUsize,
    /// Puts that work before the failures …
    pub(super) good_puts: AtomicUsize,
    /// … and how many fail.
    pub(super) bad_puts: AtomicUsize,
    /// The same of removals.
    pub(super) good_deletes: AtomicUsize,
    pub(super) bad_deletes: AtomicUsize,
    /// Nothing can be read or listed.
    pub(super) is_away: AtomicBool,
    pub(super) bytes_read: AtomicU64,
    /// Listings asked for …
    pub(super) lists: AtomicUsize,
    /// … and reads.
    pub(super) gets: AtomicUsize,
    /// Each read or listing of folders takes one of these, or waits for it.
    pub(super) turns: Mutex<Option<Arc<Semaphore>>>,
    /// Told when a put fails: the crash.
    pub(super) crash: Mutex<Option<watch::Sender<bool>>>,
}

impl fmt::Display for Flaky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flaky")
    }
}

fn told() -> object_store::Error {
    object_store::Error::Generic { store: "Flaky", source: "told to fail".into() }
}

fn take_one(counter: &AtomicUsize) -> bool {
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
}

impl Flaky {
    async fn turn(&self) {
        let turns = self.turns.lock().unwrap().clone();
        if let Some(turns) = turns {
            turns.acquire().await.unwrap().forget();
        }
    }

    /// From now on there are only so many turns, but for those that are added.
    pub(super) fn limit_turns(&self, count: usize) -> Arc<Semaphore> {
        let turns = Arc::new(Semaphore::new(count));
        *self.turns.lock().unwrap() = Some(Arc::clone(&turns));
        turns
    }
}

/// Waits until something has come about that is on its way.
pub(super) fn wait_until(is_so: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "it does not come about");
        std::thread::yield_now();
    }
}

#[async_trait]
impl ObjectStore for Flaky {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        if !take_one(&self.good_puts) && take_one(&self.bad_puts) {
            if let Some(crash) = &*self.crash.lock().unwrap() {
                crash.send_replace(true);
            }
            return Err(told());
        }
        self.puts.fetch_add(1, Ordering::SeqCst);
        self.inner.put_opts(location, payload, opts).await
    }
    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        self.turn().await;
        if self.is_away.load(Ordering::SeqCst) {
            return Err(told());
        }
        let result = self.inner.get_opts(location, options).await?;
        self.bytes_read.fetch_add(result.range.end - result.range.start, Ordering::SeqCst);
        Ok(result)
    }
    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        if !take_one(&self.good_deletes) && take_one(&self.bad_deletes) {
            return Box::pin(futures_util::stream::once(async { Err(told()) }));
        }
        self.inner.delete_stream(locations)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.lists.fetch_add(1, Ordering::SeqCst);
        if self.is_away.load(Ordering::SeqCst) {
            return Box::pin(futures_util::stream::once(async { Err(told()) }));
        }
        self.inner.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.lists.fetch_add(1, Ordering::SeqCst);
        self.turn().await;
        if self.is_away.load(Ordering::SeqCst) {
            return Err(told());
        }
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// A row as an independent reader sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    pub(super) offset: u64,
    pub(super) device: String,
    pub(super) category: String,
    pub(super) received_at: i64,
    pub(super) payload: Vec<u8>,
}

/// Archiver, reader and what they work on.
pub(super) struct Bench {
    pub(super) runtime: Runtime,
    pub(super) store: Arc<Flaky>,
    pub(super) log: Memory,
    pub(super) board: Board,
    pub(super) progress: Progress,
    pub(super) flush_bytes: usize,
    pub(super) keep: Option<Duration>,
    pub(super) classes: Classes,
}

impl Bench {
    pub(super) fn new(records: &[Rec]) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let log = Memory::new(records);
        let board = Board::new(log.clock.clone());
        let (progress, flush_bytes) = (Progress::default(), 1 << 20);
        let (store, classes) = (Arc::default(), Classes::default());
        Self { runtime, store, log, board, progress, flush_bytes, keep: None, classes }
    }

    pub(super) fn bucket(&self) -> Bucket {
        Bucket::over(self.store.clone(), self.runtime.handle().clone())
    }

    /// Starts an archiver as a new process would, and lets it work until everything is archived or it crashes.
    pub(super) fn archive(&self) -> std::result::Result<(), Error> {
        let (crash, crashed) = watch::channel(false);
        *self.store.crash.lock().unwrap() = Some(crash);
        self.archive_until(crashed)
    }

    pub(super) fn archive_until(&self, abandon: watch::Receiver<bool>) -> std::result::Result<(), Error> {
        self.log.state.lock().unwrap().closed = false;
        let options = ArchiverOptions {
            node: NODE,
            flush_age: Duration::from_secs(60),
            flush_bytes: self.flush_bytes,
            clock: self.log.clock.clone(),
            window: WINDOW,
            keep: self.keep,
            classes: self.classes.clone(),
            progress: self.progress.clone(),
            board: self.board.clone(),
        };
        let mut archiver = Archiver::over(options, self.bucket(), Arc::new(self.log.clone()))?;
        archiver.classify = classify;
        archiver.backoff = Backoff::new(Duration::from_micros(10), Duration::from_micros(100));
        archiver.run(abandon)
    }

    pub(super) fn reader(&self) -> Reader {
        let options = ReaderOptions { node: NODE, window: WINDOW, progress: self.progress.clone() };
        Reader::over(options, self.bucket(), Arc::new(self.log.clone()), classify)
    }

    pub(super) fn list(&self, device: &str, category: Option<&str>, limit: usize) -> Vec<String> {
        let device = DeviceId::parse(device).unwrap();
        let listed = self.runtime.block_on(self.reader().list(&device, category, limit)).unwrap();
        listed.into_iter().map(|entry| entry.filename).collect()
    }

    pub(super) fn read(&self, device: &str, name: &str) -> Option<(String, Vec<u8>)> {
        let device = DeviceId::parse(device).unwrap();
        self.runtime.block_on(self.reader().read(&device, name)).unwrap()
    }

    /// Keys of all objects.
    pub(super) fn keys(&self) -> Vec<String> {
        let listed: Vec<_> = self.runtime.block_on(self.store.list(None).try_collect()).unwrap();
        let mut keys: Vec<_> = listed.into_iter().map(|meta: ObjectMeta| meta.location.to_string()).collect();
        keys.sort();
        keys
    }

    /// All rows of all objects, by offset, read with the library's own row reader.
    pub(super) fn rows(&self) -> Vec<Seen> {
        let mut rows: Vec<_> = self.keys().iter().flat_map(|key| self.rows_of(key)).collect();
        rows.sort_by_key(|row| row.offset);
        rows
    }

    /// The rows of one object: but for payloads that were taken apart, as the library's own row reader sees them.
    pub(super) fn rows_of(&self, key: &str) -> Vec<Seen> {
        let get = async { self.store.get(&key.into()).await?.bytes().await };
        let bytes = self.runtime.block_on(get).unwrap();
        let (mut scan, mut payloads) = (Scan::new(bytes.clone()).unwrap(), VecDeque::new());
        loop {
            let rows = scan.next_rows().unwrap();
            if rows.is_empty() {
                break;
            }
            payloads.extend(rows.into_iter().map(|row| row.payload.data().to_vec()));
        }
        let file = SerializedFileReader::new(bytes).unwrap();
        let rows = file.get_row_iter(None).unwrap().map(|row| {
            let (row, taken_apart) = (row.unwrap(), payloads.pop_front().unwrap());
            Seen {
                offset: row.get_long(3).unwrap().cast_unsigned(),
                device: row.get_string(0).unwrap().clone(),
                category: row.get_string(1).unwrap().clone(),
                received_at: row.get_timestamp_micros(2).unwrap(),
                payload: row.get_bytes(row.len() - 1).map_or(taken_apart, |payload| payload.data().to_vec()),
            }
        });
        rows.collect()
    }

    /// Changes a byte of an object's rows.
    pub(super) fn damage(&self, key: &str) {
        let key = Path::from(key);
        let get = async { self.store.get(&key).await?.bytes().await };
        let mut bytes = self.runtime.block_on(get).unwrap().to_vec();
        bytes[8..40].iter_mut().for_each(|byte| *byte ^= 0xFF);
        self.runtime.block_on(self.store.inner.put(&key, bytes.into())).unwrap();
    }

    /// Every one of these records, whose journal is trimmed, is in exactly one object.
    pub(super) fn assert_archived_exactly_once_since(&self, all: &[Rec]) {
        let rows: Vec<_> = self.rows().into_iter().map(|r| (r.offset, r.received_at, r.payload)).collect();
        let expected: Vec<_> = (0u64..).zip(all).map(|(o, r)| (o, r.at, r.payload.clone())).collect();
        assert_eq!(rows, expected);
    }

    /// Every record of the journal is in exactly one object, with its bytes.
    pub(super) fn assert_archived_exactly_once(&self) {
        let state = self.log.state.lock().unwrap();
        let expected: Vec<_> = state.records.iter().map(|(o, r)| (*o, r.at, r.payload.clone())).collect();
        drop(state);
        let rows: Vec<_> = self.rows().into_iter().map(|r| (r.offset, r.received_at, r.payload)).collect();
        assert_eq!(rows, expected);
    }

    pub(super) fn state(&self) -> TaskState {
        self.board.tasks()["archiver"].state.clone()
    }
}

//! The collector's thread: reads the journal, commits, answers requests, watches presence.

mod presence;
mod rules;

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::cache::States;
use super::place::{self, Place};
use super::plan::{Decoded, Tally, UnknownDevices, plan};
use super::planning::Planning;
use super::{Inbox, Request, requests};
use crate::domain::device::Intervals;
use crate::domain::presence::Deadlines;
use crate::domain::rule::Severity;
use crate::domain::{Clock, DeviceId, DeviceState, Refusal, Timestamp};
use crate::journal::{self, Cursor, Journal, Offset};
use crate::live::{Event, Hub};
use crate::observe::trace::{Span, SpanKind, Tracer};
use crate::observe::{Board, Progress, TaskState, backoff::Backoff, counted, metrics};
use crate::payload::{self, Class, Classes, Window};
use crate::store::{self, SharedStore};

/// The name on the task board and of the journal cursor.
pub const TASK: &str = "collector";

/// How long messages gather for a transaction while the collector keeps up.
const GATHER: Duration = Duration::from_millis(20);
/// How often the journal learns what it may trim.
const RELEASE_PERIOD: Duration = Duration::from_secs(5);
/// How long the thread sleeps at the journal's end before it looks for requests.
const IDLE_WAIT: Duration = Duration::from_millis(20);

/// Settings of the collector.
#[derive(Clone, Debug)]
pub struct Options {
    /// What to do with unknown devices.
    pub unknown_devices: UnknownDevices,
    /// Accepted range of message times.
    pub window: Window,
    /// Most records a transaction.
    pub batch_records: usize,
    /// Most payload bytes a transaction.
    pub batch_bytes: usize,
    /// Most device states kept in memory.
    pub max_cached_devices: usize,
    /// With so many bytes in the journal that are not released, nothing is taken in: then silence is ours.
    pub journal_max_bytes: u64,
    /// A node that has not said for so long that it is there is taken for dead.
    pub node_timeout: Duration,
    /// What of the messages is traced.
    pub tracer: Tracer,
    /// Who is told what messages are, as they are decoded.
    pub classes: Classes,
    /// Who is told of what was stored.
    pub live: Hub,
}

/// The owner of device state. Runs on a thread of its own, for the store's calls block.
pub struct Collector {
    options: Options,
    store: SharedStore,
    journal: Journal,
    cursor: Cursor,
    inbox: Inbox,
    stop: watch::Receiver<bool>,
    clock: Clock,
    board: Board,
    progress: Progress,
    states: States,
    deadlines: Deadlines,
    presence: presence::Looks,
    rules: rules::Current,
    last_release: Instant,
    /// Silence before this was ours, not the meters'.
    started_at: Timestamp,
    /// Whether the store has said where to go on.
    is_placed: bool,
    /// The checkpoint as this process has left it.
    checkpoint: u64,
    /// Where the journal ended when this process began.
    head_at_start: Offset,
}

/// The collector cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal cannot be read.
    #[error("the collector cannot read the journal")]
    Journal(#[source] journal::Error),
    /// The store failed while the collector was starting.
    #[error("the collector cannot read where it stopped")]
    Store(#[source] store::Error),
    /// The process was told to end while the store was away; what is left in the journal is stored at the next start.
    #[error("the collector was stopped before it had stored everything; the rest follows at the next start")]
    Unfinished,
}

impl Collector {
    /// Finds its place (see `place`). While the store is away it holds the whole journal, and looks again when it runs.
    pub fn open(
        options: Options,
        store: SharedStore,
        journal: &Journal,
        inbox: Inbox,
        stop: watch::Receiver<bool>,
        board: Board,
        progress: Progress,
    ) -> Result<Self, Error> {
        let head = journal.status().head;
        let found = match place::find(&*store, journal, head) {
            Ok(place) => Some(place),
            Err(error) if error.is_transient() => None,
            Err(error) => return Err(Error::Store(error)),
        };
        let start = found.as_ref().map_or(journal.status().first, |place| place.start);
        let cursor = journal.cursor(TASK, start).map_err(Error::Journal)?;
        let clock = board.clock().clone();
        let now = clock.now();
        progress.set(start.0, received_at(journal, start));
        let mut collector = Self {
            options,
            store,
            journal: journal.clone(),
            cursor,
            inbox,
            stop,
            presence: presence::Looks::new(),
            rules: rules::Current::default(),
            last_release: Instant::now(),
            started_at: now,
            clock,
            board,
            progress,
            states: States::default(),
            deadlines: Deadlines::default(),
            is_placed: found.is_some(),
            checkpoint: start.0,
            head_at_start: head,
        };
        if let Some(place) = found {
            collector.watch_online(&place);
            collector.board.set(TASK, TaskState::Running);
        }
        Ok(collector)
    }

    /// Goes to its place in the store, which has nothing from behind `head` on; once it is there.
    fn take_place(&mut self, head: Offset) -> Result<(), Error> {
        let place = loop {
            let place = self.retry("find its place", |c| place::find(&*c.store, &c.journal, head))?;
            // The hold stays while nobody has it.
            self.cursor = self.journal.reader(place.start).map_err(Error::Journal)?;
            match self.journal.cursor(TASK, place.start) {
                Ok(cursor) => self.cursor = cursor,
                // What was released is trimmed meanwhile: the place is behind that.
                Err(journal::Error::Trimmed { .. }) => continue,
                Err(error) => return Err(Error::Journal(error)),
            }
            break place;
        };
        self.checkpoint = place.start.0;
        self.progress.set(place.start.0, received_at(&self.journal, place.start));
        // What was heard until now is not stored, or not yet again: the silence was ours.
        self.started_at = self.clock.now();
        self.watch_online(&place);
        self.board.set(TASK, TaskState::Running);
        self.is_placed = true;
        Ok(())
    }

    fn watch_online(&mut self, place: &Place) {
        for (id, state) in &place.online {
            watch_presence(&mut self.deadlines, id, state, self.started_at);
        }
    }

    /// Works until the journal is closed and read to its end.
    pub fn run(mut self) -> Result<(), Error> {
        if !self.is_placed {
            self.take_place(self.head_at_start)?;
        }
        loop {
            if *self.stop.borrow() {
                return Err(Error::Unfinished);
            }
            self.answer_requests()?;
            let batch =
                self.cursor.next_batch(self.options.batch_records, self.options.batch_bytes).map_err(Error::Journal)?;
            if batch.is_empty() {
                let position = self.cursor.position().0;
                if position > self.progress.position() {
                    // Only a hole was passed.
                    self.progress.set(position, None);
                }
                self.check_presence(self.clock.now())?;
                self.current_rules()?;
                self.release_durable()?;
                if self.cursor.is_finished() {
                    self.board.set(TASK, TaskState::Stopped);
                    return Ok(());
                }
                self.cursor.wait(IDLE_WAIT);
            } else {
                let Some(last) = self.process(&batch)? else { continue };
                let records = batch.len();
                self.cursor.reuse(batch);
                // Behind the journal, time is when the last message came: silence is not a backlog.
                self.check_presence(last)?;
                if records < self.options.batch_records / 4 {
                    // It keeps up: let a batch gather, a transaction of few rows costs nearly as much as one of many.
                    std::thread::sleep(GATHER);
                }
            }
        }
    }

    /// Decodes, plans and commits one run of records; the receive time of the last one. `None`: the store does not stand
    /// where it was left, and is read for from where it does.
    fn process(&mut self, records: &journal::Batch) -> Result<Option<Timestamp>, Error> {
        let started = self.clock.now();
        let (window, unknown) = (self.options.window, self.options.unknown_devices);
        let (decoded, foreign) = decode_all(records, window);
        if foreign > 0 {
            // The kind stands in the topic.
            let labels = [("kind", metrics::UNKNOWN_KIND), ("reason", Refusal::UnknownTopic.name())];
            metrics::MESSAGES_REFUSED.increment(&labels, foreign);
        }
        self.progress.set(self.progress.position(), records.iter().next().map(|r| r.received_at));
        let end = self.cursor.position();
        self.options.classes.tell(decoded.iter().map(|d| (d.offset.0, Class::from(&d.result))), end.0);
        let mut devices: Vec<DeviceId> = decoded.iter().map(|d| d.device.clone()).collect();
        devices.sort_unstable();
        devices.dedup();
        self.retry("load device states", |c| c.states.load(&*c.store, devices.clone()))?;
        let rules = self.current_rules()?;
        let (mut decoded, mut tally) = (Some(decoded), Tally::default());
        let since = self.checkpoint;
        let committed = self.commit(&devices, |states| {
            // Planned again when another node was first: then they are decoded again, which is rare.
            let decoded = decoded.take().unwrap_or_else(|| decode_all(records, window).0);
            let (mut batch, counted) = plan(states, decoded, unknown, &rules);
            (batch.checkpoint, batch.since) = (Some(end.0), Some(since));
            tally = counted;
            batch
        })?;
        let Some((took, stored)) = committed else {
            self.go_back()?;
            return Ok(None);
        };
        self.checkpoint = end.0;
        report(&tally);
        self.options.live.tell(stored.telemetry.into_iter().map(Event::Reading));
        self.trace(end, (started, took), records.len());
        self.states.passed(end);
        let last = records.iter().last().map_or(started, |record| record.received_at);
        // What waits behind it is not older.
        self.progress.set(end.0, (end < self.journal.status().durable).then_some(last));
        self.release_durable()?;
        Ok(Some(last))
    }

    /// Goes on from where the store stands, which is not where it was left. A place behind that is not this journal's: another
    /// process commits in this node's name.
    fn go_back(&mut self) -> Result<(), Error> {
        tracing::error!(
            checkpoint = self.checkpoint,
            "the database does not stand where this node left it (did a standby take over that had less, or was it \
             restored?): going on from where it stands"
        );
        self.states.forget_all();
        self.take_place(Offset(self.checkpoint))
    }

    /// Lets the journal trim what the store has **synced**: a committed checkpoint may still be lost with the power, and
    /// what is read again after that must still be there. Syncing costs, so it is done now and then.
    fn release_durable(&mut self) -> Result<(), Error> {
        if self.last_release.elapsed() < RELEASE_PERIOD {
            return Ok(());
        }
        self.last_release = Instant::now();
        match self.retry("sync its checkpoint", |c| c.store.durable_checkpoint())? {
            // Also where no message comes any more, nobody shall believe that all is stored.
            Some(synced) if synced != self.checkpoint => self.go_back()?,
            Some(synced) => self.cursor.release(Offset(synced)),
            None => {}
        }
        Ok(())
    }

    /// Ends the way of the traced messages below `end`: each has a span of its own in its own trace.
    fn trace(&self, end: Offset, (started, took): (Timestamp, Duration), records: usize) {
        let now = self.clock.now();
        for (offset, journal) in self.options.tracer.committed(end.0) {
            let context = journal.child();
            metrics::COMMIT_SECONDS.exemplify(&[], took, &context);
            self.options.tracer.record(Span {
                name: "commit".into(),
                context,
                parent: Some(journal.span_id),
                kind: SpanKind::Internal,
                start: started,
                end: now,
                attributes: vec![
                    ("journal.offset", offset.into()),
                    ("db.operation.batch.size", (records as u64).into()),
                ],
                is_error: false,
            });
        }
    }

    /// Commits what `make` plans on the states of `devices`, trying again for as long as it takes; then follows the
    /// deadlines of the devices that changed. Gives how long the transaction took, and what it stored; `None`: nothing, for
    /// the store does not stand where the batch goes on from.
    fn commit(
        &mut self,
        devices: &[DeviceId],
        make: impl FnMut(&mut States) -> store::Batch,
    ) -> Result<Option<(Duration, store::Batch)>, Error> {
        let started = Instant::now();
        let mut states = std::mem::take(&mut self.states);
        let mut planning = Planning::new(&mut states, make);
        let mut was_there = false;
        let done = self.retry("commit", |c| {
            let known = planning.known(devices);
            match c.store.commit_planned(&known, &mut planning) {
                Err(store::Error::Moved) => {
                    // Committed before, and only the answer was lost?
                    was_there = planning.checkpoint().is_some() && c.store.checkpoint()? == planning.checkpoint();
                    Ok(was_there.then(store::Committed::default))
                }
                done => done.map(Some),
            }
        });
        let batch = planning.into_batch();
        self.states = states;
        let Some(done) = done? else { return Ok(None) };
        let took = started.elapsed();
        metrics::COMMIT_SECONDS.observe(&[], took);
        metrics::MESSAGES_DUPLICATE.increment(&[], done.duplicates as u64);
        for (id, state) in &batch.states {
            watch_presence(&mut self.deadlines, id, state, self.started_at);
        }
        self.states.settle(self.options.max_cached_devices);
        if was_there {
            // They may have been made of what that commit left.
            self.states.forget_all();
        }
        // What was accepted may have changed the device's intervals in the registry.
        for device in batch.commands.iter().filter_map(|change| change.device.as_ref()) {
            self.states.forget(device);
        }
        Ok(Some((took, batch)))
    }

    /// Applies what has been asked over REST since the last turn, in one commit.
    fn answer_requests(&mut self) -> Result<(), Error> {
        let (mut asked, mut replies) = (Vec::new(), Vec::new());
        while asked.len() < requests::MAX_AT_ONCE
            && let Ok(Request { device, kind, reply }) = self.inbox.requests.try_recv()
        {
            asked.push((device, kind));
            replies.push(reply);
        }
        if asked.is_empty() {
            return Ok(());
        }
        let (now, head) = (self.clock.now(), self.journal.status().head);
        let answers = self.retry("apply requests", |c| requests::apply(&mut c.states, &*c.store, &asked, head, now))?;
        for (device, _) in &asked {
            if let Some(state) = self.states.get(device) {
                watch_presence(&mut self.deadlines, device, state, self.started_at);
            }
        }
        self.states.settle(self.options.max_cached_devices);
        for (reply, answer) in replies.into_iter().zip(answers) {
            // The asker may have gone away; the change is made all the same.
            let _ = reply.send(answer);
        }
        Ok(())
    }

    /// Tries a store call until it succeeds, with back-off; gives up only when the process has to end.
    fn retry<T>(
        &mut self,
        what: &'static str,
        mut call: impl FnMut(&mut Self) -> Result<T, store::Error>,
    ) -> Result<T, Error> {
        let mut backoff = Backoff::default();
        let began = Instant::now();
        loop {
            match call(self) {
                Ok(value) => {
                    if backoff.has_failed() {
                        if began.elapsed() > self.options.node_timeout / 2 {
                            self.presence.store_is_back();
                        }
                        if !self.journal.status().has_room() {
                            // It filled up meanwhile, and may be read before presence is looked at: nobody was listened to.
                            self.started_at = self.clock.now();
                        }
                        tracing::info!(operation = what, "the store is back");
                        self.board.set(TASK, TaskState::Running);
                    }
                    return Ok(value);
                }
                Err(error) => {
                    let pause = backoff.next_pause();
                    counted!(
                        error,
                        metrics::COMMIT_FAILURES,
                        [],
                        1,
                        operation = what,
                        error = &error as &dyn std::error::Error,
                        ?pause,
                        "the store failed; trying again"
                    );
                    self.board.set(TASK, TaskState::Retrying(format!("the store failed to {what}")));
                    if *self.stop.borrow() {
                        return Err(Error::Unfinished);
                    }
                    std::thread::sleep(pause);
                }
            }
        }
    }
}

/// The messages of a run of records, and how many records are of topics that are no meter's.
fn decode_all(records: &journal::Batch, window: Window) -> (Vec<Decoded>, u64) {
    let mut decoded = Vec::with_capacity(records.len());
    decoded.extend(records.iter().filter_map(|record| decode(&record, window)));
    let foreign = records.len() - decoded.len();
    (decoded, foreign as u64)
}

fn decode(record: &journal::Record<'_>, window: Window) -> Option<Decoded> {
    let (device, kind) = payload::parse_topic(record.topic)?;
    let device = DeviceId::parse(device)?;
    let received_at = record.received_at;
    let result = payload::decode(&device, kind, record.content_type, record.payload, received_at, window);
    if let Err(reason) = &result {
        tracing::debug!(device_id = %device, reason = reason.name(), offset = record.offset.0, "message kept as invalid");
    }
    Some(Decoded { offset: record.offset, device, kind, received_at, result })
}

fn intervals(state: &DeviceState) -> Intervals {
    state.registration.as_ref().map(|r| r.intervals).unwrap_or_default()
}

/// Sees to it that the device is looked at when its silence becomes absence.
fn watch_presence(deadlines: &mut Deadlines, id: &DeviceId, state: &DeviceState, started_at: Timestamp) {
    if let Some(deadline) = state.deadline(intervals(state), started_at) {
        deadlines.touch(id, deadline);
    }
}

/// Adds a plan's figures to the metrics.
fn report(tally: &Tally) {
    for (kind, n) in &tally.kinds {
        metrics::MESSAGES_PROCESSED.increment(&[("kind", kind)], *n);
    }
    for ((kind, reason), n) in &tally.refused {
        metrics::MESSAGES_REFUSED.increment(&[("kind", kind.name()), ("reason", reason.name())], *n);
    }
    metrics::READINGS_STORED.increment(&[], tally.readings);
    metrics::READINGS_FLAGGED.increment(&[], tally.flagged);
    metrics::READINGS_DROPPED.increment(&[], tally.dropped);
    metrics::SEQUENCE_GAPS.increment(&[], tally.gaps_opened);
    metrics::SEQUENCE_GAPS_FILLED.increment(&[], tally.gaps_filled);
    metrics::DEVICE_REBOOTS.increment(&[], tally.reboots);
    metrics::MESSAGES_AHEAD.increment(&[], tally.ahead);
    metrics::DEVICES_REGISTERED.increment(&[], tally.registered);
    for (severity, n) in Severity::ALL.into_iter().zip(tally.fired) {
        metrics::RULE_ALERTS.increment(&[("severity", severity.name())], n);
    }
}

/// When the record at an offset was received, if there is one yet.
fn received_at(journal: &Journal, at: Offset) -> Option<Timestamp> {
    let found = journal.reader(at).ok()?.next_batch(1, 1).ok()?;
    found.iter().next().map(|record| record.received_at)
}

//! One connected client, from CONNACK to the end of its session's stay.
//!
//! Invariants: a meter's publish is confirmed to the session only when the durable mark has passed it; publishes are
//! routed and confirmed in the order in which they came; while the journal has no room the socket is not read, the
//! keep-alive does not count, and messages to the client go on. All that a read brings is one append, all that an fsync
//! releases is one write.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::Instant;

use super::auth::Identity;
use super::end::End;
use super::events::Event;
use super::hub::{self, Attached};
use super::io::{Io, Wake};
use super::login::Client;
use super::persist::Snapshot;
use super::refusals::Action as Doing;
use super::routes::Awaited;
use super::slot::{Signals, Slot};
use super::traced::{self, Traced};
use super::{Shared, rules, will};
use crate::domain::CommandId;
use crate::journal::{Entry, Flags, Offset};
use crate::mqtt::packet::{Ack, Will};
use crate::mqtt::session::{Dropped, Outcome};
use crate::mqtt::{Action, Packet, Publish, QoS, Reason, Session, Ticket};
use crate::payload::Kind;

/// How long a stopping server waits for a client to take its last output.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What a connection waits for.
pub(super) enum Turn {
    Io(Wake),
    /// There are retained messages to look for.
    Seek,
    /// The durable mark has moved; `false` = it never will again.
    Durable(bool),
}

/// A publish taken from the session, not yet confirmed.
pub(super) struct Taken {
    ticket: Ticket,
    publish: Publish,
    /// What it says, where it is a meter's.
    pub(super) meter: Option<Kind>,
    pub(super) traced: Option<Box<Traced>>,
    /// It goes nowhere, and the client is told why.
    refusal: Option<Reason>,
}

/// What one read brought; may be confirmed once `end` is durable and all before it is confirmed.
pub(super) struct Batch {
    end: Offset,
    items: Vec<Taken>,
    bytes: usize,
}

/// See the module.
pub(super) struct Connection<S> {
    pub(super) shared: Arc<Shared>,
    pub(super) io: Io<S>,
    pub(super) slot: Arc<Slot>,
    /// Who the client is, with what it may do: judged at its log-in.
    pub(super) identity: Identity,
    meter_topic: rules::MeterTopic,
    pub(super) session: Box<Session>,
    pub(super) peer: SocketAddr,
    pub(super) durable: watch::Receiver<Offset>,
    pub(super) pending: VecDeque<Batch>,
    pub(super) pending_messages: usize,
    pub(super) pending_bytes: usize,
    pub(super) events: Vec<Event>,
    pub(super) is_stopping: bool,
    /// Set when a stopping connection has nothing left but output.
    pub(super) last_words_until: Option<Instant>,
    /// DISCONNECT was sent: nothing may follow `[MQTT-3.14.4-1]`.
    pub(super) is_mute: bool,
    /// Messages in flight as last told to the hub.
    pub(super) inflight: usize,
    /// Retained messages that subscriptions are still to get, as the client takes them.
    pub(super) awaited: VecDeque<Awaited>,
    /// Of an earlier session of the client: goes out before anything that this connection says.
    old_will: Option<Box<Will>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Connection<S> {
    /// A client that has just logged in: CONNACK `[MQTT-3.2.0-1]` and what its session has to send again.
    pub(super) fn new(shared: Arc<Shared>, io: Io<S>, client: Client, peer: SocketAddr) -> Self {
        let Client { mut greeting, attached, identity } = client;
        let Attached { slot, session, is_present, resend, old_will } = attached;
        let durable = shared.intake.durable();
        let is_stopping = shared.is_stopping();
        let (pending, events) = (VecDeque::new(), Vec::new());
        let (pending_messages, pending_bytes) = (0, 0);
        let mut this = Self {
            shared,
            io,
            slot,
            identity,
            meter_topic: rules::MeterTopic::default(),
            session,
            peer,
            durable,
            pending,
            pending_messages,
            pending_bytes,
            events,
            is_stopping,
            last_words_until: None,
            is_mute: false,
            inflight: 0,
            awaited: VecDeque::new(),
            old_will: old_will.map(Box::new),
        };
        greeting.session_present = is_present; // [MQTT-3.2.2-2]
        this.send(&Packet::ConnAck(greeting));
        let _ = this.perform(&mut { resend }, &mut Vec::new()); // sends and drops only: nothing that ends a connection
        let devices = this.session.subscriptions().filter_map(|(filter, _)| hub::ready(&this.identity, filter));
        this.events.extend(devices);
        this.io.is_ending = is_stopping;
        this
    }

    /// Serves the client to its end.
    pub(super) async fn run(mut self) {
        let end = match self.drive().await {
            Err(end) => end,
            Ok(never) => match never {},
        };
        // In a box: what the end needs is not kept by those who stay.
        Box::pin(self.finish(end)).await;
    }

    async fn drive(&mut self) -> Result<std::convert::Infallible, End> {
        if self.slot.is_dismissed() {
            return Err(End::Dismissed);
        }
        if let Some(will) = self.old_will.take() {
            Box::pin(will::fire(&self.shared, self.identity.clone(), *will)).await;
        }
        // The CONNECT may have brought more with it.
        self.read().await?;
        loop {
            self.settle()?;
            if self.is_stopping && self.pending.is_empty() && self.has_said_all() {
                return Err(End::Stopping);
            }
            self.report();
            let may_read = self.may_read();
            match self.wait(may_read).await {
                Turn::Io(Wake::Read) => {
                    self.read().await?;
                    if self.could_overtake() {
                        tokio::task::yield_now().await;
                    }
                }
                other => self.attend(&other, may_read)?,
            }
        }
    }

    /// A publish that waits for no disk lets those go first whose bytes came with it or before: who has subscribed on one
    /// connection and then publishes on another is to be heard.
    fn could_overtake(&self) -> bool {
        self.pending.back().is_some_and(|batch| batch.end == Offset(0))
    }

    /// Whether the last output is written, or the peer has had [`LAST_WORDS`] for it.
    fn has_said_all(&mut self) -> bool {
        if self.io.is_drained() {
            return true;
        }
        let now = Instant::now();
        let until = *self.last_words_until.get_or_insert(now + LAST_WORDS);
        self.io.arm(until);
        now >= until
    }

    fn may_read(&self) -> bool {
        let options = &self.shared.options;
        self.pending_messages < options.max_pending_messages
            && self.pending_bytes < options.max_pending_bytes
            && !self.io.is_full()
            && !self.is_stopping
    }

    /// Waits for the next thing to happen; nothing is lost when it is dropped.
    pub(super) async fn wait(&mut self, may_read: bool) -> Turn {
        if let Some(at) = self.session.silent_at() {
            self.io.arm(Instant::from_std(at));
        }
        let is_seeking = self.is_seeking();
        let Self { io, slot, durable, pending, .. } = self;
        tokio::select! {
            biased;
            changed = durable.changed(), if !pending.is_empty() => Turn::Durable(changed.is_ok()),
            wake = poll_fn(|cx| io.poll(cx, may_read, Some(&slot.signal))) => Turn::Io(wake),
            () = tokio::task::yield_now(), if is_seeking => Turn::Seek,
        }
    }

    /// Everything but reading.
    fn attend(&mut self, turn: &Turn, may_read: bool) -> Result<(), End> {
        match turn {
            Turn::Durable(true) | Turn::Seek | Turn::Io(Wake::Read | Wake::Drained) => {}
            Turn::Durable(false) => return Err(End::JournalFailed),
            Turn::Io(Wake::Closed) => return Err(End::Closed),
            Turn::Io(Wake::Timer) => {
                let now = Instant::now();
                if self.io.is_stalled(now) {
                    return Err(End::Stalled);
                }
                if !may_read {
                    self.session.hear(now.into_std()); // we are the ones who do not listen
                }
                if self.session.silent_at().is_some_and(|at| at <= now.into_std()) {
                    return Err(End::KeepAlive);
                }
            }
            Turn::Io(Wake::Signal(signals)) => {
                if signals.has(Signals::ABORT) {
                    return Err(End::CutOff);
                }
                if signals.has(Signals::DISMISSED) {
                    return Err(End::Dismissed);
                }
                if signals.has(Signals::EXPELLED) {
                    return Err(End::Expelled);
                }
                if signals.has(Signals::TAKEN_OVER) {
                    return Err(End::TakenOver);
                }
                if signals.has(Signals::SAVE) {
                    self.save();
                }
                self.is_stopping |= signals.has(Signals::STOP);
                self.io.is_ending = self.is_stopping;
            }
        }
        Ok(())
    }

    /// Confirms what has become durable, and fills the output from the outbox.
    fn settle(&mut self) -> Result<(), End> {
        if !self.pending.is_empty() {
            let mark = *self.durable.borrow_and_update();
            self.complete(mark)?;
        }
        if self.is_seeking() {
            self.seek();
        }
        let mut actions = Vec::new();
        while !self.io.is_full() && !self.is_stopping {
            let more = self.session.pull(&mut self.slot.outbox(), 64 << 10, Instant::now().into_std(), &mut actions);
            self.perform(&mut actions, &mut Vec::new())?;
            if !more {
                break;
            }
        }
        self.note_inflight(self.session.inflight());
        if self.slot.is_kept() && self.session.take_dirt() {
            self.shared.hub.changes.mark(&self.slot);
        }
        let counters = &self.shared.hub.counters;
        counters.bytes_in.fetch_add(std::mem::take(&mut self.io.bytes_in), Ordering::Relaxed);
        counters.bytes_out.fetch_add(std::mem::take(&mut self.io.bytes_out), Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn note_inflight(&mut self, now: usize) {
        self.shared.hub.note_inflight(std::mem::replace(&mut self.inflight, now), now);
    }

    /// Decodes and handles all whole packets of the input. What came before a fault is still taken.
    async fn read(&mut self) -> Result<(), End> {
        loop {
            let mut taken = Vec::new();
            let decoded = self.handle_input(&mut taken);
            if self.io.input.is_empty() {
                self.io.input = bytes::BytesMut::new();
            }
            if !taken.is_empty() {
                self.take(taken).await?;
            }
            if !decoded? || self.shared.is_stopping() {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }

    /// Works packets off; whether there may be more behind a SUBSCRIBE, which may name many filters: others get their turn
    /// before the next.
    fn handle_input(&mut self, taken: &mut Vec<Taken>) -> Result<bool, End> {
        let now = Instant::now().into_std();
        self.session.hear(now);
        let mut actions = Vec::new();
        let version = self.session.start().version;
        while let Some(packet) = version.decode(&mut self.io.input, self.shared.options.max_packet_size)? {
            let is_subscribe = matches!(packet, Packet::Subscribe { .. });
            self.session.handle(packet, now, &mut actions)?;
            self.perform(&mut actions, taken)?;
            if is_subscribe {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Carries the session's actions out; publishes go to `taken`.
    fn perform(&mut self, actions: &mut Vec<Action>, taken: &mut Vec<Taken>) -> Result<(), End> {
        for action in actions.drain(..) {
            match action {
                Action::Send(packet) => self.send(&packet),
                Action::Publish(ticket, publish) => {
                    let (refusal, meter) = self.meter_topic.judge(&self.shared.options, &self.identity, &publish.topic);
                    if refusal == Some(Reason::NotAuthorized) {
                        self.note_refused(Doing::Publish, &publish.topic);
                    }
                    if refusal.is_some_and(|reason| self.ends_by(reason)) {
                        return Err(End::NotAllowed { topic: publish.topic });
                    }
                    self.count_refused(refusal);
                    let traced = traced::begin(&self.shared.tracer, &publish, || self.shared.clock.now());
                    taken.push(Taken { ticket, publish, meter, traced, refusal });
                }
                Action::Subscribe { packet_id, filters, id } => self.subscribe(packet_id, &filters, id),
                Action::Unsubscribe(filter) => {
                    self.shared.hub.unsubscribe(&self.slot, &filter);
                    self.awaited.retain(|awaited| awaited.filter != filter);
                    self.events.extend(hub::gone(&self.identity, &filter));
                }
                Action::Delivered(tag) => {
                    self.slot.complete(tag);
                    self.events.push(Event::Delivered { cmd_id: CommandId(uuid::Uuid::from_u128(tag.0)) });
                }
                Action::Dropped(why, tag) => {
                    tag.into_iter().for_each(|tag| self.slot.complete(tag));
                    self.shared.count(|c| match why {
                        Dropped::Expired => &c.dropped_expired,
                        Dropped::TooLarge => &c.dropped_too_large,
                        Dropped::Refused => &c.dropped_refused,
                    });
                }
                Action::Disconnect => return Err(End::Goodbye),
            }
        }
        Ok(())
    }

    /// Whether a refused publish ends the connection: 3.1.1 has no words for it, so it is that or an acknowledgement all
    /// the same `[MQTT-3.3.5-2]` (3.1.1). Who speaks in the server's name without being asked who he is loses nothing.
    fn ends_by(&self, reason: Reason) -> bool {
        let is_harmless = reason == Reason::NotAuthorized && self.identity == Identity::Open;
        !self.session.start().has_flow_control && !is_harmless
    }

    fn count_refused(&self, refusal: Option<Reason>) {
        if refusal.is_some() {
            self.shared.count(|c| &c.refused_publishes);
        }
    }

    pub(super) fn note_refused(&self, what: Doing, topic: &str) {
        self.shared.refusals.note(&self.shared, &self.identity, self.peer, what, topic);
    }

    pub(super) fn send(&mut self, packet: &Packet) {
        if self.is_mute {
            return;
        }
        if matches!(packet, Packet::Publish(_)) {
            self.shared.count(|c| &c.publishes_out);
        }
        let (start, len) = (self.session.start(), self.io.output.len());
        start.version.encode(packet, &mut self.io.output);
        if self.io.output.len() - len > start.max_packet_size {
            self.io.output.truncate(len); // [MQTT-3.1.2-24]
            // What explains an answer must not cost the answer [MQTT-3.4.2-2].
            if let Some(shorter) = packet.without_reason_string() {
                self.send(&shorter);
            }
        }
    }

    /// Gives the messages of meters among `items` to the journal, waiting for room, and notes all for confirmation.
    async fn take(&mut self, mut items: Vec<Taken>) -> Result<(), End> {
        self.shared.hub.counters.publishes_in.fetch_add(items.len() as u64, Ordering::Relaxed);
        let meter_messages = self.shared.count_received(items.iter().filter_map(|t| t.meter));
        let end = if meter_messages > 0 { self.append(&items, meter_messages).await? } else { Offset(0) };
        traced::journalled(&self.shared.tracer, &mut items, end);
        let bytes = items.iter().map(|t| t.publish.size()).sum();
        self.pending_messages += items.len();
        self.pending_bytes += bytes;
        self.pending.push_back(Batch { end, items, bytes });
        Ok(())
    }

    async fn append(&mut self, items: &[Taken], meter_messages: usize) -> Result<Offset, End> {
        let slot = Arc::clone(&self.slot);
        let received_at = self.shared.clock.now();
        let mut entries = Vec::with_capacity(meter_messages);
        entries.extend(items.iter().filter(|t| t.meter.is_some()).map(|Taken { publish, .. }| Entry {
            received_at,
            topic: &publish.topic,
            identity: slot.identity.name(),
            content_type: publish.properties.as_ref().and_then(|p| p.content_type.as_deref()).unwrap_or(""),
            flags: Flags { qos: publish.qos.level(), retain: publish.retain, dup: publish.dup },
            payload: &publish.payload,
        }));
        let intake = Arc::clone(&self.shared.intake);
        let mut append = intake.append(&entries);
        loop {
            let turn = tokio::select! {
                biased;
                end = &mut append => return end.map_err(|_| End::JournalFailed),
                turn = self.wait(false) => turn,
            };
            self.attend(&turn, false)?;
            self.settle()?;
            self.report();
        }
    }

    /// Routes and confirms everything before `mark`.
    pub(super) fn complete(&mut self, mark: Offset) -> Result<(), End> {
        let mut actions = Vec::new();
        let mut found = Vec::new();
        let now = Instant::now().into_std();
        while let Some(batch) = self.pending.pop_front_if(|batch| batch.end <= mark) {
            self.pending_messages -= batch.items.len();
            self.pending_bytes -= batch.bytes;
            for Taken { ticket, publish, meter, traced, refusal } in batch.items {
                let is_meter = meter.is_some();
                let reason = refusal.unwrap_or_else(|| {
                    let is_wanted = self.shared.hub.publish(Some(self.slot.key), &publish, now, &mut found);
                    let is_lost = !is_wanted && !is_meter && publish.qos == QoS::AtLeastOnce;
                    if is_lost { Reason::NoMatchingSubscribers } else { Reason::Success }
                });
                self.session.confirm(ticket, Outcome { reason, saves_id: !is_meter }, &mut actions);
                if let Some(traced) = traced {
                    traced.finish(&self.shared.tracer, &publish, meter, reason, self.shared.clock.now());
                }
            }
            self.explain(&mut actions);
            self.perform(&mut actions, &mut Vec::new())?;
        }
        if self.pending.is_empty() {
            self.pending = VecDeque::new();
        }
        Ok(())
    }

    /// Adds the text to refusals, for clients that want it.
    fn explain(&self, actions: &mut [Action]) {
        if !self.session.start().wants_reasons {
            return;
        }
        for action in actions {
            if let Action::Send(Packet::PubAck(ack) | Packet::PubRec(ack)) = action
                && ack.reason.is_error()
            {
                *ack = Ack { reason_string: Some(rules::explain(ack.reason).into()), ..ack.clone() };
            }
        }
    }

    /// Gives what of the session is to outlive the process.
    fn save(&mut self) {
        if self.slot.is_kept() {
            let snapshot = Snapshot::of(&self.slot, &self.session, &self.slot.outbox(), None);
            self.shared.hub.changes.save(snapshot);
        }
    }

    pub(super) fn report(&mut self) {
        if !self.events.is_empty() {
            self.shared.hub.tell(&mut self.events);
        }
    }
}

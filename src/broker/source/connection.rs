//! One connection to an external broker, from CONNECT to its end.
//!
//! Invariants: a message is confirmed to the session only when the durable mark has passed it, in the order in which
//! messages came; while the journal has no room, or too much is unconfirmed, the socket is not read (the broker's window
//! bounds what it still sends), and signs of life and commands go on. All that a read brings is one append.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::dial::Stream;
use super::line::Line;
use super::read::Reader;
use super::session::{Fault, News, Session};
use super::wire::{self, Malformed, Message};
use super::{Options, dial};
use crate::broker::Shared;
use crate::broker::events::Event;
use crate::broker::io::{Io, Wake};
use crate::broker::slot::Signals;
use crate::journal::{Entry, Flags, Offset};
use crate::observe::{counted, metrics};
use crate::payload::{Kind, parse_topic};

/// How long a stopping server waits for the broker to take its last output.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Why a connection ended. The texts are safe to show to API clients.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error(transparent)]
    Dial(#[from] dial::Error),
    #[error("it does not answer")]
    NoAnswer,
    #[error("it closed the connection")]
    Closed,
    #[error("nothing is heard of it any more")]
    Silent,
    #[error("it takes no data")]
    Stalled,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error("the journal has failed")]
    JournalFailed,
    #[error("the server is stopping")]
    Stopping,
}

/// What a connection waits for.
enum Turn {
    Io(Wake),
    /// The durable mark has moved; `false` = it never will again.
    Durable(bool),
}

/// What one read brought; may be confirmed once `end` is durable and all before it is confirmed.
struct Batch {
    end: Offset,
    /// QoS and packet id.
    items: Vec<(u8, u16)>,
    bytes: usize,
}

/// Somebody who wants to know when the subscription stands.
pub(super) trait Observer {
    /// It does; what the broker granted.
    fn up(&mut self, granted: u8);
}

/// See the module.
pub(super) struct Connection<'a> {
    shared: &'a Shared,
    line: &'a Line,
    label: &'a str,
    session: &'a mut Session,
    observer: &'a mut (dyn Observer + Send),
    reader: Reader,
    io: Io<Box<dyn Stream>>,
    durable: watch::Receiver<Offset>,
    pending: VecDeque<Batch>,
    pending_messages: usize,
    pending_bytes: usize,
    events: Vec<Event>,
    is_stopping: bool,
    heard_at: Instant,
    ping_at: Instant,
    /// When the subscription must stand.
    up_by: Instant,
    /// Set when a stopping connection has nothing left but output.
    last_words_until: Option<Instant>,
}

impl<'a> Connection<'a> {
    /// On an open stream. Sends CONNECT.
    pub(super) fn new(
        (shared, line, label): (&'a Shared, &'a Line, &'a str),
        options: &Options,
        session: &'a mut Session,
        observer: &'a mut (dyn Observer + Send),
        stream: Box<dyn Stream>,
        password: Option<&str>,
    ) -> Self {
        let mut io = Io::new(stream, shared.options.write_timeout);
        let login = (!options.username.is_empty()).then(|| (options.username.as_str(), password.unwrap_or_default()));
        session.connect(login, &mut io.output);
        let now = Instant::now();
        Self {
            shared,
            line,
            label,
            session,
            observer,
            reader: Reader::new(options.version, options.max_packet_bytes),
            io,
            durable: shared.intake.durable(),
            pending: VecDeque::new(),
            pending_messages: 0,
            pending_bytes: 0,
            events: Vec::new(),
            is_stopping: shared.is_stopping(),
            heard_at: now,
            ping_at: now + options.connect_timeout,
            up_by: now + options.connect_timeout,
            last_words_until: None,
        }
    }

    /// Serves to the end. What was under way is forgotten then, and whoever was heard here is gone.
    pub(super) async fn run(mut self) -> End {
        let end = match self.drive().await {
            Err(end) => end,
            Ok(never) => match never {},
        };
        self.session.disconnected();
        self.line.clear(&mut self.events);
        self.report();
        self.gauge();
        end
    }

    async fn drive(&mut self) -> Result<std::convert::Infallible, End> {
        loop {
            self.settle()?;
            if self.is_stopping && self.pending.is_empty() && self.has_said_goodbye() {
                return Err(End::Stopping);
            }
            self.report();
            let may_read = self.may_read();
            match self.wait(may_read).await {
                Turn::Io(Wake::Read) => self.read().await?,
                other => self.attend(&other, may_read)?,
            }
        }
    }

    /// Says goodbye, and whether it is written or the broker has had [`LAST_WORDS`] for it.
    fn has_said_goodbye(&mut self) -> bool {
        let now = Instant::now();
        let until = match self.last_words_until {
            Some(until) => until,
            None => {
                wire::disconnect(&mut self.io.output);
                *self.last_words_until.insert(now + LAST_WORDS)
            }
        };
        self.io.is_ending = true;
        self.io.arm(until);
        self.io.is_drained() || now >= until
    }

    fn may_read(&self) -> bool {
        let options = &self.shared.options;
        self.pending_messages < options.max_pending_messages
            && self.pending_bytes < options.max_pending_bytes
            && !self.io.is_full()
            && !self.is_stopping
    }

    /// Waits for the next thing to happen; nothing is lost when it is dropped.
    async fn wait(&mut self, may_read: bool) -> Turn {
        self.io.arm(if self.session.is_up() { self.ping_at } else { self.up_by });
        let Self { io, line, durable, pending, .. } = self;
        tokio::select! {
            biased;
            changed = durable.changed(), if !pending.is_empty() => Turn::Durable(changed.is_ok()),
            wake = poll_fn(|cx| io.poll(cx, may_read, Some(&line.signal))) => Turn::Io(wake),
        }
    }

    /// Everything but reading.
    fn attend(&mut self, turn: &Turn, may_read: bool) -> Result<(), End> {
        match turn {
            Turn::Durable(true) | Turn::Io(Wake::Read | Wake::Drained) => {}
            Turn::Durable(false) => return Err(End::JournalFailed),
            Turn::Io(Wake::Closed) => return Err(End::Closed),
            Turn::Io(Wake::Timer) => self.look_at_the_clock(may_read)?,
            Turn::Io(Wake::Signal(signals)) => {
                if signals.has(Signals::ABORT) {
                    return Err(End::Stopping);
                }
                self.is_stopping |= signals.has(Signals::STOP);
            }
        }
        Ok(())
    }

    fn keep_alive(&self) -> Duration {
        Duration::from_secs(self.session.keep_alive().max(1).into())
    }

    fn look_at_the_clock(&mut self, may_read: bool) -> Result<(), End> {
        let now = Instant::now();
        if self.io.is_stalled(now) {
            return Err(End::Stalled);
        }
        if !self.session.is_up() {
            return if now >= self.up_by { Err(End::NoAnswer) } else { Ok(()) };
        }
        let keep_alive = self.keep_alive();
        if !may_read {
            self.heard_at = now; // we are the ones who do not listen
        }
        if now >= self.heard_at + keep_alive * 3 / 2 {
            return Err(End::Silent);
        }
        if now >= self.ping_at {
            self.session.ping(&mut self.io.output);
            self.ping_at = now + keep_alive / 2;
        }
        Ok(())
    }

    /// Confirms what has become durable, and sends the commands that wait.
    fn settle(&mut self) -> Result<(), End> {
        if !self.pending.is_empty() {
            let mark = *self.durable.borrow_and_update();
            while let Some(batch) = self.pending.pop_front_if(|batch| batch.end <= mark) {
                self.pending_messages -= batch.items.len();
                self.pending_bytes -= batch.bytes;
                for (qos, id) in batch.items {
                    self.session.confirm(qos, id, &mut self.io.output);
                }
            }
            self.gauge();
        }
        while self.session.has_room() && !self.io.is_full() && !self.is_stopping {
            let Some(parcel) = self.line.take() else { break };
            self.session.send(parcel, &mut self.io.output);
        }
        Ok(())
    }

    /// Handles all whole packets of the input. What came before a fault is still taken.
    async fn read(&mut self) -> Result<(), End> {
        self.heard_at = Instant::now();
        let mut taken = Vec::new();
        let outcome = self.handle_input(&mut taken);
        if !taken.is_empty() {
            self.take(&taken).await?;
        }
        outcome
    }

    fn handle_input(&mut self, taken: &mut Vec<Message>) -> Result<(), End> {
        let mut news = Vec::new();
        while let Some(packet) = self.reader.next(&mut self.io.input)? {
            self.session.handle(packet, &mut self.io.output, &mut news)?;
            for item in news.drain(..) {
                match item {
                    News::Up { granted } => {
                        self.ping_at = Instant::now() + self.keep_alive() / 2;
                        self.observer.up(granted);
                    }
                    News::Message(message) => taken.push(message),
                    News::Delivered(command) => {
                        self.line.complete(command);
                        self.count_command("delivered");
                        self.events.push(Event::Delivered { cmd_id: command });
                    }
                    News::Undelivered { command, device, why } => {
                        tracing::debug!(source = self.label, device_id = %device, cmd_id = %command, reason = why, "command not delivered");
                        self.line.complete(command);
                        self.count_command("not_delivered");
                        // Offered again when the device speaks again.
                        if self.line.forget(&device) {
                            self.events.push(Event::Gone { device });
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Gives the messages of meters to the journal, waiting for room, and notes all for confirmation.
    async fn take(&mut self, messages: &[Message]) -> Result<(), End> {
        // What the broker had kept of a status says how things were, which may be long ago; it is no sign of life.
        let is_old = |m: &Message| m.retain && parse_topic(&m.topic).is_some_and(|(_, kind)| kind == Kind::Status);
        let good = || messages.iter().filter(|m| !m.is_too_large && !is_old(m));
        let meters: Vec<(&Message, &str)> = good().filter_map(|m| Some((m, parse_topic(&m.topic)?.0))).collect();
        self.shared.count_received(good().filter_map(|m| Some(parse_topic(&m.topic)?.1)));
        self.count_messages(messages, meters.len());
        let end = if meters.is_empty() { Offset(0) } else { self.append(&meters).await? };
        self.line.hear(meters.iter().map(|(_, device)| *device), &mut self.events);
        let items: Vec<_> = messages.iter().map(|m| (m.qos, m.id)).collect();
        let bytes = messages.iter().map(|m| m.topic.len() + m.payload.len()).sum();
        self.pending_messages += items.len();
        self.pending_bytes += bytes;
        self.pending.push_back(Batch { end, items, bytes });
        Ok(())
    }

    async fn append(&mut self, meters: &[(&Message, &str)]) -> Result<Offset, End> {
        let received_at = self.shared.clock.now();
        let entries: Vec<_> = meters
            .iter()
            .map(|(message, device)| Entry {
                received_at,
                topic: &message.topic,
                identity: device,
                content_type: &message.content_type,
                flags: Flags { qos: message.qos, retain: message.retain, dup: message.dup },
                payload: &message.payload,
            })
            .collect();
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

    /// Tells the command side.
    fn report(&mut self) {
        if !self.events.is_empty() {
            self.shared.hub.tell(&mut self.events);
        }
    }

    fn count_messages(&self, messages: &[Message], stored: usize) {
        let too_large = messages.iter().filter(|m| m.is_too_large).count();
        let others = messages.len() - stored - too_large;
        for (outcome, n) in [("stored", stored), ("other_topic", others)] {
            metrics::SOURCE_MESSAGES.increment(&[("source", self.label), ("outcome", outcome)], n as u64);
        }
        for message in messages.iter().filter(|m| m.is_too_large) {
            counted!(
                warn,
                metrics::SOURCE_MESSAGES,
                [("source", self.label), ("outcome", "too_large")],
                1,
                source = self.label,
                topic = &*message.topic,
                "a message over mqtt.max_packet_bytes was dropped"
            );
        }
    }

    fn count_command(&self, outcome: &str) {
        metrics::SOURCE_COMMANDS.increment(&[("source", self.label), ("outcome", outcome)], 1);
    }

    fn gauge(&self) {
        let labels = [("source", self.label)];
        metrics::SOURCE_UNCONFIRMED.set(&labels, self.pending_messages as f64);
        metrics::SOURCE_DEVICES.set(&labels, self.line.devices() as f64);
    }
}

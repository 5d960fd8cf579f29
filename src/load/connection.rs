//! One connection, one device: fills the window, writes in bulk, reads acknowledgements in bulk, reconnects.
//!
//! Invariant: a message is given up only when it was acknowledged or the run is over; after a lost connection every
//! unacknowledged one is sent again, rebuilt from its number, with DUP set. The session is clean: no packet id of an
//! earlier run can make the broker take a new message for an old one. At QoS 2 a PUBREC is the acknowledgement (the
//! broker has the message then); PUBREL and PUBCOMP only free the packet id.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_rustls::client::TlsStream;

use super::acked::Acked;
use super::histogram::Histogram;
use super::options::{Error, Options, Pace, Qos};
use super::packet::{self, PublishHead, Received};
use super::report::Shared;
use super::template::{Grid, Template};
use crate::simulate;

/// Bytes gathered for one write.
const BATCH_BYTES: usize = 128 * 1024;
/// In the closed loop, free places awaited before the next batch, so that a write carries more than one message.
const LEAST_BATCH: usize = 16;
const KEEP_ALIVE_S: u16 = 60;
const PING_AFTER: Duration = Duration::from_secs(15);
const DEAD_AFTER: Duration = Duration::from_secs(45);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// How often stop, deadline and keep-alive are looked at when nothing else happens.
const HOUSEKEEPING: Duration = Duration::from_millis(20);
/// Finest pacing of the open loop.
const PACING: Duration = Duration::from_millis(1);

/// What a connection did.
pub(super) struct Outcome {
    pub index: usize,
    pub device_id: String,
    pub acked: Acked,
    /// Messages sent at least once: numbers 0…this−1.
    pub sent: u64,
    pub latency_us: Histogram,
    /// From the first packet of a connect to its CONNACK.
    pub connect_us: Histogram,
}

#[derive(Clone, Copy)]
enum Slot {
    Free,
    /// Published: message number, and since when (µs of the run).
    Published(u64, u64),
    /// Acknowledged at QoS 2, packet id not free yet.
    Released,
}

enum Ended {
    Complete,
    Lost,
}

/// How a connection is let in.
pub(super) struct WayIn {
    /// Its MQTT password.
    pub token: Option<String>,
    /// For a broker in TLS.
    pub tls: Option<Arc<ClientConfig>>,
}

/// A connection to the broker.
enum Line {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// One connection's state across reconnects.
pub(super) struct Connection {
    outcome: Outcome,
    address: (String, u16),
    user: String,
    password: Option<String>,
    tls: Option<Arc<ClientConfig>>,
    qos: Qos,
    limit: u64,
    drain: Duration,
    /// Open loop: offset of the first message and distance of messages, µs of the run.
    schedule: Option<(f64, f64)>,
    template: Template,
    head: PublishHead,
    slots: Vec<Slot>,
    free: Vec<u16>,
    again: VecDeque<(u64, u64)>,
    out: Vec<u8>,
    written: usize,
    /// What was written may still be in the stream: it is flushed beside reading, never instead.
    is_unflushed: bool,
    shared: Arc<Shared>,
    started: Instant,
    give_up_at: Option<Instant>,
}

impl Connection {
    /// Connection number `index`, not connected yet.
    pub(super) fn new(
        options: &Options,
        index: usize,
        grid: Grid,
        way_in: WayIn,
        shared: Arc<Shared>,
        started: Instant,
    ) -> Self {
        let device_id = options.device_id(index);
        let template = Template::new(&device_id, grid, index as u64);
        let topic = format!("iot/{device_id}/telemetry");
        let connections = options.connections as f64;
        let schedule = match options.pace {
            Pace::Window => None,
            Pace::Rate(rate) => Some((index as f64 * 1e6 / rate, connections * 1e6 / rate)),
        };
        let own = || options.password.as_ref().map(|password| password.reveal().to_owned());
        let password = way_in.token.or_else(|| options.broker.password.clone()).or_else(own);
        Self {
            address: (options.broker.host.clone(), options.broker.port),
            user: options.broker.user.clone().unwrap_or_else(|| device_id.clone()),
            password,
            tls: way_in.tls,
            qos: options.qos,
            limit: options.share(index).unwrap_or(u64::MAX),
            drain: options.drain,
            schedule,
            head: PublishHead::new(&topic, options.qos, template.len()),
            template,
            slots: vec![Slot::Free; usize::from(options.window)],
            free: (1..=options.window).rev().collect(),
            again: VecDeque::new(),
            out: Vec::with_capacity(BATCH_BYTES + 4096),
            written: 0,
            shared,
            started,
            give_up_at: None,
            is_unflushed: false,
            outcome: Outcome {
                index,
                device_id,
                acked: Acked::default(),
                sent: 0,
                latency_us: Histogram::default(),
                connect_us: Histogram::default(),
            },
        }
    }

    /// Sends until the limit or `stop`, then until everything is acknowledged or the drain time is over.
    pub(super) async fn run(mut self, stop: watch::Receiver<bool>) -> Result<Outcome, Error> {
        let mut pause = Duration::from_millis(10);
        loop {
            let begun = Instant::now();
            match timeout(CONNECT_TIMEOUT, self.connect()).await {
                Ok(Ok((line, 0))) => {
                    pause = Duration::from_millis(10);
                    self.note_connect(begun);
                    let ended = match line {
                        Line::Plain(mut stream) => {
                            let (reader, writer) = stream.split();
                            self.session(reader, writer, &stop).await
                        }
                        Line::Tls(stream) => {
                            let (reader, writer) = tokio::io::split(stream);
                            self.session(reader, writer, &stop).await
                        }
                    };
                    if matches!(ended, Ended::Complete) {
                        return Ok(self.outcome);
                    }
                    self.shared.lost_connections.fetch_add(1, Relaxed);
                    self.take_back();
                }
                // Bad login or not authorised: waiting does not help. Code 3 is «server unavailable».
                Ok(Ok((_, code))) if code != 3 => {
                    return Err(Error::Refused { device_id: self.outcome.device_id, code });
                }
                failed => {
                    // The first one is told: with a wrong authority or port all are alike.
                    if self.shared.connect_failures.fetch_add(1, Relaxed) == 0 {
                        let error = failed.map(|answer| answer.map(|(_, code)| code));
                        tracing::warn!(?error, "a connect failed; it is tried again");
                    }
                }
            }
            if self.is_over(&stop) {
                return Ok(self.outcome);
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Connects and returns the CONNACK's return code.
    async fn connect(&self) -> io::Result<(Line, u8)> {
        let (host, port) = (&*self.address.0, self.address.1);
        match &self.tls {
            None => {
                let mut stream = TcpStream::connect((host, port)).await?;
                stream.set_nodelay(true)?;
                let code = self.log_in(&mut stream).await?;
                Ok((Line::Plain(stream), code))
            }
            Some(config) => {
                let mut stream = Box::new(simulate::dial(Arc::clone(config), host, port).await?);
                let code = self.log_in(&mut stream).await?;
                Ok((Line::Tls(stream), code))
            }
        }
    }

    async fn log_in(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<u8> {
        let hello = packet::connect(&self.outcome.device_id, &self.user, self.password.as_deref(), KEEP_ALIVE_S);
        stream.write_all(&hello).await?;
        stream.flush().await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        match packet::parse(&answer) {
            Some((Received::ConnAck(code), _)) => Ok(code),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn note_connect(&mut self, begun: Instant) {
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        if self.outcome.connect_us.is_empty() {
            self.shared.last_first_connect_us.fetch_max(us(self.started.elapsed()), Relaxed);
        }
        self.outcome.connect_us.record(us(begun.elapsed()));
    }

    async fn session(
        &mut self,
        mut reader: impl AsyncRead + Unpin,
        mut writer: impl AsyncWrite + Unpin,
        stop: &watch::Receiver<bool>,
    ) -> Ended {
        self.is_unflushed = false;
        let mut input = vec![0; 64 * 1024];
        let (mut filled, mut last_heard, mut last_ping) = (0, Instant::now(), Instant::now());
        let mut housekeeping = interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next_due = self.fill(*stop.borrow());
            if self.is_over(stop) {
                let _ = writer.write_all(&packet::DISCONNECT).await;
                let _ = writer.shutdown().await;
                return Ended::Complete;
            }
            tokio::select! {
                biased;
                read = reader.read(&mut input[filled..]) => match read {
                    Ok(0) | Err(_) => return Ended::Lost,
                    Ok(read) => {
                        last_heard = Instant::now();
                        let used = self.receive(&input[..filled + read]);
                        let Some(used) = used else { return Ended::Lost };
                        input.copy_within(used..filled + read, 0);
                        filled = filled + read - used;
                    }
                },
                pushed = push(&mut writer, &self.out[self.written..]),
                    if self.written < self.out.len() || self.is_unflushed =>
                {
                    match pushed {
                        Err(_) => return Ended::Lost,
                        Ok(wrote) => {
                            self.is_unflushed = wrote > 0;
                            self.written += wrote;
                            self.shared.bytes.fetch_add(wrote as u64, Relaxed);
                        }
                    }
                }
                () = sleep_until(next_due.unwrap_or(self.started).into()), if next_due.is_some() => {}
                _ = housekeeping.tick() => {
                    if last_heard.elapsed() > DEAD_AFTER {
                        return Ended::Lost;
                    }
                    if last_heard.elapsed() > PING_AFTER && last_ping.elapsed() > PING_AFTER {
                        last_ping = Instant::now();
                        self.out.extend(packet::PINGREQ);
                    }
                }
            }
        }
    }

    /// Puts into the buffer what may go now; returns when the next message is due (open loop).
    fn fill(&mut self, is_stopping: bool) -> Option<Instant> {
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        }
        let enough = LEAST_BATCH.min(self.slots.len() / 4);
        let is_small = self.schedule.is_none() && self.free.len() < enough;
        let needs_id = self.qos != Qos::AtMostOnce;
        if needs_id && self.free.len() < self.slots.len() && is_small {
            return None;
        }
        let now = self.now_us();
        let mut fresh = 0;
        let mut next_due = None;
        while self.out.len() < BATCH_BYTES && !(needs_id && self.free.is_empty()) {
            let (n, since, is_again) = if let Some((n, since)) = self.again.pop_front() {
                (n, since, true)
            } else {
                let n = self.outcome.sent;
                if is_stopping || n >= self.limit || (needs_id && !self.outcome.acked.has_room_for(n)) {
                    break;
                }
                let due = self.schedule.map_or(now, |(first, distance)| (first + distance * n as f64) as u64);
                if due > now {
                    let due = self.started + Duration::from_micros(due);
                    next_due = Some(due.max(Instant::now() + PACING));
                    break;
                }
                self.outcome.sent += 1;
                fresh += 1;
                (n, due, false)
            };
            self.publish(n, since, is_again);
        }
        self.shared.sent.fetch_add(fresh, Relaxed);
        next_due
    }

    fn publish(&mut self, n: u64, since: u64, is_again: bool) {
        let packet = if self.qos == Qos::AtMostOnce { 0 } else { self.free.pop().expect("the caller saw a free one") };
        if packet > 0 {
            self.slots[usize::from(packet) - 1] = Slot::Published(n, since);
        }
        if is_again {
            self.shared.retransmitted.fetch_add(1, Relaxed);
        }
        self.head.write(packet, is_again, &mut self.out);
        self.out.extend_from_slice(self.template.message(n));
    }

    /// Takes in acknowledgements; returns the bytes used, or `None` when the broker broke the protocol.
    fn receive(&mut self, input: &[u8]) -> Option<usize> {
        let now = self.now_us();
        let (mut used, mut acked) = (0, 0);
        while let Some((received, length)) = packet::parse(&input[used..]) {
            used += length;
            match received {
                Received::PubAck(id) if self.qos == Qos::AtLeastOnce => {
                    acked += self.acknowledge(id, now)?;
                    self.release(id)?;
                }
                Received::PubRec(id) if self.qos == Qos::ExactlyOnce => {
                    acked += self.acknowledge(id, now)?;
                    *self.slot(id)? = Slot::Released;
                    self.out.extend(packet::pubrel(id));
                }
                Received::PubComp(id) if self.qos == Qos::ExactlyOnce => self.release(id)?,
                Received::PingResp => {}
                _ => return None,
            }
        }
        self.shared.acked.fetch_add(acked, Relaxed);
        Some(used)
    }

    /// Books an acknowledgement; returns how many messages are new in the books.
    fn acknowledge(&mut self, packet: u16, now: u64) -> Option<u64> {
        let Slot::Published(n, since) = *self.slot(packet)? else {
            // A second PUBREC is answered, not counted.
            return (self.qos == Qos::ExactlyOnce).then_some(0);
        };
        self.outcome.latency_us.record(now.saturating_sub(since));
        Some(u64::from(self.outcome.acked.insert(n)))
    }

    fn release(&mut self, packet: u16) -> Option<()> {
        let slot = self.slot(packet)?;
        if !matches!(slot, Slot::Free) {
            *slot = Slot::Free;
            self.free.push(packet);
        }
        Some(())
    }

    fn slot(&mut self, packet: u16) -> Option<&mut Slot> {
        self.slots.get_mut(usize::from(packet).checked_sub(1)?)
    }

    /// After a lost connection: everything unacknowledged is to be sent again, in order.
    fn take_back(&mut self) {
        let mut again: Vec<_> = std::mem::take(&mut self.again).into();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if let Slot::Published(n, since) = *slot {
                again.push((n, since));
            }
            if !matches!(slot, Slot::Free) {
                *slot = Slot::Free;
                self.free.push(index as u16 + 1);
            }
        }
        again.sort_unstable();
        self.again = again.into();
        self.out.clear();
        self.written = 0;
    }

    /// Whether nothing is left to do, or the time for it is over.
    fn is_over(&mut self, stop: &watch::Receiver<bool>) -> bool {
        // A sender that is gone is a stop, too.
        let is_stopping = *stop.borrow() || stop.has_changed().is_err();
        let sends_no_more = is_stopping || self.outcome.sent >= self.limit;
        if !sends_no_more {
            return false;
        }
        let is_quiet = self.again.is_empty() && self.free.len() == self.slots.len() && self.written == self.out.len();
        let give_up_at = *self.give_up_at.get_or_insert_with(|| Instant::now() + self.drain);
        is_quiet || Instant::now() >= give_up_at
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// Writes some bytes; where there are none, what the stream has kept of those before. May be dropped half-way.
async fn push(writer: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<usize> {
    if bytes.is_empty() {
        return writer.flush().await.map(|()| 0);
    }
    match writer.write(bytes).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        wrote => Ok(wrote),
    }
}

//! One meter's line to one broker: a bounded buffer in front of an MQTT client with a persistent session.
//!
//! Invariant: messages leave in order; a message is forgotten only when the broker acknowledged it, or when the buffer is
//! full (the oldest goes). The client library drops what was under way when the broker has forgotten the session, so
//! the unacknowledged are kept here and sent again. Its futures are not safe to cancel: a task of its own polls it, and
//! is only interrupted when the power goes.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, LastWill, MqttOptions, Outgoing as Wrote, Packet, PubRel, QoS,
    Request, StateError, Transport,
};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use super::tunnel::{Tunnel, Wrapping};
use super::wire::{self, Kind, Outgoing};
use crate::domain::Clock;

/// Messages a link keeps for a broker that is away: an hour of datagrams at the default interval.
const BUFFER: usize = 360;
/// Publishes under way at once.
const WINDOW: usize = 16;
/// Packet ids of the client; more than the window, so that one late acknowledgement does not block the rest.
const PACKET_IDS: u16 = 64;
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What happened on a link.
pub(super) enum News {
    /// Connected; whether the broker still knew the session.
    Up { session_present: bool },
    /// The connection is gone, or was refused.
    Down,
    /// The next publish handed over got this packet id (or one sent again has it still).
    Assigned(u16),
    /// The broker acknowledged.
    Acked(u16),
    /// Something came on the command topic.
    Command(Bytes),
}

/// Where and as whom to connect.
#[derive(Clone)]
pub(super) struct Login {
    pub host: String,
    pub port: u16,
    /// For a line in TLS.
    pub wrapping: Option<Wrapping>,
    pub user: String,
    pub password: Option<String>,
}

/// The meter's end of a link.
pub(super) struct Link {
    device_id: String,
    client: AsyncClient,
    queue: VecDeque<Outgoing>,
    under_way: VecDeque<(Option<u16>, Outgoing)>,
    up: bool,
    power: watch::Sender<bool>,
    task: AbortHandle,
    _tunnel: Option<Tunnel>,
}

impl Link {
    /// Starts connecting; what happens is told to `news` with this link's `id`.
    pub(super) fn open(id: u32, device_id: &str, login: Login, clock: Clock, news: mpsc::Sender<(u32, News)>) -> Self {
        let (tunnel, mut options) = match login.wrapping {
            None => (None, MqttOptions::new(device_id, login.host, login.port)),
            Some(wrapping) => {
                let tunnel = Tunnel::open(wrapping, login.host, login.port);
                let mut options = MqttOptions::new(device_id, tunnel.path().to_string_lossy(), login.port);
                options.set_transport(Transport::unix());
                (Some(tunnel), options)
            }
        };
        options.set_keep_alive(KEEP_ALIVE).set_clean_session(false).set_inflight(PACKET_IDS);
        options.set_max_packet_size(256 * 1024, 256 * 1024);
        options.set_credentials(login.user, login.password.unwrap_or_default());
        let (client, eventloop) = AsyncClient::new(options, 2 * WINDOW);
        let (power, power_seen) = watch::channel(true);
        let driver = Driver {
            id,
            device_id: device_id.into(),
            clock,
            news,
            eventloop,
            half_received: BTreeSet::new(),
            is_first: true,
            releasing: 0,
        };
        let task = tokio::spawn(driver.run(power_seen)).abort_handle();
        let (queue, under_way) = (VecDeque::new(), VecDeque::new());
        Self { device_id: device_id.into(), client, queue, under_way, up: false, power, task, _tunnel: tunnel }
    }

    /// Whether it is connected.
    pub(super) fn is_up(&self) -> bool {
        self.up
    }

    /// Whether nothing waits and nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.under_way.is_empty()
    }

    /// Fill of the buffer, 0…100 %.
    pub(super) fn usage_pct(&self) -> f64 {
        (self.queue.len() as f64 * 100.0 / BUFFER as f64).min(100.0)
    }

    /// Puts a message into the buffer; returns false when the oldest had to go for it.
    pub(super) fn push(&mut self, message: Outgoing) -> bool {
        self.queue.push_back(message);
        let fits = self.queue.len() <= BUFFER;
        if !fits {
            self.queue.pop_front();
        }
        fits
    }

    /// Hands over what the window allows; calls `sent` for each.
    pub(super) fn pump(&mut self, mut sent: impl FnMut(Kind)) {
        while self.up && self.under_way.len() < WINDOW {
            let Some(message) = self.queue.pop_front() else { return };
            if !self.try_publish(&message) {
                self.queue.push_front(message);
                return;
            }
            sent(message.kind);
            self.under_way.push_back((None, message));
        }
    }

    /// The connection stands: subscribes, announces `online` and brings back what the broker forgot.
    pub(super) fn on_up(&mut self, session_present: bool, online: Outgoing) {
        self.up = true;
        if !session_present {
            let lost = std::mem::take(&mut self.under_way);
            for (_, message) in lost.into_iter().rev() {
                self.queue.push_front(message);
            }
        }
        // The channel was empty or drained at the reconnect: there is room. If not, the next connect subscribes.
        let _ = self.client.try_subscribe(format!("iot/{}/command", self.device_id), QoS::ExactlyOnce);
        self.queue.push_front(online);
    }

    /// The connection is gone.
    pub(super) fn on_down(&mut self) {
        self.up = false;
    }

    /// The client chose a packet id for the oldest publish without one; one sent again keeps its own.
    pub(super) fn on_assigned(&mut self, packet: u16) {
        if self.under_way.iter().any(|(id, _)| *id == Some(packet)) {
            return;
        }
        if let Some(slot) = self.under_way.iter_mut().find(|(id, _)| id.is_none()) {
            slot.0 = Some(packet);
        }
    }

    /// The broker has it; returns what it was.
    pub(super) fn on_acked(&mut self, packet: u16) -> Option<Kind> {
        let index = self.under_way.iter().position(|(id, _)| *id == Some(packet))?;
        self.under_way.remove(index).map(|(_, message)| message.kind)
    }

    /// Cuts the power: the connection drops without a word (the last will fires); the buffer is in flash and stays.
    pub(super) fn power_off(&mut self) {
        self.up = false;
        let _ = self.power.send(false);
    }

    /// Power is back: connects again.
    pub(super) fn power_on(&mut self) {
        let _ = self.power.send(true);
    }

    /// Says goodbye (DISCONNECT: no last will); [`News::Down`] follows when the broker has closed.
    pub(super) fn disconnect(&mut self) -> bool {
        self.client.try_disconnect().is_ok()
    }

    fn try_publish(&self, message: &Outgoing) -> bool {
        let topic = format!("iot/{}/{}", self.device_id, message.kind.topic_end());
        let qos = if message.kind.is_exactly_once() { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
        let retain = message.kind == Kind::Status;
        self.client.try_publish(topic, qos, retain, message.payload.clone()).is_ok()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The end that polls the client.
struct Driver {
    id: u32,
    device_id: String,
    clock: Clock,
    news: mpsc::Sender<(u32, News)>,
    eventloop: EventLoop,
    /// Packet ids of commands received but not released. The client forgets them with the connection and would then
    /// call the broker's PUBREL unsolicited, for ever.
    half_received: BTreeSet<u16>,
    /// Before the first connect of this process: an earlier one may have left publishes half sent in the session.
    is_first: bool,
    /// Releases of such publishes still unanswered; a broker that does not answer them is not asked again.
    releasing: u16,
}

impl Driver {
    /// Ends when the meter is gone.
    async fn run(mut self, mut power: watch::Receiver<bool>) {
        let mut pause = FIRST_PAUSE;
        loop {
            if power.wait_for(|on| *on).await.is_err() {
                return;
            }
            // Whatever was handed over while the connection was away belongs behind the unacknowledged.
            self.eventloop.clean();
            if std::mem::take(&mut self.releasing) > 0 {
                self.eventloop.pending.retain(|request| !matches!(request, Request::PubRel(_)));
            }
            self.renew_will();
            let was_up = tokio::select! {
                was_up = self.live() => was_up,
                gone = power.changed() => {
                    if gone.is_err() {
                        return;
                    }
                    self.eventloop.clean();
                    true
                }
            };
            if self.news.send((self.id, News::Down)).await.is_err() {
                return;
            }
            pause = if was_up { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
            tokio::time::sleep(pause).await;
        }
    }

    /// Polls until the connection fails; returns whether it ever stood.
    async fn live(&mut self) -> bool {
        let mut was_up = false;
        loop {
            let news = match self.eventloop.poll().await {
                Ok(event) => self.translate(event, &mut was_up),
                Err(error) => {
                    tracing::debug!(device_id = %self.device_id, %error, "connection to the broker ended");
                    if let ConnectionError::MqttState(StateError::Unsolicited(packet)) = error {
                        self.half_received.insert(packet);
                    }
                    return was_up;
                }
            };
            if let Some(news) = news
                && self.news.send((self.id, news)).await.is_err()
            {
                return was_up;
            }
        }
    }

    fn translate(&mut self, event: Event, was_up: &mut bool) -> Option<News> {
        match event {
            Event::Incoming(Packet::ConnAck(connack)) => {
                *was_up = true;
                self.resume(connack.session_present);
                Some(News::Up { session_present: connack.session_present })
            }
            Event::Incoming(Packet::PubAck(ack)) => Some(News::Acked(ack.pkid)),
            Event::Incoming(Packet::PubComp(ack)) => {
                self.releasing = self.releasing.saturating_sub(1);
                Some(News::Acked(ack.pkid))
            }
            Event::Incoming(Packet::Publish(publish)) => {
                if publish.qos == QoS::ExactlyOnce {
                    self.half_received.insert(publish.pkid);
                }
                Some(News::Command(publish.payload))
            }
            Event::Incoming(Packet::PubRel(release)) => {
                self.half_received.remove(&release.pkid);
                None
            }
            Event::Outgoing(Wrote::Publish(packet)) => Some(News::Assigned(packet)),
            _ => None,
        }
    }

    /// Brings the client's idea of the session in line with the broker's.
    fn resume(&mut self, session_present: bool) {
        let is_first = std::mem::replace(&mut self.is_first, false);
        if !session_present {
            self.half_received.clear();
            return;
        }
        for packet in &self.half_received {
            let mut publish = rumqttc::Publish::new("", QoS::ExactlyOnce, Vec::new());
            publish.pkid = *packet;
            // Marks the id as received; the answer it would give is not wanted.
            let _ = self.eventloop.state.handle_incoming_packet(Packet::Publish(publish));
        }
        self.eventloop.state.events.clear();
        if is_first {
            // Ids half sent by an earlier process: released, so that the broker does not take new publishes for old.
            let releases = (1..=PACKET_IDS).map(|packet| Request::PubRel(PubRel::new(packet)));
            self.eventloop.pending.extend(releases);
            self.releasing = PACKET_IDS;
        }
    }

    /// The last will carries the time of the connect.
    fn renew_will(&mut self) {
        let will = wire::status(&self.device_id, self.clock.now(), false);
        let topic = format!("iot/{}/{}", self.device_id, will.kind.topic_end());
        self.eventloop.mqtt_options.set_last_will(LastWill::new(topic, will.payload, QoS::AtLeastOnce, true));
    }
}

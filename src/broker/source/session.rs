//! Our end of the MQTT session with one external broker. Sans-IO: packets in, bytes and news out.
//!
//! Invariants: a publish of the broker is acknowledged only when it is confirmed; a PUBREL is always answered, also one
//! for an id that this process has never seen; at most [`WINDOW`] commands are under way. What was under way when a
//! connection ends is forgotten (the dispatcher offers it again, and a meter ignores what it has done); its packet ids
//! are released at the broker before they are used again, or it would take a new command for the old one.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::Version;
use super::line::Parcel;
use super::wire::{self, Ack, Greeting, Hello, Message, Packet, Verdict};
use crate::domain::{CommandId, DeviceId};
use crate::payload::command_topic;

/// Commands under way at once.
const WINDOW: usize = 16;
/// Packet ids of commands; few, so that those of an earlier process can be released one by one.
const COMMAND_IDS: u16 = 64;
const SUBSCRIBE_ID: u16 = COMMAND_IDS + 1;
/// Publishes the broker may have under way to us.
const RECEIVE_MAX: u16 = 1024;

/// Something for the connection to do or to tell.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum News {
    /// Subscribed: from now on everything comes.
    Up {
        granted: u8,
    },
    Message(Message),
    /// The broker has acknowledged a command to the end.
    Delivered(CommandId),
    /// The broker did not take a command, or has nobody to give it to.
    Undelivered {
        command: CommandId,
        device: DeviceId,
        why: String,
    },
}

/// Why a session cannot go on over this connection.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("it refuses the connection: {0}")]
    Refused(String),
    #[error("it refuses the subscription: {0}")]
    Subscription(String),
    #[error("it has no shared subscriptions: set a `filter` without $share")]
    NotShared,
    #[error("it said goodbye: {0}")]
    Goodbye(String),
    #[error("it answered out of turn")]
    OutOfTurn,
}

/// As what to appear at the broker, and what for.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    pub(super) version: Version,
    pub(super) client_id: String,
    pub(super) filter: String,
    pub(super) session_expiry_s: u32,
    pub(super) keep_alive: u16,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    Subscribing,
    Up,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    Unconfirmed,
    Confirmed,
}

struct UnderWay {
    id: u16,
    command: CommandId,
    device: DeviceId,
    /// What PUBREC said; `None` before it.
    received: Option<Verdict>,
}

/// See the module.
pub(super) struct Session {
    profile: Profile,
    phase: Phase,
    /// This process has subscribed in the session that the broker keeps.
    is_subscribed: bool,
    /// QoS 2 publishes of the broker from PUBLISH to PUBREL.
    held: HashMap<u16, Held>,
    under_way: VecDeque<UnderWay>,
    /// Ids that the broker may know from before; none of them is used.
    leftover: BTreeSet<u16>,
    last_id: u16,
    window: usize,
    command_qos: u8,
    /// PINGREQs that are still unanswered.
    pings: u32,
}

impl Session {
    pub(super) fn new(profile: Profile) -> Self {
        Self {
            profile,
            phase: Phase::Connecting,
            is_subscribed: false,
            held: HashMap::new(),
            under_way: VecDeque::new(),
            leftover: (1..=COMMAND_IDS).collect(),
            last_id: 0,
            window: WINDOW,
            command_qos: 2,
            pings: 0,
        }
    }

    /// A new connection: CONNECT.
    pub(super) fn connect(&mut self, login: Option<(&str, &str)>, out: &mut Vec<u8>) {
        let Profile { version, client_id, session_expiry_s, keep_alive, .. } = &self.profile;
        let hello = Hello {
            client_id,
            login,
            keep_alive: *keep_alive,
            session_expiry_s: *session_expiry_s,
            receive_max: RECEIVE_MAX,
        };
        version.connect(&hello, out);
    }

    pub(super) fn is_up(&self) -> bool {
        self.phase == Phase::Up
    }

    /// Seconds between signs of life, as agreed.
    pub(super) fn keep_alive(&self) -> u16 {
        self.profile.keep_alive
    }

    /// Whether another command can be sent.
    pub(super) fn has_room(&self) -> bool {
        let is_free = usize::from(COMMAND_IDS) > self.leftover.len() + self.under_way.len();
        self.is_up() && self.under_way.len() < self.window && is_free
    }

    /// Sends a command. Only where there is room.
    pub(super) fn send(&mut self, parcel: Parcel, out: &mut Vec<u8>) {
        debug_assert!(self.has_room());
        let id = self.free_id();
        let Parcel { command, device, payload } = parcel;
        self.profile.version.publish(id, self.command_qos, &command_topic(&device), &payload, out);
        self.under_way.push_back(UnderWay { id, command, device, received: None });
    }

    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id % COMMAND_IDS + 1;
            let id = self.last_id;
            if !self.leftover.contains(&id) && !self.under_way.iter().any(|u| u.id == id) {
                return id;
            }
        }
    }

    /// A message is safe: PUBACK or PUBREC `[MQTT 5, 4.3]`.
    pub(super) fn confirm(&mut self, qos: u8, id: u16, out: &mut Vec<u8>) {
        match qos {
            0 => {}
            1 => wire::ack(Ack::Acknowledged, id, out),
            _ => {
                if let Some(held) = self.held.get_mut(&id) {
                    *held = Held::Confirmed;
                }
                wire::ack(Ack::Received, id, out);
            }
        }
    }

    /// A sign of life.
    pub(super) fn ping(&mut self, out: &mut Vec<u8>) {
        self.pings += 1;
        wire::ping(out);
    }

    /// The connection has ended. Commands that were under way are forgotten.
    pub(super) fn disconnected(&mut self) {
        if self.is_up() {
            // A broker that has not answered by now, or has ended the connection over it, is not asked again.
            self.leftover.clear();
        }
        self.leftover.extend(self.under_way.drain(..).map(|u| u.id));
        self.held.clear();
        self.phase = Phase::Connecting;
        self.pings = 0;
    }

    /// Handles a packet of the broker.
    pub(super) fn handle(&mut self, packet: Packet, out: &mut Vec<u8>, news: &mut Vec<News>) -> Result<(), Fault> {
        match (self.phase, packet) {
            (_, Packet::Refused(why)) => return Err(Fault::Refused(why)),
            (_, Packet::Disconnect(why)) => return Err(Fault::Goodbye(why)),
            (Phase::Connecting, Packet::ConnAck(greeting)) => self.greeted(&greeting, out, news)?,
            (Phase::Connecting, _) | (_, Packet::ConnAck(_)) => return Err(Fault::OutOfTurn),
            (Phase::Subscribing, Packet::SubAck(Ok(granted))) => {
                self.is_subscribed = true;
                self.command_qos = self.command_qos.min(granted.max(1));
                self.up(granted, out, news);
            }
            (_, Packet::SubAck(Err(why))) => return Err(Fault::Subscription(why)),
            (_, Packet::SubAck(Ok(_))) => {}
            (_, Packet::Publish(message)) => self.publish(message, out, news),
            (_, Packet::PubRel(id)) => {
                self.held.remove(&id);
                wire::ack(Ack::Complete, id, out);
            }
            (_, Packet::PubAck(id, verdict)) => self.acknowledged(id, verdict, news),
            (_, Packet::PubRec(id, verdict)) => self.received(id, verdict, out, news),
            (_, Packet::PubComp(id)) => {
                let is_leftover = self.leftover.remove(&id);
                let received = self.under_way.iter().find(|u| u.id == id).and_then(|u| u.received.clone());
                if let Some(verdict) = received.filter(|_| !is_leftover) {
                    self.acknowledged(id, verdict, news);
                }
            }
            (_, Packet::PingResp) => self.ponged(),
        }
        Ok(())
    }

    fn greeted(&mut self, greeting: &Greeting, out: &mut Vec<u8>, news: &mut Vec<News>) -> Result<(), Fault> {
        if self.profile.filter.starts_with("$share/") && !greeting.has_shared {
            return Err(Fault::NotShared);
        }
        if let Some(keep_alive) = greeting.keep_alive.filter(|seconds| *seconds > 0) {
            self.profile.keep_alive = keep_alive;
        }
        self.window = WINDOW.min(usize::from(greeting.receive_max)).max(1);
        self.command_qos = greeting.max_qos.min(2);
        if !greeting.session_present {
            self.is_subscribed = false;
            self.leftover.clear();
        }
        if self.is_subscribed {
            self.up(2, out, news);
        } else {
            self.profile.version.subscribe(SUBSCRIBE_ID, &self.profile.filter, out);
            self.phase = Phase::Subscribing;
        }
        Ok(())
    }

    /// Subscribed. Releases what an earlier connection left behind; the answer to the PINGREQ comes behind those to it.
    fn up(&mut self, granted: u8, out: &mut Vec<u8>, news: &mut Vec<News>) {
        self.phase = Phase::Up;
        if !self.leftover.is_empty() {
            for id in &self.leftover {
                wire::ack(Ack::Released, *id, out);
            }
            self.ping(out);
        }
        news.push(News::Up { granted });
    }

    fn ponged(&mut self) {
        self.pings = self.pings.saturating_sub(1);
        if self.pings == 0 {
            self.leftover.clear(); // what was not answered never will be
        }
    }

    fn publish(&mut self, message: Message, out: &mut Vec<u8>, news: &mut Vec<News>) {
        if message.qos == 2 {
            match self.held.insert(message.id, Held::Unconfirmed) {
                None => {}
                Some(Held::Unconfirmed) => return,
                Some(Held::Confirmed) => {
                    self.held.insert(message.id, Held::Confirmed);
                    wire::ack(Ack::Received, message.id, out);
                    return;
                }
            }
        }
        news.push(News::Message(message));
    }

    /// PUBREC: released, unless the broker did not take it `[MQTT 5, 4.3.3]`.
    fn received(&mut self, id: u16, verdict: Verdict, out: &mut Vec<u8>, news: &mut Vec<News>) {
        if matches!(verdict, Verdict::Refused(_)) {
            self.acknowledged(id, verdict, news);
            return;
        }
        if let Some(under_way) = self.under_way.iter_mut().find(|u| u.id == id) {
            under_way.received = Some(verdict);
        }
        wire::ack(Ack::Released, id, out);
    }

    /// A command is through, this way or that.
    fn acknowledged(&mut self, id: u16, verdict: Verdict, news: &mut Vec<News>) {
        let Some(at) = self.under_way.iter().position(|u| u.id == id) else { return };
        let Some(UnderWay { command, device, .. }) = self.under_way.remove(at) else { return };
        news.push(match verdict {
            Verdict::Taken => News::Delivered(command),
            Verdict::NobodyThere => News::Undelivered { command, device, why: "nobody is subscribed to it".to_owned() },
            Verdict::Refused(why) => News::Undelivered { command, device, why },
        });
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;

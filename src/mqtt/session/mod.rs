//! One client's session: what outlives its connections (section 4.1), and the rules of both QoS directions.
//!
//! A sans-IO state machine. [`Session::handle`] takes a packet in and pushes [`Action`]s for the caller to perform:
//! bytes to send, a publish to take over, subscriptions to decide. A publish carries a [`Ticket`]; its PUBACK or PUBREC
//! appears after [`Session::confirm`], in the order of the publishes. [`Session::pull`] moves waiting messages into the
//! in-flight window. Time is an argument. Must not know: sockets, who may do what, where messages go.

mod inbound;
mod outbound;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytestring::ByteString;

use super::packet::{Packet, PacketId, Publish, QoS, Will};
use super::queue::{Delivery, Queue, Tag};
use inbound::Inbound;
use outbound::Outbound;

/// Names a publish that was handed out and waits for its confirmation; grows within a session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ticket(u64);

/// What the caller is to do, in this order.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub enum Action {
    /// Write this packet to the client.
    Send(Packet),
    /// Take the message over (store it, route it), then [`Session::confirm`]. Every QoS has a ticket.
    Publish(Ticket, Publish),
    /// Decide each filter, tell the session by [`Session::subscribe`], and answer with SUBACK.
    Subscribe { packet_id: PacketId, filters: Vec<(ByteString, QoS)> },
    /// The session has forgotten this filter; the router must, too.
    Unsubscribe(ByteString),
    /// A tagged delivery is complete: PUBCOMP, PUBACK, or written at QoS 0.
    Delivered(Tag),
    /// The client said goodbye: close without a will.
    Disconnect,
}

/// A packet that must not come now; close the connection `[MQTT-4.8.0-1]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Violation {
    /// `[MQTT-3.1.0-2]`
    #[error("a second CONNECT")]
    SecondConnect,
    #[error("a packet that only servers send")]
    NotFromClient,
    #[error("{packet} for packet id {id}, whose delivery is at another step")]
    WrongStep { packet: &'static str, id: PacketId },
}

/// Bounds of one session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// QoS 1 and 2 messages sent and not yet complete, 1…65535.
    pub max_inflight: usize,
    /// Filters subscribed at a time.
    pub max_subscriptions: usize,
    /// Retained messages waiting because of a SUBSCRIBE; they share memory with the retained store.
    pub max_backlog: usize,
}

/// What a CONNECT says about the session.
#[derive(Clone, PartialEq, Debug)]
pub struct Start {
    /// The session ends with the connection.
    pub clean: bool,
    /// The client promises a packet within this; `None` = it promises nothing.
    pub keep_alive: Option<Duration>,
    /// Published when the connection ends without goodbye.
    pub will: Option<Will>,
    /// How long the session is kept without a connection.
    pub expiry: Duration,
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    inbound: Inbound,
    outbound: Outbound,
    subscriptions: BTreeMap<ByteString, QoS>,
    max_subscriptions: usize,
    start: Start,
    /// Last sign of life; while offline, the end of the connection.
    heard: Instant,
}

impl Session {
    /// A new session with its first connection.
    pub fn new(limits: Limits, start: Start, now: Instant) -> Self {
        Self {
            inbound: Inbound::default(),
            outbound: Outbound::new(limits.max_inflight, limits.max_backlog),
            subscriptions: BTreeMap::new(),
            max_subscriptions: limits.max_subscriptions,
            start,
            heard: now,
        }
    }

    /// The client is back: sends again, after CONNACK, what was not complete, in the original order `[MQTT-4.4.0-1]`,
    /// `[MQTT-4.6.0-1]`.
    pub fn resume(&mut self, start: Start, now: Instant, out: &mut Vec<Action>) {
        self.start = start;
        self.heard = now;
        self.outbound.resend(out);
    }

    /// Takes a packet in.
    pub fn handle(&mut self, packet: Packet, now: Instant, out: &mut Vec<Action>) -> Result<(), Violation> {
        self.heard = now;
        match packet {
            Packet::Publish(publish) => self.inbound.publish(publish, out),
            Packet::PubRel(id) => self.inbound.release(id, out)?,
            Packet::PubAck(id) => self.outbound.acknowledged(id, out)?,
            Packet::PubRec(id) => self.outbound.received(id, out)?,
            Packet::PubComp(id) => self.outbound.completed(id, out)?,
            Packet::Subscribe { packet_id, filters } => out.push(Action::Subscribe { packet_id, filters }),
            Packet::Unsubscribe { packet_id, filters } => {
                let known = filters.into_iter().filter(|f| self.subscriptions.remove(f).is_some());
                out.extend(known.map(Action::Unsubscribe));
                out.push(Action::Send(Packet::UnsubAck(packet_id))); // also for unknown ones [MQTT-3.10.4-5]
            }
            Packet::PingReq => out.push(Action::Send(Packet::PingResp)), // [MQTT-3.12.4-1]
            Packet::Disconnect => {
                self.start.will = None; // [MQTT-3.14.4-3]
                out.push(Action::Disconnect);
            }
            Packet::Connect(_) => return Err(Violation::SecondConnect),
            Packet::ConnAck { .. } | Packet::SubAck { .. } | Packet::UnsubAck(_) | Packet::PingResp => {
                return Err(Violation::NotFromClient);
            }
        }
        Ok(())
    }

    /// The publish of this ticket is safe: acknowledges it, and those behind it that only waited for their turn
    /// `[MQTT-4.6.0-2]`, `[MQTT-4.6.0-3]`.
    pub fn confirm(&mut self, ticket: Ticket, out: &mut Vec<Action>) {
        self.inbound.confirm(ticket, out);
    }

    /// Publishes that were not confirmed will not be: forget them, so that the client's retransmission counts as new.
    pub fn abandon_unconfirmed(&mut self) {
        self.inbound.abandon_unconfirmed();
    }

    /// Records a subscription that was granted; `false` = there is no room for another.
    pub fn subscribe(&mut self, filter: &ByteString, qos: QoS) -> bool {
        if let Some(granted) = self.subscriptions.get_mut(filter) {
            *granted = qos;
            return true;
        }
        if self.subscriptions.len() >= self.max_subscriptions {
            return false;
        }
        // A copy: the slice would keep the receive buffer alive.
        self.subscriptions.insert(ByteString::from(&**filter), qos);
        true
    }

    /// What the client is subscribed to.
    pub fn subscriptions(&self) -> impl Iterator<Item = (&str, QoS)> {
        self.subscriptions.iter().map(|(filter, qos)| (&**filter, *qos))
    }

    /// A retained message for a new subscription, delivered before what waits in the queue. `false` = no room.
    pub fn add_retained(&mut self, delivery: Delivery) -> bool {
        self.outbound.add_retained(delivery)
    }

    /// Sends waiting messages while the in-flight window has room, up to about `budget` bytes. `true` = the budget
    /// ended it and there may be more.
    pub fn pull(&mut self, queue: &mut Queue, budget: usize, out: &mut Vec<Action>) -> bool {
        self.outbound.pull(queue, budget, out)
    }

    /// Whether another QoS 1 or 2 message may be sent now.
    pub fn has_room(&self) -> bool {
        self.outbound.has_room()
    }

    /// Whether the session ends with its connection.
    pub const fn is_clean(&self) -> bool {
        self.start.clean
    }

    /// Bytes have come: the client is alive.
    pub const fn hear(&mut self, now: Instant) {
        self.heard = now;
    }

    /// When the client has been silent for one and a half times its keep-alive `[MQTT-3.1.2-24]`; `None` = never.
    pub fn silent_at(&self) -> Option<Instant> {
        self.start.keep_alive.map(|t| self.heard + t * 3 / 2)
    }

    /// The will, if the connection ended without goodbye `[MQTT-3.1.2-8]`; once.
    pub const fn take_will(&mut self) -> Option<Will> {
        self.start.will.take()
    }

    /// The connection has ended.
    pub fn park(&mut self, now: Instant) {
        self.heard = now;
        self.outbound.shrink();
    }

    /// When a parked session is forgotten.
    pub fn expires_at(&self) -> Instant {
        self.heard + self.start.expiry
    }
}

#[cfg(test)]
mod tests;

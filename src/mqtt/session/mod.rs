//! One client's session: what outlives its connections (section 4.1), and the rules of both QoS directions.
//!
//! A sans-IO state machine. [`Session::handle`] takes a packet in and pushes [`Action`]s for the caller to perform:
//! bytes to send, a publish to take over, subscriptions to decide. A publish carries a [`Ticket`]; its PUBACK or PUBREC
//! appears after [`Session::confirm`], in the order of the publishes. [`Session::pull`] moves waiting messages into the
//! in-flight window. Time is an argument. Must not know: sockets, who may do what, where messages go.

mod alias;
mod inbound;
mod outbound;
mod saved;
mod start;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytestring::ByteString;

use super::packet::{
    Disconnect, Filter, Packet, PacketId, Publish, RetainHandling, SubscribeOptions, SubscriptionId, Will,
};
use super::queue::{Delivery, Queue, ShareId, Tag};
use super::reason::Reason;
use inbound::Inbound;
use outbound::Outbound;

pub use inbound::Outcome;
pub use saved::{Saved, SavedFlight};
pub use start::{Limits, Start};

/// Names a publish that was handed out and waits for its confirmation; grows within a session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ticket(u64);

/// What the caller is to do, in this order.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub enum Action {
    /// Write this packet to the client.
    Send(Packet),
    /// Take the message over (store it, route it), then [`Session::confirm`]. Every QoS has a ticket; the topic is there.
    Publish(Ticket, Publish),
    /// Decide each filter, tell the session by [`Session::subscribe`], and answer with SUBACK.
    Subscribe { packet_id: PacketId, filters: Vec<Filter>, id: Option<SubscriptionId> },
    /// The session has forgotten this filter; the router must, too.
    Unsubscribe(ByteString),
    /// A tagged delivery is complete: PUBCOMP, PUBACK, or written at QoS 0.
    Delivered(Tag),
    /// A delivery was given up: expired, larger than the client takes, or refused by it.
    Dropped(Dropped, Option<Tag>),
    /// The client said goodbye: close. Whether there is a will is [`Session::take_will`]'s to say.
    Disconnect,
}

/// Why a delivery was given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dropped {
    /// It was not worth delivering any more `[MQTT-3.3.2-5]`.
    Expired,
    /// The client takes no packets of this size `[MQTT-3.1.2-24]`.
    TooLarge,
    /// The client answered with a refusal.
    Refused,
}

/// A packet that must not come now, or not like this; close the connection `[MQTT-4.13.1-1]`.
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
    /// `[MQTT-3.3.4-9]`
    #[error("more publishes at a time than the receive maximum")]
    ReceiveMaximum,
    /// `[MQTT-3.3.2-8]`, `[MQTT-3.3.2-9]`
    #[error("a topic alias above the maximum")]
    AliasTooLarge,
    #[error("a topic alias that stands for nothing")]
    AliasUnknown,
    /// Section 3.14.2.2.2.
    #[error("a session expiry at the end of a session that had none")]
    ExpiryFromZero,
    #[error("AUTH without enhanced authentication")]
    Auth,
}

impl Violation {
    /// What the client is told.
    pub const fn reason(self) -> Reason {
        match self {
            Self::ReceiveMaximum => Reason::ReceiveMaximumExceeded,
            Self::AliasTooLarge => Reason::TopicAliasInvalid,
            Self::SecondConnect
            | Self::NotFromClient
            | Self::WrongStep { .. }
            | Self::AliasUnknown
            | Self::ExpiryFromZero
            | Self::Auth => Reason::ProtocolError,
        }
    }
}

/// What a session is subscribed to, under one filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Subscription {
    pub options: SubscribeOptions,
    pub id: Option<SubscriptionId>,
}

/// What became of a subscription.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Subscribed {
    New,
    Replaced,
    /// There is no room for another.
    Full,
}

/// What is sent again at once with CONNACK; the rest is pulled.
const RESEND_BYTES: usize = 64 << 10;

/// See the module.
#[derive(Debug)]
pub struct Session {
    inbound: Inbound,
    outbound: Outbound,
    subscriptions: BTreeMap<ByteString, Subscription>,
    limits: Limits,
    start: Start,
    /// Last sign of life; while offline, the end of the connection.
    heard: Instant,
    /// While offline: when the will is due (MQTT 5 section 3.1.3.2.2).
    will_due: Option<Instant>,
    /// Something that outlives the connection has changed since [`Session::take_dirt`].
    is_dirty: bool,
}

impl Session {
    /// A new session with its first connection.
    pub fn new(limits: Limits, start: Start, now: Instant) -> Self {
        let mut this = Self {
            inbound: Inbound::default(),
            outbound: Outbound::new(limits.max_backlog),
            subscriptions: BTreeMap::new(),
            limits,
            start: Start::default(),
            heard: now,
            will_due: None,
            is_dirty: true,
        };
        this.begin(start, now);
        this
    }

    fn begin(&mut self, start: Start, now: Instant) {
        let inbound_max = if start.has_flow_control { self.limits.receive_maximum } else { usize::from(u16::MAX) };
        let aliases = if start.has_flow_control { self.limits.topic_aliases } else { 0 };
        self.inbound.begin(inbound_max, aliases);
        self.outbound.begin(&start, &self.limits);
        self.start = start;
        self.heard = now;
        self.will_due = None;
        self.is_dirty = true;
    }

    /// The client is back: sends again, after CONNACK, what was not complete, in the original order `[MQTT-4.4.0-1]`,
    /// `[MQTT-4.6.0-1]`. A will that was waiting is forgotten `[MQTT-3.1.3-9]`.
    pub fn resume(&mut self, start: Start, now: Instant, out: &mut Vec<Action>) {
        self.begin(start, now);
        self.outbound.resend(RESEND_BYTES, now, out);
    }

    /// Takes a packet in.
    pub fn handle(&mut self, packet: Packet, now: Instant, out: &mut Vec<Action>) -> Result<(), Violation> {
        self.heard = now;
        match packet {
            Packet::Publish(publish) => return self.inbound.publish(publish, out),
            Packet::PubRel(ack) => self.inbound.release(ack.packet_id, out)?,
            Packet::PubAck(ack) => self.outbound.acknowledged(&ack, out)?,
            Packet::PubRec(ack) => self.outbound.received(&ack, out)?,
            Packet::PubComp(ack) => self.outbound.completed(&ack, out)?,
            Packet::Subscribe { packet_id, filters, id } => out.push(Action::Subscribe { packet_id, filters, id }),
            Packet::Unsubscribe { packet_id, filters } => self.unsubscribe(packet_id, filters, out),
            Packet::PingReq => out.push(Action::Send(Packet::PingResp)), // [MQTT-3.12.4-1]
            Packet::Disconnect(disconnect) => {
                self.disconnect(&disconnect)?;
                out.push(Action::Disconnect);
            }
            Packet::Connect(_) => return Err(Violation::SecondConnect),
            Packet::Auth(_) => return Err(Violation::Auth),
            Packet::ConnAck(_) | Packet::SubAck { .. } | Packet::UnsubAck { .. } | Packet::PingResp => {
                return Err(Violation::NotFromClient);
            }
        }
        self.is_dirty |= self.outbound.take_dirt() | self.inbound.take_dirt();
        Ok(())
    }

    fn unsubscribe(&mut self, packet_id: PacketId, filters: Vec<ByteString>, out: &mut Vec<Action>) {
        let mut reasons = Vec::with_capacity(filters.len());
        for filter in filters {
            if self.subscriptions.remove(&filter).is_some() {
                self.is_dirty = true;
                out.push(Action::Unsubscribe(filter));
                reasons.push(Reason::Success);
            } else {
                reasons.push(Reason::NoSubscriptionExisted);
            }
        }
        out.push(Action::Send(Packet::UnsubAck { packet_id, reasons })); // also for unknown ones [MQTT-3.10.4-5]
    }

    fn disconnect(&mut self, disconnect: &Disconnect) -> Result<(), Violation> {
        if disconnect.reason == Reason::Success {
            self.start.will = None; // [MQTT-3.14.4-3]
        }
        if let Some(asked_s) = disconnect.session_expiry_s {
            if self.start.expiry.is_zero() && asked_s > 0 {
                return Err(Violation::ExpiryFromZero);
            }
            self.start.expiry = self.limits.expiry(asked_s);
            self.is_dirty = true;
        }
        Ok(())
    }

    /// The publish of this ticket is safe, or refused: acknowledges it, and those behind it that only waited
    /// for their turn `[MQTT-4.6.0-2]`, `[MQTT-4.6.0-3]`.
    pub fn confirm(&mut self, ticket: Ticket, outcome: Outcome, out: &mut Vec<Action>) {
        self.inbound.confirm(ticket, outcome, out);
        self.is_dirty |= self.inbound.take_dirt();
    }

    /// Publishes that were not confirmed will not be: forget them, so that the client's retransmission counts as new.
    pub fn abandon_unconfirmed(&mut self) {
        self.inbound.abandon_unconfirmed();
    }

    /// Records a subscription that was granted.
    pub fn subscribe(&mut self, filter: &ByteString, subscription: Subscription) -> Subscribed {
        self.is_dirty = true;
        if let Some(granted) = self.subscriptions.get_mut(filter) {
            *granted = subscription;
            return Subscribed::Replaced;
        }
        if self.subscriptions.len() >= self.limits.max_subscriptions {
            return Subscribed::Full;
        }
        // A copy: the slice would keep the receive buffer alive.
        self.subscriptions.insert(ByteString::from(&**filter), subscription);
        Subscribed::New
    }

    /// What the client is subscribed to.
    pub fn subscriptions(&self) -> impl Iterator<Item = (&str, Subscription)> {
        self.subscriptions.iter().map(|(filter, subscription)| (&**filter, *subscription))
    }

    /// A retained message for a new subscription, with its position: what was queued before is sent before, what is queued
    /// later is sent later. `false` = no room.
    pub fn add_retained(&mut self, delivery: Delivery) -> bool {
        self.is_dirty = true;
        self.outbound.add_retained(delivery)
    }

    /// Sends waiting messages while the in-flight window has room, up to about `budget` bytes. `true` = the budget
    /// ended it and there may be more.
    pub fn pull(&mut self, queue: &mut Queue, budget: usize, now: Instant, out: &mut Vec<Action>) -> bool {
        let is_more = self.outbound.pull(queue, budget, now, out);
        self.is_dirty |= self.outbound.take_dirt();
        is_more
    }

    /// Whether another QoS 1 or 2 message may be sent now.
    pub fn has_room(&self) -> bool {
        self.outbound.has_room()
    }

    /// Takes out what was sent at QoS 1 for a shared subscription and not acknowledged, and what waits for one: another
    /// member may have it (section 4.8.2). What was sent at QoS 2 stays `[MQTT-4.8.2-5]`.
    pub fn take_shared(&mut self, is_meant: impl Fn(ShareId) -> bool) -> Vec<Delivery> {
        let taken = self.outbound.take_shared(is_meant);
        self.is_dirty |= !taken.is_empty();
        taken
    }

    /// Messages sent at QoS 1 or 2 and not yet complete.
    pub fn inflight(&self) -> usize {
        self.outbound.inflight()
    }

    /// The tags of deliveries in flight.
    pub fn tags(&self) -> impl Iterator<Item = Tag> {
        self.outbound.tags()
    }

    /// Whether the session ends with its connection.
    pub const fn ends_with_connection(&self) -> bool {
        self.start.expiry.is_zero()
    }

    /// What the client asked for and was granted.
    pub const fn start(&self) -> &Start {
        &self.start
    }

    /// Bytes have come: the client is alive.
    pub const fn hear(&mut self, now: Instant) {
        self.heard = now;
    }

    /// When the client has been silent for one and a half times its keep-alive `[MQTT-3.1.2-22]`; `None` = never.
    pub fn silent_at(&self) -> Option<Instant> {
        self.start.keep_alive.map(|t| self.heard + t * 3 / 2)
    }

    /// The will, if it is to be published now; once. The connection has ended without goodbye `[MQTT-3.1.2-8]`, or the
    /// session ends.
    pub const fn take_will(&mut self) -> Option<Will> {
        self.start.will.take()
    }

    /// The connection has ended. Gives when the will is due, where it is to wait for the client to come back: not longer
    /// than the session is kept (MQTT 5 section 3.1.3.2.2).
    pub fn park(&mut self, now: Instant) -> Option<Instant> {
        self.heard = now;
        self.inbound.end();
        self.outbound.end();
        let delay = self.start.will.as_ref().map(|w| Duration::from_secs(w.delay_s.into()).min(self.start.expiry));
        self.will_due = delay.map(|delay| now + delay);
        self.is_dirty = true;
        self.will_due
    }

    /// When the will of a parked session is due.
    pub const fn will_due(&self) -> Option<Instant> {
        self.will_due
    }

    /// When the connection of a parked session ended.
    pub const fn offline_since(&self) -> Instant {
        self.heard
    }

    /// When a parked session is forgotten.
    pub fn expires_at(&self) -> Instant {
        self.heard + self.start.expiry
    }

    /// Whether something that outlives the connection has changed since the last call.
    pub const fn take_dirt(&mut self) -> bool {
        std::mem::replace(&mut self.is_dirty, false)
    }
}

/// Whether a subscription that was just made brings retained messages (section 3.8.3.1).
pub fn brings_retained(handling: RetainHandling, subscribed: Subscribed) -> bool {
    match handling {
        RetainHandling::Always => subscribed != Subscribed::Full,
        RetainHandling::IfNew => subscribed == Subscribed::New,
        RetainHandling::Never => false,
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod v5_tests;

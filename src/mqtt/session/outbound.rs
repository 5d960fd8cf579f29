//! Messages to the client: a bounded window in flight, sent again on the next connection until complete.
//!
//! Invariants: at most `quota` packet ids are in use on a connection, each once `[MQTT-2.2.1-3]`; the window stands in
//! the order of sending; a message is dropped from memory at PUBREC, its id at PUBACK or PUBCOMP. After a reconnection
//! to a client that takes fewer at a time, the rest of the window waits for its turn.

use std::collections::VecDeque;
use std::time::Instant;

use super::alias::Outgoing;
use super::{Action, Dropped, Limits, SavedFlight, Start, Violation};
use crate::mqtt::codec::Version;
use crate::mqtt::packet::{Ack, Packet, PacketId, Publish, QoS};
use crate::mqtt::queue::{Delivery, Queue, ShareId, Tag};
use crate::mqtt::reason::Reason;

#[derive(Debug)]
pub(super) struct Outbound {
    window: VecDeque<InFlight>,
    /// How many at the end of `window` are still to be sent again on this connection.
    unsent: usize,
    backlog: VecDeque<Delivery>,
    last_id: u16,
    quota: usize,
    max_backlog: usize,
    max_packet_size: usize,
    version: Version,
    aliases: Outgoing,
    is_dirty: bool,
}

#[derive(Debug)]
struct InFlight {
    id: PacketId,
    step: Step,
    tag: Option<Tag>,
}

#[derive(Debug)]
enum Step {
    /// PUBLISH sent; waits for PUBACK (QoS 1) or PUBREC (QoS 2).
    Sent(Delivery),
    /// PUBREL sent; waits for PUBCOMP.
    Released,
}

impl Outbound {
    pub(super) fn new(max_backlog: usize) -> Self {
        Self {
            window: VecDeque::new(),
            unsent: 0,
            backlog: VecDeque::new(),
            last_id: 0,
            quota: 1,
            max_backlog,
            max_packet_size: usize::MAX,
            version: Version::V311,
            aliases: Outgoing::default(),
            is_dirty: false,
        }
    }

    /// A connection begins.
    pub(super) fn begin(&mut self, start: &Start, limits: &Limits) {
        self.quota = start.receive_maximum.min(limits.max_inflight).clamp(1, usize::from(u16::MAX));
        self.max_packet_size = start.max_packet_size;
        self.version = start.version;
        self.aliases = Outgoing::new(start.topic_alias_maximum.min(limits.topic_aliases));
        self.unsent = self.window.len();
    }

    /// A connection has ended.
    pub(super) fn end(&mut self) {
        self.aliases = Outgoing::default();
        self.window.shrink_to_fit();
        self.backlog.shrink_to_fit();
    }

    pub(super) fn has_room(&self) -> bool {
        self.window.len() < self.quota
    }

    pub(super) const fn take_dirt(&mut self) -> bool {
        std::mem::replace(&mut self.is_dirty, false)
    }

    pub(super) fn add_retained(&mut self, delivery: Delivery) -> bool {
        if self.backlog.len() >= self.max_backlog {
            return false;
        }
        self.backlog.push_back(delivery);
        true
    }

    pub(super) fn pull(&mut self, queue: &mut Queue, budget: usize, now: Instant, out: &mut Vec<Action>) -> bool {
        let mut sent = self.resend(budget, now, out);
        while self.unsent == 0 && self.has_room() {
            if sent >= budget {
                return true;
            }
            let is_first = |d: &Delivery| queue.next_position().is_none_or(|next| d.position < next);
            let next = match self.backlog.front().is_some_and(is_first) {
                true => self.backlog.pop_front(),
                false => queue.pop(),
            };
            let Some(delivery) = next else { break };
            sent += delivery.message.size();
            self.send(delivery, now, out);
        }
        if self.backlog.is_empty() {
            self.backlog = VecDeque::new();
        }
        sent >= budget && self.unsent > 0
    }

    fn send(&mut self, delivery: Delivery, now: Instant, out: &mut Vec<Action>) {
        self.is_dirty |= delivery.qos > QoS::AtMostOnce;
        if delivery.message.is_expired(now) {
            out.push(Action::Dropped(Dropped::Expired, delivery.tag));
            return;
        }
        let is_exact = delivery.qos > QoS::AtMostOnce;
        let last_id = self.last_id;
        let packet_id = is_exact.then(|| self.free_id());
        let Some(publish) = self.fit(publish(&delivery, packet_id, false, now)) else {
            self.last_id = last_id; // not used after all
            out.push(Action::Dropped(Dropped::TooLarge, delivery.tag));
            return;
        };
        out.push(Action::Send(Packet::Publish(publish)));
        match packet_id {
            None => out.extend(delivery.tag.map(Action::Delivered)),
            Some(id) => self.window.push_back(InFlight { id, tag: delivery.tag, step: Step::Sent(delivery) }),
        }
    }

    /// With an alias where there is one; `None` = the client does not take packets of this size.
    fn fit(&mut self, mut publish: Publish) -> Option<Publish> {
        // Most clients set no limit: nothing is to be measured.
        if self.max_packet_size < usize::MAX && self.version.publish_len(&publish) + 3 > self.max_packet_size {
            return (self.version.publish_len(&publish) <= self.max_packet_size).then_some(publish);
        }
        self.aliases.shorten(&mut publish);
        Some(publish)
    }

    /// Sends what is in flight again, with DUP `[MQTT-3.3.1-1]`, as far as the client takes it now, up to about `budget` bytes;
    /// how many those were.
    pub(super) fn resend(&mut self, budget: usize, now: Instant, out: &mut Vec<Action>) -> usize {
        let mut sent = 0;
        while sent < budget && self.unsent > 0 && self.window.len() - self.unsent < self.quota {
            let at = self.window.len() - self.unsent;
            self.unsent -= 1;
            let InFlight { id, step, .. } = &self.window[at];
            let id = *id;
            let packet = match step {
                Step::Released => Packet::PubRel(Ack::ok(id)),
                Step::Sent(delivery) => match self.fit(publish(delivery, Some(id), true, now)) {
                    Some(publish) => {
                        sent += publish.size();
                        Packet::Publish(publish)
                    }
                    None => match self.give_up(at, out) {
                        Some(packet) => packet,
                        None => continue,
                    },
                },
            };
            out.push(Action::Send(packet));
        }
        sent
    }

    /// What is in flight has become too large for the client. At QoS 2 it may have come before, without its PUBREC coming
    /// back: only PUBREL makes the client forget the id, and take the next message of this id for a new one.
    fn give_up(&mut self, at: usize, out: &mut Vec<Action>) -> Option<Packet> {
        self.is_dirty = true;
        let flight = self.window.get_mut(at)?;
        out.push(Action::Dropped(Dropped::TooLarge, flight.tag.take()));
        let Step::Sent(delivery) = &flight.step else { return None };
        if delivery.qos == QoS::ExactlyOnce {
            flight.step = Step::Released;
            return Some(Packet::PubRel(Ack::ok(flight.id)));
        }
        self.window.remove(at);
        None
    }

    /// PUBACK. One for an id that is not in flight is a late repetition.
    pub(super) fn acknowledged(&mut self, ack: &Ack, out: &mut Vec<Action>) -> Result<(), Violation> {
        let id = ack.packet_id;
        let Some(at) = self.find(id) else { return Ok(()) };
        if !matches!(&self.window[at].step, Step::Sent(d) if d.qos == QoS::AtLeastOnce) {
            return Err(Violation::WrongStep { packet: "PUBACK", id });
        }
        self.finish(at, ack.reason, out);
        Ok(())
    }

    /// PUBREC. Always answered by PUBREL, so that a client that remembers more than we do comes to an end; but a refusal
    /// is the end `[MQTT-4.3.3-4]`.
    pub(super) fn received(&mut self, ack: &Ack, out: &mut Vec<Action>) -> Result<(), Violation> {
        let id = ack.packet_id;
        if let Some(at) = self.find(id) {
            if matches!(&self.window[at].step, Step::Sent(d) if d.qos == QoS::AtLeastOnce) {
                return Err(Violation::WrongStep { packet: "PUBREC", id });
            }
            if ack.reason.is_error() {
                self.finish(at, ack.reason, out);
                return Ok(());
            }
            self.window[at].step = Step::Released; // never send the message again [MQTT-4.3.3-6]
            self.is_dirty = true;
        } else if ack.reason.is_error() {
            return Ok(());
        }
        out.push(Action::Send(Packet::PubRel(Ack::ok(id))));
        Ok(())
    }

    /// PUBCOMP.
    pub(super) fn completed(&mut self, ack: &Ack, out: &mut Vec<Action>) -> Result<(), Violation> {
        let id = ack.packet_id;
        let Some(at) = self.find(id) else { return Ok(()) };
        if !matches!(self.window[at].step, Step::Released) {
            return Err(Violation::WrongStep { packet: "PUBCOMP", id });
        }
        // The client has forgotten it or not: it has the message.
        self.finish(at, Reason::Success, out);
        Ok(())
    }

    pub(super) fn take_shared(&mut self, is_meant: impl Fn(ShareId) -> bool) -> Vec<Delivery> {
        let is_meant = |d: &Delivery| d.qos == QoS::AtLeastOnce && d.share.is_some_and(|share| is_meant(share.id));
        let is_taken = |step: &Step| matches!(step, Step::Sent(d) if is_meant(d));
        let mut taken = Vec::new();
        if !self.window.iter().any(|flight| is_taken(&flight.step)) {
            return taken;
        }
        let window = std::mem::take(&mut self.window);
        for flight in window {
            match flight.step {
                Step::Sent(delivery) if is_meant(&delivery) => taken.push(delivery),
                _ => self.window.push_back(flight),
            }
        }
        self.unsent = self.unsent.min(self.window.len());
        taken
    }

    /// What is in flight, for keeping it.
    pub(super) fn flights(&self) -> impl Iterator<Item = (SavedFlight, Option<&Delivery>)> {
        self.window.iter().map(|flight| match &flight.step {
            Step::Sent(delivery) => (SavedFlight::Sent { id: flight.id, position: delivery.position }, Some(delivery)),
            Step::Released => (SavedFlight::Released { id: flight.id, tag: flight.tag }, None),
        })
    }

    pub(super) fn inflight(&self) -> usize {
        self.window.len()
    }

    pub(super) fn tags(&self) -> impl Iterator<Item = Tag> {
        self.window.iter().filter_map(|f| f.tag)
    }

    /// Retained messages that wait for their turn.
    pub(super) fn backlog(&self) -> &VecDeque<Delivery> {
        &self.backlog
    }

    /// Puts back what was in flight.
    pub(super) fn restore(&mut self, id: PacketId, tag: Option<Tag>, delivery: Option<Delivery>) {
        self.last_id = id.get();
        let step = delivery.map_or(Step::Released, Step::Sent);
        self.window.push_back(InFlight { id, step, tag });
    }

    fn finish(&mut self, at: usize, reason: Reason, out: &mut Vec<Action>) {
        self.is_dirty = true;
        if at >= self.window.len() - self.unsent {
            self.unsent -= 1; // answered before it was sent again
        }
        let tag = self.window.remove(at).and_then(|f| f.tag);
        if reason.is_error() {
            out.push(Action::Dropped(Dropped::Refused, tag));
        } else {
            out.extend(tag.map(Action::Delivered));
        }
        if self.window.is_empty() && self.window.capacity() > 16 {
            self.window = VecDeque::new();
        }
    }

    /// Clients answer in order, so the one looked for is near the front.
    fn find(&self, id: PacketId) -> Option<usize> {
        self.window.iter().position(|f| f.id == id)
    }

    /// The next id not in use. There is one: the window is smaller than the number of ids, or has just been checked.
    fn free_id(&mut self) -> PacketId {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            if let Some(id) = PacketId::new(self.last_id).filter(|id| self.find(*id).is_none()) {
                return id;
            }
        }
    }
}

fn publish(delivery: &Delivery, packet_id: Option<PacketId>, dup: bool, now: Instant) -> Publish {
    let message = &delivery.message;
    Publish {
        dup,
        retain: delivery.retain,
        qos: delivery.qos,
        packet_id,
        topic: message.topic.clone(),
        topic_alias: None,
        // What is left of it [MQTT-3.3.2-6]; a repetition may come after its time, 0 would be "expired on arrival".
        expiry_s: message
            .expires_at
            .map(|at| u32::try_from(at.saturating_duration_since(now).as_millis().div_ceil(1000)).unwrap_or(u32::MAX)),
        subscription_ids: delivery.ids.clone(),
        properties: message.properties.clone(),
        payload: message.payload.clone(),
    }
}

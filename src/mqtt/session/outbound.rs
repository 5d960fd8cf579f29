//! Messages to the client: a bounded window in flight, sent again on the next connection until complete.
//!
//! Invariants: at most `max_inflight` packet ids are in use, each once `[MQTT-2.3.1-4]`; the window stands in the order
//! of sending; a message is dropped from memory at PUBREC, its id at PUBACK or PUBCOMP.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Action, Violation};
use crate::mqtt::packet::{Packet, PacketId, Publish, QoS};
use crate::mqtt::queue::{Delivery, Message, Queue, Tag};

#[derive(Debug)]
pub(super) struct Outbound {
    window: VecDeque<InFlight>,
    backlog: VecDeque<Delivery>,
    last_id: u16,
    max_inflight: usize,
    max_backlog: usize,
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
    Sent { message: Arc<Message>, qos: QoS, retain: bool },
    /// PUBREL sent; waits for PUBCOMP.
    Released,
}

impl Outbound {
    pub(super) fn new(max_inflight: usize, max_backlog: usize) -> Self {
        let max_inflight = max_inflight.clamp(1, usize::from(u16::MAX));
        Self { window: VecDeque::new(), backlog: VecDeque::new(), last_id: 0, max_inflight, max_backlog }
    }

    pub(super) fn has_room(&self) -> bool {
        self.window.len() < self.max_inflight
    }

    pub(super) fn add_retained(&mut self, delivery: Delivery) -> bool {
        if self.backlog.len() >= self.max_backlog {
            return false;
        }
        self.backlog.push_back(delivery);
        true
    }

    pub(super) fn pull(&mut self, queue: &mut Queue, budget: usize, out: &mut Vec<Action>) -> bool {
        let mut sent = 0;
        while self.has_room() {
            if sent >= budget {
                return true;
            }
            let next = match self.backlog.pop_front() {
                Some(delivery) => Some(delivery),
                None => queue.pop(),
            };
            let Some(delivery) = next else { break };
            sent += delivery.message.size();
            self.send(delivery, out);
        }
        if self.backlog.is_empty() {
            self.backlog = VecDeque::new();
        }
        false
    }

    fn send(&mut self, Delivery { message, qos, retain, tag }: Delivery, out: &mut Vec<Action>) {
        if qos == QoS::AtMostOnce {
            out.push(Action::Send(publish(&message, qos, retain, None, false)));
            out.extend(tag.map(Action::Delivered));
            return;
        }
        let id = self.free_id();
        out.push(Action::Send(publish(&message, qos, retain, Some(id), false)));
        self.window.push_back(InFlight { id, step: Step::Sent { message, qos, retain }, tag });
    }

    /// Sends everything in flight again, with DUP `[MQTT-3.3.1-1]`.
    pub(super) fn resend(&self, out: &mut Vec<Action>) {
        out.extend(self.window.iter().map(|f| match &f.step {
            Step::Sent { message, qos, retain } => Action::Send(publish(message, *qos, *retain, Some(f.id), true)),
            Step::Released => Action::Send(Packet::PubRel(f.id)),
        }));
    }

    /// PUBACK. One for an id that is not in flight is a late repetition.
    pub(super) fn acknowledged(&mut self, id: PacketId, out: &mut Vec<Action>) -> Result<(), Violation> {
        let Some(at) = self.find(id) else { return Ok(()) };
        if !matches!(self.window[at].step, Step::Sent { qos: QoS::AtLeastOnce, .. }) {
            return Err(Violation::WrongStep { packet: "PUBACK", id });
        }
        self.finish(at, out);
        Ok(())
    }

    /// PUBREC. Always answered by PUBREL, so that a client that remembers more than we do comes to an end.
    pub(super) fn received(&mut self, id: PacketId, out: &mut Vec<Action>) -> Result<(), Violation> {
        if let Some(at) = self.find(id) {
            if matches!(self.window[at].step, Step::Sent { qos: QoS::AtLeastOnce, .. }) {
                return Err(Violation::WrongStep { packet: "PUBREC", id });
            }
            self.window[at].step = Step::Released; // never send the message again [MQTT-4.3.3-1]
        }
        out.push(Action::Send(Packet::PubRel(id)));
        Ok(())
    }

    /// PUBCOMP.
    pub(super) fn completed(&mut self, id: PacketId, out: &mut Vec<Action>) -> Result<(), Violation> {
        let Some(at) = self.find(id) else { return Ok(()) };
        if !matches!(self.window[at].step, Step::Released) {
            return Err(Violation::WrongStep { packet: "PUBCOMP", id });
        }
        self.finish(at, out);
        Ok(())
    }

    pub(super) fn shrink(&mut self) {
        self.window.shrink_to_fit();
        self.backlog.shrink_to_fit();
    }

    fn finish(&mut self, at: usize, out: &mut Vec<Action>) {
        out.extend(self.window.remove(at).and_then(|f| f.tag).map(Action::Delivered));
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

fn publish(message: &Message, qos: QoS, retain: bool, packet_id: Option<PacketId>, dup: bool) -> Packet {
    let Message { topic, payload } = message;
    Packet::Publish(Publish { dup, retain, qos, packet_id, topic: topic.clone(), payload: payload.clone() })
}

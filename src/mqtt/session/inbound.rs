//! Publishes of the client: acknowledged in order, QoS 2 taken over exactly once (section 4.3.3, method B).
//!
//! Invariants: an acknowledgement leaves only after its own and all earlier confirmations; a QoS 2 packet id is handed
//! out once between its first PUBLISH and its PUBREL, over any number of connections.

use std::collections::{BTreeSet, VecDeque};

use super::{Action, Ticket, Violation};
use crate::mqtt::packet::{Packet, PacketId, Publish, QoS};

#[derive(Debug, Default)]
pub(super) struct Inbound {
    last_ticket: u64,
    /// QoS 1 and 2 publishes not yet acknowledged, by ticket.
    unconfirmed: VecDeque<Unconfirmed>,
    /// QoS 2 ids in `unconfirmed`: no PUBREC yet.
    taking: BTreeSet<PacketId>,
    /// QoS 2 ids whose PUBREC was sent and whose PUBREL has not come.
    taken: BTreeSet<PacketId>,
    /// QoS 2 ids whose repeated PUBREC waits in `unconfirmed`, once, before any new publish of the same id.
    repeated: BTreeSet<PacketId>,
}

#[derive(Debug)]
struct Unconfirmed {
    ticket: Ticket,
    id: PacketId,
    qos: QoS,
    is_confirmed: bool,
}

impl Inbound {
    pub(super) fn publish(&mut self, publish: Publish, out: &mut Vec<Action>) {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        let qos = publish.qos;
        let Some(id) = publish.packet_id else {
            out.push(Action::Publish(ticket, publish));
            return;
        };
        if qos == QoS::ExactlyOnce {
            if self.taken.contains(&id) {
                // Again, before its PUBREL: only the answer is repeated [MQTT-4.3.3-2].
                if self.repeated.insert(id) {
                    self.unconfirmed.push_back(Unconfirmed { ticket, id, qos, is_confirmed: true });
                    self.acknowledge(out);
                }
                return;
            }
            if !self.taking.insert(id) {
                return; // its PUBREC is on the way
            }
        }
        self.unconfirmed.push_back(Unconfirmed { ticket, id, qos, is_confirmed: false });
        out.push(Action::Publish(ticket, publish));
    }

    /// PUBREL: the id is free again; an unknown one is answered all the same (section 4.3.3).
    pub(super) fn release(&mut self, id: PacketId, out: &mut Vec<Action>) -> Result<(), Violation> {
        if !self.taken.remove(&id) && self.taking.contains(&id) {
            return Err(Violation::WrongStep { packet: "PUBREL", id });
        }
        out.push(Action::Send(Packet::PubComp(id)));
        Ok(())
    }

    pub(super) fn confirm(&mut self, ticket: Ticket, out: &mut Vec<Action>) {
        // Confirmations mostly come in order: the one asked for is near the front.
        let found = self.unconfirmed.iter_mut().take_while(|u| u.ticket <= ticket).find(|u| u.ticket == ticket);
        if let Some(unconfirmed) = found {
            unconfirmed.is_confirmed = true;
            self.acknowledge(out);
        }
    }

    pub(super) fn abandon_unconfirmed(&mut self) {
        self.unconfirmed = VecDeque::new();
        self.taking.clear();
        self.repeated.clear();
    }

    fn acknowledge(&mut self, out: &mut Vec<Action>) {
        while self.unconfirmed.front().is_some_and(|u| u.is_confirmed) {
            let Some(Unconfirmed { id, qos, .. }) = self.unconfirmed.pop_front() else { return };
            if qos == QoS::ExactlyOnce {
                // A repetition takes nothing: its PUBREL may have come since, and the id be free.
                if !self.repeated.remove(&id) {
                    self.taking.remove(&id);
                    self.taken.insert(id);
                }
                out.push(Action::Send(Packet::PubRec(id)));
            } else {
                out.push(Action::Send(Packet::PubAck(id)));
            }
        }
        if self.unconfirmed.is_empty() && self.unconfirmed.capacity() > 64 {
            self.unconfirmed = VecDeque::new();
        }
    }
}

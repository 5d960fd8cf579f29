//! Publishes of the client: acknowledged in order, QoS 2 taken over exactly once (section 4.3.3, method B).
//!
//! Invariants: an acknowledgement leaves only after its own and all earlier confirmations; a QoS 2 packet id is handed
//! out once between its first PUBLISH and its PUBREL, over any number of connections of a client that says what it
//! repeats; not more publishes than the receive maximum are under way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::alias::Incoming;
use super::{Action, Ticket, Violation};
use crate::mqtt::packet::{Ack, Packet, PacketId, Publish, QoS};
use crate::mqtt::reason::Reason;

#[derive(Debug, Default)]
pub(super) struct Inbound {
    last_ticket: u64,
    /// QoS 1 and 2 publishes not yet acknowledged, by ticket.
    unconfirmed: VecDeque<Unconfirmed>,
    /// QoS 2 ids in `unconfirmed`: no PUBREC yet.
    taking: BTreeSet<PacketId>,
    /// QoS 2 ids whose PUBREC was sent and whose PUBREL has not come.
    taken: BTreeMap<PacketId, Taken>,
    /// How many of them are only [`Taken::Earlier`].
    earlier: usize,
    /// QoS 2 ids whose repeated PUBREC waits in `unconfirmed`, once, before any new publish of the same id.
    repeated: BTreeSet<PacketId>,
    aliases: Incoming,
    receive_maximum: usize,
    is_dirty: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Taken {
    /// Known to be taken now.
    Surely,
    /// The same, and to be saved.
    Saved,
    /// Was taken on a connection before, or when it was last saved: only what says that it is a repetition is one
    /// `[MQTT-3.3.1-1]`. A client that lost its memory begins its ids anew, and what it sends then is new.
    Earlier,
}

#[derive(Debug)]
struct Unconfirmed {
    ticket: Ticket,
    id: PacketId,
    qos: QoS,
    /// `None` = not confirmed yet.
    outcome: Option<Outcome>,
}

/// What became of a publish.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// As told to the client.
    pub reason: Reason,
    /// Whether its QoS 2 id is to be saved; not where the message says itself who it is.
    pub saves_id: bool,
}

impl Inbound {
    /// A connection begins.
    pub(super) fn begin(&mut self, receive_maximum: usize, topic_aliases: u16) {
        self.receive_maximum = receive_maximum;
        self.taken.values_mut().for_each(|taken| *taken = Taken::Earlier);
        self.earlier = self.taken.len();
        self.aliases = Incoming::new(topic_aliases);
    }

    /// A connection has ended.
    pub(super) fn end(&mut self) {
        self.aliases = Incoming::default();
    }

    pub(super) fn publish(&mut self, mut publish: Publish, out: &mut Vec<Action>) -> Result<(), Violation> {
        self.aliases.resolve(&mut publish)?;
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        let qos = publish.qos;
        let Some(id) = publish.packet_id else {
            out.push(Action::Publish(ticket, publish));
            return Ok(());
        };
        if qos == QoS::ExactlyOnce {
            if self.taking.contains(&id) {
                return Ok(()); // its PUBREC is on the way
            }
            if self.taken.get(&id) == Some(&Taken::Earlier) && !publish.dup {
                self.forget(id); // released or forgotten since, and used again
            } else if let Some(taken) = self.taken.get_mut(&id) {
                // (Now it is known to be under way.)
                self.earlier -= usize::from(std::mem::replace(taken, Taken::Saved) == Taken::Earlier);
                // Again, before its PUBREL: only the answer is repeated [MQTT-4.3.3-10].
                if self.repeated.insert(id) {
                    let outcome = Some(Outcome { reason: Reason::Success, saves_id: false });
                    self.unconfirmed.push_back(Unconfirmed { ticket, id, qos, outcome });
                    self.acknowledge(out);
                }
                return Ok(());
            }
        }
        // A repetition that waits for its turn is in `taken` already, or released; what is of earlier may be released, too.
        let under_way = self.unconfirmed.len() - self.repeated.len() + self.taken.len() - self.earlier;
        if under_way >= self.receive_maximum {
            return Err(Violation::ReceiveMaximum);
        }
        if qos == QoS::ExactlyOnce {
            self.taking.insert(id);
        }
        self.unconfirmed.push_back(Unconfirmed { ticket, id, qos, outcome: None });
        out.push(Action::Publish(ticket, publish));
        Ok(())
    }

    /// PUBREL: the id is free again; an unknown one is answered all the same (section 4.3.3).
    pub(super) fn release(&mut self, id: PacketId, out: &mut Vec<Action>) -> Result<(), Violation> {
        let was_taken = self.forget(id);
        if !was_taken && self.taking.contains(&id) {
            return Err(Violation::WrongStep { packet: "PUBREL", id });
        }
        out.push(Action::Send(Packet::PubComp(Ack::ok(id))));
        Ok(())
    }

    fn forget(&mut self, id: PacketId) -> bool {
        let taken = self.taken.remove(&id);
        self.is_dirty |= taken.is_some_and(|t| t != Taken::Surely);
        self.earlier -= usize::from(taken == Some(Taken::Earlier));
        taken.is_some()
    }

    pub(super) fn confirm(&mut self, ticket: Ticket, outcome: Outcome, out: &mut Vec<Action>) {
        // Confirmations mostly come in order: the one asked for is near the front.
        let found = self.unconfirmed.iter_mut().take_while(|u| u.ticket <= ticket).find(|u| u.ticket == ticket);
        if let Some(unconfirmed) = found {
            unconfirmed.outcome = Some(outcome);
            self.acknowledge(out);
        }
    }

    pub(super) fn abandon_unconfirmed(&mut self) {
        self.unconfirmed = VecDeque::new();
        self.taking.clear();
        self.repeated.clear();
    }

    /// QoS 2 ids that are taken and not released.
    pub(super) fn taken(&self) -> impl Iterator<Item = PacketId> {
        self.taken.keys().copied()
    }

    pub(super) const fn take_dirt(&mut self) -> bool {
        std::mem::replace(&mut self.is_dirty, false)
    }

    pub(super) fn restore_taken(&mut self, ids: impl Iterator<Item = PacketId>) {
        self.taken.extend(ids.map(|id| (id, Taken::Earlier)));
        self.earlier = self.taken.len();
    }

    fn acknowledge(&mut self, out: &mut Vec<Action>) {
        while let Some(Outcome { reason, saves_id }) = self.unconfirmed.front().and_then(|u| u.outcome) {
            let Some(Unconfirmed { id, qos, .. }) = self.unconfirmed.pop_front() else { return };
            let ack = Ack::new(id, reason);
            if qos == QoS::ExactlyOnce {
                // A repetition takes nothing: its PUBREL may have come since, and the id be free.
                if !self.repeated.remove(&id) {
                    self.taking.remove(&id);
                    if !reason.is_error() {
                        // (A refusal ends it [MQTT-4.3.3-9].)
                        self.taken.insert(id, if saves_id { Taken::Saved } else { Taken::Surely });
                        self.is_dirty |= saves_id;
                    }
                }
                out.push(Action::Send(Packet::PubRec(ack)));
            } else {
                out.push(Action::Send(Packet::PubAck(ack)));
            }
        }
        if self.unconfirmed.is_empty() && self.unconfirmed.capacity() > 64 {
            self.unconfirmed = VecDeque::new();
        }
    }
}

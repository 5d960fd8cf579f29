//! What the server must answer, and in which order.

use std::collections::VecDeque;
use std::rc::Rc;

use super::{Message, Oracle, State};
use crate::mqtt::packet::Ack;
use crate::mqtt::{Packet, PacketId, QoS, Reason};

/// The client's own publishes and requests, on one connection.
#[derive(Default, Debug)]
pub(super) struct Inbound {
    /// Taken, not yet routed.
    pending: VecDeque<(Rc<Message>, Option<PacketId>)>,
    /// PUBACKs and PUBRECs, in the order of the publishes `[MQTT-4.6.0-2]`, `[MQTT-4.6.0-3]`.
    acks: VecDeque<Expected>,
    /// Answers that wait for nothing.
    replies: VecDeque<Packet>,
}

#[derive(Debug)]
struct Expected {
    packet: Packet,
    is_ready: bool,
}

impl Inbound {
    pub(super) fn after_the_connection(self) -> Self {
        Self::default()
    }
}

impl Oracle {
    /// A PUBLISH is read.
    pub(in super::super) fn publish_arrived(&mut self, who: usize, message: Rc<Message>, id: Option<PacketId>) {
        let is_repeated = message.qos == QoS::ExactlyOnce && self.taken.contains(&message.number);
        if is_repeated {
            self.note("exactly once, repeated by the client");
        }
        let inbound = &mut self.session(who).inbound;
        if let Some(id) = id {
            let ack = Ack::ok(id);
            let packet = if message.qos == QoS::AtLeastOnce { Packet::PubAck(ack) } else { Packet::PubRec(ack) };
            inbound.acks.push_back(Expected { packet, is_ready: is_repeated });
        }
        if !is_repeated {
            inbound.pending.push_back((message, id));
        }
    }

    /// How many publishes of the client wait for their confirmation.
    pub(in super::super) fn pending_len(&mut self, who: usize) -> usize {
        self.session(who).inbound.pending.len()
    }

    /// The oldest of them is confirmed, and routed now.
    pub(in super::super) fn confirmed(&mut self, who: usize) -> Rc<Message> {
        let inbound = &mut self.session(who).inbound;
        let (message, id) = inbound.pending.pop_front().expect("something waits");
        if let Some(id) = id {
            let is_its = |e: &&mut Expected| {
                !e.is_ready && matches!(&e.packet, Packet::PubAck(a) | Packet::PubRec(a) if a.packet_id == id)
            };
            inbound.acks.iter_mut().find(is_its).expect("it is to be acknowledged").is_ready = true;
        }
        if message.qos == QoS::ExactlyOnce {
            assert!(self.taken.insert(message.number), "exactly once: {message:?}");
        }
        message
    }

    /// A request is read that is to be answered so, at once.
    pub(in super::super) fn expect_reply(&mut self, who: usize, reply: Packet) {
        self.session(who).inbound.replies.push_back(reply);
    }

    /// A packet is written that is no PUBLISH.
    pub(in super::super) fn answered(&mut self, who: usize, packet: &Packet) {
        let inbound = &mut self.session(who).inbound;
        if matches!(packet, Packet::PubAck(_) | Packet::PubRec(_)) {
            let expected =
                inbound.acks.pop_front().unwrap_or_else(|| panic!("c{who}: {packet:?} acknowledges nothing"));
            assert!(expected.is_ready, "c{who}: {packet:?} before the message is safe");
            return assert_eq!(*packet, expected.packet, "c{who}: acknowledgements in order");
        }
        if inbound.replies.front() == Some(packet) {
            inbound.replies.pop_front();
            return;
        }
        match packet {
            Packet::PubRel(ack) if ack.reason == Reason::Success => self.released_again(who, ack.packet_id),
            _ => panic!("c{who}: unexpected {packet:?}; expected {:?}", inbound.replies),
        }
    }

    /// All that could be answered was.
    pub(in super::super) fn check_answers(&mut self, who: usize) {
        let inbound = &self.session(who).inbound;
        assert!(inbound.replies.is_empty(), "c{who}: not answered: {:?}", inbound.replies);
        let front = inbound.acks.front();
        assert!(front.is_none_or(|e| !e.is_ready), "c{who}: not acknowledged: {front:?}");
    }

    /// PUBACK of the client.
    pub(in super::super) fn puback(&mut self, who: usize, ack: &Ack) {
        let duty = self.in_flight(who, ack.packet_id);
        let owed = &self.duties[duty.0];
        assert!(matches!(owed.state, State::Sent(..)) && owed.qos == QoS::AtLeastOnce, "{owed:?}");
        assert!(ack.reason.is_error() || owed.seen > 0, "acknowledged and not received: {owed:?}");
        if ack.reason.is_error() {
            self.note("refused by the client");
        }
        self.over(who, duty);
    }

    /// PUBREC of the client.
    pub(in super::super) fn pubrec(&mut self, who: usize, ack: &Ack) {
        let duty = self.in_flight(who, ack.packet_id);
        let link = self.session(who).link;
        let owed = &mut self.duties[duty.0];
        assert!(owed.qos == QoS::ExactlyOnce, "{owed:?}");
        if ack.reason.is_error() {
            self.note("refused by the client");
            return self.over(who, duty);
        }
        assert_eq!(owed.seen, 1, "exactly once: {owed:?}");
        owed.state = State::Released(ack.packet_id, link);
        self.expect_reply(who, Packet::PubRel(Ack::ok(ack.packet_id)));
    }

    /// PUBCOMP of the client.
    pub(in super::super) fn pubcomp(&mut self, who: usize, ack: &Ack) {
        let duty = self.in_flight(who, ack.packet_id);
        let owed = &self.duties[duty.0];
        assert!(matches!(owed.state, State::Released(..)), "{owed:?}");
        assert!(owed.seen == 1 || owed.may_be_gone, "exactly once: {owed:?}");
        self.over(who, duty);
    }
}

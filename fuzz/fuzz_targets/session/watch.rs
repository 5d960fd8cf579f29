//! Sees what goes in and out of a session and knows what must not happen.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::BytesMut;
use iot_meter_fuzz::mqtt::packet::{Ack, TopicAlias};
use iot_meter_fuzz::mqtt::session::{Limits, SavedFlight, Start};
use iot_meter_fuzz::mqtt::{
    Action, Packet, PacketId, Publish, QoS, Queue, Reason, Session, Ticket, Version, Violation,
};

/// An answer that is to come, in its turn.
#[derive(Debug)]
struct Turn {
    id: PacketId,
    qos: QoS,
    /// `None` = the repetition of a PUBREC.
    ticket: Option<Ticket>,
    /// `None` = not confirmed yet.
    reason: Option<Reason>,
}

pub struct Watch {
    version: Version,
    quota: usize,
    max_packet_size: usize,
    alias_maximum: u16,
    receive_maximum: usize,
    /// What the client has been given aliases for.
    aliases: BTreeSet<TopicAlias>,
    turns: VecDeque<Turn>,
    /// QoS 2 ids that were handed out and not released; `true` = restored: only a repetition that says so is one.
    taken: BTreeMap<PacketId, bool>,
    /// A PUBLISH of the client that is being handled, and whether it is new.
    arriving: Option<(Publish, bool)>,
    /// The id of a PUBREC that is being handled.
    pub answering: Option<PacketId>,
    /// In flight before the step, and what of it was sent on this connection.
    flights: BTreeSet<PacketId>,
    sent: BTreeSet<PacketId>,
}

impl Watch {
    pub fn new(start: &Start, limits: &Limits) -> Self {
        let mut this = Self {
            version: Version::V311,
            quota: 0,
            max_packet_size: 0,
            alias_maximum: 0,
            receive_maximum: 0,
            aliases: BTreeSet::new(),
            turns: VecDeque::new(),
            taken: BTreeMap::new(),
            arriving: None,
            answering: None,
            flights: BTreeSet::new(),
            sent: BTreeSet::new(),
        };
        this.begin(start, limits);
        this
    }

    fn begin(&mut self, start: &Start, limits: &Limits) {
        self.version = start.version;
        self.quota = start.receive_maximum.min(limits.max_inflight);
        self.max_packet_size = start.max_packet_size;
        self.alias_maximum = start.topic_alias_maximum.min(limits.topic_aliases);
        self.receive_maximum = if start.has_flow_control { limits.receive_maximum } else { usize::MAX };
        self.aliases.clear();
        self.sent.clear();
    }

    pub fn connected(&mut self, start: &Start, limits: &Limits, session: &Session, queue: &Queue) {
        self.begin(start, limits);
        self.flights = flights(session, queue).into_iter().collect();
    }

    /// What was not confirmed will not be.
    pub fn abandoned(&mut self) {
        self.turns.clear();
    }

    pub fn restarted(&mut self) {
        self.turns.clear();
        self.taken.values_mut().for_each(|is_restored| *is_restored = true);
    }

    /// A packet is about to be handled.
    pub fn arrived(&mut self, packet: &Packet, session: &Session, queue: &Queue) {
        self.flights = flights(session, queue).into_iter().collect();
        self.arriving = None;
        if let Packet::Publish(publish) = packet {
            let is_repeated = publish.qos == QoS::ExactlyOnce
                && publish.packet_id.is_some_and(|id| self.is_taken(id, publish.dup) || self.is_taking(id));
            self.arriving = Some((publish.clone(), !is_repeated));
        }
        if let Packet::PubRec(ack) = packet {
            self.answering = Some(ack.packet_id);
        }
        if let Packet::PubRel(ack) = packet {
            self.taken.remove(&ack.packet_id);
        }
    }

    fn is_taken(&self, id: PacketId, dup: bool) -> bool {
        self.taken.get(&id).is_some_and(|is_restored| dup || !is_restored)
    }

    fn is_taking(&self, id: PacketId) -> bool {
        self.turns.iter().any(|t| t.qos == QoS::ExactlyOnce && t.id == id && t.ticket.is_some())
    }

    fn is_repeating(&self, id: PacketId) -> bool {
        self.turns.iter().any(|t| t.id == id && t.ticket.is_none())
    }

    /// It was handled; its actions are not carried out yet.
    pub fn handled(&mut self, handled: &Result<(), Violation>, out: &[Action]) {
        let known = self.taken.values().filter(|is_restored| !**is_restored).count();
        let under_way = self.turns.iter().filter(|t| t.ticket.is_some()).count() + known;
        if let Some((publish, true)) = &self.arriving
            && publish.qos == QoS::ExactlyOnce
            && matches!(handled, Ok(()) | Err(Violation::ReceiveMaximum))
        {
            self.taken.retain(|id, _| publish.packet_id != Some(*id)); // restored, and used again
        }
        if let Err(violation) = handled {
            let is_rightly = *violation != Violation::ReceiveMaximum || under_way >= self.receive_maximum;
            return assert!(is_rightly, "{under_way} under way, {} allowed", self.receive_maximum);
        }
        let handed_out: Vec<_> =
            out.iter().filter_map(|a| if let Action::Publish(t, p) = a { Some((*t, p)) } else { None }).collect();
        let Some((publish, is_new)) = self.arriving.take() else {
            return assert!(handed_out.is_empty(), "only a PUBLISH is handed out");
        };
        assert_eq!(handed_out.len(), usize::from(is_new), "handed out once: {publish:?}");
        let Some(id) = publish.packet_id else { return };
        let qos = publish.qos;
        if let Some((ticket, _)) = handed_out.first() {
            assert!(under_way < self.receive_maximum, "more than the receive maximum is taken");
            self.turns.push_back(Turn { id, qos, ticket: Some(*ticket), reason: None });
        } else if self.is_taken(id, publish.dup) && !self.is_repeating(id) {
            self.turns.push_back(Turn { id, qos, ticket: None, reason: Some(Reason::Success) });
        }
    }

    pub fn confirmed(&mut self, ticket: Ticket, reason: Reason) {
        let turn = self.turns.iter_mut().find(|t| t.ticket == Some(ticket));
        turn.into_iter().for_each(|t| t.reason = Some(reason));
    }

    /// A packet is written to the client.
    pub fn sent(&mut self, packet: &Packet) {
        let mut bytes = Vec::new();
        self.version.encode(packet, &mut bytes);
        let len = bytes.len();
        let decoded = self.version.decode_server(&mut BytesMut::from(&bytes[..]), usize::MAX);
        assert!(matches!(decoded, Ok(Some(_))), "{packet:?} is {decoded:?} to a client");
        match packet {
            Packet::Publish(publish) => self.sent_publish(publish, len),
            // The answer to a PUBREC may be for nothing, and takes no place: only what is repeated does.
            Packet::PubRel(ack) if self.answering != Some(ack.packet_id) => {
                assert!(self.flights.contains(&ack.packet_id), "PUBREL for nothing");
                self.sent.insert(ack.packet_id);
            }
            Packet::PubAck(ack) => self.acknowledged(ack, QoS::AtLeastOnce),
            Packet::PubRec(ack) => self.acknowledged(ack, QoS::ExactlyOnce),
            _ => {}
        }
    }

    fn sent_publish(&mut self, publish: &Publish, len: usize) {
        assert!(len <= self.max_packet_size, "{len} bytes, {} allowed", self.max_packet_size);
        if let Some(alias) = publish.topic_alias {
            assert!(alias.get() <= self.alias_maximum, "alias {alias}, {} allowed", self.alias_maximum);
            assert!(!publish.topic.is_empty() || self.aliases.contains(&alias), "alias {alias} stands for nothing");
            self.aliases.insert(alias);
        } else {
            assert!(!publish.topic.is_empty());
        }
        let Some(id) = publish.packet_id else { return assert!(!publish.dup) };
        assert_eq!(self.flights.contains(&id), publish.dup, "id {id}: DUP on a repetition, a new one has a new id");
        assert!(self.sent.insert(id), "id {id} twice on one connection");
        self.flights.insert(id);
    }

    fn acknowledged(&mut self, ack: &Ack, qos: QoS) {
        let turn = self.turns.pop_front().expect("an acknowledgement for something");
        assert_eq!((turn.id, turn.qos), (ack.packet_id, qos), "in the order of the publishes");
        assert_eq!(turn.reason, Some(ack.reason), "not before it is confirmed");
        if qos == QoS::ExactlyOnce && turn.ticket.is_some() && !ack.reason.is_error() {
            self.taken.insert(ack.packet_id, false);
        }
    }

    /// After each step.
    pub fn check(&mut self, session: &Session, queue: &Queue) {
        let now = flights(session, queue);
        let unique: BTreeSet<_> = now.iter().copied().collect();
        assert_eq!(unique.len(), now.len(), "ids are unique: {now:?}");
        self.sent.retain(|id| unique.contains(id));
        assert!(self.sent.len() <= self.quota, "{} in flight, {} allowed", self.sent.len(), self.quota);
        assert_eq!(session.has_room(), now.len() < self.quota);
        let front = self.turns.front();
        assert!(front.is_none_or(|t| t.reason.is_none()), "could be acknowledged: {front:?}");
        let saved = session.save(queue, |_| ());
        assert!(saved.taken.iter().eq(self.taken.keys()), "QoS 2 ids: {:?}, not {:?}", saved.taken, self.taken);
        self.flights = unique;
    }
}

fn flights(session: &Session, queue: &Queue) -> Vec<PacketId> {
    let id = |flight: &SavedFlight| match flight {
        SavedFlight::Sent { id, .. } | SavedFlight::Released { id, .. } => *id,
    };
    session.save(queue, |_| ()).flights.iter().map(id).collect()
}

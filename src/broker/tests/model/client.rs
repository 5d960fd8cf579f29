//! A client that keeps the rules: what it remembers between connections, what it has to answer, what it has received.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::ops::Asks;
use super::oracle::Duty;
use crate::mqtt::packet::{Ack, TopicAlias};
use crate::mqtt::{Packet, PacketId, Publish, QoS, Reason};

/// What the client has sent and not brought to its end.
pub(super) struct Outgoing {
    pub(super) id: PacketId,
    /// `None` = PUBREC has come, PUBREL is sent.
    pub(super) publish: Option<Publish>,
    pub(super) number: u32,
}

/// One client, whatever its connection.
#[derive(Default)]
pub(super) struct Client {
    pub(super) is_connected: bool,
    pub(super) is_v5: bool,
    last_id: u16,
    outgoing: VecDeque<Outgoing>,
    /// QoS 2 ids of the server whose PUBREL has not come.
    held: BTreeSet<PacketId>,
    /// Answers not yet given.
    due: VecDeque<Packet>,
    /// On the wire, with what it fulfils.
    pub(super) wire: VecDeque<(Packet, Option<Duty>)>,
    /// Of this connection.
    aliases: BTreeMap<String, TopicAlias>,
    alias_maximum: u16,
}

impl Client {
    /// Connected; gives what is to be sent again `[MQTT-4.4.0-1]`.
    pub(super) fn connected(&mut self, asks: &Asks, is_present: bool, alias_maximum: u16) -> &mut VecDeque<Outgoing> {
        self.is_connected = true;
        self.is_v5 = asks.is_v5;
        self.due.clear();
        self.wire.clear();
        self.aliases.clear();
        self.alias_maximum = if asks.is_v5 { alias_maximum } else { 0 };
        if !is_present {
            self.outgoing.clear();
            self.held.clear();
        }
        &mut self.outgoing
    }

    /// The connection is gone, with all that was on its way.
    pub(super) fn lose(&mut self) {
        self.is_connected = false;
        self.due.clear();
        self.wire.clear();
    }

    /// Whether another QoS 1 or 2 publish is within the server's receive maximum.
    pub(super) fn may_publish(&self, receive_maximum: usize) -> bool {
        self.outgoing.len() < receive_maximum
    }

    /// The form in which a new message is sent.
    pub(super) fn publish(&mut self, mut publish: Publish, number: u32) -> Packet {
        if publish.qos > QoS::AtMostOnce {
            let id = self.next_id();
            publish.packet_id = Some(id);
            self.outgoing.push_back(Outgoing { id, publish: Some(publish.clone()), number });
        }
        // (Kept without an alias: those end with the connection.)
        if let Some(alias) = self.aliases.get(&*publish.topic) {
            publish.topic_alias = Some(*alias);
            publish.topic = "".into();
        } else if self.aliases.len() < usize::from(self.alias_maximum) {
            let alias = TopicAlias::new(self.aliases.len() as u16 + 1).unwrap();
            self.aliases.insert(publish.topic.to_string(), alias);
            publish.topic_alias = Some(alias);
        }
        Packet::Publish(publish)
    }

    pub(super) fn next_id(&mut self) -> PacketId {
        loop {
            // Few, so that they come round.
            self.last_id = self.last_id % 20 + 1;
            let id = PacketId::new(self.last_id).unwrap();
            if self.outgoing.iter().all(|out| out.id != id) {
                return id;
            }
        }
    }

    /// Takes the next packet from the wire; gives the duty that the application sees fulfilled. `None` = there is none.
    pub(super) fn take(&mut self, refuses: bool) -> Option<Option<Duty>> {
        let (packet, duty) = self.wire.pop_front()?;
        match packet {
            Packet::Publish(publish) => {
                return Some(self.received(&publish, refuses && self.is_v5).then_some(duty).flatten());
            }
            Packet::PubAck(ack) => self.finish(ack.packet_id, false),
            Packet::PubRec(ack) => {
                let out = self.outgoing.iter_mut().find(|out| out.id == ack.packet_id).expect("a PUBREC for something");
                assert!(!ack.reason.is_error());
                out.publish = None;
                self.due.push_back(Packet::PubRel(Ack::ok(ack.packet_id)));
            }
            Packet::PubComp(ack) => self.finish(ack.packet_id, true),
            Packet::PubRel(ack) => {
                let is_known = self.held.remove(&ack.packet_id) || !self.is_v5;
                let reason = if is_known { Reason::Success } else { Reason::PacketIdentifierNotFound };
                self.due.push_back(Packet::PubComp(Ack::new(ack.packet_id, reason)));
            }
            Packet::SubAck { .. } | Packet::UnsubAck { .. } => {}
            other => panic!("not from a server now: {other:?}"),
        }
        Some(None)
    }

    fn finish(&mut self, id: PacketId, is_released: bool) {
        let at = self.outgoing.iter().position(|out| out.id == id).expect("an acknowledgement for something");
        let out = self.outgoing.remove(at).unwrap();
        assert_eq!(out.publish.is_none(), is_released, "an acknowledgement at the wrong step");
    }

    /// Whether the application gets it.
    fn received(&mut self, publish: &Publish, refuses: bool) -> bool {
        let Some(id) = publish.packet_id else { return true };
        let is_new = publish.qos < QoS::ExactlyOnce || !self.held.contains(&id);
        let reason = if refuses && is_new { Reason::ImplementationSpecific } else { Reason::Success };
        let ack = Ack::new(id, reason);
        if publish.qos == QoS::AtLeastOnce {
            self.due.push_back(Packet::PubAck(ack));
        } else {
            if !reason.is_error() {
                self.held.insert(id);
            }
            self.due.push_back(Packet::PubRec(ack));
        }
        is_new && !reason.is_error()
    }

    /// The next answer to give: of PUBACK (1), PUBREC (2), PUBCOMP (3) or PUBREL (4), or of any (0). Each kind keeps its
    /// order `[MQTT-4.6.0-2]` to `[MQTT-4.6.0-4]`, but one kind may come before another.
    pub(super) fn answer(&mut self, kind: usize) -> Option<Packet> {
        let of = |packet: &Packet| match packet {
            Packet::PubAck(_) => 1,
            Packet::PubRec(_) => 2,
            Packet::PubComp(_) => 3,
            _ => 4,
        };
        let at = self.due.iter().position(|packet| kind == 0 || of(packet) == kind)?;
        self.due.remove(at)
    }
}

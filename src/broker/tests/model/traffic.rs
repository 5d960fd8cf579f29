//! What moves between a client, the server and the model, packet by packet.

use super::messages::{as_it_came, properties};
use super::ops::{Says, Wants, filters};
use super::world::{World, version};
use crate::mqtt::packet::{Disconnect, Filter, RetainHandling, SubscribeOptions, SubscriptionId};
use crate::mqtt::{Packet, Publish, QoS, Reason};

impl World {
    pub(super) fn send(&mut self, who: usize, packet: &Packet, number: Option<u32>) {
        let client = &self.clients[who];
        if !client.is_connected || !self.server.is_connected(who) {
            return;
        }
        let Some(link) = self.server.link(who) else { return };
        let mut bytes = Vec::new();
        version(client.is_v5).encode(packet, &mut bytes);
        link.input.extend_from_slice(&bytes);
        if matches!(packet, Packet::Publish(_)) {
            link.numbers.extend(number);
        }
    }

    pub(super) fn goodbye(&mut self, who: usize, expiry_s: Option<u32>, with_will: bool) {
        let client = &self.clients[who];
        if !client.is_connected {
            return;
        }
        let reason = if with_will && client.is_v5 { Reason::DisconnectWithWill } else { Reason::Success };
        let session_expiry_s = expiry_s.filter(|s| client.is_v5 && (self.oracle.is_kept(who) || *s == 0));
        self.send(who, &Packet::Disconnect(Disconnect { session_expiry_s, ..Disconnect::new(reason) }), None);
        self.clients[who].lose();
    }

    pub(super) fn subscribe(&mut self, who: usize, wants: &[Wants], id: Option<u32>) {
        let client = &mut self.clients[who];
        let (packet_id, is_v5) = (client.next_id(), client.is_v5);
        let filter = |wants: &Wants| {
            let filter = filters(who)[wants.filter % filters(who).len()];
            let mut options =
                SubscribeOptions { qos: QoS::from_level(wants.qos).unwrap(), ..SubscribeOptions::default() };
            if is_v5 {
                options.no_local = wants.no_local && !filter.starts_with("$share/"); // [MQTT-3.8.3-4]
                options.retain_as_published = wants.retain_as_published;
                options.retain_handling = [RetainHandling::Always, RetainHandling::IfNew, RetainHandling::Never]
                    [usize::from(wants.retain_handling)];
            }
            Filter { filter: filter.into(), options }
        };
        let id = id.filter(|_| is_v5).and_then(SubscriptionId::new);
        self.send(who, &Packet::Subscribe { packet_id, filters: wants.iter().map(filter).collect(), id }, None);
    }

    pub(super) fn unsubscribe(&mut self, who: usize, filter: usize) {
        let packet_id = self.clients[who].next_id();
        let filter = filters(who)[filter % filters(who).len()];
        self.send(who, &Packet::Unsubscribe { packet_id, filters: vec![filter.into()] }, None);
    }

    pub(super) fn publish(&mut self, who: usize, says: &Says) {
        let client = &self.clients[who];
        if !client.is_connected || (says.qos > 0 && !client.may_publish(self.options.receive_maximum)) {
            return;
        }
        let is_v5 = client.is_v5;
        let message = self.messages.add(Some(who), says, is_v5);
        let publish = Publish {
            retain: message.retain,
            qos: message.qos,
            topic: message.topic.into(),
            payload: message.payload.clone().into(),
            expiry_s: message.expiry_s,
            properties: properties(&message),
            ..Publish::default()
        };
        let packet = self.clients[who].publish(publish, message.number);
        self.send(who, &packet, Some(message.number));
    }

    /// Whether anything was there to be read.
    pub(super) fn read(&mut self, who: usize, n: usize) -> bool {
        for done in 0..n {
            let Some((packet, number)) = self.server.read(who) else { return done > 0 };
            self.tell(who, &packet, number);
            let says_goodbye = self.server.handle(who, packet);
            self.flush(who);
            self.oracle.check_answers(who);
            let pending = self.server.link(who).map_or(0, |link| link.pending.len());
            assert_eq!(pending, self.oracle.pending_len(who), "c{who}: publishes taken");
            if says_goodbye {
                self.end_link(who, false, true);
                return true;
            }
        }
        true
    }

    /// The model hears what the server reads.
    pub(super) fn tell(&mut self, who: usize, packet: &Packet, number: Option<u32>) {
        let oracle = &mut self.oracle;
        match packet {
            Packet::Publish(publish) => {
                let message = self.messages.get(number.expect("publishes have one"));
                oracle.publish_arrived(who, as_it_came(message, publish), publish.packet_id);
            }
            Packet::PubAck(ack) => oracle.puback(who, ack),
            Packet::PubRec(ack) => oracle.pubrec(who, ack),
            Packet::PubRel(ack) => oracle.expect_reply(who, Packet::PubComp(ack.clone())),
            Packet::PubComp(ack) => oracle.pubcomp(who, ack),
            Packet::Subscribe { packet_id, filters, id } => {
                let max = self.options.max_retained_messages;
                let mut room = self.server.link(who).map_or(0, |link| link.backlog_room(max));
                let is_v5 = oracle.is_v5(who);
                let reasons = filters.iter().map(|Filter { filter, options }| {
                    let is_granted =
                        oracle.subscribe(who, known(who, filter), *options, id.map(|id| id.get()), &mut room);
                    match (is_granted, is_v5) {
                        (true, _) => Reason::granted(options.qos),
                        (false, true) => Reason::QuotaExceeded,
                        (false, false) => Reason::Unspecified,
                    }
                });
                let reasons = reasons.collect();
                oracle.expect_reply(who, Packet::SubAck { packet_id: *packet_id, reasons, reason_string: None });
            }
            Packet::Unsubscribe { packet_id, filters } => {
                let was_there = |was_there| if was_there { Reason::Success } else { Reason::NoSubscriptionExisted };
                let reasons: Vec<_> =
                    filters.iter().map(|f| was_there(oracle.unsubscribe(who, known(who, f)))).collect();
                let reasons = if oracle.is_v5(who) { reasons } else { Vec::new() };
                oracle.expect_reply(who, Packet::UnsubAck { packet_id: *packet_id, reasons });
            }
            Packet::Disconnect(bye) => oracle.goodbye(who, bye.session_expiry_s, bye.reason != Reason::Success),
            other => panic!("clients do not send {other:?}"),
        }
    }

    pub(super) fn confirm(&mut self, who: usize, n: usize) -> bool {
        for done in 0..n {
            if !self.server.is_connected(who) || self.oracle.pending_len(who) == 0 {
                return done > 0;
            }
            self.confirm_one(who);
            self.flush(who);
            self.oracle.check_answers(who);
        }
        true
    }

    pub(super) fn confirm_one(&mut self, who: usize) {
        let message = self.oracle.confirmed(who);
        let server = &self.server;
        let should_be_wanted = self.oracle.route(&message, |who| server.is_full(who));
        let is_wanted = self.server.confirm(who);
        assert_eq!(is_wanted, should_be_wanted, "somebody is subscribed to {}", message.topic);
    }

    pub(super) fn pull(&mut self, who: usize, budget: usize) {
        if self.server.is_connected(who) {
            let more = self.server.pull(who, budget);
            self.flush(who);
            self.oracle.pulled(who, !more);
        }
    }

    /// The model sees what the server writes, and the client has it on its wire.
    pub(super) fn flush(&mut self, who: usize) {
        for packet in self.server.written(who) {
            let duty = if let Packet::Publish(publish) = &packet {
                Some(self.oracle.publish_sent(who, publish))
            } else {
                self.oracle.answered(who, &packet);
                None
            };
            if self.clients[who].is_connected {
                self.clients[who].wire.push_back((packet, duty));
            }
        }
    }

    pub(super) fn take(&mut self, who: usize, n: usize, refuses: bool) -> bool {
        for done in 0..n {
            match self.clients[who].take(refuses) {
                None => return done > 0,
                Some(duty) => duty.into_iter().for_each(|duty| self.oracle.seen(duty)),
            }
        }
        true
    }

    pub(super) fn acknowledge(&mut self, who: usize, n: usize, kind: usize) -> bool {
        for done in 0..n {
            let Some(packet) = self.clients[who].answer(kind) else { return done > 0 };
            self.send(who, &packet, None);
        }
        true
    }

    pub(super) fn settle(&mut self, who: usize) -> bool {
        let mut is_moved = false;
        loop {
            let mut moves = self.read(who, 999) | self.confirm(who, 999);
            self.pull(who, usize::MAX);
            moves |= self.take(who, 999, false) | self.acknowledge(who, 999, 0);
            if !moves {
                return is_moved;
            }
            is_moved = true;
        }
    }
}

/// The filter as one of the list.
fn known(who: usize, filter: &str) -> &'static str {
    filters(who).iter().find(|f| **f == filter).expect("one of the list")
}

//! The server's end of a connection: what is read from it and written to it, through the codec.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;

use crate::broker::hub::Hub;
use crate::broker::slot::Slot;
use crate::mqtt::codec::Version;
use crate::mqtt::packet::{Filter, SubscriptionId, TopicAlias};
use crate::mqtt::session::Subscription;
use crate::mqtt::{Packet, PacketId, Publish, Reason, Session, Ticket};

/// A connection.
pub(super) struct Link {
    pub(super) slot: Arc<Slot>,
    pub(super) session: Box<Session>,
    pub(super) version: Version,
    /// Publishes taken, to be routed and confirmed.
    pub(super) pending: VecDeque<(Ticket, Publish)>,
    /// What the client has written, and the numbers of its messages, in order.
    pub(super) input: BytesMut,
    pub(super) numbers: VecDeque<u32>,
    /// What was written to the client since it was last asked for.
    pub(super) output: Vec<Packet>,
    /// What the topic aliases given to the client stand for.
    aliases: BTreeMap<TopicAlias, String>,
    /// It has ended, but for the session.
    pub(super) is_parting: bool,
}

impl Link {
    pub(super) fn new(slot: Arc<Slot>, session: Box<Session>, version: Version) -> Self {
        Self {
            slot,
            session,
            version,
            pending: VecDeque::new(),
            input: BytesMut::new(),
            numbers: VecDeque::new(),
            output: Vec::new(),
            aliases: BTreeMap::new(),
            is_parting: false,
        }
    }

    pub(super) fn send(&mut self, packet: &Packet) {
        if self.is_parting {
            return;
        }
        let mut packet = decode_one(self.version, packet);
        if let Packet::Publish(publish) = &mut packet
            && let Some(alias) = publish.topic_alias.take()
        {
            if publish.topic.is_empty() {
                publish.topic = self.aliases[&alias].as_str().into();
            } else {
                self.aliases.insert(alias, publish.topic.to_string());
            }
        }
        self.output.push(packet);
    }

    pub(super) fn subscribe(
        &mut self,
        hub: &Hub,
        packet_id: PacketId,
        filters: &[Filter],
        id: Option<SubscriptionId>,
        now: Instant,
    ) {
        let mut reasons = Vec::new();
        for Filter { filter, options } in filters {
            let subscription = Subscription { options: *options, id };
            let granted = hub.subscribe(&self.slot, &mut self.session, filter, subscription).map(|mut awaited| {
                awaited.iter_mut().for_each(|awaited| while hub.bring(&mut self.session, awaited, 2, now) {});
            });
            reasons.push(granted.err().unwrap_or(Reason::granted(options.qos)));
        }
        self.send(&Packet::SubAck { packet_id, reasons, reason_string: None });
    }

    /// How many retained messages may still wait.
    pub(super) fn backlog_room(&self, max: usize) -> usize {
        max - self.session.backlog_len()
    }
}

fn decode_one(version: Version, packet: &Packet) -> Packet {
    let mut bytes = Vec::new();
    version.encode(packet, &mut bytes);
    let mut bytes = BytesMut::from(&bytes[..]);
    let decoded =
        version.decode_server(&mut bytes, usize::MAX).expect("the server writes packets").expect("whole ones");
    assert!(bytes.is_empty());
    decoded
}

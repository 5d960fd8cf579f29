//! The packets of MQTT as values, the same for every version and transport.
//!
//! Invariant: a value made by the codec has valid UTF-8 without U+0000, a valid topic name or filter, and a non-zero
//! packet id exactly where the QoS asks for one. Texts and payloads are slices of the received buffer. What only
//! version 5 has is absent, or at its default, in packets of 3.1.1. Knows nothing of bytes on the wire.

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;

pub use super::reason::Reason;

/// A packet identifier, 1…65535.
pub type PacketId = NonZeroU16;

/// A number that stands for a topic on one connection and in one direction, 1…65535 (MQTT 5 section 3.3.2.3.4).
pub type TopicAlias = NonZeroU16;

/// A subscription identifier, 1…268435455 (MQTT 5 section 3.8.2.1.2).
pub type SubscriptionId = NonZeroU32;

/// Session expiry of MQTT 5 that means "never" (section 3.1.2.11.2); what a session of 3.1.1 that is not clean has.
pub const NEVER: u32 = u32::MAX;

/// Quality of service, by the specification's names.
#[allow(clippy::enum_variant_names)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub enum QoS {
    /// 0: fire and forget.
    #[default]
    AtMostOnce,
    /// 1: acknowledged by PUBACK.
    AtLeastOnce,
    /// 2: PUBREC, PUBREL, PUBCOMP.
    ExactlyOnce,
}

impl QoS {
    /// The number on the wire.
    pub const fn level(self) -> u8 {
        match self {
            Self::AtMostOnce => 0,
            Self::AtLeastOnce => 1,
            Self::ExactlyOnce => 2,
        }
    }

    /// `None` for 3 and above: `[MQTT-3.3.1-4]`, `[MQTT-3.8.3-4]`.
    pub const fn from_level(level: u8) -> Option<Self> {
        match level {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

/// Any packet a client may send or receive.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub enum Packet {
    Connect(Box<Connect>),
    ConnAck(Box<ConnAck>),
    Publish(Publish),
    PubAck(Ack),
    PubRec(Ack),
    PubRel(Ack),
    PubComp(Ack),
    Subscribe {
        packet_id: PacketId,
        filters: Vec<Filter>,
        id: Option<SubscriptionId>,
    },
    /// One reason a filter: granted QoS or refusal.
    SubAck {
        packet_id: PacketId,
        reasons: Vec<Reason>,
        reason_string: Option<ByteString>,
    },
    Unsubscribe {
        packet_id: PacketId,
        filters: Vec<ByteString>,
    },
    /// One reason a filter; 3.1.1 sends none.
    UnsubAck {
        packet_id: PacketId,
        reasons: Vec<Reason>,
    },
    PingReq,
    PingResp,
    Disconnect(Disconnect),
    /// MQTT 5 only. What it carries is checked and not kept: no method of enhanced authentication is offered.
    Auth(Reason),
}

impl Packet {
    /// The same without the text for people; `None` = it has none.
    pub fn without_reason_string(&self) -> Option<Self> {
        let mut shorter = self.clone();
        let text = match &mut shorter {
            Self::PubAck(ack) | Self::PubRec(ack) | Self::PubRel(ack) | Self::PubComp(ack) => &mut ack.reason_string,
            Self::SubAck { reason_string, .. } => reason_string,
            Self::ConnAck(answer) => &mut answer.reason_string,
            Self::Disconnect(goodbye) => &mut goodbye.reason_string,
            _ => return None,
        };
        text.take().map(|_| shorter)
    }
}

/// A client's first packet.
#[derive(Clone, PartialEq, Default)]
pub struct Connect {
    /// May be empty: the connection chooses one then. In 3.1.1 only with a clean session `[MQTT-3.1.3-8]`.
    pub client_id: ByteString,
    /// Forget an earlier session. In 3.1.1 "clean session", which also sets `session_expiry_s` to 0.
    pub clean_start: bool,
    /// Seconds; 0 = none.
    pub keep_alive: u16,
    /// What to publish if the client vanishes.
    pub will: Option<Will>,
    /// User name.
    pub username: Option<ByteString>,
    /// Password. In 3.1.1 only beside a user name `[MQTT-3.1.2-22]`.
    pub password: Option<Bytes>,
    /// How long the session is to be kept after the connection; 0 = not at all, [`NEVER`] = as long as possible. 3.1.1: 0
    /// for a clean session, else [`NEVER`].
    pub session_expiry_s: u32,
    /// QoS 1 and 2 publishes the client takes at a time; `None` = 65535.
    pub receive_maximum: Option<NonZeroU16>,
    /// Largest packet the client takes, in bytes; `None` = any.
    pub max_packet_size: Option<NonZeroU32>,
    /// Topic aliases the client takes; 0 = none.
    pub topic_alias_maximum: u16,
    /// The client would like response information in CONNACK.
    pub wants_response_information: bool,
    /// Whether the client wants reason strings; `Some(false)` forbids them but in CONNACK, DISCONNECT and PUBLISH
    /// `[MQTT-3.1.2-29]`.
    pub problem_information: Option<bool>,
    /// Method of enhanced authentication.
    pub authentication_method: Option<ByteString>,
    /// In only: the client speaks MQTT 3.1, whose CONNACK does not say whether there was a session.
    pub is_v31: bool,
}

impl Connect {
    /// Whether refusals are explained in words. By default the specification allows it and does not ask for it; who does
    /// ask is told, the others get the shortest form.
    pub fn wants_reasons(&self) -> bool {
        self.problem_information == Some(true)
    }
}

/// Without the password.
impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connect")
            .field("client_id", &self.client_id)
            .field("clean_start", &self.clean_start)
            .field("keep_alive", &self.keep_alive)
            .field("will", &self.will)
            .field("username", &self.username)
            .field("session_expiry_s", &self.session_expiry_s)
            .finish_non_exhaustive()
    }
}

/// The last will.
#[derive(Clone, PartialEq, Debug, Default)]
#[allow(missing_docs)]
pub struct Will {
    pub topic: ByteString,
    pub payload: Bytes,
    pub qos: QoS,
    pub retain: bool,
    /// How long to wait for the client to come back before it is published (MQTT 5 section 3.1.3.2.2).
    pub delay_s: u32,
    /// Message expiry, counted from its publication.
    pub expiry_s: Option<u32>,
    pub properties: Option<Arc<Properties>>,
}

/// The answer to CONNECT.
#[derive(Clone, PartialEq, Debug)]
pub struct ConnAck {
    /// The server had a session of this client `[MQTT-3.2.2-2]`.
    pub session_present: bool,
    /// [`Reason::Success`] or the refusal.
    pub reason: Reason,
    /// Sent if it differs from what the client asked for.
    pub session_expiry_s: Option<u32>,
    /// QoS 1 and 2 publishes the server takes at a time; `None` = 65535.
    pub receive_maximum: Option<NonZeroU16>,
    /// Largest packet the server takes, in bytes; `None` = any.
    pub max_packet_size: Option<NonZeroU32>,
    /// Chosen by the server for a client without one `[MQTT-3.2.2-16]`.
    pub assigned_client_id: Option<ByteString>,
    /// Topic aliases the server takes; 0 = none.
    pub topic_alias_maximum: u16,
    /// The keep-alive to hold instead of the one asked for `[MQTT-3.2.2-21]`.
    pub server_keep_alive: Option<u16>,
    /// Root of the topics on which this client may receive responses.
    pub response_information: Option<ByteString>,
    /// For people.
    pub reason_string: Option<ByteString>,
}

impl ConnAck {
    /// An answer without any property.
    pub const fn new(reason: Reason) -> Self {
        Self {
            session_present: false,
            reason,
            session_expiry_s: None,
            receive_maximum: None,
            max_packet_size: None,
            assigned_client_id: None,
            topic_alias_maximum: 0,
            server_keep_alive: None,
            response_information: None,
            reason_string: None,
        }
    }
}

/// An application message on its way, in either direction.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Publish {
    /// A retransmission, perhaps.
    pub dup: bool,
    /// In: to be kept. Out: was kept.
    pub retain: bool,
    /// Level of this hop.
    pub qos: QoS,
    /// Present exactly when `qos` > 0.
    pub packet_id: Option<PacketId>,
    /// Topic name; empty only beside an alias that stands for one `[MQTT-3.3.2-8]`.
    pub topic: ByteString,
    /// Stands for the topic from now on.
    pub topic_alias: Option<TopicAlias>,
    /// Seconds the message is worth delivering, counted from its arrival (in) or from now (out).
    pub expiry_s: Option<u32>,
    /// Out only: which subscriptions it is for `[MQTT-3.3.4-6]`.
    pub subscription_ids: Vec<SubscriptionId>,
    /// What is passed on as it came; `None` where there is nothing.
    pub properties: Option<Arc<Properties>>,
    /// Anything.
    pub payload: Bytes,
}

/// Properties of a message that the server passes on unaltered (MQTT 5 section 3.3.2.3).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Properties {
    /// `Some(true)` = the payload says it is UTF-8, `Some(false)` = it says it is bytes.
    pub payload_is_utf8: Option<bool>,
    pub content_type: Option<ByteString>,
    pub response_topic: Option<ByteString>,
    pub correlation_data: Option<Bytes>,
    /// In order `[MQTT-3.3.2-18]`.
    pub user: Vec<(ByteString, ByteString)>,
}

impl Publish {
    /// What it counts for in a byte limit.
    pub fn size(&self) -> usize {
        self.topic.len() + self.payload.len() + self.properties.as_ref().map_or(0, |p| p.size())
    }
}

/// A user property with its two texts' own places in memory.
const PAIR_BYTES: usize = size_of::<(ByteString, ByteString)>() + 2 * 16;

impl Properties {
    /// What they count for in a byte limit: what they take in memory.
    pub fn size(&self) -> usize {
        let text = |t: &Option<ByteString>| t.as_ref().map_or(0, |t| t.len());
        text(&self.content_type)
            + text(&self.response_topic)
            + self.correlation_data.as_ref().map_or(0, Bytes::len)
            + self.user.iter().map(|(name, value)| name.len() + value.len() + PAIR_BYTES).sum::<usize>()
            + 64
    }

    /// With memory of its own: slices of a receive buffer would keep that whole buffer alive.
    pub fn detached(&self) -> Self {
        let text = |t: &ByteString| ByteString::from(&**t);
        Self {
            payload_is_utf8: self.payload_is_utf8,
            content_type: self.content_type.as_ref().map(text),
            response_topic: self.response_topic.as_ref().map(text),
            correlation_data: self.correlation_data.as_deref().map(Bytes::copy_from_slice),
            user: self.user.iter().map(|(name, value)| (text(name), text(value))).collect(),
        }
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP. 3.1.1 has the packet id only: its reason is success.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Ack {
    pub packet_id: PacketId,
    pub reason: Reason,
    /// Out only: for people.
    pub reason_string: Option<ByteString>,
}

impl Ack {
    /// All is well.
    pub const fn ok(packet_id: PacketId) -> Self {
        Self::new(packet_id, Reason::Success)
    }

    /// Without a text.
    pub const fn new(packet_id: PacketId, reason: Reason) -> Self {
        Self { packet_id, reason, reason_string: None }
    }
}

/// One filter of a SUBSCRIBE and what is wanted of it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Filter {
    pub filter: ByteString,
    pub options: SubscribeOptions,
}

/// Subscription options (MQTT 5 section 3.8.3.1); 3.1.1 has the QoS only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SubscribeOptions {
    /// The highest QoS wanted.
    pub qos: QoS,
    /// Not what this client publishes itself.
    pub no_local: bool,
    /// Keep the RETAIN flag as published.
    pub retain_as_published: bool,
    /// Whether retained messages are wanted now.
    pub retain_handling: RetainHandling,
}

/// When a SUBSCRIBE brings retained messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RetainHandling {
    /// 0: at every SUBSCRIBE.
    #[default]
    Always,
    /// 1: only if the subscription is new.
    IfNew,
    /// 2: never.
    Never,
}

/// The end of a connection, by either side.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Disconnect {
    /// 3.1.1: [`Reason::Success`].
    pub reason: Reason,
    /// From a client: a new session expiry.
    pub session_expiry_s: Option<u32>,
    /// Out only: for people.
    pub reason_string: Option<ByteString>,
}

impl Disconnect {
    /// Without any property.
    pub const fn new(reason: Reason) -> Self {
        Self { reason, session_expiry_s: None, reason_string: None }
    }
}

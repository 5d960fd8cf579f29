//! The packets of MQTT as values, the same for every version and transport.
//!
//! Invariant: a value made by the codec has valid UTF-8 without U+0000, a valid topic name or filter, and a non-zero
//! packet id exactly where the QoS asks for one. Texts and payloads are slices of the received buffer. Knows nothing of
//! bytes on the wire.

use std::num::NonZeroU16;

use bytes::Bytes;
use bytestring::ByteString;

/// A packet identifier, 1…65535.
pub type PacketId = NonZeroU16;

/// Quality of service, by the specification's names.
#[allow(clippy::enum_variant_names)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum QoS {
    /// 0: fire and forget.
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
    ConnAck { session_present: bool, code: ConnectCode },
    Publish(Publish),
    PubAck(PacketId),
    PubRec(PacketId),
    PubRel(PacketId),
    PubComp(PacketId),
    Subscribe { packet_id: PacketId, filters: Vec<(ByteString, QoS)> },
    SubAck { packet_id: PacketId, codes: Vec<Option<QoS>> },
    Unsubscribe { packet_id: PacketId, filters: Vec<ByteString> },
    UnsubAck(PacketId),
    PingReq,
    PingResp,
    Disconnect,
}

/// A client's first packet.
#[derive(Clone, PartialEq)]
pub struct Connect {
    /// May be empty only with a clean session `[MQTT-3.1.3-8]`; the connection chooses one then.
    pub client_id: ByteString,
    /// Forget an earlier session, and this one at its end.
    pub clean_session: bool,
    /// Seconds; 0 = none.
    pub keep_alive: u16,
    /// What to publish if the client vanishes.
    pub will: Option<Will>,
    /// User name.
    pub username: Option<ByteString>,
    /// Password; only beside a user name `[MQTT-3.1.2-22]`.
    pub password: Option<Bytes>,
}

/// Without the password.
impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connect")
            .field("client_id", &self.client_id)
            .field("clean_session", &self.clean_session)
            .field("keep_alive", &self.keep_alive)
            .field("will", &self.will)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// The last will.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub struct Will {
    pub topic: ByteString,
    pub payload: Bytes,
    pub qos: QoS,
    pub retain: bool,
}

/// An application message on its way, in either direction.
#[derive(Clone, PartialEq, Debug)]
pub struct Publish {
    /// A retransmission, perhaps.
    pub dup: bool,
    /// In: to be kept. Out: was kept.
    pub retain: bool,
    /// Level of this hop.
    pub qos: QoS,
    /// Present exactly when `qos` > 0.
    pub packet_id: Option<PacketId>,
    /// Topic name.
    pub topic: ByteString,
    /// Anything.
    pub payload: Bytes,
}

/// The answer to CONNECT. Numbers are chosen by the codec of the version.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum ConnectCode {
    Accepted,
    UnacceptableProtocolVersion,
    IdentifierRejected,
    ServerUnavailable,
    BadUserNameOrPassword,
    NotAuthorized,
}

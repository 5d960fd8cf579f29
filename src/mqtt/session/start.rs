//! What a connection begins with: the server's limits, and what the client asked for, already reconciled.

use std::time::Duration;

use crate::mqtt::codec::Version;
use crate::mqtt::packet::{Connect, NEVER, Will};

/// Bounds of one session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// QoS 1 and 2 messages sent and not yet complete, 1…65535.
    pub max_inflight: usize,
    /// QoS 1 and 2 messages of the client not yet complete; MQTT 5 only, 1…65535.
    pub receive_maximum: usize,
    /// Topic aliases in use in each direction; MQTT 5 only.
    pub topic_aliases: u16,
    /// Filters subscribed at a time.
    pub max_subscriptions: usize,
    /// Retained messages waiting because of a SUBSCRIBE; they share memory with the retained store.
    pub max_backlog: usize,
    /// The longest a session is kept without a connection.
    pub max_expiry: Duration,
}

impl Limits {
    /// How long a session is kept for which `asked_s` seconds were asked.
    pub fn expiry(&self, asked_s: u32) -> Duration {
        if asked_s == NEVER { self.max_expiry } else { Duration::from_secs(asked_s.into()).min(self.max_expiry) }
    }
}

/// What a CONNECT says about the session, within the server's limits.
#[derive(Clone, PartialEq, Debug)]
pub struct Start {
    /// Its packets are encoded so.
    pub version: Version,
    /// The client knows receive maxima, topic aliases and refusals in acknowledgements: MQTT 5.
    pub has_flow_control: bool,
    /// The client promises a packet within this; `None` = it promises nothing.
    pub keep_alive: Option<Duration>,
    /// Published when the connection ends without goodbye.
    pub will: Option<Will>,
    /// How long the session is kept without a connection; zero = it ends with the connection.
    pub expiry: Duration,
    /// QoS 1 and 2 messages the client takes at a time.
    pub receive_maximum: usize,
    /// Largest packet the client takes, in bytes.
    pub max_packet_size: usize,
    /// Topic aliases the client takes.
    pub topic_alias_maximum: u16,
    /// The client wants reason strings with every packet that may have one.
    pub wants_reasons: bool,
}

impl Default for Start {
    fn default() -> Self {
        Self {
            version: Version::V311,
            has_flow_control: false,
            keep_alive: None,
            will: None,
            expiry: Duration::ZERO,
            receive_maximum: usize::from(u16::MAX),
            max_packet_size: usize::MAX,
            topic_alias_maximum: 0,
            wants_reasons: false,
        }
    }
}

impl Start {
    /// What `connect` asks for, with the keep-alive to hold it to.
    pub fn of(version: Version, connect: &Connect, keep_alive: Option<Duration>, limits: &Limits) -> Self {
        let is_v5 = version == Version::V5;
        Self {
            version,
            has_flow_control: is_v5,
            keep_alive,
            will: connect.will.clone(),
            expiry: limits.expiry(connect.session_expiry_s),
            receive_maximum: connect.receive_maximum.map_or(usize::from(u16::MAX), |n| n.get().into()),
            max_packet_size: connect.max_packet_size.map_or(usize::MAX, |n| n.get() as usize),
            topic_alias_maximum: connect.topic_alias_maximum,
            wants_reasons: is_v5 && connect.wants_reasons(),
        }
    }
}

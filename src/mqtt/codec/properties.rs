//! The properties of MQTT 5 (section 2.2.2): which there are, which packet may carry which, and their values.
//!
//! Invariant: a property that is given out is allowed in its packet, comes for the first time if it may come but once,
//! and has a value in its range. What a property means is not known here.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;
use bytestring::ByteString;

use super::read::Body;
use super::{Error, protocol_error};
use crate::mqtt::packet::{Reason, SubscriptionId, TopicAlias};
use crate::mqtt::topic;

/// Table 2-4.
pub(super) mod id {
    pub const PAYLOAD_FORMAT_INDICATOR: u8 = 0x01;
    pub const MESSAGE_EXPIRY_INTERVAL: u8 = 0x02;
    pub const CONTENT_TYPE: u8 = 0x03;
    pub const RESPONSE_TOPIC: u8 = 0x08;
    pub const CORRELATION_DATA: u8 = 0x09;
    pub const SUBSCRIPTION_IDENTIFIER: u8 = 0x0b;
    pub const SESSION_EXPIRY_INTERVAL: u8 = 0x11;
    pub const ASSIGNED_CLIENT_IDENTIFIER: u8 = 0x12;
    pub const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub const AUTHENTICATION_METHOD: u8 = 0x15;
    pub const AUTHENTICATION_DATA: u8 = 0x16;
    pub const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    pub const WILL_DELAY_INTERVAL: u8 = 0x18;
    pub const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    pub const RESPONSE_INFORMATION: u8 = 0x1a;
    pub const SERVER_REFERENCE: u8 = 0x1c;
    pub const REASON_STRING: u8 = 0x1f;
    pub const RECEIVE_MAXIMUM: u8 = 0x21;
    pub const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub const TOPIC_ALIAS: u8 = 0x23;
    pub const MAXIMUM_QOS: u8 = 0x24;
    pub const RETAIN_AVAILABLE: u8 = 0x25;
    pub const USER_PROPERTY: u8 = 0x26;
    pub const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub const WILDCARD_SUBSCRIPTION_AVAILABLE: u8 = 0x28;
    pub const SUBSCRIPTION_IDENTIFIER_AVAILABLE: u8 = 0x29;
    pub const SHARED_SUBSCRIPTION_AVAILABLE: u8 = 0x2a;
}

/// Properties a packet may carry, one bit each.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Allowed(u64);

impl Allowed {
    const fn new(ids: &[u8]) -> Self {
        let (mut bits, mut i) = (0, 0);
        while i < ids.len() {
            bits |= 1 << ids[i];
            i += 1;
        }
        Self(bits)
    }

    pub const CONNECT: Self = Self::new(&[
        id::SESSION_EXPIRY_INTERVAL,
        id::AUTHENTICATION_METHOD,
        id::AUTHENTICATION_DATA,
        id::REQUEST_PROBLEM_INFORMATION,
        id::REQUEST_RESPONSE_INFORMATION,
        id::RECEIVE_MAXIMUM,
        id::TOPIC_ALIAS_MAXIMUM,
        id::USER_PROPERTY,
        id::MAXIMUM_PACKET_SIZE,
    ]);

    pub const WILL: Self = Self::new(&[
        id::PAYLOAD_FORMAT_INDICATOR,
        id::MESSAGE_EXPIRY_INTERVAL,
        id::CONTENT_TYPE,
        id::RESPONSE_TOPIC,
        id::CORRELATION_DATA,
        id::WILL_DELAY_INTERVAL,
        id::USER_PROPERTY,
    ]);

    pub const CONNACK: Self = Self::new(&[
        id::SESSION_EXPIRY_INTERVAL,
        id::ASSIGNED_CLIENT_IDENTIFIER,
        id::SERVER_KEEP_ALIVE,
        id::AUTHENTICATION_METHOD,
        id::AUTHENTICATION_DATA,
        id::RESPONSE_INFORMATION,
        id::SERVER_REFERENCE,
        id::REASON_STRING,
        id::RECEIVE_MAXIMUM,
        id::TOPIC_ALIAS_MAXIMUM,
        id::MAXIMUM_QOS,
        id::RETAIN_AVAILABLE,
        id::USER_PROPERTY,
        id::MAXIMUM_PACKET_SIZE,
        id::WILDCARD_SUBSCRIPTION_AVAILABLE,
        id::SUBSCRIPTION_IDENTIFIER_AVAILABLE,
        id::SHARED_SUBSCRIPTION_AVAILABLE,
    ]);

    pub const PUBLISH: Self = Self::new(&[
        id::PAYLOAD_FORMAT_INDICATOR,
        id::MESSAGE_EXPIRY_INTERVAL,
        id::CONTENT_TYPE,
        id::RESPONSE_TOPIC,
        id::CORRELATION_DATA,
        id::SUBSCRIPTION_IDENTIFIER,
        id::TOPIC_ALIAS,
        id::USER_PROPERTY,
    ]);

    /// PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK and UNSUBACK.
    pub const ACK: Self = Self::new(&[id::REASON_STRING, id::USER_PROPERTY]);

    pub const SUBSCRIBE: Self = Self::new(&[id::SUBSCRIPTION_IDENTIFIER, id::USER_PROPERTY]);

    pub const UNSUBSCRIBE: Self = Self::new(&[id::USER_PROPERTY]);

    pub const DISCONNECT: Self =
        Self::new(&[id::SESSION_EXPIRY_INTERVAL, id::SERVER_REFERENCE, id::REASON_STRING, id::USER_PROPERTY]);

    pub const AUTH: Self =
        Self::new(&[id::AUTHENTICATION_METHOD, id::AUTHENTICATION_DATA, id::REASON_STRING, id::USER_PROPERTY]);

    /// All there are.
    pub const ANYWHERE: Self =
        Self(Self::CONNECT.0 | Self::WILL.0 | Self::CONNACK.0 | Self::PUBLISH.0 | Self::AUTH.0 | Self::DISCONNECT.0);

    const fn has(self, id: u8) -> bool {
        id < 64 && self.0 & 1 << id != 0
    }

    /// Any number of user properties; any number of subscription identifiers in a PUBLISH (section 3.3.2.3.8).
    fn may_repeat(self, id: u8) -> bool {
        id == id::USER_PROPERTY || id == id::SUBSCRIPTION_IDENTIFIER && self == Self::PUBLISH
    }
}

/// One property.
pub(super) enum Property {
    PayloadIsUtf8(bool),
    MessageExpiry(u32),
    ContentType(ByteString),
    ResponseTopic(ByteString),
    CorrelationData(Bytes),
    SubscriptionId(SubscriptionId),
    SessionExpiry(u32),
    AssignedClientId(ByteString),
    ServerKeepAlive(u16),
    AuthenticationMethod(ByteString),
    AuthenticationData,
    RequestProblemInformation(bool),
    WillDelay(u32),
    RequestResponseInformation(bool),
    ResponseInformation(ByteString),
    ServerReference,
    ReasonString(ByteString),
    ReceiveMaximum(NonZeroU16),
    TopicAliasMaximum(u16),
    TopicAlias(TopicAlias),
    User(ByteString, ByteString),
    MaximumPacketSize(NonZeroU32),
    /// What a server says it does not offer.
    Offer,
}

/// The properties of a packet, one after the other.
pub(super) struct Reader {
    body: Body,
    allowed: Allowed,
    seen: u64,
}

impl Reader {
    /// Takes the length and the properties off `body`.
    pub fn new(body: &mut Body, allowed: Allowed) -> Result<Self, Error> {
        Ok(Self { body: body.part()?, allowed, seen: 0 })
    }

    pub fn next(&mut self) -> Result<Option<Property>, Error> {
        if self.body.is_empty() {
            return Ok(None);
        }
        let (id, value) = self.property()?;
        if !self.allowed.has(id) {
            self.read_over()?;
            return Err(self.misplaced("a property that this packet does not have"));
        }
        if self.seen & 1 << id != 0 && !self.allowed.may_repeat(id) {
            return Err(protocol_error("a property that comes twice"));
        }
        self.seen |= 1 << id;
        Ok(Some(value))
    }

    /// Section 2.2.2.2 leaves the reason open; as others do it: an unknown identifier cannot be read over, a known one that
    /// is not for this packet can, to the end.
    fn property(&mut self) -> Result<(u8, Property), Error> {
        let id = u8::try_from(self.body.varint()?).ok().filter(|id| Allowed::ANYWHERE.has(*id));
        let id = id.ok_or(Error::Malformed("an unknown property"))?;
        Ok((id, self.value(id)?))
    }

    /// What cannot be read counts for more than what is forbidden.
    fn read_over(&mut self) -> Result<(), Error> {
        while !self.body.is_empty() {
            if let Err(error @ Error::Malformed(_)) = self.property() {
                return Err(error);
            }
        }
        Ok(())
    }

    /// SUBSCRIBE and UNSUBSCRIBE have "malformed" where other packets have "protocol error".
    fn misplaced(&self, what: &'static str) -> Error {
        match self.allowed {
            Allowed::SUBSCRIBE | Allowed::UNSUBSCRIBE => Error::Malformed(what),
            _ => protocol_error(what),
        }
    }

    fn value(&mut self, id: u8) -> Result<Property, Error> {
        let subscription_id_0 = self.misplaced("subscription identifier 0");
        let body = &mut self.body;
        Ok(match id {
            id::PAYLOAD_FORMAT_INDICATOR => Property::PayloadIsUtf8(bool(body)?),
            id::MESSAGE_EXPIRY_INTERVAL => Property::MessageExpiry(body.u32()?),
            id::CONTENT_TYPE => Property::ContentType(body.text()?),
            id::RESPONSE_TOPIC => Property::ResponseTopic(response_topic(body)?),
            id::CORRELATION_DATA => Property::CorrelationData(body.binary()?),
            id::SUBSCRIPTION_IDENTIFIER => {
                Property::SubscriptionId(SubscriptionId::new(body.varint()?).ok_or(subscription_id_0)?)
            }
            id::SESSION_EXPIRY_INTERVAL => Property::SessionExpiry(body.u32()?),
            id::ASSIGNED_CLIENT_IDENTIFIER => Property::AssignedClientId(body.text()?),
            id::SERVER_KEEP_ALIVE => Property::ServerKeepAlive(body.u16()?),
            id::AUTHENTICATION_METHOD => Property::AuthenticationMethod(body.text()?),
            id::AUTHENTICATION_DATA => body.binary().map(|_| Property::AuthenticationData)?,
            id::REQUEST_PROBLEM_INFORMATION => Property::RequestProblemInformation(bool(body)?),
            id::WILL_DELAY_INTERVAL => Property::WillDelay(body.u32()?),
            id::REQUEST_RESPONSE_INFORMATION => Property::RequestResponseInformation(bool(body)?),
            id::RESPONSE_INFORMATION => Property::ResponseInformation(body.text()?),
            id::SERVER_REFERENCE => body.text().map(|_| Property::ServerReference)?,
            id::REASON_STRING => Property::ReasonString(body.text()?),
            id::RECEIVE_MAXIMUM => {
                Property::ReceiveMaximum(NonZeroU16::new(body.u16()?).ok_or(protocol_error("receive maximum 0"))?)
            }
            id::TOPIC_ALIAS_MAXIMUM => Property::TopicAliasMaximum(body.u16()?),
            id::TOPIC_ALIAS => Property::TopicAlias(topic_alias(body)?),
            id::USER_PROPERTY => Property::User(body.text()?, body.text()?),
            id::MAXIMUM_PACKET_SIZE => Property::MaximumPacketSize(
                NonZeroU32::new(body.u32()?).ok_or(protocol_error("maximum packet size 0"))?,
            ),
            // The rest of the table: a byte that is 0 or 1.
            _ => bool(body).map(|_| Property::Offer)?,
        })
    }
}

fn bool(body: &mut Body) -> Result<bool, Error> {
    match body.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(protocol_error("neither 0 nor 1")),
    }
}

/// No wildcards `[MQTT-3.3.2-14]`, and not empty `[MQTT-4.7.3-1]`.
fn response_topic(body: &mut Body) -> Result<ByteString, Error> {
    let name = body.text()?;
    if name.is_empty() || topic::has_wildcard(&name) { Err(protocol_error("response topic")) } else { Ok(name) }
}

/// Not 0 `[MQTT-3.3.2-8]`.
fn topic_alias(body: &mut Body) -> Result<TopicAlias, Error> {
    TopicAlias::new(body.u16()?).ok_or(Error::Protocol(Reason::TopicAliasInvalid, "topic alias 0"))
}

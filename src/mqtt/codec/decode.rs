//! Bytes → packets of both versions: what clients send, and what both sides do.
//!
//! Invariant: every byte of a packet is accounted for; texts and payloads are slices of the input, nothing is copied.
//! What a client's packet carries for people only (reason strings, user properties but those of a message) is checked
//! and not kept.

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use bytestring::ByteString;

use super::properties::{Allowed, Property, Reader};
use super::read::{Body, PACKET_ID_0, check_name};
use super::{Error, Frame, Sender, Version, connect, protocol_error, reasons, server, subscribe};
use crate::mqtt::packet::{Ack, Disconnect, Packet, PacketId, Properties, Publish, QoS, Reason};

/// Cuts the framed packet off `buf` and decodes it.
pub(super) fn packet(version: Version, sender: Sender, frame: Frame, buf: &mut BytesMut) -> Result<Packet, Error> {
    use Sender::{Client, Server};
    let mut body = || Body::new(frame.take(buf));
    match (frame.first >> 4, sender) {
        (1, Client) => second_connect(version, body()),
        (2, Server) => server::connack(version, body()).map(|ack| Packet::ConnAck(Box::new(ack))),
        (3, _) => publish(version, sender, frame.first, body()).map(Packet::Publish),
        (4..=7, _) => ack(version, sender, frame, buf),
        (8, Client) => subscribe::subscribe(version, body()),
        (9, Server) => server::suback(version, body()),
        (10, Client) => subscribe::unsubscribe(version, body()),
        (11, Server) => server::unsuback(version, body()),
        (12, Client) => empty(frame, buf).map(|()| Packet::PingReq),
        (13, Server) => empty(frame, buf).map(|()| Packet::PingResp),
        (13, Client) if frame.body_len > 0 => Err(Error::Unanswered("PINGRESP with a body")),
        (14, Client) if version == Version::V311 => {
            empty(frame, buf).map(|()| Packet::Disconnect(Disconnect::new(Reason::Success)))
        }
        (14, _) if version == Version::V5 => disconnect(sender, body()).map(Packet::Disconnect),
        (15, _) if version == Version::V5 => auth(sender, body()).map(Packet::Auth),
        (15, _) => Err(Error::Malformed("reserved packet type")),
        _ => Err(protocol_error("a packet that only the other side sends")),
    }
}

/// Not the first packet of the connection: the session decides what becomes of it, if it is whole.
fn second_connect(version: Version, body: Body) -> Result<Packet, Error> {
    match connect::connect(body.into_rest()) {
        Ok((said, connect)) if said == version => Ok(Packet::Connect(Box::new(connect))),
        Ok(_) | Err(super::ConnectError { error: Error::Refused(_), .. }) => {
            Err(protocol_error("a second CONNECT")) // [MQTT-3.1.0-2]
        }
        Err(e) => Err(e.error),
    }
}

fn publish(version: Version, sender: Sender, first: u8, mut body: Body) -> Result<Publish, Error> {
    let qos = QoS::from_level((first >> 1) & 3).ok_or(Error::Malformed("QoS 3"))?; // [MQTT-3.3.1-4]
    let dup = first & 8 != 0;
    if dup && qos == QoS::AtMostOnce {
        return Err(Error::Malformed("DUP at QoS 0")); // [MQTT-3.3.1-2]
    }
    let mut publish = Publish { dup, retain: first & 1 != 0, qos, topic: body.name()?, ..Publish::default() };
    if version == Version::V311 || !publish.topic.is_empty() {
        check_name(&publish.topic)?;
    }
    if qos != QoS::AtMostOnce {
        publish.packet_id = Some(body.packet_id()?);
    }
    if version == Version::V5 {
        publish_properties(sender, &mut body, &mut publish)?;
    }
    publish.payload = body.into_rest();
    Ok(publish)
}

/// Section 3.3.2.3.
fn publish_properties(sender: Sender, body: &mut Body, publish: &mut Publish) -> Result<(), Error> {
    let mut passed_on = Properties::default();
    let mut properties = Reader::new(body, Allowed::PUBLISH)?;
    while let Some(property) = properties.next()? {
        match property {
            Property::MessageExpiry(seconds) => publish.expiry_s = Some(seconds),
            Property::TopicAlias(alias) => publish.topic_alias = Some(alias),
            Property::SubscriptionId(_) if sender == Sender::Client => {
                return Err(protocol_error("subscription identifier from a client")); // [MQTT-3.3.4-6]
            }
            Property::SubscriptionId(id) => publish.subscription_ids.push(id),
            other => pass_on(other, &mut passed_on),
        }
    }
    publish.properties = if_any(passed_on);
    if publish.topic.is_empty() && publish.topic_alias.is_none() {
        return Err(Error::Malformed("neither topic nor alias")); // Section 3.3.2.1
    }
    Ok(())
}

/// Keeps what belongs to the message.
pub(super) fn pass_on(property: Property, properties: &mut Properties) {
    match property {
        Property::PayloadIsUtf8(is_utf8) => properties.payload_is_utf8 = Some(is_utf8),
        Property::ContentType(text) => properties.content_type = Some(text),
        Property::ResponseTopic(name) => properties.response_topic = Some(name),
        Property::CorrelationData(data) => properties.correlation_data = Some(data),
        Property::User(name, value) => properties.user.push((name, value)),
        _ => {}
    }
}

pub(super) fn if_any(properties: Properties) -> Option<Arc<Properties>> {
    (properties != Properties::default()).then(|| Arc::new(properties))
}

/// PUBACK, PUBREC, PUBREL, PUBCOMP. 2 bytes: success; 3 bytes: no properties (sections 3.4.2.1, 3.4.2.2.1 and alike).
fn ack(version: Version, sender: Sender, frame: Frame, buf: &mut BytesMut) -> Result<Packet, Error> {
    let kind = frame.first >> 4;
    let ack = match (version, frame.body_len) {
        // Most of them; nothing of the buffer is shared.
        (_, 2) => {
            buf.advance(frame.header_len);
            Ack::ok(PacketId::new(buf.get_u16()).ok_or(PACKET_ID_0)?)
        }
        (Version::V311, _) => return Err(Error::Malformed("length of an acknowledgement")),
        (Version::V5, _) => {
            let mut body = Body::new(frame.take(buf));
            let packet_id = body.packet_id()?;
            let code = body.u8()?;
            let reason = match kind {
                4 | 5 => reasons::receipt(sender, code)?,
                _ => reasons::one_of(reasons::RELEASE, code)?,
            };
            Ack { packet_id, reason, reason_string: optional_reason_string(sender, &mut body)? }
        }
    };
    Ok(match kind {
        4 => Packet::PubAck(ack),
        5 => Packet::PubRec(ack),
        6 => Packet::PubRel(ack),
        _ => Packet::PubComp(ack),
    })
}

/// What an acknowledgement may end with.
fn optional_reason_string(sender: Sender, body: &mut Body) -> Result<Option<ByteString>, Error> {
    if body.is_empty() {
        return Ok(None);
    }
    let text = reason_string(body)?;
    body.end()?;
    Ok(text.filter(|_| sender == Sender::Server))
}

/// The properties of an acknowledgement.
pub(super) fn reason_string(body: &mut Body) -> Result<Option<ByteString>, Error> {
    let mut reason_string = None;
    let mut properties = Reader::new(body, Allowed::ACK)?;
    while let Some(property) = properties.next()? {
        if let Property::ReasonString(text) = property {
            reason_string = Some(text);
        }
    }
    Ok(reason_string)
}

/// No byte: normal; one byte: no properties (sections 3.14.2.1, 3.14.2.2.1). To a client that goes nothing is said about
/// the reason it gives.
fn disconnect(sender: Sender, mut body: Body) -> Result<Disconnect, Error> {
    let mut disconnect = Disconnect::new(Reason::Success);
    if body.is_empty() {
        return Ok(disconnect);
    }
    let reason = reasons::disconnect(sender, body.u8()?);
    disconnect.reason = reason.map_err(|_| Error::Unanswered("the reason of a DISCONNECT"))?;
    if body.is_empty() {
        return Ok(disconnect);
    }
    let mut refers = false;
    let mut properties = Reader::new(&mut body, Allowed::DISCONNECT)?;
    while let Some(property) = properties.next()? {
        match (property, sender) {
            (Property::SessionExpiry(seconds), Sender::Client) => disconnect.session_expiry_s = Some(seconds),
            (Property::SessionExpiry(_), Sender::Server) => {
                return Err(protocol_error("session expiry from a server")); // [MQTT-3.14.2-2]
            }
            (Property::ServerReference, Sender::Client) => refers = true,
            (Property::ReasonString(text), Sender::Server) => disconnect.reason_string = Some(text),
            _ => {}
        }
    }
    if refers {
        return Err(Error::Unanswered("server reference from a client")); // Section 3.14.2.2.5
    }
    body.end()?;
    Ok(disconnect)
}

/// Section 3.15. Without a byte it is a success, which only servers tell.
fn auth(sender: Sender, mut body: Body) -> Result<Reason, Error> {
    if body.is_empty() {
        return reasons::auth(sender, Reason::Success.code());
    }
    let reason = reasons::auth(sender, body.u8()?)?;
    let mut has_method = false;
    if !body.is_empty() {
        let mut properties = Reader::new(&mut body, Allowed::AUTH)?;
        while let Some(property) = properties.next()? {
            has_method |= matches!(property, Property::AuthenticationMethod(_));
        }
    }
    body.end()?;
    // Section 3.15.2.2.2
    if has_method { Ok(reason) } else { Err(protocol_error("AUTH without a method")) }
}

fn empty(frame: Frame, buf: &mut BytesMut) -> Result<(), Error> {
    if frame.body_len != 0 {
        return Err(Error::Unanswered("a body where there is none"));
    }
    buf.advance(frame.header_len);
    Ok(())
}

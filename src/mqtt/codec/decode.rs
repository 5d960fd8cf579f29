//! MQTT 3.1.1: bytes of a client → packets.
//!
//! Invariant: every byte of a packet is accounted for; texts and payloads are slices of the input, nothing is copied.

use bytes::{Buf, Bytes, BytesMut};
use bytestring::ByteString;

use super::{Error, Frame, Version};
use crate::mqtt::packet::{Connect, ConnectCode, Packet, PacketId, Publish, QoS, Will};
use crate::mqtt::topic;

const WILL: u8 = 0x04;
const WILL_QOS: u8 = 0x18;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USERNAME: u8 = 0x80;

/// Cuts the framed packet off `buf` and decodes it.
pub(super) fn packet(frame: Frame, buf: &mut BytesMut) -> Result<Packet, Error> {
    match frame.first >> 4 {
        1 => connect(frame.take(buf)).map(|(_, connect)| Packet::Connect(Box::new(connect))),
        3 => publish(frame.first, Body(frame.take(buf))).map(Packet::Publish),
        4 => only_id(frame, buf).map(Packet::PubAck),
        5 => only_id(frame, buf).map(Packet::PubRec),
        6 => only_id(frame, buf).map(Packet::PubRel),
        7 => only_id(frame, buf).map(Packet::PubComp),
        8 => subscribe(Body(frame.take(buf))),
        10 => unsubscribe(Body(frame.take(buf))),
        12 => empty(frame, buf).map(|()| Packet::PingReq),
        14 => empty(frame, buf).map(|()| Packet::Disconnect),
        _ => Err(Error::Malformed("a packet that only servers send")),
    }
}

/// Decodes the body of a CONNECT (section 3.1).
pub(super) fn connect(body: Bytes) -> Result<(Version, Connect), Error> {
    let mut body = Body(body);
    let protocol = body.text()?;
    let level = body.u8()?;
    match (&*protocol, level) {
        ("MQTT", 4) => {}
        // [MQTT-3.1.2-2]; version 3.1 called itself otherwise.
        ("MQTT" | "MQIsdp", _) => return Err(Error::Refused(ConnectCode::UnacceptableProtocolVersion)),
        _ => return Err(Error::Malformed("protocol name")),
    }
    let flags = body.u8()?;
    check_connect_flags(flags)?;
    let clean_session = flags & 0x02 != 0;
    let keep_alive = body.u16()?;
    let client_id = body.text()?;
    let will = if flags & WILL != 0 { Some(will(flags, &mut body)?) } else { None };
    let username = if flags & USERNAME != 0 { Some(body.text()?) } else { None };
    let password = if flags & PASSWORD != 0 { Some(body.binary()?) } else { None };
    body.end()?;
    if client_id.is_empty() && !clean_session {
        return Err(Error::Refused(ConnectCode::IdentifierRejected)); // [MQTT-3.1.3-8]
    }
    Ok((Version::V311, Connect { client_id, clean_session, keep_alive, will, username, password }))
}

fn check_connect_flags(flags: u8) -> Result<(), Error> {
    if flags & 0x01 != 0 {
        return Err(Error::Malformed("reserved connect flag")); // [MQTT-3.1.2-3]
    }
    if flags & WILL == 0 && flags & (WILL_QOS | WILL_RETAIN) != 0 {
        return Err(Error::Malformed("will QoS or retain without a will")); // [MQTT-3.1.2-13], [MQTT-3.1.2-15]
    }
    if flags & PASSWORD != 0 && flags & USERNAME == 0 {
        return Err(Error::Malformed("password without a user name")); // [MQTT-3.1.2-22]
    }
    Ok(())
}

fn will(flags: u8, body: &mut Body) -> Result<Will, Error> {
    let topic = body.text()?;
    let payload = body.binary()?;
    if !topic::is_valid_name(&topic) {
        return Err(Error::Malformed("will topic"));
    }
    let qos = QoS::from_level((flags & WILL_QOS) >> 3).ok_or(Error::Malformed("will QoS 3"))?; // [MQTT-3.1.2-14]
    Ok(Will { topic, payload, qos, retain: flags & WILL_RETAIN != 0 })
}

fn publish(first: u8, mut body: Body) -> Result<Publish, Error> {
    let qos = QoS::from_level((first >> 1) & 3).ok_or(Error::Malformed("QoS 3"))?; // [MQTT-3.3.1-4]
    let dup = first & 8 != 0;
    if dup && qos == QoS::AtMostOnce {
        return Err(Error::Malformed("DUP at QoS 0")); // [MQTT-3.3.1-2]
    }
    let topic = body.text()?;
    if !topic::is_valid_name(&topic) {
        return Err(Error::Malformed("topic name")); // [MQTT-3.3.2-2], [MQTT-4.7.3-1]
    }
    let packet_id = if qos == QoS::AtMostOnce { None } else { Some(body.packet_id()?) };
    Ok(Publish { dup, retain: first & 1 != 0, qos, packet_id, topic, payload: body.0 })
}

fn subscribe(mut body: Body) -> Result<Packet, Error> {
    let packet_id = body.packet_id()?;
    let mut filters = Vec::new();
    while !body.0.is_empty() {
        let filter = body.filter()?;
        // The upper six bits are reserved [MQTT-3-8.3-4].
        let qos = QoS::from_level(body.u8()?).ok_or(Error::Malformed("requested QoS"))?;
        filters.push((filter, qos));
    }
    if filters.is_empty() {
        return Err(Error::Malformed("SUBSCRIBE without a filter")); // [MQTT-3.8.3-3]
    }
    Ok(Packet::Subscribe { packet_id, filters })
}

fn unsubscribe(mut body: Body) -> Result<Packet, Error> {
    let packet_id = body.packet_id()?;
    let mut filters = Vec::new();
    while !body.0.is_empty() {
        filters.push(body.filter()?);
    }
    if filters.is_empty() {
        return Err(Error::Malformed("UNSUBSCRIBE without a filter")); // [MQTT-3.10.3-2]
    }
    Ok(Packet::Unsubscribe { packet_id, filters })
}

fn only_id(frame: Frame, buf: &mut BytesMut) -> Result<PacketId, Error> {
    if frame.body_len != 2 {
        return Err(Error::Malformed("length of an acknowledgement"));
    }
    buf.advance(frame.header_len);
    PacketId::new(buf.get_u16()).ok_or(Error::Malformed("packet id 0"))
}

fn empty(frame: Frame, buf: &mut BytesMut) -> Result<(), Error> {
    if frame.body_len != 0 {
        return Err(Error::Malformed("a body where there is none"));
    }
    buf.advance(frame.header_len);
    Ok(())
}

/// What is left of a packet.
struct Body(Bytes);

impl Body {
    fn u8(&mut self) -> Result<u8, Error> {
        self.0.try_get_u8().map_err(|_| CUT_SHORT)
    }

    fn u16(&mut self) -> Result<u16, Error> {
        self.0.try_get_u16().map_err(|_| CUT_SHORT)
    }

    /// [MQTT-2.3.1-1]
    fn packet_id(&mut self) -> Result<PacketId, Error> {
        PacketId::new(self.u16()?).ok_or(Error::Malformed("packet id 0"))
    }

    fn binary(&mut self) -> Result<Bytes, Error> {
        let len = usize::from(self.u16()?);
        if self.0.len() < len { Err(CUT_SHORT) } else { Ok(self.0.split_to(len)) }
    }

    /// UTF-8 `[MQTT-1.5.3-1]` without U+0000 `[MQTT-1.5.3-2]`.
    fn text(&mut self) -> Result<ByteString, Error> {
        let text = ByteString::try_from(self.binary()?).map_err(|_| Error::Malformed("text that is not UTF-8"))?;
        if text.as_bytes().contains(&0) { Err(Error::Malformed("U+0000 in a text")) } else { Ok(text) }
    }

    fn filter(&mut self) -> Result<ByteString, Error> {
        let filter = self.text()?;
        if topic::is_valid_filter(&filter) { Ok(filter) } else { Err(Error::Malformed("topic filter")) }
    }

    fn end(&self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Malformed("bytes behind the end")) }
    }
}

const CUT_SHORT: Error = Error::Malformed("shorter than it says");

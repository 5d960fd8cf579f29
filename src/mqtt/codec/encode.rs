//! Packets → bytes of both versions, those of servers and those of clients.
//!
//! Knows nothing of limits: what is sent was received, or made by this process, within them. Properties are written in
//! the order of their identifiers, but for CONNACK.

use bytestring::ByteString;

use super::properties::id;
use super::write::{
    Sink, binary, packet as write, packet_len, properties, property_bool, property_text, property_u16, property_u32,
    property_user, text, varint,
};
use super::{Version, reasons};
use crate::mqtt::packet::{
    Ack, ConnAck, Connect, Disconnect, Filter, Packet, PacketId, Properties, Publish, Reason, RetainHandling,
    SubscribeOptions, SubscriptionId, Will,
};

/// Appends a packet.
pub(super) fn packet(version: Version, packet: &Packet, out: &mut Vec<u8>) {
    let is_v5 = version == Version::V5;
    match packet {
        Packet::Connect(c) => write(0x10, |out| connect(version, c, out), out),
        Packet::ConnAck(ack) => write(0x20, |out| connack(version, ack, out), out),
        Packet::Publish(p) => write(publish_first(p), |out| publish(version, p, out), out),
        Packet::PubAck(a) => write(0x40, |out| ack(version, a, out), out),
        Packet::PubRec(a) => write(0x50, |out| ack(version, a, out), out),
        Packet::PubRel(a) => write(0x62, |out| ack(version, a, out), out),
        Packet::PubComp(a) => write(0x70, |out| ack(version, a, out), out),
        Packet::Subscribe { packet_id, filters, id } => {
            write(0x82, |out| subscribe(version, *packet_id, filters, *id, out), out);
        }
        Packet::SubAck { packet_id, reasons, reason_string } => {
            write(0x90, |out| suback(version, *packet_id, reasons, reason_string.as_ref(), out), out);
        }
        Packet::Unsubscribe { packet_id, filters } => {
            write(0xa2, |out| unsubscribe(version, *packet_id, filters, out), out);
        }
        Packet::UnsubAck { packet_id, reasons } => write(0xb0, |out| unsuback(version, *packet_id, reasons, out), out),
        Packet::PingReq => out.extend_from_slice(&[0xc0, 0]),
        Packet::PingResp => out.extend_from_slice(&[0xd0, 0]),
        Packet::Disconnect(d) if is_v5 => write(0xe0, |out| disconnect(d, out), out),
        Packet::Disconnect(_) => out.extend_from_slice(&[0xe0, 0]),
        Packet::Auth(reason) if is_v5 => write(0xf0, |out| auth(*reason, out), out),
        Packet::Auth(_) => {}
    }
}

pub(super) fn publish_len(version: Version, p: &Publish) -> usize {
    packet_len(|out| publish(version, p, out))
}

fn connect(version: Version, c: &Connect, out: &mut dyn Sink) {
    let will = c.will.as_ref().map_or(0, |will| 0x04 | will.qos.level() << 3 | u8::from(will.retain) << 5);
    let login = u8::from(c.username.is_some()) << 7 | u8::from(c.password.is_some()) << 6;
    let level = match version {
        Version::V311 => 4,
        Version::V5 => 5,
    };
    out.put(b"\0\x04MQTT");
    out.put(&[level, u8::from(c.clean_start) << 1 | will | login]);
    out.put(&c.keep_alive.to_be_bytes());
    if version == Version::V5 {
        properties(out, |out| connect_properties(c, out));
    }
    text(&c.client_id, out);
    if let Some(will) = &c.will {
        if version == Version::V5 {
            properties(out, |out| will_properties(will, out));
        }
        text(&will.topic, out);
        binary(&will.payload, out);
    }
    if let Some(username) = &c.username {
        text(username, out);
    }
    if let Some(password) = &c.password {
        binary(password, out);
    }
}

fn connect_properties(c: &Connect, out: &mut dyn Sink) {
    property_u32(id::SESSION_EXPIRY_INTERVAL, Some(c.session_expiry_s).filter(|s| *s != 0), out);
    property_text(id::AUTHENTICATION_METHOD, c.authentication_method.as_deref(), out);
    if let Some(wanted) = c.problem_information {
        property_bool(id::REQUEST_PROBLEM_INFORMATION, wanted, out);
    }
    if c.wants_response_information {
        property_bool(id::REQUEST_RESPONSE_INFORMATION, true, out);
    }
    property_u16(id::RECEIVE_MAXIMUM, c.receive_maximum.map(Into::into), out);
    property_u16(id::TOPIC_ALIAS_MAXIMUM, Some(c.topic_alias_maximum).filter(|n| *n != 0), out);
    property_u32(id::MAXIMUM_PACKET_SIZE, c.max_packet_size.map(Into::into), out);
}

fn will_properties(will: &Will, out: &mut dyn Sink) {
    let passed_on = will.properties.as_deref();
    payload_format(passed_on, out);
    property_u32(id::MESSAGE_EXPIRY_INTERVAL, will.expiry_s, out);
    content_and_response(passed_on, out);
    property_u32(id::WILL_DELAY_INTERVAL, Some(will.delay_s).filter(|s| *s != 0), out);
    user_properties(passed_on, out);
}

fn connack(version: Version, ack: &ConnAck, out: &mut dyn Sink) {
    let session_present = ack.session_present && !ack.reason.is_error(); // [MQTT-3.2.2-6]
    match version {
        Version::V311 => out.put(&[u8::from(session_present), reasons::connect_code(ack.reason)]),
        Version::V5 => {
            out.put(&[u8::from(session_present), ack.reason.code()]);
            properties(out, |out| connack_properties(ack, out));
        }
    }
}

/// What every client is told stands where other servers have it.
fn connack_properties(ack: &ConnAck, out: &mut dyn Sink) {
    property_u16(id::TOPIC_ALIAS_MAXIMUM, Some(ack.topic_alias_maximum).filter(|n| *n != 0), out);
    property_u32(id::SESSION_EXPIRY_INTERVAL, ack.session_expiry_s, out);
    property_text(id::ASSIGNED_CLIENT_IDENTIFIER, ack.assigned_client_id.as_deref(), out);
    property_u16(id::SERVER_KEEP_ALIVE, ack.server_keep_alive, out);
    property_text(id::RESPONSE_INFORMATION, ack.response_information.as_deref(), out);
    property_text(id::REASON_STRING, ack.reason_string.as_deref(), out);
    property_u32(id::MAXIMUM_PACKET_SIZE, ack.max_packet_size.map(Into::into), out);
    property_u16(id::RECEIVE_MAXIMUM, ack.receive_maximum.map(Into::into), out);
}

fn publish_first(p: &Publish) -> u8 {
    0x30 | u8::from(p.dup) << 3 | p.qos.level() << 1 | u8::from(p.retain)
}

fn publish(version: Version, p: &Publish, out: &mut dyn Sink) {
    text(&p.topic, out);
    if let Some(id) = p.packet_id {
        out.put(&id.get().to_be_bytes());
    }
    if version == Version::V5 {
        properties(out, |out| publish_properties(p, out));
    }
    out.put(&p.payload);
}

fn publish_properties(p: &Publish, out: &mut dyn Sink) {
    let passed_on = p.properties.as_deref();
    payload_format(passed_on, out);
    property_u32(id::MESSAGE_EXPIRY_INTERVAL, p.expiry_s, out);
    content_and_response(passed_on, out);
    p.subscription_ids.iter().for_each(|id| subscription_id(*id, out));
    property_u16(id::TOPIC_ALIAS, p.topic_alias.map(Into::into), out);
    user_properties(passed_on, out);
}

fn payload_format(p: Option<&Properties>, out: &mut dyn Sink) {
    if let Some(is_utf8) = p.and_then(|p| p.payload_is_utf8) {
        property_bool(id::PAYLOAD_FORMAT_INDICATOR, is_utf8, out);
    }
}

fn content_and_response(p: Option<&Properties>, out: &mut dyn Sink) {
    let Some(p) = p else { return };
    property_text(id::CONTENT_TYPE, p.content_type.as_deref(), out);
    property_text(id::RESPONSE_TOPIC, p.response_topic.as_deref(), out);
    if let Some(data) = &p.correlation_data {
        out.put(&[id::CORRELATION_DATA]);
        binary(data, out);
    }
}

fn user_properties(p: Option<&Properties>, out: &mut dyn Sink) {
    p.iter().flat_map(|p| &p.user).for_each(|(name, value)| property_user(name, value, out));
}

fn subscription_id(id: SubscriptionId, out: &mut dyn Sink) {
    out.put(&[id::SUBSCRIPTION_IDENTIFIER]);
    varint(id.get() as usize, out);
}

/// As short as it can be: the id; the id and a reason; or all (sections 3.4.2.1, 3.4.2.2.1).
fn ack(version: Version, ack: &Ack, out: &mut dyn Sink) {
    out.put(&ack.packet_id.get().to_be_bytes());
    if version == Version::V311 || ack.reason == Reason::Success && ack.reason_string.is_none() {
        return;
    }
    out.put(&[ack.reason.code()]);
    if ack.reason_string.is_some() {
        reason_string(ack.reason_string.as_ref(), out);
    }
}

/// The only property there is.
fn reason_string(text: Option<&ByteString>, out: &mut dyn Sink) {
    properties(out, |out| property_text(id::REASON_STRING, text.map(|t| &**t), out));
}

fn subscribe(
    version: Version,
    packet_id: PacketId,
    filters: &[Filter],
    id: Option<SubscriptionId>,
    out: &mut dyn Sink,
) {
    out.put(&packet_id.get().to_be_bytes());
    if version == Version::V5 {
        properties(out, |out| id.into_iter().for_each(|id| subscription_id(id, out)));
    }
    for Filter { filter, options } in filters {
        text(filter, out);
        out.put(&[match version {
            Version::V311 => options.qos.level(),
            Version::V5 => subscribe_options(*options),
        }]);
    }
}

fn subscribe_options(options: SubscribeOptions) -> u8 {
    let handling = match options.retain_handling {
        RetainHandling::Always => 0,
        RetainHandling::IfNew => 1,
        RetainHandling::Never => 2,
    };
    options.qos.level() | u8::from(options.no_local) << 2 | u8::from(options.retain_as_published) << 3 | handling << 4
}

fn suback(version: Version, id: PacketId, reasons: &[Reason], string: Option<&ByteString>, out: &mut dyn Sink) {
    out.put(&id.get().to_be_bytes());
    match version {
        Version::V311 => reasons.iter().for_each(|reason| out.put(&[reasons::suback_code(*reason)])),
        Version::V5 => {
            reason_string(string, out);
            reasons.iter().for_each(|reason| out.put(&[reason.code()]));
        }
    }
}

fn unsubscribe(version: Version, packet_id: PacketId, filters: &[ByteString], out: &mut dyn Sink) {
    out.put(&packet_id.get().to_be_bytes());
    if version == Version::V5 {
        out.put(&[0]);
    }
    filters.iter().for_each(|filter| text(filter, out));
}

/// 3.1.1 says nothing of the filters.
fn unsuback(version: Version, packet_id: PacketId, reasons: &[Reason], out: &mut dyn Sink) {
    out.put(&packet_id.get().to_be_bytes());
    if version == Version::V5 {
        out.put(&[0]);
        reasons.iter().for_each(|reason| out.put(&[reason.code()]));
    }
}

/// As short as it can be: nothing; a reason; or all (sections 3.14.2.1, 3.14.2.2.1).
fn disconnect(d: &Disconnect, out: &mut dyn Sink) {
    let has_properties = d.session_expiry_s.is_some() || d.reason_string.is_some();
    if d.reason != Reason::Success || has_properties {
        out.put(&[d.reason.code()]);
    }
    if has_properties {
        properties(out, |out| {
            property_u32(id::SESSION_EXPIRY_INTERVAL, d.session_expiry_s, out);
            property_text(id::REASON_STRING, d.reason_string.as_deref(), out);
        });
    }
}

/// Without a method, which is right for a success only; no method is offered, so nobody sends another.
fn auth(reason: Reason, out: &mut dyn Sink) {
    if reason != Reason::Success {
        out.put(&[reason.code(), 0]);
    }
}

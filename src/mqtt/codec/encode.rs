//! MQTT 3.1.1: packets → bytes, those of servers and those of clients.
//!
//! Knows nothing of limits: what is sent was received, or made by this process, within them.

use crate::mqtt::packet::{Connect, ConnectCode, Packet, PacketId, Publish, QoS};

/// Appends a packet.
pub(super) fn packet(packet: &Packet, out: &mut Vec<u8>) {
    match packet {
        Packet::Connect(c) => connect(c, out),
        Packet::ConnAck { session_present, code } => {
            out.extend_from_slice(&[0x20, 2, u8::from(*session_present), connect_code(*code)]);
        }
        Packet::Publish(p) => publish(p, out),
        Packet::PubAck(id) => only_id(0x40, *id, out),
        Packet::PubRec(id) => only_id(0x50, *id, out),
        Packet::PubRel(id) => only_id(0x62, *id, out),
        Packet::PubComp(id) => only_id(0x70, *id, out),
        Packet::Subscribe { packet_id, filters } => {
            header(0x82, 2 + filters.iter().map(|(f, _)| 3 + f.len()).sum::<usize>(), out);
            out.extend_from_slice(&packet_id.get().to_be_bytes());
            for (filter, qos) in filters {
                binary(filter.as_bytes(), out);
                out.push(qos.level());
            }
        }
        Packet::SubAck { packet_id, codes } => {
            header(0x90, 2 + codes.len(), out);
            out.extend_from_slice(&packet_id.get().to_be_bytes());
            out.extend(codes.iter().map(|code| code.map_or(0x80, QoS::level)));
        }
        Packet::Unsubscribe { packet_id, filters } => {
            header(0xa2, 2 + filters.iter().map(|f| 2 + f.len()).sum::<usize>(), out);
            out.extend_from_slice(&packet_id.get().to_be_bytes());
            filters.iter().for_each(|filter| binary(filter.as_bytes(), out));
        }
        Packet::UnsubAck(id) => only_id(0xb0, *id, out),
        Packet::PingReq => out.extend_from_slice(&[0xc0, 0]),
        Packet::PingResp => out.extend_from_slice(&[0xd0, 0]),
        Packet::Disconnect => out.extend_from_slice(&[0xe0, 0]),
    }
}

fn connect(c: &Connect, out: &mut Vec<u8>) {
    let mut flags = u8::from(c.clean_session) << 1;
    let mut payload = Vec::new();
    binary(c.client_id.as_bytes(), &mut payload);
    if let Some(will) = &c.will {
        flags |= 0x04 | will.qos.level() << 3 | u8::from(will.retain) << 5;
        binary(will.topic.as_bytes(), &mut payload);
        binary(&will.payload, &mut payload);
    }
    if let Some(username) = &c.username {
        flags |= 0x80;
        binary(username.as_bytes(), &mut payload);
    }
    if let Some(password) = &c.password {
        flags |= 0x40;
        binary(password, &mut payload);
    }
    header(0x10, 10 + payload.len(), out);
    out.extend_from_slice(b"\0\x04MQTT\x04");
    out.push(flags);
    out.extend_from_slice(&c.keep_alive.to_be_bytes());
    out.extend_from_slice(&payload);
}

fn publish(p: &Publish, out: &mut Vec<u8>) {
    let id_len = if p.packet_id.is_some() { 2 } else { 0 };
    let body_len = 2 + p.topic.len() + id_len + p.payload.len();
    out.reserve(5 + body_len);
    header(0x30 | u8::from(p.dup) << 3 | p.qos.level() << 1 | u8::from(p.retain), body_len, out);
    binary(p.topic.as_bytes(), out);
    if let Some(id) = p.packet_id {
        out.extend_from_slice(&id.get().to_be_bytes());
    }
    out.extend_from_slice(&p.payload);
}

/// Table 3.1 of the specification.
const fn connect_code(code: ConnectCode) -> u8 {
    match code {
        ConnectCode::Accepted => 0,
        ConnectCode::UnacceptableProtocolVersion => 1,
        ConnectCode::IdentifierRejected => 2,
        ConnectCode::ServerUnavailable => 3,
        ConnectCode::BadUserNameOrPassword => 4,
        ConnectCode::NotAuthorized => 5,
    }
}

fn only_id(first: u8, id: PacketId, out: &mut Vec<u8>) {
    let [high, low] = id.get().to_be_bytes();
    out.extend_from_slice(&[first, 2, high, low]);
}

fn header(first: u8, body_len: usize, out: &mut Vec<u8>) {
    out.push(first);
    let mut rest = body_len;
    while rest > 0x7f {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Length and bytes; longer than a length can say is cut.
fn binary(bytes: &[u8], out: &mut Vec<u8>) {
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&bytes[..usize::from(len)]);
}

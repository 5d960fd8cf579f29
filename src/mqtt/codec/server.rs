//! Bytes → packets that only servers send: for a client of this codec.
//!
//! Invariant: as strict as with clients, so that a fault of a server shows. What a server says it does not offer, user
//! properties, a server reference and authentication data are checked and not kept.

use super::properties::{Allowed, Property, Reader};
use super::read::Body;
use super::{Error, Version, decode, protocol_error, reasons};
use crate::mqtt::packet::{ConnAck, Packet};

pub(super) fn connack(version: Version, mut body: Body) -> Result<ConnAck, Error> {
    let session_present = match body.u8()? {
        0 => false,
        1 => true,
        _ => return Err(Error::Malformed("reserved flags of CONNACK")), // [MQTT-3.2.2-1]
    };
    let code = body.u8()?;
    let mut ack = ConnAck::new(match version {
        Version::V311 => reasons::of_connect_code(code)?,
        Version::V5 => reasons::one_of(reasons::CONNACK, code)?,
    });
    ack.session_present = session_present;
    if session_present && ack.reason.is_error() {
        return Err(protocol_error("a session behind a refusal")); // [MQTT-3.2.2-6]; [MQTT-3.2.2-4] (3.1.1)
    }
    if version == Version::V5 {
        connack_properties(&mut body, &mut ack)?;
    }
    body.end()?;
    Ok(ack)
}

/// Section 3.2.2.3.
fn connack_properties(body: &mut Body, ack: &mut ConnAck) -> Result<(), Error> {
    let mut properties = Reader::new(body, Allowed::CONNACK)?;
    while let Some(property) = properties.next()? {
        match property {
            Property::SessionExpiry(seconds) => ack.session_expiry_s = Some(seconds),
            Property::ReceiveMaximum(n) => ack.receive_maximum = Some(n),
            Property::MaximumPacketSize(n) => ack.max_packet_size = Some(n),
            Property::AssignedClientId(id) => ack.assigned_client_id = Some(id),
            Property::TopicAliasMaximum(n) => ack.topic_alias_maximum = n,
            Property::ServerKeepAlive(seconds) => ack.server_keep_alive = Some(seconds),
            Property::ResponseInformation(text) => ack.response_information = Some(text),
            Property::ReasonString(text) => ack.reason_string = Some(text),
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn suback(version: Version, mut body: Body) -> Result<Packet, Error> {
    let packet_id = body.packet_id()?;
    let reason_string = match version {
        Version::V311 => None,
        Version::V5 => decode::reason_string(&mut body)?,
    };
    let mut reasons = Vec::with_capacity(body.len());
    while !body.is_empty() {
        let code = body.u8()?;
        reasons.push(match version {
            Version::V311 => reasons::of_suback_code(code)?,
            Version::V5 => reasons::one_of(reasons::SUBACK, code)?,
        });
    }
    Ok(Packet::SubAck { packet_id, reasons, reason_string })
}

pub(super) fn unsuback(version: Version, mut body: Body) -> Result<Packet, Error> {
    let packet_id = body.packet_id()?;
    let mut reasons = Vec::new();
    if version == Version::V5 {
        decode::reason_string(&mut body)?;
        while !body.is_empty() {
            reasons.push(reasons::one_of(reasons::UNSUBACK, body.u8()?)?);
        }
    }
    body.end()?;
    Ok(Packet::UnsubAck { packet_id, reasons })
}

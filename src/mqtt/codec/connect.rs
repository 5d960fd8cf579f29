//! CONNECT of either version (section 3.1), the packet that says which.
//!
//! Invariant: an error names the version as soon as the packet has said it, so that the peer can be answered in its own.

use bytes::Bytes;

use super::properties::{Allowed, Property, Reader};
use super::read::{Body, CUT_SHORT, check_name};
use super::{ConnectError, Error, Version, decode, protocol_error};
use crate::mqtt::packet::{Connect, NEVER, Properties, QoS, Reason, Will};

const RESERVED: u8 = 0x01;
const CLEAN_START: u8 = 0x02;
const WILL: u8 = 0x04;
const WILL_QOS: u8 = 0x18;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USERNAME: u8 = 0x80;

/// How the body of a CONNECT of MQTT 3.1 begins: protocol name and level.
pub(super) const START_OF_V31: &[u8] = b"\0\x06MQIsdp\x03";

/// How the body of a CONNECT of MQTT 5 begins.
pub(super) const START_OF_V5: &[u8] = b"\0\x04MQTT\x05";

/// Decodes the body of a CONNECT.
pub(super) fn connect(body: Bytes) -> Result<(Version, Connect), ConnectError> {
    let mut body = Body::new(body);
    let start = body.text().and_then(|protocol| Ok((protocol, body.u8()?)));
    let (protocol, level) = start.map_err(|error| ConnectError { version: None, error })?;
    let refused = |version| {
        Err(ConnectError { version: Some(version), error: Error::Refused(Reason::UnsupportedProtocolVersion) })
    };
    // [MQTT-3.1.2-1], [MQTT-3.1.2-2]
    let is_v31 = (&*protocol, level) == ("MQIsdp", 3);
    let version = match (&*protocol, level) {
        ("MQIsdp", 3) => Version::V311,
        ("MQTT", 4) => Version::V311,
        ("MQTT", 5) => Version::V5,
        // A bridge of Mosquitto sets bit 7 first and understands this answer.
        ("MQIsdp", 0x83) | ("MQTT", 3 | 0x83 | 0x84) => return refused(Version::V311),
        ("MQIsdp" | "MQTT", _) => return refused(Version::V5),
        _ => return Err(ConnectError { version: None, error: Error::Malformed("protocol name") }),
    };
    match after_level(version, is_v31, body) {
        Ok(connect) => Ok((version, connect)),
        Err(error) => Err(ConnectError { version: Some(version), error }),
    }
}

/// What the specification leaves open is answered as other servers do: of a client id that is none the client is told,
/// of a user name or a password that is none it is not.
fn after_level(version: Version, is_v31: bool, mut body: Body) -> Result<Connect, Error> {
    // MQTT 3.1 gives the reserved flag no value.
    let flags = if is_v31 { body.u8()? & !RESERVED } else { body.u8()? };
    check_flags(version, flags)?;
    let clean_start = flags & CLEAN_START != 0;
    let mut connect = Connect { clean_start, keep_alive: body.u16()?, is_v31, ..Connect::default() };
    match version {
        Version::V311 => connect.session_expiry_s = if clean_start { 0 } else { NEVER },
        Version::V5 => connect_properties(&mut body, &mut connect)?,
    }
    connect.client_id = body.name().map_err(|error| match (version, error) {
        (Version::V311, _) | (_, CUT_SHORT) => error,
        _ => Error::Protocol(Reason::ClientIdentifierNotValid, "client id"),
    })?;
    if flags & WILL != 0 {
        connect.will = Some(will(version, flags, &mut body)?);
    }
    if flags & USERNAME != 0 {
        connect.username = Some(body.name().map_err(|_| Error::Unanswered("user name"))?);
    }
    if flags & PASSWORD != 0 {
        connect.password = Some(body.binary().map_err(|_| Error::Unanswered("password"))?);
    }
    body.end()?;
    if version == Version::V311 && connect.client_id.is_empty() && (is_v31 || !clean_start) {
        return Err(Error::Refused(Reason::ClientIdentifierNotValid)); // [MQTT-3.1.3-8] (3.1.1)
    }
    Ok(connect)
}

/// The numbers are the same in 3.1.1 but for the will, where they are two higher.
fn check_flags(version: Version, flags: u8) -> Result<(), Error> {
    if flags & RESERVED != 0 {
        return Err(Error::Malformed("reserved connect flag")); // [MQTT-3.1.2-3]
    }
    if flags & WILL == 0 && flags & (WILL_QOS | WILL_RETAIN) != 0 {
        return Err(Error::Malformed("will QoS or retain without a will")); // [MQTT-3.1.2-11], [MQTT-3.1.2-13]
    }
    if version == Version::V311 && flags & PASSWORD != 0 && flags & USERNAME == 0 {
        return Err(Error::Malformed("password without a user name")); // [MQTT-3.1.2-22] (3.1.1)
    }
    Ok(())
}

/// Section 3.1.2.11. User properties have no meaning here.
fn connect_properties(body: &mut Body, connect: &mut Connect) -> Result<(), Error> {
    let mut has_data = false;
    let mut properties = Reader::new(body, Allowed::CONNECT)?;
    while let Some(property) = properties.next()? {
        match property {
            Property::SessionExpiry(seconds) => connect.session_expiry_s = seconds,
            Property::ReceiveMaximum(n) => connect.receive_maximum = Some(n),
            Property::MaximumPacketSize(n) => connect.max_packet_size = Some(n),
            Property::TopicAliasMaximum(n) => connect.topic_alias_maximum = n,
            Property::RequestResponseInformation(wanted) => connect.wants_response_information = wanted,
            Property::RequestProblemInformation(wanted) => connect.problem_information = Some(wanted),
            Property::AuthenticationMethod(method) => connect.authentication_method = Some(method),
            Property::AuthenticationData => has_data = true,
            _ => {}
        }
    }
    if has_data && connect.authentication_method.is_none() {
        return Err(protocol_error("authentication data without a method")); // Section 3.1.2.11.10
    }
    Ok(())
}

fn will(version: Version, flags: u8, body: &mut Body) -> Result<Will, Error> {
    // [MQTT-3.1.2-12]
    let qos = QoS::from_level((flags & WILL_QOS) >> 3).ok_or(Error::Malformed("will QoS 3"))?;
    let mut will = Will { qos, retain: flags & WILL_RETAIN != 0, ..Will::default() };
    if version == Version::V5 {
        let mut passed_on = Properties::default();
        let mut properties = Reader::new(body, Allowed::WILL)?;
        while let Some(property) = properties.next()? {
            match property {
                Property::WillDelay(seconds) => will.delay_s = seconds,
                Property::MessageExpiry(seconds) => will.expiry_s = Some(seconds),
                other => decode::pass_on(other, &mut passed_on),
            }
        }
        will.properties = decode::if_any(passed_on);
    }
    will.topic = body.name()?;
    check_name(&will.topic)?;
    will.payload = body.binary()?;
    Ok(will)
}

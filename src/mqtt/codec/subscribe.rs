//! Bytes → SUBSCRIBE and UNSUBSCRIBE of both versions (sections 3.8 and 3.10).
//!
//! Invariant: at least one filter; each is valid, shared ones included, with options that go with it.

use super::properties::{Allowed, Property, Reader};
use super::read::Body;
use super::{Error, Version, protocol_error};
use crate::mqtt::packet::{Filter, Packet, QoS, RetainHandling, SubscribeOptions};
use crate::mqtt::topic;

pub(super) fn subscribe(version: Version, mut body: Body) -> Result<Packet, Error> {
    let packet_id = body.packet_id().map_err(|_| Error::Malformed("packet id of a subscription"))?;
    let mut id = None;
    if version == Version::V5 {
        let mut properties = Reader::new(&mut body, Allowed::SUBSCRIBE)?;
        while let Some(property) = properties.next()? {
            if let Property::SubscriptionId(n) = property {
                id = Some(n);
            }
        }
    }
    let mut filters = Vec::new();
    while !body.is_empty() {
        let filter = body.filter(version)?;
        let byte = body.u8()?;
        let options = match version {
            // The upper six bits are reserved [MQTT-3-8.3-4] (3.1.1).
            Version::V311 => QoS::from_level(byte).map(|qos| SubscribeOptions { qos, ..SubscribeOptions::default() }),
            Version::V5 => Some(subscribe_options(byte, &filter)?),
        };
        filters.push(Filter { filter, options: options.ok_or(Error::Malformed("requested QoS"))? });
    }
    if filters.is_empty() {
        return Err(Error::Malformed("SUBSCRIBE without a filter")); // [MQTT-3.8.3-2]; [MQTT-3.8.3-3] (3.1.1)
    }
    Ok(Packet::Subscribe { packet_id, filters, id })
}

/// Section 3.8.3.1.
fn subscribe_options(byte: u8, filter: &str) -> Result<SubscribeOptions, Error> {
    if byte & 0xc0 != 0 {
        return Err(Error::Malformed("reserved subscription options")); // [MQTT-3.8.3-5]
    }
    let no_local = byte & 0x04 != 0;
    if no_local && filter.starts_with(topic::SHARE) {
        return Err(protocol_error("no local on a shared subscription")); // [MQTT-3.8.3-4]
    }
    Ok(SubscribeOptions {
        qos: QoS::from_level(byte & 0x03).ok_or(Error::Malformed("requested QoS 3"))?,
        no_local,
        retain_as_published: byte & 0x08 != 0,
        retain_handling: match byte >> 4 {
            0 => RetainHandling::Always,
            1 => RetainHandling::IfNew,
            2 => RetainHandling::Never,
            _ => return Err(Error::Malformed("retain handling 3")),
        },
    })
}

pub(super) fn unsubscribe(version: Version, mut body: Body) -> Result<Packet, Error> {
    let packet_id = body.packet_id().map_err(|_| Error::Malformed("packet id of a subscription"))?;
    if version == Version::V5 {
        let mut properties = Reader::new(&mut body, Allowed::UNSUBSCRIBE)?;
        while properties.next()?.is_some() {}
    }
    let mut filters = Vec::new();
    while !body.is_empty() {
        filters.push(body.filter(version)?);
    }
    if filters.is_empty() {
        return Err(Error::Malformed("UNSUBSCRIBE without a filter")); // [MQTT-3.10.3-2]
    }
    Ok(Packet::Unsubscribe { packet_id, filters })
}

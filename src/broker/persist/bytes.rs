//! What is saved, as bytes: CBOR arrays, the first element a version.
//!
//! ```text
//! session  [1, identity, offline since or null (connected), expiry s, [subscription …], [flight …], [QoS 2 id …], will or null]
//! subscription  [filter, QoS | no local 4 | as published 8 | retain handling × 16, id or 0]
//! flight   [packet id, position] (sent) · [packet id, tag or null, 0] (released)
//! delivery [1, QoS, retain, [subscription id …], tag or null, message …]
//! message  [1, QoS, topic, payload, expires at or null, properties or null]
//! ```
//! Times are wall-clock microseconds: the monotonic clock starts anew with the machine. Reading never panics; `None` is
//! "written by somebody else". Knows nothing of where the bytes go.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytestring::ByteString;
use minicbor::{Decoder, Encoder};

use super::Snapshot;
use crate::broker::auth::{Grant, Identity};
use crate::domain::{DeviceId, Timestamp};
use crate::mqtt::packet::{PacketId, Properties, RetainHandling, SubscribeOptions, SubscriptionId, Will};
use crate::mqtt::queue::Tag;
use crate::mqtt::session::{Saved, SavedFlight, Subscription};
use crate::mqtt::{Delivery, Message, QoS};

/// Wall clock and monotonic clock of one moment.
type Clock = (Timestamp, Instant);
type Out = Encoder<Vec<u8>>;
type Written = Result<(), minicbor::encode::Error<std::convert::Infallible>>;

const VERSION: u8 = 1;

/// A name for the kind and the id.
pub(super) fn identity(identity: &Identity) -> String {
    match identity {
        Identity::Open => "open".to_owned(),
        Identity::Device(id) => format!("device:{id}"),
        Identity::Service(grant) => format!("service:{}", grant.name),
    }
}

fn read_identity(text: &str) -> Option<Identity> {
    match text.split_once(':') {
        None if text == "open" => Some(Identity::Open),
        Some(("device", id)) => DeviceId::parse(id).map(Identity::Device),
        // What it may do is found out when it comes back.
        Some(("service", name)) => {
            let (name, nothing) = (name.to_owned(), Vec::new());
            let grant = Grant { name, token_sha256: [0; 32], read: nothing.clone(), write: nothing };
            Some(Identity::Service(Arc::new(grant)))
        }
        _ => None,
    }
}

pub(super) fn write_session(snapshot: &Snapshot, clock: Clock) -> Vec<u8> {
    write(|out| {
        let Saved { expiry, subscriptions, flights, taken, will } = &snapshot.saved;
        out.array(8)?.u8(VERSION)?.str(&snapshot.identity)?;
        match snapshot.offline_since {
            None => out.null()?,
            Some(at) => out.i64(to_wall(at, clock).0)?,
        };
        out.u64(expiry.as_secs())?;
        out.array(subscriptions.len() as u64)?;
        for (filter, Subscription { options, id }) in subscriptions {
            out.array(3)?.str(filter)?.u8(write_options(*options))?.u32(id.map_or(0, SubscriptionId::get))?;
        }
        out.array(flights.len() as u64)?;
        for flight in flights {
            match flight {
                SavedFlight::Sent { id, position } => out.array(2)?.u16(id.get())?.u64(*position)?,
                SavedFlight::Released { id, tag } => {
                    out.array(3)?.u16(id.get())?;
                    write_tag(out, *tag)?;
                    out.u8(0)?
                }
            };
        }
        out.array(taken.len() as u64)?;
        for id in taken {
            out.u16(id.get())?;
        }
        match will {
            None => out.null().map(drop),
            Some(will) => write_will(out, will),
        }
    })
}

pub(super) fn read_session(bytes: &[u8], clock: Clock) -> Option<(Identity, Instant, Saved)> {
    let mut input = Decoder::new(bytes);
    begin(&mut input, 8)?;
    let identity = read_identity(input.str().ok()?)?;
    // Whoever was connected when it was saved is gone since the server is there again.
    let offline_since =
        optional(&mut input, |input| Some(to_instant(Timestamp(input.i64().ok()?), clock)))?.unwrap_or(clock.1);
    let expiry = Duration::from_secs(input.u64().ok()?);
    let subscriptions = list(&mut input, |input| {
        exactly(input, 3)?;
        let filter = ByteString::from(input.str().ok()?);
        let options = read_options(input.u8().ok()?)?;
        Some((filter, Subscription { options, id: SubscriptionId::new(input.u32().ok()?) }))
    })?;
    let flights = list(&mut input, |input| match input.array().ok()?? {
        2 => Some(SavedFlight::Sent { id: packet_id(input)?, position: input.u64().ok()? }),
        3 => {
            let flight = SavedFlight::Released { id: packet_id(input)?, tag: read_tag(input)? };
            input.u8().ok()?;
            Some(flight)
        }
        _ => None,
    })?;
    let taken = list(&mut input, packet_id)?;
    let will = optional(&mut input, read_will)?;
    Some((identity, offline_since, Saved { expiry, subscriptions, flights, taken, will }))
}

pub(super) fn write_delivery(delivery: &Delivery, clock: Clock) -> Vec<u8> {
    write(|out| {
        out.array(6)?.u8(VERSION)?.u8(delivery.qos.level())?.bool(delivery.retain)?;
        out.array(delivery.ids.len() as u64)?;
        for id in &delivery.ids {
            out.u32(id.get())?;
        }
        write_tag(out, delivery.tag)?;
        message_to(out, &delivery.message, delivery.qos, clock)
    })
}

pub(super) fn read_delivery(bytes: &[u8], clock: Clock) -> Option<Delivery> {
    let mut input = Decoder::new(bytes);
    begin(&mut input, 6)?;
    let qos = QoS::from_level(input.u8().ok()?)?;
    let retain = input.bool().ok()?;
    let ids = list(&mut input, |input| SubscriptionId::new(input.u32().ok()?))?;
    let tag = read_tag(&mut input)?;
    let (message, _) = message_from(&mut input, clock)?;
    Some(Delivery { retain, ids, tag, ..Delivery::new(message, qos) })
}

pub(super) fn write_message(message: &Message, qos: QoS, clock: Clock) -> Vec<u8> {
    write(|out| message_to(out, message, qos, clock))
}

pub(super) fn read_message(bytes: &[u8], clock: Clock) -> Option<(Arc<Message>, QoS)> {
    message_from(&mut Decoder::new(bytes), clock)
}

fn write(content: impl FnOnce(&mut Out) -> Written) -> Vec<u8> {
    let mut out = Encoder::new(Vec::new());
    match content(&mut out) {
        Ok(()) => out.into_writer(),
        Err(_) => unreachable!("memory takes whatever is written"),
    }
}

fn message_to(out: &mut Out, message: &Message, qos: QoS, clock: Clock) -> Written {
    out.array(6)?.u8(VERSION)?.u8(qos.level())?.str(&message.topic)?.bytes(&message.payload)?;
    match message.expires_at {
        None => out.null()?,
        Some(at) => out.i64(to_wall(at, clock).0)?,
    };
    properties_to(out, message.properties.as_deref())
}

fn message_from(input: &mut Decoder<'_>, clock: Clock) -> Option<(Arc<Message>, QoS)> {
    begin(input, 6)?;
    let qos = QoS::from_level(input.u8().ok()?)?;
    let topic = ByteString::from(input.str().ok()?);
    let payload = bytes::Bytes::copy_from_slice(input.bytes().ok()?);
    let expires_at = optional(input, |input| Some(to_instant(Timestamp(input.i64().ok()?), clock)))?;
    let properties = optional(input, properties_from)?.map(Arc::new);
    Some((Arc::new(Message { topic, payload, properties, expires_at }), qos))
}

fn write_will(out: &mut Out, will: &Will) -> Written {
    out.array(7)?.str(&will.topic)?.bytes(&will.payload)?.u8(will.qos.level())?.bool(will.retain)?;
    out.u32(will.delay_s)?;
    match will.expiry_s {
        None => out.null()?,
        Some(s) => out.u32(s)?,
    };
    properties_to(out, will.properties.as_deref())
}

fn read_will(input: &mut Decoder<'_>) -> Option<Will> {
    exactly(input, 7)?;
    Some(Will {
        topic: ByteString::from(input.str().ok()?),
        payload: bytes::Bytes::copy_from_slice(input.bytes().ok()?),
        qos: QoS::from_level(input.u8().ok()?)?,
        retain: input.bool().ok()?,
        delay_s: input.u32().ok()?,
        expiry_s: optional(input, |input| input.u32().ok())?,
        properties: optional(input, properties_from)?.map(Arc::new),
    })
}

fn properties_to(out: &mut Out, properties: Option<&Properties>) -> Written {
    let Some(p) = properties else { return out.null().map(drop) };
    out.array(5)?;
    match p.payload_is_utf8 {
        None => out.null()?,
        Some(is_utf8) => out.bool(is_utf8)?,
    };
    for text in [&p.content_type, &p.response_topic] {
        match text {
            None => out.null()?,
            Some(text) => out.str(text)?,
        };
    }
    match &p.correlation_data {
        None => out.null()?,
        Some(data) => out.bytes(data)?,
    };
    out.array(p.user.len() as u64)?;
    for (name, value) in &p.user {
        out.array(2)?.str(name)?.str(value)?;
    }
    Ok(())
}

fn properties_from(input: &mut Decoder<'_>) -> Option<Properties> {
    exactly(input, 5)?;
    let text = |input: &mut Decoder<'_>| Some(ByteString::from(input.str().ok()?));
    Some(Properties {
        payload_is_utf8: optional(input, |input| input.bool().ok())?,
        content_type: optional(input, text)?,
        response_topic: optional(input, text)?,
        correlation_data: optional(input, |input| Some(bytes::Bytes::copy_from_slice(input.bytes().ok()?)))?,
        user: list(input, |input| {
            exactly(input, 2)?;
            Some((text(input)?, text(input)?))
        })?,
    })
}

const fn write_options(options: SubscribeOptions) -> u8 {
    let handling = match options.retain_handling {
        RetainHandling::Always => 0,
        RetainHandling::IfNew => 1,
        RetainHandling::Never => 2,
    };
    options.qos.level() | (options.no_local as u8) << 2 | (options.retain_as_published as u8) << 3 | handling << 4
}

fn read_options(bits: u8) -> Option<SubscribeOptions> {
    Some(SubscribeOptions {
        qos: QoS::from_level(bits & 3)?,
        no_local: bits & 4 != 0,
        retain_as_published: bits & 8 != 0,
        retain_handling: match bits >> 4 {
            0 => RetainHandling::Always,
            1 => RetainHandling::IfNew,
            2 => RetainHandling::Never,
            _ => return None,
        },
    })
}

fn write_tag(out: &mut Out, tag: Option<Tag>) -> Written {
    match tag {
        None => out.null().map(drop),
        Some(Tag(tag)) => out.bytes(&tag.to_be_bytes()).map(drop),
    }
}

fn read_tag(input: &mut Decoder<'_>) -> Option<Option<Tag>> {
    optional(input, |input| Some(Tag(u128::from_be_bytes(input.bytes().ok()?.try_into().ok()?))))
}

fn packet_id(input: &mut Decoder<'_>) -> Option<PacketId> {
    PacketId::new(input.u16().ok()?)
}

fn begin(input: &mut Decoder<'_>, len: u64) -> Option<()> {
    exactly(input, len)?;
    (input.u8().ok()? == VERSION).then_some(())
}

fn exactly(input: &mut Decoder<'_>, len: u64) -> Option<()> {
    (input.array().ok()?? == len).then_some(())
}

/// `Some(None)` = null.
fn optional<'b, T>(input: &mut Decoder<'b>, read: impl FnOnce(&mut Decoder<'b>) -> Option<T>) -> Option<Option<T>> {
    if input.datatype().ok()? == minicbor::data::Type::Null {
        input.skip().ok()?;
        return Some(None);
    }
    read(input).map(Some)
}

fn list<'b, T>(input: &mut Decoder<'b>, mut read: impl FnMut(&mut Decoder<'b>) -> Option<T>) -> Option<Vec<T>> {
    let len = input.array().ok()??;
    (0..len).map(|_| read(input)).collect()
}

fn to_wall(at: Instant, (wall, now): Clock) -> Timestamp {
    match at.checked_duration_since(now) {
        Some(ahead) => wall.plus(ahead),
        None => wall.plus_us(-i64::try_from((now - at).as_micros()).unwrap_or(i64::MAX)),
    }
}

/// What is further back than the machine runs is as far back as can be said.
fn to_instant(at: Timestamp, (wall, now): Clock) -> Instant {
    if at >= wall {
        return now.checked_add(at.since(wall)).unwrap_or(now);
    }
    now.checked_sub(wall.since(at)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::packet::PacketId;

    fn clock() -> Clock {
        (Timestamp(1_700_000_000_000_000), Instant::now())
    }

    fn message(clock: Clock) -> Arc<Message> {
        Arc::new(Message {
            topic: "a/b".into(),
            payload: bytes::Bytes::from_static(b"\0x"),
            expires_at: Some(clock.1 + Duration::from_secs(7)),
            properties: Some(Arc::new(Properties {
                payload_is_utf8: Some(false),
                content_type: Some("application/cbor".into()),
                response_topic: None,
                correlation_data: Some(bytes::Bytes::from_static(&[1, 2])),
                user: vec![("a".into(), "1".into()), ("a".into(), "2".into())],
            })),
        })
    }

    #[test]
    fn messages_come_back_as_they_were_also_when_time_has_passed() {
        let clock = clock();
        let delivery = Delivery {
            retain: true,
            ids: [1, 300].into_iter().filter_map(SubscriptionId::new).collect(),
            tag: Some(Tag(u128::MAX - 1)),
            ..Delivery::new(message(clock), QoS::ExactlyOnce)
        };
        let written = write_delivery(&delivery, clock);
        assert_eq!(read_delivery(&written, clock), Some(delivery.clone()));
        let later = (clock.0.plus(Duration::from_secs(5)), clock.1 + Duration::from_secs(5));
        assert_eq!(read_delivery(&written, later), Some(delivery));
        let plain = Message::detached("t", b"");
        let written = write_message(&plain, QoS::AtMostOnce, clock);
        assert_eq!(read_message(&written, clock), Some((plain, QoS::AtMostOnce)));
    }

    #[test]
    fn a_session_comes_back_as_it_was_and_other_bytes_are_refused() {
        let clock = clock();
        let options = SubscribeOptions {
            qos: QoS::AtLeastOnce,
            no_local: true,
            retain_as_published: true,
            retain_handling: RetainHandling::Never,
        };
        let id = |n| PacketId::new(n).unwrap();
        let saved = Saved {
            expiry: Duration::from_secs(3600),
            subscriptions: vec![
                ("a/#".into(), Subscription { options, id: SubscriptionId::new(268_435_455) }),
                ("b".into(), Subscription::default()),
            ],
            flights: vec![
                SavedFlight::Released { id: id(3), tag: Some(Tag(9)) },
                SavedFlight::Released { id: id(4), tag: None },
                SavedFlight::Sent { id: id(65_535), position: u64::MAX },
            ],
            taken: vec![id(1), id(2)],
            will: Some(Will { topic: "w".into(), delay_s: 5, expiry_s: Some(9), ..Will::default() }),
        };
        let identity = Identity::Device(DeviceId::parse("m1").unwrap());
        let since = clock.1.checked_sub(Duration::from_secs(60)).unwrap();
        let snapshot = Snapshot {
            client_id: "m1".into(),
            identity: super::identity(&identity),
            offline_since: Some(since),
            saved: saved.clone(),
            messages: Vec::new(),
        };
        let written = write_session(&snapshot, clock);
        assert_eq!(read_session(&written, clock), Some((identity.clone(), since, saved.clone())));
        // Whoever is connected when it is saved, long before a crash, is gone since the start.
        let connected = write_session(&Snapshot { offline_since: None, ..snapshot }, clock);
        let later = (clock.0.plus(Duration::from_secs(86_400)), clock.1 + Duration::from_secs(1));
        assert_eq!(read_session(&connected, later), Some((identity, later.1, saved)));
        for end in 0..written.len() {
            assert_eq!(read_session(&written[..end], clock), None, "{end}");
        }
        assert_eq!(read_delivery(&written, clock), None);
        assert_eq!(read_identity("robot:x"), None);
    }
}

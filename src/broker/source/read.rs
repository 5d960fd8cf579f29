//! Bytes of a broker → packets of both versions.
//!
//! Invariants: whatever the bytes, nothing panics; a publish over the limit is not gathered: it is given out without its
//! payload and the rest of it is skipped as it comes in, so that one message cannot hold up all that follow.

use bytes::{Buf, Bytes, BytesMut};
use bytestring::ByteString;
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;

use super::Version;
use super::wire::{Greeting, Malformed, Message, Packet, Verdict};

/// Takes packets from a stream.
pub(super) struct Reader {
    version: Version,
    max_packet_bytes: usize,
    /// Bytes of a publish over the limit that are still to come.
    skip: usize,
}

/// A fixed header `[MQTT 5, 2.1.1]`.
struct Head {
    first: u8,
    len: usize,
    /// Bytes after it.
    rest: usize,
}

impl Reader {
    pub(super) fn new(version: Version, max_packet_bytes: usize) -> Self {
        Self { version, max_packet_bytes, skip: 0 }
    }

    /// The next packet that is one of ours to read; `None` = more bytes are needed.
    pub(super) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Packet>, Malformed> {
        loop {
            let skipped = self.skip.min(input.len());
            input.advance(skipped);
            self.skip -= skipped;
            let Some(head) = head(input)? else { return Ok(None) };
            if head.rest > self.max_packet_bytes {
                return self.too_large(&head, input);
            }
            if input.len() < head.len + head.rest {
                return Ok(None);
            }
            let frame = input.split_to(head.len + head.rest);
            if let Some(packet) = self.packet(&head, frame)? {
                return Ok(Some(packet));
            }
        }
    }

    fn packet(&self, head: &Head, mut frame: BytesMut) -> Result<Option<Packet>, Malformed> {
        if head.first == 0xE0 {
            return Ok(Some(Packet::Disconnect(goodbye(frame.get(head.len).copied()))));
        }
        // A broker that does not know version 5 answers as it can: without properties.
        if head.first == 0x20 && head.rest == 2 && self.version == Version::V5 {
            let words = "it speaks MQTT 3.1.1 only: set `version = \"3.1.1\"`";
            return Ok(Some(Packet::Refused(words.to_owned())));
        }
        match self.version {
            Version::V311 => match v4::Packet::read(&mut frame, usize::MAX) {
                Ok(packet) => Ok(of_v4(packet)),
                Err(error) => Err(Malformed(error.to_string())),
            },
            Version::V5 => match v5::Packet::read(&mut frame, None) {
                Ok(packet) => Ok(of_v5(packet)),
                Err(error) => Err(Malformed(error.to_string())),
            },
        }
    }

    /// A packet over the limit: its head as soon as that is there.
    fn too_large(&mut self, head: &Head, input: &mut BytesMut) -> Result<Option<Packet>, Malformed> {
        let qos = head.first >> 1 & 3;
        if head.first >> 4 != 3 || qos == 3 {
            return Err(Malformed(format!("a packet of {} bytes", head.rest)));
        }
        let mut body = &input[head.len..];
        if body.len() < 2 {
            return Ok(None);
        }
        let topic_len = usize::from(body.get_u16());
        let id_len = if qos > 0 { 2 } else { 0 };
        let known = 2 + topic_len + id_len;
        if known > head.rest {
            return Err(Malformed("a topic longer than its packet".to_owned()));
        }
        if body.len() < topic_len + id_len {
            return Ok(None);
        }
        let topic = ByteString::try_from(&body[..topic_len]).unwrap_or_default();
        body.advance(topic_len);
        let id = if qos > 0 { body.get_u16() } else { 0 };
        if qos > 0 && id == 0 {
            return Err(Malformed("a packet id of 0".to_owned()));
        }
        input.advance(head.len + known);
        self.skip = head.rest - known;
        let (retain, dup) = (head.first & 1 != 0, head.first & 8 != 0);
        let (content_type, payload) = (String::new(), Bytes::new());
        Ok(Some(Packet::Publish(Message { id, qos, retain, dup, topic, content_type, payload, is_too_large: true })))
    }
}

/// `None` = it is not whole yet.
fn head(input: &[u8]) -> Result<Option<Head>, Malformed> {
    let Some(first) = input.first() else { return Ok(None) };
    let mut rest = 0;
    for (place, byte) in input[1..].iter().take(4).enumerate() {
        rest |= usize::from(byte & 0x7F) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(Some(Head { first: *first, len: place + 2, rest }));
        }
    }
    match input.len() > 4 {
        true => Err(Malformed("a remaining length of more than four bytes".to_owned())),
        false => Ok(None),
    }
}

/// The words of a DISCONNECT.
fn goodbye(reason: Option<u8>) -> String {
    let reason = reason.unwrap_or(0);
    match v5::DisconnectReasonCode::try_from(reason) {
        Ok(code) => format!("{code:?} (0x{reason:02X})"),
        Err(_) => format!("reason 0x{reason:02X}"),
    }
}

fn of_v4(packet: v4::Packet) -> Option<Packet> {
    Some(match packet {
        v4::Packet::ConnAck(ack) => match ack.code {
            v4::ConnectReturnCode::Success => Packet::ConnAck(Greeting {
                session_present: ack.session_present,
                receive_max: u16::MAX,
                max_qos: 2,
                keep_alive: None,
                has_shared: true,
            }),
            code => Packet::Refused(format!("{code:?}")),
        },
        v4::Packet::Publish(p) => Packet::Publish(Message {
            id: p.pkid,
            qos: p.qos as u8,
            retain: p.retain,
            dup: p.dup,
            topic: p.topic.into(),
            content_type: String::new(),
            payload: p.payload,
            is_too_large: false,
        }),
        v4::Packet::PubAck(ack) => Packet::PubAck(ack.pkid, Verdict::Taken),
        v4::Packet::PubRec(ack) => Packet::PubRec(ack.pkid, Verdict::Taken),
        v4::Packet::PubRel(ack) => Packet::PubRel(ack.pkid),
        v4::Packet::PubComp(ack) => Packet::PubComp(ack.pkid),
        v4::Packet::SubAck(ack) => Packet::SubAck(match ack.return_codes.first() {
            Some(v4::SubscribeReasonCode::Success(qos)) => Ok(*qos as u8),
            _ => Err("it is not allowed".to_owned()),
        }),
        v4::Packet::PingResp => Packet::PingResp,
        _ => return None,
    })
}

fn of_v5(packet: v5::Packet) -> Option<Packet> {
    Some(match packet {
        v5::Packet::ConnAck(ack) => match ack.code {
            v5::ConnectReturnCode::Success => {
                let said = ack.properties.as_ref();
                Packet::ConnAck(Greeting {
                    session_present: ack.session_present,
                    receive_max: said.and_then(|p| p.receive_max).unwrap_or(u16::MAX),
                    max_qos: said.and_then(|p| p.max_qos).unwrap_or(2),
                    keep_alive: said.and_then(|p| p.server_keep_alive),
                    has_shared: said.and_then(|p| p.shared_subscription_available) != Some(0),
                })
            }
            code => Packet::Refused(format!("{code:?}")),
        },
        v5::Packet::Publish(p) => Packet::Publish(Message {
            id: p.pkid,
            qos: p.qos as u8,
            retain: p.retain,
            dup: p.dup,
            topic: ByteString::try_from(p.topic).unwrap_or_default(),
            content_type: p.properties.and_then(|p| p.content_type).unwrap_or_default(),
            payload: p.payload,
            is_too_large: false,
        }),
        v5::Packet::PubAck(ack) => Packet::PubAck(
            ack.pkid,
            match ack.reason {
                v5::PubAckReason::Success => Verdict::Taken,
                v5::PubAckReason::NoMatchingSubscribers => Verdict::NobodyThere,
                reason => Verdict::Refused(format!("{reason:?}")),
            },
        ),
        v5::Packet::PubRec(ack) => Packet::PubRec(
            ack.pkid,
            match ack.reason {
                v5::PubRecReason::Success => Verdict::Taken,
                v5::PubRecReason::NoMatchingSubscribers => Verdict::NobodyThere,
                reason => Verdict::Refused(format!("{reason:?}")),
            },
        ),
        v5::Packet::PubRel(ack) => Packet::PubRel(ack.pkid),
        v5::Packet::PubComp(ack) => Packet::PubComp(ack.pkid),
        v5::Packet::SubAck(ack) => Packet::SubAck(match ack.return_codes.first() {
            Some(v5::SubscribeReasonCode::Success(qos)) => Ok(*qos as u8),
            Some(reason) => Err(format!("{reason:?}")),
            None => Err("no answer".to_owned()),
        }),
        v5::Packet::PingResp(_) => Packet::PingResp,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All packets of the bytes, given one by one.
    fn read(version: Version, bytes: &[u8]) -> Result<Vec<Packet>, Malformed> {
        let (mut reader, mut input, mut packets) = (Reader::new(version, 100), BytesMut::new(), Vec::new());
        for byte in bytes {
            input.extend_from_slice(&[*byte]);
            while let Some(packet) = reader.next(&mut input)? {
                packets.push(packet);
            }
        }
        Ok(packets)
    }

    fn publish(version: Version, qos: u8, payload: usize) -> Vec<u8> {
        let mut out = Vec::new();
        version.publish(5, qos, "iot/m1/telemetry", &vec![b'x'; payload], &mut out);
        out
    }

    #[test]
    fn a_publish_over_the_limit_is_skipped_and_what_follows_is_read() {
        for version in [Version::V311, Version::V5] {
            let bytes = [publish(version, 2, 1000), publish(version, 0, 3), publish(version, 1, 70_000), vec![0xD0, 0]];
            let packets = read(version, &bytes.concat()).unwrap();
            let [Packet::Publish(first), Packet::Publish(second), Packet::Publish(third), Packet::PingResp] = &*packets
            else {
                panic!("{packets:?}")
            };
            let all = [first, second, third].map(|m| (m.qos, m.id, m.payload.len(), m.is_too_large));
            assert_eq!(all, [(2, 5, 0, true), (0, 0, 3, false), (1, 5, 0, true)]);
            assert!([first, second, third].iter().all(|m| m.topic == "iot/m1/telemetry"));
        }
    }

    #[test]
    fn a_broker_of_the_older_version_is_told_by_its_answer() {
        let packets = read(Version::V5, &[0x20, 2, 0, 1]).unwrap();
        assert!(matches!(&*packets, [Packet::Refused(why)] if why.contains("3.1.1")), "{packets:?}");
        let packets = read(Version::V311, &[0x20, 2, 0, 5]).unwrap();
        assert_eq!(packets, [Packet::Refused("NotAuthorized".to_owned())]);
    }

    #[test]
    fn what_the_broker_says_of_itself_is_heard() {
        // session present; receive maximum 10, maximum QoS 1, no shared subscriptions, keep-alive 5 s
        let ack = [0x20, 13, 1, 0, 10, 0x21, 0, 10, 0x24, 1, 0x2A, 0, 0x13, 0, 5];
        let expected =
            Greeting { session_present: true, receive_max: 10, max_qos: 1, keep_alive: Some(5), has_shared: false };
        assert_eq!(read(Version::V5, &ack).unwrap(), [Packet::ConnAck(expected)]);
        let plain =
            Greeting { session_present: false, receive_max: u16::MAX, max_qos: 2, keep_alive: None, has_shared: true };
        assert_eq!(read(Version::V5, &[0x20, 3, 0, 0, 0]).unwrap(), [Packet::ConnAck(plain.clone())]);
        assert_eq!(read(Version::V311, &[0x20, 2, 0, 0]).unwrap(), [Packet::ConnAck(plain)]);
    }

    #[test]
    fn acknowledgements_say_what_became_of_a_publish() {
        let check = |bytes: &[u8], expected: Packet| assert_eq!(read(Version::V5, bytes).unwrap(), [expected]);
        check(&[0x50, 2, 0, 1], Packet::PubRec(1, Verdict::Taken));
        check(&[0x50, 3, 0, 1, 0x10], Packet::PubRec(1, Verdict::NobodyThere));
        check(&[0x40, 4, 0, 1, 0x87, 0], Packet::PubAck(1, Verdict::Refused("NotAuthorized".to_owned())));
        check(&[0x70, 3, 0, 1, 0x92], Packet::PubComp(1));
        check(&[0xE0, 1, 0x8E], Packet::Disconnect("SessionTakenOver (0x8E)".to_owned()));
        check(&[0xE0, 0], Packet::Disconnect("NormalDisconnection (0x00)".to_owned()));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_gather_without_end(
            bytes in proptest::collection::vec(any::<u8>(), 0..300), first in 0_u8..=15, is_v5: bool,
        ) {
            let version = if is_v5 { Version::V5 } else { Version::V311 };
            let _ = read(version, &bytes);
            // One whole packet of each kind.
            let body = &bytes[..bytes.len().min(90)];
            let framed = [&[first << 4 | (bytes.len() as u8 & 15), body.len() as u8], body].concat();
            let _ = read(version, &framed);
        }
    }
}

//! The codec against the letter of the specification, against itself, and against arbitrary bytes.

mod broken_v5;
mod generated;
mod v311;
mod v5;

use super::*;
use crate::mqtt::packet::{Ack, Disconnect, PacketId};

const MAX: usize = 1000;

fn decode(version: Version, sender: Sender, bytes: &[u8]) -> Result<Option<Packet>, Error> {
    version.next(sender, &mut BytesMut::from(bytes), MAX)
}

fn first(bytes: &[u8]) -> Result<Option<(Version, Connect)>, ConnectError> {
    decode_connect(&mut BytesMut::from(bytes), MAX)
}

fn encode(version: Version, packet: &Packet) -> Vec<u8> {
    let mut bytes = Vec::new();
    version.encode(packet, &mut bytes);
    bytes
}

/// A packet of fewer than 128 bytes, in parts behind the fixed header.
fn wire(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    assert!(body.len() < 128);
    [&[first, body.len() as u8], &body[..]].concat()
}

fn id(n: u16) -> PacketId {
    PacketId::new(n).unwrap()
}

#[test]
fn a_packet_above_the_limit_is_refused_by_its_length_alone() {
    for version in [Version::V311, Version::V5] {
        let check = |bytes: &[u8], expected| assert_eq!(decode(version, Sender::Client, bytes), expected);
        check(b"\x30\xe6\x07", Err(Error::TooLarge { size: 1001, max: MAX }));
        check(b"\x30\xff\xff\xff\x7f", Err(Error::TooLarge { size: 268_435_460, max: MAX }));
        check(b"\x30\xe5\x07", Ok(None)); // 1000 bytes are allowed, they have not come yet.
        check(b"\x30\xff\xff\xff", Ok(None));
        check(b"\x30\xff\xff\xff\xff", Err(Error::Unanswered("remaining length of more than four bytes")));
    }
}

#[test]
fn a_connect_above_the_limit_is_refused_by_its_header_and_told_where_its_version_has_come_with_it() {
    let check = |bytes: &[u8], expected| assert_eq!(first(bytes), expected);
    let refused = |version| Err(ConnectError { version, error: Error::TooLarge { size: 1001, max: MAX } });
    check(b"\x10\xe6", Ok(None));
    check(b"\x10\xe6\x07", refused(None));
    check(b"\x10\xe6\x07\0\x04MQTT", refused(None));
    check(b"\x10\xe6\x07\0\x04MQTT\x05", refused(Some(Version::V5)));
    check(b"\x10\xe6\x07\0\x04MQTT\x04", refused(None));
    let answer = refused(Some(Version::V5)).unwrap_err().answer();
    assert_eq!(answer, Some((Version::V5, Reason::PacketTooLarge)));
    let tiny = decode_connect(&mut BytesMut::from(&b"\x10\x02xx"[..]), 3);
    assert_eq!(tiny, Err(ConnectError { version: None, error: Error::TooLarge { size: 4, max: 3 } }));
}

#[test]
fn each_error_has_the_reason_that_tells_it() {
    let check = |error: Error, reason| assert_eq!(error.reason(), reason);
    check(Error::Malformed(""), Reason::MalformedPacket);
    check(Error::Unanswered(""), Reason::MalformedPacket);
    assert_eq!((Error::Unanswered("").told(), Error::Malformed("").told()), (None, Some(Reason::MalformedPacket)));
    check(Error::Protocol(Reason::TopicAliasInvalid, ""), Reason::TopicAliasInvalid);
    check(Error::TooLarge { size: 2, max: 1 }, Reason::PacketTooLarge);
    check(Error::Refused(Reason::ClientIdentifierNotValid), Reason::ClientIdentifierNotValid);
}

#[test]
fn packets_in_pieces_wait_for_their_rest_and_leave_what_follows() {
    let packets =
        [Packet::PingReq, Packet::PubRel(Ack::ok(id(1))), Packet::Disconnect(Disconnect::new(Reason::Success))];
    for version in [Version::V311, Version::V5] {
        let mut buf = BytesMut::new();
        let mut got = Vec::new();
        for byte in packets.iter().flat_map(|packet| encode(version, packet)) {
            buf.extend_from_slice(&[byte]);
            while let Some(packet) = version.decode(&mut buf, MAX).unwrap() {
                got.push(packet);
            }
        }
        assert_eq!(got, packets);
    }
}

#[test]
fn values_of_a_packet_are_slices_of_what_was_received() {
    let bytes = b"\x30\x10\0\x05topic\x04\x09\0\x01cword";
    let mut buf = BytesMut::from(&bytes[..]);
    let received = buf.as_ptr() as usize..buf.as_ptr() as usize + buf.len();
    let Ok(Some(Packet::Publish(publish))) = Version::V5.decode(&mut buf, MAX) else { panic!("is a PUBLISH") };
    let data = publish.properties.and_then(|p| p.correlation_data.clone()).unwrap();
    for at in [publish.topic.as_ptr(), publish.payload.as_ptr(), data.as_ptr()] {
        assert!(received.contains(&(at as usize)));
    }
}

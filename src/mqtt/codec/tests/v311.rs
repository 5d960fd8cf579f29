//! MQTT 3.1.1 by the letter. Statement numbers are those of 3.1.1.

use std::num::NonZeroU32;

use super::*;
use crate::mqtt::packet::{ConnAck, Filter, QoS, SubscribeOptions};
use Sender::{Client, Server};

#[test]
fn what_the_specification_forbids_is_an_error() {
    let check_from = |sender, what: &str, bytes: &[u8]| {
        let got = decode(Version::V311, sender, bytes);
        assert!(
            matches!(got, Err(Error::Malformed(_) | Error::Protocol(..) | Error::Unanswered(_))),
            "{what}: {got:?}"
        );
    };
    let check = |what: &str, bytes: &[u8]| check_from(Client, what, bytes);
    check("type 0", b"\x00\0");
    check("type 15", b"\xf0\0");
    check("flags of PUBACK", b"\x41\x02\0\x01");
    check("flags of PUBREL", b"\x60\x02\0\x01");
    check("flags of SUBSCRIBE", b"\x80\x06\0\x01\0\x01a\0");
    check("flags of PINGREQ", b"\xc1\0");
    check("a fifth length byte", b"\xc0\x80\x80\x80\x80\x01");
    check("PINGREQ with a body", b"\xc0\x01x");
    check("DISCONNECT with a body", b"\xe0\x01x");
    check("DISCONNECT of version 5", b"\xe0\x01\0");
    check("PUBACK of three bytes", b"\x40\x03\0\x01\0");
    check("PUBACK of one byte", b"\x40\x01\0");
    check("packet id 0", b"\x40\x02\0\0");
    check("QoS 3", b"\x36\x05\0\x01a\0\x01");
    check("DUP at QoS 0", b"\x38\x03\0\x01a");
    check("empty topic", b"\x30\x02\0\0");
    check("wildcard in a topic", b"\x30\x05\0\x03a/#");
    check("U+0000 in a topic", b"\x30\x05\0\x03a\0b");
    check("topic not UTF-8", b"\x30\x04\0\x02\xc3\x28");
    check("surrogate in a topic", b"\x30\x05\0\x03\xed\xa0\x80");
    check("topic longer than the packet", b"\x30\x03\0\x09a");
    check("QoS 1 with packet id 0", b"\x32\x05\0\x01a\0\0");
    check("QoS 1 without packet id", b"\x32\x03\0\x01a");
    check("SUBSCRIBE without filters", b"\x82\x02\0\x01");
    check("SUBSCRIBE with reserved QoS bits", b"\x82\x06\0\x01\0\x01a\x05");
    check("SUBSCRIBE with QoS 3", b"\x82\x06\0\x01\0\x01a\x03");
    check("SUBSCRIBE to a bad filter", b"\x82\x07\0\x01\0\x02a#\0");
    check("UNSUBSCRIBE without filters", b"\xa2\x02\0\x01");
    check("CONNACK from a client", b"\x20\x02\0\0");
    check("SUBACK from a client", b"\x90\x03\0\x01\0");
    check("UNSUBACK from a client", b"\xb0\x02\0\x01");
    check("PINGRESP from a client", b"\xd0\0");
    check_from(Server, "SUBSCRIBE from a server", b"\x82\x06\0\x01\0\x01a\0");
    check_from(Server, "DISCONNECT from a server", b"\xe0\0");
    check_from(Server, "reserved CONNACK flags", b"\x20\x02\x02\0");
    check_from(Server, "a session behind a refusal", b"\x20\x02\x01\x05");
    check_from(Server, "reserved return code of CONNACK", b"\x20\x02\0\x06");
    check_from(Server, "reserved return code of SUBACK", b"\x90\x03\0\x01\x03");
    check_from(Server, "UNSUBACK of three bytes", b"\xb0\x03\0\x01\0");
}

/// Packets that must come only once the connection is there are not looked at more closely than others.
#[test]
fn a_second_connect_is_given_to_the_session_if_it_is_of_the_same_version() {
    let check = |bytes: &[u8], is_given: bool| {
        let got = decode(Version::V311, Client, bytes);
        assert_eq!(matches!(got, Ok(Some(Packet::Connect(_)))), is_given, "{got:?}");
        assert!(is_given || got.unwrap_err().reason() == Reason::ProtocolError);
    };
    check(b"\x10\x0d\0\x04MQTT\x04\x02\0\x0a\0\x01c", true);
    check(b"\x10\x0e\0\x04MQTT\x05\x02\0\x0a\0\0\x01c", false);
    check(b"\x10\x0d\0\x04MQTT\x06\x02\0\x0a\0\x01c", false);
    check(b"\x10\x0c\0\x04MQTT\x04\0\0\x0a\0\0", false);
}

#[test]
fn a_connect_is_judged_by_the_letter() {
    let check = |what: &str, bytes: &[u8], expected: Option<(Version, Reason)>| {
        let got = first(bytes);
        assert_eq!(got.as_ref().map_err(ConnectError::answer).err(), expected.map(Some), "{what}: {got:?}");
        assert!(expected.is_some() || matches!(got, Ok(Some((Version::V311, _)))), "{what}: {got:?}");
    };
    let close = |what: &str, bytes: &[u8]| {
        let got = first(bytes).expect_err(what);
        assert_eq!((got.error.reason(), got.answer()), (Reason::MalformedPacket, None), "{what}");
    };
    let id_refused = Some((Version::V311, Reason::ClientIdentifierNotValid));
    let version_refused = Some((Version::V311, Reason::UnsupportedProtocolVersion));
    let later = Some((Version::V5, Reason::UnsupportedProtocolVersion));
    check("good", b"\x10\x0d\0\x04MQTT\x04\x02\0\x0a\0\x01c", None);
    check("length in too many bytes", b"\x10\x8d\0\0\x04MQTT\x04\x02\0\x0a\0\x01c", None);
    check("empty id, clean", b"\x10\x0c\0\x04MQTT\x04\x02\0\x0a\0\0", None);
    check("empty id, kept", b"\x10\x0c\0\x04MQTT\x04\0\0\x0a\0\0", id_refused);
    check("level 3", b"\x10\x0d\0\x04MQTT\x03\x02\0\x0a\0\x01c", version_refused);
    check("level 0", b"\x10\x0d\0\x04MQTT\x00\x02\0\x0a\0\x01c", later);
    check("3.1", b"\x10\x0f\0\x06MQIsdp\x03\x02\0\x0a\0\x01c", None);
    check("3.1 with flags of the header", b"\x1e\x0f\0\x06MQIsdp\x03\x02\0\x0a\0\x01c", None);
    check("3.1 with the reserved flag", b"\x10\x0f\0\x06MQIsdp\x03\x03\0\x0a\0\x01c", None);
    check("3.1 with an empty id", b"\x10\x0e\0\x06MQIsdp\x03\x02\0\x0a\0\0", id_refused);
    check("3.1 of a bridge", b"\x10\x0f\0\x06MQIsdp\x83\x02\0\x0a\0\x01c", version_refused);
    check("level 2 of 3.1", b"\x10\x0f\0\x06MQIsdp\x02\x02\0\x0a\0\x01c", later);
    check("a bridge", b"\x10\x0d\0\x04MQTT\x84\x02\0\x0a\0\x01c", version_refused);
    check("level 6", b"\x10\x0d\0\x04MQTT\x06\x02\0\x0a\0\x01c", later);
    check("level 6, another form", b"\x10\x07\0\x04MQTT\x06", later);
    close("flags of the header", b"\x14\x0d\0\x04MQTT\x04\x02\0\x0a\0\x01c");
    close("flags of the header, no more yet", b"\x14\x0d\0\x04");
    close("another protocol", b"\x10\x0d\0\x04HTTP\x04\x02\0\x0a\0\x01c");
    close("another case", b"\x10\x0d\0\x04mqtt\x04\x02\0\x0a\0\x01c");
    close("reserved flag", b"\x10\x0d\0\x04MQTT\x04\x03\0\x0a\0\x01c");
    close("will QoS without will", b"\x10\x0d\0\x04MQTT\x04\x0a\0\x0a\0\x01c");
    close("will retain without will", b"\x10\x0d\0\x04MQTT\x04\x22\0\x0a\0\x01c");
    close("will QoS 3", b"\x10\x13\0\x04MQTT\x04\x1e\0\x0a\0\x01c\0\x01w\0\x01x");
    close("will topic with wildcard", b"\x10\x13\0\x04MQTT\x04\x06\0\x0a\0\x01c\0\x01#\0\x01x");
    close("password without user", b"\x10\x10\0\x04MQTT\x04\x42\0\x0a\0\x01c\0\x01p");
    close("bytes behind the end", b"\x10\x0e\0\x04MQTT\x04\x02\0\x0a\0\x01cx");
    close("cut short", b"\x10\x0b\0\x04MQTT\x04\x02\0\x0a\0");
    close("no level", b"\x10\x06\0\x04MQTT");
    close("not CONNECT", b"\xc0");
}

#[test]
fn a_session_of_version_3_1_1_is_kept_for_ever_or_not_at_all() {
    let expiry = |bytes: &[u8]| first(bytes).unwrap().unwrap().1.session_expiry_s;
    assert_eq!(expiry(b"\x10\x0d\0\x04MQTT\x04\x02\0\x0a\0\x01c"), 0);
    assert_eq!(expiry(b"\x10\x0d\0\x04MQTT\x04\0\0\x0a\0\x01c"), crate::mqtt::packet::NEVER);
}

#[test]
fn packets_of_servers_are_written_and_read() {
    let check = |bytes: &[u8], packet: Packet| {
        assert_eq!(encode(Version::V311, &packet), bytes, "{packet:?}");
        assert_eq!(decode(Version::V311, Server, bytes), Ok(Some(packet)));
    };
    let connack =
        |reason, session_present| Packet::ConnAck(Box::new(ConnAck { session_present, ..ConnAck::new(reason) }));
    check(b"\x20\x02\0\0", connack(Reason::Success, false));
    check(b"\x20\x02\x01\0", connack(Reason::Success, true));
    check(b"\x20\x02\0\x01", connack(Reason::UnsupportedProtocolVersion, false));
    check(b"\x20\x02\0\x02", connack(Reason::ClientIdentifierNotValid, false));
    check(b"\x20\x02\0\x03", connack(Reason::ServerUnavailable, false));
    check(b"\x20\x02\0\x04", connack(Reason::BadUserNameOrPassword, false));
    check(b"\x20\x02\0\x05", connack(Reason::NotAuthorized, false));
    let reasons = vec![Reason::Success, Reason::GrantedQoS1, Reason::GrantedQoS2, Reason::Unspecified];
    check(b"\x90\x06\x01\x02\0\x01\x02\x80", Packet::SubAck { packet_id: id(0x102), reasons, reason_string: None });
    check(b"\xb0\x02\0\x09", Packet::UnsubAck { packet_id: id(9), reasons: Vec::new() });
    check(b"\xd0\0", Packet::PingResp);
    check(b"\x50\x02\xff\xff", Packet::PubRec(Ack::ok(id(0xffff))));
}

#[test]
fn what_only_version_5_has_is_left_out() {
    let check = |packet: Packet, bytes: &[u8]| assert_eq!(encode(Version::V311, &packet), bytes, "{packet:?}");
    let busy = ConnAck {
        session_present: true,
        assigned_client_id: Some("c".into()),
        reason_string: Some("later".into()),
        ..ConnAck::new(Reason::ServerBusy)
    };
    check(Packet::ConnAck(Box::new(busy)), b"\x20\x02\0\x03");
    check(Packet::ConnAck(Box::new(ConnAck::new(Reason::Banned))), b"\x20\x02\0\x05");
    let refused = Ack { reason_string: Some("no".into()), ..Ack::new(id(1), Reason::QuotaExceeded) };
    check(Packet::PubAck(refused), b"\x40\x02\0\x01");
    let options = SubscribeOptions { qos: QoS::AtLeastOnce, no_local: true, ..SubscribeOptions::default() };
    let filters = vec![Filter { filter: "a".into(), options }];
    check(Packet::Subscribe { packet_id: id(1), filters, id: NonZeroU32::new(7) }, b"\x82\x06\0\x01\0\x01a\x01");
    let reasons = vec![Reason::NotAuthorized];
    check(Packet::SubAck { packet_id: id(1), reasons, reason_string: Some("no".into()) }, b"\x90\x03\0\x01\x80");
    check(Packet::UnsubAck { packet_id: id(1), reasons: vec![Reason::Success] }, b"\xb0\x02\0\x01");
    let publish = Publish { topic: "a".into(), expiry_s: Some(1), topic_alias: Some(id(1)), ..Publish::default() };
    check(Packet::Publish(publish), b"\x30\x03\0\x01a");
    check(Packet::Disconnect(Disconnect::new(Reason::DisconnectWithWill)), b"\xe0\0");
    check(Packet::Auth(Reason::ReAuthenticate), b"");
}

#[test]
fn a_filter_that_looks_shared_is_like_any_other() {
    let got = decode(Version::V311, Client, b"\x82\x0c\0\x01\0\x07$share/\0");
    assert!(matches!(got, Ok(Some(Packet::Subscribe { .. }))), "{got:?}");
}

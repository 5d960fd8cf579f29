//! MQTT 5 by the letter: every packet and every property, as bytes and as values.

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::mqtt::packet::{ConnAck, Filter, Properties, QoS, RetainHandling, SubscribeOptions, Will};
use Sender::{Client, Server};

/// Bytes and packet are each other's.
fn check(sender: Sender, bytes: &[u8], packet: Packet) {
    assert_eq!(encode(Version::V5, &packet), bytes, "{packet:?}");
    check_read(sender, bytes, packet);
}

/// Another form of the packet.
fn check_read(sender: Sender, bytes: &[u8], packet: Packet) {
    assert_eq!(decode(Version::V5, sender, bytes), Ok(Some(packet)), "{bytes:x?}");
}

#[test]
fn connect() {
    let check = |bytes: &[u8], connect: Connect| {
        assert_eq!(first(bytes), Ok(Some((Version::V5, connect.clone()))));
        check(Client, bytes, Packet::Connect(Box::new(connect)));
    };
    check(b"\x10\x0d\0\x04MQTT\x05\0\0\0\0\0\0", Connect::default());
    let named = Connect { client_id: "c".into(), clean_start: true, keep_alive: 10, ..Connect::default() };
    check(b"\x10\x0e\0\x04MQTT\x05\x02\0\x0a\0\0\x01c", named);
    let password_only = Connect { password: Some(Bytes::from_static(b"p")), ..Connect::default() };
    check(b"\x10\x10\0\x04MQTT\x05\x40\0\0\0\0\0\0\x01p", password_only);
    let all = Connect {
        session_expiry_s: 0x0102_0304,
        authentication_method: Some("m".into()),
        problem_information: Some(false),
        wants_response_information: true,
        receive_maximum: NonZeroU16::new(10),
        topic_alias_maximum: 0x0203,
        max_packet_size: NonZeroU32::new(1000),
        username: Some("u".into()),
        ..Connect::default()
    };
    let properties = b"\x18\x11\x01\x02\x03\x04\x15\0\x01m\x17\0\x19\x01\x21\0\x0a\x22\x02\x03\x27\0\0\x03\xe8";
    check(&wire(0x10, &[b"\0\x04MQTT\x05\x80\0\0", properties, b"\0\0\0\x01u"]), all);
}

#[test]
fn properties_of_connect_may_say_the_default_or_what_is_not_kept() {
    let bytes = wire(
        0x10,
        &[
            b"\0\x04MQTT\x05\0\0\0",
            b"\x2e\x17\x01\x19\0\x22\0\0\x11\0\0\0\0",
            b"\x26\0\x01a\0\x01b\x26\0\x01a\0\x01b\x15\0\x07GS2-KRB\x16\0\x07secret!",
            b"\0\0",
        ],
    );
    let connect = Connect {
        authentication_method: Some("GS2-KRB".into()),
        problem_information: Some(true),
        ..Connect::default()
    };
    assert_eq!(first(&bytes), Ok(Some((Version::V5, connect))));
}

#[test]
fn will() {
    let connect = |will| Packet::Connect(Box::new(Connect { will: Some(will), ..Connect::default() }));
    let plain = Will { topic: "w".into(), qos: QoS::ExactlyOnce, retain: true, ..Will::default() };
    check(Client, b"\x10\x13\0\x04MQTT\x05\x34\0\0\0\0\0\0\0\x01w\0\0", connect(plain));
    let properties = Properties {
        payload_is_utf8: Some(false),
        content_type: Some("t".into()),
        response_topic: Some("r".into()),
        correlation_data: Some(Bytes::from_static(b"\0\xff")),
        user: vec![("a".into(), "b".into())],
    };
    let full = Will {
        topic: "w".into(),
        payload: Bytes::from_static(b"x"),
        qos: QoS::AtMostOnce,
        retain: false,
        delay_s: 5,
        expiry_s: Some(0),
        properties: Some(Arc::new(properties)),
    };
    let bytes = wire(
        0x10,
        &[
            b"\0\x04MQTT\x05\x04\0\0\0\0\0",
            b"\x20\x01\0\x02\0\0\0\0\x03\0\x01t\x08\0\x01r\x09\0\x02\0\xff\x18\0\0\0\x05\x26\0\x01a\0\x01b",
            b"\0\x01w\0\x01x",
        ],
    );
    check(Client, &bytes, connect(full));
}

#[test]
fn connack() {
    let check = |bytes: &[u8], ack: ConnAck| check(Server, bytes, Packet::ConnAck(Box::new(ack)));
    check(b"\x20\x03\0\0\0", ConnAck::new(Reason::Success));
    check(b"\x20\x03\x01\0\0", ConnAck { session_present: true, ..ConnAck::new(Reason::Success) });
    check(b"\x20\x03\0\x86\0", ConnAck::new(Reason::BadUserNameOrPassword));
    let all = ConnAck {
        session_expiry_s: Some(0),
        assigned_client_id: Some("id".into()),
        server_keep_alive: Some(60),
        response_information: Some("r".into()),
        reason_string: Some("s".into()),
        receive_maximum: NonZeroU16::new(20),
        topic_alias_maximum: 10,
        max_packet_size: NonZeroU32::new(65536),
        ..ConnAck::new(Reason::Success)
    };
    let properties = b"\x20\x22\0\x0a\x11\0\0\0\0\x12\0\x02id\x13\0\x3c\x1a\0\x01r\x1f\0\x01s\x27\0\x01\0\0\x21\0\x14";
    check(&wire(0x20, &[b"\0\0", properties]), all);
}

#[test]
fn what_a_server_does_not_offer_is_read_and_not_kept() {
    let properties = b"\x25\x24\x01\x25\0\x28\0\x29\x01\x2a\0\x1c\0\x01s\x15\0\x01m\x16\0\x01d\x26\0\x01a\0\x01b\x26\0\0\0\0\x13\0\x01";
    let ack = ConnAck { server_keep_alive: Some(1), ..ConnAck::new(Reason::Success) };
    check_read(Server, &wire(0x20, &[b"\0\0", properties]), Packet::ConnAck(Box::new(ack)));
}

#[test]
fn publish() {
    let a = || Publish { topic: "a".into(), ..Publish::default() };
    let check = |sender, bytes: &[u8], publish: Publish| {
        assert_eq!(Version::V5.publish_len(&publish), bytes.len());
        check(sender, bytes, Packet::Publish(publish));
    };
    let with = |properties| Publish { properties: Some(Arc::new(properties)), ..a() };
    let none = Properties::default;
    check(Client, b"\x30\x04\0\x01a\0", a());
    check(Client, b"\x31\x06\0\x01a\0hi", Publish { retain: true, payload: Bytes::from_static(b"hi"), ..a() });
    let again = Publish { dup: true, qos: QoS::ExactlyOnce, packet_id: Some(id(0x102)), ..a() };
    check(Server, b"\x3c\x06\0\x01a\x01\x02\0", again);
    check(Client, b"\x30\x06\0\x01a\x02\x01\0", with(Properties { payload_is_utf8: Some(false), ..none() }));
    check(Client, b"\x30\x06\0\x01a\x02\x01\x01", with(Properties { payload_is_utf8: Some(true), ..none() }));
    check(Client, b"\x30\x09\0\x01a\x05\x02\x01\x02\x03\x04", Publish { expiry_s: Some(0x0102_0304), ..a() });
    check(Client, b"\x30\x08\0\x01a\x04\x03\0\x01t", with(Properties { content_type: Some("t".into()), ..none() }));
    check(Client, b"\x30\x08\0\x01a\x04\x08\0\x01r", with(Properties { response_topic: Some("r".into()), ..none() }));
    let data = Some(Bytes::from_static(b"\xff"));
    check(Client, b"\x30\x08\0\x01a\x04\x09\0\x01\xff", with(Properties { correlation_data: data, ..none() }));
    let empty = Some(Bytes::new());
    check(Client, b"\x30\x07\0\x01a\x03\x09\0\0", with(Properties { correlation_data: empty, ..none() }));
    let ids = [1, 128, 268_435_455].map(|n| NonZeroU32::new(n).unwrap()).to_vec();
    let for_three = Publish { subscription_ids: ids, ..a() };
    check(Server, b"\x30\x0e\0\x01a\x0a\x0b\x01\x0b\x80\x01\x0b\xff\xff\xff\x7f", for_three);
    check(Client, b"\x30\x07\0\x01a\x03\x23\x01\x02", Publish { topic_alias: Some(id(0x102)), ..a() });
    let by_alias = Publish { topic: "".into(), topic_alias: Some(id(2)), ..a() };
    check(Client, b"\x30\x06\0\0\x03\x23\0\x02", by_alias);
    let user = vec![("a".into(), "b".into()), ("a".into(), "".into())];
    check(Client, b"\x30\x11\0\x01a\x0d\x26\0\x01a\0\x01b\x26\0\x01a\0\0", with(Properties { user, ..none() }));
    let mark = Publish { topic: "\u{feff}a".into(), ..a() }; // [MQTT-1.5.4-3]
    check(Client, b"\x30\x07\0\x04\xef\xbb\xbfa\0", mark);
}

#[test]
fn acknowledgements() {
    let from_both = |bytes: &[u8], packet: Packet| {
        check(Client, bytes, packet.clone());
        check(Server, bytes, packet);
    };
    from_both(b"\x40\x02\x01\x02", Packet::PubAck(Ack::ok(id(0x102))));
    from_both(b"\x50\x02\0\x01", Packet::PubRec(Ack::ok(id(1))));
    from_both(b"\x62\x02\0\x01", Packet::PubRel(Ack::ok(id(1))));
    from_both(b"\x70\x02\0\x01", Packet::PubComp(Ack::ok(id(1))));
    from_both(b"\x40\x03\0\x01\x97", Packet::PubAck(Ack::new(id(1), Reason::QuotaExceeded)));
    from_both(b"\x50\x03\0\x01\x87", Packet::PubRec(Ack::new(id(1), Reason::NotAuthorized)));
    from_both(b"\x62\x03\0\x01\x92", Packet::PubRel(Ack::new(id(1), Reason::PacketIdentifierNotFound)));
    from_both(b"\x70\x03\0\x01\x92", Packet::PubComp(Ack::new(id(1), Reason::PacketIdentifierNotFound)));
    check(Server, b"\x40\x03\0\x01\x10", Packet::PubAck(Ack::new(id(1), Reason::NoMatchingSubscribers)));
    check(Server, b"\x50\x03\0\x01\x10", Packet::PubRec(Ack::new(id(1), Reason::NoMatchingSubscribers)));
    let said = Ack { reason_string: Some("s".into()), ..Ack::ok(id(1)) };
    check(Server, b"\x62\x08\0\x01\0\x04\x1f\0\x01s", Packet::PubRel(said));
    // Longer than it need be, or with what is not kept.
    for sender in [Client, Server] {
        check_read(sender, b"\x40\x03\0\x01\0", Packet::PubAck(Ack::ok(id(1))));
        check_read(sender, b"\x40\x04\0\x01\0\0", Packet::PubAck(Ack::ok(id(1))));
        check_read(sender, b"\x70\x0b\0\x01\0\x07\x26\0\x01a\0\x01b", Packet::PubComp(Ack::ok(id(1))));
    }
    check_read(Client, b"\x62\x08\0\x01\0\x04\x1f\0\x01s", Packet::PubRel(Ack::ok(id(1))));
}

#[test]
fn subscribe_and_unsubscribe() {
    let filter = |filter: &str, options| Filter { filter: filter.into(), options };
    let default = SubscribeOptions::default;
    let subscribe = |filters: Vec<Filter>, n| Packet::Subscribe { packet_id: id(1), filters, id: NonZeroU32::new(n) };
    check(Client, b"\x82\x07\0\x01\0\0\x01a\0", subscribe(vec![filter("a", default())], 0));
    let several = vec![
        filter("#", SubscribeOptions { qos: QoS::AtLeastOnce, no_local: true, ..default() }),
        filter("+", SubscribeOptions { qos: QoS::ExactlyOnce, retain_as_published: true, ..default() }),
        filter("a", SubscribeOptions { retain_handling: RetainHandling::IfNew, ..default() }),
        filter("b", SubscribeOptions { retain_handling: RetainHandling::Never, ..default() }),
    ];
    check(Client, b"\x82\x15\0\x01\x02\x0b\x07\0\x01#\x05\0\x01+\x0a\0\x01a\x10\0\x01b\x20", subscribe(several, 7));
    let shared = vec![filter("$share/g/a", default())];
    check(Client, b"\x82\x10\0\x01\0\0\x0a$share/g/a\0", subscribe(shared, 0));
    let user = b"\x82\x0e\0\x01\x07\x26\0\x01a\0\x01b\0\x01a\0";
    check_read(Client, user, subscribe(vec![filter("a", default())], 0));

    let filters = vec!["a".into(), "$share/g/#".into()];
    check(Client, b"\xa2\x12\0\x01\0\0\x01a\0\x0a$share/g/#", Packet::Unsubscribe { packet_id: id(1), filters });
    let one = Packet::Unsubscribe { packet_id: id(1), filters: vec!["a".into()] };
    check_read(Client, b"\xa2\x0d\0\x01\x07\x26\0\x01a\0\x01b\0\x01a", one);
}

#[test]
fn suback_and_unsuback() {
    let reasons = vec![Reason::Success, Reason::GrantedQoS1, Reason::GrantedQoS2, Reason::TopicFilterInvalid];
    let plain = Packet::SubAck { packet_id: id(1), reasons, reason_string: None };
    check(Server, b"\x90\x07\0\x01\0\0\x01\x02\x8f", plain);
    let reasons = vec![Reason::NotAuthorized];
    let said = Packet::SubAck { packet_id: id(1), reasons, reason_string: Some("s".into()) };
    check(Server, b"\x90\x08\0\x01\x04\x1f\0\x01s\x87", said);
    let reasons = vec![Reason::Success, Reason::NoSubscriptionExisted];
    let unsuback = || Packet::UnsubAck { packet_id: id(1), reasons: reasons.clone() };
    check(Server, b"\xb0\x05\0\x01\0\0\x11", unsuback());
    check_read(Server, b"\xb0\x09\0\x01\x04\x1f\0\x01s\0\x11", unsuback());
}

#[test]
fn pings_disconnect_and_auth() {
    let disconnect = |reason| Disconnect::new(reason);
    check(Client, b"\xc0\0", Packet::PingReq);
    check(Server, b"\xd0\0", Packet::PingResp);
    check(Client, b"\xe0\0", Packet::Disconnect(disconnect(Reason::Success)));
    check(Client, b"\xe0\x01\x04", Packet::Disconnect(disconnect(Reason::DisconnectWithWill)));
    check(Server, b"\xe0\x01\x8e", Packet::Disconnect(disconnect(Reason::SessionTakenOver)));
    let expiring = Disconnect { session_expiry_s: Some(10), ..disconnect(Reason::Success) };
    check(Client, b"\xe0\x07\0\x05\x11\0\0\0\x0a", Packet::Disconnect(expiring));
    let said = Disconnect { reason_string: Some("s".into()), ..disconnect(Reason::ServerShuttingDown) };
    check(Server, b"\xe0\x06\x8b\x04\x1f\0\x01s", Packet::Disconnect(said));
    check_read(Client, b"\xe0\x01\0", Packet::Disconnect(disconnect(Reason::Success)));
    check_read(Client, b"\xe0\x02\0\0", Packet::Disconnect(disconnect(Reason::Success)));
    check_read(Client, b"\xe0\x06\x80\x04\x1f\0\x01s", Packet::Disconnect(disconnect(Reason::Unspecified)));
    let moved = b"\xe0\x0d\x9d\x0b\x1c\0\x01s\x26\0\x01a\0\x01b";
    check_read(Server, moved, Packet::Disconnect(disconnect(Reason::ServerMoved)));

    check(Server, b"\xf0\0", Packet::Auth(Reason::Success));
    check_read(Client, b"\xf0\x06\x18\x04\x15\0\x01m", Packet::Auth(Reason::ContinueAuthentication));
    let all = b"\xf0\x15\x19\x13\x15\0\x01m\x16\0\x01d\x1f\0\x01s\x26\0\x01a\0\x01b";
    check_read(Client, all, Packet::Auth(Reason::ReAuthenticate));
    check_read(Server, b"\xf0\x06\0\x04\x15\0\x01m", Packet::Auth(Reason::Success));
}

#[test]
fn a_text_that_no_length_can_say_is_cut_between_characters() {
    let text = "é".repeat(40_000);
    let publish = Publish { topic: text.as_str().into(), ..Publish::default() };
    let bytes = encode(Version::V5, &Packet::Publish(publish.clone()));
    assert_eq!(bytes.len(), Version::V5.publish_len(&publish));
    let got = Version::V5.decode(&mut BytesMut::from(&bytes[..]), 1 << 20);
    assert_eq!(got, Ok(Some(Packet::Publish(Publish { topic: text[..65_534].into(), ..publish }))));
}

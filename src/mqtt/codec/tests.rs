//! The codec against the letter of the specification, against itself, and against arbitrary bytes.

use proptest::prelude::*;

use super::*;
use crate::mqtt::packet::{PacketId, Publish, QoS, Will};

const MAX: usize = 1000;

fn decode(bytes: &[u8]) -> Result<Option<Packet>, Error> {
    Version::V311.decode(&mut BytesMut::from(bytes), MAX)
}

fn first(bytes: &[u8]) -> Result<Option<(Version, Connect)>, Error> {
    decode_connect(&mut BytesMut::from(bytes), MAX)
}

#[test]
fn what_the_specification_forbids_is_malformed() {
    let check = |what: &str, bytes: &[u8]| {
        assert!(matches!(decode(bytes), Err(Error::Malformed(_))), "{what}: {:?}", decode(bytes));
    };
    check("type 0", b"\x00\0");
    check("type 15", b"\xf0\0");
    check("flags of PUBACK", b"\x41\x02\0\x01");
    check("flags of PUBREL", b"\x60\x02\0\x01");
    check("flags of SUBSCRIBE", b"\x80\x06\0\x01\0\x01a\0");
    check("flags of PINGREQ", b"\xc1\0");
    check("a fifth length byte", b"\xc0\x80\x80\x80\x80\x01");
    check("PINGREQ with a body", b"\xc0\x01x");
    check("DISCONNECT with a body", b"\xe0\x01x");
    check("PUBACK of three bytes", b"\x40\x03\0\x01\0");
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
}

#[test]
fn a_connect_is_judged_by_the_letter() {
    let check = |what: &str, bytes: &[u8], expected: Option<Error>| {
        let got = first(bytes);
        match expected {
            None => assert!(matches!(got, Ok(Some(_))), "{what}: {got:?}"),
            Some(Error::Malformed(_)) => assert!(matches!(got, Err(Error::Malformed(_))), "{what}: {got:?}"),
            Some(e) => assert_eq!(got, Err(e), "{what}"),
        }
    };
    let bad = || Some(Error::Malformed(""));
    let code = |c| Some(Error::Refused(c));
    check("good", b"\x10\x0d\0\x04MQTT\x04\x02\0\x0a\0\x01c", None);
    check("empty id, clean", b"\x10\x0c\0\x04MQTT\x04\x02\0\x0a\0\0", None);
    check("empty id, kept", b"\x10\x0c\0\x04MQTT\x04\0\0\x0a\0\0", code(ConnectCode::IdentifierRejected));
    check("level 5", b"\x10\x0d\0\x04MQTT\x05\x02\0\x0a\0\x01c", code(ConnectCode::UnacceptableProtocolVersion));
    check("3.1", b"\x10\x0f\0\x06MQIsdp\x03\x02\0\x0a\0\x01c", code(ConnectCode::UnacceptableProtocolVersion));
    check("another protocol", b"\x10\x0d\0\x04HTTP\x04\x02\0\x0a\0\x01c", bad());
    check("reserved flag", b"\x10\x0d\0\x04MQTT\x04\x03\0\x0a\0\x01c", bad());
    check("will QoS without will", b"\x10\x0d\0\x04MQTT\x04\x0a\0\x0a\0\x01c", bad());
    check("will retain without will", b"\x10\x0d\0\x04MQTT\x04\x22\0\x0a\0\x01c", bad());
    check("will QoS 3", b"\x10\x13\0\x04MQTT\x04\x1e\0\x0a\0\x01c\0\x01w\0\x01x", bad());
    check("will topic with wildcard", b"\x10\x13\0\x04MQTT\x04\x06\0\x0a\0\x01c\0\x01#\0\x01x", bad());
    check("password without user", b"\x10\x10\0\x04MQTT\x04\x42\0\x0a\0\x01c\0\x01p", bad());
    check("bytes behind the end", b"\x10\x0e\0\x04MQTT\x04\x02\0\x0a\0\x01cx", bad());
    check("cut short", b"\x10\x0b\0\x04MQTT\x04\x02\0\x0a\0", bad());
    check("not CONNECT", b"\xc0", bad());
}

#[test]
fn a_packet_above_the_limit_is_refused_by_its_length_alone() {
    assert_eq!(decode(b"\x30\xe6\x07"), Err(Error::TooLarge { size: 1001, max: MAX }));
    assert_eq!(decode(b"\x30\xe5\x07"), Ok(None), "1000 bytes are allowed, they have not come yet");
}

#[test]
fn a_packet_in_pieces_waits_for_its_rest_and_leaves_what_follows() {
    let mut all = Vec::new();
    for packet in [Packet::PingReq, Packet::PubRel(PacketId::MIN), Packet::Disconnect] {
        Version::V311.encode(&packet, &mut all);
    }
    let mut buf = BytesMut::new();
    let mut got = Vec::new();
    for byte in all {
        buf.extend_from_slice(&[byte]);
        while let Some(packet) = Version::V311.decode(&mut buf, MAX).unwrap() {
            got.push(packet);
        }
    }
    assert_eq!(got, [Packet::PingReq, Packet::PubRel(PacketId::MIN), Packet::Disconnect]);
}

fn id() -> impl Strategy<Value = PacketId> {
    (1_u16..).prop_map(|n| PacketId::new(n).unwrap())
}

fn qos() -> impl Strategy<Value = QoS> {
    (0_u8..3).prop_map(|n| QoS::from_level(n).unwrap())
}

fn topic() -> impl Strategy<Value = bytestring::ByteString> {
    "[a-zé$/]{1,300}".prop_filter("few levels", |t| crate::mqtt::topic::is_valid_name(t)).prop_map(Into::into)
}

fn publish() -> impl Strategy<Value = Publish> {
    (any::<bool>(), any::<bool>(), qos(), id(), topic(), prop::collection::vec(any::<u8>(), 0..300)).prop_map(
        |(dup, retain, qos, id, topic, payload)| {
            let counts = qos != QoS::AtMostOnce;
            let payload = payload.into();
            Publish { dup: dup && counts, retain, qos, packet_id: counts.then_some(id), topic, payload }
        },
    )
}

fn connect() -> impl Strategy<Value = Connect> {
    let will = (topic(), any::<[u8; 5]>(), qos(), any::<bool>()).prop_map(|(topic, payload, qos, retain)| Will {
        topic,
        payload: payload.to_vec().into(),
        qos,
        retain,
    });
    let login = prop::option::of(("[a-z]{0,9}", prop::option::of(any::<[u8; 4]>())));
    ("[a-zA-Z0-9é]{1,30}", any::<bool>(), any::<u16>(), prop::option::of(will), login).prop_map(
        |(client_id, clean_session, keep_alive, will, login)| Connect {
            client_id: client_id.into(),
            clean_session,
            keep_alive,
            will,
            username: login.as_ref().map(|(name, _)| name.as_str().into()),
            password: login.and_then(|(_, password)| password).map(|p| p.to_vec().into()),
        },
    )
}

fn packet() -> impl Strategy<Value = Packet> {
    let filters = prop::collection::vec((topic(), qos()), 1..4);
    prop_oneof![
        publish().prop_map(Packet::Publish),
        connect().prop_map(|c| Packet::Connect(Box::new(c))),
        id().prop_map(Packet::PubAck),
        id().prop_map(Packet::PubRec),
        id().prop_map(Packet::PubRel),
        id().prop_map(Packet::PubComp),
        (id(), filters).prop_map(|(packet_id, filters)| Packet::Subscribe { packet_id, filters }),
        (id(), prop::collection::vec(topic(), 1..4))
            .prop_map(|(packet_id, filters)| Packet::Unsubscribe { packet_id, filters }),
        Just(Packet::PingReq),
        Just(Packet::Disconnect),
    ]
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_and_nothing_is_left(packet in packet()) {
        let mut bytes = Vec::new();
        Version::V311.encode(&packet, &mut bytes);
        let mut buf = BytesMut::from(&bytes[..]);
        prop_assert_eq!(Version::V311.decode(&mut buf, 1 << 20), Ok(Some(packet)));
        prop_assert!(buf.is_empty());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = first(&bytes);
        let mut buf = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = Version::V311.decode(&mut buf, MAX) {}
    }

    #[test]
    fn a_damaged_packet_never_panics(packet in packet(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = Vec::new();
        Version::V311.encode(&packet, &mut bytes);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = (decode(&bytes), first(&bytes));
    }
}

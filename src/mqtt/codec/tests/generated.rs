//! Generated packets, arbitrary and damaged bytes, for both versions and directions.

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use bytestring::ByteString;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::*;
use crate::mqtt::packet::{ConnAck, Filter, NEVER, Properties, QoS, RetainHandling, SubscribeOptions, Will};
use crate::mqtt::topic;

fn packet_id() -> impl Strategy<Value = PacketId> {
    (1_u16..).prop_map(id)
}

fn qos() -> impl Strategy<Value = QoS> {
    (0_u8..3).prop_map(|n| QoS::from_level(n).unwrap())
}

fn name() -> impl Strategy<Value = ByteString> {
    "[a-zé$/]{1,300}".prop_filter("few levels", |t| topic::is_valid_name(t)).prop_map(Into::into)
}

fn text() -> impl Strategy<Value = ByteString> {
    "[a-zA-Z0-9é\u{feff}\u{10ffff}]{0,40}".prop_map(Into::into)
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V311), Just(Version::V5)]
}

fn reason(allowed: &'static [Reason]) -> impl Strategy<Value = Reason> {
    prop::sample::select(allowed)
}

fn properties() -> impl Strategy<Value = Option<Arc<Properties>>> {
    (of(any::<bool>()), of(text()), of(name()), of(vec(any::<u8>(), 0..9)), vec((text(), text()), 0..4)).prop_map(
        |(payload_is_utf8, content_type, response_topic, data, user)| {
            let correlation_data = data.map(Into::into);
            let all = Properties { payload_is_utf8, content_type, response_topic, correlation_data, user };
            (all != Properties::default()).then(|| Arc::new(all))
        },
    )
}

/// The same packet is made for both versions: [`publish`] takes away what 3.1.1 does not have.
fn any_publish() -> impl Strategy<Value = Publish> {
    let header = (any::<bool>(), any::<bool>(), qos(), packet_id());
    let message = (name(), vec(any::<u8>(), 0..300), properties(), of(any::<u32>()));
    let hop = (of(packet_id()), any::<bool>(), vec(1..268_435_456_u32, 0..4));
    (header, message, hop).prop_map(|((dup, retain, qos, id), (topic, payload, properties, expiry_s), hop)| {
        let (topic_alias, is_short, subscription_ids) = hop;
        let counts = qos != QoS::AtMostOnce;
        Publish {
            dup: dup && counts,
            retain,
            qos,
            packet_id: counts.then_some(id),
            topic: if is_short && topic_alias.is_some() { ByteString::new() } else { topic },
            topic_alias,
            expiry_s,
            subscription_ids: subscription_ids.into_iter().filter_map(NonZeroU32::new).collect(),
            properties,
            payload: payload.into(),
        }
    })
}

fn publish(version: Version, sender: Sender) -> impl Strategy<Value = Publish> {
    (any_publish(), name()).prop_map(move |(mut p, name)| {
        if sender == Sender::Client {
            p.subscription_ids.clear();
        }
        if version == Version::V311 {
            let topic = if p.topic.is_empty() { name } else { p.topic };
            (p.properties, p.expiry_s, p.topic_alias) = (None, None, None);
            p = Publish { topic, subscription_ids: Vec::new(), ..p };
        }
        p
    })
}

fn will(version: Version) -> impl Strategy<Value = Will> {
    (name(), any::<[u8; 5]>(), qos(), any::<bool>(), any::<u32>(), of(any::<u32>()), properties()).prop_map(
        move |(topic, payload, qos, retain, delay_s, expiry_s, properties)| {
            let plain = Will { topic, payload: payload.to_vec().into(), qos, retain, ..Will::default() };
            match version {
                Version::V311 => plain,
                Version::V5 => Will { delay_s, expiry_s, properties, ..plain },
            }
        },
    )
}

fn connect(version: Version) -> impl Strategy<Value = Connect> {
    let session = (text(), any::<bool>(), any::<u16>(), any::<u32>());
    let login = (of(text()), of(any::<[u8; 4]>()));
    let limits = (any::<u16>(), any::<u32>(), any::<u16>(), any::<bool>(), of(any::<bool>()), of(text()));
    (session, of(will(version)), login, limits).prop_map(move |(session, will, login, limits)| {
        let (client_id, clean_start, keep_alive, session_expiry_s) = session;
        let (username, password) = login;
        let password = password.map(|p| p.to_vec().into());
        let plain = Connect { client_id, clean_start, keep_alive, will, username, password, ..Connect::default() };
        match version {
            Version::V311 => Connect {
                session_expiry_s: if clean_start { 0 } else { NEVER },
                client_id: if clean_start { plain.client_id } else { format!("{}x", plain.client_id).into() },
                password: plain.username.as_ref().and(plain.password),
                ..plain
            },
            Version::V5 => Connect {
                session_expiry_s,
                receive_maximum: NonZeroU16::new(limits.0),
                max_packet_size: NonZeroU32::new(limits.1),
                topic_alias_maximum: limits.2,
                wants_response_information: limits.3,
                problem_information: limits.4,
                authentication_method: limits.5,
                ..plain
            },
        }
    })
}

fn filter(version: Version) -> impl Strategy<Value = Filter> {
    let filter = "([a-z+]?/){0,4}(#|[a-z+])".prop_map(ByteString::from);
    let handling = prop::sample::select(&[RetainHandling::Always, RetainHandling::IfNew, RetainHandling::Never][..]);
    (filter, any::<bool>(), qos(), any::<bool>(), any::<bool>(), handling).prop_map(
        move |(filter, shared, qos, no_local, retain_as_published, retain_handling)| match version {
            Version::V311 => Filter { filter, options: SubscribeOptions { qos, ..SubscribeOptions::default() } },
            Version::V5 => Filter {
                filter: if shared { format!("$share/g/{filter}").into() } else { filter },
                options: SubscribeOptions { qos, no_local: no_local && !shared, retain_as_published, retain_handling },
            },
        },
    )
}

fn ack(version: Version, sender: Sender, allowed: &'static [Reason]) -> impl Strategy<Value = Ack> {
    (packet_id(), reason(allowed), of(text())).prop_map(move |(id, reason, text)| match version {
        Version::V311 => Ack::ok(id),
        Version::V5 => Ack { reason_string: text.filter(|_| sender == Sender::Server), ..Ack::new(id, reason) },
    })
}

fn acks(version: Version, sender: Sender) -> impl Strategy<Value = Packet> {
    const RECEIPT: &[Reason] = &[Reason::Success, Reason::QuotaExceeded];
    prop_oneof![
        ack(version, sender, RECEIPT).prop_map(Packet::PubAck),
        ack(version, sender, RECEIPT).prop_map(Packet::PubRec),
        ack(version, sender, reasons::RELEASE).prop_map(Packet::PubRel),
        ack(version, sender, reasons::RELEASE).prop_map(Packet::PubComp),
        publish(version, sender).prop_map(Packet::Publish),
    ]
}

fn of_client(version: Version) -> impl Strategy<Value = Packet> {
    let v5 = move |yes| yes && version == Version::V5;
    let disconnect = (any::<bool>(), of(any::<u32>())).prop_map(move |(will, session_expiry_s)| Disconnect {
        session_expiry_s: session_expiry_s.filter(|_| v5(true)),
        ..Disconnect::new(if v5(will) { Reason::DisconnectWithWill } else { Reason::Success })
    });
    let filters = vec(filter(version), 1..4);
    prop_oneof![
        acks(version, Sender::Client),
        connect(version).prop_map(|c| Packet::Connect(Box::new(c))),
        (packet_id(), filters, 0..268_435_456_u32).prop_map(move |(packet_id, filters, n)| Packet::Subscribe {
            packet_id,
            filters,
            id: NonZeroU32::new(n).filter(|_| v5(true)),
        }),
        (packet_id(), vec(filter(version), 1..4)).prop_map(|(packet_id, filters)| Packet::Unsubscribe {
            packet_id,
            filters: filters.into_iter().map(|f| f.filter).collect(),
        }),
        Just(Packet::PingReq),
        disconnect.prop_map(Packet::Disconnect),
    ]
}

fn connack() -> impl Strategy<Value = ConnAck> {
    let numbers = (of(any::<u32>()), any::<u16>(), any::<u32>(), any::<u16>(), of(any::<u16>()));
    (any::<bool>(), reason(reasons::CONNACK), numbers, of(text()), of(text()), of(text())).prop_map(
        |(present, reason, numbers, assigned_client_id, response_information, reason_string)| ConnAck {
            session_present: present && reason == Reason::Success,
            reason,
            session_expiry_s: numbers.0,
            receive_maximum: NonZeroU16::new(numbers.1),
            max_packet_size: NonZeroU32::new(numbers.2),
            assigned_client_id,
            topic_alias_maximum: numbers.3,
            server_keep_alive: numbers.4,
            response_information,
            reason_string,
        },
    )
}

fn of_server_v5() -> impl Strategy<Value = Packet> {
    const GOODBYES: &[Reason] = &[Reason::Success, Reason::SessionTakenOver, Reason::ProtocolError];
    prop_oneof![
        acks(Version::V5, Sender::Server),
        connack().prop_map(|ack| Packet::ConnAck(Box::new(ack))),
        (packet_id(), vec(reason(reasons::SUBACK), 1..4), of(text()))
            .prop_map(|(packet_id, reasons, reason_string)| Packet::SubAck { packet_id, reasons, reason_string }),
        (packet_id(), vec(reason(reasons::UNSUBACK), 1..4))
            .prop_map(|(packet_id, reasons)| Packet::UnsubAck { packet_id, reasons }),
        Just(Packet::PingResp),
        (reason(GOODBYES), of(text())).prop_map(|(reason, reason_string)| {
            Packet::Disconnect(Disconnect { reason_string, ..Disconnect::new(reason) })
        }),
        Just(Packet::Auth(Reason::Success)),
    ]
}

/// A packet, the version it is of and who sends it.
fn packet() -> impl Strategy<Value = (Version, Sender, Packet)> {
    prop_oneof![
        of_client(Version::V311).prop_map(|packet| (Version::V311, Sender::Client, packet)),
        of_client(Version::V5).prop_map(|packet| (Version::V5, Sender::Client, packet)),
        of_server_v5().prop_map(|packet| (Version::V5, Sender::Server, packet)),
    ]
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_and_nothing_is_left((version, sender, packet) in packet()) {
        let mut buf = BytesMut::from(&encode(version, &packet)[..]);
        if let Packet::Connect(connect) = &packet {
            let got = decode_connect(&mut buf.clone(), 1 << 20);
            prop_assert_eq!(got, Ok(Some((version, (**connect).clone()))));
        }
        prop_assert_eq!(version.next(sender, &mut buf, 1 << 20), Ok(Some(packet)));
        prop_assert!(buf.is_empty());
    }

    #[test]
    fn a_server_of_either_version_can_send_every_packet(version in version(), packet in of_server_v5()) {
        let bytes = encode(version, &packet);
        let got = version.decode_server(&mut BytesMut::from(&bytes[..]), 1 << 20);
        match packet {
            // 3.1.1 has neither a DISCONNECT of servers nor a PUBLISH without a topic.
            Packet::Disconnect(_) | Packet::Auth(_) | Packet::Publish(_) if version == Version::V311 => {}
            _ => prop_assert!(matches!(got, Ok(Some(_))), "{:?}", got),
        }
    }

    #[test]
    fn the_length_of_a_publish_is_known_before(version in version(), publish in any_publish()) {
        prop_assert_eq!(version.publish_len(&publish), encode(version, &Packet::Publish(publish)).len());
    }

    #[test]
    fn the_cuts_between_received_pieces_make_no_difference(
        packets in vec(of_client(Version::V5), 1..6),
        sizes in vec(1_usize..50, 1..20),
    ) {
        let bytes = packets.iter().flat_map(|packet| encode(Version::V5, packet)).collect::<Vec<_>>();
        let (mut rest, mut buf, mut got) = (&bytes[..], BytesMut::new(), Vec::new());
        for size in sizes.iter().cycle() {
            let (piece, later) = rest.split_at((*size).min(rest.len()));
            buf.extend_from_slice(piece);
            while let Some(packet) = Version::V5.decode(&mut buf, 1 << 20).unwrap() {
                got.push(packet);
            }
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(got, packets);
        prop_assert!(buf.is_empty());
    }

    #[test]
    fn arbitrary_bytes_never_panic(version in version(), bytes in vec(any::<u8>(), 0..200)) {
        let _ = first(&bytes);
        for sender in [Sender::Client, Sender::Server] {
            let mut buf = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = version.next(sender, &mut buf, MAX) {}
        }
    }

    /// And what is taken for a packet all the same can be written and means the same then.
    #[test]
    fn a_damaged_packet_never_panics(
        (version, sender, packet) in packet(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = encode(version, &packet);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = first(&bytes);
        if let Ok(Some(packet)) = version.next(sender, &mut BytesMut::from(&bytes[..]), 1 << 20)
            && !matches!(packet, Packet::Auth(_))
        {
            let again = encode(version, &packet);
            prop_assert_eq!(version.next(sender, &mut BytesMut::from(&again[..]), 1 << 20), Ok(Some(packet)));
        }
    }
}

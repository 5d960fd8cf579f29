//! Everything is bounded, and nobody pays for another's misbehaviour.

use tokio::io::AsyncWriteExt;

use super::client::connect;
use super::*;
use crate::mqtt::Reason;
use crate::mqtt::packet::{Ack, Filter, SubscribeOptions};
use crate::mqtt::{Packet, Publish, QoS};

#[tokio::test]
async fn a_malformed_packet_closes_its_connection_and_no_other() {
    let bed = Bed::open().await;
    let mut good = bed.client("good").await;
    let check = async |what: &str, bytes: &[u8]| {
        let mut bad = bed.client("bad").await;
        bad.send_bytes(bytes).await;
        assert_eq!(bad.receive().await, None, "{what}");
    };
    check("garbage", b"\xff\xff\xff\xff").await;
    check("U+0000 in a topic", b"\x30\x05\0\x03a\0b").await;
    check("second CONNECT", b"\x10\x0d\0\x04MQTT\x04\x02\0\x0a\0\x01c").await;
    check("too large", b"\x30\xff\xff\xff\x7f").await;
    let mut first = Client::open(bed.address).await;
    first.send(Packet::PingReq).await;
    first.expect_closed().await;
    good.expect_nothing().await;
    assert_eq!(bed.broker.stats().closed_malformed, 5);
}

#[tokio::test]
async fn what_came_before_a_malformed_packet_is_kept() {
    let bed = Bed::open().await;
    let mut meter = bed.client("m1").await;
    let mut bytes = Vec::new();
    crate::mqtt::codec::Version::V311.encode(&Packet::Publish(publish("iot/m1/hello", "a", 1, 1)), &mut bytes);
    bytes.extend_from_slice(b"\xff\xff");
    meter.send_bytes(&bytes).await;
    while meter.receive().await.is_some() {}
    assert_eq!(bed.journal.stored().len(), 1);
}

#[tokio::test]
async fn a_packet_of_the_maximum_size_passes_and_one_byte_more_does_not() {
    let bed = Bed::with(Options { max_packet_size: 10_000, ..Options::default() }).await;
    let mut client = bed.client("c").await;
    // 3 bytes of header, 2 + 12 of topic, 2 of packet id.
    let payload = "x".repeat(10_000 - 19);
    client.publish(publish("iot/m1/hello", &payload, 1, 1)).await;
    client.expect(Packet::PubAck(Ack::ok(id(1)))).await;
    client.publish(publish("iot/m1/hello", &(payload + "x"), 1, 2)).await;
    client.expect_closed().await;
    assert_eq!(bed.journal.stored().len(), 1);
}

#[tokio::test]
async fn a_subscriber_that_reads_nothing_harms_nobody_and_is_let_go() {
    let bed = Bed::with(Options {
        max_queued_messages: 10,
        max_inflight: 10,
        write_timeout: Duration::from_secs(1),
        ..Options::default()
    })
    .await;
    let mut stuck = bed.client("stuck").await;
    stuck.subscribe("iot/#", 0).await;
    let mut idle = bed.client("idle").await; // reads, acknowledges nothing
    idle.subscribe("iot/#", 1).await;
    let mut meter = bed.client("m1").await;
    let payload = "x".repeat(100_000);
    for n in 1..=300 {
        meter.publish(publish("iot/m1/telemetry", &payload, 1, n)).await;
        meter.expect(Packet::PubAck(Ack::ok(id(n)))).await;
    }
    bed.until("let go", |s| s.closed_stalled == 1).await;
    let stats = bed.broker.stats();
    assert!(stats.dropped_qos0 > 0 && stats.dropped_queued > 0, "{stats:?}");
    for n in 1..=10 {
        assert_eq!(idle.expect_publish().await.packet_id, Some(id(n)));
    }
    idle.expect_nothing().await;
    assert_eq!(bed.journal.stored().len(), 300);
}

#[tokio::test]
async fn one_connection_too_many_is_closed_at_once() {
    let bed = Bed::with(Options { max_connections: 2, ..Options::default() }).await;
    let (one, _two) = (bed.client("one").await, bed.client("two").await);
    Client::open(bed.address).await.expect_closed().await;
    assert_eq!(bed.broker.stats().refused_connection_limit, 1);
    drop(one);
    bed.until("room", |s| s.connections == 1).await;
    let mut three = Client::open(bed.address).await;
    while three.stream.write_all(b"").await.is_err() {
        three = Client::open(bed.address).await;
    }
}

#[tokio::test]
async fn one_session_too_many_is_refused_and_known_clients_come_back() {
    let bed = Bed::with(Options { max_sessions: 1, ..Options::default() }).await;
    drop(bed.stayer("one").await);
    let mut two = Client::open(bed.address).await;
    assert_eq!(two.connect_with(connect("two", false)).await, Err(Reason::ServerUnavailable));
    assert!(bed.stayer("one").await.1);
    assert_eq!(bed.broker.stats().refused_session_limit, 1);
}

#[tokio::test]
async fn who_does_not_connect_in_time_is_closed() {
    let bed = Bed::with(Options { connect_timeout: Duration::from_millis(50), ..Options::default() }).await;
    let mut mute = Client::open(bed.address).await;
    mute.expect_closed().await;
    let mut slow = Client::open(bed.address).await;
    slow.send_bytes(b"\x10\x0d\0\x04MQTT").await;
    slow.expect_closed().await;
    assert_eq!(bed.broker.stats().refused_connect_timeout, 2);
}

#[tokio::test]
async fn filters_beyond_the_limit_and_refused_ones_get_0x80() {
    let bed =
        Bed::with(Options { max_subscriptions: 2, refused_filters: vec!["secret/#".into()], ..Options::default() })
            .await;
    let mut client = bed.client("c").await;
    let filters = ["a", "secret/#", "b", "c"]
        .map(|f| Filter {
            filter: f.into(),
            options: SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() },
        })
        .to_vec();
    client.send(Packet::Subscribe { packet_id: id(1), filters, id: None }).await;
    let (granted, refused) = (Reason::GrantedQoS1, Reason::Unspecified); // 3.1.1 knows one refusal
    let reasons = vec![granted, refused, granted, refused];
    client.expect(Packet::SubAck { packet_id: id(1), reasons, reason_string: None }).await;
    assert_eq!(bed.broker.stats().refused_subscriptions, 2);
}

#[tokio::test]
async fn a_filter_that_is_named_again_in_one_packet_counts_once_as_it_was_said_last() {
    let bed = Bed::with(Options { max_subscriptions: 2, ..Options::default() }).await;
    let mut client = bed.client("c").await;
    client.publish(Publish { retain: true, ..publish("a/b", "kept", 1, 1) }).await;
    client.expect(Packet::PubAck(Ack::ok(id(1)))).await;
    let filters = [("a/#", 0), ("b", 1), ("a/#", 2), ("c", 0), ("a/#", 1)]
        .map(|(filter, level)| Filter {
            filter: filter.into(),
            options: SubscribeOptions { qos: QoS::from_level(level).unwrap(), ..SubscribeOptions::default() },
        })
        .to_vec();
    client.send(Packet::Subscribe { packet_id: id(2), filters, id: None }).await;
    let (one, two, refused) = (Reason::GrantedQoS1, Reason::GrantedQoS2, Reason::Unspecified);
    let reasons = vec![Reason::Success, one, two, refused, one];
    client.expect(Packet::SubAck { packet_id: id(2), reasons, reason_string: None }).await;
    let kept = client.expect_publish().await;
    assert_eq!((kept.retain, kept.qos), (true, QoS::AtLeastOnce));
    client.expect_nothing().await;
    let stats = bed.broker.stats();
    assert_eq!((stats.subscriptions, stats.refused_subscriptions), (2, 1));
}

#[tokio::test]
async fn hundreds_of_clients_come_and_go() {
    let bed = Bed::open().await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..300_u16 {
        let address = bed.address;
        tasks.spawn(async move {
            let mut meter = Client::open(address).await;
            meter.connect(&format!("m{n}"), false).await;
            meter.subscribe(&format!("iot/m{n}/command"), 2).await;
            for packet in 1..=5 {
                meter.publish(publish(&format!("iot/m{n}/telemetry"), "x", 2, packet)).await;
                meter.expect(Packet::PubRec(Ack::ok(id(packet)))).await;
                meter.send(Packet::PubRel(Ack::ok(id(packet)))).await;
                meter.expect(Packet::PubComp(Ack::ok(id(packet)))).await;
            }
        });
    }
    tasks.join_all().await;
    bed.until("all gone", |s| s.connections == 0).await;
    let stats = bed.broker.stats();
    assert_eq!((stats.sessions, stats.subscriptions, stats.meter_messages), (300, 300, 1500));
    assert_eq!(bed.journal.stored().len(), 1500);
    assert!(bed.broker.stop(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn a_subscriber_that_reads_nothing_does_not_hold_up_the_stop() {
    let bed = Bed::with(Options { max_queued_messages: 10, ..Options::default() }).await;
    let mut stuck = bed.client("stuck").await;
    stuck.subscribe("iot/#", 0).await;
    let mut meter = bed.client("m1").await;
    let payload = "x".repeat(100_000);
    let mut n = 0;
    while bed.broker.stats().dropped_qos0 == 0 {
        n += 1;
        meter.publish(publish("iot/m1/telemetry", &payload, 1, n)).await;
        meter.expect(Packet::PubAck(Ack::ok(id(n)))).await;
    }
    let start = std::time::Instant::now();
    assert!(bed.broker.stop(Duration::from_secs(30)).await);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

/// What an idle connection costs beside its session: it is there ten thousand times.
#[test]
fn the_task_of_a_connection_is_small() {
    fn size<A, B, C, D, E, F, G: Future>(_: impl Fn(A, B, C, D, E, F) -> G) -> usize {
        std::mem::size_of::<F>()
    }
    assert!(size(crate::broker::accept::serve::<tokio::net::TcpStream>) <= 2048);
    assert!(std::mem::size_of::<crate::mqtt::Session>() <= 640);
}

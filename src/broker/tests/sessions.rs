//! What outlives a connection, and how one begins.

use super::client::connect;
use super::*;
use crate::mqtt::Reason;
use crate::mqtt::packet::Connect;
use crate::mqtt::packet::{Ack, ConnAck, Disconnect};
use crate::mqtt::{Packet, Publish};

#[tokio::test]
async fn a_persistent_session_gets_what_came_while_it_was_away_and_a_clean_one_does_not() {
    let bed = Bed::open().await;
    let (mut away, is_present) = bed.stayer("away").await;
    assert!(!is_present);
    away.subscribe("news", 1).await;
    away.send(Packet::Disconnect(Disconnect::new(Reason::Success))).await;
    away.expect_closed().await;
    let mut writer = bed.client("writer").await;
    for (n, level) in [(1, 1), (2, 0), (3, 2)] {
        writer.publish(publish("news", &n.to_string(), level, n)).await;
    }
    writer.expect(Packet::PubAck(Ack::ok(id(1)))).await;
    writer.expect(Packet::PubRec(Ack::ok(id(3)))).await;
    let (mut back, is_present) = bed.stayer("away").await;
    assert!(is_present);
    assert_eq!(back.expect_publish().await, publish("news", "1", 1, 1));
    assert_eq!(back.expect_publish().await, publish("news", "3", 1, 2));
    back.expect_nothing().await;
    // Not acknowledged: again, with DUP, until it is.
    drop(back);
    let (mut back, _) = bed.stayer("away").await;
    assert_eq!(back.expect_publish().await, Publish { dup: true, ..publish("news", "1", 1, 1) });
    assert_eq!(back.expect_publish().await, Publish { dup: true, ..publish("news", "3", 1, 2) });
    back.send(Packet::PubAck(Ack::ok(id(1)))).await;
    back.send(Packet::PubAck(Ack::ok(id(2)))).await;
    back.expect_nothing().await;
    drop(back);
    let mut clean = bed.client("away").await;
    writer.publish(publish("news", "4", 1, 4)).await;
    writer.expect(Packet::PubAck(Ack::ok(id(4)))).await;
    clean.expect_nothing().await;
    drop(clean);
    bed.until("gone", |s| s.sessions == 1).await;
    assert!(!bed.stayer("away").await.1);
}

#[tokio::test]
async fn the_same_client_id_takes_the_session_over() {
    let bed = Bed::open().await;
    let (mut first, _) = bed.stayer("c").await;
    first.subscribe("a", 2).await;
    let (mut second, is_present) = bed.stayer("c").await;
    assert!(is_present);
    first.expect_closed().await;
    second.publish(publish("a", "x", 0, 0)).await;
    assert_eq!(second.expect_publish().await.payload, "x");
    assert_eq!((bed.broker.stats().sessions, bed.broker.stats().connections), (1, 1));
}

#[tokio::test]
async fn of_many_that_connect_with_one_id_at_once_one_stays() {
    let bed = Bed::open().await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..30 {
        let address = bed.address;
        tasks.spawn(async move {
            let mut client = Client::open(address).await;
            client.send(Packet::Connect(Box::new(connect("c", n % 3 == 0)))).await;
            let accepted = client.receive().await;
            assert!(matches!(accepted, None | Some(Packet::ConnAck(_))));
            client.receive().await; // until it is taken over
        });
    }
    bed.until("one of thirty left", |s| s.closed_taken_over == 29 && s.connections == 1).await;
    bed.client("c").await;
    tasks.join_all().await;
}

#[tokio::test]
async fn an_exactly_once_delivery_survives_the_connection_at_each_step() {
    let bed = Bed::open().await;
    let (mut client, _) = bed.stayer("c").await;
    client.subscribe("a", 2).await;
    bed.client("writer").await.publish(publish("a", "x", 2, 1)).await;
    assert_eq!(client.expect_publish().await, publish("a", "x", 2, 1));
    drop(client);
    let (mut client, _) = bed.stayer("c").await;
    assert_eq!(client.expect_publish().await, Publish { dup: true, ..publish("a", "x", 2, 1) });
    client.send(Packet::PubRec(Ack::ok(id(1)))).await;
    client.expect(Packet::PubRel(Ack::ok(id(1)))).await;
    drop(client);
    let (mut client, _) = bed.stayer("c").await;
    client.expect(Packet::PubRel(Ack::ok(id(1)))).await;
    client.send(Packet::PubComp(Ack::ok(id(1)))).await;
    client.expect_nothing().await;
    drop(client);
    let (mut client, _) = bed.stayer("c").await;
    client.expect_nothing().await;
}

#[tokio::test]
async fn a_session_is_forgotten_when_its_time_is_over() {
    let bed = Bed::with(Options { session_expiry: Duration::from_millis(100), ..Options::default() }).await;
    let (mut client, _) = bed.stayer("c").await;
    client.subscribe("a", 1).await;
    drop(client);
    bed.until("expired", |s| s.sessions == 0 && s.subscriptions == 0).await;
    assert!(!bed.stayer("c").await.1);
}

#[tokio::test]
async fn a_connect_that_is_understood_and_refused_is_told_why() {
    let bed = Bed::open().await;
    let check = async |what: &str, bytes: &[u8], expected: &[u8]| {
        let mut client = Client::open(bed.address).await;
        client.send_bytes(bytes).await;
        let mut answer = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut client.stream, &mut answer).await.unwrap();
        assert_eq!(answer, expected, "{what}");
    };
    check("level 9", b"\x10\x0d\0\x04MQTT\x09\x02\0\x0a\0\x01c", b"\x20\x03\0\x84\0").await;
    check("level 3", b"\x10\x0d\0\x04MQTT\x03\x02\0\x0a\0\x01c", b"\x20\x02\0\x01").await;
    check("empty id, kept session", b"\x10\x0c\0\x04MQTT\x04\0\0\x0a\0\0", b"\x20\x02\0\x02").await;
    let mut long = Client::open(bed.address).await;
    let refused = long.connect_with(connect(&"x".repeat(257), true)).await;
    assert_eq!(refused, Err(Reason::ClientIdentifierNotValid));
    let stats = bed.broker.stats();
    assert_eq!((stats.refused_version, stats.refused_client_id), (2, 2));
}

#[tokio::test]
async fn an_empty_client_id_with_a_clean_start_gets_one_of_its_own() {
    let bed = Bed::open().await;
    let (_one, _two) = (bed.client("").await, bed.client("").await);
    assert_eq!(bed.broker.stats().connections, 2);
}

#[tokio::test]
async fn silence_beyond_the_keep_alive_ends_the_connection_and_none_is_for_ever() {
    let bed = Bed::open().await;
    let mut patient = bed.client("patient").await;
    let mut silent = Client::open(bed.address).await;
    let start = std::time::Instant::now();
    silent.connect_with(Connect { keep_alive: 1, ..connect("silent", true) }).await.unwrap();
    silent.expect_closed().await;
    assert!(start.elapsed() >= Duration::from_millis(1500), "{:?}", start.elapsed());
    assert_eq!(bed.broker.stats().closed_keep_alive, 1);
    patient.expect_nothing().await;
}

#[tokio::test]
async fn what_comes_right_behind_the_connect_is_served() {
    let bed = Bed::open().await;
    let mut client = Client::open(bed.address).await;
    let mut bytes = Vec::new();
    for packet in [
        Packet::Connect(Box::new(connect("c", true))),
        Packet::Publish(publish("iot/m1/hello", "a", 1, 1)),
        Packet::PingReq,
    ] {
        crate::mqtt::codec::Version::V311.encode(&packet, &mut bytes);
    }
    for byte in bytes {
        client.send_bytes(&[byte]).await;
    }
    client.expect(Packet::ConnAck(Box::new(ConnAck::new(Reason::Success)))).await;
    let both = [client.receive().await.unwrap(), client.receive().await.unwrap()];
    assert!(both.contains(&Packet::PubAck(Ack::ok(id(1)))) && both.contains(&Packet::PingResp), "{both:?}");
}

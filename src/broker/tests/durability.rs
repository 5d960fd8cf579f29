//! An acknowledgement means: on disk.

use super::client::{connect, will};
use super::*;
use crate::mqtt::Packet;
use crate::mqtt::packet::Ack;

#[tokio::test]
async fn nothing_of_a_meter_is_acknowledged_or_seen_before_it_is_durable() {
    let bed = Bed::open().await;
    let mut watcher = bed.client("watcher").await;
    watcher.subscribe("iot/#", 1).await;
    let mut meter = bed.client("m1").await;
    bed.journal.hold();
    meter.publish(publish("iot/m1/telemetry", "a", 1, 1)).await;
    meter.publish(publish("iot/m1/telemetry", "b", 2, 2)).await;
    meter.publish(publish("iot/m1/hello", "c", 0, 0)).await;
    bed.until("three messages in", |s| s.meter_messages == 3).await;
    meter.expect_nothing().await;
    watcher.expect_nothing().await;
    bed.journal.release();
    meter.expect(Packet::PubAck(Ack::ok(id(1)))).await;
    meter.expect(Packet::PubRec(Ack::ok(id(2)))).await;
    for (payload, level) in [("a", 1), ("b", 1), ("c", 0)] {
        let seen = watcher.expect_publish().await;
        assert_eq!((&*seen.payload, seen.qos.level()), (payload.as_bytes(), level));
    }
    let stored = bed.journal.stored();
    assert_eq!(stored.iter().map(|s| s.flags.qos).collect::<Vec<_>>(), [1, 2, 0]);
    assert_eq!(stored[0].identity, "");
}

#[tokio::test]
async fn an_acknowledgement_of_a_relayed_publish_waits_for_its_turn_behind_a_meters() {
    let bed = Bed::open().await;
    let mut client = bed.client("m1").await;
    bed.journal.hold();
    client.publish(publish("iot/m1/telemetry", "a", 1, 1)).await;
    client.publish(publish("chat", "b", 1, 2)).await;
    bed.until("both in", |s| s.publishes_in == 2).await;
    client.expect_nothing().await;
    bed.journal.release();
    client.expect(Packet::PubAck(Ack::ok(id(1)))).await;
    client.expect(Packet::PubAck(Ack::ok(id(2)))).await;
    assert_eq!(bed.journal.texts(), [("iot/m1/telemetry".into(), "a".into())]);
}

#[tokio::test]
async fn a_qos_2_publish_sent_again_on_the_next_connection_is_taken_once() {
    let bed = Bed::open().await;
    let (mut meter, _) = bed.stayer("m1").await;
    bed.journal.hold();
    meter.publish(publish("iot/m1/telemetry", "a", 2, 7)).await;
    bed.until("taken", |s| s.meter_messages == 1).await;
    drop(meter);
    bed.journal.release();
    let (mut meter, is_present) = bed.stayer("m1").await;
    assert!(is_present);
    let again = crate::mqtt::Publish { dup: true, ..publish("iot/m1/telemetry", "a", 2, 7) };
    meter.publish(again.clone()).await;
    meter.expect(Packet::PubRec(Ack::ok(id(7)))).await;
    meter.publish(again).await;
    meter.expect(Packet::PubRec(Ack::ok(id(7)))).await;
    meter.send(Packet::PubRel(Ack::ok(id(7)))).await;
    meter.expect(Packet::PubComp(Ack::ok(id(7)))).await;
    assert_eq!(bed.journal.stored().len(), 1);
    meter.publish(publish("iot/m1/telemetry", "b", 2, 7)).await;
    meter.expect(Packet::PubRec(Ack::ok(id(7)))).await;
    assert_eq!(bed.journal.stored().len(), 2);
}

#[tokio::test]
async fn a_full_journal_stops_reading_but_neither_the_keep_alive_nor_messages_to_the_client() {
    let bed = Bed::open().await;
    let mut meter = Client::open(bed.address).await;
    meter.connect_with(crate::mqtt::packet::Connect { keep_alive: 1, ..connect("m1", true) }).await.unwrap();
    meter.subscribe("news", 0).await;
    bed.journal.set_room(false);
    meter.publish(publish("iot/m1/telemetry", "a", 1, 1)).await;
    bed.until("offered", |s| s.meter_messages == 1).await;
    // Longer than one and a half times the keep-alive.
    tokio::time::sleep(Duration::from_millis(1800)).await;
    let mut other = bed.client("other").await;
    other.publish(publish("news", "still there", 0, 0)).await;
    assert_eq!(meter.expect_publish().await.payload, "still there");
    bed.journal.set_room(true);
    meter.expect(Packet::PubAck(Ack::ok(id(1)))).await;
    assert_eq!(bed.broker.stats().closed_keep_alive, 0);
}

#[tokio::test]
async fn a_client_that_waits_for_room_can_be_taken_over_and_its_publish_is_new_then() {
    let bed = Bed::open().await;
    let (mut meter, _) = bed.stayer("m1").await;
    bed.journal.set_room(false);
    meter.publish(publish("iot/m1/telemetry", "a", 2, 1)).await;
    bed.until("offered", |s| s.meter_messages == 1).await;
    let (mut next, is_present) = bed.stayer("m1").await;
    assert!(is_present);
    meter.expect_closed().await;
    bed.journal.set_room(true);
    next.publish(publish("iot/m1/telemetry", "a", 2, 1)).await;
    next.expect(Packet::PubRec(Ack::ok(id(1)))).await;
    assert_eq!(bed.journal.stored().len(), 1);
}

#[tokio::test]
async fn a_failed_journal_acknowledges_nothing_and_closes() {
    let bed = Bed::open().await;
    let mut meter = bed.client("m1").await;
    bed.journal.hold();
    meter.publish(publish("iot/m1/telemetry", "a", 1, 1)).await;
    bed.until("taken", |s| s.meter_messages == 1).await;
    bed.journal.fail();
    meter.expect_closed().await;
}

#[tokio::test]
async fn many_unacknowledged_publishes_stop_reading_and_all_are_acknowledged_in_order() {
    let bed = Bed::with(Options { max_pending_messages: 10, ..Options::default() }).await;
    let meter = bed.client("m1").await;
    bed.journal.hold();
    let mut bytes = Vec::new();
    for n in 1..=2000 {
        let packet = Packet::Publish(publish("iot/m1/telemetry", &"x".repeat(1000), 1, n));
        crate::mqtt::codec::Version::V311.encode(&packet, &mut bytes);
    }
    let (mut reader, mut writer) = meter.stream.into_split();
    let sender = tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut writer, &bytes).await.unwrap() });
    bed.until("some in", |s| s.meter_messages >= 10).await;
    assert!(bed.broker.stats().meter_messages < 500, "the socket is not read on");
    bed.journal.release();
    for n in 1..=2000_u16 {
        let mut ack = [0; 4];
        tokio::io::AsyncReadExt::read_exact(&mut reader, &mut ack).await.unwrap();
        assert_eq!(ack, [0x40, 2, n.to_be_bytes()[0], n.to_be_bytes()[1]]);
    }
    sender.await.unwrap();
    assert_eq!(bed.journal.stored().len(), 2000);
}

#[tokio::test]
async fn the_will_of_a_meter_is_in_the_journal_before_its_next_connection_speaks() {
    let bed = Bed::open().await;
    let mut watcher = bed.client("watcher").await;
    watcher.subscribe("iot/m1/status", 1).await;
    for round in 0..20 {
        let mut meter = Client::open(bed.address).await;
        let will = Some(will("iot/m1/status", "offline", 1));
        meter.connect_with(crate::mqtt::packet::Connect { will, ..connect("m1", false) }).await.unwrap();
        meter.publish(publish("iot/m1/status", "online", 1, 1)).await;
        meter.expect(Packet::PubAck(Ack::ok(id(1)))).await;
        if round % 2 == 0 {
            drop(meter); // otherwise it is taken over
        } else {
            std::mem::forget(meter);
        }
    }
    let texts = bed.journal.texts();
    for (n, (_, text)) in texts.iter().enumerate() {
        assert_eq!(text, if n % 2 == 0 { "online" } else { "offline" }, "{texts:?}");
    }
    for n in 0..39 {
        let seen = watcher.expect_publish().await;
        assert_eq!(seen.payload, if n % 2 == 0 { "online" } else { "offline" });
        watcher.send(Packet::PubAck(Ack::ok(seen.packet_id.unwrap()))).await;
    }
}

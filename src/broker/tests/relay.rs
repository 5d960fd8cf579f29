//! Messages from one client to others.

use super::client::{connect, will};
use super::*;
use crate::mqtt::Reason;
use crate::mqtt::packet::Connect;
use crate::mqtt::packet::{Ack, Disconnect};
use crate::mqtt::{Packet, Publish};

#[tokio::test]
async fn each_qos_of_the_publisher_meets_each_qos_of_the_subscriber() {
    let bed = Bed::open().await;
    for out in 0..3 {
        let mut subscriber = bed.client("subscriber").await;
        subscriber.subscribe("a/+", out).await;
        let mut publisher = bed.client("publisher").await;
        for level in 0..3 {
            publisher.publish(publish("a/b", "x", level, u16::from(level))).await;
            match level {
                0 => {}
                1 => publisher.expect(Packet::PubAck(Ack::ok(id(1)))).await,
                _ => {
                    publisher.expect(Packet::PubRec(Ack::ok(id(2)))).await;
                    publisher.send(Packet::PubRel(Ack::ok(id(2)))).await;
                    publisher.expect(Packet::PubComp(Ack::ok(id(2)))).await;
                }
            }
            let seen = subscriber.expect_publish().await;
            assert_eq!(seen.qos.level(), level.min(out));
            assert!(!seen.dup && !seen.retain);
            match (seen.qos.level(), seen.packet_id) {
                (1, Some(n)) => subscriber.send(Packet::PubAck(Ack::ok(n))).await,
                (2, Some(n)) => {
                    subscriber.send(Packet::PubRec(Ack::ok(n))).await;
                    subscriber.expect(Packet::PubRel(Ack::ok(n))).await;
                    subscriber.send(Packet::PubComp(Ack::ok(n))).await;
                }
                (level, packet_id) => assert_eq!((level, packet_id), (0, None)),
            }
        }
        subscriber.expect_nothing().await;
    }
}

#[tokio::test]
async fn overlapping_and_wildcard_subscriptions_deliver_once_to_each_subscriber() {
    let bed = Bed::open().await;
    let mut one = bed.client("one").await;
    one.subscribe("a/#", 0).await;
    one.subscribe("a/+", 1).await;
    let mut two = bed.client("two").await;
    two.subscribe("#", 0).await;
    let mut three = bed.client("three").await;
    three.subscribe("b", 0).await;
    one.publish(publish("a/b", "x", 1, 5)).await;
    let mut got = [one.receive().await.unwrap(), one.receive().await.unwrap()];
    got.sort_by_key(|p| matches!(p, Packet::Publish(_)));
    assert_eq!(got[0], Packet::PubAck(Ack::ok(id(5))));
    assert_eq!(got[1], Packet::Publish(publish("a/b", "x", 1, 1)));
    one.expect_nothing().await;
    assert_eq!(two.expect_publish().await, publish("a/b", "x", 0, 0));
    two.expect_nothing().await;
    two.publish(publish("$x/y", "x", 0, 0)).await;
    two.expect_nothing().await;
    three.expect_nothing().await;
}

#[tokio::test]
async fn an_unsubscribed_filter_delivers_no_more() {
    let bed = Bed::open().await;
    let mut client = bed.client("one").await;
    client.subscribe("a", 0).await;
    client.send(Packet::Unsubscribe { packet_id: id(3), filters: vec!["a".into(), "never".into()] }).await;
    client.expect(Packet::UnsubAck { packet_id: id(3), reasons: vec![] }).await;
    client.publish(publish("a", "x", 0, 0)).await;
    client.expect_nothing().await;
    assert_eq!(bed.broker.stats().subscriptions, 0);
}

#[tokio::test]
async fn retained_messages_come_with_the_subscription_and_an_empty_one_removes() {
    let bed = Bed::open().await;
    let mut client = bed.client("one").await;
    let retained = |topic: &str, payload: &str| Publish { retain: true, ..publish(topic, payload, 1, 1) };
    for (topic, payload) in
        [("iot/m1/status", "old"), ("iot/m1/status", "online"), ("iot/m2/status", "offline"), ("x", "y")]
    {
        client.publish(retained(topic, payload)).await;
        client.expect(Packet::PubAck(Ack::ok(id(1)))).await;
    }
    client.subscribe("iot/+/status", 0).await;
    let expected = |topic: &str, payload: &str| Publish { retain: true, ..publish(topic, payload, 0, 0) };
    assert_eq!(client.expect_publish().await, expected("iot/m1/status", "online"));
    assert_eq!(client.expect_publish().await, expected("iot/m2/status", "offline"));
    client.publish(Publish { retain: true, ..publish("iot/m1/status", "live", 0, 0) }).await;
    assert_eq!(client.expect_publish().await, publish("iot/m1/status", "live", 0, 0), "live: without the flag");
    client.publish(retained("iot/m1/status", "")).await;
    client.expect_publish_or_ack(1).await;
    client.subscribe("iot/m1/status", 0).await;
    client.expect_nothing().await;
    assert_eq!(bed.broker.stats().retained, 2);
}

impl Client {
    /// An acknowledgement and a publish in either order.
    async fn expect_publish_or_ack(&mut self, n: u16) {
        let got = [self.receive().await.unwrap(), self.receive().await.unwrap()];
        assert!(got.contains(&Packet::PubAck(Ack::ok(id(n)))), "{got:?}");
    }
}

#[tokio::test]
async fn many_retained_messages_reach_a_subscriber_whose_queue_is_short() {
    let bed = Bed::with(Options { max_queued_messages: 5, max_inflight: 3, ..Options::default() }).await;
    let mut client = bed.client("one").await;
    for n in 0..300 {
        client.publish(Publish { retain: true, ..publish(&format!("r/{n:03}"), "x", 0, 0) }).await;
    }
    client.publish(Publish { retain: true, ..publish("r/last", "x", 1, 1) }).await;
    client.expect(Packet::PubAck(Ack::ok(id(1)))).await;
    client.subscribe("r/#", 2).await;
    for n in 0..300 {
        assert_eq!(&*client.expect_publish().await.topic, &format!("r/{n:03}"));
    }
    assert_eq!(client.expect_publish().await.qos.level(), 1);
}

#[tokio::test]
async fn a_will_is_published_on_every_end_but_goodbye() {
    let bed = Bed::open().await;
    let mut watcher = bed.client("watcher").await;
    watcher.subscribe("will/#", 0).await;
    let ends = ["close", "malformed", "takeover", "keep-alive", "goodbye"];
    for end in ends {
        let mut client = Client::open(bed.address).await;
        let will = Some(will(&format!("will/{end}"), end, 1));
        let keep_alive = if end == "keep-alive" { 1 } else { 0 };
        client.connect_with(Connect { will, keep_alive, ..connect("dying", true) }).await.unwrap();
        match end {
            "close" => {}
            "malformed" => client.send_bytes(&[0xff, 0xff]).await,
            "takeover" => {
                bed.client("dying").await.send(Packet::Disconnect(Disconnect::new(Reason::Success))).await;
                client.expect_closed().await;
            }
            "keep-alive" => client.expect_closed().await,
            _ => {
                client.send(Packet::Disconnect(Disconnect::new(Reason::Success))).await;
                client.expect_closed().await;
            }
        }
        drop(client);
        if end != "goodbye" {
            assert_eq!(watcher.expect_publish().await, publish(&format!("will/{end}"), end, 0, 0));
        }
    }
    bed.until("only the watcher is there", |s| s.connections == 1).await;
    watcher.expect_nothing().await;
    assert_eq!(bed.broker.stats().wills_fired, 4);
}

#[tokio::test]
async fn stopping_the_server_is_nobodys_death() {
    let bed = Bed::open().await;
    let mut client = Client::open(bed.address).await;
    let will = Some(will("iot/m1/status", "offline", 1));
    client.connect_with(Connect { will, ..connect("m1", false) }).await.unwrap();
    assert!(bed.broker.stop(Duration::from_secs(5)).await);
    client.expect_closed().await;
    assert_eq!(bed.journal.stored(), []);
}

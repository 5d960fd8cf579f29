//! The stories of the Paho interoperability suite that both versions share, told with our own client: the same topics,
//! client ids and expectations, without its waiting times.

use std::net::SocketAddr;
use std::time::Instant;

use super::client::{Client, Connect};
use super::packet::{Ids, Packet};
use super::server::{REFUSED_FILTER, Server};
use super::socket::{Came, Socket};
use super::table::Version;

pub const TOPIC_A: &str = "TopicA";
pub const TOPICS: [&str; 3] = ["TopicA/B", "Topic/C", "TopicA/C"];
/// Matches all of [`TOPICS`].
pub const TWO_LEVELS: &str = "+/+";
pub const A: &str = "myclientid";
pub const B: &str = "myclientid2";
/// Session expiry that outlives a test; version 5.
const KEPT: &[u8] = &[0x11, 0, 1, 0x86, 0x9F];

/// Two tests of a story.
macro_rules! in_both_versions {
    ($($v311:ident, $v5:ident: $story:ident;)+) => {
        $(
            #[test]
            fn $v311() {
                $story(&Server::start(), Version::V311);
            }

            #[test]
            fn $v5() {
                $story(&Server::start(), Version::V5);
            }
        )+
    };
}

in_both_versions! {
    mqtt_3_1_1_story_basic, mqtt_5_story_basic: basic;
    mqtt_3_1_1_story_retained_messages, mqtt_5_story_retained_messages: retained_messages;
    mqtt_3_1_1_story_will_message, mqtt_5_story_will_message: will_message;
    mqtt_3_1_1_story_offline_queueing, mqtt_5_story_offline_queueing: offline_queueing;
    mqtt_3_1_1_story_overlapping_subscriptions, mqtt_5_story_overlapping_subscriptions: overlapping_subscriptions;
    mqtt_3_1_1_story_keep_alive, mqtt_5_story_keep_alive: keep_alive;
    mqtt_3_1_1_story_redelivery, mqtt_5_story_redelivery: redelivery;
    mqtt_3_1_1_story_refused_subscription, mqtt_5_story_refused_subscription: refused_subscription;
    mqtt_3_1_1_story_dollar_topics, mqtt_5_story_dollar_topics: dollar_topics;
    mqtt_3_1_1_story_unsubscribe, mqtt_5_story_unsubscribe: unsubscribe;
    mqtt_3_1_1_story_clean_up, mqtt_5_story_clean_up: clean_up;
}

/// A connection whose session is kept.
fn kept(id: &str, version: Version) -> Connect<'_> {
    Connect::id(id).keep().with(if version == Version::V5 { KEPT } else { &[] })
}

fn qos_of(client: &Client) -> Vec<u8> {
    let mut qos: Vec<u8> = client.messages.iter().map(|m| m.qos).collect();
    qos.sort_unstable();
    qos
}

fn send_raw(socket: &mut Socket, version: Version, text: &str) {
    socket.send(&Packet::parse(text, version, A).bytes(&Ids::new()));
}

fn is_closed_without_connack(address: SocketAddr, version: Version, packets: &str) -> bool {
    let mut socket = Socket::open(address);
    send_raw(&mut socket, version, packets);
    socket.receive() == (Came::Closed { left: vec![] })
}

fn basic(server: &Server, version: Version) {
    let (a, _) = Client::connect(server.address(), version, &Connect::id(A));
    a.disconnect(&[]);
    let (mut a, connack) = Client::connect(server.address(), version, &Connect::id(A));
    assert!(!connack.session_present);
    a.subscribe(&[(TOPIC_A, 2)], &[]);
    for qos in 0..3 {
        a.publish(TOPIC_A, format!("qos {qos}").as_bytes(), qos, false, &[]);
    }
    a.wait_for_messages(3);
    a.settle();
    assert_eq!(qos_of(&a), [0, 1, 2]);
    a.disconnect(&[]);

    let (mut a, _) = Client::connect(server.address(), version, &Connect::id(A));
    send_raw(&mut a.socket, version, "10{\"MQTT\" lv 02 0000 % \"@\"}");
    a.wait_for_end();
    assert!(is_closed_without_connack(server.address(), version, "10{\"hj\" lv 02 0000 % \"@\"}"));
}

fn retained_messages(server: &Server, version: Version) {
    for (payload, expected) in [("x", 3), ("", 0)] {
        let (mut a, connack) = Client::connect(server.address(), version, &Connect::id(A));
        assert!(!connack.session_present);
        for (qos, topic) in (0..).zip(TOPICS) {
            a.publish(topic, payload.as_bytes(), qos, true, &[]);
        }
        a.subscribe(&[(TWO_LEVELS, 2)], &[]);
        a.wait_for_messages(expected);
        a.settle();
        assert_eq!(a.messages.len(), expected, "{:?}", a.messages);
        assert!(a.messages.iter().all(|m| m.retain));
        if expected > 0 {
            assert_eq!(qos_of(&a), [0, 1, 2]);
        }
        a.disconnect(&[]);
    }
}

fn will_message(server: &Server, version: Version) {
    let (mut b, _) = Client::connect(server.address(), version, &kept(B, version));
    b.subscribe(&[(TOPICS[1], 2)], &[]);
    let how = Connect::id(A).keep_alive(2).will(TOPICS[1], b"client not disconnected", &[]);
    let (a, _) = Client::connect(server.address(), version, &how);
    drop(a);
    b.wait_for_messages(1);
    b.settle();
    assert_eq!(b.messages.len(), 1);
    assert_eq!(b.messages[0].payload, b"client not disconnected");
}

fn offline_queueing(server: &Server, version: Version) {
    let (mut a, _) = Client::connect(server.address(), version, &kept(A, version));
    a.subscribe(&[(TWO_LEVELS, 2)], &[]);
    a.disconnect(&[]);
    let (mut b, _) = Client::connect(server.address(), version, &Connect::id(B));
    for (qos, topic) in (0..).zip(TOPICS) {
        b.publish(topic, b"x", qos, false, &[]);
    }
    b.settle();
    b.disconnect(&[]);
    let (mut a, connack) = Client::connect(server.address(), version, &kept(A, version));
    assert!(connack.session_present);
    a.wait_for_messages(2);
    a.settle();
    // Whether QoS 0 waits, too, is the server's choice.
    assert!(matches!(qos_of(&a).as_slice(), [1, 2] | [0, 1, 2]), "{:?}", a.messages);
}

fn overlapping_subscriptions(server: &Server, version: Version) {
    let (mut a, _) = Client::connect(server.address(), version, &Connect::id(A));
    a.subscribe(&[("TopicA/#", 2), ("TopicA/+", 1)], &[]);
    a.publish(TOPICS[2], b"overlapping topic filters", 2, false, &[]);
    a.wait_for_messages(1);
    a.settle();
    assert_eq!(qos_of(&a), [2], "one copy, at the highest QoS");
}

fn keep_alive(server: &Server, version: Version) {
    let (mut b, _) = Client::connect(server.address(), version, &Connect::id(B));
    b.subscribe(&[("/TopicA", 2)], &[]);
    let start = Instant::now();
    let how = Connect::id(A).keep_alive(1).will("/TopicA", b"keepalive expiry", &[]);
    let (_a, _) = Client::connect(server.address(), version, &how);
    b.wait_for_messages(1);
    assert!(start.elapsed().as_millis() >= 1000, "after {:?}", start.elapsed());
    b.settle();
    assert_eq!(b.messages.len(), 1);
}

fn redelivery(server: &Server, version: Version) {
    let (mut b, _) = Client::connect(server.address(), version, &kept(B, version));
    b.subscribe(&[("TopicA/#", 2)], &[]);
    b.paused = true;
    b.publish(TOPICS[0], b"", 1, false, &[]);
    b.publish(TOPICS[2], b"", 2, false, &[]);
    b.settle();
    assert!(b.messages.is_empty());
    b.disconnect(&[]);
    let (mut b, connack) = Client::connect(server.address(), version, &kept(B, version));
    assert!(connack.session_present);
    b.wait_for_messages(2);
    b.settle();
    assert_eq!(qos_of(&b), [1, 2]);
    assert!(b.messages.iter().all(|m| m.dup));
}

fn refused_subscription(server: &Server, version: Version) {
    let (mut a, _) = Client::connect(server.address(), version, &Connect::id(A));
    let code = a.subscribe(&[(REFUSED_FILTER, 2)], &[])[0];
    // The suite compares with 0x80 in either version.
    assert_eq!(code, 0x80);
}

fn dollar_topics(server: &Server, version: Version) {
    let (mut b, _) = Client::connect(server.address(), version, &Connect::id(B));
    b.subscribe(&[(TWO_LEVELS, 2)], &[]);
    b.publish("$TopicA/B", b"", 1, false, &[]);
    b.settle();
    assert!(b.messages.is_empty(), "{:?}", b.messages);
}

fn unsubscribe(server: &Server, version: Version) {
    let (mut b, _) = Client::connect(server.address(), version, &Connect::id(B));
    for topic in [TOPIC_A, TOPICS[0], TOPICS[1]] {
        b.subscribe(&[(topic, 2)], &[]);
    }
    b.unsubscribe(TOPIC_A);
    let (mut a, _) = Client::connect(server.address(), version, &Connect::id(A));
    for topic in [TOPIC_A, TOPICS[0], TOPICS[1]] {
        a.publish(topic, b"x", 1, false, &[]);
    }
    b.wait_for_messages(2);
    b.settle();
    let mut topics: Vec<&str> = b.messages.iter().map(|m| m.topic.as_str()).collect();
    topics.sort_unstable();
    assert_eq!(topics, ["Topic/C", "TopicA/B"]);
}

/// What the suite does before its tests: everything retained is found with `#` and deleted.
fn clean_up(server: &Server, version: Version) {
    let (mut a, _) = Client::connect(server.address(), version, &Connect::id(A));
    for topic in TOPICS {
        a.publish(topic, b"x", 1, true, &[]);
    }
    let (mut cleaner, _) = Client::connect(server.address(), version, &Connect::id("clean retained"));
    cleaner.subscribe(&[("#", 0)], &[]);
    cleaner.wait_for_messages(3);
    for message in std::mem::take(&mut cleaner.messages) {
        cleaner.publish(&message.topic, b"", 0, true, &[]);
    }
    cleaner.settle();
    let (mut late, _) = Client::connect(server.address(), version, &Connect::id("late"));
    late.subscribe(&[("#", 0)], &[]);
    late.settle();
    assert!(late.messages.is_empty(), "{:?}", late.messages);
}

#[test]
fn mqtt_3_1_1_story_zero_length_client_id() {
    let server = Server::start();
    let (_, refused) = Client::try_connect(server.address(), Version::V311, &Connect::id("").keep());
    assert!(refused.is_none_or(|connack| connack.code == 2));
    let (mut client, _) = Client::connect(server.address(), Version::V311, &Connect::id(""));
    client.settle();
}

//! The stories of the Paho suite only version 5 knows: messages, their properties, and subscription options.

use super::client::{Client, Connect, Message};
use super::interop::{A, B, TOPIC_A, TOPICS, TWO_LEVELS};
use super::server::Server;
use super::table::Version::V5;

const NO_LOCAL: u8 = 0x04;
const RETAIN_AS_PUBLISHED: u8 = 0x08;
const USER: &[u8] = b"\x26\0\x01a\0\x012\x26\0\x01c\0\x013";

fn connect(server: &Server, id: &str) -> Client {
    Client::connect(server.address(), V5, &Connect::id(id)).0
}

fn qos_of(messages: &[Message]) -> Vec<u8> {
    let mut qos: Vec<u8> = messages.iter().map(|m| m.qos).collect();
    qos.sort_unstable();
    qos
}

#[test]
fn mqtt_5_story_retained_messages_with_properties() {
    let server = Server::start();
    let mut a = connect(&server, A);
    for (qos, topic) in (0..).zip(TOPICS) {
        a.publish(topic, b"x", qos, true, USER);
    }
    a.subscribe(&[(TWO_LEVELS, 2)], &[]);
    a.wait_for_messages(3);
    a.settle();
    assert_eq!(qos_of(&a.messages), [0, 1, 2]);
    assert!(a.messages.iter().all(|m| m.properties == USER), "{:?}", a.messages);
}

#[test]
fn mqtt_5_story_user_properties() {
    let server = Server::start();
    let mut a = connect(&server, A);
    a.subscribe(&[(TOPIC_A, 2)], &[]);
    for qos in 0..3 {
        a.publish(TOPIC_A, b"", qos, false, USER);
    }
    a.wait_for_messages(3);
    assert_eq!(qos_of(&a.messages), [0, 1, 2]);
    assert!(a.messages.iter().all(|m| m.properties == USER), "{:?}", a.messages);
}

#[test]
fn mqtt_5_story_payload_format_and_content_type() {
    let server = Server::start();
    let mut a = connect(&server, A);
    a.subscribe(&[(TOPIC_A, 2)], &[]);
    for qos in 0..3 {
        a.publish(TOPIC_A, b"", qos, false, b"\x01\x01\x03\0\x07My name");
    }
    a.wait_for_messages(3);
    assert_eq!(qos_of(&a.messages), [0, 1, 2]);
    for message in &a.messages {
        assert_eq!((message.property(0x01), message.property(0x03)), (vec![vec![1]], vec![b"\0\x07My name".to_vec()]));
    }
}

#[test]
fn mqtt_5_story_will_with_user_properties() {
    let server = Server::start();
    let mut b = connect(&server, B);
    b.subscribe(&[(TOPICS[1], 2)], &[]);
    let properties = [&[0x18, 0, 0, 0, 0], USER].concat();
    let how = Connect::id(A).keep_alive(1).will(TOPICS[1], b"will message", &properties);
    let (_a, _) = Client::connect(server.address(), V5, &how);
    b.wait_for_messages(1);
    b.settle();
    assert_eq!(b.messages.len(), 1);
    assert_eq!(b.messages[0].properties, USER);
}

#[test]
fn mqtt_5_story_message_expiry() {
    let server = Server::start();
    let kept = Connect::id(B).with(&[0x11, 0, 1, 0x86, 0x9F]);
    let (mut b, _) = Client::connect(server.address(), V5, &kept);
    b.subscribe(&[(TOPIC_A, 2)], &[]);
    b.disconnect(&[0x11, 0x3B, 0x9A, 0xC9, 0xFF]);
    let mut a = connect(&server, A);
    for (expiry, text) in [(1, "expire"), (6, "don't expire")] {
        for qos in 1..3 {
            a.publish(TOPIC_A, text.as_bytes(), qos, false, &[0x02, 0, 0, 0, expiry]);
        }
    }
    // A second and a half by the server's own watch: it throws this one out then.
    let (mut clock, _) = Client::connect(server.address(), V5, &Connect::id("clock").keep_alive(1));
    clock.wait_for_end();
    let (mut b, connack) = Client::connect(server.address(), V5, &Connect::id(B).keep());
    assert!(connack.session_present);
    b.wait_for_messages(2);
    b.settle();
    assert_eq!(qos_of(&b.messages), [1, 2]);
    for message in &b.messages {
        assert_eq!(message.payload, b"don't expire");
        let left = message.property(0x02)[0].clone();
        assert!(left[..3] == [0; 3] && (1..6).contains(&left[3]), "{left:?}");
    }
}

#[test]
fn mqtt_5_story_no_local() {
    let server = Server::start();
    let (mut a, mut b) = (connect(&server, A), connect(&server, B));
    a.subscribe(&[(TOPIC_A, 2 | NO_LOCAL)], &[]);
    b.subscribe(&[(TOPIC_A, 2 | NO_LOCAL)], &[]);
    a.publish(TOPIC_A, b"noLocal test", 1, false, &[]);
    b.wait_for_messages(1);
    a.settle();
    b.settle();
    assert_eq!((a.messages.len(), b.messages.len()), (0, 1));
}

#[test]
fn mqtt_5_story_retain_as_published() {
    let server = Server::start();
    let mut a = connect(&server, A);
    a.subscribe(&[(TOPIC_A, 2 | RETAIN_AS_PUBLISHED)], &[]);
    a.publish(TOPIC_A, b"false", 1, false, &[]);
    a.publish(TOPIC_A, b"true", 1, true, &[]);
    a.wait_for_messages(2);
    a.settle();
    assert_eq!(a.messages.iter().map(|m| m.retain).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn mqtt_5_story_retain_handling() {
    let server = Server::start();
    let mut publisher = connect(&server, "publisher");
    for (qos, topic) in (0..).zip(TOPICS) {
        publisher.publish(topic, b"x", qos, true, &[]);
    }
    publisher.settle();
    // Retain handling; how many come at the first and at the second SUBSCRIBE.
    for (handling, first, second) in [(1, 3, 0), (2, 0, 0), (0, 3, 3)] {
        let mut a = connect(&server, A);
        for expected in [first, second] {
            a.subscribe(&[(TWO_LEVELS, 2 | handling << 4)], &[]);
            a.wait_for_messages(expected);
            a.settle();
            let messages = std::mem::take(&mut a.messages);
            let qos: &[u8] = if expected == 3 { &[0, 1, 2] } else { &[] };
            assert_eq!(qos_of(&messages), qos, "retain handling {handling}");
        }
        a.disconnect(&[]);
    }
}

#[test]
fn mqtt_5_story_subscription_identifiers() {
    let server = Server::start();
    let (mut a, mut b) = (connect(&server, A), connect(&server, B));
    a.subscribe(&[(TOPIC_A, 2)], &[0x0B, 0xD5, 0xF0, 0x1B]);
    b.subscribe(&[(TOPIC_A, 2)], &[0x0B, 2]);
    b.subscribe(&[("TopicA/#", 2)], &[0x0B, 3]);
    b.publish(TOPIC_A, b"sub identifier test", 1, false, &[]);
    a.wait_for_messages(1);
    b.wait_for_messages(1);
    a.settle();
    b.settle();
    assert_eq!((a.messages.len(), b.messages.len()), (1, 1));
    assert_eq!(a.messages[0].property(0x0B), [[0xD5, 0xF0, 0x1B]]);
    let mut ids = b.messages[0].property(0x0B);
    ids.sort_unstable();
    assert_eq!(ids, [[2], [3]]);
}

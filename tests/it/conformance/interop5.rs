//! The stories of the Paho suite only version 5 knows: the connection, its limits, aliases and sharing.

use super::client::{Client, ConnAck, Connect};
use super::interop::{A, B, TOPIC_A};
use super::server::Server;
use super::table::Version::V5;

/// No local.
const NO_LOCAL: u8 = 0x04;

fn connect(server: &Server, how: &Connect<'_>) -> (Client, ConnAck) {
    Client::connect(server.address(), V5, how)
}

#[test]
fn mqtt_5_story_zero_length_client_id() {
    let server = Server::start();
    for how in [Connect::id("").keep(), Connect::id("")] {
        connect(&server, &how).0.disconnect(&[]);
    }
}

#[test]
fn mqtt_5_story_assigned_client_id() {
    let server = Server::start();
    let (mut one, first) = connect(&server, &Connect::id(""));
    let (_two, second) = connect(&server, &Connect::id(""));
    let (first, second) = (first.property(0x12).expect("an id"), second.property(0x12).expect("an id"));
    assert!(first.len() > 2 && first != second, "{first:?} {second:?}");
    // It is the client's id from now on: whoever uses it takes the session over.
    let id = String::from_utf8(first[2..].to_vec()).unwrap();
    let (_thief, _) = connect(&server, &Connect::id(&id));
    one.wait_for_end();
    assert_eq!(one.ended, Some(Some(0x8E)));
}

#[test]
fn mqtt_5_story_server_keep_alive() {
    let server = Server::with(&[("mqtt.max_keepalive", "60")]);
    let (_a, connack) = connect(&server, &Connect::id(A).keep_alive(120));
    assert_eq!(connack.property(0x13), Some(vec![0, 60]));
}

#[test]
fn mqtt_5_story_client_topic_alias() {
    let server = Server::start();
    let (mut a, connack) = connect(&server, &Connect::id(A));
    let maximum = connack.property(0x22).map_or(0, |v| u16::from_be_bytes([v[0], v[1]]));
    assert!(maximum > 0, "the server takes aliases");
    a.send_publish(TOPIC_A, b"topic alias 0", 1, false, &[0x23, 0, 0]);
    a.wait_for_end();
    assert_eq!(a.ended, Some(Some(0x94)));

    let kept = Connect::id(A).with(&[0x22, 0, 0, 0x11, 0, 1, 0x86, 0x9F]);
    let (mut a, _) = connect(&server, &kept);
    a.subscribe(&[(TOPIC_A, 2)], &[]);
    a.publish(TOPIC_A, b"topic alias 1", 1, false, &[0x23, 0, 1]);
    a.publish("", b"topic alias 2", 1, false, &[0x23, 0, 1]);
    a.wait_for_messages(2);
    a.disconnect(&[]);

    // The subscription is still there, the alias is not.
    let (mut a, connack) = connect(&server, &kept.keep());
    assert!(connack.session_present);
    a.publish(TOPIC_A, b"topic alias 3", 1, false, &[]);
    a.wait_for_messages(1);
    a.send_publish("", b"topic alias 4", 1, false, &[0x23, 0, 1]);
    a.wait_for_end();
    assert!(matches!(a.ended, Some(Some(0x82 | 0x94))), "{:?}", a.ended);
}

#[test]
fn mqtt_5_story_server_topic_alias() {
    let server = Server::start();
    let story = |properties: &'static [u8]| {
        let (mut a, _) = connect(&server, &Connect::id(A).with(properties));
        a.subscribe(&[(TOPIC_A, 2)], &[]);
        for qos in 0..3 {
            a.publish(TOPIC_A, b"topic alias 1", qos, false, &[]);
        }
        a.wait_for_messages(3);
        let seen = |m: &super::client::Message| (m.topic.clone(), m.property(0x23));
        let seen: Vec<_> = a.messages.iter().map(seen).collect();
        a.disconnect(&[]);
        seen
    };
    let one = vec![vec![0, 1]];
    let (first, later) = ((TOPIC_A.to_owned(), one.clone()), (String::new(), one));
    assert_eq!(story(&[0x22, 0, 1]), [first, later.clone(), later]);
    let plain = (TOPIC_A.to_owned(), vec![]);
    for none in [&[][..], &[0x22, 0, 0]] {
        assert_eq!(story(none), [plain.clone(), plain.clone(), plain.clone()]);
    }
}

#[test]
fn mqtt_5_story_maximum_packet_size() {
    let server = Server::start();
    let (_, connack) = connect(&server, &Connect::id(A));
    let of_server = connack.property(0x27).map(|v| u32::from_be_bytes([v[0], v[1], v[2], v[3]]));
    if let Some(size @ 1..65_535) = of_server {
        let (mut a, _) = connect(&server, &Connect::id(A));
        a.send_publish(TOPIC_A, &vec![b'.'; size as usize], 0, false, &[]);
        a.wait_for_end();
        assert_eq!(a.ended, Some(Some(0x95)));
    }
    let (mut a, _) = connect(&server, &Connect::id(A).with(&[0x27, 0, 0, 0, 64]));
    a.subscribe(&[(TOPIC_A, 2)], &[]);
    a.publish(TOPIC_A, &[b'.'; 32], 0, false, &[]);
    a.wait_for_messages(1);
    a.publish(TOPIC_A, &[b'.'; 64], 1, false, &[]);
    a.settle();
    assert_eq!(a.messages.len(), 1);
    a.disconnect(&[]);
}

#[test]
fn mqtt_5_story_flow_control_to_the_client() {
    let server = Server::start();
    let (mut a, _) = connect(&server, &Connect::id(A).with(&[0x21, 0, 2, 0x11, 0, 0, 0, 0]));
    a.subscribe(&[(TOPIC_A, 2)], &[]);
    a.paused = true;
    for n in 1..=3 {
        a.publish(TOPIC_A, format!("message {n}").as_bytes(), 1, false, &[]);
    }
    a.settle();
    let (mut b, _) = connect(&server, &Connect::id(B).with(&[0x21, 0, 2]));
    b.subscribe(&[(TOPIC_A, 1)], &[]);
    for n in 1..=3 {
        b.publish(TOPIC_A, format!("message {n}").as_bytes(), 1, false, &[]);
    }
    b.wait_for_messages(3);
    b.disconnect(&[]);
    a.disconnect(&[]);
}

#[test]
fn mqtt_5_story_request_and_response() {
    let server = Server::start();
    let (mut a, _) = connect(&server, &Connect::id(A));
    let (mut b, _) = connect(&server, &Connect::id(B));
    a.subscribe(&[(TOPIC_A, 2 | NO_LOCAL)], &[]);
    b.subscribe(&[(TOPIC_A, 2 | NO_LOCAL)], &[]);
    let request = [&[0x08, 0, 6][..], b"TopicA", &[0x09, 0, 3], b"334"].concat();
    a.publish(TOPIC_A, b"request", 1, false, &request);
    b.wait_for_messages(1);
    let asked = b.messages.remove(0);
    let answer_to = String::from_utf8(asked.property(0x08)[0][2..].to_vec()).unwrap();
    assert_eq!((answer_to.as_str(), asked.property(0x09)), (TOPIC_A, vec![b"\0\x03334".to_vec()]));
    b.publish(&answer_to, b"response", 1, false, &asked.properties);
    a.wait_for_messages(1);
    a.settle();
    assert_eq!(a.messages.len(), 1);
    assert_eq!((a.messages[0].payload.as_slice(), &a.messages[0].properties), (&b"response"[..], &asked.properties));
}

#[test]
fn mqtt_5_story_shared_subscriptions() {
    let server = Server::start();
    let filters = [("$share/sharename/client_test5/x", 2), (TOPIC_A, 2)];
    let member = |id: &'static str| {
        let (mut client, connack) = connect(&server, &Connect::id(id));
        assert!(!connack.session_present);
        assert_eq!(client.subscribe(&filters, &[]), [2, 2]);
        client
    };
    let (mut a, mut b) = (member(A), member(B));
    b.publish(TOPIC_A, b"message 0", 0, false, &[]);
    a.wait_for_messages(1);
    b.wait_for_messages(1);
    b.publish("client_test5/x", b"message 0", 0, false, &[]);
    b.settle();
    a.settle();
    assert_eq!(a.messages.len() + b.messages.len(), 2 + 1, "the shared message came once");
}

//! A source in front of a broker that is played by the test, packet by packet, and a journal whose mark the test holds.

mod play;

use std::time::Duration;

use bytes::Bytes;
use play::{Stage, ack, publish};

use super::{Options, Password};
use crate::broker::Event;
use crate::domain::{CommandId, DeviceId};
use crate::observe::TaskState;

fn device(id: &str) -> DeviceId {
    DeviceId::parse(id).unwrap()
}

#[tokio::test]
async fn a_message_is_acknowledged_after_the_fsync_and_the_broker_need_not_wait_for_others() {
    let stage = Stage::new().await;
    stage.journal.hold();
    let mut peer = stage.accept().await;
    peer.send(&publish("iot/m1/telemetry", b"one", 2, 7)).await;
    peer.send(&publish("other/topic", b"x", 1, 8)).await;
    peer.send(&publish("iot/m1/hello", b"two", 1, 9)).await;
    stage.until("both are in the journal", || stage.journal.stored().len() == 2).await;
    peer.nothing().await;
    stage.journal.release();
    assert_eq!(peer.next().await, ack(0x50, 7));
    assert_eq!(peer.next().await, ack(0x40, 8));
    assert_eq!(peer.next().await, ack(0x40, 9));
    peer.send(&ack(0x62, 7)).await;
    assert_eq!(peer.next().await, ack(0x70, 7));
    let stored = stage.journal.stored();
    assert_eq!((stored[0].topic.as_str(), stored[0].identity.as_str()), ("iot/m1/telemetry", "m1"));
    assert_eq!((stored[0].flags.qos, stored[1].flags.qos, &*stored[1].payload), (2, 1, &b"two"[..]));
}

#[tokio::test]
async fn a_status_that_the_broker_had_kept_is_acknowledged_and_no_sign_of_life() {
    let stage = Stage::new().await;
    let mut peer = stage.accept().await;
    for (topic, n) in [("iot/m1/status", 7), ("iot/m1/telemetry", 8)] {
        let mut kept = publish(topic, b"kept", 1, n);
        kept[0] |= 1;
        peer.send(&kept).await;
    }
    peer.send(&publish("iot/m1/status", b"live", 1, 9)).await;
    for n in 7..=9 {
        assert_eq!(peer.next().await, ack(0x40, n));
    }
    let stored: Vec<_> = stage.journal.stored().into_iter().map(|s| (s.topic, s.payload)).collect();
    let expected = [("iot/m1/telemetry", &b"kept"[..]), ("iot/m1/status", b"live")];
    assert_eq!(stored, expected.map(|(topic, payload)| (topic.to_owned(), payload.to_vec())));
}

#[tokio::test]
async fn while_the_journal_has_no_room_nothing_is_read_and_signs_of_life_go_on() {
    let stage = Stage::with(|options| options.keep_alive_s = 1).await;
    stage.journal.set_room(false);
    let mut peer = stage.accept().await;
    peer.send(&publish("iot/m1/telemetry", b"x", 1, 1)).await;
    // More than any socket buffers: the writing stops when nobody reads.
    let flood = publish("iot/m1/telemetry", &vec![b'x'; 60_000], 0, 0).repeat(200);
    let written = tokio::time::timeout(Duration::from_secs(1), peer.send(&flood)).await;
    assert!(written.is_err(), "it was all taken");
    assert_eq!(peer.next().await, [0xC0, 0], "it is alive");
    assert_eq!(stage.journal.stored().len(), 0);
    stage.journal.set_room(true);
    stage.until("the first is in the journal", || !stage.journal.stored().is_empty()).await;
    while peer.next().await != ack(0x40, 1) {}
}

#[tokio::test]
async fn no_more_is_read_than_may_be_unconfirmed() {
    let stage = Stage::with(|options| options.keep_alive_s = 1).await;
    stage.journal.hold();
    let mut peer = stage.accept().await;
    peer.send(&publish("iot/m1/telemetry", b"x", 0, 0).repeat(20_000)).await;
    assert_eq!(peer.next().await, [0xC0, 0], "it is alive");
    stage.until("as much as may be is in the journal", || stage.journal.stored().len() >= 4096).await;
    let stored = stage.journal.stored().len();
    assert!((4096..10_000).contains(&stored), "{stored} messages are unconfirmed");
    stage.journal.release();
    stage.until("all are in the journal", || stage.journal.stored().len() == 20_000).await;
}

#[tokio::test]
async fn a_broker_that_is_away_is_tried_again_and_what_it_repeats_is_taken() {
    let stage = Stage::new().await;
    stage.journal.hold();
    let mut peer = stage.accept().await;
    peer.send(&publish("iot/m1/telemetry", b"one", 2, 7)).await;
    stage.until("it is in the journal", || stage.journal.stored().len() == 1).await;
    drop(peer);
    stage.until("it is missed", || matches!(stage.state(), Some(TaskState::Retrying(_)))).await;
    let reason = stage.state().unwrap().reason().unwrap().to_owned();
    assert!(
        reason.starts_with("the broker mqtt://127.0.0.1:") && reason.ends_with("closed the connection"),
        "{reason}"
    );
    let mut peer = stage.accept_again().await;
    stage.journal.release();
    peer.send(&publish("iot/m1/telemetry", b"one", 2, 7)).await;
    assert_eq!(peer.next().await, ack(0x50, 7));
    assert_eq!(stage.journal.stored().len(), 2, "the copy is the collector's to recognise");
    // A release for an id of before is answered, or the broker would be stuck with it.
    peer.send(&ack(0x62, 3)).await;
    assert_eq!(peer.next().await, ack(0x70, 3));
}

#[tokio::test]
async fn a_device_that_has_spoken_gets_its_commands_there_and_they_are_delivered_when_acknowledged() {
    let stage = Stage::new().await;
    let mut events = stage.broker.events().unwrap();
    let command = CommandId::random();
    let send = || stage.broker.send_command(&device("m1"), command, Bytes::from_static(b"reboot"));
    let mut peer = stage.accept().await;
    assert!(!send(), "it has not spoken");
    peer.send(&publish("iot/m1/hello", b"x", 0, 0)).await;
    assert_eq!(events.next().await.unwrap(), [Event::Ready { device: device("m1") }]);
    assert!(send());
    assert!(send(), "known: not sent again");
    assert_eq!(peer.next().await, publish("iot/m1/command", b"reboot", 2, 1));
    peer.send(&ack(0x50, 1)).await;
    assert_eq!(peer.next().await, ack(0x62, 1));
    peer.send(&ack(0x70, 1)).await;
    assert_eq!(events.next().await.unwrap(), [Event::Delivered { cmd_id: command }]);
    peer.nothing().await;
    drop(peer);
    assert_eq!(events.next().await.unwrap(), [Event::Gone { device: device("m1") }]);
    assert!(!send());
}

#[tokio::test]
async fn a_command_under_way_when_the_connection_breaks_is_offered_again_with_an_id_the_broker_has_released() {
    let stage = Stage::new().await;
    let mut events = stage.broker.events().unwrap();
    let command = CommandId::random();
    let send = || stage.broker.send_command(&device("m1"), command, Bytes::from_static(b"reboot"));
    let mut peer = stage.accept().await;
    peer.send(&publish("iot/m1/hello", b"x", 0, 0)).await;
    events.next().await.unwrap();
    assert!(send());
    assert_eq!(peer.next().await, publish("iot/m1/command", b"reboot", 2, 1));
    drop(peer);
    assert_eq!(events.next().await.unwrap(), [Event::Gone { device: device("m1") }]);
    let mut peer = stage.accept_again().await;
    assert_eq!(peer.next().await, ack(0x62, 1));
    assert_eq!(peer.next().await, [0xC0, 0]);
    peer.send(&[&ack(0x70, 1)[..], &[0xD0, 0], &publish("iot/m1/hello", b"x", 0, 0)].concat()).await;
    assert_eq!(events.next().await.unwrap(), [Event::Ready { device: device("m1") }]);
    assert!(send());
    assert_eq!(peer.next().await, publish("iot/m1/command", b"reboot", 2, 2));
}

#[tokio::test]
async fn a_device_that_is_gone_here_and_has_spoken_there_is_not_gone() {
    let stage = Stage::new().await;
    let mut events = stage.broker.events().unwrap();
    let mut peer = stage.accept().await;
    peer.send(&publish("iot/m1/hello", b"x", 0, 0)).await;
    assert_eq!(events.next().await.unwrap(), [Event::Ready { device: device("m1") }]);
    let mut meter = stage.client("m1").await;
    meter.subscribe("iot/m1/command", 2).await;
    assert_eq!(events.next().await.unwrap(), [Event::Ready { device: device("m1") }]);
    assert!(stage.broker.send_command(&device("m1"), CommandId::random(), Bytes::from_static(b"here")));
    assert_eq!(&*meter.expect_publish().await.payload, b"here");
    peer.nothing().await;
    drop(meter);
    stage.until("it is gone", || stage.broker.stats().connections == 0).await;
    assert!(stage.broker.send_command(&device("m1"), CommandId::random(), Bytes::from_static(b"there")));
    assert_eq!(peer.next().await, publish("iot/m1/command", b"there", 2, 1));
    // What is heard next is of the end of the source, not of the connection.
    drop(peer);
    assert_eq!(events.next().await.unwrap(), [Event::Gone { device: device("m1") }]);
}

#[tokio::test]
async fn a_message_over_the_limit_is_acknowledged_and_does_not_hold_up_what_follows() {
    let stage = Stage::with(|options| options.max_packet_bytes = 1000).await;
    let mut peer = stage.accept().await;
    peer.send(&publish("iot/m1/telemetry", &vec![b'x'; 5000], 2, 7)).await;
    peer.send(&publish("iot/m1/telemetry", b"small", 1, 8)).await;
    assert_eq!(peer.next().await, ack(0x50, 7));
    assert_eq!(peer.next().await, ack(0x40, 8));
    assert_eq!(stage.journal.texts(), [("iot/m1/telemetry".to_owned(), "small".to_owned())]);
}

#[tokio::test]
async fn stopping_acknowledges_what_the_journal_was_given_and_says_goodbye() {
    let stage = Stage::new().await;
    stage.journal.hold();
    let mut peer = stage.accept().await;
    peer.send(&publish("iot/m1/telemetry", b"x", 1, 7)).await;
    stage.until("it is in the journal", || stage.journal.stored().len() == 1).await;
    let broker = stage.broker.clone();
    let stopping = tokio::spawn(async move { broker.stop(Duration::from_secs(5)).await });
    peer.nothing().await;
    stage.journal.release();
    assert_eq!(peer.next().await, ack(0x40, 7));
    assert_eq!(peer.next().await, [0xE0, 0]);
    assert!(stopping.await.unwrap(), "in time");
    assert_eq!(stage.state(), Some(TaskState::Stopped));
}

#[tokio::test]
async fn stopping_does_not_wait_for_a_broker_that_cannot_be_reached() {
    let stage = Stage::new().await;
    stage.listener.lock().await.take();
    stage.until("it is tried again", || matches!(stage.state(), Some(TaskState::Retrying(_)))).await;
    assert!(stage.broker.stop(Duration::from_secs(2)).await);
}

#[tokio::test]
async fn a_broker_that_accepts_and_says_nothing_is_given_up_and_named() {
    let stage = Stage::with(|options| options.connect_timeout = Duration::from_millis(100)).await;
    let _silent = stage.accept_socket().await;
    stage.until("it is given up", || stage.reason().is_some_and(|r| r.ends_with("it does not answer"))).await;
    let _next_try = stage.accept_socket().await;
}

#[tokio::test]
async fn over_tls_the_brokers_certificate_must_be_of_the_named_authority() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let (authority, config) = play::certificates("localhost");
    let (stranger, _) = play::certificates("localhost");
    std::fs::write(file("ca.pem"), authority).unwrap();
    std::fs::write(file("other.pem"), stranger).unwrap();
    let with_file = |name: &str| {
        let path = file(name);
        move |options: &mut Options| {
            (options.address.is_tls, options.address.host) = (true, "localhost".to_owned());
            options.ca_file = Some(path);
        }
    };
    let stage = Stage::with(with_file("other.pem")).await;
    assert!(stage.accept_tls(&config).await.is_err());
    stage.until("it is refused", || stage.reason().is_some_and(|r| r.contains("TLS cannot be agreed upon"))).await;

    let stage = Stage::with(with_file("ca.pem")).await;
    let mut tls = stage.accept_tls(&config).await.unwrap();
    let mut connect = [0; 2];
    tokio::io::AsyncReadExt::read_exact(&mut tls, &mut connect).await.unwrap();
    assert_eq!(connect[0], 0x10);

    let stage = Stage::with(with_file("missing.pem")).await;
    stage.until("it is missed", || stage.reason().is_some_and(|r| r.contains("`ca_file` cannot be read"))).await;
}

#[tokio::test]
async fn the_password_is_read_from_its_file_at_each_connection() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    let stage = Stage::with(|options| options.password = Some(Password::File(path.clone()))).await;
    stage.until("it is missed", || stage.reason().is_some_and(|r| r.contains("`password_file` cannot be read"))).await;
    for password in ["first", "second"] {
        std::fs::write(&path, format!("{password}\n")).unwrap();
        let connect = loop {
            let mut peer = stage.accept_socket().await;
            let connect = peer.next().await;
            if connect.ends_with(password.as_bytes()) {
                break connect;
            }
        };
        let expected = [&b"\x00\x02me\x00"[..], &[password.len() as u8], password.as_bytes()].concat();
        assert!(connect.ends_with(&expected), "{connect:?}");
    }
}

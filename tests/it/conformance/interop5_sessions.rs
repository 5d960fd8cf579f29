//! The stories of the Paho suite only version 5 knows: how long sessions and wills last.

use std::time::{Duration, Instant};

use super::client::{Client, ConnAck, Connect};
use super::interop::{A, B, TOPIC_A};
use super::server::Server;
use super::table::Version::V5;

const fn session_expiry(seconds: u8) -> [u8; 5] {
    [0x11, 0, 0, 0, seconds]
}

fn connect(server: &Server, expiry: &[u8], clean: bool) -> (Client, ConnAck) {
    let how = Connect::id(A).with(expiry);
    Client::connect(server.address(), V5, &if clean { how } else { how.keep() })
}

/// Lets the server's own time pass, 1.5 s a round: it throws a silent client out then.
fn pass(server: &Server, rounds: u8) {
    for _ in 0..rounds {
        let (mut clock, _) = Client::connect(server.address(), V5, &Connect::id("clock").keep_alive(1));
        clock.wait_for_end();
    }
}

#[test]
fn mqtt_5_story_session_expiry() {
    let server = Server::start();
    let none = session_expiry(0);
    let (mut a, connack) = connect(&server, &none, true);
    assert!(!connack.session_present);
    a.subscribe(&[(TOPIC_A, 2)], &[]);
    a.disconnect(&[]);
    let (a, connack) = connect(&server, &none, false);
    assert!(!connack.session_present, "expired at once");
    a.disconnect(&[]);

    let three = session_expiry(3);
    let (mut a, connack) = connect(&server, &three, true);
    assert!(!connack.session_present);
    a.subscribe(&[(TOPIC_A, 2)], &[]);
    a.disconnect(&[]);
    pass(&server, 1);
    let (a, connack) = connect(&server, &three, false);
    assert!(connack.session_present, "not expired after half of its time");
    a.disconnect(&[]);
    pass(&server, 3);
    let (a, connack) = connect(&server, &three, false);
    assert!(!connack.session_present, "expired after its time");
    a.disconnect(&[]);
}

#[test]
fn mqtt_5_story_session_expiry_changed_at_the_end() {
    let server = Server::start();
    let one = session_expiry(1);
    let (mut a, _) = connect(&server, &one, true);
    a.subscribe(&[(TOPIC_A, 2)], &[]);
    a.disconnect(&session_expiry(9));
    pass(&server, 2);
    let (a, connack) = connect(&server, &one, false);
    assert!(connack.session_present, "the goodbye has made it longer");
    a.disconnect(&session_expiry(0));
    let (a, connack) = connect(&server, &one, false);
    assert!(!connack.session_present, "the goodbye has ended it");
    a.disconnect(&[]);
}

/// When the will comes: will delay and session expiry in seconds, and the earliest and latest seconds.
#[test]
fn mqtt_5_story_will_delay() {
    for (delay, expiry, earliest, latest) in [(2, 9, 2.0, 8.9), (5, 0, 0.0, 4.9), (5, 2, 2.0, 4.9)] {
        let server = Server::start();
        let (expiry, delay) = (session_expiry(expiry), [0x18, 0, 0, 0, delay]);
        let how = Connect::id(A).with(&expiry).will(TOPIC_A, b"test_will_delay will message", &delay);
        let (a, connack) = Client::connect(server.address(), V5, &how);
        assert!(!connack.session_present);
        let (mut b, _) = Client::connect(server.address(), V5, &Connect::id(B));
        b.subscribe(&[(TOPIC_A, 2)], &[]);
        let start = Instant::now();
        drop(a);
        b.wait_for_messages(1);
        let elapsed = start.elapsed();
        let (earliest, latest) = (Duration::from_secs_f64(earliest), Duration::from_secs_f64(latest));
        assert!((earliest..latest).contains(&elapsed), "after {elapsed:?}");
        assert_eq!(b.messages[0].payload, b"test_will_delay will message");
        assert_eq!(b.messages[0].properties, Vec::<u8>::new(), "the delay is not handed on");
    }
}

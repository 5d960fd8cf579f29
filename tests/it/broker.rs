//! The broker as MQTT clients see it, through the whole server.

use crate::support::{Client, Connect, Packet, TestApp, mqtt, telemetry};

#[test]
fn a_meters_message_reaches_subscribers_after_it_was_acknowledged_to_the_meter() {
    let app = TestApp::open();
    let (mut watcher, _) = app.mqtt(&Connect::id("watcher"));
    assert_eq!(watcher.subscribe("iot/+/telemetry", 1), 1);
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    let payload = telemetry("m1", app.at(0), 0, 750.0);
    meter.publish("iot/m1/telemetry", payload.as_bytes(), 2);
    match watcher.next_publish() {
        Packet::Publish { topic, payload: got, qos, .. } => {
            assert_eq!((topic.as_str(), got.as_slice(), qos), ("iot/m1/telemetry", payload.as_bytes(), 1));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stuck_subscriber_harms_nobody() {
    let app = TestApp::open();
    let (mut stuck, _) = app.mqtt(&Connect::id("stuck").persistent());
    stuck.subscribe("iot/#", 2);
    let (mut quick, _) = app.mqtt(&Connect::id("quick"));
    quick.subscribe("iot/m1/status", 1);
    // It never reads again: far more than its socket's buffers and its queue hold.
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    let base = app.at(0);
    for seq in 0..3000u32 {
        let mut payload = telemetry("m1", base.plus_us(i64::from(seq) * 1000), seq, 750.0);
        payload.push_str(&" ".repeat(2000));
        meter.publish("iot/m1/telemetry", payload.as_bytes(), 1);
    }
    let status = format!(r#"{{"v":2,"device_id":"m1","ts":"{}","status":"online"}}"#, app.at(0));
    meter.publish("iot/m1/status", status.as_bytes(), 1);
    assert!(matches!(quick.next_publish(), Packet::Publish { topic, .. } if topic == "iot/m1/status"));
    app.settled();
    assert_eq!(app.values("m1", "voltage_dc").len(), 3000);
    drop(stuck);
}

#[test]
fn a_malformed_packet_closes_that_connection_and_nothing_else() {
    let app = TestApp::open();
    let (mut good, _) = app.mqtt(&Connect::id("good"));
    let check = |name: &str, bytes: &[u8]| {
        let (mut bad, _) = app.mqtt(&Connect::id("bad"));
        bad.send(bytes);
        assert_eq!(bad.receive(), None, "{name} closes the connection");
    };
    check("a second CONNECT", &mqtt::packet(0x10, b"\x00\x04MQTT\x04\x02\x00\x00\x00\x01x"));
    check("a publish of QoS 3", &mqtt::packet(0x36, b"\x00\x01a\x00\x01"));
    check("a publish to a wildcard", &mqtt::publish("a/+/b", b"", 0, false, false, 0));
    check("a publish with U+0000 in its topic", &mqtt::publish("a\0b", b"", 0, false, false, 0));
    check("a packet id of 0", &mqtt::publish("a", b"", 1, false, false, 0));
    check("a remaining length of five bytes", &[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01]);
    check("a packet over the limit", &[0x30, 0xFF, 0xFF, 0xFF, 0x7F]);
    check("SUBSCRIBE with reserved flags", &mqtt::packet(0x80, b"\x00\x01\x00\x01a\x00"));
    check("a topic that is not UTF-8", &mqtt::packet(0x30, b"\x00\x02\xC3\x28x"));
    check("a server's packet", &mqtt::packet(0x20, &[0, 0]));
    good.ping();
    let mut silent = Client::socket(app.mqtt_address());
    silent.send(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(silent.receive(), None);
    good.ping();
}

#[test]
fn topics_outside_ascii_are_topics_like_any_other() {
    let app = TestApp::open();
    let (mut one, _) = app.mqtt(&Connect::id("one"));
    one.subscribe("é/#", 1);
    let (mut two, _) = app.mqtt(&Connect::id("two"));
    two.publish("é/x", b"1", 1);
    assert!(matches!(one.next_publish(), Packet::Publish { topic, .. } if topic == "é/x"));
}

#[test]
fn a_retained_status_meets_later_subscribers() {
    let app = TestApp::open();
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    let status = format!(r#"{{"v":2,"device_id":"m1","ts":"{}","status":"online"}}"#, app.at(0));
    meter.send(&mqtt::publish("iot/m1/status", status.as_bytes(), 1, true, false, 1));
    assert_eq!(meter.answer(), Some(Packet::PubAck(1)));
    let (mut late, _) = app.mqtt(&Connect::id("late"));
    late.subscribe("iot/+/status", 1);
    assert!(matches!(late.next_publish(), Packet::Publish { retain: true, .. }));
}

#[test]
fn a_queue_of_a_persistent_session_waits_for_its_client() {
    let app = TestApp::open();
    let (mut one, _) = app.mqtt(&Connect::id("one").persistent());
    one.subscribe("news/#", 2);
    drop(one);
    let (mut two, _) = app.mqtt(&Connect::id("two"));
    for n in 0..5u8 {
        two.publish("news/x", &[n], 2);
    }
    let (mut one, had_session) = app.mqtt(&Connect::id("one").persistent());
    assert!(had_session);
    for n in 0..5u8 {
        assert!(matches!(one.next_publish(), Packet::Publish { payload, qos: 2, .. } if payload == [n]));
    }
}

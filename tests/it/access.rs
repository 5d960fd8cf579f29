//! Nobody gets in by default.

use serde_json::json;

use crate::support::{Client, Connect, Packet, TestApp, telemetry};

#[test]
fn without_open_the_api_asks_for_the_admin_key_and_health_does_not() {
    let app = TestApp::builder().start();
    let nobody = app.api.with_key(None);
    let refused = nobody.get("/api/devices").expect(401);
    assert!(refused.header("WWW-Authenticate").is_some(), "{refused:?}");
    nobody.with_key(Some("iotm_00000000_wrong")).get("/api/devices").expect(401);
    nobody.get("/health").expect(200);
    nobody.get("/healthz").expect(200);
    nobody.get("/readyz").expect(200);
    app.api.get("/api/devices").expect(200);
}

#[test]
fn a_meter_connects_with_its_token_only_and_speaks_for_itself_only() {
    let app = TestApp::builder().start();
    let made = app.api.post("/api/devices", &json!({"device_id": "m1", "device_name": "Meter"})).expect(201).json();
    let token = made["token"].as_str().unwrap_or_else(|| panic!("{made}"));
    let refused = |how: &Connect<'_>, expected: u8| match Client::try_connect(app.mqtt_address(), how).1 {
        Some(Packet::ConnAck { code, .. }) => assert_eq!(code, expected, "{how:?}"),
        other => panic!("{how:?} got {other:?}"),
    };
    refused(&Connect::id("m1"), 4);
    refused(&Connect::id("m1").login("m1", "wrong"), 4);
    refused(&Connect::id("m2").login("m2", token), 4);
    refused(&Connect::id("m2").login("m1", token), 2);
    let (mut meter, _) = app.mqtt(&Connect::id("m1").login("m1", token));
    meter.publish("iot/m1/telemetry", telemetry("m1", app.at(0), 0, 750.0).as_bytes(), 1);
    assert_eq!(meter.subscribe("iot/m1/command", 2), 2);
    assert_eq!(meter.subscribe("iot/+/telemetry", 1), 0x80);
    assert_eq!(meter.subscribe("#", 1), 0x80);
    assert!(!meter.try_publish("iot/m2/telemetry", b"{}", 1), "another meter's topic closes the connection");
    app.settled();
    assert_eq!(app.values("m1", "voltage_dc"), [750.0]);
}

#[test]
fn a_deleted_device_is_disconnected_and_its_token_is_dead() {
    let app = TestApp::builder().start();
    let made = app.api.post("/api/devices", &json!({"device_id": "m1", "device_name": "Meter"})).expect(201).json();
    let token = made["token"].as_str().unwrap();
    let (mut meter, _) = app.mqtt(&Connect::id("m1").login("m1", token));
    meter.ping();
    app.api.delete("/api/devices/m1").expect(200);
    assert_eq!(meter.receive(), None, "the session is closed");
    let (_, answer) = Client::try_connect(app.mqtt_address(), &Connect::id("m1").login("m1", token));
    assert!(matches!(answer, Some(Packet::ConnAck { code: 4 | 5, .. })), "{answer:?}");
}

#[test]
fn the_admin_key_survives_a_restart() {
    let mut app = TestApp::builder().start();
    app.api.get("/api/stats").expect(200);
    app.restart();
    app.api.get("/api/stats").expect(200);
}

//! Presence: online, offline, and the alert that goes with it.

use crate::support::{Connect, TestApp, telemetry};

fn status(app: &TestApp, device: &str) -> String {
    let body = app.api.get(&format!("/api/devices/{device}/status")).expect(200).json();
    body["connection_status"].as_str().unwrap().to_owned()
}

fn open_alerts(app: &TestApp, device: &str) -> Vec<String> {
    let body = app.api.get(&format!("/api/devices/{device}/alerts?state=open")).expect(200).json();
    body.as_array().unwrap().iter().map(|a| a["alert_type"].as_str().unwrap().to_owned()).collect()
}

fn will(device: &str) -> Vec<u8> {
    format!(r#"{{"v":2,"device_id":"{device}","ts":"2026-02-12T11:00:00Z","status":"offline"}}"#).into_bytes()
}

#[test]
fn the_last_will_takes_a_meter_offline_with_an_alert_and_its_return_clears_it() {
    let app = TestApp::builder().open().clock("2026-02-12T12:00:00Z").start();
    let offline = will("m1");
    let (mut meter, _) = app.mqtt(&Connect::id("m1").will("iot/m1/status", &offline, 1, true));
    meter.publish("iot/m1/telemetry", telemetry("m1", app.now(), 0, 750.0).as_bytes(), 1);
    app.settled();
    assert_eq!(status(&app, "m1"), "online");
    drop(meter);
    app.eventually("the will takes the meter offline", || status(&app, "m1") == "offline");
    assert_eq!(open_alerts(&app, "m1"), ["device_offline"]);
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    meter.publish("iot/m1/telemetry", telemetry("m1", app.now(), 1, 750.0).as_bytes(), 1);
    app.settled();
    assert_eq!(status(&app, "m1"), "online");
    assert!(open_alerts(&app, "m1").is_empty());
}

#[test]
fn a_meter_that_says_goodbye_fires_no_will() {
    let app = TestApp::builder().open().clock("2026-02-12T12:00:00Z").start();
    let offline = will("m1");
    let (mut meter, _) = app.mqtt(&Connect::id("m1").will("iot/m1/status", &offline, 1, true));
    meter.publish("iot/m1/telemetry", telemetry("m1", app.now(), 0, 750.0).as_bytes(), 1);
    meter.disconnect();
    // A message of another meter behind it: whatever the first one's end caused is stored before.
    let (mut other, _) = app.mqtt(&Connect::id("m2"));
    other.publish("iot/m2/telemetry", telemetry("m2", app.now(), 0, 750.0).as_bytes(), 1);
    app.settled();
    assert_eq!(status(&app, "m1"), "online");
}

#[test]
fn silence_for_longer_than_the_timeout_is_offline_and_a_restart_gives_grace() {
    let mut app = TestApp::builder().open().clock("2026-02-12T12:00:00Z").start();
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    meter.publish("iot/m1/telemetry", telemetry("m1", app.now(), 0, 750.0).as_bytes(), 1);
    app.settled();
    app.pass_s(59);
    app.tick();
    assert_eq!(status(&app, "m1"), "online");
    app.pass_s(3);
    app.eventually("60 s of silence is offline", || status(&app, "m1") == "offline");
    assert_eq!(open_alerts(&app, "m1"), ["device_offline"]);
    meter.publish("iot/m1/telemetry", telemetry("m1", app.now(), 1, 750.0).as_bytes(), 1);
    app.settled();
    assert_eq!(status(&app, "m1"), "online");
    app.restart_after_s(3600);
    app.tick();
    assert_eq!(status(&app, "m1"), "online", "an hour of our own absence is not the meter's");
    app.pass_s(62);
    app.eventually("the grace ends", || status(&app, "m1") == "offline");
}

#[test]
fn heartbeat_and_status_over_rest_change_presence_as_messages_do() {
    let app = TestApp::builder().open().clock("2026-02-12T12:00:00Z").start();
    app.api.post("/api/devices", &serde_json::json!({"device_id": "m1", "device_name": "Meter"})).expect(201);
    assert_eq!(status(&app, "m1"), "unknown");
    app.api.post("/api/devices/m1/heartbeat", &serde_json::json!({})).expect(200);
    assert_eq!(status(&app, "m1"), "online");
    let set = serde_json::json!({"connection_status": "offline", "fw_version": "9.9"});
    app.api.put("/api/devices/m1/status", &set).expect(200);
    let body = app.api.get("/api/devices/m1/status").expect(200).json();
    assert_eq!((body["connection_status"].as_str(), body["fw_version"].as_str()), (Some("offline"), Some("9.9")));
    assert_eq!(open_alerts(&app, "m1"), ["device_offline"]);
    app.api.post("/api/devices/nobody/heartbeat", &serde_json::json!({})).expect(404);
    app.api.put("/api/devices/m1/status", &serde_json::json!({"connection_status": "asleep"})).expect(400);
    // However long it was silent before: it is there now, and absent when it is silent for longer from now on.
    app.pass_s(3600);
    app.api.put("/api/devices/m1/status", &serde_json::json!({"connection_status": "online"})).expect(200);
    app.tick();
    assert_eq!(status(&app, "m1"), "online");
    assert!(open_alerts(&app, "m1").is_empty());
    app.pass_s(62);
    app.eventually("it is silent", || status(&app, "m1") == "offline");
    assert_eq!(open_alerts(&app, "m1"), ["device_offline"]);
}

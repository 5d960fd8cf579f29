//! Clients and operators at their worst moment: many at once, backpressure, deletion under traffic.

use crate::support::{Connect, TestApp, telemetry};

#[test]
fn a_meter_deleted_while_it_speaks_does_not_come_back_by_what_it_said_before() {
    let app = TestApp::builder().start();
    let new = serde_json::json!({"device_id": "m1", "device_name": "Meter"});
    let made = app.api.post("/api/devices", &new).expect(201).json();
    let token = made["token"].as_str().unwrap();
    let will = br#"{"v":2,"device_id":"m1","ts":"2026-02-12T11:00:00Z","status":"offline"}"#;
    let how = Connect::id("m1").login("m1", token).will("iot/m1/status", will, 1, true);
    let (mut meter, _) = app.mqtt(&how);
    for seq in 0..50 {
        meter.publish("iot/m1/telemetry", telemetry("m1", app.at(i64::from(seq)), seq, 750.0).as_bytes(), 1);
    }
    app.api.delete("/api/devices/m1").expect(200);
    assert_eq!(meter.receive(), None, "the session is closed");
    app.settled();
    app.api.get("/api/devices/m1").expect(404);
    app.api.post("/api/devices", &new).expect(201);
    // Its measurements were kept: the deletion did not ask for a purge.
    assert!(!app.values("m1", "voltage_dc").is_empty());
}

#[test]
fn an_accepted_configuration_changes_the_presence_timeout() {
    let app = TestApp::builder().open().clock("2026-02-12T12:00:00Z").start();
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    meter.publish("iot/m1/telemetry", telemetry("m1", app.now(), 0, 750.0).as_bytes(), 1);
    app.settled();
    let config = serde_json::json!({"cmd": "update_config", "params": {"send_interval_s": 600}});
    let sent = app.api.post("/api/devices/m1/commands", &config).json();
    let path = format!("/api/commands/{}/ack", sent["cmd_id"].as_str().unwrap());
    app.api.put(&path, &serde_json::json!({"result": "accepted"})).expect(200);
    meter.publish("iot/m1/telemetry", telemetry("m1", app.now(), 1, 750.0).as_bytes(), 1);
    app.settled();
    let status = || app.api.get("/api/devices/m1/status").json()["connection_status"].clone();
    app.pass_s(1100);
    app.tick();
    assert_eq!(status(), "online", "twice 600 s have not passed");
    app.pass_s(200);
    app.eventually("1200 s of silence is offline", || status() == "offline");
}

#[test]
fn a_hundred_meters_at_once_are_all_stored() {
    let app = TestApp::open();
    let (base, to) = (app.at(0), app.mqtt_address());
    let meters: Vec<_> = (0..100)
        .map(|n| {
            std::thread::spawn(move || {
                let id = format!("crowd-{n}");
                let (mut meter, _) = crate::support::Client::connect(to, &Connect::id(&id));
                for seq in 0..10u32 {
                    let ts = base.plus_us(i64::from(seq) * 1_000_000);
                    let qos = (seq % 3) as u8;
                    meter.publish(&format!("iot/{id}/telemetry"), telemetry(&id, ts, seq, 750.0).as_bytes(), qos);
                }
                meter.ping();
            })
        })
        .collect();
    for meter in meters {
        meter.join().unwrap();
    }
    app.settled();
    let stats = app.api.get("/api/stats").expect(200).json();
    assert_eq!(stats["total_devices"], 100);
    for n in [0, 50, 99] {
        assert_eq!(app.values(&format!("crowd-{n}"), "voltage_dc").len(), 10);
    }
}

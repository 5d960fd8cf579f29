//! External brokers as sources: `rumqttd` beside our server, which hears its meters and reaches them through it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::process::{Server, command};
use crate::support::{Builder, Client, Connect, Packet, TestApp, eventually, foreign::Foreign, settled, telemetry};

/// A server with this broker as its source.
fn with_source(foreign: Foreign, version: &str) -> Builder {
    let address = if version == "5" { foreign.v5 } else { foreign.v4 };
    let settings = settings(&format!("mqtt://{address}"), version);
    settings.iter().fold(TestApp::builder().open(), |builder, (key, value)| builder.set(key, value))
}

fn settings(url: &str, version: &str) -> [(String, String); 5] {
    [("url", url), ("version", version), ("filter", "iot/+/#"), ("username", "bridge"), ("password", "secret")]
        .map(|(key, value)| (format!("source.0.{key}"), value.to_owned()))
}

fn task(app: &TestApp) -> Value {
    app.api.get("/api/system/status").expect(200).json()["tasks"]["source 0"].clone()
}

fn connected(app: &TestApp) {
    app.eventually("the source is connected", || task(app)["state"] == "running");
}

/// Publishes one datagram a number, at QoS 1 and 2 in turn.
fn publish(app: &TestApp, meter: &mut Client, device: &str, numbers: std::ops::Range<u32>) {
    for seq in numbers {
        let payload = telemetry(device, app.at(0).plus_us(i64::from(seq) * 1000), seq, f64::from(seq));
        meter.publish(&format!("iot/{device}/telemetry"), payload.as_bytes(), 1 + (seq % 2) as u8);
    }
}

/// Waits until these are stored, each once.
fn stored(app: &TestApp, device: &str, numbers: std::ops::Range<u32>) {
    let expected: Vec<f64> = numbers.map(f64::from).collect();
    app.eventually("its first message is stored", || app.api.get(&format!("/api/devices/{device}")).status == 200);
    app.eventually("all is stored", || app.values(device, "voltage_dc").len() >= expected.len());
    app.settled();
    assert_eq!(app.values(device, "voltage_dc"), expected);
}

#[test]
fn what_meters_say_at_another_broker_is_stored_once() {
    for version in ["3.1.1", "5"] {
        let foreign = Foreign::nowhere().start();
        let app = with_source(foreign, version).start();
        connected(&app);
        app.api.get("/readyz").expect(200);
        let mut meter = foreign.meter("m1");
        publish(&app, &mut meter, "m1", 0..100);
        // A retransmission, and a copy over our own broker.
        publish(&app, &mut meter, "m1", 50..60);
        let (mut direct, _) = app.mqtt(&Connect::id("m1"));
        publish(&app, &mut direct, "m1", 40..50);
        meter.publish("weather/berlin", b"rain", 1);
        stored(&app, "m1", 0..100);
    }
}

#[test]
fn a_broker_that_is_not_there_stops_nothing_and_is_used_when_it_comes() {
    let foreign = Foreign::nowhere();
    let app = with_source(foreign, "5").start();
    let (mut direct, _) = app.mqtt(&Connect::id("m1"));
    publish(&app, &mut direct, "m1", 0..10);
    stored(&app, "m1", 0..10);
    app.eventually("the source says so", || task(&app)["state"] == "retrying");
    let reason = task(&app)["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains(&foreign.v5.to_string()) && reason.contains("cannot be connected to"), "{reason}");
    let refused = app.api.get("/readyz").expect(503).json();
    assert!(refused["checks"]["source 0"].as_str().is_some(), "{refused}");
    foreign.start();
    connected(&app);
    app.api.get("/readyz").expect(200);
    publish(&app, &mut foreign.meter("m2"), "m2", 0..10);
    stored(&app, "m2", 0..10);
}

#[test]
fn what_the_other_broker_held_while_the_server_was_away_is_stored() {
    for version in ["3.1.1", "5"] {
        let foreign = Foreign::nowhere().start();
        let mut app = with_source(foreign, version).start();
        connected(&app);
        let mut meter = foreign.meter("m1");
        publish(&app, &mut meter, "m1", 0..50);
        let base = app.at(0);
        app.restart_while(|| {
            for seq in 50..150 {
                let payload = telemetry("m1", base.plus_us(i64::from(seq) * 1000), seq, f64::from(seq));
                meter.publish("iot/m1/telemetry", payload.as_bytes(), 2);
            }
        });
        connected(&app);
        publish(&app, &mut meter, "m1", 150..200);
        stored(&app, "m1", 0..200);
    }
}

#[test]
fn killed_again_and_again_the_server_loses_nothing_that_it_had_acknowledged_there() {
    let foreign = Foreign::nowhere().start();
    let dir = tempfile::tempdir().unwrap();
    let mut command = command(dir.path());
    for (key, value) in settings(&format!("mqtt://{}", foreign.v4), "3.1.1") {
        command.env(format!("IOT_METER__{}", key.replace('.', "__").to_uppercase()), value);
    }
    let mut server = Server::start_with(&mut command, dir.path());
    let base = iot_meter::domain::Clock::system().now().plus_us(-300_000_000);
    let mut meter = foreign.meter("m1");
    let mut sent = 0;
    for _ in 0..3 {
        for seq in sent..sent + 300 {
            let payload = telemetry("m1", base.plus_us(i64::from(seq) * 1000), seq, f64::from(seq));
            meter.publish("iot/m1/telemetry", payload.as_bytes(), 1 + (seq % 2) as u8);
        }
        sent += 300;
        server.kill();
        server = Server::start_with(&mut command, dir.path());
    }
    eventually("its first message is stored", || server.api.get("/api/devices/m1").status == 200);
    let values = || {
        let rows = server.api.get("/api/devices/m1/metrics?start=-1h&metric=voltage_dc&limit=10000").expect(200).json();
        rows.as_array().unwrap().iter().map(|r| r["value"].as_f64().unwrap() as u32).collect::<Vec<_>>()
    };
    eventually("all is stored", || values().len() >= sent as usize);
    settled(&server.api);
    let stored = values();
    assert_eq!(stored.len(), sent as usize, "each once");
    assert_eq!(stored.into_iter().collect::<BTreeSet<_>>(), (0..sent).collect());
}

#[test]
fn a_meter_that_is_connected_elsewhere_gets_its_commands_there_and_its_answer_comes_home() {
    for version in ["3.1.1", "5"] {
        let foreign = Foreign::nowhere().start();
        let app = with_source(foreign, version).start();
        connected(&app);
        let mut meter = foreign.meter("m1");
        assert_eq!(meter.subscribe("iot/m1/command", 2), 2);
        publish(&app, &mut meter, "m1", 0..1);
        stored(&app, "m1", 0..1);
        let sent = app.api.post("/api/devices/m1/commands", &json!({"cmd": "request_status"}));
        let cmd_id = sent.json()["cmd_id"].as_str().unwrap().to_owned();
        let got: Value = match meter.next_publish() {
            Packet::Publish { topic, payload, qos: 2, .. } if topic == "iot/m1/command" => {
                serde_json::from_slice(&payload).unwrap()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!((got["cmd"].as_str(), got["cmd_id"].as_str()), (Some("request_status"), Some(&*cmd_id)));
        let status = || app.api.get(&format!("/api/commands/{cmd_id}")).expect(200).json()["status"].clone();
        app.eventually("the broker has acknowledged it", || status() == "delivered");
        let answer = json!({
            "v": 2, "device_id": "m1", "ts": app.at(1).to_string(), "seq": 1, "msg_type": "command_ack",
            "cmd_id": cmd_id, "result": "accepted"
        });
        meter.publish("iot/m1/command/ack", answer.to_string().as_bytes(), 2);
        app.eventually("its answer has come home", || status() == "accepted");
    }
}

//! From a meter's publish to the REST API: the main job.

use iot_meter::payload::parse_topic;

use crate::support::{Connect, Packet, TestApp, mqtt, telemetry};

#[test]
fn what_a_meter_publishes_at_any_qos_is_stored_and_read_back_exactly() {
    let app = TestApp::open();
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    for (seq, qos) in [(0, 0), (1, 1), (2, 2)] {
        meter.publish("iot/m1/telemetry", telemetry("m1", app.at(i64::from(seq)), seq, 750.5).as_bytes(), qos);
    }
    meter.ping();
    app.settled();
    let rows = app.api.get("/api/devices/m1/metrics?start=-1h&metric=voltage_dc").expect(200).json();
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 3, "{rows:?}");
    for (n, row) in rows.iter().enumerate() {
        assert_eq!(row["value"], 750.5);
        assert_eq!(row["metric"], "voltage_dc");
        assert_eq!(row["device_id"], "m1");
        assert_eq!(row["time"], app.at(n as i64).to_string());
    }
    let device = app.api.get("/api/devices/m1").expect(200).json();
    assert_eq!(device["connection_status"], "online");
    assert_eq!(device["status"], "active");
}

#[test]
fn a_duplicate_over_two_connections_is_stored_once() {
    let app = TestApp::open();
    let (mut one, _) = app.mqtt(&Connect::id("m1"));
    let (mut two, _) = app.mqtt(&Connect::id("m1-second-way"));
    for seq in 0..20 {
        let payload = telemetry("m1", app.at(i64::from(seq)), seq, 751.0);
        one.publish("iot/m1/telemetry", payload.as_bytes(), 2);
        two.publish("iot/m1/telemetry", payload.as_bytes(), 1);
    }
    app.settled();
    assert_eq!(app.values("m1", "voltage_dc").len(), 20);
    let gaps = app.api.get("/api/devices/m1/gaps").expect(200).json();
    assert_eq!(gaps.as_array().unwrap().len(), 0, "{gaps}");
}

#[test]
fn a_qos_2_publish_retransmitted_before_its_release_is_one_message() {
    let app = TestApp::open();
    let (mut meter, _) = app.mqtt(&Connect::id("m1").persistent());
    let payload = telemetry("m1", app.at(0), 7, 750.0);
    meter.send(&mqtt::publish("iot/m1/telemetry", payload.as_bytes(), 2, false, false, 9));
    assert_eq!(meter.answer(), Some(Packet::PubRec(9)));
    drop(meter);
    let (mut meter, had_session) = app.mqtt(&Connect::id("m1").persistent());
    assert!(had_session);
    meter.send(&mqtt::publish("iot/m1/telemetry", payload.as_bytes(), 2, false, true, 9));
    assert_eq!(meter.answer(), Some(Packet::PubRec(9)));
    meter.send(&mqtt::packet(0x62, &9u16.to_be_bytes()));
    assert_eq!(meter.answer(), Some(Packet::PubComp(9)));
    app.settled();
    let raw = app.api.get("/api/devices/m1/raw-data").expect(200).json();
    assert_eq!(raw.as_array().unwrap().len(), 1, "{raw}");
}

#[test]
fn missing_messages_are_a_gap_with_an_alert_until_they_arrive_late() {
    let app = TestApp::open();
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    let mut send = |seq: u32| {
        let payload = telemetry("m1", app.at(i64::from(seq)), seq, 750.0);
        meter.publish("iot/m1/telemetry", payload.as_bytes(), 1);
        app.settled();
    };
    send(5);
    send(9);
    let gaps = app.api.get("/api/devices/m1/gaps").expect(200).json();
    assert_eq!((gaps[0]["first"].as_u64(), gaps[0]["last"].as_u64()), (Some(6), Some(8)), "{gaps}");
    assert!(gaps[0]["filled_at"].is_null(), "{gaps}");
    let open = app.api.get("/api/devices/m1/alerts?state=open").expect(200).json();
    assert_eq!(open[0]["alert_type"], "sequence_gap", "{open}");
    send(7);
    send(6);
    send(8);
    let gaps = app.api.get("/api/devices/m1/gaps").expect(200).json();
    assert_eq!(gaps.as_array().unwrap().len(), 1, "{gaps}");
    assert!(gaps[0]["filled_at"].is_string(), "{gaps}");
    let open = app.api.get("/api/devices/m1/alerts?state=open").expect(200).json();
    assert_eq!(open.as_array().unwrap().len(), 0, "{open}");
    assert_eq!(app.values("m1", "voltage_dc").len(), 5);
}

#[test]
fn a_reboot_restarts_the_count_and_nothing_is_lost_also_over_a_restart_of_the_server() {
    let mut app = TestApp::open();
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    for seq in 500..503 {
        meter.publish("iot/m1/telemetry", telemetry("m1", app.at(i64::from(seq) - 500), seq, 1.0).as_bytes(), 1);
    }
    app.settled();
    app.restart();
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    for seq in 0..3 {
        meter.publish("iot/m1/telemetry", telemetry("m1", app.at(30 + i64::from(seq)), seq, 2.0).as_bytes(), 1);
    }
    app.settled();
    assert_eq!(app.values("m1", "voltage_dc"), [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
    let gaps = app.api.get("/api/devices/m1/gaps").expect(200).json();
    assert_eq!(gaps.as_array().unwrap().len(), 0, "{gaps}");
}

#[test]
fn what_cannot_be_decoded_is_kept_with_its_exact_bytes_beside_good_messages() {
    let app = TestApp::open();
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    meter.publish("iot/m1/telemetry", telemetry("m1", app.at(0), 0, 750.0).as_bytes(), 1);
    meter.publish("iot/m1/telemetry", b"\x00\xff not json", 1);
    meter.publish("iot/m1/telemetry", telemetry("m1", app.at(1), 1, 751.0).as_bytes(), 1);
    app.settled();
    assert_eq!(app.values("m1", "voltage_dc"), [750.0, 751.0]);
    let invalid = app.api.get("/api/devices/m1/raw-data?prefix=invalid").expect(200).json();
    let name = invalid[0]["filename"].as_str().unwrap_or_else(|| panic!("{invalid}"));
    assert_eq!(invalid[0]["size"], 11);
    let raw = app.api.get(&format!("/api/devices/m1/raw-data/{name}")).expect(200);
    assert_eq!(raw.body, b"\x00\xff not json");
    let metrics = app.api.get("/metrics").expect(200).text();
    assert!(metrics.contains(r#"iot_meter_messages_refused_total{kind="telemetry",reason="malformed"} "#), "{metrics}");
}

#[test]
fn raw_data_lists_the_journal_and_the_archive_as_one() {
    let mut app = TestApp::open();
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    let payloads: Vec<String> = (0..10).map(|seq| telemetry("m1", app.at(i64::from(seq)), seq, 750.0)).collect();
    for payload in &payloads[..6] {
        meter.publish("iot/m1/telemetry", payload.as_bytes(), 2);
    }
    // Stopping flushes the archive.
    app.restart();
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    for payload in &payloads[6..] {
        meter.publish("iot/m1/telemetry", payload.as_bytes(), 2);
    }
    app.settled();
    let list = app.api.get("/api/devices/m1/raw-data?limit=1000&prefix=telemetry").expect(200).json();
    let names: Vec<&str> = list.as_array().unwrap().iter().map(|e| e["filename"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 10, "{list}");
    for (name, payload) in names.iter().rev().zip(&payloads) {
        assert!(name.starts_with("m1/telemetry/") && name.ends_with(".json"), "{name}");
        assert_eq!(app.api.get(&format!("/api/devices/m1/raw-data/{name}")).expect(200).text(), *payload);
    }
}

#[test]
fn every_vector_message_has_its_outcome_through_the_whole_server() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/vectors/messages.json"))
        .expect("the vectors lie in ../shared/vectors");
    let vectors: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert!(vectors.len() > 20);
    for vector in vectors {
        let app = TestApp::builder().open().clock("2026-02-12T12:00:10Z").start();
        let (mut meter, _) = app.mqtt(&Connect::id("vector"));
        let topic = vector["topic"].as_str().unwrap();
        let device = topic.split('/').nth(1).unwrap();
        meter.publish(topic, vector["payload"].as_str().unwrap().as_bytes(), 1);
        app.settled();
        let name = vector["name"].as_str().unwrap();
        let prefix = |p: &str| {
            let path = format!("/api/devices/{device}/raw-data?prefix={p}");
            app.api.get(&path).json().as_array().map_or(0, Vec::len)
        };
        if vector["outcome"] == "invalid" {
            assert_eq!(prefix("invalid"), 1, "{name}");
            let metrics = app.api.get("/metrics").text();
            let (kind, reason) =
                (parse_topic(topic).map_or("unknown", |t| t.1.name()), vector["reason"].as_str().unwrap());
            let counter = format!(r#"messages_refused_total{{kind="{kind}",reason="{reason}"}}"#);
            assert!(metrics.contains(&counter), "{name}: {metrics}");
            continue;
        }
        assert_eq!(prefix("invalid"), 0, "{name}");
        if let Some(values) = vector["values"].as_u64() {
            let path = format!("/api/devices/{device}/metrics?start=2026-02-12T00:00:00Z&stop=2026-02-13T00:00:00Z");
            let rows = app.api.get(&path).expect(200).json();
            let rows = rows.as_array().unwrap();
            assert_eq!(rows.len() as u64, values, "{name}");
            let flagged = rows.iter().filter(|r| r["quality"] == "out_of_range").count();
            assert_eq!(flagged as u64, vector["flagged"].as_u64().unwrap_or(0), "{name}");
        }
        if let Some(effect) = vector["effect"].as_object() {
            let status = app.api.get(&format!("/api/devices/{device}/status")).expect(200).json();
            for (field, wanted) in effect {
                assert_eq!(status[field], *wanted, "{name}: {status}");
            }
        }
    }
}

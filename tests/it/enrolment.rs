//! New meters take themselves in with a claim, once; and their commands are signed with the key they got.

use std::process::Command;

use iot_meter::payload::decode_command;
use serde_json::{Value, json};

use crate::support::http::Answer;
use crate::support::{Connect, Packet, TestApp};

fn claim(app: &TestApp, devices: &str, max_uses: u32) -> String {
    let body = json!({"name": "depot", "devices": devices, "max_uses": max_uses, "expires_in_s": 3600});
    let made = app.api.post("/api/claims", &body).expect(201).json();
    made["token"].as_str().unwrap().to_owned()
}

fn enrol(app: &TestApp, device: &str, claim: &str, more: &Value) -> Answer {
    let mut body = json!({"device_id": device, "claim_token": claim});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    app.api.with_key(None).post("/api/enrol", &body)
}

fn key_of(enrolled: &Value) -> [u8; 32] {
    hex::decode(enrolled["command_key"].as_str().unwrap()).unwrap().try_into().unwrap()
}

/// A body without what differs from request to request.
fn without_request_id(answer: &Answer) -> (u16, Value) {
    let mut body = answer.json();
    body.as_object_mut().unwrap().remove("request_id");
    (answer.status, body)
}

#[test]
fn a_new_meter_presents_a_claim_and_has_all_it_needs() {
    let app =
        TestApp::builder().set("enrolment.brokers", "mqtt.example:8883").set("enrolment.send_interval_s", "20").start();
    let claim = claim(&app, "depot-*", 2);
    let answer = enrol(&app, "depot-1", &claim, &json!({"mqtt_token": true, "device_type": "dc_meter"})).expect(201);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let enrolled = answer.json();
    let configuration = json!({"brokers": [{"host": "mqtt.example", "port": 8883}], "sampling_cadence_ms": 1000,
        "send_interval_s": 20, "hello_interval_s": 30});
    assert_eq!(enrolled["configuration"], configuration);
    for part in ["certificate", "chain", "private_key"] {
        assert!(enrolled[part].as_str().is_some_and(|pem| pem.starts_with("-----BEGIN")), "{part} in {enrolled}");
    }
    let device = app.api.get("/api/devices/depot-1").expect(200).json();
    assert_eq!((device["status"].as_str(), device["device_type"].as_str()), (Some("active"), Some("dc_meter")));
    let listed = app.api.get("/api/certificates?device=depot-1").expect(200).json();
    assert_eq!(listed[0]["certificate"], enrolled["certificate"]);

    let token = enrolled["mqtt_token"].as_str().unwrap();
    let (mut meter, _) = app.mqtt(&Connect::id("depot-1").login("depot-1", token));
    meter.subscribe("iot/depot-1/command", 2);
    app.eventually("the meter is connected", || {
        app.api.post("/api/devices/depot-1/commands", &json!({"cmd": "request_status"})).status == 201
    });
    let Packet::Publish { payload, .. } = meter.next_publish() else { panic!("a command is awaited") };
    let command = decode_command(&payload, Some(&key_of(&enrolled))).expect("it is signed with the meter's key");
    assert_eq!(command.cmd, "request_status");
    assert!(decode_command(&payload, Some(&[0; 32])).is_err());

    let plain = enrol(&app, "depot-2", &claim, &json!({})).expect(201).json();
    assert_eq!(plain.get("mqtt_token"), None, "only who wants one has one");
}

#[test]
fn whoever_may_not_enrol_is_told_one_thing() {
    let app = TestApp::builder().set("http.login_burst", "100").start();
    let good = claim(&app, "depot-*", 1);
    app.register("depot-known");
    let revoked = claim(&app, "depot-*", 1);
    app.api.delete(&format!("/api/claims/{}", &revoked[5..13])).expect(200);
    let mut wrong = good.clone();
    wrong.replace_range(wrong.len() - 4.., "AAAA");
    let unknown = good.replacen(&good[5..13], "00000000", 1);
    let refused = without_request_id(&enrol(&app, "other-1", &good, &json!({})).expect(403));
    let check = |device: &str, token: &str| {
        assert_eq!(without_request_id(&enrol(&app, device, token, &json!({}))), refused, "{device}");
    };
    check("depot-1", &wrong);
    check("depot-1", &unknown);
    check("depot-1", "no-token-at-all");
    check("depot-1", &revoked);
    check("depot-known", &good);
    enrol(&app, "depot-1", &good, &json!({})).expect(201);
    check("depot-1", &good);
    check("depot-2", &good);
    assert_eq!(app.api.get("/api/claims").expect(200).json().as_array().unwrap()[1]["state"], "used up");
}

#[test]
fn a_claim_ends_with_its_time() {
    let app = TestApp::builder().clock("2026-02-12T10:00:00Z").start();
    let claim = claim(&app, "depot-*", 5);
    app.pass_s(3600);
    enrol(&app, "depot-1", &claim, &json!({})).expect(403);
    let past = json!({"name": "n", "devices": "d-*", "expires_at": "2026-02-12T10:00:00Z"});
    app.api.post("/api/claims", &past).expect(422);
}

#[test]
fn an_administrator_lets_a_meter_enrol_again_and_what_it_had_is_void() {
    let app = TestApp::builder().start();
    let claim = claim(&app, "depot-*", 5);
    let first = enrol(&app, "depot-1", &claim, &json!({"mqtt_token": true})).expect(201).json();
    enrol(&app, "depot-1", &claim, &json!({})).expect(403);
    app.api.delete("/api/devices/depot-1").expect(200);
    enrol(&app, "depot-1", &claim, &json!({})).expect(403);
    app.api.delete("/api/devices/depot-1/enrolment").expect(200);
    app.api.delete("/api/devices/nobody/enrolment").expect(404);
    let second = enrol(&app, "depot-1", &claim, &json!({"mqtt_token": true})).expect(201).json();
    assert_ne!(key_of(&first), key_of(&second));
    let listed = app.api.get("/api/certificates?device=depot-1").expect(200).json();
    assert!(listed[1]["revoked_at"].is_string() && listed[0]["revoked_at"].is_null(), "{listed}");
    let old = Connect::id("depot-1").login("depot-1", first["mqtt_token"].as_str().unwrap());
    let (_, answer) = crate::support::Client::try_connect(app.mqtt_address(), &old);
    assert!(!matches!(answer, Some(Packet::ConnAck { code: 0, .. })), "{answer:?}");
    enrol(&app, "depot-1", &claim, &json!({})).expect(403);
}

#[test]
fn of_many_that_come_at_once_only_as_many_as_the_claim_allows_are_let_in() {
    let app = TestApp::builder().set("http.login_burst", "100").start();
    let claim = claim(&app, "depot-*", 3);
    let app = &app;
    let claim = &claim;
    let let_in = std::thread::scope(|scope| {
        let one = |n: u32| scope.spawn(move || enrol(app, &format!("depot-{n}"), claim, &json!({})).status);
        let all: Vec<_> = (0..12).map(one).collect();
        all.into_iter().map(|one| one.join().unwrap()).filter(|status| *status == 201).count()
    });
    assert_eq!(let_in, 3);
    let registered = app.api.get("/api/devices").expect(200).json();
    assert_eq!(registered.as_array().unwrap().len(), 3);
}

#[test]
fn enrolments_of_an_address_are_limited_like_log_ins() {
    let app = TestApp::builder().set("http.login_burst", "3").set("http.login_per_s", "1").start();
    let statuses: Vec<_> = (0..12).map(|_| enrol(&app, "depot-1", "iotc_x", &json!({})).status).collect();
    assert_eq!(statuses[..3], [403; 3]);
    assert!(statuses.contains(&429), "{statuses:?}");
}

#[test]
fn a_bad_body_is_told_field_by_field_and_takes_no_use() {
    let app = TestApp::builder().start();
    let claim = claim(&app, "depot-*", 1);
    let bad = enrol(&app, "a/b", &claim, &json!({"colour": 1, "csr": 5})).expect(422).json();
    let mut fields: Vec<_> = bad["errors"].as_array().unwrap().iter().map(|f| f["field"].as_str().unwrap()).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["colour", "csr", "device_id"]);
    enrol(&app, "depot-1", &claim, &json!({"csr": "no request"})).expect(422);
    enrol(&app, "depot-1", &claim, &json!({})).expect(201);
}

#[test]
fn a_new_command_key_is_shown_once_and_signs_from_then_on() {
    let app = TestApp::builder().start();
    let made = app.api.post("/api/devices", &json!({"device_id": "m1", "device_name": "M"})).expect(201).json();
    let key = app.api.post("/api/devices/m1/command-key", &json!({})).expect(201).json();
    app.api.post("/api/devices/nobody/command-key", &json!({})).expect(404);
    let shown = app.api.get("/api/devices/m1").expect(200).text();
    assert!(!shown.contains(key["command_key"].as_str().unwrap()));
    app.api.post("/api/devices/m1/commands", &json!({"cmd": "reboot"})).expect(202);
    let login = Connect::id("m1").login("m1", made["token"].as_str().unwrap());
    let (mut meter, _) = app.mqtt(&login);
    meter.subscribe("iot/m1/command", 2);
    let Packet::Publish { payload, .. } = meter.next_publish() else { panic!("a command is awaited") };
    assert_eq!(decode_command(&payload, Some(&key_of(&key))).unwrap().cmd, "reboot");
}

#[test]
fn simulated_meters_enrol_themselves() {
    let app = TestApp::builder().start();
    let claim = claim(&app, "depot7-", 2);
    let run = Command::new(env!("CARGO_BIN_EXE_iot-meter"))
        .args(["simulate", "--devices", "2", "--prefix", "depot7", "--duration", "6", "--speed", "20"])
        .args(["--broker", &format!("mqtt://{}", app.mqtt_address())])
        .args(["--api", &format!("http://{}", app.address("http"))])
        .env("IOT_METER_CLAIM", &claim)
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    app.settled();
    let devices = app.api.get("/api/devices").expect(200).json();
    assert!(devices.as_array().unwrap().iter().all(|d| d["last_seen"].is_string()), "{devices}");
    assert_eq!(devices.as_array().unwrap().len(), 2);
}

#[test]
fn what_one_request_did_is_one_entry_of_the_audit_log() {
    let app = TestApp::builder().start();
    let claim = claim(&app, "depot-*", 1);
    enrol(&app, "depot-1", &claim, &json!({})).expect(201);
    enrol(&app, "depot-2", &claim, &json!({})).expect(403);
    let issued = app.api.post("/api/certificates", &json!({"device_id": "depot-1"})).expect(201).json();
    let serial = issued["serial"].as_str().unwrap();
    app.api.delete(&format!("/api/certificates/{serial}")).expect(200);
    let account = json!({"name": "grafana", "read": ["iot/#"]});
    app.api.post("/api/services", &account).expect(201);
    app.api.put("/api/services/grafana", &json!({"read": []})).expect(200);
    app.api.delete("/api/services/grafana").expect(200);
    let claimed = format!("claim:{}", &claim[5..13]);
    let wanted = [
        ("POST /api/claims", "", "done"),
        ("device.enrol", "depot-1", "done"),
        ("device.enrol", "depot-2", "refused"),
        ("certificate.issue", serial, "done"),
        ("certificate.revoke", serial, "done"),
        ("POST /api/services", "grafana", "done"),
        ("PUT /api/services/{name}", "grafana", "done"),
        ("DELETE /api/services/{name}", "grafana", "done"),
    ];
    let entries = || -> Vec<Value> {
        let text = app.api.get("/api/audit?format=ndjson").expect(200).text();
        let all = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        // Its first start is the server's own doing.
        all.filter(|entry| entry["actor"] != "server").collect()
    };
    app.eventually("the last entry is written", || {
        entries().last().is_some_and(|e| e["action"] == "DELETE /api/services/{name}")
    });
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap().to_owned();
    let mut found = Vec::new();
    for entry in entries() {
        assert!(entry["request_id"].is_string() && entry["address"] == "127.0.0.1", "{entry}");
        assert!(entry["action"] != "device.enrol" || entry["actor"] == claimed.as_str(), "{entry}");
        let target = if entry["action"] == "POST /api/claims" { String::new() } else { text(&entry, "target") };
        found.push((text(&entry, "action"), target, text(&entry, "outcome")));
    }
    assert_eq!(found, wanted.map(|(a, t, o)| (a.to_owned(), t.to_owned(), o.to_owned())));
}

#[test]
fn behind_a_proxy_only_what_came_in_tls_enrols_however_near_the_proxy_is() {
    let app = TestApp::builder().set("http.trusted_proxies", "127.0.0.1").set("http.login_burst", "100").start();
    let claim = claim(&app, "depot-*", 9);
    let through = |device: &str, headers: &[(&str, &str)]| {
        let body = json!({"device_id": device, "claim_token": claim}).to_string().into_bytes();
        let headers = [&[("Content-Type", "application/json")], headers].concat();
        app.api.with_key(None).send("POST", "/api/enrol", &headers, Some(body))
    };
    let from = ("X-Forwarded-For", "198.51.100.7");
    for headers in [&[from][..], &[from, ("X-Forwarded-Proto", "http")], &[("X-Forwarded-For", "unknown")]] {
        let refused = through("depot-1", headers).expect(403).json();
        assert!(refused["detail"].as_str().unwrap().contains("HTTPS"), "{refused}");
    }
    through("depot-1", &[from, ("X-Forwarded-Proto", "https")]).expect(201);
    enrol(&app, "depot-2", &claim, &json!({})).expect(201);
    // The same of what else only this machine may.
    let metrics = |headers: &[(&str, &str)]| app.api.with_key(None).send("GET", "/metrics", headers, None).status;
    assert_eq!(metrics(&[]), 200);
    for said in ["198.51.100.7", "unknown", "127.0.0.1"] {
        assert_eq!(metrics(&[("X-Forwarded-For", said)]), 401, "{said}");
    }
}

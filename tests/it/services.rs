//! Service accounts: what they may hear and say, and how they lose it.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Client, Connect, Packet, TestApp};

fn account(app: &TestApp, name: &str, read: &[&str], write: &[&str]) -> String {
    let made = app.api.post("/api/services", &json!({"name": name, "read": read, "write": write})).expect(201).json();
    made["token"].as_str().unwrap().to_owned()
}

fn is_let_in(app: &TestApp, how: &Connect<'_>) -> bool {
    let (_, answer) = Client::try_connect(app.mqtt_address(), how);
    matches!(answer, Some(Packet::ConnAck { code: 0, .. }))
}

fn is_closed(client: &mut Client) -> bool {
    loop {
        match client.receive() {
            None => return true,
            Some(Packet::PingResp) => return false,
            Some(_) => {}
        }
    }
}

#[test]
fn a_service_hears_and_says_what_its_filters_cover() {
    let app = TestApp::builder().start();
    let token = account(&app, "grafana", &["iot/+/telemetry", "app/#"], &["app/#"]);
    let (mut service, _) = app.mqtt(&Connect::id("any").login("grafana", &token));
    for (filter, granted) in [
        ("iot/+/telemetry", true),
        ("iot/m1/telemetry", true),
        ("app/+/x", true),
        ("iot/#", false),
        ("#", false),
        ("+/m1/telemetry", false),
        ("$SYS/#", false),
        ("iot/m1/command", false),
    ] {
        let code = service.subscribe(filter, 1);
        assert_eq!(code != 0x80, granted, "{filter}: {code:#x}");
    }
    service.publish("app/a/x", b"1", 1);
    assert!(matches!(service.next_publish(), Packet::Publish { topic, .. } if topic == "app/a/x"));
    assert!(!service.try_publish("iot/m1/telemetry", b"{}", 1), "3.1.1 knows no other answer than the end");
    let bad_will = Connect::id("b").login("grafana", &token).will("iot/m1/status", b"offline", 1, true);
    assert!(!is_let_in(&app, &bad_will));
    assert!(is_let_in(&app, &Connect::id("b").login("grafana", &token).will("app/gone", b"x", 1, true)));
    let listed = app.api.get("/api/services").expect(200).json();
    app.eventually("the log-in is noted", || {
        app.api.get("/api/services").expect(200).json()[0]["last_used_at"].is_string()
    });
    assert!(!listed.to_string().contains(&token));
}

#[test]
fn neither_a_device_nor_a_service_stands_in_the_way_of_another_of_its_name() {
    let app = TestApp::builder().start();
    let device = app.api.post("/api/devices", &json!({"device_id": "m1", "device_name": "M"})).expect(201).json();
    let device_token = device["token"].as_str().unwrap();
    let service_token = account(&app, "m1", &["app/#"], &[]);
    let (mut service, _) = app.mqtt(&Connect::id("m1").login("m1", &service_token));
    let (mut meter, _) = app.mqtt(&Connect::id("m1").login("m1", device_token));
    assert_eq!((meter.subscribe("iot/m1/command", 1), meter.subscribe("app/#", 1)), (1, 0x80));
    assert_eq!((service.subscribe("app/#", 1), service.subscribe("iot/m1/command", 1)), (1, 0x80));
    service.ping();
    meter.ping();
    assert!(!is_let_in(&app, &Connect::id("m1").login("m2", &service_token)));
    assert!(!is_let_in(&app, &Connect::id("x").login("m1", device_token)));
}

#[test]
fn a_changed_or_removed_account_is_disconnected_at_once_and_loses_what_it_heard() {
    let app = TestApp::builder().start();
    let token = account(&app, "s", &["a/#", "b/#"], &["a/#"]);
    let login = Connect::id("c").persistent();
    let (mut service, _) = app.mqtt(&login.clone().login("s", &token));
    service.subscribe("a/#", 1);
    app.api.put("/api/services/s", &json!({"read": ["b/#"]})).expect(200);
    assert!(is_closed(&mut service));
    let (mut service, is_present) = app.mqtt(&login.clone().login("s", &token));
    assert!(!is_present);
    assert_eq!((service.subscribe("a/#", 1), service.subscribe("b/#", 1)), (0x80, 1));
    let rotated = app.api.put("/api/services/s", &json!({"rotate": true})).expect(200).json();
    assert!(is_closed(&mut service));
    assert!(!is_let_in(&app, &login.clone().login("s", &token)));
    let token = rotated["token"].as_str().unwrap();
    let (mut service, _) = app.mqtt(&login.clone().login("s", token));
    app.api.delete("/api/services/s").expect(200);
    assert!(is_closed(&mut service) && !is_let_in(&app, &login.login("s", token)));
    app.api.delete("/api/services/s").expect(404);
    app.api.put("/api/services/s", &json!({"read": []})).expect(404);
}

#[test]
fn an_account_revoked_on_the_command_line_is_disconnected_by_the_running_server() {
    let app = TestApp::builder().start();
    let run = |args: &[&str]| -> Value {
        let out = Command::new(env!("CARGO_BIN_EXE_iot-meter"))
            .args(args)
            .args(["--output", "json"])
            .env("IOT_METER__DATA_DIR", app.data_dir())
            .env("IOT_METER__DATABASE__URL", app.database_url())
            .current_dir(std::env::temp_dir())
            .output()
            .unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice(&out.stdout).unwrap()
    };
    let made = run(&["service", "create", "planner", "--read", "iot/+/telemetry"]);
    let login = Connect::id("c").login("planner", made["token"].as_str().unwrap());
    let (mut service, _) = app.mqtt(&login);
    service.subscribe("iot/m1/telemetry", 1);
    run(&["service", "revoke", "planner"]);
    assert!(is_closed(&mut service) && !is_let_in(&app, &login));
    assert_eq!(run(&["service", "list"])[0]["state"], "revoked");
    let claim = run(&["claim", "create", "--name", "c", "--devices", "depot-*"]);
    run(&["claim", "revoke", claim["prefix"].as_str().unwrap()]);
    assert_eq!(run(&["claim", "list"])[0]["state"], "revoked");
}

#[test]
fn a_session_outlives_a_restart_only_with_what_its_service_may_still_do() {
    let mut app = TestApp::builder().start();
    let token = account(&app, "s", &["a/#"], &["a/#"]);
    let login = Connect::id("c").persistent().login("s", &token);
    let (mut service, _) = app.mqtt(&login);
    service.subscribe("a/#", 1);
    service.disconnect();
    app.restart();
    let (service, is_present) = app.mqtt(&login);
    assert!(is_present);
    service.disconnect();
    let database = app.database_url();
    app.restart_while(|| {
        let store = iot_meter::store::open(&database).unwrap();
        let change = iot_meter::store::ServiceChange { read: Some(vec!["b/#".into()]), ..Default::default() };
        store.update_service("s", &change).unwrap();
    });
    let (_, is_present) = app.mqtt(&login);
    assert!(!is_present);
}

#[test]
fn bad_accounts_are_refused() {
    let app = TestApp::builder().start();
    for body in [
        json!({}),
        json!({"name": "a/b"}),
        json!({"name": "a", "read": ["a/#/b"]}),
        json!({"name": "a", "write": ["$share/g/a"]}),
        json!({"name": "a", "read": "a"}),
        json!({"name": "a", "read": vec!["a"; 65]}),
        json!({"name": "a", "expires_at": "tomorrow"}),
        json!({"name": "a", "role": "admin"}),
    ] {
        app.api.post("/api/services", &body).expect(422);
    }
    account(&app, "a", &[], &[]);
    app.api.post("/api/services", &json!({"name": "a"})).expect(409);
    app.api.put("/api/services/a", &json!({})).expect(422);
}

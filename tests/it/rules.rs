//! Alert rules from the API over a meter's messages to its alerts: once each, whatever is repeated, killed or read again.

use iot_meter::domain::rule::{Condition, Op, Selector, Severity};
use iot_meter::domain::{Clock, Quantity, Timestamp};
use iot_meter::store::{self, Batch, RuleText};
use serde_json::{Value, json};

use crate::support::process::Server;
use crate::support::{Api, Client, Connect, Figures, TestApp, eventually, settled, telemetry};

fn over(name: &str, threshold: f64) -> Value {
    json!({"name": name, "metric": "voltage_dc", "op": "gt", "threshold": threshold, "severity": "critical"})
}

/// `state` and `cleared_reason` of a device's alerts that rules raised, oldest first.
fn alerts(api: &Api, device: &str) -> Vec<(String, Option<String>)> {
    let all = api.get(&format!("/api/devices/{device}/alerts")).expect(200).json();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let of_rules = all.as_array().unwrap().iter().rev().filter(|alert| !alert["rule_id"].is_null());
    of_rules.map(|alert| (text(&alert["state"]).unwrap(), text(&alert["cleared_reason"]))).collect()
}

fn word(state: &str, reason: Option<&str>) -> (String, Option<String>) {
    (state.to_owned(), reason.map(str::to_owned))
}

#[test]
fn a_rule_raises_one_alert_until_the_condition_is_over_and_says_what_was_measured() {
    let app = TestApp::open();
    let mut rule = over("overvoltage", 900.0);
    (rule["clear_threshold"], rule["message"], rule["devices"]) = (json!(880), json!("Line too high"), json!("m?"));
    let made = app.api.post("/api/rules", &rule).expect(201);
    let id = made.json()["id"].clone();
    assert_eq!(made.header("location"), Some(format!("/api/rules/{id}").as_str()));
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    let mut send = |second: i64, volts: f64| {
        let payload = telemetry("m1", app.at(second), second as u32, volts);
        meter.publish("iot/m1/telemetry", payload.as_bytes(), 1);
        app.settled();
        alerts(&app.api, "m1")
    };
    assert_eq!(send(10, 899.0), []);
    assert_eq!(send(11, 905.5), [word("open", None)]);
    assert_eq!(send(11, 905.5), [word("open", None)], "a copy");
    assert_eq!(send(9, 100.0), [word("open", None)], "late data clear nothing");
    assert_eq!(send(12, 890.0), [word("open", None)], "between the thresholds");
    assert_eq!(send(13, 879.0), [word("cleared", None)]);
    assert_eq!(send(8, 999.0), [word("cleared", None)], "nor do they raise anything");
    let alert = &app.api.get("/api/alerts?severity=critical").expect(200).json()[0];
    assert_eq!((&alert["alert_type"], &alert["rule_id"]), (&json!("overvoltage"), &id));
    let at = app.at(11);
    let message = format!("Line too high: m1: voltage_dc is 905.5 V at {at} (rule: voltage_dc > 900)");
    assert_eq!(alert["message"], message);
}

#[test]
fn a_rule_that_is_changed_switched_off_or_removed_clears_its_alerts_and_judges_anew() {
    let app = TestApp::open();
    let id = app.api.post("/api/rules", &over("high", 900.0)).expect(201).json()["id"].clone();
    let path = format!("/api/rules/{id}");
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    let mut second = 0;
    let mut send = |volts: f64| {
        second += 1;
        meter.publish("iot/m1/telemetry", telemetry("m1", app.at(second), second as u32, volts).as_bytes(), 1);
        app.settled();
        alerts(&app.api, "m1")
    };
    let mut expected = vec![word("open", None)];
    assert_eq!(send(950.0), expected);
    app.api.put(&path, &over("renamed", 900.0)).expect(200);
    assert_eq!(send(950.0), expected, "it judges as before");
    app.api.put(&path, &over("renamed", 940.0)).expect(200);
    expected[0] = word("cleared", Some("rule_changed"));
    assert_eq!(alerts(&app.api, "m1"), expected);
    expected.push(word("open", None));
    assert_eq!(send(950.0), expected, "by the rule as it is now");
    let mut off = over("renamed", 940.0);
    off["enabled"] = json!(false);
    app.api.put(&path, &off).expect(200);
    expected[1] = word("cleared", Some("rule_disabled"));
    assert_eq!(send(950.0), expected);
    app.api.put(&path, &over("renamed", 940.0)).expect(200);
    expected.push(word("open", None));
    assert_eq!(send(950.0), expected);
    app.api.put("/api/devices/m1", &json!({"device_type": "ac15"})).expect(200);
    let mut typed = over("typed", 900.0);
    typed["device_type"] = json!("ac15");
    app.api.post("/api/rules", &typed).expect(201);
    expected.push(word("open", None));
    assert_eq!(send(950.0), expected);
    app.api.put("/api/devices/m1", &json!({"device_type": "ac25"})).expect(200);
    expected[3] = word("cleared", Some("device_not_selected"));
    assert_eq!(send(950.0), expected);
    app.api.delete(&path).expect(200);
    expected[2] = word("cleared", Some("rule_deleted"));
    assert_eq!(send(950.0), expected);
    app.api.get(&path).expect(404);
}

#[test]
fn a_change_that_nobody_lived_to_tell_is_heard_of_all_the_same() {
    let app = TestApp::open();
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    let mut second = 0;
    let mut send = || {
        second += 1;
        meter.publish("iot/m1/telemetry", telemetry("m1", app.at(second), second as u32, 950.0).as_bytes(), 1);
        app.settled();
        alerts(&app.api, "m1")
    };
    assert_eq!(send(), []);
    // As it looks when the client resets its request once it is written.
    let condition = Condition {
        quantity: Quantity::parse("voltage_dc").unwrap(),
        op: Op::Gt,
        threshold: 900.0,
        clear: None,
        for_s: 0,
    };
    let (selector, severity) = (Selector::default(), Severity::Critical);
    let text = RuleText { name: "high".into(), condition, selector, severity, message: None, is_enabled: true };
    app.store().create_rule(&text, "key:1", app.at(0)).unwrap();
    eventually("the rule is heard of", || send() == [word("open", None)]);
}

#[test]
fn what_is_stored_already_raises_nothing_when_the_whole_journal_is_read_again() {
    let mut app = TestApp::open();
    app.api.post("/api/rules", &over("high", 900.0)).expect(201);
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    for (second, volts) in [(0, 950.0), (1, 100.0), (2, 960.0)] {
        meter.publish("iot/m1/telemetry", telemetry("m1", app.at(second), second as u32, volts).as_bytes(), 1);
    }
    app.settled();
    let before = app.api.get("/api/devices/m1/alerts").expect(200).json();
    assert_eq!(alerts(&app.api, "m1"), [word("cleared", None), word("open", None)]);
    let (url, checkpoint) = (app.database_url(), app.store().checkpoint().unwrap());
    assert!(checkpoint.is_some_and(|checkpoint| checkpoint >= 3), "{checkpoint:?}");
    let node = std::fs::read_to_string(app.data_dir().join("node-id")).unwrap();
    let options = store::Options { node: node.trim().parse().unwrap(), ..store::Options::default() };
    let counted = Figures::of(&app.api);
    app.restart_while(|| {
        let store = store::open_with(&url, &options).unwrap();
        store.commit(&Batch { checkpoint: Some(0), ..Batch::default() }).unwrap();
    });
    app.settled();
    assert_eq!(app.api.get("/api/devices/m1/alerts").expect(200).json(), before);
    Figures::of(&app.api).grown(&counted, "messages_duplicate_total", 3.0);
}

/// Publishes a voltage and waits for the acknowledgement.
fn say(meter: &mut Client, at: Timestamp, second: i64, volts: f64) {
    let payload = telemetry("m1", at.plus_us(second * 1_000_000), second as u32, volts);
    meter.publish("iot/m1/telemetry", payload.as_bytes(), 1);
}

#[test]
fn alerts_come_and_go_once_each_whenever_the_server_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let at = Clock::system().now().plus_us(-300_000_000);
    let mut server = Server::start(&data);
    server.api.post("/api/rules", &over("high", 900.0)).expect(201);
    let mut expected = Vec::new();
    for round in 0..6 {
        let (is_high, second) = (round % 2 == 0, round * 10);
        let (mut meter, _) = Client::connect(server.mqtt, &Connect::id("m1"));
        for step in 0..3 {
            say(&mut meter, at, second + step, if is_high { 950.0 } else { 700.0 });
        }
        if is_high {
            expected.push(word("open", None));
        } else {
            *expected.last_mut().unwrap() = word("cleared", None);
        }
        // Acknowledged, and stored or not.
        server.kill();
        server = Server::start(&data);
        settled(&server.api);
        assert_eq!(alerts(&server.api, "m1"), expected, "round {round}");
        // The meter has not heard of the acknowledgement and says it again.
        let (mut meter, _) = Client::connect(server.mqtt, &Connect::id("m1"));
        for step in 0..3 {
            say(&mut meter, at, second + step, if is_high { 950.0 } else { 700.0 });
        }
        settled(&server.api);
        assert_eq!(alerts(&server.api, "m1"), expected, "round {round}, said again");
    }
    assert_eq!(server.terminate(), Some(0));
}

#[cfg(feature = "postgres")]
#[test]
fn a_meter_at_two_nodes_gets_one_alert_and_both_learn_of_a_changed_rule() {
    use crate::support::eventually;
    let (dir, postgres) = (tempfile::tempdir().unwrap(), crate::support::postgres::Server::start());
    let url = postgres.database();
    let nodes = ["a", "b"].map(|name| Server::start_node(dir.path(), name, &url));
    let id = nodes[0].api.post("/api/rules", &over("high", 900.0)).expect(201).json()["id"].clone();
    let at = Clock::system().now().plus_us(-600_000_000);
    // The other node hears of the rule by itself: a meter of its own says when.
    let (mut own, _) = Client::connect(nodes[1].mqtt, &Connect::id("own"));
    let mut second = 0;
    let mut own_alert = |volts: f64| {
        second += 1;
        let payload = telemetry("own", at.plus_us(second * 1_000_000), second as u32, volts);
        own.publish("iot/own/telemetry", payload.as_bytes(), 1);
        settled(&nodes[1].api);
        alerts(&nodes[1].api, "own")
    };
    eventually("the other node judges by the rule", || own_alert(950.0) == [word("open", None)]);
    let mut meters = nodes.each_ref().map(|node| Client::connect(node.mqtt, &Connect::id("m1")).0);
    let mut expected = Vec::new();
    for round in 0..10 {
        for step in 0..5 {
            let volts = if round % 2 == 0 { 950.0 } else { 700.0 };
            meters.iter_mut().for_each(|meter| say(meter, at, round * 10 + step, volts));
        }
        nodes.iter().for_each(|node| settled(&node.api));
        match round % 2 {
            0 => expected.push(word("open", None)),
            _ => *expected.last_mut().unwrap() = word("cleared", None),
        }
        for node in &nodes {
            assert_eq!(alerts(&node.api, "m1"), expected, "round {round}");
        }
    }
    let mut wider = over("high", 900.0);
    wider["for_s"] = json!(1);
    nodes[0].api.put(&format!("/api/rules/{id}"), &wider).expect(200);
    assert_eq!(alerts(&nodes[1].api, "own"), [word("cleared", Some("rule_changed"))]);
    eventually("the other node judges by the changed rule", || {
        own_alert(950.0) == [word("cleared", Some("rule_changed")), word("open", None)]
    });
    for node in nodes {
        assert_eq!(node.terminate(), Some(0));
    }
}

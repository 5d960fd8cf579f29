//! What the deployed Alertmanager configuration holds back, and what it tells together: asked of the real Alertmanager, heard by
//! a server without a token for GitHub, which writes down what it would do.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{PATIENCE, TOKEN, start_alertmanager, write_configuration};
use crate::support::foreign::free_port;
use crate::support::{Api, Figures, eventually_within, process};

/// An alert as Prometheus tells it.
fn alert(name: &str, severity: &str, service: &str, instance: &str) -> Value {
    let labels = json!({"alertname": name, "severity": severity, "service": service, "instance": instance});
    json!({"labels": labels, "annotations": {"summary": format!("{name} of {instance}")}})
}

/// Fingerprints of Alertmanager's alerts in a state, by what is called so in its API.
fn in_state(alertmanager: &Api, state: &str) -> BTreeSet<String> {
    let all = alertmanager.get("/api/v2/alerts").expect(200).json();
    let alerts = all.as_array().unwrap().iter().filter(|alert| alert["status"]["state"] == state);
    alerts.map(|alert| alert["fingerprint"].as_str().unwrap().to_owned()).collect()
}

/// Fingerprints of the alerts that fire, as the server was told.
fn told(server: &Api) -> BTreeSet<String> {
    let all = server.get("/api/webhooks?per_page=100").expect(200).json();
    let firing = all.as_array().unwrap().iter().filter(|row| row["status"] == "firing");
    firing.map(|row| row["fingerprint"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_a_greater_alarm_explains_is_held_back_and_what_belongs_together_is_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut command = process::command(&data);
    command.env("IOT_METER__ALERTMANAGER__TOKEN", TOKEN);
    let server = process::Server::start_with(&mut command, &data);
    let address = free_port();
    write_configuration(dir.path(), server.http, address);
    let _running = start_alertmanager(dir.path(), address);
    let alertmanager = Api::new(address, None);
    let wait = |what: &str, condition: &mut dyn FnMut() -> bool| {
        let log = || std::fs::read_to_string(dir.path().join("alertmanager.log"));
        eventually_within(PATIENCE, what, condition, || format!("{:?}", log()));
    };
    wait("Alertmanager is ready", &mut || {
        alertmanager.try_send("GET", "/-/ready", &[], None).is_ok_and(|answer| answer.status == 200)
    });
    let post = |alerts: &[Value]| drop(alertmanager.post("/api/v2/alerts", &json!(alerts)).expect(200));

    // What is away, and what waits for it: on the same machine, and on others.
    let database = alert("IotMeterDatabaseNotReady", "critical", "database", "a");
    post(&[
        database.clone(),
        alert("IotMeterArchiveNotReady", "critical", "archive", "b"),
        alert("IotMeterDown", "critical", "iot-meter", "c"),
    ]);
    wait("the causes are told", &mut || told(&server.api).len() == 3);
    post(&[
        alert("IotMeterStoringLate", "warning", "collector", "a"),
        alert("IotMeterRollupsFailing", "warning", "rollups", "a"),
        alert("IotMeterArchivingLate", "warning", "archive", "b"),
        alert("IotMeterArchiveUpkeepFailing", "warning", "archive", "b"),
        alert("IotMeterHttpErrors", "critical", "api", "b"),
        alert("IotMeterHttpErrors", "critical", "api", "c"),
        // Of the same names, and not explained.
        alert("IotMeterStoringLate", "warning", "collector", "b"),
        alert("IotMeterRollupsFailing", "warning", "rollups", "b"),
        alert("IotMeterArchivingLate", "warning", "archive", "a"),
        alert("IotMeterArchiveUpkeepFailing", "warning", "archive", "a"),
        alert("IotMeterHttpErrors", "critical", "api", "a2"),
    ]);
    wait("the others are told", &mut || told(&server.api).len() == 8);
    assert_eq!(told(&server.api), in_state(&alertmanager, "active"));
    assert_eq!(in_state(&alertmanager, "suppressed").len(), 6);

    // Three of a kind are one request.
    let requests = "http_requests_total{route=\"/api/alertmanager/webhook\",method=\"POST\",status=\"202\"}";
    let queued = "alert_notices_total{result=\"queued\"}";
    let before = Figures::of(&server.api);
    post(&["x", "y", "z"].map(|instance| alert("IotMeterJournalFilling", "warning", "journal", instance)));
    wait("all three are told", &mut || told(&server.api).len() == 11);
    let after = Figures::of(&server.api);
    assert_eq!(after.value(queued) - before.value(queued), 3.0);
    assert_eq!(after.value(requests) - before.value(requests), 1.0);

    // The cause is over: what was held back and still lasts is told.
    let mut over = database;
    over["endsAt"] = json!(iot_meter::domain::Clock::system().now().to_string());
    post(&[over]);
    wait("what is left of it is told", &mut || told(&server.api).len() == 13);
    assert_eq!(in_state(&alertmanager, "suppressed").len(), 4);
    let done = server.api.get("/api/webhooks?state=done&per_page=100").expect(200).json();
    assert!(done.as_array().unwrap().iter().all(|row| row["result"] == "dry_run"), "{done}");
    assert_eq!(server.terminate(), Some(0));
}

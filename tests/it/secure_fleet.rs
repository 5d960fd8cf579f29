//! The fleet and the load generator against a guarded server, in TLS as meters are.

use iot_meter::simulate::{ApiAccess, Options, TlsFiles};
use serde_json::{Value, json};

use crate::firmware::upload;
use crate::support::certified::{Guarded, read};
use crate::support::eventually;
use crate::support::fleet::Fleet;

/// Where everything is, as arguments, the API included.
fn access(app: &Guarded) -> Vec<String> {
    let key = read(&app.data(), "admin.key");
    let ca = app.data().join("pki/ca.pem").display().to_string();
    let api = format!("https://localhost:{}", app.https.port());
    let words = ["--broker", &broker(app), "--ca", &ca, "--api", &api, "--key", key.trim()];
    words.map(str::to_owned).to_vec()
}

fn broker(app: &Guarded) -> String {
    format!("mqtts://localhost:{}", app.mqtts.port())
}

fn words<'a>(line: &'a str, rest: &'a [String]) -> Vec<&'a str> {
    line.split(' ').chain(rest.iter().map(String::as_str)).collect()
}

#[test]
fn the_load_generator_proves_in_tls_that_what_was_acknowledged_is_stored() {
    let app = Guarded::start(&[]);
    let report = app.run_json(&words("load --connections 3 --messages 300", &access(&app)));
    assert_eq!((&report["acknowledged"], &report["connects"]["count"]), (&json!(300), &json!(3)), "{report}");
    let proof = &report["verification"];
    assert_eq!((&proof["stored"], &proof["missing"], &proof["duplicated"]), (&json!(300), &json!(0), &json!(0)));
    let metrics = app.api.get("/metrics").expect(200).text();
    assert!(
        metrics.contains("iot_meter_tls_handshakes_total{server=\"mqtt\",kind=\"full\",version=\"1.3\"} 3"),
        "{metrics}"
    );

    // A server of another authority is talked to by nobody.
    let other = app.data().join("other.pem");
    let (stranger, _) = iot_meter::pki::Ca::make("Other", year()).unwrap();
    std::fs::write(&other, stranger.pem()).unwrap();
    let (other, broker) = (other.display().to_string(), broker(&app));
    let failed =
        app.run(&["load", "--broker", &broker, "--ca", &other, "--no-verify", "--duration", "1", "--output", "json"]);
    let report: Value = serde_json::from_slice(&failed.stdout).unwrap();
    assert_eq!((failed.status.code(), &report["connects"]), (Some(1), &json!(null)), "{report}");
    let missing = app.run(&["load", "--broker", &broker, "--ca", "/no/such/file", "--no-verify"]);
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/no/such/file"), "{missing:?}");
}

fn year() -> iot_meter::pki::Validity {
    iot_meter::pki::Validity { now: iot_meter::domain::Clock::system().now(), days: 365 }
}

#[test]
fn simulated_meters_come_in_by_token_and_by_certificate_alone() {
    let app = Guarded::start(&[]);
    let fleet = "simulate --devices 2 --profile dc750 --speed 10 --duration 6";
    let acknowledged = |report: &Value| report["messages"]["telemetry"]["acked"].as_u64().unwrap_or_default();
    let by_token = app.run_json(&words(fleet, &access(&app)));
    assert!(by_token["connects"].as_u64() >= Some(2) && acknowledged(&by_token) > 0, "{by_token}");

    let certs = app.data().join("certs").display().to_string();
    app.run_json(&["pki", "issue", "--device", "sim-dc750-0001", "--out", &certs]);
    let ca = app.data().join("pki/ca.pem").display().to_string();
    let rest = ["--broker", &broker(&app), "--ca", &ca, "--cert-dir", &certs].map(str::to_owned);
    // The second one has neither.
    let by_certificate = app.run_json(&words(fleet, &rest));
    assert_eq!(by_certificate["connects"], json!(1), "{by_certificate}");
    assert!(acknowledged(&by_certificate) > 0, "{by_certificate}");
}

#[test]
fn simulated_meters_fetch_firmware_in_tls() {
    let app = Guarded::start(&[]);
    let ca_file = Some(app.data().join("pki/ca.pem"));
    let api = ApiAccess {
        url: format!("https://localhost:{}", app.https.port()),
        key: Some(read(&app.data(), "admin.key").trim().to_owned()),
        ca_file: ca_file.clone(),
    };
    let brokers = vec![broker(&app).parse().unwrap()];
    let tls = TlsFiles { ca_file, cert_dir: None };
    let fleet = Fleet::start(1, Options { brokers, api: Some(api), tls, ..Options::default() });
    let online = || app.api.get("/api/devices?connection_status=online").expect(200).json();
    eventually("the meter is there", || !online().as_array().unwrap().is_empty());
    let device_type = online()[0]["device_type"].as_str().unwrap().to_owned();
    let parts: [(&str, &[u8]); 3] =
        [("version", b"2.0.0"), ("device_type", device_type.as_bytes()), ("file", &[7; 100_000])];
    let firmware = upload(&app.api, &parts).expect(201).json();
    let rollout = app.api.post("/api/rollouts", &json!({"firmware_id": firmware["id"]})).expect(201).json();
    let path = format!("/api/rollouts/{}", rollout["id"]);
    eventually("the rollout completes", || {
        let now = app.api.get(&path).expect(200).json();
        assert_ne!(now["state"], "paused", "{now}");
        now["state"] == "completed"
    });
    assert_eq!(online()[0]["fw_version"], "2.0.0");
    fleet.stop();
}

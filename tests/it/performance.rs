//! The load scripts are of use: their calls are answered, and they are the API's. How fast is a benchmark's to say
//! (`make performance`); here the times are only printed, beside their limits.

#[path = "../performance/harness.rs"]
mod harness;

use std::time::Duration;

use crate::support::eventually;
use crate::support::process::{self, Server};

/// A server with a demo fleet, its address, and the ids of its devices.
fn fleet(dir: &std::path::Path) -> (Server, String, Vec<String>) {
    let mut command = process::command(dir);
    command.args(["--demo", "5"]);
    let server = Server::start_with(&mut command, dir);
    let mut devices: Vec<String> = Vec::new();
    eventually("the fleet is there", || {
        let known = server.api.get("/api/devices").expect(200).json();
        devices = known.as_array().unwrap().iter().map(|d| d["device_id"].as_str().unwrap().to_owned()).collect();
        devices.len() == 5
    });
    let url = format!("http://{}", server.http);
    (server, url, devices)
}

#[test]
fn fewer_than_one_in_a_hundred_requests_of_the_load_scenario_fails() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, url, devices) = fleet(dir.path());
    let time = Some(Duration::from_secs(4));
    let report = harness::run(&harness::Load { url: &url, devices: &devices, clients: Some(8), time });
    print!("{report}");
    assert!(report.lines.len() >= 10, "not every call was made:\n{report}");
    assert!(report.is_good(), "too many failed:\n{report}");
}

/// The script itself, on node, since k6 is not on every machine; needs `node` and `curl`.
#[cfg(feature = "ops-tests")]
#[test]
fn the_script_of_k6_makes_the_calls_of_the_scenario_with_the_limits_it_names() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, url, _) = fleet(dir.path());
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/performance");
    let run = std::process::Command::new("node")
        .arg(folder.join("without-k6.mjs"))
        .arg("200")
        .env("URL", &url)
        .output()
        .expect("node is installed");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let seen: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(seen["checks"], serde_json::json!({"passed": 200, "failed": 0}), "{seen}");
    let scenario = std::fs::read(folder.join("scenario.json")).unwrap();
    let scenario: serde_json::Value = serde_json::from_slice(&scenario).unwrap();
    for call in scenario["calls"].as_array().unwrap() {
        let name = call["name"].as_str().unwrap();
        assert!(seen["calls"][name].as_u64() > Some(0), "{name} was not called: {seen}");
        let limit = call["p95_ms"].as_u64().or(scenario["p95_ms"].as_u64()).unwrap();
        let key = format!("http_req_duration{{name:{name}}}");
        assert_eq!(seen["thresholds"][key], serde_json::json!([format!("p(95)<{limit}")]), "{name}");
    }
    assert_eq!(seen["thresholds"]["http_req_failed{kind:call}"], serde_json::json!(["rate<0.01"]));
}

//! The load scripts are of use: their calls are answered, and they are the API's. How fast is a benchmark's to say
//! (`cargo bench --bench api`); here the times are only printed.

#[path = "../performance/harness.rs"]
mod harness;

use std::time::Duration;

use crate::support::eventually;
use crate::support::process::{self, Server};

#[test]
fn fewer_than_one_in_a_hundred_requests_of_the_load_scenario_fails() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = process::command(dir.path());
    command.args(["--demo", "5"]);
    let server = Server::start_with(&mut command, dir.path());
    let mut devices: Vec<String> = Vec::new();
    eventually("the fleet is there", || {
        let known = server.api.get("/api/devices").expect(200).json();
        devices = known.as_array().unwrap().iter().map(|d| d["device_id"].as_str().unwrap().to_owned()).collect();
        devices.len() == 5
    });
    let announced = std::fs::read(dir.path().join("run/addresses.json")).unwrap();
    let announced: serde_json::Value = serde_json::from_slice(&announced).unwrap();
    let url = format!("http://{}", announced["http"].as_str().unwrap());
    let time = Some(Duration::from_secs(4));
    let report = harness::run(&harness::Load { url: &url, devices: &devices, clients: Some(8), time });
    print!("{report}");
    assert!(report.lines.len() >= 10, "not every call was made:\n{report}");
    assert!(report.is_good(), "too many failed:\n{report}");
}

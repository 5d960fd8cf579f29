//! The examples, run as they are: a meter and an API client in Python, a tour of the shell.
//!
//! Needs `python3` with what `examples/requirements.txt` names (`make examples` puts it into an environment of its own), `curl`
//! and `mosquitto_pub`, and fails without them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::json;

use crate::support::certified::Guarded;
use crate::support::foreign::free_port;
use crate::support::process::{Server, command_at};
use crate::support::{Figures, TestApp, eventually};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

/// Python of the environment that `make examples` makes, else that of the system; for two minutes at most.
fn python() -> Command {
    let home = std::env::var("HOME").unwrap_or_default();
    let own = Path::new(&home).join(".cache/iot-meter/examples/bin/python3");
    let mut command = Command::new("timeout");
    command.args(["-k", "5", "120"]).arg(if own.exists() { own } else { "python3".into() });
    // No __pycache__ beside the examples.
    command.env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null());
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// What a program printed; it must have ended well.
#[track_caller]
fn good(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

struct Meter<'a> {
    guarded: &'a Guarded,
    files: tempfile::TempDir,
}

impl<'a> Meter<'a> {
    fn new(guarded: &'a Guarded, token: &str, command_key: &str) -> Self {
        let files = tempfile::tempdir().unwrap();
        std::fs::write(files.path().join("token"), token).unwrap();
        std::fs::write(files.path().join("command-key"), command_key).unwrap();
        Self { guarded, files }
    }

    fn start(&self, device: &str, count: u32, commands: u32) -> Child {
        let mut command = python();
        command.arg(example("device.py")).args(["--device", device, "--interval", "0.05", "--host", "localhost"]);
        command.arg("--token-file").arg(self.files.path().join("token"));
        command.arg("--command-key-file").arg(self.files.path().join("command-key"));
        command.arg("--ca").arg(self.guarded.data().join("pki/ca.pem"));
        command.args(["--port", &self.guarded.mqtts.port().to_string()]);
        command.args(["--count", &count.to_string(), "--commands", &commands.to_string()]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("python3 is installed")
    }
}

/// `api.py` with the admin key over HTTPS.
fn api(guarded: &Guarded, args: &[&str]) -> Output {
    api_command(guarded, args).output().expect("python3 is installed")
}

fn api_command(guarded: &Guarded, args: &[&str]) -> Command {
    let mut command = python();
    let key = std::fs::read_to_string(guarded.data().join("admin.key")).unwrap();
    command.env("IOT_METER_API_KEY", key.trim());
    command.arg(example("api.py")).args(["--url", &format!("https://localhost:{}", guarded.https.port())]);
    command.arg("--ca").arg(guarded.data().join("pki/ca.pem")).args(args);
    command
}

#[test]
fn a_meter_in_python_measures_in_tls_and_answers_signed_commands() {
    let guarded = Guarded::start(&[]);
    let token = guarded.register("py-1");
    let key = guarded.api.post("/api/devices/py-1/command-key", &json!({})).expect(201).json();
    let meter = Meter::new(&guarded, &token, key["command_key"].as_str().unwrap());

    let mut watching =
        api_command(&guarded, &["watch", "--devices", "py-*", "--kinds", "readings,alerts", "--count", "5"]);
    let watching = watching.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("python3 is installed");
    eventually("it watches", || Figures::of(&guarded.api).get("streams_open") == Some(1.0));
    let running = meter.start("py-1", 5, 2);
    let done = api(&guarded, &["command", "py-1", "request_status"]);
    assert!(done.status.success() && said(&done).contains(" accepted"), "{}", said(&done));
    let unknown = api(&guarded, &["command", "py-1", "reboot"]);
    assert!(said(&unknown).contains(" unsupported this meter does not know reboot"), "{}", said(&unknown));
    assert_eq!(unknown.status.code(), Some(1));
    let ended = running.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", said(&ended));
    assert!(said(&ended).contains("session present: False"), "{}", said(&ended));
    assert!(said(&ended).ends_with("5 datagrams acknowledged, 2 commands answered\n"), "{}", said(&ended));
    let watched = watching.wait_with_output().unwrap();
    let readings = said(&watched).lines().filter(|line| line.starts_with("reading {\"device_id\": \"py-1\"")).count();
    assert!(watched.status.success() && readings == 5, "{}", said(&watched));

    crate::support::settled(&guarded.api);
    let read = api(&guarded, &["metrics", "py-1", "--start=-5m", "--metric", "voltage_dc"]);
    assert_eq!(
        said(&read).lines().filter(|line| line.contains(" voltage_dc 7") && line.ends_with(" V")).count(),
        5,
        "{}",
        said(&read)
    );
    let device = guarded.api.get("/api/devices/py-1").expect(200).json();
    assert_eq!(device["connection_status"], "offline", "it has said that it goes");

    // Its session has waited, with a command in it; another key does not accept it.
    std::fs::write(meter.files.path().join("command-key"), "00".repeat(32)).unwrap();
    let sent = guarded.api.post("/api/devices/py-1/commands", &json!({"cmd": "request_status"})).expect(202).json();
    let again = meter.start("py-1", 1, 1).wait_with_output().unwrap();
    assert!(said(&again).contains("session present: True"), "{}", said(&again));
    let path = format!("/api/commands/{}", sent["cmd_id"].as_str().unwrap());
    eventually("the command is rejected", || guarded.api.get(&path).expect(200).json()["status"] == "rejected");
    assert_eq!(guarded.api.get(&path).expect(200).json()["detail"], "bad signature");
}

#[test]
fn the_api_client_in_python_walks_lists_and_waits_when_it_is_told_to() {
    let app = TestApp::builder().open().set("http.read_per_s", "2").set("http.read_burst", "1").start();
    let lines: Vec<String> =
        (0..1001).map(|n| json!({"device_id": format!("w-{n:04}"), "device_name": "w"}).to_string()).collect();
    for line in &lines {
        app.api
            .send("POST", "/api/devices", &[("Content-Type", "application/json")], Some(line.clone().into()))
            .expect(201);
    }
    let url = format!("http://{}", app.address("http"));
    let walked = good(python().arg(example("api.py")).args(["--url", &url, "devices"]));
    let mut ids: Vec<&str> = walked.lines().filter_map(|line| line.split(' ').next()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), walked.lines().count()), (1001, 1001), "three parts, where one is allowed at once");
    let refused = python().arg(example("api.py")).args(["--url", &url, "command", "w-0001", "dance"]).output().unwrap();
    assert!(said(&refused).starts_with("error: 400: "), "{}", said(&refused));
    assert_eq!(refused.status.code(), Some(1));
}

#[test]
fn the_api_client_in_python_outlives_a_server_that_is_killed_while_it_watches() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (http, mqtt) = (free_port().to_string(), free_port().to_string());
    let server = Server::start_with(&mut command_at(&data, &http, &mqtt), &data);
    let url = format!("http://{http}");
    let mut watch = python();
    watch.arg(example("api.py")).args(["--url", &url, "watch", "--kinds", "alerts", "--count", "3"]);
    let watching = watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("python3 is installed");
    let is_watched = |server: &Server| {
        eventually("it watches", || Figures::of(&server.api).get("streams_open") == Some(1.0));
    };
    let alert = |server: &Server, message: &str| {
        server.api.post("/api/devices/w-1/alerts", &json!({"message": message})).expect(201);
    };
    server.api.post("/api/devices", &json!({"device_id": "w-1", "device_name": "w"})).expect(201);
    is_watched(&server);
    alert(&server, "before");
    eventually("it is sent", || Figures::of(&server.api).get("stream_events_total{kind=\"alert\"}") == Some(1.0));
    // The answer breaks off in its middle, and for a while nobody is there.
    server.kill();
    let server = Server::start_with(&mut command_at(&data, &http, &mqtt), &data);
    is_watched(&server);
    alert(&server, "after");
    let ended = watching.wait_with_output().unwrap();
    let told = said(&ended);
    assert!(ended.status.success(), "{told}");
    let events: Vec<&str> = told.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(events, ["alert", "lost", "alert"], "{told}");
    assert!(told.contains("\"before\"") && told.contains("\"after\""), "{told}");
    server.kill();
    let refused = python().arg(example("api.py")).args(["--url", &url, "devices"]).output().unwrap();
    assert!(said(&refused).starts_with("error: "), "no trace of a program, but words: {}", said(&refused));
    assert_eq!(refused.status.code(), Some(1));
}

#[test]
fn the_tour_goes_through_with_curl_and_mosquitto_pub() {
    let app = TestApp::builder().start();
    let key = std::fs::read_to_string(app.data_dir().join("admin.key")).unwrap();
    let mut tour = Command::new("bash");
    tour.arg(example("tour.sh")).env("IOT_METER_API_KEY", key.trim()).stdin(Stdio::null());
    tour.env("IOT_METER_API", format!("http://{}", app.address("http")));
    tour.env("MQTT_PORT", app.mqtt_address().port().to_string());
    let told = good(&mut tour);
    for part in [
        "\"status\":\"healthy\"",
        "\"value\":90180",
        "/telemetry/",
        "\"acknowledged\":true",
        "\"pending\"",
        "\"errors\":[",
    ] {
        assert!(told.contains(part), "{part} is missing in:\n{told}");
    }
    assert_eq!(app.api.get("/api/devices?q=tour-").expect(200).json(), json!([]), "it leaves nothing behind");
}

#[test]
fn the_versions_of_python_packages_stand_in_one_place() {
    let requirements = std::fs::read_to_string(example("requirements.txt")).unwrap();
    let named: Vec<&str> = requirements.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(!named.is_empty() && named.iter().all(|line| line.contains("==")), "{named:?}");
    let told = good(python().args(["-c", "import paho.mqtt; print(paho.mqtt.__version__)"]));
    assert!(named.contains(&format!("paho-mqtt=={}", told.trim()).as_str()), "installed is {told}");
}

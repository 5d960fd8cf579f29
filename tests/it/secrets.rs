//! Known secrets in every place there is for one, and then a search for them in everything the process shows or keeps.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::support::process::{Server, command};
use crate::support::{Client, Connect, TestApp};

const SEALING_KEY: &str = "5ea15ea15ea15ea15ea15ea15ea15ea15ea15ea15ea15ea15ea15ea15ea15ea1";
const OLD_KEY: &str = "01d501d501d501d501d501d501d501d501d501d501d501d501d501d501d501d5";
const SOURCE_PASSWORD: &str = "source-password-hunter2";
const GITHUB_TOKEN: &str = "github-token-that-opens-issues";
const ALERTMANAGER_TOKEN: &str = "alertmanager-token-0123456789";
const WRONG_TOKEN: &str = "a-wrong-token-that-somebody-typed";

/// All files below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn holds(hay: &[u8], needle: &str) -> bool {
    hay.windows(needle.len()).any(|part| part == needle.as_bytes())
}

/// A server with credentials, secrets from the environment and from files, and its log at its most talkative.
fn talkative(dir: &Path, data: &Path, broker: SocketAddr, output: &str) -> Command {
    let output = dir.join(output);
    let config = dir.join("c.toml");
    let text = format!("[[source]]\nurl = \"mqtt://{broker}\"\nusername = \"me\"\npassword = \"{SOURCE_PASSWORD}\"\n");
    fs::write(&config, text).unwrap();
    fs::write(dir.join("old"), OLD_KEY).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_iot-meter"));
    command
        .args(["serve", "--http-listen", "127.0.0.1:0", "--mqtt-listen", "127.0.0.1:0", "--mqtts-listen", "off"])
        .arg("--data-dir")
        .arg(data)
        .arg("--config")
        .arg(&config)
        .current_dir(dir)
        .env("IOT_METER__SECRETS__KEY", SEALING_KEY)
        .env("IOT_METER__SECRETS__OLD_KEYS_FILE", dir.join("old"))
        .env("IOT_METER__GITHUB__TOKEN", GITHUB_TOKEN)
        .env("IOT_METER__GITHUB__REPOSITORY", "trains/alerts")
        .env("IOT_METER__GITHUB__API_URL", "http://127.0.0.1:9")
        .env("IOT_METER__ALERTMANAGER__TOKEN", ALERTMANAGER_TOKEN)
        .env("IOT_METER__LOG__LEVEL", "trace")
        .stdout(File::create(output.with_extension("out")).unwrap())
        .stderr(File::create(output.with_extension("err")).unwrap());
    command
}

/// The first start says the admin key once, which is meant; what comes later must not say it again.
fn make_admin_key(dir: &Path, data: &Path, broker: SocketAddr) -> String {
    let server = Server::start_with(&mut talkative(dir, data, broker, "first"), data);
    assert_eq!(server.terminate(), Some(0));
    fs::read_to_string(data.join("admin.key")).unwrap().trim().to_owned()
}

#[test]
fn no_secret_shows_in_output_answers_or_files_that_are_not_meant_to_hold_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let elsewhere = TestApp::open();
    let broker = elsewhere.mqtt_address();
    let admin_key = make_admin_key(dir.path(), &data, broker);
    let server = Server::start_with(&mut talkative(dir.path(), &data, broker, "log"), &data);
    let api = server.api.with_key(Some(&admin_key));
    let text = |value: &serde_json::Value, name: &str| value[name].as_str().unwrap().to_owned();

    let device = api.post("/api/devices", &json!({"device_id": "m1", "device_name": "M"})).expect(201).json();
    let service = api.post("/api/services", &json!({"name": "s", "read": ["a"], "write": ["a"]})).expect(201).json();
    let claim = api.post("/api/claims", &json!({"name": "c", "devices": "depot-*"})).expect(201).json();
    let key = api.post("/api/devices/m1/command-key", &json!({})).expect(201).json();
    let enrolment = json!({"device_id": "depot-1", "claim_token": claim["token"], "mqtt_token": true});
    let enrolled = api.with_key(None).post("/api/enrol", &enrolment).expect(201).json();
    let pem = text(&enrolled, "private_key");
    let secrets = [
        ("the admin key", admin_key.clone()),
        ("a device's token", text(&device, "token")),
        ("a service's token", text(&service, "token")),
        ("a claim", text(&claim, "token")),
        ("a command key in hexadecimal", text(&key, "command_key")),
        ("a command key in base64", text(&key, "command_key_base64")),
        ("an enrolled command key", text(&enrolled, "command_key")),
        ("an enrolled token", text(&enrolled, "mqtt_token")),
        ("an enrolled private key", pem.lines().nth(1).unwrap().to_owned()),
        ("the sealing key", SEALING_KEY.to_owned()),
        ("an old sealing key", OLD_KEY.to_owned()),
        ("a source's password", SOURCE_PASSWORD.to_owned()),
        ("GitHub's token", GITHUB_TOKEN.to_owned()),
        ("Alertmanager's token", ALERTMANAGER_TOKEN.to_owned()),
        ("a wrong token", WRONG_TOKEN.to_owned()),
    ];
    // The raw bytes too, where they could be kept as they are.
    let raw_key = hex::decode(text(&key, "command_key")).unwrap();

    let (m1, s) = (text(&device, "token"), text(&service, "token"));
    let (mut meter, _) = Client::connect(server.mqtt, &Connect::id("m1").login("m1", &m1));
    meter.subscribe("iot/m1/command", 2);
    api.post("/api/devices/m1/commands", &json!({"cmd": "reboot"}));
    meter.next_publish();
    let (mut program, _) = Client::connect(server.mqtt, &Connect::id("x").login("s", &s));
    assert!(!program.try_publish("forbidden", b"x", 1));
    for (name, password) in
        [("m1", WRONG_TOKEN), ("s", WRONG_TOKEN), ("m1", &s), ("s", &m1), (&*admin_key, &*admin_key)]
    {
        // The user name is noted, as far as it is no secret; so nothing secret is brought as one but a whole key.
        let name = if name == admin_key { "admin" } else { name };
        Client::try_connect(server.mqtt, &Connect::id("y").login(name, password));
    }
    let alert = json!({"status": "firing", "fingerprint": "ab", "startsAt": "2026-02-12T10:00:00Z", "labels": {}});
    let told = json!({"version": "4", "alerts": [alert]});
    api.with_key(Some(ALERTMANAGER_TOKEN)).post("/api/alertmanager/webhook", &told).expect(202);
    crate::support::eventually("GitHub is asked in vain", || {
        api.get("/api/webhooks").json()[0]["last_error"].is_string()
    });
    let claim_token = text(&claim, "token");
    let answers = [
        api.get("/metrics"),
        api.get("/api/system/status"),
        api.get("/api/devices/m1"),
        api.get("/api/services"),
        api.get("/api/claims"),
        api.get("/api/openapi.json"),
        api.get("/api/webhooks"),
        api.with_key(Some(WRONG_TOKEN)).get("/api/devices"),
        api.with_key(Some(&m1)).get("/api/devices"),
        api.with_key(None).post("/api/enrol", &enrolment),
        api.with_key(None).post("/api/enrol", &json!({"device_id": "depot-2", "claim_token": claim_token, "csr": "x"})),
        api.with_key(None).post("/api/enrol", &json!({"device_id": 1, "claim_token": [claim_token]})),
        api.post("/api/services", &json!({"name": 5, "read": [s]})),
        api.send("POST", "/api/claims", &[("Content-Type", "application/json")], Some(b"{".to_vec())),
    ];
    for answer in &answers {
        for (what, secret) in secrets.iter().filter(|(_, secret)| *secret != s) {
            assert!(!holds(&answer.body, secret), "{what} in {}", answer.text());
        }
    }
    assert_eq!(server.terminate(), Some(0));

    let mut searched = 0;
    let is_meant = |path: &Path, secret: &str| path.ends_with("admin.key") && secret == admin_key;
    let shown = ["log.out", "log.err"].map(|name| dir.path().join(name));
    for path in files(&data).into_iter().chain(shown) {
        let bytes = fs::read(&path).unwrap();
        searched += bytes.len();
        for (what, secret) in &secrets {
            assert!(!holds(&bytes, secret) || is_meant(&path, secret), "{what} in {}", path.display());
        }
        assert!(!bytes.windows(32).any(|part| part == raw_key), "a command key in {}", path.display());
    }
    assert!(searched > 100_000, "only {searched} bytes searched: the log is not talkative");
    assert!(!data.join("secrets.key").exists(), "the key of the settings is not written down");
}

#[test]
fn check_config_and_its_faults_show_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let check = |name: &str, value: &str, secret: &str, code: i32| {
        let mut command = command(dir.path());
        let path = command.get_program().to_owned();
        command = Command::new(path);
        let out = command.arg("check-config").env(name, value).current_dir(dir.path()).output().unwrap();
        let shown = [out.stdout, out.stderr].concat();
        assert_eq!(out.status.code(), Some(code), "{}", String::from_utf8_lossy(&shown));
        assert!(!holds(&shown, secret), "{}", String::from_utf8_lossy(&shown));
    };
    check("IOT_METER__SECRETS__KEY", SEALING_KEY, SEALING_KEY, 0);
    check("IOT_METER__SECRETS__KEY", "hunter2", "hunter2", 78);
    check("IOT_METER__SECRETS__OLD_KEYS", &format!("{SEALING_KEY},{OLD_KEY}"), OLD_KEY, 0);
    check("IOT_METER__SOURCE__0__PASSWORD", SOURCE_PASSWORD, SOURCE_PASSWORD, 78);
    check("IOT_METER__DATABASE__URL", "mysql://me:hunter2@db/meters", "hunter2", 78);
    let of_postgres = if cfg!(feature = "postgres") { 0 } else { 78 };
    check("IOT_METER__DATABASE__URL", "postgres://me:hunter2@db/meters", "hunter2", of_postgres);
    check("IOT_METER__DATABASE__URL", "sqlite://me:hunter2@host/a.db", "hunter2", 0);
    fs::write(dir.path().join("key"), format!("{SEALING_KEY}\n")).unwrap();
    check("IOT_METER__SECRETS__KEY_FILE", dir.path().join("key").to_str().unwrap(), SEALING_KEY, 0);
    check("IOT_METER__SECRETS__KEY_FILE", "/no/such/file", SEALING_KEY, 78);
}

#[test]
fn a_start_without_the_key_that_sealed_what_is_stored_is_refused_by_the_settings_name() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data);
    server.api.post("/api/devices", &json!({"device_id": "m1", "device_name": "M"})).expect(201);
    server.api.post("/api/devices/m1/command-key", &json!({})).expect(201);
    assert_eq!(server.terminate(), Some(0));
    let key = fs::read_to_string(data.join("secrets.key")).unwrap();
    fs::remove_file(data.join("secrets.key")).unwrap();
    let refused = command(&data).output().unwrap();
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(78), "{words}");
    assert!(words.contains("secrets.key: is missing"), "{words}");
    let server = Server::start_with(command(&data).env("IOT_METER__SECRETS__KEY", key.trim()), &data);
    assert_eq!(server.terminate(), Some(0));
}

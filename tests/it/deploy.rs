//! What is deployed fits the executable: settings that are named exist, ports and users are the same everywhere, secrets are made
//! and never kept here, and a stop has the time it needs. Shapes are checked by deploy/check, against schemas.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use iot_meter::config::{self, KEYS, Sources};

use crate::support::http::Api;
use crate::support::process::Server;

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Every file below a folder that git would keep, with its text.
pub fn texts(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path: PathBuf = entry.unwrap().path();
            let name = path.strip_prefix(root()).unwrap().display().to_string();
            match path.is_dir() {
                true if name == "deploy/compose/secrets" || name.ends_with("__pycache__") => {}
                true => folders.push(path),
                false => found.push((name.clone(), read(&name))),
            }
        }
    }
    found
}

/// Everything around the executable: what is deployed, and how it is built.
fn all() -> Vec<(String, String)> {
    let all: Vec<_> = [texts("deploy"), texts(".github"), vec![("Dockerfile".into(), read("Dockerfile"))]].concat();
    assert!(all.len() > 20, "only {} files were found", all.len());
    all
}

/// What follows each occurrence of `before`, as far as `is_part` holds.
pub fn after<'a>(text: &'a str, before: &str, is_part: impl Fn(char) -> bool) -> Vec<&'a str> {
    text.match_indices(before)
        .map(|(at, _)| {
            let rest = &text[at + before.len()..];
            &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())]
        })
        .collect()
}

fn numbers<'a>(text: &'a str, before: &str) -> Vec<&'a str> {
    after(text, before, |c| c.is_ascii_digit())
}

#[test]
fn every_setting_that_is_named_exists() {
    let known: BTreeSet<String> = KEYS.iter().map(config::Key::env).collect();
    let may_be_a_file: BTreeSet<String> =
        KEYS.iter().filter(|key| key.is_secret()).map(|key| format!("{}_FILE", key.env())).collect();
    let mut seen = 0;
    for (file, text) in all() {
        for name in after(&text, "IOT_METER__", |c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_') {
            let name = format!("IOT_METER__{name}");
            // `IOT_METER__…_FILE` in a sentence.
            if name == "IOT_METER__" {
                continue;
            }
            seen += 1;
            assert!(known.contains(&name) || may_be_a_file.contains(&name), "{file} names {name}, which is no setting");
        }
    }
    assert!(seen > 20, "only {seen} settings were found");
}

#[test]
fn the_image_the_manifests_and_the_files_in_it_agree_on_one_user() {
    let uid = "10001";
    assert!(read("Dockerfile").contains(&format!("\nUSER {uid}:{uid}\n")));
    assert!(read("Dockerfile").contains(&format!("--chown={uid}:{uid} /state/ /var/lib/")));
    assert!(read("deploy/image/root").contains(&format!("iot-meter:x:{uid}:{uid}:")));
    assert!(read("deploy/compose/compose.yml").contains(&format!("user: \"{uid}:{uid}\"")));
    let set = read("deploy/kubernetes/base/statefulset.yaml");
    for before in ["runAsUser: ", "runAsGroup: ", "fsGroup: "] {
        assert_eq!(numbers(&set, before), [uid], "{before}");
    }
}

#[test]
fn ports_are_those_of_the_defaults() {
    let defaults = config::load(&Sources { working_dir: "/srv".into(), ..Sources::default() }).unwrap().settings;
    let (http, mqtt) = (defaults.http.listen.port(), defaults.mqtt.listen.port());
    let mqtts = config::TLS_LISTEN.port();
    assert!(read("Dockerfile").contains(&format!("\nEXPOSE {http} {mqtt} {mqtts}\n")));
    let set = read("deploy/kubernetes/base/statefulset.yaml");
    let services = read("deploy/kubernetes/base/services.yaml");
    for (name, port) in [("http", http), ("mqtt", mqtt), ("mqtts", mqtts)] {
        assert!(set.contains(&format!("{{name: {name}, containerPort: {port}}}")), "{name}");
        assert!(services.contains(&format!("{{name: {name}, port: {port}, targetPort: {name}}}")), "{name}");
        let published = format!("\"127.0.0.1:{port}:{port}\"");
        assert!(read("deploy/compose/compose.yml").contains(&published), "{name}");
    }
    // The listener for Prometheus has no default: whoever is scraped says where, and Prometheus asks there.
    let of_compose = numbers(&read("deploy/compose/compose.full.yml"), "METRICS__LISTEN: 0.0.0.0:").concat();
    let of_kubernetes =
        numbers(&read("deploy/kubernetes/base/kustomization.yaml"), "METRICS__LISTEN=0.0.0.0:").concat();
    assert_eq!(of_compose, of_kubernetes);
    assert!(read("deploy/compose/targets.yml").contains(&format!("[iot-meter:{of_compose}]")));
    let targets = read("deploy/kubernetes/components/monitoring/targets.yml");
    assert!(targets.contains(&format!("[iot-meter-0.iot-meter:{of_kubernetes}]")));
    assert!(set.contains(&format!("{{name: metrics, containerPort: {of_kubernetes}}}")));
}

#[test]
fn the_version_that_is_deployed_is_this_one() {
    let version = env!("CARGO_PKG_VERSION");
    assert!(read("deploy/compose/compose.yml").contains(&format!("image: iot-meter:{version}\n")));
    for file in ["base", "overlays/development"] {
        let tags = read(&format!("deploy/kubernetes/{file}/kustomization.yaml"));
        assert!(tags.contains(&format!("newTag: {version}\n")), "{file}");
    }
}

#[test]
fn a_stop_has_the_time_it_needs() {
    let source = read("src/serve/mod.rs");
    let stop: u64 = numbers(&source, "const STOP_WITHIN: Duration = Duration::from_secs(").concat().parse().unwrap();
    let check = |file: &str, before: &str, taken_before: u64| {
        let given: u64 = numbers(&read(file), before).concat().parse().unwrap();
        assert!(given >= stop + taken_before + 5, "{file}: {given} s for a stop of {stop} s");
    };
    check("deploy/compose/compose.yml", "stop_grace_period: ", 0);
    check("deploy/systemd/iot-meter.service", "TimeoutStopSec=", 0);
    let set = read("deploy/kubernetes/base/statefulset.yaml");
    let sleep = numbers(&set, "sleep: {seconds: ").concat().parse().unwrap();
    check("deploy/kubernetes/base/statefulset.yaml", "terminationGracePeriodSeconds: ", sleep);
}

#[test]
fn probes_ask_for_what_the_api_answers() {
    let routes = read("src/api/health.rs");
    let set = read("deploy/kubernetes/base/statefulset.yaml");
    let paths = after(&set, "httpGet: {path: ", |c| c != ',');
    assert_eq!(paths, ["/healthz", "/readyz", "/healthz"]);
    assert!(paths.iter().all(|path| routes.contains(&format!("#[get(\"{path}\")]"))));
}

#[test]
fn nothing_that_is_kept_here_is_a_secret() {
    let script = read("deploy/compose/make-secrets");
    let made = after(&script, "\nsecret ", |c| c != ' ');
    let is_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    for (file, text) in all() {
        for secret in after(&text, "iotm_", is_token) {
            assert!(secret.len() < 40, "{file} has an API key");
        }
        for (_, rest) in text.match_indices("://").map(|(at, _)| text[at + 3..].split_at(0)) {
            let authority = &rest[..rest.find(|c: char| c.is_whitespace() || c == '/').unwrap_or(rest.len())];
            let password = authority.split_once('@').and_then(|(user, _)| user.split_once(':')).map(|(_, word)| word);
            assert!(password.is_none_or(|word| word.starts_with('$')), "{file} has a password in {authority}");
        }
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with(['#', '"'])) {
            let words = ["password:", "password=", "PASSWORD:", "PASSWORD=", "secret_key:", "SECRET_KEY="];
            let is_given = words.iter().any(|word| {
                let value = line.split_once(word).map_or("", |(_, value)| value.trim());
                // A variable, an expression, the name of a file that make-secrets makes.
                let is_none = value.is_empty() || value.starts_with(['$', '{', '"', '[', '(']);
                !is_none && !made.contains(&value)
            });
            assert!(!is_given, "{file}:{}: {}", at + 1, line.trim());
        }
    }
    assert!(read(".gitignore").lines().any(|line| line == "/deploy/compose/secrets"));
}

/// A folder with the secrets that make-secrets makes.
fn made_secrets(dir: &Path) -> PathBuf {
    let script = dir.join("make-secrets");
    if !script.exists() {
        fs::copy(root().join("deploy/compose/make-secrets"), &script).unwrap();
    }
    // By the shell: a child of another test may hold the copy open as it was written, and then it cannot be executed.
    assert!(Command::new("sh").arg(&script).stdout(Stdio::null()).status().unwrap().success());
    dir.join("secrets")
}

/// The settings of a text: a line each, a name and its value after `between`. Files of secrets are those that were made.
fn settings(text: &str, between: &str, secrets: &Path) -> Vec<(String, String)> {
    // What they are called in Kubernetes, where each secret is a folder.
    let made = |name: &str| {
        match name.rsplit('/').next().unwrap() {
            "database_url" => "iot_meter_database_url",
            "sealing_key" => "iot_meter_sealing_key",
            "keys" => "iot_meter_keys",
            "alerts_key" => "iot_meter_alerts_key",
            name if name.starts_with("archive_") => "iot_meter_archive_key",
            _ => return name.to_owned(),
        }
        .to_owned()
    };
    let line = |line: &str| {
        let (name, value) = line.trim().trim_start_matches("- ").split_once(between)?;
        let value = value.trim_end_matches([' ', '\\']);
        let value = match value.strip_prefix("/run/secrets/") {
            Some(file) => secrets.join(made(file)).display().to_string(),
            None => value.to_owned(),
        };
        name.starts_with("IOT_METER__").then(|| (name.to_owned(), value))
    };
    text.lines().filter_map(line).collect()
}

#[test]
fn the_settings_of_every_deployment_are_good() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = made_secrets(dir.path());
    let image = read("Dockerfile").replace("ENV ", "    ");
    let of_image = settings(&image, "=", &secrets);
    let of_compose = settings(&read("deploy/compose/compose.full.yml"), ": ", &secrets);
    let literals = |file: &str| settings(&read(&format!("deploy/kubernetes/{file}/kustomization.yaml")), "=", &secrets);
    let (base, production) = (literals("base"), literals("components/production"));
    let check = |what: &str, parts: &[&[(String, String)]], at_least: usize| {
        let mut all = parts.concat();
        assert!(all.len() >= at_least, "{what}: only {all:?}");
        // The image has these features; this program may be built without them.
        all.retain(|(name, _)| {
            (cfg!(feature = "postgres") || !name.starts_with("IOT_METER__DATABASE__URL"))
                && (cfg!(feature = "s3") || name != "IOT_METER__ARCHIVE__URL")
        });
        let files = all.iter().filter(|(name, value)| name.ends_with("_FILE") && !Path::new(value).exists());
        assert_eq!(files.count(), 0, "{what}: a secret is not made: {all:?}");
        let mut command = Command::new(env!("CARGO_BIN_EXE_iot-meter"));
        let said = command.arg("check-config").env_clear().envs(all.iter().cloned()).current_dir(dir.path());
        let said = said.output().unwrap();
        assert!(said.status.success(), "{what}: {}", String::from_utf8_lossy(&said.stderr));
        let shown = String::from_utf8(said.stdout).unwrap();
        for (name, value) in &all {
            // (Of a file's text the file is told.)
            let is_told = |source: String| shown.lines().any(|line| line.ends_with(&source));
            let is_in_force = is_told(format!("environment {name}")) || is_told(format!("environment {name}: {value}"));
            assert!(is_in_force, "{what}: {name} is not in force:\n{shown}");
        }
    };
    check("image", &[&of_image], 3);
    check("compose", &[&of_image, &of_compose], 10);
    check("development", &[&of_image, &base, &literals("overlays/development")], 8);
    check("production", &[&of_image, &base, &production], 12);
}

#[test]
fn the_secrets_that_are_made_are_taken_and_open_their_doors_at_the_first_start() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = made_secrets(dir.path());
    let read_secret = |name: &str| fs::read_to_string(secrets.join(name)).unwrap().trim().to_owned();
    let keys = read_secret("iot_meter_keys");
    made_secrets(dir.path());
    assert_eq!(read_secret("iot_meter_keys"), keys, "made anew: whoever has the old ones is out");

    let data = dir.path().join("data");
    // Postgres and MinIO are not here, and Prometheus would want a port.
    let is_elsewhere = |name: &str| ["DATABASE", "ARCHIVE", "METRICS"].iter().any(|other| name.contains(other));
    let given = settings(&read("deploy/compose/compose.full.yml"), ": ", &secrets);
    let mut serve = Command::new(env!("CARGO_BIN_EXE_iot-meter"));
    serve
        .args(["serve", "--http-listen", "127.0.0.1:0", "--mqtt-listen", "127.0.0.1:0", "--mqtts-listen", "off"])
        .arg("--data-dir")
        .arg(&data)
        .envs(given.into_iter().filter(|(name, _)| !is_elsewhere(name)))
        .env("IOT_METER__LOG__LEVEL", "warn")
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let server = Server::start_with(&mut serve, &data);
    let with = |name: &str| -> Api { server.api.with_key(Some(&read_secret(name))) };
    let (admin, alerts, grafana) = (with("admin_key"), with("iot_meter_alerts_key"), with("iot_meter_grafana_key"));
    admin.get("/api/keys").expect(200);
    let nothing = serde_json::json!({"version": "4", "status": "firing", "alerts": []});
    alerts.post("/api/alertmanager/webhook", &nothing).expect(202);
    grafana.post("/api/alertmanager/webhook", &nothing).expect(403);
    alerts.get("/api/devices").expect(401);
    let device = serde_json::json!({"device_id": "m-1", "device_name": "m-1"});
    grafana.get("/api/devices").expect(200);
    grafana.post("/api/devices", &device).expect(403);
    server.api.get("/api/devices").expect(401);
    assert!(!data.join("admin.key").exists(), "one admin key is enough");
    assert!(!data.join("secrets.key").exists(), "the sealing key is given");
    assert_eq!(server.terminate(), Some(0));
}

//! Every panel shows something: a real Prometheus scrapes a real server with a demo fleet, and every query of every
//! dashboard is asked as Grafana would ask it.
//!
//! Needs `prometheus` and `python3` on the PATH and fails without them.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use iot_meter::domain::Timestamp;
use serde_json::{Value, json};

use super::{list, promql, rest, text};
use crate::support::foreign::free_port;
use crate::support::process::{self, Server};
use crate::support::{Api, eventually};

/// How long all queries together may take to find something.
const PATIENCE: Duration = Duration::from_secs(90);
/// The devices of the questions to the API, with what they measure: of a vehicle under an AC line, and of one under a DC line.
/// The first is the one of a demo that has trouble.
const DEVICES: [(&str, &[&str]); 2] = [
    ("demo-ac15-0004", &["battery", "current_ac", "frequency", "pf", "temperature", "thd_i", "thd_v", "voltage_ac"]),
    ("demo-dc750-0001", &["battery", "current_dc", "temperature", "voltage_dc"]),
];
const DEVICE: &str = DEVICES[0].0;
/// What a healthy device at rest does not have.
const OF_TROUBLE: [&str; 4] =
    ["device: Alerts", "device: Commands", "device: Missing messages", "device: annotation Alerts of the device"];

/// What Kubernetes would tell: recorded by Prometheus itself, so that the names and labels are looked for as they are there.
const KUBERNETES: &str = r#"
groups:
  - name: kubernetes
    interval: 1s
    rules:
      - {record: kube_statefulset_replicas, expr: vector(1), labels: {namespace: meters, statefulset: iot-meter}}
      - {record: kube_statefulset_status_replicas_ready, expr: vector(1), labels: {namespace: meters, statefulset: iot-meter}}
      - {record: kube_pod_container_status_restarts_total, expr: vector(0), labels: {pod: iot-meter-0, container: iot-meter}}
      - {record: container_memory_working_set_bytes, expr: vector(4e7), labels: {pod: iot-meter-0, container: iot-meter}}
      - {record: kubelet_volume_stats_used_bytes, expr: vector(1), labels: {persistentvolumeclaim: data-iot-meter-0}}
      - {record: kubelet_volume_stats_capacity_bytes, expr: vector(2), labels: {persistentvolumeclaim: data-iot-meter-0}}
"#;

/// A running Prometheus.
struct Prometheus {
    child: Child,
    api: Api,
}

impl Prometheus {
    /// Scrapes `target` every second, with the rules of the repository.
    fn start(dir: &Path, target: SocketAddr) -> Self {
        let address = free_port();
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus/rules.yml");
        let config = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [rules, dir.join("kubernetes.yml")],
            "scrape_configs": [{"job_name": "iot-meter", "static_configs": [{"targets": [target.to_string()]}]}],
        });
        std::fs::write(dir.join("kubernetes.yml"), KUBERNETES).unwrap();
        // JSON is YAML.
        std::fs::write(dir.join("prometheus.yml"), config.to_string()).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("prometheus").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--log.level=error"])
            .stdin(Stdio::null())
            .spawn()
            .expect("these tests need Debian's package prometheus");
        let api = Api::new(address, None);
        let started = Self { child, api };
        eventually("Prometheus is ready", || {
            started.api.try_send("GET", "/-/ready", &[], None).is_ok_and(|answer| answer.status == 200)
        });
        started
    }

    /// Whether a query over the last half minute finds at least one number. Fails the test where it is no good query.
    fn finds(&self, place: &str, expr: &str) -> bool {
        let now = now_ms() / 1000;
        let query = escaped(expr);
        let path = format!("/api/v1/query_range?query={query}&start={}&end={now}&step=1", now - 30);
        let answer = self.api.get(&path);
        assert_eq!(answer.status, 200, "{place}: {expr}: {}", answer.text());
        let answer = answer.json();
        let series = list(&answer["data"], "result");
        let mut values = series.iter().flat_map(|one| list(one, "values"));
        values.any(|pair| pair[1].as_str().and_then(|v| v.parse().ok()).is_some_and(|v: f64| !v.is_nan()))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn now_ms() -> i64 {
    iot_meter::domain::Clock::system().now().0 / 1000
}

/// For a query string.
fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

/// With Grafana's variables replaced, as for a dashboard that shows the last hour.
fn interpolated(text: &str, device: &str) -> String {
    let now = now_ms();
    let (from, to) = ((now - 3_600_000).to_string(), now.to_string());
    let values = [
        ("$__rate_interval", "10s"),
        ("$__range", "1h"),
        ("$instance", ".*"),
        ("${__from}", &from),
        ("${__to}", &to),
        ("${__interval}", "1s"),
        ("${device}", device),
        ("${search}", ""),
        ("${connection}", ""),
        ("${period}", "1m"),
    ];
    let done = values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
    assert!(!done.contains('$'), "a variable nobody knows: {done}");
    done
}

/// The rows of an answer of the API to a query.
fn rows(api: &Api, place: &str, query: &Value, device: &str) -> Vec<Value> {
    let part = |parameter: &Value| {
        format!("{}={}", text(parameter, "key"), escaped(&interpolated(text(parameter, "value"), device)))
    };
    let parameters: Vec<String> = list(&query["url_options"], "params").iter().map(part).collect();
    let path = format!("{}?{}", interpolated(text(query, "url"), device), parameters.join("&"));
    let answer = api.get(&path);
    assert_eq!(answer.status, 200, "{place}: {path}: {}", answer.text());
    match answer.json() {
        Value::Array(rows) => rows,
        one => vec![one],
    }
}

/// Whether a query of the API has rows, with a value in every column that can have one.
fn answers(api: &Api, place: &str, query: &Value, device: &str) -> bool {
    // Of a healthy fleet, or before anything has come of a command.
    const MAY_BE_NULL: [&str; 3] = ["location", "detail", "finished_at"];
    let rows = rows(api, place, query, device);
    let is_there = |column: &Value| {
        let name = text(column, "selector");
        rows.iter().any(|row| match text(column, "type") {
            _ if row[name].is_null() => MAY_BE_NULL.contains(&name) && row.get(name).is_some(),
            "number" => row[name].is_number(),
            "timestamp" => row[name].as_str().and_then(Timestamp::parse_rfc3339).is_some(),
            "boolean" => row[name].is_boolean(),
            _ => row[name].is_string(),
        })
    };
    list(query, "columns").iter().all(is_there)
}

/// What a variable offers where it is asked of the API: values in the order of the list.
fn offered(api: &Api, name: &str, device: &str) -> Vec<String> {
    let place = format!("device: variable {name}");
    let (_, query) = rest().into_iter().find(|(found, _)| *found == place).unwrap();
    let value = list(&query, "columns").iter().find(|column| text(column, "text") == "__value").unwrap();
    let rows = rows(api, &place, &query, device);
    let mut values: Vec<_> = rows.iter().map(|row| text(row, text(value, "selector")).to_owned()).collect();
    values.sort();
    values
}

/// A query as often as its panel is there.
fn repeated(place: String, query: Value, quantities: &[&str]) -> Vec<(String, Value)> {
    const VARIABLE: &str = "${quantity}";
    let written = query.to_string();
    if !written.contains(VARIABLE) {
        return vec![(place, query)];
    }
    let one =
        |name: &&str| (format!("{place} = {name}"), serde_json::from_str(&written.replace(VARIABLE, name)).unwrap());
    quantities.iter().map(one).collect()
}

/// Asks until every query has found something, or it has taken too long; what has not.
fn still_empty<Q>(mut queries: Vec<(String, Q)>, mut finds: impl FnMut(&str, &Q) -> bool) -> Vec<String> {
    let end = Instant::now() + PATIENCE;
    while !queries.is_empty() && Instant::now() < end {
        queries.retain(|(place, query)| !finds(place, query));
        std::thread::sleep(Duration::from_millis(100));
    }
    queries.into_iter().map(|(place, _)| place).collect()
}

/// A server with a demo fleet of which everything is known, and its address for scrapes.
fn demo(dir: &Path) -> (Server, SocketAddr) {
    let mut command = process::demo(dir, 20, "127.0.0.1:0");
    command.args(["--set", "archive.flush_age_s=1"]);
    let server = Server::start_with(&mut command, dir);
    let announced: Value = serde_json::from_slice(&std::fs::read(dir.join("run/addresses.json")).unwrap()).unwrap();
    eventually("the fleet is there", || {
        DEVICES.iter().all(|(device, _)| {
            let known = server.api.get(&format!("/api/devices/{device}/status"));
            known.status == 200 && known.json()["last_seq"].is_u64()
        })
    });
    (server, text(&announced, "http").parse().unwrap())
}

#[test]
fn no_panel_is_empty_over_a_demo_fleet() {
    let dir = tempfile::tempdir().unwrap();
    let (server, http) = demo(&dir.path().join("data"));
    let prometheus = Prometheus::start(dir.path(), http);

    let asked = promql().into_iter().filter(|(place, _)| !place.contains(": variable "));
    let (notes, panels) = asked.partition::<Vec<_>, _>(|(place, _)| place.contains(": annotation "));
    let empty = still_empty(panels, |place, expr| {
        // Somebody uses the API meanwhile.
        server.api.get("/api/devices");
        server.api.get("/api/energy");
        server.api.get(&format!("/api/devices/{DEVICE}/energy"));
        server.api.post(&format!("/api/devices/{DEVICE}/alerts"), &json!({"message": "look again"}));
        prometheus.finds(place, &interpolated(expr, DEVICE))
    });
    assert!(empty.is_empty(), "without data: {empty:#?}");
    // Annotations need not find anything, but must be good queries.
    for (place, expr) in &notes {
        prometheus.finds(place, &interpolated(expr, DEVICE));
    }
    let scraped = prometheus.api.get("/api/v1/label/instance/values").expect(200).json();
    assert_eq!(scraped["data"], json!([http.to_string()]), "the variable instance");
}

#[test]
fn no_question_to_the_api_is_left_without_rows() {
    let dir = tempfile::tempdir().unwrap();
    let (server, _) = demo(dir.path());
    for (device, quantities) in DEVICES {
        eventually("it has measured what it can", || offered(&server.api, "quantity", device) == quantities);
        let asked = rest().into_iter().filter(|(place, _)| device == DEVICE || !OF_TROUBLE.contains(&place.as_str()));
        let asked = asked.flat_map(|(place, query)| repeated(place, query, quantities)).collect();
        let empty = still_empty(asked, |place, query| answers(&server.api, place, query, device));
        assert!(empty.is_empty(), "of {device} without rows: {empty:#?}");
    }
}

#[test]
fn the_committed_dashboards_are_what_their_sources_make() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/grafana/build.py");
    let checked = Command::new("python3").arg(script).arg("--check").output().expect("this test needs python3");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()));
}

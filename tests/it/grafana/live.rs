//! Every panel shows something: a real Prometheus scrapes a real server with a demo fleet, and every query of every
//! dashboard is asked as Grafana would ask it.
//!
//! Needs `prometheus` and `python3` on the PATH and fails without them.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use iot_meter::domain::Timestamp;
use serde_json::{Value, json};

use super::{Board, boards, list, promql, rest, text};
use crate::support::process::{self, Server};
use crate::support::{Api, Client, Connect, eventually, telemetry};

/// How long all queries together may take to find something.
const PATIENCE: Duration = Duration::from_secs(90);
/// The device of the questions to the API, of a vehicle under an AC line: it measures what others do, and more.
const DEVICE: &str = "demo-ac15-0004";
/// A device of a vehicle under a DC line.
const DC_DEVICE: &str = "demo-dc750-0001";

/// Panels that have nothing to show over a demo fleet, with the reason: no number would be true. Each is in a closed row that
/// says where there is something.
const EMPTY: [(&str, &str); 1] =
    [("broker: Time left", "a server started with --open has no certificates, and 0 would say that they end now")];
/// The same of a device under a DC line.
const EMPTY_OF_DC: [(&str, &str); 4] = [
    ("device: Frequency", "a DC line has none"),
    ("device: Power factor", "a DC line has none"),
    ("device: Harmonic distortion", "a DC line has none"),
    ("device: annotation Alerts of the device", "the test raises them for the other"),
];

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
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
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

/// What a healthy fleet at rest does not have: an alert, a command, missing messages.
fn trouble(api: &Api, mqtt: SocketAddr) {
    api.post(&format!("/api/devices/{DEVICE}/alerts"), &json!({"severity": "warning", "message": "look"})).expect(201);
    api.post(&format!("/api/devices/{DEVICE}/commands"), &json!({"cmd": "request_status"}));
    let last = api.get(&format!("/api/devices/{DEVICE}/status")).expect(200).json()["last_seq"].as_u64().unwrap();
    let (mut other, _) = Client::connect(mqtt, &Connect::id("from-the-future"));
    let ahead = telemetry(DEVICE, Timestamp(now_ms() * 1000), u32::try_from(last).unwrap() + 30, 15_000.0);
    other.publish(&format!("iot/{DEVICE}/telemetry"), ahead.as_bytes(), 1);
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
    let mut command = process::command(dir);
    command.args(["--demo", "20", "--set", "archive.flush_age_s=1"]);
    let server = Server::start_with(&mut command, dir);
    let announced: Value = serde_json::from_slice(&std::fs::read(dir.join("run/addresses.json")).unwrap()).unwrap();
    eventually("the fleet is there", || {
        let known = server.api.get(&format!("/api/devices/{DEVICE}/status"));
        known.status == 200 && known.json()["last_seq"].is_u64()
    });
    (server, text(&announced, "http").parse().unwrap())
}

#[test]
fn no_panel_is_empty_over_a_demo_fleet() {
    let dir = tempfile::tempdir().unwrap();
    let (server, http) = demo(&dir.path().join("data"));
    let prometheus = Prometheus::start(dir.path(), http);
    trouble(&server.api, server.mqtt);

    let is_panel = |place: &str| !place.contains(": annotation ") && !place.contains(": variable ");
    let is_expected = |place: &str| EMPTY.iter().any(|(name, _)| *name == place);
    let asked: Vec<_> = promql().into_iter().filter(|(place, _)| !place.contains(": variable ")).collect();
    let (expected, rest_of) = asked.into_iter().partition::<Vec<_>, _>(|(place, _)| is_expected(place));
    let (panels, notes) = rest_of.into_iter().partition::<Vec<_>, _>(|(place, _)| is_panel(place));
    let empty = still_empty(panels, |place, expr| {
        // Somebody uses the API meanwhile.
        server.api.get("/api/devices");
        server.api.get("/api/energy");
        server.api.get(&format!("/api/devices/{DEVICE}/energy"));
        server.api.post(&format!("/api/devices/{DEVICE}/alerts"), &json!({"message": "look again"}));
        prometheus.finds(place, &interpolated(expr, DEVICE))
    });
    assert!(empty.is_empty(), "without data: {empty:#?}");
    for (place, expr) in &expected {
        assert!(!prometheus.finds(place, &interpolated(expr, DEVICE)), "{place} has data: take it off the list");
    }
    assert_eq!(expected.len(), EMPTY.len(), "the list of empty panels names one that is not there");
    let boards = boards();
    let in_the_open = |(place, _): &&(&str, &str)| !boards.iter().any(|board: &Board| board.has_in_closed_row(place));
    assert_eq!(EMPTY.iter().find(in_the_open), None, "everybody sees that it is empty");
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
    trouble(&server.api, server.mqtt);
    let empty = still_empty(rest(), |place, query| answers(&server.api, place, query, DEVICE));
    assert!(empty.is_empty(), "of {DEVICE} without rows: {empty:#?}");

    let (other, of_dc): (Vec<_>, Vec<_>) =
        rest().into_iter().partition(|(place, _)| EMPTY_OF_DC.iter().any(|(name, _)| name == place));
    assert_eq!(other.len(), EMPTY_OF_DC.len(), "the list of empty panels names one that is not there");
    // The lists of what happened are the other's, too.
    let lists = ["device: Alerts", "device: Commands", "device: Missing messages"];
    let of_dc = of_dc.into_iter().filter(|(place, _)| !lists.contains(&place.as_str())).collect();
    let empty = still_empty(of_dc, |place, query| answers(&server.api, place, query, DC_DEVICE));
    assert!(empty.is_empty(), "of {DC_DEVICE} without rows: {empty:#?}");
}

#[test]
fn the_committed_dashboards_are_what_their_sources_make() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/grafana/build.py");
    let checked = Command::new("python3").arg(script).arg("--check").output().expect("this test needs python3");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()));
}

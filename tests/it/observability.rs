//! What operators see: traces taken up and answered, log lines by machine, the level changed while the server runs, and figures
//! that change when the thing happens.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::process::{self, Server};
use crate::support::{Api, Connect, Figures, TestApp, eventually, mqtt, telemetry};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn an_answer_says_its_place_in_the_callers_trace() {
    let app = TestApp::open();
    let ask = |headers: &[(&str, &str)]| {
        let answer = app.api.send("GET", "/api/stats", headers, None).expect(200);
        let place = answer.header("traceresponse").expect("every answer has one").to_owned();
        assert!(place.len() == 55 && place.starts_with("00-"), "{place}");
        place
    };
    let place = ask(&[("traceparent", PARENT)]);
    assert!(place.starts_with(&format!("00-{TRACE}-")) && place.ends_with("-01"), "{place}");
    assert_ne!(place, PARENT, "a span of its own");
    assert!(ask(&[("traceparent", &PARENT.replace("-01", "-00"))]).ends_with("-00"));
    assert!(!ask(&[("traceparent", "00-nonsense")]).contains(TRACE), "a new trace");
    assert!(ask(&[]).ends_with("-02"), "nobody has asked for a record of it");
    let refused = app.api.send("GET", "/nowhere", &[("traceparent", PARENT)], None).expect(404);
    assert!(refused.header("traceresponse").unwrap().contains(TRACE), "{refused:?}");
}

/// A server as a process, its log in a file.
fn logging(dir: &Path) -> (Server, impl Fn() -> Vec<Value> + use<>) {
    let (data, log) = (dir.join("data"), dir.join("log"));
    let mut command = process::command(&data);
    command
        .env("IOT_METER__LOG__LEVEL", "warn,iot_meter::api::edge=debug")
        .stderr(std::fs::File::create(&log).unwrap());
    let server = Server::start_with(&mut command, &data);
    let read = move || {
        let text = std::fs::read_to_string(&log).unwrap();
        let whole = text.lines().filter(|line| line.ends_with('}'));
        whole.map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    };
    (server, read)
}

#[test]
fn the_log_line_of_a_request_has_stable_fields_and_leads_to_its_trace() {
    let dir = tempfile::tempdir().unwrap();
    let (server, lines) = logging(dir.path());
    let headers = [("traceparent", PARENT), ("X-Request-Id", "ask-1")];
    let answer = server.api.send("GET", "/api/devices/nobody", &headers, None).expect(404);
    let span = answer.header("traceresponse").unwrap().split('-').nth(2).unwrap().to_owned();
    let mut line = Value::Null;
    eventually("the request is in the log", || {
        line = lines().into_iter().find(|line| line["request_id"] == "ask-1").unwrap_or_default();
        !line.is_null()
    });
    assert!(line["timestamp"].as_str().is_some_and(|t| t.ends_with('Z')) && line["ms"].is_u64(), "{line}");
    let expected = json!({
        "timestamp": line["timestamp"], "level": "DEBUG", "target": "iot_meter::api::edge", "message": "request",
        "request_id": "ask-1", "method": "GET", "path": "/api/devices/nobody", "status": 404, "ms": line["ms"],
        "trace_id": TRACE, "span_id": span,
    });
    assert_eq!(line, expected);
    for line in lines() {
        for (name, _) in iot_meter::observe::log::fields::ALWAYS {
            assert!(line[*name].is_string(), "no {name}: {line}");
        }
    }
}

#[test]
fn the_log_level_is_changed_over_the_api_and_by_signals() {
    let dir = tempfile::tempdir().unwrap();
    let (server, lines) = logging(dir.path());
    let level = || server.api.get("/api/system/log-level").expect(200).json()["level"].as_str().unwrap().to_owned();
    assert_eq!(level(), "warn,iot_meter::api::edge=debug");
    let requests = || lines().iter().filter(|line| line["message"] == "request").count();
    eventually("requests are logged", || requests() > 0);
    let changed = server.api.put("/api/system/log-level", &json!({"level": "error"})).expect(200).json();
    assert_eq!((changed["level"].as_str(), level().as_str()), (Some("error"), "error"));
    let before = requests();
    server.api.get("/api/stats").expect(200);
    assert_eq!(requests(), before, "nothing is logged any more");
    for bad in [json!({"level": "loud"}), json!({}), json!({"level": "info", "for": 1}), json!({"level": 3})] {
        server.api.put("/api/system/log-level", &bad).expect(422);
    }
    let pid = std::fs::read_to_string(dir.path().join("data/run/pid")).expect("is there").trim().to_owned();
    for (signal, expected) in [("-USR1", "warn"), ("-USR1", "info"), ("-USR1", "debug"), ("-USR2", "info")] {
        assert!(Command::new("kill").args([signal, &pid]).stdin(Stdio::null()).status().unwrap().success());
        eventually("the signal is heeded", || level() == expected);
    }
    eventually("the signal is in the log", || {
        lines().iter().any(|l| l["message"] == "a signal has changed the log level" && l["value"] == "info")
    });
    let audit = server.api.get("/api/audit?action=PUT%20/api/system/log-level").expect(200).json();
    assert!(audit.to_string().contains("from warn,iot_meter::api::edge=debug to error"), "{audit}");
}

#[test]
fn only_an_administrator_sees_and_changes_the_log_level() {
    let app = TestApp::builder().start();
    let made = app.api.post("/api/keys", &json!({"name": "watcher", "role": "operator"})).expect(201).json();
    let operator = app.api.with_key(made["key"].as_str());
    operator.get("/api/system/log-level").expect(403);
    operator.put("/api/system/log-level", &json!({"level": "trace"})).expect(403);
    app.api.with_key(None).get("/api/system/log-level").expect(401);
}

#[test]
fn the_page_is_open_metrics_with_exemplars_for_those_who_accept_it() {
    let app = TestApp::builder().open().set("metrics.listen", "127.0.0.1:0").start();
    app.api.send("GET", "/api/stats", &[("traceparent", PARENT)], None).expect(200);
    let scrapes = Api::new(app.address("metrics"), None);
    for api in [&app.api, &scrapes] {
        let accept = [("Accept", "application/openmetrics-text; version=1.0.0")];
        let answer = api.send("GET", "/metrics", &accept, None).expect(200);
        let kind = answer.header("content-type").unwrap().to_owned();
        assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
        let page = answer.text();
        assert!(page.ends_with("\n# EOF\n"), "{page}");
        assert!(page.contains("# TYPE iot_meter_http_requests counter\n"), "{page}");
        assert!(page.contains("# UNIT iot_meter_http_request_duration_seconds seconds\n"), "{page}");
        let exemplar = format!(" # {{trace_id=\"{TRACE}\"}} ");
        let of = |route: &str| page.lines().any(|l| l.contains(&format!("route=\"{route}\"")) && l.contains(&exemplar));
        assert!(of("/api/stats"), "{page}");
        assert!(page.lines().any(|l| l.contains("database_query") && l.contains(&exemplar)), "calls within it: {page}");
        let plain = api.get("/metrics").expect(200);
        assert_eq!(plain.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        assert!(!plain.text().contains("trace_id"));
    }
}

#[test]
fn what_can_be_counted_beforehand_is_there_as_zero() {
    let app = TestApp::open();
    let page = Figures::of(&app.api);
    for series in [
        "http_requests_total{route=\"/api/devices/{id}/raw-data/{filename}\",method=\"GET\",status=\"503\"}",
        "http_requests_total{route=\"/api/devices\",method=\"POST\",status=\"201\"}",
        "http_requests_total{route=\"/api/devices\",method=\"POST\",status=\"500\"}",
        "messages_received_total{kind=\"ota_status\"}",
        "tls_handshakes_total{server=\"https\",kind=\"resumed\",version=\"1.2\"}",
        "tls_refused_total{server=\"https\",reason=\"revoked\"}",
        "log_messages_total{level=\"error\",room=\"journal\"}",
        "trace_spans_total{result=\"dropped\"}",
        "archive_failures_total",
        "commit_failures_total",
    ] {
        assert!(page.value(series) >= 0.0);
    }
}

#[test]
fn the_figures_change_when_the_thing_happens() {
    let app = TestApp::open();
    let before = Figures::of(&app.api);
    // Messages by kind, a copy, a gap, one that cannot be used.
    let (mut meter, _) = app.mqtt(&Connect::id("fig-1"));
    meter.subscribe("iot/fig-1/command", 2);
    for seq in [0, 1, 1, 4] {
        meter.publish("iot/fig-1/telemetry", telemetry("fig-1", app.at(seq.into()), seq, 750.0).as_bytes(), 1);
    }
    meter.publish("iot/fig-1/hello", b"no JSON", 1);
    app.settled();
    let (_other, _) = app.mqtt(&Connect::id("fig-2"));
    // A read of the database: on Postgres the collector reads within its transaction, and nobody else need have read meanwhile.
    app.api.get("/api/devices/fig-1/latest").expect(200);
    let after = Figures::of(&app.api);
    let grown = |series: &str, by: f64| after.grown(&before, series, by);
    grown("messages_received_total{kind=\"telemetry\"}", 4.0);
    grown("messages_received_total{kind=\"hello\"}", 1.0);
    grown("messages_processed_total{kind=\"telemetry\"}", 3.0);
    grown("messages_refused_total{kind=\"hello\",reason=\"malformed\"}", 1.0);
    grown("messages_duplicate_total", 1.0);
    grown("sequence_gaps_total", 1.0);
    grown("readings_stored_total", 6.0);
    // Latencies: of the disk, the database, requests.
    for histogram in [
        "journal_fsync_duration_seconds_count",
        "commit_duration_seconds_count",
        "database_query_duration_seconds_count{operation=\"read\"}",
        "database_connection_wait_seconds_count",
        "http_request_duration_seconds_count{route=\"/metrics\",method=\"GET\",status=\"200\"}",
    ] {
        grown(histogram, 1.0);
    }
    grown("http_requests_total{route=\"/metrics\",method=\"GET\",status=\"200\"}", 1.0);
    // The journal, the connections, the process: other servers in this process may just have set a gauge to their own.
    for (series, least) in [
        ("journal_durable_records", 1.0),
        ("journal_size_bytes", 100.0),
        ("journal_synced_bytes_total", 100.0),
        ("reader_position_records{reader=\"collector\"}", 1.0),
        ("mqtt_connections", 1.0),
        ("mqtt_sessions", 1.0),
        ("mqtt_subscriptions", 1.0),
        ("mqtt_received_bytes_total", 100.0),
        ("http_requests_in_flight", 1.0),
        ("process_resident_memory_bytes", 1e6),
        ("process_virtual_memory_bytes", 1e6),
        ("process_open_fds", 5.0),
        ("process_cpu_seconds_total", 0.0),
        ("process_start_time_seconds", 1.7e9),
    ] {
        eventually(series, || Figures::of(&app.api).value(series) >= least);
    }
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(after.value(&format!("build_info{{version=\"{version}\"}}")), 1.0);
    meter.ping();
}

#[test]
fn states_of_the_fleet_and_of_the_parts_show_what_is_and_zero_for_what_is_not() {
    // A process of its own: gauges are the process's, and other tests have servers too.
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data);
    let api = &server.api;
    for device in ["s-1", "s-2"] {
        api.post("/api/devices", &json!({"device_id": device, "device_name": device})).expect(201);
    }
    api.put("/api/devices/s-2", &json!({"status": "inactive"})).expect(200);
    api.post("/api/devices/s-1/alerts", &json!({"alert_type": "x", "severity": "warning", "message": "m"})).expect(201);
    api.post("/api/devices/s-1/commands", &json!({"cmd": "reboot"})).expect(202);
    let shows = |page: &Figures, series: &str| page.get(series);
    let command = |status: &str| format!("commands{{cmd=\"reboot\",status=\"{status}\"}}");
    eventually("the counts of the database are read", || {
        let page = Figures::of(api);
        shows(&page, "devices{status=\"active\"}") == Some(1.0)
            && shows(&page, "devices{status=\"inactive\"}") == Some(1.0)
            && shows(&page, "device_connections{state=\"online\"}") == Some(0.0)
            && shows(&page, "device_connections{state=\"unknown\"}") == Some(2.0)
            && shows(&page, "alerts_unacknowledged") == Some(1.0)
            && shows(&page, &command("pending")) == Some(1.0)
            && shows(&page, &command("accepted")) == Some(0.0)
            && shows(&page, "database_connections{state=\"idle\"}").is_some_and(|idle| idle >= 1.0)
            && shows(&page, "database_connections{state=\"busy\"}").is_some()
    });
    let commands = api.get("/api/devices/s-1/commands").expect(200).json();
    api.delete(&format!("/api/commands/{}", commands[0]["cmd_id"].as_str().unwrap())).expect(200);
    eventually("what is over is not counted on", || {
        let page = Figures::of(api);
        shows(&page, &command("pending")) == Some(0.0) && shows(&page, &command("cancelled")) == Some(1.0)
    });
    let page = Figures::of(api);
    for check in ["journal", "database", "archive", "collector"] {
        assert_eq!(shows(&page, &format!("ready{{check=\"{check}\"}}")), Some(1.0), "{check}");
    }
    for task in ["collector", "archiver", "journal"] {
        assert_eq!(shows(&page, &format!("task_state{{task=\"{task}\",state=\"running\"}}")), Some(1.0), "{task}");
        assert_eq!(shows(&page, &format!("task_state{{task=\"{task}\",state=\"failed\"}}")), Some(0.0), "{task}");
    }
    drop(server);
}

#[test]
fn nothing_is_counted_by_device() {
    let app = TestApp::open();
    let series = || {
        let page = Figures::of(&app.api);
        page.all().filter(|(name, _)| name.contains("one-of-many")).map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
    };
    for n in 0..5 {
        let device = format!("one-of-many-{n}");
        let (mut meter, _) = app.mqtt(&Connect::id(&device));
        meter.publish(&format!("iot/{device}/telemetry"), telemetry(&device, app.at(0), 0, 1.0).as_bytes(), 1);
        app.api.get(&format!("/api/devices/{device}/status"));
        meter.send(&mqtt::packet(0xE0, &[]));
    }
    app.settled();
    assert_eq!(series(), Vec::<String>::new());
}

#[test]
fn what_is_refused_is_counted_by_its_reason() {
    let app = TestApp::builder().start();
    let before = Figures::of(&app.api.with_key(None));
    let with = |key: Option<&str>| app.api.with_key(key);
    with(None).get("/api/devices").expect(401);
    with(Some("iot_0123456789abcdef_nothing")).get("/api/devices").expect(401);
    let made = app.api.post("/api/keys", &json!({"name": "reader", "role": "viewer"})).expect(201).json();
    with(made["key"].as_str()).post("/api/devices", &json!({"device_id": "x", "device_name": "x"})).expect(403);
    with(None).post("/api/session", &json!({"key": made["key"]})).expect(201);
    let refused = || {
        let (_, answer) = mqtt::Client::try_connect(app.mqtt_address(), &Connect::id("m1").login("m1", "wrong"));
        assert_ne!(answer, Some(mqtt::Packet::ConnAck { session_present: false, code: 0 }));
    };
    let grown = |page: &Figures, series: &str| page.value(series) > before.get(series).unwrap_or(0.0);
    let wanted = [
        "http_auth_refusals_total{reason=\"no_credential\"}",
        "http_auth_refusals_total{reason=\"bad_credential\"}",
        "http_auth_refusals_total{reason=\"forbidden\"}",
        "web_sessions_total{event=\"begun\"}",
        "audit_entries_total{result=\"written\"}",
    ];
    for series in wanted {
        app.eventually(series, || grown(&Figures::of(&app.api), series));
    }
    // A broker raises the process's counter to its own count: more than that of any other broker of these tests.
    app.eventually("refused MQTT log-ins show", || {
        refused();
        grown(&Figures::of(&app.api), "mqtt_refused_total{reason=\"credentials\"}")
    });
    let page = Figures::of(&app.api);
    let failures = page.all().filter(|(name, _)| name.starts_with("auth_failures_total"));
    assert!(failures.map(|(_, count)| count).sum::<f64>() >= 1.0);
}

#[test]
fn queues_and_what_is_in_flight_and_the_archive_show() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut command = process::command(&data);
    command.env("IOT_METER__ARCHIVE__FLUSH_AGE_S", "1");
    let server = Server::start_with(&mut command, &data);
    let connect = |how: &Connect<'_>| mqtt::Client::connect(server.mqtt, how).0;
    let mut away = connect(&Connect::id("away").persistent());
    away.subscribe("x/#", 1);
    away.disconnect();
    let mut slow = connect(&Connect::id("slow"));
    slow.subscribe("y", 1);
    let mut talker = connect(&Connect::id("talker"));
    talker.publish("x/1", b"12345", 1);
    // Not acknowledged by the subscriber: nobody reads it.
    talker.publish("y", b"12345", 1);
    talker.send(&mqtt::publish("r", b"kept", 0, true, false, 0));
    let now = iot_meter::domain::Clock::system().now();
    talker.publish("iot/q-1/telemetry", telemetry("q-1", now, 0, 750.0).as_bytes(), 1);
    for (series, least) in [
        ("mqtt_queued_messages", 1.0),
        ("mqtt_queued_bytes", 5.0),
        ("mqtt_inflight_messages", 1.0),
        ("mqtt_retained_messages", 1.0),
        ("mqtt_retained_bytes", 4.0),
        ("mqtt_sessions", 3.0),
        ("archive_objects_total", 1.0),
        ("archive_written_bytes_total", 100.0),
        ("archive_write_duration_seconds_count", 1.0),
        ("reader_position_records{reader=\"archiver\"}", 1.0),
    ] {
        eventually(series, || Figures::of(&server.api).value(series) >= least);
    }
    drop((slow, talker));
}

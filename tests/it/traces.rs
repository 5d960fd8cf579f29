//! Spans as a collector gets them: OTLP over HTTP, received in this process and read by the project's own messages.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::json;

use crate::support::github::GitHub;
use crate::support::{TestApp, eventually, mqtt, telemetry};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A request as it came: its first line and headers, and its body.
type Received = Arc<Mutex<Vec<(String, ExportTraceServiceRequest)>>>;

/// A collector that answers every request with `status`.
struct Collector {
    address: String,
    received: Received,
}

impl Collector {
    fn start(status: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let received = Received::default();
        let keep = Arc::clone(&received);
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let keep = Arc::clone(&keep);
                std::thread::spawn(move || while serve(&socket, &keep, status).is_some() {});
            }
        });
        Self { address, received }
    }

    fn spans(&self) -> Vec<Span> {
        let received = self.received.lock().unwrap();
        let resources = received.iter().flat_map(|(_, request)| &request.resource_spans);
        resources.flat_map(|r| &r.scope_spans).flat_map(|s| s.spans.clone()).collect()
    }

    /// The spans of [`TRACE`], as soon as there are some of all these names.
    fn trace(&self, names: &[&str]) -> Vec<Span> {
        let mut found = Vec::new();
        eventually(&format!("spans {names:?} arrive"), || {
            found = self.spans();
            found.retain(|span| hex::encode(&span.trace_id) == TRACE);
            names.iter().all(|name| found.iter().any(|span| span.name == *name))
        });
        found
    }
}

/// One request of a connection; `None` = it is over.
fn serve(socket: &TcpStream, keep: &Received, status: &str) -> Option<()> {
    let mut reader = BufReader::new(socket);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let head = head.to_ascii_lowercase();
    let length = head.split_once("content-length: ")?.1.split("\r\n").next()?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let request = ExportTraceServiceRequest::decode(body.as_slice()).expect("is OTLP");
    keep.lock().unwrap().push((head, request));
    let mut socket = socket;
    write!(socket, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").ok()
}

#[track_caller]
fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no span {name} among {names:?}"))
}

fn attribute(span: &Span, key: &str) -> String {
    let found = span.attributes.iter().find(|a| a.key == key).and_then(|a| a.value.clone()?.value);
    match found {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{key} of {}: {other:?}", span.name),
    }
}

/// A client of MQTT 5 that has logged in.
fn client(app: &TestApp, client_id: &str) -> TcpStream {
    let mut socket = mqtt::tcp(app.mqtt_address());
    let mut body = b"\0\x04MQTT\x05\x02\0\0\0\0".to_vec();
    body.push(u8::try_from(client_id.len()).unwrap());
    body.extend(client_id.as_bytes());
    socket.write_all(&mqtt::packet(0x10, &body)).unwrap();
    socket
}

/// All that comes until `last` has come.
fn heard(mut socket: &TcpStream, last: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !has(&bytes, last) {
        let mut chunk = [0; 4096];
        let count = socket.read(&mut chunk).expect("something is heard within 20 s");
        assert!(count > 0, "the connection was closed");
        bytes.extend(&chunk[..count]);
    }
    bytes
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// A PUBLISH of MQTT 5 at QoS 1 with these user properties.
fn publish(topic: &str, payload: &[u8], user: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat();
    let properties: Vec<u8> = user.iter().flat_map(|(k, v)| [vec![0x26], text(k), text(v)].concat()).collect();
    let mut body = [text(topic), vec![0, 1]].concat();
    // Two bytes are enough for its length, and allowed where one would do.
    let length = u16::try_from(properties.len()).unwrap();
    match length {
        0..128 => body.push(length as u8),
        _ => body.extend([(length % 128) as u8 | 0x80, (length / 128) as u8]),
    }
    body.extend(properties);
    body.extend(payload);
    mqtt::packet(0x32, &body)
}

#[test]
fn a_request_is_a_span_below_its_callers_with_the_database_below_it() {
    let collector = Collector::start("200 OK");
    let app = TestApp::builder()
        .open()
        .set("trace.endpoint", &collector.address)
        .set("trace.headers", "Authorization: Bearer x")
        .start();
    app.api.post("/api/devices", &json!({"device_id": "m1", "device_name": "m1"})).expect(201);
    let answer = app.api.send("GET", "/api/devices/m1", &[("traceparent", PARENT), ("tracestate", "a=b")], None);
    let answer = answer.expect(200);
    let spans = collector.trace(&["GET /api/devices/{id}", "read a device"]);
    let request = named(&spans, "GET /api/devices/{id}");
    let id = hex::encode(&request.span_id);
    assert_eq!(hex::encode(&request.parent_span_id), CALLER);
    assert_eq!(answer.header("traceresponse"), Some(format!("00-{TRACE}-{id}-01").as_str()));
    assert_eq!((request.kind, request.trace_state.as_str()), (2, "a=b"));
    assert_eq!(attribute(request, "http.response.status_code"), "200");
    assert_eq!(attribute(request, "url.path"), "/api/devices/m1");
    let query = named(&spans, "read a device");
    assert_eq!((hex::encode(&query.parent_span_id), query.kind), (id, 3));
    assert!(request.start_time_unix_nano <= query.start_time_unix_nano);
    assert!(query.end_time_unix_nano <= request.end_time_unix_nano);
    let received = collector.received.lock().unwrap();
    let (head, body) = &received[0];
    assert!(head.starts_with("post /v1/traces ") && head.contains("content-type: application/x-protobuf"), "{head}");
    assert!(head.contains("authorization: bearer x"), "{head}");
    let resource = body.resource_spans[0].resource.as_ref().unwrap();
    assert_eq!(resource.attributes[0].key, "service.name");
    drop(received);
    let others = collector.spans().into_iter().filter(|span| hex::encode(&span.trace_id) != TRACE).count();
    assert_eq!(others, 0, "what nobody asked for is not recorded");
}

#[test]
fn a_publish_is_followed_to_the_journal_and_into_the_database() {
    let collector = Collector::start("200 OK");
    let app = TestApp::builder().open().set("trace.endpoint", &collector.address).start();
    let mut listener = client(&app, "listener");
    listener.write_all(&mqtt::packet(0x82, b"\0\x01\0\0\x05iot/#\0")).unwrap();
    heard(&listener, b"\x90\x04\0\x01\0\0");
    let mut meter = client(&app, "m1");
    let payload = telemetry("m1", app.at(0), 0, 750.0);
    let user = [("x", "y"), ("traceparent", PARENT), ("tracestate", "a=b")];
    meter.write_all(&publish("iot/m1/telemetry", payload.as_bytes(), &user)).unwrap();
    meter.write_all(&publish("iot/m1/telemetry", telemetry("m1", app.at(1), 1, 750.0).as_bytes(), &[])).unwrap();
    let names = ["publish iot/+/telemetry", "journal", "commit"];
    let spans = collector.trace(&names);
    let chain = names.map(|name| named(&spans, name));
    let mut parent = CALLER.to_owned();
    for span in chain {
        assert_eq!(hex::encode(&span.parent_span_id), parent, "{}", span.name);
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano && span.status.is_none());
        assert_eq!(span.trace_state, "a=b");
        parent = hex::encode(&span.span_id);
    }
    assert_eq!(spans.len(), 3, "{spans:#?}");
    let [published, journal, commit] = chain;
    assert!(published.start_time_unix_nano <= journal.start_time_unix_nano);
    assert!(journal.start_time_unix_nano <= commit.start_time_unix_nano);
    assert_eq!(attribute(published, "messaging.destination.name"), "iot/m1/telemetry");
    assert_eq!(attribute(journal, "journal.offset"), attribute(commit, "journal.offset"));
    assert_eq!(collector.spans().len(), 3, "a message without a trace has no spans");
    let got = heard(&listener, payload.as_bytes());
    let parts = [PARENT, "traceparent", "tracestate", "a=b"];
    assert!(parts.iter().all(|part| has(&got, part.as_bytes())), "subscribers get it as it came");
    // A bucket has the last traced commit of the process, and other tests commit too: until it is this one.
    let is_linked = |l: &str| l.starts_with("iot_meter_commit_duration_seconds_bucket") && l.contains(TRACE);
    let mut seq = 2;
    app.eventually("a bucket of the commits names the trace", || {
        let payload = telemetry("m1", app.at(i64::from(seq)), seq, 750.0);
        meter.write_all(&publish("iot/m1/telemetry", payload.as_bytes(), &user)).unwrap();
        seq += 1;
        let page = app.api.send("GET", "/metrics", &[("Accept", "application/openmetrics-text")], None).text();
        page.lines().any(is_linked)
    });
}

#[test]
fn a_part_of_what_begins_here_is_recorded_when_that_is_wanted() {
    let collector = Collector::start("200 OK");
    let app =
        TestApp::builder().open().set("trace.endpoint", &collector.address).set("trace.sample_ratio", "1").start();
    let mut meter = client(&app, "m1");
    meter.write_all(&publish("iot/m1/telemetry", telemetry("m1", app.at(0), 0, 750.0).as_bytes(), &[])).unwrap();
    app.api.get("/api/stats").expect(200);
    eventually("both arrive", || {
        let spans = collector.spans();
        let has = |name: &str| spans.iter().any(|span| span.name == name && span.parent_span_id.is_empty());
        has("publish iot/+/telemetry") && has("GET /api/stats")
    });
    let quiet = app.api.send("GET", "/api/devices", &[("traceparent", &PARENT.replace("-01", "-00"))], None);
    assert!(quiet.header("traceresponse").unwrap().ends_with("-00"));
}

#[test]
fn a_collector_that_is_away_or_refuses_holds_nobody_up_and_what_is_lost_is_counted() {
    let lost = |app: &TestApp, result: &str| {
        let page = app.api.get("/metrics").text();
        let start = format!("iot_meter_trace_spans_total{{result=\"{result}\"}} ");
        page.lines().find_map(|l| l.strip_prefix(&start)?.parse::<u64>().ok()).expect("shows from the start")
    };
    let refusing = Collector::start("400 Bad Request");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [format!("http://{nobody}"), refusing.address.clone()] {
        let app = TestApp::builder()
            .open()
            .set("trace.endpoint", &address)
            .set("trace.sample_ratio", "1")
            .set("trace.queue", "16")
            .start();
        let (failed, dropped) = (lost(&app, "failed"), lost(&app, "dropped"));
        let mut meter = client(&app, "m1");
        for seq in 0..200 {
            meter
                .write_all(&publish("iot/m1/telemetry", telemetry("m1", app.at(seq.into()), seq, 1.0).as_bytes(), &[]))
                .unwrap();
        }
        eventually("the first is stored", || app.api.get("/api/devices/m1").status == 200);
        eventually("all is stored", || app.values("m1", "voltage_dc").len() == 200);
        eventually("what did not fit is counted", || lost(&app, "dropped") > dropped);
        eventually("what was not taken is counted", || lost(&app, "failed") > failed);
    }
}

#[test]
fn what_waits_at_the_stop_is_still_sent() {
    let collector = Collector::start("200 OK");
    let app = TestApp::builder().open().set("trace.endpoint", &collector.address).start();
    app.api.send("GET", "/api/stats", &[("traceparent", PARENT)], None).expect(200);
    drop(app);
    assert!(collector.spans().iter().any(|span| span.name == "GET /api/stats"));
}

#[test]
fn what_the_server_asks_of_github_is_a_span_that_github_is_told() {
    let (collector, github) = (Collector::start("200 OK"), GitHub::start());
    let builder = TestApp::builder().open().set("trace.endpoint", &collector.address).set("trace.sample_ratio", "1");
    let app = github.settings().iter().fold(builder, |builder, (key, value)| builder.set(key, value)).start();
    let alert = json!({"status": "firing", "fingerprint": "ab11", "startsAt": "2026-02-12T10:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z", "labels": {"alertname": "Down"}, "annotations": {}, "generatorURL": ""});
    let told = json!({"version": "4", "status": "firing", "alerts": [alert]});
    app.api.post("/api/alertmanager/webhook", &told).expect(202);
    let of_name =
        |spans: &[Span], name: &str| spans.iter().filter(|span| span.name == name).cloned().collect::<Vec<_>>();
    let mut spans = Vec::new();
    eventually("the notice and its calls arrive", || {
        spans = collector.spans();
        let calls = of_name(&spans, "ask GitHub").len();
        of_name(&spans, "tell an alert").len() == 1 && calls >= 2 && calls == github.asked().len()
    });
    let notice = named(&spans, "tell an alert");
    assert_eq!((notice.parent_span_id.is_empty(), attribute(notice, "notice.state").as_str()), (true, "done"));
    let calls = of_name(&spans, "ask GitHub");
    for (call, parent) in calls.iter().zip(github.traces()) {
        let (trace, id) = (hex::encode(&call.trace_id), hex::encode(&call.span_id));
        assert!(parent.starts_with(&format!("00-{trace}-{id}-")) && parent.ends_with('3'), "{parent} of {call:?}");
        assert_eq!((&call.trace_id, &call.parent_span_id, call.kind), (&notice.trace_id, &notice.span_id, 3));
    }
    assert_eq!(attribute(&calls[0], "github.call"), "find");
}

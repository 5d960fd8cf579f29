//! HTTP as an attacker speaks it: raw bytes, slow bytes, too many of them; and what errors tell.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::TestApp;

const PATIENCE: Duration = Duration::from_secs(20);

/// Sends bytes, and reads until the server closes, or nothing comes for a while: statuses of the answers, and whether it
/// closed.
fn exchange(to: SocketAddr, bytes: &[u8]) -> (Vec<u16>, bool, String) {
    let mut socket = TcpStream::connect(to).unwrap();
    // The server may close before it has taken all.
    let _ = socket.write_all(bytes);
    read(&mut socket)
}

fn read(socket: &mut TcpStream) -> (Vec<u16>, bool, String) {
    let (mut got, mut buffer) = (Vec::new(), [0; 4096]);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let is_closed = loop {
        match socket.read(&mut buffer) {
            Ok(0) => break true,
            Ok(n) => {
                got.extend_from_slice(&buffer[..n]);
                socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            }
            Err(error) => break !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
        }
    };
    let text = String::from_utf8_lossy(&got).into_owned();
    let statuses = text.split("HTTP/1.").skip(1).filter_map(|part| part.get(2..5)?.parse().ok()).collect();
    (statuses, is_closed, text)
}

const POST: &str = "POST /api/session HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
const HIDDEN: &str = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn a_request_whose_end_two_readers_could_see_differently_is_refused_and_the_connection_closed() {
    let app = TestApp::builder().start();
    let to = app.address("http");
    let heads = [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        "Content-Length: 0\r\nContent-Length: 40\r\n\r\n",
        "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        "Content-Length: 2, 2\r\n\r\n{}",
        "Content-Length: +2\r\n\r\n{}",
        "Content-Length: -1\r\n\r\n{}",
        "Content-Length: 0x2\r\n\r\n{}",
        "Content-Length: 99999999999999999999\r\n\r\n{}",
        "Content-Length : 2\r\n\r\n{}",
        "X-A: b\r\n c\r\n\r\n",
        "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n",
        "X-A: b\rContent-Length: 5\r\n\r\n",
        "X-A: b\nContent-Length: 5\r\n\r\n",
        "X-A: b\n\n",
        "X-A: \0\r\n\r\n",
        "Host: y\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n2;a\nb\r\n{}\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n",
        "Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n{}\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n2\r\n{}XX0\r\n\r\n",
    ];
    for head in heads {
        let (statuses, is_closed, text) = exchange(to, format!("{POST}{head}{HIDDEN}").as_bytes());
        assert_eq!((statuses, is_closed), (vec![400], true), "{head:?} got {text}");
    }
    // Also on a connection that has had a good one.
    let mut kept = TcpStream::connect(to).unwrap();
    for (head, status) in [(HIDDEN, 200), ("GET /healthz HTTP/1.1\nHost: x\n\n", 400)] {
        kept.write_all(head.as_bytes()).unwrap();
        assert_eq!(read(&mut kept).0, [status], "{head:?}");
    }
    for whole in ["GET /health HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\u{16}\u{3}\u{1}\r\n\r\n"] {
        let (statuses, is_closed, text) = exchange(to, whole.as_bytes());
        assert_eq!((statuses, is_closed), (vec![400], true), "{whole:?} got {text}");
    }
    // HTTP/1.0 knows no chunks.
    let old = format!("POST /api/session HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}");
    assert_eq!(exchange(to, old.as_bytes()).0, [400]);
    // A body nobody read is no request: what follows a refusal is not answered.
    let unread = format!("POST /api/devices HTTP/1.1\r\nHost: x\r\nContent-Length: 60\r\n\r\n{HIDDEN}");
    assert_eq!(exchange(to, unread.as_bytes()).0, [401]);
    app.api.get("/api/devices").expect(200);
}

#[test]
fn what_is_too_large_is_refused_before_it_is_kept() {
    let app = TestApp::builder().set("http.body_limit_bytes", "1 KiB").start();
    let to = app.address("http");
    let long = format!("GET /api/devices?q={} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(9000));
    assert_eq!(exchange(to, long.as_bytes()).0, [414]);
    let many: String = (0..200).map(|n| format!("X-{n}: 1\r\n")).collect();
    assert_eq!(exchange(to, format!("GET /health HTTP/1.1\r\nHost: x\r\n{many}\r\n").as_bytes()).0, [431]);
    let announced = format!("{POST}Content-Length: 1000000000\r\n\r\n{{");
    assert_eq!(exchange(to, announced.as_bytes()).0, [413]);
    let chunks =
        format!("{POST}Transfer-Encoding: chunked\r\n\r\n{}", format!("400\r\n{}\r\n", " ".repeat(1024)).repeat(3));
    assert_eq!(exchange(to, chunks.as_bytes()).0, [413]);
}

#[test]
fn nobody_is_asked_to_go_on_with_what_is_refused_already() {
    let app = TestApp::builder().set("http.body_limit_bytes", "64 KiB").start();
    let key = std::fs::read_to_string(app.data_dir().join("admin.key")).unwrap();
    let key = format!("X-API-Key: {}\r\n", key.trim());
    let begin = |path: &str, more: &str, length: usize| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{more}Content-Length: {length}\r\n\
             Expect: 100-continue\r\n\r\n"
        )
    };
    let refused = |head: String, status: u16| {
        let (statuses, is_closed, text) = exchange(app.address("http"), head.as_bytes());
        assert_eq!((statuses, is_closed), (vec![status], true), "{head} got {text}");
    };
    refused(begin("/api/devices", &key, 65 * 1024), 413);
    refused(begin("/api/session", "", 33 * 1024), 413);
    refused(begin("/api/devices", "", 100), 401);
    refused(begin("/api/nothing", &key, 100), 404);
    refused(begin("/api/devices", &key, 100).replace("application/json", "text/plain"), 415);
    // Chunks say their length when it is too late to refuse them unasked.
    let chunked = begin("/api/devices", &key, 1).replace("Content-Length: 1", "Transfer-Encoding: chunked");
    let (statuses, _, text) = exchange(app.address("http"), chunked.as_bytes());
    assert_eq!(statuses, [100], "{text}");

    // Who may send it is asked to, and is answered on a connection that lives on.
    let mut socket = TcpStream::connect(app.address("http")).unwrap();
    let body = json!({"device_id": "m1", "device_name": "x".repeat(200)}).to_string();
    for status in [201, 409] {
        socket.write_all(begin("/api/devices", &key, body.len()).as_bytes()).unwrap();
        let mut word = [0; 25];
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"HTTP/1.1 100 Continue\r\n\r\n");
        socket.write_all(body.as_bytes()).unwrap();
        assert_eq!(read(&mut socket).0, [status]);
    }
    // One that does not wait needs no word.
    let whole = format!("{}{body}", begin("/api/devices", &key, body.len()));
    let (statuses, _, text) = exchange(app.address("http"), whole.as_bytes());
    assert_eq!(statuses.last(), Some(&409), "{text}");
}

/// Sends a byte ten times a second until the server has closed; the first status, and how long it took.
fn trickle(to: SocketAddr, begin: &str, byte: &[u8]) -> (Option<u16>, Duration) {
    let mut socket = TcpStream::connect(to).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    socket.write_all(begin.as_bytes()).unwrap();
    let started = Instant::now();
    let mut got = Vec::new();
    loop {
        assert!(started.elapsed() < PATIENCE, "never closed; got {}", String::from_utf8_lossy(&got));
        let mut buffer = [0; 4096];
        match socket.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => got.extend_from_slice(&buffer[..n]),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                // Where this fails, an answer may still be there to read.
                let _ = socket.write_all(byte);
            }
            Err(_) => break,
        }
    }
    let status = String::from_utf8_lossy(&got).get(9..12).and_then(|s| s.parse().ok());
    (status, started.elapsed())
}

#[test]
fn who_sends_slowly_is_cut_off_wherever_it_stops() {
    let app = TestApp::builder()
        .set("http.head_timeout_s", "1")
        .set("http.body_timeout_s", "1")
        .set("http.idle_timeout_s", "1")
        .start();
    let to = app.address("http");
    let good = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
    let check = |begin: &str, byte: &[u8], expected: Option<u16>| {
        let (status, took) = trickle(to, begin, byte);
        assert!(took < Duration::from_secs(10), "{begin:?} lived for {took:?}");
        assert_eq!(status, expected, "{begin:?}");
    };
    check("", b"", Some(408));
    check("GET /health HTTP/1.1\r\nX-A: ", b"a", Some(408));
    check(good, b"", Some(200));
    check(&format!("{good}GET /health HTTP/1.1\r\nX-A: "), b"a", Some(200));
    check(&format!("{POST}Content-Length: 1000\r\n\r\n"), b" ", Some(408));
    check(&format!("{POST}Transfer-Encoding: chunked\r\n\r\n"), b"1\r\n \r\n", Some(408));
    // A body nobody wants to read.
    check("POST /api/devices HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n", b" ", Some(401));
    app.api.get("/api/devices").expect(200);
}

/// What no answer to anybody may hold.
const DENIED: [&str; 24] = [
    "sqlite",
    "select ",
    "insert ",
    "update ",
    "delete from",
    "constraint",
    "database is locked",
    "diesel",
    "r2d2",
    "src/",
    ".rs:",
    "panicked",
    "unwrap",
    "backtrace",
    "rustc",
    "/tmp/",
    "/home/",
    "/root/",
    "iot-meter.db",
    "admin.key",
    "os error",
    "actix",
    "serde",
    "sha256",
];

#[test]
fn no_error_tells_of_the_inside() {
    let app = TestApp::builder().set("http.body_limit_bytes", "1 KiB").set("http.login_burst", "1000").start();
    let (api, nobody) = (&app.api, app.api.with_key(None));
    app.register("m1");
    let viewer = api.post("/api/keys", &json!({"name": "v", "role": "viewer", "devices": "x-"})).expect(201).json();
    let viewer = api.with_key(viewer["key"].as_str());
    let mut seen = std::collections::BTreeSet::new();
    let mut check = |answer: crate::support::http::Answer, what: &str| {
        assert!(answer.status >= 400, "{what}: {} is no error", answer.status);
        seen.insert(answer.status);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{what}");
        let all = format!("{}\n{:?}", answer.text(), answer.headers).to_lowercase();
        for word in DENIED {
            assert!(!all.contains(word), "{what}: {word:?} in {all}");
        }
        for header in [
            "x-request-id",
            "x-content-type-options",
            "x-frame-options",
            "content-security-policy",
            "referrer-policy",
            "strict-transport-security",
            "cross-origin-resource-policy",
        ] {
            assert!(answer.header(header).is_some(), "{what}: no {header}");
        }
        assert_eq!(answer.header("server"), None);
    };
    let paths = [
        "/api/devices",
        "/api/devices/m1",
        "/api/devices/nobody",
        "/api/devices/%00",
        "/api/devices/'; DROP TABLE devices --",
        "/api/devices/m1/commands",
        "/api/devices/m1/status",
        "/api/devices/m1/metrics?start=x&stop=y&every=z",
        "/api/devices/m1/raw-data/..%2f..%2fetc%2fpasswd",
        "/api/devices/m1/raw-data?limit=-1",
        "/api/alerts/x/acknowledge",
        "/api/alerts/99999999999999999999/acknowledge",
        "/api/commands/x",
        "/api/commands/x/ack",
        "/api/keys",
        "/api/keys/x",
        "/api/audit?from=x&cursor=%00",
        "/api/devices?page=0&cursor=zzzz",
        "/api/session/oidc",
        "/nothing",
        "/..%2f..%2fetc",
        "/api/session",
        "/api/session/oidc/callback?code=x&state=y",
    ];
    let bodies: [&[u8]; 7] = [
        b"",
        b"{",
        b"[]",
        b"{\"device_id\":5,\"device_name\":null,\"x\":{\"y\":[]}}",
        b"\xff\xfe",
        b"null",
        &[b' '; 2000],
    ];
    let kinds = ["application/json", "text/xml", "multipart/form-data; boundary=x"];
    for path in paths {
        let path = path.replace(' ', "%20").replace(';', "%3B").replace('\'', "%27");
        for (who, name) in [(&nobody, "nobody"), (&viewer, "viewer"), (api, "admin")] {
            for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
                if (method, path.as_str()) == ("DELETE", "/api/devices/m1") {
                    continue;
                }
                let bodies = if matches!(method, "POST" | "PUT") { &bodies[..] } else { &bodies[..1] };
                for body in bodies {
                    for kind in &kinds[..if body.len() == 1 { 3 } else { 1 }] {
                        let answer = who.send(method, &path, &[("Content-Type", kind)], Some(body.to_vec()));
                        if answer.status >= 400 {
                            check(answer, &format!("{name} {method} {path} {body:?}"));
                        }
                    }
                }
            }
        }
    }
    for status in [400, 401, 403, 404, 405, 413, 415, 422] {
        assert!(seen.contains(&status), "nothing provoked {status}: {seen:?}");
    }
}

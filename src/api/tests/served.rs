//! The server on a real socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::Runtime;

use crate::api::testing::{Ends, FakeStore, NOW, services};
use crate::api::{Options, ServerHandle, start};
use crate::domain::Clock;

/// A server, stopped when dropped.
struct Served {
    runtime: Runtime,
    handle: ServerHandle,
    addr: SocketAddr,
    _ends: Ends,
}

fn serve(options: Options) -> Served {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (handle, _ends) = runtime.block_on(async {
        let (services, ends) = services(Arc::new(FakeStore::default()), Clock::manual(NOW), false);
        let (handle, running) = start(services, listener, None, options).unwrap();
        tokio::spawn(running);
        (handle, ends)
    });
    Served { runtime, handle, addr, _ends }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.runtime.block_on(self.handle.stop(false));
    }
}

impl Served {
    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.addr).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        socket
    }
}

/// Reads one answer to a method: its head, in lower case, and its body.
fn read_answer(socket: &mut TcpStream, method: &str) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&head)));
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; if method == "HEAD" { 0 } else { length }];
    socket.read_exact(&mut body).unwrap();
    (head, body)
}

/// The next answer is the last one and a problem, dressed as every other.
fn expect_problem(socket: &mut TcpStream, status: u16) {
    let (head, body) = read_answer(socket, "GET");
    assert!(head.starts_with(&format!("http/1.1 {status} ")), "{head}");
    let problem: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem["status"], status);
    assert_eq!(problem["error"], problem["detail"]);
    for header in ["x-request-id: ", "content-type: application/problem+json", "x-content-type-options: nosniff"] {
        assert_eq!(head.matches(header).count(), 1, "{header} in {head}");
    }
    assert_eq!((head.matches("content-length: ").count(), head.matches("connection: close").count()), (1, 1), "{head}");
    assert!(head.contains(&format!("x-request-id: {}", problem["request_id"].as_str().unwrap())), "{head}");
    assert!(matches!(socket.read(&mut [0]), Ok(0) | Err(_)), "nothing follows");
}

#[test]
fn a_head_that_cannot_be_read_is_a_problem_too() {
    let server = serve(Options::default());
    for head in ["no request at all\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "GET /\u{1} HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let mut socket = server.connect();
        socket.write_all(head.as_bytes()).unwrap();
        expect_problem(&mut socket, 400);
    }
    // Behind a good one on the same connection, and behind one without a body.
    let mut socket = server.connect();
    for method in ["GET", "HEAD"] {
        write!(socket, "{method} /api/devices HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let (head, _) = read_answer(&mut socket, method);
        assert!(head.starts_with("http/1.1 401 "), "{head}");
    }
    socket.write_all(b"\x16\x03\x01 hello\r\n\r\n").unwrap();
    expect_problem(&mut socket, 400);
}

#[test]
fn a_head_that_is_too_large_is_a_problem_too() {
    let server = serve(Options::default());
    let mut socket = server.connect();
    let mut head = String::from("GET /health HTTP/1.1\r\nHost: x\r\n");
    for n in 0..200 {
        head.push_str(&format!("X-{n}: 1\r\n"));
    }
    socket.write_all(head.as_bytes()).unwrap();
    expect_problem(&mut socket, 431);
}

#[test]
fn a_head_that_does_not_come_is_a_problem_too() {
    let server = serve(Options { head_timeout: Duration::from_millis(200), ..Options::default() });
    let mut socket = server.connect();
    socket.write_all(b"GET /health HTTP/1.1\r\nHos").unwrap();
    expect_problem(&mut socket, 408);
}

#[test]
fn it_serves_on_a_bound_socket_and_stops_when_told() {
    let server = serve(Options::default());
    let base = format!("http://{}", server.addr);
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut health = agent.get(format!("{base}/health")).call().unwrap();
    assert_eq!(health.status(), 200);
    assert!(health.body_mut().read_to_string().unwrap().contains("\"healthy\""));
    let mut head = agent.head(format!("{base}/health")).call().unwrap();
    assert_eq!((head.status().as_u16(), head.body_mut().read_to_string().unwrap().len()), (200, 0));
    assert_eq!(agent.get(format!("{base}/api/devices")).call().unwrap().status(), 401);
    // The peer is on loopback.
    assert_eq!(agent.get(format!("{base}/metrics")).call().unwrap().status(), 200);
    server.runtime.block_on(server.handle.stop(true));
    assert!(agent.get(format!("{base}/health")).call().is_err());
}

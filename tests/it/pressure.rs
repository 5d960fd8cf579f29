//! HTTP clients that take a place and give nothing for it: that read nothing, that ask for all at once, that are too many.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::support::certified::{Guarded, client};
use crate::support::process::Server;
use crate::support::{Figures, eventually, wrapped};

const PATIENCE: Duration = Duration::from_secs(30);

/// A connection from that address of this machine, with a small window.
fn connect_from(from: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(32 * 1024).unwrap();
    socket.bind(&SockAddr::from(SocketAddr::from((from, 0)))).unwrap();
    socket.connect(&SockAddr::from(to)).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn connect(to: SocketAddr) -> TcpStream {
    connect_from([127, 0, 0, 1], to)
}

const STALLED: &str = "http_closed_total{reason=\"stalled\"}";

/// Asks for more than the kernel keeps, and reads nothing.
fn ask_for_much(app: &Guarded, socket: &mut impl Write) {
    let key = std::fs::read_to_string(app.data().join("admin.key")).unwrap();
    let get = format!("GET /api/docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\nX-API-Key: {}\r\n\r\n", key.trim());
    socket.write_all(get.repeat(20).as_bytes()).unwrap();
    socket.flush().unwrap();
}

/// Reads slowly for six seconds, and must be served for that long.
fn read_slowly(socket: &mut impl Read) {
    let (started, mut bytes) = (Instant::now(), vec![0; 64 * 1024]);
    while started.elapsed() < Duration::from_secs(6) {
        std::thread::sleep(Duration::from_millis(100)); // the pace of this client
        assert!(socket.read(&mut bytes).unwrap() > 0, "closed after {:?}", started.elapsed());
    }
}

#[test]
fn who_reads_nothing_of_its_answer_is_closed_and_who_reads_slowly_is_not() {
    let app = Guarded::start(&[("http.write_timeout_s", "3"), ("http.idle_timeout_s", "600")]);
    let trust = client(&app.authority(), None, wrapped::ANY);
    let in_tls = || {
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let client = rustls::ClientConnection::new(trust.clone(), name).unwrap();
        rustls::StreamOwned::new(client, connect(app.https))
    };
    let (mut plain, mut tls) = (connect(app.http), in_tls());
    ask_for_much(&app, &mut plain);
    ask_for_much(&app, &mut tls);
    read_slowly(&mut plain);
    read_slowly(&mut tls);
    eventually("the one over TLS, which was not read meanwhile, is closed, or both are now", || {
        Figures::of(&app.server.api).or_zero(STALLED) >= 2.0
    });
    // What had gone before can be read, and then no more comes.
    let rest = |socket: &mut dyn Read| {
        let mut all = Vec::new();
        let _ = socket.read_to_end(&mut all);
        all.len()
    };
    assert!(rest(&mut plain) < 20 * 1_000_000 && rest(&mut tls) < 20 * 1_000_000);
    eventually("their places are free", || Figures::of(&app.server.api).or_zero("http_connections") <= 1.0);
}

/// As many requests as fit into 100 KB.
fn many(path: &str) -> Vec<u8> {
    let get = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    get.repeat(100_000 / get.len()).into_bytes()
}

#[test]
fn what_clients_ask_for_and_do_not_read_is_not_kept_for_them() {
    const CLIENTS: usize = 300;
    const MOST_BYTES: f64 = 80.0 * 1024.0;
    let app = Guarded::start(&[("http.write_timeout_s", "600"), ("http.workers", "1")]);
    let resident = || Figures::of(&app.server.api).or_zero("process_resident_memory_bytes");
    let all = many("/console/app.js");
    let crowd = |count: usize| {
        let one = |_| {
            let mut socket = connect(app.http);
            socket.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
            // The server need not take it all.
            let _ = socket.write_all(&all);
            socket
        };
        (0..count).map(one).collect::<Vec<_>>()
    };
    let settle = || {
        let (mut last, mut same) = (0.0, 0);
        eventually("the memory stays as it is", || {
            let now = resident();
            same = if (now - last).abs() < 1e6 { same + 1 } else { 0 };
            last = now;
            same > 20
        });
        last
    };
    // What is made once for whatever comes is not theirs.
    drop(crowd(20));
    let before = settle();
    let clients = crowd(CLIENTS);
    let each = (settle() - before) / CLIENTS as f64;
    assert!(each < MOST_BYTES, "{each} bytes each");
    drop(clients);
}

#[test]
fn requests_that_were_sent_at_once_are_answered_in_their_order() {
    let app = Guarded::start(&[]);
    let mut socket = connect(app.http);
    let body = format!("{{\"key\": \"{}\"}}", "x".repeat(20_000));
    let post = "POST /api/session HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".to_owned();
    let mut all = String::new();
    for n in 0..50 {
        all += &format!("GET /healthz?{n} HTTP/1.1\r\nHost: x\r\nX-Request-Id: get-{n}\r\n\r\n");
        all += &format!("{post}X-Request-Id: sized-{n}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        all += &format!("{post}X-Request-Id: chunked-{n}\r\nTransfer-Encoding: chunked\r\n\r\n");
        for piece in body.as_bytes().chunks(3001) {
            all += &format!("{:x}\r\n{}\r\n", piece.len(), std::str::from_utf8(piece).unwrap());
        }
        all += "0\r\n\r\n";
    }
    all += "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Request-Id: last\r\n\r\n";
    let mut writer = socket.try_clone().unwrap();
    let sender = std::thread::spawn(move || writer.write_all(all.as_bytes()).unwrap());
    let mut got = String::new();
    socket.read_to_string(&mut got).unwrap();
    sender.join().unwrap();
    let ids: Vec<&str> = got.lines().filter_map(|line| line.strip_prefix("x-request-id: ")).collect();
    let kinds = |n: usize| ["get", "sized", "chunked"].map(|kind| format!("{kind}-{n}"));
    let wanted: Vec<String> = (0..50).flat_map(kinds).chain(["last".to_owned()]).collect();
    assert_eq!(ids, wanted);
}

/// Whether the server answers on this connection.
fn is_served(mut socket: &TcpStream) -> bool {
    let asked = socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut head = [0; 12];
    asked.is_ok() && socket.read_exact(&mut head).is_ok_and(|()| &head == b"HTTP/1.1 200")
}

/// Whether it has closed this one, unasked.
fn is_closed(mut socket: &TcpStream) -> bool {
    match socket.read(&mut [0]) {
        Ok(length) => length == 0,
        Err(error) => matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
    }
}

#[test]
fn one_address_cannot_take_every_place_and_a_full_server_says_so_once() {
    let dir = tempfile::tempdir().unwrap();
    let (data, log) = (dir.path().join("data"), dir.path().join("log"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_iot-meter"));
    command.args(["serve", "--http-listen", "127.0.0.1:0", "--mqtt-listen", "127.0.0.1:0", "--mqtts-listen", "off"]);
    command.args(["--set", "http.max_connections=30", "--set", "http.max_connections_per_address=24"]);
    command.args(["--set", "http.idle_timeout_s=600", "--set", "log.level=warn", "--set", "log.format=json"]);
    command.args(["--set", "metrics.listen=127.0.0.1:0", "--data-dir"]).arg(&data).current_dir(dir.path());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
    let _server = Server::start_with(&mut command, &data);
    let announced: Value = serde_json::from_slice(&std::fs::read(data.join("run/addresses.json")).unwrap()).unwrap();
    let address = |name: &str| announced[name].as_str().unwrap().parse::<SocketAddr>().unwrap();
    let to = address("http");
    let scrapes = crate::support::Api::new(address("metrics"), None);
    let value = |series: &str| Figures::of(&scrapes).or_zero(series);

    let of_one = |count: usize| (0..count).map(|_| connect_from([127, 0, 0, 9], to)).collect::<Vec<_>>();
    let mut crowd = of_one(24);
    assert!(crowd.iter().all(is_served));
    assert!(of_one(40).iter().all(is_closed), "more of this address");
    // The client that waited for the start holds one.
    let others: Vec<_> = (1..=5).map(|n| connect_from([127, 0, 1, n], to)).collect();
    assert!(others.iter().all(is_served), "a fifth of the places is everybody else's");
    let more: Vec<_> = (1..=40).map(|n| connect_from([127, 0, 2, n], to)).collect();
    assert!(more.iter().all(is_closed), "all places are taken");
    assert_eq!(value("http_connections"), 30.0);
    assert_eq!(value("http_refused_total{reason=\"address_limit\"}"), 40.0);
    assert_eq!(value("http_refused_total{reason=\"connection_limit\"}"), 40.0);
    let lines = std::fs::read_to_string(&log).unwrap();
    // (Which of those that came at once was the first is up to the workers.)
    for (setting, first) in [("allows", "127.0.0.9"), ("http.max_connections allows", "127.0.2.")] {
        let found: Vec<&str> = lines.lines().filter(|l| l.contains(&format!("{setting}\""))).collect();
        let about = found.iter().filter(|l| l.contains(first)).count();
        assert_eq!(about, 1, "{setting} of {first} in {lines}");
    }
    assert_eq!(lines.lines().filter(|l| l.contains("closed at once")).count(), 2, "{lines}");

    drop(crowd.pop());
    eventually("its place is free again", || is_served(&connect_from([127, 0, 0, 9], to)));
}

#[test]
fn the_listener_for_scrapes_has_sixty_four_places_and_none_for_who_reads_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut command = crate::support::process::command(&data);
    let server = Server::start_with(command.args(["--set", "metrics.listen=127.0.0.1:0"]), &data);
    let announced: Value = serde_json::from_slice(&std::fs::read(data.join("run/addresses.json")).unwrap()).unwrap();
    let to: SocketAddr = announced["metrics"].as_str().unwrap().parse().unwrap();
    let scraped = |mut socket: &TcpStream| {
        let asked = socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut head = [0; 12];
        asked.is_ok() && socket.read_exact(&mut head).is_ok_and(|()| &head == b"HTTP/1.1 200")
    };
    let mut scrapers: Vec<_> = (0..64).map(|_| connect(to)).collect();
    assert!(scrapers.iter().all(scraped));
    let more: Vec<_> = (0..8).map(|_| connect(to)).collect();
    assert!(more.iter().all(is_closed), "all places are taken");
    assert_eq!(Figures::of(&server.api).or_zero("http_refused_total{reason=\"scrape_limit\"}"), 8.0);
    // The API has its own.
    assert!(is_served(&connect(announced["http"].as_str().unwrap().parse().unwrap())));
    // One of them asks for much and reads nothing of it.
    let get = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    scrapers[0].write_all(get.repeat(400).as_bytes()).unwrap();
    assert_eq!(Figures::of(&server.api).or_zero(STALLED), 0.0);
    eventually("who reads nothing is cut off", || Figures::of(&server.api).or_zero(STALLED) == 1.0);
    eventually("and its place is another one's", || scraped(&connect(to)));
    drop(scrapers);
    eventually("there is room for everybody", || (0..64).map(|_| connect(to)).all(|socket| scraped(&socket)));
    let mut other = connect(to);
    other.write_all(b"GET /api/stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    other.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "that page and nothing else: {answer}");
}

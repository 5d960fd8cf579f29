//! What a listener lets in, and what its wrappings cost others.

use std::os::unix::fs::PermissionsExt;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::connect;
use super::*;
use crate::mqtt::Packet;
use crate::tls::{Tls, TlsOptions, TlsVersion};

/// A broker with a plain listener and another one.
async fn bed_with(options: Options, wrap: impl Fn(Listener) -> Listener) -> (Bed, SocketAddr) {
    let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
    let (plain, wrapped) = (bind(), bind());
    let other = wrapped.local_addr().unwrap();
    (Bed::on(options, vec![Listener::tcp(plain), wrap(Listener::tcp(wrapped))]).await, other)
}

#[tokio::test]
async fn connections_of_one_address_are_limited_over_all_listeners() {
    let options = Options { max_connections_per_address: 2, ..Options::default() };
    let (bed, web) = bed_with(options, Listener::in_web_socket).await;
    let (one, _two) = (bed.client("one").await, bed.client("two").await);
    Client::open(web).await.expect_closed().await;
    assert_eq!(bed.broker.stats().refused_address_limit, 1);
    drop(one);
    bed.until("room", |s| s.connections == 1).await;
    // The place is given back a moment after the client is counted out.
    let mut answer = String::new();
    while answer.is_empty() {
        let mut stream = TcpStream::connect(web).await.unwrap();
        let _ = stream.write_all(b"GET /other HTTP/1.1\r\n\r\n").await;
        let _ = stream.read_to_string(&mut answer).await;
    }
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[tokio::test]
async fn an_address_that_connects_too_often_is_closed_and_keeps_what_it_has() {
    let bed = Bed::with(Options { address_connect_rate: Rate::new(1, 2), ..Options::default() }).await;
    let (mut one, mut two) = (bed.client("one").await, bed.client("two").await);
    let mut more = Vec::new();
    for _ in 0..20 {
        more.push(Client::open(bed.address).await);
    }
    bed.until("refused", |s| s.accepted == 22 && s.refused_address_rate > 0).await;
    one.expect_nothing().await;
    two.expect_nothing().await;
}

#[tokio::test]
async fn a_crowd_is_let_in_at_the_rate_and_nobody_is_refused() {
    let options = Options {
        connect_rate: Rate::new(200, 10),
        connect_timeout: Duration::from_millis(600), // counts from a client's turn on
        ..Options::default()
    };
    let bed = Bed::with(options).await;
    let start = std::time::Instant::now();
    let mut crowd = tokio::task::JoinSet::new();
    for n in 0..210 {
        let address = bed.address;
        crowd.spawn(async move {
            let mut client = Client::open(address).await;
            client.connect_with(connect(&format!("c{n}"), true)).await.is_ok()
        });
    }
    assert!(crowd.join_all().await.into_iter().all(|is_in| is_in));
    assert!(start.elapsed() >= Duration::from_millis(990), "200 more at 200/s: {:?}", start.elapsed());
    assert!(bed.broker.stats().connects_delayed > 0, "{:?}", bed.broker.stats());
}

#[tokio::test]
async fn a_connection_that_waits_for_its_turn_does_not_hold_up_the_stop() {
    let bed = Bed::with(Options { connect_rate: Rate::new(1, 1), ..Options::default() }).await;
    let _in = bed.client("in").await;
    let mut waiting = Vec::new();
    for _ in 0..20 {
        waiting.push(Client::open(bed.address).await);
    }
    bed.until("all accepted", |s| s.accepted == 21).await;
    assert!(bed.broker.stop(Duration::from_secs(5)).await);
    for mut client in waiting {
        client.expect_closed().await;
    }
}

#[tokio::test]
async fn an_unfinished_handshake_ends_with_the_connect_timeout() {
    let options = Options { connect_timeout: Duration::from_millis(50), ..Options::default() };
    let dir = tempfile::tempdir().unwrap();
    let tls = certificate(&dir);
    let check = async |what: &str, says: &[u8], wrap: &dyn Fn(Listener) -> Listener| {
        let (bed, address) = bed_with(options.clone(), wrap).await;
        let mut good = bed.client("good").await;
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(says).await.unwrap();
        assert_eq!(slow.read(&mut [0; 100]).await.unwrap_or_default(), 0, "{what}");
        bed.until("counted", |s| s.refused_connect_timeout == 1).await;
        good.expect_nothing().await;
    };
    check("half a request", b"GET /mqtt HTTP/1.1\r\n", &Listener::in_web_socket).await;
    check("half a hello", b"\x16\x03\x01\x02\0", &|l| l.in_tls(&tls)).await;
    check("nothing", b"", &|l| l.in_tls(&tls).in_web_socket()).await;
}

#[tokio::test]
async fn what_is_no_handshake_is_counted_and_closed() {
    let dir = tempfile::tempdir().unwrap();
    let tls = certificate(&dir);
    let (bed, address) = bed_with(Options::default(), |l| l.in_tls(&tls)).await;
    let mut plain = Client::open(address).await;
    plain.send(Packet::Connect(Box::new(connect("c", true)))).await;
    let mut rest = Vec::new();
    // A TLS alert, perhaps, and the end.
    let _ = plain.stream.read_to_end(&mut rest).await;
    bed.until("counted", |s| s.refused_tls == 1).await;
    let (bed, address) = bed_with(Options::default(), Listener::in_web_socket).await;
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"\x10\x0d\0\x04MQTT\x04\x02\0\x0a\0\x01c\r\n\r\n").await.unwrap();
    let _ = plain.read_to_end(&mut rest).await;
    bed.until("counted", |s| s.refused_websocket == 1).await;
}

fn certificate(dir: &tempfile::TempDir) -> Tls {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert_file, key_file) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert_file, made.cert.pem()).unwrap();
    std::fs::write(&key_file, made.signing_key.serialize_pem()).unwrap();
    std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let options = TlsOptions {
        server: "mqtt",
        cert_file,
        key_file,
        min_version: TlsVersion::V13,
        client_ca_files: Vec::new(),
        own_ca_file: None,
        crl_file: None,
        is_certificate_required: false,
        reload_every: Duration::from_secs(30),
    };
    Tls::open(options, &Revocations::default(), &Clock::system()).unwrap()
}

//! The generator against a tiny acceptor on loopback that understands CONNECT and PUBLISH, and a stand-in for the API.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use rumqttc::mqttbytes::v4::Packet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::domain::Timestamp;
use crate::simulate::{ApiAccess, BrokerUrl};

/// What the acceptor got: payloads by topic, and how many of all publishes had DUP set.
#[derive(Default)]
struct Inbox {
    payloads: BTreeMap<String, Vec<Vec<u8>>>,
    dups: usize,
    publishes: usize,
}

/// Accepts, stores and acknowledges; after `break_after` publishes each connection is dropped once without acknowledging.
async fn acceptor(break_after: Option<usize>) -> (SocketAddr, Arc<Mutex<Inbox>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let inbox = Arc::new(Mutex::new(Inbox::default()));
    let seen = inbox.clone();
    tokio::spawn(async move {
        let mut accepted = 0;
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let inbox = inbox.clone();
            accepted += 1;
            let break_after = break_after.filter(|_| accepted <= 2);
            tokio::spawn(async move {
                let mut buffer = bytes::BytesMut::new();
                let mut publishes = 0;
                loop {
                    match socket.read_buf(&mut buffer).await {
                        Ok(0) | Err(_) => return,
                        Ok(_) => {}
                    }
                    let mut answer = Vec::new();
                    while let Ok(packet) = Packet::read(&mut buffer, 1 << 20) {
                        publishes += usize::from(matches!(packet, Packet::Publish(_)));
                        if break_after.is_some_and(|limit| publishes > limit) {
                            return;
                        }
                        handle(packet, &mut inbox.lock().unwrap(), &mut answer);
                    }
                    if socket.write_all(&answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, seen)
}

fn handle(packet: Packet, inbox: &mut Inbox, answer: &mut Vec<u8>) {
    match packet {
        Packet::Connect(_) => answer.extend([0x20, 2, 0, 0]),
        Packet::Publish(publish) => {
            inbox.publishes += 1;
            inbox.dups += usize::from(publish.dup);
            inbox.payloads.entry(publish.topic).or_default().push(publish.payload.to_vec());
            let [high, low] = publish.pkid.to_be_bytes();
            match publish.qos as u8 {
                1 => answer.extend([0x40, 2, high, low]),
                2 => answer.extend([0x50, 2, high, low]),
                _ => {}
            }
        }
        Packet::PubRel(release) => {
            let [high, low] = release.pkid.to_be_bytes();
            answer.extend([0x70, 2, high, low]);
        }
        _ => {}
    }
}

fn options(address: SocketAddr, qos: u8, count: u64) -> Options {
    Options {
        broker: BrokerUrl {
            is_tls: false,
            host: address.ip().to_string(),
            port: address.port(),
            user: None,
            password: None,
        },
        connections: 2,
        qos: Qos::from_level(qos).unwrap(),
        window: 20,
        duration: None,
        count: Some(count),
        is_progress_shown: false,
        ..Options::default()
    }
}

async fn drive(options: Options) -> Report {
    let (_stop, stopped) = watch::channel(false);
    tokio::time::timeout(Duration::from_secs(60), run(options, stopped)).await.unwrap().unwrap()
}

/// Distinct sequence numbers, and whether equal numbers came with equal bytes.
fn distinct(payloads: &[Vec<u8>]) -> usize {
    let mut by_seq = BTreeMap::new();
    for payload in payloads {
        let json: serde_json::Value = serde_json::from_slice(payload).unwrap();
        let first = by_seq.entry(json["seq"].as_u64().unwrap()).or_insert(payload);
        assert_eq!(*first, payload, "sent again with other bytes");
    }
    by_seq.len()
}

#[tokio::test]
async fn every_message_is_sent_and_acknowledged_at_each_quality_of_service() {
    for qos in 0..=2 {
        let (address, inbox) = acceptor(None).await;
        let report = drive(options(address, qos, 1001)).await;
        assert_eq!((report.sent, report.unacknowledged, report.lost_connections), (1001, 0, 0), "{report:?}");
        assert_eq!(report.acknowledged, if qos == 0 { 0 } else { 1001 });
        assert_eq!(report.latency.is_some(), qos > 0);
        assert!(report.is_clean() && report.bytes_per_s > 0.0);
        if qos > 0 {
            let inbox = inbox.lock().unwrap();
            let by_device: Vec<_> = inbox.payloads.iter().map(|(topic, p)| (&**topic, distinct(p))).collect();
            assert_eq!(by_device, [("iot/load-0001/telemetry", 501), ("iot/load-0002/telemetry", 500)]);
        }
    }
}

#[tokio::test]
async fn after_a_lost_connection_the_unacknowledged_go_again_with_the_same_bytes() {
    for qos in 1..=2 {
        let (address, inbox) = acceptor(Some(137)).await;
        let report = drive(options(address, qos, 1000)).await;
        assert_eq!((report.acknowledged, report.unacknowledged), (1000, 0));
        assert!(report.lost_connections >= 2 && report.retransmitted > 0, "{report:?}");
        let inbox = inbox.lock().unwrap();
        assert_eq!(inbox.payloads.values().map(|p| distinct(p)).sum::<usize>(), 1000);
        assert!(inbox.dups > 0 && inbox.dups as u64 <= report.retransmitted);
    }
}

#[tokio::test]
async fn a_rate_is_kept_and_a_stop_ends_the_run() {
    let (address, _) = acceptor(None).await;
    let (stop, stopped) = watch::channel(false);
    let paced = Options { pace: Pace::Rate(400.0), ..options(address, 1, 200) };
    let report = drive(paced).await;
    // 200 messages at 400/s are due within half a second: not earlier, whatever the machine does.
    assert!(report.elapsed_s > 0.45, "{report:?}");

    let endless = tokio::spawn(run(Options { count: None, ..options(address, 1, 0) }, stopped));
    stop.send(true).unwrap();
    let report = endless.await.unwrap().unwrap();
    assert_eq!(report.unacknowledged, 0);
}

#[tokio::test]
async fn a_refused_login_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = socket.write_all(&[0x20, 2, 0, 5]).await;
        }
    });
    let (_stop, stopped) = watch::channel(false);
    let error = run(options(address, 1, 10), stopped).await.unwrap_err();
    assert!(matches!(error, Error::Refused { code: 5, .. }), "{error}");
}

/// How often a node that was asked says that another one has not stored everything yet.
const UNSETTLED: usize = 3;

/// A stand-in for the API that answers the verification from the acceptor's inbox, leaving out what `is_kept` refuses.
/// It is one of two nodes, and has got nothing itself: the other one stores everything late.
fn api(inbox: Arc<Mutex<Inbox>>, is_kept: fn(u64) -> bool) -> ApiAccess {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut asked_for_nodes = 0;
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let mut request = Vec::new();
            let mut part = [0; 4096];
            while !request.windows(4).any(|w| w == b"\r\n\r\n") {
                let read = socket.read(&mut part).unwrap();
                request.extend_from_slice(&part[..read]);
            }
            let request = String::from_utf8_lossy(&request).into_owned();
            asked_for_nodes += usize::from(request.starts_with("GET /api/nodes "));
            let is_settled = asked_for_nodes > UNSETTLED;
            let (status, body) = respond(&request, &inbox.lock().unwrap(), is_settled, is_kept);
            let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = socket.write_all((head + &body).as_bytes());
            // The request's body may come after its head: an early close would reset the connection.
            let _ = socket.shutdown(std::net::Shutdown::Write);
            let _ = socket.read_to_end(&mut Vec::new());
        }
    });
    ApiAccess { url, key: Some("k".into()), ca_file: None }
}

fn respond(request: &str, inbox: &Inbox, is_settled: bool, is_kept: fn(u64) -> bool) -> (&'static str, String) {
    assert!(request.to_ascii_lowercase().contains("authorization: bearer k"), "{request}");
    if request.starts_with("POST /api/devices ") {
        return ("201 Created", "{\"token\":\"secret\"}".into());
    }
    if request.starts_with("GET /api/system/status ") {
        let time = Clock::system().now();
        let body = format!("{{\"time\":\"{time}\",\"journal\":{{\"durable\":7}},\"collector\":{{\"position\":7}}}}");
        return ("200 OK", body);
    }
    if request.starts_with("GET /api/nodes ") {
        let now = Clock::system().now();
        let until = now.plus_us(if is_settled { 10_000_000 } else { -1 });
        let settled = now.plus_us(10_000_000);
        let node = |name: &str, heard_at: &str, until: Timestamp| {
            format!(
                "{{\"name\":\"{name}\",\"is_this\":{},\"heartbeat_at\":{heard_at},\"stored_until\":\"{until}\"}}",
                name == "asked"
            )
        };
        let long_ago = now.plus_us(-86_400_000_000);
        let nodes = [
            node("asked", &format!("\"{now}\""), settled),
            node("receives", &format!("\"{now}\""), until),
            node("stopped", "null", long_ago),
            node("dead since yesterday", &format!("\"{long_ago}\""), long_ago),
        ];
        return ("200 OK", format!("[{}]", nodes.join(",")));
    }
    let device = request.split('/').nth(3).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    let mut body = String::new();
    for payload in &inbox.payloads[&format!("iot/{device}/telemetry")] {
        let json: serde_json::Value = serde_json::from_slice(payload).unwrap();
        let seq = json["seq"].as_u64().unwrap();
        if !is_settled || !is_kept(seq) || !seen.insert(seq) {
            continue;
        }
        for measurement in json["measurements"].as_array().unwrap() {
            if measurement["type"] == "voltage_dc" {
                body += &format!("{{\"time\":{},\"device_id\":\"{device}\",\"value\":1}}\n", measurement["ts"]);
            }
        }
    }
    ("200 OK", body)
}

#[tokio::test]
async fn the_proof_finds_exactly_what_the_store_lost() {
    let (address, inbox) = acceptor(Some(50)).await;
    let whole = Options { api: Some(api(inbox.clone(), |_| true)), ..options(address, 1, 500) };
    let report = drive(whole).await;
    let expected = Verification { devices: 2, stored: 500, ..Verification::default() };
    assert_eq!((report.verification, report.is_clean()), (Some(expected), true));

    let (address, inbox) = acceptor(None).await;
    let lossy = Options { api: Some(api(inbox, |seq| seq % 100 != 3)), ..options(address, 2, 500) };
    let report = drive(lossy).await;
    let expected = Verification { devices: 2, stored: 494, missing: 6, ..Verification::default() };
    assert_eq!((report.verification, report.is_clean()), (Some(expected), false));
}

#[tokio::test]
async fn the_proof_names_a_node_that_does_not_store_what_it_received() {
    let (address, inbox) = acceptor(None).await;
    let impatient = Options { verify_patience: Duration::ZERO, ..options(address, 1, 10) };
    let (_stop, stopped) = watch::channel(false);
    let error = run(Options { api: Some(api(inbox, |_| true)), ..impatient }, stopped).await.unwrap_err();
    assert!(matches!(&error, Error::NotSettled { node, .. } if node == "node receives"), "{error}");
}

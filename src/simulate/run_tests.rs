//! A whole run against a tiny broker on loopback: connections, last will, commands, a firmware update, reconnects.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Mutex;

use bytes::BytesMut;
use rumqttc::mqttbytes::v4::{Packet, PubAck, PubComp, PubRec, PubRel, Publish, SubAck, SubscribeReasonCode};
use rumqttc::{Connect, QoS};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;

/// What the broker tells the test.
#[derive(Debug)]
enum Seen {
    Connect(Box<Connect>),
    Message {
        topic: String,
        retain: bool,
        body: Value,
    },
    /// The connection ended, with or without DISCONNECT.
    Gone {
        is_orderly: bool,
    },
}

#[derive(Default)]
struct Script {
    /// Commands to send as soon as a client has subscribed, once each.
    commands: Vec<Value>,
    /// Drop the first connection after so many publishes, unacknowledged.
    break_after: Option<usize>,
    /// Client ids that were here before: their session is present.
    known: BTreeSet<String>,
}

async fn broker(script: Script) -> (SocketAddr, mpsc::UnboundedReceiver<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = mpsc::unbounded_channel();
    let script = Arc::new(Mutex::new(script));
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (tell, script) = (tell.clone(), script.clone());
            tokio::spawn(async move {
                let is_orderly = serve(socket, &script, &tell).await;
                let _ = tell.send(Seen::Gone { is_orderly });
            });
        }
    });
    (address, told)
}

async fn serve(mut socket: TcpStream, script: &Mutex<Script>, tell: &mpsc::UnboundedSender<Seen>) -> bool {
    let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
    let break_after = script.lock().unwrap().break_after.take();
    let mut publishes = 0;
    loop {
        if !matches!(socket.read_buf(&mut input).await, Ok(1..)) {
            return false;
        }
        while let Ok(packet) = Packet::read(&mut input, 1 << 20) {
            publishes += usize::from(matches!(packet, Packet::Publish(_)));
            if break_after.is_some_and(|limit| publishes > limit) || matches!(packet, Packet::Disconnect) {
                return matches!(packet, Packet::Disconnect);
            }
            answer(packet, &mut script.lock().unwrap(), tell, &mut output);
        }
        if socket.write_all_buf(&mut output).await.is_err() {
            return false;
        }
    }
}

fn answer(packet: Packet, script: &mut Script, tell: &mpsc::UnboundedSender<Seen>, out: &mut BytesMut) {
    match packet {
        Packet::Connect(connect) => {
            let is_known = !script.known.insert(connect.client_id.clone()) && !connect.clean_session;
            out.extend_from_slice(&[0x20, 2, u8::from(is_known), 0]);
            let _ = tell.send(Seen::Connect(Box::new(connect)));
        }
        Packet::Subscribe(subscribe) => {
            SubAck::new(subscribe.pkid, vec![SubscribeReasonCode::Success(QoS::ExactlyOnce)]).write(out).unwrap();
            for (index, command) in script.commands.drain(..).enumerate() {
                let mut publish = Publish::new(&subscribe.filters[0].path, QoS::ExactlyOnce, command.to_string());
                publish.pkid = index as u16 + 1;
                publish.write(out).unwrap();
            }
        }
        Packet::Publish(publish) => {
            match publish.qos {
                QoS::AtMostOnce => {}
                QoS::AtLeastOnce => drop(PubAck::new(publish.pkid).write(out).unwrap()),
                QoS::ExactlyOnce => drop(PubRec::new(publish.pkid).write(out).unwrap()),
            }
            let body = serde_json::from_slice(&publish.payload).unwrap();
            let _ = tell.send(Seen::Message { topic: publish.topic, retain: publish.retain, body });
        }
        Packet::PubRec(receipt) => drop(PubRel::new(receipt.pkid).write(out).unwrap()),
        Packet::PubRel(release) => drop(PubComp::new(release.pkid).write(out).unwrap()),
        Packet::PingReq => out.extend_from_slice(&[0xD0, 0]),
        _ => {}
    }
}

fn options(brokers: &[SocketAddr]) -> Options {
    let url = |address: &SocketAddr| format!("mqtt://{address}").parse().unwrap();
    Options {
        devices: 1,
        profile: Profile::Dc750,
        brokers: brokers.iter().map(url).collect(),
        speed: 100.0,
        password: Some(crate::config::Secret::new("secret")),
        ..Options::default()
    }
}

struct Run {
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<Result<Report, Error>>,
}

impl Run {
    fn start(options: Options) -> Self {
        let (stop, stopped) = watch::channel(false);
        Self { stop, task: tokio::spawn(run(options, stopped)) }
    }

    async fn end(self) -> Report {
        self.stop.send(true).unwrap();
        self.task.await.unwrap().unwrap()
    }
}

/// Waits for the next message that `wanted` accepts; whatever else comes is put into `seen`.
async fn until(told: &mut mpsc::UnboundedReceiver<Seen>, seen: &mut Vec<Seen>, wanted: impl Fn(&Seen) -> bool) {
    tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            let one = told.recv().await.unwrap();
            let is_wanted = wanted(&one);
            seen.push(one);
            if is_wanted {
                return;
            }
        }
    })
    .await
    .unwrap_or_else(|_| panic!("never came; there was {seen:#?}"));
}

fn is_message(one: &Seen, field: &str, expected: &str) -> bool {
    matches!(one, Seen::Message { body, .. } if body[field] == expected)
}

fn bodies<'a>(seen: &'a [Seen], kind: &str) -> Vec<&'a Value> {
    let body = |one: &'a Seen| match one {
        Seen::Message { body, .. } if body["msg_type"] == kind => Some(body),
        _ => None,
    };
    seen.iter().filter_map(body).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_meter_connects_with_its_last_will_says_online_measures_and_leaves_offline() {
    let (address, mut told) = broker(Script::default()).await;
    let meter = Run::start(options(&[address]));
    let mut seen = Vec::new();
    for _ in 0..2 {
        until(&mut told, &mut seen, |one| is_message(one, "msg_type", "telemetry")).await;
    }
    let report = meter.end().await;
    until(&mut told, &mut seen, |one| matches!(one, Seen::Gone { is_orderly: true })).await;

    let Seen::Connect(connect) = &seen[0] else { panic!("{seen:?}") };
    let login = connect.login.as_ref().unwrap();
    assert_eq!((&*login.username, &*login.password), ("sim-dc750-0001", "secret"));
    assert_eq!((connect.clean_session, connect.keep_alive), (false, 15));
    let will = connect.last_will.as_ref().unwrap();
    let said: Value = serde_json::from_slice(&will.message).unwrap();
    assert_eq!((&*will.topic, will.retain), ("iot/sim-dc750-0001/status", true));
    assert_eq!(said["status"], "offline");

    let Seen::Message { topic, retain, body } = &seen[1] else { panic!("{seen:?}") };
    assert_eq!((&**topic, *retain, &body["status"]), ("iot/sim-dc750-0001/status", true, &json!("online")));
    let last = seen.iter().rev().find_map(|one| match one {
        Seen::Message { body, .. } => Some(body),
        _ => None,
    });
    assert_eq!(last.unwrap()["status"], "offline");
    assert!(bodies(&seen, "telemetry").iter().enumerate().all(|(i, m)| m["seq"] == i + 1));
    let telemetry = report.messages["telemetry"];
    assert!(telemetry.made >= 2 && telemetry.made == telemetry.sent && telemetry.sent == telemetry.acked, "{report:?}");
    assert_eq!(report.messages["status"].acked, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_to_update_downloads_checks_reboots_and_comes_back_with_the_new_version() {
    let image = vec![42u8; 200_000];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/fw.bin", listener.local_addr().unwrap());
    let served = image.clone();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let _ = socket.read(&mut [0; 2048]).await;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", served.len());
        let _ = socket.write_all(&[head.as_bytes(), &served].concat()).await;
    });
    let params = json!({"fw_version": "2.1.0", "fw_url": url, "fw_size_bytes": image.len(),
        "fw_sha256": hex::encode(Sha256::digest(&image))});
    let order = json!({"v": 2, "cmd_id": uuid::Uuid::from_bytes([1; 16]), "cmd": "start_ota", "params": params});
    // Delivered twice: done once.
    let (address, mut told) = broker(Script { commands: vec![order.clone(), order], ..Script::default() }).await;
    let meter = Run::start(options(&[address]));
    let mut seen = Vec::new();
    until(&mut told, &mut seen, |one| is_message(one, "ota_state", "success")).await;
    until(&mut told, &mut seen, |one| is_message(one, "fw_version", "2.1.0")).await;
    let report = meter.end().await;

    let states: Vec<_> = bodies(&seen, "ota_status").iter().map(|m| m["ota_state"].as_str().unwrap()).collect();
    assert_eq!(states.first(), Some(&"downloading"));
    assert_eq!(states[states.len() - 3..], ["verifying", "applying", "success"]);
    assert_eq!(bodies(&seen, "command_ack").len(), 1);
    assert_eq!(bodies(&seen, "hello").last().unwrap()["seq"], 0);
    assert!(seen.iter().any(|one| matches!(one, Seen::Gone { is_orderly: false })), "a reboot drops the connection");
    assert_eq!((report.reboots, report.commands_received), (1, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_loses_no_message() {
    for known in [BTreeSet::new(), BTreeSet::from(["sim-dc750-0001".to_owned()])] {
        let (address, mut told) = broker(Script { break_after: Some(4), known, ..Script::default() }).await;
        let meter = Run::start(options(&[address]));
        let mut seen = Vec::new();
        until(&mut told, &mut seen, |one| matches!(one, Seen::Gone { .. })).await;
        until(&mut told, &mut seen, |one| matches!(one, Seen::Message { body, .. } if body["seq"] == 30)).await;
        let report = meter.end().await;
        let counted: BTreeSet<_> = seen
            .iter()
            .filter_map(|one| match one {
                Seen::Message { body, .. } => body["seq"].as_u64(),
                _ => None,
            })
            .collect();
        assert!((0..=30).all(|seq| counted.contains(&seq)), "{counted:?}");
        assert!(report.connects >= 2 && report.buffer_overflow == 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_broker_gets_the_same_bytes() {
    let (one, mut told_one) = broker(Script::default()).await;
    let (two, mut told_two) = broker(Script::default()).await;
    let meter = Run::start(options(&[one, two]));
    let (mut seen_one, mut seen_two) = (Vec::new(), Vec::new());
    let is_fifth = |one: &Seen| matches!(one, Seen::Message { body, .. } if body["seq"] == 5);
    until(&mut told_one, &mut seen_one, is_fifth).await;
    until(&mut told_two, &mut seen_two, is_fifth).await;
    meter.end().await;
    assert_eq!(bodies(&seen_one, "telemetry"), bodies(&seen_two, "telemetry"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_messages_leave_gaps_and_are_counted() {
    let (address, mut told) = broker(Script::default()).await;
    let faults = Faults { drop: 0.5, ..Faults::default() };
    let meter = Run::start(Options { faults, ..options(&[address]) });
    let mut seen = Vec::new();
    until(&mut told, &mut seen, |one| matches!(one, Seen::Message { body, .. } if body["seq"].as_u64() > Some(40)))
        .await;
    let report = meter.end().await;
    while let Ok(one) = told.try_recv() {
        seen.push(one);
    }
    let arrived = (bodies(&seen, "telemetry").len() + bodies(&seen, "hello").len()) as u64;
    let made = report.messages["telemetry"].made + report.messages["hello"].made;
    assert_eq!(arrived, made - report.faults.drop);
    assert!(report.faults.drop > 0);
}

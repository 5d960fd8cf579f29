//! Commands to meters, and what the command side hears.

use futures_util::FutureExt;

use super::*;
use crate::broker::auth::{Answer, Grant};
use crate::mqtt::packet::Ack;
use crate::mqtt::{Packet, Publish};

fn device(id: &str) -> DeviceId {
    DeviceId::parse(id).unwrap()
}

async fn next(events: &mut Events) -> Event {
    let news = tokio::time::timeout(Duration::from_secs(20), events.next()).await.expect("an event in time").unwrap();
    let [event] = news.as_slice() else { panic!("not one event: {news:?}") };
    event.clone()
}

#[tokio::test]
async fn a_command_reaches_the_subscribed_client_once_and_its_delivery_is_told() {
    let bed = Bed::open().await;
    let mut events = bed.broker.events().unwrap();
    assert!(bed.broker.events().is_none());
    let command = CommandId::random();
    let send = |payload: &'static str| bed.broker.send_command(&device("m1"), command, Bytes::from(payload));
    assert!(!send("x"), "nobody is there");
    let mut watcher = bed.client("watcher").await;
    watcher.subscribe("iot/+/command", 2).await;
    assert!(!send("x"), "a wildcard is not the meter");
    let (mut meter, _) = bed.stayer("m1").await;
    meter.subscribe("iot/m1/command", 2).await;
    assert_eq!(next(&mut events).await, Event::Ready { device: device("m1") });
    assert!(send("reboot"));
    assert!(send("reboot"), "known: not queued again");
    assert_eq!(meter.expect_publish().await, publish("iot/m1/command", "reboot", 2, 1));
    meter.expect_nothing().await;
    drop(meter);
    assert_eq!(next(&mut events).await, Event::Gone { device: device("m1") });
    assert!(!send("reboot"));
    let (mut meter, _) = bed.stayer("m1").await;
    assert_eq!(next(&mut events).await, Event::Ready { device: device("m1") });
    assert!(send("reboot"), "in flight since before");
    let again = Publish { dup: true, ..publish("iot/m1/command", "reboot", 2, 1) };
    assert_eq!(meter.expect_publish().await, again);
    meter.send(Packet::PubRec(Ack::ok(id(1)))).await;
    meter.expect(Packet::PubRel(Ack::ok(id(1)))).await;
    meter.send(Packet::PubComp(Ack::ok(id(1)))).await;
    assert_eq!(next(&mut events).await, Event::Delivered { cmd_id: command });
    meter.expect_nothing().await;
    watcher.expect_nothing().await;
}

/// Takes `m1` for the device and everybody else for a service that may read all.
struct ByName;

impl Authenticator for ByName {
    fn authenticate<'a>(&'a self, given: Credentials<'a>) -> Answer<'a> {
        let identity = if given.client_id == "m1" {
            Identity::Device(device("m1"))
        } else {
            let (name, read) = (given.client_id.to_owned(), vec!["iot/#".to_owned()]);
            Identity::Service(Arc::new(Grant { name, token_sha256: [0; 32], read, write: Vec::new() }))
        };
        Box::pin(std::future::ready(Ok(identity.into())))
    }
}

#[tokio::test]
async fn a_service_that_listens_to_commands_gets_copies_and_takes_none_from_the_meter() {
    let bed = Bed::guarded(Options::default(), Arc::new(ByName)).await;
    let mut events = bed.broker.events().unwrap();
    let command = CommandId::random();
    let send = || bed.broker.send_command(&device("m1"), command, Bytes::from_static(b"reboot"));
    let mut listener = bed.client("listener").await;
    listener.subscribe("iot/m1/command", 1).await;
    assert!(!send(), "the meter is not there");
    assert_eq!(listener.expect_publish().await.payload, "reboot");
    listener.send(Packet::PubAck(Ack::ok(id(1)))).await;
    listener.expect_nothing().await;
    assert!(events.next().now_or_never().is_none(), "neither ready nor delivered");
    let mut meter = bed.client("m1").await;
    meter.subscribe("iot/m1/command", 1).await;
    assert_eq!(next(&mut events).await, Event::Ready { device: device("m1") });
    assert!(send());
    assert_eq!(meter.expect_publish().await.payload, "reboot");
    assert_eq!(listener.expect_publish().await.payload, "reboot");
    meter.send(Packet::PubAck(Ack::ok(id(1)))).await;
    assert_eq!(next(&mut events).await, Event::Delivered { cmd_id: command });
    drop(meter);
    assert_eq!(next(&mut events).await, Event::Gone { device: device("m1") });
}

#[tokio::test]
async fn the_granted_qos_decides_what_counts_as_delivered() {
    let bed = Bed::open().await;
    let mut events = bed.broker.events().unwrap();
    for level in 0..2 {
        let mut meter = bed.client("m1").await;
        meter.subscribe("iot/m1/command", level).await;
        assert_eq!(next(&mut events).await, Event::Ready { device: device("m1") });
        let command = CommandId::random();
        assert!(bed.broker.send_command(&device("m1"), command, Bytes::from("x")));
        let seen = meter.expect_publish().await;
        assert_eq!(seen.qos.level(), level);
        if let Some(n) = seen.packet_id {
            assert!(events.next().now_or_never().is_none());
            meter.send(Packet::PubAck(Ack::ok(n))).await;
        }
        assert_eq!(next(&mut events).await, Event::Delivered { cmd_id: command });
        meter.send(Packet::Unsubscribe { packet_id: id(9), filters: vec!["iot/m1/command".into()] }).await;
        assert_eq!(next(&mut events).await, Event::Gone { device: device("m1") });
    }
}

#[tokio::test]
async fn a_command_that_waits_behind_a_full_window_is_forgotten_when_the_client_goes() {
    let bed = Bed::with(Options { max_inflight: 1, ..Options::default() }).await;
    let (mut meter, _) = bed.stayer("m1").await;
    meter.subscribe("iot/m1/command", 2).await;
    let (sent, waiting) = (CommandId::random(), CommandId::random());
    assert!(bed.broker.send_command(&device("m1"), sent, Bytes::from("1")));
    assert!(bed.broker.send_command(&device("m1"), waiting, Bytes::from("2")));
    meter.expect_publish().await;
    drop(meter);
    bed.until("gone", |s| s.connections == 0).await;
    let (mut meter, _) = bed.stayer("m1").await;
    assert_eq!(meter.expect_publish().await.payload, "1");
    meter.send(Packet::PubRec(Ack::ok(id(1)))).await;
    meter.expect(Packet::PubRel(Ack::ok(id(1)))).await;
    meter.send(Packet::PubComp(Ack::ok(id(1)))).await;
    meter.expect_nothing().await;
    assert!(bed.broker.send_command(&device("m1"), waiting, Bytes::from("2")), "offered anew");
    assert_eq!(meter.expect_publish().await.payload, "2");
}

#[tokio::test]
async fn disconnecting_a_device_ends_its_session_connected_or_not() {
    let bed = Bed::open().await;
    let (mut meter, _) = bed.stayer("m1").await;
    meter.subscribe("iot/m1/command", 2).await;
    drop(bed.stayer("m2").await);
    bed.until("one of two connected", |s| s.connections == 1 && s.sessions == 2).await;
    bed.broker.disconnect(&device("m1"));
    bed.broker.disconnect(&device("m2"));
    bed.broker.disconnect(&device("m3"));
    meter.expect_closed().await;
    bed.until("no session", |s| s.sessions == 0 && s.subscriptions == 0).await;
}

#[tokio::test]
async fn stopping_acknowledges_what_the_journal_was_given_and_takes_no_more() {
    let bed = Bed::open().await;
    let mut meter = bed.client("m1").await;
    let mut half = Client::open(bed.address).await; // never sends its CONNECT
    bed.journal.hold();
    meter.publish(publish("iot/m1/telemetry", "a", 2, 1)).await;
    bed.until("taken", |s| s.meter_messages == 1).await;
    let stopping = tokio::spawn({
        let broker = bed.broker.clone();
        async move { broker.stop(Duration::from_secs(5)).await }
    });
    half.expect_closed().await;
    assert!(tokio::net::TcpStream::connect(bed.address).await.is_err(), "the listener is closed");
    bed.journal.release();
    meter.expect(Packet::PubRec(Ack::ok(id(1)))).await;
    meter.expect_closed().await;
    assert!(stopping.await.unwrap());
}

#[tokio::test]
async fn stopping_ends_at_its_deadline_whatever_hangs() {
    let bed = Bed::open().await;
    let mut meter = bed.client("m1").await;
    bed.journal.hold();
    meter.publish(publish("iot/m1/telemetry", "a", 2, 1)).await;
    bed.until("taken", |s| s.meter_messages == 1).await;
    assert!(!bed.broker.stop(Duration::from_millis(50)).await);
    meter.expect_closed().await;
}

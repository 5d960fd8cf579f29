//! A broker that stops and one that begins where it was, on a real SQLite.

use std::num::NonZeroU16;

use super::client::{connect, will};
use super::*;
use crate::broker::auth::{Answer, Recalled};
use crate::mqtt::packet::{Ack, Connect, Properties, SubscribeOptions, SubscriptionId, Will};
use crate::mqtt::{Packet, Publish, QoS};

fn open_store(dir: &tempfile::TempDir) -> SharedStore {
    crate::store::open(&format!("sqlite://{}", dir.path().join("s.db").display())).unwrap()
}

#[track_caller]
fn stop(bed: Bed) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move { assert!(bed.broker.stop(Duration::from_secs(10)).await, "{place}") }
}

async fn acknowledge(client: &mut Client, n: u16) {
    client.expect(Packet::PubAck(Ack::ok(id(n)))).await;
}

#[tokio::test]
async fn retained_messages_and_persistent_sessions_with_what_waits_for_them_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(&dir);
    let bed = Bed::saving(Options::default(), &store).await;
    let mut away = Client::open_v5(bed.address).await;
    away.greet(Connect { session_expiry_s: 600, ..connect("away", false) }).await.unwrap();
    let options = SubscribeOptions { qos: QoS::ExactlyOnce, ..SubscribeOptions::default() };
    away.subscribe_with("a/#", options, SubscriptionId::new(5)).await;
    let mut publisher = Client::open_v5(bed.address).await;
    publisher.greet(connect("publisher", true)).await.unwrap();
    publisher.publish(publish("a/1", "in flight", 2, 1)).await;
    publisher.expect(Packet::PubRec(Ack::ok(id(1)))).await;
    assert_eq!(away.expect_publish().await.packet_id, Some(id(1)));
    publisher.publish(publish("a/2", "with the client", 2, 2)).await;
    publisher.expect(Packet::PubRec(Ack::ok(id(2)))).await;
    assert_eq!(away.expect_publish().await.packet_id, Some(id(2)));
    away.send(Packet::PubRec(Ack::ok(id(2)))).await;
    away.expect(Packet::PubRel(Ack::ok(id(2)))).await;
    drop(away);
    bed.until("away", |s| s.connections == 1).await;
    let properties = Some(Arc::new(Properties { user: vec![("k".into(), "v".into())], ..Properties::default() }));
    let kept = Publish { retain: true, properties, expiry_s: Some(500), ..publish("a/3", "waits", 1, 3) };
    publisher.publish(kept).await;
    acknowledge(&mut publisher, 3).await;
    publisher.publish(Publish { expiry_s: Some(0), ..publish("a/4", "expires", 1, 4) }).await;
    acknowledge(&mut publisher, 4).await;
    stop(bed).await;

    let bed = Bed::saving(Options::default(), &store).await;
    assert_eq!((bed.broker.stats().sessions, bed.broker.stats().retained), (1, 1), "clean sessions are not kept");
    let mut back = Client::open_v5(bed.address).await;
    let greeting = back.greet(Connect { session_expiry_s: 600, ..connect("away", false) }).await.unwrap();
    assert!(greeting.session_present);
    let again = back.expect_publish().await;
    assert_eq!((again.dup, again.packet_id, &*again.payload), (true, Some(id(1)), &b"in flight"[..]));
    back.expect(Packet::PubRel(Ack::ok(id(2)))).await;
    let waited = back.expect_publish().await;
    assert_eq!(waited.payload, "waits");
    assert_eq!(waited.subscription_ids, [SubscriptionId::new(5).unwrap()]);
    assert_eq!(waited.properties.unwrap().user, [("k".into(), "v".into())]);
    assert!(matches!(waited.expiry_s, Some(1..=500)));
    back.expect_nothing().await;
    let mut reader = bed.client("reader").await;
    reader.subscribe("a/3", 0).await;
    assert!(reader.expect_publish().await.retain);
    // Completed, cleared and ended things are gone from the disk, too.
    back.send(Packet::PubRec(Ack::ok(id(1)))).await;
    back.expect(Packet::PubRel(Ack::ok(id(1)))).await;
    for n in [1, 2] {
        back.send(Packet::PubComp(Ack::ok(id(n)))).await;
    }
    back.send(Packet::PubAck(Ack::ok(waited.packet_id.unwrap()))).await;
    back.publish(Publish { retain: true, ..publish("a/3", "", 0, 0) }).await;
    back.expect_publish().await;
    stop(bed).await;
    let (mut sessions, mut retained) = (Vec::new(), 0);
    store.load_sessions(&mut |s| sessions.push((s.client_id, s.messages.len()))).unwrap();
    store.load_retained(&mut |_, _| retained += 1).unwrap();
    assert_eq!((sessions, retained), (vec![("away".to_owned(), 0)], 0));
}

#[tokio::test]
async fn retained_messages_that_wait_for_their_turn_survive_a_restart_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(&dir);
    let bed = Bed::saving(Options::default(), &store).await;
    let mut writer = bed.client("writer").await;
    for n in 1..=3 {
        writer.publish(Publish { retain: true, ..publish(&format!("a/{n}"), "kept", 1, n) }).await;
        acknowledge(&mut writer, n).await;
    }
    let asked = || Connect { session_expiry_s: 600, receive_maximum: NonZeroU16::new(1), ..connect("slow", false) };
    let mut slow = Client::open_v5(bed.address).await;
    slow.greet(asked()).await.unwrap();
    slow.subscribe("a/+", 1).await;
    let first = slow.expect_publish().await;
    writer.publish(publish("a/1", "live", 1, 4)).await;
    acknowledge(&mut writer, 4).await;
    drop(slow);
    bed.until("away", |s| s.connections == 1).await;
    stop(bed).await;
    let bed = Bed::saving(Options::default(), &store).await;
    let mut slow = Client::open_v5(bed.address).await;
    assert!(slow.greet(asked()).await.unwrap().session_present);
    let mut got = Vec::new();
    for _ in 0..4 {
        let publish = slow.expect_publish().await;
        slow.send(Packet::PubAck(Ack::ok(publish.packet_id.unwrap()))).await;
        got.push((publish.topic.to_string(), publish.retain));
    }
    assert_eq!(got[0].0, &*first.topic);
    assert!(got[..3].iter().all(|(_, retain)| *retain), "{got:?}");
    assert_eq!(got[3], ("a/1".to_owned(), false));
}

#[tokio::test]
async fn an_exactly_once_publish_that_spans_a_restart_is_routed_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(&dir);
    let bed = Bed::saving(Options::default(), &store).await;
    let (mut reader, _) = bed.stayer("reader").await;
    reader.subscribe("a", 2).await;
    let (mut writer, _) = bed.stayer("writer").await;
    writer.publish(publish("a", "once", 2, 7)).await;
    writer.expect(Packet::PubRec(Ack::ok(id(7)))).await;
    stop(bed).await;
    let bed = Bed::saving(Options::default(), &store).await;
    let (mut writer, is_present) = bed.stayer("writer").await;
    assert!(is_present);
    writer.publish(Publish { dup: true, ..publish("a", "once", 2, 7) }).await;
    writer.expect(Packet::PubRec(Ack::ok(id(7)))).await;
    writer.send(Packet::PubRel(Ack::ok(id(7)))).await;
    writer.expect(Packet::PubComp(Ack::ok(id(7)))).await;
    let (mut reader, _) = bed.stayer("reader").await;
    assert_eq!(reader.expect_publish().await.payload, "once");
    reader.expect_nothing().await;
}

#[tokio::test]
async fn what_has_changed_is_saved_soon_without_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(&dir);
    let bed = Bed::saving(Options::default(), &store).await;
    let (mut reader, _) = bed.stayer("reader").await;
    reader.subscribe("a", 1).await;
    let mut writer = bed.client("writer").await;
    writer.publish(Publish { retain: true, ..publish("a", "x", 1, 1) }).await;
    acknowledge(&mut writer, 1).await;
    assert_eq!(reader.expect_publish().await.payload, "x");
    let saved = || {
        let (mut messages, mut retained) = (0, 0);
        store.load_sessions(&mut |s| messages += s.messages.len()).unwrap();
        store.load_retained(&mut |_, _| retained += 1).unwrap();
        (messages, retained)
    };
    let is_reached = async |wanted: (usize, usize)| {
        while saved() != wanted {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), is_reached((1, 1))).await.expect("the message in flight, and kept");
    reader.send(Packet::PubAck(Ack::ok(id(1)))).await;
    tokio::time::timeout(Duration::from_secs(20), is_reached((0, 1))).await.expect("acknowledged");
}

#[tokio::test]
async fn a_session_that_was_cleared_is_gone_from_the_disk_before_its_client_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(&dir);
    let bed = Bed::saving(Options::default(), &store).await;
    let (mut first, _) = bed.stayer("c").await;
    first.subscribe("a", 1).await;
    drop(first);
    bed.until("away", |s| s.connections == 0).await;
    let mut writer = bed.client("writer").await;
    writer.publish(publish("a", "old", 1, 1)).await;
    acknowledge(&mut writer, 1).await;
    let saved = || {
        let mut messages = Vec::new();
        store.load_sessions(&mut |s| messages.push(s.messages.len())).unwrap();
        messages
    };
    let is_reached = async |wanted: &[usize]| {
        while saved() != wanted {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), is_reached(&[1])).await.expect("the message that waits");
    let _clean = bed.client("c").await;
    tokio::time::timeout(Duration::from_secs(20), is_reached(&[])).await.expect("nothing to come back after a crash");
}

#[tokio::test]
async fn retained_messages_beyond_what_is_looked_for_ahead_all_come_also_over_a_lost_connection() {
    let bed = Bed::open().await;
    let mut writer = bed.client("writer").await;
    const ALL: u16 = 1000;
    for n in 1..=ALL {
        writer.publish(Publish { retain: true, ..publish(&format!("a/{n}"), "kept", 1, n) }).await;
        acknowledge(&mut writer, n).await;
    }
    let asked = || Connect { session_expiry_s: 600, receive_maximum: NonZeroU16::new(7), ..connect("slow", false) };
    let mut slow = Client::open_v5(bed.address).await;
    slow.greet(asked()).await.unwrap();
    slow.subscribe("a/+", 1).await;
    let mut got = std::collections::BTreeSet::new();
    for _ in 0..300 {
        let publish = slow.expect_publish().await;
        slow.send(Packet::PubAck(Ack::ok(publish.packet_id.unwrap()))).await;
        assert!(publish.retain && got.insert(publish.topic.to_string()), "{publish:?}");
    }
    // Another value, before its turn has come: as a live one, and once.
    writer.publish(Publish { retain: true, ..publish("a/999", "new", 1, 1) }).await;
    acknowledge(&mut writer, 1).await;
    drop(slow);
    bed.until("away", |s| s.connections == 1).await;
    let mut slow = Client::open_v5(bed.address).await;
    assert!(slow.greet(asked()).await.unwrap().session_present);
    let mut live = 0;
    while got.len() < usize::from(ALL) {
        let publish = slow.expect_publish().await;
        slow.send(Packet::PubAck(Ack::ok(publish.packet_id.unwrap()))).await;
        live += usize::from(!publish.retain);
        assert!(publish.retain || (&*publish.topic, &*publish.payload) == ("a/999", b"new"), "{publish:?}");
        assert!(got.insert(publish.topic.to_string()) || publish.dup, "{publish:?}");
    }
    assert_eq!(live, 1);
    slow.expect_nothing().await;
    bed.until("nothing is held", |s| s.queued == 0 && s.queued_bytes == 0).await;
}

#[tokio::test]
async fn what_is_kept_of_a_device_that_was_removed_goes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(&dir);
    let bed = Bed::saving(Options::default(), &store).await;
    let mut writer = bed.client("writer").await;
    for (n, topic) in [(1, "iot/m1/status"), (2, "iot/m10/status")] {
        writer.publish(Publish { retain: true, ..publish(topic, "online", 1, n) }).await;
        acknowledge(&mut writer, n).await;
    }
    bed.broker.forget_retained(&DeviceId::parse("m1").unwrap());
    let mut reader = bed.client("reader").await;
    reader.subscribe("iot/+/status", 0).await;
    assert_eq!(reader.expect_publish().await.topic, "iot/m10/status");
    reader.expect_nothing().await;
    stop(bed).await;
    let mut left = Vec::new();
    store.load_retained(&mut |topic, _| left.push(topic)).unwrap();
    assert_eq!(left, ["iot/m10/status"]);
}

#[tokio::test]
async fn a_will_that_waits_when_the_server_stops_comes_after_the_start_and_an_old_session_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(&dir);
    let bed = Bed::saving(Options::default(), &store).await;
    let (mut watcher, _) = bed.stayer("watcher").await;
    watcher.subscribe("w", 1).await;
    let dying = Connect {
        will: Some(Will { delay_s: 1, ..will("w", "late", 1) }),
        session_expiry_s: 600,
        ..connect("dying", false)
    };
    let mut client = Client::open_v5(bed.address).await;
    client.greet(dying).await.unwrap();
    drop(client);
    bed.until("gone", |s| s.connections == 1).await;
    stop(bed).await;
    let bed = Bed::saving(Options::default(), &store).await;
    let (mut watcher, is_present) = bed.stayer("watcher").await;
    assert!(is_present);
    assert_eq!(watcher.expect_publish().await.payload, "late");
    stop(bed).await;
    // Of a server that keeps sessions for no time at all.
    let bed = Bed::saving(Options { session_expiry: Duration::ZERO, ..Options::default() }, &store).await;
    assert_eq!(bed.broker.stats().sessions, 0);
    stop(bed).await;
    let mut left = 0;
    store.load_sessions(&mut |_| left += 1).unwrap();
    assert_eq!(left, 0);
}

/// Takes everybody for the device of that client id; of those that came before the start, it still knows these.
struct Registry(&'static [&'static str]);

impl Authenticator for Registry {
    fn authenticate<'a>(&'a self, given: Credentials<'a>) -> Answer<'a> {
        let device = DeviceId::parse(given.client_id).ok_or(Denied::BadCredentials);
        Box::pin(std::future::ready(device.map(|device| Admitted::from(Identity::Device(device)))))
    }

    fn has_kind(&self, identity: &Identity) -> bool {
        *identity != Identity::Open
    }

    fn recall<'a>(&'a self, identity: &'a Identity) -> Recalled<'a> {
        let is_known = self.0.iter().any(|name| *name == identity.name());
        let recalled = if is_known { Ok(identity.clone()) } else { Err(Denied::NotAuthorized) };
        Box::pin(std::future::ready(recalled))
    }
}

#[tokio::test]
async fn a_device_that_is_gone_since_leaves_no_will_and_no_session() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(&dir);
    let bed = Bed::build(Options::default(), Arc::new(Registry(&[])), Some(Arc::clone(&store))).await;
    for name in ["m1", "m2"] {
        let late = Will { delay_s: 2, ..will(&format!("iot/{name}/status"), "late", 1) };
        let mut client = Client::open_v5(bed.address).await;
        client.greet(Connect { will: Some(late), session_expiry_s: 600, ..connect(name, false) }).await.unwrap();
    }
    bed.until("gone", |s| s.connections == 0).await;
    stop(bed).await;
    let bed = Bed::build(Options::default(), Arc::new(Registry(&["m2"])), Some(Arc::clone(&store))).await;
    assert_eq!(bed.broker.stats().sessions, 2);
    bed.until("judged", |s| s.wills_fired == 1 && s.sessions == 1).await;
    assert_eq!(bed.journal.texts(), [("iot/m2/status".to_owned(), "late".to_owned())]);
    stop(bed).await;
    let mut left = Vec::new();
    store.load_sessions(&mut |session| left.push(session.client_id)).unwrap();
    assert_eq!(left, ["m2"]);
}

#[tokio::test]
async fn a_session_of_the_time_without_authentication_is_in_nobodys_way() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(&dir);
    let bed = Bed::saving(Options::default(), &store).await;
    drop(bed.stayer("m1").await);
    bed.until("away", |s| s.connections == 0).await;
    stop(bed).await;
    let bed = Bed::build(Options::default(), Arc::new(Registry(&["m1"])), Some(Arc::clone(&store))).await;
    assert_eq!(bed.broker.stats().sessions, 0);
    let (_client, is_present) = bed.stayer("m1").await;
    assert!(!is_present);
}

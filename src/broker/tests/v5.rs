//! What version 5 adds, over real sockets: negotiation, refusals in words, options, wills that wait, shared subscriptions.

use std::num::{NonZeroU16, NonZeroU32};

use super::client::{connect, will};
use super::*;
use crate::mqtt::packet::{
    Ack, Connect, Disconnect, Properties, RetainHandling, SubscribeOptions, SubscriptionId, TopicAlias, Will,
};
use crate::mqtt::{Packet, Publish, QoS, Reason};

/// A CONNECT whose session stays for a minute.
fn stay(client_id: &str) -> Connect {
    Connect { session_expiry_s: 60, ..connect(client_id, false) }
}

async fn v5(bed: &Bed, connect: Connect) -> Client {
    let mut client = Client::open_v5(bed.address).await;
    client.greet(connect).await.unwrap();
    client
}

fn options(level: u8) -> SubscribeOptions {
    SubscribeOptions { qos: QoS::from_level(level).unwrap(), ..SubscribeOptions::default() }
}

impl Client {
    /// The server says goodbye for this reason.
    async fn expect_goodbye(&mut self, reason: Reason) {
        self.expect(Packet::Disconnect(Disconnect::new(reason))).await;
        self.expect_closed().await;
    }
}

#[tokio::test]
async fn the_greeting_tells_the_limits_and_what_was_changed() {
    let bed = Bed::with(Options { max_keep_alive_s: 60, ..Options::default() }).await;
    let asked = Connect { keep_alive: 120, session_expiry_s: u32::MAX, ..connect("", true) };
    let greeting = Client::open_v5(bed.address).await.greet(asked).await.unwrap();
    assert_eq!(greeting.server_keep_alive, Some(60));
    assert_eq!(greeting.session_expiry_s, Some(86_400));
    assert_eq!(greeting.receive_maximum, NonZeroU16::new(1024));
    assert_eq!(greeting.max_packet_size, NonZeroU32::new(256 << 10));
    assert_eq!(greeting.topic_alias_maximum, 10);
    assert!(greeting.assigned_client_id.is_some());
    let plain =
        Client::open_v5(bed.address).await.greet(Connect { keep_alive: 60, ..connect("c", true) }).await.unwrap();
    assert_eq!((plain.server_keep_alive, plain.session_expiry_s, plain.assigned_client_id), (None, None, None));
}

#[tokio::test]
async fn refusals_say_why_in_words_to_those_who_ask() {
    let bed = Bed::with(Options { refused_filters: vec!["no".into()], ..Options::default() }).await;
    let asks = || Connect { problem_information: Some(true), ..connect("c", true) };
    let mut client = v5(&bed, asks()).await;
    client.publish(publish("$SYS/x", "x", 1, 1)).await;
    let said = match client.receive().await {
        Some(Packet::PubAck(Ack { reason: Reason::NotAuthorized, reason_string, .. })) => reason_string,
        other => panic!("{other:?}"),
    };
    assert!(said.is_some_and(|s| s.contains("not allowed")));
    client.publish(publish("$share/g/x", "x", 2, 2)).await;
    assert!(matches!(client.receive().await, Some(Packet::PubRec(ack)) if ack.reason == Reason::NotAuthorized));
    assert_eq!(client.subscribe_with("no", options(1), None).await, Reason::Unspecified);
    client.send(Packet::Auth(Reason::ReAuthenticate)).await;
    match client.receive().await {
        Some(Packet::Disconnect(d)) => assert!(d.reason.is_error() && d.reason_string.is_some()),
        other => panic!("{other:?}"),
    }
    let mut plain = v5(&bed, connect("d", true)).await;
    plain.publish(publish("$SYS/x", "x", 1, 1)).await;
    plain.expect(Packet::PubAck(Ack::new(id(1), Reason::NotAuthorized))).await;
    let enhanced = Connect { authentication_method: Some("SCRAM".into()), ..connect("e", true) };
    let refused = Client::open_v5(bed.address).await.greet(enhanced).await;
    assert_eq!(refused.unwrap_err(), Reason::BadAuthenticationMethod);
}

#[tokio::test]
async fn an_answer_whose_words_are_too_long_for_the_client_comes_without_them() {
    let bed = Bed::open().await;
    let max_packet_size = NonZeroU32::new(30);
    let mut client = v5(&bed, Connect { problem_information: Some(true), max_packet_size, ..connect("c", true) }).await;
    client.publish(publish("$SYS/x", "x", 1, 1)).await;
    client.expect(Packet::PubAck(Ack::new(id(1), Reason::NotAuthorized))).await;
    client.publish(publish("$SYS/x", "x", 2, 2)).await;
    client.expect(Packet::PubRec(Ack::new(id(2), Reason::NotAuthorized))).await;
    client.send(Packet::Auth(Reason::ReAuthenticate)).await;
    match client.receive().await {
        Some(Packet::Disconnect(d)) => assert!(d.reason.is_error() && d.reason_string.is_none()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_message_nobody_wants_is_taken_and_its_sender_told() {
    let bed = Bed::open().await;
    let mut client = v5(&bed, connect("c", true)).await;
    client.publish(publish("a", "x", 1, 1)).await;
    client.expect(Packet::PubAck(Ack::new(id(1), Reason::NoMatchingSubscribers))).await;
    client.publish(publish("iot/m1/telemetry", "x", 1, 2)).await;
    client.expect(Packet::PubAck(Ack::ok(id(2)))).await; // the journal wants it
}

#[tokio::test]
async fn what_a_publisher_adds_arrives_and_a_client_of_3_1_1_gets_the_message_alone() {
    let bed = Bed::open().await;
    let mut new = v5(&bed, connect("new", true)).await;
    let mut old = bed.client("old").await;
    assert_eq!(new.subscribe_with("a/#", options(1), SubscriptionId::new(7)).await, Reason::GrantedQoS1);
    assert_eq!(new.subscribe_with("a/+", options(0), SubscriptionId::new(9)).await, Reason::Success);
    old.subscribe("a/b", 0).await;
    let properties = Some(Arc::new(Properties {
        payload_is_utf8: Some(true),
        content_type: Some("text/plain".into()),
        response_topic: Some("r".into()),
        correlation_data: Some("c".into()),
        user: vec![("k".into(), "1".into()), ("k".into(), "2".into())],
    }));
    let sent = Publish { properties: properties.clone(), expiry_s: Some(100), ..publish("a/b", "x", 1, 5) };
    let mut publisher = v5(&bed, connect("publisher", true)).await;
    publisher.publish(sent).await;
    publisher.expect(Packet::PubAck(Ack::ok(id(5)))).await;
    let got = new.expect_publish().await;
    assert_eq!((got.properties, got.qos), (properties, QoS::AtLeastOnce));
    assert!(matches!(got.expiry_s, Some(98..=100)));
    let mut ids: Vec<_> = got.subscription_ids.iter().map(|id| id.get()).collect();
    ids.sort_unstable();
    assert_eq!(ids, [7, 9]);
    assert_eq!(old.expect_publish().await, publish("a/b", "x", 0, 0));
}

#[tokio::test]
async fn subscription_options_hold() {
    let bed = Bed::open().await;
    let mut client = v5(&bed, connect("c", true)).await;
    let mut other = v5(&bed, connect("other", true)).await;
    other.publish(Publish { retain: true, ..publish("r", "kept", 1, 1) }).await;
    other.expect(Packet::PubAck(Ack::new(id(1), Reason::NoMatchingSubscribers))).await;
    let with = |no_local, retain_as_published, retain_handling| SubscribeOptions {
        qos: QoS::AtMostOnce,
        no_local,
        retain_as_published,
        retain_handling,
    };
    client.subscribe_with("r", with(true, true, RetainHandling::IfNew), None).await;
    assert!(client.expect_publish().await.retain);
    client.subscribe_with("r", with(true, true, RetainHandling::IfNew), None).await;
    client.expect_nothing().await;
    client.subscribe_with("r", with(true, true, RetainHandling::Always), None).await;
    assert!(client.expect_publish().await.retain);
    client.publish(publish("r", "mine", 0, 0)).await;
    client.expect_nothing().await;
    other.publish(Publish { retain: true, ..publish("r", "live", 0, 0) }).await;
    assert!(client.expect_publish().await.retain, "as published");
    client.subscribe_with("r", with(false, false, RetainHandling::Never), None).await;
    client.publish(Publish { retain: true, ..publish("r", "mine", 0, 0) }).await;
    assert!(!client.expect_publish().await.retain);
    client.expect_nothing().await;
}

#[tokio::test]
async fn whoever_breaks_a_rule_is_told_which_and_closed() {
    let bed = Bed::open().await;
    let check = async |packet: Packet, reason: Reason| {
        let mut client = v5(&bed, connect("c", true)).await;
        client.send(packet).await;
        client.expect_goodbye(reason).await;
    };
    check(Packet::Connect(Box::new(connect("c", true))), Reason::ProtocolError).await;
    let aliased = |alias| Publish { topic_alias: TopicAlias::new(alias), ..publish("a", "x", 0, 0) };
    check(Packet::Publish(aliased(17)), Reason::TopicAliasInvalid).await;
    check(Packet::Publish(Publish { topic: "".into(), ..aliased(3) }), Reason::ProtocolError).await;
    check(Packet::Publish(publish("a", &"x".repeat(300 << 10), 0, 0)), Reason::PacketTooLarge).await;
    bed.journal.hold();
    let mut eager = v5(&bed, connect("eager", true)).await;
    for n in 1..=1025 {
        eager.publish(publish("iot/m1/telemetry", "x", 1, n)).await;
    }
    eager.expect_goodbye(Reason::ReceiveMaximumExceeded).await;
    bed.journal.release();
}

#[tokio::test]
async fn who_connects_again_or_is_silent_or_is_left_by_the_server_is_told() {
    let bed = Bed::open().await;
    let mut first = v5(&bed, stay("c")).await;
    let mut second = v5(&bed, Connect { keep_alive: 1, ..stay("c") }).await;
    first.expect_goodbye(Reason::SessionTakenOver).await;
    second.expect_goodbye(Reason::KeepAliveTimeout).await;
    let mut last = v5(&bed, stay("c")).await;
    let stopped = bed.broker.stop(Duration::from_secs(5));
    let (stopped, ()) = tokio::join!(stopped, last.expect_goodbye(Reason::ServerShuttingDown));
    assert!(stopped);
}

#[tokio::test]
async fn a_session_ends_when_the_client_says_so() {
    let bed = Bed::open().await;
    let present = async |session_expiry_s: u32| {
        let mut client = Client::open_v5(bed.address).await;
        let greeting = client.greet(Connect { session_expiry_s, ..connect("c", false) }).await.unwrap();
        (client, greeting.session_present)
    };
    drop(present(60).await);
    let (mut client, was_present) = present(60).await;
    assert!(was_present);
    let end = |session_expiry_s| Disconnect { session_expiry_s, ..Disconnect::new(Reason::Success) };
    client.send(Packet::Disconnect(end(Some(0)))).await;
    client.expect_closed().await;
    bed.until("forgotten", |s| s.sessions == 0).await;
    let (mut client, was_present) = present(0).await;
    assert!(!was_present);
    client.send(Packet::Disconnect(end(Some(5)))).await;
    client.expect_goodbye(Reason::ProtocolError).await;
    bed.until("forgotten", |s| s.sessions == 0).await;
}

#[tokio::test]
async fn a_will_waits_for_its_client_and_comes_when_the_session_ends() {
    let bed = Bed::open().await;
    let mut watcher = v5(&bed, connect("watcher", true)).await;
    watcher.subscribe("w", 0).await;
    let dying = |delay_s: u32, session_expiry_s: u32, payload: &str| {
        let will = Some(Will { delay_s, ..will("w", payload, 0) });
        Connect { will, session_expiry_s, ..connect("dying", false) }
    };
    drop(v5(&bed, dying(60, 0, "with its session")).await);
    assert_eq!(watcher.expect_publish().await.payload, "with its session");
    drop(v5(&bed, dying(60, 1, "when the session is over")).await);
    assert_eq!(watcher.expect_publish().await.payload, "when the session is over");
    drop(v5(&bed, dying(1, 60, "in a second")).await);
    assert_eq!(watcher.expect_publish().await.payload, "in a second");
    drop(v5(&bed, dying(60, 60, "forgotten")).await);
    bed.until("gone", |s| s.connections == 1).await;
    drop(v5(&bed, dying(60, 60, "when the next begins anew")).await);
    bed.until("gone", |s| s.connections == 1).await;
    watcher.expect_nothing().await;
    let mut clean = v5(&bed, connect("dying", true)).await;
    assert_eq!(watcher.expect_publish().await.payload, "when the next begins anew");
    let goodbye = Disconnect::new(Reason::DisconnectWithWill);
    clean.send(Packet::Disconnect(goodbye.clone())).await;
    let mut asks = v5(&bed, dying(0, 0, "asked for")).await;
    asks.send(Packet::Disconnect(goodbye)).await;
    assert_eq!(watcher.expect_publish().await.payload, "asked for");
}

#[tokio::test]
async fn a_client_that_comes_and_goes_leaves_no_task_behind_for_its_will() {
    let bed = Bed::open().await;
    let runtime = tokio::runtime::Handle::current().metrics();
    let before = runtime.num_alive_tasks();
    for _ in 0..5 {
        let waits = Some(Will { delay_s: 60, ..will("w", "late", 0) });
        drop(v5(&bed, Connect { will: waits, ..stay("c") }).await);
        bed.until("gone", |s| s.connections == 0).await;
    }
    bed.until("all ended", |_| runtime.num_alive_tasks() <= before).await;
    assert_eq!((bed.broker.stats().sessions, bed.broker.stats().wills_fired), (1, 0));
}

#[tokio::test]
async fn a_log_in_is_not_cut_off_by_the_will_of_the_session_before() {
    let bed = Bed::with(Options { connect_timeout: Duration::from_secs(1), ..Options::default() }).await;
    let waits = Some(Will { delay_s: 60, ..will("iot/m1/status", "offline", 1) });
    drop(v5(&bed, Connect { will: waits, ..stay("m1") }).await);
    bed.until("gone", |s| s.connections == 0).await;
    bed.journal.hold();
    // The will waits for the disk for longer than a log-in may take.
    let mut next = v5(&bed, connect("m1", true)).await;
    assert_eq!(bed.journal.texts(), [("iot/m1/status".to_owned(), "offline".to_owned())]);
    bed.journal.release();
    bed.until("the will is out", |s| s.wills_fired == 1).await;
    next.expect_nothing().await;
    drop(next);
    bed.until("gone", |s| s.sessions == 0 && s.connections == 0).await;
    v5(&bed, connect("m1", true)).await.expect_nothing().await;
}

#[tokio::test]
async fn wills_that_wait_for_the_journal_take_no_more_than_they_may() {
    // Room for one.
    let bed = Bed::with(Options { max_waiting_will_bytes: 600, ..Options::default() }).await;
    bed.journal.hold();
    for (name, delay_s) in [("m1", 0), ("m2", 0), ("m3", 1)] {
        let left = Some(Will { delay_s, ..will(&format!("iot/{name}/status"), "offline", 1) });
        let kept = Connect { will: left, session_expiry_s: 600, ..connect(name, false) };
        drop(v5(&bed, kept).await);
        bed.until("gone", |s| s.connections == 0).await;
    }
    assert_eq!(bed.journal.texts(), [("iot/m1/status".to_owned(), "offline".to_owned())]);
    assert_eq!(
        (bed.broker.stats().wills_fired, bed.broker.stats().wills_dropped),
        (0, 1),
        "there was no room for m2's"
    );
    bed.journal.release();
    bed.until("those that could wait are out", |s| s.wills_fired == 2).await;
    assert_eq!(bed.journal.texts()[1..], [("iot/m3/status".to_owned(), "offline".to_owned())]);
}

#[tokio::test]
async fn members_of_a_share_take_turns_and_what_one_leaves_goes_to_another() {
    let bed = Bed::open().await;
    let mut members = Vec::new();
    for name in ["one", "two"] {
        let mut member = v5(&bed, connect(name, true)).await;
        member.subscribe("$share/g/work/+", 1).await;
        members.push(member);
    }
    let mut alone = bed.client("alone").await;
    alone.subscribe("$share/h/work/#", 0).await; // 3.1.1 may, too
    let mut publisher = bed.client("publisher").await;
    for n in 1..=4 {
        publisher.publish(publish("work/x", &n.to_string(), 1, n)).await;
        publisher.expect(Packet::PubAck(Ack::ok(id(n)))).await;
    }
    for n in 1..=4 {
        assert_eq!(alone.expect_publish().await.payload, n.to_string());
    }
    bed.until("in flight", |s| s.inflight == 4).await;
    let (mut two, mut one) = (members.pop().unwrap(), members.pop().unwrap());
    let mut got = Vec::new();
    for member in [&mut one, &mut two] {
        for _ in 0..2 {
            got.push(member.expect_publish().await.payload);
        }
        member.expect_nothing().await;
    }
    got.sort();
    assert_eq!(got, ["1", "2", "3", "4"]);
    drop(one); // acknowledged nothing
    let left = [two.expect_publish().await, two.expect_publish().await].map(|p| (p.dup, p.payload));
    assert!(left.iter().all(|(dup, _)| !dup), "new to this member");
    bed.until("all with the other", |s| s.inflight == 4).await;
    drop(two);
    bed.until("none in flight", |s| s.inflight == 0).await;
}

#[tokio::test]
async fn the_server_speaks_of_itself_to_those_who_ask() {
    let bed = Bed::open().await;
    let mut client = v5(&bed, connect("c", true)).await;
    client.subscribe("#", 0).await;
    client.expect_nothing().await;
    client.subscribe("$SYS/broker/version", 0).await;
    let version = client.expect_publish().await;
    assert!(version.retain && version.payload.starts_with(b"iot-meter "));
    assert_eq!(bed.broker.stats().retained, 0, "these take no room");
}

#[tokio::test]
async fn a_topic_beyond_the_limits_and_a_will_too_large_are_refused() {
    let bed = Bed::with(Options { max_topic_levels: 3, max_will_bytes: 10, ..Options::default() }).await;
    let mut client = v5(&bed, connect("c", true)).await;
    client.publish(publish("a/b/c/d", "x", 1, 1)).await;
    client.expect(Packet::PubAck(Ack::new(id(1), Reason::TopicNameInvalid))).await;
    assert_eq!(client.subscribe_with("a/b/c/#", options(0), None).await, Reason::TopicFilterInvalid);
    let mut old = bed.client("old").await;
    old.publish(publish("a/b/c/d", "x", 1, 1)).await;
    old.expect_closed().await;
    let with_will = Connect { will: Some(will("w", "more than ten bytes", 0)), ..connect("d", true) };
    let refused = Client::open_v5(bed.address).await.greet(with_will).await;
    assert_eq!(refused.unwrap_err(), Reason::PacketTooLarge);
    assert_eq!(bed.broker.stats().refused_will_size, 1);
}

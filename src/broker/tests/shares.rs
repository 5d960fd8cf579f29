//! What happens to a share's messages while members are away or leave.

use super::*;
use crate::mqtt::packet::{Ack, Connect, Disconnect, SubscribeOptions};
use crate::mqtt::{Packet, Publish, QoS, Reason};

const SHARE: &str = "$share/g/work";

#[tokio::test]
async fn of_members_that_are_away_one_that_keeps_messages_gets_them() {
    let bed = Bed::open().await;
    for (name, level) in [("keeps nothing", 0), ("keeps", 1)] {
        let (mut member, _) = bed.stayer(name).await;
        member.subscribe(SHARE, level).await;
        member.send(Packet::Disconnect(Disconnect::new(Reason::Success))).await;
        member.expect_closed().await;
    }
    bed.until("both away", |s| s.connections == 0).await;
    let mut publisher = bed.client("publisher").await;
    for n in 1..=4 {
        publisher.publish(publish("work", &n.to_string(), 1, n)).await;
        publisher.expect(Packet::PubAck(Ack::ok(id(n)))).await;
    }
    let (mut member, _) = bed.stayer("keeps").await;
    for n in 1..=4 {
        assert_eq!(member.expect_publish().await.payload, n.to_string());
    }
}

#[tokio::test]
async fn what_a_session_has_of_a_share_it_has_left_goes_to_another_member_when_it_ends() {
    let bed = Bed::open().await;
    let mut leaver = bed.client("leaver").await;
    leaver.subscribe(SHARE, 1).await;
    let mut publisher = bed.client("publisher").await;
    publisher.publish(publish("work", "x", 1, 1)).await;
    publisher.expect(Packet::PubAck(Ack::ok(id(1)))).await;
    assert_eq!(leaver.expect_publish().await.payload, "x");
    let mut member = bed.client("member").await;
    member.subscribe(SHARE, 1).await;
    leaver.send(Packet::Unsubscribe { packet_id: id(9), filters: vec![SHARE.into()] }).await;
    leaver.expect(Packet::UnsubAck { packet_id: id(9), reasons: Vec::new() }).await;
    member.expect_nothing().await; // until then it is the leaver's
    drop(leaver);
    assert_eq!(member.expect_publish().await, publish("work", "x", 1, 1));
}

#[tokio::test]
async fn what_is_passed_on_has_the_qos_and_the_retain_flag_of_the_member_that_gets_it() {
    let bed = Bed::open().await;
    let mut first = bed.client("first").await;
    first.subscribe(SHARE, 1).await;
    let mut publisher = bed.client("publisher").await;
    publisher.publish(Publish { retain: true, ..publish("work", "x", 2, 1) }).await;
    publisher.expect(Packet::PubRec(Ack::ok(id(1)))).await;
    let got = first.expect_publish().await;
    assert_eq!((got.qos, got.retain), (QoS::AtLeastOnce, false));
    let mut second = Client::open_v5(bed.address).await;
    second.greet(Connect { session_expiry_s: 600, ..super::client::connect("second", true) }).await.unwrap();
    let options = SubscribeOptions { qos: QoS::ExactlyOnce, retain_as_published: true, ..SubscribeOptions::default() };
    second.subscribe_with(SHARE, options, None).await;
    drop(first);
    let got = second.expect_publish().await;
    assert_eq!((got.qos, got.retain, &*got.payload), (QoS::ExactlyOnce, true, &b"x"[..]));
}

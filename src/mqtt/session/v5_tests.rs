//! What version 5 adds to a session, rule by rule, and what a restart of the server keeps.

use std::sync::Arc;

use super::tests::{LIMITS, confirm, delivery, handle, id, publish, pull, queue, start, ticket};
use super::*;
use crate::mqtt::QoS;
use crate::mqtt::codec::Version;
use crate::mqtt::packet::{Ack, Connect, Properties, TopicAlias};
use crate::mqtt::queue::{Budget, Message, Shared};

/// A client of version 5 that asks for what `change` says.
fn v5(change: impl FnOnce(&mut Connect)) -> Start {
    let mut connect = Connect { session_expiry_s: 60, ..Connect::default() };
    change(&mut connect);
    Start::of(Version::V5, &connect, None, &LIMITS)
}

fn session(change: impl FnOnce(&mut Connect)) -> Session {
    Session::new(LIMITS, v5(change), Instant::now())
}

fn sent(actions: &[Action]) -> Vec<Publish> {
    let publish = |action: &Action| if let Action::Send(Packet::Publish(p)) = action { Some(p.clone()) } else { None };
    actions.iter().filter_map(publish).collect()
}

#[test]
fn one_publish_more_than_the_receive_maximum_is_a_violation() {
    let mut s = session(|_| {});
    let tickets: Vec<_> = [QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::ExactlyOnce, QoS::AtLeastOnce]
        .into_iter()
        .zip(1..)
        .map(|(qos, n)| ticket(&handle(&mut s, publish(n, qos))))
        .collect();
    let too_many = |s: &mut Session| s.handle(publish(9, QoS::AtLeastOnce), Instant::now(), &mut Vec::new());
    assert_eq!(too_many(&mut s), Err(Violation::ReceiveMaximum));
    handle(&mut s, publish(0, QoS::AtMostOnce)); // counts for nothing
    handle(&mut s, publish(2, QoS::ExactlyOnce)); // a repetition
    for t in &tickets[..2] {
        confirm(&mut s, *t);
    }
    assert_eq!(too_many(&mut s), Ok(()), "PUBACK has made room");
    assert_eq!(too_many(&mut s), Err(Violation::ReceiveMaximum), "PUBREC has not");
    handle(&mut s, Packet::PubRel(Ack::ok(id(2))));
    assert_eq!(too_many(&mut s), Ok(()), "PUBCOMP has");
}

#[test]
fn a_refused_publish_is_answered_in_its_turn_and_frees_its_id() {
    let mut s = session(|_| {});
    let first = ticket(&handle(&mut s, publish(1, QoS::AtLeastOnce)));
    let refused = ticket(&handle(&mut s, publish(2, QoS::ExactlyOnce)));
    let mut out = Vec::new();
    s.confirm(refused, Outcome { reason: Reason::NotAuthorized, saves_id: false }, &mut out);
    assert_eq!(out, []);
    let answers = [Packet::PubAck(Ack::ok(id(1))), Packet::PubRec(Ack::new(id(2), Reason::NotAuthorized))];
    assert_eq!(confirm(&mut s, first), answers.map(Action::Send));
    ticket(&handle(&mut s, publish(2, QoS::ExactlyOnce)));
}

#[test]
fn the_client_is_sent_no_more_at_a_time_than_it_takes_also_after_a_reconnection() {
    let limited = |n: u16| v5(|c| c.receive_maximum = std::num::NonZeroU16::new(n));
    let mut s = Session::new(LIMITS, limited(3), Instant::now());
    let mut queue = queue(10);
    for n in 1..=4 {
        queue.push(delivery(n, QoS::AtLeastOnce, None));
    }
    assert_eq!(sent(&pull(&mut s, &mut queue)).len(), 3);
    let mut out = Vec::new();
    s.resume(limited(1), Instant::now(), &mut out);
    let ids = |actions: &[Action]| sent(actions).iter().map(|p| p.packet_id.unwrap().get()).collect::<Vec<_>>();
    assert_eq!(ids(&out), [1]);
    for expected in [2, 3, 4] {
        assert_eq!(ids(&pull(&mut s, &mut queue)), [0; 0]);
        handle(&mut s, Packet::PubAck(Ack::ok(id(expected - 1))));
        let out = pull(&mut s, &mut queue);
        assert_eq!(ids(&out), [expected]);
        assert_eq!(sent(&out)[0].dup, expected < 4);
    }
}

#[test]
fn what_has_expired_or_is_too_large_is_dropped_and_the_rest_says_how_long_it_is_good_for() {
    let mut s = session(|c| c.max_packet_size = std::num::NonZeroU32::new(60));
    let now = Instant::now();
    let message = |payload: &str, expires_in: Option<u64>| {
        let expires_at = expires_in.map(|s| now + Duration::from_secs(s));
        let message = (*Message::detached("t", payload.as_bytes())).clone();
        Delivery::new(Arc::new(Message { expires_at, ..message }), QoS::AtLeastOnce)
    };
    let mut queue = queue(10);
    queue.push(message("expired", Some(2)));
    queue.push(message(&"x".repeat(100), None));
    queue.push(message("fine", Some(10)));
    let mut out = Vec::new();
    s.pull(&mut queue, usize::MAX, now + Duration::from_millis(2500), &mut out);
    assert_eq!(out[..2], [Action::Dropped(Dropped::Expired, None), Action::Dropped(Dropped::TooLarge, None)]);
    let fine = &sent(&out)[0];
    assert_eq!((&*fine.payload, fine.expiry_s, fine.packet_id), (&b"fine"[..], Some(8), PacketId::new(1)));
    assert_eq!(out.len(), 3);
}

#[test]
fn properties_and_subscription_ids_go_out_with_the_message() {
    let mut s = session(|_| {});
    let properties = Arc::new(Properties { user: vec![("k".into(), "v".into())], ..Properties::default() });
    let message = (*Message::detached("t", b"x")).clone();
    let message = Arc::new(Message { properties: Some(Arc::clone(&properties)), ..message });
    let ids = vec![SubscriptionId::new(7).unwrap()];
    let mut queue = queue(10);
    queue.push(Delivery { ids: ids.clone(), ..Delivery::new(message, QoS::AtMostOnce) });
    let out = sent(&pull(&mut s, &mut queue));
    assert_eq!((&out[0].properties, &out[0].subscription_ids), (&Some(properties), &ids));
}

#[test]
fn aliases_are_used_as_far_as_both_sides_allow_and_end_with_the_connection() {
    let asked = || v5(|c| c.topic_alias_maximum = 1);
    let mut s = Session::new(LIMITS, asked(), Instant::now());
    let mut queue = queue(10);
    let mut send = |s: &mut Session| {
        queue.push(delivery(1, QoS::AtMostOnce, None));
        let publish = sent(&pull(s, &mut queue)).remove(0);
        (publish.topic.len(), publish.topic_alias.map(TopicAlias::get))
    };
    assert_eq!(send(&mut s), (1, Some(1)));
    assert_eq!(send(&mut s), (0, Some(1)));
    s.resume(asked(), Instant::now(), &mut Vec::new());
    assert_eq!(send(&mut s), (1, Some(1)));
    s.resume(v5(|_| {}), Instant::now(), &mut Vec::new());
    assert_eq!(send(&mut s), (1, None), "the client takes none");
    let aliased = |topic: &str, alias| {
        Packet::Publish(Publish { topic: topic.into(), topic_alias: TopicAlias::new(alias), ..Publish::default() })
    };
    handle(&mut s, aliased("a", 2));
    assert!(matches!(&handle(&mut s, aliased("", 2))[..], [Action::Publish(_, p)] if &*p.topic == "a"));
    let refused = s.handle(aliased("a", 3), Instant::now(), &mut Vec::new());
    assert_eq!(refused.unwrap_err().reason(), Reason::TopicAliasInvalid);
}

#[test]
fn the_session_expires_as_asked_within_the_cap_and_disconnect_may_change_it_but_not_from_zero() {
    let now = Instant::now();
    let expiry = |asked: u32| {
        let mut s = Session::new(LIMITS, v5(|c| c.session_expiry_s = asked), now);
        s.park(now);
        (s.expires_at() - now).as_secs()
    };
    assert_eq!([expiry(0), expiry(5), expiry(9999), expiry(u32::MAX)], [0, 5, 3600, 3600]);
    let end = |asked: u32, new: u32| {
        let mut s = Session::new(LIMITS, v5(|c| c.session_expiry_s = asked), now);
        let disconnect = Disconnect { session_expiry_s: Some(new), ..Disconnect::new(Reason::Success) };
        let done = s.handle(Packet::Disconnect(disconnect), now, &mut Vec::new());
        done.map(|()| s.start().expiry.as_secs())
    };
    assert_eq!([end(5, 9), end(5, 0), end(5, u32::MAX), end(0, 0)], [Ok(9), Ok(0), Ok(3600), Ok(0)]);
    assert_eq!(end(0, 1), Err(Violation::ExpiryFromZero));
}

#[test]
fn a_will_waits_for_its_delay_but_not_longer_than_the_session_and_a_goodbye_may_ask_for_it() {
    let now = Instant::now();
    let due = |delay_s: u32, expiry: u32| {
        let will = Will { topic: "w".into(), delay_s, ..Will::default() };
        let start = v5(|c| (c.will, c.session_expiry_s) = (Some(will), expiry));
        Session::new(LIMITS, start, now).park(now).map(|due| (due - now).as_secs())
    };
    assert_eq!([due(0, 60), due(5, 60), due(5, 2), due(5, 0)], [Some(0), Some(5), Some(2), Some(0)]);
    let goodbye = |reason: Reason| {
        let will = Some(Will { topic: "w".into(), ..Will::default() });
        let mut s = Session::new(LIMITS, v5(|c| c.will = will), now);
        handle(&mut s, Packet::Disconnect(Disconnect::new(reason)));
        s.take_will().is_some()
    };
    assert_eq!([goodbye(Reason::Success), goodbye(Reason::DisconnectWithWill)], [false, true]);
}

#[test]
fn a_refusal_of_the_client_ends_a_delivery() {
    let mut s = session(|_| {});
    let mut queue = queue(10);
    queue.push(delivery(1, QoS::AtLeastOnce, Some(5)));
    queue.push(delivery(2, QoS::ExactlyOnce, None));
    pull(&mut s, &mut queue);
    let refuse = |n| Ack::new(id(n), Reason::ImplementationSpecific);
    assert_eq!(handle(&mut s, Packet::PubAck(refuse(1))), [Action::Dropped(Dropped::Refused, Some(Tag(5)))]);
    assert_eq!(handle(&mut s, Packet::PubRec(refuse(2))), [Action::Dropped(Dropped::Refused, None)]);
    assert_eq!(handle(&mut s, Packet::PubRec(refuse(2))), [], "there is nothing to release");
}

#[test]
fn a_repetition_counts_once_against_the_receive_maximum() {
    let mut s = session(|_| {});
    let first = ticket(&handle(&mut s, publish(3, QoS::ExactlyOnce)));
    confirm(&mut s, first);
    s.park(Instant::now());
    s.resume(v5(|_| {}), Instant::now(), &mut Vec::new());
    // Four at a time, and the client sends all it has again.
    for n in [1, 3, 2, 4] {
        let Packet::Publish(sent) = publish(n, if n == 3 { QoS::ExactlyOnce } else { QoS::AtLeastOnce }) else {
            panic!()
        };
        let sent = Packet::Publish(Publish { dup: n == 3, ..sent });
        assert_eq!(handle(&mut s, sent).len(), usize::from(n != 3), "{n}");
    }
    let too_many = s.handle(publish(5, QoS::AtLeastOnce), Instant::now(), &mut Vec::new());
    assert_eq!(too_many, Err(Violation::ReceiveMaximum));
}

#[test]
fn a_client_that_begins_its_ids_anew_on_another_connection_is_not_taken_to_repeat() {
    let mut s = session(|_| {});
    let first = ticket(&handle(&mut s, publish(3, QoS::ExactlyOnce)));
    confirm(&mut s, first);
    assert_eq!(handle(&mut s, publish(3, QoS::ExactlyOnce)).len(), 1, "the answer is repeated on this connection");
    s.park(Instant::now());
    s.resume(v5(|_| {}), Instant::now(), &mut Vec::new());
    let new = handle(&mut s, publish(3, QoS::ExactlyOnce));
    assert!(matches!(new[..], [Action::Publish(..)]), "{new:?}");
    assert_eq!(confirm(&mut s, ticket(&new)), [Action::Send(Packet::PubRec(Ack::ok(id(3))))]);
    assert_eq!(handle(&mut s, Packet::PubRel(Ack::ok(id(3)))), [Action::Send(Packet::PubComp(Ack::ok(id(3))))]);
}

#[test]
fn qos_2_ids_that_may_have_been_released_since_the_last_save_are_free_for_new_publishes() {
    let now = Instant::now();
    let saved = Saved { expiry: Duration::from_secs(60), taken: vec![id(1), id(2), id(3)], ..Saved::default() };
    let mut s = Session::restore(LIMITS, saved, now, |_| None);
    s.resume(v5(|_| {}), now, &mut Vec::new());
    // Four at a time: the three do not count.
    let tickets: Vec<_> = [4, 5, 6, 2].map(|n| ticket(&handle(&mut s, publish(n, QoS::ExactlyOnce)))).into();
    // What is on its way is not also taken from before.
    let Packet::Publish(new) = publish(2, QoS::ExactlyOnce) else { unreachable!() };
    let again = Packet::Publish(Publish { dup: true, ..new });
    assert_eq!(handle(&mut s, again.clone()), []);
    for (ticket, n) in tickets.into_iter().zip([4, 5, 6, 2]) {
        assert_eq!(confirm(&mut s, ticket), [Action::Send(Packet::PubRec(Ack::ok(id(n))))]);
    }
    assert_eq!(handle(&mut s, again), [Action::Send(Packet::PubRec(Ack::ok(id(2))))]);
    let too_many = s.handle(publish(7, QoS::AtLeastOnce), now, &mut Vec::new());
    assert_eq!(too_many, Err(Violation::ReceiveMaximum));
}

#[test]
fn an_exactly_once_delivery_that_has_become_too_large_is_released_so_that_its_id_is_free() {
    let mut s = session(|_| {});
    let mut queue = queue(10);
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        queue.push(large(qos));
    }
    pull(&mut s, &mut queue);
    s.park(Instant::now());
    let mut out = Vec::new();
    s.resume(v5(|c| c.max_packet_size = std::num::NonZeroU32::new(50)), Instant::now(), &mut out);
    let dropped = Action::Dropped(Dropped::TooLarge, None);
    assert_eq!(out, [dropped.clone(), dropped, Action::Send(Packet::PubRel(Ack::ok(id(2))))]);
    let unknown = Ack::new(id(2), Reason::PacketIdentifierNotFound);
    assert_eq!(handle(&mut s, Packet::PubComp(unknown)), []);
    assert_eq!(s.save(&queue, |_| ()).flights, []);
}

fn large(qos: QoS) -> Delivery {
    Delivery::new(Message::detached("t", &[0; 100]), qos)
}

#[test]
fn retained_messages_are_sent_between_what_was_queued_before_and_after_their_subscription() {
    let mut s = session(|_| {});
    let budget = Arc::new(Budget::new(10, 10_000));
    let mut queue = Queue::new(10, 10_000, Arc::clone(&budget));
    queue.push(delivery(1, QoS::AtLeastOnce, None));
    let position = budget.take_position();
    s.add_retained(Delivery { position, retain: true, ..delivery(2, QoS::AtLeastOnce, None) });
    queue.push(delivery(3, QoS::AtLeastOnce, None));
    let retained: Vec<_> = sent(&pull(&mut s, &mut queue)).iter().map(|p| p.retain).collect();
    assert_eq!(retained, [false, true, false]);
}

#[test]
fn what_a_leaving_member_has_not_acknowledged_is_given_up_but_for_what_was_sent_at_qos_2() {
    let mut s = session(|_| {});
    let mut queue = queue(10);
    let mine = delivery(1, QoS::AtLeastOnce, None);
    let shared = Some(Shared { id: ShareId(4), qos: QoS::ExactlyOnce, retain: false });
    for (qos, share) in [(QoS::AtLeastOnce, shared), (QoS::ExactlyOnce, shared), (QoS::AtLeastOnce, None)] {
        queue.push(Delivery { qos, share, ..mine.clone() });
    }
    pull(&mut s, &mut queue);
    assert_eq!(s.take_shared(|id| id == ShareId(9)).len(), 0);
    let given_up = s.take_shared(|id| id == ShareId(4));
    assert_eq!(given_up.iter().map(|d| d.qos).collect::<Vec<_>>(), [QoS::AtLeastOnce]);
    let mut out = Vec::new();
    s.resume(v5(|_| {}), Instant::now(), &mut out);
    assert_eq!(sent(&out).iter().map(|p| p.packet_id.unwrap().get()).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn a_session_goes_on_after_a_restart_of_the_server_where_it_was() {
    let now = Instant::now();
    let mut s = Session::new(LIMITS, start(), now);
    s.subscribe(&"a/#".into(), Subscription::default());
    let mut before = queue(10);
    for n in 1..=5 {
        before.push(delivery(n, QoS::ExactlyOnce, None));
    }
    pull(&mut s, &mut before);
    handle(&mut s, Packet::PubRec(Ack::ok(id(1))));
    let taken = ticket(&handle(&mut s, publish(9, QoS::ExactlyOnce)));
    confirm(&mut s, taken);
    s.park(now);

    let mut messages = std::collections::BTreeMap::new();
    let saved = s.save(&before, |d| drop(messages.insert(d.position, d.clone())));
    assert_eq!(messages.len(), 4, "two in flight, two waiting; the first is with the client");
    let mut back = Session::restore(LIMITS, saved, now, |position| messages.remove(&position));
    let mut after = queue(10);
    messages.into_values().for_each(|d| assert!(after.restore(d)));
    assert_eq!(back.subscriptions().count(), 1);
    let mut out = Vec::new();
    back.resume(start(), now, &mut out);
    assert_eq!(out[0], Action::Send(Packet::PubRel(Ack::ok(id(1)))));
    assert_eq!(
        sent(&out).iter().map(|p| (p.dup, p.packet_id.unwrap().get())).collect::<Vec<_>>(),
        [(true, 2), (true, 3)]
    );
    handle(&mut back, Packet::PubComp(Ack::ok(id(1))));
    let next = sent(&pull(&mut back, &mut after));
    assert_eq!((&*next[0].payload, next[0].packet_id), (&4_u16.to_be_bytes()[..], PacketId::new(4)));
    let Packet::Publish(new) = publish(9, QoS::ExactlyOnce) else { unreachable!() };
    let again = Packet::Publish(Publish { dup: true, ..new.clone() });
    assert_eq!(handle(&mut back, again), [Action::Send(Packet::PubRec(Ack::ok(id(9))))]);
    handle(&mut back, Packet::PubRel(Ack::ok(id(9))));
    ticket(&handle(&mut back, Packet::Publish(new)));
}

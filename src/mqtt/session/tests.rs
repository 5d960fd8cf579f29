//! The session's rules one by one, then both directions against lossy connections.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::mqtt::QoS;
use crate::mqtt::packet::Ack;
use crate::mqtt::queue::{Budget, Message};

pub(super) const LIMITS: Limits = Limits {
    max_inflight: 3,
    receive_maximum: 4,
    topic_aliases: 2,
    max_subscriptions: 2,
    max_backlog: 4,
    max_expiry: Duration::from_secs(3600),
};

pub(super) fn start() -> Start {
    Start { expiry: Duration::from_secs(60), ..Start::default() }
}

pub(super) fn queue(max_items: usize) -> Queue {
    Queue::new(max_items, 1 << 20, std::sync::Arc::new(Budget::new(10_000, 1 << 24)))
}

pub(super) fn session() -> Session {
    Session::new(LIMITS, start(), Instant::now())
}

pub(super) fn id(n: u16) -> PacketId {
    PacketId::new(n).unwrap()
}

pub(super) fn publish(n: u16, qos: QoS) -> Packet {
    let packet_id = PacketId::new(n).filter(|_| qos > QoS::AtMostOnce);
    let payload = n.to_be_bytes().to_vec().into();
    Packet::Publish(Publish { qos, packet_id, topic: "t".into(), payload, ..Publish::default() })
}

pub(super) fn handle(session: &mut Session, packet: Packet) -> Vec<Action> {
    let mut out = Vec::new();
    session.handle(packet, Instant::now(), &mut out).unwrap();
    out
}

pub(super) fn ticket(actions: &[Action]) -> Ticket {
    match actions {
        [Action::Publish(ticket, _)] => *ticket,
        other => panic!("not one publish: {other:?}"),
    }
}

pub(super) fn confirm(session: &mut Session, ticket: Ticket) -> Vec<Action> {
    let mut out = Vec::new();
    session.confirm(ticket, Outcome { reason: Reason::Success, saves_id: true }, &mut out);
    out
}

pub(super) fn delivery(n: u16, qos: QoS, tag: Option<u128>) -> Delivery {
    Delivery { tag: tag.map(Tag), ..Delivery::new(Message::detached("t", &n.to_be_bytes()), qos) }
}

pub(super) fn pull(session: &mut Session, queue: &mut Queue) -> Vec<Action> {
    let mut out = Vec::new();
    session.pull(queue, usize::MAX, Instant::now(), &mut out);
    out
}

#[test]
fn acknowledgements_keep_the_order_of_the_publishes() {
    let mut s = session();
    let a = ticket(&handle(&mut s, publish(1, QoS::AtLeastOnce)));
    let b = ticket(&handle(&mut s, publish(2, QoS::ExactlyOnce)));
    let zero = ticket(&handle(&mut s, publish(0, QoS::AtMostOnce)));
    let c = ticket(&handle(&mut s, publish(3, QoS::AtLeastOnce)));
    assert_eq!(confirm(&mut s, c), []);
    assert_eq!(confirm(&mut s, zero), []);
    assert_eq!(confirm(&mut s, b), []);
    let expected = [Packet::PubAck(Ack::ok(id(1))), Packet::PubRec(Ack::ok(id(2))), Packet::PubAck(Ack::ok(id(3)))]
        .map(Action::Send);
    assert_eq!(confirm(&mut s, a), expected);
}

#[test]
fn a_repeated_qos_2_publish_is_handed_out_once_until_its_pubrel() {
    let mut s = session();
    let first = ticket(&handle(&mut s, publish(7, QoS::ExactlyOnce)));
    assert_eq!(handle(&mut s, publish(7, QoS::ExactlyOnce)), [], "PUBREC is on the way");
    assert_eq!(confirm(&mut s, first), [Action::Send(Packet::PubRec(Ack::ok(id(7))))]);
    assert_eq!(handle(&mut s, publish(7, QoS::ExactlyOnce)), [Action::Send(Packet::PubRec(Ack::ok(id(7))))]);
    assert_eq!(handle(&mut s, Packet::PubRel(Ack::ok(id(7)))), [Action::Send(Packet::PubComp(Ack::ok(id(7))))]);
    assert_eq!(
        handle(&mut s, Packet::PubRel(Ack::ok(id(7)))),
        [Action::Send(Packet::PubComp(Ack::ok(id(7))))],
        "unknown: still answered"
    );
    ticket(&handle(&mut s, publish(7, QoS::ExactlyOnce)));
}

#[test]
fn an_abandoned_publish_is_new_when_it_comes_again() {
    let mut s = session();
    let lost = ticket(&handle(&mut s, publish(7, QoS::ExactlyOnce)));
    s.abandon_unconfirmed();
    assert_eq!(confirm(&mut s, lost), []);
    let again = ticket(&handle(&mut s, publish(7, QoS::ExactlyOnce)));
    assert_eq!(confirm(&mut s, again), [Action::Send(Packet::PubRec(Ack::ok(id(7))))]);
}

#[test]
fn a_repeated_exactly_once_publish_waits_for_its_turn_once_and_takes_no_id() {
    let mut s = session();
    let first = ticket(&handle(&mut s, publish(7, QoS::ExactlyOnce)));
    assert_eq!(confirm(&mut s, first), [Action::Send(Packet::PubRec(Ack::ok(id(7))))]);
    let ahead = ticket(&handle(&mut s, publish(1, QoS::AtLeastOnce)));
    for _ in 0..1000 {
        assert_eq!(handle(&mut s, publish(7, QoS::ExactlyOnce)), []);
    }
    assert_eq!(handle(&mut s, Packet::PubRel(Ack::ok(id(7)))), [Action::Send(Packet::PubComp(Ack::ok(id(7))))]);
    let new = ticket(&handle(&mut s, publish(7, QoS::ExactlyOnce)));
    let answers = [Packet::PubAck(Ack::ok(id(1))), Packet::PubRec(Ack::ok(id(7)))].map(Action::Send);
    assert_eq!(confirm(&mut s, ahead), answers);
    assert_eq!(confirm(&mut s, new), [Action::Send(Packet::PubRec(Ack::ok(id(7))))]);
}

#[test]
fn the_window_is_bounded_and_moves_with_acknowledgements() {
    let mut s = session();
    let mut queue = queue(10);
    for n in 1..=5 {
        queue.push(delivery(n, QoS::AtLeastOnce, None));
    }
    assert_eq!(pull(&mut s, &mut queue).len(), 3);
    assert_eq!((queue.len(), s.has_room()), (2, false));
    assert_eq!(handle(&mut s, Packet::PubAck(Ack::ok(id(2)))), []);
    assert_eq!(pull(&mut s, &mut queue), [Action::Send(publish(4, QoS::AtLeastOnce))]);
}

#[test]
fn what_is_incomplete_is_sent_again_in_order_with_dup() {
    let mut s = session();
    let mut queue = queue(10);
    queue.push(delivery(1, QoS::ExactlyOnce, Some(9)));
    queue.push(delivery(2, QoS::AtLeastOnce, None));
    queue.push(delivery(3, QoS::ExactlyOnce, None));
    pull(&mut s, &mut queue);
    assert_eq!(handle(&mut s, Packet::PubRec(Ack::ok(id(1)))), [Action::Send(Packet::PubRel(Ack::ok(id(1))))]);
    let mut out = Vec::new();
    s.resume(start(), Instant::now(), &mut out);
    let dup = |n, qos| match publish(n, qos) {
        Packet::Publish(p) => Packet::Publish(Publish { dup: true, ..p }),
        other => other,
    };
    let again = [Packet::PubRel(Ack::ok(id(1))), dup(2, QoS::AtLeastOnce), dup(3, QoS::ExactlyOnce)].map(Action::Send);
    assert_eq!(out, again);
    assert_eq!(handle(&mut s, Packet::PubComp(Ack::ok(id(1)))), [Action::Delivered(Tag(9))]);
}

#[test]
fn packets_at_the_wrong_step_are_violations() {
    let mut s = session();
    let mut queue = queue(10);
    queue.push(delivery(1, QoS::ExactlyOnce, None));
    queue.push(delivery(2, QoS::AtLeastOnce, None));
    pull(&mut s, &mut queue);
    handle(&mut s, publish(7, QoS::ExactlyOnce));
    let connect = crate::mqtt::packet::Connect { client_id: "c".into(), ..Default::default() };
    let mut check = |packet: Packet| {
        assert!(s.handle(packet.clone(), Instant::now(), &mut Vec::new()).is_err(), "{packet:?}");
    };
    check(Packet::PubAck(Ack::ok(id(1))));
    check(Packet::PubComp(Ack::ok(id(1))));
    check(Packet::PubRec(Ack::ok(id(2))));
    check(Packet::PubRel(Ack::ok(id(7))));
    check(Packet::PingResp);
    check(Packet::Connect(Box::new(connect)));
    assert_eq!(handle(&mut s, Packet::PubAck(Ack::ok(id(99)))), [], "unknown ids are late repetitions");
}

#[test]
fn subscriptions_are_bounded_and_unsubscribe_names_only_known_ones() {
    let mut s = session();
    let plain = Subscription::default();
    assert_eq!(s.subscribe(&"a".into(), plain), Subscribed::New);
    assert_eq!(s.subscribe(&"b".into(), plain), Subscribed::New);
    assert_eq!(s.subscribe(&"c".into(), plain), Subscribed::Full);
    assert_eq!(s.subscribe(&"a".into(), plain), Subscribed::Replaced);
    let filters = vec!["x".into(), "a".into()];
    let out = handle(&mut s, Packet::Unsubscribe { packet_id: id(5), filters });
    let reasons = vec![Reason::NoSubscriptionExisted, Reason::Success];
    let answer = Action::Send(Packet::UnsubAck { packet_id: id(5), reasons });
    assert_eq!(out, [Action::Unsubscribe("a".into()), answer]);
    assert_eq!(s.subscriptions().collect::<Vec<_>>(), [("b", plain)]);
}

#[test]
fn keep_alive_is_one_and_a_half_times_and_zero_is_for_ever() {
    let now = Instant::now();
    let with = |keep_alive| Session::new(LIMITS, Start { keep_alive, ..start() }, now).silent_at();
    assert_eq!(with(None), None);
    assert_eq!(with(Some(Duration::from_secs(10))), Some(now + Duration::from_secs(15)));
}

#[test]
fn a_goodbye_drops_the_will() {
    let will = Will { topic: "w".into(), payload: "x".into(), ..Will::default() };
    let mut s = Session::new(LIMITS, Start { will: Some(will.clone()), ..start() }, Instant::now());
    assert_eq!(s.take_will(), Some(will.clone()));
    s.resume(Start { will: Some(will), ..start() }, Instant::now(), &mut Vec::new());
    assert_eq!(handle(&mut s, Packet::Disconnect(Disconnect::new(Reason::Success))), [Action::Disconnect]);
    assert_eq!(s.take_will(), None);
}

/// A client's half of QoS 2 towards the server, which repeats what is incomplete on each new connection.
#[derive(Default)]
struct Publisher {
    unreceived: VecDeque<u16>,
    unreleased: VecDeque<u16>,
}

proptest! {
    #[test]
    fn qos_2_from_the_client_is_handed_out_exactly_once_over_lost_connections(
        // true: the connection is lost before the answers of this step arrive
        losses in prop::collection::vec(prop::bool::weighted(0.3), 1..60),
    ) {
        let mut s = session();
        let mut client = Publisher::default();
        let (mut next, mut handed_out) = (1_u16, Vec::new());
        for lost in losses.into_iter().chain([false, false]) {
            client.unreceived.push_back(next);
            next += 1;
            let rels: Vec<_> = client.unreleased.iter().copied().collect();
            let publishes: Vec<_> = client.unreceived.iter().copied().collect();
            let mut answers = Vec::new();
            for n in rels {
                answers.extend(handle(&mut s, Packet::PubRel(Ack::ok(id(n)))));
            }
            for n in publishes {
                for action in handle(&mut s, publish(n, QoS::ExactlyOnce)) {
                    match action {
                        Action::Publish(ticket, p) => {
                            handed_out.push(p.packet_id.unwrap().get());
                            answers.extend(confirm(&mut s, ticket));
                        }
                        other => answers.push(other),
                    }
                }
            }
            for answer in answers.into_iter().filter(|_| !lost) {
                match answer {
                    Action::Send(Packet::PubRec(Ack { packet_id: n, .. })) => {
                        client.unreceived.retain(|x| *x != n.get());
                        client.unreleased.push_back(n.get());
                    }
                    Action::Send(Packet::PubComp(Ack { packet_id: n, .. })) => client.unreleased.retain(|x| *x != n.get()),
                    other => prop_assert!(false, "{other:?}"),
                }
            }
        }
        prop_assert_eq!(handed_out, (1..next).collect::<Vec<_>>());
    }

    #[test]
    fn qos_2_to_the_client_arrives_exactly_once_and_in_order_over_lost_connections(
        steps in prop::collection::vec((0..3_usize, prop::bool::weighted(0.3)), 1..60),
    ) {
        let mut s = session();
        let mut queue = queue(1000);
        let (mut next, mut arrived, mut held) = (0_u16, Vec::new(), std::collections::BTreeSet::new());
        let drain = [(0, false); 200];
        for (new, lost) in steps.into_iter().chain(drain) {
            for _ in 0..new {
                next += 1;
                queue.push(delivery(next, QoS::ExactlyOnce, None));
            }
            let mut sent = pull(&mut s, &mut queue);
            if lost {
                // Nothing sent in this step arrives; the next connection repeats it.
                sent.clear();
                s.park(Instant::now());
                s.resume(start(), Instant::now(), &mut sent);
            }
            let mut at = 0;
            while at < sent.len() {
                match sent[at].clone() {
                    Action::Send(Packet::Publish(p)) => {
                        if held.insert(p.packet_id.unwrap()) {
                            arrived.push(u16::from_be_bytes([p.payload[0], p.payload[1]]));
                        }
                        sent.extend(handle(&mut s, Packet::PubRec(Ack::ok(p.packet_id.unwrap()))));
                    }
                    Action::Send(Packet::PubRel(Ack { packet_id: n, .. })) => {
                        held.remove(&n);
                        // An answer that is lost: the PUBREL comes again later.
                        if !lost {
                            sent.extend(handle(&mut s, Packet::PubComp(Ack::ok(n))));
                        }
                    }
                    other => prop_assert!(false, "{other:?}"),
                }
                at += 1;
            }
            // Lost answers: the next step starts on a new connection.
            if lost {
                let mut again = Vec::new();
                s.resume(start(), Instant::now(), &mut again);
                for action in again {
                    if let Action::Send(Packet::PubRel(Ack { packet_id: n, .. })) = action {
                        held.remove(&n);
                        handle(&mut s, Packet::PubComp(Ack::ok(n)));
                    }
                }
            }
        }
        prop_assert_eq!(arrived, (1..=next).collect::<Vec<_>>());
    }
}

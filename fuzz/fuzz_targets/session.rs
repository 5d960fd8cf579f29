//! Bytes as a client's life: packets, lost connections, the server's side and time, against one session.
//!
//! The first byte is the version of the first connection and the limits; then step after step, each a byte and what it
//! needs. Whatever comes: nothing panics, packet ids are unique, not more is in flight than the client takes and no larger
//! packet is sent than it takes, acknowledgements leave in order and after their confirmation, QoS 2 is handed out once,
//! and what is saved comes back.
#![no_main]

#[path = "session/input.rs"]
mod input;
#[path = "session/watch.rs"]
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use iot_meter_fuzz::mqtt::packet::{Ack, Filter, SubscribeOptions, TopicAlias};
use iot_meter_fuzz::mqtt::queue::{ShareId, Shared, Tag};
use iot_meter_fuzz::mqtt::session::{Limits, Outcome, SavedFlight, Start, Subscription};
use iot_meter_fuzz::mqtt::{
    Action, Budget, Delivery, Message, Packet, Publish, QoS, Queue, Reason, Session, Ticket, Version,
};
use libfuzzer_sys::fuzz_target;

use input::{Input, start};
use watch::Watch;

const TOPICS: [&str; 4] = ["a", "b/c", "a/longer/topic", "x"];

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let Some(how) = input.byte() else { return };
    let mut world = World::new(how, &mut input);
    while let Some(step) = input.byte() {
        world.step(step, &mut input);
    }
    let World { queue, budget, .. } = world;
    drop(queue);
    assert_eq!((budget.items(), budget.bytes()), (0, 0), "what the queue held is given back");
});

struct World {
    limits: Limits,
    session: Session,
    queue: Queue,
    budget: Arc<Budget>,
    now: Instant,
    /// Handed out and not confirmed.
    tickets: Vec<Ticket>,
    watch: Watch,
    pushed: u32,
}

impl World {
    fn new(how: u8, input: &mut Input) -> Self {
        let limits = Limits {
            max_inflight: 1 + usize::from(how >> 1) % 5,
            receive_maximum: 1 + usize::from(how >> 4) % 5,
            topic_aliases: 2,
            max_subscriptions: 3,
            max_backlog: 3,
            max_expiry: Duration::from_secs(100),
        };
        let now = Instant::now();
        let budget = Arc::new(Budget::new(12, 10_000));
        let start = start(how, input, &limits);
        let watch = Watch::new(&start, &limits);
        let queue = Queue::new(8, 2000, Arc::clone(&budget));
        let session = Session::new(limits, start, now);
        Self { limits, session, queue, budget, now, tickets: Vec::new(), watch, pushed: 0 }
    }

    fn step(&mut self, step: u8, input: &mut Input) {
        match step % 16 {
            0 => self.bytes(input.some()),
            1 | 2 => self.publish(input),
            3..=5 => self.acknowledge(input),
            6 => self.subscribe(input),
            7 | 8 => self.confirm(input),
            9 | 10 => self.push(input),
            11 => {
                let delivery = self.delivery(input);
                self.session.add_retained(Delivery { retain: true, tag: None, share: None, ..delivery });
            }
            12 => {
                let budget = if input.bit() { usize::MAX } else { input.below(256) };
                let mut out = Vec::new();
                self.session.pull(&mut self.queue, budget, self.now, &mut out);
                self.perform(out);
            }
            13 => self.now += Duration::from_secs(input.below(8) as u64),
            14 => self.connect_again(input),
            _ => self.restart(input),
        }
        self.watch.check(&self.session, &self.queue);
    }

    /// Anything a client may write.
    fn bytes(&mut self, bytes: &[u8]) {
        let mut buf = BytesMut::from(bytes);
        let version = self.session.start().version;
        while let Ok(Some(packet)) = version.decode(&mut buf, 1000) {
            if !self.handle(packet) {
                return;
            }
        }
    }

    fn publish(&mut self, input: &mut Input) {
        let is_v5 = self.session.start().version == Version::V5;
        let (qos, topic, dup) = (input.qos(), TOPICS[input.below(4)], input.bit());
        let topic_alias = TopicAlias::new(input.below(4) as u16).filter(|_| is_v5);
        let packet_id = (qos > QoS::AtMostOnce).then(|| input.id());
        let is_short = topic_alias.is_some() && input.bit();
        let topic = if is_short { "".into() } else { topic.into() };
        let dup = dup && packet_id.is_some();
        self.send(&Packet::Publish(Publish { qos, topic, topic_alias, packet_id, dup, ..Publish::default() }));
    }

    fn acknowledge(&mut self, input: &mut Input) {
        let (kind, id) = (input.below(8), input.id());
        let is_v5 = self.session.start().version == Version::V5;
        let reason = |refusal| if kind > 3 && is_v5 { refusal } else { Reason::Success };
        self.send(&match kind % 4 {
            0 => Packet::PubAck(Ack::new(id, reason(Reason::QuotaExceeded))),
            1 => Packet::PubRec(Ack::new(id, reason(Reason::QuotaExceeded))),
            2 => Packet::PubRel(Ack::new(id, reason(Reason::PacketIdentifierNotFound))),
            _ => Packet::PubComp(Ack::new(id, reason(Reason::PacketIdentifierNotFound))),
        });
    }

    fn subscribe(&mut self, input: &mut Input) {
        let (packet_id, filter) = (input.id(), TOPICS[input.below(4)]);
        let options = SubscribeOptions { qos: input.qos(), ..SubscribeOptions::default() };
        self.send(&if input.bit() {
            let filters = vec![Filter { filter: filter.into(), options }];
            Packet::Subscribe { packet_id, filters, id: None }
        } else {
            Packet::Unsubscribe { packet_id, filters: vec![filter.into()] }
        });
    }

    /// Through the codec.
    fn send(&mut self, packet: &Packet) {
        let version = self.session.start().version;
        let mut bytes = Vec::new();
        version.encode(packet, &mut bytes);
        let mut buf = BytesMut::from(&bytes[..]);
        if let Ok(packet) = version.decode(&mut buf, 1000) {
            self.handle(packet.expect("it is whole"));
        }
    }

    /// `false` = the connection has ended.
    fn handle(&mut self, packet: Packet) -> bool {
        let mut out = Vec::new();
        self.watch.arrived(&packet, &self.session, &self.queue);
        let handled = self.session.handle(packet, self.now, &mut out);
        self.watch.handled(&handled, &out);
        let goes_on = handled.is_ok() && !out.contains(&Action::Disconnect);
        self.perform(out);
        self.watch.answering = None;
        if !goes_on {
            self.session.abandon_unconfirmed();
            self.tickets.clear();
            self.watch.abandoned();
            self.session.park(self.now);
            let start = Start { expiry: Duration::from_secs(50), ..self.session.start().clone() };
            self.resume(start);
        }
        goes_on
    }

    fn perform(&mut self, out: Vec<Action>) {
        for action in out {
            match action {
                Action::Send(packet) => self.watch.sent(&packet),
                Action::Publish(ticket, publish) => {
                    assert!(!publish.topic.is_empty() && publish.topic_alias.is_none(), "aliases are resolved");
                    self.tickets.push(ticket);
                }
                Action::Subscribe { filters, id, .. } => {
                    for Filter { filter, options } in filters {
                        self.session.subscribe(&filter, Subscription { options, id });
                    }
                }
                Action::Delivered(tag) | Action::Dropped(_, Some(tag)) => self.queue.complete(tag),
                Action::Dropped(_, None) | Action::Unsubscribe(_) | Action::Disconnect => {}
            }
        }
    }

    /// Any of those handed out, in any order, perhaps with a refusal.
    fn confirm(&mut self, input: &mut Input) {
        if self.tickets.is_empty() {
            return;
        }
        let ticket = self.tickets.remove(input.below(self.tickets.len()));
        let reason = if input.below(8) == 0 { Reason::NotAuthorized } else { Reason::Success };
        self.watch.confirmed(ticket, reason);
        let mut out = Vec::new();
        self.session.confirm(ticket, Outcome { reason, saves_id: input.bit() }, &mut out);
        self.perform(out);
    }

    fn delivery(&mut self, input: &mut Input) -> Delivery {
        self.pushed += 1;
        let publish = Publish {
            topic: TOPICS[input.below(4)].into(),
            payload: vec![0; input.below(64)].into(),
            expiry_s: (input.below(4) == 0).then(|| input.below(8) as u32),
            ..Publish::default()
        };
        let share = (input.below(3) == 0).then_some(Shared { id: ShareId(1), qos: QoS::ExactlyOnce, retain: false });
        let tag = (input.below(4) == 0).then(|| Tag(input.below(4) as u128));
        Delivery { share, tag, ..Delivery::new(Message::of(&publish, self.now), input.qos()) }
    }

    fn push(&mut self, input: &mut Input) {
        let delivery = self.delivery(input);
        self.queue.push(delivery);
    }

    fn connect_again(&mut self, input: &mut Input) {
        if input.bit() {
            self.session.abandon_unconfirmed();
            self.tickets.clear();
            self.watch.abandoned();
        }
        self.session.park(self.now);
        if input.bit() {
            let taken = self.session.take_shared(|share| share == ShareId(1));
            assert!(taken.iter().all(|d| d.qos == QoS::AtLeastOnce && d.share.is_some()));
        }
        self.queue.go_offline();
        let start = start(input.byte().unwrap_or(0), input, &self.limits);
        self.resume(start);
    }

    fn resume(&mut self, start: Start) {
        self.watch.connected(&start, &self.limits, &self.session, &self.queue);
        let mut out = Vec::new();
        self.session.resume(start, self.now, &mut out);
        self.perform(out);
    }

    /// The server starts again with what it has saved.
    fn restart(&mut self, input: &mut Input) {
        self.session.abandon_unconfirmed();
        self.tickets.clear();
        self.session.park(self.now);
        let mut messages = BTreeMap::new();
        let saved = self.session.save(&self.queue, |d| assert!(messages.insert(d.position, d.clone()).is_none()));
        let mut back = Session::restore(self.limits, saved.clone(), self.now, |position| messages.remove(&position));
        let mut queue = Queue::new(8, 2000, Arc::clone(&self.budget));
        self.queue.clear();
        back.tags().for_each(|tag| queue.note_tag(tag));
        for delivery in messages.into_values() {
            assert!(queue.restore(delivery), "it had room before");
        }
        let mut kept = 0;
        let again = back.save(&queue, |_| kept += 1);
        assert_eq!(again, saved, "what is saved comes back");
        let waiting = again.flights.iter().filter(|f| matches!(f, SavedFlight::Sent { .. })).count();
        assert_eq!(kept, waiting + queue.len());
        assert!(!back.take_dirt(), "nothing has changed");
        (self.session, self.queue) = (back, queue);
        self.watch.restarted();
        let start = start(input.byte().unwrap_or(0), input, &self.limits);
        self.resume(start);
    }
}

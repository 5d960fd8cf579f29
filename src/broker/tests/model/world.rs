//! Six clients, a server and the reference model, moved one step at a time.

use std::rc::Rc;
use std::time::Duration;

use super::client::Client;
use super::messages::{Messages, connect, over_the_wire};
use super::ops::{Asks, CLIENTS, Op};
use super::oracle::{Message, Oracle};
use super::server::{Connected, Server};
use crate::broker::options::Options;
use crate::mqtt::codec::Version;
use crate::mqtt::packet::{Ack, NEVER, Will};
use crate::mqtt::{Packet, Publish, QoS};

pub(super) struct World {
    pub(super) options: Options,
    pub(super) server: Server,
    pub(super) oracle: Oracle,
    pub(super) clients: [Client; CLIENTS],
    pub(super) messages: Messages,
}

pub(super) const fn version(is_v5: bool) -> Version {
    if is_v5 { Version::V5 } else { Version::V311 }
}

impl World {
    pub(super) fn new(options: Options) -> Self {
        let server = Server::new(options.clone());
        let oracle = Oracle::new(options.clone(), server.now);
        Self {
            options,
            server,
            oracle,
            clients: std::array::from_fn(|_| Client::default()),
            messages: Messages::default(),
        }
    }

    pub(super) fn apply(&mut self, op: &Op) {
        match op {
            Op::Connect(who, asks) => self.connect(*who, asks),
            Op::Lose(who) => self.clients[*who].lose(),
            Op::Notice(who, slowly) => self.notice(*who, *slowly),
            Op::Goodbye(who, expiry_s, with_will) => self.goodbye(*who, *expiry_s, *with_will),
            Op::Subscribe(who, wants, id) => self.subscribe(*who, wants, *id),
            Op::Unsubscribe(who, filter) => self.unsubscribe(*who, *filter),
            Op::Publish(who, says, at_once) => {
                self.publish(*who, says);
                if *at_once {
                    self.read(*who, 999);
                    self.confirm(*who, 999);
                }
            }
            Op::Read(who, n) => drop(self.read(*who, *n)),
            Op::Confirm(who, n) => drop(self.confirm(*who, *n)),
            Op::Pull(who, budget) => self.pull(*who, *budget),
            Op::Take(who, n, refuses) => drop(self.take(*who, *n, *refuses)),
            Op::Acknowledge(who, n, kind) => drop(self.acknowledge(*who, *n, *kind)),
            Op::PullAll => (0..CLIENTS).for_each(|who| self.pull(who, usize::MAX)),
            Op::Settle(who) => drop(self.settle(*who)),
            Op::Begin(who, asks, wants) => {
                self.connect(*who, asks);
                self.subscribe(*who, wants, None);
                self.settle(*who);
            }
            Op::Pass(seconds) => {
                self.server.now += Duration::from_secs(*seconds);
                self.oracle.now = self.server.now;
            }
            Op::Upkeep => self.upkeep(),
            Op::Restart(abandons) => self.restart(*abandons),
        }
    }

    fn connect(&mut self, who: usize, asks: &Asks) {
        let will = asks.will.as_ref().map(|says| self.messages.add(None, says, asks.is_v5));
        let (version, connect) = over_the_wire(version(asks.is_v5), &connect(who, asks, will.as_deref()));
        self.clients[who].lose();
        let (is_present, old_will) = loop {
            match self.server.connect(who, version, &connect) {
                Connected::Busy => self.end_link(who, false, true),
                Connected::Done { is_present, old_will } => break (is_present, old_will),
            }
        };
        let (should_be_present, expected_will) = self.oracle.connected(who, asks, will);
        assert_eq!(is_present, should_be_present, "c{who}: session present");
        self.fire(old_will, expected_will);
        let aliases = self.options.max_topic_aliases;
        let mut again = Vec::new();
        for out in self.clients[who].connected(asks, is_present, aliases) {
            let Some(publish) = &mut out.publish else {
                again.push((Packet::PubRel(Ack::ok(out.id)), out.number));
                continue;
            };
            if publish.qos == QoS::AtLeastOnce {
                // To the server every repetition at QoS 1 is new; here, too.
                let message = self.messages.again(out.number);
                publish.payload = message.payload.clone().into();
                out.number = message.number;
            }
            again.push((Packet::Publish(Publish { dup: true, ..publish.clone() }), out.number));
        }
        self.flush(who);
        self.oracle.skip_too_large(who);
        for (packet, number) in again {
            self.send(who, &packet, Some(number));
        }
    }

    /// A will of the server's, which must be that of the model, is published.
    fn fire(&mut self, will: Option<Will>, expected: Option<Rc<Message>>) {
        let (Some(will), Some(message)) = (&will, &expected) else {
            return assert_eq!((&will, &expected), (&None, &None), "a will");
        };
        assert_eq!((&*will.topic, &*will.payload), (message.topic, &*message.payload), "another will");
        let server = &self.server;
        self.oracle.route(message, |who| server.is_full(who));
        self.server.publish_will(will.clone());
    }

    fn notice(&mut self, who: usize, slowly: bool) {
        if self.clients[who].is_connected || self.server.link(who).is_none() {
            return;
        }
        self.end_link(who, false, true);
        if !slowly && self.server.link(who).is_some() {
            self.end_link(who, false, true);
        }
    }

    /// One half of a connection's end: it parts, or the session goes back.
    pub(super) fn end_link(&mut self, who: usize, is_silent: bool, confirms: bool) {
        if !self.server.is_connected(who) {
            self.server.release(who);
            return self.oracle.released(who);
        }
        self.server.mute(who);
        while confirms && self.oracle.pending_len(who) > 0 {
            self.confirm_one(who);
        }
        let will = self.server.part(who, is_silent);
        let expected = self.oracle.parting(who, is_silent);
        self.fire(will, expected);
        self.server.go_offline(who);
        self.oracle.offline(who);
    }

    fn upkeep(&mut self) {
        let (wills, expected) = (self.server.due_wills(), self.oracle.due_wills());
        let clients = |wills: &mut dyn Iterator<Item = usize>| wills.collect::<Vec<_>>();
        assert_eq!(
            clients(&mut wills.iter().map(|w| w.0)),
            clients(&mut expected.iter().map(|w| w.0)),
            "wills that are due"
        );
        for ((_, will), (_, expected)) in wills.into_iter().zip(expected) {
            self.fire(Some(will), Some(expected));
        }
        self.server.expire();
        self.oracle.expire();
    }

    fn restart(&mut self, abandons: bool) {
        for who in 0..CLIENTS {
            while self.server.link(who).is_some() {
                self.end_link(who, true, !abandons);
            }
            self.clients[who].lose();
        }
        self.server.restart();
        self.oracle.restarted();
    }

    /// Everybody comes back and does all there is to do: then everything has arrived. When all have gone for good, the
    /// server has forgotten everything.
    pub(super) fn finish(&mut self) {
        let asks = |expiry_s| Asks {
            is_v5: true,
            is_clean: expiry_s == 0,
            expiry_s,
            receive_maximum: 0,
            takes_small_only: false,
            takes_aliases: true,
            will: None,
            will_delay_s: 0,
        };
        (0..CLIENTS).for_each(|who| self.notice(who, false));
        self.upkeep();
        for who in 0..CLIENTS {
            if self.oracle.has_session(who) {
                self.connect(who, &asks(NEVER));
            }
        }
        while (0..CLIENTS).fold(false, |moves, who| self.settle(who) | moves) {}
        self.oracle.check_all_done();
        for who in 0..CLIENTS {
            self.connect(who, &asks(0));
            self.goodbye(who, None, false);
            self.settle(who);
            self.notice(who, false);
        }
        let stats = self.server.hub.stats();
        let left = [stats.connections, stats.sessions, stats.subscriptions, stats.queued, stats.queued_bytes];
        assert_eq!(left, [0; 5], "connections, sessions, subscriptions, messages and bytes that wait");
    }
}

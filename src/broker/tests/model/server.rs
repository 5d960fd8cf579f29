//! The server under test: the real hub with its routes, slots, queues and sessions, and the real codec on the wire.
//!
//! What is not the real one is the connection task: [`Server`] does what `connection` and `will` do, without sockets and
//! without a journal, one step at a time, so that every order of steps can be had.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::link::Link;
use super::ops::{CLIENTS, TOPICS};
use crate::broker::auth::Identity;
use crate::broker::hub::{Attached, Hub, Judged};
use crate::broker::options::Options;
use crate::broker::slot::{Signals, Slot};
use crate::mqtt::codec::Version;
use crate::mqtt::packet::{Connect, Will};
use crate::mqtt::session::{Outcome, Start};
use crate::mqtt::{Action, Delivery, Packet, Publish, Reason, Session};

pub(super) struct Server {
    pub(super) options: Options,
    pub(super) hub: Hub,
    pub(super) now: Instant,
    links: [Option<Link>; CLIENTS],
}

/// What became of a CONNECT.
pub(super) enum Connected {
    /// Who has the session is to end first.
    Busy,
    Done {
        is_present: bool,
        old_will: Option<Will>,
    },
}

pub(super) fn client_id(who: usize) -> String {
    format!("c{who}")
}

impl Server {
    pub(super) fn new(options: Options) -> Self {
        let hub = Hub::new(options.clone(), false);
        Self { options, hub, now: Instant::now(), links: std::array::from_fn(|_| None) }
    }

    pub(super) fn link(&mut self, who: usize) -> Option<&mut Link> {
        self.links[who].as_mut()
    }

    /// Whether somebody would say that this client is connected.
    pub(super) fn is_connected(&self, who: usize) -> bool {
        self.links[who].as_ref().is_some_and(|link| !link.is_parting)
    }

    pub(super) fn connect(&mut self, who: usize, version: Version, connect: &Connect) -> Connected {
        let limits = self.options.session_limits();
        let start = Start::of(version, connect, None, &limits);
        let (client_id, now) = (client_id(who), self.now);
        let judged = Judged { admitted: Identity::Open.into(), at: 0 };
        let attach = self.hub.attach(&client_id, &judged, connect.clean_start, start, || now);
        let attached = match pin!(attach).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(attached) => attached.expect("everybody may").expect("nobody is dismissed"),
            Poll::Pending => {
                let link = self.links[who].as_ref().expect("somebody has the session");
                assert!(link.slot.signal.clear().has(Signals::TAKEN_OVER), "the other is told");
                return Connected::Busy;
            }
        };
        let Attached { slot, session, is_present, resend, old_will } = attached;
        assert!(self.links[who].is_none());
        self.links[who] = Some(Link::new(slot, session, version));
        self.perform(who, resend);
        Connected::Done { is_present, old_will }
    }

    /// The next packet of the client, and its number if it is a PUBLISH.
    pub(super) fn read(&mut self, who: usize) -> Option<(Packet, Option<u32>)> {
        let link = self.links[who].as_mut().filter(|link| !link.is_parting)?;
        let packet = link.version.decode(&mut link.input, 1 << 20).expect("clients keep the rules")?;
        let number = matches!(packet, Packet::Publish(_)).then(|| link.numbers.pop_front().expect("a number each"));
        Some((packet, number))
    }

    /// `true` = the client has said goodbye.
    pub(super) fn handle(&mut self, who: usize, packet: Packet) -> bool {
        let now = self.now;
        let link = self.links[who].as_mut().expect("it is from a client");
        let mut actions = Vec::new();
        link.session.handle(packet, now, &mut actions).expect("clients keep the rules");
        self.perform(who, actions)
    }

    fn perform(&mut self, who: usize, actions: Vec<Action>) -> bool {
        let link = self.links[who].as_mut().expect("there is a connection");
        for action in actions {
            match action {
                Action::Send(packet) => link.send(&packet),
                Action::Publish(ticket, publish) => link.pending.push_back((ticket, publish)),
                Action::Subscribe { packet_id, filters, id } => {
                    link.subscribe(&self.hub, packet_id, &filters, id, self.now)
                }
                Action::Unsubscribe(filter) => self.hub.unsubscribe(&link.slot, &filter),
                Action::Delivered(_) | Action::Dropped(..) => {}
                Action::Disconnect => return true,
            }
        }
        false
    }

    /// Routes and confirms the oldest publish of the client; gives whether anybody wanted it.
    pub(super) fn confirm(&mut self, who: usize) -> bool {
        let link = self.links[who].as_mut().expect("there is a connection");
        let (ticket, publish) = link.pending.pop_front().expect("something waits");
        let is_wanted = self.hub.publish(Some(link.slot.key), &publish, self.now, &mut Vec::new());
        let mut actions = Vec::new();
        link.session.confirm(ticket, Outcome { reason: Reason::Success, saves_id: true }, &mut actions);
        self.perform(who, actions);
        is_wanted
    }

    /// `true` = the budget ended it.
    pub(super) fn pull(&mut self, who: usize, budget: usize) -> bool {
        let now = self.now;
        let link = self.links[who].as_mut().expect("there is a connection");
        let mut actions = Vec::new();
        let more = link.session.pull(&mut link.slot.outbox(), budget, now, &mut actions);
        self.perform(who, actions);
        more
    }

    /// What was written to the client, as it reads it; aliases are resolved.
    pub(super) fn written(&mut self, who: usize) -> Vec<Packet> {
        self.links[who].as_mut().map(|link| std::mem::take(&mut link.output)).unwrap_or_default()
    }

    /// Nothing is written to the client any more.
    pub(super) fn mute(&mut self, who: usize) {
        self.links[who].as_mut().expect("there is a connection").is_parting = true;
    }

    /// The connection ends; what was taken is routed already. Gives the will that is due.
    pub(super) fn part(&mut self, who: usize, is_silent: bool) -> Option<Will> {
        let now = self.now;
        let link = self.links[who].as_mut().expect("there is a connection");
        link.pending.clear();
        link.session.abandon_unconfirmed();
        if is_silent {
            link.session.take_will();
        }
        let due = link.session.park(now);
        due.filter(|due| *due <= now).and_then(|_| link.session.take_will())
    }

    pub(super) fn go_offline(&mut self, who: usize) {
        let link = self.links[who].as_ref().expect("there is a connection");
        self.hub.go_offline(&link.slot, &link.session);
    }

    /// The session goes back to its place.
    pub(super) fn release(&mut self, who: usize) {
        let Link { slot, session, .. } = self.links[who].take().expect("there is a connection");
        self.hub.release(&slot, session);
    }

    pub(super) fn publish_will(&mut self, will: Will) {
        let Will { topic, payload, qos, retain, expiry_s, properties, .. } = will;
        let publish = Publish { topic, payload, qos, retain, expiry_s, properties, ..Publish::default() };
        self.hub.publish(None, &publish, self.now, &mut Vec::new());
    }

    /// Offline sessions, by client.
    fn offline(&self) -> Vec<(usize, Arc<Slot>)> {
        let number = |slot: &Arc<Slot>| slot.client_id[1..].parse().expect("one of ours");
        let mut slots: Vec<_> = self.hub.offline().into_iter().map(|slot| (number(&slot), slot)).collect();
        slots.sort_by_key(|(who, _)| *who);
        slots
    }

    /// Wills that are due, with their clients.
    pub(super) fn due_wills(&mut self) -> Vec<(usize, Will)> {
        let now = self.now;
        let will = |slot: &Slot| {
            slot.with_session(|s| if s.will_due().is_some_and(|due| due <= now) { s.take_will() } else { None })
                .flatten()
        };
        self.offline().into_iter().filter_map(|(who, slot)| Some((who, will(&slot)?))).collect()
    }

    /// Forgets what has expired. (Wills that were due are out already.)
    pub(super) fn expire(&mut self) {
        let now = self.now;
        self.hub.expire_retained(now);
        for (_, slot) in self.offline() {
            let will = self.hub.remove_if(&slot, |session| session.expires_at() <= now);
            assert_eq!(will, None, "a will is due at the end of its session at the latest");
        }
    }

    /// Another process goes on with what is saved of this one. Nobody is connected.
    pub(super) fn restart(&mut self) {
        assert!(self.links.iter().all(Option::is_none));
        let hub = Hub::new(self.options.clone(), false);
        for topic in TOPICS {
            if let Some((message, qos)) = self.hub.retained().get(topic) {
                hub.retained().set(Arc::clone(message), qos, 0);
            }
        }
        for (_, slot) in self.offline() {
            let mut messages = BTreeMap::new();
            let (saved, parked_at) = slot
                .with_session(|s| {
                    // The name of a share is not saved: it is of this process.
                    let keep = |d: &Delivery| drop(messages.insert(d.position, Delivery { share: None, ..d.clone() }));
                    (s.save(&slot.outbox(), keep), s.offline_since())
                })
                .expect("it is offline");
            messages.keys().for_each(|position| hub.budget.note_position(*position));
            let take = |position| messages.remove(&position);
            let session = Session::restore(self.options.session_limits(), saved, parked_at, take);
            if session.expires_at() > self.now {
                hub.restore(&slot.client_id, &slot.identity, session, messages.into_values().collect());
            }
        }
        self.hub = hub;
    }

    /// Whether this session has no room for another message.
    pub(super) fn is_full(&self, who: usize) -> bool {
        let routes = self.hub.table.read();
        let slots = (0..CLIENTS as u32).filter_map(|key| routes.slot(key));
        slots.filter(|slot| *slot.client_id == *client_id(who)).any(|slot| slot.outbox().is_full())
    }
}

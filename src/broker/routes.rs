//! Who gets which message: subscriptions, shared ones too, and retained messages; one bounded outbox a session.
//!
//! Invariants: a message is kept and routed under one read lock, a subscription is added under the write lock, and gets what
//! was kept before, by its position: so a subscriber gets each message once, and never an older one of a topic behind a newer.
//! A publisher never waits for a subscriber, nor for one that looks through what is kept. What a member of a shared subscription leaves behind goes to another member.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use bytestring::ByteString;

use super::hub::Hub;
use super::slot::Slot;
use crate::mqtt::packet::{SubscribeOptions, SubscriptionId};
use crate::mqtt::queue::{Pushed, ShareId, Shared};
use crate::mqtt::retained::Kept;
use crate::mqtt::router::{Entry, merge};
use crate::mqtt::session::{Subscribed, Subscription, brings_retained};
use crate::mqtt::{Delivery, Message, Publish, QoS, Reason, Router, Session, Shares, topic};

/// Subscriptions of all sessions, by the sessions' keys.
#[derive(Default)]
pub(super) struct Table(RwLock<Routes>);

/// See the module.
#[derive(Default)]
pub(super) struct Routes {
    router: Router<u32>,
    shares: Shares<u32>,
    /// By key.
    slots: Vec<Option<Arc<Slot>>>,
    free: Vec<u32>,
}

impl Table {
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Routes> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Routes> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Routes {
    pub(super) fn slot(&self, key: u32) -> Option<&Arc<Slot>> {
        self.slots.get(key as usize)?.as_ref()
    }

    /// Subscriptions and memberships.
    pub(super) fn len(&self) -> usize {
        self.router.len() + self.shares.len()
    }

    /// Adds a slot that `make` makes of its key.
    pub(super) fn add(&mut self, make: impl FnOnce(u32) -> Slot) -> Arc<Slot> {
        let key = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let slot = Arc::new(make(key));
        self.slots[key as usize] = Some(Arc::clone(&slot));
        slot
    }

    pub(super) fn remove(&mut self, slot: &Slot) {
        if let Some(entry) = self.slots.get_mut(slot.key as usize) {
            *entry = None;
            self.free.push(slot.key);
        }
    }

    /// The sessions subscribed to this very filter.
    pub(super) fn exact(&self, filter: &str) -> impl Iterator<Item = (&Arc<Slot>, QoS)> {
        self.router.exact(filter).iter().filter_map(|e| Some((self.slot(e.who)?, e.options.qos)))
    }

    /// Adds a subscription of a session.
    pub(super) fn subscribe(&mut self, slot: &Slot, filter: &str, Subscription { options, id }: Subscription) {
        let entry = Entry { who: slot.key, options, id };
        if topic::split_share(filter).is_some() {
            self.shares.subscribe(filter, entry);
        } else {
            self.router.subscribe(filter, entry);
        }
    }

    /// Removes a subscription of a session.
    pub(super) fn unsubscribe(&mut self, slot: &Slot, filter: &str) {
        if topic::split_share(filter).is_some() {
            self.shares.unsubscribe(filter, slot.key);
        } else {
            self.router.unsubscribe(filter, slot.key);
        }
    }
}

/// Retained messages that a subscription is still to get.
#[derive(Debug)]
pub(super) struct Awaited {
    pub(super) filter: ByteString,
    id: Option<SubscriptionId>,
    qos: QoS,
    /// Later ones came to it as live ones.
    before: u64,
    /// For as many as there were.
    positions: Range<u64>,
    part: Part,
    /// The last topic that was looked at.
    after: Option<Box<str>>,
}

/// Where they are.
#[derive(Debug)]
enum Part {
    Kept,
    Sys,
}

impl Hub {
    /// Adds a subscription of a session; gives which retained messages it asks for `[MQTT-3.3.1-9]`, or `Err` where the
    /// session has no room for it.
    pub(super) fn subscribe(
        &self,
        slot: &Slot,
        session: &mut Session,
        filter: &ByteString,
        subscription: Subscription,
    ) -> Result<Option<Awaited>, Reason> {
        let subscribed = session.subscribe(filter, subscription);
        if subscribed == Subscribed::Full {
            return Err(Reason::QuotaExceeded);
        }
        let mut routes = self.table.write();
        routes.subscribe(slot, filter, subscription);
        let SubscribeOptions { qos, retain_handling, .. } = subscription.options;
        let is_shared = topic::split_share(filter).is_some(); // these bring none (section 4.8.2)
        if is_shared || !brings_retained(retain_handling, subscribed) {
            return Ok(None);
        }
        // Under the lock: what is kept from now on is routed to it, too.
        let positions = self.budget.take_positions((self.retained().len() + self.sys().len()) as u64);
        let (filter, id, before) = (ByteString::from(&**filter), subscription.id, positions.start);
        let part = if filter.starts_with("$SYS/") { Part::Sys } else { Part::Kept };
        Ok(Some(Awaited { filter, id, qos, before, positions, part, after: None }))
    }

    /// Gives a session some of the retained messages that it waits for; whether there may be more.
    pub(super) fn bring(&self, session: &mut Session, awaited: &mut Awaited, steps: usize, now: Instant) -> bool {
        let Awaited { filter, id, qos, before, positions, part, after } = awaited;
        let mut dropped = 0;
        let add = |message: &Arc<Message>, kept: QoS| {
            let Some(position) = positions.next() else { return };
            let delivery = self.budget.room(message.size()).map(|room| {
                let ids = id.iter().copied().collect();
                Delivery { retain: true, ids, position, room, ..Delivery::new(Arc::clone(message), kept.min(*qos)) }
            });
            dropped += u64::from(!delivery.is_some_and(|delivery| session.add_retained(delivery)));
        };
        let store = match part {
            Part::Kept => self.retained(),
            Part::Sys => self.sys(),
        };
        *after = store.matching(filter, after.as_deref(), *before, steps, now, add);
        drop(store);
        self.counters.dropped_queued.fetch_add(dropped, Ordering::Relaxed);
        after.is_some()
    }

    /// Removes a subscription `[MQTT-3.10.4-2]`.
    pub(super) fn unsubscribe(&self, slot: &Slot, filter: &str) {
        self.table.write().unsubscribe(slot, filter);
    }

    /// Keeps and routes a message that the client with the key `from` has sent. `found` is scratch space. Gives whether
    /// anybody is subscribed.
    pub(super) fn publish(
        &self,
        from: Option<u32>,
        publish: &Publish,
        now: Instant,
        found: &mut Vec<Entry<u32>>,
    ) -> bool {
        let routes = self.table.read();
        routes.router.matches(&publish.topic, found);
        let mut shares = Vec::new();
        routes.shares.matching(&publish.topic, |share| shares.push(share));
        if found.is_empty() && shares.is_empty() && !publish.retain {
            return false;
        }
        let message = Message::of(publish, now);
        if publish.retain {
            self.keep(&message, publish.qos);
        }
        for wanted in merge(found, from) {
            let Some(slot) = routes.slot(wanted.who) else { continue };
            let retain = publish.retain && wanted.retain_as_published;
            let qos = publish.qos.min(wanted.qos);
            self.offer(slot, Delivery { retain, ids: wanted.ids, ..Delivery::new(Arc::clone(&message), qos) });
        }
        for share in &shares {
            let shared = Shared { id: *share, qos: publish.qos, retain: publish.retain };
            self.give(&routes, shared, Delivery::new(Arc::clone(&message), publish.qos));
        }
        let is_wanted = !found.is_empty() || !shares.is_empty();
        found.clear();
        is_wanted
    }

    fn keep(&self, message: &Arc<Message>, qos: QoS) {
        let position = self.budget.take_position();
        if message.topic.starts_with("$SYS/") {
            self.sys().set(Arc::clone(message), qos, position);
            return;
        }
        if self.retained().set(Arc::clone(message), qos, position) == Kept::Refused {
            self.counters.retained_refused.fetch_add(1, Ordering::Relaxed);
        }
        self.changes.mark_retained(&message.topic);
    }

    /// Puts a delivery into a session's outbox; counts what finds no room.
    pub(super) fn offer(&self, slot: &Arc<Slot>, delivery: Delivery) -> Option<Pushed> {
        let qos = delivery.qos;
        let pushed = slot.offer(delivery);
        match pushed {
            Some(Pushed::Full) => {
                let counters = &self.counters;
                let dropped = if qos == QoS::AtMostOnce { &counters.dropped_qos0 } else { &counters.dropped_queued };
                dropped.fetch_add(1, Ordering::Relaxed);
            }
            Some(Pushed::Queued) if qos > QoS::AtMostOnce => self.changes.mark(slot),
            _ => {}
        }
        pushed
    }

    /// Gives a message to one member of a share: to the next one that is connected and has room, else to one that comes
    /// back `[MQTT-4.8.2-3]`.
    fn give(&self, routes: &Routes, share: Shared, delivery: Delivery) {
        let for_member = |member: &Entry<u32>| Delivery {
            qos: share.qos.min(member.options.qos),
            retain: share.retain && member.options.retain_as_published,
            ids: member.id.into_iter().collect(),
            share: Some(share),
            ..delivery.clone()
        };
        let mut others = Vec::new();
        for member in routes.shares.members(share.id) {
            let Some(slot) = routes.slot(member.who) else { continue };
            if !slot.is_online() || slot.outbox().is_full() {
                others.push((slot, member));
            } else if self.offer(slot, for_member(member)) == Some(Pushed::Queued) {
                return;
            }
        }
        // One who is not there keeps nothing of QoS 0.
        others.sort_by_key(|(slot, member)| (member.options.qos == QoS::AtMostOnce, slot.outbox().is_full()));
        if let Some((slot, member)) = others.first() {
            self.offer(slot, for_member(member));
        }
    }

    /// Removes all subscriptions of a session that ends; what it had for shared ones goes to other members.
    pub(super) fn forget_routes(&self, slot: &Slot, session: &mut Session) {
        let mut routes = self.table.write();
        for (filter, _) in session.subscriptions() {
            routes.unsubscribe(slot, filter);
        }
        self.pass_on(&routes, slot, session, |_| true);
    }

    /// A member of shared subscriptions is gone for now: another one that is connected gets what it has not acknowledged.
    /// What came before it left a share stays with it `[MQTT-3.10.4-3]`, until its session ends.
    pub(super) fn pass_on_offline(&self, slot: &Slot, session: &mut Session) {
        if !session.subscriptions().any(|(filter, _)| filter.starts_with(topic::SHARE)) {
            return;
        }
        let routes = self.table.read();
        let is_other = |e: &Entry<u32>| e.who != slot.key && routes.slot(e.who).is_some_and(|s| s.is_online());
        let is_own = |e: &Entry<u32>| e.who == slot.key;
        let is_meant = |share| routes.shares.has_member(share, is_own) && routes.shares.has_member(share, is_other);
        self.pass_on(&routes, slot, session, is_meant);
    }

    fn pass_on(&self, routes: &Routes, slot: &Slot, session: &mut Session, is_meant: impl Fn(ShareId) -> bool) {
        let mut left = session.take_shared(&is_meant);
        left.extend(slot.outbox().take_where(|d| d.share.is_some_and(|share| is_meant(share.id))));
        for delivery in left {
            if let Some(share) = delivery.share {
                self.give(routes, share, delivery);
            }
        }
    }
}

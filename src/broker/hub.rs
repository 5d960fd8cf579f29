//! What all connections share: the sessions by client id; routes and retained messages are beside, in `routes`.
//!
//! Invariants: a client id has one slot; a slot's key is in the routes exactly as long as the slot is in the map. Locks
//! are held for moments, in the order sessions → events → routes → retained → outbox → changes (a slot's place alone),
//! never over an await.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;

use super::acl::{command_device, may_subscribe, may_will};
use super::auth::{Admitted, Grant, Identity};
use super::events::{self, Event};
use super::options::Options;
use super::persist::Changes;
use super::routes::Table;
use super::slot::{Place, Signals, Slot};
use super::stats::{Counters, Stats};
use crate::domain::{CommandId, DeviceId};
use crate::mqtt::packet::Will;
use crate::mqtt::queue::{Pushed, Tag};
use crate::mqtt::session::Start;
use crate::mqtt::{Action, Budget, Delivery, Message, Queue, Reason, Retained, Session};

/// See the module.
pub(super) struct Hub {
    pub(super) options: Options,
    pub(super) counters: Counters,
    pub(super) events: events::Sender,
    pub(super) table: Table,
    pub(super) changes: Changes,
    pub(super) budget: Arc<Budget>,
    connections: AtomicU64,
    /// Messages in flight to clients that are connected.
    inflight: AtomicU64,
    dismissals: AtomicU64,
    sessions: Mutex<HashMap<Arc<str>, Arc<Slot>>>,
    retained: Mutex<Retained>,
    /// What the server says of itself: it takes no room from others.
    sys: Mutex<Retained>,
}

/// A session handed to a connection.
pub(super) struct Attached {
    pub(super) slot: Arc<Slot>,
    pub(super) session: Box<Session>,
    /// As the client is told.
    pub(super) is_present: bool,
    /// What is to be sent again.
    pub(super) resend: Vec<Action>,
    /// Of an earlier session that ends here, before its will was due; the client may still leave it. Whoever gets this
    /// owns the session already: an await before there is a connection to give it back would lose it.
    pub(super) old_will: Option<Will>,
}

/// A client that was found to be somebody.
pub(super) struct Judged {
    pub(super) admitted: Admitted,
    /// After so many dismissals.
    pub(super) at: u64,
}

impl Hub {
    pub(super) fn new(options: Options, saves: bool) -> Self {
        Self {
            retained: Mutex::new(Retained::new(options.max_retained_messages, options.max_retained_bytes)),
            sys: Mutex::new(Retained::new(1000, 1 << 20)),
            budget: Arc::new(Budget::new(options.max_total_queued_messages, options.max_total_queued_bytes)),
            options,
            counters: Counters::default(),
            events: events::Sender::default(),
            table: Table::default(),
            changes: Changes::new(saves),
            connections: AtomicU64::new(0),
            inflight: AtomicU64::new(0),
            dismissals: AtomicU64::new(0),
            sessions: Mutex::default(),
        }
    }

    /// Gives the session of `client_id` to the caller, from whoever has it `[MQTT-3.1.4-3]`; a new one where there is
    /// none or it is not wanted `[MQTT-3.1.2-4]`, `[MQTT-3.1.2-5]`. Once a session is taken out, no await follows: a
    /// caller that is dropped loses nothing. `None` = the identity must be judged anew: there was a wait for the one who
    /// had the session, or a dismissal since it was judged.
    pub(super) async fn attach(
        &self,
        client_id: &str,
        judged: &Judged,
        is_clean: bool,
        start: Start,
        now: impl Fn() -> Instant,
    ) -> Result<Option<Attached>, Reason> {
        let Admitted { identity, token_sha256 } = &judged.admitted;
        loop {
            let slot = match self.find_or_create(client_id, judged)? {
                Found::Outdated => return Ok(None),
                Found::New(slot) => {
                    self.connections.fetch_add(1, Ordering::Relaxed);
                    slot.keep(!start.expiry.is_zero());
                    let session = Box::new(Session::new(self.options.session_limits(), start, now()));
                    let (resend, old_will) = (Vec::new(), None);
                    return Ok(Some(Attached { slot, session, is_present: false, resend, old_will }));
                }
                Found::Old(slot) => slot,
            };
            if !slot.identity.is_same(identity) {
                return Err(Reason::ClientIdentifierNotValid);
            }
            let mut freed = std::pin::pin!(slot.freed.notified());
            freed.as_mut().enable();
            match slot.take() {
                Place::Here(session) => {
                    slot.begin_by(*token_sha256);
                    // A dismissal that came in between has seen the token of the session before.
                    if self.dismissals() != judged.at {
                        self.release(&slot, session);
                        return Ok(None);
                    }
                    return Ok(Some(self.reattach(&slot, session, identity, is_clean, start, now())));
                }
                Place::Ended => tokio::task::yield_now().await,
                Place::Away => {
                    slot.signal.raise(Signals::TAKEN_OVER);
                    freed.await;
                    return Ok(None);
                }
            }
        }
    }

    fn reattach(
        &self,
        slot: &Arc<Slot>,
        mut session: Box<Session>,
        identity: &Identity,
        is_clean: bool,
        start: Start,
        now: Instant,
    ) -> Attached {
        // What it had subscribed to when it might do more goes, with all that waits of it.
        let may_go_on = session.subscriptions().all(|(filter, _)| may_subscribe(identity, filter));
        let is_present = !is_clean && may_go_on && session.expires_at() > now;
        let mut resend = Vec::new();
        let mut old_will = None;
        let ends_with_connection = start.expiry.is_zero();
        slot.keep(!ends_with_connection);
        slot.note_unjudged(false);
        if is_present {
            session.resume(start, now, &mut resend);
        } else {
            let will = session.will_due().and_then(|_| session.take_will());
            old_will = will.filter(|will| may_will(identity, &will.topic));
            self.forget_routes(slot, &mut session);
            slot.outbox().clear();
            session = Box::new(Session::new(self.options.session_limits(), start, now));
        }
        if !is_present || ends_with_connection {
            // What is saved of it must not come back after a crash [MQTT-3.1.2-4]; what is kept anew is saved after this.
            self.changes.end(slot);
        }
        slot.is_online.store(true, Ordering::Release);
        self.connections.fetch_add(1, Ordering::Relaxed);
        Attached { slot: Arc::clone(slot), session, is_present, resend, old_will }
    }

    fn find_or_create(&self, client_id: &str, judged: &Judged) -> Result<Found, Reason> {
        let mut sessions = self.sessions();
        // Under the lock: a later dismissal finds what is made here.
        if self.dismissals() != judged.at {
            return Ok(Found::Outdated);
        }
        if let Some(slot) = sessions.get(client_id) {
            return Ok(Found::Old(Arc::clone(slot)));
        }
        if sessions.len() >= self.options.max_sessions {
            self.counters.refused_session_limit.fetch_add(1, Ordering::Relaxed);
            return Err(Reason::QuotaExceeded);
        }
        let slot = self.create(client_id, &judged.admitted.identity);
        slot.begin_by(judged.admitted.token_sha256);
        sessions.insert(Arc::clone(&slot.client_id), Arc::clone(&slot));
        Ok(Found::New(slot))
    }

    fn create(&self, client_id: &str, identity: &Identity) -> Arc<Slot> {
        let options = &self.options;
        let outbox = Queue::new(options.max_queued_messages, options.max_queued_bytes, Arc::clone(&self.budget));
        self.table.write().add(|key| Slot::new(key, client_id.into(), identity.clone(), outbox))
    }

    /// Whether there may be another session.
    pub(super) fn has_room(&self) -> bool {
        self.sessions().len() < self.options.max_sessions
    }

    /// Puts back a session that was saved, with what waits for it.
    pub(super) fn restore(&self, client_id: &str, identity: &Identity, session: Session, waiting: Vec<Delivery>) {
        let slot = self.create(client_id, identity);
        slot.keep(true);
        slot.note_unjudged(true);
        slot.is_online.store(false, Ordering::Release);
        let mut routes = self.table.write();
        for (filter, subscription) in session.subscriptions() {
            routes.subscribe(&slot, filter, subscription);
        }
        drop(routes);
        {
            let mut outbox = slot.outbox();
            session.tags().for_each(|tag| outbox.note_tag(tag));
            let lost = waiting.into_iter().map(|d| u64::from(!outbox.restore(d))).sum::<u64>();
            self.counters.dropped_queued.fetch_add(lost, Ordering::Relaxed);
        }
        *slot.place() = Place::Here(Box::new(session));
        self.sessions().insert(Arc::clone(&slot.client_id), slot);
    }

    /// The connection is ending: nothing but QoS 1 and 2 is queued from now on, and its device is gone.
    pub(super) fn go_offline(&self, slot: &Slot, session: &Session) {
        slot.is_online.store(false, Ordering::Release);
        self.connections.fetch_sub(1, Ordering::Relaxed);
        let mut events: Vec<_> =
            session.subscriptions().filter_map(|(filter, _)| gone(&slot.identity, filter)).collect();
        if !events.is_empty() {
            self.tell(&mut events);
        }
    }

    /// Tells the command side; a device that another connected client is subscribed for is not gone.
    pub(super) fn tell(&self, events: &mut Vec<Event>) {
        self.events.tell(events, |device| {
            let routes = self.table.read();
            let topic = format!("iot/{device}/command");
            !routes.exact(&topic).any(|(slot, _)| slot.is_online() && slot.identity.obeys_for(device))
        });
    }

    /// Takes the session back at the end of its connection; forgets it where it ends with the connection
    /// `[MQTT-3.1.2-23]` or was dismissed, however long ago.
    pub(super) fn release(&self, slot: &Arc<Slot>, mut session: Box<Session>) {
        let ends = session.ends_with_connection();
        slot.keep(!ends);
        if !ends {
            self.pass_on_offline(slot, &mut session);
            let dropped = slot.outbox().go_offline();
            self.counters.dropped_qos0.fetch_add(dropped as u64, Ordering::Relaxed);
        }
        let mut place = slot.place();
        if slot.is_dismissed() || ends {
            drop(place);
            self.remove(slot, &mut session);
        } else {
            *place = Place::Here(session);
            drop(place);
            self.changes.mark(slot);
        }
        slot.freed.notify_waiters();
    }

    fn remove(&self, slot: &Arc<Slot>, session: &mut Session) {
        *slot.place() = Place::Ended;
        let mut sessions = self.sessions();
        self.forget_routes(slot, session);
        self.table.write().remove(slot);
        sessions.remove(&slot.client_id);
        self.changes.end(slot);
    }

    /// Gives a command to its device; whether it is there to take it. Others that are subscribed get a copy.
    pub(super) fn send_command(&self, device: &DeviceId, command: CommandId, payload: &Bytes) -> bool {
        let topic = format!("iot/{device}/command");
        let routes = self.table.read();
        let message = Message::detached(&topic, payload);
        let mut is_sent = false;
        for (slot, qos) in routes.exact(&topic) {
            let delivery = Delivery::new(Arc::clone(&message), qos);
            if slot.identity.obeys_for(device) {
                let delivery = Delivery { tag: Some(Tag(command.0.as_u128())), ..delivery };
                is_sent |= matches!(slot.offer(delivery), Some(Pushed::Queued | Pushed::Known));
            } else {
                self.offer(slot, delivery);
            }
        }
        is_sent
    }

    /// A connection had `before` messages in flight and has `now`.
    pub(super) fn note_inflight(&self, before: usize, now: usize) {
        if before != now {
            self.inflight.fetch_add((now as u64).wrapping_sub(before as u64), Ordering::Relaxed);
        }
    }

    /// How often sessions were dismissed; a log-in that was judged before the latest dismissal is judged again.
    pub(super) fn dismissals(&self) -> u64 {
        self.dismissals.load(Ordering::Acquire)
    }

    /// Ends the sessions of a device, connected or not.
    pub(super) fn dismiss(&self, device: &DeviceId) {
        self.dismiss_all(|slot| {
            &*slot.client_id == device.as_str() || matches!(&slot.identity, Identity::Device(id) if id == device)
        });
    }

    /// Ends the sessions of a device, connected or not, that were begun by another token than `now`.
    pub(super) fn dismiss_token(&self, device: &DeviceId, now: Option<[u8; 32]>) {
        self.dismiss_all(|slot| match &slot.identity {
            Identity::Device(id) => id == device && slot.token().is_some_and(|token| Some(token) != now),
            Identity::Service(_) | Identity::Open => false,
        });
    }

    /// Ends the sessions of a service, connected or not, that were begun with another grant than `now`.
    pub(super) fn dismiss_service(&self, name: &str, now: Option<&Grant>) {
        self.dismiss_all(|slot| match &slot.identity {
            Identity::Service(grant) => grant.name == name && now != Some(&**grant),
            Identity::Device(_) | Identity::Open => false,
        });
    }

    /// Devices with a session of a connected client.
    pub(super) fn logged_in_devices(&self) -> Vec<DeviceId> {
        let device = |slot: &Arc<Slot>| match &slot.identity {
            Identity::Device(id) if slot.is_online() => Some(id.clone()),
            Identity::Device(_) | Identity::Service(_) | Identity::Open => None,
        };
        self.sessions().values().filter_map(device).collect()
    }

    fn dismiss_all(&self, is_meant: impl Fn(&Slot) -> bool) {
        // Before the search: who attaches to a slot that the search does not see sees this.
        self.dismissals.fetch_add(1, Ordering::AcqRel);
        let slots: Vec<_> = self.sessions().values().filter(|s| is_meant(s)).cloned().collect();
        for slot in slots {
            if let Some(mut session) = slot.dismiss() {
                self.remove(&slot, &mut session);
                slot.freed.notify_waiters();
            }
        }
    }

    /// Removes an offline session that `is_over`, and gives the will that it leaves.
    pub(super) fn remove_if(&self, slot: &Arc<Slot>, is_over: impl Fn(&Session) -> bool) -> Option<Will> {
        let mut place = slot.place();
        if !matches!(&*place, Place::Here(session) if is_over(session)) {
            return None;
        }
        let Place::Here(mut session) = std::mem::replace(&mut *place, Place::Ended) else { return None };
        drop(place);
        let will = session.will_due().and_then(|_| session.take_will());
        self.remove(slot, &mut session);
        slot.freed.notify_waiters();
        will
    }

    /// The sessions nobody is connected to.
    pub(super) fn offline(&self) -> Vec<Arc<Slot>> {
        self.sessions().values().filter(|s| !s.is_online()).cloned().collect()
    }

    /// Forgets retained messages that have expired.
    pub(super) fn expire_retained(&self, now: Instant) {
        let topics = self.retained().expire(now);
        topics.iter().for_each(|topic| self.changes.mark_retained(topic));
    }

    /// Forgets retained messages of a device.
    pub(super) fn forget_retained(&self, device: &DeviceId) {
        let topics = self.retained().forget(&format!("iot/{device}/"));
        topics.iter().for_each(|topic| self.changes.mark_retained(topic));
    }

    pub(super) fn signal_all(&self, signals: Signals) {
        for slot in self.sessions().values() {
            slot.signal.raise(signals);
        }
    }

    pub(super) fn stats(&self) -> Stats {
        let (retained, retained_bytes) = {
            let retained = self.retained();
            (retained.len() as u64, retained.bytes() as u64)
        };
        Stats {
            connections: self.connections.load(Ordering::Relaxed),
            sessions: self.sessions().len() as u64,
            subscriptions: self.table.read().len() as u64,
            inflight: self.inflight.load(Ordering::Relaxed),
            queued: self.budget.items() as u64,
            queued_bytes: self.budget.bytes() as u64,
            retained,
            retained_bytes,
            ..self.counters.totals()
        }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Slot>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The kept messages of the `$SYS` tree.
    pub(super) fn sys(&self) -> MutexGuard<'_, Retained> {
        self.sys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn retained(&self) -> MutexGuard<'_, Retained> {
        self.retained.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// [`Event::Ready`], if `filter` is where this client gets commands.
pub(super) fn ready(identity: &Identity, filter: &str) -> Option<Event> {
    commanded(identity, filter).map(|device| Event::Ready { device })
}

/// [`Event::Gone`], if `filter` is where this client gets commands.
pub(super) fn gone(identity: &Identity, filter: &str) -> Option<Event> {
    commanded(identity, filter).map(|device| Event::Gone { device })
}

fn commanded(identity: &Identity, filter: &str) -> Option<DeviceId> {
    command_device(filter).and_then(DeviceId::parse).filter(|device| identity.obeys_for(device))
}

enum Found {
    New(Arc<Slot>),
    Old(Arc<Slot>),
    /// There was a dismissal since the identity was judged.
    Outdated,
}

//! What all connections share: sessions, routes, retained messages.
//!
//! Invariants: a client id has one slot; a slot's key is in the routes exactly as long as the slot is in the map; a
//! message is kept and routed under one read lock, a subscription is added and its retained messages are found under the
//! write lock, so that a subscriber gets each message once and the newest last. Locks are held for moments, in the order
//! sessions → events → routes → retained → outbox (a slot's place alone), never over an await.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;

use super::Shared;
use super::acl::command_device;
use super::auth::Identity;
use super::events::{self, Event};
use super::options::Options;
use super::slot::{Place, Signals, Slot};
use super::stats::{Counters, Stats};
use crate::domain::{CommandId, DeviceId};
use crate::mqtt::packet::ConnectCode;
use crate::mqtt::queue::{Pushed, Tag};
use crate::mqtt::retained::Kept;
use crate::mqtt::session::Start;
use crate::mqtt::{Action, Delivery, Message, QoS, Queue, Retained, Router, Session};

/// See the module.
pub(super) struct Hub {
    options: Options,
    pub(super) counters: Counters,
    pub(super) events: events::Sender,
    connections: AtomicU64,
    dismissals: AtomicU64,
    sessions: Mutex<HashMap<Arc<str>, Arc<Slot>>>,
    routes: RwLock<Routes>,
    retained: Mutex<Retained>,
}

#[derive(Default)]
struct Routes {
    router: Router<u32>,
    /// By key.
    slots: Vec<Option<Arc<Slot>>>,
    free: Vec<u32>,
}

/// A session handed to a connection.
pub(super) struct Attached {
    pub(super) slot: Arc<Slot>,
    pub(super) session: Box<Session>,
    pub(super) is_present: bool,
    /// What is to be sent again.
    pub(super) resend: Vec<Action>,
}

impl Hub {
    pub(super) fn new(options: Options) -> Self {
        Self {
            retained: Mutex::new(Retained::new(options.max_retained_messages, options.max_retained_bytes)),
            options,
            counters: Counters::default(),
            events: events::Sender::default(),
            connections: AtomicU64::new(0),
            dismissals: AtomicU64::new(0),
            sessions: Mutex::default(),
            routes: RwLock::default(),
        }
    }

    /// Gives the session of `client_id` to the caller, from whoever has it `[MQTT-3.1.4-2]`; a new one where there is
    /// none or it is not wanted `[MQTT-3.1.2-4]`, `[MQTT-3.1.2-6]`. Once a session is taken out, no await follows: a
    /// caller that is dropped loses nothing. `None` = the identity must be judged anew: there was a wait for the one who
    /// had the session, or a dismissal after the `judged_at`th.
    pub(super) async fn attach(
        &self,
        client_id: &str,
        identity: &Identity,
        judged_at: u64,
        start: Start,
        now: impl Fn() -> Instant,
    ) -> Result<Option<Attached>, ConnectCode> {
        loop {
            let slot = match self.find_or_create(client_id, identity, judged_at)? {
                Found::Outdated => return Ok(None),
                Found::New(slot) => {
                    self.connections.fetch_add(1, Ordering::Relaxed);
                    let session = Box::new(Session::new(self.options.session_limits(), start, now()));
                    return Ok(Some(Attached { slot, session, is_present: false, resend: Vec::new() }));
                }
                Found::Old(slot) => slot,
            };
            if slot.identity != *identity {
                return Err(ConnectCode::IdentifierRejected);
            }
            let mut freed = std::pin::pin!(slot.freed.notified());
            freed.as_mut().enable();
            match slot.take() {
                Place::Here(session) => return Ok(Some(self.reattach(&slot, session, start, now()))),
                Place::Ended => tokio::task::yield_now().await,
                Place::Away => {
                    slot.signal.raise(Signals::TAKEN_OVER);
                    freed.await;
                    return Ok(None);
                }
            }
        }
    }

    fn reattach(&self, slot: &Arc<Slot>, mut session: Box<Session>, start: Start, now: Instant) -> Attached {
        let is_present = !start.clean && session.expires_at() > now;
        let mut resend = Vec::new();
        if is_present {
            session.resume(start, now, &mut resend);
        } else {
            self.forget_routes(slot, &session);
            slot.outbox().clear();
            session = Box::new(Session::new(self.options.session_limits(), start, now));
        }
        slot.is_online.store(true, Ordering::Release);
        self.connections.fetch_add(1, Ordering::Relaxed);
        Attached { slot: Arc::clone(slot), session, is_present, resend }
    }

    fn find_or_create(&self, client_id: &str, identity: &Identity, judged_at: u64) -> Result<Found, ConnectCode> {
        let mut sessions = self.sessions();
        // Under the lock: a later dismissal finds what is made here.
        if self.dismissals() != judged_at {
            return Ok(Found::Outdated);
        }
        if let Some(slot) = sessions.get(client_id) {
            return Ok(Found::Old(Arc::clone(slot)));
        }
        if sessions.len() >= self.options.max_sessions {
            self.counters.refused_session_limit.fetch_add(1, Ordering::Relaxed);
            return Err(ConnectCode::ServerUnavailable);
        }
        let client_id: Arc<str> = client_id.into();
        let outbox = Queue::new(self.options.max_queued_messages, self.options.max_queued_bytes);
        let mut routes = self.routes_mut();
        let key = routes.free.pop().unwrap_or_else(|| {
            routes.slots.push(None);
            u32::try_from(routes.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let slot = Arc::new(Slot::new(key, Arc::clone(&client_id), identity.clone(), outbox));
        routes.slots[key as usize] = Some(Arc::clone(&slot));
        sessions.insert(client_id, Arc::clone(&slot));
        Ok(Found::New(slot))
    }

    /// The connection is ending: nothing but QoS 1 and 2 is queued from now on, and its device is gone.
    pub(super) fn go_offline(&self, slot: &Slot, session: &Session) {
        slot.is_online.store(false, Ordering::Release);
        self.connections.fetch_sub(1, Ordering::Relaxed);
        let mut events: Vec<_> = session.subscriptions().filter_map(|(filter, _)| gone(filter)).collect();
        if !events.is_empty() {
            self.tell(&mut events);
        }
    }

    /// Tells the command side; a device that another connected client is subscribed for is not gone.
    pub(super) fn tell(&self, events: &mut Vec<Event>) {
        self.events.tell(events, |device| {
            let routes = self.routes();
            let takers = routes.router.exact(&format!("iot/{device}/command"));
            !takers.iter().any(|(key, _)| routes.slot(*key).is_some_and(|s| s.is_online()))
        });
    }

    /// Takes the session back at the end of its connection; forgets it where it ends with the connection
    /// `[MQTT-3.1.2-6]` or was dismissed, however long ago.
    pub(super) fn release(&self, slot: &Arc<Slot>, mut session: Box<Session>, now: Instant) {
        if !session.is_clean() {
            let dropped = slot.outbox().go_offline();
            self.counters.dropped_qos0.fetch_add(dropped as u64, Ordering::Relaxed);
            session.park(now);
        }
        let mut place = slot.place();
        if slot.is_dismissed() || session.is_clean() {
            drop(place);
            self.remove(slot, &session);
        } else {
            *place = Place::Here(session);
            drop(place);
        }
        slot.freed.notify_waiters();
    }

    fn remove(&self, slot: &Arc<Slot>, session: &Session) {
        *slot.place() = Place::Ended;
        let mut sessions = self.sessions();
        self.forget_routes(slot, session);
        let mut routes = self.routes_mut();
        if let Some(entry) = routes.slots.get_mut(slot.key as usize) {
            *entry = None;
            routes.free.push(slot.key);
        }
        sessions.remove(&slot.client_id);
    }

    fn forget_routes(&self, slot: &Slot, session: &Session) {
        let mut routes = self.routes_mut();
        for (filter, _) in session.subscriptions() {
            routes.router.unsubscribe(filter, slot.key);
        }
    }

    /// Adds a subscription of a session, with the retained messages it asks for `[MQTT-3.3.1-6]`; `false` = the session
    /// has no room for it.
    pub(super) fn subscribe(&self, slot: &Slot, session: &mut Session, filter: &ByteString, qos: QoS) -> bool {
        if !session.subscribe(filter, qos) {
            return false;
        }
        let mut routes = self.routes_mut();
        routes.router.subscribe(filter, slot.key, qos);
        let mut dropped = 0;
        self.retained().matching(filter, |message, kept| {
            let delivery = Delivery { message: Arc::clone(message), qos: kept.min(qos), retain: true, tag: None };
            dropped += u64::from(!session.add_retained(delivery));
        });
        self.counters.dropped_queued.fetch_add(dropped, Ordering::Relaxed);
        true
    }

    /// Removes a subscription `[MQTT-3.10.4-2]`.
    pub(super) fn unsubscribe(&self, slot: &Slot, filter: &str) {
        self.routes_mut().router.unsubscribe(filter, slot.key);
    }

    /// Keeps and routes a message. Never waits for a subscriber. `found` is scratch space.
    pub(super) fn publish(&self, topic: &str, payload: &[u8], qos: QoS, retain: bool, found: &mut Vec<(u32, QoS)>) {
        let routes = self.routes();
        routes.router.matches(topic, found);
        if found.is_empty() && !retain {
            return;
        }
        let message = Message::detached(topic, payload);
        if retain && self.retained().set(Arc::clone(&message), qos) == Kept::Refused {
            self.counters.retained_refused.fetch_add(1, Ordering::Relaxed);
        }
        for (key, granted) in found.drain(..) {
            let Some(slot) = routes.slot(key) else { continue };
            let qos = qos.min(granted);
            let delivery = Delivery { message: Arc::clone(&message), qos, retain: false, tag: None };
            if slot.offer(delivery) == Some(Pushed::Full) {
                let counters = &self.counters;
                let dropped = if qos == QoS::AtMostOnce { &counters.dropped_qos0 } else { &counters.dropped_queued };
                dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn send_command(&self, device: &DeviceId, command: CommandId, payload: &Bytes) -> bool {
        let topic = format!("iot/{device}/command");
        let routes = self.routes();
        let message = Message::detached(&topic, payload);
        let mut is_sent = false;
        for (key, qos) in routes.router.exact(&topic) {
            let Some(slot) = routes.slot(*key) else { continue };
            let tag = Some(Tag(command.0.as_u128()));
            let delivery = Delivery { message: Arc::clone(&message), qos: *qos, retain: false, tag };
            is_sent |= matches!(slot.offer(delivery), Some(Pushed::Queued | Pushed::Known));
        }
        is_sent
    }

    /// How often sessions were dismissed; a log-in that was judged before the latest dismissal is judged again.
    pub(super) fn dismissals(&self) -> u64 {
        self.dismissals.load(Ordering::Acquire)
    }

    /// Ends the sessions of a device, connected or not.
    pub(super) fn dismiss(&self, device: &DeviceId) {
        // Before the search: who attaches to a slot that the search does not see sees this.
        self.dismissals.fetch_add(1, Ordering::AcqRel);
        let is_meant = |slot: &Slot| {
            &*slot.client_id == device.as_str() || matches!(&slot.identity, Identity::Device(id) if id == device)
        };
        let slots: Vec<_> = self.sessions().values().filter(|s| is_meant(s)).cloned().collect();
        for slot in slots {
            if let Some(session) = slot.dismiss() {
                self.remove(&slot, &session);
                slot.freed.notify_waiters();
            }
        }
    }

    /// Removes an offline session; `false` = a connection has it, or `condition` does not hold.
    fn remove_if(&self, slot: &Arc<Slot>, condition: impl Fn(&Session) -> bool) -> bool {
        let mut place = slot.place();
        if !matches!(&*place, Place::Here(session) if condition(session)) {
            return false;
        }
        let Place::Here(session) = std::mem::replace(&mut *place, Place::Ended) else { return false };
        drop(place);
        self.remove(slot, &session);
        slot.freed.notify_waiters();
        true
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
            subscriptions: self.routes().router.len() as u64,
            retained,
            retained_bytes,
            ..self.counters.totals()
        }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Slot>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn retained(&self) -> MutexGuard<'_, Retained> {
        self.retained.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn routes(&self) -> RwLockReadGuard<'_, Routes> {
        self.routes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn routes_mut(&self) -> RwLockWriteGuard<'_, Routes> {
        self.routes.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// [`Event::Gone`], if `filter` is a command topic.
pub(super) fn gone(filter: &str) -> Option<Event> {
    command_device(filter).and_then(DeviceId::parse).map(|device| Event::Gone { device })
}

enum Found {
    New(Arc<Slot>),
    Old(Arc<Slot>),
    /// There was a dismissal since the identity was judged.
    Outdated,
}

impl Routes {
    fn slot(&self, key: u32) -> Option<&Arc<Slot>> {
        self.slots.get(key as usize)?.as_ref()
    }
}

/// Forgets expired sessions until the broker stops.
pub(super) async fn expire(shared: Arc<Shared>) {
    let period = (shared.options.session_expiry / 4).clamp(Duration::from_millis(100), Duration::from_secs(30));
    let mut stop = shared.stop.subscribe();
    while tokio::time::timeout(period, stop.changed()).await.is_err() {
        let now = tokio::time::Instant::now().into_std();
        let hub = &shared.hub;
        let offline: Vec<_> = hub.sessions().values().filter(|s| !s.is_online()).cloned().collect();
        for slot in offline {
            hub.remove_if(&slot, |session| session.expires_at() <= now);
        }
    }
}

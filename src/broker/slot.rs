//! The place of one session: its outbox, which any task may put into, and the session itself while nobody is connected.
//!
//! Invariants: exactly one of these has the session: the slot (offline), or one connection task; a dismissed session
//! never comes back to its slot.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;

use super::auth::Identity;
use crate::mqtt::queue::{Pushed, Tag};
use crate::mqtt::{Delivery, QoS, Queue, Session};

/// What a connection task is told; a set of bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Signals(u8);

impl Signals {
    pub(super) const NONE: Self = Self(0);
    /// There is something in the outbox.
    pub(super) const MAIL: Self = Self(1);
    /// The client has connected again.
    pub(super) const TAKEN_OVER: Self = Self(2);
    /// An operator ends the session.
    pub(super) const DISMISSED: Self = Self(4);
    /// The broker stops: finish what is begun.
    pub(super) const STOP: Self = Self(8);
    /// The time to stop is over.
    pub(super) const ABORT: Self = Self(16);
    /// The session is to be saved.
    pub(super) const SAVE: Self = Self(32);
    /// The certificate it came in with is no longer good.
    pub(super) const EXPELLED: Self = Self(64);

    pub(super) const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// Wakes a connection task.
#[derive(Debug, Default)]
pub(super) struct Signal {
    waker: AtomicWaker,
    flags: AtomicU8,
}

impl Signal {
    /// Tells; a signal that is raised already wakes nobody again.
    pub(super) fn raise(&self, signals: Signals) {
        if self.flags.fetch_or(signals.0, Ordering::AcqRel) & signals.0 != signals.0 {
            self.waker.wake();
        }
    }

    /// Takes what was told, or has `waker` woken at the next telling.
    pub(super) fn take(&self, waker: &Waker) -> Signals {
        self.waker.register(waker);
        self.clear()
    }

    /// Takes what was told.
    pub(super) fn clear(&self) -> Signals {
        Signals(self.flags.swap(0, Ordering::AcqRel))
    }
}

/// Where the session is.
pub(super) enum Place {
    /// With a connection task.
    Away,
    /// Here, nobody is connected.
    Here(Box<Session>),
    /// Ended; the slot is on its way out.
    Ended,
}

/// See the module.
pub(super) struct Slot {
    /// Its name in the routes.
    pub(super) key: u32,
    pub(super) client_id: Arc<str>,
    pub(super) identity: Identity,
    /// SHA-256 of the token by which its client was let in last; `None` = by something else, or before a restart.
    token_sha256: Mutex<Option<[u8; 32]>>,
    pub(super) signal: Signal,
    /// A connection has the session and is not ending.
    pub(super) is_online: AtomicBool,
    /// An operator has ended the session while a connection had it: it will not be kept. Set under the lock of `place`.
    is_dismissed: AtomicBool,
    pub(super) place: Mutex<Place>,
    /// Its client was let in by the process before; nobody has judged it since.
    is_unjudged: AtomicBool,
    /// The session outlives its connection, and is to be saved.
    is_kept: AtomicBool,
    /// It is among the changes to be saved.
    pub(super) is_marked: AtomicBool,
    /// Notified when `place` leaves `Away`.
    pub(super) freed: Notify,
    outbox: Mutex<Queue>,
}

impl Slot {
    /// A slot whose session is with its maker.
    pub(super) fn new(key: u32, client_id: Arc<str>, identity: Identity, outbox: Queue) -> Self {
        Self {
            key,
            client_id,
            identity,
            token_sha256: Mutex::new(None),
            signal: Signal::default(),
            is_online: AtomicBool::new(true),
            is_dismissed: AtomicBool::new(false),
            place: Mutex::new(Place::Away),
            is_unjudged: AtomicBool::new(false),
            is_kept: AtomicBool::new(false),
            is_marked: AtomicBool::new(false),
            freed: Notify::new(),
            outbox: Mutex::new(outbox),
        }
    }

    /// Its client was let in by that token, or by something else.
    pub(super) fn begin_by(&self, token_sha256: Option<[u8; 32]>) {
        *self.token_sha256.lock().unwrap_or_else(PoisonError::into_inner) = token_sha256;
    }

    /// By which token its client was let in.
    pub(super) fn token(&self) -> Option<[u8; 32]> {
        *self.token_sha256.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a delivery into the outbox and wakes the connection. `None` = not wanted: QoS 0 and nobody there.
    pub(super) fn offer(&self, delivery: Delivery) -> Option<Pushed> {
        let mut outbox = self.outbox();
        // Under the lock: after `Queue::go_offline` nothing comes in that it would have let go.
        let is_online = self.is_online();
        if !is_online && (delivery.qos == QoS::AtMostOnce || delivery.tag.is_some()) {
            return None;
        }
        let pushed = outbox.push(delivery);
        drop(outbox);
        if pushed == Pushed::Queued && is_online {
            self.signal.raise(Signals::MAIL);
        }
        Some(pushed)
    }

    /// Takes the session if it is here, and with it the slot: what was told to an earlier connection is forgotten.
    pub(super) fn take(&self) -> Place {
        let mut place = self.place();
        match &*place {
            Place::Away => Place::Away,
            Place::Ended => Place::Ended,
            Place::Here(_) => {
                self.signal.clear();
                std::mem::replace(&mut *place, Place::Away)
            }
        }
    }

    /// Ends the session: gives it out if it is here, or sees to it that the connection that has it cannot give it back.
    pub(super) fn dismiss(&self) -> Option<Box<Session>> {
        let mut place = self.place();
        match &*place {
            Place::Ended => None,
            Place::Away => {
                self.is_dismissed.store(true, Ordering::Release);
                self.signal.raise(Signals::DISMISSED);
                None
            }
            Place::Here(_) => match std::mem::replace(&mut *place, Place::Ended) {
                Place::Here(session) => Some(session),
                Place::Away | Place::Ended => None,
            },
        }
    }

    /// Works on the session while nobody is connected; `None` = somebody is, or it has ended.
    pub(super) fn with_session<T>(&self, work: impl FnOnce(&mut Session) -> T) -> Option<T> {
        match &mut *self.place() {
            Place::Here(session) => Some(work(session)),
            Place::Away | Place::Ended => None,
        }
    }

    /// Whether an operator has ended the session.
    pub(super) fn is_dismissed(&self) -> bool {
        self.is_dismissed.load(Ordering::Acquire)
    }

    /// Whether only the process before has judged its client.
    pub(super) fn is_unjudged(&self) -> bool {
        self.is_unjudged.load(Ordering::Acquire)
    }

    pub(super) fn note_unjudged(&self, is_unjudged: bool) {
        self.is_unjudged.store(is_unjudged, Ordering::Release);
    }

    /// Whether the session outlives its connection.
    pub(super) fn is_kept(&self) -> bool {
        self.is_kept.load(Ordering::Acquire)
    }

    pub(super) fn keep(&self, is_kept: bool) {
        self.is_kept.store(is_kept, Ordering::Release);
    }

    /// A tagged delivery is complete.
    pub(super) fn complete(&self, tag: Tag) {
        self.outbox().complete(tag);
    }

    pub(super) fn is_online(&self) -> bool {
        self.is_online.load(Ordering::Acquire)
    }

    pub(super) fn outbox(&self) -> MutexGuard<'_, Queue> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Who gets a connection to the API: so many in all, and so many of one peer, as with MQTT (`domain::Places`).
//!
//! Invariants: what is full refuses at once, before a byte is read or a handshake begun; the log says so once a minute at
//! most; a place is given back when it is dropped.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Options;
use crate::domain::{Clock, NoPlace, Places, line_of};
use crate::observe::{Seldom, metrics};

/// See the module.
#[derive(Debug)]
pub(super) struct Door {
    of: Of,
    places: Mutex<Places<IpAddr>>,
    clock: Clock,
    full: Seldom,
    peer_full: Seldom,
    /// Who found no place last, and whether one peer had too many.
    last: Mutex<Option<IpAddr>>,
}

/// Where it leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Of {
    Api,
    Scrapes,
}

/// A place, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    door: Arc<Door>,
    peer: IpAddr,
}

impl Door {
    /// Of the API.
    pub(super) fn new(options: &Options, clock: Clock) -> Arc<Self> {
        Self::with(Of::Api, Places::new(options.max_connections, options.max_connections_per_address), clock)
    }

    /// Of the listener for scrapes, with so many places; one peer may have them all.
    pub(super) fn for_scrapes(places: usize, clock: Clock) -> Arc<Self> {
        Self::with(Of::Scrapes, Places::new(places, 0), clock)
    }

    fn with(of: Of, places: Places<IpAddr>, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            of,
            places: Mutex::new(places),
            clock,
            full: Seldom::default(),
            peer_full: Seldom::default(),
            last: Mutex::default(),
        })
    }

    /// Takes a place for a connection of that peer.
    pub(super) fn enter(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let entered = lock(&self.places).enter(line_of(peer));
        match entered {
            Ok(()) => {
                self.count(1.0);
                Some(Place { door: Arc::clone(self), peer })
            }
            Err(none) => {
                self.refuse(none, peer);
                None
            }
        }
    }

    fn refuse(&self, none: NoPlace, peer: IpAddr) {
        let reason = match (self.of, none) {
            (Of::Scrapes, _) => "scrape_limit",
            (Of::Api, NoPlace::Any) => "connection_limit",
            (Of::Api, NoPlace::OfOne) => "address_limit",
        };
        metrics::HTTP_REFUSED.increment(&[("reason", reason)], 1);
        *lock(&self.last) = Some(peer);
        let now = self.clock.now();
        match none {
            NoPlace::Any => self.full.note(now).into_iter().for_each(|count| self.tell_full(count)),
            NoPlace::OfOne => self.peer_full.note(now).into_iter().for_each(|count| self.tell_peer_full(count)),
        }
    }

    /// Tells of those that were refused since the last word. To be called now and then.
    pub(super) fn tell(&self) {
        let now = self.clock.now();
        self.full.rest(now).into_iter().for_each(|count| self.tell_full(count));
        self.peer_full.rest(now).into_iter().for_each(|count| self.tell_peer_full(count));
    }

    fn count(&self, connections: f64) {
        if self.of == Of::Api {
            metrics::HTTP_CONNECTIONS.add(&[], connections);
        }
    }

    fn tell_full(&self, connections: u64) {
        let last = lock(&self.last).map(tracing::field::display);
        match self.of {
            Of::Api => tracing::warn!(
                count = connections,
                peer = last,
                "HTTP connections closed at once: as many are open as http.max_connections allows"
            ),
            Of::Scrapes => tracing::warn!(
                count = connections,
                peer = last,
                "connections for metrics closed at once: as many are open as metrics.listen takes"
            ),
        }
    }

    fn tell_peer_full(&self, connections: u64) {
        let last = lock(&self.last).map(tracing::field::display);
        tracing::warn!(
            count = connections,
            peer = last,
            "HTTP connections closed at once: one address has as many open as http.max_connections_per_address allows"
        );
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.door.places).leave(line_of(self.peer));
        self.door.count(-1.0);
    }
}

//! What was revoked here: known to every handshake, and told to whoever looks after what is connected.
//!
//! Invariant: a serial leaves only when its certificate has ended by itself, so the list is bounded by the certificates
//! that were issued and are not over.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use crate::domain::Timestamp;

/// Serials of revoked certificates. Clones are the same list.
#[derive(Clone, Debug, Default)]
pub struct Revocations(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// With the end of each.
    serials: RwLock<HashMap<Box<str>, Timestamp>>,
    changes: watch::Sender<u64>,
}

impl Revocations {
    /// Adds certificates: serial (lower-case hex) and end.
    pub fn add(&self, revoked: impl IntoIterator<Item = (String, Timestamp)>) {
        let mut serials = self.0.serials.write().unwrap_or_else(PoisonError::into_inner);
        let before = serials.len();
        serials.extend(revoked.into_iter().map(|(serial, end)| (serial.into_boxed_str(), end)));
        let has_grown = serials.len() > before;
        drop(serials);
        if has_grown {
            self.poke();
        }
    }

    /// Forgets those that have ended by themselves.
    pub fn prune(&self, now: Timestamp) {
        let mut serials = self.0.serials.write().unwrap_or_else(PoisonError::into_inner);
        serials.retain(|_, end| now <= *end);
        serials.shrink_to_fit();
    }

    /// Whether that serial was revoked.
    pub fn has(&self, serial: &str) -> bool {
        self.0.serials.read().unwrap_or_else(PoisonError::into_inner).contains_key(serial)
    }

    /// Hears of every change.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Something else has changed that whoever is connected may fall under.
    pub(super) fn poke(&self) {
        self.0.changes.send_modify(|count| *count += 1);
    }
}

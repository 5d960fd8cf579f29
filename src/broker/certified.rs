//! Who is connected with a certificate: looked at again whenever something was revoked, and every second.
//!
//! Invariants: a connection is known from the end of its TLS handshake on, before its certificate is judged for the
//! log-in: a revocation finds it here, or the log-in finds the revocation. A certificate that is no longer good ends its
//! connection, whoever else has the same device.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Shared;
use super::slot::{Signals, Slot};
use crate::audit;
use crate::tls::{Peer, Unfit};

/// How often those that expire are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// All connections with a certificate.
#[derive(Default)]
pub(super) struct Certified {
    live: Mutex<HashMap<u64, Arc<Live>>>,
    next: AtomicU64,
}

struct Live {
    peer: Arc<Peer>,
    stay: Mutex<Stay>,
}

/// How far a connection has come.
enum Stay {
    /// It has not logged in.
    Arriving,
    LoggedIn(Arc<Slot>),
    /// Its certificate is no longer good.
    Over,
}

/// How a client came in: what the log-in is judged by besides what it says.
#[derive(Default)]
pub(super) struct Arrival {
    /// Nobody on the way can read it.
    pub(super) is_encrypted: bool,
    certified: Option<Held>,
}

/// A connection's place in the list, given back when dropped.
struct Held {
    shared: Arc<Shared>,
    key: u64,
    live: Arc<Live>,
}

impl Arrival {
    /// In TLS, perhaps with a certificate.
    pub(super) fn in_tls(shared: &Arc<Shared>, peer: Option<Arc<Peer>>) -> Self {
        let certified = peer.map(|peer| {
            let live = Arc::new(Live { peer, stay: Mutex::new(Stay::Arriving) });
            let key = shared.certified.next.fetch_add(1, Ordering::Relaxed);
            shared.certified.map().insert(key, Arc::clone(&live));
            Held { shared: Arc::clone(shared), key, live }
        });
        Self { is_encrypted: true, certified }
    }

    /// The client's certificate.
    pub(super) fn peer(&self) -> Option<&Peer> {
        self.certified.as_ref().map(|held| &*held.live.peer)
    }

    /// The client has logged in. Where its certificate went bad meanwhile, it is told as soon as it looks.
    pub(super) fn logged_in(&self, slot: &Arc<Slot>) {
        let Some(held) = &self.certified else { return };
        let mut stay = held.live.stay.lock().unwrap_or_else(PoisonError::into_inner);
        match *stay {
            Stay::Over => slot.signal.raise(Signals::EXPELLED),
            Stay::Arriving | Stay::LoggedIn(_) => *stay = Stay::LoggedIn(Arc::clone(slot)),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut live = self.shared.certified.map();
        live.remove(&self.key);
        if live.capacity() > 1024 && live.len() < live.capacity() / 8 {
            live.shrink_to_fit();
        }
    }
}

impl Certified {
    fn map(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Live>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the connections whose certificate is no longer good, until the broker stops.
pub(super) async fn watch(shared: Arc<Shared>) {
    let mut stop = shared.stop.subscribe();
    let mut changes = shared.revocations.subscribe();
    while !shared.is_stopping() {
        tokio::select! {
            _ = stop.wait_for(|stops| *stops) => return,
            _ = changes.changed() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let live: Vec<_> = shared.certified.map().values().cloned().collect();
        let now = shared.clock.now();
        let look = move || {
            live.into_iter().filter_map(|live| live.peer.standing(now).err().map(|unfit| (live, unfit))).collect()
        };
        // After new files each chain is checked again, which takes a while for all of a fleet.
        let Ok(unfit) = tokio::task::spawn_blocking(look).await else { continue };
        let unfit: Vec<(Arc<Live>, Unfit)> = unfit;
        for (live, unfit) in unfit {
            end(&shared, &live, unfit);
        }
    }
}

fn end(shared: &Shared, live: &Live, unfit: Unfit) {
    let before = std::mem::replace(&mut *live.stay.lock().unwrap_or_else(PoisonError::into_inner), Stay::Over);
    let Stay::LoggedIn(slot) = before else { return };
    slot.signal.raise(Signals::EXPELLED);
    let serial = live.peer.serial();
    tracing::info!(device_id = slot.identity.name(), serial, reason = %unfit, "connection ended");
    shared.audit.note(audit::Event {
        at: shared.clock.now(),
        actor: format!("device:{}", slot.identity.name()),
        address: None,
        action: "mqtt.end".to_owned(),
        target: serial.to_owned(),
        outcome: audit::Outcome::Refused,
        request_id: None,
        detail: unfit.to_string(),
    });
}

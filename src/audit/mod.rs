//! The audit log: who did what, from where, on what, and what came of it.
//!
//! Promise: what is noted is written to the store in the order it was noted, each entry chained to the one before by its
//! hash, so that an edit shows. Noting never blocks a connection: what does not fit into the queue is counted, and the
//! next entry says how many are missing. An attacker cannot fill the disk: refusals that repeat become one entry with a
//! count (`coalesce`). Must not know: HTTP, MQTT; what an action means.
//!
//! Start from [`Log::note`]; [`Event`] says what is kept, [`write()`] is the task behind it.

mod coalesce;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

pub use crate::store::{AuditEntry as Event, AuditOutcome as Outcome};
pub use writer::{TASK, write};

/// Most events waiting for the store.
const QUEUE_LEN: usize = 4096;

/// Where events are noted. Clones write to the same log.
#[derive(Clone, Debug)]
pub struct Log {
    tx: mpsc::Sender<Event>,
    lost: Arc<AtomicU64>,
}

/// The end of a log that is to be written.
#[derive(Debug)]
pub struct Noted {
    rx: mpsc::Receiver<Event>,
    lost: Arc<AtomicU64>,
}

impl Log {
    /// A log and the end that writes it.
    pub fn channel() -> (Self, Noted) {
        let (tx, rx) = mpsc::channel(QUEUE_LEN);
        let lost = Arc::default();
        (Self { tx, lost: Arc::clone(&lost) }, Noted { rx, lost })
    }

    /// A log that nobody reads, for tests.
    pub fn silent() -> Self {
        Self::channel().0
    }

    /// Notes an event; never waits.
    pub fn note(&self, event: Event) {
        if self.tx.try_send(event).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Noted {
    /// What waits now, without waiting for more; for tests.
    pub fn take(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.rx.try_recv().ok()).collect()
    }
}

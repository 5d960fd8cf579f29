//! The task that saves: takes the changes, makes the difference to what is saved, hands it to the store.
//!
//! Invariants: a failed save is tried again with all that has come since, and what waits meanwhile is one entry a session;
//! the last save comes after the last connection has ended.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::sync::watch;

use super::super::Shared;
use super::super::slot::Signals;
use super::{Change, PERIOD, Snapshot, bytes};
use crate::domain::Timestamp;
use crate::store::{self, RetainedChange, SessionChange, SessionSave, SharedStore};

/// What is saved: the positions of each session's messages.
pub(in crate::broker) type SavedPositions = HashMap<Arc<str>, BTreeSet<u64>>;

/// `None` = the session has ended.
type Pending = HashMap<Arc<str>, Option<Snapshot>>;

struct Saver {
    shared: Arc<Shared>,
    store: SharedStore,
    saved: SavedPositions,
    sessions: Pending,
    retained: HashSet<Box<str>>,
    is_failing: bool,
}

/// Saves until `ended` says that every connection has ended; then once more.
pub(in crate::broker) async fn run(
    shared: Arc<Shared>,
    store: SharedStore,
    saved: SavedPositions,
    mut ended: watch::Receiver<bool>,
) {
    let mut saver =
        Saver { shared, store, saved, sessions: Pending::new(), retained: HashSet::new(), is_failing: false };
    while tokio::time::timeout(PERIOD, ended.wait_for(|ended| *ended)).await.is_err() {
        saver.collect();
        saver.save().await;
    }
    saver.collect();
    saver.save().await;
}

impl Saver {
    fn collect(&mut self) {
        let list = self.shared.hub.changes.take();
        self.retained.extend(list.retained);
        for change in list.changes {
            match change {
                Change::Ended(client_id) => {
                    self.sessions.insert(client_id, None);
                }
                Change::Snapshot(snapshot) => {
                    self.sessions.insert(Arc::clone(&snapshot.client_id), Some(*snapshot));
                }
                Change::Dirty(slot) => {
                    slot.is_marked.store(false, Ordering::Release);
                    let snapshot = slot.with_session(|session| {
                        Snapshot::of(&slot, session, &slot.outbox(), Some(session.offline_since()))
                    });
                    match snapshot {
                        Some(snapshot) => drop(self.sessions.insert(Arc::clone(&slot.client_id), Some(snapshot))),
                        None => slot.signal.raise(Signals::SAVE), // its connection says it
                    }
                }
            }
        }
    }

    async fn save(&mut self) {
        // A session that was never saved and has ended is nothing to the store.
        self.sessions.retain(|client_id, now| now.is_some() || self.saved.contains_key(client_id));
        if self.sessions.is_empty() && self.retained.is_empty() {
            return;
        }
        let clock = (self.shared.clock.now(), tokio::time::Instant::now().into_std());
        let sessions: Vec<_> = self.sessions.iter().map(|(id, now)| self.difference(id, now.as_ref(), clock)).collect();
        let retained = self.retained_changes(clock);
        let saved = store::run(&self.store, move |store| store.save_sessions(&sessions, &retained)).await;
        match saved {
            Ok(()) => {
                for (client_id, now) in self.sessions.drain() {
                    match now {
                        Some(snapshot) => {
                            let positions = snapshot.messages.iter().map(|d| d.position).collect();
                            self.saved.insert(client_id, positions);
                        }
                        None => drop(self.saved.remove(&client_id)),
                    }
                }
                self.retained = HashSet::new();
                self.is_failing = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(%error, "cannot save sessions and retained messages; trying again");
                }
            }
        }
    }

    fn difference(&self, client_id: &Arc<str>, now: Option<&Snapshot>, clock: (Timestamp, Instant)) -> SessionChange {
        let change = match now {
            None => SessionSave::Ended,
            Some(snapshot) => {
                let none = BTreeSet::new();
                let before = self.saved.get(client_id).unwrap_or(&none);
                let current: BTreeSet<_> = snapshot.messages.iter().map(|d| d.position).collect();
                let new = snapshot.messages.iter().filter(|d| !before.contains(&d.position));
                SessionSave::Changed {
                    state: Some(bytes::write_session(snapshot, clock).into()),
                    put: new.map(|d| (d.position, bytes::write_delivery(d, clock).into())).collect(),
                    removed: before.difference(&current).copied().collect(),
                }
            }
        };
        SessionChange { client_id: client_id.to_string(), change }
    }

    fn retained_changes(&self, clock: (Timestamp, Instant)) -> Vec<RetainedChange> {
        let retained = self.shared.hub.retained();
        let message =
            |topic: &str| retained.get(topic).map(|(message, qos)| bytes::write_message(message, qos, clock).into());
        self.retained.iter().map(|t| RetainedChange { topic: t.to_string(), message: message(t) }).collect()
    }
}

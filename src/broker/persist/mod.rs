//! What outlives the process: persistent sessions with their messages, and retained messages.
//!
//! Promise: after an orderly stop everything is there again; after a crash everything up to the last save, which begins
//! at most [`PERIOD`] after a change. Saving is write-behind and coalesced: what is delivered and acknowledged within a
//! period never reaches the disk, and nobody waits for it. (A meter's message is in the journal before it is
//! acknowledged; this is about what subscribers are still to get.) Positions name messages and are never used twice, so
//! that a save is the difference to the one before.
//!
//! ```text
//! hub, connections ─ mark ─► Changes ─ every period ─► saver ─ difference ─► store
//! ```

mod bytes;
mod load;
mod saver;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::slot::Slot;
use crate::mqtt::session::Saved;
use crate::mqtt::{Delivery, Queue, Session};

pub(super) use load::load;
pub(super) use saver::run;

/// From a change to its save.
pub(super) const PERIOD: Duration = Duration::from_millis(250);

/// What has changed since it was last taken.
pub(super) struct Changes {
    /// Whether there is anything to save to.
    is_on: bool,
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    changes: Vec<Change>,
    retained: HashSet<Box<str>>,
}

/// In the order in which it happened.
enum Change {
    /// Somebody is to say what this session looks like now.
    Dirty(Arc<Slot>),
    Snapshot(Box<Snapshot>),
    Ended(Arc<str>),
}

/// A session as it is now.
pub(super) struct Snapshot {
    client_id: Arc<str>,
    identity: String,
    /// When its client went; `None` = it is connected.
    offline_since: Option<std::time::Instant>,
    saved: Saved,
    messages: Vec<Delivery>,
}

impl Snapshot {
    pub(super) fn of(
        slot: &Slot,
        session: &Session,
        outbox: &Queue,
        offline_since: Option<std::time::Instant>,
    ) -> Self {
        let mut messages = Vec::new();
        let saved = session.save(outbox, |delivery| messages.push(delivery.clone()));
        let identity = bytes::identity(&slot.identity);
        Self { client_id: Arc::clone(&slot.client_id), identity, offline_since, saved, messages }
    }
}

impl Changes {
    pub(super) fn new(is_on: bool) -> Self {
        Self { is_on, list: Mutex::default() }
    }

    /// The session has changed.
    pub(super) fn mark(&self, slot: &Arc<Slot>) {
        if self.is_on && slot.is_kept() && !slot.is_marked.swap(true, std::sync::atomic::Ordering::AcqRel) {
            self.list().changes.push(Change::Dirty(Arc::clone(slot)));
        }
    }

    /// The session looks like this.
    pub(super) fn save(&self, snapshot: Snapshot) {
        if self.is_on {
            self.list().changes.push(Change::Snapshot(Box::new(snapshot)));
        }
    }

    /// The session has ended.
    pub(super) fn end(&self, slot: &Slot) {
        if self.is_on {
            self.list().changes.push(Change::Ended(Arc::clone(&slot.client_id)));
        }
    }

    /// A session that was saved is not wanted any more.
    fn end_saved(&self, client_id: &str) {
        self.list().changes.push(Change::Ended(client_id.into()));
    }

    /// The topic's retained message has changed.
    pub(super) fn mark_retained(&self, topic: &str) {
        if self.is_on {
            let mut list = self.list();
            if !list.retained.contains(topic) {
                list.retained.insert(topic.into());
            }
        }
    }

    fn take(&self) -> List {
        std::mem::take(&mut *self.list())
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

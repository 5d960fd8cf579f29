//! The start: what was saved becomes sessions and retained messages again, within the limits of now.

use std::collections::HashMap;
use std::time::Instant;

use super::super::auth::Authenticator;
use super::super::hub::Hub;
use super::bytes;
use super::saver::SavedPositions;
use crate::domain::Timestamp;
use crate::mqtt::{Delivery, Session};
use crate::store::{self, SavedSession, Store};

/// Puts everything back; gives what is saved. What cannot be read, is over, or is of a kind of client that
/// `authenticator` never lets in, is left out and counted in the log.
pub(in crate::broker) fn load(
    hub: &Hub,
    authenticator: &dyn Authenticator,
    store: &dyn Store,
    clock: (Timestamp, Instant),
) -> Result<SavedPositions, store::Error> {
    let mut loader = Loader::new(hub, authenticator, clock);
    store.load_retained(&mut |topic, message| loader.retained(&topic, &message))?;
    store.load_sessions(&mut |saved| loader.session(saved))?;
    Ok(loader.finish())
}

struct Loader<'a> {
    hub: &'a Hub,
    authenticator: &'a dyn Authenticator,
    clock: (Timestamp, Instant),
    positions: SavedPositions,
    unreadable: u64,
    over: u64,
    foreign: u64,
}

/// What became of a session whose bytes make sense.
enum Restored {
    Back,
    /// Its time is over, or there is no room.
    Over,
    /// Nobody of its kind is let in.
    Foreign,
}

impl<'a> Loader<'a> {
    fn new(hub: &'a Hub, authenticator: &'a dyn Authenticator, clock: (Timestamp, Instant)) -> Self {
        Self { hub, authenticator, clock, positions: SavedPositions::new(), unreadable: 0, over: 0, foreign: 0 }
    }

    fn retained(&mut self, topic: &str, message: &[u8]) {
        match bytes::read_message(message, self.clock) {
            Some((message, _)) if message.is_expired(self.clock.1) => {
                self.hub.changes.mark_retained(topic);
                self.over += 1;
            }
            Some((message, qos)) => drop(self.hub.retained().set(message, qos, 0)),
            None => self.unreadable += 1,
        }
    }

    fn session(&mut self, saved: SavedSession) {
        let client_id = saved.client_id.clone();
        let positions = saved.messages.iter().map(|(position, _)| *position).collect();
        self.positions.insert(client_id.as_str().into(), positions);
        match restore(self.hub, self.authenticator, saved, self.clock) {
            Some(Restored::Back) => {}
            Some(Restored::Over) => {
                self.hub.changes.end_saved(&client_id);
                self.over += 1;
            }
            Some(Restored::Foreign) => {
                self.hub.changes.end_saved(&client_id);
                self.foreign += 1;
            }
            None => self.unreadable += 1,
        }
    }

    fn finish(self) -> SavedPositions {
        let (unreadable, over) = (self.unreadable, self.over);
        if self.foreign > 0 {
            tracing::info!(over = self.foreign, "left out sessions of a time without authentication");
        }
        if unreadable + over > 0 {
            tracing::info!(unreadable, over, "left out sessions and retained messages that were saved");
        }
        self.positions
    }
}

/// `None` = its bytes make no sense.
fn restore(
    hub: &Hub,
    authenticator: &dyn Authenticator,
    saved: SavedSession,
    clock: (Timestamp, Instant),
) -> Option<Restored> {
    let (identity, offline_since, state) = bytes::read_session(&saved.state, clock)?;
    let mut deliveries = HashMap::with_capacity(saved.messages.len());
    for (position, message) in saved.messages {
        hub.budget.note_position(position);
        let mut delivery = bytes::read_delivery(&message, clock)?;
        delivery.position = position;
        deliveries.insert(position, delivery);
    }
    if !authenticator.has_kind(&identity) {
        return Some(Restored::Foreign);
    }
    let limits = hub.options.session_limits();
    let session = Session::restore(limits, state, offline_since, |position| {
        let delivery = deliveries.remove(&position)?;
        let room = hub.budget.room_at_once(delivery.message.size());
        Some(Delivery { room, ..delivery })
    });
    if session.expires_at() <= clock.1 || !hub.has_room() {
        return Some(Restored::Over);
    }
    let mut waiting: Vec<_> = deliveries.into_values().collect();
    waiting.sort_unstable_by_key(|d| d.position);
    hub.restore(&saved.client_id, &identity, session, waiting);
    Some(Restored::Back)
}

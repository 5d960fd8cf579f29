//! The start: what was saved becomes sessions and retained messages again, within the limits of now.

use std::collections::HashMap;
use std::time::Instant;

use super::super::hub::Hub;
use super::bytes;
use super::saver::SavedPositions;
use crate::domain::Timestamp;
use crate::mqtt::Session;
use crate::store::{self, SavedSession, Store};

/// Puts everything back; gives what is saved. What cannot be read, or is over, is left out and counted in one log line.
pub(in crate::broker) fn load(
    hub: &Hub,
    store: &dyn Store,
    clock: (Timestamp, Instant),
) -> Result<SavedPositions, store::Error> {
    let mut loader = Loader { hub, clock, positions: SavedPositions::new(), unreadable: 0, over: 0 };
    store.load_retained(&mut |topic, message| loader.retained(&topic, &message))?;
    store.load_sessions(&mut |saved| loader.session(saved))?;
    Ok(loader.finish())
}

/// The same in two steps, for a store that may go away half-way: first everything is fetched, then put back.
pub(in crate::broker) fn load_whole(
    hub: &Hub,
    store: &dyn Store,
    clock: (Timestamp, Instant),
) -> Result<SavedPositions, store::Error> {
    let (mut retained, mut sessions) = (Vec::new(), Vec::new());
    store.load_retained(&mut |topic, message| retained.push((topic, message)))?;
    store.load_sessions(&mut |saved| sessions.push(saved))?;
    let mut loader = Loader { hub, clock, positions: SavedPositions::new(), unreadable: 0, over: 0 };
    retained.into_iter().for_each(|(topic, message)| loader.retained(&topic, &message));
    sessions.into_iter().for_each(|saved| loader.session(saved));
    Ok(loader.finish())
}

struct Loader<'a> {
    hub: &'a Hub,
    clock: (Timestamp, Instant),
    positions: SavedPositions,
    unreadable: u64,
    over: u64,
}

impl Loader<'_> {
    fn retained(&mut self, topic: &str, message: &[u8]) {
        match bytes::read_message(message, self.clock) {
            Some((message, _)) if message.is_expired(self.clock.1) => {
                self.hub.changes.mark_retained(topic);
                self.over += 1;
            }
            Some((message, qos)) => drop(self.hub.retained().set(message, qos)),
            None => self.unreadable += 1,
        }
    }

    fn session(&mut self, saved: SavedSession) {
        let client_id = saved.client_id.clone();
        let positions = saved.messages.iter().map(|(position, _)| *position).collect();
        self.positions.insert(client_id.as_str().into(), positions);
        match restore(self.hub, saved, self.clock) {
            Some(true) => {}
            Some(false) => {
                self.hub.changes.end_saved(&client_id);
                self.over += 1;
            }
            None => self.unreadable += 1,
        }
    }

    fn finish(self) -> SavedPositions {
        let (unreadable, over) = (self.unreadable, self.over);
        if unreadable + over > 0 {
            tracing::info!(unreadable, over, "left out sessions and retained messages that were saved");
        }
        self.positions
    }
}

/// `Some(false)` = its time is over, or there is no room; `None` = its bytes make no sense.
fn restore(hub: &Hub, saved: SavedSession, clock: (Timestamp, Instant)) -> Option<bool> {
    let (identity, offline_since, state) = bytes::read_session(&saved.state, clock)?;
    let mut deliveries = HashMap::with_capacity(saved.messages.len());
    for (position, message) in saved.messages {
        hub.budget.note_position(position);
        let mut delivery = bytes::read_delivery(&message, clock)?;
        delivery.position = position;
        deliveries.insert(position, delivery);
    }
    let limits = hub.options.session_limits();
    let session = Session::restore(limits, state, offline_since, |position| deliveries.remove(&position));
    if session.expires_at() <= clock.1 || !hub.has_room() {
        return Some(false);
    }
    let mut waiting: Vec<_> = deliveries.into_values().collect();
    waiting.sort_unstable_by_key(|d| d.position);
    hub.restore(&saved.client_id, &identity, session, waiting);
    Some(true)
}

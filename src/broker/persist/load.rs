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
    let mut positions = SavedPositions::new();
    let (mut unreadable, mut over) = (0_u64, 0_u64);
    store.load_retained(&mut |topic, message| match bytes::read_message(&message, clock) {
        Some((message, _)) if message.is_expired(clock.1) => {
            hub.changes.mark_retained(&topic);
            over += 1;
        }
        Some((message, qos)) => drop(hub.retained().set(message, qos)),
        None => unreadable += 1,
    })?;
    store.load_sessions(&mut |saved| {
        let client_id = saved.client_id.clone();
        positions.insert(client_id.as_str().into(), saved.messages.iter().map(|(position, _)| *position).collect());
        match restore(hub, saved, clock) {
            Some(true) => {}
            Some(false) => {
                hub.changes.end_saved(&client_id);
                over += 1;
            }
            None => unreadable += 1,
        }
    })?;
    if unreadable + over > 0 {
        tracing::info!(unreadable, over, "left out sessions and retained messages that were saved");
    }
    Ok(positions)
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

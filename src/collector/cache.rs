//! The device states in memory: a bounded write-through cache of the store's.
//!
//! Invariant: outside of a batch in work, every cached state equals what is committed; any entry may be dropped at any
//! time and read again. So memory grows with the devices that speak, up to a limit, not with devices ever seen.

use std::collections::HashMap;

use crate::domain::{DeviceId, DeviceState};
use crate::journal::Offset;
use crate::store::{Error, Store};

/// States by device, and which of them the batch in work has changed.
#[derive(Debug, Default)]
pub struct States {
    known: HashMap<DeviceId, DeviceState>,
    changed: HashMap<DeviceId, DeviceState>,
    /// Deleted devices with the journal's end at that moment, until it has been read.
    buried: HashMap<DeviceId, Offset>,
}

impl States {
    /// Makes sure that the state of every one of `ids` is at hand, reading what is missing in one query.
    pub fn load(&mut self, store: &dyn Store, mut ids: Vec<DeviceId>) -> Result<(), Error> {
        ids.retain(|id| !self.known.contains_key(id));
        if ids.is_empty() {
            return Ok(());
        }
        let found = store.device_states(&ids)?;
        self.known.extend(ids.into_iter().map(|id| (id, DeviceState::default())));
        self.known.extend(found);
        Ok(())
    }

    /// The state of a loaded device, to be changed by the batch in work.
    pub fn edit(&mut self, id: &DeviceId) -> &mut DeviceState {
        if !self.changed.contains_key(id) {
            let state = self.known.get(id).cloned().unwrap_or_default();
            self.changed.insert(id.clone(), state);
        }
        self.changed.get_mut(id).expect("inserted above")
    }

    /// The state of a loaded device as the batch in work sees it.
    pub fn get(&self, id: &DeviceId) -> Option<&DeviceState> {
        self.changed.get(id).or_else(|| self.known.get(id))
    }

    /// The states the batch in work has changed, in the order of their ids.
    pub fn changes(&self) -> Vec<(DeviceId, DeviceState)> {
        let mut out: Vec<_> = self.changed.iter().map(|(id, state)| (id.clone(), state.clone())).collect();
        out.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        out
    }

    /// The batch is committed: its states are the known ones now. Drops the others when there are more than `max`.
    pub fn settle(&mut self, max: usize) {
        if self.known.len() + self.changed.len() > max {
            self.known.clear();
        }
        self.known.extend(self.changed.drain());
    }

    /// The batch in work came to nothing: its changes are undone.
    pub fn discard(&mut self) {
        self.changed.clear();
    }

    /// The device was deleted when the journal ended at `head`: what it said before does not bring it back.
    pub fn bury(&mut self, id: &DeviceId, head: Offset) {
        self.buried.insert(id.clone(), head);
    }

    /// Whether a record of that offset came from a device before it was deleted.
    pub fn is_buried(&self, id: &DeviceId, offset: Offset) -> bool {
        self.buried.get(id).is_some_and(|head| offset < *head)
    }

    /// The journal is read up to `position`: deletions before it have had their effect.
    pub fn passed(&mut self, position: Offset) {
        self.buried.retain(|_, head| *head > position);
    }

    /// Forgets a device, so that its next message reads it from the store.
    pub fn forget(&mut self, id: &DeviceId) {
        self.known.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_stays_within_its_limit_and_keeps_the_devices_of_the_last_batch() {
        let mut states = States::default();
        for n in 0..100 {
            let id = DeviceId::parse(&format!("m{n}")).unwrap();
            states.edit(&id).span_us = n;
            states.settle(10);
            assert!(states.known.len() <= 10, "{} entries", states.known.len());
            assert_eq!(states.get(&id).map(|s| s.span_us), Some(n));
        }
    }
}

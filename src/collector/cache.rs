//! The device states in memory: a bounded write-through cache of the store's.
//!
//! Invariant: outside of a batch in work, every cached state equals what was committed as its revision; any entry may be
//! dropped at any time and read again. So memory grows with the devices that speak, up to a limit, not with devices ever seen.
//! Where other nodes change states too, the store says at each commit which revisions are not the latest any more.

use std::collections::HashMap;

use crate::domain::{DeviceId, DeviceState};
use crate::journal::Offset;
use crate::store::{Error, Fresh, Known, Store};

/// States by device, and which of them the batch in work has changed.
#[derive(Debug, Default)]
pub struct States {
    known: HashMap<DeviceId, (DeviceState, u64)>,
    changed: HashMap<DeviceId, DeviceState>,
    /// Deleted devices with the journal's end at that moment, until it has been read.
    buried: HashMap<DeviceId, Offset>,
}

impl States {
    /// Makes sure that the state of every one of `ids` is at hand, reading what is missing in one query. Where nodes share
    /// the store nothing is read: what is missing comes with the commit, in its last version.
    pub fn load(&mut self, store: &dyn Store, mut ids: Vec<DeviceId>) -> Result<(), Error> {
        if store.is_shared() {
            return Ok(());
        }
        ids.retain(|id| !self.known.contains_key(id));
        if ids.is_empty() {
            return Ok(());
        }
        let found = store.device_states(&ids)?;
        self.known.extend(ids.into_iter().map(|id| (id, (DeviceState::default(), 0))));
        self.known.extend(found.into_iter().map(|(id, state)| (id, (state, 0))));
        Ok(())
    }

    /// The devices of `ids` with the revisions that are known of them.
    pub fn revisions(&self, ids: &[DeviceId]) -> Vec<Known> {
        ids.iter().map(|id| (id.clone(), self.known.get(id).map_or(0, |(_, revision)| *revision))).collect()
    }

    /// Takes over states that another node has changed.
    pub fn refresh(&mut self, fresh: Vec<Fresh>) {
        self.known.extend(fresh.into_iter().map(|f| (f.device, (f.state, f.revision))));
    }

    /// The state of a loaded device, to be changed by the batch in work.
    pub fn edit(&mut self, id: &DeviceId) -> &mut DeviceState {
        if !self.changed.contains_key(id) {
            let state = self.known.get(id).map(|(state, _)| state.clone()).unwrap_or_default();
            self.changed.insert(id.clone(), state);
        }
        self.changed.get_mut(id).expect("inserted above")
    }

    /// The state of a loaded device as the batch in work sees it.
    pub fn get(&self, id: &DeviceId) -> Option<&DeviceState> {
        self.changed.get(id).or_else(|| self.known.get(id).map(|(state, _)| state))
    }

    /// The states the batch in work has changed, in the order of their ids.
    pub fn changes(&self) -> Vec<(DeviceId, DeviceState)> {
        let mut out: Vec<_> = self.changed.iter().map(|(id, state)| (id.clone(), state.clone())).collect();
        out.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        out
    }

    /// The batch is committed: its states are the known ones now. Drops the others when there are more than `max`.
    pub fn settle(&mut self, max: usize) {
        let number = |id: &DeviceId, known: &HashMap<_, (DeviceState, u64)>| known.get(id).map_or(0, |(_, n)| *n);
        let changed = self.changed.drain().map(|(id, state)| {
            let revision = number(&id, &self.known) + 1;
            (id, (state, revision))
        });
        let changed: Vec<_> = changed.collect();
        if self.known.len() + changed.len() > max {
            self.known.clear();
        }
        self.known.extend(changed);
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

    /// Forgets all states: the store is not the one they were read from.
    pub fn forget_all(&mut self) {
        self.known.clear();
        self.changed.clear();
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

//! Which devices this node reaches, as far as it has still to be said to the other nodes. The last word of each counts.

use std::collections::HashMap;

use crate::domain::DeviceId;

/// Changes not yet written. Bounded by the devices connected or just gone.
#[derive(Debug)]
pub(super) struct Sessions {
    changes: HashMap<DeviceId, bool>,
    /// What an earlier life of this node has written is to be taken back.
    pub(super) is_first: bool,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { changes: HashMap::new(), is_first: true }
    }
}

impl Sessions {
    pub(super) fn note(&mut self, device: &DeviceId, is_reached: bool) {
        self.changes.insert(device.clone(), is_reached);
    }

    pub(super) fn is_saved(&self) -> bool {
        self.changes.is_empty() && !self.is_first
    }

    /// In order of the ids: nodes that write the same devices do not wait in a circle.
    pub(super) fn changes(&self) -> Vec<(DeviceId, bool)> {
        let mut changes: Vec<_> = self.changes.iter().map(|(device, reached)| (device.clone(), *reached)).collect();
        changes.sort_unstable();
        changes
    }

    /// All is written that was said until now.
    pub(super) fn saved(&mut self) {
        self.changes.clear();
        self.is_first = false;
    }

    /// Nobody knows what is written: all of it is written again.
    pub(super) fn start_over(&mut self, reached: Vec<DeviceId>) {
        self.is_first = true;
        self.changes = reached.into_iter().map(|device| (device, true)).collect();
    }
}

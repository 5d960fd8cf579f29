//! A batch that is made of device states which other nodes may change meanwhile.
//!
//! The store locks the devices, hands over the states that are not as the caller knows them, takes the batch made of them,
//! and commits it while it holds the locks: of all nodes one at a time changes a device's state, and each goes on from what
//! the last one left. A store of one node has nobody to wait for, and hands nothing over.

use super::Batch;
use crate::domain::{DeviceId, DeviceState};

/// A state as it is in the database.
#[derive(Clone, PartialEq, Debug)]
pub struct Fresh {
    /// Whose.
    pub device: DeviceId,
    /// As it is.
    pub state: DeviceState,
    /// Which of its versions this is; the next commit makes it one more.
    pub revision: u64,
}

/// A device and the version of its state that the caller knows; 0 = none.
pub type Known = (DeviceId, u64);

/// Makes a batch of states.
pub trait Planner {
    /// Takes in what has changed behind the planner's back and gives the batch as it then is. May be called again when a
    /// commit could not be made: with nothing new, it is the same batch.
    fn plan(&mut self, fresh: Vec<Fresh>) -> &Batch;
}

impl Batch {
    /// Whether there is nothing to store, not even a checkpoint.
    pub fn is_empty(&self) -> bool {
        let Self {
            checkpoint,
            since: _,
            registrations,
            telemetry,
            events,
            states,
            gaps,
            alerts,
            rule_alerts,
            commands,
        } = self;
        let lists = [registrations.len(), telemetry.len(), events.len(), states.len(), gaps.len(), rule_alerts.len()];
        checkpoint.is_none() && lists.iter().all(|n| *n == 0) && alerts.is_empty() && commands.is_empty()
    }
}

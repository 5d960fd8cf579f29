//! One batch in work: made of the states at hand, and made again when the store says that some of them were not the latest.

use super::cache::States;
use crate::domain::DeviceId;
use crate::store::{Batch, Fresh, Known, Planner};

/// Makes a batch by `make`, as often as it takes; `make` must give the same for the same states.
pub struct Planning<'a, F> {
    states: &'a mut States,
    make: F,
    planned: Option<Batch>,
}

impl<'a, F: FnMut(&mut States) -> Batch> Planning<'a, F> {
    /// Nothing is planned yet.
    pub fn new(states: &'a mut States, make: F) -> Self {
        Self { states, make, planned: None }
    }

    /// What is known of the states of `devices`.
    pub fn known(&self, devices: &[DeviceId]) -> Vec<Known> {
        self.states.revisions(devices)
    }

    /// The checkpoint of the batch in work.
    pub fn checkpoint(&self) -> Option<u64> {
        self.planned.as_ref().and_then(|batch| batch.checkpoint)
    }

    /// The batch as it was committed.
    pub fn into_batch(self) -> Batch {
        self.planned.unwrap_or_default()
    }
}

impl<F: FnMut(&mut States) -> Batch> Planner for Planning<'_, F> {
    fn plan(&mut self, fresh: Vec<Fresh>) -> &Batch {
        if !fresh.is_empty() {
            self.planned = None;
            self.states.refresh(fresh);
        }
        self.planned.get_or_insert_with(|| {
            self.states.discard();
            (self.make)(self.states)
        })
    }
}

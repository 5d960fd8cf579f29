//! What stored rollouts mean, whatever the database: the values in their columns, and what may be selected for one.

use std::collections::{HashMap, HashSet};

use super::fault::Fault;
use super::rollouts::small;
use super::{Created, MAX_ROLLOUT_DEVICES, NewRollout, RolloutFigures, listing};
use crate::domain::DeviceId;
use crate::domain::rollout::{RolloutState, Tally, UpdateState};

pub(in crate::store) const CORRUPT: Fault = Fault::Corrupt("rollout");
/// Rows written, or names looked up, by one statement.
pub(in crate::store) const ROWS: usize = 500;

/// Rollout, stage, state, whether it is forgiven, and how many devices are so.
pub(in crate::store) type Counted = (i64, i64, String, bool, i64);

/// States of rollouts that are not over.
pub(in crate::store) fn open_rollouts() -> Vec<&'static str> {
    RolloutState::ALL.into_iter().filter(|state| state.is_open()).map(RolloutState::name).collect()
}

/// States of devices that have not come to an end.
pub(in crate::store) fn open_updates() -> Vec<&'static str> {
    let is_open = |state: &UpdateState| *state == UpdateState::Waiting || state.is_under_way();
    UpdateState::ALL.into_iter().filter(is_open).map(UpdateState::name).collect()
}

/// The counts of rollouts, a stage each.
pub(in crate::store) fn tallies(counts: Vec<Counted>) -> HashMap<i64, Vec<Tally>> {
    let mut all: HashMap<i64, Vec<Tally>> = HashMap::new();
    for (id, stage, state, is_forgiven, count) in counts {
        let stages = all.entry(id).or_default();
        let stage = small(stage) as usize;
        stages.resize(stages.len().max(stage + 1), Tally::default());
        if let Some(state) = UpdateState::from_name(&state) {
            *stages[stage].count_of(state, is_forgiven) += small(count);
        }
    }
    all
}

/// How many stand where: rollouts by state and why they are paused, devices by state.
pub(in crate::store) fn figures(
    rollouts: Vec<(String, i64)>,
    paused: Vec<(Option<String>, i64)>,
    devices: Vec<(String, i64)>,
) -> RolloutFigures {
    let paused = paused.into_iter().filter_map(|(reason, n)| Some((reason?, n))).collect();
    let counted = |rows: Vec<(String, i64)>| rows.into_iter().map(|(name, n)| (name, listing::count(n))).collect();
    RolloutFigures { rollouts: counted(rollouts), paused: counted(paused), devices: counted(devices) }
}

/// The devices of a new rollout, of those that were found for it; `Err` = what stands in the way.
pub(in crate::store) fn selection(new: &NewRollout, found: Vec<String>) -> Result<Vec<String>, Created> {
    if !new.devices.is_empty() {
        let known: HashSet<&str> = found.iter().map(String::as_str).collect();
        let others = new.devices.iter().filter(|device| !known.contains(device.as_str()));
        let others: Vec<DeviceId> = others.take(10).cloned().collect();
        if !others.is_empty() {
            return Err(Created::NotSelectable(others));
        }
    }
    match found.len() {
        0 => Err(Created::NoDevices),
        count if count > MAX_ROLLOUT_DEVICES => Err(Created::TooMany),
        _ => Ok(found),
    }
}

/// The stage of the device at a place, both from 0.
pub(in crate::store) fn stage_of(ends: &[u32], place: usize) -> i64 {
    i64::try_from(ends.partition_point(|end| *end as usize <= place)).unwrap_or(i64::MAX)
}

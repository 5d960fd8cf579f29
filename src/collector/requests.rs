//! What the REST API says about devices, brought into the one place that owns device state.

use super::plan::{Plan, UnknownDevices};
use super::planning::Planning;
use super::{RequestKind, cache::States};
use crate::domain::presence::Connection;
use crate::domain::{DeviceId, Timestamp};
use crate::journal::Offset;
use crate::store::{Batch, Error, Store};

/// Most requests answered by one commit, between two reads of the journal.
pub const MAX_AT_ONCE: usize = 256;

/// Applies requests in order and commits them at once; for each: `false` = no such device. `head` is the journal's end
/// now: what a deleted device said before it is not taken any more.
pub fn apply(
    states: &mut States,
    store: &dyn Store,
    requests: &[(DeviceId, RequestKind)],
    head: Offset,
    now: Timestamp,
) -> Result<Vec<bool>, Error> {
    // The registry may have changed behind the cache: requests are rare enough to read it anew.
    for (device, kind) in requests {
        states.forget(device);
        if *kind == RequestKind::Deleted {
            states.bury(device, head);
        }
    }
    let mut told: Vec<DeviceId> =
        requests.iter().filter(|(_, kind)| kind.says_something()).map(|r| r.0.clone()).collect();
    told.sort_unstable();
    told.dedup();
    if told.is_empty() {
        return Ok(vec![true; requests.len()]);
    }
    states.load(store, told.clone())?;
    let mut known = Vec::new();
    let mut planning = Planning::new(states, |states| {
        let is_known = |device| states.get(device).is_some_and(|s| s.registration.is_some());
        known = requests.iter().map(|(device, kind)| !kind.says_something() || is_known(device)).collect();
        plan(states, requests.iter().zip(&known).filter(|(_, known)| **known).map(|(request, _)| request), now)
    });
    let revisions = planning.known(&told);
    store.commit_planned(&revisions, &mut planning).inspect_err(|_| states.discard())?;
    Ok(known)
}

fn plan<'a>(states: &mut States, requests: impl Iterator<Item = &'a (DeviceId, RequestKind)>, now: Timestamp) -> Batch {
    let mut plan = Plan::new(states, UnknownDevices::Refuse);
    for (device, kind) in requests {
        match kind {
            RequestKind::Heartbeat => plan.hear(device, Connection::Online, now),
            RequestKind::SetStatus { connection, fw_version } => {
                plan.set_connection(device, *connection, now, "it was set by hand");
                if let Some(version) = fw_version {
                    plan.set_firmware(device, version.clone());
                }
            }
            RequestKind::Reload | RequestKind::Deleted => {}
        }
    }
    plan.finish().0
}

//! What the REST API says about a device, brought into the one place that owns device state.

use super::plan::{Plan, UnknownDevices};
use super::{RequestKind, cache::States};
use crate::domain::presence::Connection;
use crate::domain::{DeviceId, Timestamp};
use crate::store::{Error, Store};

/// Applies and commits one request; `false` = no such device.
pub fn apply(
    states: &mut States,
    store: &dyn Store,
    device: &DeviceId,
    kind: &RequestKind,
    now: Timestamp,
) -> Result<bool, Error> {
    // The registry may have changed behind the cache: a request is rare enough to read it anew.
    states.forget(device);
    if *kind == RequestKind::Reload {
        return Ok(true);
    }
    states.load(store, vec![device.clone()])?;
    if states.get(device).is_none_or(|s| s.registration.is_none()) {
        return Ok(false);
    }
    let mut plan = Plan::new(states, UnknownDevices::Refuse);
    match kind {
        RequestKind::Heartbeat => plan.hear(device, Connection::Online, now),
        RequestKind::SetStatus { connection, fw_version } => {
            plan.set_connection(device, *connection, now, "it was set by hand");
            if let Some(version) = fw_version {
                plan.set_firmware(device, version.clone());
            }
        }
        RequestKind::Reload => {}
    }
    let (batch, _) = plan.finish();
    store.commit(&batch).inspect_err(|_| states.discard())?;
    Ok(true)
}

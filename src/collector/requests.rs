//! What the REST API says about devices, brought into the one place that owns device state.

use super::plan::{Plan, UnknownDevices};
use super::planning::Planning;
use super::{Answer, RequestKind, cache::States};
use crate::domain::presence::Connection;
use crate::domain::{DeviceId, Timestamp};
use crate::journal::Offset;
use crate::store::{Batch, Error, Store};

/// Most requests answered by one commit, between two reads of the journal.
pub const MAX_AT_ONCE: usize = 256;

/// Applies requests in order and commits them at once; an answer for each. `head` is the journal's end now: what a deleted
/// device said before it is not taken any more.
pub fn apply(
    states: &mut States,
    store: &dyn Store,
    requests: &[(DeviceId, RequestKind)],
    head: Offset,
    now: Timestamp,
) -> Result<Vec<Answer>, Error> {
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
        return Ok(vec![Answer::Done; requests.len()]);
    }
    states.load(store, told.clone())?;
    let mut answers = Vec::new();
    let mut planning = Planning::new(states, |states| {
        let (batch, answered) = plan(states, requests, now);
        answers = answered;
        batch
    });
    let revisions = planning.known(&told);
    store.commit_planned(&revisions, &mut planning).inspect_err(|_| states.discard())?;
    Ok(answers)
}

fn plan(states: &mut States, requests: &[(DeviceId, RequestKind)], now: Timestamp) -> (Batch, Vec<Answer>) {
    let mut plan = Plan::new(states, UnknownDevices::Refuse);
    let answers = requests.iter().map(|(device, kind)| take(&mut plan, device, kind, now)).collect();
    (plan.finish().0, answers)
}

/// One request, judged by what those before it have made of the device.
fn take(plan: &mut Plan<'_>, device: &DeviceId, kind: &RequestKind, now: Timestamp) -> Answer {
    if !kind.says_something() {
        return Answer::Done;
    }
    let Some(state) = plan.registered(device) else { return Answer::NoDevice };
    match kind {
        RequestKind::Reload | RequestKind::Deleted => {}
        RequestKind::Heartbeat => plan.hear(device, Connection::Online, now),
        RequestKind::SetStatus { connection, fw_version, expected } => {
            let is = (state.connection, state.fw_version.clone());
            if expected.as_ref().is_some_and(|expected| *expected != is) {
                return Answer::Stale;
            }
            match connection {
                // A sign of life: what was silent for long would be taken offline again at once.
                Connection::Online => plan.hear(device, Connection::Online, now),
                _ => plan.set_connection(device, *connection, now, "it was set by hand"),
            }
            if let Some(version) = fw_version {
                plan.set_firmware(device, version.clone());
            }
        }
    }
    Answer::Done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::device::Intervals;
    use crate::store::{self, NewDevice, SharedStore};

    const NOW: Timestamp = Timestamp(1_770_890_400_000_000);

    fn with_device(device: &DeviceId) -> (tempfile::TempDir, SharedStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = store::open(&format!("sqlite://{}", dir.path().join("a.db").display())).unwrap();
        let new = NewDevice {
            device_id: device.clone(),
            device_name: "Meter".into(),
            device_type: "dc750".into(),
            location: None,
            is_active: true,
            metadata: serde_json::Map::new(),
            token_sha256: None,
        };
        store.create_device(&new, NOW).unwrap();
        (dir, store)
    }

    #[test]
    fn a_status_is_set_where_it_is_as_expected_when_its_turn_has_come() {
        let device = DeviceId::parse("m1").unwrap();
        let (_dir, store) = with_device(&device);
        let set = |connection, fw_version: Option<&str>, expected: Option<(Connection, Option<&str>)>| {
            let expected = expected.map(|(connection, version)| (connection, version.map(str::to_owned)));
            let kind = RequestKind::SetStatus { connection, fw_version: fw_version.map(str::to_owned), expected };
            (device.clone(), kind)
        };
        let (nothing, offline) = (Some((Connection::Unknown, None)), Some((Connection::Offline, Some("2"))));
        let asked = [
            set(Connection::Offline, Some("2"), nothing),
            set(Connection::Online, Some("3"), nothing),
            set(Connection::Online, Some("4"), offline),
            set(Connection::Offline, None, None),
            (DeviceId::parse("nobody").unwrap(), RequestKind::Heartbeat),
            (device.clone(), RequestKind::Reload),
        ];
        let mut states = States::default();
        let answers = apply(&mut states, &*store, &asked, Offset(0), NOW).unwrap();
        assert_eq!(answers, [Answer::Done, Answer::Stale, Answer::Done, Answer::Done, Answer::NoDevice, Answer::Done]);
        let stored = store.device(&device).unwrap().unwrap();
        assert_eq!((stored.connection, stored.fw_version.as_deref()), (Connection::Offline, Some("4")));
        states.settle(10);
        let stale = [set(Connection::Online, None, nothing)];
        assert_eq!(apply(&mut states, &*store, &stale, Offset(0), NOW).unwrap(), [Answer::Stale]);
        assert_eq!(store.device(&device).unwrap(), Some(stored));
    }

    #[test]
    fn who_is_set_online_is_silent_from_then_on_only() {
        let device = DeviceId::parse("m1").unwrap();
        let (_dir, store) = with_device(&device);
        let mut states = States::default();
        let heartbeat = [(device.clone(), RequestKind::Heartbeat)];
        apply(&mut states, &*store, &heartbeat, Offset(0), NOW).unwrap();
        states.settle(10);
        let later = NOW.plus_us(3_600_000_000);
        for connection in [Connection::Offline, Connection::Online] {
            let kind = RequestKind::SetStatus { connection, fw_version: None, expected: None };
            apply(&mut states, &*store, &[(device.clone(), kind)], Offset(0), later).unwrap();
            states.settle(10);
        }
        let deadline = states.get(&device).and_then(|state| state.deadline(Intervals::default(), NOW));
        assert!(deadline.is_some_and(|deadline| deadline > later), "{deadline:?}");
    }
}

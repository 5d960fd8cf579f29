//! What is taken over from an old installation is there once, with its own times.

use serde_json::json;

use super::{ALL, at, event, id, new_device, row};
use crate::domain::command::CommandStatus;
use crate::domain::device::Intervals;
use crate::domain::{CommandId, Sequence};
use crate::store::*;

pub(super) fn all(store: &dyn Store) {
    rows_keep_their_times_and_come_once(store);
    a_configuration_fills_only_what_is_not_set(store);
    messages_are_found_with_the_time_of_their_receipt(store);
}

fn old_device(name: &str) -> OldDevice {
    OldDevice { new: new_device(name), created_at: at(-9000), updated_at: at(-8000) }
}

fn rows_keep_their_times_and_come_once(store: &dyn Store) {
    use TakenOver::{Known, NoDevice, Stored};
    assert_eq!(store.take_over_devices(&[old_device("old1"), old_device("old1")]).unwrap(), [Stored, Known]);
    let device = store.device(&id("old1")).unwrap().unwrap();
    assert_eq!((device.created_at, device.updated_at), (at(-9000), at(-8000)));

    // One that was only heard of so far gets its row; one that somebody has changed meanwhile keeps what he said.
    let mut found = new_device("found1");
    (found.device_name, found.device_type) = ("found1".into(), crate::domain::DEFAULT_DEVICE_TYPE.into());
    (found.location, found.is_active, found.token_sha256) = (None, false, None);
    found.metadata = json!({"quarantined": true}).as_object().unwrap().clone();
    let named = NewDevice { device_id: id("found2"), device_name: "Mine".into(), ..found.clone() };
    let batch = Batch { registrations: vec![found.clone(), named.clone()], ..Batch::default() };
    store.commit(&batch).unwrap();
    let old = [old_device("found1"), old_device("found2")];
    assert_eq!(store.take_over_devices(&old).unwrap(), [Stored, Known]);
    assert_eq!(store.take_over_devices(&old).unwrap(), [Known, Known]);
    let device = store.device(&id("found1")).unwrap().unwrap();
    let new = &old[0].new;
    let as_said = (&new.device_name, &new.device_type, &new.location, new.is_active, &new.metadata);
    assert_eq!(
        (&device.device_name, &device.device_type, &device.location, device.is_active, &device.metadata),
        as_said
    );
    assert_eq!((device.updated_at, device.created_at <= at(-9000)), (at(-8000), true));
    assert_eq!(store.device(&id("found2")).unwrap().unwrap().device_name, "Mine");

    let alert = |device: &str, message: &str| OldAlert {
        device: id(device),
        alert_type: "overload".into(),
        severity: "critical".into(),
        message: message.into(),
        created_at: at(-50),
        cleared_at: Some(at(-40)),
        acknowledged: Some((at(-45), "ann".into())),
    };
    let alerts = [alert("old1", "a"), alert("old1", "b"), alert("old1", "a"), alert("nobody", "a")];
    assert_eq!(store.take_over_alerts(&alerts).unwrap(), [Stored, Stored, Known, NoDevice]);
    assert_eq!(store.take_over_alerts(&alerts[..2]).unwrap(), [Known, Known]);
    let filter = AlertFilter { device: Some(id("old1")), ..AlertFilter::default() };
    let found = store.alerts(&filter, ALL).unwrap().items;
    assert_eq!(found.len(), 2);
    assert_eq!(found[1].created_at, at(-50));
    assert_eq!(found[1].cleared_at, Some(at(-40)));
    assert_eq!((found[1].acknowledged_at, found[1].acknowledged_by.as_deref()), (Some(at(-45)), Some("ann")));

    let command = |device: &str| OldCommand {
        cmd_id: CommandId::random(),
        device: id(device),
        cmd: "reboot".into(),
        params: json!({"why": "no\u{0}ne"}).as_object().unwrap().clone(),
        status: CommandStatus::Rejected,
        detail: Some("busy".into()),
        created_at: at(-30),
        created_by: "import".into(),
        sent_at: Some(at(-29)),
        finished_at: Some(at(-28)),
    };
    let commands = [command("old1"), command("nobody")];
    assert_eq!(store.take_over_commands(&commands).unwrap(), [Stored, NoDevice]);
    assert_eq!(store.take_over_commands(&commands).unwrap(), [Known, NoDevice]);
    let found = store.command(commands[0].cmd_id).unwrap().unwrap();
    assert_eq!((found.status, found.created_at, found.finished_at), (CommandStatus::Rejected, at(-30), Some(at(-28))));
    assert!(store.deliverable_commands(&id("old1"), at(-31)).unwrap().is_empty());
}

fn a_configuration_fills_only_what_is_not_set(store: &dyn Store) {
    use TakenOver::{Known, NoDevice, Stored};
    store.take_over_devices(&[old_device("old2")]).unwrap();
    let config = |device: &str, send: Option<i64>, hello: Option<i64>| OldConfig {
        device: id(device),
        sampling_cadence_ms: None,
        send_interval_s: send,
        hello_interval_s: hello,
        brokers: Some(json!([{"host": "a", "port": 1883}])),
        updated_at: at(0),
    };
    assert_eq!(store.take_over_configs(&[config("nobody", Some(1), None)]).unwrap(), [NoDevice]);
    assert_eq!(store.take_over_configs(&[config("old2", Some(20), None)]).unwrap(), [Stored]);
    assert_eq!(store.take_over_configs(&[config("old2", Some(40), None)]).unwrap(), [Known]);
    assert_eq!(store.take_over_configs(&[config("old2", Some(40), Some(50))]).unwrap(), [Stored]);
    let states = store.device_states(&[id("old2")]).unwrap();
    let intervals = states[0].1.registration.as_ref().unwrap().intervals;
    assert_eq!(intervals, Intervals { send_interval_s: 20, hello_interval_s: 50 });
}

fn messages_are_found_with_the_time_of_their_receipt(store: &dyn Store) {
    let telemetry = vec![row("old3", 10, 1)];
    let events = vec![event("old3", 11, 2, "hello")];
    let (measured, said) = (telemetry[0].received_at, events[0].received_at);
    store.commit(&Batch { telemetry, events, ..Batch::default() }).unwrap();
    let asked = [(10, 1), (11, 2), (10, 2), (12, 1)].map(|(s, n)| (id("old3"), at(s), Sequence::Counted(n)));
    assert_eq!(store.received_at(&asked).unwrap(), [Some(measured), Some(said), None, None]);
    assert_eq!(store.received_at(&[(id("never"), at(10), Sequence::Counted(1))]).unwrap(), [None]);
    assert!(store.received_at(&[]).unwrap().is_empty());
}

//! What only several nodes on one database can show.

use serde_json::json;

use super::super::{commands, locks, rollout_steps, rollouts};
use super::*;
use crate::domain::presence;
use crate::domain::rollout::{Action, Limits, StageSize, UpdateState};
use crate::store::fault::Fault;
use crate::store::tests::rules::{clear, fire, make, put, remove, text};
use crate::store::{
    AlertFilter, Created, DeviceFilter, Duty, Firmware, Leader, NewFirmware, NewRollout, Nodes, Rollout, RolloutDevice,
    Rollouts, Rules,
};

#[test]
fn a_duty_goes_to_another_node_when_its_holder_ends_or_loses_the_database() {
    let (first, url) = store();
    let second = store_at(&url);
    let (of_first, of_second) = (Leader::new(Duty::Retention), Leader::new(Duty::Retention));
    assert!(of_first.leads(&first).unwrap());
    assert!(!of_second.leads(&second).unwrap());
    assert!(second.try_lead(Duty::Rollups).unwrap().is_some(), "another duty is free");
    // As a killed process, or a cut network, looks to the server.
    Server::shared().query(
        &url,
        "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_locks WHERE locktype = 'advisory' AND granted \
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND pid <> pg_backend_pid()",
    );
    assert!(of_second.leads(&second).unwrap());
    assert!(!of_first.leads(&first).unwrap(), "it notices, and does not have both");
    of_second.resign();
    assert!(of_first.leads(&first).unwrap());
}

#[test]
fn rules_change_while_alerts_come_and_go_at_two_nodes_and_none_is_left_behind() {
    let (first, url) = store();
    let second = store_at(&url);
    let devices: Vec<String> = (0..8).map(|n| format!("m{n}")).collect();
    devices.iter().for_each(|device| drop(first.create_device(&new_device(device), at(0)).unwrap()));
    let made = ["one", "two"].map(|name| make(&first, &text(name)));
    let alert = |device: &String, rule: &_, n: i64| match n % 2 {
        0 => fire(device, rule, n),
        _ => clear(device, rule, None, n),
    };
    let commit = |store: &PostgresStore, devices: &[String], order: [usize; 2], n: i64| {
        // As they may be by now: both generations of both rules, in either order.
        let rules = order.map(|rule| store.rule(made[rule].id).unwrap().unwrap());
        let each = |device| rules.iter().flat_map(move |rule| [alert(device, rule, n), alert(device, rule, n + 1)]);
        store.commit(&Batch { rule_alerts: devices.iter().flat_map(each).collect(), ..Batch::default() }).unwrap();
    };
    let (here, there) = devices.split_at(4);
    std::thread::scope(|scope| {
        scope.spawn(|| (0..60).for_each(|n| commit(&first, here, [0, 1], n)));
        scope.spawn(|| (0..60).for_each(|n| commit(&second, there, [1, 0], n)));
        for n in 0..60 {
            let mut changed = text(["one", "two"][n % 2]);
            changed.condition.threshold = n as f64;
            put(&second, made[n % 2].id, &changed);
        }
    });
    let open = AlertFilter { is_open: Some(true), ..AlertFilter::default() };
    let voided = AlertFilter { is_open: Some(false), ..AlertFilter::default() };
    made.iter().for_each(|rule| remove(&first, rule.id));
    assert_eq!(second.alerts(&open, Page::offset(0, 1)).unwrap().total, Some(0));
    assert!(second.alerts(&voided, Page::offset(0, 1)).unwrap().total > Some(100));
}

/// In one transaction does `first`, has `other` begin, and when that waits for a lock goes on with `then`: who waits in a
/// circle is told so, and fails.
fn meet<T: Send>(
    store: &PostgresStore,
    url: &str,
    first: impl FnOnce(&mut PgConnection) -> Result<(), Fault>,
    other: impl FnOnce() -> T + Send,
    then: impl FnOnce(&mut PgConnection) -> Result<(), Fault>,
) -> T {
    let waiting = "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    std::thread::scope(|scope| {
        let met = store.write("meet", |connection| {
            first(connection)?;
            let other = scope.spawn(other);
            while !other.is_finished() && count(url, waiting) == "0" {
                std::thread::yield_now();
            }
            then(connection)?;
            Ok(other)
        });
        met.unwrap().join().unwrap()
    })
}

fn command(device: &DeviceId, cmd: &str, params: serde_json::Value) -> NewCommand {
    NewCommand {
        cmd_id: CommandId::random(),
        device: device.clone(),
        cmd: cmd.into(),
        params: params.as_object().unwrap().clone(),
        created_at: at(0),
        created_by: "ann".into(),
        expires_at: at(100_000),
    }
}

#[test]
fn a_command_that_is_claimed_again_is_not_written_again() {
    let (store, url) = store();
    store.create_device(&new_device("m1"), at(0)).unwrap();
    for _ in 0..3 {
        store.create_command(&command(&id("m1"), "reboot", json!({}))).unwrap().unwrap();
    }
    let claim = || store.claim_commands(&[id("m1"), id("m2")], at(1)).unwrap();
    let rows = || Server::shared().query(&url, "SELECT id, ctid, xmin, xmax FROM device_commands ORDER BY id");
    let (claimed, written) = (claim(), rows());
    assert_eq!(claimed.len(), 3);
    assert_eq!((claim(), rows()), (claimed, written));
}

#[test]
fn an_accepted_configuration_and_who_begins_with_the_devices_state_do_not_wait_in_a_circle() {
    let (store, url) = store();
    store.create_device(&new_device("m1"), at(0)).unwrap();
    store.commit(&Batch { states: vec![(id("m1"), DeviceState::default())], ..Batch::default() }).unwrap();
    let given = store.create_command(&command(&id("m1"), "update_config", json!({"send_interval_s": 5}))).unwrap();
    let cmd_id = given.unwrap().cmd_id;
    let change = |to| CommandChange { cmd_id, device: None, to, detail: None, at: at(1) };
    let accepted = meet(
        &store,
        &url,
        |c| Ok(locks::outdate(c, &id("m1"))?),
        || store.advance_command(&change(CommandStatus::Accepted)).unwrap(),
        |c| commands::advance(c, &[change(CommandStatus::Delivered)]).map(drop),
    );
    assert!(matches!(accepted, Some(Outcome::Done(command)) if command.delivered_at == Some(at(1))), "it came second");
    let registration = store.device_states(&[id("m1")]).unwrap().remove(0).1.registration.unwrap();
    assert_eq!(registration.intervals.send_interval_s, 5);
}

#[test]
fn who_is_deleted_while_configurations_are_accepted_is_gone_and_nobody_waits_in_a_circle() {
    let (first, url) = store();
    let second = store_at(&url);
    for _ in 0..30 {
        first.create_device(&new_device("m1"), at(0)).unwrap();
        first.commit(&Batch { states: vec![(id("m1"), DeviceState::default())], ..Batch::default() }).unwrap();
        let new = || first.create_command(&command(&id("m1"), "update_config", json!({"send_interval_s": 5})));
        let accepted = |_| {
            let (cmd_id, to) = (new().unwrap().unwrap().cmd_id, CommandStatus::Accepted);
            CommandChange { cmd_id, device: None, to, detail: None, at: at(1) }
        };
        let changes: Vec<CommandChange> = (0..8).map(accepted).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| changes.iter().for_each(|change| drop(first.advance_command(change).unwrap())));
            assert!(second.delete_device(&id("m1"), false).unwrap());
        });
        assert_eq!(second.device(&id("m1")).unwrap(), None);
    }
}

fn rollout_of(store: &PostgresStore, version: &str) -> NewRollout {
    let image = NewFirmware {
        object: version.into(),
        version: version.into(),
        device_type: "dc750".into(),
        size_bytes: 9,
        sha256: [7; 32],
        created_at: at(0),
        created_by: "ann".into(),
    };
    let Outcome::Done(image) = store.add_firmware(&image).unwrap() else { panic!("{version} is new") };
    NewRollout {
        firmware: image.id,
        devices: Vec::new(),
        filter: DeviceFilter::default(),
        stages: vec![StageSize::Percent(100)],
        limits: Limits {
            max_parallel: 9,
            max_failed_pct: 100,
            min_confirmed_pct: 100,
            device_timeout: Duration::from_secs(1000),
            soak: Duration::ZERO,
        },
        created_at: at(0),
        created_by: "ann".into(),
    }
}

fn step(store: &PostgresStore, rollout: i64, second: i64) {
    let order = |_: &Firmware, _: &Rollout, device: &DeviceId| command(device, "start_ota", json!({}));
    store.step_rollout(rollout, at(second), &order).unwrap().unwrap();
}

/// A rollout whose devices were told one after the other, in the order in which it has them.
fn told(store: &PostgresStore) -> (i64, Vec<RolloutDevice>) {
    for n in 0..4 {
        store.create_device(&new_device(&format!("m{n}")), at(0)).unwrap();
    }
    let made = store.create_rollout(&rollout_of(store, "2")).unwrap();
    let Created::Done(rollout) = made else { panic!("{made:?}") };
    let devices = || store.rollout_devices(rollout.id, None, Page::offset(0, 9)).unwrap().items;
    for (second, told) in (1..).zip(devices()) {
        let state = DeviceState { connection: presence::Connection::Online, ..DeviceState::default() };
        store.commit(&Batch { states: vec![(told.device, state)], ..Batch::default() }).unwrap();
        step(store, rollout.id, second);
    }
    let devices = devices();
    assert!(devices.iter().all(|told| told.state == UpdateState::Sent), "{devices:?}");
    (rollout.id, devices)
}

/// What a device says of its update.
fn report(of: &RolloutDevice, second: i64, state: &str) -> EventRow {
    EventRow {
        device: of.device.clone(),
        ts: at(second),
        seq: Sequence::Counted(u32::try_from(second).unwrap()),
        received_at: at(second),
        kind: "ota_status".into(),
        body: json!({ "cmd_id": of.cmd_id.unwrap().to_string(), "ota_state": state, "progress_pct": 50.0 }),
    }
}

fn hear(connection: &mut PgConnection, of: &RolloutDevice) -> Result<(), Fault> {
    Ok(rollout_steps::hear(connection, &[report(of, 50, "downloading")])?)
}

/// All of them fail, one after the other; it is paused.
fn fail(store: &PostgresStore, rollout: i64, devices: &[RolloutDevice]) {
    store.act_on_rollout(rollout, Action::Pause, None, at(10)).unwrap();
    for (second, of) in (11..).zip(devices) {
        store.commit(&Batch { events: vec![report(of, second, "failed")], ..Batch::default() }).unwrap();
        step(store, rollout, second);
    }
}

#[test]
fn who_acts_on_a_rollout_and_reports_of_its_devices_do_not_wait_in_a_circle() {
    for action in [Action::Abort, Action::Resume { retry: false }, Action::Resume { retry: true }] {
        let (store, url) = store();
        let (rollout, devices) = told(&store);
        if action != Action::Abort {
            fail(&store, rollout, &devices);
        }
        // Whoever goes from device to device as they come meets the first of the table before the first of the ids.
        let (of_table, of_ids) = (&devices[0], devices.iter().min_by(|a, b| a.device.cmp(&b.device)).unwrap());
        assert_ne!(of_table.device, of_ids.device);
        let done = meet(
            &store,
            &url,
            |c| hear(c, of_ids),
            || store.act_on_rollout(rollout, action, None, at(60)).unwrap(),
            |c| hear(c, of_table),
        );
        assert!(matches!(done, Some(Outcome::Done(_))), "{action:?}: {done:?}");
    }
}

#[test]
fn who_is_to_be_tried_again_and_is_taken_by_a_new_rollout_meanwhile_stays_with_that_one() {
    let (store, url) = store();
    let (rollout, devices) = told(&store);
    fail(&store, rollout, &devices);
    let new = NewRollout { devices: vec![devices[0].device.clone()], ..rollout_of(&store, "3") };
    let made = |made: Created| assert!(matches!(made, Created::Done(_)), "{made:?}");
    let resumed = meet(
        &store,
        &url,
        |c| rollouts::create(c, &new).map(made),
        || store.act_on_rollout(rollout, Action::Resume { retry: true }, None, at(60)).unwrap(),
        |_| Ok(()),
    );
    let Some(Outcome::Done(resumed)) = resumed else { panic!("{resumed:?}") };
    assert_eq!((resumed.tally[0].failed, resumed.tally[0].waiting), (1, 3));
}

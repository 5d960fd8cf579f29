//! Firmware and staged updates. Each test leaves no rollout that is open.

use super::*;
use crate::domain::command::CommandStatus;
use crate::domain::rollout::{
    Action, Limits, PauseReason, RolloutState, StageFault, StageSize, UpdateReason, UpdateState,
};

pub(super) fn all(store: &dyn Store) {
    a_version_of_a_type_is_stored_once(store);
    a_rollout_is_made_of_what_is_free_and_fits(store);
    a_rollout_goes_stage_by_stage_and_confirms_by_hello(store);
    what_fails_pauses_and_is_accepted_or_tried_again(store);
    an_aborted_rollout_takes_back_what_nobody_has_got(store);
    a_rollout_that_has_ended_is_trimmed_with_its_devices(store);
}

fn image(store: &dyn Store, device_type: &str, version: &str) -> Firmware {
    let new = NewFirmware {
        object: format!("{device_type}-{version}"),
        version: version.into(),
        device_type: device_type.into(),
        size_bytes: 5_000_000_000,
        sha256: [3; 32],
        created_at: at(0),
        created_by: "key:a".into(),
    };
    match store.add_firmware(&new).unwrap() {
        Outcome::Done(image) => image,
        Outcome::Conflict => panic!("{device_type} {version} is new"),
    }
}

fn a_version_of_a_type_is_stored_once(store: &dyn Store) {
    let one = image(store, "ro-a", "1.0");
    let again = NewFirmware {
        object: "other".into(),
        version: "1.0".into(),
        device_type: "ro-a".into(),
        size_bytes: 1,
        sha256: [0; 32],
        created_at: at(1),
        created_by: String::new(),
    };
    assert_eq!(store.add_firmware(&again).unwrap(), Outcome::Conflict);
    let two = image(store, "ro-a", "2.0");
    let other = image(store, "ro-b", "1.0");
    assert_eq!(store.firmware(one.id).unwrap(), Some(one.clone()));
    assert_eq!(one.size_bytes, 5_000_000_000);
    let filter = |device_type: &str, version: Option<&str>| FirmwareFilter {
        device_type: Some(device_type.into()),
        version: version.map(str::to_owned),
    };
    assert_eq!(store.firmwares(&filter("ro-a", None), ALL).unwrap(), counted(vec![two.clone(), one.clone()], 2));
    assert_eq!(store.firmwares(&filter("ro-a", Some("2.0")), ALL).unwrap(), counted(vec![two.clone()], 1));
    let first = store.firmwares(&filter("ro-a", None), Page::behind(None, 1)).unwrap();
    let second = store.firmwares(&filter("ro-a", None), Page::behind(first.next, 1)).unwrap();
    assert_eq!((first.items, second.items, second.next), (vec![two.clone()], vec![one.clone()], None));
    let asked = ["ro-a-1.0".to_owned(), "unknown".to_owned()];
    assert_eq!(store.known_firmware(&asked).unwrap(), ["ro-a-1.0"]);
    for image in [one, two, other] {
        assert_eq!(store.remove_firmware(image.id).unwrap(), Some(Outcome::Done(image.clone())));
        assert_eq!(store.remove_firmware(image.id).unwrap(), None);
    }
}

fn register(store: &dyn Store, device: &str, device_type: &str, is_active: bool) {
    let new = NewDevice {
        device_id: id(device),
        device_name: device.into(),
        device_type: device_type.into(),
        location: Some("depot".into()),
        is_active,
        metadata: serde_json::Map::new(),
        token_sha256: None,
    };
    assert!(matches!(store.create_device(&new, at(0)).unwrap(), Outcome::Done(_)));
}

/// The device is online with that firmware.
fn hello(store: &dyn Store, device: &str, version: &str) {
    let state = DeviceState {
        connection: Connection::Online,
        last_seen: Some(at(1)),
        fw_version: Some(version.into()),
        ..DeviceState::default()
    };
    store.commit(&Batch { states: vec![(id(device), state)], ..Batch::default() }).unwrap();
}

fn new(firmware: &Firmware, stages: &[&str]) -> NewRollout {
    NewRollout {
        firmware: firmware.id,
        devices: Vec::new(),
        filter: DeviceFilter::default(),
        stages: stages.iter().map(|text| StageSize::parse(text).unwrap()).collect(),
        limits: Limits {
            max_parallel: 2,
            max_failed_pct: 40,
            min_confirmed_pct: 100,
            device_timeout: Duration::from_secs(600),
            soak: Duration::ZERO,
        },
        created_at: at(0),
        created_by: "key:a".into(),
    }
}

fn create(store: &dyn Store, new: &NewRollout) -> Rollout {
    match store.create_rollout(new).unwrap() {
        Created::Done(rollout) => *rollout,
        other => panic!("{other:?}"),
    }
}

fn order(image: &Firmware, rollout: &Rollout, device: &DeviceId) -> NewCommand {
    NewCommand {
        cmd_id: CommandId::random(),
        device: device.clone(),
        cmd: "start_ota".into(),
        params: json!({ "fw_version": image.version }).as_object().unwrap().clone(),
        created_at: at(0),
        created_by: format!("rollout:{}", rollout.id),
        expires_at: at(100_000),
    }
}

fn step(store: &dyn Store, rollout: &Rollout, second: i64) -> Stepped {
    store.step_rollout(rollout.id, at(second), &order).unwrap().unwrap()
}

fn devices(store: &dyn Store, rollout: &Rollout) -> Vec<RolloutDevice> {
    store.rollout_devices(rollout.id, None, ALL).unwrap().items
}

fn device(store: &dyn Store, rollout: &Rollout, name: &DeviceId) -> RolloutDevice {
    devices(store, rollout).into_iter().find(|d| d.device == *name).unwrap()
}

/// The meter says how its update goes.
fn report(store: &dyn Store, of: &RolloutDevice, second: i64, seq: u32, state: &str) {
    let body = json!({
        "cmd_id": of.cmd_id.unwrap().to_string(), "ota_state": state, "progress_pct": 50.0,
        "fw_version_target": "2.0", "detail": format!("said {state}"),
    });
    let row = EventRow {
        device: of.device.clone(),
        ts: at(second),
        seq: Sequence::Counted(seq),
        received_at: at(second),
        kind: "ota_status".into(),
        body,
    };
    store.commit(&Batch { events: vec![row], ..Batch::default() }).unwrap();
}

fn a_rollout_is_made_of_what_is_free_and_fits(store: &dyn Store) {
    for (name, device_type, is_active) in
        [("ro-m1", "ro-m", true), ("ro-m2", "ro-m", true), ("ro-m3", "ro-m", false), ("ro-n1", "ro-n", true)]
    {
        register(store, name, device_type, is_active);
    }
    let image = image(store, "ro-m", "2.0");
    let good = new(&image, &["1", "100%"]);
    let check = |new: NewRollout, expected: Created| assert_eq!(store.create_rollout(&new).unwrap(), expected);
    check(NewRollout { firmware: 999_999, ..good.clone() }, Created::NoFirmware);
    let nowhere = DeviceFilter { location: Some("nowhere".into()), ..DeviceFilter::default() };
    check(NewRollout { filter: nowhere, ..good.clone() }, Created::NoDevices);
    let others = vec![id("ro-m1"), id("ro-m3"), id("ro-n1"), id("ro-nobody")];
    let refused = vec![id("ro-m3"), id("ro-n1"), id("ro-nobody")];
    check(NewRollout { devices: others, ..good.clone() }, Created::NotSelectable(refused));
    check(new(&image, &["2", "1", "100%"]), Created::Stages(StageFault::Falling(1)));
    let rollout = create(store, &good);
    assert_eq!((rollout.plan.ends.as_slice(), rollout.progress.state), (&[1, 2][..], RolloutState::Running));
    assert_eq!(rollout.tally.iter().map(|stage| stage.waiting).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(rollout.plan.limits, good.limits);
    assert!(matches!(store.create_rollout(&good).unwrap(), Created::Busy(_, of) if of == rollout.id));
    assert_eq!(store.remove_firmware(image.id).unwrap(), Some(Outcome::Conflict));
    assert!(store.open_rollouts().unwrap().contains(&rollout.id));
    let listed = store.rollouts(Some(RolloutState::Running), ALL).unwrap();
    assert_eq!(listed.items, std::slice::from_ref(&rollout));
    let figures = store.rollout_figures().unwrap();
    assert_eq!(figures.devices, [("waiting".to_owned(), 2)]);
    assert!(figures.rollouts.contains(&("running".to_owned(), 1)));
    assert_eq!(figures.paused, []);
    store.act_on_rollout(rollout.id, Action::Pause, None, at(1)).unwrap();
    assert_eq!(store.rollout_figures().unwrap().paused, [("by_hand".to_owned(), 1)]);
    store.act_on_rollout(rollout.id, Action::Abort, None, at(1)).unwrap();
    assert_eq!(store.rollout_figures().unwrap().paused, []);
    assert!(!store.open_rollouts().unwrap().contains(&rollout.id));
    // Who is free again can be in another one.
    let next = create(store, &good);
    let version = store.rollout(next.id).unwrap().unwrap().changed_at.0;
    for (expected, is_done) in [(version - 1, false), (version, true), (version, false)] {
        let outcome = store.act_on_rollout(next.id, Action::Abort, Some(expected), at(1)).unwrap().unwrap();
        assert_eq!(matches!(outcome, Outcome::Done(_)), is_done, "{expected}");
    }
    assert!(matches!(store.remove_firmware(image.id).unwrap(), Some(Outcome::Done(_))));
    assert_eq!(store.act_on_rollout(next.id, Action::Pause, None, at(1)).unwrap(), Some(Outcome::Conflict));
    assert_eq!(store.act_on_rollout(999_999, Action::Pause, None, at(1)).unwrap(), None);
    assert!(store.step_rollout(999_999, at(1), &order).unwrap().is_none());
}

fn a_rollout_goes_stage_by_stage_and_confirms_by_hello(store: &dyn Store) {
    for name in ["ro-s1", "ro-s2", "ro-s3"] {
        register(store, name, "ro-s", true);
    }
    let image = image(store, "ro-s", "2.0");
    let rollout = create(store, &new(&image, &["1", "100%"]));
    let order = devices(store, &rollout);
    assert_eq!(order.iter().map(|d| (d.place, d.stage)).collect::<Vec<_>>(), [(0, 0), (1, 1), (2, 1)]);
    let [first, second, third] = [0, 1, 2].map(|n| order[n].device.clone());
    assert!(step(store, &rollout, 1).changes.is_empty(), "nobody is there yet");
    hello(store, first.as_str(), "1.0");
    hello(store, second.as_str(), "1.0");
    let told = step(store, &rollout, 2);
    assert_eq!(told.changes.iter().map(|c| &c.device).collect::<Vec<_>>(), [&first], "the others have to wait");
    let sent = device(store, &rollout, &first);
    assert_eq!((sent.state, sent.attempts, sent.sent_at), (UpdateState::Sent, 1, Some(at(2))));
    let command = store.command(sent.cmd_id.unwrap()).unwrap().unwrap();
    assert_eq!((command.cmd.as_str(), command.created_by), ("start_ota", format!("rollout:{}", rollout.id)));
    assert!(step(store, &rollout, 3).changes.is_empty());
    report(store, &sent, 4, 7, "verifying");
    // What comes late, twice, or from another meter changes nothing.
    report(store, &sent, 3, 9, "downloading");
    report(store, &RolloutDevice { device: second.clone(), ..sent.clone() }, 9, 9, "failed");
    step(store, &rollout, 5);
    assert_eq!(device(store, &rollout, &first).state, UpdateState::Verifying);
    report(store, &sent, 4, 8, "success");
    step(store, &rollout, 6);
    let applied = device(store, &rollout, &first);
    assert_eq!(
        (applied.state, applied.progress_pct),
        (UpdateState::Applying, Some(50.0)),
        "success is not yet confirmed"
    );
    hello(store, first.as_str(), "2.0");
    let passed = step(store, &rollout, 7);
    assert_eq!((passed.is_changed, passed.rollout.progress.stage), (true, 1));
    assert_eq!(device(store, &rollout, &first).state, UpdateState::Confirmed);
    assert_eq!(device(store, &rollout, &second).state, UpdateState::Waiting, "its turn is the next step");
    step(store, &rollout, 8);
    assert_eq!(device(store, &rollout, &second).state, UpdateState::Sent);
    // One that has the version already, and one that is deleted while it is updated.
    hello(store, third.as_str(), "2.0");
    step(store, &rollout, 9);
    let skipped = device(store, &rollout, &third);
    assert_eq!((skipped.state, skipped.reason), (UpdateState::Skipped, Some(UpdateReason::AlreadyThere)));
    assert!(store.delete_device(&second, false).unwrap());
    let ended = step(store, &rollout, 10).rollout;
    assert_eq!((ended.progress.state, ended.ended_at), (RolloutState::Completed, Some(at(10))));
    assert_eq!(device(store, &rollout, &second).reason, Some(UpdateReason::Gone));
    assert!(step(store, &rollout, 11).changes.is_empty());
    let confirmed = store.rollout_devices(rollout.id, Some(UpdateState::Confirmed), ALL).unwrap();
    assert_eq!(confirmed.total, Some(1));
    let page = store.rollout_devices(rollout.id, None, Page::behind(None, 2)).unwrap();
    let rest = store.rollout_devices(rollout.id, None, Page::behind(page.next, 2)).unwrap();
    assert_eq!((page.items.len(), rest.items.len(), rest.next), (2, 1, None));
}

fn what_fails_pauses_and_is_accepted_or_tried_again(store: &dyn Store) {
    for name in ["ro-f1", "ro-f2"] {
        register(store, name, "ro-f", true);
        hello(store, name, "1.0");
    }
    let image = image(store, "ro-f", "2.0");
    let rollout = create(store, &new(&image, &["1", "100%"]));
    step(store, &rollout, 1);
    let first = devices(store, &rollout)[0].clone();
    report(store, &first, 2, 1, "failed");
    let paused = step(store, &rollout, 3);
    assert_eq!(paused.rollout.progress.pause, Some(PauseReason::TooManyFailed));
    assert_eq!(store.rollout_figures().unwrap().paused, [("too_many_failed".to_owned(), 1)]);
    let failed = device(store, &rollout, &first.device);
    assert_eq!((failed.reason, failed.detail.as_deref()), (Some(UpdateReason::UpdateFailed), Some("said failed")));
    assert!(step(store, &rollout, 4).changes.is_empty());
    let resumed = store.act_on_rollout(rollout.id, Action::Resume { retry: true }, None, at(5)).unwrap();
    assert!(matches!(resumed, Some(Outcome::Done(r)) if r.tally[0].waiting == 1 && r.progress.pause.is_none()));
    step(store, &rollout, 6);
    let again = device(store, &rollout, &first.device);
    assert_eq!((again.state, again.attempts, again.reason, again.progress_pct), (UpdateState::Sent, 2, None, None));
    assert_ne!(again.cmd_id, first.cmd_id);
    report(store, &first, 7, 2, "failed");
    assert!(step(store, &rollout, 8).changes.is_empty(), "what is said of the first command counts no more");
    let rejected = CommandChange {
        cmd_id: again.cmd_id.unwrap(),
        device: None,
        to: CommandStatus::Rejected,
        detail: Some("busy".into()),
        at: at(9),
    };
    store.advance_command(&rejected).unwrap();
    assert_eq!(step(store, &rollout, 10).rollout.progress.state, RolloutState::Paused);
    let refused = device(store, &rollout, &first.device);
    assert_eq!((refused.reason, refused.detail.as_deref()), (Some(UpdateReason::Refused), Some("busy")));
    let resumed = store.act_on_rollout(rollout.id, Action::Resume { retry: false }, None, at(11)).unwrap();
    assert!(matches!(resumed, Some(Outcome::Done(r)) if r.tally[0].forgiven == 1));
    assert_eq!(step(store, &rollout, 12).rollout.progress.stage, 1, "an accepted failure holds nobody up");
    step(store, &rollout, 13);
    let second = devices(store, &rollout)[1].clone();
    assert_eq!(second.state, UpdateState::Sent);
    // Late, but it has come: a failure that is none.
    hello(store, first.device.as_str(), "2.0");
    hello(store, second.device.as_str(), "2.0");
    let ended = step(store, &rollout, 14).rollout;
    assert_eq!(ended.progress.state, RolloutState::Completed);
    assert_eq!(ended.tally.iter().map(|stage| stage.confirmed).collect::<Vec<_>>(), [1, 1]);
}

fn an_aborted_rollout_takes_back_what_nobody_has_got(store: &dyn Store) {
    for name in ["ro-x1", "ro-x2", "ro-x3", "ro-x4"] {
        register(store, name, "ro-x", true);
        hello(store, name, "1.0");
    }
    let image = image(store, "ro-x", "2.0");
    let mut three_at_once = new(&image, &["100%"]);
    three_at_once.limits.max_parallel = 3;
    let rollout = create(store, &three_at_once);
    step(store, &rollout, 1);
    let told = devices(store, &rollout);
    let advance = |n: usize, to, second| {
        let cmd_id = told[n].cmd_id.unwrap();
        store.advance_command(&CommandChange { cmd_id, device: None, to, detail: None, at: at(second) }).unwrap()
    };
    advance(0, CommandStatus::Delivered, 2);
    advance(2, CommandStatus::Sent, 2);
    let aborted = store.act_on_rollout(rollout.id, Action::Abort, None, at(3)).unwrap();
    let Some(Outcome::Done(aborted)) = aborted else { panic!("{aborted:?}") };
    assert_eq!((aborted.progress.state, aborted.ended_at), (RolloutState::Aborted, Some(at(3))));
    assert_eq!(aborted.tally[0].cancelled, 4);
    let command = |n: usize| store.command(told[n].cmd_id.unwrap()).unwrap().unwrap();
    let ends = [0, 1, 2].map(|n| (command(n).status, command(n).finished_at));
    let (cancelled, expired) = ((CommandStatus::Cancelled, Some(at(3))), (CommandStatus::Expired, Some(at(3))));
    assert_eq!(ends, [(CommandStatus::Delivered, None), cancelled, expired]);
    assert_eq!(command(2).detail, command(1).detail);
    assert_eq!(told[3].cmd_id, None, "three at once");
    for n in [1, 2] {
        assert_eq!(store.deliverable_commands(&told[n].device, at(4)).unwrap(), [], "{n} is not sent again");
    }
    // It was on its way, and has arrived after all.
    assert!(matches!(advance(2, CommandStatus::Accepted, 4), Some(Outcome::Done(_))));
    assert!(step(store, &rollout, 4).changes.is_empty());
}

fn a_rollout_that_has_ended_is_trimmed_with_its_devices(store: &dyn Store) {
    let ended = store.rollouts(None, ALL).unwrap().items;
    assert!(ended.len() >= 4 && ended.iter().all(|rollout| rollout.ended_at.is_some()));
    register(store, "ro-t1", "ro-t", true);
    let image = image(store, "ro-t", "2.0");
    let open = create(store, &new(&image, &["100%"]));
    while store.trim(at(1000), 3).unwrap() > 0 {}
    assert_eq!(store.rollouts(None, ALL).unwrap().items.iter().map(|r| r.id).collect::<Vec<_>>(), [open.id]);
    for rollout in ended {
        assert!(devices(store, &rollout).is_empty());
    }
    store.act_on_rollout(open.id, Action::Abort, None, at(2000)).unwrap();
}

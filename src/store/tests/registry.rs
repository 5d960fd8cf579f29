//! The part of the suite about what operators enter: devices, alerts, commands, credentials.

use serde_json::json;

use super::{ALL, T, alerts_of, at, counted, create, id, new_device, raise, state_of};
use crate::domain::alert::AlertKind;
use crate::domain::command::CommandStatus;
use crate::domain::device::Intervals;
use crate::domain::presence::Connection;
use crate::domain::{CommandId, DeviceState};
use crate::store::*;

pub(super) fn devices_are_created_changed_and_found(store: &dyn Store) {
    let device = create(store, &new_device("reg"));
    assert_eq!((device.connection, device.created_at), (Connection::Unknown, T));
    assert_eq!(store.create_device(&new_device("reg"), T).unwrap(), Outcome::Conflict);
    assert_eq!(store.device(&id("reg")).unwrap(), Some(device.clone()));
    let metadata = json!({ "train": "ICE 1" }).as_object().cloned();
    let change =
        DeviceChange { device_name: Some("Neu".into()), metadata: metadata.clone(), ..DeviceChange::default() };
    let update = |device: &str, version| store.update_device(&id(device), &change, version, at(5)).unwrap();
    assert_eq!(update("nobody", None), None);
    let [first, second, third] = [0, 1, 2].map(|n| device.version + n);
    assert_eq!(update("reg", Some(second)), Some(Outcome::Conflict));
    let changed =
        Device { device_name: "Neu".into(), metadata: metadata.unwrap(), updated_at: at(5), version: second, ..device };
    assert_eq!(update("reg", Some(first)), Some(Outcome::Done(changed.clone())));
    assert_eq!(store.device(&id("reg")).unwrap(), Some(changed));
    let is_third = |outcome| matches!(outcome, Outcome::Done(Device { version, .. }) if version == third);
    assert_eq!(update("reg", None).map(is_third), Some(true));
    assert!(store.delete_device(&id("reg"), false).unwrap());
    assert!(matches!(store.create_device(&new_device("reg"), at(6)).unwrap(), Outcome::Done(_)));
    for version in [first, second, third] {
        assert_eq!(update("reg", Some(version)), Some(Outcome::Conflict), "a version of the one that was removed");
    }
}

pub(super) fn many_devices_are_created_at_once_or_none(store: &dyn Store) {
    let new = |n: u32| NewDevice { token_sha256: Some([7; 32]), ..new_device(&format!("many-{n:04}")) };
    create(store, &new(3));
    let some: Vec<NewDevice> = (0..2500).rev().map(new).collect();
    let free = |all_or_nothing: bool, rows: &[NewDevice]| store.create_devices(rows, all_or_nothing, at(7)).unwrap();
    let mut expected = vec![true; 2500];
    expected[2496] = false;
    let filter = DeviceFilter { id_prefix: Some("many-".into()), ..DeviceFilter::default() };
    let count = || store.devices(&filter, ALL).unwrap().total;
    let refused = free(true, &some);
    assert!(!refused[2496] && count() == Some(1), "one that is taken keeps all of them out");
    assert_eq!(free(false, &some), expected);
    assert_eq!(count(), Some(2500));
    assert_eq!(free(true, &[new(9000), new(9001)]), [true, true]);
    assert_eq!(free(true, &[]), [false; 0]);
    let found = store.devices_of(&[id("many-0003"), id("many-9001"), id("many-none")]).unwrap();
    let mut found: Vec<_> = found.iter().map(|d| (d.device_id.as_str(), d.created_at)).collect();
    found.sort_unstable();
    assert_eq!(found, [("many-0003", T), ("many-9001", at(7))]);
    assert_eq!(store.device_credential(&id("many-0000")).unwrap().unwrap().token_sha256, Some([7; 32]));
}

pub(super) fn devices_are_filtered(store: &dyn Store) {
    let device = |name: &str, device_type: &str, metadata: serde_json::Value| NewDevice {
        device_name: name.into(),
        device_type: device_type.into(),
        location: Some(format!("{device_type} depot")),
        is_active: device_type == "f-ac",
        metadata: metadata.as_object().unwrap().clone(),
        ..new_device(&format!("f-{name}").replace(|c: char| !c.is_ascii_alphanumeric() && c != '-', "_"))
    };
    let key = "a.b\"'] OR 1=1 --";
    create(store, &device("hundred % sure", "f-ac", json!({ key: "x", "n": 1, "f": 0.30000000000000004 })));
    create(store, &device("snake_case", "f-dc", json!({ "n": "1", "ok": true, "f": 1.0 })));
    create(store, &device("snakeXcase", "f-dc", json!({ "n": 2, "ok": "true", "big": { "n": 1 } })));
    let heard = |device: &str, connection| (id(device), DeviceState { connection, ..DeviceState::default() });
    let states = vec![heard("f-snake_case", Connection::Online), heard("f-snakeXcase", Connection::Offline)];
    store.commit(&Batch { states, ..Batch::default() }).unwrap();
    let check = |filter: DeviceFilter, expected: &[&str]| {
        let filter = DeviceFilter { q: filter.q.or(Some("F-".into())), ..filter };
        let found = store.devices(&filter, ALL).unwrap();
        let names: Vec<_> = found.items.iter().map(|d| d.device_name.as_str()).collect();
        assert_eq!((names.as_slice(), found.total), (expected, Some(expected.len() as u64)), "{filter:?}");
        let second = store.devices(&filter, Page::offset(1, 1)).unwrap();
        assert_eq!(second.items.first(), found.items.get(1));
        assert_eq!(second.total, found.total);
    };
    let none = DeviceFilter::default;
    let (percent, snake, other) = ("hundred % sure", "snake_case", "snakeXcase");
    check(none(), &[other, snake, percent]);
    check(DeviceFilter { is_active: Some(true), ..none() }, &[percent]);
    check(DeviceFilter { device_type: Some("f-dc".into()), ..none() }, &[other, snake]);
    check(DeviceFilter { location: Some("f-ac depot".into()), ..none() }, &[percent]);
    check(DeviceFilter { connection: Some(Connection::Online), ..none() }, &[snake]);
    check(DeviceFilter { connection: Some(Connection::Offline), ..none() }, &[other]);
    check(DeviceFilter { connection: Some(Connection::Unknown), ..none() }, &[percent]);
    check(DeviceFilter { q: Some("SNAKE_".into()), ..none() }, &[snake]);
    check(DeviceFilter { q: Some("d % s".into()), ..none() }, &[percent]);
    check(DeviceFilter { q: Some("\\".into()), ..none() }, &[]);
    check(DeviceFilter { q: Some("\0".into()), ..none() }, &[]);
    check(DeviceFilter { q: Some("snake\0".into()), ..none() }, &[]);
    create(store, &NewDevice { device_name: "ÖBB 4024".into(), ..new_device("umlaut") });
    check(DeviceFilter { q: Some("öbb".into()), ..none() }, &["ÖBB 4024"]);
    let prefix = |prefix: &str, expected: &[&str]| {
        check(DeviceFilter { id_prefix: Some(prefix.into()), ..none() }, expected);
    };
    prefix("", &[other, snake, percent]);
    prefix("f-snake", &[other, snake]);
    prefix("f-snake_", &[snake]);
    prefix("f-snake_case", &[snake]);
    prefix("f-snake_case.", &[]);
    prefix("F-snake", &[]);
    prefix("f-snake%", &[]);
    prefix("snake", &[]);
    check(DeviceFilter { id_prefix: Some("f-snake".into()), device_type: Some("f-ac".into()), ..none() }, &[]);
    let metadata = |key: &str, text: &str, expected: &[&str]| {
        check(DeviceFilter { metadata: vec![(key.into(), text.into())], ..none() }, expected);
    };
    metadata("n", "1", &[snake, percent]);
    metadata("n", "2", &[other]);
    metadata("f", "0.30000000000000004", &[percent]);
    metadata("f", "0.3", &[]);
    metadata("f", "1.0", &[snake]);
    metadata("f", "1", &[]);
    metadata("ok", "true", &[other, snake]);
    metadata(key, "x", &[percent]);
    metadata("x\" OR 1=1 --", "x", &[]);
    metadata("big", "{\"n\":1}", &[]);
    let both = vec![("n".into(), "1".into()), ("ok".into(), "true".into())];
    check(DeviceFilter { metadata: both, device_type: Some("f-dc".into()), ..none() }, &[snake]);
}

pub(super) fn alerts_open_once_and_are_acknowledged_once(store: &dyn Store) {
    create(store, &new_device("alarm"));
    let clear = AlertChange::Clear { device: id("alarm"), kind: AlertKind::DeviceOffline, at: at(3) };
    let alerts =
        vec![raise("alarm", 1), raise("alarm", 2), clear, raise("alarm", 4), raise("alarm", 5), raise("gone", 1)];
    store.commit(&Batch { alerts, ..Batch::default() }).unwrap();
    let all = alerts_of(store, "alarm", None);
    let times: Vec<_> = all.iter().map(|alert| (alert.created_at, alert.cleared_at)).collect();
    assert_eq!(times, [(at(4), None), (at(1), Some(at(3)))]);
    assert_eq!((all[0].alert_type.as_str(), all[0].severity.as_str()), ("device_offline", "warning"));
    assert_eq!(alerts_of(store, "gone", None), [], "nobody is registered under that name");
    let new = NewAlert { alert_type: "device_offline".into(), severity: "critical".into(), message: "by hand".into() };
    let by_hand = store.create_alert(&id("alarm"), &new, at(6)).unwrap().unwrap();
    assert!(store.create_alert(&id("gone"), &new, at(6)).unwrap().is_none());
    assert_eq!(alerts_of(store, "alarm", Some(true)).len(), 2);
    let unseen = store.stats().unwrap().unacknowledged_alerts;
    let seen = store.acknowledge_alert(by_hand.id, "ann", at(7)).unwrap().unwrap();
    assert_eq!(store.acknowledge_alert(by_hand.id, "bob", at(8)).unwrap(), Some(seen.clone()));
    assert_eq!((seen.acknowledged_by.as_deref(), seen.acknowledged_at), (Some("ann"), Some(at(7))));
    assert_eq!(store.acknowledge_alert(i64::MAX, "ann", at(7)).unwrap(), None);
    assert_eq!(store.stats().unwrap().unacknowledged_alerts, unseen - 1);
    let filter = |acknowledged, severity: Option<&str>| AlertFilter {
        device: Some(id("alarm")),
        acknowledged,
        severity: severity.map(Into::into),
        ..AlertFilter::default()
    };
    assert_eq!(store.alerts(&filter(Some(true), None), ALL).unwrap().items, std::slice::from_ref(&seen));
    assert_eq!(store.alerts(&filter(Some(false), Some("warning")), ALL).unwrap().total, Some(2));
    let reach = |prefix: &str| {
        let filter = AlertFilter { id: Some(seen.id), id_prefix: Some(prefix.into()), ..AlertFilter::default() };
        store.alerts(&filter, ALL).unwrap().total
    };
    assert_eq!(["ala", "alarm", "alarm2", "Ala", "al_", "", "b"].map(reach), [1, 1, 0, 0, 0, 1, 0].map(Some));
    let of_prefix = AlertFilter { id_prefix: Some("alar".into()), ..AlertFilter::default() };
    assert_eq!(store.alerts(&of_prefix, ALL).unwrap().total, Some(3));
}

pub(super) fn a_new_loss_is_an_alert_of_its_own_once_the_one_before_was_seen(store: &dyn Store) {
    create(store, &new_device("lossy"));
    let lose = |second: i64| {
        let raise = |kind| AlertChange::Raise {
            device: id("lossy"),
            kind,
            message: format!("lost at {second}"),
            at: at(second),
        };
        let alerts = vec![raise(AlertKind::SequenceGap), raise(AlertKind::DeviceOffline)];
        store.commit(&Batch { alerts, ..Batch::default() }).unwrap();
    };
    let all = |kind: AlertKind| -> Vec<Alert> {
        alerts_of(store, "lossy", None).into_iter().filter(|alert| alert.alert_type == kind.name()).collect()
    };
    let times = |kind| all(kind).iter().map(|a| (a.created_at, a.cleared_at)).collect::<Vec<_>>();
    lose(1);
    lose(2);
    assert_eq!(times(AlertKind::SequenceGap), [(at(1), None)], "nobody has seen it yet");
    for alert in alerts_of(store, "lossy", None) {
        store.acknowledge_alert(alert.id, "ann", at(3)).unwrap();
    }
    lose(4);
    lose(5);
    assert_eq!(times(AlertKind::SequenceGap), [(at(4), None), (at(1), Some(at(4)))]);
    let [new, old] = <[Alert; 2]>::try_from(all(AlertKind::SequenceGap)).unwrap();
    assert_eq!((old.cleared_reason.as_deref(), old.acknowledged_by.as_deref()), (Some("superseded"), Some("ann")));
    assert_eq!((new.message.as_str(), new.acknowledged_at), ("lost at 4", None));
    assert_eq!(times(AlertKind::DeviceOffline), [(at(1), None)], "it is still the same absence");
    let clear = AlertChange::Clear { device: id("lossy"), kind: AlertKind::SequenceGap, at: at(6) };
    store.commit(&Batch { alerts: vec![clear], ..Batch::default() }).unwrap();
    assert_eq!(times(AlertKind::SequenceGap), [(at(4), Some(at(6))), (at(1), Some(at(4)))]);
    let [healed, _] = <[Alert; 2]>::try_from(all(AlertKind::SequenceGap)).unwrap();
    assert_eq!(healed.cleared_reason, None);
}

pub(super) fn new_command(device: &str, cmd: &str, params: serde_json::Value) -> NewCommand {
    NewCommand {
        cmd_id: CommandId::random(),
        device: id(device),
        cmd: cmd.into(),
        params: params.as_object().unwrap().clone(),
        created_at: at(0),
        created_by: "ann".into(),
        expires_at: at(100),
    }
}

fn step(cmd_id: CommandId, device: Option<&str>, to: CommandStatus, second: i64) -> CommandChange {
    CommandChange { cmd_id, device: device.map(id), to, detail: Some(format!("at {second}")), at: at(second) }
}

pub(super) fn commands_advance_as_their_states_allow(store: &dyn Store) {
    create(store, &new_device("cmd"));
    let new = new_command("cmd", "reboot", json!({ "a": [1] }));
    let command = store.create_command(&new).unwrap().unwrap();
    assert_eq!((command.status, &command.params), (CommandStatus::Pending, &new.params));
    assert_eq!(store.create_command(&new_command("nobody", "reboot", json!({}))).unwrap(), None);
    let second = store.create_command(&new_command("cmd", "reboot", json!({}))).unwrap().unwrap();
    let deliverable = |now| store.deliverable_commands(&id("cmd"), at(now)).unwrap();
    assert_eq!(deliverable(99), [command.clone(), second.clone()]);
    assert_eq!(deliverable(100), []);
    let advance = |change: &CommandChange| store.advance_command(change).unwrap();
    assert_eq!(advance(&step(CommandId::random(), None, CommandStatus::Sent, 1)), None);
    assert_eq!(advance(&step(new.cmd_id, Some("other"), CommandStatus::Sent, 1)), None);
    assert_eq!(store.command(new.cmd_id).unwrap(), Some(command));
    assert!(matches!(advance(&step(new.cmd_id, None, CommandStatus::Sent, 1)), Some(Outcome::Done(_))));
    let accepted = vec![
        step(new.cmd_id, Some("cmd"), CommandStatus::Accepted, 2),
        step(new.cmd_id, Some("other"), CommandStatus::Rejected, 3),
    ];
    store.commit(&Batch { commands: accepted, ..Batch::default() }).unwrap();
    assert_eq!(advance(&step(new.cmd_id, None, CommandStatus::Delivered, 4)), Some(Outcome::Conflict));
    let done = store.command(new.cmd_id).unwrap().unwrap();
    assert_eq!((done.status, done.detail.as_deref()), (CommandStatus::Accepted, Some("at 2")));
    assert_eq!((done.sent_at, done.delivered_at, done.finished_at), (Some(at(1)), None, Some(at(2))));
    let list = |status| store.commands(&CommandFilter { device: Some(id("cmd")), status }, ALL).unwrap();
    assert_eq!(list(None), counted(vec![second.clone(), done.clone()], 2));
    assert_eq!(list(Some(CommandStatus::Accepted)), counted(vec![done], 1));
    assert_eq!(deliverable(5), std::slice::from_ref(&second));
    let advance_from = |from, change: CommandChange| store.advance_command_from(from, &change).unwrap();
    let sent = |cmd_id| step(cmd_id, None, CommandStatus::Sent, 6);
    assert_eq!(advance_from(Some(CommandStatus::Delivered), sent(second.cmd_id)), Some(Outcome::Conflict));
    assert_eq!(store.command(second.cmd_id).unwrap(), Some(second.clone()), "it was not that");
    assert!(matches!(advance_from(Some(CommandStatus::Pending), sent(second.cmd_id)), Some(Outcome::Done(_))));
    assert_eq!(advance_from(Some(CommandStatus::Sent), sent(second.cmd_id)), Some(Outcome::Conflict));
    assert_eq!(advance_from(Some(CommandStatus::Sent), sent(CommandId::random())), None);
    let delivered = step(second.cmd_id, None, CommandStatus::Delivered, 7);
    assert!(matches!(advance_from(None, delivered), Some(Outcome::Done(_))));
    let accepted = step(second.cmd_id, None, CommandStatus::Accepted, 8);
    assert!(matches!(advance_from(Some(CommandStatus::Delivered), accepted), Some(Outcome::Done(_))));
}

pub(super) fn a_confirmed_configuration_becomes_the_registrations_intervals(store: &dyn Store) {
    create(store, &new_device("conf"));
    let intervals = || state_of(store, "conf").unwrap().registration.unwrap().intervals;
    let give = |cmd, params, to| {
        let command = store.create_command(&new_command("conf", cmd, params)).unwrap().unwrap();
        store.commit(&Batch { commands: vec![step(command.cmd_id, Some("conf"), to, 1)], ..Batch::default() }).unwrap();
    };
    let send = |params, to| give("update_config", params, to);
    send(json!({ "send_interval_s": 60 }), CommandStatus::Rejected);
    assert_eq!(intervals(), Intervals::default());
    send(json!({ "send_interval_s": 60 }), CommandStatus::Accepted);
    assert_eq!(intervals(), Intervals { send_interval_s: 60, ..Intervals::default() });
    send(json!({ "hello_interval_s": 5, "sampling_cadence_ms": 200 }), CommandStatus::Accepted);
    assert_eq!(intervals(), Intervals { send_interval_s: 60, hello_interval_s: 5 });
    give("reboot", json!({}), CommandStatus::Accepted);
    give("factory_reset", json!({}), CommandStatus::Rejected);
    assert_eq!(intervals(), Intervals { send_interval_s: 60, hello_interval_s: 5 });
    give("factory_reset", json!({}), CommandStatus::Accepted);
    assert_eq!(intervals(), Intervals::default(), "as it left the factory");
    send(json!({ "hello_interval_s": 7 }), CommandStatus::Accepted);
    assert_eq!(intervals(), Intervals { hello_interval_s: 7, ..Intervals::default() }, "nothing of before comes back");
}

pub(super) fn commands_expire_and_time_out(store: &dyn Store) {
    create(store, &new_device("late"));
    let make = |to: &[CommandStatus]| {
        let command = store.create_command(&new_command("late", "reboot", json!({}))).unwrap().unwrap();
        for to in to {
            store.advance_command(&step(command.cmd_id, None, *to, 10)).unwrap();
        }
        command.cmd_id
    };
    let ids = [make(&[]), make(&[CommandStatus::Sent]), make(&[CommandStatus::Delivered])];
    let status = || ids.map(|id| store.command(id).unwrap().unwrap().status);
    store.expire_commands(at(99), at(10)).unwrap();
    assert_eq!(status(), [CommandStatus::Pending, CommandStatus::Sent, CommandStatus::Delivered]);
    assert!(store.expire_commands(at(100), at(11)).unwrap() >= 3);
    assert_eq!(status(), [CommandStatus::Expired, CommandStatus::Expired, CommandStatus::Timeout]);
    assert_eq!(store.expire_commands(at(100), at(11)).unwrap(), 0);
    let counts = store.stats().unwrap().commands_by_status();
    assert!(counts.iter().any(|(name, count)| name == "timeout" && *count == 1), "{counts:?}");
    let late = ids.map(|id| step(id, None, CommandStatus::Accepted, 200));
    let outcomes = store.advance_commands(&late).unwrap();
    assert!(outcomes.iter().all(|o| matches!(o, Some(Outcome::Done(c)) if c.finished_at == Some(at(200)))));
    assert_eq!(status(), [CommandStatus::Accepted; 3]);
}

pub(super) fn credentials_are_kept_as_digests(store: &dyn Store) {
    create(store, &new_device("token"));
    assert!(store.device_credential(&id("nobody")).unwrap().is_none());
    assert!(
        store.device_credential(&id("token")).unwrap()
            == Some(DeviceCredential { is_active: true, token_sha256: None })
    );
    create(store, &NewDevice { token_sha256: Some([5; 32]), ..new_device("born-with-token") });
    let born = || store.device_credential(&id("born-with-token")).unwrap().and_then(|c| c.token_sha256);
    assert!(born() == Some([5; 32]));
    let again = NewDevice { token_sha256: Some([6; 32]), ..new_device("born-with-token") };
    assert_eq!(store.create_device(&again, T).unwrap(), Outcome::Conflict);
    assert!(born() == Some([5; 32]), "a refused registration changes no token");
    assert!(store.set_device_token(&id("token"), Some([7; 32])).unwrap());
    assert!(!store.set_device_token(&id("nobody"), Some([7; 32])).unwrap());
    assert!(store.device_credential(&id("token")).unwrap().unwrap().token_sha256 == Some([7; 32]));
    let key = |prefix: &str, role| ApiKey {
        prefix: prefix.into(),
        key_sha256: [9; 32],
        role,
        name: "a client".into(),
        device_prefix: Some("train-".into()),
        created_at: at(1),
        expires_at: Some(at(50)),
        revoked_at: None,
        last_used_at: None,
        last_used_from: None,
    };
    let (a, b) = (key("aaa", Role::Viewer), key("bbb", Role::Admin));
    store.create_api_key(&a).unwrap();
    store.create_api_key(&b).unwrap();
    assert!(store.create_api_key(&a).is_err_and(|error| !error.is_transient()));
    assert!(store.api_key("aaa").unwrap() == Some(a.clone()));
    assert!(store.api_key("ccc").unwrap().is_none());
    assert!(store.revoke_api_key("aaa", at(3)).unwrap() && store.revoke_api_key("aaa", at(4)).unwrap());
    assert!(!store.revoke_api_key("ccc", at(3)).unwrap());
    assert!(store.api_keys().unwrap() == [b, ApiKey { revoked_at: Some(at(3)), ..a }]);
}

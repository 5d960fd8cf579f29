//! The part of the suite about the queue of changes.

use std::time::{Duration, Instant};

use super::registry::new_command;
use super::*;
use crate::domain::command::CommandStatus;

pub(super) fn all(store: &dyn Store) {
    changes_are_told_once_in_order_and_each_thing_as_it_is_now(store);
    nothing_is_told_of_what_did_not_change_or_is_gone(store);
}

/// Where others hold up what is told, that of earlier tests may come too.
fn is_ours(change: &LiveChange) -> bool {
    let device = match change {
        LiveChange::Presence(device, _) => device,
        LiveChange::Alert(alert) => &alert.device_id,
        LiveChange::Command(command) => &command.device,
    };
    device.as_str().starts_with("live-")
}

/// Looks at what comes behind a place until it `is_enough`: a change is told when nothing older can follow, which others on the
/// same server may delay. What one look has is given.
pub(in crate::store) fn look(
    store: &dyn Store,
    place: &mut LivePlace,
    is_enough: impl Fn(&[LiveChange]) -> bool,
) -> Vec<LiveChange> {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let mut part = store.live_changes(*place, 500).unwrap();
        part.changes.retain(is_ours);
        if is_enough(&part.changes) {
            *place = part.place;
            return part.changes;
        }
        assert!(Instant::now() < end, "only {part:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The same in parts of so many, one after the other.
fn walk(
    store: &dyn Store,
    place: &mut LivePlace,
    limit: u32,
    is_enough: impl Fn(&[LiveChange]) -> bool,
) -> Vec<LiveChange> {
    let (mut told, end) = (Vec::new(), Instant::now() + Duration::from_secs(20));
    loop {
        let part = store.live_changes(*place, limit).unwrap();
        assert!(part.place >= *place && part.changes.len() <= limit as usize);
        *place = part.place;
        told.extend(part.changes.into_iter().filter(is_ours));
        if is_enough(&told) && !part.has_more {
            return told;
        }
        assert!(Instant::now() < end, "only {told:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(in crate::store) fn presence(device: &str, connection: Connection) -> Batch {
    let state = DeviceState { connection, ..DeviceState::default() };
    Batch { states: vec![(id(device), state)], ..Batch::default() }
}

fn changes_are_told_once_in_order_and_each_thing_as_it_is_now(store: &dyn Store) {
    create(store, &new_device("live-1"));
    let mut place = store.live_end().unwrap();
    store.commit(&presence("live-1", Connection::Online)).unwrap();
    let new = NewAlert { alert_type: "door".into(), severity: "info".into(), message: "open".into() };
    let alert = store.create_alert(&id("live-1"), &new, T).unwrap().unwrap();
    let command = store.create_command(&new_command("live-1", "reboot", serde_json::json!({}))).unwrap().unwrap();
    let step = CommandChange { cmd_id: command.cmd_id, device: None, to: CommandStatus::Sent, detail: None, at: at(1) };
    let Some(Outcome::Done(sent)) = store.advance_command(&step).unwrap() else { panic!() };
    let seen = store.acknowledge_alert(alert.id, "me", at(2)).unwrap().unwrap();
    let told = look(store, &mut place, |told| matches!(told, [_, _, LiveChange::Alert(last)] if *last == seen));
    let [LiveChange::Presence(device, state), LiveChange::Command(last), LiveChange::Alert(acknowledged)] = &told[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!((device, state.connection), (&id("live-1"), Connection::Online));
    assert_eq!((last, acknowledged), (&sent, &seen));
    store.commit(&presence("live-1", Connection::Offline)).unwrap();
    let told = look(store, &mut place, |told| !told.is_empty());
    assert!(
        matches!(&told[..], [LiveChange::Presence(_, state)] if state.connection == Connection::Offline),
        "{told:?}"
    );
}

fn nothing_is_told_of_what_did_not_change_or_is_gone(store: &dyn Store) {
    for device in ["live-2", "live-3"] {
        create(store, &new_device(device));
    }
    let mut place = store.live_end().unwrap();
    store.commit(&presence("live-2", Connection::Unknown)).unwrap();
    store.commit(&presence("live-2", Connection::Online)).unwrap();
    store.commit(&presence("live-2", Connection::Online)).unwrap();
    let new = NewAlert { alert_type: "door".into(), severity: "info".into(), message: String::new() };
    let alert = store.create_alert(&id("live-2"), &new, T).unwrap().unwrap();
    for by in ["me", "you"] {
        store.acknowledge_alert(alert.id, by, at(2)).unwrap();
    }
    store.create_alert(&id("live-3"), &new, T).unwrap().unwrap();
    store.delete_device(&id("live-3"), true).unwrap();
    store.commit(&presence("live-2", Connection::Offline)).unwrap();
    let is_last = |change: &LiveChange| matches!(change, LiveChange::Presence(_, state) if state.connection == Connection::Offline);
    let is_alert = |change: &LiveChange| matches!(change, LiveChange::Alert(_));
    let told = walk(store, &mut place, 2, |told| told.iter().any(is_last) && told.iter().any(is_alert));
    let is_of_others = |change: &LiveChange| match change {
        LiveChange::Presence(device, _) => *device != id("live-2"),
        LiveChange::Alert(alert) => alert.device_id != id("live-2"),
        LiveChange::Command(_) => true,
    };
    assert!(!told.iter().any(is_of_others), "{told:?}");
    let alerts = told.iter().filter(|change| is_alert(change)).count();
    assert!((1..=2).contains(&alerts), "raised, and acknowledged once: {told:?}");
    assert_eq!(store.trim_live(place).unwrap(), 0, "all of it is new");
}

/// On a store that `age`s by an hour what it has.
pub(in crate::store) fn what_is_old_is_forgotten_when_it_could_be_read(store: &dyn Store, age: impl FnOnce()) {
    create(store, &new_device("live-4"));
    let mut place = store.live_end().unwrap();
    let before = place;
    store.commit(&presence("live-4", Connection::Online)).unwrap();
    age();
    assert_eq!(store.trim_live(before).unwrap(), 0, "it lies behind what was read");
    assert_eq!(look(store, &mut place, |told| !told.is_empty()).len(), 1);
    assert!(place > before);
    assert_eq!(store.trim_live(place).unwrap(), 1);
    assert!(store.live_changes(before, 500).unwrap().changes.is_empty());
    store.commit(&presence("live-4", Connection::Offline)).unwrap();
    assert_eq!(look(store, &mut place, |told| !told.is_empty()).len(), 1, "what comes then is told");
}

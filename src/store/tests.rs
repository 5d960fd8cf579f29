//! What every database must do, as one set of tests: [`suite`] runs on an empty store of any kind.

mod access;
mod certificates;
mod enrolment;
pub(super) mod live;
mod nodes;
mod outbox;
mod paging;
mod registry;
mod rollouts;
mod rollups;
pub(super) mod rules;
mod sessions;
mod takeover;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::domain::alert::AlertKind;
use crate::domain::device::{Intervals, Latest};
use crate::domain::metric::Known;
use crate::domain::presence::Connection;
use crate::domain::rule::{Holding, RuleId};
use crate::domain::sequence::{Gap, MAX_OPEN_GAPS, SequenceState};
use crate::domain::{Metric, Registration, Sequence, Telemetry};

const T: Timestamp = Timestamp(1_770_890_400_000_000);
const ALL: Page = Page::offset(0, 500);

fn counted<T>(items: Vec<T>, total: u64) -> Listing<T> {
    Listing { items, total: Some(total), next: None }
}

/// Every promise of [`Store`], each with devices of its own name.
pub(super) fn suite(store: &dyn Store) {
    a_batch_is_stored_once_and_moves_the_checkpoint(store);
    states_come_back_whole(store);
    only_the_newest_open_gaps_are_followed(store);
    many_ids_are_asked_for_at_once(store);
    a_registration_in_a_batch_leaves_an_existing_device_alone(store);
    telemetry_is_read_in_order_and_until_the_reader_stops(store);
    a_long_range_is_read_whole_however_dense_it_is(store);
    the_ledger_shows_gaps_by_time(store);
    events_are_listed_newest_first(store);
    registry::devices_are_created_changed_and_found(store);
    registry::devices_are_filtered(store);
    registry::many_devices_are_created_at_once_or_none(store);
    deleting_keeps_or_purges_the_data(store);
    registry::alerts_open_once_and_are_acknowledged_once(store);
    registry::a_new_loss_is_an_alert_of_its_own_once_the_one_before_was_seen(store);
    registry::commands_advance_as_their_states_allow(store);
    registry::a_confirmed_configuration_becomes_the_registrations_intervals(store);
    registry::commands_expire_and_time_out(store);
    registry::credentials_are_kept_as_digests(store);
    paging::a_walk_gives_every_row_that_stays_once_whatever_comes_and_goes(store);
    old_rows_are_trimmed_in_parts(store);
    sessions::a_session_comes_back_as_it_was_last_saved(store);
    sessions::an_ended_session_goes_with_its_messages(store);
    sessions::a_topic_has_the_retained_message_saved_last(store);
    sessions::a_save_that_fails_leaves_nothing_half_done(store);
    sessions::a_large_save_that_fails_is_cut_between_sessions(store);
    access::the_last_use_of_a_key_is_the_latest_that_was_noted(store);
    access::a_session_shows_its_key_as_it_is_now_and_ends(store);
    access::an_actor_keeps_so_many_sessions_and_none_that_is_over(store);
    access::the_audit_log_is_one_chain_found_by_who_what_and_when(store);
    access::a_trimmed_audit_log_is_still_a_chain(store);
    certificates::a_certificate_is_found_listed_and_revoked_once(store);
    certificates::what_was_renewed_is_not_expiring(store);
    certificates::a_certificate_nobody_knows_is_revoked_by_its_serial_alone(store);
    certificates::every_right_taken_away_is_told_in_order(store);
    certificates::a_device_that_has_changed_is_not_removed_by_who_has_read_it_before(store);
    certificates::only_an_active_device_is_issued_one_and_only_so_many(store);
    certificates::a_device_that_is_removed_while_it_renews_leaves_no_good_certificate(store);
    enrolment::all(store);
    outbox::all(store);
    rollups::all(store);
    live::all(store);
    nodes::all(store);
    rollouts::all(store);
    rules::all(store);
    takeover::all(store);
    store.ping().unwrap();
}

pub(super) fn id(text: &str) -> DeviceId {
    DeviceId::parse(text).unwrap()
}

pub(super) fn at(seconds: i64) -> Timestamp {
    T.plus_us(seconds * 1_000_000)
}

pub(super) fn row(device: &str, second: i64, seq: u32) -> TelemetryRow {
    let mut values = Telemetry::default();
    for slot in -1..=0 {
        values.push(slot * 1_000_000, Metric::Known(Known::VoltageDc), Some("V"), 750.1 + f64::from(seq));
        values.push(slot * 1_000_000, Metric::Known(Known::CurrentDc), Some("A"), -0.3);
    }
    let received_at = at(second).plus(Duration::from_millis(300));
    TelemetryRow { device: id(device), ts: at(second), seq: Sequence::Counted(seq), received_at, values }
}

fn event(device: &str, second: i64, seq: u32, kind: &str) -> EventRow {
    EventRow {
        device: id(device),
        ts: at(second),
        seq: Sequence::Counted(seq),
        received_at: at(second),
        kind: kind.into(),
        body: json!({ "uptime_s": second }),
    }
}

pub(super) fn new_device(device: &str) -> NewDevice {
    NewDevice {
        device_id: id(device),
        device_name: format!("Meter {device}"),
        device_type: "dc750".into(),
        location: None,
        is_active: true,
        metadata: serde_json::Map::new(),
        token_sha256: None,
    }
}

fn create(store: &dyn Store, new: &NewDevice) -> Device {
    match store.create_device(new, T).unwrap() {
        Outcome::Done(device) => device,
        Outcome::Conflict => panic!("{:?} is taken", new.device_id),
    }
}

pub(super) fn scan(store: &dyn Store, device: &str, from: i64, to: i64) -> Vec<TelemetryRow> {
    let mut rows = Vec::new();
    let mut each = |row| {
        rows.push(row);
        ControlFlow::Continue(())
    };
    store.scan_telemetry(&id(device), at(from), at(to), &mut each).unwrap();
    rows
}

fn state_of(store: &dyn Store, device: &str) -> Option<DeviceState> {
    store.device_states(&[id(device)]).unwrap().pop().map(|(_, state)| state)
}

fn a_batch_is_stored_once_and_moves_the_checkpoint(store: &dyn Store) {
    assert_eq!(store.checkpoint().unwrap(), None);
    assert_eq!(store.durable_checkpoint().unwrap(), None);
    let telemetry = vec![row("once", 10, 1), row("once", 10, 2), row("once", 10, 1)];
    let events = vec![event("once", 1, 0, "hello")];
    let batch = Batch { checkpoint: Some(7), telemetry, events, ..Batch::default() };
    assert_eq!(store.commit(&batch).unwrap(), Committed { telemetry: 2, events: 1, duplicates: 1 });
    let mut changed = row("once", 10, 2);
    changed.values.series[0].values[0] = 1.0;
    let telemetry = vec![changed, row("once", 40, 2)];
    let batch = Batch { checkpoint: Some(9), telemetry, events: batch.events, ..Batch::default() };
    assert_eq!(store.commit(&batch).unwrap(), Committed { telemetry: 1, events: 0, duplicates: 2 });
    assert_eq!(scan(store, "once", 0, 99), [row("once", 10, 1), row("once", 10, 2), row("once", 40, 2)]);
    store.commit(&Batch::default()).unwrap();
    assert_eq!(store.checkpoint().unwrap(), Some(9));
    assert_eq!(store.durable_checkpoint().unwrap(), Some(9));
}

fn gap(first: u32, after: i64, missing: &[(u32, u32)]) -> Gap {
    Gap { first, last: first.wrapping_add(2), after: at(after), before: at(after + 4), missing: missing.to_vec() }
}

/// A ledger entry that was found, or last changed, in that second.
fn entry(device: &str, gap: Gap, second: i64) -> (DeviceId, GapEntry) {
    let filled_at = gap.is_filled().then_some(at(second));
    (id(device), GapEntry { gap, detected_at: at(second), filled_at })
}

fn states_come_back_whole(store: &dyn Store) {
    let latest = |value: f64, unit: Option<&str>| Latest { ts: at(3), value, unit: unit.map(Into::into) };
    let open = vec![gap(u32::MAX, 1, &[(u32::MAX, 0)]), gap(8, 5, &[(8, 8), (10, 10)])];
    let state = DeviceState {
        registration: None,
        sequence: SequenceState {
            head: Some((u32::MAX, at(9))),
            reboots: 3,
            open: open.clone(),
            ..SequenceState::default()
        },
        connection: Connection::Online,
        last_seen: Some(at(10)),
        heard: Default::default(),
        fw_version: Some("1.2".into()),
        doubtful_fw: None,
        latest: BTreeMap::from([
            (Metric::parse("voltage_dc").unwrap(), latest(0.1 + 0.2, None)),
            (Metric::parse("x.y").unwrap(), latest(-5e-324, Some("\"µ\""))),
        ]),
        span_us: 9_000_000,
        rules: BTreeMap::from([
            (RuleId(7), Holding { generation: 9, since: at(1), is_firing: true }),
            (RuleId(11), Holding { generation: 11, since: at(-2), is_firing: false }),
        ]),
    };
    let gaps = open.iter().map(|gap| entry("state", gap.clone(), 10)).collect();
    let states = vec![(id("state"), state.clone())];
    store.commit(&Batch { states, gaps, ..Batch::default() }).unwrap();
    assert_eq!(state_of(store, "state"), Some(state.clone()));
    assert!(store.online_devices().unwrap().contains(&(id("state"), state.clone())));
    assert_eq!(state_of(store, "never-heard-of"), None);
    create(store, &new_device("state"));
    let registration =
        Some(Registration { is_active: true, intervals: Intervals::default(), device_type: "dc750".into() });
    let state = DeviceState { registration: registration.clone(), connection: Connection::Offline, ..state };
    store.commit(&Batch { states: vec![(id("state"), state.clone())], ..Batch::default() }).unwrap();
    assert_eq!(state_of(store, "state"), Some(state));
    assert!(store.online_devices().unwrap().iter().all(|(device, _)| *device != id("state")));
    create(store, &new_device("silent"));
    assert_eq!(state_of(store, "silent"), Some(DeviceState { registration, ..DeviceState::default() }));
}

fn only_the_newest_open_gaps_are_followed(store: &dyn Store) {
    let all: Vec<Gap> = (0..200u32).map(|n| gap(n * 10, i64::from(n), &[(n * 10, n * 10)])).collect();
    let gaps = all.iter().map(|gap| entry("holes", gap.clone(), 0)).collect();
    let states = vec![(id("holes"), DeviceState::default())];
    store.commit(&Batch { gaps, states, ..Batch::default() }).unwrap();
    let open = state_of(store, "holes").unwrap().sequence.open;
    assert_eq!(open, all[200 - MAX_OPEN_GAPS..]);
}

fn many_ids_are_asked_for_at_once(store: &dyn Store) {
    let states: Vec<_> = (0..40_000).map(|n| (id(&format!("many-{n}")), DeviceState::default())).collect();
    let ids: Vec<_> = states.iter().map(|(device, _)| device.clone()).collect();
    store.commit(&Batch { states, ..Batch::default() }).unwrap();
    assert_eq!(store.device_states(&ids).unwrap().len(), ids.len());
}

fn a_registration_in_a_batch_leaves_an_existing_device_alone(store: &dyn Store) {
    create(store, &new_device("old"));
    let renamed = NewDevice { device_name: "other".into(), is_active: false, ..new_device("old") };
    let batch = Batch {
        registrations: vec![renamed, new_device("fresh")],
        telemetry: vec![row("fresh", 20, 1)],
        states: vec![(id("fresh"), DeviceState { connection: Connection::Online, ..DeviceState::default() })],
        alerts: vec![raise("fresh", 20)],
        ..Batch::default()
    };
    store.commit(&batch).unwrap();
    assert_eq!(store.device(&id("old")).unwrap().unwrap().device_name, "Meter old");
    let fresh = store.device(&id("fresh")).unwrap().unwrap();
    assert_eq!((fresh.connection, fresh.created_at), (Connection::Online, row("fresh", 20, 1).received_at));
    assert!(state_of(store, "fresh").unwrap().registration.is_some());
    assert_eq!(alerts_of(store, "fresh", None).len(), 1);
}

fn telemetry_is_read_in_order_and_until_the_reader_stops(store: &dyn Store) {
    let mut odd = row("series", 3, 0);
    odd.seq = Sequence::Digest(1 << 63 | 5);
    odd.values = Telemetry { flagged: 2, dropped: 1, ..Telemetry::default() };
    odd.values.push(0, Metric::parse("a.b-c").unwrap(), None, -0.0);
    odd.values.push(0, Metric::Known(Known::Battery), Some("mV"), 1e300);
    let mut telemetry: Vec<_> = (0..1203u32).rev().map(|n| row("series", i64::from(n / 3), n)).collect();
    telemetry.push(odd.clone());
    store.commit(&Batch { telemetry, ..Batch::default() }).unwrap();
    let rows = scan(store, "series", 0, 1000);
    assert_eq!(rows.len(), 1204);
    assert!(rows.is_sorted_by_key(|row| (row.ts, row.seq.to_i64())));
    assert_eq!(scan(store, "series", 3, 4)[0], odd, "a digest sorts before the counted ones");
    assert_eq!(scan(store, "series", 2, 4).len(), 7, "from is in, to is out");
    assert_eq!(scan(store, "nobody", 0, 1000), []);
    let mut seen = 0;
    let mut each = |_| {
        seen += 1;
        if seen == 600 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    store.scan_telemetry(&id("series"), at(0), at(1000), &mut each).unwrap();
    assert_eq!(seen, 600);
}

fn a_long_range_is_read_whole_however_dense_it_is(store: &dyn Store) {
    const DAY: i64 = 86_400;
    const HOUR: i64 = 3600;
    let mut telemetry: Vec<_> = (0..4500).map(|n| row("dense", n, n as u32)).collect();
    telemetry.extend((0..3).map(|n| row("dense", 21 * DAY, n)));
    telemetry.extend((0..2500).map(|n| row("dense", 22 * DAY + HOUR, n)));
    telemetry.extend((0..12).map(|n| row("dense", 23 * DAY + n * 7 * HOUR, 5)));
    telemetry.extend((0..4200).map(|n| row("dense", 27 * DAY + n / 20, n as u32)));
    store.commit(&Batch { telemetry: telemetry.clone(), ..Batch::default() }).unwrap();
    for (from, to) in [(0, 40 * DAY), (-400 * DAY, 400 * DAY), (4000, 22 * DAY + HOUR), (22 * DAY, 27 * DAY + 100)] {
        let expected: Vec<_> =
            telemetry.iter().filter(|row| at(from) <= row.ts && row.ts < at(to)).map(|row| (row.ts, row.seq)).collect();
        let read: Vec<_> = scan(store, "dense", from, to).iter().map(|row| (row.ts, row.seq)).collect();
        assert!(read == expected, "{from}..{to}: {} rows, not {}", read.len(), expected.len());
    }
    for most in [1, 400, 401, 2300, 4500, 7000, 9000] {
        let mut read = Vec::new();
        let mut each = |row: TelemetryRow| {
            read.push((row.ts, row.seq));
            if read.len() == most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        store.scan_telemetry(&id("dense"), at(0), at(40 * DAY), &mut each).unwrap();
        assert!(read.iter().copied().eq(telemetry.iter().take(most).map(|row| (row.ts, row.seq))), "{most}");
    }
}

fn the_ledger_shows_gaps_by_time(store: &dyn Store) {
    let change = |gap: Gap, second| entry("ledger", gap, second);
    let commit = |gaps| store.commit(&Batch { gaps, ..Batch::default() }).unwrap();
    // Not in the order of their names.
    commit(vec![change(gap(50, 100, &[(50, 52)]), 110), change(gap(5, 10, &[(5, 7)]), 20)]);
    commit(vec![change(gap(5, 10, &[(6, 6)]), 30)]);
    commit(vec![change(gap(5, 10, &[]), 40)]);
    commit(vec![change(gap(5, 10, &[]), 50)]);
    let list = |from, to, page| store.gaps(&id("ledger"), at(from), at(to), page).unwrap();
    let filled = GapEntry { gap: gap(5, 10, &[]), detected_at: at(20), filled_at: Some(at(40)) };
    let open = GapEntry { gap: gap(50, 100, &[(50, 52)]), detected_at: at(110), filled_at: None };
    assert_eq!(list(0, 200, ALL), counted(vec![open.clone(), filled.clone()], 2));
    assert_eq!(list(0, 200, Page::offset(1, 1)), counted(vec![filled.clone()], 2));
    assert_eq!(list(14, 100, ALL), counted(vec![filled], 1));
    assert_eq!(list(103, 104, ALL), counted(vec![open], 1));
}

fn events_are_listed_newest_first(store: &dyn Store) {
    let events = vec![event("talker", 1, 1, "hello"), event("talker", 3, 3, "status"), event("talker", 2, 2, "hello")];
    store.commit(&Batch { events: events.clone(), ..Batch::default() }).unwrap();
    let list = |kind, page| store.events(&id("talker"), kind, page).unwrap();
    let [a, c, b] = <[EventRow; 3]>::try_from(events).unwrap();
    assert_eq!(list(None, ALL), counted(vec![c, b.clone(), a.clone()], 3));
    assert_eq!(list(Some("hello"), ALL), counted(vec![b, a.clone()], 2));
    assert_eq!(list(Some("hello"), Page::offset(1, 5)), counted(vec![a], 2));
    assert_eq!(store.events(&id("nobody"), None, ALL).unwrap().total, Some(0));
}

fn deleting_keeps_or_purges_the_data(store: &dyn Store) {
    let fill = |device: &str| {
        create(store, &new_device(device));
        let batch = Batch {
            telemetry: vec![row(device, 1, 1)],
            events: vec![event(device, 2, 2, "hello")],
            states: vec![(id(device), DeviceState { span_us: 5, ..DeviceState::default() })],
            gaps: vec![entry(device, gap(3, 1, &[(3, 3)]), 3)],
            alerts: vec![raise(device, 4)],
            ..Batch::default()
        };
        store.commit(&batch).unwrap();
        store.create_command(&registry::new_command(device, "reboot", json!({}))).unwrap().unwrap();
        store.set_device_token(&id(device), Some([1; 32])).unwrap();
    };
    for purge in [false, true] {
        let device = if purge { "purged" } else { "removed" };
        fill(device);
        assert!(store.delete_device(&id(device), purge).unwrap());
        assert!(!store.delete_device(&id(device), purge).unwrap());
        assert_eq!(store.device(&id(device)).unwrap(), None);
        assert_eq!(state_of(store, device), None);
        assert!(store.device_credential(&id(device)).unwrap().is_none());
        assert_eq!(alerts_of(store, device, None), []);
        let of_device = CommandFilter { device: Some(id(device)), status: None };
        assert_eq!(store.commands(&of_device, ALL).unwrap().total, Some(0));
        create(store, &new_device(device));
        assert!(store.device_credential(&id(device)).unwrap().unwrap().token_sha256.is_none());
        let span = || state_of(store, device).unwrap().span_us;
        assert_eq!(span(), if purge { 0 } else { 5 }, "and finds the samples in them");
        for span_us in [2, 7] {
            let state = DeviceState { span_us, ..DeviceState::default() };
            store.commit(&Batch { states: vec![(id(device), state)], ..Batch::default() }).unwrap();
            assert_eq!(span(), if purge { span_us } else { span_us.max(5) });
        }
        let kept = usize::from(!purge);
        assert_eq!(scan(store, device, 0, 9).len(), kept, "a device registered again sees its old data");
        assert_eq!(store.events(&id(device), None, ALL).unwrap().items.len(), kept);
        assert_eq!(store.gaps(&id(device), at(0), at(9), ALL).unwrap().items.len(), kept);
    }
}

fn raise(device: &str, second: i64) -> AlertChange {
    AlertChange::Raise {
        device: id(device),
        kind: AlertKind::DeviceOffline,
        message: format!("silent since {second}"),
        at: at(second),
    }
}

fn alerts_of(store: &dyn Store, device: &str, is_open: Option<bool>) -> Vec<Alert> {
    let filter = AlertFilter { device: Some(id(device)), is_open, ..AlertFilter::default() };
    store.alerts(&filter, ALL).unwrap().items
}

fn old_rows_are_trimmed_in_parts(store: &dyn Store) {
    const DAY_S: i64 = 86_400;
    // Midnights, a day apart: some stores keep days apart, and these drop whole ones only.
    let old = |day: i64| {
        Timestamp(T.0.div_euclid(DAY_S * 1_000_000) * DAY_S * 1_000_000).plus_us((day - 30) * DAY_S * 1_000_000)
    };
    let telemetry = (0..10).map(|n| TelemetryRow { ts: old(n), ..row("aged", n, 1) }).collect();
    let events = (0..10).map(|n| EventRow { ts: old(n), ..event("aged", n, 2, "hello") }).collect();
    store.commit(&Batch { telemetry, events, ..Batch::default() }).unwrap();
    let reach = || store.reach(&id("aged")).unwrap();
    assert_eq!(store.trim(old(0), 10).unwrap(), 0);
    assert_eq!(reach(), Reach::default(), "nothing was taken");
    assert_eq!(store.trim(old(8), 10).unwrap(), 10);
    assert_eq!(reach().trimmed_before, Some(old(8)), "said with the first rows that go");
    assert_eq!(store.trim(old(8), 10).unwrap(), 6);
    assert_eq!(store.trim(old(7), 10).unwrap(), 0);
    assert_eq!(reach().trimmed_before, Some(old(8)), "it never goes back");
    for (noted, kept) in [(5, 5), (3, 5), (6, 6)] {
        store.note_purge(&id("aged"), at(noted)).unwrap();
        assert_eq!(reach().purged_at, Some(at(kept)));
    }
    assert_eq!(store.reach(&id("another")).unwrap().purged_at, None);
    assert_eq!(store.trim(old(8), 10).unwrap(), 0);
    assert_eq!(store.events(&id("aged"), None, ALL).unwrap().total, Some(2));
    assert_eq!(scan(store, "aged", -40 * DAY_S, 0).len(), 2);
    // Of alerts only those that are over or seen go.
    store.create_device(&new_device("aged"), old(0)).unwrap();
    let alert =
        |message: &str| NewAlert { alert_type: "door".into(), severity: "info".into(), message: message.into() };
    let seen = store.create_alert(&id("aged"), &alert("seen"), old(0)).unwrap().expect("a device");
    store.create_alert(&id("aged"), &alert("unseen"), old(0)).unwrap();
    store.acknowledge_alert(seen.id, "me", old(1)).unwrap();
    assert_eq!(store.trim(old(8), 10).unwrap(), 1);
    let left: Vec<String> = alerts_of(store, "aged", None).into_iter().map(|a| a.message).collect();
    assert_eq!(left, ["unseen"]);
    store.delete_device(&id("aged"), true).unwrap();
}

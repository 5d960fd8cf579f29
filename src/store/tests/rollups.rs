//! Rollups: what is late is marked, what is marked is done again, and nobody writes over what somebody else has written.

use super::*;

const HOUR_S: i64 = 3600;
/// The midnight before T, in seconds from it.
const MIDNIGHT_S: i64 = -10 * HOUR_S;

/// Each promise, on devices of its own.
pub(super) fn all(store: &dyn Store) {
    late_rows_mark_their_hours_and_others_none(store);
    a_mark_that_has_moved_on_stays(store);
    who_comes_second_writes_nothing(store);
    what_the_archive_alone_has_is_left_to_samples(store);
    rollups_go_with_a_purge_and_by_their_own_retention(store);
}

fn say(store: &dyn Store, device: &str, second: i64, seq: u32) {
    let states = vec![(id(device), DeviceState { span_us: 1_000_000, ..DeviceState::default() })];
    let batch = Batch { telemetry: vec![row(device, second, seq)], states, ..Batch::default() };
    assert_eq!(store.commit(&batch).unwrap().telemetry, 1);
}

fn work_of(store: &dyn Store, device: &str) -> Vec<RollupWork> {
    store.rollup_work(100_000).unwrap().into_iter().filter(|work| work.device == id(device)).collect()
}

fn body(work: &RollupWork, level: i16, start: Timestamp, text: &str) -> Rolled {
    let row = RollupRow { level, start, metric: "voltage_dc".into(), body: text.into() };
    Rolled { rows: vec![row], ..Rolled::of(work) }
}

/// Rolls up all there is of a device, without rows.
fn settle(store: &dyn Store, device: &str) {
    while let Some(work) = work_of(store, device).pop() {
        assert_eq!(store.roll_up(&[Rolled::of(&work)]).unwrap(), 1);
    }
}

fn page(store: &dyn Store, device: &str) -> RollupPage {
    store.rollups(&id(device), 60, None, at(MIDNIGHT_S), at(MIDNIGHT_S + 48 * HOUR_S)).unwrap()
}

fn late_rows_mark_their_hours_and_others_none(store: &dyn Store) {
    say(store, "rolled", 0, 1);
    assert_eq!(page(store, "rolled"), RollupPage::none());
    store.finish_hours(at(HOUR_S)).unwrap();
    store.finish_hours(at(0)).unwrap();
    let work = work_of(store, "rolled").remove(0);
    let expected = (at(MIDNIGHT_S), 0x7ff, Some(at(HOUR_S)), None, 1_000_000);
    assert_eq!((work.day, work.hours, work.rolled_until, work.mark, work.span_us), expected, "from its first day on");
    assert_eq!(store.roll_up(&[body(&work, 60, at(0), "ten")]).unwrap(), 1);
    assert_eq!(work_of(store, "rolled"), []);
    assert!(page(store, "rolled").is_good(at(0)) && !page(store, "rolled").is_good(at(HOUR_S)));
    // Not over yet: nothing is marked.
    say(store, "rolled", HOUR_S + 5, 2);
    assert_eq!(page(store, "rolled").dirty, []);
    // (The row's other sample lies a second before.)
    say(store, "rolled", -HOUR_S, 3);
    let dirty = page(store, "rolled");
    assert_eq!(dirty.dirty, [(at(MIDNIGHT_S), 0b11 << 8)]);
    assert!(dirty.is_good(at(0)) && !dirty.is_good(at(-HOUR_S)) && !dirty.is_good(at(-2 * HOUR_S)));
    // What is stored already is no news.
    assert_eq!(
        store.commit(&Batch { telemetry: vec![row("rolled", 0, 1)], ..Batch::default() }).unwrap().duplicates,
        1
    );
    assert_eq!(page(store, "rolled").dirty, dirty.dirty);
    let work = work_of(store, "rolled").remove(0);
    assert_eq!((work.hours, work.rolled_until, work.day_rows.len()), (0b11 << 8, None, 0));
    assert_eq!(store.roll_up(&[body(&work, 3600, at(MIDNIGHT_S), "day")]).unwrap(), 1);
    let page = page(store, "rolled");
    assert_eq!((page.dirty.len(), page.rows.len()), (0, 1));
    assert_eq!(page.rows[0], RollupRow { level: 60, start: at(0), metric: "voltage_dc".into(), body: "ten".into() });
    let of = |metric: &str, from: i64| {
        let metrics = [metric.to_owned(), "=active_power".to_owned()];
        let page = store.rollups(&id("rolled"), 60, Some(&metrics), at(from), at(HOUR_S)).unwrap();
        page.rows.len()
    };
    assert_eq!([of("voltage_dc", 0), of("voltage_dc", 1), of("pf", 0)], [1, 0, 0]);
    // The next work knows the day as it is.
    say(store, "rolled", -HOUR_S + 9, 4);
    assert_eq!(work_of(store, "rolled")[0].day_rows, [("voltage_dc".to_owned(), b"day".to_vec())]);
}

fn a_mark_that_has_moved_on_stays(store: &dyn Store) {
    say(store, "moving", 0, 1);
    settle(store, "moving");
    say(store, "moving", 60, 2);
    let seen = work_of(store, "moving").remove(0);
    say(store, "moving", 120, 3);
    assert_eq!(store.roll_up(&[Rolled::of(&seen)]).unwrap(), 1);
    assert!(!page(store, "moving").is_good(at(0)), "something came between looking and writing");
    let again = work_of(store, "moving").remove(0);
    assert_ne!(again.mark, seen.mark);
    assert_eq!(store.roll_up(&[Rolled::of(&again)]).unwrap(), 1);
    assert!(page(store, "moving").is_good(at(0)));
}

fn who_comes_second_writes_nothing(store: &dyn Store) {
    say(store, "second", 0, 1);
    let (one, other) = (work_of(store, "second").remove(0), work_of(store, "second").remove(0));
    assert_eq!(store.roll_up(&[body(&one, 60, at(0), "one")]).unwrap(), 1);
    assert_eq!(store.roll_up(&[body(&other, 60, at(0), "other")]).unwrap(), 0);
    assert_eq!(page(store, "second").rows[0].body, b"one");
}

fn what_the_archive_alone_has_is_left_to_samples(store: &dyn Store) {
    for device in ["taken-over", "beside"] {
        say(store, device, 0, 1);
        let work = work_of(store, device).remove(0);
        assert_eq!(store.roll_up(&[body(&work, 60, at(0), "ten")]).unwrap(), 1);
        settle(store, device);
        assert!(page(store, device).is_good(at(0)));
    }
    let (day_s, others) = (24 * HOUR_S, page(store, "beside"));
    let before = page(store, "taken-over").kept_from;
    let note = |newest_s: i64| {
        let measured = [(id("taken-over"), at(newest_s)), (id("never-heard-of"), at(newest_s))];
        store.note_archive_only(at(-400 * day_s), &measured).unwrap();
        page(store, "taken-over")
    };
    let long_ago = note(-500 * day_s);
    assert!(long_ago.is_good(at(0)) && before <= long_ago.kept_from && long_ago.kept_from < at(0));
    // To the last moment of a day, and from its first on.
    assert_eq!(note(MIDNIGHT_S - 1).kept_from, at(MIDNIGHT_S));
    assert!(page(store, "taken-over").is_good(at(0)));
    let today = note(MIDNIGHT_S);
    assert_eq!(today.kept_from, at(MIDNIGHT_S + day_s));
    assert!(!today.is_good(at(0)) && today.rows.len() == 1);
    assert_eq!(note(-500 * day_s), today, "what is known already stays");
    assert_eq!(page(store, "beside"), others, "nobody else's");
    assert_eq!(work_of(store, "taken-over"), [], "nothing is done again");
    assert!(store.reach(&id("beside")).unwrap().trimmed_before >= Some(at(-400 * day_s)));
}

fn rollups_go_with_a_purge_and_by_their_own_retention(store: &dyn Store) {
    for (device, purge) in [("kept", false), ("gone", true)] {
        create(store, &new_device(device));
        say(store, device, 0, 1);
        let work = work_of(store, device).remove(0);
        assert_eq!(store.roll_up(&[body(&work, 60, at(0), "ten")]).unwrap(), 1);
        say(store, device, 30, 2);
        assert!(store.delete_device(&id(device), purge).unwrap());
        assert_eq!(work_of(store, device), [], "nobody asks for it any more");
        assert_eq!(page(store, device).rows.len(), usize::from(!purge));
        assert_eq!(page(store, device).dirty.len(), usize::from(!purge));
    }
    let figures = store.rollup_figures().unwrap();
    assert!(figures.rolled_until.is_some());
    assert_eq!(store.trim_rollups(at(MIDNIGHT_S), 100).unwrap(), 0);
    let midnight = at(MIDNIGHT_S + 24 * HOUR_S);
    assert!(store.trim_rollups(midnight, 100).unwrap() >= 3);
    let page = page(store, "kept");
    assert_eq!((page.rows.len(), page.dirty.len(), page.kept_from), (0, 0, midnight));
}

//! Objects put together: nothing lost or shown twice, whatever is cut short and whoever reads meanwhile.

use super::*;
use crate::archive::compact::{Done, Upkeep, UpkeepOptions};
use crate::archive::key::{Hour, Listed, standing};
use crate::archive::{Archived, ObjectInfo, Part, messages, objects, verify};
use proptest::prelude::*;
use std::ops::ControlFlow;

/// Long after everything.
const LATE: Timestamp = Timestamp(4_000_000_000_000_000);
const PERIOD: Duration = Duration::from_secs(600);

impl Bench {
    fn upkeep(&self, keep: Option<Duration>) -> Upkeep {
        self.upkeep_of(NODE, keep)
    }

    fn upkeep_of(&self, node: uuid::Uuid, keep: Option<Duration>) -> Upkeep {
        let board = self.board.clone();
        Upkeep::new(UpkeepOptions { node, period: PERIOD, compacts: true, keep, board }, self.bucket())
    }

    pub(super) fn pass(&self) -> std::result::Result<Done, Error> {
        self.pass_at(LATE, None)
    }

    fn pass_at(&self, now: Timestamp, keep: Option<Duration>) -> std::result::Result<Done, Error> {
        let (_stop, stopping) = watch::channel(false);
        self.upkeep(keep).pass(now, &mut None, &stopping)
    }

    /// Puts the objects of an hour together, and removes them.
    fn put_together(&self, hour: i64) {
        let (upkeep, mut done) = (self.upkeep(None), Done::default());
        for _ in 0..2 {
            upkeep.hour(Hour::of(Timestamp(hour * HOUR)), LATE, &mut done).unwrap();
        }
        assert_eq!(done, Done { written: 1, replaced: 3, expired: 0 });
    }

    /// Keys of what is to be read.
    fn standing(&self) -> Vec<String> {
        let listed: Vec<_> = self.runtime.block_on(self.store.list(None).try_collect()).unwrap();
        let mut all: Vec<(String, Listed)> = listed
            .into_iter()
            .map(|meta: ObjectMeta| (meta.location.to_string().rsplit_once('/').unwrap().0.to_owned(), meta))
            .map(|(folder, meta)| (folder, Listed::new(meta).unwrap()))
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        let folders = all.chunk_by(|a, b| a.0 == b.0);
        let stand = folders.flat_map(|each| standing(each.iter().map(|(_, listed)| listed.clone()).collect()).0);
        stand.map(|listed| listed.key.to_string()).collect()
    }

    /// Rows of what is to be read, by offset.
    fn standing_rows(&self) -> Vec<(u64, i64, Vec<u8>)> {
        let mut rows: Vec<_> = self.standing().iter().flat_map(|key| self.rows_of(key)).collect();
        rows.sort_by_key(|row| row.offset);
        rows.into_iter().map(|row| (row.offset, row.received_at, row.payload)).collect()
    }

    /// Every message of a device's telemetry within a range of message times, as the archive gives it.
    fn past(&self, device: &str, from: i64, to: i64) -> Vec<Vec<u8>> {
        let device = DeviceId::parse(device).unwrap();
        let mut past = self.reader().past(&device, Timestamp(from), Timestamp(to)).unwrap();
        let (mut all, mut last) = (Vec::new(), i64::MIN);
        while let Some(mut piece) = past.next_piece().unwrap() {
            piece.sort_by(|a, b| (a.ts, &a.payload).cmp(&(b.ts, &b.payload)));
            assert!(piece[0].ts.0 > last, "pieces follow one another");
            last = piece.last().unwrap().ts.0;
            all.extend(piece.into_iter().map(|message| message.payload.to_vec()));
        }
        all
    }
}

/// As [`Bench::past`] should have it.
fn expected(all: &[Rec], device: &str, from: i64, to: i64) -> Vec<Vec<u8>> {
    let prefix = format!("iot/{device}/telemetry");
    let own = all.iter().filter(|r| r.topic == prefix && (from..to).contains(&(r.at - 1)));
    let mut own: Vec<_> = own.map(|r| (r.at, r.payload.clone())).collect();
    own.sort();
    own.into_iter().map(|(_, payload)| payload).collect()
}

#[test]
fn the_objects_of_a_finished_hour_become_one_and_go_a_period_later() {
    let mut bench = Bench::new(&[]);
    let mut all = Vec::new();
    for minute in 0..8 {
        let records: Vec<_> = (0..5).map(|i| rec(["b", "a"][i % 2], HOUR + minute * 60 + i as i64, i)).collect();
        bench.log.append(&records);
        all.extend(records);
        bench.archive().unwrap();
    }
    assert_eq!(bench.keys().len(), 8);
    let now = Timestamp(2 * HOUR).plus(PERIOD);
    assert_eq!(bench.pass_at(now.plus_us(-1), None).unwrap(), Done::default(), "the hour is not over for so long");
    assert_eq!(bench.pass_at(now, None).unwrap(), Done { written: 1, ..Done::default() });
    assert_eq!((bench.keys().len(), bench.standing().len()), (9, 1));
    assert!(
        bench.standing()[0].ends_with(&format!("-{:020}-{:020}.parquet", HOUR - 1, HOUR + 7 * 60 + 3)),
        "{:?}",
        bench.standing()
    );
    assert_eq!(bench.pass_at(now, None).unwrap(), Done::default(), "it was just written, by the clock of the store");
    assert_eq!(bench.pass().unwrap(), Done { replaced: 8, ..Done::default() });
    assert_eq!(bench.pass().unwrap(), Done::default());
    bench.assert_archived_exactly_once();
    assert_eq!(bench.past("a", 0, 2 * HOUR), expected(&all, "a", 0, 2 * HOUR));
    // A straggler of the same hour, of a clock that was set back.
    bench.log.append(&[rec("a", HOUR + 9, 77)]);
    bench.flush_bytes = 1;
    bench.archive().unwrap();
    assert_eq!(bench.pass().unwrap(), Done { written: 1, ..Done::default() });
    assert_eq!(bench.pass().unwrap(), Done { replaced: 2, ..Done::default() });
    bench.assert_archived_exactly_once();
}

#[test]
fn two_nodes_that_put_the_hour_of_one_that_is_gone_together_at_once_leave_one_object() {
    // More objects than are put together at once.
    const OBJECTS: usize = 100;
    let bench = Bench::new(&[]);
    for number in 0..OBJECTS {
        bench.log.append(&[rec("a", HOUR + number as i64, number)]);
        bench.archive().unwrap();
    }
    let hour = Hour::of(Timestamp(HOUR));
    let [one, other] = [8, 9].map(|node| bench.upkeep_of(uuid::Uuid::from_u128(node), None));
    // Long after the hour, and by the store's clock before any object's period is over.
    let now = Timestamp(240 * HOUR);
    let list = one.ours(hour, now).unwrap();
    assert_eq!(list.len(), OBJECTS);
    let mut done = Done::default();
    // The first writes one whole, the other one lists that and writes its own around it, and the first goes on.
    bench.store.good_puts.store(1, Ordering::SeqCst);
    bench.store.bad_puts.store(1, Ordering::SeqCst);
    let _ = one.work_on(hour, list.clone(), now, &mut done);
    bench.store.bad_puts.store(0, Ordering::SeqCst);
    other.hour(hour, now, &mut done).unwrap();
    one.work_on(hour, list, now, &mut done).unwrap();
    for pass in 0.. {
        assert!(pass < 10, "there is no end of it: {:?}", bench.keys());
        let mut done = Done::default();
        other.hour(hour, LATE, &mut done).unwrap();
        if done == Done::default() {
            break;
        }
    }
    assert_eq!(bench.keys().len(), 1, "{:?}", bench.keys());
    bench.assert_archived_exactly_once();
}

#[test]
fn what_it_is_put_together_from_does_not_matter_to_other_engines() {
    let bench = Bench::new(&[rec("b", HOUR, 0)]);
    bench.archive().unwrap();
    bench.log.append(&[rec("a", HOUR + 7, 1)]);
    bench.archive().unwrap();
    bench.pass().unwrap();
    bench.pass().unwrap();
    let rows = bench.rows_of(&bench.keys()[0]);
    assert_eq!(rows.iter().map(|r| r.device.as_str()).collect::<Vec<_>>(), ["a", "b"], "sorted by device");
}

#[test]
fn a_damaged_object_is_left_alone_and_does_not_keep_other_hours_waiting() {
    let bench = Bench::new(&[]);
    for at in [HOUR, HOUR + 1, 2 * HOUR, 2 * HOUR + 1] {
        bench.log.append(&[rec("a", at, 0)]);
        bench.archive().unwrap();
    }
    let damaged = bench.keys()[0].clone();
    bench.damage(&damaged);
    let error = bench.pass().unwrap_err();
    assert!(matches!(&error, Error::Damaged { key, .. } if *key == damaged), "{error:?}");
    assert!(bench.pass().is_err());
    let hours: Vec<_> = bench.keys().iter().map(|key| key.contains("hour=01")).collect();
    assert_eq!(hours, [true, true, false], "hour 2 is one object");
}

#[test]
fn a_damaged_object_of_an_old_hour_does_not_make_every_pass_one_over_all_days() {
    let bench = Bench::new(&[]);
    for at in [HOUR, HOUR + 1, 2 * HOUR, 2 * HOUR + 1] {
        bench.log.append(&[rec("a", at, 0)]);
        bench.archive().unwrap();
    }
    bench.damage(&bench.keys()[0]);
    let (upkeep, mut seen_all) = (bench.upkeep(None), None);
    let (_stop, stopping) = watch::channel(false);
    let mut check = |now: Timestamp, expected: (bool, usize)| {
        let before = bench.store.lists.load(Ordering::SeqCst);
        let has_failed = upkeep.pass(now, &mut seen_all, &stopping).is_err();
        assert_eq!((has_failed, bench.store.lists.load(Ordering::SeqCst) - before), expected, "{now}");
    };
    // The days, the hours of one of them, and the objects of two of these.
    check(LATE, (true, 4));
    check(LATE.plus(PERIOD), (false, 1));
    check(LATE.plus(DAY), (true, 4));
    // A pass that was cut short is made up for.
    bench.store.is_away.store(true, Ordering::SeqCst);
    check(LATE.plus(DAY * 2), (true, 1));
    bench.store.is_away.store(false, Ordering::SeqCst);
    check(LATE.plus(DAY * 2).plus(PERIOD), (true, 4));
}

#[test]
fn days_past_their_retention_go_whole_and_no_others() {
    let day = 24 * HOUR;
    let bench = Bench::new(&[rec("a", day - 1, 0), rec("a", day, 1), rec("a", 3 * day, 2)]);
    bench.archive().unwrap();
    let keep = Some(DAY * 2);
    let done = bench.pass_at(Timestamp(3 * day - 1), keep).unwrap();
    assert_eq!((done.expired, done.written), (0, 2), "not yet");
    let done = bench.pass_at(Timestamp(3 * day), keep).unwrap();
    assert_eq!(done.expired, 2, "the first day, and what it was put together into");
    assert!(bench.keys().iter().all(|key| !key.contains("date=1970-01-01")), "{:?}", bench.keys());
    assert_eq!(bench.past("a", 0, 5 * day).len(), 2);
}

#[test]
fn what_was_deleted_for_its_age_is_not_archived_again_by_a_journal_that_still_has_it() {
    let day = 24 * HOUR;
    let mut bench = Bench::new(&[rec("a", HOUR, 0), rec("a", day - 1, 1), rec("a", 3 * day, 2)]);
    bench.archive().unwrap();
    bench.keep = Some(DAY * 2);
    assert_eq!(bench.pass_at(Timestamp(3 * day), bench.keep).unwrap(), Done { expired: 2, ..Done::default() });
    let (keys, puts) = (bench.keys(), bench.store.puts.load(Ordering::SeqCst));
    assert_eq!(keys.len(), 1);
    bench.log.clock.set(Timestamp(3 * day));
    bench.archive().unwrap();
    assert_eq!((bench.keys(), bench.store.puts.load(Ordering::SeqCst)), (keys, puts));
    assert_eq!((bench.log.released(), bench.progress.position()), (3, 3));
}

#[test]
fn a_reader_that_listed_before_goes_on_after() {
    let bench = Bench::new(&[]);
    let mut all = Vec::new();
    for hour in 1..5 {
        for nth in 0..3 {
            all.push(rec("a", hour * HOUR + nth, 0));
            bench.log.append(&all[all.len() - 1..]);
            bench.archive().unwrap();
        }
    }
    bench.log.trim(12);
    let device = DeviceId::parse("a").unwrap();
    let mut past = bench.reader().past(&device, Timestamp(0), Timestamp(9 * HOUR)).unwrap();
    let mut count = past.next_piece().unwrap().unwrap().len();
    bench.pass().unwrap();
    assert_eq!(bench.pass().unwrap().replaced, 12);
    while let Some(piece) = past.next_piece().unwrap() {
        count += piece.len();
    }
    assert_eq!(count, all.len());
}

/// The hours 1, 2 and 3, with three objects of a message each.
fn three_hours() -> Bench {
    let bench = Bench::new(&[]);
    for hour in 1..=3 {
        for nth in 0..3 {
            bench.log.append(&[rec("a", hour * HOUR + nth, 0)]);
            bench.archive().unwrap();
        }
    }
    bench
}

#[test]
fn an_archive_is_sound_although_an_hour_is_put_together_while_it_is_verified() {
    for hour in 1..=3 {
        let bench = three_hours();
        let mut is_first = true;
        let mut progress = |_: u64, _: u64| {
            if std::mem::take(&mut is_first) {
                bench.put_together(hour);
            }
        };
        let report = verify(&bench.bucket(), &Part::default(), &mut progress).unwrap();
        assert_eq!((report.faults, report.messages, report.objects), (Vec::new(), 9, 7), "hour {hour}");
    }
}

#[test]
fn messages_of_an_hour_that_is_put_together_while_it_is_read_come_once() {
    for device in [None, DeviceId::parse("a")] {
        let bench = three_hours();
        let part = Part { device, ..Part::default() };
        let mut offsets = Vec::new();
        let mut each = |message: Archived| {
            if offsets.is_empty() {
                bench.put_together(1);
            }
            offsets.push(message.offset);
            ControlFlow::Continue(())
        };
        messages(&bench.bucket(), &part, &mut each).unwrap();
        assert_eq!(offsets, (0..9).collect::<Vec<u64>>(), "{:?}", part.device);
    }
}

#[test]
fn objects_of_an_hour_that_is_put_together_while_they_are_listed_are_those_of_afterwards() {
    let bench = three_hours();
    let bucket = bench.bucket();
    let before = bench.store.gets.load(Ordering::SeqCst);
    // The days, their hours and one object; the second waits.
    let turns = bench.store.limit_turns(3);
    let listing = std::thread::spawn(move || {
        let mut found = Vec::new();
        let mut each = |object: ObjectInfo| {
            found.push((object.messages, object.is_compacted));
            ControlFlow::Continue(())
        };
        objects(&bucket, &Part::default(), &mut each).unwrap();
        found
    });
    wait_until(|| bench.store.gets.load(Ordering::SeqCst) == before + 2);
    *bench.store.turns.lock().unwrap() = None;
    bench.put_together(1);
    turns.add_permits(1);
    let mut expected = vec![(3, true)];
    expected.extend([(1, false); 6]);
    assert_eq!(listing.join().unwrap(), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Each step: records arrive, late by up to days or with the clock set back; the archiver runs, and upkeep is cut short
    /// at some write or removal; then everything is read.
    #[test]
    fn whatever_is_cut_short_when_readers_see_every_record_once(
        steps in prop::collection::vec(
            (prop::collection::vec(-40i64..60, 0..10), 0usize..4, 0usize..6, 0usize..4), 1..7),
        from in 0i64..400, length in 0i64..900,
    ) {
        let bench = Bench::new(&[]);
        let (mut now, mut all) = (1000 * HOUR, Vec::new());
        for (minutes, good_puts, good_deletes, passes) in steps {
            for step in minutes {
                now += step * HOUR / 60;
                all.push(rec(if step % 2 == 0 { "a" } else { "b" }, now, all.len()));
                bench.log.append(&all[all.len() - 1..]);
            }
            bench.archive().unwrap();
            if good_puts > 1 {
                bench.log.trim(bench.log.released());
            }
            for _ in 0..passes {
                bench.store.good_puts.store(good_puts, Ordering::SeqCst);
                bench.store.bad_puts.store(1, Ordering::SeqCst);
                bench.store.good_deletes.store(good_deletes, Ordering::SeqCst);
                bench.store.bad_deletes.store(1, Ordering::SeqCst);
                let _ = bench.pass();
                bench.store.bad_puts.store(0, Ordering::SeqCst);
                bench.store.bad_deletes.store(0, Ordering::SeqCst);
                let (from, to) = (1000 * HOUR + (from - 200) * HOUR / 60, 1000 * HOUR + (from - 200 + length) * HOUR / 60);
                for device in ["a", "b"] {
                    prop_assert_eq!(bench.past(device, from, to), expected(&all, device, from, to));
                }
            }
            let rows: Vec<_> = (0u64..).zip(&all).map(|(o, r)| (o, r.at, r.payload.clone())).collect();
            prop_assert_eq!(bench.standing_rows(), rows);
            for device in ["a", "b"] {
                let prefix = format!("iot/{device}/");
                let own = all.iter().filter(|r| r.topic.starts_with(&prefix)).count();
                prop_assert_eq!(bench.list(device, None, 1000).len(), own);
            }
        }
        while bench.pass().unwrap() != Done::default() {}
        let hours: std::collections::BTreeSet<_> = all.iter().map(|r| Hour::of(Timestamp(r.at))).collect();
        prop_assert_eq!(bench.keys().len(), hours.len(), "one object an hour in the end");
        // A restart finds its place among what was put together.
        bench.archive().unwrap();
        bench.assert_archived_exactly_once_since(&all);
    }
}

//! Archive and journal as one list.

use super::*;
use crate::archive::object::footers;
use crate::archive::reader::READS;
use crate::archive::tail::Wanted;
use crate::archive::walk::{Budget, Newest, Shelf};

/// Ten minutes of two devices, the second twice as talkative, hello every fifth.
fn records(minutes: i64) -> Vec<Rec> {
    let minute = HOUR / 60;
    let mut records = Vec::new();
    for m in 0..minutes {
        for (device, second) in [("a", 0), ("b", 10), ("b", 20)] {
            let mut record = rec(device, 500 * HOUR + m * minute + second * 1_000_000, records.len());
            if m % 5 == 0 {
                record.topic = format!("iot/{device}/hello");
            }
            records.push(record);
        }
    }
    records
}

fn expected(records: &[Rec], device: &str, category: Option<&str>, limit: usize) -> Vec<Vec<u8>> {
    let fits = |r: &&Rec| {
        r.topic.starts_with(&format!("iot/{device}/")) && category.is_none_or(|c| r.topic.ends_with(&format!("/{c}")))
    };
    records.iter().rev().filter(fits).take(limit).map(|r| r.payload.clone()).collect()
}

fn assert_lists(bench: &Bench, records: &[Rec]) {
    for (device, category, limit) in [
        ("a", None, 7),
        ("a", None, 1000),
        ("b", Some("hello"), 3),
        ("b", Some("telemetry"), 500),
        ("a", Some("invalid"), 5),
        ("nobody", None, 5),
        ("a", None, 0),
    ] {
        let names = bench.list(device, category, limit);
        let found: Vec<_> = names.iter().map(|name| bench.read(device, name).unwrap().1).collect();
        assert_eq!(found, expected(records, device, category, limit), "{device} {category:?} {limit}");
    }
}

#[test]
fn a_listing_is_newest_first_whether_from_journal_or_archive_or_both() {
    let records = records(130);
    let bench = Bench::new(&records[..200]);
    assert_lists(&bench, &records[..200]);
    bench.archive().unwrap();
    assert_lists(&bench, &records[..200]);
    bench.log.append(&records[200..]);
    assert_lists(&bench, &records);
    bench.log.trim(bench.log.released());
    assert_lists(&bench, &records);
    bench.archive().unwrap();
    bench.log.trim(bench.log.released());
    assert_lists(&bench, &records);
}

#[test]
fn a_listing_steps_over_the_hole_of_a_restored_journal() {
    let records = records(130);
    let bench = Bench::new(&records[..200]);
    bench.log.skip_to(journal::LIFE);
    assert_lists(&bench, &records[..200]);
    bench.log.append(&records[200..300]);
    bench.log.skip_to(3 * journal::LIFE);
    assert_lists(&bench, &records[..300]);
    bench.log.append(&records[300..]);
    assert_lists(&bench, &records);
    bench.archive().unwrap();
    assert_lists(&bench, &records);
}

#[test]
fn a_listing_is_newest_first_over_many_objects() {
    let records = records(130);
    let bench = Bench::new(&[]);
    for chunk in records.chunks(17) {
        bench.log.append(chunk);
        bench.archive().unwrap();
    }
    assert!(bench.keys().len() > 20);
    bench.log.trim(bench.log.released());
    assert_lists(&bench, &records);
}

#[test]
fn a_message_keeps_its_name_and_is_shown_once_while_it_moves() {
    let mut records = vec![rec("a", 5, 0), rec("a", 5, 1), rec("b", 5, 2), rec("a", 6, 3)];
    records[3].payload = b"bad".to_vec();
    let bench = Bench::new(&records);
    let names = [
        "a/invalid/1970-01-01T00-00-00.000006Z-3.json",
        "a/telemetry/1970-01-01T00-00-00.000005Z-1.json",
        "a/telemetry/1970-01-01T00-00-00.000005Z-0.json",
    ];
    assert_eq!(bench.list("a", None, 10), names, "only in the journal");
    bench.archive().unwrap();
    bench.progress.set(0, None);
    assert_eq!(bench.list("a", None, 10), names, "in both, not yet released");
    bench.log.trim(2);
    assert_eq!(bench.list("a", None, 10), names, "half of it trimmed meanwhile");
    bench.progress.set(4, None);
    bench.log.trim(4);
    assert_eq!(bench.list("a", None, 10), names, "only in the archive");
    assert_eq!(bench.list("a", Some("invalid"), 10), names[..1]);
    assert_eq!(bench.read("a", names[1]).unwrap().1, b"a:1");
}

#[test]
fn while_the_store_is_away_a_listing_is_answered_where_the_journal_has_enough() {
    let records = records(130);
    let bench = Bench::new(&records[..200]);
    bench.archive().unwrap();
    bench.log.append(&records[200..]);
    bench.store.is_away.store(true, Ordering::SeqCst);
    let reader = bench.reader();
    let list = |device: &str, category: Option<&str>, limit: usize| {
        bench.runtime.block_on(reader.list(&DeviceId::parse(device).unwrap(), category, limit))
    };
    for (device, category) in [("a", None), ("b", Some("telemetry")), ("b", Some("hello")), ("nobody", None)] {
        let held = expected(&records[200..], device, category, 1000);
        for limit in [0, 1, held.len()].into_iter().filter(|limit| *limit <= held.len()) {
            let listed = list(device, category, limit).unwrap().into_iter();
            let found: Vec<_> = listed.map(|entry| bench.read(device, &entry.filename).unwrap().1).collect();
            assert_eq!(found, held[..limit], "{device} {category:?} {limit}");
        }
        // Never a part for the whole.
        let failed = list(device, category, held.len() + 1);
        assert!(matches!(failed, Err(Error::Store { .. })), "{device} {category:?}: {failed:?}");
    }
    bench.store.is_away.store(false, Ordering::SeqCst);
    assert_lists(&bench, &records);
}

/// An archive of many hours, with one object of one message of `b` in each.
fn one_object_an_hour(hours: i64) -> Bench {
    let records: Vec<_> = (0..hours).map(|hour| rec("b", hour * HOUR, 0)).collect();
    let bench = Bench::new(&records);
    bench.archive().unwrap();
    assert_eq!(bench.keys().len(), records.len());
    bench
}

#[test]
fn a_listing_asks_the_store_no_more_often_and_no_longer_than_it_may() {
    const LONG: Duration = DAY;
    let bench = one_object_an_hour(60);
    let bucket = bench.bucket();
    let asked = || bench.store.lists.load(Ordering::SeqCst) + bench.store.gets.load(Ordering::SeqCst);
    let check = |device: &str, budget: &mut Budget<'_>, expected: (usize, usize)| {
        let device = DeviceId::parse(device).unwrap();
        let (footers, before, mut newest) = (footers(), asked(), Newest::new(1000));
        let wanted = Wanted { device: &device, category: None, limit: 1000 };
        Shelf { bucket: &bucket, footers: &footers }.list(wanted, &mut newest, &|_, _| false, budget).unwrap();
        assert_eq!((asked() - before, newest.into_entries().len()), expected, "{device}");
    };
    let always = || true;
    check("nobody", &mut Budget::new(1000, LONG, &always), (1 + 3 + 60 + 60, 0));
    check("nobody", &mut Budget::new(20, LONG, &always), (20, 0));
    // What was found until then: the days, the hours of the last, and nine of these with an object each.
    check("b", &mut Budget::new(20, LONG, &always), (20, 9));
    check("b", &mut Budget::new(1000, Duration::ZERO, &always), (0, 0));
    let left = AtomicUsize::new(4);
    let a_while = || take_one(&left);
    check("b", &mut Budget::new(1000, LONG, &a_while), (4, 1));
}

#[test]
fn who_no_longer_awaits_a_listing_leaves_the_place_to_others() {
    let bench = one_object_an_hour(60);
    let (reader, device) = (bench.reader(), DeviceId::parse("nobody").unwrap());
    let turns = bench.store.limit_turns(0);
    let before = bench.store.lists.load(Ordering::SeqCst);
    let listings: Vec<_> = (0..READS)
        .map(|_| {
            let (reader, device) = (reader.clone(), device.clone());
            bench.runtime.spawn(async move { reader.list(&device, None, 10).await })
        })
        .collect();
    wait_until(|| bench.store.lists.load(Ordering::SeqCst) == before + READS);
    for listing in listings {
        listing.abort();
        assert!(bench.runtime.block_on(listing).unwrap_err().is_cancelled());
    }
    turns.add_permits(READS);
    // It needs a place, and nothing of the store.
    let other = async { tokio::time::timeout(PATIENCE, reader.list(&device, None, 0)).await };
    let listed = bench.runtime.block_on(other);
    // (Whoever still goes on must come to an end.)
    turns.add_permits(10_000);
    assert!(listed.expect("there is a place").unwrap().is_empty());
}

#[test]
fn names_of_nothing_are_none() {
    let bench = Bench::new(&[rec("a", 5, 0), rec("b", 6, 1)]);
    let check = || {
        for name in [
            "a/telemetry/1970-01-01T00-00-00.000005Z-1.json",
            "a/telemetry/1970-01-01T00-00-00.000006Z-1.json",
            "a/hello/1970-01-01T00-00-00.000005Z-0.json",
            "a/telemetry/1970-01-01T00-00-00.000004Z-0.json",
            "a/telemetry/2070-01-01T00-00-00.000005Z-0.json",
            "b/telemetry/1970-01-01T00-00-00.000006Z-1.json",
            "../raw/v1",
            "",
        ] {
            assert_eq!(bench.read("a", name), None, "{name}");
        }
        assert!(bench.read("a", "telemetry/1970-01-01T00-00-00.000005Z-0.json").is_some());
    };
    check();
    bench.archive().unwrap();
    bench.log.trim(2);
    check();
}

#[test]
fn other_nodes_objects_are_listed_and_a_damaged_one_hides_nothing() {
    let bench = Bench::new(&[rec("a", 5, 0)]);
    bench.archive().unwrap();
    let key = bench.keys()[0].clone();
    let copy = async {
        let bytes = bench.store.get(&key.as_str().into()).await?.bytes().await?;
        let folder = "raw/v1/date=1970-01-01/hour=00";
        let end = "-00000000000000000000-00000000000000000000.parquet";
        bench.store.put(&Path::from(format!("{folder}/other{end}")), bytes.into()).await?;
        bench.store.put(&Path::from(format!("{folder}/torn{end}")), vec![0; 100].into()).await?;
        bench.store.put(&Path::from(format!("{folder}/README")), vec![0; 100].into()).await
    };
    bench.runtime.block_on(copy).unwrap();
    assert_eq!(bench.list("a", None, 10).len(), 2);
}

#[test]
fn reading_one_device_fetches_little_of_a_large_object() {
    let noise = |i: usize| {
        let words = (0..100u64).map(|k| (i as u64 * 100 + k).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        words.flat_map(u64::to_le_bytes).collect::<Vec<u8>>()
    };
    let mut records: Vec<_> = (0..20_000).map(|i| rec(&format!("m-{:03}", i % 200), i as i64, i)).collect();
    records.iter_mut().enumerate().for_each(|(i, record)| record.payload = noise(i));
    let mut bench = Bench::new(&records);
    bench.flush_bytes = 64 << 20;
    bench.archive().unwrap();
    bench.log.trim(20_000);
    assert_eq!(bench.keys().len(), 1);
    let spent = |work: &dyn Fn()| {
        let before = bench.store.bytes_read.load(Ordering::SeqCst);
        work();
        bench.store.bytes_read.load(Ordering::SeqCst) - before
    };
    let total = 20_000 * 800;
    let listing = spent(&|| assert_eq!(bench.list("m-007", None, 1000).len(), 100));
    assert!(listing < total / 40, "{listing} of {total}");
    let name = &bench.list("m-199", None, 1)[0];
    let reading = spent(&|| assert_eq!(bench.read("m-199", name).unwrap().1, noise(19_999)));
    assert!(reading < total / 30, "{reading} of {total}");
}

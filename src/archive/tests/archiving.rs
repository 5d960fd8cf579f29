//! Journal → objects: everything, once, whatever fails.

use super::*;
use proptest::prelude::*;

#[test]
fn any_bytes_come_back_exactly_with_their_category_and_reason() {
    let payloads: [Vec<u8>; 5] =
        [vec![], (0..=255).collect(), b"bad\xff\xfe".to_vec(), vec![0; 200_000], b"{\"v\":2}".to_vec()];
    let mut records: Vec<Rec> = (0..5).map(|i| rec("m-1", 1000 + i, 0)).collect();
    for (record, payload) in records.iter_mut().zip(&payloads) {
        record.payload = payload.clone();
    }
    records[4].content_type = "application/json".into();
    let bench = Bench::new(&records);
    bench.archive().unwrap();
    let rows = bench.rows();
    assert_eq!(rows.iter().map(|r| r.payload.clone()).collect::<Vec<_>>(), payloads);
    assert_eq!(rows[2].category, "invalid");
    bench.log.trim(5);
    for (number, name) in bench.list("m-1", None, 10).iter().rev().enumerate() {
        let (content_type, payload) = bench.read("m-1", name).unwrap();
        assert_eq!(payload, payloads[number], "{name}");
        assert_eq!(content_type, if number == 4 { "application/json" } else { "" });
    }
    assert_eq!((bench.log.released(), bench.progress.position(), bench.state()), (5, 5, TaskState::Stopped));
}

#[test]
fn all_columns_are_there_for_other_engines() {
    let mut invalid = rec("m-1", HOUR, 1);
    invalid.payload = b"bad".to_vec();
    let bench = Bench::new(&[rec("m-1", HOUR, 0), invalid]);
    bench.archive().unwrap();
    let key = bench.keys().remove(0);
    let get = async { bench.store.get(&key.as_str().into()).await?.bytes().await };
    let file = SerializedFileReader::new(bench.runtime.block_on(get).unwrap()).unwrap();
    let rows: Vec<String> = file.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string()).collect();
    assert_eq!(
        rows[0],
        "{device_id: \"m-1\", category: \"telemetry\", received_at: 1970-01-01 01:00:00.000000 +00:00, \
         journal_offset: 0, size_bytes: 5, topic: \"iot/m-1/telemetry\", ts: 1970-01-01 00:59:59.999999 +00:00, \
         seq: 5, reason: null, qos: 1, retain: false, content_type: null, \
         node: \"00000000-0000-0000-0000-000000000007\", payload: [109, 45, 49, 58, 48]}"
    );
    assert!(rows[1].contains("ts: null, seq: null, reason: \"malformed\""), "{}", rows[1]);
}

#[test]
fn a_batch_over_an_hour_border_makes_two_objects() {
    let records = [rec("b", HOUR - 2, 0), rec("a", HOUR, 1), rec("a", HOUR - 1, 2), rec("b", HOUR + 1, 3)];
    let bench = Bench::new(&records);
    bench.archive().unwrap();
    let node = NODE.hyphenated();
    assert_eq!(
        bench.keys(),
        [
            format!("raw/v1/date=1970-01-01/hour=00/{node}-{:020}-{:020}.parquet", 0, 2),
            format!("raw/v1/date=1970-01-01/hour=01/{node}-{:020}-{:020}.parquet", 1, 3)
        ]
    );
    bench.assert_archived_exactly_once();
}

#[test]
fn a_batch_is_written_after_its_age_or_at_its_size() {
    let second = 1_000_000;
    let mut bench = Bench::new(&[]);
    bench.log.arrive_later(&[0, 30, 59, 61, 100, 130].map(|s| rec("a", s * second, 0)));
    bench.archive().unwrap();
    assert_eq!(bench.keys().len(), 3, "0, 30, 59 | 61, 100 | 130");
    bench.assert_archived_exactly_once();

    bench = Bench::new(&(0..50).map(|i| rec("a", i, 0)).collect::<Vec<_>>());
    bench.flush_bytes = 1;
    bench.archive().unwrap();
    assert_eq!(bench.keys().len(), 1, "what one read gives is not split");
    bench.assert_archived_exactly_once();
}

#[test]
fn what_a_burst_has_left_is_written_in_the_pause_behind_it() {
    let second = 1_000_000;
    let mut bench = Bench::new(&[]);
    bench.flush_bytes = 16 << 20;
    let large = |s: i64| Rec { payload: vec![7; 600_000], ..rec("a", s * second, 0) };
    let small = |s: i64| rec("a", s * second, 0);
    bench.log.arrive_later(&[large(0), large(9), small(18), small(29), small(50), small(70)]);
    bench.archive().unwrap();
    let ends: Vec<_> =
        bench.keys().iter().map(|key| key[key.len() - 15..key.len() - 8].parse::<u64>().unwrap()).collect();
    assert_eq!(ends, [2, 5], "0, 9, 18 and ten seconds of nothing | the others, which are too few");
    bench.assert_archived_exactly_once();
}

/// What decoding would not say.
fn told(offset: u64) -> (u64, Class) {
    (offset, Class { category: "invalid", ts: None, seq: None, reason: Some("bad_seq") })
}

fn categories(bench: &Bench) -> Vec<String> {
    bench.assert_archived_exactly_once();
    bench.rows().into_iter().map(|row| row.category).collect()
}

#[test]
fn what_the_collector_has_decoded_is_not_decoded_again() {
    let bench = Bench::new(&(0..6).map(|i| rec("a", i, 0)).collect::<Vec<_>>());
    bench.classes.tell([1, 2, 4].map(told).into_iter(), 6);
    bench.archive().unwrap();
    let (decoded, told) = ("telemetry", "invalid");
    assert_eq!(categories(&bench), [decoded, told, told, decoded, told, decoded]);
}

#[test]
fn a_collector_that_comes_nearer_is_waited_for() {
    let mut bench = Bench::new(&[]);
    bench.flush_bytes = 1;
    bench.log.arrive_later(&(0..8).map(|i| rec("a", i * 1_000_000, 0)).collect::<Vec<_>>());
    let classes = bench.classes.clone();
    classes.tell([0].map(told).into_iter(), 1);
    let collector = std::thread::spawn(move || {
        for offset in 1..8 {
            std::thread::sleep(Duration::from_millis(5));
            classes.tell([offset].map(told).into_iter(), offset + 1);
        }
    });
    bench.archive().unwrap();
    collector.join().unwrap();
    // (The last one is written as the journal ends: then nobody is waited for.)
    assert_eq!(categories(&bench)[..7], vec!["invalid"; 7]);
}

#[test]
fn a_collector_that_stands_still_keeps_nothing_from_being_archived() {
    let mut bench = Bench::new(&[]);
    bench.flush_bytes = 1;
    bench.log.arrive_later(&(0..8).map(|i| rec("a", i * 1_000_000, 0)).collect::<Vec<_>>());
    bench.classes.tell((0..3).map(told), 3);
    bench.archive().unwrap();
    let expected = (0..8).map(|n| if n < 3 { "invalid" } else { "telemetry" });
    assert_eq!(categories(&bench), expected.collect::<Vec<_>>());
}

#[test]
fn archiving_again_what_is_archived_writes_nothing() {
    let bench = Bench::new(&(0..20).map(|i| rec("a", i * HOUR / 7, 0)).collect::<Vec<_>>());
    bench.archive().unwrap();
    let (keys, puts) = (bench.keys(), bench.store.puts.load(Ordering::SeqCst));
    bench.archive().unwrap();
    assert_eq!((bench.keys(), bench.store.puts.load(Ordering::SeqCst)), (keys, puts));
    assert_eq!(bench.log.released(), 20);
}

#[test]
fn a_crash_between_the_object_and_the_release_repeats_nothing() {
    let bench = Bench::new(&(0..10).map(|i| rec("a", i, 0)).collect::<Vec<_>>());
    bench.archive().unwrap();
    // The new process has the whole journal still, and more; its batches would be cut elsewhere.
    bench.log.append(&(10..30).map(|i| rec("b", i, 0)).collect::<Vec<_>>());
    bench.archive().unwrap();
    assert_eq!(bench.keys().len(), 2);
    bench.assert_archived_exactly_once();
}

#[test]
fn a_crash_between_the_two_objects_of_an_hour_border_completes_the_same_batch() {
    let records: Vec<_> = (0..10).map(|i| rec("a", HOUR - 5 + i, 0)).collect();
    let bench = Bench::new(&records[..3]);
    bench.log.lose_newest();
    bench.log.append(&records[3..]);
    bench.store.good_puts.store(1, Ordering::SeqCst);
    bench.store.bad_puts.store(1, Ordering::SeqCst);
    bench.archive().unwrap();
    assert_eq!((bench.keys().len(), bench.log.released()), (1, 0));
    bench.log.append(&(100..120).map(|i| rec("a", HOUR + i, 0)).collect::<Vec<_>>());
    bench.archive().unwrap();
    assert_eq!(bench.keys().len(), 3, "the second half, and the new records by themselves");
    bench.assert_archived_exactly_once();
    assert_eq!(bench.log.released(), 30);
}

#[test]
fn a_failing_object_store_is_tried_again_and_loses_nothing() {
    let bench = Bench::new(&(0..10).map(|i| rec("a", i, 0)).collect::<Vec<_>>());
    bench.store.bad_puts.store(7, Ordering::SeqCst);
    let (_never, abandon) = watch::channel(false);
    bench.archive_until(abandon).unwrap();
    bench.assert_archived_exactly_once();
    assert_eq!((bench.state(), bench.log.released()), (TaskState::Stopped, 10));
    let (text, _) = bench.board.tasks()["archiver"].last_error.clone().unwrap();
    assert_eq!(text, "the archive cannot be reached or written");
}

#[test]
fn giving_up_leaves_the_rest_in_the_journal() {
    let bench = Bench::new(&[rec("a", 0, 0)]);
    bench.store.bad_puts.store(usize::MAX, Ordering::SeqCst);
    bench.archive().unwrap();
    assert_eq!((bench.log.released(), bench.keys().len()), (0, 0));
}

#[test]
fn an_object_of_the_same_name_with_other_records_is_never_taken_for_ours() {
    let bench = Bench::new(&[rec("a", 5, 0), rec("a", 6, 0)]);
    bench.archive().unwrap();
    let mut other = Bench::new(&[rec("a", 7, 0), rec("a", 8, 0)]);
    other.store = bench.store.clone();
    let (giving_up, abandon) = watch::channel(false);
    let board = other.board.clone();
    let watcher = std::thread::spawn(move || {
        let conflict = TaskState::Retrying("an archive object exists with other records".into());
        let end = Instant::now() + PATIENCE;
        while board.tasks().get("archiver").is_none_or(|task| task.state != conflict) && Instant::now() < end {
            std::thread::yield_now();
        }
        giving_up.send_replace(true);
        assert!(Instant::now() < end, "{:?}", board.tasks());
    });
    other.archive_until(abandon).unwrap();
    watcher.join().unwrap();
    assert_eq!(other.log.released(), 0);
    assert_eq!(bench.rows().len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Each step: records arrive, some minutes apart or with the clock set back; the archiver runs and crashes at some
    /// put, or not; the journal is trimmed or not.
    #[test]
    fn whatever_crashes_when_every_record_is_in_exactly_one_object(
        steps in prop::collection::vec(
            (prop::collection::vec(-40i64..40, 0..12), 0usize..4, any::<bool>(), any::<bool>()), 1..8),
    ) {
        let bench = Bench::new(&[]);
        let (mut now, mut all) = (1000 * HOUR, Vec::new());
        for (minutes, good, crashes, trims) in steps {
            for step in minutes {
                now += step * HOUR / 60;
                all.push(rec(if step % 2 == 0 { "a" } else { "b" }, now, all.len()));
                bench.log.append(&all[all.len() - 1..]);
            }
            bench.store.good_puts.store(good, Ordering::SeqCst);
            bench.store.bad_puts.store(usize::from(crashes), Ordering::SeqCst);
            bench.archive().unwrap();
            if trims {
                bench.log.trim(bench.log.released());
            }
        }
        bench.store.bad_puts.store(0, Ordering::SeqCst);
        bench.archive().unwrap();
        let rows: Vec<_> = bench.rows().into_iter().map(|r| (r.offset, r.received_at, r.payload)).collect();
        let expected: Vec<_> = (0u64..).zip(&all).map(|(o, r)| (o, r.at, r.payload.clone())).collect();
        prop_assert_eq!(rows, expected);
        // … and the reader sees each once, in order, by names that lead back to its bytes.
        for device in ["a", "b"] {
            let names = bench.list(device, None, 1000);
            let mut own: Vec<_> = (0u64..).zip(&all).filter(|(_, r)| r.topic.starts_with(&format!("iot/{device}/"))).collect();
            own.sort_by_key(|(offset, r)| std::cmp::Reverse((r.at, *offset)));
            prop_assert_eq!(names.len(), own.len());
            for (name, (_, record)) in names.iter().zip(own) {
                prop_assert_eq!(&bench.read(device, name).unwrap().1, &record.payload);
            }
        }
    }
}

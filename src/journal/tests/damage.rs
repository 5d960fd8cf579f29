//! Damage: refused by name, explained by `verify`, given up by `salvage`. And torn tails, which are none.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::super::{Error, Finding, FindingKind, Journal, Offset, Options, Recovery, Report, inspect, salvage, verify};
use super::{append, drain, entry, files, flip, open, options, position_of, segment};

/// Segments 0..4, 4..8, 8..10, closed; two records a write.
async fn three_segments(dir: &Path) -> Options {
    let mut options = options(dir);
    options.segment_bytes = 2500;
    let (journal, _) = open(&options);
    for n in 0..5 {
        append(&journal, 2 * n, 2, 500).await;
    }
    journal.close().await.unwrap();
    assert_eq!(journal.status().segments, 3);
    options
}

fn check_verify(options: &Options) -> Report {
    let mut progress = (0, 0);
    let report = verify(&options.dir, |done, all| progress = (done, all)).unwrap();
    assert_eq!(progress.0, progress.1);
    report
}

fn refusal(options: &Options) -> Error {
    Journal::open(options.clone()).expect_err("refused")
}

/// Salvages, and tells which offsets are still there when the journal is opened and read.
fn salvaged(options: &Options) -> (u64, Vec<u64>) {
    let done = salvage(&options.dir, |_, _| ()).unwrap();
    let report = check_verify(options);
    assert!(report.is_sound(), "{:?}", report.findings);
    let again = salvage(&options.dir, |_, _| ()).unwrap();
    assert_eq!((again.lost_records, again.replaced.len()), (0, 0));
    let (journal, recovery) = open(options);
    assert_eq!(recovery.head, report.head);
    let offsets = drain(&mut journal.reader(Offset(0)).unwrap()).into_iter().map(|(n, _)| n).collect();
    (done.lost_records, offsets)
}

fn without(all: u64, lost: std::ops::Range<u64>) -> Vec<u64> {
    (0..all).filter(|n| !lost.contains(n)).collect()
}

#[tokio::test]
async fn a_bad_record_in_the_last_segment_with_good_ones_behind_is_refused_naming_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let (journal, _) = open(&options);
    for n in 0..5 {
        append(&journal, n, 1, 100).await;
    }
    drop(journal);
    let path = segment(&options, 0);
    for (nth, byte) in [(2, 0), (2, 5), (2, 70), (0, 20), (4, 41)] {
        let at = position_of(&path, nth);
        flip(&path, at + byte);
        match refusal(&options) {
            Error::Damaged { file, position, offset, .. } => {
                assert_eq!((file, position, offset), (path.clone(), at as u64, Offset(nth as u64)));
            }
            other => panic!("{other}"),
        }
        let report = check_verify(&options);
        assert_eq!((report.lost_records, report.records, report.is_sound()), (1, 4, false));
        flip(&path, at + byte);
        open(&options);
    }
    flip(&path, position_of(&path, 2) + 50);
    assert_eq!(salvaged(&options), (1, without(5, 2..3)));
    let (journal, _) = open(&options);
    append(&journal, 5, 1, 10).await;
    assert_eq!(journal.reader(Offset(2)).unwrap().next_batch(9, 999).unwrap().iter().next().unwrap().offset, Offset(3));
}

#[tokio::test]
async fn offsets_that_only_a_header_still_tells_of_are_not_given_out_again() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let (journal, _) = open(&options);
    for n in 0..5 {
        append(&journal, n, 1, 100).await;
    }
    drop(journal);
    let path = segment(&options, 0);
    let mut bytes = fs::read(&path).unwrap();
    bytes.truncate(position_of(&path, 5));
    bytes[position_of(&path, 3)] ^= 1;
    bytes[position_of(&path, 4) + 50] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(matches!(refusal(&options), Error::Damaged { offset: Offset(3), .. }));
    assert_eq!(salvaged(&options), (2, vec![0, 1, 2]));
    assert_eq!(open(&options).1.head, Offset(5));
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_the_journal_goes_on_behind_the_last_good_record() {
    for cut in [1, 50, 60, 150, 190] {
        let dir = tempfile::tempdir().unwrap();
        let options = options(dir.path());
        let (journal, _) = open(&options);
        append(&journal, 0, 3, 100).await;
        drop(journal);
        let path = segment(&options, 0);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - cut]).unwrap();
        let report = check_verify(&options);
        assert!(report.is_sound(), "{:?}", report.findings);
        let (journal, Recovery { head, cut_bytes, .. }) = open(&options);
        assert_eq!((head, cut_bytes > 0), (report.head, !report.findings.is_empty()));
        assert_eq!(
            fs::metadata(&path).unwrap().len(),
            journal.status().bytes,
            "nothing is left behind the last record"
        );
        append(&journal, head.0, 2, 10).await;
        assert_eq!(drain(&mut journal.reader(Offset(0)).unwrap()).len() as u64, head.0 + 2);
    }
}

#[tokio::test]
async fn a_write_that_reached_the_disk_out_of_order_is_a_torn_tail() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let (journal, _) = open(&options);
    append(&journal, 0, 2, 100).await;
    append(&journal, 2, 5, 100).await;
    // As it is before closing: the last write begins at record 2, and nothing tells that it was synced.
    let path = segment(&options, 0);
    let mut bytes = fs::read(&path).unwrap();
    drop(journal);
    let at = position_of(&path, 3);
    bytes[at..at + 100].fill(0);
    fs::write(&path, bytes).unwrap();
    let report = check_verify(&options);
    assert!(matches!(report.findings[..], [Finding { kind: FindingKind::TornTail { .. }, .. }]));
    let (journal, recovery) = open(&options);
    assert_eq!(recovery.head, Offset(3));
    assert!(recovery.cut_bytes > 300);
    assert_eq!(drain(&mut journal.reader(Offset(0)).unwrap()).len(), 3);
}

#[tokio::test]
async fn a_payload_that_looks_like_a_record_does_not_make_a_torn_tail_damage() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let mut forged = Vec::new();
    super::super::format::encode_record(&mut forged, 0, 5000, 0, &entry(b"forged"));
    let (journal, _) = open(&options);
    append(&journal, 0, 1, 10).await;
    journal.append(&[entry(&forged)]).await.unwrap();
    journal.wait_durable(Offset(2)).await.unwrap();
    drop(journal);
    let path = segment(&options, 0);
    let at = position_of(&path, 1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[at] ^= 1;
    bytes.truncate(position_of(&path, 2));
    fs::write(&path, bytes).unwrap();
    assert_eq!(open(&options).1.head, Offset(1));
}

#[tokio::test]
async fn damage_to_a_sealed_segment_is_refused_or_met_at_reading_and_salvage_gives_up_just_that() {
    let check = async |harm: &dyn Fn(&Options), refused: bool, lost: std::ops::Range<u64>| {
        let dir = tempfile::tempdir().unwrap();
        let options = three_segments(dir.path()).await;
        harm(&options);
        assert_eq!(Journal::open(options.clone()).is_err(), refused, "{lost:?}");
        let report = check_verify(&options);
        assert!(!report.is_sound());
        assert_eq!(report.lost_records, lost.end - lost.start);
        for finding in &report.findings {
            assert!(finding.to_string().contains("salvage"), "{finding}");
        }
        assert_eq!(salvaged(&options), (lost.end - lost.start, without(10, lost)));
    };
    let mid = |o: &Options| segment(o, 4);
    let cut = |o: &Options, len: u64| fs::OpenOptions::new().write(true).open(mid(o)).unwrap().set_len(len).unwrap();
    check(&|o| flip(&mid(o), position_of(&mid(o), 1) + 60), false, 5..6).await;
    check(&|o| flip(&mid(o), 64), false, 4..5).await;
    check(&|o| flip(&mid(o), position_of(&mid(o), 3) + 4), false, 7..8).await;
    check(&|o| flip(&mid(o), 3), true, 0..0).await;
    check(&|o| flip(&mid(o), 20), true, 0..0).await;
    check(&|o| flip(&segment(o, 0), 20), true, 0..0).await;
    check(&|o| flip(&segment(o, 8), 40), true, 0..0).await;
    check(&|o| cut(o, position_of(&mid(o), 2) as u64), true, 6..8).await;
    check(&|o| cut(o, position_of(&mid(o), 2) as u64 + 7), true, 6..8).await;
    check(&|o| cut(o, 10), true, 4..8).await;
    check(&|o| cut(o, 0), true, 4..8).await;
    check(&|o| fs::remove_file(mid(o)).unwrap(), true, 4..8).await;
    check(&|o| fs::write(mid(o), vec![b'x'; 5000]).unwrap(), true, 4..8).await;
    check(&|o| assert!(fs::copy(segment(o, 0), mid(o)).is_ok()), true, 4..8).await;
}

#[tokio::test]
async fn refusals_name_the_file_and_the_offset() {
    let dir = tempfile::tempdir().unwrap();
    let options = three_segments(dir.path()).await;
    let whole = fs::read(segment(&options, 4)).unwrap();
    let check = |expected: &[&str]| {
        let text = refusal(&options).to_string();
        for part in expected {
            assert!(text.contains(part), "{text} lacks {part}");
        }
        fs::write(segment(&options, 4), &whole).unwrap();
    };
    flip(&segment(&options, 4), 30);
    check(&["00000000000000000004.journal", "byte 0", "offset 4", "checksum"]);
    fs::write(segment(&options, 4), &whole[..100]).unwrap();
    check(&["00000000000000000004.journal", "byte 100", "offset 8"]);
    fs::remove_file(segment(&options, 4)).unwrap();
    check(&["00000000000000000004.journal is missing", "offset 8"]);
    let mut other = options.clone();
    other.node_id = uuid::Uuid::from_u128(7);
    assert!(matches!(Journal::open(other), Err(Error::Node { .. })));
    open(&options);
}

#[tokio::test]
async fn salvage_keeps_the_damaged_file_and_can_be_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let options = three_segments(dir.path()).await;
    let path = segment(&options, 4);
    for byte in [60, 61] {
        let at = position_of(&path, 0) + byte;
        flip(&path, at);
        let damaged = fs::read(&path).unwrap();
        let done = salvage(&options.dir, |_, _| ()).unwrap();
        assert_eq!(done.replaced[0].0, path);
        assert_eq!(fs::read(&done.replaced[0].1).unwrap(), damaged);
    }
    let aside = files(&options).into_iter().filter(|f| f.contains("damaged")).collect::<Vec<_>>();
    assert_eq!(aside, ["00000000000000000004.journal.damaged", "00000000000000000004.journal.damaged.1"]);
    let report = check_verify(&options);
    assert!(report.is_sound());
    assert!(report.findings.iter().any(|f| f.kind == FindingKind::Hole && f.offset == Offset(4)));
    open(&options);
}

#[tokio::test]
async fn salvage_refuses_a_mix_of_two_nodes_and_a_directory_nothing_is_readable_in() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let options = three_segments(dir.path()).await;
    let mut foreign = super::options(other.path());
    foreign.node_id = uuid::Uuid::from_u128(7);
    drop(open(&foreign));
    fs::copy(segment(&foreign, 0), segment(&options, 4)).unwrap();
    assert!(check_verify(&options).findings.iter().any(|f| f.kind == FindingKind::Node));
    assert!(matches!(salvage(&options.dir, |_, _| ()), Err(Error::Node { .. })));
    for first in [4, 8] {
        fs::remove_file(segment(&options, first)).unwrap();
    }
    fs::write(segment(&options, 0), b"rubbish".repeat(100)).unwrap();
    assert!(!check_verify(&options).is_sound());
    assert!(matches!(salvage(&options.dir, |_, _| ()), Err(Error::Unreadable { .. })));
}

#[tokio::test]
async fn an_unfinished_new_segment_is_not_in_the_way() {
    for (what, bytes) in [("empty", vec![]), ("torn", b"IOTMJRNL\x01".to_vec()), ("zeros", vec![0; 4096])] {
        let dir = tempfile::tempdir().unwrap();
        let options = three_segments(dir.path()).await;
        fs::write(segment(&options, 10), &bytes).unwrap();
        fs::write(dir.path().join("journal/00000000000000000010.journal.new"), b"draft").unwrap();
        let report = check_verify(&options);
        assert!(report.is_sound() && report.findings.iter().any(|f| f.kind == FindingKind::Unborn), "{what}");
        let mut shown = 0;
        assert_eq!(inspect(&options.dir, Offset(0), 99, |_| shown += 1).unwrap(), 10);
        assert_eq!(shown, 10);
        let (journal, recovery) = open(&options);
        assert_eq!((recovery.head, files(&options).len()), (Offset(10), 3), "{what}");
        append(&journal, 10, 5, 500).await;
        drop(journal);
        // With a gap before it, something is missing.
        fs::write(segment(&options, 99), &bytes).unwrap();
        assert!(matches!(refusal(&options), Error::Damaged { offset: Offset(15), .. }), "{what}");
        assert_eq!(salvaged(&options), (84, (0..15).collect()), "{what}");
        assert_eq!(open(&options).1.head, Offset(99));
    }
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    fs::create_dir(&options.dir).unwrap();
    fs::write(segment(&options, 0), b"").unwrap();
    let (journal, recovery) = open(&options);
    assert_eq!(recovery, Recovery::default());
    append(&journal, 0, 1, 10).await;
}

#[tokio::test]
async fn inspect_shows_the_records_asked_for_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let options = three_segments(dir.path()).await;
    let check = |from: u64, limit: u64, expected: &[u64]| {
        let mut shown = Vec::new();
        let count = inspect(&options.dir, Offset(from), limit, |r| shown.push(r.offset.0)).unwrap();
        assert_eq!((count as usize, &*shown), (expected.len(), expected));
    };
    let before = fs::read(segment(&options, 8)).unwrap();
    check(0, 3, &[0, 1, 2]);
    check(3, 3, &[3, 4, 5]);
    check(9, 3, &[9]);
    check(10, 3, &[]);
    check(0, 0, &[]);
    assert_eq!(fs::read(segment(&options, 8)).unwrap(), before);
    flip(&segment(&options, 4), 100);
    let result = inspect(&options.dir, Offset(0), 99, |_| ());
    assert!(matches!(result, Err(Error::Damaged { offset: Offset(4), .. })));
}

/// Whatever the files hold: an answer, and after a salvage that was possible, a journal that opens.
fn check_arbitrary(options: &Options) {
    let opened = Journal::open(options.clone()).map(|(journal, _)| {
        let mut reader = journal.reader(Offset(0)).unwrap();
        while matches!(reader.next_batch(10, 1000), Ok(batch) if !batch.is_empty()) {}
    });
    let report = check_verify(options);
    assert!(opened.is_ok() || !report.is_sound(), "{opened:?} though {report:?}");
    let _ = inspect(&options.dir, Offset(0), 1000, |_| ());
    if salvage(&options.dir, |_, _| ()).is_ok() {
        let report = check_verify(options);
        assert!(report.is_sound(), "{report:?}");
        match Journal::open(options.clone()) {
            Ok((journal, _)) => assert_eq!(journal.status().head, report.head),
            Err(error) => assert!(matches!(error, Error::Node { .. }), "{error}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn arbitrary_bytes_as_segments_never_panic(segments in prop::collection::vec(
        (0_u64..5, prop::collection::vec(any::<u8>(), 0..300)), 1..4,
    )) {
        let dir = tempfile::tempdir().unwrap();
        let options = options(dir.path());
        fs::create_dir(&options.dir).unwrap();
        for (first, bytes) in segments {
            fs::write(segment(&options, first), bytes).unwrap();
        }
        check_arbitrary(&options);
    }

    #[test]
    fn changed_bytes_in_a_real_journal_never_panic_and_salvage_heals(
        changes in prop::collection::vec((0_u64..3, any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of((0_u64..3, any::<prop::sample::Index>())),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let options = runtime.block_on(three_segments(dir.path()));
        for (nth, place, value) in changes {
            let path = segment(&options, 4 * nth);
            let mut bytes = fs::read(&path).unwrap();
            let at = place.index(bytes.len());
            bytes[at] = value;
            fs::write(&path, bytes).unwrap();
        }
        if let Some((nth, place)) = cut {
            let path = segment(&options, 4 * nth);
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, &bytes[..place.index(bytes.len())]).unwrap();
        }
        check_arbitrary(&options);
    }
}

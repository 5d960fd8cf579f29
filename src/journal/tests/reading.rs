//! Cursors: limits, places, several at once, waiting.

use super::super::{Error, Offset};
use super::{PATIENCE, append, drain, entry, flip, open, options, payload, position_of, segment};

#[tokio::test]
async fn a_batch_keeps_its_limits_but_has_at_least_one_record() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(&options(dir.path()));
    append(&journal, 0, 20, 300).await;
    append(&journal, 20, 1, 50_000).await;
    append(&journal, 21, 1, 10).await;
    let mut cursor = journal.reader(Offset(0)).unwrap();
    let mut check = |records: usize, bytes: usize, expected: usize| {
        assert_eq!(cursor.next_batch(records, bytes).unwrap().len(), expected, "{records} {bytes}");
        cursor.position()
    };
    assert_eq!(check(1, 1 << 20, 1), Offset(1));
    assert_eq!(check(5, 1 << 20, 5), Offset(6));
    assert_eq!(check(100, 2 * (40 + 36 + 300), 2), Offset(8));
    assert_eq!(check(100, 0, 1), Offset(9));
    assert_eq!(check(0, 1, 1), Offset(10));
    assert_eq!(check(100, 1 << 20, 10), Offset(20));
    assert_eq!(check(100, 100, 1), Offset(21));
    assert_eq!(check(100, 100, 1), Offset(22));
    assert_eq!(check(100, 100, 0), Offset(22));
}

#[tokio::test]
async fn a_cursor_begins_at_any_offset_of_any_segment() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(&options(dir.path()));
    for n in 0..15 {
        append(&journal, n * 2, 2, 500).await;
    }
    assert!(journal.status().segments > 3);
    for at in 0..=30 {
        let all = drain(&mut journal.reader(Offset(at)).unwrap());
        assert_eq!(all, (at..30).map(|n| (n, payload(n, 500))).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn places_that_cannot_be_are_refused_with_both_offsets() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(&options(dir.path()));
    append(&journal, 0, 2, 10).await;
    let error = journal.cursor("a", Offset(3)).unwrap_err();
    assert_eq!(error.to_string(), "offset 3 lies behind the journal's end at offset 2");
    assert!(matches!(journal.reader(Offset(3)), Err(Error::Ahead { .. })));
    let first = journal.cursor("a", Offset(2)).unwrap();
    assert!(matches!(journal.cursor("a", Offset(0)), Err(Error::NameTaken { name: "a" })));
    drop(first);
    journal.cursor("a", Offset(0)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_cursors_follow_the_writer_and_both_see_everything() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.segment_bytes = 20_000;
    let (journal, _) = open(&options);
    let readers: Vec<_> = ["collector", "archiver"]
        .into_iter()
        .map(|name| {
            let mut cursor = journal.cursor(name, Offset(0)).unwrap();
            std::thread::spawn(move || {
                let mut all = Vec::new();
                while !cursor.is_finished() {
                    cursor.wait(PATIENCE);
                    all.extend(drain(&mut cursor));
                    cursor.release(cursor.position());
                }
                all
            })
        })
        .collect();
    for n in 0..300 {
        let payload = payload(n, 200);
        journal.append(&[entry(&payload)]).await.unwrap();
        if n % 10 == 0 {
            journal.wait_durable(Offset(n + 1)).await.unwrap();
        }
    }
    journal.close().await.unwrap();
    for reader in readers {
        assert_eq!(reader.join().unwrap(), (0..300).map(|n| (n, payload(n, 200))).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn waiting_ends_with_its_time_and_with_a_record() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(&options(dir.path()));
    let cursor = journal.reader(Offset(0)).unwrap();
    assert!(!cursor.wait(std::time::Duration::from_millis(1)));
    let waiting = std::thread::spawn(move || cursor.wait(PATIENCE));
    append(&journal, 0, 1, 10).await;
    assert!(waiting.join().unwrap());
}

#[tokio::test]
async fn a_record_that_went_bad_is_an_error_naming_it_after_the_good_ones_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let (journal, _) = open(&options);
    append(&journal, 0, 5, 100).await;
    let at = position_of(&segment(&options, 0), 3);
    flip(&segment(&options, 0), at + 60);
    let mut cursor = journal.reader(Offset(0)).unwrap();
    assert_eq!(cursor.next_batch(100, 1 << 20).unwrap().len(), 3);
    for _ in 0..2 {
        match cursor.next_batch(100, 1 << 20) {
            Err(Error::Damaged { position, offset, .. }) => assert_eq!((position, offset), (at as u64, Offset(3))),
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(journal.reader(Offset(4)).unwrap().next_batch(1, 1), Err(Error::Damaged { .. })));
}

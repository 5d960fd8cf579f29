//! Trimming and the limit on what is not released.

use std::io::Read;
use std::sync::Arc;

use super::super::{Error, Journal, Offset, Options, copy, disk};
use super::{Faults, PATIENCE, append, drain, entry, files, open, options, segment};

/// Waits until the journal begins at `first`; the writer does that in its own time.
async fn settled(journal: &Journal, first: u64) {
    let settled = async {
        while journal.status().first != Offset(first) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.expect("trimmed");
}

/// Segments of three records each: 0..3, 3..6, 6..9, 9..10.
async fn four_segments(options: &mut Options) -> Journal {
    options.segment_bytes = 3500;
    let (journal, _) = open(options);
    for n in 0..10 {
        append(&journal, n, 1, 1000).await;
    }
    assert_eq!(journal.status().segments, 4);
    journal
}

#[tokio::test]
async fn a_segment_goes_when_all_cursors_have_released_it_and_the_active_one_never() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    let journal = four_segments(&mut options).await;
    let a = journal.cursor("a", Offset(0)).unwrap();
    let b = journal.cursor("b", Offset(0)).unwrap();
    a.release(Offset(10));
    b.release(Offset(2));
    append(&journal, 10, 1, 10).await;
    assert_eq!(journal.status().first, Offset(0), "b still needs record 2");
    b.release(Offset(7));
    settled(&journal, 6).await;
    b.release(Offset(3));
    b.release(Offset(999));
    a.release(Offset(999));
    settled(&journal, 9).await;
    assert_eq!(journal.status().unreleased_bytes, 0);
    append(&journal, 11, 1, 10).await;
    drop((journal, a, b));
    assert_eq!(files(&options), ["00000000000000000009.journal"]);
    let (journal, recovery) = open(&options);
    assert_eq!((recovery.first, recovery.head), (Offset(9), Offset(12)));
    assert!(matches!(journal.cursor("a", Offset(8)), Err(Error::Trimmed { at: Offset(8), first: Offset(9) })));
}

#[tokio::test]
async fn without_cursors_nothing_is_trimmed_and_a_dropped_cursor_still_holds() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    let journal = four_segments(&mut options).await;
    let a = journal.cursor("a", Offset(10)).unwrap();
    a.retire();
    append(&journal, 10, 1, 10).await;
    assert_eq!(journal.status().first, Offset(0));
    let a = journal.cursor("a", Offset(0)).unwrap();
    let b = journal.cursor("b", Offset(0)).unwrap();
    drop(a);
    b.release(Offset(11));
    append(&journal, 11, 1, 10).await;
    assert_eq!(journal.status().first, Offset(0));
    let a = journal.cursor("a", Offset(4)).unwrap();
    assert_eq!(a.position(), Offset(4));
    b.release(Offset(12));
    settled(&journal, 3).await;
    a.retire();
    settled(&journal, 9).await;
}

#[tokio::test]
async fn a_reader_skips_what_was_trimmed() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    let journal = four_segments(&mut options).await;
    let cursor = journal.cursor("a", Offset(0)).unwrap();
    let mut started = journal.reader(Offset(0)).unwrap();
    assert_eq!(started.next_batch(1, 1).unwrap().len(), 1);
    let mut fresh = journal.reader(Offset(1)).unwrap();
    cursor.release(Offset(6));
    settled(&journal, 6).await;
    for reader in [&mut started, &mut fresh] {
        let offsets: Vec<_> = drain(reader).into_iter().map(|(offset, _)| offset).collect();
        assert_eq!(offsets, [6, 7, 8, 9]);
    }
}

#[tokio::test]
async fn a_reader_says_that_a_file_is_gone_which_nobody_has_trimmed() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    let journal = four_segments(&mut options).await;
    std::fs::remove_file(segment(&options, 3)).unwrap();
    let mut reader = journal.reader(Offset(0)).unwrap();
    assert_eq!(reader.next_batch(3, 1 << 20).unwrap().len(), 3);
    assert!(matches!(reader.next_batch(3, 1 << 20), Err(Error::Io { operation: "open", .. })));
    assert_eq!(reader.position(), Offset(3));
}

#[tokio::test]
async fn an_append_waits_at_the_limit_and_goes_on_when_a_cursor_releases() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    (options.max_bytes, options.segment_bytes) = (2500, 1 << 20);
    let (journal, _) = open(&options);
    let cursor = journal.cursor("a", Offset(0)).unwrap();
    for n in 0..3 {
        append(&journal, n, 1, 1000).await;
    }
    let payload = [7; 1000];
    let entries = [entry(&payload)];
    let mut waiting = Box::pin(journal.append(&entries));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    assert!(journal.status().unreleased_bytes >= 2500);
    // Inside the active segment, which is not trimmed: released is released.
    cursor.release(Offset(2));
    let end = tokio::time::timeout(PATIENCE, waiting).await.expect("it is woken").unwrap();
    assert_eq!(end, Offset(4));
    journal.wait_durable(end).await.unwrap();
    drop(cursor);
    drop(journal);
    let (journal, _) = open(&options);
    assert!(futures_util::poll!(Box::pin(journal.append(&entries))).is_pending(), "nothing is released yet");
    let _cursor = journal.cursor("a", Offset(4)).unwrap();
    journal.append(&entries).await.unwrap();
}

#[tokio::test]
async fn appends_that_wait_go_on_in_their_order_and_nobody_overtakes_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.max_bytes = 1;
    let (journal, _) = open(&options);
    let cursor = journal.cursor("a", Offset(0)).unwrap();
    append(&journal, 0, 1, 10).await;
    let entries = [entry(b"x")];
    let mut first = Box::pin(journal.append(&entries));
    let mut second = Box::pin(journal.append(&entries));
    assert!(futures_util::poll!(&mut first).is_pending() && futures_util::poll!(&mut second).is_pending());
    cursor.release(Offset(1));
    let mut late = Box::pin(journal.append(&entries));
    assert!(futures_util::poll!(&mut late).is_pending(), "there is room, but not for it");
    for (waiting, expected) in [(first, 2), (second, 3), (late, 4)] {
        let end = tokio::time::timeout(PATIENCE, waiting).await.expect("woken").unwrap();
        assert_eq!(end, Offset(expected));
        journal.wait_durable(end).await.unwrap();
        cursor.release(end);
    }
}

#[tokio::test]
async fn closing_ends_a_wait_at_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.max_bytes = 1;
    let (journal, _) = open(&options);
    append(&journal, 0, 1, 10).await;
    let entries = [entry(b"x")];
    let mut waits = [Box::pin(journal.append(&entries)), Box::pin(journal.append(&entries))];
    for wait in &mut waits {
        assert!(futures_util::poll!(wait).is_pending());
    }
    journal.close().await.unwrap();
    for wait in waits {
        assert!(matches!(tokio::time::timeout(PATIENCE, wait).await.expect("woken"), Err(Error::Closed)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_a_segment_that_takes_long_to_remove() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: 1500, ..options(dir.path()) };
    let faults = Faults::none();
    faults.removals(true, false);
    let (journal, _) = faults.open(&options).unwrap();
    let cursor = journal.cursor("a", Offset(0)).unwrap();
    for n in 0..3 {
        append(&journal, n, 1, 1000).await;
    }
    cursor.release(Offset(3));
    settled(&journal, 1).await;
    for n in 3..9 {
        append(&journal, n, 1, 1000).await;
    }
    assert_eq!(files(&options).len(), 9, "nothing is gone yet");
    assert_eq!((journal.status().first, journal.status().durable), (Offset(1), Offset(9)));
    faults.removals(false, false);
    journal.close().await.unwrap();
    assert_eq!(files(&options)[0], "00000000000000000003.journal", "a close waits");
    drop((journal, cursor));
    assert_eq!(open(&options).1.first, Offset(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_that_cannot_be_removed_ends_the_journal_and_no_other_goes() {
    for is_closing in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { segment_bytes: 1500, ..options(dir.path()) };
        let faults = Faults::none();
        faults.removals(true, true);
        let (journal, _) = faults.open(&options).unwrap();
        let cursor = journal.cursor("a", Offset(0)).unwrap();
        for n in 0..4 {
            append(&journal, n, 1, 1000).await;
        }
        cursor.release(Offset(4));
        settled(&journal, 1).await;
        let error = if is_closing {
            let closing = journal.close();
            tokio::pin!(closing);
            assert!(futures_util::poll!(&mut closing).is_pending());
            faults.removals(false, true);
            closing.await.unwrap_err()
        } else {
            faults.removals(false, true);
            journal.failed().await
        };
        assert!(matches!(&error, Error::Io { operation: "remove", .. }), "{error:?}");
        assert_eq!(files(&options).len(), 4);
        drop((journal, cursor));
        assert_eq!(open(&options).1.first, Offset(0), "all are there still");
    }
}

/// A journal of two segments, of which the first is 2.96 MiB, and the disk it is on.
async fn large_segment(options: &Options) -> (Arc<Faults>, Journal) {
    let faults = Faults::none();
    let (journal, _) = faults.open(options).unwrap();
    for n in 0..32 {
        append(&journal, n, 1, 100_000).await;
    }
    assert_eq!(journal.status().segments, 2);
    (faults, journal)
}

fn three_mebibytes(dir: &std::path::Path) -> Options {
    Options { segment_bytes: 3 << 20, ..options(dir) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_blocks_of_a_segment_are_given_back_a_step_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let options = three_mebibytes(dir.path());
    let (faults, journal) = large_segment(&options).await;
    let bytes = std::fs::metadata(segment(&options, 0)).unwrap().len();
    journal.cursor("a", Offset(0)).unwrap().release(Offset(31));
    let done = async {
        while faults.cuts.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, done).await.expect("it is cut");
    assert!(!segment(&options, 0).exists(), "the name goes first");
    assert_eq!(*faults.cuts.lock().unwrap(), [bytes - (1 << 20), bytes - (2 << 20)]);
    append(&journal, 32, 1, 10).await;
    journal.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_a_segment_keeps_all_of_it_and_nobody_begins_to_read_one_that_goes() {
    let dir = tempfile::tempdir().unwrap();
    let options = three_mebibytes(dir.path());
    let (faults, journal) = large_segment(&options).await;
    let expected = std::fs::read(segment(&options, 0)).unwrap();
    let mut copied = copy(&options.dir).unwrap().expect("a journal");
    journal.cursor("a", Offset(0)).unwrap().release(Offset(31));
    settled(&journal, 31).await;
    // Only when the end is there is all removed.
    journal.close().await.unwrap();
    assert!(!segment(&options, 0).exists());
    let mut read = Vec::new();
    copied.segments[0].file.read_to_end(&mut read).unwrap();
    assert!(read == expected, "{} of {} bytes", read.len(), expected.len());
    assert!(faults.cuts.lock().unwrap().is_empty());
    drop(copied);

    let path = segment(&options, 31);
    let going = soon(|| disk::open_unread(&path)).await;
    assert!(
        matches!(disk::open_read(&path), Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound)
    );
    drop(going);
    let reading = soon(|| disk::open_read(&path).ok()).await;
    assert!(disk::open_unread(&path).is_none());
    drop(reading);
}

/// What may take a moment: a child of another test has a copy of every lock until it is another program.
async fn soon<T>(look: impl Fn() -> Option<T>) -> T {
    let found = async {
        loop {
            match look() {
                Some(found) => return found,
                None => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("nobody else has it")
}

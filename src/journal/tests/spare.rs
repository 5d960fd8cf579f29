//! The next segment's file made ahead: it changes nothing but how long a sync takes.

use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;

use super::super::spare::{self, Spare};
use super::super::{Error, Journal, Offset, Options, verify};
use super::{Faults, PATIENCE, append, drain, entry, files, open, options, payload, segment};

const SEGMENT: u64 = 4 << 20;
const RECORD: usize = 100_000;
/// Records up to behind the middle of a segment.
const HALF: u64 = 22;
/// Records that a segment has room for.
const WHOLE: u64 = 41;

fn large(dir: &Path) -> Options {
    Options { segment_bytes: SEGMENT, queue_bytes: 8 << 20, ..options(dir) }
}

/// Waits until the spare is as it should be.
async fn settled(journal: &Journal, expected: Spare) {
    let settled = async {
        while journal.spare() != expected {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.unwrap_or_else(|_| panic!("{:?}", journal.spare()));
}

/// Appends records up to this number, each in a write of its own.
async fn fill(journal: &Journal, from: u64, to: u64) {
    for n in from..to {
        append(journal, n, 1, RECORD).await;
    }
}

fn all(journal: &Journal, head: u64) {
    let read = drain(&mut journal.reader(Offset(0)).unwrap());
    assert_eq!(read, (0..head).map(|n| (n, payload(n, RECORD))).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_segment_is_made_when_the_active_one_is_half_full_and_used() {
    let dir = tempfile::tempdir().unwrap();
    let options = large(dir.path());
    let (journal, _) = open(&options);
    fill(&journal, 0, HALF - 2).await;
    assert_eq!(journal.spare(), Spare::Absent);
    fill(&journal, HALF - 2, HALF).await;
    settled(&journal, Spare::Ready(SEGMENT)).await;
    let zeros = fs::read(spare::path(&options.dir)).unwrap();
    assert!(zeros.len() as u64 == SEGMENT && zeros.iter().all(|byte| *byte == 0));
    fill(&journal, HALF, WHOLE + 1).await;
    assert_eq!(journal.status().segments, 2);
    assert_eq!(fs::metadata(segment(&options, WHOLE)).unwrap().len(), SEGMENT, "it is the spare");
    assert!(!spare::path(&options.dir).exists());
    all(&journal, WHOLE + 1);
    // As it lies there when the machine dies now.
    let copy = large(&dir.path().join("copy"));
    fs::create_dir_all(&copy.dir).unwrap();
    for name in files(&options) {
        fs::copy(options.dir.join(&name), copy.dir.join(&name)).unwrap();
    }
    let (recovered, recovery) = open(&copy);
    assert_eq!((recovery.head, recovery.cut_bytes), (Offset(WHOLE + 1), 0));
    all(&recovered, WHOLE + 1);
    // The second one too has a successor, and an orderly end.
    fill(&journal, WHOLE + 1, WHOLE + HALF).await;
    settled(&journal, Spare::Ready(SEGMENT)).await;
    journal.close().await.unwrap();
    drop(journal);
    let found = verify(&options.dir, |_, _| ()).unwrap();
    assert!(found.findings.is_empty(), "{:?}", found.findings);
    assert_eq!(files(&options).len(), 2, "an end takes the spare back");
    let (journal, recovery) = open(&options);
    assert_eq!((recovery.head, recovery.cut_bytes), (Offset(WHOLE + HALF), 0));
    all(&journal, WHOLE + HALF);
}

/// The first file that is kept for a spare.
fn used(options: &Options) -> std::path::PathBuf {
    options.dir.join("used-0.journal.new")
}

/// Which file it is.
fn inode(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_of_a_segment_that_nobody_needs_is_the_next_spare() {
    let dir = tempfile::tempdir().unwrap();
    let options = large(dir.path());
    let (journal, _) = open(&options);
    let cursor = journal.cursor("a", Offset(0)).unwrap();
    let mut was_used = false;
    // (A child of another test may hold a copy of the file's lock: then it goes as any other.)
    for round in 0..10 {
        let first = round * WHOLE;
        fill(&journal, first + if round == 0 { 0 } else { HALF }, first + WHOLE).await;
        let old = inode(&segment(&options, first));
        fill(&journal, first + WHOLE, first + WHOLE + 1).await;
        cursor.release(Offset(first + WHOLE));
        while segment(&options, first).exists() || journal.status().segments > 1 {
            tokio::task::yield_now().await;
        }
        fill(&journal, first + WHOLE + 1, first + WHOLE + HALF).await;
        settled(&journal, Spare::Ready(SEGMENT)).await;
        let zeros = fs::read(spare::path(&options.dir)).unwrap();
        assert!(zeros.len() as u64 == SEGMENT && zeros.iter().all(|byte| *byte == 0));
        if inode(&spare::path(&options.dir)) == old {
            was_used = true;
            break;
        }
    }
    assert!(was_used);
    assert!(!used(&options).exists());
    journal.close().await.unwrap();
    drop((journal, cursor));
    assert!(verify(&options.dir, |_, _| ()).unwrap().findings.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_takes_the_file_that_was_to_be_a_spare_back_too() {
    let dir = tempfile::tempdir().unwrap();
    let options = large(dir.path());
    let faults = Faults::none();
    let (journal, _) = faults.open(&options).unwrap();
    fill(&journal, 0, WHOLE + 1).await;
    let used = used(&options);
    journal.cursor("a", Offset(0)).unwrap().release(Offset(WHOLE));
    let kept = async {
        while !used.exists() && segment(&options, 0).exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, kept).await.unwrap();
    faults.space.store(10, Ordering::SeqCst);
    let end = journal.append(&[entry(&payload(WHOLE + 1, RECORD))]).await.unwrap();
    let given_back = async {
        while used.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, given_back).await.unwrap();
    faults.space.store(i64::MAX, Ordering::SeqCst);
    journal.wait_durable(end).await.unwrap();
    let read = drain(&mut journal.reader(Offset(WHOLE)).unwrap());
    assert_eq!(read, [(WHOLE, payload(WHOLE, RECORD)), (WHOLE + 1, payload(WHOLE + 1, RECORD))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_that_cannot_be_kept_for_a_spare_ends_the_journal_and_is_there_still() {
    // (A child of another test may hold a copy of the file's lock: then it is removed as any other, which fails as well.)
    for _ in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let options = large(dir.path());
        let faults = Faults::none();
        faults.removals(false, true);
        let (journal, _) = faults.open(&options).unwrap();
        fill(&journal, 0, WHOLE + 1).await;
        let cursor = journal.cursor("a", Offset(0)).unwrap();
        cursor.release(Offset(WHOLE));
        let failed = tokio::time::timeout(PATIENCE, journal.failed()).await.expect("it ends");
        assert!(!used(&options).exists());
        drop((journal, cursor));
        let (journal, recovery) = open(&options);
        assert_eq!((recovery.first, recovery.head), (Offset(0), Offset(WHOLE + 1)));
        all(&journal, WHOLE + 1);
        match failed {
            Error::Io { operation: "rename", .. } => return,
            other => assert!(matches!(&other, Error::Io { operation: "remove", .. }), "{other:?}"),
        }
    }
    panic!("none was to be kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_with_a_second_name_keeps_its_bytes_under_that_one() {
    let dir = tempfile::tempdir().unwrap();
    let options = large(dir.path());
    let (journal, _) = open(&options);
    fill(&journal, 0, WHOLE + 1).await;
    let copy = dir.path().join("copy");
    fs::hard_link(segment(&options, 0), &copy).unwrap();
    let expected = fs::read(&copy).unwrap();
    journal.cursor("a", Offset(0)).unwrap().release(Offset(WHOLE));
    let gone = async {
        while segment(&options, 0).exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    fill(&journal, WHOLE + 1, WHOLE + HALF).await;
    settled(&journal, Spare::Ready(SEGMENT)).await;
    journal.close().await.unwrap();
    assert!(fs::read(&copy).unwrap() == expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_crash_leaves_of_a_spare_is_removed_even_if_it_looks_like_a_segment() {
    let dir = tempfile::tempdir().unwrap();
    let options = large(dir.path());
    let (journal, _) = open(&options);
    fill(&journal, 0, 3).await;
    drop(journal);
    fs::copy(segment(&options, 0), spare::path(&options.dir)).unwrap();
    fs::copy(segment(&options, 0), used(&options)).unwrap();
    let (journal, recovery) = open(&options);
    assert_eq!(recovery.head, Offset(3));
    assert!(!spare::path(&options.dir).exists() && !used(&options).exists());
    all(&journal, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_takes_the_spare_back_before_anybody_waits() {
    let dir = tempfile::tempdir().unwrap();
    let options = large(dir.path());
    let faults = Faults::none();
    let (journal, _) = faults.open(&options).unwrap();
    fill(&journal, 0, HALF).await;
    settled(&journal, Spare::Ready(SEGMENT)).await;
    faults.space.store(10, Ordering::SeqCst);
    let end = journal.append(&[entry(&payload(HALF, RECORD))]).await.unwrap();
    settled(&journal, Spare::Refused).await;
    faults.space.store(i64::MAX, Ordering::SeqCst);
    journal.wait_durable(end).await.unwrap();
    assert!(!spare::path(&options.dir).exists());
    // The next segment grows as it is written, and has a spare again.
    fill(&journal, HALF + 1, WHOLE + HALF).await;
    settled(&journal, Spare::Ready(SEGMENT)).await;
    all(&journal, WHOLE + HALF);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_it_cannot_be_made_the_journal_goes_on_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let options = large(dir.path());
    let faults = Faults::none();
    let (journal, _) = faults.open(&options).unwrap();
    fill(&journal, 0, HALF - 2).await;
    // The two records that reach the middle, and a part of the spare.
    faults.space.store(2 * (RECORD as i64 + 1000) + (3 << 19), Ordering::SeqCst);
    fill(&journal, HALF - 2, HALF).await;
    settled(&journal, Spare::Refused).await;
    assert!(!spare::path(&options.dir).exists());
    faults.space.store(i64::MAX, Ordering::SeqCst);
    fill(&journal, HALF, WHOLE + 1).await;
    assert_eq!(journal.status().segments, 2);
    all(&journal, WHOLE + 1);
}

//! A full disk: nothing is lost, nothing acknowledged, and it heals when there is space again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;

use super::super::{Error, Journal, Offset, Options};
use super::{Faults, PATIENCE, append, drain, entry, open, options, payload};

/// A file system of one megabyte, unmounted at the end. `None` where mounting is not permitted.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<Self> {
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(at).output();
        mount.is_ok_and(|m| m.status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

async fn stalled(journal: &Journal) {
    let stalled = async {
        while journal.status().stalled.is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, stalled).await.expect("the disk gets full");
}

/// Fills the disk over the journal, makes room, and compares.
async fn check(journal: Journal, options: &Options, make_room: impl FnOnce()) {
    let writer = journal.clone();
    let appends = tokio::spawn(async move {
        for n in 0..300_u64 {
            let payload = payload(n, 5000);
            let end = writer.append(&[entry(&payload)]).await.expect("an append never fails because the disk is full");
            assert_eq!(end, Offset(n + 1));
        }
        writer.wait_durable(Offset(300)).await
    });
    stalled(&journal).await;
    let status = journal.status();
    assert!(status.failed.is_none() && status.durable < Offset(300), "{status:?}");
    let mut cursor = journal.reader(Offset(0)).unwrap();
    assert_eq!(drain(&mut cursor).len() as u64, status.durable.0, "what is acknowledged stays readable");
    assert!(!appends.is_finished());
    make_room();
    tokio::time::timeout(PATIENCE, appends).await.expect("it heals").unwrap().unwrap();
    assert!(journal.status().stalled.is_none());
    journal.close().await.unwrap();
    drop(journal);
    let (journal, recovery) = open(options);
    assert_eq!((recovery.head, recovery.cut_bytes), (Offset(300), 0));
    let all = drain(&mut journal.reader(Offset(0)).unwrap());
    assert_eq!(all, (0..300).map(|n| (n, payload(n, 5000))).collect::<Vec<_>>());
}

fn small(dir: &Path) -> Options {
    Options { segment_bytes: 100_000, queue_bytes: 20_000, ..options(dir) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_full_disk_stalls_and_heals() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path()) else {
        // Without the right to mount, the disk is made small by the test.
        return counted_full_disk(dir.path()).await;
    };
    let options = small(dir.path());
    let (journal, _) = open(&options);
    let at = disk.0.clone();
    check(journal, &options, || {
        let remount = Command::new("mount").args(["-o", "remount,size=8m"]).arg(at).status();
        assert!(remount.unwrap().success());
    })
    .await;
}

async fn counted_full_disk(dir: &Path) {
    let options = small(dir);
    let faults = Faults::none();
    faults.space.store(1 << 20, Ordering::SeqCst);
    let (journal, _) = faults.open(&options).unwrap();
    check(journal, &options, || faults.space.store(i64::MAX, Ordering::SeqCst)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partial_write_is_cut_off_and_written_whole_when_there_is_space() {
    counted_full_disk(tempfile::tempdir().unwrap().path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_has_no_room_for_a_new_segment_stalls_too() {
    for room in [0, 30, 64, 100] {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { segment_bytes: 1500, ..options(dir.path()) };
        let faults = Faults::none();
        let (journal, _) = faults.open(&options).unwrap();
        append(&journal, 0, 1, 1000).await;
        faults.space.store(room, Ordering::SeqCst);
        let end = journal.append(&[entry(&payload(1, 1000))]).await.unwrap();
        stalled(&journal).await;
        faults.space.store(i64::MAX, Ordering::SeqCst);
        journal.wait_durable(end).await.unwrap();
        journal.close().await.unwrap();
        assert_eq!(drain(&mut open_again(journal, &options).reader(Offset(0)).unwrap()).len(), 2);
    }
}

fn open_again(journal: Journal, options: &Options) -> Journal {
    drop(journal);
    open(options).0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trimming_goes_on_while_the_disk_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: 1500, ..options(dir.path()) };
    let faults = Faults::none();
    let (journal, _) = faults.open(&options).unwrap();
    let cursor = journal.cursor("a", Offset(0)).unwrap();
    for n in 0..3 {
        append(&journal, n, 1, 1000).await;
    }
    faults.space.store(10, Ordering::SeqCst);
    journal.append(&[entry(&[1; 1000])]).await.unwrap();
    stalled(&journal).await;
    cursor.release(Offset(2));
    let trimmed = async {
        while journal.status().first != Offset(2) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, trimmed).await.expect("trimmed");
    faults.space.store(i64::MAX, Ordering::SeqCst);
    journal.wait_durable(Offset(4)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_on_a_full_disk_ends_with_an_error_and_what_was_acknowledged_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let faults = Faults::none();
    let (journal, _) = faults.open(&options).unwrap();
    append(&journal, 0, 2, 100).await;
    faults.space.store(100, Ordering::SeqCst);
    let end = journal.append(&[entry(&[1; 1000])]).await.unwrap();
    stalled(&journal).await;
    let closed = tokio::time::timeout(PATIENCE, journal.close()).await.expect("it does not wait for ever");
    assert!(matches!(closed, Err(Error::DiskFull { .. })), "{closed:?}");
    assert!(journal.wait_durable(end).await.is_err());
    let left = std::fs::metadata(super::segment(&options, 0)).unwrap().len();
    assert_eq!(left, journal.status().bytes, "what was written in part is cut off");
    drop(journal);
    assert_eq!(open(&options).1.head, Offset(2));
}

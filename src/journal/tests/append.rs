//! Appending, durability, backpressure of the queue, closing and failing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::{Entry, Error, Journal, Offset};
use super::{Faults, PATIENCE, append, drain, entry, files, open, options, payload};

#[tokio::test]
async fn what_was_appended_reads_back_field_by_field_also_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let (journal, recovery) = open(&options);
    assert_eq!(recovery, super::Recovery::default());
    append(&journal, 0, 3, 100).await;
    for _ in 0..2 {
        let mut cursor = journal.reader(Offset(0)).unwrap();
        let batch = cursor.next_batch(100, 1 << 20).unwrap();
        assert_eq!(batch.len(), 3);
        for (n, record) in batch.iter().enumerate() {
            let payload = payload(n as u64, 100);
            let expected = entry(&payload);
            assert_eq!(record.offset, Offset(n as u64));
            assert_eq!((record.topic, record.identity), (expected.topic, expected.identity));
            assert_eq!((record.content_type, record.payload), (expected.content_type, expected.payload));
            assert_eq!((record.received_at, record.flags), (expected.received_at, expected.flags));
        }
    }
    journal.close().await.unwrap();
    drop(journal);
    let (journal, recovery) = open(&options);
    assert_eq!((recovery.head, recovery.cut_bytes), (Offset(3), 0));
    append(&journal, 3, 2, 100).await;
    let all = drain(&mut journal.reader(Offset(0)).unwrap());
    assert_eq!(all, (0..5).map(|n| (n, payload(n, 100))).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_of_many_tasks_through_a_tiny_queue_get_consecutive_offsets_and_none_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.queue_bytes = 300;
    let (journal, _) = open(&options);
    let tasks: Vec<_> = (0..20_u64)
        .map(|task| {
            let journal = journal.clone();
            tokio::spawn(async move {
                let mut ends = Vec::new();
                for i in 0..20_u64 {
                    let text = format!("{task}/{i}");
                    ends.push((journal.append(&[entry(text.as_bytes())]).await.unwrap(), text));
                }
                journal.wait_durable(ends[19].0).await.unwrap();
                ends
            })
        })
        .collect();
    let mut expected = Vec::new();
    for task in tasks {
        let ends = tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
        expected.extend(ends.into_iter().map(|(end, text)| (end.0 - 1, text.into_bytes())));
    }
    expected.sort();
    assert_eq!(drain(&mut journal.reader(Offset(0)).unwrap()), expected);
    assert_eq!(expected.last().unwrap().0, 399);
}

#[tokio::test]
async fn an_append_waits_while_the_queue_is_full_and_a_dropped_wait_queues_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.queue_bytes = 100;
    let faults = Faults::none();
    let (journal, _) = faults.open(&options).unwrap();
    faults.shut(true);
    // The first goes to the writer, which stands at the gate; the second fills the queue.
    journal.append(&[entry(&[1; 100])]).await.unwrap();
    let second = [entry(&[2; 100])];
    let end = tokio::time::timeout(PATIENCE, journal.append(&second)).await.expect("the writer has the first").unwrap();
    let mut third = Box::pin(journal.append(&second));
    assert!(futures_util::poll!(&mut third).is_pending());
    drop(third);
    drop(journal.append(&[]));
    assert_eq!((journal.status().head, end), (Offset(2), Offset(2)));
    let entries = [entry(b"later")];
    let (mut a, mut b) = (Box::pin(journal.append(&entries)), Box::pin(journal.append(&entries)));
    assert!(futures_util::poll!(&mut a).is_pending() && futures_util::poll!(&mut b).is_pending());
    drop(a);
    faults.shut(false);
    let end = tokio::time::timeout(PATIENCE, b).await.expect("it is woken though the one before it gave up").unwrap();
    journal.wait_durable(end).await.unwrap();
    assert_eq!(journal.status().durable, end);
}

#[tokio::test]
async fn one_sync_serves_all_that_queued_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::none();
    let (journal, _) = faults.open(&options(dir.path())).unwrap();
    let before = faults.syncs.load(Ordering::SeqCst);
    faults.shut(true);
    for n in 0..10 {
        journal.append(&[entry(&payload(n, 10))]).await.unwrap();
    }
    faults.shut(false);
    journal.wait_durable(Offset(10)).await.unwrap();
    assert!(faults.syncs.load(Ordering::SeqCst) - before <= 2);
}

#[tokio::test]
async fn nothing_is_durable_or_readable_before_its_sync() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::none();
    let (journal, _) = faults.open(&options(dir.path())).unwrap();
    faults.shut(true);
    journal.append(&[entry(b"x")]).await.unwrap();
    let mut cursor = journal.reader(Offset(0)).unwrap();
    assert!(cursor.next_batch(10, 1000).unwrap().is_empty());
    assert!(futures_util::poll!(Box::pin(journal.wait_durable(Offset(1)))).is_pending());
    assert_eq!((journal.status().head, journal.status().durable), (Offset(1), Offset(0)));
    faults.shut(false);
    journal.wait_durable(Offset(1)).await.unwrap();
    assert_eq!(drain(&mut cursor).len(), 1);
}

#[tokio::test]
async fn a_failed_sync_is_final_and_everybody_hears_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let faults = Faults::none();
    let (journal, _) = faults.open(&options).unwrap();
    append(&journal, 0, 2, 10).await;
    faults.fail_sync.store(true, Ordering::SeqCst);
    let end = journal.append(&[entry(b"lost")]).await.unwrap();
    let error = tokio::time::timeout(PATIENCE, journal.wait_durable(end)).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Io { operation: "sync", .. }), "{error:?}");
    faults.fail_sync.store(false, Ordering::SeqCst);
    assert!(journal.append(&[entry(b"more")]).await.is_err(), "it is not tried again");
    assert!(matches!(journal.failed().await, Error::Io { .. }));
    assert!(journal.close().await.is_err());
    assert!(journal.status().failed.unwrap().contains("the medium is gone"));
    assert_eq!(journal.status().durable, Offset(2));
    let mut cursor = journal.reader(Offset(0)).unwrap();
    assert_eq!(drain(&mut cursor).len(), 2);
    assert!(cursor.is_finished());
    drop(journal);
    let (_, recovery) = open(&options);
    assert!(recovery.head >= Offset(2));
}

#[tokio::test]
async fn closing_writes_what_is_queued_then_refuses_and_cursors_finish() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let (journal, _) = open(&options);
    let mut cursor = journal.cursor("collector", Offset(0)).unwrap();
    let end = journal.append(&[entry(b"a"), entry(b"b")]).await.unwrap();
    journal.close().await.unwrap();
    journal.close().await.unwrap();
    journal.wait_durable(end).await.unwrap();
    assert!(matches!(journal.append(&[entry(b"c")]).await, Err(Error::Closed)));
    assert!(matches!(journal.wait_durable(Offset(3)).await, Err(Error::Closed)));
    assert!(futures_util::poll!(Box::pin(journal.failed())).is_pending());
    assert!(journal.durable().has_changed().is_err(), "the sender is dropped");
    assert!(!cursor.is_finished() && cursor.wait(PATIENCE));
    assert_eq!(drain(&mut cursor).len(), 2);
    assert!(cursor.is_finished() && !cursor.wait(PATIENCE));
}

#[tokio::test]
async fn opening_and_closing_again_and_again_does_not_grow_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    append(&open(&options).0, 0, 1, 10).await;
    let len = || std::fs::metadata(super::segment(&options, 0)).unwrap().len();
    let before = len();
    for _ in 0..3 {
        drop(open(&options));
    }
    assert_eq!(len(), before);
    assert_eq!(files(&options).len(), 1);
}

#[tokio::test]
async fn syncs_are_observed_with_their_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&bytes);
    let on_sync = Arc::new(move |_, n| {
        seen.fetch_add(n, Ordering::SeqCst);
    });
    let (journal, _) = Journal::open_observed(options(dir.path()), Some(on_sync)).unwrap();
    let before = journal.status().bytes;
    append(&journal, 0, 5, 100).await;
    assert_eq!(bytes.load(Ordering::SeqCst), journal.status().bytes - before);
}

#[tokio::test]
async fn an_empty_append_is_durable_at_once_and_a_large_one_stays_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.queue_bytes = 1000;
    let (journal, _) = open(&options);
    let end = journal.append(&[]).await.unwrap();
    journal.wait_durable(end).await.unwrap();
    append(&journal, 0, 3, 1 << 20).await;
    assert_eq!(drain(&mut journal.reader(Offset(0)).unwrap()).len(), 3);
    let long = "x".repeat(70_000);
    let result = journal.append(&[entry(b"good"), Entry { topic: &long, ..entry(b"") }]).await;
    assert!(matches!(result, Err(Error::TextTooLong { field: "topic", bytes: 70_000 })));
    assert_eq!(journal.status().head, Offset(3), "all or nothing");
}

#[tokio::test]
async fn buffers_that_a_burst_made_large_are_given_back_when_it_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let (journal, _) = open(&options);
    append(&journal, 0, 40, 10_000).await;
    append(&journal, 40, 1, 10).await;
    let given_back = async {
        while journal.has_large_queue() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, given_back).await.expect("the writer gives them back by itself");
    append(&journal, 41, 40, 10_000).await;
    assert_eq!(drain(&mut journal.reader(Offset(0)).unwrap()).len(), 81);
}

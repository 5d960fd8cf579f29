//! Copies taken beside the writer, and journals that go on behind one.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::{LIFE, begin_new_life, copy, verify};
use super::*;

/// Writes a copy down as a restore does.
fn put_down(copied: super::super::Copied, dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    for segment in copied.segments {
        let mut bytes = Vec::new();
        segment.file.take(segment.bytes).read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, segment.bytes);
        fs::File::create(dir.join(segment.name)).unwrap().write_all(&bytes).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_taken_while_it_is_written_have_all_that_was_durable_and_open_soundly() {
    let dir = tempfile::tempdir().unwrap();
    let original = options(dir.path());
    let (journal, _) = open(&original);
    let mut cursor = journal.cursor("reader", Offset(0)).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writing = {
        let (journal, stop) = (journal.clone(), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut next = 0;
            while !stop.load(Ordering::Relaxed) {
                next = append(&journal, next, 1 + next % 9, 200).await.0;
                // Trimmed behind the reader, so that segments go while they are copied.
                drain(&mut cursor);
                cursor.release(Offset(next.saturating_sub(60)));
            }
            next
        })
    };
    for round in 0..30 {
        let durable = *journal.durable().borrow();
        let Some(copied) = copy(&original.dir).unwrap() else { continue };
        assert!(copied.head >= durable, "round {round}: {} is less than {durable}", copied.head);
        let (first, head) = (copied.first, copied.head);
        let to = options(&dir.path().join(round.to_string()));
        put_down(copied, &to.dir);
        assert!(verify(&to.dir, |_, _| ()).unwrap().is_sound(), "round {round}");
        let next = begin_new_life(&to.dir).unwrap();
        assert_eq!(next, Offset(LIFE));
        let (again, recovery) = open(&to);
        assert_eq!((recovery.first, recovery.head, recovery.cut_bytes), (first, next, 0));
        append(&again, next.0, 3, 50).await;
        let read = drain(&mut again.reader(first).unwrap());
        let numbers: Vec<u64> = read.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, (first.0..head.0).chain(next.0..next.0 + 3).collect::<Vec<_>>());
        // A place inside of what was skipped is where a checkpoint of a later snapshot lies.
        let behind = drain(&mut again.cursor("collector", Offset(head.0 + 5)).unwrap());
        assert_eq!(behind.len(), 3);
        // Who looks backwards from there is told where the hole begins; at its beginning, and behind it, there is none.
        for (at, hole) in [(head.0 + 5, Some(head)), (next.0 - 1, Some(head)), (head.0, None), (next.0 + 1, None)] {
            let mut reader = again.reader(Offset(at)).unwrap();
            reader.next_batch(1, 1).unwrap();
            assert_eq!(reader.hole(), hole, "round {round}, at {at}");
        }
        again.close().await.unwrap();
        drop(again);
        assert!(verify(&to.dir, |_, _| ()).unwrap().is_sound(), "round {round}");
        // A copy of a copy lives its own life.
        assert_eq!(begin_new_life(&to.dir).unwrap(), Offset(2 * LIFE));
    }
    stop.store(true, Ordering::Relaxed);
    assert!(writing.await.unwrap() > 100);
}

#[tokio::test]
async fn there_is_no_copy_of_nothing_and_none_of_what_is_torn() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    assert!(copy(&options.dir).unwrap().is_none());
    fs::create_dir_all(&options.dir).unwrap();
    assert!(copy(&options.dir).unwrap().is_none());
    let (journal, _) = open(&options);
    append(&journal, 0, 5, 100).await;
    drop(journal);
    let path = segment(&options, 0);
    let whole = copy(&options.dir).unwrap().unwrap();
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(&[9; 77]).unwrap();
    let torn = copy(&options.dir).unwrap().unwrap();
    assert_eq!((torn.head, torn.segments[0].bytes), (whole.head, whole.segments[0].bytes));
    flip(&path, 3);
    assert!(matches!(copy(&options.dir), Err(super::super::Error::Header { .. })));
}

//! The task that brings what is noted into the store.
//!
//! What has gathered is written in one transaction. While the store is away the same entries are tried again and the queue
//! fills; what it cannot take then is counted and said afterwards. At the stop the queue is drained.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::coalesce::Coalescer;
use super::{Event, Noted, Outcome};
use crate::domain::Timestamp;
use crate::observe::backoff::Backoff;
use crate::observe::{Board, TaskState, counted, metrics};
use crate::store::{self, SharedStore};

/// The name on the task board.
pub const TASK: &str = "audit";

/// Entries of one transaction.
const BATCH: usize = 512;
/// How often counts of repeated refusals are looked at.
const TICK: Duration = Duration::from_secs(1);
/// Tries at the stop.
const LAST_TRIES: u32 = 5;

/// Writes what is noted until it is told to stop; then what is left.
pub async fn write(mut noted: Noted, store: SharedStore, board: Board, mut stopping: watch::Receiver<bool>) {
    board.set(TASK, TaskState::Running);
    let mut coalescer = Coalescer::default();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_stopping = false;
    while !is_stopping {
        let mut events = Vec::new();
        tokio::select! {
            // Nobody is left to note anything: only the stop is waited for.
            _ = noted.rx.recv_many(&mut events, BATCH), if !noted.rx.is_closed() => {}
            _ = tick.tick() => {}
            _ = stopping.wait_for(|stops| *stops) => is_stopping = true,
        }
        loop {
            let now = board.clock().now();
            let mut entries = Vec::new();
            let counted = events.drain(..).filter(|e| coalescer.take(e.clone(), &mut entries)).count();
            metrics::AUDIT_ENTRIES.increment(&[("result", "coalesced")], u64::try_from(counted).unwrap_or(u64::MAX));
            coalescer.due(now, &mut entries);
            entries.extend(lost(&noted, now));
            append(&store, &board, entries, is_stopping.then_some(LAST_TRIES), &stopping).await;
            // At the stop: until the queue is empty.
            while is_stopping && events.len() < BATCH && noted.rx.try_recv().map(|event| events.push(event)).is_ok() {}
            if events.is_empty() {
                break;
            }
        }
    }
    let mut entries = Vec::new();
    coalescer.finish(&mut entries);
    append(&store, &board, entries, Some(LAST_TRIES), &stopping).await;
    board.set(TASK, TaskState::Stopped);
}

/// An entry in place of those that found the queue full.
fn lost(noted: &Noted, now: Timestamp) -> Option<Event> {
    let count = noted.lost.swap(0, Ordering::Relaxed);
    if count == 0 {
        return None;
    }
    counted!(
        error,
        metrics::AUDIT_ENTRIES,
        [("result", "dropped")],
        count,
        entries = count,
        "audit entries are lost: the queue was full"
    );
    Some(Event {
        at: now,
        actor: "server".to_owned(),
        address: None,
        action: "audit.lost".to_owned(),
        target: String::new(),
        outcome: Outcome::Failed,
        request_id: None,
        detail: format!("{count} entries are missing here: the queue was full"),
    })
}

/// Tries until it works, or so many times; a stop in the meantime leaves the last tries.
async fn append(
    store: &SharedStore,
    board: &Board,
    entries: Vec<Event>,
    mut tries: Option<u32>,
    stopping: &watch::Receiver<bool>,
) {
    if entries.is_empty() {
        return;
    }
    let count = u64::try_from(entries.len()).unwrap_or(u64::MAX);
    let mut backoff = Backoff::default();
    loop {
        let batch = entries.clone();
        let Err(error) = store::run(store, move |s| s.append_audit(&batch)).await else { break };
        if tries.is_none() && *stopping.borrow() {
            tries = Some(LAST_TRIES);
        }
        tries = tries.map(|left| left.saturating_sub(1));
        if tries == Some(0) {
            counted!(
                error,
                metrics::AUDIT_ENTRIES,
                [("result", "dropped")],
                count,
                entries = count,
                error = &error as &dyn std::error::Error,
                "audit entries are lost"
            );
            return;
        }
        tracing::warn!(error = &error as &dyn std::error::Error, "the audit log cannot be written; trying again");
        board.set(TASK, TaskState::Retrying("the store failed to write the audit log".into()));
        tokio::time::sleep(backoff.next_pause()).await;
    }
    if backoff.has_failed() {
        board.set(TASK, TaskState::Running);
    }
    metrics::AUDIT_ENTRIES.increment(&[("result", "written")], count);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::audit::Log;
    use crate::domain::Clock;
    use crate::store::{AuditFilter, Page};

    fn store(dir: &tempfile::TempDir) -> SharedStore {
        store::open(&format!("sqlite://{}", dir.path().join("a.db").display())).unwrap()
    }

    fn event(n: usize, outcome: Outcome) -> Event {
        Event {
            at: Timestamp(1),
            actor: "key:a".into(),
            address: None,
            action: "POST /api/devices".into(),
            target: format!("m-{n}"),
            outcome,
            request_id: None,
            detail: String::new(),
        }
    }

    async fn written(log: Log, noted: Noted, store: &SharedStore) -> Vec<Event> {
        let (stop, stopping) = watch::channel(false);
        let board = Board::new(Clock::manual(Timestamp(2)));
        let task = tokio::spawn(write(noted, Arc::clone(store), board, stopping));
        stop.send_replace(true);
        task.await.unwrap();
        drop(log);
        let mut rows = store.audit(&AuditFilter::default(), Page::offset(0, 100_000)).unwrap().items;
        rows.reverse();
        rows.into_iter().map(|row| row.entry).collect()
    }

    #[tokio::test]
    async fn what_waits_at_the_stop_is_written_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let (log, noted) = Log::channel();
        (0..1500).for_each(|n| log.note(event(n, Outcome::Done)));
        (0..3).for_each(|n| log.note(event(n, Outcome::Refused)));
        let all = written(log, noted, &store(&dir)).await;
        assert_eq!(all.len(), 1502);
        assert!(all[..1500].iter().enumerate().all(|(n, e)| e.target == format!("m-{n}")));
        assert!(all[1501].detail.starts_with("2 more since"), "{:?}", all[1501]);
    }

    #[tokio::test]
    async fn what_a_full_queue_could_not_take_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let (log, noted) = Log::channel();
        (0..super::super::QUEUE_LEN + 7).for_each(|n| log.note(event(n, Outcome::Done)));
        let all = written(log, noted, &store(&dir)).await;
        assert_eq!(all.len(), super::super::QUEUE_LEN + 1);
        let lost = all.iter().find(|e| e.action == "audit.lost").unwrap();
        assert_eq!(lost.detail, "7 entries are missing here: the queue was full");
    }
}

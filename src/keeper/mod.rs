//! Upkeep of the store: what has passed its retention is deleted, in small steps.
//!
//! Promise: only rows older than `retention.telemetry_days` (the audit log: `retention.audit_days`) go (of alerts and
//! commands only those that are over), and a step never holds the store for long.
//! Must not know: HTTP, MQTT.

use std::time::Duration;

use tokio::sync::watch;

use crate::domain::Timestamp;
use crate::observe::{Board, TaskState, backoff::Backoff};
use crate::store::{self, SharedStore};

/// The name on the task board.
pub const TASK: &str = "keeper";

const PERIOD: Duration = Duration::from_secs(600);
const ROWS_A_STEP: usize = 5_000;
const DAY_US: i64 = 86_400_000_000;
/// Between tries while the store is away.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(5));

/// How long what is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Retention {
    pub telemetry: Duration,
    pub audit: Duration,
}

/// Runs until `stop` says so.
pub async fn run(store: SharedStore, retention: Retention, board: Board, mut stop: watch::Receiver<bool>) {
    board.set(TASK, TaskState::Running);
    let mut backoff = BACKOFF;
    let mut pause = Duration::ZERO;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stop.wait_for(|stopping| *stopping) => break,
        }
        pause = PERIOD;
        let now = board.clock().now();
        let ago = |kept: Duration| now.plus_us(-i64::try_from(kept.as_micros()).unwrap_or(i64::MAX));
        let before = ago(retention.telemetry);
        match trim(&store, before, day_of(ago(retention.audit)), now, &stop).await {
            Ok(rows) => {
                if rows > 0 {
                    tracing::info!(rows, %before, "rows past their retention were deleted");
                }
                backoff = BACKOFF;
                board.set(TASK, TaskState::Running);
            }
            Err(error) => {
                pause = backoff.next_pause();
                tracing::warn!(error = &error as &dyn std::error::Error, ?pause, "retention failed; trying again");
                board.set(TASK, TaskState::Retrying("the store failed to delete old rows".into()));
            }
        }
    }
    board.set(TASK, TaskState::Stopped);
}

/// The beginning of its day: each time the audit log is trimmed, an entry says so, and one a day is enough.
fn day_of(at: Timestamp) -> Timestamp {
    Timestamp(at.0 - at.0.rem_euclid(DAY_US))
}

async fn trim(
    store: &SharedStore,
    before: Timestamp,
    audit_before: Timestamp,
    now: Timestamp,
    stop: &watch::Receiver<bool>,
) -> Result<usize, store::Error> {
    let mut total = 0;
    while !*stop.borrow() {
        let rows = store::run(store, move |s| s.trim_audit(audit_before, ROWS_A_STEP, now)).await?;
        total += rows;
        if rows < ROWS_A_STEP {
            break;
        }
    }
    while !*stop.borrow() {
        let rows = store::run(store, move |s| s.trim(before, ROWS_A_STEP)).await?;
        total += rows;
        if rows < ROWS_A_STEP {
            break;
        }
    }
    Ok(total)
}

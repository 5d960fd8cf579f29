//! Upkeep of the store: what has passed its retention is deleted, in small steps; long ranges are rolled up ([`rollups`]).
//!
//! Promise: only rows older than `retention.telemetry_days` (the audit log: `retention.audit_days`, alerts told to GitHub:
//! `retention.webhook_days`, rollups: `retention.rollup_days`) go (of alerts and commands only those that are over), and a
//! step never holds the store for long.
//! Of several nodes on one database one does it. `heart` says that a node is there.
//! Must not know: HTTP, MQTT.

mod heart;
pub mod rollups;

pub use heart::{Census, Heart, Peers, TASK as HEARTBEAT};

use std::time::Duration;

use tokio::sync::watch;

use crate::domain::Timestamp;
use crate::observe::{Board, TaskState, backoff::Backoff};
use crate::store::{self, Duty, Leader, SharedStore};

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
    pub webhooks: Duration,
    pub rollups: Duration,
}

/// Runs until `stop` says so.
pub async fn run(store: SharedStore, retention: Retention, board: Board, mut stop: watch::Receiver<bool>) {
    board.set(TASK, TaskState::Running);
    let mut backoff = BACKOFF;
    let mut pause = Duration::ZERO;
    let leader = Leader::new(Duty::Retention);
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stop.wait_for(|stopping| *stopping) => break,
        }
        pause = PERIOD;
        let now = board.clock().now();
        match trim(&store, &leader, retention, now, &stop).await {
            Ok(rows) => {
                if rows > 0 {
                    tracing::info!(rows, "rows past their retention were deleted");
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
    leader.end().await;
    board.set(TASK, TaskState::Stopped);
}

/// The beginning of its day: each time the audit log is trimmed, an entry says so, and one a day is enough; rollups go by
/// whole days.
fn day_of(at: Timestamp) -> Timestamp {
    Timestamp(at.0 - at.0.rem_euclid(DAY_US))
}

/// Each kind in steps, until one finds less than it might have taken; nothing where another node does it.
async fn trim(
    store: &SharedStore,
    leader: &Leader,
    retention: Retention,
    now: Timestamp,
    stop: &watch::Receiver<bool>,
) -> Result<usize, store::Error> {
    let ago = |kept: Duration| now.plus_us(-i64::try_from(kept.as_micros()).unwrap_or(i64::MAX));
    let (telemetry, audit, webhooks) =
        (ago(retention.telemetry), day_of(ago(retention.audit)), ago(retention.webhooks));
    let rollups = day_of(ago(retention.rollups));
    let (mut total, mut failed) = (0, None);
    for kind in 0..4 {
        while !*stop.borrow() {
            let step = move |s: &dyn store::Store| match kind {
                0 => s.trim_audit(audit, ROWS_A_STEP, now),
                1 => s.trim_outbox(webhooks, ROWS_A_STEP),
                2 => s.trim_rollups(rollups, ROWS_A_STEP),
                _ => s.trim(telemetry, ROWS_A_STEP),
            };
            let leader = leader.clone();
            let led = move |s: &dyn store::Store| if leader.leads(s)? { step(s).map(Some) } else { Ok(None) };
            match store::run(store, led).await {
                Ok(Some(rows)) => {
                    total += rows;
                    if rows < ROWS_A_STEP {
                        break;
                    }
                }
                Ok(None) => return Ok(total),
                // One kind that cannot be trimmed does not keep the others.
                Err(error) => {
                    failed = failed.or(Some(error));
                    break;
                }
            }
        }
    }
    failed.map_or(Ok(total), Err)
}

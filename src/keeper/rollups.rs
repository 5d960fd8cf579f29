//! Minutes and hours of measurements, added up once an hour is over, so that long ranges are read quickly.
//!
//! Promise: finished hours are rolled up in bounded steps, oldest first, and what late data have made dirty again; not while
//! the collector lags behind. [`step`] is all of the work: doing it twice, or on two nodes at once, changes nothing more.
//! Must not know: HTTP, MQTT.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::domain::Timestamp;
use crate::energy;
use crate::history::{self, History};
use crate::observe::{Board, Progress, TaskState, backoff::Backoff, metrics};
use crate::series::roll::roll;
use crate::store::{Duty, Leader, Rolled, RollupWork};

/// The name on the task board.
pub const TASK: &str = "rollups";

/// Between two looks when there is nothing to do.
const PERIOD: Duration = Duration::from_secs(5);
/// An hour is rolled up so long after its end: most of what is under way has come by then.
const GRACE_US: i64 = 120_000_000;
const HOUR_US: i64 = 3_600_000_000;
/// Days of devices asked for at once, and how long a step goes on with them.
const WORKS_A_STEP: usize = 64;
const STEP: Duration = Duration::from_millis(500);
/// Rows written at once, about.
const ROWS_A_WRITE: usize = 1000;
/// The collector comes first when it is so far behind.
const LAG_S: f64 = 5.0;
/// Between tries while the store or the archive is away.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));

/// What the work needs to know.
#[derive(Clone)]
pub struct Rollups {
    /// Samples and rollups.
    pub history: History,
    /// How long telemetry is kept. What came late for a day that begins before is left: the rest of it may be gone.
    pub telemetry: Duration,
    /// Of the collector.
    pub progress: Progress,
}

/// Runs until `stop` says so.
pub async fn run(rollups: Rollups, board: Board, mut stop: watch::Receiver<bool>) {
    board.set(TASK, TaskState::Running);
    let leader = Leader::new(Duty::Rollups);
    let mut backoff = BACKOFF;
    let mut pause = Duration::ZERO;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stop.wait_for(|stopping| *stopping) => break,
        }
        let now = board.clock().now();
        if rollups.progress.lag_s(now) > LAG_S {
            pause = PERIOD;
            continue;
        }
        let (parts, candidate, stopping) = (rollups.clone(), leader.clone(), stop.clone());
        let started = Instant::now();
        let done = tokio::task::spawn_blocking(move || {
            if !candidate.leads(parts.history.store())? {
                return Ok(0);
            }
            let done = step(&parts, now, &|| *stopping.borrow())?;
            if done == 0 {
                report(&parts, now)?;
            }
            Ok::<_, history::Error>(done)
        });
        match done.await {
            // As long as it has worked: at most half of the time of one processor.
            Ok(Ok(done)) => {
                backoff = BACKOFF;
                pause = if done == 0 { PERIOD } else { started.elapsed() };
            }
            Ok(Err(error)) => {
                pause = backoff.next_pause();
                tracing::warn!(error = &error as &dyn std::error::Error, ?pause, "rolling up failed; trying again");
                // No reason not to be ready: answers come from samples.
                board.note(TASK, "samples could not be read or their rollups not written");
            }
            Err(_) => break,
        }
    }
    leader.end().await;
    board.set(TASK, TaskState::Stopped);
}

/// Rolls up what is to be at `now`, for a moment; how many days of devices were done. 0 = there is nothing left. Blocks.
pub fn step(rollups: &Rollups, now: Timestamp, is_stopping: &dyn Fn() -> bool) -> Result<usize, history::Error> {
    let store = rollups.history.store();
    let settled = now.plus_us(-GRACE_US);
    store.finish_hours(settled.plus_us(-settled.0.rem_euclid(HOUR_US)))?;
    let cut = now.plus_us(-i64::try_from(rollups.telemetry.as_micros()).unwrap_or(i64::MAX));
    let works = store.rollup_work(WORKS_A_STEP)?;
    let started = Instant::now();
    let (mut done, mut ready) = (0, Vec::new());
    for work in works {
        // One of them in any case: where there is work, something is done.
        if is_stopping() || done > 0 && started.elapsed() > STEP {
            break;
        }
        let rolled = rolled(rollups, &work, cut)?;
        let kind = if work.mark.is_some() { "late" } else { "new" };
        metrics::ROLLUP_HOURS.increment(&[("kind", kind)], u64::from(work.hours.count_ones()));
        metrics::ENERGY_HOURS.increment(&[("reason", kind)], energy::hours_of(&rolled.rows));
        ready.push(rolled);
        done += 1;
        if ready.iter().map(|rolled| rolled.rows.len()).sum::<usize>() >= ROWS_A_WRITE {
            store.roll_up(&std::mem::take(&mut ready))?;
        }
    }
    // What is not written, as somebody else was faster, comes again if there is anything left.
    if !ready.is_empty() {
        store.roll_up(&ready)?;
    }
    Ok(done)
}

fn rolled(rollups: &Rollups, work: &RollupWork, cut: Timestamp) -> Result<Rolled, history::Error> {
    let is_kept = work.mark.is_some() && work.day < cut;
    if is_kept { Ok(Rolled::of(work)) } else { roll(&rollups.history, work) }
}

fn report(rollups: &Rollups, now: Timestamp) -> Result<(), history::Error> {
    let figures = rollups.history.store().rollup_figures()?;
    metrics::ROLLUP_WAITING_DEVICES.set(&[], figures.waiting_devices as f64);
    metrics::ROLLUP_DIRTY_DAYS.set(&[], figures.dirty_days as f64);
    let behind = figures.rolled_until.map_or(0.0, |until| now.since(until).as_secs_f64());
    metrics::ROLLUP_BEHIND_SECONDS.set(&[], behind);
    Ok(())
}

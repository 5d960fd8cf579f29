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
use crate::observe::{Board, Progress, TaskState, backoff::Backoff, counted, metrics};
use crate::series::roll::roll;
use crate::store::{Duty, Leader, Rolled, RollupFigures, RollupWork};

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
/// How often figures are read at least, while there is always something to do or nothing can be done.
const REPORT_EVERY: Duration = Duration::from_secs(30);
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
    let mut figures = Figures::default();
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stop.wait_for(|stopping| *stopping) => break,
        }
        let now = board.clock().now();
        figures.show(now);
        if rollups.progress.lag_s(now) > LAG_S {
            pause = PERIOD;
            continue;
        }
        let (parts, candidate, stopping, mut read) = (rollups.clone(), leader.clone(), stop.clone(), figures);
        let started = Instant::now();
        let done = tokio::task::spawn_blocking(move || {
            let done = turn(&parts, &candidate, &mut read, now, &|| *stopping.borrow());
            (done, read)
        });
        let Ok((done, read)) = done.await else { break };
        figures = read;
        figures.show(now);
        match done {
            // As long as it has worked: at most half of the time of one processor.
            Ok(done) => {
                backoff = BACKOFF;
                pause = if done == 0 { PERIOD } else { started.elapsed() };
            }
            Err(error) => {
                pause = backoff.next_pause();
                counted!(
                    warn,
                    metrics::ROLLUP_FAILURES,
                    [],
                    1,
                    error = &error as &dyn std::error::Error,
                    ?pause,
                    "rolling up failed; trying again"
                );
                // No reason not to be ready: answers come from samples.
                board.note(TASK, "samples could not be read or their rollups not written");
            }
        }
    }
    Figures::default().show(board.clock().now());
    leader.end().await;
    board.set(TASK, TaskState::Stopped);
}

/// A step, if it is this node's to do; how many days of devices were done. Blocks.
fn turn(
    rollups: &Rollups,
    leader: &Leader,
    figures: &mut Figures,
    now: Timestamp,
    is_stopping: &dyn Fn() -> bool,
) -> Result<usize, history::Error> {
    if !leader.leads(rollups.history.store())? {
        // Whoever does it says how far it is.
        *figures = Figures::default();
        return Ok(0);
    }
    // Before the step: what fails, and fails again, shows. And if they cannot be read, the work is done all the same.
    let read = figures.read_if_due(rollups);
    let done = step(rollups, now, is_stopping)?;
    read?;
    if done == 0 {
        figures.read(rollups)?;
    }
    Ok(done)
}

/// What is left to be done, as it was when it was last read. While it cannot be read, its age goes on.
#[derive(Clone, Copy, Default)]
struct Figures {
    left: RollupFigures,
    read_at: Option<Instant>,
}

impl Figures {
    fn read_if_due(&mut self, rollups: &Rollups) -> Result<(), history::Error> {
        let is_due = self.read_at.is_none_or(|at| at.elapsed() >= REPORT_EVERY);
        if is_due { self.read(rollups) } else { Ok(()) }
    }

    fn read(&mut self, rollups: &Rollups) -> Result<(), history::Error> {
        *self = Self { left: rollups.history.store().rollup_figures()?, read_at: Some(Instant::now()) };
        Ok(())
    }

    fn show(&self, now: Timestamp) {
        metrics::ROLLUP_WAITING_DEVICES.set(&[], self.left.waiting_devices as f64);
        metrics::ROLLUP_DIRTY_DAYS.set(&[], self.left.dirty_days as f64);
        let behind = self.left.rolled_until.map_or(0.0, |until| now.since(until).as_secs_f64());
        metrics::ROLLUP_BEHIND_SECONDS.set(&[], behind);
    }
}

/// Rolls up what is to be at `now`, for a moment; how many days of devices were done. 0 = there is nothing left. An error:
/// what there is cannot be done. Blocks.
pub fn step(rollups: &Rollups, now: Timestamp, is_stopping: &dyn Fn() -> bool) -> Result<usize, history::Error> {
    let store = rollups.history.store();
    let settled = now.plus_us(-GRACE_US);
    store.finish_hours(settled.plus_us(-settled.0.rem_euclid(HOUR_US)))?;
    let cut = now.plus_us(-i64::try_from(rollups.telemetry.as_micros()).unwrap_or(i64::MAX));
    let works = store.rollup_work(WORKS_A_STEP)?;
    let started = Instant::now();
    let (mut done, mut ready, mut failed) = (0, Vec::new(), None);
    for work in works {
        // One of them in any case: where there is work, something is done.
        if is_stopping() || (done > 0 || failed.is_some()) && started.elapsed() > STEP {
            break;
        }
        let rolled = match rolled(rollups, &work, cut) {
            Ok(rolled) => rolled,
            // One device that cannot be read does not keep the others.
            Err(error) => {
                failed = failed.or(Some(error));
                continue;
            }
        };
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
    // It comes again with the next step, and is what is left when the others are done.
    failed.filter(|_| done == 0).map_or(Ok(done), Err)
}

fn rolled(rollups: &Rollups, work: &RollupWork, cut: Timestamp) -> Result<Rolled, history::Error> {
    let is_kept = work.mark.is_some() && work.day < cut;
    if is_kept { Ok(Rolled::of(work)) } else { roll(&rollups.history, work) }
}

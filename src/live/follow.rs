//! The task that reads what changed in the database, by any node, and tells it.
//!
//! Asks only while somebody watches. Invariant: what was committed since it began to follow is told once, or it is told that it
//! was not seen.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{Event, Hub};
use crate::observe::backoff::Backoff;
use crate::observe::{Board, TaskState};
use crate::store::{self, LiveChange, LivePlace, SharedStore};

/// The task's name.
pub const TASK: &str = "live changes";

/// How long who begins to watch waits for the database.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// How often the database is asked.
const EVERY: Duration = Duration::from_millis(250);
/// How often old changes are forgotten.
const TRIM_EVERY: Duration = Duration::from_secs(60);
/// Changes read at once.
const AT_ONCE: u32 = 500;
/// Not read for so long, changes may have been forgotten: what every node could read when one looked, that one forgets when it
/// looks again.
const UNSEEN_AFTER: Duration = Duration::from_secs(TRIM_EVERY.as_secs() / 2);

/// Where the reading is.
struct Follower {
    store: SharedStore,
    hub: Hub,
    place: Option<LivePlace>,
    read_at: Instant,
    /// When old changes were forgotten last, and what could be read by then.
    trimmed: Option<(Instant, LivePlace)>,
}

/// Follows until `stop`; then all watches end.
pub async fn follow(store: SharedStore, hub: Hub, board: Board, mut stop: watch::Receiver<bool>) {
    let mut follower = Follower { store, hub: hub.clone(), place: None, read_at: Instant::now(), trimmed: None };
    let mut backoff = Backoff::default();
    board.set(TASK, TaskState::Running);
    while !*stop.borrow_and_update() {
        let turn = tokio::select! {
            // A database that does not answer holds up no stop.
            _ = stop.changed() => break,
            turn = follower.turn() => turn,
        };
        let pause = match turn {
            Ok(pause) => {
                if backoff.has_failed() {
                    backoff = Backoff::default();
                    tracing::info!("changes are followed again");
                }
                pause
            }
            Err(error) => {
                if !backoff.has_failed() {
                    tracing::warn!(error = &error as &dyn std::error::Error, "changes cannot be read; trying again");
                }
                // No reason not to be ready: who watches is told, and meters are served.
                backoff.next_pause()
            }
        };
        tokio::select! {
            _ = stop.changed() => break,
            () = tokio::time::sleep(pause) => {}
            () = hub.0.wanted.notified(), if follower.place.is_none() => {}
        }
    }
    hub.close();
    board.set(TASK, TaskState::Stopped);
}

impl Follower {
    /// One look; how long to wait for the next.
    async fn turn(&mut self) -> Result<Duration, store::Error> {
        let pauses = self.hub.end_following();
        if pauses {
            self.place = None;
        }
        if self.trimmed.is_none_or(|(at, _)| at.elapsed() >= TRIM_EVERY) {
            self.trim().await?;
        }
        if pauses {
            return Ok(TRIM_EVERY);
        }
        let Some(place) = self.place else {
            self.place = Some(store::run(&self.store, |s| s.live_end()).await?);
            self.read_at = Instant::now();
            self.hub.begin_following();
            return Ok(Duration::ZERO);
        };
        let read = store::run(&self.store, move |s| s.live_changes(place, AT_ONCE)).await?;
        if self.read_at.elapsed() > UNSEEN_AFTER {
            self.hub.tell([Event::Unseen]);
        }
        self.read_at = Instant::now();
        self.place = Some(read.place);
        self.hub.tell(read.changes.into_iter().map(|change| match change {
            LiveChange::Presence(device, state) => Event::Presence(device, state),
            LiveChange::Alert(alert) => Event::Alert(alert),
            LiveChange::Command(command) => Event::Command(command),
        }));
        Ok(if read.has_more { Duration::ZERO } else { EVERY })
    }

    /// Forgets old changes, but none that somebody's transaction hid from readers until a moment ago.
    async fn trim(&mut self) -> Result<(), store::Error> {
        let (reads, before) = (self.place, self.trimmed.map(|(_, readable)| readable));
        let readable = store::run(&self.store, move |s| {
            if let Some(before) = before {
                s.trim_live(before)?;
            }
            reads.map_or_else(|| s.live_end(), Ok)
        });
        self.trimmed = Some((Instant::now(), readable.await?));
        Ok(())
    }
}

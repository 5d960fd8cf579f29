//! The task board: what every task of the process is doing, and whether the process is ready.
//!
//! Written by the tasks, read by `/readyz`, `/api/system/status` and the metrics page.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::{Clock, Timestamp};

/// Shared board; clones are the same board.
#[derive(Clone, Debug)]
pub struct Board {
    inner: Arc<Mutex<BTreeMap<&'static str, Entry>>>,
    clock: Clock,
    started_at: Timestamp,
}

/// What a task is doing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TaskState {
    /// Not ready yet.
    Starting,
    /// Working.
    Running,
    /// A transient error; it is being tried again. The text is safe to show to API clients.
    Retrying(String),
    /// Ended in good order.
    Stopped,
    /// Ended by an error.
    Failed(String),
}

impl TaskState {
    /// The state's name in the API.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Retrying(_) => "retrying",
            Self::Stopped => "stopped",
            Self::Failed(_) => "failed",
        }
    }

    /// The reason, where there is one.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Retrying(reason) | Self::Failed(reason) => Some(reason),
            _ => None,
        }
    }
}

/// A task's line on the board.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// What it is doing.
    pub state: TaskState,
    /// Since when.
    pub since: Timestamp,
    /// The last error it had, if any, and when.
    pub last_error: Option<(String, Timestamp)>,
}

impl Board {
    /// An empty board.
    pub fn new(clock: Clock) -> Self {
        let started_at = clock.now();
        Self { inner: Arc::default(), clock, started_at }
    }

    /// Sets a task's state.
    pub fn set(&self, task: &'static str, state: TaskState) {
        let now = self.clock.now();
        let mut tasks = self.lock();
        let entry = tasks.entry(task).or_insert(Entry { state: TaskState::Starting, since: now, last_error: None });
        if let Some(reason) = state.reason() {
            entry.last_error = Some((reason.to_owned(), now));
        }
        if entry.state != state {
            *entry = Entry { state, since: now, last_error: entry.last_error.take() };
        }
    }

    /// Notes an error of a task that does its work all the same: what it met is no reason not to be ready.
    pub fn note(&self, task: &'static str, reason: &str) {
        let now = self.clock.now();
        if let Some(entry) = self.lock().get_mut(task) {
            entry.last_error = Some((reason.to_owned(), now));
        }
    }

    /// All tasks by name.
    pub fn tasks(&self) -> BTreeMap<&'static str, Entry> {
        self.lock().clone()
    }

    /// Whether every task is running.
    pub fn is_ready(&self) -> bool {
        let tasks = self.lock();
        !tasks.is_empty() && tasks.values().all(|t| t.state == TaskState::Running)
    }

    /// When the process started.
    pub fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// The clock of the process.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Entry>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far a reader of the journal has come. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    position: Arc<AtomicU64>,
    /// Receive time of the oldest record not yet processed, in µs; 0 = none.
    oldest_us: Arc<AtomicU64>,
}

impl Progress {
    /// Exclusive end of what is processed **and** committed.
    pub fn position(&self) -> u64 {
        self.position.load(Ordering::Acquire)
    }

    /// Publishes a new position, and the receive time of the oldest record behind it, if known.
    pub fn set(&self, position: u64, oldest_pending: Option<Timestamp>) {
        self.oldest_us.store(oldest_pending.map_or(0, |t| t.0.max(0).unsigned_abs()), Ordering::Relaxed);
        self.position.store(position, Ordering::Release);
    }

    /// Receive time of the oldest record that is being processed; `None` = none is, or it is not known yet.
    pub fn oldest(&self) -> Option<Timestamp> {
        match self.oldest_us.load(Ordering::Relaxed) {
            0 => None,
            us => i64::try_from(us).ok().map(Timestamp),
        }
    }

    /// Age of the oldest unprocessed record in seconds; 0 when there is none.
    pub fn lag_s(&self, now: Timestamp) -> f64 {
        match self.oldest_us.load(Ordering::Relaxed) {
            0 => 0.0,
            us => now.since(Timestamp(i64::try_from(us).unwrap_or(i64::MAX))).as_secs_f64(),
        }
    }
}

//! Where notices come in: into the outbox of the database or, while that is away, into the spool of this node.
//!
//! A database that hangs says nothing, for as long as it likes: nobody here waits for it longer than [`PATIENCE`], and it is
//! away. What it does all the same, later, harms nothing: a notice taken in late is the one in the spool, one handed out late is
//! given back, and what was taken over late leaves the spool where it has not changed meanwhile.
//!
//! Invariant: while something is in the spool, everything goes there, in the order it comes: so the order of an alert's notices
//! is kept. The sender has one call under way in the database at a time, a hanging one included.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify, OwnedMutexGuard, oneshot};

use super::alertmanager::Alert;
use super::spool::Spool;
use crate::domain::{Clock, Timestamp};
use crate::observe::metrics;
use crate::store::{self, Due, Notice, OutboxState, Outcome, Settlement, SharedStore};

/// Most notices that wait in the database.
const ROOM: u64 = 10_000;
/// How long the database is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why notices were not taken, or an outbox does not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Too many wait.
    #[error("too many notices wait to be sent")]
    Full,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The database is away, and the node's own disk failed too.
    #[error("the notices cannot be kept on this node's disk")]
    Spool(#[source] io::Error),
}

/// What became of notices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// They will be sent.
    pub queued: usize,
    /// They were known.
    pub repeated: usize,
}

/// Clones are the same desk.
#[derive(Clone)]
pub struct Desk {
    inner: Arc<Inner>,
}

struct Inner {
    store: SharedStore,
    spool: Spool,
    clock: Clock,
    is_dry: bool,
    patience: Duration,
    /// Held while notices are taken in.
    turn: Mutex<()>,
    /// Held by the sender's call to the database until that ends, also when nobody waits for it any more.
    line: Arc<Mutex<()>>,
    wake: Notify,
}

/// Where a notice is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Database,
    Spool,
}

impl Desk {
    /// A desk; `is_dry`: what comes in now will not be sent.
    pub fn open(store: SharedStore, data_dir: &Path, clock: Clock, is_dry: bool) -> io::Result<Self> {
        Self::open_patiently(store, data_dir, clock, is_dry, PATIENCE)
    }

    /// The same with more or less patience.
    pub(super) fn open_patiently(
        store: SharedStore,
        data_dir: &Path,
        clock: Clock,
        is_dry: bool,
        patience: Duration,
    ) -> io::Result<Self> {
        let spool = Spool::open(data_dir)?;
        let (turn, line, wake) = (Mutex::default(), Arc::default(), Notify::new());
        Ok(Self { inner: Arc::new(Inner { store, spool, clock, is_dry, patience, turn, line, wake }) })
    }

    /// Takes alerts in; when it returns, they are on disk.
    pub async fn accept(&self, alerts: Vec<Alert>) -> Result<Accepted, Error> {
        let told = alerts.len();
        let queued = self.take_in(&alerts).await?;
        let repeated = told - queued;
        let count = |result, n: usize| metrics::ALERT_NOTICES.increment(&[("result", result)], n as u64);
        count("queued", queued);
        count("repeated", repeated);
        if queued > 0 {
            self.inner.wake.notify_one();
        }
        Ok(Accepted { queued, repeated })
    }

    /// How many were news.
    async fn take_in(&self, alerts: &[Alert]) -> Result<usize, Error> {
        let _turn = self.inner.turn.lock().await;
        let now = self.inner.clock.now();
        let notices: Vec<Notice> = alerts.iter().map(|alert| alert.notice(now, self.inner.is_dry)).collect();
        if self.inner.spool.len() == 0 {
            let given = notices.clone();
            let take = move |inner: &Inner| inner.store.accept_notices(&given, ROOM);
            match self.patiently("take notices of alerts", take, |_, _| ()).await.flatten() {
                Ok(Outcome::Done(taken)) => return Ok(taken),
                Ok(Outcome::Conflict) => return Err(Error::Full),
                Err(store::Error::Interrupted) => return Err(store::Error::Interrupted.into()),
                // Away, or broken: all the more reason to get out.
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    count = notices.len(),
                    "the database fails: alerts are kept on this node's disk and sent from there"
                ),
            }
        }
        match self.blocking(move |inner| inner.spool.accept(&notices).map_err(Error::Spool)).await? {
            Outcome::Done(taken) => Ok(taken),
            Outcome::Conflict => Err(Error::Full),
        }
    }

    /// Something may be due now.
    pub fn wake(&self) {
        self.inner.wake.notify_one();
    }

    /// Waits for that.
    pub(super) async fn woken(&self) {
        self.inner.wake.notified().await;
    }

    /// How many notices are in the spool.
    pub(super) fn spooled(&self) -> usize {
        self.inner.spool.len()
    }

    /// Lets the database take over what is in the spool.
    pub(super) async fn adopt(&self) -> Result<(), Error> {
        if self.inner.spool.len() == 0 {
            return Ok(());
        }
        self.ask("take notices over", Inner::adopt, |_, ()| ()).await
    }

    /// The next notice of a place.
    pub(super) async fn claim(
        &self,
        place: Place,
        node: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<Due>, Error> {
        if place == Place::Spool {
            return self.blocking(move |inner| Ok(inner.spool.claim(now))).await;
        }
        let (node, claimant) = (node.to_owned(), node.to_owned());
        let claim = move |inner: &Inner| inner.store.claim_notice(&node, now, until).map_err(Error::Store);
        self.ask("claim a notice", claim, move |inner, due| {
            if let Some(due) = due {
                inner.give_back(&claimant, &due);
            }
        })
        .await
    }

    /// Writes what came of a notice.
    pub(super) async fn settle(&self, place: Place, id: i64, node: &str, end: Settlement) -> Result<(), Error> {
        if place == Place::Spool {
            return self.blocking(move |inner| inner.spool.settle(id, &end).map_err(Error::Spool)).await;
        }
        let node = node.to_owned();
        let settle = move |inner: &Inner| inner.store.settle_notice(id, &node, &end).map(drop).map_err(Error::Store);
        self.ask("settle a notice", settle, |_, ()| ()).await
    }

    /// The figures of the database's outbox.
    pub(super) async fn figures(&self) -> Result<store::OutboxFigures, Error> {
        let count = |inner: &Inner| inner.store.outbox_figures().map_err(Error::Store);
        self.ask("count notices", count, |_, _| ()).await
    }

    /// Asks the database for the sender; `late` is given what came when nobody waited any more.
    async fn ask<T: Send + 'static>(
        &self,
        operation: &'static str,
        call: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
        late: impl FnOnce(&Inner, T) + Send + 'static,
    ) -> Result<T, Error> {
        let Ok(line) = Arc::clone(&self.inner.line).try_lock_owned() else { return Err(hangs(operation).into()) };
        let call = move |inner: &Inner| (call(inner), line);
        let too_late = move |inner: &Inner, (done, _line): (Result<T, Error>, OwnedMutexGuard<()>)| {
            if let Ok(done) = done {
                late(inner, done);
            }
        };
        let (done, _line) = self.patiently(operation, call, too_late).await?;
        done
    }

    /// Runs a call to the database, which may hang; what comes too late goes to `late`.
    async fn patiently<T: Send + 'static>(
        &self,
        operation: &'static str,
        call: impl FnOnce(&Inner) -> T + Send + 'static,
        late: impl FnOnce(&Inner, T) + Send + 'static,
    ) -> Result<T, store::Error> {
        let (answer, mut answered) = oneshot::channel();
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || {
            if let Err(done) = answer.send(call(&inner)) {
                late(&inner, done);
            }
        });
        if let Ok(answer) = tokio::time::timeout(self.inner.patience, &mut answered).await {
            return answer.map_err(|_| store::Error::Interrupted);
        }
        // It may have come at this very moment: then it is not late.
        answered.close();
        answered.try_recv().map_err(|_| hangs(operation))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = Arc::clone(&self.inner);
        let done = tokio::task::spawn_blocking(move || call(&inner)).await;
        done.unwrap_or(Err(Error::Store(store::Error::Interrupted)))
    }
}

impl Inner {
    fn adopt(&self) -> Result<(), Error> {
        let rows = self.spool.rows();
        self.store.adopt_notices(&rows)?;
        self.spool.forget(&rows).map_err(Error::Spool)?;
        tracing::info!(count = rows.len(), "the database is back and has taken over what was kept on this node's disk");
        Ok(())
    }

    /// Lets go of a notice that was handed out too late: that was no try.
    fn give_back(&self, node: &str, Due { row, .. }: &Due) {
        let (at, attempts, next_attempt_at) = (self.clock.now(), row.attempts.saturating_sub(1), row.next_attempt_at);
        let state = OutboxState::Pending;
        let (last_error, result, issue, held_until) = (None, None, None, None);
        let end = Settlement { at, state, attempts, next_attempt_at, last_error, result, issue, held_until };
        if let Err(error) = self.store.settle_notice(row.id, node, &end) {
            // This node gets it again; others, when its lease has ended.
            tracing::debug!(%error, "a notice could not be given back");
        }
    }
}

fn hangs(operation: &'static str) -> store::Error {
    store::Error::Unavailable { operation, source: "it does not answer".into() }
}

//! Where notices come in: into the outbox of the database or, while that is away, into the spool of this node.
//!
//! Invariant: while something is in the spool, everything goes there: so the order of an alert's notices is kept. Taking
//! in and taking over (`adopt`) never happen at the same time.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::alertmanager::Alert;
use super::spool::Spool;
use crate::domain::{Clock, Timestamp};
use crate::observe::metrics;
use crate::store::{self, Due, Notice, Outcome, Settlement, SharedStore};

/// Most notices that wait in the database.
const ROOM: u64 = 10_000;

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
    /// Held while notices are taken in or over.
    turn: Mutex<()>,
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
        let spool = Spool::open(data_dir)?;
        let (turn, wake) = (Mutex::default(), Notify::new());
        Ok(Self { inner: Arc::new(Inner { store, spool, clock, is_dry, turn, wake }) })
    }

    /// Takes alerts in; when it returns, they are on disk.
    pub async fn accept(&self, alerts: Vec<Alert>) -> Result<Accepted, Error> {
        let told = alerts.len();
        let queued = self.blocking(move |inner| inner.accept(&alerts)).await?;
        let repeated = told - queued;
        let count = |result, n: usize| metrics::ALERT_NOTICES.increment(&[("result", result)], n as u64);
        count("queued", queued);
        count("repeated", repeated);
        if queued > 0 {
            self.inner.wake.notify_one();
        }
        Ok(Accepted { queued, repeated })
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
        self.blocking(Inner::adopt).await
    }

    /// The next notice of a place.
    pub(super) async fn claim(
        &self,
        place: Place,
        node: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<Due>, Error> {
        let node = node.to_owned();
        self.blocking(move |inner| match place {
            Place::Database => Ok(inner.store.claim_notice(&node, now, until)?),
            Place::Spool => Ok(inner.spool.claim(now)),
        })
        .await
    }

    /// Writes what came of a notice.
    pub(super) async fn settle(&self, place: Place, id: i64, node: &str, end: Settlement) -> Result<(), Error> {
        let node = node.to_owned();
        self.blocking(move |inner| match place {
            Place::Database => Ok(inner.store.settle_notice(id, &node, &end).map(drop)?),
            Place::Spool => inner.spool.settle(id, &end).map_err(Error::Spool),
        })
        .await
    }

    /// The figures of the database's outbox.
    pub(super) async fn figures(&self) -> Result<store::OutboxFigures, Error> {
        self.blocking(|inner| Ok(inner.store.outbox_figures()?)).await
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
    fn accept(&self, alerts: &[Alert]) -> Result<usize, Error> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let notices: Vec<Notice> = alerts.iter().map(|alert| alert.notice(now, self.is_dry)).collect();
        if self.spool.len() == 0 {
            match self.store.accept_notices(&notices, ROOM) {
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
        match self.spool.accept(&notices).map_err(Error::Spool)? {
            Outcome::Done(taken) => Ok(taken),
            Outcome::Conflict => Err(Error::Full),
        }
    }

    fn adopt(&self) -> Result<(), Error> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = self.spool.rows();
        self.store.adopt_notices(&rows)?;
        self.spool.clear().map_err(Error::Spool)?;
        tracing::info!(count = rows.len(), "the database is back and has taken over what was kept on this node's disk");
        Ok(())
    }
}

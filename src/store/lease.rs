//! One node at a time: who does the work that any of the nodes on one database could do.
//!
//! Promise: of all nodes that [`Leader::leads`] at most one is told yes for a duty, and when it ends, dies or loses its
//! database, another one is told yes the next time it asks. A lease spares work, it does not fence it off: a node cut off
//! from the database may believe for half a minute that it leads, so what is done under a lease must be harmless when two do
//! it. A store of one node always says yes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Error, Store};
use crate::observe::metrics;

/// How long the database may take to hear that a duty is given up.
const FAREWELL: Duration = Duration::from_secs(1);

/// Work that is done by one node at a time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Duty {
    /// Deleting what is past its retention.
    Retention,
    /// Means, extremes, sums and energy of long ranges.
    Rollups,
    /// Devices that no node hears any more.
    Presence,
    /// Firmware campaigns.
    Rollouts,
}

impl Duty {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Retention, Self::Rollups, Self::Presence, Self::Rollouts];

    /// As metrics, logs and the database's locks name it. Part of what nodes of different versions agree on: never changed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Retention => "retention",
            Self::Rollups => "rollups",
            Self::Presence => "presence",
            Self::Rollouts => "rollouts",
        }
    }
}

/// What a store holds for a [`Lease`]; dropping it gives the duty up.
pub(super) trait Held: Send {
    /// Whether it still does. Asks the database.
    fn is_held(&mut self) -> bool;
}

/// A duty is ours until this is dropped, or the database is lost.
pub struct Lease(Option<Box<dyn Held>>);

impl Lease {
    /// Where there is one node only.
    pub(super) const fn alone() -> Self {
        Self(None)
    }

    #[cfg(feature = "postgres")]
    pub(super) fn new(held: impl Held + 'static) -> Self {
        Self(Some(Box::new(held)))
    }

    /// Whether the duty is still ours: asks the database, which takes a round trip. Blocks.
    pub fn is_held(&mut self) -> bool {
        self.0.as_mut().is_none_or(|held| held.is_held())
    }
}

/// A candidate for a duty: stands again each time it is asked, and keeps what it has won. Clones are the same candidate.
#[derive(Clone)]
pub struct Leader {
    duty: Duty,
    lease: Arc<Mutex<Option<Lease>>>,
}

impl Leader {
    /// A candidate that has not stood yet.
    pub fn new(duty: Duty) -> Self {
        metrics::NODE_DUTY.set(&[("duty", duty.name())], 0.0);
        Self { duty, lease: Arc::default() }
    }

    /// Whether the duty is this node's now; asked before each step of the work. Blocks.
    pub fn leads(&self, store: &dyn Store) -> Result<bool, Error> {
        let mut lease = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        if lease.as_mut().is_some_and(Lease::is_held) {
            return Ok(true);
        }
        let had = lease.take().is_some();
        *lease = store.try_lead(self.duty)?;
        let duty = self.duty.name();
        match (had, lease.is_some()) {
            (true, false) => tracing::info!(duty, "another node has taken a duty over"),
            (false, true) if store.is_shared() => tracing::info!(duty, "this node has a duty"),
            _ => {}
        }
        metrics::NODE_DUTY.set(&[("duty", duty)], f64::from(u8::from(lease.is_some())));
        Ok(lease.is_some())
    }

    /// Gives the duty up, so that another node may have it. Blocks.
    pub fn resign(&self) {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner).take();
        metrics::NODE_DUTY.set(&[("duty", self.duty.name())], 0.0);
    }

    /// The same at the end of a task, which does not wait long for a database that is away.
    pub async fn end(&self) {
        let leader = self.clone();
        let resigning = tokio::task::spawn_blocking(move || leader.resign());
        // (Whoever is not told finds out by the connection.)
        let _ = tokio::time::timeout(FAREWELL, resigning).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metric_knows_every_duty() {
        assert_eq!(Duty::ALL.map(Duty::name), crate::observe::catalogue::DUTIES);
    }
}

//! A node's heartbeat: that it is there, how far it has stored what it received, and who else is there.
//!
//! Promise: what is said of how far it has stored is never too much: everything received before that instant is in the
//! database. Must not know: what others do with it.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;

use crate::domain::Timestamp;
use crate::journal::{Journal, Offset, Status};
use crate::observe::{Board, Progress, TaskState};
use crate::store::{self, Beat, Node, SharedStore};

/// The name on the task board.
pub const TASK: &str = "heartbeat";

/// How long a node that stops tries to say so.
const FAREWELL: Duration = Duration::from_secs(2);

/// The nodes as they were at the last heartbeat; none where the store is this node's own. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Peers(Arc<RwLock<Vec<Node>>>);

/// How many nodes are what.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Census {
    pub alive: usize,
    pub dead: usize,
    pub stopped: usize,
}

impl Peers {
    /// How many there are; a node whose store is its own is alive and alone.
    pub fn census(&self) -> Census {
        let nodes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if nodes.is_empty() {
            return Census { alive: 1, ..Census::default() };
        }
        let count = |is_it: fn(&Node) -> bool| nodes.iter().filter(|node| is_it(node)).count();
        Census {
            alive: count(|node| node.is_alive),
            dead: count(|node| !node.is_alive && node.heartbeat_at.is_some()),
            stopped: count(|node| node.heartbeat_at.is_none()),
        }
    }

    fn set(&self, nodes: Vec<Node>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = nodes;
    }
}

/// What beats.
pub struct Heart {
    /// Where.
    pub store: SharedStore,
    /// For the time, and for who watches.
    pub board: Board,
    /// What is received.
    pub journal: Journal,
    /// How far it is stored.
    pub collector: Progress,
    /// What is said, but for how far.
    pub said: Beat,
    /// How often.
    pub every: Duration,
    /// Who else is there.
    pub peers: Peers,
}

impl Heart {
    /// Beats until `stop` says so, then says that it stops.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        self.board.set(TASK, TaskState::Running);
        loop {
            match self.beat().await {
                Ok(nodes) => {
                    self.peers.set(nodes);
                    self.board.set(TASK, TaskState::Running);
                }
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "the heartbeat failed; trying again");
                    self.board.set(TASK, TaskState::Retrying("the store does not take the heartbeat".into()));
                }
            }
            tokio::select! {
                () = tokio::time::sleep(self.every) => {}
                _ = stop.wait_for(|stopping| *stopping) => break,
            }
        }
        // One that cannot say so is found out by its silence.
        let _ = tokio::time::timeout(FAREWELL, store::run(&self.store, |s| s.leave())).await;
        self.board.set(TASK, TaskState::Stopped);
    }

    async fn beat(&mut self) -> Result<Vec<Node>, store::Error> {
        self.said.stored_until = self.stored_until();
        let said = self.said.clone();
        store::run(&self.store, move |s| {
            s.beat(&said)?;
            s.nodes()
        })
        .await
    }

    /// The time is taken first: what is received from then on is of no concern.
    fn stored_until(&self) -> Timestamp {
        let (now, status) = (self.board.clock().now(), self.journal.status());
        stored_until(now, &status, Offset(self.collector.position()), self.collector.oldest(), self.said.stored_until)
    }
}

/// Now, if nothing waits, also not to get into the journal; else the time of the oldest that waits. Where that is not known,
/// no further than `before`.
fn stored_until(
    now: Timestamp,
    journal: &Status,
    position: Offset,
    oldest: Option<Timestamp>,
    before: Timestamp,
) -> Timestamp {
    match position >= journal.head && journal.has_room() {
        true => now,
        false => oldest.unwrap_or(before),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_to_be_stored_is_never_too_much() {
        let (before, oldest, now) = (Timestamp(1), Timestamp(2), Timestamp(3));
        let journal = Status { head: Offset(9), durable: Offset(9), limit_bytes: 100, ..Status::default() };
        let check = |journal: &Status, position: u64, known: Option<Timestamp>, expected: Timestamp| {
            assert_eq!(stored_until(now, journal, Offset(position), known, before), expected, "{position} {journal:?}");
        };
        check(&journal, 9, None, now);
        check(&journal, 8, Some(oldest), oldest);
        check(&journal, 8, None, before);
        // What is not on disk yet is not stored either.
        check(&Status { head: Offset(10), ..journal.clone() }, 9, None, before);
        // Meters wait to be heard.
        check(&Status { stalled: Some("no space left".to_owned()), ..journal.clone() }, 9, None, before);
        check(&Status { unreleased_bytes: 100, ..journal }, 9, None, before);
    }
}

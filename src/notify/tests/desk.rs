//! The desk on a real database: while that is locked by somebody else notices are kept beside it, and taken over later.

use std::sync::Arc;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};

use super::{alert, at};
use crate::domain::Clock;
use crate::notify::desk::{Desk, Place};
use crate::store::{self, AlertStatus, Issue, OutboxFilter, OutboxState, Page, Settlement, SharedStore};

/// A desk, its clock and its database.
struct Bench {
    desk: Desk,
    store: SharedStore,
    clock: Clock,
    dir: tempfile::TempDir,
}

/// Longer than a database can be waited for before it fails by itself.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(50);

impl Bench {
    fn new() -> Self {
        Self::of_patience(LONG)
    }

    fn of_patience(patience: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = store::open(&format!("sqlite://{}", dir.path().join("a.db").display())).unwrap();
        let clock = Clock::manual(at(0));
        let desk = Desk::open_patiently(Arc::clone(&store), dir.path(), clock.clone(), false, patience).unwrap();
        Self { desk, store, clock, dir }
    }

    /// Somebody else holds the database as long as this lives.
    fn lock(&self) -> SqliteConnection {
        let mut other = SqliteConnection::establish(self.dir.path().join("a.db").to_str().unwrap()).unwrap();
        other.batch_execute("PRAGMA busy_timeout = 30000; BEGIN EXCLUSIVE").unwrap();
        other
    }

    async fn tell(&self, status: AlertStatus, second: i64) -> (usize, usize) {
        self.clock.set(at(second));
        let accepted = self.desk.accept(vec![alert("ab", status, 0)]).await.unwrap();
        (accepted.queued, accepted.repeated)
    }

    /// Waits until no call to the database hangs any more.
    async fn is_free(&self) {
        let free = async {
            while self.desk.figures().await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LONG, free).await.expect("a call to the database never ends");
    }

    fn rows(&self) -> Vec<(AlertStatus, OutboxState, Option<i64>)> {
        let rows = self.store.outbox(&OutboxFilter::default(), Page::offset(0, 50)).unwrap().items;
        rows.into_iter().map(|row| (row.status, row.state, row.issue.map(|issue| issue.number))).collect()
    }
}

#[tokio::test]
async fn while_the_database_is_away_notices_are_kept_and_sent_from_beside_it() {
    let bench = Bench::new();
    let lock = bench.lock();
    assert_eq!(bench.tell(AlertStatus::Firing, 1).await, (1, 0));
    assert_eq!(bench.tell(AlertStatus::Firing, 2).await, (0, 1), "a repetition");
    assert_eq!(bench.desk.spooled(), 1);
    assert!(bench.desk.adopt().await.is_err());
    let due = bench.desk.claim(Place::Spool, "n", at(3), at(60)).await.unwrap().unwrap();
    let issue = Some(Issue { repository: "a/b".into(), number: 5 });
    let (state, result) = (OutboxState::Done, Some("opened".to_owned()));
    let (last_error, held_until) = (None, None);
    let (at_3, attempts) = (at(3), 1);
    let end = Settlement { at: at_3, state, attempts, next_attempt_at: at_3, last_error, result, issue, held_until };
    bench.desk.settle(Place::Spool, due.row.id, "n", end).await.unwrap();
    drop(lock);
    // What comes before the database has taken over is kept behind it.
    assert_eq!(bench.tell(AlertStatus::Resolved, 4).await, (1, 0));
    assert_eq!((bench.desk.spooled(), bench.rows().len()), (2, 0));
    bench.desk.adopt().await.unwrap();
    assert_eq!(bench.desk.spooled(), 0);
    let expected =
        [(AlertStatus::Resolved, OutboxState::Pending, None), (AlertStatus::Firing, OutboxState::Done, Some(5))];
    assert_eq!(bench.rows(), expected);
    let due = bench.desk.claim(Place::Database, "n", at(5), at(60)).await.unwrap().unwrap();
    assert_eq!((due.row.status, due.issue.map(|issue| issue.number)), (AlertStatus::Resolved, Some(5)));
    assert_eq!(bench.tell(AlertStatus::Resolved, 6).await, (0, 1));
}

#[tokio::test]
async fn an_end_is_taken_though_the_clock_was_set_back() {
    let bench = Bench::new();
    assert_eq!(bench.tell(AlertStatus::Firing, 100).await, (1, 0));
    assert_eq!(bench.tell(AlertStatus::Resolved, 40).await, (1, 0));
    assert_eq!(bench.tell(AlertStatus::Resolved, 41).await, (0, 1), "a repetition");
    let expected = [AlertStatus::Resolved, AlertStatus::Firing].map(|status| (status, OutboxState::Pending, None));
    assert_eq!(bench.rows(), expected);
}

#[tokio::test]
async fn what_was_kept_beside_the_database_is_there_after_a_restart() {
    let bench = Bench::new();
    let lock = bench.lock();
    bench.tell(AlertStatus::Firing, 1).await;
    drop(lock);
    let again = Desk::open(Arc::clone(&bench.store), bench.dir.path(), bench.clock.clone(), false).unwrap();
    assert_eq!(again.spooled(), 1);
    again.adopt().await.unwrap();
    assert_eq!(bench.rows(), [(AlertStatus::Firing, OutboxState::Pending, None)]);
}

#[tokio::test]
async fn a_notice_that_a_hanging_database_takes_in_late_is_there_once() {
    let bench = Bench::of_patience(SHORT);
    let lock = bench.lock();
    assert_eq!(bench.tell(AlertStatus::Firing, 1).await, (1, 0));
    assert_eq!(bench.desk.spooled(), 1, "nobody waits for the database");
    drop(lock);
    let is_taken_in = async {
        while bench.rows().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, is_taken_in).await.expect("the call goes on by itself");
    while bench.desk.adopt().await.is_err() {
        bench.is_free().await;
    }
    assert_eq!((bench.desk.spooled(), bench.rows()), (0, vec![(AlertStatus::Firing, OutboxState::Pending, None)]));
}

#[tokio::test]
async fn a_notice_that_a_hanging_database_hands_out_late_is_given_back() {
    let bench = Bench::of_patience(SHORT);
    while bench.rows().is_empty() {
        bench.tell(AlertStatus::Firing, 1).await;
        while bench.desk.adopt().await.is_err() {
            bench.is_free().await;
        }
    }
    bench.is_free().await;
    let lock = bench.lock();
    assert!(bench.desk.claim(Place::Database, "n", at(2), at(60)).await.is_err());
    // Readers are let in; but there is one call at a time.
    assert!(bench.desk.figures().await.is_err(), "the other one has not ended");
    drop(lock);
    bench.is_free().await;
    let due = bench.store.claim_notice("another", at(3), at(60)).unwrap().expect("it is nobody's");
    assert_eq!(due.row.attempts, 1, "that was no try");
}

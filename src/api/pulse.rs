//! Does the database live? Asked by `/readyz`, which anybody may call as often as they like, and for the figures.
//!
//! Invariant: the database is asked at most once at a time and at most once a [`FRESH_US`], whoever and however many
//! ask; all others get the last answer. Nobody waits longer than [`PATIENCE`]: a database may hang, so that neither an answer
//! nor a failure ever comes. Must not know: what the database is.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::domain::{Clock, Timestamp};
use crate::store::SharedStore;

/// How long an answer is good for: a second.
const FRESH_US: i64 = 1_000_000;
/// How long a caller waits for the database.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the database said: fine, or why not.
type Answer = Result<(), &'static str>;

/// The pulse of one database; clones are the same one.
#[derive(Clone)]
pub struct Pulse {
    store: SharedStore,
    clock: Clock,
    /// The last answer, and when. The lock is held while the database is asked, also when the caller has gone away.
    last: Arc<Mutex<Option<(Timestamp, Answer)>>>,
}

impl Pulse {
    /// That of this database.
    pub fn new(store: SharedStore, clock: Clock) -> Self {
        Self { store, clock, last: Arc::default() }
    }

    /// The database's answer of now, or of a moment ago.
    pub async fn feel(&self) -> Answer {
        match tokio::time::timeout(PATIENCE, self.ask()).await {
            Ok(answer) => answer,
            Err(_) => Err("the database does not answer"),
        }
    }

    async fn ask(&self) -> Answer {
        let mut last = Arc::clone(&self.last).lock_owned().await;
        let now = self.clock.now();
        if let Some((at, answer)) = *last
            && (0..FRESH_US).contains(&(now.0.saturating_sub(at.0)))
        {
            return answer;
        }
        let (store, clock) = (Arc::clone(&self.store), self.clock.clone());
        let asked = tokio::task::spawn_blocking(move || {
            let answer = store.ping().map_err(|error| {
                tracing::debug!(%error, "the database did not answer well");
                "the database is unavailable"
            });
            *last = Some((clock.now(), answer));
            answer
        });
        asked.await.unwrap_or(Err("the database is unavailable"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::{FakeStore, NOW};

    #[tokio::test]
    async fn many_callers_make_one_question_a_second() {
        let store = Arc::new(FakeStore::default());
        let clock = Clock::manual(NOW);
        let pulse = Pulse::new(Arc::clone(&store) as SharedStore, clock.clone());
        for _ in 0..10 {
            let (a, b, c) = tokio::join!(pulse.feel(), pulse.feel(), pulse.feel());
            assert_eq!([a, b, c], [Ok(()); 3]);
        }
        assert_eq!(store.pings(), 1);
        clock.set(NOW.plus_us(FRESH_US));
        assert_eq!(pulse.feel().await, Ok(()));
        assert_eq!(store.pings(), 2);
    }
}

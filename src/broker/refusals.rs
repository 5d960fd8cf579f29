//! What clients may not do, noted in the audit log: once a minute for each client and kind, so that a client that tries
//! again and again fills neither the log nor the queue to it. What was left out is told by the next note.
//!
//! Bounded: at most [`MAX_TRACKED`] clients and kinds are told apart; beyond that the newcomers share one note a minute.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Shared;
use super::auth::Identity;
use crate::audit;

/// Time between two notes.
const EVERY: Duration = Duration::from_secs(60);
/// Most clients and kinds told apart.
const MAX_TRACKED: usize = 4096;
/// Letters of a topic that are noted.
const TOPIC_LEN: usize = 256;

/// What was refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Action {
    Publish,
    Subscribe,
    Will,
}

impl Action {
    const fn name(self) -> &'static str {
        match self {
            Self::Publish => "mqtt.publish",
            Self::Subscribe => "mqtt.subscribe",
            Self::Will => "mqtt.will",
        }
    }
}

/// When each was last noted, and what has been left out since.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<HashMap<(String, Action), (Instant, u64)>>);

impl Refusals {
    /// Notes that `who` may not do that on `topic`.
    pub(super) fn note(&self, shared: &Shared, who: &Identity, peer: SocketAddr, action: Action, topic: &str) {
        let actor = match who {
            Identity::Device(id) => format!("device:{id}"),
            Identity::Service(grant) => format!("service:{}", grant.name),
            Identity::Open => "open".to_owned(),
        };
        let Some(left_out) = self.is_due(actor.clone(), action, Instant::now()) else { return };
        let more = if left_out > 0 { format!("; {left_out} more since the last note") } else { String::new() };
        shared.audit.note(audit::Event {
            at: shared.clock.now(),
            actor,
            address: Some(peer.ip()),
            action: action.name().to_owned(),
            target: topic.chars().take(TOPIC_LEN).collect(),
            outcome: audit::Outcome::Refused,
            request_id: None,
            detail: format!("not allowed{more}"),
        });
    }

    /// Whether it is to be noted now, and how many were not since the last time.
    fn is_due(&self, actor: String, action: Action, now: Instant) -> Option<u64> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= MAX_TRACKED && !seen.contains_key(&(actor.clone(), action)) {
            seen.retain(|_, (at, _)| now.duration_since(*at) < EVERY);
        }
        let actor = if seen.len() >= MAX_TRACKED { String::new() } else { actor };
        match seen.get_mut(&(actor.clone(), action)) {
            Some((at, left_out)) if now.duration_since(*at) < EVERY => {
                *left_out += 1;
                None
            }
            Some(entry) => Some(std::mem::replace(entry, (now, 0)).1),
            None => {
                seen.insert((actor, action), (now, 0));
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_tries_again_and_again_is_noted_once_a_minute() {
        let refusals = Refusals::default();
        let start = Instant::now();
        let due = |who: &str, action, s: u64| refusals.is_due(who.to_owned(), action, start + Duration::from_secs(s));
        assert_eq!(due("a", Action::Publish, 0), Some(0));
        assert_eq!(due("a", Action::Publish, 1), None);
        assert_eq!(due("a", Action::Publish, 59), None);
        assert_eq!(due("a", Action::Subscribe, 1), Some(0));
        assert_eq!(due("b", Action::Publish, 1), Some(0));
        assert_eq!(due("a", Action::Publish, 60), Some(2));
        assert_eq!(due("a", Action::Publish, 61), None);
    }

    #[test]
    fn a_flood_of_clients_takes_bounded_room() {
        let refusals = Refusals::default();
        let now = Instant::now();
        let noted = (0..MAX_TRACKED + 100).filter(|n| refusals.is_due(n.to_string(), Action::Publish, now).is_some());
        assert_eq!(noted.count(), MAX_TRACKED + 1);
        assert_eq!(refusals.0.lock().unwrap().len(), MAX_TRACKED + 1);
    }
}

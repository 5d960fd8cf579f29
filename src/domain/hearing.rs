//! What several nodes hear of one meter, merged into whether it is there.
//!
//! Pure. A meter may be connected to several nodes at once, or move from one to another; each node knows the order of what
//! it received itself, and of the others only when that was. So the last word of each node is kept, and the meter is there
//! when one of them heard it at all lately: as long ago, before the latest word of all, as its presence timeout. A last will
//! that reaches one node says nothing about the others; what a node stores late (its database was away) does not bring back
//! what has been heard to be gone since.
//!
//! Where there is one node its last word counts, whatever its clock did in between. Several nodes need clocks that agree to
//! much better than a presence timeout.

use std::time::Duration;

use uuid::Uuid;

use super::presence::Connection;
use super::time::Timestamp;

/// The last word one node has of a meter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hearing {
    /// What it said.
    pub connection: Connection,
    /// When it was received.
    pub at: Timestamp,
}

/// Words older than this behind the latest are of nodes that are no more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(86_400);

/// The last words of all nodes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Hearings {
    /// This node's.
    pub own: Option<Hearing>,
    /// The other nodes'. Bounded by the number of nodes that have been there in the last day.
    pub elsewhere: Vec<(Uuid, Hearing)>,
}

impl Hearings {
    /// Takes in a word of this node's; what it makes of the meter.
    pub(super) fn hear(&mut self, connection: Connection, at: Timestamp, timeout: Duration) -> Connection {
        self.own = Some(Hearing { connection, at });
        if self.elsewhere.is_empty() {
            return connection;
        }
        let latest = self.last().unwrap_or(at);
        self.elsewhere.retain(|(_, word)| word.at.plus(FORGOTTEN_AFTER) >= latest);
        let is_there = |word: &Hearing| word.connection == Connection::Online && word.at.plus(timeout) >= latest;
        if self.all().any(|word| is_there(&word)) { Connection::Online } else { Connection::Offline }
    }

    /// The meter is there, or not, whatever was heard: said by hand, or by its silence.
    pub(super) fn settle(&mut self, connection: Connection) {
        if connection == Connection::Online {
            return;
        }
        let words = self.own.iter_mut().chain(self.elsewhere.iter_mut().map(|(_, word)| word));
        words.for_each(|word| word.connection = connection);
    }

    /// When anything of it was last received, where more than one node hears it.
    pub(super) fn last(&self) -> Option<Timestamp> {
        let is_shared = !self.elsewhere.is_empty();
        self.all().map(|word| word.at).max().filter(|_| is_shared)
    }

    /// When a node last heard that it is there, where more than one node hears it.
    pub(super) fn last_online(&self) -> Option<Timestamp> {
        let is_shared = !self.elsewhere.is_empty();
        self.all().filter(|w| w.connection == Connection::Online).map(|w| w.at).max().filter(|_| is_shared)
    }

    fn all(&self) -> impl Iterator<Item = Hearing> {
        self.own.into_iter().chain(self.elsewhere.iter().map(|(_, word)| *word))
    }
}

#[cfg(test)]
mod tests {
    use super::super::device::DeviceState;
    use super::super::presence::PresenceChange::{self, None as Same, WentOffline, WentOnline};
    use super::Connection::{Offline, Online};
    use super::*;

    fn s(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1_000_000)
    }

    /// Two nodes that take turns with one state, as they do in a database; a meter's timeout is 60 s.
    fn check(words: &[(usize, Connection, i64, PresenceChange)]) -> DeviceState {
        let mut state = DeviceState::default();
        for (n, (node, connection, at, expected)) in words.iter().enumerate() {
            let (own, other) = (Uuid::from_u128(*node as u128), Uuid::from_u128(1 - *node as u128));
            let mut all: Vec<(Uuid, Hearing)> = std::mem::take(&mut state.heard.elsewhere);
            // What was the last node's own is the other's now.
            let last = if n == 0 { own } else { Uuid::from_u128(words[n - 1].0 as u128) };
            all.extend(state.heard.own.take().map(|word| (last, word)));
            state.heard.own = all.iter().find(|(node, _)| *node == own).map(|(_, word)| *word);
            state.heard.elsewhere = all.into_iter().filter(|(node, _)| *node == other).collect();
            assert_eq!(state.heard(*connection, s(*at)), *expected, "word {n} of {words:?}");
        }
        state
    }

    #[test]
    fn a_last_will_on_one_node_leaves_a_meter_that_the_other_hears_where_it_is() {
        let state = check(&[(0, Online, 100, WentOnline), (1, Online, 100, Same), (0, Offline, 110, Same)]);
        assert_eq!(state.last_seen, Some(s(110)));
        assert_eq!(state.deadline(Default::default(), s(0)), Some(s(160)), "from when it was last heard to be there");
        // Only when it is gone from both it is gone, once.
        check(&[
            (0, Online, 100, WentOnline),
            (1, Online, 105, Same),
            (0, Offline, 120, Same),
            (1, Offline, 122, WentOffline),
            (0, Offline, 123, Same),
            (1, Online, 130, WentOnline),
        ]);
    }

    #[test]
    fn a_meter_that_moves_is_not_taken_away_by_the_will_it_left_behind() {
        check(&[(0, Online, 100, WentOnline), (1, Online, 104, Same), (0, Offline, 122, Same), (1, Online, 124, Same)]);
    }

    #[test]
    fn what_is_stored_late_neither_brings_back_nor_takes_away() {
        check(&[(0, Online, 100, WentOnline), (0, Offline, 5000, WentOffline), (1, Online, 130, Same)]);
        check(&[(0, Online, 5000, WentOnline), (1, Offline, 130, Same), (1, Online, 140, Same)]);
    }

    #[test]
    fn one_that_a_dead_node_last_heard_is_gone_when_that_is_too_long_ago() {
        check(&[(1, Online, 100, WentOnline), (0, Online, 100, Same), (0, Offline, 161, WentOffline)]);
        let state = check(&[(1, Online, 100, WentOnline), (0, Online, 100, Same), (0, Offline, 150, Same)]);
        assert_eq!(state.deadline(Default::default(), s(0)), Some(s(160)));
    }

    #[test]
    fn words_of_nodes_that_are_no_more_are_forgotten() {
        let state = check(&[(1, Online, 100, WentOnline), (0, Online, 90_000, Same)]);
        assert_eq!(state.heard.elsewhere, []);
    }

    #[test]
    fn what_was_set_by_hand_holds_until_a_node_hears_it_again() {
        let mut state = check(&[(1, Online, 100, WentOnline), (0, Online, 100, Same)]);
        assert_eq!(state.connect(Offline), WentOffline);
        assert_eq!(state.heard(Offline, s(101)), Same);
        assert_eq!(state.heard(Online, s(102)), WentOnline);
    }
}

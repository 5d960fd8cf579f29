//! The last events, numbered, in so many bytes. Pure.
//!
//! Invariant: what is kept is consecutive; a number is never used twice; how many events are missing is said only where each
//! of them had a number.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use super::{Event, Identity};

#[derive(Debug)]
pub(super) struct Ring {
    keep_bytes: usize,
    bytes: usize,
    /// The number of the first event that is kept, or of the next one when none is.
    first: u64,
    /// Below this number something happened that was not seen: how much, nobody knows.
    resumed: u64,
    kept: VecDeque<(Arc<Event>, usize)>,
    /// The messages among them.
    messages: HashSet<Identity>,
}

impl Ring {
    /// Numbers begin at 1, so that there is one before the first.
    pub(super) fn new(keep_bytes: usize) -> Self {
        Self { keep_bytes, bytes: 0, first: 1, resumed: 1, kept: VecDeque::new(), messages: HashSet::new() }
    }

    /// Where to go on for who is to look at that number next, when some of what follows is not kept; and how much that is,
    /// unless nobody knows.
    pub(super) fn missed_since(&self, number: u64) -> Option<(u64, Option<u64>)> {
        let is_known = number >= self.resumed;
        (number < self.first).then(|| (self.first, is_known.then(|| self.first - number)))
    }

    /// The number of the next event to come.
    pub(super) fn next(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    /// Keeps these, each with its size, but no copy of a message that is kept; gives back what has to go for them.
    pub(super) fn push(&mut self, events: Vec<(Arc<Event>, usize)>) -> Vec<Arc<Event>> {
        let mut dropped = Vec::new();
        for (event, size) in events {
            if event.identity().is_some_and(|message| !self.messages.insert(message)) {
                continue;
            }
            self.bytes += size;
            self.kept.push_back((event, size));
        }
        while self.bytes > self.keep_bytes
            && let Some((event, size)) = self.kept.pop_front()
        {
            self.bytes -= size;
            self.first += 1;
            if let Some(message) = event.identity() {
                self.messages.remove(&message);
            }
            if *event == Event::Unseen {
                self.resumed = self.first;
            }
            dropped.push(event);
        }
        dropped
    }

    /// From here on nothing goes on from what was before, of which nothing is kept: an empty ring in its place, which goes on
    /// counting.
    pub(super) fn interrupted(&self) -> Self {
        let first = self.next() + 1;
        Self { first, resumed: first, ..Self::new(self.keep_bytes) }
    }

    /// The events that are kept from that number on.
    pub(super) fn from(&self, number: u64) -> impl Iterator<Item = &Arc<Event>> {
        let at = usize::try_from(number.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.kept.range(at.min(self.kept.len())..).map(|(event, _)| event)
    }
}

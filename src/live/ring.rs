//! The last events, numbered, in so many bytes. Pure.
//!
//! Invariant: what is kept is consecutive; a number is never used twice.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use super::{Event, Identity};

#[derive(Debug)]
pub(super) struct Ring {
    keep_bytes: usize,
    bytes: usize,
    /// The number of the first event that is kept, or of the next one when none is.
    first: u64,
    kept: VecDeque<(Arc<Event>, usize)>,
    /// The messages among them.
    messages: HashSet<Identity>,
}

impl Ring {
    /// Numbers begin at 1, so that there is one before the first.
    pub(super) fn new(keep_bytes: usize) -> Self {
        Self { keep_bytes, bytes: 0, first: 1, kept: VecDeque::new(), messages: HashSet::new() }
    }

    /// The number of the first event that is kept.
    pub(super) fn first(&self) -> u64 {
        self.first
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
            dropped.push(event);
        }
        dropped
    }

    /// From here on nothing goes on from what was before.
    pub(super) fn interrupt(&mut self) {
        self.first = self.next() + 1;
        self.bytes = 0;
        self.kept.clear();
        self.messages.clear();
    }

    /// The event of that number, if it is kept.
    pub(super) fn get(&self, number: u64) -> Option<&Arc<Event>> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.kept.get(at).map(|(event, _)| event)
    }
}

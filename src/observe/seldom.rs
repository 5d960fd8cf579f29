//! A line of the log about what anybody may do as often as they like: it is written when it happens first, and then once a
//! minute at most, with how often it has.
//!
//! Knows no logs: the caller writes, when it is told to. Pure.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::Timestamp;

/// Time between two lines.
const EVERY_US: i64 = 60_000_000;

/// Counts one thing.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    written: Option<Timestamp>,
    /// Not yet written of.
    count: u64,
}

impl Seldom {
    /// It happened. `Some` = write now that it has, so many times since it was written last.
    pub fn note(&self, now: Timestamp) -> Option<u64> {
        let mut state = self.state();
        state.count += 1;
        state.take(now)
    }

    /// The same without its having happened: for what is left when it has stopped. To be called now and then.
    pub fn rest(&self, now: Timestamp) -> Option<u64> {
        self.state().take(now)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, now: Timestamp) -> Option<u64> {
        let is_due = self.written.is_none_or(|written| now.0 - written.0 >= EVERY_US);
        if self.count == 0 || !is_due {
            return None;
        }
        self.written = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_often_is_written_once_a_minute_and_nothing_is_left_out() {
        let (seldom, at) = (Seldom::default(), |second: i64| Timestamp(second * 1_000_000));
        assert_eq!(seldom.rest(at(0)), None);
        assert_eq!(seldom.note(at(1)), Some(1));
        assert!((2..61).all(|second| seldom.note(at(second)).is_none()));
        assert_eq!(seldom.rest(at(60)), None);
        assert_eq!(seldom.note(at(61)), Some(60));
        assert_eq!(seldom.note(at(62)), None);
        assert_eq!(seldom.rest(at(121)), Some(1));
        assert_eq!(seldom.rest(at(999)), None);
    }
}

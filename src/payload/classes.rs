//! What decoding said of messages, passed on, so that each is decoded once: the collector needs what is in them, the archive
//! only what they are.
//!
//! Invariants: it depends on nothing but the message and the accepted window; in the order of the journal; bounded
//! ([`MOST`]): who comes too late decodes for himself.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::{Message, Refusal, Timestamp};

/// Classes kept, at most: about 5 MB.
const MOST: usize = 65_536;

/// What a message says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Class {
    /// The raw-data category: a kind of message, or `invalid`.
    pub category: &'static str,
    /// The meter's time of the message.
    pub ts: Option<Timestamp>,
    /// The meter's count, where the message has one.
    pub seq: Option<i64>,
    /// Why it is `invalid`.
    pub reason: Option<&'static str>,
}

impl From<&Result<Message, Refusal>> for Class {
    fn from(decoded: &Result<Message, Refusal>) -> Self {
        match decoded {
            Ok(message) => Self {
                category: message.body.kind(),
                ts: Some(message.ts),
                seq: message.seq.counted().map(i64::from),
                reason: None,
            },
            Err(refusal) => Self { category: "invalid", ts: None, seq: None, reason: Some(refusal.name()) },
        }
    }
}

#[derive(Default)]
struct Shared {
    /// By offset in the journal, ascending.
    known: Mutex<Known>,
    moved: Condvar,
}

#[derive(Default)]
struct Known {
    classes: VecDeque<(u64, Class)>,
    /// Everything below was decoded.
    reached: u64,
}

/// The classes on messages of the journal, from the one who decodes to the one who asks. Clones are the same.
#[derive(Clone, Default)]
pub struct Classes(Arc<Shared>);

impl Classes {
    /// Tells those of a run of messages, which ends at `end` (exclusive).
    pub fn tell(&self, classes: impl Iterator<Item = (u64, Class)>, end: u64) {
        let mut known = self.lock();
        known.classes.extend(classes);
        let over = known.classes.len().saturating_sub(MOST);
        known.classes.drain(..over);
        known.reached = end;
        drop(known);
        self.0.moved.notify_one();
    }

    /// Takes those of everything below `end`, by offset, ascending; of messages it lacks there are none.
    pub fn take(&self, end: u64) -> VecDeque<(u64, Class)> {
        let mut known = self.lock();
        let count = known.classes.partition_point(|(offset, _)| *offset < end);
        let rest = known.classes.split_off(count);
        std::mem::replace(&mut known.classes, rest)
    }

    /// Up to where (exclusive) it was told.
    pub fn reached(&self) -> u64 {
        self.lock().reached
    }

    /// Waits until it is told more than up to `end`, or the time is over; up to where it is.
    pub fn wait_beyond(&self, end: u64, time: Duration) -> u64 {
        let waited = self.0.moved.wait_timeout_while(self.lock(), time, |known| known.reached <= end);
        waited.unwrap_or_else(PoisonError::into_inner).0.reached
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Classes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let known = self.lock();
        f.debug_struct("Classes").field("kept", &known.classes.len()).field("reached", &known.reached).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(n: u64) -> (u64, Class) {
        (n, Class { category: "hello", ts: None, seq: Some(n as i64), reason: None })
    }

    #[test]
    fn what_was_told_is_taken_once_and_in_order() {
        let classes = Classes::default();
        assert_eq!(classes.reached(), 0);
        classes.tell([3, 5].map(class).into_iter(), 6);
        classes.tell([9].map(class).into_iter(), 12);
        assert_eq!(classes.wait_beyond(6, Duration::from_secs(60)), 12);
        assert_eq!(classes.take(9), [3, 5].map(class));
        assert_eq!(classes.take(9), []);
        assert_eq!(classes.take(100), [class(9)]);
        assert_eq!((classes.reached(), classes.wait_beyond(12, Duration::ZERO)), (12, 12));
    }

    #[test]
    fn the_oldest_go_when_nobody_takes_them() {
        let classes = Classes::default();
        classes.tell((0..MOST as u64).map(class), MOST as u64);
        classes.tell((0..2).map(|n| class(n + MOST as u64)), MOST as u64 + 2);
        let left = classes.take(u64::MAX);
        assert_eq!((left.len(), left[0].0), (MOST, 2));
    }

    #[test]
    fn who_waits_is_woken() {
        let classes = Classes::default();
        let waiting = classes.clone();
        let waiter = std::thread::spawn(move || waiting.wait_beyond(0, Duration::from_secs(60)));
        classes.tell(std::iter::empty(), 7);
        assert_eq!(waiter.join().unwrap(), 7);
    }
}

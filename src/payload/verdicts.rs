//! What decoding said of messages, passed on, so that each is decoded once: the collector needs what is in them, the archive
//! only what they are.
//!
//! Invariants: a verdict depends on nothing but the message and the accepted window; in the order of the journal; bounded
//! ([`MOST`]): who comes too late decodes for himself.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::{Message, Refusal, Timestamp};

/// Verdicts kept, at most: about 4 MB.
const MOST: usize = 65_536;

/// What a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It can be read.
    Message {
        /// The raw-data category.
        kind: &'static str,
        /// The meter's time of it.
        ts: Timestamp,
        /// The meter's count, where it has one.
        seq: Option<u32>,
    },
    /// It is kept as it is, and why.
    Refused(Refusal),
}

impl From<&Result<Message, Refusal>> for Verdict {
    fn from(decoded: &Result<Message, Refusal>) -> Self {
        match decoded {
            Ok(message) => Self::Message { kind: message.body.kind(), ts: message.ts, seq: message.seq.counted() },
            Err(refusal) => Self::Refused(*refusal),
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
    verdicts: VecDeque<(u64, Verdict)>,
    /// Everything below was decoded.
    reached: u64,
}

/// The verdicts on messages of the journal, from the one who decodes to the one who asks. Clones are the same.
#[derive(Clone, Default)]
pub struct Verdicts(Arc<Shared>);

impl Verdicts {
    /// Tells those of a run of messages, which ends at `end` (exclusive).
    pub fn tell(&self, verdicts: impl Iterator<Item = (u64, Verdict)>, end: u64) {
        let mut known = self.lock();
        known.verdicts.extend(verdicts);
        let over = known.verdicts.len().saturating_sub(MOST);
        known.verdicts.drain(..over);
        known.reached = end;
        drop(known);
        self.0.moved.notify_one();
    }

    /// Takes those of everything below `end`, by offset, ascending; of messages it lacks there are none.
    pub fn take(&self, end: u64) -> VecDeque<(u64, Verdict)> {
        let mut known = self.lock();
        let count = known.verdicts.partition_point(|(offset, _)| *offset < end);
        let rest = known.verdicts.split_off(count);
        std::mem::replace(&mut known.verdicts, rest)
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

impl std::fmt::Debug for Verdicts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let known = self.lock();
        f.debug_struct("Verdicts").field("kept", &known.verdicts.len()).field("reached", &known.reached).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(n: u64) -> (u64, Verdict) {
        (n, Verdict::Message { kind: "hello", ts: Timestamp(n as i64), seq: None })
    }

    #[test]
    fn what_was_told_is_taken_once_and_in_order() {
        let verdicts = Verdicts::default();
        assert_eq!(verdicts.wait_beyond(0, Duration::ZERO), 0);
        verdicts.tell([3, 5].map(verdict).into_iter(), 6);
        verdicts.tell([9].map(verdict).into_iter(), 12);
        assert_eq!(verdicts.wait_beyond(6, Duration::from_secs(60)), 12);
        assert_eq!(verdicts.take(9), [3, 5].map(verdict));
        assert_eq!(verdicts.take(9), []);
        assert_eq!(verdicts.take(100), [verdict(9)]);
        assert_eq!(verdicts.wait_beyond(0, Duration::ZERO), 12);
    }

    #[test]
    fn the_oldest_go_when_nobody_takes_them() {
        let verdicts = Verdicts::default();
        verdicts.tell((0..MOST as u64).map(verdict), MOST as u64);
        verdicts.tell((0..2).map(|n| verdict(n + MOST as u64)), MOST as u64 + 2);
        let left = verdicts.take(u64::MAX);
        assert_eq!((left.len(), left[0].0), (MOST, 2));
    }

    #[test]
    fn who_waits_is_woken() {
        let verdicts = Verdicts::default();
        let waiting = verdicts.clone();
        let waiter = std::thread::spawn(move || waiting.wait_beyond(0, Duration::from_secs(60)));
        verdicts.tell(std::iter::empty(), 7);
        assert_eq!(waiter.join().unwrap(), 7);
    }
}

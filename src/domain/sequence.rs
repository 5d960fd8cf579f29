//! Sequence numbers of one meter: what is missing, what came late, what is a reboot or a wrap.
//!
//! A meter counts its messages from 0 at power-on; several brokers deliver them with loss, copies and disorder. Number
//! and time together tell what happened; the number alone never does (a mark of the highest number would lose
//! everything after a reboot). Invariant: nothing here decides whether a message is stored. That is its identity's
//! business; here is only the bookkeeping of what is missing.
//!
//! Two things look alike by number and time, and are told apart by what went before ([`Hints`]): the meter's clock set
//! back, and messages of an earlier power-on delivered late.

use std::time::Duration;

use super::time::Timestamp;

/// Most open gaps followed a device. Older ones stay in the ledger as open, but a late message heals them no more.
pub const MAX_OPEN_GAPS: usize = 128;

/// Most ranges still missing, over all followed gaps of a device. Beyond it the oldest gap is no longer followed.
pub const MAX_MISSING_PARTS: usize = 1024;

/// How near to 2³² the head, and to 0 the next number, must be for a wrap rather than a reboot.
const WRAP_MARGIN: u32 = 65_536;

/// How far the time of a message may contradict its number, and how near such a number is to the head: a meter that
/// stamps and counts in two steps.
const JITTER: (u32, Duration) = (4, Duration::from_millis(100));

/// How far behind the last message, in number and in time, a copy over a slower way may be. Only asked where number and
/// time contradict each other.
const COPY_LAG: (u32, Duration) = (1024, Duration::from_secs(600));

/// While the head's time is still to come: a number so low, and so far behind the head, is of a new power-on and no copy.
const BEGINNINGS: [(u32, u32); 2] = [(4, 64), (COPY_LAG.0, COPY_LAG.0)];

/// Position in one meter's count. Bounded: at most [`MAX_OPEN_GAPS`] gaps and [`MAX_MISSING_PARTS`] ranges.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SequenceState {
    /// The furthest message of the present power-on: its counter and time. `None` before the first.
    pub head: Option<(u32, Timestamp)>,
    /// How often the count started again.
    pub reboots: u64,
    /// Gaps with something still missing, oldest first.
    pub open: Vec<Gap>,
    /// What helps to judge the next messages. Need not be stored: without it a clock set back is judged less well.
    pub hints: Hints,
}

/// Memory of the last messages that did not simply follow the head.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Hints {
    /// The head as it was before the meter's clock was set back, until the clock has caught up with it.
    pub before_step: Option<(u32, Timestamp)>,
    /// The last message that was neither ahead of the head nor in a gap.
    pub aside: Option<Aside>,
}

/// Messages running on beside the head: copies over a slower broker, a backfill, or a meter that was switched on with
/// a clock that is behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Aside {
    /// The last of them.
    pub last: (u32, Timestamp),
    /// The number they began with, while the head has not moved since: then it may be the meter itself, switched on
    /// again, and no longer where the head is.
    pub since: Option<u32>,
}

/// One ledger entry: messages that were missing between two that arrived.
///
/// `first..=last` is the range as it was found and, with `after`, names the entry; it spans the wrap when
/// `last < first`. `missing` is what of it is still missing; empty = filled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gap {
    /// The first counter that was missing.
    pub first: u32,
    /// The last counter that was missing.
    pub last: u32,
    /// Time of the message before the hole: a message that belongs in it is not older.
    pub after: Timestamp,
    /// Time of the message behind the hole: a message that belongs in it is not newer.
    pub before: Timestamp,
    /// Ranges still missing, in counting order; like the gap, a range may span the wrap.
    pub missing: Vec<(u32, u32)>,
}

/// What a message means for the count.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Observation {
    /// The device's first message; what it said before is not known, and not missing.
    First,
    /// The successor of the head.
    Next,
    /// Ahead of the head; the numbers between are missing.
    Jump(Gap),
    /// One of a gap's missing messages: the gap as it now is (nothing missing = filled).
    Late(Gap),
    /// The count started again.
    Reboot {
        /// The first numbers of the new power-on, when this is not its first message.
        gap: Option<Gap>,
    },
    /// Not ahead of the head and in no gap: a copy, or a backfill from before. The store's key tells which.
    Known,
}

impl Observation {
    /// The ledger entry that is new or has changed.
    pub fn gap(&self) -> Option<&Gap> {
        match self {
            Self::Jump(gap) | Self::Late(gap) | Self::Reboot { gap: Some(gap) } => Some(gap),
            Self::First | Self::Next | Self::Reboot { gap: None } | Self::Known => None,
        }
    }
}

impl SequenceState {
    /// Takes in one counted message, in the order of receipt; `now` is when it was received. While the head has a time that was
    /// still to come then, nothing would be later: a message of about now is judged by its number.
    pub fn observe_at(&mut self, seq: u32, ts: Timestamp, now: Timestamp) -> Observation {
        let Some(head) = self.head else { return self.observe(seq, ts) };
        let (further, behind) = (seq.wrapping_sub(head.0), head.0.wrapping_sub(seq));
        match (head.1.is_ahead_of(now), ts.is_ahead_of(now)) {
            (false, true) if !(1..=COPY_LAG.0).contains(&further) => return self.observe_ahead(seq, ts),
            (true, false) if now.since(ts) < COPY_LAG.1 => {}
            _ => return self.observe(seq, ts),
        }
        let begins_anew = further > u32::MAX / 2
            && BEGINNINGS.iter().any(|(first, least_behind)| seq <= *first && behind >= *least_behind);
        let goes_on = (2..=u32::MAX / 2).contains(&further);
        if !goes_on && !begins_anew {
            return self.observe(seq, ts);
        }
        if let Some(gap) = self.heal(seq, |gap| gap.fits(ts)) {
            return Observation::Late(gap);
        }
        let observation = if goes_on { self.advance(head, seq, ts) } else { self.restart(head, seq, ts) };
        self.hints.before_step = Some(head);
        observation
    }

    /// A message stamped ahead that is not the next by its number: late or a copy, unless another one follows it while the head
    /// stands still. Its time says nothing, so it heals by its number.
    fn observe_ahead(&mut self, seq: u32, ts: Timestamp) -> Observation {
        if let Some(gap) = self.heal(seq, |_| true) {
            return Observation::Late(gap);
        }
        if self.goes_on_aside(seq, ts) && self.aside_since_head().is_some() {
            return self.observe(seq, ts);
        }
        self.note_aside(seq, ts);
        Observation::Known
    }

    /// [`observe_at`](Self::observe_at), of a meter whose clock has never been ahead.
    pub fn observe(&mut self, seq: u32, ts: Timestamp) -> Observation {
        let Some(head) = self.head else {
            self.head = Some((seq, ts));
            return Observation::First;
        };
        if (seq, ts) == head || Some((seq, ts)) == self.hints.before_step {
            self.note_aside(seq, ts);
            return Observation::Known;
        }
        let goes_on_aside = self.goes_on_aside(seq, ts);
        let place = place(head, seq, ts);
        if place == Place::Ahead {
            let is_next = seq == head.0.wrapping_add(1);
            let was_heard_aside = goes_on_aside && self.aside_since_head().is_some();
            return if was_heard_aside && !is_next { self.restart(head, seq, ts) } else { self.advance(head, seq, ts) };
        }
        if let Some(gap) = self.heal(seq, |gap| gap.fits(ts)) {
            return Observation::Late(gap);
        }
        match place {
            Place::ClockSetBack if !goes_on_aside && !self.is_copy_from_aside(seq, ts) => {
                self.hints.before_step = Some(self.hints.before_step.filter(|(_, t)| *t > head.1).unwrap_or(head));
                self.advance(head, seq, ts)
            }
            Place::Again if !self.is_copy_from_before_step(seq, ts) => self.restart(head, seq, ts),
            _ => {
                self.note_aside(seq, ts);
                Observation::Known
            }
        }
    }

    /// Whether a message that has not been taken in yet is the last that the meter has said: later than the head, or further in
    /// the count where the head has a time that was still to come at `now`.
    pub fn is_newest(&self, seq: u32, ts: Timestamp, now: Timestamp) -> bool {
        self.head.is_none_or(|(head, head_ts)| {
            if head_ts.is_ahead_of(now) { (1..=u32::MAX / 2).contains(&seq.wrapping_sub(head)) } else { ts > head_ts }
        })
    }

    fn advance(&mut self, head: (u32, Timestamp), seq: u32, ts: Timestamp) -> Observation {
        self.head = Some((seq, ts));
        self.hints.before_step = self.hints.before_step.filter(|(_, before)| ts < *before);
        self.head_moved();
        let expected = head.0.wrapping_add(1);
        if seq == expected {
            return Observation::Next;
        }
        let gap = Gap::new(expected, seq.wrapping_sub(1), before_gap(head.1, ts), ts);
        self.follow(gap.clone());
        Observation::Jump(gap)
    }

    /// The count began again, and `(seq, ts)` is the first message that shows it: what it said before is missing,
    /// unless it was heard beside the head.
    fn restart(&mut self, head: (u32, Timestamp), seq: u32, ts: Timestamp) -> Observation {
        let first_heard = if self.goes_on_aside(seq, ts) { self.aside_since_head().unwrap_or(seq) } else { seq };
        let gap = first_heard.checked_sub(1).map(|last| Gap::new(0, last, before_gap(head.1, ts), ts));
        self.head = Some((seq, ts));
        self.reboots += 1;
        self.hints.before_step = None;
        self.head_moved();
        if let Some(gap) = &gap {
            self.follow(gap.clone());
        }
        Observation::Reboot { gap }
    }

    /// Takes `seq` out of the gap it belongs to by number and, as `fits` says, by time; the gap as it then is.
    fn heal(&mut self, seq: u32, fits: impl Fn(&Gap) -> bool) -> Option<Gap> {
        let at = self.open.iter().rposition(|gap| gap.is_missing(seq) && fits(gap))?;
        self.open[at].fill(seq);
        let gap = self.open[at].clone();
        if gap.is_filled() {
            self.open.remove(at);
        }
        self.trim();
        Some(gap)
    }

    fn follow(&mut self, gap: Gap) {
        self.open.push(gap);
        self.trim();
    }

    fn trim(&mut self) {
        let mut parts: usize = self.open.iter().map(|gap| gap.missing.len()).sum();
        let mut unfollowed = 0;
        while self.open.len() - unfollowed > MAX_OPEN_GAPS || parts > MAX_MISSING_PARTS {
            parts -= self.open[unfollowed].missing.len();
            unfollowed += 1;
        }
        self.open.drain(..unfollowed);
    }

    fn goes_on_aside(&self, seq: u32, ts: Timestamp) -> bool {
        self.hints.aside.is_some_and(|aside| seq == aside.last.0.wrapping_add(1) && ts >= aside.last.1)
    }

    fn aside_since_head(&self) -> Option<u32> {
        self.hints.aside.and_then(|aside| aside.since)
    }

    fn note_aside(&mut self, seq: u32, ts: Timestamp) {
        if self.is_copy_from_aside(seq, ts) {
            return;
        }
        let since = if self.goes_on_aside(seq, ts) { self.aside_since_head() } else { Some(seq) };
        self.hints.aside = Some(Aside { last: (seq, ts), since });
    }

    fn head_moved(&mut self) {
        if let Some(aside) = &mut self.hints.aside {
            aside.since = None;
        }
    }

    fn is_copy_from_before_step(&self, seq: u32, ts: Timestamp) -> bool {
        self.hints.before_step.is_some_and(|last| is_copy_behind(last, seq, ts))
    }

    fn is_copy_from_aside(&self, seq: u32, ts: Timestamp) -> bool {
        self.hints.aside.is_some_and(|aside| is_copy_behind(aside.last, seq, ts))
    }
}

/// The time of the message before a gap that ends at `ts`: the head's, unless the clock was ahead then.
fn before_gap(head: Timestamp, ts: Timestamp) -> Timestamp {
    let lag = i64::try_from(COPY_LAG.1.as_micros()).unwrap_or(i64::MAX);
    if head <= ts { head } else { ts.plus_us(-lag) }
}

/// Whether a message can be a copy, over a slower way, of one shortly before `last` or of that itself.
fn is_copy_behind(last: (u32, Timestamp), seq: u32, ts: Timestamp) -> bool {
    let (numbers, time) = COPY_LAG;
    last.0.wrapping_sub(seq) < numbers && ts <= last.1 && last.1.since(ts) < time
}

/// Where a message stands to the head.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Later in number and time.
    Ahead,
    /// The very next number with an earlier time.
    ClockSetBack,
    /// Not later in number, but clearly in time: the count began again, unless a gap or a copy explains it.
    Again,
    /// From before.
    Behind,
}

fn place((head, head_ts): (u32, Timestamp), seq: u32, ts: Timestamp) -> Place {
    let wraps = head > u32::MAX - WRAP_MARGIN && seq < WRAP_MARGIN;
    if (seq > head || wraps) && ts >= head_ts {
        Place::Ahead
    } else if seq == head.wrapping_add(1) {
        Place::ClockSetBack
    } else if ts > head_ts && !(seq > 0 && head.wrapping_sub(seq) <= JITTER.0 && ts <= head_ts.plus(JITTER.1)) {
        Place::Again
    } else {
        Place::Behind
    }
}

impl Gap {
    /// A gap of which nothing has arrived yet.
    pub fn new(first: u32, last: u32, after: Timestamp, before: Timestamp) -> Self {
        Self { first, last, after, before, missing: vec![(first, last)] }
    }

    /// Whether everything that was missing has arrived.
    pub fn is_filled(&self) -> bool {
        self.missing.is_empty()
    }

    /// How many messages are still missing.
    pub fn missing_count(&self) -> u64 {
        self.missing.iter().map(|(a, b)| u64::from(b.wrapping_sub(*a)) + 1).sum()
    }

    fn fits(&self, ts: Timestamp) -> bool {
        ts.plus(JITTER.1) >= self.after && ts <= self.before.plus(JITTER.1)
    }

    /// The index of the range that holds `seq`. Numbers are compared by their distance from `first`, which the wrap
    /// does not disturb.
    fn part_of(&self, seq: u32) -> Option<usize> {
        let distance = |n: u32| n.wrapping_sub(self.first);
        let index = self.missing.partition_point(|(_, end)| distance(*end) < distance(seq));
        let (start, _) = self.missing.get(index)?;
        (distance(*start) <= distance(seq)).then_some(index)
    }

    fn is_missing(&self, seq: u32) -> bool {
        self.part_of(seq).is_some()
    }

    fn fill(&mut self, seq: u32) {
        let Some(index) = self.part_of(seq) else { return };
        let (start, end) = self.missing[index];
        let (before, behind) = ((start, seq.wrapping_sub(1)), (seq.wrapping_add(1), end));
        match (seq == start, seq == end) {
            (true, true) => drop(self.missing.remove(index)),
            (true, false) => self.missing[index] = behind,
            (false, true) => self.missing[index] = before,
            (false, false) => drop(self.missing.splice(index..=index, [before, behind])),
        }
    }
}

#[cfg(test)]
#[path = "sequence_tests.rs"]
mod tests;

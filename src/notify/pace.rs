//! When the next call may go out, and what becomes of a notice that did not get through. Pure: time is an argument.

use std::time::Duration;

use super::github::{LIMIT_PAUSE, LONGEST_PAUSE, Trouble};
use crate::domain::Timestamp;
use crate::observe::backoff::Backoff;
use crate::store::{OutboxRow, OutboxState, Settlement};

/// GitHub wants a second between two calls that change something.
const BETWEEN_WRITES: Duration = Duration::from_secs(1);
/// Pauses while GitHub is away.
const AWAY: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(15 * 60));
/// Between two tries of what is refused.
const REFUSED: Duration = Duration::from_secs(5);
/// Tries of what is refused: a token may be changed at this moment, more is in vain.
pub const REFUSALS: u32 = 3;
/// Tries while GitHub is away: about a day.
pub const TRIES: u32 = 120;

/// The pace of one node's calls.
#[derive(Debug)]
pub struct Pace {
    /// Nothing goes out before.
    pub not_before: Timestamp,
    /// No change goes out before.
    next_write: Timestamp,
    away: Backoff,
    /// Limits that did not say for how long, since a change went through.
    limits: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { not_before: Timestamp(0), next_write: Timestamp(0), away: AWAY, limits: 0 }
    }
}

impl Pace {
    /// How long a call has to wait.
    pub fn wait(&self, is_write: bool, now: Timestamp) -> Duration {
        let until = if is_write { self.not_before.max(self.next_write) } else { self.not_before };
        until.since(now)
    }

    /// A call goes out now.
    pub fn sent(&mut self, is_write: bool, now: Timestamp) {
        if is_write {
            self.next_write = now.plus(BETWEEN_WRITES);
        }
    }

    /// GitHub is well; perhaps nothing may be asked until `rest`. That something can be read says nothing of a limit:
    /// those that do not say for how long are mostly of changes.
    pub fn is_well(&mut self, is_write: bool, rest: Option<Timestamp>) {
        self.away = AWAY;
        if is_write {
            self.limits = 0;
        }
        self.not_before = self.not_before.max(rest.unwrap_or_default());
    }

    /// What becomes of a notice in trouble. All notices wait where GitHub is away or we have asked too much.
    pub fn settle(&mut self, row: &OutboxRow, trouble: Trouble, now: Timestamp) -> Settlement {
        let mut held_until = None;
        let (words, next_attempt_at, tries, attempts) = match trouble {
            Trouble::Away(words) => {
                self.not_before = now.plus(self.away.next_pause());
                (words, self.not_before, TRIES, row.attempts)
            }
            Trouble::Limited(until) => {
                let until = until.unwrap_or_else(|| now.plus(self.next_limit_pause()));
                held_until = Some(until);
                self.not_before = self.not_before.max(until);
                // That was no try.
                (format!("GitHub wants to be asked again at {until}"), until, u32::MAX, row.attempts.saturating_sub(1))
            }
            Trouble::Refused(words) => (words, now.plus(REFUSED), REFUSALS, row.attempts),
            Trouble::Gone => ("the issue is gone".to_owned(), now.plus(REFUSED), REFUSALS, row.attempts),
        };
        let state = if attempts >= tries { OutboxState::Dead } else { OutboxState::Pending };
        let (last_error, result, issue) = (Some(words), None, None);
        Settlement { at: now, state, attempts, next_attempt_at, last_error, result, issue, held_until }
    }

    /// GitHub wants the pauses to grow while a limit repeats.
    fn next_limit_pause(&mut self) -> Duration {
        let pause = LIMIT_PAUSE.saturating_mul(1 << self.limits.min(16)).min(LONGEST_PAUSE);
        self.limits = self.limits.saturating_add(1);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{AlertStatus, Notice};

    const NOW: Timestamp = Timestamp(1_770_890_400_000_000);

    fn row(attempts: u32) -> OutboxRow {
        let notice = Notice {
            fingerprint: "ab".into(),
            status: AlertStatus::Firing,
            starts_at: NOW,
            name: "A".into(),
            body: "{}".into(),
            at: NOW,
            is_dry: false,
        };
        OutboxRow { attempts, ..OutboxRow::of(1, &notice) }
    }

    #[test]
    fn changes_keep_a_second_between_them_and_reads_do_not() {
        let mut pace = Pace::default();
        assert_eq!(pace.wait(true, NOW), Duration::ZERO);
        pace.sent(true, NOW);
        assert_eq!((pace.wait(true, NOW), pace.wait(false, NOW)), (Duration::from_secs(1), Duration::ZERO));
        pace.is_well(false, Some(NOW.plus_us(9_000_000)));
        assert_eq!(pace.wait(false, NOW), Duration::from_secs(9));
    }

    #[test]
    fn an_absence_is_waited_for_longer_and_longer_and_a_day_at_most() {
        let mut pace = Pace::default();
        let away = || Trouble::Away("x".into());
        let pauses: Vec<_> = (1..=20).map(|n| pace.settle(&row(n), away(), NOW).next_attempt_at.since(NOW)).collect();
        assert!(pauses[0] <= Duration::from_secs(2) && pauses[19] >= Duration::from_secs(450), "{pauses:?}");
        assert!(pause_sum() > 12.0 * 3600.0, "half a day at least");
        pace.is_well(false, None);
        assert!(pace.settle(&row(1), away(), NOW).next_attempt_at.since(NOW) <= Duration::from_secs(2));
        assert_eq!(pace.settle(&row(TRIES - 1), away(), NOW).state, OutboxState::Pending);
        assert_eq!(pace.settle(&row(TRIES), away(), NOW).state, OutboxState::Dead);
    }

    fn pause_sum() -> f64 {
        let mut backoff = AWAY;
        (0..TRIES).map(|_| backoff.next_pause().as_secs_f64()).sum()
    }

    #[test]
    fn a_limit_is_no_try_and_holds_everything() {
        let mut pace = Pace::default();
        let until = NOW.plus_us(30_000_000);
        let end = pace.settle(&row(500), Trouble::Limited(Some(until)), NOW);
        assert_eq!((end.state, end.attempts, end.next_attempt_at), (OutboxState::Pending, 499, until));
        assert_eq!((pace.wait(false, NOW), end.held_until), (Duration::from_secs(30), Some(until)));
        assert_eq!(pace.settle(&row(1), Trouble::Away("x".into()), NOW).held_until, None);
    }

    #[test]
    fn a_limit_that_repeats_is_waited_for_twice_as_long_until_a_change_goes_through() {
        let mut pace = Pace::default();
        let limited =
            |pace: &mut Pace| pace.settle(&row(1), Trouble::Limited(None), NOW).next_attempt_at.since(NOW).as_secs();
        let pauses: Vec<_> = (0..40).map(|_| limited(&mut pace)).collect();
        assert_eq!((&pauses[..4], pauses[39]), (&[60, 120, 240, 480][..], LONGEST_PAUSE.as_secs()));
        pace.is_well(false, None);
        assert_eq!(limited(&mut pace), LONGEST_PAUSE.as_secs(), "reading is not what is limited");
        pace.is_well(true, None);
        assert_eq!(limited(&mut pace), 60);
    }

    #[test]
    fn what_is_refused_is_given_up_soon_and_holds_nobody_else() {
        let mut pace = Pace::default();
        let states = [1, 2, 3].map(|n| pace.settle(&row(n), Trouble::Refused("no".into()), NOW).state);
        assert_eq!(states, [OutboxState::Pending, OutboxState::Pending, OutboxState::Dead]);
        assert_eq!(pace.wait(true, NOW), Duration::ZERO);
    }
}

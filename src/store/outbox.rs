//! What is to be told to others: notices of alerts on their way out, and what is known of each alert.
//!
//! Invariants: of an alert (its fingerprint) only the oldest notice that waits is handed out, and to one node at a time; a
//! notice that says what is known already is not taken twice.

use std::fmt;

use super::{Error, Listing, Outcome, Page};
use crate::domain::Timestamp;

/// Part of the [`Store`](super::Store).
pub trait Outbox {
    /// Takes those of the notices that are news, in order and in one transaction; how many. Of an alert there is one among
    /// them at most. `Conflict` = with them more than `room` would wait, and none was taken.
    fn accept_notices(&self, notices: &[Notice], room: u64) -> Result<Outcome<usize>, Error>;
    /// The oldest notice that waits and is due, for `node` until `until`; by then it has to be settled, or another node may
    /// take it. What a node has not settled in an earlier life it gets again. Its count of tries is one more afterwards.
    fn claim_notice(&self, node: &str, now: Timestamp, until: Timestamp) -> Result<Option<Due>, Error>;
    /// Writes what came of a notice, and puts the others off where it says so; `false` = it is not that node's any
    /// more.
    fn settle_notice(&self, id: i64, node: &str, end: &Settlement) -> Result<bool, Error>;
    /// Takes notices over that were kept elsewhere while the database was away, with what came of them meanwhile, in order
    /// and in one transaction. What was taken over before is passed over, unless it was sent since; what is
    /// older than what is known here is not sent.
    fn adopt_notices(&self, rows: &[OutboxRow]) -> Result<(), Error>;
    /// Notices, newest first.
    fn outbox(&self, filter: &OutboxFilter, page: Page) -> Result<Listing<OutboxRow>, Error>;
    /// Lets a notice be sent now, from the first try: one that was given up, or one that waits. `Conflict` = it is done;
    /// `None` = there is none.
    fn retry_notice(&self, id: i64, now: Timestamp) -> Result<Option<Outcome<OutboxRow>>, Error>;
    /// How many there are.
    fn outbox_figures(&self) -> Result<OutboxFigures, Error>;
    /// Deletes notices that ended before `before`, and what is known of alerts that were over by then; at most `limit` each.
    fn trim_outbox(&self, before: Timestamp, limit: usize) -> Result<usize, Error>;
}

/// What an alert does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum AlertStatus {
    Firing,
    Resolved,
}

impl AlertStatus {
    /// As Alertmanager, the API and the store say it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }

    /// Reads the word.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Firing, Self::Resolved].into_iter().find(|s| s.name() == name)
    }
}

/// How far a notice has come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OutboxState {
    /// To be sent.
    Pending,
    /// Sent, or nothing to send.
    Done,
    /// Given up until somebody says so.
    Dead,
}

impl OutboxState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Done, Self::Dead];

    /// As the API and the store say it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Done => "done",
            Self::Dead => "dead",
        }
    }

    /// Reads the word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.name() == name)
    }
}

/// What we were told of one alert.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Notice {
    pub fingerprint: String,
    pub status: AlertStatus,
    /// Since when the alert fires.
    pub starts_at: Timestamp,
    /// The alert's name, for lists.
    pub name: String,
    /// All of it, in JSON.
    pub body: String,
    /// When we were told.
    pub at: Timestamp,
    /// Nothing is sent now.
    pub is_dry: bool,
}

/// A notice and how far it has come.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct OutboxRow {
    pub id: i64,
    pub fingerprint: String,
    pub status: AlertStatus,
    pub starts_at: Timestamp,
    pub name: String,
    pub body: String,
    pub created_at: Timestamp,
    pub state: OutboxState,
    /// Tries so far.
    pub attempts: u32,
    pub next_attempt_at: Timestamp,
    pub last_error: Option<String>,
    /// What came of it, in a word.
    pub result: Option<String>,
    pub issue: Option<Issue>,
    pub finished_at: Option<Timestamp>,
}

/// An issue.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Issue {
    /// `owner/name`.
    pub repository: String,
    pub number: i64,
}

impl Issue {
    /// `owner/name#number`, as it is stored.
    pub fn parse(text: &str) -> Option<Self> {
        let (repository, number) = text.rsplit_once('#')?;
        Some(Self { repository: repository.to_owned(), number: number.parse().ok()? })
    }
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.repository, self.number)
    }
}

/// A notice to send.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Due {
    pub row: OutboxRow,
    /// The alert's issue, where one is known.
    pub issue: Option<Issue>,
    /// A later notice of the same alert is done: this one would say what is not so any more.
    pub is_overtaken: bool,
}

/// What came of a try.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Settlement {
    pub at: Timestamp,
    pub state: OutboxState,
    pub attempts: u32,
    pub next_attempt_at: Timestamp,
    /// `None` leaves what was there.
    pub last_error: Option<String>,
    pub result: Option<String>,
    /// The alert's issue from now on.
    pub issue: Option<Issue>,
    /// Until then nobody may send anything: all notices that wait are put off, whichever node has them next.
    pub held_until: Option<Timestamp>,
}

/// What is known of an alert.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Incident {
    pub fingerprint: String,
    pub status: AlertStatus,
    pub starts_at: Timestamp,
    pub told_at: Timestamp,
    pub is_dry: bool,
    pub issue: Option<Issue>,
}

/// Whether a notice says something new.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum News {
    /// It does.
    New,
    /// It is known: Alertmanager repeats itself.
    Repeated,
    /// Something later is known.
    Overtaken,
}

impl Incident {
    /// Whether `notice` is news to whoever knows `known`. An alert that was told while nothing was sent is news again as soon
    /// as something is, and one that has begun anew though nobody said that it was over. So is the end of one whose
    /// beginning another node was told while it had no database.
    pub fn news(known: Option<&Self>, notice: &Notice) -> News {
        match known {
            None => News::New,
            Some(known) if notice.at < known.told_at => News::Overtaken,
            Some(known) if notice.status != known.status => News::New,
            Some(known) if known.is_before(notice) => News::New,
            Some(_) if notice.status == AlertStatus::Resolved => News::Repeated,
            Some(known) if known.is_dry && !notice.is_dry => News::New,
            Some(_) => News::Repeated,
        }
    }

    /// Whether it was over before that one began. Alertmanager does not tell the end of what is silenced or inhibited, nor of
    /// what it has forgotten.
    fn is_before(&self, notice: &Notice) -> bool {
        // What began before we were told is the same: another Prometheus saw it begin a little later.
        notice.starts_at > self.starts_at.max(self.told_at)
    }

    /// What is known after `notice`.
    pub fn after(known: Option<Self>, notice: &Notice) -> Self {
        Self {
            fingerprint: notice.fingerprint.clone(),
            status: notice.status,
            starts_at: notice.starts_at,
            told_at: notice.at,
            is_dry: notice.is_dry,
            issue: known.and_then(|known| known.issue),
        }
    }
}

impl OutboxRow {
    /// The row of a notice that comes in where `known` is known, and what is known then; `None` = that says it already. Who
    /// comes later has the later word: clocks of two nodes differ, and one that is set back must not make an end old.
    pub fn accepted(id: i64, known: Option<Incident>, notice: &Notice) -> Option<(Self, Incident)> {
        let at = known.as_ref().map_or(notice.at, |known| notice.at.max(known.told_at.plus_us(1)));
        let in_order = Notice { at, ..notice.clone() };
        if Incident::news(known.as_ref(), &in_order) != News::New {
            return None;
        }
        // It is due by the clock of now, whatever its place in the order.
        let row = Self { next_attempt_at: notice.at, ..Self::of(id, &in_order) };
        Some((row, Incident::after(known, &in_order)))
    }

    /// A notice as it waits first.
    pub fn of(id: i64, notice: &Notice) -> Self {
        Self {
            id,
            fingerprint: notice.fingerprint.clone(),
            status: notice.status,
            starts_at: notice.starts_at,
            name: notice.name.clone(),
            body: notice.body.clone(),
            created_at: notice.at,
            state: OutboxState::Pending,
            attempts: 0,
            next_attempt_at: notice.at,
            last_error: None,
            result: None,
            issue: None,
            finished_at: None,
        }
    }

    /// The notice again.
    pub fn notice(&self) -> Notice {
        Notice {
            fingerprint: self.fingerprint.clone(),
            status: self.status,
            starts_at: self.starts_at,
            name: self.name.clone(),
            body: self.body.clone(),
            at: self.created_at,
            is_dry: self.result.as_deref() == Some(DRY_RUN),
        }
    }

    /// What came of it so far.
    pub fn end(&self) -> Settlement {
        Settlement {
            at: self.finished_at.unwrap_or(self.created_at),
            state: self.state,
            attempts: self.attempts,
            next_attempt_at: self.next_attempt_at,
            last_error: self.last_error.clone(),
            result: self.result.clone(),
            issue: self.issue.clone(),
            held_until: None,
        }
    }

    /// What becomes of a row from elsewhere where `known` is known: the row to add, if any, and whether it is the latest.
    pub fn adopted(&self, known: Option<&Incident>) -> (Option<Self>, bool) {
        let row = self.clone();
        let is_over = self.state != OutboxState::Pending;
        match Incident::news(known, &self.notice()) {
            News::New => (Some(row), true),
            News::Repeated => (is_over.then_some(row), true),
            News::Overtaken if is_over => (Some(row), false),
            News::Overtaken => {
                let (state, finished_at) = (OutboxState::Done, Some(self.created_at));
                (Some(Self { state, finished_at, result: Some(OVERTAKEN.to_owned()), ..row }), false)
            }
        }
    }
}

/// The result of a notice that was only logged.
pub const DRY_RUN: &str = "dry_run";
/// The result of a notice that something later had made idle.
pub const OVERTAKEN: &str = "overtaken";

/// Which notices.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct OutboxFilter {
    pub state: Option<OutboxState>,
    pub fingerprint: Option<String>,
}

/// How many notices there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct OutboxFigures {
    pub pending: u64,
    pub done: u64,
    pub dead: u64,
    /// When the oldest that waits came.
    pub oldest: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(status: AlertStatus, at: i64, is_dry: bool) -> Notice {
        Notice {
            fingerprint: "ab".into(),
            status,
            starts_at: Timestamp(1),
            name: "A".into(),
            body: "{}".into(),
            at: Timestamp(at),
            is_dry,
        }
    }

    #[test]
    fn a_notice_is_news_once() {
        use AlertStatus::{Firing, Resolved};
        let check = |known: (AlertStatus, i64, bool), told: (AlertStatus, i64, bool), expected: News| {
            let known = Incident::after(None, &notice(known.0, known.1, known.2));
            assert_eq!(Incident::news(Some(&known), &notice(told.0, told.1, told.2)), expected, "{known:?} {told:?}");
        };
        assert_eq!(Incident::news(None, &notice(Resolved, 1, false)), News::New, "another node may know the beginning");
        check((Firing, 1, false), (Firing, 2, false), News::Repeated);
        check((Firing, 1, false), (Resolved, 2, false), News::New);
        check((Resolved, 1, false), (Resolved, 2, false), News::Repeated);
        check((Resolved, 1, false), (Firing, 2, false), News::New);
        check((Firing, 1, true), (Firing, 2, true), News::Repeated);
        check((Firing, 1, true), (Firing, 2, false), News::New);
        check((Firing, 1, false), (Firing, 2, true), News::Repeated);
        check((Resolved, 5, false), (Firing, 4, false), News::Overtaken);
    }

    #[test]
    fn an_alert_that_has_begun_anew_is_news_though_its_end_was_never_told() {
        let firing = |(starts_at, at): (i64, i64)| Notice {
            starts_at: Timestamp(starts_at),
            ..notice(AlertStatus::Firing, at, false)
        };
        let check = |known: (i64, i64), told: (i64, i64), expected: News| {
            let known = Incident::after(None, &firing(known));
            assert_eq!(Incident::news(Some(&known), &firing(told)), expected, "{known:?} {told:?}");
        };
        check((10, 15), (20, 25), News::New);
        check((10, 15), (10, 25), News::Repeated);
        // Two see it begin, one a little later than the other.
        check((10, 15), (12, 25), News::Repeated);
        check((12, 15), (10, 25), News::Repeated);
        // Our clock is behind.
        check((20, 15), (20, 25), News::Repeated);
        let over = Notice { status: AlertStatus::Resolved, ..firing((10, 15)) };
        let again = Notice { starts_at: Timestamp(20), at: Timestamp(25), ..over.clone() };
        let known = Incident::after(None, &over);
        assert_eq!(Incident::news(Some(&known), &again), News::New, "another node was told that it had begun anew");
        let later = Notice { starts_at: Timestamp(12), ..again };
        assert_eq!(Incident::news(Some(&known), &later), News::Repeated, "another Prometheus saw it a little later");
    }

    #[test]
    fn whoever_comes_later_has_the_later_word_whatever_the_clock_says() {
        let known = Incident::after(None, &notice(AlertStatus::Firing, 100, false));
        let row =
            |status, at| OutboxRow::accepted(1, Some(known.clone()), &notice(status, at, false)).map(|(row, _)| row);
        let times = |row: OutboxRow| (row.created_at, row.next_attempt_at);
        assert_eq!(row(AlertStatus::Resolved, 40).map(times), Some((Timestamp(101), Timestamp(40))));
        assert_eq!(row(AlertStatus::Resolved, 200).map(times), Some((Timestamp(200), Timestamp(200))));
        assert_eq!(row(AlertStatus::Firing, 40), None, "a repetition");
    }
}

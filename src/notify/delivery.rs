//! How a notice becomes what GitHub shows, step by step. Sans-IO: answers come in, calls go out.
//!
//! An alert that fires has one issue. Is it known, or found among ours by its mark, then it is opened again where it was
//! closed, and a comment says so; otherwise one is made. An alert that is over gets a comment and its issue is closed.
//!
//! Invariant: every step looks first whether it is done already. So a notice may be delivered again from the beginning after
//! any loss (an answer that never came, a process killed before it wrote down what it did, a database that was away), and
//! there is no second issue, and no second comment of the same notice.

use super::alertmanager::Alert;
use super::github::{Call, Entry, MAX_PAGES, PER_PAGE, Trouble, judge};
use super::text::{self, Mark};
use crate::domain::Timestamp;
use crate::fetch::Answer;
use crate::store::{AlertStatus, OutboxRow};

/// An issue's comments are looked through from this long before the alert: clocks differ.
const SINCE_US: i64 = 24 * 3_600_000_000;

/// What is to be done.
#[derive(Clone, PartialEq, Debug)]
pub enum Next {
    /// This call; its answer is wanted by [`Delivery::heard`].
    Ask(Call),
    /// Nothing more.
    Done(End),
}

/// How it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    /// In a word: `opened`, `known`, `reopened`, `commented`, `closed`, `closed_before` or `no_issue`.
    pub result: &'static str,
    /// The alert's issue.
    pub issue: Option<i64>,
}

/// A notice under way.
#[derive(Debug)]
pub struct Delivery {
    alert: Alert,
    row: OutboxRow,
    at: At,
}

/// What was asked last.
#[derive(Clone, PartialEq, Eq, Debug)]
enum At {
    Reading(i64),
    Finding {
        page: u32,
        best: Option<Entry>,
    },
    Creating,
    Reopening(i64),
    /// `was_reopened`: what others have said of the same firing does not count any more.
    LookingThrough {
        issue: i64,
        page: u32,
        was_reopened: bool,
    },
    Commenting {
        issue: i64,
        was_reopened: bool,
    },
    Closing(i64),
    Over,
}

impl Delivery {
    /// Begins with what is known: the alert's issue, perhaps.
    pub fn begin(alert: Alert, row: OutboxRow, known: Option<i64>) -> (Self, Next) {
        let mut delivery = Self { alert, row, at: At::Over };
        let next = match known {
            Some(issue) => delivery.ask(At::Reading(issue), Call::Read(issue)),
            None => delivery.find(1, None),
        };
        (delivery, next)
    }

    /// The next step after an answer to what was asked last.
    pub fn heard(&mut self, call: &Call, answer: &Answer, now: Timestamp) -> Result<Next, Trouble> {
        let at = std::mem::replace(&mut self.at, At::Over);
        match judge(call, answer, now) {
            // It was deleted or moved: perhaps another one is ours, else there will be a new one.
            Err(Trouble::Gone) => return Ok(self.find(1, None)),
            other => other?,
        }
        match at {
            At::Reading(_) => Ok(self.on_issue(&one(call, answer)?)),
            At::Finding { page, best } => {
                let entries: Vec<Entry> = many(call, answer)?;
                Ok(self.on_found(page, best, entries))
            }
            At::Creating => Ok(self.end("opened", Some(one(call, answer)?.number))),
            At::Reopening(issue) => Ok(self.look_through(issue, 1, true)),
            At::LookingThrough { issue, page, was_reopened } => {
                Ok(self.on_comments(issue, page, was_reopened, &many(call, answer)?))
            }
            At::Commenting { issue, was_reopened } => Ok(self.said(issue, was_reopened)),
            At::Closing(issue) => Ok(self.end("closed", Some(issue))),
            At::Over => Ok(self.end("known", None)),
        }
    }

    fn ask(&mut self, at: At, call: Call) -> Next {
        self.at = at;
        Next::Ask(call)
    }

    fn end(&mut self, result: &'static str, issue: Option<i64>) -> Next {
        self.at = At::Over;
        Next::Done(End { result, issue })
    }

    fn is_over(&self) -> bool {
        self.row.status == AlertStatus::Resolved
    }

    fn find(&mut self, page: u32, best: Option<Entry>) -> Next {
        // A closed issue of an alert that is over needs nothing.
        let call = Call::Find { closed_too: !self.is_over(), page };
        self.ask(At::Finding { page, best }, call)
    }

    /// An open one is best; of others the newest.
    fn on_found(&mut self, page: u32, best: Option<Entry>, entries: Vec<Entry>) -> Next {
        let is_last = entries.len() < PER_PAGE || page >= MAX_PAGES;
        let is_ours = |e: &Entry| e.is_issue() && text::starts_of_issue(e.text(), &self.row.fingerprint).is_some();
        let best = entries.into_iter().filter(is_ours).chain(best).max_by_key(|e| (e.is_open(), e.number));
        match best {
            Some(entry) if entry.is_open() || is_last => self.on_issue(&entry),
            None if is_last && self.is_over() => self.end("no_issue", None),
            None if is_last => {
                let call = Call::Create(text::issue(&self.alert));
                self.ask(At::Creating, call)
            }
            best => self.find(page + 1, best),
        }
    }

    fn on_issue(&mut self, entry: &Entry) -> Next {
        let issue = entry.number;
        match (self.is_over(), entry.is_open()) {
            (true, false) => self.end("closed_before", Some(issue)),
            (false, false) => self.ask(At::Reopening(issue), Call::Reopen(issue)),
            (false, true) if text::starts_of_issue(entry.text(), &self.row.fingerprint) == Some(self.row.starts_at) => {
                self.end("known", Some(issue))
            }
            _ => self.look_through(issue, 1, false),
        }
    }

    fn look_through(&mut self, issue: i64, page: u32, was_reopened: bool) -> Next {
        let since = Timestamp(self.row.starts_at.plus_us(-SINCE_US).0.max(0) / 1_000_000 * 1_000_000);
        self.ask(At::LookingThrough { issue, page, was_reopened }, Call::Comments { issue, since, page })
    }

    fn on_comments(&mut self, issue: i64, page: u32, was_reopened: bool, entries: &[Entry]) -> Next {
        let is_said = |entry: &Entry| match text::mark_of(entry.text(), &self.row) {
            Mark::Own => true,
            Mark::Same => !self.is_over() && !was_reopened,
            Mark::Other => false,
        };
        if entries.iter().any(is_said) {
            return self.said(issue, was_reopened);
        }
        if entries.len() >= PER_PAGE && page < MAX_PAGES {
            return self.look_through(issue, page + 1, was_reopened);
        }
        let call = Call::Comment(issue, text::comment(&self.alert, &self.row));
        self.ask(At::Commenting { issue, was_reopened }, call)
    }

    /// The comment is there.
    fn said(&mut self, issue: i64, was_reopened: bool) -> Next {
        match (self.is_over(), was_reopened) {
            (true, _) => self.ask(At::Closing(issue), Call::Close(issue)),
            (false, true) => self.end("reopened", Some(issue)),
            (false, false) => self.end("commented", Some(issue)),
        }
    }
}

fn one(call: &Call, answer: &Answer) -> Result<Entry, Trouble> {
    let entry: Option<Entry> = serde_json::from_slice(&answer.body).ok();
    entry.filter(|entry| entry.number > 0).ok_or_else(|| unreadable(call))
}

fn many(call: &Call, answer: &Answer) -> Result<Vec<Entry>, Trouble> {
    serde_json::from_slice(&answer.body).map_err(|_| unreadable(call))
}

/// Somebody else answers, or an answer was cut: later.
fn unreadable(call: &Call) -> Trouble {
    Trouble::Away(format!("GitHub's answer to {} cannot be read", call.name()))
}

//! That an audit log is whole: from the entry that retention has left it to begin with, to the last number ever given.
//!
//! Faults are told in the order in which they are found, the first one ends the proof. What it cannot show is told in
//! `cli/audit.rs`: whoever hashes everything anew is found by an entry and its hash that were kept elsewhere (`since`). Such
//! an entry must still be there: one that is gone proves nothing, however it went. Pure.

use std::time::Duration;

use super::chain::{Break, Walk};
use super::trimmed::Trimmed;
use super::{AuditEnds, AuditRow};
use crate::domain::Timestamp;

/// Why a log is not what was written.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Fault {
    #[error(transparent)]
    Broken(#[from] Break),
    #[error("entry {id} was changed, and all later ones were hashed anew")]
    HashedAnew { id: i64 },
    #[error("entries {from} to {to} are missing at the end")]
    CutOff { from: i64, to: i64 },
    #[error("the entry of --since is missing: {id}")]
    NoSince { id: i64 },
    #[error(
        "entry {id} of --since proves nothing any more: the log begins behind entry {last}; give one that is still in it"
    )]
    SinceTrimmed { id: i64, last: i64 },
    #[error(
        "entries 1 to {last} are gone, and no entry says that retention took them: somebody else moved the log's beginning"
    )]
    Moved { last: i64 },
    #[error(
        "entries 1 to {last} are gone too early: by entry {entry} the last of them was of {at}, and less than \
         retention.audit_days ({days}) old on {trimmed_at}, when it was taken away (if that setting was lower then, verify \
         with its value of then: IOT_METER__RETENTION__AUDIT_DAYS)"
    )]
    TooYoung { entry: i64, last: i64, at: Timestamp, trimmed_at: Timestamp, days: u64 },
}

/// An entry known from before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Since {
    /// Its number.
    pub id: i64,
    /// Its hash of then.
    pub hash: [u8; 32],
}

/// A proof under way.
#[derive(Clone, Debug)]
pub struct Proof {
    ends: AuditEnds,
    since: Option<Since>,
    kept: Duration,
    walk: Walk,
    entries: u64,
    is_since_seen: bool,
    /// The last entry that speaks of a trim: its number, its time, what it says.
    trimmed: Option<(i64, Timestamp, Trimmed)>,
}

impl Proof {
    /// Of the log with these ends, whose entries are kept for so long.
    pub fn new(ends: AuditEnds, since: Option<Since>, kept: Duration) -> Result<Self, Fault> {
        let last = ends.anchor.0;
        if let Some(since) = since.filter(|since| since.id <= last) {
            return Err(Fault::SinceTrimmed { id: since.id, last });
        }
        let walk = Walk::behind(ends.anchor);
        Ok(Self { ends, since, kept, walk, entries: 0, is_since_seen: false, trimmed: None })
    }

    /// Takes the next entry.
    pub fn take(&mut self, row: &AuditRow) -> Result<(), Fault> {
        self.walk.step(row)?;
        if let Some(since) = self.since.filter(|since| since.id == row.id) {
            if since.hash != row.hash {
                return Err(Fault::HashedAnew { id: row.id });
            }
            self.is_since_seen = true;
        }
        if let Some(trimmed) = Trimmed::of(&row.entry) {
            self.trimmed = Some((row.id, row.entry.at, trimmed));
        }
        self.entries += 1;
        Ok(())
    }

    /// Whether that was all.
    pub fn finish(&self) -> Result<(), Fault> {
        if self.walk.id < self.ends.last_given {
            return Err(Fault::CutOff { from: self.walk.id + 1, to: self.ends.last_given });
        }
        if let Some(Since { id, .. }) = self.since.filter(|_| !self.is_since_seen) {
            return Err(Fault::NoSince { id });
        }
        self.check_beginning()
    }

    fn check_beginning(&self) -> Result<(), Fault> {
        let (last, hash) = self.ends.anchor;
        if last == 0 {
            return Ok(());
        }
        let is_it = |trimmed: &Trimmed| (trimmed.last_id, trimmed.hash) == (last, hash);
        let said = self.trimmed.filter(|(_, _, trimmed)| is_it(trimmed));
        let (entry, trimmed_at, Trimmed { last_at: at, .. }) = said.ok_or(Fault::Moved { last })?;
        if at.plus(self.kept) > trimmed_at {
            let days = self.kept.as_secs() / 86_400;
            return Err(Fault::TooYoung { entry, last, at, trimmed_at, days });
        }
        Ok(())
    }

    /// How far it has come.
    pub fn end(&self) -> Walk {
        self.walk
    }

    /// Entries that are as they were written.
    pub fn entries(&self) -> u64 {
        self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{AuditEntry, AuditOutcome};

    const DAY_US: i64 = 86_400_000_000;
    const KEPT: Duration = Duration::from_secs(400 * 86_400);

    fn day(n: i64) -> Timestamp {
        Timestamp(n * DAY_US)
    }

    fn entry(at: Timestamp) -> AuditEntry {
        AuditEntry {
            at,
            actor: "key:a".into(),
            address: None,
            action: "key.create".into(),
            target: String::new(),
            outcome: AuditOutcome::Done,
            request_id: None,
            detail: String::new(),
        }
    }

    /// An entry a day, then those of `more`.
    fn chain(days: i64, more: impl FnOnce(&[AuditRow]) -> Vec<AuditEntry>) -> Vec<AuditRow> {
        let mut rows: Vec<AuditRow> = Vec::new();
        let add = |rows: &mut Vec<AuditRow>, entry| {
            let (id, hash) = rows.last().map_or((0, [0; 32]), |row| (row.id, row.hash));
            rows.push(AuditRow::behind(hash, id + 1, entry));
        };
        (1..=days).for_each(|n| add(&mut rows, entry(day(n))));
        let more = more(&rows);
        more.into_iter().for_each(|entry| add(&mut rows, entry));
        rows
    }

    fn trim(row: &AuditRow, now: Timestamp) -> AuditEntry {
        Trimmed { last_id: row.id, last_at: row.entry.at, hash: row.hash }.entry(now)
    }

    /// What is found where the log begins behind the entry `last`.
    fn prove(rows: &[AuditRow], last: i64, since: Option<Since>) -> Result<u64, Fault> {
        let anchor = rows.iter().find(|row| row.id == last).map_or((0, [0; 32]), |row| (row.id, row.hash));
        let mut proof = Proof::new(AuditEnds { anchor, last_given: rows.len() as i64 }, since, KEPT)?;
        rows.iter().filter(|row| row.id > last).try_for_each(|row| proof.take(row))?;
        proof.finish().map(|()| proof.entries())
    }

    #[test]
    fn a_log_that_retention_has_trimmed_is_whole_and_one_whose_beginning_somebody_moved_is_not() {
        let rows = chain(20, |rows| vec![trim(&rows[4], day(405)), entry(day(406))]);
        assert_eq!(prove(&rows, 5, None), Ok(17));
        assert_eq!(prove(&rows, 9, None), Err(Fault::Moved { last: 9 }));
        assert_eq!(prove(&rows, 3, None), Err(Fault::Moved { last: 3 }), "what is told to be gone is there");
        assert_eq!(prove(&chain(20, |_| Vec::new()), 5, None), Err(Fault::Moved { last: 5 }));
        assert_eq!(prove(&chain(20, |_| Vec::new()), 0, None), Ok(20));
        // The last word counts.
        let rows = chain(20, |rows| vec![trim(&rows[4], day(405)), trim(&rows[6], day(407))]);
        assert_eq!(prove(&rows, 7, None), Ok(15));
        assert_eq!(prove(&rows, 5, None), Err(Fault::Moved { last: 5 }));
    }

    #[test]
    fn a_trim_of_what_was_to_be_kept_is_seen_also_where_an_entry_says_it() {
        let rows = chain(20, |rows| vec![trim(&rows[4], day(404))]);
        let (at, trimmed_at) = (day(5), day(404));
        let young = Fault::TooYoung { entry: 21, last: 5, at, trimmed_at, days: 400 };
        assert_eq!(prove(&rows, 5, None), Err(young));
    }

    #[test]
    fn an_entry_that_is_gone_proves_nothing() {
        let rows = chain(20, |rows| vec![trim(&rows[4], day(405))]);
        let since = |id: i64| Some(Since { id, hash: rows[id as usize - 1].hash });
        assert_eq!(prove(&rows, 5, since(6)), Ok(16));
        for id in [1, 5] {
            assert_eq!(prove(&rows, 5, since(id)), Err(Fault::SinceTrimmed { id, last: 5 }));
        }
        assert_eq!(prove(&rows, 5, Some(Since { id: 6, hash: [0; 32] })), Err(Fault::HashedAnew { id: 6 }));
        assert_eq!(prove(&rows, 5, Some(Since { id: 99, hash: [0; 32] })), Err(Fault::NoSince { id: 99 }));
    }
}

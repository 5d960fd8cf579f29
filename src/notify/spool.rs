//! Notices kept on this node's own disk while the database is away: the very alert that says so must get out.
//!
//! ```text
//! <data_dir>/notify.json: {"version": 1, "rows": [{"id", "fingerprint", "status", "starts_at", …}]}
//! ```
//!
//! The file is small and written anew at each change, beside the old one, fsynced, then put in its place. It holds a notice
//! until the database has taken it over, with what has come of it meanwhile: for that time it is an outbox of its own, by the
//! same rules. Invariants: what [`Spool::accept`] has taken survives power loss; at most [`MAX_ROWS`] notices and
//! [`MAX_BYTES`]. Calls block.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::domain::Timestamp;
use crate::store::{AlertStatus, Due, Incident, Issue, Notice, OutboxRow, OutboxState, Outcome, Settlement};

/// The file's name in the data directory.
pub const FILE: &str = "notify.json";
/// Most notices.
pub const MAX_ROWS: usize = 500;
/// Most bytes of what the notices say.
pub const MAX_BYTES: usize = 4 << 20;

/// The notices of this node.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    rows: Mutex<Vec<OutboxRow>>,
}

#[derive(Serialize, Deserialize)]
struct Content {
    version: u32,
    rows: Vec<Kept>,
}

/// A row as it is written.
#[derive(Serialize, Deserialize)]
struct Kept {
    id: i64,
    fingerprint: String,
    status: String,
    starts_at: i64,
    name: String,
    body: String,
    created_at: i64,
    state: String,
    attempts: u32,
    next_attempt_at: i64,
    last_error: Option<String>,
    result: Option<String>,
    issue: Option<String>,
    finished_at: Option<i64>,
}

impl Kept {
    fn of(row: &OutboxRow) -> Self {
        Self {
            id: row.id,
            fingerprint: row.fingerprint.clone(),
            status: row.status.name().to_owned(),
            starts_at: row.starts_at.0,
            name: row.name.clone(),
            body: row.body.clone(),
            created_at: row.created_at.0,
            state: row.state.name().to_owned(),
            attempts: row.attempts,
            next_attempt_at: row.next_attempt_at.0,
            last_error: row.last_error.clone(),
            result: row.result.clone(),
            issue: row.issue.as_ref().map(Issue::to_string),
            finished_at: row.finished_at.map(|at| at.0),
        }
    }

    fn row(self) -> Option<OutboxRow> {
        Some(OutboxRow {
            id: self.id,
            fingerprint: self.fingerprint,
            status: AlertStatus::from_name(&self.status)?,
            starts_at: Timestamp(self.starts_at),
            name: self.name,
            body: self.body,
            created_at: Timestamp(self.created_at),
            state: OutboxState::from_name(&self.state)?,
            attempts: self.attempts,
            next_attempt_at: Timestamp(self.next_attempt_at),
            last_error: self.last_error,
            result: self.result,
            issue: self.issue.as_deref().and_then(Issue::parse),
            finished_at: self.finished_at.map(Timestamp),
        })
    }
}

impl Spool {
    /// Reads what an earlier process has left. A file that cannot be read is put aside: it must not keep the server from
    /// starting.
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join(FILE);
        let rows = match fs::read(&path) {
            Ok(bytes) => match read(&bytes) {
                Some(rows) => rows,
                None => {
                    let aside = path.with_extension("json.damaged");
                    tracing::error!(path = %aside.display(), "kept notices cannot be read and were put aside");
                    fs::rename(&path, aside)?;
                    Vec::new()
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        Ok(Self { path, rows: Mutex::new(rows) })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<OutboxRow>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many notices there are, sent or not.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// All of them, in order.
    pub fn rows(&self) -> Vec<OutboxRow> {
        self.lock().clone()
    }

    /// Takes those that are news here; see [`Outbox::accept_notices`](crate::store::Outbox::accept_notices).
    pub fn accept(&self, notices: &[Notice]) -> io::Result<Outcome<usize>> {
        let mut rows = self.lock();
        let mut next = rows.clone();
        for notice in notices {
            let id = next.last().map_or(1, |row| row.id + 1);
            let known = known(&next, &notice.fingerprint);
            next.extend(OutboxRow::accepted(id, known, notice).map(|(row, _)| row));
        }
        let taken = next.len() - rows.len();
        if taken > 0 {
            if next.len() > MAX_ROWS || next.iter().map(|row| row.body.len()).sum::<usize>() > MAX_BYTES {
                return Ok(Outcome::Conflict);
            }
            self.keep(&next)?;
            *rows = next;
        }
        Ok(Outcome::Done(taken))
    }

    /// The next one to send; see [`Outbox::claim_notice`](crate::store::Outbox::claim_notice). There is one node only.
    pub fn claim(&self, now: Timestamp) -> Option<Due> {
        let mut rows = self.lock();
        let waits = |row: &OutboxRow| row.state == OutboxState::Pending;
        let is_first = |at: usize, row: &OutboxRow| {
            !rows[..at].iter().any(|before| waits(before) && before.fingerprint == row.fingerprint)
        };
        let is_next = |(at, row): &(usize, &OutboxRow)| waits(row) && row.next_attempt_at <= now && is_first(*at, row);
        let (at, _) = rows.iter().enumerate().find(is_next)?;
        // The count of tries is not worth a write: it goes to the disk with what comes of this one.
        rows[at].attempts += 1;
        let row = rows[at].clone();
        let later = &rows[at + 1..];
        let is_overtaken = later.iter().any(|l| l.state == OutboxState::Done && l.fingerprint == row.fingerprint);
        let issue = known(&rows, &row.fingerprint).and_then(|incident| incident.issue);
        Some(Due { row, issue, is_overtaken })
    }

    /// Writes what came of one.
    pub fn settle(&self, id: i64, end: &Settlement) -> io::Result<()> {
        let mut rows = self.lock();
        let mut next = rows.clone();
        let Some(row) = next.iter_mut().find(|row| row.id == id) else { return Ok(()) };
        row.state = end.state;
        row.attempts = end.attempts;
        row.next_attempt_at = end.next_attempt_at;
        row.result.clone_from(&end.result);
        row.last_error = end.last_error.clone().or(row.last_error.take());
        row.issue = end.issue.clone().or(row.issue.take());
        row.finished_at = (end.state == OutboxState::Done).then_some(end.at);
        if let Some(until) = end.held_until {
            for row in next.iter_mut().filter(|row| row.state == OutboxState::Pending) {
                row.next_attempt_at = row.next_attempt_at.max(until);
            }
        }
        self.keep(&next)?;
        *rows = next;
        Ok(())
    }

    /// Forgets those that are still as they were: the database has them.
    pub fn forget(&self, taken_over: &[OutboxRow]) -> io::Result<()> {
        let mut rows = self.lock();
        let left: Vec<OutboxRow> = rows.iter().filter(|row| !taken_over.contains(row)).cloned().collect();
        match left.is_empty() {
            true => match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            },
            false => self.keep(&left)?,
        }
        *rows = left;
        Ok(())
    }

    fn keep(&self, rows: &[OutboxRow]) -> io::Result<()> {
        let content = Content { version: 1, rows: rows.iter().map(Kept::of).collect() };
        let bytes = serde_json::to_vec(&content).map_err(io::Error::other)?;
        let beside = self.path.with_extension("json.new");
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
    }
}

fn read(bytes: &[u8]) -> Option<Vec<OutboxRow>> {
    let content: Content = serde_json::from_slice(bytes).ok()?;
    (content.version == 1).then_some(content.rows)?.into_iter().map(Kept::row).collect()
}

/// What the rows say of an alert.
fn known(rows: &[OutboxRow], fingerprint: &str) -> Option<Incident> {
    let own = rows.iter().filter(|row| row.fingerprint == fingerprint);
    own.fold(None, |known, row| {
        let incident = Incident::after(known, &row.notice());
        Some(Incident { issue: row.issue.clone().or(incident.issue), ..incident })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(fingerprint: &str, status: AlertStatus, at: i64) -> Notice {
        Notice {
            fingerprint: fingerprint.into(),
            status,
            starts_at: Timestamp(1),
            name: "A".into(),
            body: "{}".into(),
            at: Timestamp(at),
            is_dry: false,
        }
    }

    fn end(state: OutboxState) -> Settlement {
        let issue = (state == OutboxState::Done).then(|| Issue { repository: "a/b".into(), number: 7 });
        let result = issue.as_ref().map(|_| "opened".to_owned());
        let (at, attempts, next_attempt_at) = (Timestamp(9), 1, Timestamp(9));
        Settlement { at, state, attempts, next_attempt_at, last_error: None, result, issue, held_until: None }
    }

    #[test]
    fn it_keeps_the_rules_of_the_outbox_and_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let spool = || Spool::open(dir.path()).unwrap();
        let (firing, resolved) = (AlertStatus::Firing, AlertStatus::Resolved);
        let first = spool();
        assert_eq!(first.accept(&[notice("a", firing, 1), notice("b", firing, 1)]).unwrap(), Outcome::Done(2));
        assert_eq!(first.accept(&[notice("a", firing, 2)]).unwrap(), Outcome::Done(0), "a repetition");
        assert_eq!(first.accept(&[notice("a", resolved, 3)]).unwrap(), Outcome::Done(1));
        assert_eq!(first.claim(Timestamp(0)), None, "not due");
        let a = first.claim(Timestamp(5)).unwrap();
        assert_eq!((a.row.fingerprint.as_str(), a.row.attempts, a.is_overtaken), ("a", 1, false));
        first.settle(a.row.id, &end(OutboxState::Done)).unwrap();
        let second = spool();
        assert_eq!(second.rows(), first.rows());
        let b = second.claim(Timestamp(5)).unwrap();
        assert_eq!(b.row.fingerprint, "b");
        second.settle(b.row.id, &end(OutboxState::Dead)).unwrap();
        let over = second.claim(Timestamp(5)).unwrap();
        assert_eq!((over.row.status, over.issue.map(|issue| issue.number)), (resolved, Some(7)));
        second.forget(&second.rows()).unwrap();
        assert_eq!((second.len(), spool().len()), (0, 0));
    }

    #[test]
    fn what_changed_while_the_database_took_it_over_is_not_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path()).unwrap();
        let firing = AlertStatus::Firing;
        spool.accept(&[notice("a", firing, 1), notice("b", firing, 1)]).unwrap();
        let taken_over = spool.rows();
        let a = spool.claim(Timestamp(5)).unwrap();
        spool.accept(&[notice("c", firing, 5)]).unwrap();
        spool.forget(&taken_over).unwrap();
        let left = |spool: &Spool| spool.rows().into_iter().map(|row| row.fingerprint).collect::<Vec<_>>();
        assert_eq!(left(&spool), ["a", "c"], "one is being sent, the other came later");
        spool.settle(a.row.id, &end(OutboxState::Done)).unwrap();
        assert_eq!(left(&Spool::open(dir.path()).unwrap()), ["a", "c"]);
        spool.forget(&spool.rows()).unwrap();
        assert_eq!((spool.len(), dir.path().join(FILE).exists()), (0, false));
    }

    #[test]
    fn an_end_is_taken_though_the_clock_was_set_back() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path()).unwrap();
        assert_eq!(spool.accept(&[notice("a", AlertStatus::Firing, 100)]).unwrap(), Outcome::Done(1));
        assert_eq!(spool.accept(&[notice("a", AlertStatus::Resolved, 4)]).unwrap(), Outcome::Done(1));
        assert_eq!(spool.accept(&[notice("a", AlertStatus::Resolved, 5)]).unwrap(), Outcome::Done(0), "a repetition");
        let beginning = spool.claim(Timestamp(100)).unwrap();
        spool.settle(beginning.row.id, &end(OutboxState::Done)).unwrap();
        assert_eq!(spool.claim(Timestamp(6)).map(|due| due.row.status), Some(AlertStatus::Resolved), "due at once");
    }

    #[test]
    fn what_is_damaged_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), b"{\"version\": 2, \"rows\": []}").unwrap();
        assert_eq!(Spool::open(dir.path()).unwrap().len(), 0);
        assert!(dir.path().join("notify.json.damaged").exists() && !dir.path().join(FILE).exists());
    }

    #[test]
    fn it_is_bounded_and_a_disk_that_fails_takes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path()).unwrap();
        let many: Vec<_> = (0..=MAX_ROWS).map(|n| notice(&format!("{n:x}"), AlertStatus::Firing, 1)).collect();
        assert_eq!(spool.accept(&many).unwrap(), Outcome::Conflict);
        let large = Notice { body: "x".repeat(MAX_BYTES + 1), ..many[0].clone() };
        assert_eq!(spool.accept(&[large]).unwrap(), Outcome::Conflict);
        assert_eq!(spool.accept(&many[1..]).unwrap(), Outcome::Done(MAX_ROWS));
        let gone = Spool { path: dir.path().join("no/such/x.json"), rows: Mutex::default() };
        assert!(gone.accept(&many[..1]).is_err());
        assert_eq!(gone.len(), 0);
    }
}

//! What became of what was read: counts by kind, and a file of what was refused.
//!
//! Invariant: read = stored + duplicate + refused + left out, for each kind.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::json;

use super::Error;

/// A progress is told each so many things.
const STEP: u64 = 500;

/// Kinds of things.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Kind {
    Devices,
    Configs,
    Alerts,
    Commands,
    /// Messages of the bucket.
    Raw,
    Points,
}

impl Kind {
    /// As in the report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Devices => "devices",
            Self::Configs => "configs",
            Self::Alerts => "alerts",
            Self::Commands => "commands",
            Self::Raw => "raw",
            Self::Points => "points",
        }
    }
}

/// What became of the things of a kind.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Tally {
    /// How many there were.
    pub read: u64,
    /// How many are there now and were not before; in a dry run, how many would be unless they are there already.
    pub stored: u64,
    /// How many of those are in the archive only: too old for the database.
    pub archive_only: u64,
    /// How many were there before.
    pub duplicate: u64,
    /// How many were received after the time that was asked for.
    pub later: u64,
    /// How many were refused, by reason.
    pub refused: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// All that were refused.
    pub fn refusals(&self) -> u64 {
        self.refused.values().sum()
    }
}

/// What was done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Report {
    /// Nothing was stored.
    pub dry_run: bool,
    /// By kind.
    pub kinds: BTreeMap<Kind, Tally>,
    /// Meters nobody had registered: registered inactive, with `metadata.quarantined`.
    pub quarantined: Vec<String>,
    /// Columns that have no place here, by table.
    pub ignored_columns: BTreeMap<&'static str, Vec<String>>,
    /// What else is worth knowing.
    pub notes: Vec<String>,
    /// Where what was refused is written; `None` = nothing was.
    pub refused_file: Option<PathBuf>,
}

impl Report {
    /// Whether nothing was refused.
    pub fn is_clean(&self) -> bool {
        self.kinds.values().all(|tally| tally.refused.is_empty())
    }
}

/// The report while it is made.
pub(super) struct Ledger<'a> {
    kinds: BTreeMap<Kind, Tally>,
    path: PathBuf,
    file: Option<BufWriter<File>>,
    progress: &'a mut dyn FnMut(Kind, u64),
    pub(super) quarantined: Vec<String>,
    pub(super) ignored_columns: BTreeMap<&'static str, Vec<String>>,
    notes: Vec<String>,
}

impl fmt::Debug for Ledger<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("kinds", &self.kinds).finish_non_exhaustive()
    }
}

impl<'a> Ledger<'a> {
    /// An empty one. The file is made when something is refused; one of an earlier run goes.
    pub(super) fn create(path: &Path, progress: &'a mut dyn FnMut(Kind, u64)) -> Result<Self, Error> {
        match std::fs::remove_file(path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::Write { path: path.to_owned(), source });
            }
            _ => {}
        }
        Ok(Self {
            kinds: BTreeMap::new(),
            path: path.to_owned(),
            file: None,
            progress,
            quarantined: Vec::new(),
            ignored_columns: BTreeMap::new(),
            notes: Vec::new(),
        })
    }

    pub(super) fn tally(&mut self, kind: Kind) -> &mut Tally {
        self.kinds.entry(kind).or_default()
    }

    /// One more was read.
    pub(super) fn read(&mut self, kind: Kind) {
        let tally = self.tally(kind);
        tally.read += 1;
        let read = tally.read;
        if read.is_multiple_of(STEP) {
            (self.progress)(kind, read);
        }
    }

    /// Something was refused. `place`: where it stood; `detail`: what it was, or what is wrong with it.
    pub(super) fn refuse(
        &mut self,
        kind: Kind,
        reason: &'static str,
        place: &str,
        detail: impl fmt::Display,
    ) -> Result<(), Error> {
        *self.tally(kind).refused.entry(reason).or_default() += 1;
        let failed = |source| Error::Write { path: self.path.clone(), source };
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(BufWriter::new(private(&self.path).map_err(failed)?)),
        };
        let line = json!({"kind": kind.name(), "reason": reason, "place": place, "detail": detail.to_string()});
        writeln!(file, "{line}").map_err(failed)
    }

    /// Something worth knowing, once.
    pub(super) fn note(&mut self, text: String) {
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }

    /// The report.
    pub(super) fn finish(mut self, dry_run: bool) -> Result<Report, Error> {
        let refused_file = match &mut self.file {
            Some(file) => {
                file.flush().map_err(|source| Error::Write { path: self.path.clone(), source })?;
                Some(self.path)
            }
            None => None,
        };
        self.quarantined.sort_unstable();
        let Self { kinds, quarantined, ignored_columns, notes, .. } = self;
        Ok(Report { dry_run, kinds, quarantined, ignored_columns, notes, refused_file })
    }
}

/// A new file that only this user can read: what is refused may be anything.
fn private(path: &Path) -> std::io::Result<File> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

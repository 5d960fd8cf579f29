//! What an old installation has, taken over: its tables, the messages in its bucket, the points of its InfluxDB.
//!
//! Promises: nothing is stored twice (not by a second run, not by one that goes on where another was killed, not when this
//! server has received the same message itself); nothing is dropped without being counted under a reason and written to
//! the file of what was refused; memory is bounded whatever the sizes are. A message goes the way it would have gone when
//! it was received: the same decoding, the same identity, the same window.
//! Must not know: HTTP, MQTT, a server that runs. Nobody may serve from the data directory meanwhile.
//!
//! ```text
//! tables (CSV, pg_dump, Postgres) ─▶ rows ─▶ registry ─────────────────────▶ store
//! bucket (folder, s3://) ─▶ names, sorted by time ─▶ raw ─────────────────▶ store, then archive
//! points (line protocol, annotated CSV) ─▶ sorted by meter and time ─▶ points ─▶ store
//! ```
//!
//! Start from [`run`]; [`Report`] is what it says.

mod meters;
mod name;
mod points;
mod raw;
mod registry;
mod report;
mod row;
mod sort;
mod tables;

use std::path::PathBuf;

use crate::archive::{self, Adopter, Bucket};
use crate::domain::Timestamp;
use crate::payload::Window;
use crate::store::{self, SharedStore};

pub use points::{Precision, Reading};
pub use report::{Kind, Report, Tally};
pub use tables::TABLES;

use meters::Meters;
use report::Ledger;

/// What is taken over, and how.
#[derive(Debug)]
pub struct Options {
    /// A folder with a CSV file a table, or a file that `pg_dump` wrote.
    pub tables: Option<PathBuf>,
    /// The old database itself.
    pub postgres_url: Option<String>,
    /// The old bucket.
    pub raw: Option<Bucket>,
    /// Files of points; `-` is standard input.
    pub points: Vec<PathBuf>,
    /// How points are read.
    pub reading: Reading,
    /// Only what was received (points: measured) before this.
    pub before: Option<Timestamp>,
    /// Read and judge, store nothing.
    pub is_dry: bool,
    /// Where what is refused is written, an object a line.
    pub refused: PathBuf,
    /// A directory for temporary files.
    pub scratch: PathBuf,
    /// What is older than this is not in the database.
    pub oldest: Timestamp,
    /// What was received before this is not in the archive; `None` = everything is.
    pub raw_oldest: Option<Timestamp>,
    /// Accepted range of a message's time, from its receipt.
    pub window: Window,
    /// Now.
    pub now: Timestamp,
}

/// Where things go.
#[allow(missing_debug_implementations)]
pub struct Target {
    /// The database.
    pub store: SharedStore,
    /// The archive.
    pub archive: Bucket,
}

/// It cannot go on. What is stored stays; the next run goes on.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("{place}: the column names are missing; dump with `pg_dump --data-only` or `pg_dump --column-inserts`")]
    NoColumns { place: String },
    #[error("{place}: {detail}")]
    Malformed { place: String, detail: String },
    #[error("the table {table} has no column {wanted}; it has {}", there.join(", "))]
    MissingColumn { table: &'static str, wanted: String, there: Vec<String> },
    #[error("there is no table of an old installation in {}: wanted are {}", path.display(), TABLES.join(", "))]
    NoTables { path: PathBuf },
    #[error("this program was built without the feature `postgres`: dump the tables with pg_dump and use --tables")]
    MissingFeature,
    #[error("cannot read the old database: {detail}")]
    OldDatabase { detail: String },
    #[error("cannot use the old bucket, or the archive")]
    Archive(#[from] archive::Error),
    #[error("cannot use the database")]
    Store(#[from] store::Error),
}

/// Takes everything over. `progress` hears how much of which kind has been read, now and then.
pub fn run(options: &Options, target: Option<Target>, progress: &mut dyn FnMut(Kind, u64)) -> Result<Report, Error> {
    let mut ledger = Ledger::create(&options.refused, progress)?;
    let (store, archive) = target.map(|target| (target.store, target.archive)).unzip();
    let mut meters = Meters::new(store, options.oldest);
    tables::run(options, &mut meters, &mut ledger)?;
    if let Some(bucket) = &options.raw {
        let adopter = archive.map(|archive| Adopter::new(archive, options.window));
        raw::run(options, bucket, adopter, &mut meters, &mut ledger)?;
    }
    if !options.points.is_empty() {
        points::run(options, &mut meters, &mut ledger)?;
    }
    ledger.finish(options.is_dry)
}

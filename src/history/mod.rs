//! One history: what the database still has of a device's telemetry, and from the archive what it no longer has, as one
//! ordered answer in which every message stands once.
//!
//! Promise: [`History::scan_telemetry`] has the contract of [`Store::scan_telemetry`], whatever retention takes away while it
//! runs. What the database has is never asked of the archive, so an archive that is away is noticed only by those who go
//! back further; they get an error, never a part for the whole. Must not know: HTTP, MQTT, SQL.
//!
//! How: the database says up to which message time rows may be missing ([`Reach`](crate::store::Reach)). Rows from there on
//! come from the database alone; what is older comes from both, merged by (ts, seq), for a day that is being trimmed is in
//! both. Rows are taken in chunks, and after each the database is asked again: if trimming has come so far meanwhile that
//! rows of the chunk may have been gone already, the chunk is not given out, and reading begins anew behind the last row
//! that was.
//!
//! Start from [`History`]; `past` makes rows of archived messages, `merge` is the rule of what comes next.

mod merge;
mod past;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::ControlFlow;

use crate::archive::{self, Reader};
use crate::domain::{DeviceId, Timestamp};
use crate::store::{self, Columns, SharedStore, Store, TelemetryRow};
use merge::{End, Pass};
use past::PastRows;

/// History could not be read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The database has this part no longer, and the archive cannot be read.
    #[error("what the database no longer has cannot be read from the archive")]
    Archive(#[from] archive::Error),
}

/// Calls `each` with the telemetry rows that an archive alone has of a device, as [`History::scan_telemetry`] does; without a
/// database, so that nothing is known of what somebody removed. Blocks.
pub fn scan_archive(
    archive: &Reader,
    id: &DeviceId,
    from: Timestamp,
    to: Timestamp,
    each: &mut dyn FnMut(TelemetryRow) -> ControlFlow<()>,
) -> Result<(), Error> {
    let mut rows = PastRows::of_archive(archive, id, from..to)?;
    while rows.peek()?.is_some() {
        if rows.take().is_some_and(|row| each(row).is_break()) {
            break;
        }
    }
    Ok(())
}

/// Reads telemetry, wherever it is. Clones are the same one.
#[derive(Clone)]
pub struct History {
    store: SharedStore,
    archive: Option<Reader>,
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History").field("archive", &self.archive).finish_non_exhaustive()
    }
}

impl History {
    /// The history of a database and the archive beside it.
    pub fn new(store: SharedStore, archive: Reader) -> Self {
        Self { store, archive: Some(archive) }
    }

    /// The history of a database that has no archive.
    pub fn of_store(store: SharedStore) -> Self {
        Self { store, archive: None }
    }

    /// The database, for everything but telemetry.
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// Calls `each` with the telemetry rows of `id` whose message `ts` lies in `from..to`, ascending by (ts, seq), until it
    /// breaks. Blocks; memory does not grow with the range, and no lock is held while `each` runs.
    pub fn scan_telemetry(
        &self,
        id: &DeviceId,
        from: Timestamp,
        to: Timestamp,
        each: &mut dyn FnMut(TelemetryRow) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        self.scan_columns(id, Columns::ALL, from, to, each)
    }

    /// The same, where of the types that have a column only these are needed: others may be left out.
    pub fn scan_columns(
        &self,
        id: &DeviceId,
        columns: Columns,
        from: Timestamp,
        to: Timestamp,
        each: &mut dyn FnMut(TelemetryRow) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let Some(archive) = &self.archive else { return Ok(self.store.scan_columns(id, columns, from, to, each)?) };
        let mut given = None;
        loop {
            let start = given.map_or(from, |(ts, _)| ts);
            let reach = self.store.reach(id)?;
            let trimmed = reach.trimmed_before.map_or(start, |before| before.clamp(start, to.max(start)));
            let past = match start < trimmed {
                true => Some(PastRows::open(archive, &*self.store, id, start..trimmed, reach.purged_at)?),
                false => None,
            };
            let store = &*self.store;
            let mut pass = Pass { store, id, columns, trimmed: reach.trimmed_before, past, given, each: &mut *each };
            match pass.run(start, to)? {
                End::Done => return Ok(()),
                End::Trimmed => given = pass.given,
            }
        }
    }
}

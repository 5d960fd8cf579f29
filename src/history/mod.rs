//! One history: what the database still has of a device's telemetry, and from the archive what it no longer has, as one
//! ordered answer in which every message stands once.
//!
//! Promise: [`History::scan_telemetry`] has the contract of [`Store::scan_telemetry`], whatever retention has taken away
//! meanwhile. Must not know: HTTP, MQTT, SQL.
//!
//! Start from [`History`].

use std::fmt;
use std::ops::ControlFlow;

use crate::archive;
use crate::domain::{DeviceId, Timestamp};
use crate::store::{self, Columns, SharedStore, Store, TelemetryRow};

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

/// Reads telemetry, wherever it is. Clones are the same one.
#[derive(Clone)]
pub struct History {
    store: SharedStore,
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History").finish_non_exhaustive()
    }
}

impl History {
    /// The history of a database.
    pub fn new(store: SharedStore) -> Self {
        Self { store }
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
        Ok(self.store.scan_columns(id, columns, from, to, each)?)
    }
}

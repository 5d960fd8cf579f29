//! The store in one SQLite file: the default database, embedded, nothing to install.
//!
//! Start from [`open`]. One file a subject; `connection` holds how many connections there are and when a transaction is on
//! disk, `commit` the collector's batch, `telemetry` and `arrays` the large table.
//!
//! Why `telemetry` is an ordinary table with an index on (device, ts, seq), and not stored in that order (`WITHOUT ROWID`):
//! measured with 1000 devices and datagrams of 10 voltages and currents, it takes half the time to write (rows are
//! appended, only small index leaves are scattered) for 5 to 9 % more space. The price is reading: an hour of one device takes
//! 0.5 instead of 0.4 ms from memory and 40 instead of 2 ms from a cold disk. A short integer key in place of the device
//! id saves 10 % of space and as much time.
//!
//! Durability: see `commit` (what the journal can bring back) and `connection` (everything else is fsynced).
//! Checkpoints of the WAL happen in the commit that fills it: nobody waits for a commit but the collector, whose
//! acknowledgements went out before, and the next writer, for as long as the disk takes for 32 MiB.
//! Must not know: what the values mean; who asks.

mod access;
mod alerts;
mod arrays;
mod certificates;
mod commands;
mod commit;
mod connection;
mod copy;
mod credentials;
mod devices;
mod enrolment;
mod events;
mod firmware;
mod gaps;
mod live;
mod migrations;
#[cfg(feature = "postgres")]
mod node;
mod outbox;
mod reach;
mod rollout_steps;
mod rollouts;
mod rollups;
mod rules;
mod schema;
mod services;
mod sessions;
mod statement;
mod states;
mod takeover;
mod telemetry;
mod upkeep;

use std::ops::ControlFlow;
use std::time::Instant;

use self::connection::{Connections, Sync};
use super::{
    Alert, AlertFilter, ApiKey, Batch, Columns, Command, CommandChange, CommandFilter, Committed, Device, DeviceChange,
    DeviceCredential, DeviceFilter, Error, EventRow, GapEntry, Listing, NewAlert, NewCommand, NewDevice, Nodes,
    Outcome, Page, Reach, RetainedChange, SavedSession, SessionChange, Stats, Store, TelemetryRow, fault, listing,
};
use crate::domain::{CommandId, DeviceId, DeviceState, Timestamp};
use crate::observe::metrics;
use crate::observe::trace::{self, SpanKind};

pub(super) use self::copy::{check_schema, copy_out, size_estimate};
#[cfg(feature = "postgres")]
pub(super) use self::node::NodeFile;

/// The store in a SQLite file.
pub(super) struct SqliteStore {
    connections: Connections,
}

/// Opens the file (created when missing) and brings its schema up to date.
pub(super) fn open(path: &str) -> Result<SqliteStore, Error> {
    let path = file_name(path)?;
    let mut connection = connection::open_writer(&path).map_err(|fault| cannot_open(&path, fault))?;
    migrations::run(&mut connection)?;
    let connections = Connections::new(path.clone(), connection).map_err(|fault| cannot_open(&path, fault))?;
    Ok(SqliteStore { connections })
}

/// Applies what is missing of the schema, or with `dry_run` only says what that would be.
pub(super) fn migrate(path: &str, dry_run: bool) -> Result<Vec<String>, Error> {
    let path = file_name(path)?;
    if dry_run {
        return migrations::pending(&path);
    }
    let mut connection = connection::open_writer(&path).map_err(|fault| cannot_open(&path, fault))?;
    migrations::run(&mut connection)
}

/// The path as SQLite's own file names want it: what begins with a slash or `./` is never taken for a URI or `:memory:`.
fn file_name(path: &str) -> Result<String, Error> {
    match path {
        "" => Err(Error::Open { path: String::new(), source: "the URL names no file".into() }),
        _ if path.starts_with('/') => Ok(path.to_owned()),
        _ => Ok(format!("./{path}")),
    }
}

fn cannot_open(path: &str, fault: fault::Fault) -> Error {
    Error::Open { path: path.to_owned(), source: Box::new(fault.during("open the database")) }
}

/// Counts and times a call.
fn timed<T>(
    kind: &'static str,
    operation: &'static str,
    call: impl FnOnce() -> Result<T, fault::Fault>,
) -> Result<T, Error> {
    let started = Instant::now();
    let done = trace::in_span(operation, SpanKind::Client, &[("db.system.name", "sqlite")], call);
    metrics::DATABASE_SECONDS.observe(&[("operation", kind)], started.elapsed());
    done.map_err(|fault| {
        metrics::DATABASE_FAILURES.increment(&[("operation", kind)], 1);
        fault.during(operation)
    })
}

impl SqliteStore {
    fn read<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut diesel::SqliteConnection) -> Result<T, fault::Fault>,
    ) -> Result<T, Error> {
        timed("read", operation, || self.connections.read(work))
    }

    /// A write that no journal can bring back: on disk when it returns.
    fn write<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut diesel::SqliteConnection) -> Result<T, fault::Fault>,
    ) -> Result<T, Error> {
        timed("write", operation, || self.connections.write(Sync::Now, work))
    }
}

impl SqliteStore {
    /// A write that can be made again from what is stored.
    fn write_lazily<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut diesel::SqliteConnection) -> Result<T, fault::Fault>,
    ) -> Result<T, Error> {
        timed("write", operation, || self.connections.write(Sync::Lazy, work))
    }
}

/// A file of one node.
impl Nodes for SqliteStore {}

impl Store for SqliteStore {
    fn checkpoint(&self) -> Result<Option<u64>, Error> {
        self.read("read the checkpoint", commit::checkpoint)
    }

    fn durable_checkpoint(&self) -> Result<Option<u64>, Error> {
        self.write("secure the checkpoint", upkeep::touch_checkpoint)
    }

    fn device_states(&self, ids: &[DeviceId]) -> Result<Vec<(DeviceId, DeviceState)>, Error> {
        self.read("read device states", |c| states::of(c, ids))
    }

    fn online_devices(&self) -> Result<Vec<(DeviceId, DeviceState)>, Error> {
        self.read("read device states", states::online)
    }

    fn commit(&self, batch: &Batch) -> Result<Committed, Error> {
        commit::commit(&self.connections, batch).map_err(|fault| fault.during("store a batch"))
    }

    fn create_device(&self, new: &NewDevice, now: Timestamp) -> Result<Outcome<Device>, Error> {
        self.write("create a device", |c| devices::create(c, new, now))
    }

    fn create_devices(&self, new: &[NewDevice], all_or_nothing: bool, now: Timestamp) -> Result<Vec<bool>, Error> {
        self.write("create devices", |c| Ok(devices::create_many(c, new, all_or_nothing, now)?))
    }

    fn device(&self, id: &DeviceId) -> Result<Option<Device>, Error> {
        self.read("read a device", |c| devices::find(c, id))
    }

    fn devices_of(&self, ids: &[DeviceId]) -> Result<Vec<Device>, Error> {
        self.read("read devices", |c| ids.iter().filter_map(|id| devices::find(c, id).transpose()).collect())
    }

    fn devices(&self, filter: &DeviceFilter, page: Page) -> Result<Listing<Device>, Error> {
        self.read("list devices", |c| devices::list(c, filter, page))
    }

    fn update_device(
        &self,
        id: &DeviceId,
        change: &DeviceChange,
        expected_version: Option<i64>,
        now: Timestamp,
    ) -> Result<Option<Outcome<Device>>, Error> {
        self.write("update a device", |c| devices::update(c, id, change, expected_version, now))
    }

    fn delete_device(&self, id: &DeviceId, purge: bool) -> Result<bool, Error> {
        upkeep::delete_device(&self.connections, id, purge).map_err(|fault| fault.during("delete a device"))
    }

    fn set_device_token(&self, id: &DeviceId, token_sha256: Option<[u8; 32]>) -> Result<bool, Error> {
        self.write("set a device token", |c| Ok(credentials::set_token(c, id, token_sha256)?))
    }

    fn device_credential(&self, id: &DeviceId) -> Result<Option<DeviceCredential>, Error> {
        self.read("read a device credential", |c| credentials::of_device(c, id))
    }

    fn stats(&self) -> Result<Stats, Error> {
        self.read("count", upkeep::stats)
    }

    fn scan_telemetry(
        &self,
        id: &DeviceId,
        from: Timestamp,
        to: Timestamp,
        each: &mut dyn FnMut(TelemetryRow) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        self.scan_columns(id, Columns::ALL, from, to, each)
    }

    fn scan_columns(
        &self,
        id: &DeviceId,
        columns: Columns,
        from: Timestamp,
        to: Timestamp,
        each: &mut dyn FnMut(TelemetryRow) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let scanned = telemetry::scan(&self.connections, id, columns, from, to, each);
        scanned.map_err(|fault| fault.during("read telemetry"))
    }

    fn reach(&self, id: &DeviceId) -> Result<Reach, Error> {
        self.read("read how far telemetry reaches", |c| Ok(reach::of(c, id)?))
    }

    fn note_purge(&self, id: &DeviceId, at: Timestamp) -> Result<(), Error> {
        self.write("note a purge", |c| Ok(reach::purged(c, id, at)?))
    }

    fn gaps(&self, id: &DeviceId, from: Timestamp, to: Timestamp, page: Page) -> Result<Listing<GapEntry>, Error> {
        self.read("list gaps", |c| gaps::list(c, id, from, to, page))
    }

    fn events(&self, id: &DeviceId, kind: Option<&str>, page: Page) -> Result<Listing<EventRow>, Error> {
        self.read("list events", |c| events::list(c, id, kind, page))
    }

    fn create_alert(&self, id: &DeviceId, new: &NewAlert, now: Timestamp) -> Result<Option<Alert>, Error> {
        self.write("create an alert", |c| alerts::create(c, id, new, now))
    }

    fn alerts(&self, filter: &AlertFilter, page: Page) -> Result<Listing<Alert>, Error> {
        self.read("list alerts", |c| alerts::list(c, filter, page))
    }

    fn acknowledge_alert(&self, alert: i64, by: &str, now: Timestamp) -> Result<Option<Alert>, Error> {
        self.write("acknowledge an alert", |c| alerts::acknowledge(c, alert, by, now))
    }

    fn create_command(&self, new: &NewCommand) -> Result<Option<Command>, Error> {
        self.write("create a command", |c| commands::create(c, new))
    }

    fn command(&self, id: CommandId) -> Result<Option<Command>, Error> {
        self.read("read a command", |c| commands::find(c, id))
    }

    fn commands(&self, filter: &CommandFilter, page: Page) -> Result<Listing<Command>, Error> {
        self.read("list commands", |c| commands::list(c, filter, page))
    }

    fn deliverable_commands(&self, id: &DeviceId, now: Timestamp) -> Result<Vec<Command>, Error> {
        self.read("list deliverable commands", |c| commands::deliverable(c, id, now))
    }

    fn advance_command(&self, change: &CommandChange) -> Result<Option<Outcome<Command>>, Error> {
        self.write("advance a command", |c| commands::advance(c, change))
    }

    fn advance_commands(&self, changes: &[CommandChange]) -> Result<Vec<Option<Outcome<Command>>>, Error> {
        self.write("advance commands", |c| changes.iter().map(|change| commands::advance(c, change)).collect())
    }

    fn expire_commands(&self, now: Timestamp, delivered_before: Timestamp) -> Result<usize, Error> {
        self.write("expire commands", |c| commands::expire(c, now, delivered_before))
    }

    fn create_api_key(&self, key: &ApiKey) -> Result<(), Error> {
        self.write("create an API key", |c| Ok(credentials::create_key(c, key)?))
    }

    fn api_key(&self, prefix: &str) -> Result<Option<ApiKey>, Error> {
        self.read("read an API key", |c| credentials::key(c, prefix))
    }

    fn api_keys(&self) -> Result<Vec<ApiKey>, Error> {
        self.read("list API keys", credentials::keys)
    }

    fn revoke_api_key(&self, prefix: &str, now: Timestamp) -> Result<bool, Error> {
        self.write("revoke an API key", |c| credentials::revoke_key(c, prefix, now))
    }

    fn save_sessions(&self, sessions: &[SessionChange], retained: &[RetainedChange]) -> Result<(), Error> {
        sessions::save(&self.connections, sessions, retained).map_err(|fault| fault.during("save sessions"))
    }

    fn load_sessions(&self, each: &mut dyn FnMut(SavedSession)) -> Result<(), Error> {
        self.read("load sessions", |c| sessions::load(c, each))
    }

    fn load_retained(&self, each: &mut dyn FnMut(String, Vec<u8>)) -> Result<(), Error> {
        self.read("load retained messages", |c| sessions::load_retained(c, each))
    }

    fn ping(&self) -> Result<(), Error> {
        let (all, idle) = self.connections.count();
        metrics::database_pool(all, idle);
        // A row is really written, without fsync: an empty transaction would not notice a full disk. While somebody
        // else writes nothing is tried nor waited for: what they meet they report themselves.
        let read = self.connections.read(commit::checkpoint);
        let written = read.and_then(|_| self.connections.write_if_free(upkeep::touch_checkpoint));
        written.map(drop).map_err(|fault| fault.during("answer"))
    }

    fn trim(&self, before: Timestamp, limit: usize) -> Result<usize, Error> {
        let trimmed = self.connections.write(Sync::Lazy, |c| Ok(upkeep::trim(c, before, limit)?));
        trimmed.map_err(|fault| fault.during("trim"))
    }
}

#[cfg(test)]
mod tests;

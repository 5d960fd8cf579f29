//! The store in a Postgres database, which several nodes may share.
//!
//! Start from [`open`]. One file a subject, named as in `sqlite`; `connection` holds the pool, the collector's connection
//! and what happens while the database is away, `commit` the collector's batch, `telemetry`, `pages`, `axis` and `copy`
//! the large table, `partitions` its days.
//!
//! Why `telemetry` is keyed by the device's id as text, where SQLite has a short number: the table can be distributed by
//! device_id (Citus) and cut up by ts (TimescaleDB) as it is, and people who come with SQL need no join. A number would
//! save 1 to 2 bytes a value.
//!
//! What belongs to one node only is keyed by the node's id (its checkpoint) or in a file of that node (MQTT sessions, retained
//! messages, and what the database last said of credentials).
//! Must not know: what the values mean; who asks.

mod access;
mod alerts;
mod axis;
mod certificates;
mod claims;
mod commands;
mod commit;
mod connection;
mod copy;
mod copy_in;
mod copy_out;
mod credentials;
mod devices;
mod engines;
mod enrolment;
mod events;
mod firmware;
mod gaps;
mod leases;
mod live;
mod locks;
mod migrations;
mod nodes;
mod outbox;
mod pages;
mod partitions;
mod reach;
mod remembered;
mod rollout_steps;
mod rollouts;
mod rollups;
mod rules;
mod schema;
mod services;
mod shared;
mod states;
mod takeover;
mod telemetry;
mod text;
mod types;
mod upkeep;
mod way;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use diesel::PgConnection;
use uuid::Uuid;

use self::connection::{Connections, View};
use self::partitions::Partitions;
use self::remembered::Remembered;
use self::way::Way;
use super::fault::Fault;
use super::{
    Alert, AlertFilter, ApiKey, Batch, Columns, Command, CommandChange, CommandFilter, Committed, Device, DeviceChange,
    DeviceCredential, DeviceFilter, Engine, Error, EventRow, Fresh, GapEntry, Known, Listing, NewAlert, NewCommand,
    NewDevice, Options, Outcome, Page, Planner, Reach, RetainedChange, SavedSession, SessionChange, Stats, Store,
    TelemetryRow,
};
use crate::domain::{CommandId, DeviceId, DeviceState, Timestamp};
use crate::observe::metrics;
use crate::observe::trace::{self, SpanKind};

pub(super) use self::copy_in::{check_empty, copy_in};
pub(super) use self::copy_out::copy_out;

/// The store in a Postgres database.
pub(super) struct PostgresStore {
    connections: Connections,
    partitions: Partitions,
    way: Way,
    remembered: Remembered,
    node: Uuid,
    node_timeout: Duration,
}

/// Connects and brings the schema up to date. A patient caller gets a store also when the database is away: its calls are
/// [`Error::Unavailable`] until it is there.
pub(super) fn open(url: &str, options: &Options) -> Result<PostgresStore, Error> {
    let remembered = Remembered::open(options.node_file.as_deref())?;
    let store = PostgresStore {
        connections: Connections::new(url, options),
        partitions: Partitions::default(),
        way: Way::default(),
        remembered,
        node: options.node,
        node_timeout: options.node_timeout,
    };
    match store.connections.schema() {
        Ok(_) => Ok(store),
        Err(fault) if options.is_patient && connection::may_come_back(&fault) => {
            let error = fault.during("open the database");
            tracing::warn!(error = &error as &dyn std::error::Error, "the database is away; going on without it");
            Ok(store)
        }
        Err(fault) => Err(cannot_open(url, fault)),
    }
}

/// Applies what is missing of the schema, or with `dry_run` only says what that would be.
pub(super) fn migrate(url: &str, dry_run: bool) -> Result<Vec<String>, Error> {
    let connections = Connections::new(url, &Options { pool_size: 1, ..Options::default() });
    let work = |mut connection: PgConnection| match dry_run {
        true => migrations::pending(&mut connection),
        false => migrations::run(&mut connection),
    };
    connections.establish().and_then(work).map_err(|fault| cannot_open(url, fault))
}

/// See [`engines`](super::engines).
pub(super) fn engines(url: &str) -> Result<Vec<Engine>, Error> {
    let connections = Connections::new(url, &Options { pool_size: 1, ..Options::default() });
    let looked = connections.establish().and_then(|mut connection| Ok(engines::engines(&mut connection)?));
    looked.map_err(|fault| cannot_open(url, fault))
}

/// See [`check_schema`](super::check_schema).
pub(super) fn check_schema(versions: &[String]) -> Result<(), Error> {
    migrations::check(versions).map_err(|fault| fault.during("compare versions of the schema"))
}

fn cannot_open(url: &str, fault: Fault) -> Error {
    match fault {
        Fault::Connect(source) => Error::Open { path: address(url), source },
        other => other.during("open the database"),
    }
}

/// The URL without what nobody may see.
fn address(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.split('?').next().unwrap_or_default();
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    format!("{scheme}://{place}")
}

/// Counts and times a call.
fn timed<T>(kind: &'static str, operation: &'static str, call: impl FnOnce() -> Result<T, Fault>) -> Result<T, Error> {
    let started = Instant::now();
    let done = trace::in_span(operation, SpanKind::Client, &[("db.system.name", "postgresql")], call);
    metrics::DATABASE_SECONDS.observe(&[("operation", kind)], started.elapsed());
    done.map_err(|fault| {
        metrics::DATABASE_FAILURES.increment(&[("operation", kind)], 1);
        fault.during(operation)
    })
}

fn without_revision(states: Vec<Fresh>) -> Vec<(DeviceId, DeviceState)> {
    states.into_iter().map(|fresh| (fresh.device, fresh.state)).collect()
}

impl PostgresStore {
    fn read<T>(
        &self,
        operation: &'static str,
        view: View,
        work: impl FnOnce(&mut PgConnection) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        timed("read", operation, || self.connections.read(view, work))
    }

    /// On disk when it returns.
    fn write<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut PgConnection) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        timed("write", operation, || self.connections.write(work))
    }
}

impl Store for PostgresStore {
    fn checkpoint(&self) -> Result<Option<u64>, Error> {
        self.read("read the checkpoint", View::Statement, |c| commit::checkpoint(c, self.node))
    }

    fn durable_checkpoint(&self) -> Result<Option<u64>, Error> {
        self.checkpoint()
    }

    fn device_states(&self, ids: &[DeviceId]) -> Result<Vec<(DeviceId, DeviceState)>, Error> {
        self.read("read device states", View::Snapshot, |c| states::of(c, self.node, ids)).map(without_revision)
    }

    fn online_devices(&self) -> Result<Vec<(DeviceId, DeviceState)>, Error> {
        self.read("read device states", View::Snapshot, |c| states::online(c, self.node)).map(without_revision)
    }

    fn commit(&self, batch: &Batch) -> Result<Committed, Error> {
        let done = commit::commit(&self.connections, &self.partitions, &self.way, self.node, batch);
        done.map_err(|fault| fault.during("store a batch"))
    }

    fn commit_planned(&self, known: &[Known], planner: &mut dyn Planner) -> Result<Committed, Error> {
        let done = commit::commit_planned(&self.connections, &self.partitions, &self.way, self.node, known, planner);
        done.map_err(|fault| fault.during("store a batch"))
    }

    fn create_device(&self, new: &NewDevice, now: Timestamp) -> Result<Outcome<Device>, Error> {
        self.write("create a device", |c| devices::create(c, new, now))
    }

    fn create_devices(&self, new: &[NewDevice], all_or_nothing: bool, now: Timestamp) -> Result<Vec<bool>, Error> {
        timed("write", "create devices", || devices::create_many(&self.connections, new, all_or_nothing, now))
    }

    fn device(&self, id: &DeviceId) -> Result<Option<Device>, Error> {
        self.read("read a device", View::Snapshot, |c| devices::find(c, id))
    }

    fn devices_of(&self, ids: &[DeviceId]) -> Result<Vec<Device>, Error> {
        self.read("read devices", View::Snapshot, |c| devices::find_many(c, ids))
    }

    fn devices(&self, filter: &DeviceFilter, page: Page) -> Result<Listing<Device>, Error> {
        self.read("list devices", View::Snapshot, |c| devices::list(c, filter, page))
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
        let said = self.read("read a device credential", View::Statement, |c| credentials::of_device(c, id));
        self.remembered.or_last(id, said)
    }

    fn stats(&self) -> Result<Stats, Error> {
        self.read("count", View::Snapshot, upkeep::stats)
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
        let scanned = pages::scan(&self.connections, id, columns, from, to, each);
        scanned.map_err(|fault| fault.during("read telemetry"))
    }

    fn reach(&self, id: &DeviceId) -> Result<Reach, Error> {
        self.read("read how far telemetry reaches", View::Statement, |c| Ok(reach::of(c, id)?))
    }

    fn note_purge(&self, id: &DeviceId, at: Timestamp) -> Result<(), Error> {
        self.write("note a purge", |c| Ok(reach::purged(c, id, at)?))
    }

    fn gaps(&self, id: &DeviceId, from: Timestamp, to: Timestamp, page: Page) -> Result<Listing<GapEntry>, Error> {
        self.read("list gaps", View::Snapshot, |c| gaps::list(c, id, from, to, page))
    }

    fn events(&self, id: &DeviceId, kind: Option<&str>, page: Page) -> Result<Listing<EventRow>, Error> {
        self.read("list events", View::Snapshot, |c| events::list(c, id, kind, page))
    }

    fn create_alert(&self, id: &DeviceId, new: &NewAlert, now: Timestamp) -> Result<Option<Alert>, Error> {
        self.write("create an alert", |c| alerts::create(c, id, new, now))
    }

    fn alerts(&self, filter: &AlertFilter, page: Page) -> Result<Listing<Alert>, Error> {
        self.read("list alerts", View::Snapshot, |c| alerts::list(c, filter, page))
    }

    fn acknowledge_alert(&self, alert: i64, by: &str, now: Timestamp) -> Result<Option<Alert>, Error> {
        self.write("acknowledge an alert", |c| alerts::acknowledge(c, alert, by, now))
    }

    fn create_command(&self, new: &NewCommand) -> Result<Option<Command>, Error> {
        self.write("create a command", |c| commands::create(c, new))
    }

    fn command(&self, id: CommandId) -> Result<Option<Command>, Error> {
        self.read("read a command", View::Statement, |c| commands::find(c, id))
    }

    fn commands(&self, filter: &CommandFilter, page: Page) -> Result<Listing<Command>, Error> {
        self.read("list commands", View::Snapshot, |c| commands::list(c, filter, page))
    }

    fn deliverable_commands(&self, id: &DeviceId, now: Timestamp) -> Result<Vec<Command>, Error> {
        self.read("list deliverable commands", View::Statement, |c| commands::deliverable(c, id, now))
    }

    fn advance_command(&self, change: &CommandChange) -> Result<Option<Outcome<Command>>, Error> {
        let mut outcomes = self.write("advance a command", |c| commands::advance(c, std::slice::from_ref(change)))?;
        Ok(outcomes.pop().flatten())
    }

    fn advance_commands(&self, changes: &[CommandChange]) -> Result<Vec<Option<Outcome<Command>>>, Error> {
        self.write("advance commands", |c| commands::advance(c, changes))
    }

    fn claim_commands(&self, devices: &[DeviceId], now: Timestamp) -> Result<Vec<Command>, Error> {
        self.write("claim commands", |c| claims::claim(c, self.own(), devices, now))
    }

    fn expire_commands(&self, now: Timestamp, delivered_before: Timestamp) -> Result<usize, Error> {
        self.write("expire commands", |c| commands::expire(c, now, delivered_before))
    }

    fn create_api_key(&self, key: &ApiKey) -> Result<(), Error> {
        self.write("create an API key", |c| Ok(credentials::create_key(c, key)?))
    }

    fn api_key(&self, prefix: &str) -> Result<Option<ApiKey>, Error> {
        self.read("read an API key", View::Statement, |c| credentials::key(c, prefix))
    }

    fn api_keys(&self) -> Result<Vec<ApiKey>, Error> {
        self.read("list API keys", View::Statement, credentials::keys)
    }

    fn revoke_api_key(&self, prefix: &str, now: Timestamp) -> Result<bool, Error> {
        self.write("revoke an API key", |c| credentials::revoke_key(c, prefix, now))
    }

    fn save_sessions(&self, sessions: &[SessionChange], retained: &[RetainedChange]) -> Result<(), Error> {
        let saved = self.remembered.file()?.save_sessions(sessions, retained);
        saved.map_err(|fault| fault.during("save sessions"))
    }

    fn load_sessions(&self, each: &mut dyn FnMut(SavedSession)) -> Result<(), Error> {
        self.remembered.file()?.load_sessions(each).map_err(|fault| fault.during("load sessions"))
    }

    fn load_retained(&self, each: &mut dyn FnMut(String, Vec<u8>)) -> Result<(), Error> {
        self.remembered.file()?.load_retained(each).map_err(|fault| fault.during("load retained messages"))
    }

    fn ping(&self) -> Result<(), Error> {
        let (all, idle) = self.connections.count();
        metrics::database_pool(all, idle);
        // A row is really written: a server that only reads, or whose disk is full, is of no use.
        let written = self.connections.write(|c| Ok(commit::touch_checkpoint(c, self.node)?));
        written.map(drop).map_err(|fault| fault.during("answer"))
    }

    fn trim(&self, before: Timestamp, limit: usize) -> Result<usize, Error> {
        let trimmed = upkeep::trim(&self.connections, &self.partitions, before, limit);
        trimmed.map_err(|fault| fault.during("trim"))
    }
}

#[cfg(test)]
pub(super) mod tests;

//! The database: registry (devices, alerts, commands, credentials) and telemetry.
//!
//! Promise: [`Store::commit`] is one transaction, rows and states and checkpoint together, and a message already stored is
//! not stored again. Everything else is an ordinary query. All calls block: async callers go through [`run`].
//! Must not know: HTTP, MQTT, the journal's files.
//!
//! Start from the [`Store`] trait; `rows` holds what goes in and out, `saved` what the broker keeps here.

mod access;
mod certificates;
pub mod chain;
mod columns;
mod copy;
mod enrolment;
mod error;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod fault;
mod lease;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod listing;
mod live;
mod nodes;
mod outbox;
mod planned;
#[cfg(feature = "postgres")]
mod postgres;
mod proof;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod rollout_rows;
mod rollouts;
mod rollups;
mod rows;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod rule_rows;
mod rules;
mod saved;
#[cfg(feature = "sqlite")]
mod sqlite;
mod takeover;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
#[cfg(test)]
mod tests;
mod trimmed;

pub use access::*;
pub use certificates::*;
pub use chain::AuditRow;
pub use columns::{Columns, FIRST_PAGE, page_after};
pub use copy::*;
pub use enrolment::*;
pub use error::Error;
pub use lease::{Duty, Leader, Lease};
pub use live::{LIVE_KEPT_S, Live, LiveChange, LiveChanges, LivePlace};
pub use nodes::*;
pub use outbox::*;
pub use planned::{Fresh, Known, Planner};
pub use proof::{Fault as AuditFault, Proof, Since};
pub use rollouts::*;
pub use rollups::*;
pub use rows::*;
pub use rules::{AlertRule, RuleAlert, RuleFilter, RuleOutcome, RuleText, Rules};
pub use saved::*;
pub use takeover::*;
pub use trimmed::Trimmed;

#[cfg(all(test, feature = "postgres"))]
pub(crate) use postgres::tests::server as test_server;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::command::CommandStatus;
use crate::domain::{CommandId, DeviceId, DeviceState, Timestamp};
use crate::observe::trace;

/// A store shared by tasks.
pub type SharedStore = Arc<dyn Store>;

/// What every database must do. One implementation a dialect; chosen at run time by the URL's scheme.
///
/// Errors: [`Error::Unavailable`] is worth trying again (busy, away, disk full); anything else is not.
pub trait Store:
    Access
    + Certificates
    + Commands
    + Enrolment
    + Live
    + Nodes
    + Outbox
    + Rollouts
    + Rollups
    + Rules
    + Takeover
    + Send
    + Sync
    + 'static
{
    // ---- collector ---------------------------------------------------------------------------------------------

    /// The journal offset up to which (exclusive) everything is stored; `None` in a new database.
    fn checkpoint(&self) -> Result<Option<u64>, Error>;

    /// Makes everything committed so far survive a power loss and returns the checkpoint that then does. **Only up to here
    /// may the journal be trimmed**: a [`commit`](Self::commit) is complete or absent after a power loss, and what is
    /// absent must still be in the journal.
    fn durable_checkpoint(&self) -> Result<Option<u64>, Error>;

    /// States of those of `ids` that have any (registered or heard of). Order and absence as they come.
    fn device_states(&self, ids: &[DeviceId]) -> Result<Vec<(DeviceId, DeviceState)>, Error>;

    /// Every device that was online when last committed, with what presence needs.
    fn online_devices(&self) -> Result<Vec<(DeviceId, DeviceState)>, Error>;

    /// Stores a batch: registrations, telemetry, events, states, gaps, alerts, command changes and the checkpoint, in one
    /// transaction. Rows whose identity is stored already are left as they are and counted as duplicates. Of a database that
    /// does not stand where the batch goes on from ([`Batch::since`]) nothing is changed: [`Error::Moved`].
    fn commit(&self, batch: &Batch) -> Result<Committed, Error>;

    /// [`commit`](Self::commit) of what `planner` makes of the states of `known` (each device once, in order of their ids),
    /// which no other node changes meanwhile; see [`Planner`].
    fn commit_planned(&self, known: &[Known], planner: &mut dyn Planner) -> Result<Committed, Error> {
        let _ = known;
        let batch = planner.plan(Vec::new());
        if batch.is_empty() { Ok(Committed::default()) } else { self.commit(batch) }
    }

    // ---- devices -----------------------------------------------------------------------------------------------

    /// Adds a device; [`Outcome::Conflict`] when the id is taken.
    fn create_device(&self, new: &NewDevice, now: Timestamp) -> Result<Outcome<Device>, Error>;
    /// Adds those of the devices whose ids are free (each id once at most), in one transaction; says of each whether its id
    /// was. With `all_or_nothing` none is added when one is taken.
    fn create_devices(&self, new: &[NewDevice], all_or_nothing: bool, now: Timestamp) -> Result<Vec<bool>, Error>;
    /// One device.
    fn device(&self, id: &DeviceId) -> Result<Option<Device>, Error>;
    /// Those of `ids` that are registered, in any order.
    fn devices_of(&self, ids: &[DeviceId]) -> Result<Vec<Device>, Error>;
    /// Devices that match, newest first, and how many match in all.
    fn devices(&self, filter: &DeviceFilter, page: Page) -> Result<Listing<Device>, Error>;
    /// Changes the named fields; `None` = no such device. `expected_version`: [`Outcome::Conflict`] when it has moved on.
    fn update_device(
        &self,
        id: &DeviceId,
        change: &DeviceChange,
        expected_version: Option<i64>,
        now: Timestamp,
    ) -> Result<Option<Outcome<Device>>, Error>;
    /// Removes the device, its credentials, commands and alerts; with `purge` its telemetry, events and gaps too.
    /// `false` = no such device.
    fn delete_device(&self, id: &DeviceId, purge: bool) -> Result<bool, Error>;
    /// [`delete_device`](Self::delete_device), behind all that would let in by its id whoever is registered later; with `purge`
    /// its archived data are not shown any more either. `None` = no such device. `expected_version`: [`Outcome::Conflict`], and
    /// nothing is changed, when it has moved on. The device is disabled first, so that whoever has read the same version comes
    /// too late, and no certificate is issued to it any more. One cut short can be asked for again.
    fn remove_device(
        &self,
        id: &DeviceId,
        expected_version: Option<i64>,
        purge: bool,
        revocation: &Revocation,
    ) -> Result<Option<Outcome<()>>, Error> {
        let disabled = DeviceChange { is_active: Some(false), ..DeviceChange::default() };
        match self.update_device(id, &disabled, expected_version, revocation.at)? {
            None if expected_version.is_some() => return Ok(None),
            Some(Outcome::Conflict) => return Ok(Some(Outcome::Conflict)),
            None | Some(Outcome::Done(_)) => {}
        }
        self.revoke_certificates_of(id, revocation)?;
        if purge {
            self.note_purge(id, revocation.at)?;
        }
        Ok(self.delete_device(id, purge)?.then_some(Outcome::Done(())))
    }
    /// Sets (or with `None` removes) the digest of the device's MQTT token, and says so in the queue of changed
    /// credentials. `false` = no such device.
    fn set_device_token(&self, id: &DeviceId, token_sha256: Option<[u8; 32]>) -> Result<bool, Error>;
    /// What a device may log in with; `None` = not registered. While the database is away a store may answer what it knew
    /// last of this device.
    fn device_credential(&self, id: &DeviceId) -> Result<Option<DeviceCredential>, Error>;
    /// Figures of `GET /api/stats` and of the metrics page.
    fn stats(&self) -> Result<Stats, Error>;

    // ---- data --------------------------------------------------------------------------------------------------

    /// Calls `each` with the telemetry rows of `id` whose message `ts` lies in `from..to`, ascending by (ts, seq), until it
    /// breaks. Rows are read in pages, so that memory does not grow with the range and no lock is held while `each` runs.
    fn scan_telemetry(
        &self,
        id: &DeviceId,
        from: Timestamp,
        to: Timestamp,
        each: &mut dyn FnMut(TelemetryRow) -> ControlFlow<()>,
    ) -> Result<(), Error>;

    /// The same, where of the types that have a column only these are needed: others may be left out of `values.series`.
    fn scan_columns(
        &self,
        id: &DeviceId,
        columns: Columns,
        from: Timestamp,
        to: Timestamp,
        each: &mut dyn FnMut(TelemetryRow) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let _ = columns;
        self.scan_telemetry(id, from, to, each)
    }
    /// What of the device's telemetry the database may have no longer. Asked after rows were read, it says of which of them
    /// some may have been missing already: whoever takes rows away says so in the same transaction.
    fn reach(&self, id: &DeviceId) -> Result<Reach, Error>;
    /// Notes that the device's data are removed: what was received of it before `at` is not to be shown from anywhere.
    fn note_purge(&self, id: &DeviceId, at: Timestamp) -> Result<(), Error>;
    /// Ledger entries of missing messages that touch `from..to` by time, newest first.
    fn gaps(&self, id: &DeviceId, from: Timestamp, to: Timestamp, page: Page) -> Result<Listing<GapEntry>, Error>;
    /// Hellos, status changes, acknowledgements and update progress, newest first.
    fn events(&self, id: &DeviceId, kind: Option<&str>, page: Page) -> Result<Listing<EventRow>, Error>;

    // ---- alerts ------------------------------------------------------------------------------------------------

    /// Adds an alert by hand; `None` = no such device.
    fn create_alert(&self, id: &DeviceId, new: &NewAlert, now: Timestamp) -> Result<Option<Alert>, Error>;
    /// Alerts that match, newest first.
    fn alerts(&self, filter: &AlertFilter, page: Page) -> Result<Listing<Alert>, Error>;
    /// Marks an alert as seen (again is fine: the first who and when stay); `None` = no such alert.
    fn acknowledge_alert(&self, alert: i64, by: &str, now: Timestamp) -> Result<Option<Alert>, Error>;

    // ---- commands ----------------------------------------------------------------------------------------------

    /// Adds a pending command; `None` = no such device.
    fn create_command(&self, new: &NewCommand) -> Result<Option<Command>, Error>;
    /// One command.
    fn command(&self, id: CommandId) -> Result<Option<Command>, Error>;
    /// Commands that match, newest first.
    fn commands(&self, filter: &CommandFilter, page: Page) -> Result<Listing<Command>, Error>;
    /// Commands of a device that are to be sent next (pending or sent, not expired at `now`), oldest first; at most
    /// [`COMMANDS_AT_ONCE`].
    fn deliverable_commands(&self, id: &DeviceId, now: Timestamp) -> Result<Vec<Command>, Error>;
    /// Moves a command when its state allows it (see `domain::command`); `None` = no such command, `Conflict` = the state
    /// forbids it and the command is returned as it is.
    fn advance_command(&self, change: &CommandChange) -> Result<Option<Outcome<Command>>, Error>;
    /// The same for many, in order and in one transaction where the store can; an outcome for each.
    fn advance_commands(&self, changes: &[CommandChange]) -> Result<Vec<Option<Outcome<Command>>>, Error> {
        changes.iter().map(|change| self.advance_command(change)).collect()
    }
    /// What of the devices' commands is to be sent next (pending or sent, not expired at `now`), of each device at most
    /// [`COMMANDS_AT_ONCE`], oldest first, and is from now on this node's to send; all of it `sent`. The turn of the others
    /// comes when these are delivered. What another node sends that is there and holds the device's session is left to it.
    fn claim_commands(&self, devices: &[DeviceId], now: Timestamp) -> Result<Vec<Command>, Error> {
        let mut next = Vec::new();
        for device in devices {
            next.extend(self.deliverable_commands(device, now)?);
        }
        let pending = next.iter().filter(|command| command.status == CommandStatus::Pending);
        let to = CommandStatus::Sent;
        let sent = |c: &Command| CommandChange { cmd_id: c.cmd_id, device: None, to, detail: None, at: now };
        let changes: Vec<_> = pending.map(sent).collect();
        if changes.is_empty() {
            return Ok(next);
        }
        self.advance_commands(&changes)?;
        // Seen again: one that is cancelled meanwhile is never sent, and another has its place.
        self.claim_commands(devices, now)
    }
    /// Expires what is overdue at `now`: pending or sent past `expires_at` → expired; delivered before
    /// `delivered_before` and unanswered → timeout. Returns how many changed.
    fn expire_commands(&self, now: Timestamp, delivered_before: Timestamp) -> Result<usize, Error>;

    // ---- credentials -------------------------------------------------------------------------------------------

    /// Adds an API key (only its digest).
    fn create_api_key(&self, key: &ApiKey) -> Result<(), Error>;
    /// The key with that public prefix.
    fn api_key(&self, prefix: &str) -> Result<Option<ApiKey>, Error>;
    /// All keys, newest first.
    fn api_keys(&self) -> Result<Vec<ApiKey>, Error>;
    /// Revokes a key; `false` = no such key.
    fn revoke_api_key(&self, prefix: &str, now: Timestamp) -> Result<bool, Error>;

    // ---- broker ------------------------------------------------------------------------------------------------

    /// Saves what changed of sessions and retained messages, in this order; on disk when it returns. The change of one
    /// session, or of one topic, is complete or absent whatever happens, and applying it again is harmless: after an error
    /// all of them may be tried again. A large save lets other writers in between.
    fn save_sessions(&self, sessions: &[SessionChange], retained: &[RetainedChange]) -> Result<(), Error>;
    /// Calls `each` with every saved session, one in memory at a time. For the start: it is one snapshot, held while
    /// `each` runs.
    fn load_sessions(&self, each: &mut dyn FnMut(SavedSession)) -> Result<(), Error>;
    /// Calls `each` with every topic that has a retained message, and that message; likewise.
    fn load_retained(&self, each: &mut dyn FnMut(String, Vec<u8>)) -> Result<(), Error>;

    // ---- upkeep ------------------------------------------------------------------------------------------------

    /// Whether the database answers and can be written to. Cheap; does not wait for a write that is under way.
    fn ping(&self) -> Result<(), Error>;
    /// Deletes telemetry and events with `ts` before `before`, and alerts, commands and gaps from before it that are over;
    /// at most `limit` rows a call, or a little more where a whole day goes at once; returns how many. A store that keeps
    /// days apart leaves the day of `before` until it is over.
    fn trim(&self, before: Timestamp, limit: usize) -> Result<usize, Error>;
}

/// Commands of a device that are handed out at once: a queue of messages has room for them.
pub const COMMANDS_AT_ONCE: usize = 100;

/// Part of the [`Store`]: commands as they are changed by those who have read them some time ago.
pub trait Commands {
    /// [`Store::advance_command`] of a command that is `from` still (`None` = whatever it is), which is seen where it is
    /// changed: nothing comes between. `Conflict` also when it is not.
    fn advance_command_from(
        &self,
        from: Option<CommandStatus>,
        change: &CommandChange,
    ) -> Result<Option<Outcome<Command>>, Error>;
}

/// The name of a node's own file, in its data directory (see [`Options::node_file`]).
pub const NODE_FILE: &str = "node.db";

/// How a database is opened. SQLite, which is a file of one node, has no use for any of it.
#[derive(Clone, Debug)]
pub struct Options {
    /// This node, where several share the database: its checkpoint is its own.
    pub node: uuid::Uuid,
    /// A file of this node for its MQTT sessions and retained messages, and for what it needs to let meters in while the
    /// database is away; `None` = it keeps no sessions.
    pub node_file: Option<std::path::PathBuf>,
    /// Connections at most, beside the collector's.
    pub pool_size: u32,
    /// How long a connection may take to come about, and how long a call waits for a free one.
    pub connect_timeout: Duration,
    /// What takes longer is broken off.
    pub statement_timeout: Duration,
    /// A node that has not said for so long that it is there is taken for dead.
    pub node_timeout: Duration,
    /// A database that is away is waited for: the store is there at once, and its calls are [`Error::Unavailable`] until
    /// the database is.
    pub is_patient: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            node: uuid::Uuid::nil(),
            node_file: None,
            pool_size: 8,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(60),
            node_timeout: Duration::from_secs(10),
            is_patient: false,
        }
    }
}

/// Opens the database of a URL: `sqlite:///path/to/file.db` (created when missing; `sqlite://file.db` is relative to the
/// working directory), or with the feature `postgres` `postgres://user:password@host/database?sslmode=…`. An unknown
/// scheme is an error, never a new file. Runs the embedded migrations; refuses a schema newer than this program.
pub fn open(url: &str) -> Result<SharedStore, Error> {
    open_with(url, &Options::default())
}

/// [`open`] with options.
#[cfg_attr(not(feature = "postgres"), allow(unused_variables))]
pub fn open_with(url: &str, options: &Options) -> Result<SharedStore, Error> {
    match url.split_once("://") {
        #[cfg(feature = "sqlite")]
        Some(("sqlite", path)) => Ok(Arc::new(sqlite::open(path)?)),
        #[cfg(feature = "postgres")]
        Some(("postgres" | "postgresql", _)) => Ok(Arc::new(postgres::open(url, options)?)),
        other => Err(unknown(other)),
    }
}

/// Whether a URL's database may be away at the start and be there later: one on another machine, not a file.
pub fn may_be_away(url: &str) -> bool {
    matches!(url.split_once("://"), Some(("postgres" | "postgresql", _)))
}

/// Brings the schema of a URL's database up to date and returns the names of the migrations applied, oldest first; with
/// `dry_run` returns those that would be, and changes and creates nothing.
#[cfg_attr(not(any(feature = "sqlite", feature = "postgres")), allow(unused_variables))]
pub fn migrate(url: &str, dry_run: bool) -> Result<Vec<String>, Error> {
    match url.split_once("://") {
        #[cfg(feature = "sqlite")]
        Some(("sqlite", path)) => sqlite::migrate(path, dry_run),
        #[cfg(feature = "postgres")]
        Some(("postgres" | "postgresql", _)) => postgres::migrate(url, dry_run),
        other => Err(unknown(other)),
    }
}

/// An extension of the database that spreads or cuts tables.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Engine {
    /// `citus` or `timescaledb`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it has made of which tables, in words.
    pub tables: Vec<String>,
}

/// Extensions that are there and what they have made of the tables.
#[cfg_attr(not(feature = "postgres"), allow(unused_variables))]
pub fn engines(url: &str) -> Result<Vec<Engine>, Error> {
    match url.split_once("://") {
        #[cfg(feature = "postgres")]
        Some(("postgres" | "postgresql", _)) => postgres::engines(url),
        _ => Ok(Vec::new()),
    }
}

fn unknown(split: Option<(&str, &str)>) -> Error {
    match split {
        Some(("postgres" | "postgresql", _)) => Error::MissingFeature { feature: "postgres" },
        Some(("sqlite", _)) => Error::MissingFeature { feature: "sqlite" },
        _ => Error::UnknownScheme { scheme: split.map_or("", |(scheme, _)| scheme).to_owned() },
    }
}

/// Runs a blocking store call away from the async workers.
pub async fn run<T: Send + 'static>(
    store: &SharedStore,
    call: impl FnOnce(&dyn Store) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let store = Arc::clone(store);
    match tokio::task::spawn_blocking(trace::carry(move || call(&*store))).await {
        Ok(result) => result,
        Err(_) => Err(Error::Interrupted),
    }
}

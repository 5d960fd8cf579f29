//! The database file: one writing connection, a few reading ones.
//!
//! SQLite allows one writer at a time; a connection of its own behind a lock makes writers wait in line here, where
//! waiting is fair and short, instead of in `SQLITE_BUSY`. In WAL mode readers never wait for it, nor it for them.
//!
//! Durability: a [`Sync::Lazy`] transaction is complete or absent after a power loss, but may be absent: the WAL is not
//! fsynced at commit. A [`Sync::Now`] transaction fsyncs the WAL, and with it every transaction before it.
//!
//! Invariant: a writing connection on which something failed is closed, not used again: the next call opens a new one. So
//! neither a half-open transaction nor a panic outlives its call. (The pool does the same for readers.)

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::r2d2::{ConnectionManager, CustomizeConnection, Pool};
use diesel::result::Error as SqlError;
use diesel::sql_types::Text;
use diesel::{Connection, QueryResult, SqliteConnection};

use super::fault::Fault;
use crate::observe::metrics;

/// Readers at the same time; more wait.
const READERS: u32 = 4;
/// How long a call waits for a lock that another process holds, or for a free reader.
const PATIENCE: Duration = Duration::from_secs(5);

/// First of all the patience: WAL mode itself takes a lock. No `mmap`: a failing disk must be an error, not a signal.
const COMMON: &str = "PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY;";
/// The hot leaves of the indexes stay in 8 MiB (measured with up to 20 000 devices: 16 MiB are not faster); a checkpoint copies the WAL back every 32 MiB, so that a page changed by
/// many commits is written once; a WAL grown by a long reader shrinks to 64 MiB again.
const WRITER: &str = "PRAGMA journal_mode = WAL; PRAGMA cache_size = -8192; PRAGMA wal_autocheckpoint = 8192; \
                      PRAGMA journal_size_limit = 67108864; PRAGMA synchronous = NORMAL;";
const READER: &str = "PRAGMA query_only = ON; PRAGMA cache_size = -2048;";

/// When a transaction is on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sync {
    /// Some time later: for what the journal can bring back.
    Lazy,
    /// When the call returns.
    Now,
}

/// The connections to one file.
pub(super) struct Connections {
    path: String,
    writer: Mutex<Option<Writer>>,
    readers: Pool<ConnectionManager<SqliteConnection>>,
}

struct Writer {
    connection: SqliteConnection,
    sync: Sync,
}

#[derive(Debug)]
struct Reading;

impl CustomizeConnection<SqliteConnection, diesel::r2d2::Error> for Reading {
    fn on_acquire(&self, connection: &mut SqliteConnection) -> Result<(), diesel::r2d2::Error> {
        prepare(connection, READER).map_err(diesel::r2d2::Error::QueryError)
    }
}

diesel::define_sql_function! {
    /// A text without regard to case, of all scripts: SQLite's own LIKE knows ASCII only.
    fn folded(text: Text) -> Text;
}

/// One statement a call: each applies, or says why not.
fn prepare(connection: &mut SqliteConnection, pragmas: &str) -> QueryResult<()> {
    folded_utils::register_impl(connection, |text: String| text.to_lowercase())?;
    [COMMON, pragmas]
        .iter()
        .flat_map(|list| list.split_inclusive(';'))
        .try_for_each(|pragma| connection.batch_execute(pragma))
}

/// Opens a connection that may write; the file is created when missing.
pub(super) fn open_writer(path: &str) -> Result<SqliteConnection, Fault> {
    let mut connection = SqliteConnection::establish(path)?;
    prepare(&mut connection, WRITER)?;
    Ok(connection)
}

impl Connections {
    /// Shares `connection` and opens readers beside it.
    pub(super) fn new(path: String, connection: SqliteConnection) -> Result<Self, Fault> {
        let readers = Pool::builder()
            .max_size(READERS)
            .min_idle(Some(1))
            .test_on_check_out(false)
            .connection_timeout(PATIENCE)
            .connection_customizer(Box::new(Reading))
            .build(ConnectionManager::new(path.as_str()))
            .map_err(|error| Fault::Connect(Box::new(error)))?;
        let writer = Mutex::new(Some(Writer { connection, sync: Sync::Lazy }));
        Ok(Self { path, writer, readers })
    }

    /// Reading connections, and how many of them nobody uses.
    pub(super) fn count(&self) -> (u32, u32) {
        let state = self.readers.state();
        (state.connections, state.idle_connections)
    }

    /// Runs `work` as one snapshot.
    pub(super) fn read<T>(&self, work: impl FnOnce(&mut SqliteConnection) -> Result<T, Fault>) -> Result<T, Fault> {
        let started = Instant::now();
        let taken = self.readers.get();
        metrics::DATABASE_WAIT_SECONDS.observe(&[], started.elapsed());
        let mut connection = taken.map_err(|error| Fault::Connect(Box::new(error)))?;
        connection.transaction(|connection| work(connection))
    }

    /// Like [`write`](Self::write), lazily; `None` when somebody is writing at this moment.
    pub(super) fn write_if_free<T>(
        &self,
        work: impl FnOnce(&mut SqliteConnection) -> Result<T, Fault>,
    ) -> Result<Option<T>, Fault> {
        match self.writer.try_lock() {
            Ok(slot) => self.write_in(slot, Sync::Lazy, work).map(Some),
            Err(TryLockError::Poisoned(slot)) => self.write_in(slot.into_inner(), Sync::Lazy, work).map(Some),
            Err(TryLockError::WouldBlock) => Ok(None),
        }
    }

    /// Runs `work` as one writing transaction: all of it or, on an error, nothing.
    pub(super) fn write<T>(
        &self,
        sync: Sync,
        work: impl FnOnce(&mut SqliteConnection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.write_in(self.writer.lock().unwrap_or_else(PoisonError::into_inner), sync, work)
    }

    fn write_in<T>(
        &self,
        mut slot: MutexGuard<'_, Option<Writer>>,
        sync: Sync,
        work: impl FnOnce(&mut SqliteConnection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut writer = match slot.take() {
            Some(writer) => writer,
            None => Writer { connection: open_writer(&self.path)?, sync: Sync::Lazy },
        };
        writer.set(sync)?;
        let mut cause = None;
        let done = writer.connection.immediate_transaction(|connection| {
            work(connection).map_err(|fault| {
                cause = Some(fault);
                SqlError::RollbackTransaction
            })
        });
        match done {
            Ok(value) => {
                *slot = Some(writer);
                Ok(value)
            }
            // What failed first is what matters, not the rollback after it.
            Err(error) => Err(cause.unwrap_or(Fault::Sql(error))),
        }
    }
}

impl Writer {
    fn set(&mut self, sync: Sync) -> QueryResult<()> {
        if self.sync != sync {
            self.connection.batch_execute(match sync {
                Sync::Lazy => "PRAGMA synchronous = NORMAL",
                Sync::Now => "PRAGMA synchronous = FULL",
            })?;
            self.sync = sync;
        }
        Ok(())
    }
}

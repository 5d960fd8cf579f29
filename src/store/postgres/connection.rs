//! The connections: a pool for everybody, and one of the collector's own.
//!
//! The collector's connection keeps its staging tables and is never waited for by others, nor waits for them. Any
//! connection on which something failed for good is closed, not used again.
//!
//! A database that is away: the first call that fails says so after at most `connect_timeout`. From then on one call a
//! second tries, all others fail at once, so that nobody queues up for nothing. Until the schema has been brought up to date
//! once, every call tries that first.
//!
//! Both ends look whether the other one is still there (keep-alive, and a limit for what is not acknowledged): a cut
//! network is noticed within half a minute, and a transaction cut off lets go of its locks.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::r2d2::{ConnectionManager, CustomizeConnection, HandleError, Pool, PooledConnection, R2D2Connection};
use diesel::result::{ConnectionError, Error as SqlError};
use diesel::{Connection, PgConnection, QueryResult};

use super::engines::{self, Schema};
use super::migrations;
use crate::observe::metrics;
use crate::store::Options;
use crate::store::fault::Fault;

/// How long after a failed try others fail at once.
const AWAY_FOR: Duration = Duration::from_secs(1);

/// Parameters of libpq, where the URL does not have them.
const DEFAULTS: [(&str, &str); 5] = [
    ("application_name", "iot-meter"),
    ("keepalives_idle", "10"),
    ("keepalives_interval", "5"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "20000"),
];

/// A few of the session's settings: see the module's head; a commit that the server has only promised is none, so that is not
/// left to its settings (waiting for a standby is); plans are made for the values at hand, because these say which
/// days are touched; compiling a query takes longer than any of ours.
const SESSION: &str = "SET TIME ZONE 'UTC'; SET plan_cache_mode = force_custom_plan; SET jit = off; \
     SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; \
     SET idle_in_transaction_session_timeout = '60s'; \
     SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';";

/// Where the collector's rows wait for the check whether they are there: gone with each transaction. Their size in memory.
const STAGING: &str = "SET temp_buffers = '64MB'; \
     CREATE TEMPORARY TABLE staging_telemetry (LIKE telemetry) ON COMMIT DELETE ROWS; \
     CREATE TEMPORARY TABLE staging_events (LIKE device_events) ON COMMIT DELETE ROWS;";

/// What a read sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum View {
    /// Each statement what is there when it begins: for single ones.
    Statement,
    /// All statements the same.
    Snapshot,
}

/// The connections to one database.
pub(super) struct Connections {
    url: String,
    session: String,
    pool: Pool<ConnectionManager<PgConnection>>,
    bulk: Mutex<Option<PgConnection>>,
    schema: OnceLock<Schema>,
    opening: Mutex<()>,
    failed_at: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Session(String);

impl CustomizeConnection<PgConnection, diesel::r2d2::Error> for Session {
    fn on_acquire(&self, connection: &mut PgConnection) -> Result<(), diesel::r2d2::Error> {
        connection.batch_execute(&self.0).map_err(diesel::r2d2::Error::QueryError)
    }
}

/// The pool's own tries to connect: who asks for a connection logs what they meet.
#[derive(Debug)]
struct Quiet;

impl<E: std::error::Error> HandleError<E> for Quiet {
    fn handle_error(&self, error: E) {
        tracing::debug!(%error, "no connection to the database");
    }
}

impl Connections {
    pub(super) fn new(url: &str, options: &Options) -> Self {
        let url = with_defaults(url, options);
        let session = format!("{SESSION} SET statement_timeout = {};", options.statement_timeout.as_millis());
        let pool = Pool::builder()
            .max_size(options.pool_size.max(1))
            .min_idle(Some(1))
            .test_on_check_out(true)
            .connection_timeout(options.connect_timeout.max(Duration::from_millis(1)))
            .idle_timeout(Some(Duration::from_secs(300)))
            .connection_customizer(Box::new(Session(session.clone())))
            .error_handler(Box::new(Quiet))
            .build_unchecked(ConnectionManager::new(url.as_str()));
        Self {
            url,
            session,
            pool,
            bulk: Mutex::new(None),
            schema: OnceLock::new(),
            opening: Mutex::new(()),
            failed_at: Mutex::new(None),
        }
    }

    /// What the schema turned out to be; brings it up to date the first time.
    pub(super) fn schema(&self) -> Result<&Schema, Fault> {
        if let Some(schema) = self.schema.get() {
            return Ok(schema);
        }
        let _one_at_a_time = lock(&self.opening);
        if let Some(schema) = self.schema.get() {
            return Ok(schema);
        }
        if !self.may_try() {
            return Err(away());
        }
        let opened = self.establish().and_then(|mut connection| {
            migrations::run(&mut connection)?;
            let schema = engines::schema(&mut connection)?;
            schema.announce();
            Ok(schema)
        });
        self.note(opened).map(|schema| self.schema.get_or_init(|| schema))
    }

    /// Runs `work`, which only reads.
    pub(super) fn read<T>(
        &self,
        view: View,
        work: impl FnOnce(&mut PgConnection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.with(|connection| match view {
            View::Statement => work(connection),
            View::Snapshot => connection.build_transaction().read_only().repeatable_read().run(work),
        })
    }

    /// Runs `work` as one transaction: all of it or, on an error, nothing; on disk when it returns.
    pub(super) fn write<T>(&self, work: impl FnOnce(&mut PgConnection) -> Result<T, Fault>) -> Result<T, Fault> {
        self.with(|connection| connection.transaction(work))
    }

    /// Runs `work` on a connection of the pool.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut PgConnection) -> Result<T, Fault>) -> Result<T, Fault> {
        self.schema()?;
        let mut connection = self.take()?;
        work(&mut connection).map_err(|fault| judge(&mut connection, fault))
    }

    /// Runs `work` on the collector's connection, which has the staging tables. Not in a transaction.
    pub(super) fn with_bulk<T>(&self, work: impl FnOnce(&mut PgConnection) -> Result<T, Fault>) -> Result<T, Fault> {
        self.schema()?;
        let mut slot = lock(&self.bulk);
        let mut connection = match slot.take() {
            Some(connection) => connection,
            None => self.note(self.open_bulk())?,
        };
        match work(&mut connection) {
            Ok(done) => {
                *slot = Some(connection);
                Ok(done)
            }
            Err(fault) => Err(judge(&mut connection, fault)),
        }
    }

    /// Connections that are there, and how many of them nobody uses.
    pub(super) fn count(&self) -> (u32, u32) {
        let state = self.pool.state();
        (state.connections, state.idle_connections)
    }

    /// A connection beside the pool.
    pub(super) fn establish(&self) -> Result<PgConnection, Fault> {
        Ok(PgConnection::establish(&self.url)?)
    }

    /// The same, as one of the calls that fail at once while the database is away.
    pub(super) fn establish_if_there(&self) -> Result<PgConnection, Fault> {
        if self.may_try() { self.note(self.establish()) } else { Err(away()) }
    }

    fn open_bulk(&self) -> Result<PgConnection, Fault> {
        let mut connection = self.establish()?;
        connection.batch_execute(&self.session)?;
        connection.batch_execute(STAGING)?;
        Ok(connection)
    }

    fn take(&self) -> Result<PooledConnection<ConnectionManager<PgConnection>>, Fault> {
        if !self.may_try() {
            let taken = self.pool.try_get().ok_or_else(away);
            return if taken.is_ok() { self.note(taken) } else { taken };
        }
        let started = Instant::now();
        let taken = self.pool.get().map_err(|error| Fault::Connect(Box::new(error)));
        metrics::DATABASE_WAIT_SECONDS.observe(&[], started.elapsed());
        // All in use is not away: the next one may find one that is free.
        let is_busy = taken.is_err() && self.pool.state().connections > 0;
        if is_busy { taken } else { self.note(taken) }
    }

    /// Whether the database was there, or it is this call's turn to find out.
    fn may_try(&self) -> bool {
        let mut failed_at = lock(&self.failed_at);
        match *failed_at {
            Some(at) if at.elapsed() < AWAY_FOR => false,
            Some(_) => {
                *failed_at = Some(Instant::now());
                true
            }
            None => true,
        }
    }

    /// Remembers whether the database was there.
    fn note<T>(&self, outcome: Result<T, Fault>) -> Result<T, Fault> {
        let failed_at = outcome.as_ref().err().map(|_| Instant::now());
        *lock(&self.failed_at) = failed_at;
        outcome
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn away() -> Fault {
    Fault::Connect("the database was away a moment ago".into())
}

/// A statement failed: was it the statement, or is the connection gone? In the latter case it is worth another try.
fn judge(connection: &mut PgConnection, fault: Fault) -> Fault {
    match fault {
        Fault::Sql(error @ SqlError::DatabaseError(..)) => match answers(connection) {
            Ok(()) => Fault::Sql(error),
            Err(_) => Fault::Connect(Box::new(error)),
        },
        other => other,
    }
}

fn answers(connection: &mut PgConnection) -> QueryResult<()> {
    connection.ping()
}

/// The file with the authorities of the system, unless libpq finds others by itself. As part of a URL.
fn system_roots() -> Option<String> {
    let own = std::env::home_dir().map(|home| home.join(".postgresql/root.crt"));
    if std::env::var_os("PGSSLROOTCERT").is_some() || own.is_some_and(|file| file.exists()) {
        return None;
    }
    let file = openssl_probe::probe().cert_file?;
    // (A path that would have to be escaped is left to the operator.)
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    file.to_str().filter(|path| path.chars().all(is_plain)).map(str::to_owned)
}

/// The URL with what of [`DEFAULTS`] it does not say itself.
fn with_defaults(url: &str, options: &Options) -> String {
    let (address, given) = url.split_once('?').unwrap_or((url, ""));
    let has = |key: &str| given.split('&').any(|pair| pair.split('=').next() == Some(key));
    let seconds = options.connect_timeout.as_secs().max(2).to_string();
    // What libpq calls `sslrootcert=system`, from version 16 on.
    let roots = if given.split('&').any(|pair| pair == "sslmode=verify-full") { system_roots() } else { None };
    let all = DEFAULTS.into_iter().chain([("connect_timeout", seconds.as_str())]);
    let all = all.chain(roots.as_deref().map(|file| ("sslrootcert", file)));
    let added = all.filter(|(key, _)| !has(key)).map(|(key, value)| format!("{key}={value}"));
    let pairs: Vec<String> = (!given.is_empty()).then(|| given.to_owned()).into_iter().chain(added).collect();
    format!("{address}?{}", pairs.join("&"))
}

/// Whether waiting may help: the server is not there, not there yet, or full; and not that it does not know us.
pub(super) fn may_come_back(fault: &Fault) -> bool {
    const FOR_GOOD: [&str; 9] = [
        "authentication failed",
        "no password supplied",
        "pg_hba.conf",
        "does not exist",
        "invalid",
        "certificate",
        "does not support SSL",
        "sslmode",
        "permission denied",
    ];
    match fault {
        Fault::Connect(source) => {
            let words = source.downcast_ref::<ConnectionError>().map(ToString::to_string).unwrap_or_default();
            !FOR_GOOD.iter().any(|reason| words.contains(reason))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_keeps_what_it_says_and_gets_the_rest() {
        let options = Options { connect_timeout: Duration::from_secs(7), ..Options::default() };
        let url = with_defaults("postgres://u:p%3F@h/db", &options);
        assert_eq!(
            url,
            "postgres://u:p%3F@h/db?application_name=iot-meter&keepalives_idle=10&keepalives_interval=5\
             &keepalives_count=3&tcp_user_timeout=20000&connect_timeout=7"
        );
        let url = with_defaults("postgres://h/db?sslmode=require&connect_timeout=1&application_name=x", &options);
        assert!(
            url.starts_with("postgres://h/db?sslmode=require&connect_timeout=1&application_name=x&keepalives_idle")
        );
        assert_eq!(url.matches("connect_timeout").count(), 1);
        assert!(!url.contains("sslrootcert"), "the authorities are asked for by verify-full only");
        let named = with_defaults("postgres://h/db?sslmode=verify-full&sslrootcert=/a.pem", &options);
        assert_eq!(named.matches("sslrootcert").count(), 1);
    }

    #[test]
    fn a_wrong_password_is_not_waited_for() {
        let check = |words: &str, expected: bool| {
            let fault = Fault::from(ConnectionError::BadConnection(words.to_owned()));
            assert_eq!(may_come_back(&fault), expected, "{words}");
        };
        check("connection to server at \"127.0.0.1\", port 1 failed: Connection refused", true);
        check("FATAL:  the database system is starting up", true);
        check("could not translate host name \"db\" to address: Name or service not known", true);
        check("FATAL:  password authentication failed for user \"x\"", false);
        check("FATAL:  database \"nope\" does not exist", false);
    }
}

//! The schema's versions, embedded in the binary.
//!
//! Invariants: a database with a version this binary does not know is left alone; of several nodes that start together one
//! migrates while the others wait (a lock of the session, released by the server when its holder dies).

use diesel::connection::SimpleConnection;
use diesel::migration::{Migration, MigrationSource, MigrationVersion};
use diesel::pg::Pg;
use diesel::sql_types::{BigInt, Bool, Integer, Text};
use diesel::{PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use crate::store::fault::Fault;

pub(super) const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// The advisory lock of whoever changes the schema.
const LOCK: i64 = 0x0069_6f74_2d6d_6574;

/// The oldest server: partitions are made, and duties leased, with words that older ones do not know.
const OLDEST: i32 = 140_000;

type Known = Vec<Box<dyn Migration<Pg>>>;

#[derive(QueryableByName)]
struct Version {
    #[diesel(sql_type = Text)]
    version: String,
}

#[derive(QueryableByName)]
struct Flag {
    #[diesel(sql_type = Bool)]
    flag: bool,
}

#[derive(QueryableByName)]
struct Server {
    #[diesel(sql_type = Integer)]
    number: i32,
    #[diesel(sql_type = Text)]
    name: String,
}

/// Applies what is missing; returns the names of what was applied, oldest first.
pub(super) fn run(connection: &mut PgConnection) -> Result<Vec<String>, Fault> {
    check_server(connection)?;
    let known = known()?;
    // Nothing to do is the usual case, and takes no lock.
    if missing(&known, &applied(connection)?)?.is_empty() {
        return Ok(Vec::new());
    }
    // Whoever migrates may take longer than any statement otherwise. The lock goes with the session, whatever happens.
    connection.batch_execute("SET statement_timeout = 0")?;
    sql_query("SELECT pg_advisory_lock($1)").bind::<BigInt, _>(LOCK).execute(connection)?;
    let done = run_alone(connection, &known);
    let unlocked = sql_query("SELECT pg_advisory_unlock($1)").bind::<BigInt, _>(LOCK).execute(connection);
    let names = done?;
    unlocked?;
    Ok(names)
}

/// Waits for whoever migrates; until the end of this transaction nobody else does.
pub(super) fn lock_for_transaction(connection: &mut PgConnection) -> QueryResult<usize> {
    sql_query("SELECT pg_advisory_xact_lock($1)").bind::<BigInt, _>(LOCK).execute(connection)
}

/// Applies what is missing, of that only what is named; who calls holds the lock.
pub(super) fn run_some(connection: &mut PgConnection, only: Option<&[String]>) -> Result<(), Fault> {
    let mut known = known()?;
    if let Some(only) = only {
        known.retain(|m| only.iter().any(|v| m.name().version() == MigrationVersion::from(v)));
    }
    run_alone(connection, &known).map(drop)
}

/// Whether all of these versions are known.
pub(super) fn check(versions: &[String]) -> Result<(), Fault> {
    missing(&known()?, versions).map(drop)
}

fn run_alone(connection: &mut PgConnection, known: &Known) -> Result<Vec<String>, Fault> {
    let applied = applied(connection)?;
    let missing = missing(known, &applied)?;
    // Makes the table of versions.
    connection.applied_migrations().map_err(|error| failed("table of versions", &error))?;
    for migration in &missing {
        connection.run_migration(*migration).map_err(|error| failed(&migration.name().to_string(), &error))?;
    }
    Ok(names(&missing))
}

/// Refuses a server that is too old.
fn check_server(connection: &mut PgConnection) -> Result<(), Fault> {
    let ask = "SELECT current_setting('server_version_num')::int AS number, current_setting('server_version') AS name";
    check_version(&sql_query(ask).get_result(connection)?)
}

fn check_version(server: &Server) -> Result<(), Fault> {
    if server.number < OLDEST {
        let detail =
            format!("the server is Postgres {}, and {} is the oldest that will do", server.name, OLDEST / 10_000);
        return Err(Fault::Migrate(detail));
    }
    Ok(())
}

/// What [`run`] would apply; changes and creates nothing.
pub(super) fn pending(connection: &mut PgConnection) -> Result<Vec<String>, Fault> {
    check_server(connection)?;
    Ok(names(&missing(&known()?, &applied(connection)?)?))
}

fn known() -> Result<Known, Fault> {
    let mut known: Known = MIGRATIONS.migrations().map_err(|error| failed("embedded migrations", &error))?;
    known.sort_unstable_by(|a, b| a.name().version().cmp(&b.name().version()));
    Ok(known)
}

pub(super) fn applied(connection: &mut PgConnection) -> Result<Vec<String>, Fault> {
    let table = sql_query("SELECT to_regclass('__diesel_schema_migrations') IS NOT NULL AS flag");
    if !table.get_result::<Flag>(connection)?.flag {
        return Ok(Vec::new());
    }
    let rows = sql_query("SELECT version FROM __diesel_schema_migrations").load::<Version>(connection)?;
    Ok(rows.into_iter().map(|row| row.version).collect())
}

fn missing<'a>(known: &'a Known, applied: &[String]) -> Result<Vec<&'a dyn Migration<Pg>>, Fault> {
    let is_known = |version: &str| known.iter().any(|m| m.name().version() == MigrationVersion::from(version));
    if let Some(version) = applied.iter().find(|version| !is_known(version)) {
        let detail = format!("the database has version {version}, which is newer than this program; use a newer one");
        return Err(Fault::Migrate(detail));
    }
    let is_applied = |m: &dyn Migration<Pg>| applied.iter().any(|v| m.name().version() == MigrationVersion::from(v));
    Ok(known.iter().map(|m| &**m).filter(|m| !is_applied(*m)).collect())
}

fn names(migrations: &[&dyn Migration<Pg>]) -> Vec<String> {
    migrations.iter().map(|m| m.name().to_string()).collect()
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> Fault {
    Fault::Migrate(format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_too_old_is_refused_by_its_version() {
        let server = |number, name: &str| Server { number, name: name.into() };
        assert!(check_version(&server(140_000, "14.0")).is_ok());
        let Err(Fault::Migrate(detail)) = check_version(&server(130_016, "13.16")) else { panic!("taken") };
        assert!(detail.contains("Postgres 13.16") && detail.contains("14"), "{detail}");
    }
}

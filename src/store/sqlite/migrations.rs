//! The schema's versions, embedded in the binary.
//!
//! Invariant: a database with a version this binary does not know is left alone.

use std::path::Path;

use diesel::migration::{Migration, MigrationSource, MigrationVersion};
use diesel::sqlite::Sqlite;
use diesel::{Connection, QueryableByName, RunQueryDsl, SqliteConnection, sql_query};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::fault::Fault;
use crate::store::Error;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
#[cfg(feature = "postgres")]
const OF_NODE: EmbeddedMigrations = embed_migrations!("migrations/node");

type Known = Vec<Box<dyn Migration<Sqlite>>>;

#[derive(QueryableByName)]
struct Version {
    #[diesel(sql_type = diesel::sql_types::Text)]
    version: String,
}

/// Applies what is missing; returns the names of what was applied, oldest first.
pub(super) fn run(connection: &mut SqliteConnection) -> Result<Vec<String>, Error> {
    bring_up(connection, &known(&MIGRATIONS)?)
}

/// The same for the file of a node.
#[cfg(feature = "postgres")]
pub(super) fn run_of_node(connection: &mut SqliteConnection) -> Result<(), Error> {
    bring_up(connection, &known(&OF_NODE)?).map(drop)
}

fn bring_up(connection: &mut SqliteConnection, known: &Known) -> Result<Vec<String>, Error> {
    let applied = applied(connection).map_err(|fault| fault.during("read the schema's version"))?;
    let missing = missing(known, &applied)?;
    // Makes the table of versions.
    connection.applied_migrations().map_err(|error| failed("table of versions", &error))?;
    for migration in &missing {
        connection.run_migration(*migration).map_err(|error| failed(&migration.name().to_string(), &error))?;
    }
    Ok(names(&missing))
}

/// What [`run`] would apply; changes and creates nothing.
pub(super) fn pending(path: &str) -> Result<Vec<String>, Error> {
    let known = known(&MIGRATIONS)?;
    let applied = if Path::new(path).exists() {
        SqliteConnection::establish(path)
            .map_err(Fault::from)
            .and_then(|mut connection| applied(&mut connection))
            .map_err(|fault| fault.during("read the schema's version"))?
    } else {
        Vec::new()
    };
    Ok(names(&missing(&known, &applied)?))
}

/// Whether all of these versions are known.
pub(super) fn check(versions: &[String]) -> Result<(), Error> {
    missing(&known(&MIGRATIONS)?, versions).map(drop)
}

fn known(embedded: &EmbeddedMigrations) -> Result<Known, Error> {
    let mut known: Known = embedded.migrations().map_err(|error| failed("embedded migrations", &error))?;
    known.sort_unstable_by(|a, b| a.name().version().cmp(&b.name().version()));
    Ok(known)
}

pub(super) fn applied(connection: &mut SqliteConnection) -> Result<Vec<String>, Fault> {
    let table = sql_query("SELECT name AS version FROM sqlite_master WHERE name = '__diesel_schema_migrations'");
    if table.load::<Version>(connection)?.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sql_query("SELECT version FROM __diesel_schema_migrations").load::<Version>(connection)?;
    Ok(rows.into_iter().map(|row| row.version).collect())
}

fn missing<'a>(known: &'a Known, applied: &[String]) -> Result<Vec<&'a dyn Migration<Sqlite>>, Error> {
    let is_known = |version: &str| known.iter().any(|m| m.name().version() == MigrationVersion::from(version));
    if let Some(version) = applied.iter().find(|version| !is_known(version)) {
        let detail = format!("the database has version {version}, which is newer than this program; use a newer one");
        return Err(Error::Migrate { detail });
    }
    let is_applied =
        |m: &dyn Migration<Sqlite>| applied.iter().any(|v| m.name().version() == MigrationVersion::from(v));
    Ok(known.iter().map(|m| &**m).filter(|m| !is_applied(*m)).collect())
}

fn names(migrations: &[&dyn Migration<Sqlite>]) -> Vec<String> {
    migrations.iter().map(|m| m.name().to_string()).collect()
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::Migrate { detail: format!("{what}: {error}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_go_up_down_and_up_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let path = path.to_str().unwrap();
        let all = pending(path).unwrap();
        assert!(!all.is_empty() && !Path::new(path).exists(), "looking creates nothing");
        let mut connection = SqliteConnection::establish(path).unwrap();
        assert_eq!(run(&mut connection).unwrap(), all);
        assert_eq!(run(&mut connection).unwrap(), Vec::<String>::new());
        connection.revert_all_migrations(MIGRATIONS).unwrap();
        let left = sql_query(
            "SELECT name AS version FROM sqlite_master WHERE name NOT LIKE '\\_\\_diesel%' ESCAPE '\\' AND name NOT LIKE 'sqlite%'",
        );
        assert_eq!(left.load::<Version>(&mut connection).unwrap().len(), 0, "down leaves nothing behind");
        assert_eq!(run(&mut connection).unwrap(), all);
        assert!(pending(path).unwrap().is_empty());
    }

    #[test]
    fn a_schema_newer_than_the_program_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let path = path.to_str().unwrap();
        let mut connection = SqliteConnection::establish(path).unwrap();
        run(&mut connection).unwrap();
        sql_query("INSERT INTO __diesel_schema_migrations (version) VALUES ('29991231235959')")
            .execute(&mut connection)
            .unwrap();
        assert!(matches!(run(&mut connection), Err(Error::Migrate { .. })));
        assert!(matches!(pending(path), Err(Error::Migrate { .. })));
    }
}

//! A copy of the whole file, taken while others write to it.
//!
//! `VACUUM INTO` reads one snapshot and writes a file without holes: writers go on meanwhile, only the WAL grows.

use std::fs::{self, File};
use std::path::Path;

use diesel::connection::SimpleConnection;
use diesel::sql_types::{BigInt, Text};
use diesel::{Connection, QueryableByName, RunQueryDsl, SqliteConnection, sql_query};

use super::fault::Fault;
use super::{cannot_open, file_name, migrations};
use crate::store::{CopyError, Part, TakePart};

/// The name of the one part.
const PART: &str = "iot-meter.db";

#[derive(QueryableByName)]
struct Bytes {
    #[diesel(sql_type = BigInt)]
    bytes: i64,
}

/// See [`copy_out`](crate::store::copy_out).
pub(in crate::store) fn copy_out(
    path: &str,
    scratch: &Path,
    take: &mut TakePart<'_>,
) -> Result<Vec<String>, CopyError> {
    let path = file_name(path)?;
    if !Path::new(&path).exists() {
        return Err(CopyError::Missing { path });
    }
    let copy = scratch.join(PART);
    let name = copy.to_string_lossy().into_owned();
    let mut connection = establish(&path).map_err(|fault| cannot_open(&path, fault))?;
    sql_query("VACUUM INTO ?")
        .bind::<Text, _>(&name)
        .execute(&mut connection)
        .map_err(|error| Fault::from(error).during("copy the database"))?;
    drop(connection);
    let mut copied = SqliteConnection::establish(&name).map_err(|error| cannot_open(&name, error.into()))?;
    let versions = migrations::applied(&mut copied).map_err(|fault| fault.during("read the schema's version"))?;
    drop(copied);
    let mut file = File::open(&copy)?;
    let size = file.metadata()?.len();
    take(Part { name: PART.to_owned(), size, content: &mut file })?;
    fs::remove_file(&copy)?;
    Ok(versions)
}

/// See [`size_estimate`](crate::store::size_estimate).
pub(in crate::store) fn size_estimate(path: &str) -> u64 {
    let Ok(path) = file_name(path) else { return 0 };
    if !Path::new(&path).exists() {
        return 0;
    }
    let pages = "SELECT (c.page_count - f.freelist_count) * s.page_size AS bytes \
                 FROM pragma_page_count AS c, pragma_freelist_count AS f, pragma_page_size AS s";
    let found = establish(&path).and_then(|mut c| Ok(sql_query(pages).get_result::<Bytes>(&mut c)?));
    found.map_or(0, |found| u64::try_from(found.bytes).unwrap_or(0))
}

/// See [`check_schema`](crate::store::check_schema).
pub(in crate::store) fn check_schema(versions: &[String]) -> Result<(), crate::store::Error> {
    migrations::check(versions)
}

fn establish(path: &str) -> Result<SqliteConnection, Fault> {
    let mut connection = SqliteConnection::establish(path)?;
    connection.batch_execute("PRAGMA busy_timeout = 5000")?;
    Ok(connection)
}

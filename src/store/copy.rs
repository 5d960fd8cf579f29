//! A whole database out of a store and into an empty one, part by part: what a backup is made of.
//!
//! Promise: what goes out is one snapshot, taken while others write; what comes in is there whole or not at all. Memory is
//! bounded by a part, or by a row that is larger. A database goes back into one of its own kind only.
//! Must not know: where parts are kept.

use std::io::{self, Read};
use std::path::Path;

use super::Error;

/// A part of a database on its way out.
pub struct Part<'a> {
    /// `devices/00000000.json`, or the one file of SQLite. Distinct; only letters, digits, `_`, `-`, `.` and `/`.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its bytes.
    pub content: &'a mut dyn Read,
}

/// What to take out of which database.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The database.
    pub url: &'a str,
    /// A private directory on a disk with room for a copy of an SQLite database.
    pub scratch: &'a Path,
    /// Of Postgres, also measurements and events. (SQLite is copied whole.)
    pub has_telemetry: bool,
}

/// Takes a part that goes out.
pub type TakePart<'a> = dyn FnMut(Part<'_>) -> io::Result<()> + 'a;
/// Gives the next part that goes in, with its name; `None` at the end.
pub type GivePart<'a> = dyn FnMut() -> io::Result<Option<(String, Vec<u8>)>> + 'a;

/// A database could not be copied.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum CopyError {
    #[error(transparent)]
    Store(#[from] Error),
    /// Who takes or gives the parts failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// There is no such database.
    #[error("there is no database at {path}")]
    Missing { path: String },
    /// Something is there already.
    #[error("the database is not empty: it has {what}; restore into a new one")]
    NotEmpty { what: String },
}

/// The kind of database that a URL names: `sqlite` or `postgres`.
pub fn dialect(url: &str) -> Result<&'static str, Error> {
    match url.split_once("://") {
        #[cfg(feature = "sqlite")]
        Some(("sqlite", _)) => Ok("sqlite"),
        #[cfg(feature = "postgres")]
        Some(("postgres" | "postgresql", _)) => Ok("postgres"),
        other => Err(super::unknown(other)),
    }
}

/// Hands all of the database to `take` and returns the versions of its schema, oldest first.
#[cfg_attr(not(any(feature = "sqlite", feature = "postgres")), allow(unused_variables))]
pub fn copy_out(from: Outgoing<'_>, take: &mut TakePart<'_>) -> Result<Vec<String>, CopyError> {
    match from.url.split_once("://") {
        #[cfg(feature = "sqlite")]
        Some(("sqlite", path)) => super::sqlite::copy_out(path, from.scratch, take),
        #[cfg(feature = "postgres")]
        Some(("postgres" | "postgresql", _)) => super::postgres::copy_out(from.url, from.has_telemetry, take),
        other => Err(super::unknown(other).into()),
    }
}

/// About how many bytes a database has, for a bar of progress; 0 = not known.
#[cfg_attr(not(any(feature = "sqlite", feature = "postgres")), allow(unused_variables))]
pub fn size_estimate(url: &str) -> u64 {
    match url.split_once("://") {
        #[cfg(feature = "sqlite")]
        Some(("sqlite", path)) => super::sqlite::size_estimate(path),
        _ => 0,
    }
}

/// Whether a schema of these versions can be brought up to date by this program: none of them is newer.
#[cfg_attr(not(any(feature = "sqlite", feature = "postgres")), allow(unused_variables))]
pub fn check_schema(dialect: &str, versions: &[String]) -> Result<(), Error> {
    match dialect {
        #[cfg(feature = "sqlite")]
        "sqlite" => super::sqlite::check_schema(versions),
        #[cfg(feature = "postgres")]
        "postgres" => super::postgres::check_schema(versions),
        other => Err(super::unknown(Some((other, "")))),
    }
}

/// Puts the parts of a Postgres dump with a schema of these versions into the empty database of `url`, and brings it up to
/// date: one transaction. Returns tables of the dump that are none of the schema's, and were left out.
#[cfg(feature = "postgres")]
pub fn copy_in(url: &str, versions: &[String], give: &mut GivePart<'_>) -> Result<Vec<String>, CopyError> {
    super::postgres::copy_in(url, versions, give)
}

/// Whether the Postgres database of `url` is empty.
#[cfg(feature = "postgres")]
pub fn check_empty(url: &str) -> Result<(), CopyError> {
    super::postgres::check_empty(url)
}

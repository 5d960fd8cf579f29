//! The old tables, from wherever they are, as rows by column name, in the order in which they belong together.
//!
//! Invariant: a row at a time; nothing here knows what the columns mean.

mod csv;
mod dump;
#[cfg(feature = "postgres")]
mod postgres;

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

pub(super) use csv::Records;

use super::meters::Meters;
use super::registry::Registrar;
use super::report::Ledger;
use super::row::Row;
use super::{Error, Options};

/// The tables that are taken over, those first that others speak of.
pub const TABLES: [&str; 4] = ["devices", "device_configs", "device_alerts", "device_commands"];

/// What takes rows: the table, where the row stood, the row.
type Each<'a> = &'a mut dyn FnMut(&'static str, &str, Row) -> Result<(), Error>;

/// Takes all tables over.
pub(super) fn run(options: &Options, meters: &mut Meters, ledger: &mut Ledger<'_>) -> Result<(), Error> {
    let mut registrar = Registrar::new(options, meters, ledger);
    if let Some(path) = &options.tables {
        match path.is_dir() {
            true => of_folder(path, &mut |table, place, row| registrar.take(table, place, row))?,
            false => of_dump(path, &mut |table, place, row| registrar.take(table, place, row))?,
        }
    }
    if let Some(url) = &options.postgres_url {
        of_postgres(url, &mut |table, place, row| registrar.take(table, place, row))?;
    }
    registrar.finish()
}

/// A folder with a file a table: `devices.csv`. One that is missing has no rows.
fn of_folder(folder: &Path, each: Each<'_>) -> Result<(), Error> {
    let mut is_there = false;
    for table in TABLES {
        let path = folder.join(format!("{table}.csv"));
        if !path.exists() {
            continue;
        }
        is_there = true;
        csv::read(open(&path)?, &path.display().to_string(), &mut |place, row| each(table, place, row))?;
    }
    if is_there { Ok(()) } else { Err(Error::NoTables { path: folder.to_owned() }) }
}

/// A file of pg_dump is read once a table: its own order is that of the names.
fn of_dump(path: &Path, each: Each<'_>) -> Result<(), Error> {
    let mut is_there = false;
    for table in TABLES {
        is_there |=
            dump::read(open(path)?, &path.display().to_string(), table, &mut |place, row| each(table, place, row))?;
    }
    if is_there { Ok(()) } else { Err(Error::NoTables { path: path.to_owned() }) }
}

#[cfg(feature = "postgres")]
fn of_postgres(url: &str, each: Each<'_>) -> Result<(), Error> {
    let mut database = postgres::OldDatabase::connect(url)?;
    for table in TABLES {
        database.each(table, &mut |place, row| each(table, place, row))?;
    }
    Ok(())
}

#[cfg(not(feature = "postgres"))]
fn of_postgres(_: &str, _: Each<'_>) -> Result<(), Error> {
    Err(Error::MissingFeature)
}

/// Opens a file, unpacking what is gzipped.
pub(super) fn open(path: &Path) -> Result<Box<dyn Read>, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    unpacked(File::open(path).map_err(failed)?).map_err(failed)
}

/// Unpacks what is gzipped; told by its first bytes.
pub(super) fn unpacked(input: impl Read + 'static) -> std::io::Result<Box<dyn Read>> {
    let mut input = BufReader::with_capacity(256 * 1024, input);
    let is_packed = std::io::BufRead::fill_buf(&mut input)?.starts_with(&[0x1f, 0x8b]);
    Ok(match is_packed {
        true => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        false => Box::new(input),
    })
}

//! The large table written: one row a datagram, by COPY (`way`: straight, or through a staging table).

use std::io::Write;

use diesel::pg::{CopyFormat, CopyTarget};
use diesel::result::{DatabaseErrorKind, Error as SqlError};
use diesel::{Connection, ExecuteCopyFromDsl, PgConnection, QueryResult, RunQueryDsl, Table, sql_query};

use super::axis::{self, Axis};
use super::copy::Rows;
use super::schema::{staging_telemetry, telemetry};
use super::way::Way;
use crate::domain::{DeviceId, Timestamp};
use crate::store::TelemetryRow;

/// What libpq is given at once.
const CHUNK: usize = 256 << 10;
const FIELDS: u16 = 21;

/// Stores the rows not yet there; returns how many those were. In key order: neighbours in the index are written together,
/// and two nodes that store the same rows never wait for each other in a circle.
pub(super) fn insert(connection: &mut PgConnection, way: Option<&Way>, rows: &[TelemetryRow]) -> QueryResult<usize> {
    if rows.is_empty() {
        return Ok(0);
    }
    let mut sorted: Vec<&TelemetryRow> = rows.iter().collect();
    sorted.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
    let mut copy = Rows::with_capacity(rows.len() * 512);
    for row in &sorted {
        write(&mut copy, row);
    }
    let bytes = copy.finish();
    let is_twice = sorted.windows(2).any(|pair| key(pair[0]) == key(pair[1]));
    let note = |is_clean: bool| way.into_iter().for_each(|way| way.note(is_clean));
    if !is_twice && way.is_some_and(Way::is_straight) {
        // A savepoint: the transaction goes on without it.
        match connection.transaction(|connection| copy_into(connection, telemetry::table, &bytes)) {
            Err(SqlError::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => {}
            Ok(stored) => {
                note(true);
                return Ok(stored);
            }
            Err(error) => return Err(error),
        }
    }
    copy_into(connection, staging_telemetry::table, &bytes)?;
    let insert = "INSERT INTO telemetry SELECT * FROM staging_telemetry ON CONFLICT DO NOTHING";
    let stored = sql_query(insert).execute(connection)?;
    note(stored == rows.len());
    Ok(stored)
}

fn key(row: &TelemetryRow) -> (&DeviceId, Timestamp, i64) {
    (&row.device, row.ts, row.seq.to_i64())
}

/// Has the table take a stream; how many rows those were.
fn copy_into<T: Table + CopyTarget<Table = T> + Copy>(
    connection: &mut PgConnection,
    table: T,
    bytes: &[u8],
) -> QueryResult<usize> {
    diesel::copy_from(table)
        .from_raw_data(table, |out| send(out, bytes))
        .with_format(CopyFormat::Binary)
        .execute(connection)
}

/// Hands a COPY stream over.
pub(super) fn send(out: &mut dyn Write, bytes: &[u8]) -> QueryResult<()> {
    let failed = |error: std::io::Error| diesel::result::Error::SerializationError(Box::new(error));
    bytes.chunks(CHUNK).try_for_each(|chunk| out.write_all(chunk).map_err(failed))
}

fn write(copy: &mut Rows, row: &TelemetryRow) {
    let values = &row.values;
    let slots = i16::try_from(values.offsets_us.len()).expect("a datagram has at most 200 slots");
    let not_none = |count: u16| i16::try_from(count).ok().filter(|count| *count > 0).map(i16::to_be_bytes);
    copy.row(FIELDS);
    copy.time(row.ts);
    copy.number(Some(row.seq.to_i64().to_be_bytes()));
    copy.time(row.received_at);
    let axis = axis::axis(&values.offsets_us);
    match axis {
        Axis::Regular { first_us, step_us } => {
            copy.number(Some(first_us.to_be_bytes()));
            copy.number(Some(step_us.to_be_bytes()));
        }
        Axis::Irregular(_) => {
            copy.null();
            copy.null();
        }
    }
    copy.number(Some(slots.to_be_bytes()));
    copy.number(not_none(values.flagged));
    copy.number(not_none(values.dropped));
    copy.text(row.device.as_str());
    match axis {
        Axis::Irregular(each) if !each.is_empty() => copy.longs(each),
        _ => copy.null(),
    }
    for series in axis::in_column(values) {
        match series {
            Some(series) => copy.floats(axis::without_tail(&series.values)),
            None => copy.null(),
        }
    }
    copy.json(axis::others(values).as_deref());
}

//! The large table: one row a datagram. Written in key order, read in pages.

use std::collections::HashMap;
use std::ops::ControlFlow;

use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Integer, Nullable, Text};
use diesel::sqlite::Sqlite;
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, QueryResult, RunQueryDsl, SqliteConnection};

use super::arrays::{COLUMNS, Encoded, decode};
use super::connection::Connections;
use super::fault::Fault;
use super::schema::device_keys;
use super::statement::statement;
use crate::domain::metric::Known;
use crate::domain::{DeviceId, Sequence, Timestamp};
use crate::store::{Columns, TelemetryRow};

/// Rows read between two looks at the caller: bounds memory and the time a snapshot is held.
const PAGE: i64 = 1000;

statement! {
    /// A device heard of for the first time.
    InsertKey: "INSERT INTO device_keys (device_id) VALUES (", ")";
    device_id: &'a str => Text,
}

statement! {
    /// A datagram, unless it is there.
    InsertTelemetry:
    "INSERT INTO telemetry (device_key, ts, seq, received_at, offsets_us, voltage_dc, current_dc, voltage_ac, \
     current_ac, frequency, pf, thd_v, thd_i, temperature, battery, other, flagged, dropped) VALUES (",
    ") ON CONFLICT DO NOTHING";
    device_key: i64 => BigInt,
    ts: i64 => BigInt,
    seq: i64 => BigInt,
    received_at: i64 => BigInt,
    offsets_us: &'a str => Text,
    voltage_dc: Option<&'a str> => Nullable<Text>,
    current_dc: Option<&'a str> => Nullable<Text>,
    voltage_ac: Option<&'a str> => Nullable<Text>,
    current_ac: Option<&'a str> => Nullable<Text>,
    frequency: Option<&'a str> => Nullable<Text>,
    pf: Option<&'a str> => Nullable<Text>,
    thd_v: Option<&'a str> => Nullable<Text>,
    thd_i: Option<&'a str> => Nullable<Text>,
    temperature: Option<&'a str> => Nullable<Text>,
    battery: Option<&'a str> => Nullable<Text>,
    other: Option<&'a str> => Nullable<Text>,
    flagged: i32 => Integer,
    dropped: i32 => Integer,
}

/// The keys of the devices of one transaction.
#[derive(Default)]
pub(super) struct Keys<'a>(HashMap<&'a str, i64>);

impl<'a> Keys<'a> {
    /// The device's key, made when it has none.
    pub(super) fn of(&mut self, connection: &mut SqliteConnection, device: &'a DeviceId) -> QueryResult<i64> {
        if let Some(key) = self.0.get(device.as_str()) {
            return Ok(*key);
        }
        let key = match find_key(connection, device)? {
            Some(key) => key,
            None => {
                InsertKey { device_id: device.as_str() }.execute(connection)?;
                find_key(connection, device)?.ok_or(diesel::result::Error::NotFound)?
            }
        };
        self.0.insert(device.as_str(), key);
        Ok(key)
    }
}

/// The device's key, if it was ever heard of.
pub(super) fn find_key(connection: &mut SqliteConnection, device: &DeviceId) -> QueryResult<Option<i64>> {
    let query = device_keys::table.filter(device_keys::device_id.eq(device.as_str()));
    query.select(device_keys::device_key).first(connection).optional()
}

/// Stores the rows not yet there; returns how many those were. In key order, so that neighbours in the index are
/// written together.
pub(super) fn insert<'a>(
    connection: &mut SqliteConnection,
    keys: &mut Keys<'a>,
    rows: &'a [TelemetryRow],
) -> QueryResult<usize> {
    let mut sorted: Vec<&TelemetryRow> = rows.iter().collect();
    sorted.sort_unstable_by(|a, b| (&a.device, a.ts, a.seq).cmp(&(&b.device, b.ts, b.seq)));
    let mut encoded = Encoded::default();
    let mut last: Option<(&DeviceId, i64)> = None;
    let mut stored = 0;
    for row in sorted {
        let device_key = match last {
            Some((device, key)) if *device == row.device => key,
            _ => keys.of(connection, &row.device)?,
        };
        last = Some((&row.device, device_key));
        encoded.encode(&row.values);
        stored += insert_one(connection, device_key, row, &encoded)?;
    }
    Ok(stored)
}

fn insert_one(
    connection: &mut SqliteConnection,
    device_key: i64,
    row: &TelemetryRow,
    encoded: &Encoded,
) -> QueryResult<usize> {
    let statement = InsertTelemetry {
        device_key,
        ts: row.ts.0,
        seq: row.seq.to_i64(),
        received_at: row.received_at.0,
        offsets_us: encoded.offsets(),
        voltage_dc: encoded.column(Known::VoltageDc),
        current_dc: encoded.column(Known::CurrentDc),
        voltage_ac: encoded.column(Known::VoltageAc),
        current_ac: encoded.column(Known::CurrentAc),
        frequency: encoded.column(Known::Frequency),
        pf: encoded.column(Known::Pf),
        thd_v: encoded.column(Known::ThdV),
        thd_i: encoded.column(Known::ThdI),
        temperature: encoded.column(Known::Temperature),
        battery: encoded.column(Known::Battery),
        other: encoded.other(),
        flagged: i32::from(row.values.flagged),
        dropped: i32::from(row.values.dropped),
    };
    statement.execute(connection)
}

/// A page of one device's rows behind a position, ascending.
struct SelectPage {
    columns: Columns,
    device_key: i64,
    to: i64,
    ts: i64,
    seq: i64,
}

type Texts = (
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
);
type Row = ((i64, i64, i64, String), Texts, (Option<String>, i32, i32));
type T = Nullable<Text>;

/// The statement is another one for every set of columns.
impl QueryId for SelectPage {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for SelectPage {
    type SqlType = ((BigInt, BigInt, BigInt, Text), (T, T, T, T, T, T, T, T, T, T), (T, Integer, Integer));
}

impl RunQueryDsl<SqliteConnection> for SelectPage {}

impl QueryFragment<Sqlite> for SelectPage {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql("SELECT ts, seq, received_at, offsets_us");
        for known in Known::ALL {
            out.push_sql(", ");
            out.push_sql(if self.columns.has(known) { known.name() } else { "NULL" });
        }
        out.push_sql(", other, flagged, dropped FROM telemetry WHERE device_key = ");
        out.push_bind_param::<BigInt, _>(&self.device_key)?;
        out.push_sql(" AND ts < ");
        out.push_bind_param::<BigInt, _>(&self.to)?;
        out.push_sql(" AND (ts, seq) > (");
        out.push_bind_param::<BigInt, _>(&self.ts)?;
        out.push_sql(", ");
        out.push_bind_param::<BigInt, _>(&self.seq)?;
        out.push_sql(") ORDER BY ts, seq LIMIT ");
        out.push_bind_param::<BigInt, _>(&PAGE)
    }
}

/// See [`Store::scan_columns`](crate::store::Store::scan_columns).
pub(super) fn scan(
    connections: &Connections,
    id: &DeviceId,
    columns: Columns,
    from: Timestamp,
    to: Timestamp,
    each: &mut dyn FnMut(TelemetryRow) -> ControlFlow<()>,
) -> Result<(), Fault> {
    let Some(device_key) = connections.read(|connection| Ok(find_key(connection, id)?))? else { return Ok(()) };
    // The position before the first possible row of `from`.
    let (mut ts, mut seq) = (from.0.saturating_sub(1), i64::MAX);
    loop {
        let select = SelectPage { columns, device_key, to: to.0, ts, seq };
        let page: Vec<Row> = connections.read(|connection| Ok(select.load(connection)?))?;
        let is_last = page.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
        for row in page {
            (ts, seq) = (row.0.0, row.0.1);
            if each(read(id, row)?).is_break() {
                return Ok(());
            }
        }
        if is_last {
            return Ok(());
        }
    }
}

fn read(id: &DeviceId, row: Row) -> Result<TelemetryRow, Fault> {
    let ((ts, seq, received_at, offsets), columns, (other, flagged, dropped)) = row;
    let (a, b, c, d, e, f, g, h, i, j) = columns;
    let columns: [Option<String>; COLUMNS] = [a, b, c, d, e, f, g, h, i, j];
    let mut values = decode(&offsets, &columns, other.as_deref())?;
    values.flagged = u16::try_from(flagged).map_err(|_| Fault::Corrupt("telemetry"))?;
    values.dropped = u16::try_from(dropped).map_err(|_| Fault::Corrupt("telemetry"))?;
    Ok(TelemetryRow {
        device: id.clone(),
        ts: Timestamp(ts),
        seq: Sequence::from_i64(seq),
        received_at: Timestamp(received_at),
        values,
    })
}

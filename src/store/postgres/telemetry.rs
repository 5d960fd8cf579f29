//! The large table: one row a datagram. Written through a staging table, read in pages.

use std::io::Write;
use std::ops::ControlFlow;
use std::sync::mpsc::sync_channel;
use std::thread;

use diesel::pg::{CopyFormat, Pg};
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Double, Integer, Json, Nullable, SmallInt, Text, Timestamptz};
use diesel::{ExecuteCopyFromDsl, PgConnection, QueryResult, Queryable, RunQueryDsl, sql_query};

use super::axis::{self, Axis, COLUMNS};
use super::connection::{Connections, View};
use super::copy::Rows;
use super::schema::staging_telemetry;
use super::types::{Floats, JsonText, Longs, Time};
use crate::domain::metric::Known;
use crate::domain::{DeviceId, Sequence, Telemetry, Timestamp};
use crate::observe::trace;
use crate::store::fault::Fault;
use crate::store::{Columns, TelemetryRow};

/// Rows read between two looks at the caller: bounds memory and the time a snapshot is held.
const PAGE: i64 = 2000;
/// Days that one statement looks at: it opens every one it may have to, so not the whole year for a page of it.
const DAYS: i64 = 2;
const DAY_US: i64 = 86_400_000_000;
/// What libpq is given at once.
const CHUNK: usize = 256 << 10;
const FIELDS: u16 = 21;

/// Stores the rows not yet there; returns how many those were. In key order: neighbours in the index are written together,
/// and two nodes that store the same rows never wait for each other in a circle.
pub(super) fn insert(connection: &mut PgConnection, rows: &[TelemetryRow]) -> QueryResult<usize> {
    if rows.is_empty() {
        return Ok(0);
    }
    let mut sorted: Vec<&TelemetryRow> = rows.iter().collect();
    sorted.sort_unstable_by(|a, b| (&a.device, a.ts, a.seq.to_i64()).cmp(&(&b.device, b.ts, b.seq.to_i64())));
    let mut copy = Rows::with_capacity(rows.len() * 512);
    for row in sorted {
        write(&mut copy, row);
    }
    let bytes = copy.finish();
    diesel::copy_from(staging_telemetry::table)
        .from_raw_data(staging_telemetry::table, |out| send(out, &bytes))
        .with_format(CopyFormat::Binary)
        .execute(connection)?;
    sql_query("INSERT INTO telemetry SELECT * FROM staging_telemetry ON CONFLICT DO NOTHING").execute(connection)
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

type F = Option<Floats>;

#[derive(Queryable)]
struct Row {
    /// ts, seq, received_at, first_us, step_us, slots.
    fixed: (Time, i64, Time, Option<i64>, Option<i32>, i16),
    offsets_us: Option<Longs>,
    columns: (F, F, F, F, F, F, F, F, F, F),
    /// other, flagged, dropped.
    rest: (Option<JsonText>, Option<i16>, Option<i16>),
}

/// A page of one device's rows behind a position, ascending.
struct SelectPage<'a> {
    columns: Columns,
    device_id: &'a str,
    ts: Time,
    seq: i64,
    to: Time,
}

type A = Nullable<Array<Nullable<Double>>>;
type Fixed = (Timestamptz, BigInt, Timestamptz, Nullable<BigInt>, Nullable<Integer>, SmallInt);

impl Query for SelectPage<'_> {
    type SqlType = (Fixed, Nullable<Array<BigInt>>, (A, A, A, A, A, A, A, A, A, A), (Nullable<Json>, N, N));
}

type N = Nullable<SmallInt>;

/// The statement is another one for every set of columns.
impl QueryId for SelectPage<'_> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl RunQueryDsl<PgConnection> for SelectPage<'_> {}

impl QueryFragment<Pg> for SelectPage<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT ts, seq, received_at, first_us, step_us, slots, offsets_us");
        for known in Known::ALL {
            out.push_sql(", ");
            out.push_sql(if self.columns.has(known) { known.name() } else { "NULL::float8[]" });
        }
        // The first two conditions on ts say which days and which range of the index, the third picks within one instant.
        out.push_sql(", other, flagged, dropped FROM telemetry WHERE device_id = ");
        out.push_bind_param::<Text, _>(self.device_id)?;
        out.push_sql(" COLLATE \"C\" AND ts >= ");
        out.push_bind_param::<Timestamptz, _>(&self.ts)?;
        out.push_sql(" AND ts < ");
        out.push_bind_param::<Timestamptz, _>(&self.to)?;
        out.push_sql(" AND (ts > ");
        out.push_bind_param::<Timestamptz, _>(&self.ts)?;
        out.push_sql(" OR seq > ");
        out.push_bind_param::<BigInt, _>(&self.seq)?;
        out.push_sql(") ORDER BY ts, seq LIMIT ");
        out.push_bind_param::<BigInt, _>(&PAGE)
    }
}

/// See [`Store::scan_columns`](crate::store::Store::scan_columns). Of a long range, the next page is read while one is worked
/// on: two pages are held.
pub(super) fn scan(
    connections: &Connections,
    id: &DeviceId,
    columns: Columns,
    from: Timestamp,
    to: Timestamp,
    each: &mut dyn FnMut(TelemetryRow) -> ControlFlow<()>,
) -> Result<(), Fault> {
    let mut pages = Pages { connections, id, columns, ts: from, seq: i64::MIN, to, days: DAYS, is_done: false };
    // (Most ends here: with the first page, or at its first row.)
    if pages.next()?.into_iter().try_for_each(&mut *each).is_break() || pages.is_done {
        return Ok(());
    }
    thread::scope(|scope| {
        // Without room: one page is worked on, one is ready or on its way.
        let (ahead, behind) = sync_channel(0);
        let read_ahead = trace::carry(move || {
            while !pages.is_done {
                let page = pages.next();
                let is_end = page.is_err();
                if ahead.send(page).is_err() || is_end {
                    break;
                }
            }
        });
        let reader = thread::Builder::new().name("pages".into()).spawn_scoped(scope, read_ahead);
        reader.map_err(|error| Fault::Connect(Box::new(error)))?;
        for page in behind {
            if page?.into_iter().try_for_each(&mut *each).is_break() {
                break;
            }
        }
        Ok(())
    })
}

/// Pages of rows on their way out.
struct Pages<'a> {
    connections: &'a Connections,
    id: &'a DeviceId,
    columns: Columns,
    /// The last row that was read; before the first one, the position before every row of `from`.
    ts: Timestamp,
    seq: i64,
    to: Timestamp,
    /// How many of them the next statement looks at.
    days: i64,
    is_done: bool,
}

impl Pages<'_> {
    /// The next rows; none only at the end.
    fn next(&mut self) -> Result<Vec<TelemetryRow>, Fault> {
        loop {
            let until = self.to.min(self.ts.plus_us(DAY_US.saturating_mul(self.days)));
            let (device_id, ts, to) = (self.id.as_str(), Time(self.ts), Time(until));
            let select = SelectPage { columns: self.columns, device_id, ts, seq: self.seq, to };
            let page: Vec<Row> = self.connections.read(View::Statement, |connection| Ok(select.load(connection)?))?;
            let is_whole = page.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
            self.days = if page.is_empty() { self.days.saturating_mul(2) } else { DAYS };
            self.is_done = is_whole && until >= self.to;
            match page.last() {
                _ if is_whole => (self.ts, self.seq) = (until, i64::MIN),
                Some(row) => (self.ts, self.seq) = (row.fixed.0.0, row.fixed.1),
                None => {}
            }
            if self.is_done || !page.is_empty() {
                return page.into_iter().map(|row| read(self.id, row)).collect();
            }
        }
    }
}

fn read(id: &DeviceId, row: Row) -> Result<TelemetryRow, Fault> {
    let (ts, seq, received_at, first_us, step_us, slots) = row.fixed;
    let (a, b, c, d, e, f, g, h, i, j) = row.columns;
    let columns: [F; COLUMNS] = [a, b, c, d, e, f, g, h, i, j];
    let columns = columns.map(|column| column.map(|Floats(values)| values));
    let (other, flagged, dropped) = row.rest;
    let count = |stored: Option<i16>| u16::try_from(stored.unwrap_or(0)).map_err(|_| Fault::Corrupt("telemetry"));
    let offsets_us = axis::offsets(slots, first_us, step_us, row.offsets_us.map(|Longs(each)| each))?;
    let series = axis::series(offsets_us.len(), columns, other.as_ref().map(|JsonText(text)| text.as_str()))?;
    let values = Telemetry { offsets_us, series, flagged: count(flagged)?, dropped: count(dropped)? };
    Ok(TelemetryRow { device: id.clone(), ts: ts.0, seq: Sequence::from_i64(seq), received_at: received_at.0, values })
}

//! The large table read: one device's rows in pages, of a long range one page ahead of who works on them.

use std::ops::ControlFlow;
use std::sync::mpsc::sync_channel;
use std::thread;

use diesel::deserialize::{QueryableByName, Result as FromResult};
use diesel::pg::{Pg, PgValue};
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::row::{Field, NamedRow};
use diesel::sql_types::{BigInt, Text, Timestamptz, Untyped};
use diesel::{PgConnection, QueryResult, RunQueryDsl};

use super::axis::{self, COLUMNS};
use super::connection::{Connections, View};
use super::types::{self, Time};
use crate::domain::metric::Known;
use crate::domain::{DeviceId, Sequence, Telemetry, Timestamp};
use crate::observe::trace;
use crate::store::fault::Fault;
use crate::store::{Columns, FIRST_PAGE, TelemetryRow, page_after};

/// Days that one statement looks at: it opens every one it may have to, so not the whole year for a page of it.
const DAYS: i64 = 2;
const DAY_US: i64 = 86_400_000_000;

/// A page of one device's rows behind a position, ascending.
struct SelectPage<'a> {
    columns: Columns,
    device_id: &'a str,
    ts: Time,
    seq: i64,
    to: Time,
    limit: i64,
}

/// What [`Row`] reads, in its order; behind it the columns asked for.
const SELECT: &str = "SELECT ts, seq, received_at, first_us, step_us, slots, offsets_us, other, flagged, dropped";
const FIXED: usize = 10;

impl Query for SelectPage<'_> {
    type SqlType = Untyped;
}

/// The statement is another one for every set of columns.
impl QueryId for SelectPage<'_> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl RunQueryDsl<PgConnection> for SelectPage<'_> {}

impl QueryFragment<Pg> for SelectPage<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(SELECT);
        for known in asked(self.columns) {
            out.push_sql(", ");
            out.push_sql(known.name());
        }
        // The first two conditions on ts say which days and which range of the index, the third picks within one instant.
        out.push_sql(" FROM telemetry WHERE device_id = ");
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
        out.push_bind_param::<BigInt, _>(&self.limit)
    }
}

fn asked(columns: Columns) -> impl Iterator<Item = Known> {
    Known::ALL.into_iter().filter(move |known| columns.has(*known))
}

/// A row as it came, field by field: a tuple would have every column, also those nobody asked for.
struct Row {
    ts: Timestamp,
    seq: i64,
    received_at: Timestamp,
    first_us: Option<i64>,
    step_us: Option<i32>,
    slots: i16,
    offsets_us: Option<Vec<i64>>,
    other: Option<String>,
    flagged: Option<i16>,
    dropped: Option<i16>,
    /// The columns asked for, in their order.
    series: [Option<Vec<f64>>; COLUMNS],
}

impl QueryableByName<Pg> for Row {
    fn build<'a>(row: &impl NamedRow<'a, Pg>) -> FromResult<Self> {
        let mut series = [const { None }; COLUMNS];
        for (column, values) in series.iter_mut().enumerate().take(row.field_count().saturating_sub(FIXED)) {
            *values = field(row, FIXED + column, types::floats)?;
        }
        let there = |at: usize| -> FromResult<[u8; 8]> { Ok(number(row, at)?.ok_or("a null time or number")?) };
        let times = [there(0)?, there(1)?, there(2)?].map(i64::from_be_bytes);
        Ok(Self {
            ts: types::from_pg_micros(times[0]),
            seq: times[1],
            received_at: types::from_pg_micros(times[2]),
            first_us: number(row, 3)?.map(i64::from_be_bytes),
            step_us: number(row, 4)?.map(i32::from_be_bytes),
            slots: number(row, 5)?.map(i16::from_be_bytes).unwrap_or_default(),
            offsets_us: field(row, 6, types::longs)?,
            other: field(row, 7, |bytes| Ok(std::str::from_utf8(bytes)?.to_owned()))?,
            flagged: number(row, 8)?.map(i16::from_be_bytes),
            dropped: number(row, 9)?.map(i16::from_be_bytes),
            series,
        })
    }
}

/// A field that is not null.
fn field<'a, T>(
    row: &impl NamedRow<'a, Pg>,
    at: usize,
    read: impl FnOnce(&[u8]) -> FromResult<T>,
) -> FromResult<Option<T>> {
    let field = diesel::row::Row::get(row, at).ok_or("a column too few")?;
    field.value().map(|value: PgValue<'_>| read(value.as_bytes())).transpose()
}

/// A number of its own width.
fn number<'a, const N: usize>(row: &impl NamedRow<'a, Pg>, at: usize) -> FromResult<Option<[u8; N]>> {
    field(row, at, |bytes| Ok(bytes.try_into()?))
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
    let (ts, limit) = (from, FIRST_PAGE);
    let mut pages = Pages { connections, id, columns, ts, seq: i64::MIN, to, days: DAYS, limit, is_done: false };
    let mut first = pages.next()?.into_iter();
    if pages.is_done {
        let _ = first.try_for_each(each);
        return Ok(());
    }
    // (Who wants to know whether there is one needs no second page.)
    if first.next().is_some_and(|row| each(row).is_break()) {
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
        if first.try_for_each(&mut *each).is_break() {
            return Ok(());
        }
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
    /// Rows of the next page.
    limit: usize,
    is_done: bool,
}

impl Pages<'_> {
    /// The next rows; none only at the end.
    fn next(&mut self) -> Result<Vec<TelemetryRow>, Fault> {
        loop {
            let until = self.to.min(self.ts.plus_us(DAY_US.saturating_mul(self.days)));
            let (device_id, ts, to) = (self.id.as_str(), Time(self.ts), Time(until));
            let limit = i64::try_from(self.limit).unwrap_or(i64::MAX);
            let select = SelectPage { columns: self.columns, device_id, ts, seq: self.seq, to, limit };
            let page: Vec<Row> = self.connections.read(View::Statement, |connection| Ok(select.load(connection)?))?;
            let is_whole = page.len() < self.limit;
            self.days = if page.is_empty() { self.days.saturating_mul(2) } else { DAYS };
            self.is_done = is_whole && until >= self.to;
            match page.last() {
                _ if is_whole => (self.ts, self.seq) = (until, i64::MIN),
                Some(row) => (self.ts, self.seq) = (row.ts, row.seq),
                None => {}
            }
            if self.is_done || !page.is_empty() {
                self.limit = page_after(self.limit);
                return page.into_iter().map(|row| read(self.id, self.columns, row)).collect();
            }
        }
    }
}

fn read(id: &DeviceId, asked_for: Columns, mut row: Row) -> Result<TelemetryRow, Fault> {
    let mut columns = [const { None }; COLUMNS];
    for (known, values) in asked(asked_for).zip(&mut row.series) {
        columns[known as usize] = values.take();
    }
    let count = |stored: Option<i16>| u16::try_from(stored.unwrap_or(0)).map_err(|_| Fault::Corrupt("telemetry"));
    let offsets_us = axis::offsets(row.slots, row.first_us, row.step_us, row.offsets_us)?;
    let series = axis::series(offsets_us.len(), columns, row.other.as_deref())?;
    let values = Telemetry { offsets_us, series, flagged: count(row.flagged)?, dropped: count(row.dropped)? };
    Ok(TelemetryRow {
        device: id.clone(),
        ts: row.ts,
        seq: Sequence::from_i64(row.seq),
        received_at: row.received_at,
        values,
    })
}

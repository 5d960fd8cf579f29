//! The large table read: one device's rows in pages; a long range in slices of time, two of them beside each other, ahead of
//! who works on the rows.

use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
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
use crate::store::{Columns, FIRST_PAGE, TelemetryRow};

/// What one statement looks at, at most: it opens every day it may have to, so not the whole year for a page of it.
const WIDEST_US: i64 = 2 * 86_400_000_000;
/// Slices that are read beside each other. A page is made by the server, taken over and worked on, and each of it takes about
/// as long.
const READERS: usize = 2;
/// Rows of a page, at most.
const PAGE: usize = 2000;
/// Rows that a slice is to have: a little less, so that its first page is its only one.
const SLICE: i64 = 1900;
/// The least a slice is wide.
const NARROWEST_US: i64 = 1_000_000;

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

/// See [`Store::scan_columns`](crate::store::Store::scan_columns). Of a long range three pages are held: one is worked on, two
/// are ready or on their way.
pub(super) fn scan(
    connections: &Connections,
    id: &DeviceId,
    columns: Columns,
    from: Timestamp,
    to: Timestamp,
    each: &mut dyn FnMut(TelemetryRow) -> ControlFlow<()>,
) -> Result<(), Fault> {
    let reader = Reader { connections, id, columns };
    let mut cut = Cut { at: (from, i64::MIN), to, width_us: WIDEST_US };
    let mut first = Vec::new();
    while first.is_empty()
        && let Some(slice) = cut.next()
    {
        first = reader.page(slice, FIRST_PAGE)?;
        cut.learn_first(slice, &first);
    }
    let mut first = first.into_iter();
    // (Who wants to know whether there is one needs no second page.)
    if first.next().is_some_and(|row| each(row).is_break()) {
        return Ok(());
    }
    if cut.is_done() {
        let _ = first.try_for_each(each);
        return Ok(());
    }
    let cut = Mutex::new(cut);
    thread::scope(|scope| {
        let (slices, in_order) = channel();
        for _ in 0..READERS {
            let (cut, slices) = (&cut, slices.clone());
            let read_ahead = trace::carry(move || reader.read_ahead(cut, &slices));
            let thread = thread::Builder::new().name("pages".into()).spawn_scoped(scope, read_ahead);
            thread.map_err(|error| Fault::Connect(Box::new(error)))?;
        }
        drop(slices);
        if first.try_for_each(&mut *each).is_break() {
            return Ok(());
        }
        for page in in_order.into_iter().flatten() {
            if page?.into_iter().try_for_each(&mut *each).is_break() {
                break;
            }
        }
        Ok(())
    })
}

/// A row's place among a device's: its message's time and number.
type Place = (Timestamp, i64);

/// The rows behind a place, up to a time.
#[derive(Clone, Copy)]
struct Slice {
    behind: Place,
    to: Timestamp,
}

impl Slice {
    fn width_us(self) -> i64 {
        self.to.0.saturating_sub(self.behind.0.0)
    }
}

/// A range that is being cut into slices of about a page.
struct Cut {
    at: Place,
    to: Timestamp,
    width_us: i64,
}

impl Cut {
    fn is_done(&self) -> bool {
        self.at.0 >= self.to
    }

    fn next(&mut self) -> Option<Slice> {
        if self.is_done() {
            return None;
        }
        let slice = Slice { behind: self.at, to: self.to.min(self.at.0.plus_us(self.width_us)) };
        self.at = (slice.to, i64::MIN);
        Some(slice)
    }

    /// The next slices are to have a page. Where there is nothing they become wider and wider.
    fn learn(&mut self, rows: usize, width_us: i64) {
        self.width_us = match i64::try_from(rows) {
            Ok(0) => self.width_us.saturating_mul(2),
            Ok(rows) => (width_us.saturating_mul(SLICE) / rows).clamp(NARROWEST_US, WIDEST_US),
            Err(_) => NARROWEST_US,
        };
    }

    /// What the first rows of the first slice tell; what else is in it comes next.
    fn learn_first(&mut self, slice: Slice, rows: &[TelemetryRow]) {
        match (rows.first(), rows.last()) {
            (Some(first), Some(last)) if rows.len() == FIRST_PAGE => {
                self.at = (last.ts, last.seq.to_i64());
                self.learn(rows.len() - 1, last.ts.0.saturating_sub(first.ts.0));
            }
            _ => self.learn(rows.len(), slice.width_us()),
        }
    }
}

type Page = Result<Vec<TelemetryRow>, Fault>;

/// What is read.
#[derive(Clone, Copy)]
struct Reader<'a> {
    connections: &'a Connections,
    id: &'a DeviceId,
    columns: Columns,
}

impl Reader<'_> {
    /// Reads slice after slice, until there is none or nobody takes them.
    fn read_ahead(self, cut: &Mutex<Cut>, slices: &Sender<Receiver<Page>>) {
        let lock = || cut.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            // Without room: a page waits here until it is worked on.
            let (ahead, pages) = sync_channel(0);
            let mut cut = lock();
            let Some(mut slice) = cut.next() else { return };
            // Under the lock: slices are worked on in their order.
            if slices.send(pages).is_err() {
                return;
            }
            drop(cut);
            let (width_us, mut all) = (slice.width_us(), 0);
            loop {
                let page = self.page(slice, PAGE);
                let rows = page.as_ref().map_or(&[][..], Vec::as_slice);
                all += rows.len();
                let last = rows.last().filter(|_| rows.len() == PAGE).map(|row| (row.ts, row.seq.to_i64()));
                if last.is_none() {
                    lock().learn(all, width_us);
                }
                if ahead.send(page).is_err() {
                    return;
                }
                let Some(last) = last else { break };
                slice.behind = last;
            }
        }
    }

    /// The first rows of a slice.
    fn page(self, slice: Slice, rows: usize) -> Page {
        let (ts, to) = (Time(slice.behind.0), Time(slice.to));
        let limit = i64::try_from(rows).unwrap_or(i64::MAX);
        let (columns, device_id) = (self.columns, self.id.as_str());
        let select = SelectPage { columns, device_id, ts, seq: slice.behind.1, to, limit };
        let page: Vec<Row> = self.connections.read(View::Statement, |connection| Ok(select.load(connection)?))?;
        page.into_iter().map(|row| read(self.id, columns, row)).collect()
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

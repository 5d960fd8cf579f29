//! The large table: one row a datagram. Written through a staging table, read in pages.

use std::io::Write;
use std::ops::ControlFlow;

use diesel::pg::CopyFormat;
use diesel::{
    BoolExpressionMethods, ExecuteCopyFromDsl, ExpressionMethods, PgConnection, QueryDsl, QueryResult, Queryable,
    RunQueryDsl, sql_query,
};

use super::axis::{self, Axis, COLUMNS};
use super::connection::{Connections, View};
use super::copy::Rows;
use super::schema::staging_telemetry;
use super::schema::telemetry::dsl;
use super::types::{Floats, JsonText, Longs, Time};
use crate::domain::{DeviceId, Sequence, Telemetry, Timestamp};
use crate::store::TelemetryRow;
use crate::store::fault::Fault;

/// Rows read between two looks at the caller: bounds memory and the time a snapshot is held.
const PAGE: i64 = 1000;
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
    ts: Time,
    seq: i64,
    received_at: Time,
    first_us: Option<i64>,
    step_us: Option<i32>,
    slots: i16,
    flagged: Option<i16>,
    dropped: Option<i16>,
    _device_id: String,
    offsets_us: Option<Longs>,
    voltage_dc: F,
    current_dc: F,
    voltage_ac: F,
    current_ac: F,
    frequency: F,
    pf: F,
    thd_v: F,
    thd_i: F,
    temperature: F,
    battery: F,
    other: Option<JsonText>,
}

/// See [`Store::scan_telemetry`](crate::store::Store::scan_telemetry).
pub(super) fn scan(
    connections: &Connections,
    id: &DeviceId,
    from: Timestamp,
    to: Timestamp,
    each: &mut dyn FnMut(TelemetryRow) -> ControlFlow<()>,
) -> Result<(), Fault> {
    // The position before the first possible row of `from`.
    let (mut ts, mut seq) = (from, i64::MIN);
    loop {
        // The first two conditions say which days and which range of the index, the third picks within one instant.
        let page = dsl::telemetry
            .filter(dsl::device_id.eq(id.as_str()))
            .filter(dsl::ts.ge(Time(ts)))
            .filter(dsl::ts.lt(Time(to)))
            .filter(dsl::ts.gt(Time(ts)).or(dsl::seq.gt(seq)))
            .order((dsl::ts.asc(), dsl::seq.asc()))
            .limit(PAGE);
        let page: Vec<Row> = connections.read(View::Statement, |connection| Ok(page.load(connection)?))?;
        let is_last = page.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
        for row in page {
            (ts, seq) = (row.ts.0, row.seq);
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
    let values = |column: F| column.map(|Floats(values)| values);
    let columns: [Option<Vec<f64>>; COLUMNS] = [
        row.voltage_dc,
        row.current_dc,
        row.voltage_ac,
        row.current_ac,
        row.frequency,
        row.pf,
        row.thd_v,
        row.thd_i,
        row.temperature,
        row.battery,
    ]
    .map(values);
    let count = |stored: Option<i16>| u16::try_from(stored.unwrap_or(0)).map_err(|_| Fault::Corrupt("telemetry"));
    let offsets_us = axis::offsets(row.slots, row.first_us, row.step_us, row.offsets_us.map(|Longs(each)| each))?;
    let series = axis::series(offsets_us.len(), columns, row.other.as_ref().map(|JsonText(text)| text.as_str()))?;
    let values = Telemetry { offsets_us, series, flagged: count(row.flagged)?, dropped: count(row.dropped)? };
    Ok(TelemetryRow {
        device: id.clone(),
        ts: row.ts.0,
        seq: Sequence::from_i64(row.seq),
        received_at: row.received_at.0,
        values,
    })
}

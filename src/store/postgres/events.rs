//! What meters said beside measurements: hellos, status changes, acknowledgements, update progress.

use diesel::pg::{CopyFormat, Pg};
use diesel::{
    BoolExpressionMethods, ExecuteCopyFromDsl, ExpressionMethods, PgConnection, QueryDsl, QueryResult, RunQueryDsl,
    sql_query,
};

use super::copy::Rows;
use super::schema::device_events::{self, dsl};
use super::schema::staging_events;
use super::telemetry;
use super::types::Time;
use crate::domain::{DeviceId, Sequence, Timestamp};
use crate::store::fault::Fault;
use crate::store::listing::Part;
use crate::store::{EventRow, Listing, Page, Place};

const FIELDS: u16 = 6;

/// Stores the events not yet there; returns how many those were. In key order, as telemetry is.
pub(super) fn insert(connection: &mut PgConnection, rows: &[EventRow]) -> QueryResult<usize> {
    if rows.is_empty() {
        return Ok(0);
    }
    let mut sorted: Vec<&EventRow> = rows.iter().collect();
    sorted.sort_by(|a, b| (&a.device, a.ts, a.seq.to_i64()).cmp(&(&b.device, b.ts, b.seq.to_i64())));
    let mut copy = Rows::with_capacity(rows.len() * 256);
    for row in sorted {
        copy.row(FIELDS);
        copy.time(row.ts);
        copy.number(Some(row.seq.to_i64().to_be_bytes()));
        copy.time(row.received_at);
        copy.text(row.device.as_str());
        copy.text(&row.kind);
        copy.jsonb(&row.body.to_string());
    }
    let bytes = copy.finish();
    diesel::copy_from(staging_events::table)
        .from_raw_data(staging_events::table, |out| telemetry::send(out, &bytes))
        .with_format(CopyFormat::Binary)
        .execute(connection)?;
    sql_query("INSERT INTO device_events SELECT * FROM staging_events ON CONFLICT DO NOTHING").execute(connection)
}

/// See [`Store::events`](crate::store::Store::events).
pub(super) fn list(
    connection: &mut PgConnection,
    id: &DeviceId,
    kind: Option<&str>,
    page: Page,
) -> Result<Listing<EventRow>, Fault> {
    let matching = || -> device_events::BoxedQuery<'_, Pg> {
        let query = dsl::device_events.filter(dsl::device_id.eq(id.as_str())).into_boxed();
        match kind {
            Some(kind) => query.filter(dsl::kind.eq(kind)),
            None => query,
        }
    };
    let part = Part::new(page, || matching().count().get_result(connection))?;
    let mut query = matching().order((dsl::ts.desc(), dsl::seq.desc())).limit(part.limit).offset(part.offset);
    if let Some(Place(ts, seq)) = part.behind {
        // The first condition says which days and which range of the index, the second picks within one instant.
        let ts = Time(Timestamp(ts));
        query = query.filter(dsl::ts.le(ts)).filter(dsl::ts.lt(ts).or(dsl::seq.lt(seq)));
    }
    let rows: Vec<Row> = query.select((dsl::ts, dsl::seq, dsl::received_at, dsl::kind, dsl::body)).load(connection)?;
    let place = |(ts, seq, ..): &Row| Place(ts.0.0, *seq);
    part.listing(rows, place, |row| Ok(read(id, row)))
}

type Row = (Time, i64, Time, String, serde_json::Value);

fn read(device: &DeviceId, (ts, seq, received_at, kind, body): Row) -> EventRow {
    let seq = Sequence::from_i64(seq);
    EventRow { device: device.clone(), ts: ts.0, seq, received_at: received_at.0, kind, body }
}

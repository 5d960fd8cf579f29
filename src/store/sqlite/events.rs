//! What meters said beside measurements: hellos, status changes, acknowledgements, update progress.

use diesel::sql_types::{BigInt, Text};
use diesel::sqlite::Sqlite;
use diesel::{BoolExpressionMethods, ExpressionMethods, QueryDsl, QueryResult, RunQueryDsl, SqliteConnection};

use super::fault::Fault;
use super::listing::Part;
use super::schema::device_events::{self, dsl};
use super::statement::statement;
use super::telemetry::{Keys, find_key};
use crate::domain::{DeviceId, Sequence, Timestamp};
use crate::store::{EventRow, Listing, Page, Place};

statement! {
    /// An event, unless it is there.
    InsertEvent: "INSERT INTO device_events (device_key, ts, seq, received_at, kind, body) VALUES (",
    ") ON CONFLICT DO NOTHING";
    device_key: i64 => BigInt,
    ts: i64 => BigInt,
    seq: i64 => BigInt,
    received_at: i64 => BigInt,
    kind: &'a str => Text,
    body: &'a str => Text,
}

/// Stores the events not yet there; returns how many those were.
pub(super) fn insert<'a>(
    connection: &mut SqliteConnection,
    keys: &mut Keys<'a>,
    rows: &'a [EventRow],
) -> QueryResult<usize> {
    let mut stored = 0;
    for row in rows {
        let device_key = keys.of(connection, &row.device)?;
        let body = row.body.to_string();
        let (ts, seq, received_at) = (row.ts.0, row.seq.to_i64(), row.received_at.0);
        let statement = InsertEvent { device_key, ts, seq, received_at, kind: &row.kind, body: &body };
        stored += statement.execute(connection)?;
    }
    Ok(stored)
}

/// See [`Store::events`](crate::store::Store::events).
pub(super) fn list(
    connection: &mut SqliteConnection,
    id: &DeviceId,
    kind: Option<&str>,
    page: Page,
) -> Result<Listing<EventRow>, Fault> {
    let Some(key) = find_key(connection, id)? else {
        return Part::new(page, || Ok::<_, Fault>(0))?.listing(Vec::new(), place, |row| read(id, row));
    };
    let matching = || -> device_events::BoxedQuery<'_, Sqlite> {
        let query = dsl::device_events.filter(dsl::device_key.eq(key)).into_boxed();
        match kind {
            Some(kind) => query.filter(dsl::kind.eq(kind)),
            None => query,
        }
    };
    let part = Part::new(page, || matching().count().get_result(connection))?;
    let mut query = matching().order((dsl::ts.desc(), dsl::seq.desc())).limit(part.limit).offset(part.offset);
    if let Some(Place(ts, seq)) = part.behind {
        // The first condition is the range of the index, the second picks within one instant.
        query = query.filter(dsl::ts.le(ts)).filter(dsl::ts.lt(ts).or(dsl::seq.lt(seq)));
    }
    let rows: Vec<Row> = query.select((dsl::ts, dsl::seq, dsl::received_at, dsl::kind, dsl::body)).load(connection)?;
    part.listing(rows, place, |row| read(id, row))
}

type Row = (i64, i64, i64, String, String);

fn place((ts, seq, ..): &Row) -> Place {
    Place(*ts, *seq)
}

fn read(device: &DeviceId, (ts, seq, received_at, kind, body): Row) -> Result<EventRow, Fault> {
    Ok(EventRow {
        device: device.clone(),
        ts: Timestamp(ts),
        seq: Sequence::from_i64(seq),
        received_at: Timestamp(received_at),
        kind,
        body: serde_json::from_str(&body).map_err(|_| Fault::Corrupt("event"))?,
    })
}

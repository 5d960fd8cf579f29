//! The ledger of missing messages.
//!
//! Invariant: an entry is named by (device, after, first); it is open while `filled_at` is null.

use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::sqlite::Sqlite;
use diesel::{BoolExpressionMethods, ExpressionMethods, QueryDsl, QueryResult, RunQueryDsl, SqliteConnection};

use super::fault::Fault;
use super::listing::{self, Part};
use super::schema::sequence_gaps::{self, dsl};
use super::statement::statement;
use crate::domain::sequence::{Gap, MAX_OPEN_GAPS};
use crate::domain::{DeviceId, Timestamp};
use crate::store::{GapEntry, Listing, Page, Place};

statement! {
    /// A new entry, or what is left of an old one. A filled entry keeps the time it was filled.
    UpsertGap:
    "INSERT INTO sequence_gaps (device_id, first_seq, last_seq, after_ts, before_ts, missing, detected_at, filled_at) \
     VALUES (",
    ") ON CONFLICT (device_id, after_ts, first_seq) DO UPDATE SET last_seq = excluded.last_seq, \
     before_ts = excluded.before_ts, missing = excluded.missing, filled_at = CASE WHEN excluded.filled_at IS NOT NULL \
     THEN coalesce(sequence_gaps.filled_at, excluded.filled_at) END";
    device_id: &'a str => Text,
    first_seq: i64 => BigInt,
    last_seq: i64 => BigInt,
    after_ts: i64 => BigInt,
    before_ts: i64 => BigInt,
    missing: &'a str => Text,
    detected_at: i64 => BigInt,
    filled_at: Option<i64> => Nullable<BigInt>,
}

type Row = (i64, i64, i64, i64, String, i64, Option<i64>);

/// Writes entries in order.
pub(super) fn upsert(connection: &mut SqliteConnection, gaps: &[(DeviceId, GapEntry)]) -> QueryResult<()> {
    for (device, GapEntry { gap, detected_at, filled_at }) in gaps {
        let missing = serde_json::json!(gap.missing).to_string();
        let statement = UpsertGap {
            device_id: device.as_str(),
            first_seq: gap.first.into(),
            last_seq: gap.last.into(),
            after_ts: gap.after.0,
            before_ts: gap.before.0,
            missing: &missing,
            detected_at: detected_at.0,
            filled_at: filled_at.map(|at| at.0),
        };
        statement.execute(connection)?;
    }
    Ok(())
}

/// The newest open entries of a device, as many as are followed, oldest first.
pub(super) fn open(connection: &mut SqliteConnection, device: &str) -> Result<Vec<Gap>, Fault> {
    let mut rows: Vec<Row> = dsl::sequence_gaps
        .filter(dsl::device_id.eq(device))
        .filter(dsl::filled_at.is_null())
        .order((dsl::after_ts.desc(), dsl::id.desc()))
        .limit(i64::try_from(MAX_OPEN_GAPS).unwrap_or(i64::MAX))
        .select((
            dsl::first_seq,
            dsl::last_seq,
            dsl::after_ts,
            dsl::before_ts,
            dsl::missing,
            dsl::detected_at,
            dsl::filled_at,
        ))
        .load(connection)?;
    rows.reverse();
    rows.into_iter().map(|row| Ok(read(row)?.gap)).collect()
}

/// See [`Store::gaps`](crate::store::Store::gaps).
pub(super) fn list(
    connection: &mut SqliteConnection,
    id: &DeviceId,
    from: Timestamp,
    to: Timestamp,
    page: Page,
) -> Result<Listing<GapEntry>, Fault> {
    let part = Part::new(page, || matching(id, from, to).count().get_result(connection))?;
    let rows: Vec<Row> = behind(matching(id, from, to), &part)
        .select((
            dsl::first_seq,
            dsl::last_seq,
            dsl::after_ts,
            dsl::before_ts,
            dsl::missing,
            dsl::detected_at,
            dsl::filled_at,
        ))
        .load(connection)?;
    let place = |(first, _, after, ..): &Row| Place(*after, *first);
    part.listing(rows, place, read)
}

/// The entries of a device that touch a range of time.
pub(super) fn matching(id: &DeviceId, from: Timestamp, to: Timestamp) -> sequence_gaps::BoxedQuery<'_, Sqlite> {
    dsl::sequence_gaps
        .filter(dsl::device_id.eq(id.as_str()))
        .filter(dsl::after_ts.lt(to.0))
        .filter(dsl::before_ts.ge(from.0))
        .into_boxed()
}

/// A part of a query, newest first: in the order of an index, and of what names an entry.
pub(super) fn behind<'a>(
    query: sequence_gaps::BoxedQuery<'a, Sqlite>,
    part: &Part,
) -> sequence_gaps::BoxedQuery<'a, Sqlite> {
    let query = query.order((dsl::after_ts.desc(), dsl::first_seq.desc())).limit(part.limit).offset(part.offset);
    match part.behind {
        // The first condition is the range of the index, the second picks within one instant.
        Some(Place(after, first)) => {
            query.filter(dsl::after_ts.le(after)).filter(dsl::after_ts.lt(after).or(dsl::first_seq.lt(first)))
        }
        None => query,
    }
}

fn read((first, last, after, before, missing, detected_at, filled_at): Row) -> Result<GapEntry, Fault> {
    let counter = |stored: i64| u32::try_from(stored).map_err(|_| Fault::Corrupt("gap"));
    let gap = Gap {
        first: counter(first)?,
        last: counter(last)?,
        after: Timestamp(after),
        before: Timestamp(before),
        missing: serde_json::from_str(&missing).map_err(|_| Fault::Corrupt("gap"))?,
    };
    Ok(GapEntry { gap, detected_at: Timestamp(detected_at), filled_at: listing::time(filled_at) })
}

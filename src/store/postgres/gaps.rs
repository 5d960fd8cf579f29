//! The ledger of missing messages.
//!
//! Invariant: an entry is named by (device, after, first); it is open while `filled_at` is null.

use std::collections::HashMap;

use diesel::pg::Pg;
use diesel::sql_types::{Array, BigInt, Nullable, Text, Timestamptz};
use diesel::{
    BoolExpressionMethods, ExpressionMethods, PgConnection, QueryDsl, QueryResult, QueryableByName, RunQueryDsl,
    sql_query,
};

use super::schema::sequence_gaps::{self, dsl};
use super::types::{Time, optional};
use crate::domain::sequence::{Gap, MAX_OPEN_GAPS};
use crate::domain::{DeviceId, Timestamp};
use crate::store::fault::Fault;
use crate::store::listing::Part;
use crate::store::{GapEntry, Listing, Page, Place};

/// A filled entry keeps the time it was filled.
const UPSERT: &str = "INSERT INTO sequence_gaps \
     (device_id, first_seq, last_seq, after_ts, before_ts, missing, detected_at, filled_at) \
     SELECT d, f, l, a, b, m::jsonb, t, e FROM unnest($1, $2, $3, $4, $5, $6, $7, $8) AS g (d, f, l, a, b, m, t, e) \
     ON CONFLICT (device_id, after_ts, first_seq) DO UPDATE SET last_seq = excluded.last_seq, \
     before_ts = excluded.before_ts, missing = excluded.missing, filled_at = CASE WHEN excluded.filled_at IS NOT NULL \
     THEN coalesce(sequence_gaps.filled_at, excluded.filled_at) END";

/// Writes entries, each of which is there once.
pub(super) fn upsert(connection: &mut PgConnection, gaps: &[(DeviceId, GapEntry)]) -> QueryResult<()> {
    if gaps.is_empty() {
        return Ok(());
    }
    let mut gaps: Vec<&(DeviceId, GapEntry)> = gaps.iter().collect();
    gaps.sort_unstable_by(|a, b| (&a.0, a.1.gap.after, a.1.gap.first).cmp(&(&b.0, b.1.gap.after, b.1.gap.first)));
    let numbers = |value: fn(&Gap) -> u32| gaps.iter().map(|(_, e)| i64::from(value(&e.gap))).collect::<Vec<_>>();
    let times = |value: fn(&GapEntry) -> Timestamp| gaps.iter().map(|(_, e)| Time(value(e))).collect::<Vec<_>>();
    let devices: Vec<&str> = gaps.iter().map(|(device, _)| device.as_str()).collect();
    let missing: Vec<String> = gaps.iter().map(|(_, e)| serde_json::json!(e.gap.missing).to_string()).collect();
    let filled: Vec<Option<Time>> = gaps.iter().map(|(_, e)| optional(e.filled_at)).collect();
    sql_query(UPSERT)
        .bind::<Array<Text>, _>(devices)
        .bind::<Array<BigInt>, _>(numbers(|gap| gap.first))
        .bind::<Array<BigInt>, _>(numbers(|gap| gap.last))
        .bind::<Array<Timestamptz>, _>(times(|entry| entry.gap.after))
        .bind::<Array<Timestamptz>, _>(times(|entry| entry.gap.before))
        .bind::<Array<Text>, _>(missing)
        .bind::<Array<Timestamptz>, _>(times(|entry| entry.detected_at))
        .bind::<Array<Nullable<Timestamptz>>, _>(filled)
        .execute(connection)
        .map(drop)
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    device_id: String,
    #[diesel(sql_type = BigInt)]
    first_seq: i64,
    #[diesel(sql_type = BigInt)]
    last_seq: i64,
    #[diesel(sql_type = Timestamptz)]
    after_ts: Time,
    #[diesel(sql_type = Timestamptz)]
    before_ts: Time,
    #[diesel(sql_type = diesel::sql_types::Jsonb)]
    missing: serde_json::Value,
    #[diesel(sql_type = Timestamptz)]
    detected_at: Time,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    filled_at: Option<Time>,
}

/// The newest open entries of each device, as many as are followed, oldest first.
pub(super) fn open(connection: &mut PgConnection, devices: &[&str]) -> Result<HashMap<String, Vec<Gap>>, Fault> {
    let query = "SELECT g.* FROM unnest($1) AS j (id) CROSS JOIN LATERAL (SELECT device_id, first_seq, last_seq, \
         after_ts, before_ts, missing, detected_at, filled_at, id AS gap_id FROM sequence_gaps \
         WHERE device_id = j.id COLLATE \"C\" AND filled_at IS NULL ORDER BY after_ts DESC, id DESC LIMIT $2) AS g \
         ORDER BY g.device_id, g.after_ts, g.gap_id";
    let most = i64::try_from(MAX_OPEN_GAPS).unwrap_or(i64::MAX);
    let rows: Vec<Row> = sql_query(query).bind::<Array<Text>, _>(devices).bind::<BigInt, _>(most).load(connection)?;
    let mut found: HashMap<String, Vec<Gap>> = HashMap::new();
    for row in rows {
        let device = row.device_id.clone();
        found.entry(device).or_default().push(read(row)?.gap);
    }
    Ok(found)
}

/// See [`Store::gaps`](crate::store::Store::gaps).
pub(super) fn list(
    connection: &mut PgConnection,
    id: &DeviceId,
    from: Timestamp,
    to: Timestamp,
    page: Page,
) -> Result<Listing<GapEntry>, Fault> {
    let matching = || -> sequence_gaps::BoxedQuery<'_, Pg> {
        dsl::sequence_gaps
            .filter(dsl::device_id.eq(id.as_str()))
            .filter(dsl::after_ts.lt(Time(to)))
            .filter(dsl::before_ts.ge(Time(from)))
            .into_boxed()
    };
    let part = Part::new(page, || matching().count().get_result(connection))?;
    let mut query =
        matching().order((dsl::after_ts.desc(), dsl::first_seq.desc())).limit(part.limit).offset(part.offset);
    if let Some(Place(after, first)) = part.behind {
        // The first condition is the range of the index, the second picks within one instant.
        let after = Time(Timestamp(after));
        query = query.filter(dsl::after_ts.le(after)).filter(dsl::after_ts.lt(after).or(dsl::first_seq.lt(first)));
    }
    let rows: Vec<Row> = query
        .select((
            dsl::device_id,
            dsl::first_seq,
            dsl::last_seq,
            dsl::after_ts,
            dsl::before_ts,
            dsl::missing,
            dsl::detected_at,
            dsl::filled_at,
        ))
        .load::<Columns>(connection)?
        .into_iter()
        .map(Row::from)
        .collect();
    part.listing(rows, |row: &Row| Place(row.after_ts.0.0, row.first_seq), read)
}

type Columns = (String, i64, i64, Time, Time, serde_json::Value, Time, Option<Time>);

impl From<Columns> for Row {
    fn from(columns: Columns) -> Self {
        let (device_id, first_seq, last_seq, after_ts, before_ts, missing, detected_at, filled_at) = columns;
        Self { device_id, first_seq, last_seq, after_ts, before_ts, missing, detected_at, filled_at }
    }
}

fn read(row: Row) -> Result<GapEntry, Fault> {
    let counter = |stored: i64| u32::try_from(stored).map_err(|_| Fault::Corrupt("gap"));
    let gap = Gap {
        first: counter(row.first_seq)?,
        last: counter(row.last_seq)?,
        after: row.after_ts.0,
        before: row.before_ts.0,
        missing: serde_json::from_value(row.missing).map_err(|_| Fault::Corrupt("gap"))?,
    };
    Ok(GapEntry { gap, detected_at: row.detected_at.0, filled_at: row.filled_at.map(|at| at.0) })
}

//! How far back the telemetry of this database reaches, and whose data somebody removed.

use diesel::sql_types::{Text, Timestamptz};
use diesel::{PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query};

use super::types::Time;
use crate::domain::{DeviceId, Timestamp};
use crate::store::Reach;

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = diesel::sql_types::Nullable<Timestamptz>)]
    trimmed: Option<Time>,
    #[diesel(sql_type = diesel::sql_types::Nullable<Timestamptz>)]
    purged: Option<Time>,
}

/// See [`Store::reach`](crate::store::Store::reach).
pub(super) fn of(connection: &mut PgConnection, id: &DeviceId) -> QueryResult<Reach> {
    let both = "SELECT (SELECT before_ts FROM telemetry_trimmed) AS trimmed, \
                (SELECT purged_at FROM device_purges WHERE device_id = $1 COLLATE \"C\") AS purged";
    let found: Found = sql_query(both).bind::<Text, _>(id.as_str()).get_result(connection)?;
    let time = |time: Option<Time>| time.map(|Time(time)| time);
    Ok(Reach { trimmed_before: time(found.trimmed), purged_at: time(found.purged) })
}

/// Notes that telemetry older than `before` has gone. In the transaction that takes it.
pub(super) fn trimmed(connection: &mut PgConnection, before: Timestamp) -> QueryResult<()> {
    let note = "INSERT INTO telemetry_trimmed AS t (id, before_ts) VALUES (1, $1) \
                ON CONFLICT (id) DO UPDATE SET before_ts = greatest(t.before_ts, excluded.before_ts)";
    sql_query(note).bind::<Timestamptz, _>(Time(before)).execute(connection).map(drop)
}

/// See [`Store::note_purge`](crate::store::Store::note_purge).
pub(super) fn purged(connection: &mut PgConnection, id: &DeviceId, at: Timestamp) -> QueryResult<()> {
    let note = "INSERT INTO device_purges AS p (device_id, purged_at) VALUES ($1, $2) \
                ON CONFLICT (device_id) DO UPDATE SET purged_at = greatest(p.purged_at, excluded.purged_at)";
    let note = sql_query(note).bind::<Text, _>(id.as_str()).bind::<Timestamptz, _>(Time(at));
    note.execute(connection).map(drop)
}

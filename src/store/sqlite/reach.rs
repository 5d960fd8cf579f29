//! How far back the telemetry of this database reaches, and whose data somebody removed.

use diesel::sql_types::{BigInt, Text};
use diesel::{OptionalExtension, QueryResult, QueryableByName, RunQueryDsl, SqliteConnection, sql_query};

use crate::domain::{DeviceId, Timestamp};
use crate::store::Reach;

#[derive(QueryableByName)]
struct Time {
    #[diesel(sql_type = BigInt)]
    us: i64,
}

/// See [`Store::reach`](crate::store::Store::reach).
pub(super) fn of(connection: &mut SqliteConnection, id: &DeviceId) -> QueryResult<Reach> {
    let trimmed =
        sql_query("SELECT before_ts AS us FROM telemetry_trimmed").get_result::<Time>(connection).optional()?;
    let purged = sql_query("SELECT purged_at AS us FROM device_purges WHERE device_id = ?")
        .bind::<Text, _>(id.as_str())
        .get_result::<Time>(connection)
        .optional()?;
    let time = |found: Option<Time>| found.map(|found| Timestamp(found.us));
    Ok(Reach { trimmed_before: time(trimmed), purged_at: time(purged) })
}

/// Notes that telemetry older than `before` has gone. In the transaction that takes it.
pub(super) fn trimmed(connection: &mut SqliteConnection, before: Timestamp) -> QueryResult<()> {
    let note = "INSERT INTO telemetry_trimmed (id, before_ts) VALUES (1, ?) \
                ON CONFLICT (id) DO UPDATE SET before_ts = max(before_ts, excluded.before_ts)";
    sql_query(note).bind::<BigInt, _>(before.0).execute(connection).map(drop)
}

/// See [`Store::note_purge`](crate::store::Store::note_purge).
pub(super) fn purged(connection: &mut SqliteConnection, id: &DeviceId, at: Timestamp) -> QueryResult<()> {
    let note = "INSERT INTO device_purges (device_id, purged_at) VALUES (?, ?) \
                ON CONFLICT (device_id) DO UPDATE SET purged_at = max(purged_at, excluded.purged_at)";
    sql_query(note).bind::<Text, _>(id.as_str()).bind::<BigInt, _>(at.0).execute(connection).map(drop)
}

//! Figures, removal and retention.
//!
//! Invariant: nothing large is deleted in one transaction; writers get their turn between the parts.

use diesel::sql_types::{BigInt, Text};
use diesel::{ExpressionMethods, QueryDsl, QueryResult, QueryableByName, RunQueryDsl, SqliteConnection, sql_query};

use super::connection::{Connections, Sync};
use super::fault::Fault;
use super::schema::{collector_checkpoint, device_alerts, device_commands, devices, sequence_gaps};
use super::{certificates, enrolment, listing, reach, rollups, states, telemetry};
use crate::domain::{DeviceId, Timestamp};
use crate::store::Stats;

/// Rows deleted in one transaction of a purge.
const PART: i64 = 5000;

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// See [`Store::stats`](crate::store::Store::stats).
pub(super) fn stats(connection: &mut SqliteConnection) -> Result<Stats, Fault> {
    let mut counts = |query: &str| -> QueryResult<Vec<(String, u64)>> {
        let rows = sql_query(query).load::<Count>(connection)?;
        Ok(rows.into_iter().map(|row| (row.name, listing::count(row.count))).collect())
    };
    let device_by_status = counts(
        "SELECT CASE WHEN is_active THEN 'active' ELSE 'inactive' END AS name, count(*) AS count FROM devices \
         GROUP BY 1 ORDER BY 1",
    )?;
    let device_by_connection = counts(
        "SELECT coalesce(s.connection_status, 'unknown') AS name, count(*) AS count FROM devices AS d \
         LEFT JOIN device_sequence AS s ON s.device_id = d.device_id GROUP BY 1 ORDER BY 1",
    )?;
    let commands = counts(
        "SELECT cmd || ' ' || status AS name, count(*) AS count FROM device_commands GROUP BY cmd, status ORDER BY 1",
    )?;
    let unseen = counts("SELECT '' AS name, count(*) AS count FROM device_alerts WHERE acknowledged_at IS NULL")?;
    Ok(Stats {
        total_devices: device_by_status.iter().map(|(_, count)| count).sum(),
        device_by_status,
        device_by_connection,
        unacknowledged_alerts: unseen.iter().map(|(_, count)| count).sum(),
        commands_by_kind: Stats::split_commands(commands),
    })
}

/// See [`Store::delete_device`](crate::store::Store::delete_device). Data go first: a purge cut short can be asked for again.
pub(super) fn delete_device(connections: &Connections, id: &DeviceId, purge: bool) -> Result<bool, Fault> {
    while purge && connections.write(Sync::Lazy, |connection| Ok(purge_part(connection, id)?))? > 0 {}
    connections.write(Sync::Now, |connection| {
        if purge {
            while purge_part(connection, id)? > 0 {}
        }
        let name = id.as_str();
        diesel::delete(device_commands::table.filter(device_commands::device_id.eq(name))).execute(connection)?;
        diesel::delete(device_alerts::table.filter(device_alerts::device_id.eq(name))).execute(connection)?;
        states::remove(connection, id)?;
        if purge {
            states::forget_span(connection, id)?;
        }
        let removed = diesel::delete(devices::table.filter(devices::device_id.eq(name))).execute(connection)?;
        enrolment::removed(connection, id)?;
        certificates::note_device(connection, id)?;
        Ok(removed == 1)
    })
}

/// Deletes a part of a device's data; how many rows.
fn purge_part(connection: &mut SqliteConnection, id: &DeviceId) -> QueryResult<usize> {
    let gaps = diesel::delete(sequence_gaps::table.filter(sequence_gaps::device_id.eq(id.as_str())));
    let mut deleted = gaps.execute(connection)?;
    let Some(key) = telemetry::find_key(connection, id)? else { return Ok(deleted) };
    deleted += rollups::purge(connection, key, PART)?;
    for table in ["telemetry", "device_events"] {
        let rows = format!("SELECT rowid FROM {table} WHERE device_key = ? LIMIT ?");
        deleted += sql_query(format!("DELETE FROM {table} WHERE rowid IN ({rows})"))
            .bind::<BigInt, _>(key)
            .bind::<BigInt, _>(PART)
            .execute(connection)?;
    }
    Ok(deleted)
}

/// See [`Store::trim`](crate::store::Store::trim). Device by device along the index: no index by time alone is kept for it.
pub(super) fn trim(connection: &mut SqliteConnection, before: Timestamp, limit: usize) -> QueryResult<usize> {
    let mut deleted = 0;
    for table in ["telemetry", "device_events"] {
        let rows = format!(
            "SELECT t.rowid FROM device_keys AS k CROSS JOIN {table} AS t ON t.device_key = k.device_key AND t.ts < ? \
             LIMIT ?"
        );
        deleted += sql_query(format!("DELETE FROM {table} WHERE rowid IN ({rows})"))
            .bind::<BigInt, _>(before.0)
            .bind::<BigInt, _>(i64::try_from(limit - deleted).unwrap_or(i64::MAX))
            .execute(connection)?;
        if table == "telemetry" && deleted > 0 {
            reach::trimmed(connection, before)?;
        }
    }
    for (table, is_over) in OVER {
        let rows = format!("SELECT rowid FROM {table} WHERE {is_over} LIMIT ?");
        deleted += sql_query(format!("DELETE FROM {table} WHERE rowid IN ({rows})"))
            .bind::<BigInt, _>(before.0)
            .bind::<BigInt, _>(i64::try_from(limit - deleted).unwrap_or(i64::MAX))
            .execute(connection)?;
    }
    Ok(deleted)
}

/// What besides measurements grows with time, and when nobody needs it any more: alerts that are over or seen, commands
/// that can go no further, missing messages whose time has passed, rollouts that have ended.
const OVER: [(&str, &str); 5] = [
    ("device_alerts", "created_at < ? AND (cleared_at IS NOT NULL OR acknowledged_at IS NOT NULL)"),
    ("device_commands", "created_at < ? AND status NOT IN ('pending', 'sent', 'delivered')"),
    ("sequence_gaps", "before_ts < ?"),
    ("rollout_devices", "rollout_id IN (SELECT id FROM rollouts WHERE ended_at < ?)"),
    ("rollouts", "ended_at < ? AND NOT EXISTS (SELECT 1 FROM rollout_devices AS d WHERE d.rollout_id = rollouts.id)"),
];

/// Writes the checkpoint as it is, to see whether writing works; returns it.
pub(super) fn touch_checkpoint(connection: &mut SqliteConnection) -> Result<Option<u64>, Fault> {
    diesel::update(collector_checkpoint::table)
        .set(collector_checkpoint::next_offset.eq(collector_checkpoint::next_offset))
        .execute(connection)?;
    super::commit::checkpoint(connection)
}

//! Figures, removal and retention.
//!
//! Invariant: nothing large is deleted in one transaction; writers get their turn between the parts. Whole days are not
//! deleted but dropped, and a day goes when all of it is past its retention.

use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz};
use diesel::{
    Connection, ExpressionMethods, PgConnection, QueryDsl, QueryResult, QueryableByName, RunQueryDsl, sql_query,
};

use super::connection::Connections;
use super::engines::{Cut, Table};
use super::partitions::{Partitions, TABLES, TELEMETRY};
use super::reach;
use super::schema::{device_alerts, device_commands, devices, sequence_gaps};
use super::types::Time;
use super::{certificates, enrolment, rollups, states};
use crate::domain::{DeviceId, Timestamp};
use crate::store::fault::Fault;
use crate::store::{Stats, listing};

/// Rows deleted in one transaction of a purge.
const PART: i64 = 5000;

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = BigInt)]
    count: i64,
}

#[derive(QueryableByName)]
struct Oldest {
    #[diesel(sql_type = Nullable<Timestamptz>)]
    ts: Option<Time>,
}

#[derive(QueryableByName)]
struct Chunks {
    #[diesel(sql_type = Nullable<Timestamptz>)]
    until: Option<Time>,
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// See [`Store::stats`](crate::store::Store::stats).
pub(super) fn stats(connection: &mut PgConnection) -> Result<Stats, Fault> {
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
    while purge && connections.write(|connection| Ok(purge_part(connection, id)?))? > 0 {}
    connections.write(|connection| {
        let name = id.as_str();
        // Before all of it, as whoever enrols.
        enrolment::removed(connection, id)?;
        // Its state first, as whoever stores what it says begins with it.
        states::remove(connection, id)?;
        if purge {
            while purge_part(connection, id)? > 0 {}
            states::forget_span(connection, id)?;
        }
        diesel::delete(device_commands::table.filter(device_commands::device_id.eq(name))).execute(connection)?;
        diesel::delete(device_alerts::table.filter(device_alerts::device_id.eq(name))).execute(connection)?;
        let removed = diesel::delete(devices::table.filter(devices::device_id.eq(name))).execute(connection)?;
        certificates::note_device(connection, id)?;
        Ok(removed == 1)
    })
}

/// Deletes a part of a device's data; how many rows. (By key, not by place: a place says
/// nothing about which partition. The key is compared bare: so a distributed table sees which server has it.)
fn purge_part(connection: &mut PgConnection, id: &DeviceId) -> QueryResult<usize> {
    let gaps = diesel::delete(sequence_gaps::table.filter(sequence_gaps::device_id.eq(id.as_str())));
    let mut deleted = gaps.execute(connection)? + rollups::purge(connection, id, PART)?;
    for table in TABLES {
        deleted += sql_query(format!(
            "DELETE FROM {table} WHERE device_id = $1 AND (ts, seq) IN \
             (SELECT ts, seq FROM {table} WHERE device_id = $1 ORDER BY ts LIMIT $2)"
        ))
        .bind::<Text, _>(id.as_str())
        .bind::<BigInt, _>(PART)
        .execute(connection)?;
    }
    Ok(deleted)
}

/// See [`Store::trim`](crate::store::Store::trim).
pub(super) fn trim(
    connections: &Connections,
    partitions: &Partitions,
    before: Timestamp,
    limit: usize,
) -> Result<usize, Fault> {
    let schema = *connections.schema()?;
    connections.with(|connection| {
        let (mut deleted, mut failed) = (0, None);
        for table in schema.tables {
            if deleted < limit {
                let done = match table.cut {
                    Cut::Days => partitions.drop_before(connection, table.name, before, limit - deleted),
                    _ => delete_rows_before(connection, table, before, limit - deleted).map_err(Fault::from),
                };
                // One table that cannot be trimmed does not keep the others.
                match done {
                    Ok(rows) => deleted += rows,
                    Err(fault) => failed = failed.or(Some(fault)),
                }
            }
        }
        for (table, is_over) in OVER {
            if deleted < limit {
                deleted += delete_before(connection, table, is_over, before, limit - deleted)?;
            }
        }
        failed.map_or(Ok(deleted), Err)
    })
}

/// Rows of a table that is not cut by us; a transaction, so that it shows with the rows that some have gone.
fn delete_rows_before(
    connection: &mut PgConnection,
    table: Table,
    before: Timestamp,
    limit: usize,
) -> QueryResult<usize> {
    connection.transaction(|connection| {
        let deleted = match table.cut {
            Cut::Chunks => drop_chunks(connection, table.name, before, limit)?,
            _ if table.is_distributed => delete_hour(connection, table.name, before)?,
            _ => delete_before(connection, table.name, "ts < $1", before, limit)?,
        };
        if table.name == TELEMETRY && deleted > 0 {
            reach::trimmed(connection, before)?;
        }
        Ok(deleted)
    })
}

/// Drops the oldest chunks that are wholly before `before`, until `limit` rows have gone; about how many rows those were, at
/// least one a chunk.
fn drop_chunks(connection: &mut PgConnection, table: &str, before: Timestamp, limit: usize) -> QueryResult<usize> {
    let old: Chunks = sql_query(
        "WITH old AS (SELECT c.range_end, greatest(p.reltuples, 1)::bigint AS count FROM timescaledb_information.chunks AS c \
         JOIN pg_class AS p ON p.oid = format('%I.%I', c.chunk_schema, c.chunk_name)::regclass \
         WHERE c.hypertable_schema = current_schema() AND c.hypertable_name = $2 AND c.range_end <= $1), \
         summed AS (SELECT range_end, count, sum(count) OVER (ORDER BY range_end) - count AS older FROM old) \
         SELECT max(range_end) AS until, coalesce(sum(count), 0)::bigint AS count FROM summed WHERE older < $3",
    )
    .bind::<Timestamptz, _>(Time(before))
    .bind::<Text, _>(table)
    .bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX))
    .get_result(connection)?;
    if let Some(until) = old.until {
        sql_query("SELECT drop_chunks($2::regclass, older_than => $1)")
            .bind::<Timestamptz, _>(until)
            .bind::<Text, _>(table)
            .execute(connection)?;
    }
    Ok(usize::try_from(listing::count(old.count)).unwrap_or(usize::MAX))
}

/// Deletes the oldest hour of what is before `before`, on all servers; how many rows. (By time, not by place: a place says
/// nothing about which server.)
fn delete_hour(connection: &mut PgConnection, table: &str, before: Timestamp) -> QueryResult<usize> {
    let oldest: Oldest = sql_query(format!("SELECT min(ts) AS ts FROM {table} WHERE ts < $1"))
        .bind::<Timestamptz, _>(Time(before))
        .get_result(connection)?;
    let Some(Time(oldest)) = oldest.ts else { return Ok(0) };
    sql_query(format!("DELETE FROM {table} WHERE ts < $1"))
        .bind::<Timestamptz, _>(Time(before.min(oldest.plus_us(3_600_000_000))))
        .execute(connection)
}

/// Not for tables of which parts lie elsewhere, or in chunks: a row's place is one in its part.
fn delete_before(
    connection: &mut PgConnection,
    table: &str,
    is_over: &str,
    before: Timestamp,
    limit: usize,
) -> QueryResult<usize> {
    let rows = format!("SELECT ctid FROM {table} WHERE {is_over} LIMIT $2");
    sql_query(format!("DELETE FROM {table} WHERE ctid = ANY (ARRAY ({rows}))"))
        .bind::<Timestamptz, _>(Time(before))
        .bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX))
        .execute(connection)
}

/// What besides measurements grows with time, and when nobody needs it any more: alerts that are over or seen, commands
/// that can go no further, missing messages whose time has passed, rollouts that have ended.
const OVER: [(&str, &str); 5] = [
    ("device_alerts", "created_at < $1 AND (cleared_at IS NOT NULL OR acknowledged_at IS NOT NULL)"),
    ("device_commands", "created_at < $1 AND status NOT IN ('pending', 'sent', 'delivered')"),
    ("sequence_gaps", "before_ts < $1"),
    ("rollout_devices", "rollout_id IN (SELECT id FROM rollouts WHERE ended_at < $1)"),
    ("rollouts", "ended_at < $1 AND NOT EXISTS (SELECT 1 FROM rollout_devices AS d WHERE d.rollout_id = rollouts.id)"),
];

//! Which node delivers which command.
//!
//! Invariant: a command is claimed by one node; another may take it when that one is dead (has not said that it lives for
//! `node_timeout`, by the database's clock) or does not hold the device's session any more. So nothing has to be given back.

use diesel::sql_types::{Array, BigInt, Text, Timestamptz, Uuid as UuidType};
use diesel::{ExpressionMethods, PgConnection, QueryDsl, QueryableByName, RunQueryDsl, sql_query};
use uuid::Uuid;

use super::commands;
use super::schema::device_commands::dsl;
use super::types::Time;
use crate::domain::{DeviceId, Timestamp};
use crate::store::fault::Fault;
use crate::store::{Command, listing};

/// This node, and how long another may be silent.
#[derive(Clone, Copy)]
pub(super) struct Own {
    pub(super) node: Uuid,
    pub(super) timeout_us: i64,
}

/// Whether the claim of command `c` has lapsed; `$1` is how long a node may be silent, in µs.
macro_rules! is_free {
    () => {
        "(c.claimed_by IS NULL OR NOT EXISTS (SELECT 1 FROM device_sessions AS s JOIN nodes AS n ON n.node = s.node \
         WHERE s.device_id = c.device_id AND s.node = c.claimed_by \
         AND n.heartbeat_at > now() - $1 * interval '1 microsecond'))"
    };
}

const CLAIM: &str = concat!(
    "UPDATE device_commands AS d SET claimed_by = $2, status = 'sent', \
     sent_at = CASE d.status WHEN 'pending' THEN $3 ELSE d.sent_at END \
     FROM (SELECT c.id FROM device_commands AS c WHERE c.device_id = ANY ($4 COLLATE \"C\") \
     AND c.status IN ('pending', 'sent') AND c.expires_at > $3 AND (c.claimed_by = $2 OR ",
    is_free!(),
    ") ORDER BY c.id FOR UPDATE SKIP LOCKED) AS free WHERE d.id = free.id RETURNING d.id"
);

const WAITING: &str = concat!(
    "SELECT DISTINCT c.device_id FROM device_commands AS c \
     JOIN device_sessions AS own ON own.device_id = c.device_id AND own.node = $2 \
     WHERE c.status IN ('pending', 'sent') AND c.expires_at > $3 AND c.claimed_by IS DISTINCT FROM $2 AND ",
    is_free!(),
    " LIMIT $4"
);

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

#[derive(QueryableByName)]
struct Device {
    #[diesel(sql_type = Text)]
    device_id: String,
}

/// See [`Store::claim_commands`](crate::store::Store::claim_commands).
pub(super) fn claim(
    connection: &mut PgConnection,
    own: Own,
    devices: &[DeviceId],
    now: Timestamp,
) -> Result<Vec<Command>, Fault> {
    let names: Vec<&str> = devices.iter().map(DeviceId::as_str).collect();
    let claimed: Vec<Id> = sql_query(CLAIM)
        .bind::<BigInt, _>(own.timeout_us)
        .bind::<UuidType, _>(own.node)
        .bind::<Timestamptz, _>(Time(now))
        .bind::<Array<Text>, _>(names)
        .load(connection)?;
    if claimed.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<i64> = claimed.into_iter().map(|row| row.id).collect();
    let rows = dsl::device_commands.filter(dsl::id.eq_any(ids)).order(dsl::id.asc()).load(connection)?;
    rows.into_iter().map(commands::read).collect()
}

/// See [`Nodes::waiting_devices`](crate::store::Nodes::waiting_devices).
pub(super) fn waiting(
    connection: &mut PgConnection,
    own: Own,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<DeviceId>, Fault> {
    let rows: Vec<Device> = sql_query(WAITING)
        .bind::<BigInt, _>(own.timeout_us)
        .bind::<UuidType, _>(own.node)
        .bind::<Timestamptz, _>(Time(now))
        .bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX))
        .load(connection)?;
    rows.iter().map(|row| listing::device_id(&row.device_id)).collect()
}

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
use crate::domain::command::CommandStatus;
use crate::domain::{DeviceId, Timestamp};
use crate::store::fault::Fault;
use crate::store::{COMMANDS_AT_ONCE, Command, listing};

/// This node, and how long another may be silent.
#[derive(Clone, Copy)]
pub(super) struct Own {
    pub(super) node: Uuid,
    pub(super) timeout_us: i64,
}

/// Whether the claim of command `c` has lapsed; `$1` is how long a node may be silent, in µs, `$2` this node.
macro_rules! is_free {
    () => {
        "(c.claimed_by IS NULL OR NOT EXISTS (SELECT 1 FROM device_sessions AS s JOIN nodes AS n ON n.node = s.node \
         WHERE s.device_id = c.device_id AND s.node = c.claimed_by \
         AND n.heartbeat_at > now() - $1 * interval '1 microsecond'))"
    };
}

/// Whether command `c` is to be sent at `$3`, and may be by this node.
macro_rules! is_to_be_sent {
    () => {
        concat!("c.status IN ('pending', 'sent') AND c.expires_at > $3 AND (c.claimed_by = $2 OR ", is_free!(), ")")
    };
}

/// The next `$5` commands of each of the devices `$4`. What is this node's and sent already is not written, nor locked.
const CLAIM: &str = concat!(
    "WITH next AS (SELECT one.id, one.status, one.claimed_by FROM unnest($4) AS asked (device_id) CROSS JOIN LATERAL \
     (SELECT c.id, c.status, c.claimed_by FROM device_commands AS c WHERE c.device_id = asked.device_id COLLATE \"C\" AND ",
    is_to_be_sent!(),
    " ORDER BY c.id LIMIT $5) AS one), \
     taken AS (UPDATE device_commands AS d SET claimed_by = $2, status = 'sent', \
     sent_at = CASE d.status WHEN 'pending' THEN $3 ELSE d.sent_at END \
     FROM (SELECT c.id FROM next JOIN device_commands AS c ON c.id = next.id \
     WHERE (c.status = 'pending' OR c.claimed_by IS DISTINCT FROM $2) AND ",
    is_to_be_sent!(),
    " ORDER BY c.id FOR UPDATE OF c SKIP LOCKED) AS free WHERE d.id = free.id RETURNING d.id) \
     SELECT id FROM taken UNION ALL SELECT id FROM next WHERE status = 'sent' AND claimed_by = $2"
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
        .bind::<BigInt, _>(i64::try_from(COMMANDS_AT_ONCE).unwrap_or(i64::MAX))
        .load(connection)?;
    if claimed.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<i64> = claimed.into_iter().map(|row| row.id).collect();
    // One that was sent before may have been received meanwhile.
    let sent = dsl::device_commands.filter(dsl::id.eq_any(ids)).filter(dsl::status.eq(CommandStatus::Sent.name()));
    let rows = sent.order(dsl::id.asc()).load(connection)?;
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

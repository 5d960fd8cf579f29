//! The nodes on this database, and the meters each of them can reach.
//!
//! Whether a node is there is judged by the database's clock alone: nodes need not agree about the time for that.

use std::collections::BTreeMap;

use diesel::sql_types::{Array, BigInt, Bool, Jsonb, Nullable, Text, Timestamptz, Uuid as UuidType};
use diesel::{PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query};
use uuid::Uuid;

use super::PostgresStore;
use super::claims::{self, Own};
use super::connection::View;
use super::leases;
use super::text::plain;
use super::types::Time;
use crate::domain::{DeviceId, Timestamp};
use crate::store::fault::Fault;
use crate::store::{Beat, Duty, Error, Lease, Node, Nodes, listing};

impl PostgresStore {
    pub(super) fn own(&self) -> Own {
        Own { node: self.node, timeout_us: i64::try_from(self.node_timeout.as_micros()).unwrap_or(i64::MAX) }
    }
}

impl Nodes for PostgresStore {
    fn is_shared(&self) -> bool {
        true
    }

    fn try_lead(&self, duty: Duty) -> Result<Option<Lease>, Error> {
        leases::try_lead(&self.connections, duty).map_err(|fault| fault.during("take a duty over"))
    }

    fn beat(&self, own: &Beat) -> Result<(), Error> {
        self.write("say that this node is there", |c| Ok(beat(c, self.node, own)?))
    }

    fn leave(&self) -> Result<(), Error> {
        self.write("say that this node stops", |c| Ok(leave(c, self.node)?))
    }

    fn nodes(&self) -> Result<Vec<Node>, Error> {
        self.read("list nodes", View::Statement, |c| list(c, self.own()))
    }

    fn heard_until(&self) -> Result<Option<Timestamp>, Error> {
        self.read("ask how far the nodes are", View::Statement, |c| Ok(heard_until(c, self.own())?))
    }

    fn silent_devices(&self, now: Timestamp, limit: usize) -> Result<Vec<DeviceId>, Error> {
        self.read("look for silent devices", View::Statement, |c| silent(c, now, limit))
    }

    fn note_sessions(&self, changes: &[(DeviceId, bool)], now: Timestamp) -> Result<(), Error> {
        self.write("note sessions", |c| Ok(note_sessions(c, self.node, changes, now)?))
    }

    fn forget_sessions(&self) -> Result<(), Error> {
        self.write("note sessions", |c| Ok(forget_sessions(c, self.node)?))
    }

    fn holders(&self, device: &DeviceId) -> Result<Vec<Uuid>, Error> {
        self.read("ask who reaches a device", View::Statement, |c| Ok(holders(c, self.own(), device)?))
    }

    fn waiting_devices(&self, now: Timestamp, limit: usize) -> Result<Vec<DeviceId>, Error> {
        self.read("look for commands", View::Statement, |c| claims::waiting(c, self.own(), now, limit))
    }
}

const BEAT: &str = "INSERT INTO nodes (node, name, version, addresses, started_at, heartbeat_at, stored_until) \
     VALUES ($1, $2, $3, $4, $5, now(), $6) ON CONFLICT (node) DO UPDATE SET name = excluded.name, \
     version = excluded.version, addresses = excluded.addresses, started_at = excluded.started_at, \
     heartbeat_at = excluded.heartbeat_at, stored_until = excluded.stored_until";

/// Those that stopped in good order too: what they said last is how far they had stored.
const FORGET: &str = "DELETE FROM nodes WHERE node <> $1 \
     AND coalesce(heartbeat_at, stored_until) < now() - interval '7 days'";

fn beat(connection: &mut PgConnection, node: Uuid, own: &Beat) -> QueryResult<()> {
    let addresses: BTreeMap<&str, &str> = own.addresses.iter().map(|(of, at)| (of.as_str(), at.as_str())).collect();
    sql_query(BEAT)
        .bind::<UuidType, _>(node)
        .bind::<Text, _>(&*plain(&own.name))
        .bind::<Text, _>(&*plain(&own.version))
        .bind::<Jsonb, _>(serde_json::json!(addresses))
        .bind::<Timestamptz, _>(Time(own.started_at))
        .bind::<Timestamptz, _>(Time(own.stored_until))
        .execute(connection)?;
    sql_query(FORGET).bind::<UuidType, _>(node).execute(connection).map(drop)
}

fn leave(connection: &mut PgConnection, node: Uuid) -> QueryResult<()> {
    forget_sessions(connection, node)?;
    sql_query("UPDATE nodes SET heartbeat_at = NULL WHERE node = $1")
        .bind::<UuidType, _>(node)
        .execute(connection)
        .map(drop)
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = UuidType)]
    node: Uuid,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    version: String,
    #[diesel(sql_type = Jsonb)]
    addresses: serde_json::Value,
    #[diesel(sql_type = Timestamptz)]
    started_at: Time,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    heartbeat_at: Option<Time>,
    #[diesel(sql_type = Timestamptz)]
    stored_until: Time,
    #[diesel(sql_type = Bool)]
    is_alive: bool,
    #[diesel(sql_type = BigInt)]
    sessions: i64,
}

const LIST: &str = "SELECT n.*, coalesce(n.heartbeat_at > now() - $1 * interval '1 microsecond', false) AS is_alive, \
     (SELECT count(*) FROM device_sessions AS s WHERE s.node = n.node) AS sessions \
     FROM nodes AS n ORDER BY is_alive DESC, n.name, n.node";

fn list(connection: &mut PgConnection, own: Own) -> Result<Vec<Node>, Fault> {
    let rows: Vec<Row> = sql_query(LIST).bind::<BigInt, _>(own.timeout_us).load(connection)?;
    let read = |row: Row| {
        let addresses: BTreeMap<String, String> =
            serde_json::from_value(row.addresses).map_err(|_| Fault::Corrupt("node"))?;
        Ok(Node {
            id: row.node,
            said: Beat {
                name: row.name,
                version: row.version,
                addresses: addresses.into_iter().collect(),
                started_at: row.started_at.0,
                stored_until: row.stored_until.0,
            },
            heartbeat_at: row.heartbeat_at.map(|at| at.0),
            is_alive: row.is_alive,
            sessions: if row.is_alive { listing::count(row.sessions) } else { 0 },
        })
    };
    rows.into_iter().map(read).collect()
}

#[derive(QueryableByName)]
struct Until {
    #[diesel(sql_type = Nullable<Timestamptz>)]
    until: Option<Time>,
}

fn heard_until(connection: &mut PgConnection, own: Own) -> QueryResult<Option<Timestamp>> {
    let query = "SELECT min(stored_until) AS until FROM nodes \
         WHERE node <> $2 AND heartbeat_at > now() - $1 * interval '1 microsecond'";
    let row: Until =
        sql_query(query).bind::<BigInt, _>(own.timeout_us).bind::<UuidType, _>(own.node).get_result(connection)?;
    Ok(row.until.map(|at| at.0))
}

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    device_id: String,
}

/// Only candidates: the intervals are taken as they stand, and who judges looks again under a lock.
const SILENT: &str = "SELECT s.device_id FROM device_sequence AS s \
     LEFT JOIN device_configs AS c ON c.device_id = s.device_id \
     WHERE s.connection_status = 'online' AND s.last_seen < $1 - \
     2 * greatest(coalesce(c.send_interval_s, 10), coalesce(c.hello_interval_s, 30)) * interval '1 second' \
     ORDER BY s.last_seen LIMIT $2";

fn silent(connection: &mut PgConnection, now: Timestamp, limit: usize) -> Result<Vec<DeviceId>, Fault> {
    let rows: Vec<Name> = sql_query(SILENT)
        .bind::<Timestamptz, _>(Time(now))
        .bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX))
        .load(connection)?;
    rows.iter().map(|row| listing::device_id(&row.device_id)).collect()
}

const HOLD: &str = "INSERT INTO device_sessions (device_id, node, since) SELECT d, $2, $3 FROM unnest($1) AS n (d) \
     ON CONFLICT DO NOTHING";
const RELEASE: &str = "DELETE FROM device_sessions WHERE node = $2 AND device_id = ANY ($1 COLLATE \"C\")";

fn note_sessions(
    connection: &mut PgConnection,
    node: Uuid,
    changes: &[(DeviceId, bool)],
    now: Timestamp,
) -> QueryResult<()> {
    let names = |held: bool| -> Vec<&str> {
        changes.iter().filter(|(_, is_held)| *is_held == held).map(|(device, _)| device.as_str()).collect()
    };
    let (held, released) = (names(true), names(false));
    if !released.is_empty() {
        sql_query(RELEASE).bind::<Array<Text>, _>(released).bind::<UuidType, _>(node).execute(connection)?;
    }
    if !held.is_empty() {
        sql_query(HOLD)
            .bind::<Array<Text>, _>(held)
            .bind::<UuidType, _>(node)
            .bind::<Timestamptz, _>(Time(now))
            .execute(connection)?;
    }
    Ok(())
}

fn forget_sessions(connection: &mut PgConnection, node: Uuid) -> QueryResult<()> {
    sql_query("DELETE FROM device_sessions WHERE node = $1").bind::<UuidType, _>(node).execute(connection).map(drop)
}

#[derive(QueryableByName)]
struct Holder {
    #[diesel(sql_type = UuidType)]
    node: Uuid,
}

fn holders(connection: &mut PgConnection, own: Own, device: &DeviceId) -> QueryResult<Vec<Uuid>> {
    let query = "SELECT s.node FROM device_sessions AS s JOIN nodes AS n ON n.node = s.node \
         WHERE s.device_id = $2 COLLATE \"C\" AND n.heartbeat_at > now() - $1 * interval '1 microsecond' ORDER BY 1";
    let rows: Vec<Holder> =
        sql_query(query).bind::<BigInt, _>(own.timeout_us).bind::<Text, _>(device.as_str()).load(connection)?;
    Ok(rows.into_iter().map(|row| row.node).collect())
}

//! One node at a time: the states of a batch's devices are locked before it is planned.
//!
//! Rows are locked in the order of their keys, then the missing ones are inserted in that order: nodes wait for each other,
//! never in a circle. What is held is held until the batch is committed.

use std::collections::{HashMap, HashSet};

use diesel::sql_types::{Array, BigInt, Text};
use diesel::{PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query};
use uuid::Uuid;

use super::states;
use crate::domain::{DeviceId, DeviceState};
use crate::store::fault::Fault;
use crate::store::{Batch, Fresh, Known, listing};

/// What is locked now.
pub(super) struct Locked {
    /// States that are not as they were known.
    pub(super) fresh: Vec<Fresh>,
    /// Devices that had no state, and have an empty one now.
    pub(super) inserted: Vec<DeviceId>,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    device_id: String,
    #[diesel(sql_type = BigInt)]
    revision: i64,
}

const LOCK: &str = "SELECT device_id, revision FROM device_sequence WHERE device_id = ANY ($1 COLLATE \"C\") \
     ORDER BY device_id FOR UPDATE";

const INSERT: &str = "INSERT INTO device_sequence (device_id, reboots, connection_status, latest, span_us) \
     SELECT d, 0, 'unknown', '{}', 0 FROM unnest($1) WITH ORDINALITY AS n (d, n) ORDER BY n \
     ON CONFLICT DO NOTHING RETURNING device_id, revision";

/// Locks the states of devices, which come in the order of their ids; what is not known of them is read.
pub(super) fn take(connection: &mut PgConnection, node: Uuid, known: &[Known]) -> Result<Locked, Fault> {
    if known.is_empty() {
        return Ok(Locked { fresh: Vec::new(), inserted: Vec::new() });
    }
    let names: Vec<&str> = known.iter().map(|(device, _)| device.as_str()).collect();
    let mut revisions = lock(connection, LOCK, &names)?;
    let missing: Vec<&str> = names.iter().copied().filter(|name| !revisions.contains_key(*name)).collect();
    let mut inserted = Vec::new();
    if !missing.is_empty() {
        let new = lock(connection, INSERT, &missing)?;
        inserted = new.keys().map(|name| listing::device_id(name)).collect::<Result<_, _>>()?;
        revisions.extend(new);
        let elsewhere: Vec<&str> = missing.into_iter().filter(|name| !revisions.contains_key(*name)).collect();
        if !elsewhere.is_empty() {
            // Another node was first, and has committed.
            revisions.extend(lock(connection, LOCK, &elsewhere)?);
        }
    }
    let is_stale = |(device, revision): &&Known| {
        // Of what is not known yet, the registry may have something to say all the same.
        *revision == 0 || revisions.get(device.as_str()) != Some(revision)
    };
    let stale: Vec<DeviceId> = known.iter().filter(is_stale).map(|(device, _)| device.clone()).collect();
    let mut fresh = if stale.is_empty() { Vec::new() } else { states::of(connection, node, &stale)? };
    if fresh.len() < stale.len() {
        // Deleted between two statements: nothing is known of it.
        let found: HashSet<DeviceId> = fresh.iter().map(|fresh| fresh.device.clone()).collect();
        let gone = stale.into_iter().filter(|device| !found.contains(device));
        fresh.extend(gone.map(|device| Fresh { device, state: DeviceState::default(), revision: 0 }));
    }
    Ok(Locked { fresh, inserted })
}

fn lock(connection: &mut PgConnection, query: &str, names: &[&str]) -> QueryResult<HashMap<String, u64>> {
    let rows: Vec<Row> = sql_query(query).bind::<Array<Text>, _>(names).load(connection)?;
    Ok(rows.into_iter().map(|row| (row.device_id, listing::count(row.revision))).collect())
}

/// Takes back the empty states of devices of which nothing is to be remembered.
pub(super) fn remove_unused(connection: &mut PgConnection, inserted: &[DeviceId], batch: &Batch) -> QueryResult<()> {
    if inserted.is_empty() {
        return Ok(());
    }
    let used: HashSet<&DeviceId> = batch.states.iter().map(|(device, _)| device).collect();
    let unused: Vec<&str> = inserted.iter().filter(|device| !used.contains(device)).map(DeviceId::as_str).collect();
    if unused.is_empty() {
        return Ok(());
    }
    sql_query("DELETE FROM device_sequence WHERE device_id = ANY ($1 COLLATE \"C\") AND revision = 0")
        .bind::<Array<Text>, _>(unused)
        .execute(connection)
        .map(drop)
}

/// The registry has changed: what nodes know of the device's state is not the latest any more. Before anything else of the
/// device is locked, as a commit does.
pub(super) fn outdate(connection: &mut PgConnection, device: &DeviceId) -> QueryResult<()> {
    sql_query("UPDATE device_sequence SET revision = revision + 1 WHERE device_id = $1 COLLATE \"C\"")
        .bind::<Text, _>(device.as_str())
        .execute(connection)
        .map(drop)
}

/// The same of many.
pub(super) fn outdate_all(connection: &mut PgConnection, devices: &[&str]) -> QueryResult<()> {
    if devices.is_empty() {
        return Ok(());
    }
    lock(connection, LOCK, devices)?;
    sql_query("UPDATE device_sequence SET revision = revision + 1 WHERE device_id = ANY ($1 COLLATE \"C\")")
        .bind::<Array<Text>, _>(devices)
        .execute(connection)
        .map(drop)
}

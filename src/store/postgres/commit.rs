//! The collector's batch: everything a run of journal records changes, in one transaction and as few statements as there
//! are kinds of change.
//!
//! Invariants: of all nodes one at a time commits what depends on a device's state (`locks`); the checkpoint moves with the
//! rows it stands for, or not at all; each node has its own. A commit is on the
//! server's disk when it returns (`synchronous_commit`), so the checkpoint is durable at once. Not all servers keep that: a
//! standby that takes over may never have had the last commits. So a batch goes on from the checkpoint it knows, or not at all.

use std::collections::HashMap;

use diesel::{
    Connection, ExpressionMethods, OptionalExtension, PgConnection, QueryDsl, QueryResult, RunQueryDsl, sql_query,
};
use uuid::Uuid;

use super::connection::Connections;
use super::engines::Schema;
use super::partitions::{self, Partitions};
use super::schema::collector_checkpoint::dsl;
use super::way::Way;
use super::{alerts, commands, devices, events, gaps, locks, rollout_steps, rollups, rules, states, telemetry};
use crate::domain::{DeviceId, Timestamp};
use crate::store::fault::Fault;
use crate::store::{Batch, Committed, Known, Planner};

/// See [`Store::commit`](crate::store::Store::commit).
pub(super) fn commit(
    connections: &Connections,
    partitions: &Partitions,
    way: &Way,
    node: Uuid,
    batch: &Batch,
) -> Result<Committed, Fault> {
    let schema = *connections.schema()?;
    let way = way_into(&schema, way);
    unless_dropped(partitions, || {
        connections.with_bulk(|connection| {
            partitions.ensure_for(connection, &schema, batch)?;
            connection.transaction(|connection| store(connection, way, node, batch))
        })
    })
}

/// See [`Store::commit_planned`](crate::store::Store::commit_planned). Partitions are made outside of the transaction: a
/// batch that needs one is planned, given up, and planned again, which happens once a day.
pub(super) fn commit_planned(
    connections: &Connections,
    partitions: &Partitions,
    way: &Way,
    node: Uuid,
    known: &[Known],
    planner: &mut dyn Planner,
) -> Result<Committed, Fault> {
    let schema = *connections.schema()?;
    let way = way_into(&schema, way);
    unless_dropped(partitions, || {
        connections.with_bulk(|connection| {
            loop {
                let mut lacks_days = false;
                let done = connection.transaction(|connection| {
                    let locked = locks::take(connection, node, known)?;
                    let batch = planner.plan(locked.fresh);
                    lacks_days = !partitions.has_all_for(&schema, batch);
                    if lacks_days {
                        return Err(Fault::Sql(diesel::result::Error::RollbackTransaction));
                    }
                    locks::remove_unused(connection, &locked.inserted, batch)?;
                    if batch.is_empty() { Ok(Committed::default()) } else { store(connection, way, node, batch) }
                });
                match done {
                    Err(_) if lacks_days => partitions.ensure_for(connection, &schema, planner.plan(Vec::new()))?,
                    done => return done,
                }
            }
        })
    })
}

/// Once more, where a row found no partition: another node has dropped the day, and late data make it again. The second try
/// is on a new connection (one that met an error is closed): what the first knew of the table may be older than the day.
fn unless_dropped(
    partitions: &Partitions,
    mut commit: impl FnMut() -> Result<Committed, Fault>,
) -> Result<Committed, Fault> {
    match commit() {
        Err(fault) if partitions::is_missing(&fault) => {
            partitions.forget();
            commit()
        }
        done => done,
    }
}

/// Straight, where Postgres keeps the table itself: what an extension makes of a COPY that is given up, on servers elsewhere
/// or in chunks, is its business.
fn way_into<'a>(schema: &Schema, way: &'a Way) -> Option<&'a Way> {
    schema.is_plain().then_some(way)
}

fn store(connection: &mut PgConnection, way: Option<&Way>, node: Uuid, batch: &Batch) -> Result<Committed, Fault> {
    register(connection, batch)?;
    let telemetry = telemetry::insert(connection, way, &batch.telemetry)?;
    let events = events::insert(connection, &batch.events)?;
    if !batch.states.is_empty() {
        states::upsert(connection, node, &batch.states)?;
    }
    gaps::upsert(connection, &batch.gaps)?;
    alerts::change(connection, &batch.alerts)?;
    rules::change_alerts(connection, &batch.rule_alerts)?;
    commands::advance(connection, &batch.commands)?;
    if telemetry > 0 {
        rollups::mark(connection, &batch.telemetry)?;
    }
    rollout_steps::hear(connection, &batch.events)?;
    if let Some(offset) = batch.checkpoint {
        set_checkpoint(connection, node, offset, batch.since)?;
    }
    let duplicates = batch.telemetry.len() + batch.events.len() - telemetry - events;
    Ok(Committed { telemetry, events, duplicates })
}

/// Registers new devices; created when the first message of the batch was received.
fn register(connection: &mut PgConnection, batch: &Batch) -> QueryResult<()> {
    if batch.registrations.is_empty() {
        return Ok(());
    }
    let telemetry = batch.telemetry.iter().map(|row| (&row.device, row.received_at));
    let events = batch.events.iter().map(|row| (&row.device, row.received_at));
    let states = batch.states.iter().filter_map(|(device, state)| Some((device, state.last_seen?)));
    let mut heard: HashMap<&DeviceId, Timestamp> = HashMap::new();
    for (device, at) in telemetry.chain(events).chain(states) {
        heard.entry(device).and_modify(|first| *first = at.min(*first)).or_insert(at);
    }
    let at = |device: &DeviceId| heard.get(device).copied().unwrap_or_default();
    let new: Vec<_> = batch.registrations.iter().map(|new| (new, at(&new.device_id))).collect();
    devices::register(connection, &new).map(drop)
}

/// The offset up to which (exclusive) everything of this node's journal is stored.
pub(super) fn checkpoint(connection: &mut PgConnection, node: Uuid) -> Result<Option<u64>, Fault> {
    let stored: Option<i64> =
        dsl::collector_checkpoint.find(node).select(dsl::next_offset).first(connection).optional()?;
    stored.map(|offset| u64::try_from(offset).map_err(|_| Fault::Corrupt("checkpoint"))).transpose()
}

fn set_checkpoint(connection: &mut PgConnection, node: Uuid, offset: u64, since: Option<u64>) -> Result<(), Fault> {
    let number = |offset: u64| i64::try_from(offset).map_err(|_| Fault::Corrupt("checkpoint"));
    let offset = number(offset)?;
    if let Some(since) = since {
        let own = dsl::collector_checkpoint.find(node).filter(dsl::next_offset.eq(number(since)?));
        let moved = diesel::update(own).set(dsl::next_offset.eq(offset)).execute(connection)?;
        return if moved == 1 { Ok(()) } else { Err(Fault::Moved) };
    }
    diesel::insert_into(dsl::collector_checkpoint)
        .values((dsl::node.eq(node), dsl::next_offset.eq(offset)))
        .on_conflict(dsl::node)
        .do_update()
        .set(dsl::next_offset.eq(offset))
        .execute(connection)?;
    Ok(())
}

/// Writes the checkpoint as it is, to see whether writing works; not while the collector is writing it.
pub(super) fn touch_checkpoint(connection: &mut PgConnection, node: Uuid) -> QueryResult<usize> {
    let own = "SELECT node FROM collector_checkpoint WHERE node = $1 FOR UPDATE SKIP LOCKED";
    sql_query(format!("UPDATE collector_checkpoint SET next_offset = next_offset WHERE node IN ({own})"))
        .bind::<diesel::sql_types::Uuid, _>(node)
        .execute(connection)
}

//! The collector's batch: everything a run of journal records changes, in one transaction.
//!
//! Invariant: the checkpoint moves with the rows it stands for, or not at all. After a power loss the database may stand at
//! an earlier commit, with that commit's checkpoint; the collector reads the journal again from there and the same rows come
//! again. This holds while the journal still has those records: it is trimmed up to
//! [`durable_checkpoint`](crate::store::Store::durable_checkpoint), never up to the checkpoint just committed.
//! A batch without a checkpoint comes from no journal record and is fsynced at once.

use std::collections::HashMap;

use diesel::sql_types::BigInt;
use diesel::{OptionalExtension, QueryDsl, QueryResult, RunQueryDsl, SqliteConnection, sql_query};

use super::connection::{Connections, Sync};
use super::fault::Fault;
use super::schema::collector_checkpoint::dsl;
use super::telemetry::Keys;
use super::{alerts, commands, devices, events, gaps, rollout_steps, rollups, rules, states, telemetry};
use crate::domain::{DeviceId, Timestamp};
use crate::store::{Batch, Committed};

/// See [`Store::commit`](crate::store::Store::commit).
pub(super) fn commit(connections: &Connections, batch: &Batch) -> Result<Committed, Fault> {
    let sync = if batch.checkpoint.is_some() { Sync::Lazy } else { Sync::Now };
    connections.write(sync, |connection| store(connection, batch))
}

fn store(connection: &mut SqliteConnection, batch: &Batch) -> Result<Committed, Fault> {
    register(connection, batch)?;
    let mut keys = Keys::default();
    let telemetry = telemetry::insert(connection, &mut keys, &batch.telemetry)?;
    let events = events::insert(connection, &mut keys, &batch.events)?;
    states::upsert(connection, &batch.states)?;
    gaps::upsert(connection, &batch.gaps)?;
    alerts::change(connection, &batch.alerts)?;
    rules::change_alerts(connection, &batch.rule_alerts)?;
    for change in &batch.commands {
        commands::advance(connection, change)?;
    }
    if telemetry > 0 {
        rollups::mark(connection, &mut keys, &batch.telemetry)?;
    }
    rollout_steps::hear(connection, &batch.events)?;
    if let Some(offset) = batch.checkpoint {
        set_checkpoint(connection, offset, batch.since)?;
    }
    let duplicates = batch.telemetry.len() + batch.events.len() - telemetry - events;
    Ok(Committed { telemetry, events, duplicates })
}

/// Registers new devices; created when the first message of the batch was received.
fn register(connection: &mut SqliteConnection, batch: &Batch) -> QueryResult<()> {
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
    for new in &batch.registrations {
        devices::register(connection, new, heard.get(&new.device_id).copied().unwrap_or_default())?;
    }
    Ok(())
}

/// The offset up to which (exclusive) everything is stored.
pub(super) fn checkpoint(connection: &mut SqliteConnection) -> Result<Option<u64>, Fault> {
    let stored: Option<i64> =
        dsl::collector_checkpoint.find(1).select(dsl::next_offset).first(connection).optional()?;
    stored.map(|offset| u64::try_from(offset).map_err(|_| Fault::Corrupt("checkpoint"))).transpose()
}

fn set_checkpoint(connection: &mut SqliteConnection, offset: u64, since: Option<u64>) -> Result<(), Fault> {
    if since.is_some() && checkpoint(connection)? != since {
        return Err(Fault::Moved);
    }
    let offset = i64::try_from(offset).map_err(|_| Fault::Corrupt("checkpoint"))?;
    sql_query(
        "INSERT INTO collector_checkpoint (id, next_offset) VALUES (1, ?) \
         ON CONFLICT (id) DO UPDATE SET next_offset = excluded.next_offset",
    )
    .bind::<BigInt, _>(offset)
    .execute(connection)?;
    Ok(())
}

//! What is taken over from an old installation; see [`Takeover`].

use std::collections::HashSet;

use diesel::sql_types::{Array, BigInt, Bool, Jsonb, Nullable, Text, Timestamptz, Uuid as UuidType};
use diesel::{ExpressionMethods, PgConnection, QueryDsl, QueryResult, QueryableByName, RunQueryDsl, sql_query};

use super::connection::View;
use super::partitions::TABLES;
use super::schema::devices as registry;
use super::types::{Time, optional};
use super::{PostgresStore, devices, locks, rollups, text};
use crate::domain::{DeviceId, Sequence, Timestamp};
use crate::store::fault::Fault;
use crate::store::{Error, OldAlert, OldCommand, OldConfig, OldDevice, TakenOver, Takeover};

impl Takeover for PostgresStore {
    fn take_over_devices(&self, devices: &[OldDevice]) -> Result<Vec<TakenOver>, Error> {
        let ids: Vec<&str> = devices.iter().map(|old| old.new.device_id.as_str()).collect();
        self.write("take over devices", |c| {
            locks::outdate_all(c, &ids)?;
            each(devices, |old| device(c, old))
        })
    }

    fn take_over_configs(&self, configs: &[OldConfig]) -> Result<Vec<TakenOver>, Error> {
        self.write("take over configurations", |c| of_devices(c, configs, |old| &old.device, config))
    }

    fn take_over_alerts(&self, alerts: &[OldAlert]) -> Result<Vec<TakenOver>, Error> {
        self.write("take over alerts", |c| of_devices(c, alerts, |old| &old.device, alert))
    }

    fn take_over_commands(&self, commands: &[OldCommand]) -> Result<Vec<TakenOver>, Error> {
        self.write("take over commands", |c| of_devices(c, commands, |old| &old.device, command))
    }

    fn received_at(&self, messages: &[(DeviceId, Timestamp, Sequence)]) -> Result<Vec<Option<Timestamp>>, Error> {
        self.read("look messages up", View::Snapshot, |c| Ok(received(c, messages)?))
    }

    fn note_archive_only(&self, before: Timestamp, measured: &[(DeviceId, Timestamp)]) -> Result<(), Error> {
        self.write("note what is in the archive alone", |c| Ok(rollups::leave_to_samples(c, before, measured)?))
    }
}

fn each<T, O>(rows: &[T], work: impl FnMut(&T) -> QueryResult<O>) -> Result<Vec<O>, Fault> {
    Ok(rows.iter().map(work).collect::<QueryResult<Vec<O>>>()?)
}

/// Takes the rows of registered devices over; `store` says how many rows it wrote.
fn of_devices<T>(
    connection: &mut PgConnection,
    rows: &[T],
    device: impl Fn(&T) -> &DeviceId,
    store: impl Fn(&mut PgConnection, &T) -> QueryResult<usize>,
) -> Result<Vec<TakenOver>, Fault> {
    let ids: Vec<&str> = rows.iter().map(|row| device(row).as_str()).collect();
    let known: Vec<String> =
        registry::table.filter(registry::device_id.eq_any(ids)).select(registry::device_id).load(connection)?;
    let known: HashSet<String> = known.into_iter().collect();
    each(rows, |row| {
        Ok(match known.contains(device(row).as_str()) {
            false => TakenOver::NoDevice,
            true if store(connection, row)? == 1 => TakenOver::Stored,
            true => TakenOver::Known,
        })
    })
}

fn device(connection: &mut PgConnection, old: &OldDevice) -> QueryResult<TakenOver> {
    if adopt(connection, old)? == 1 {
        return Ok(TakenOver::Stored);
    }
    if devices::register(connection, &[(&old.new, old.created_at)])? == 0 {
        return Ok(TakenOver::Known);
    }
    let row = registry::table.filter(registry::device_id.eq(old.new.device_id.as_str()));
    diesel::update(row).set(registry::updated_at.eq(Time(old.updated_at))).execute(connection)?;
    Ok(TakenOver::Stored)
}

/// Gives a device that was only heard of so far, and is still as it was found, what the old registry says of it.
fn adopt(connection: &mut PgConnection, old: &OldDevice) -> QueryResult<usize> {
    let new = &old.new;
    sql_query(
        "UPDATE devices SET device_name = $1, device_type = $2, location = $3, is_active = $4, metadata = $5, \
         created_at = least(created_at, $6), updated_at = $7, version = version + 1 \
         WHERE device_id = $8 COLLATE \"C\" AND updated_at = created_at AND NOT is_active AND token_sha256 IS NULL AND device_name = device_id \
         AND location IS NULL AND metadata = '{\"quarantined\": true}'",
    )
    .bind::<Text, _>(text::plain(&new.device_name))
    .bind::<Text, _>(text::plain(&new.device_type))
    .bind::<Nullable<Text>, _>(new.location.as_deref().map(text::plain))
    .bind::<Bool, _>(new.is_active)
    .bind::<Jsonb, _>(text::object(&new.metadata))
    .bind::<Timestamptz, _>(Time(old.created_at))
    .bind::<Timestamptz, _>(Time(old.updated_at))
    .bind::<Text, _>(new.device_id.as_str())
    .execute(connection)
}

fn config(connection: &mut PgConnection, old: &OldConfig) -> QueryResult<usize> {
    sql_query(
        "INSERT INTO device_configs AS c \
         (device_id, sampling_cadence_ms, send_interval_s, hello_interval_s, brokers, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (device_id) DO UPDATE SET \
         sampling_cadence_ms = coalesce(c.sampling_cadence_ms, excluded.sampling_cadence_ms), \
         send_interval_s = coalesce(c.send_interval_s, excluded.send_interval_s), \
         hello_interval_s = coalesce(c.hello_interval_s, excluded.hello_interval_s), \
         brokers = coalesce(c.brokers, excluded.brokers) \
         WHERE (c.sampling_cadence_ms IS NULL AND excluded.sampling_cadence_ms IS NOT NULL) \
         OR (c.send_interval_s IS NULL AND excluded.send_interval_s IS NOT NULL) \
         OR (c.hello_interval_s IS NULL AND excluded.hello_interval_s IS NOT NULL) \
         OR (c.brokers IS NULL AND excluded.brokers IS NOT NULL)",
    )
    .bind::<Text, _>(old.device.as_str())
    .bind::<Nullable<BigInt>, _>(old.sampling_cadence_ms)
    .bind::<Nullable<BigInt>, _>(old.send_interval_s)
    .bind::<Nullable<BigInt>, _>(old.hello_interval_s)
    .bind::<Nullable<Jsonb>, _>(old.brokers.as_ref())
    .bind::<Timestamptz, _>(Time(old.updated_at))
    .execute(connection)
}

fn alert(connection: &mut PgConnection, old: &OldAlert) -> QueryResult<usize> {
    let (acknowledged_at, acknowledged_by) = old.acknowledged.as_ref().map(|(at, by)| (*at, text::plain(by))).unzip();
    sql_query(
        "INSERT INTO device_alerts (device_id, alert_type, severity, message, is_builtin, created_at, cleared_at, \
         acknowledged_at, acknowledged_by) SELECT $1, $2, $3, $4, false, $5, $6, $7, $8 WHERE NOT EXISTS (\
         SELECT 1 FROM device_alerts WHERE device_id = $1 COLLATE \"C\" AND alert_type = $2 AND message = $4 \
         AND created_at = $5)",
    )
    .bind::<Text, _>(old.device.as_str())
    .bind::<Text, _>(text::plain(&old.alert_type))
    .bind::<Text, _>(text::plain(&old.severity))
    .bind::<Text, _>(text::plain(&old.message))
    .bind::<Timestamptz, _>(Time(old.created_at))
    .bind::<Nullable<Timestamptz>, _>(optional(old.cleared_at))
    .bind::<Nullable<Timestamptz>, _>(optional(acknowledged_at))
    .bind::<Nullable<Text>, _>(acknowledged_by)
    .execute(connection)
}

fn command(connection: &mut PgConnection, old: &OldCommand) -> QueryResult<usize> {
    sql_query(
        "INSERT INTO device_commands (cmd_id, device_id, cmd, params, status, detail, created_at, created_by, expires_at, \
         sent_at, finished_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $7, $9, $10) ON CONFLICT DO NOTHING",
    )
    .bind::<UuidType, _>(old.cmd_id.0)
    .bind::<Text, _>(old.device.as_str())
    .bind::<Text, _>(text::plain(&old.cmd))
    .bind::<Jsonb, _>(text::object(&old.params))
    .bind::<Text, _>(old.status.name())
    .bind::<Nullable<Text>, _>(old.detail.as_deref().map(text::plain))
    .bind::<Timestamptz, _>(Time(old.created_at))
    .bind::<Text, _>(text::plain(&old.created_by))
    .bind::<Nullable<Timestamptz>, _>(optional(old.sent_at))
    .bind::<Nullable<Timestamptz>, _>(optional(old.finished_at))
    .execute(connection)
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = BigInt)]
    place: i64,
    #[diesel(sql_type = Timestamptz)]
    received_at: Time,
}

/// All at once; the first and last time say which days are looked into.
fn received(
    connection: &mut PgConnection,
    messages: &[(DeviceId, Timestamp, Sequence)],
) -> QueryResult<Vec<Option<Timestamp>>> {
    let mut received = vec![None; messages.len()];
    let times = || messages.iter().map(|(_, ts, _)| *ts);
    let (Some(first), Some(last)) = (times().min(), times().max()) else { return Ok(received) };
    for table in TABLES {
        let found: Vec<Found> = sql_query(format!(
            "SELECT w.place, t.received_at FROM unnest($1, $2, $3) WITH ORDINALITY AS w (device_id, ts, seq, place) \
             JOIN {table} AS t ON t.device_id = w.device_id COLLATE \"C\" AND t.ts = w.ts AND t.seq = w.seq \
             WHERE t.ts BETWEEN $4 AND $5"
        ))
        .bind::<Array<Text>, _>(messages.iter().map(|(device, ..)| device.as_str()).collect::<Vec<_>>())
        .bind::<Array<Timestamptz>, _>(times().map(Time).collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(messages.iter().map(|(.., seq)| seq.to_i64()).collect::<Vec<_>>())
        .bind::<Timestamptz, _>(Time(first))
        .bind::<Timestamptz, _>(Time(last))
        .load(connection)?;
        for Found { place, received_at } in found {
            let place = usize::try_from(place - 1).ok().and_then(|place| received.get_mut(place));
            place.into_iter().for_each(|slot| *slot = Some(received_at.0));
        }
    }
    Ok(received)
}

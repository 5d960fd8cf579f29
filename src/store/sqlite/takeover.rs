//! What is taken over from an old installation; see [`Takeover`].

use diesel::sql_types::{BigInt, Bool, Nullable, Text};
use diesel::{ExpressionMethods, QueryDsl, QueryResult, QueryableByName, RunQueryDsl, SqliteConnection, sql_query};

use super::fault::Fault;
use super::schema::devices as registry;
use super::telemetry::find_key;
use super::{SqliteStore, devices, rollups};
use crate::domain::{DeviceId, Sequence, Timestamp};
use crate::store::{Error, OldAlert, OldCommand, OldConfig, OldDevice, TakenOver, Takeover};

impl Takeover for SqliteStore {
    fn take_over_devices(&self, devices: &[OldDevice]) -> Result<Vec<TakenOver>, Error> {
        self.write("take over devices", |c| each(devices, |old| device(c, old)))
    }

    fn take_over_configs(&self, configs: &[OldConfig]) -> Result<Vec<TakenOver>, Error> {
        self.write("take over configurations", |c| {
            each(configs, |old| of_device(c, &old.device, |c| Ok(config(c, old)? == 1)))
        })
    }

    fn take_over_alerts(&self, alerts: &[OldAlert]) -> Result<Vec<TakenOver>, Error> {
        self.write("take over alerts", |c| each(alerts, |old| of_device(c, &old.device, |c| Ok(alert(c, old)? == 1))))
    }

    fn take_over_commands(&self, commands: &[OldCommand]) -> Result<Vec<TakenOver>, Error> {
        self.write("take over commands", |c| {
            each(commands, |old| of_device(c, &old.device, |c| Ok(command(c, old)? == 1)))
        })
    }

    fn received_at(&self, messages: &[(DeviceId, Timestamp, Sequence)]) -> Result<Vec<Option<Timestamp>>, Error> {
        self.read("look messages up", |c| each(messages, |(device, ts, seq)| received(c, device, *ts, *seq)))
    }

    fn note_archive_only(&self, before: Timestamp, measured: &[(DeviceId, Timestamp)]) -> Result<(), Error> {
        self.write("note what is in the archive alone", |c| rollups::leave_to_samples(c, before, measured))
    }
}

fn each<T, O>(rows: &[T], work: impl FnMut(&T) -> QueryResult<O>) -> Result<Vec<O>, Fault> {
    Ok(rows.iter().map(work).collect::<QueryResult<Vec<O>>>()?)
}

/// Takes a row of a device over, if the device is registered.
fn of_device(
    connection: &mut SqliteConnection,
    device: &DeviceId,
    store: impl FnOnce(&mut SqliteConnection) -> QueryResult<bool>,
) -> QueryResult<TakenOver> {
    Ok(match devices::exists(connection, device)? {
        false => TakenOver::NoDevice,
        true if store(connection)? => TakenOver::Stored,
        true => TakenOver::Known,
    })
}

fn device(connection: &mut SqliteConnection, old: &OldDevice) -> QueryResult<TakenOver> {
    if adopt(connection, old)? == 1 {
        return Ok(TakenOver::Stored);
    }
    if !devices::register(connection, &old.new, old.created_at)? {
        return Ok(TakenOver::Known);
    }
    let row = registry::table.filter(registry::device_id.eq(old.new.device_id.as_str()));
    diesel::update(row).set(registry::updated_at.eq(old.updated_at.0)).execute(connection)?;
    Ok(TakenOver::Stored)
}

/// Gives a device that was only heard of so far, and is still as it was found, what the old registry says of it.
fn adopt(connection: &mut SqliteConnection, old: &OldDevice) -> QueryResult<usize> {
    let new = &old.new;
    sql_query(
        "UPDATE devices SET device_name = ?, device_type = ?, location = ?, is_active = ?, metadata = ?, \
         created_at = min(created_at, ?), updated_at = ?, version = version + 1 \
         WHERE device_id = ? AND updated_at = created_at AND NOT is_active AND token_sha256 IS NULL AND device_name = device_id AND location IS NULL \
         AND json(metadata) = '{\"quarantined\":true}'",
    )
    .bind::<Text, _>(&new.device_name)
    .bind::<Text, _>(&new.device_type)
    .bind::<Nullable<Text>, _>(new.location.as_deref())
    .bind::<Bool, _>(new.is_active)
    .bind::<Text, _>(serde_json::json!(new.metadata).to_string())
    .bind::<BigInt, _>(old.created_at.0)
    .bind::<BigInt, _>(old.updated_at.0)
    .bind::<Text, _>(new.device_id.as_str())
    .execute(connection)
}

fn config(connection: &mut SqliteConnection, old: &OldConfig) -> QueryResult<usize> {
    sql_query(
        "INSERT INTO device_configs AS c \
         (device_id, sampling_cadence_ms, send_interval_s, hello_interval_s, brokers, updated_at) \
         VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (device_id) DO UPDATE SET \
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
    .bind::<Nullable<Text>, _>(old.brokers.as_ref().map(ToString::to_string))
    .bind::<BigInt, _>(old.updated_at.0)
    .execute(connection)
}

fn alert(connection: &mut SqliteConnection, old: &OldAlert) -> QueryResult<usize> {
    let (acknowledged_at, acknowledged_by) = old.acknowledged.as_ref().map(|(at, by)| (at.0, by.as_str())).unzip();
    sql_query(
        "INSERT INTO device_alerts (device_id, alert_type, severity, message, is_builtin, created_at, cleared_at, \
         acknowledged_at, acknowledged_by) SELECT ?1, ?2, ?3, ?4, 0, ?5, ?6, ?7, ?8 WHERE NOT EXISTS (\
         SELECT 1 FROM device_alerts WHERE device_id = ?1 AND alert_type = ?2 AND message = ?4 AND created_at = ?5)",
    )
    .bind::<Text, _>(old.device.as_str())
    .bind::<Text, _>(&old.alert_type)
    .bind::<Text, _>(&old.severity)
    .bind::<Text, _>(&old.message)
    .bind::<BigInt, _>(old.created_at.0)
    .bind::<Nullable<BigInt>, _>(old.cleared_at.map(|at| at.0))
    .bind::<Nullable<BigInt>, _>(acknowledged_at)
    .bind::<Nullable<Text>, _>(acknowledged_by)
    .execute(connection)
}

fn command(connection: &mut SqliteConnection, old: &OldCommand) -> QueryResult<usize> {
    sql_query(
        "INSERT INTO device_commands (cmd_id, device_id, cmd, params, status, detail, created_at, created_by, expires_at, \
         sent_at, finished_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?7, ?9, ?10) ON CONFLICT DO NOTHING",
    )
    .bind::<Text, _>(old.cmd_id.to_string())
    .bind::<Text, _>(old.device.as_str())
    .bind::<Text, _>(&old.cmd)
    .bind::<Text, _>(serde_json::json!(old.params).to_string())
    .bind::<Text, _>(old.status.name())
    .bind::<Nullable<Text>, _>(old.detail.as_deref())
    .bind::<BigInt, _>(old.created_at.0)
    .bind::<Text, _>(&old.created_by)
    .bind::<Nullable<BigInt>, _>(old.sent_at.map(|at| at.0))
    .bind::<Nullable<BigInt>, _>(old.finished_at.map(|at| at.0))
    .execute(connection)
}

fn received(
    connection: &mut SqliteConnection,
    device: &DeviceId,
    ts: Timestamp,
    seq: Sequence,
) -> QueryResult<Option<Timestamp>> {
    let Some(key) = find_key(connection, device)? else { return Ok(None) };
    let found: Vec<Found> = sql_query(
        "SELECT received_at FROM telemetry WHERE device_key = ?1 AND ts = ?2 AND seq = ?3 \
         UNION ALL SELECT received_at FROM device_events WHERE device_key = ?1 AND ts = ?2 AND seq = ?3",
    )
    .bind::<BigInt, _>(key)
    .bind::<BigInt, _>(ts.0)
    .bind::<BigInt, _>(seq.to_i64())
    .load(connection)?;
    Ok(found.first().map(|found| Timestamp(found.received_at)))
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = BigInt)]
    received_at: i64,
}

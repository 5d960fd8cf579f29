//! What is remembered of each meter: read in bulk when the collector meets devices, written once a batch.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use diesel::sql_types::{BigInt, Bool, Nullable, Text};
use diesel::{QueryDsl, QueryResult, QueryableByName, RunQueryDsl, SqliteConnection, sql_query};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::fault::Fault;
use super::schema::device_sequence;
use super::statement::statement;
use super::{gaps, listing};
use crate::domain::device::{Intervals, Latest};
use crate::domain::presence::Connection;
use crate::domain::sequence::SequenceState;
use crate::domain::{DeviceId, DeviceState, Metric, Registration, Timestamp};
use crate::store::rule_rows;

/// Ids asked for at once.
const CHUNK: usize = 10_000;

statement! {
    /// The state of a device, whole.
    UpsertState:
    "INSERT INTO device_sequence (device_id, head_seq, head_ts, reboots, connection_status, last_seen, fw_version, \
     latest, span_us, rules) VALUES (",
    ") ON CONFLICT (device_id) DO UPDATE SET head_seq = excluded.head_seq, head_ts = excluded.head_ts, \
     reboots = excluded.reboots, connection_status = excluded.connection_status, last_seen = excluded.last_seen, \
     fw_version = excluded.fw_version, latest = excluded.latest, span_us = excluded.span_us, \
     rules = excluded.rules";
    device_id: &'a str => Text,
    head_seq: Option<i64> => Nullable<BigInt>,
    head_ts: Option<i64> => Nullable<BigInt>,
    reboots: i64 => BigInt,
    connection_status: &'a str => Text,
    last_seen: Option<i64> => Nullable<BigInt>,
    fw_version: Option<&'a str> => Nullable<Text>,
    latest: &'a str => Text,
    span_us: i64 => BigInt,
    rules: Option<&'a str> => Nullable<Text>,
}

/// A member of `latest`, as written …
#[derive(Serialize)]
struct Newest<'a> {
    ts: i64,
    value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
}

/// … and as read: the number as text, so that it reads back to the same bits.
#[derive(Deserialize)]
struct Stored<'a> {
    ts: i64,
    #[serde(borrow)]
    value: &'a RawValue,
    #[serde(borrow, default)]
    unit: Option<Cow<'a, str>>,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    device_id: String,
    #[diesel(sql_type = Nullable<Bool>)]
    is_active: Option<bool>,
    #[diesel(sql_type = Nullable<Text>)]
    device_type: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    send_interval_s: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    hello_interval_s: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    head_seq: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    head_ts: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    reboots: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    connection_status: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    last_seen: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    fw_version: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    latest: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    span_us: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    rules: Option<String>,
}

const FIELDS: &str = "d.is_active, d.device_type, c.send_interval_s, c.hello_interval_s, s.head_seq, s.head_ts, s.reboots, \
                      s.connection_status, s.last_seen, s.fw_version, s.latest, \
                      max(coalesce(s.span_us, 0), coalesce(k.span_us, 0)) AS span_us, s.rules";

/// Writes states, whole; in key order.
pub(super) fn upsert(connection: &mut SqliteConnection, states: &[(DeviceId, DeviceState)]) -> QueryResult<()> {
    let mut sorted: Vec<_> = states.iter().collect();
    sorted.sort_unstable_by_key(|(device, _)| device.as_str());
    let mut latest = Vec::new();
    for (device, state) in sorted {
        latest.clear();
        let newest = |l: &Latest| (l.ts.0, l.value);
        let members: BTreeMap<&str, Newest<'_>> = (state.latest.iter())
            .map(|(metric, l)| (metric.name(), newest(l), l.unit.as_deref()))
            .map(|(name, (ts, value), unit)| (name, Newest { ts, value, unit }))
            .collect();
        serde_json::to_writer(&mut latest, &members).expect("numbers and texts under text keys always fit JSON");
        let rules = rule_rows::holdings_text(&state.rules);
        let statement = UpsertState {
            device_id: device.as_str(),
            head_seq: state.sequence.head.map(|(seq, _)| seq.into()),
            head_ts: state.sequence.head.map(|(_, ts)| ts.0),
            reboots: i64::try_from(state.sequence.reboots).unwrap_or(i64::MAX),
            connection_status: state.connection.name(),
            last_seen: state.last_seen.map(|at| at.0),
            fw_version: state.fw_version.as_deref(),
            latest: std::str::from_utf8(&latest).expect("JSON was written there"),
            span_us: state.span_us,
            rules: rules.as_deref(),
        };
        statement.execute(connection)?;
    }
    Ok(())
}

/// See [`Store::device_states`](crate::store::Store::device_states).
pub(super) fn of(connection: &mut SqliteConnection, ids: &[DeviceId]) -> Result<Vec<(DeviceId, DeviceState)>, Fault> {
    let query = format!(
        "SELECT j.value AS device_id, {FIELDS} FROM json_each(?) AS j \
         LEFT JOIN devices AS d ON d.device_id = j.value \
         LEFT JOIN device_configs AS c ON c.device_id = j.value \
         LEFT JOIN device_sequence AS s ON s.device_id = j.value \
         LEFT JOIN kept_spans AS k ON k.device_id = j.value \
         WHERE d.device_id IS NOT NULL OR s.device_id IS NOT NULL"
    );
    let mut found = Vec::with_capacity(ids.len());
    for chunk in ids.chunks(CHUNK) {
        let names: Vec<&str> = chunk.iter().map(DeviceId::as_str).collect();
        let names = serde_json::json!(names).to_string();
        let rows: Vec<Row> = sql_query(&query).bind::<Text, _>(names).load(connection)?;
        for row in rows {
            found.push(read(connection, row)?);
        }
    }
    Ok(found)
}

/// See [`Store::online_devices`](crate::store::Store::online_devices).
pub(super) fn online(connection: &mut SqliteConnection) -> Result<Vec<(DeviceId, DeviceState)>, Fault> {
    let query = format!(
        "SELECT s.device_id AS device_id, {FIELDS} FROM device_sequence AS s \
         LEFT JOIN devices AS d ON d.device_id = s.device_id \
         LEFT JOIN device_configs AS c ON c.device_id = s.device_id \
         LEFT JOIN kept_spans AS k ON k.device_id = s.device_id \
         WHERE s.connection_status = 'online'"
    );
    let rows: Vec<Row> = sql_query(query).load(connection)?;
    rows.into_iter().map(|row| read(connection, row)).collect()
}

/// Removes a device's state. How far samples lie from their messages is kept, for measurements that stay.
pub(super) fn remove(connection: &mut SqliteConnection, device: &DeviceId) -> QueryResult<()> {
    sql_query(
        "INSERT INTO kept_spans (device_id, span_us) SELECT device_id, span_us FROM device_sequence \
         WHERE device_id = ? AND span_us > 0 \
         ON CONFLICT (device_id) DO UPDATE SET span_us = max(span_us, excluded.span_us)",
    )
    .bind::<Text, _>(device.as_str())
    .execute(connection)?;
    diesel::delete(device_sequence::table.find(device.as_str())).execute(connection).map(drop)
}

/// Forgets that too: no measurement is left.
pub(super) fn forget_span(connection: &mut SqliteConnection, device: &DeviceId) -> QueryResult<()> {
    let forget = "DELETE FROM kept_spans WHERE device_id = ?";
    sql_query(forget).bind::<Text, _>(device.as_str()).execute(connection).map(drop)
}

fn read(connection: &mut SqliteConnection, row: Row) -> Result<(DeviceId, DeviceState), Fault> {
    let head_seq = row.head_seq.map(u32::try_from).transpose().map_err(|_| CORRUPT)?;
    let status = row.connection_status.as_deref();
    let state = DeviceState {
        registration: row.is_active.map(|is_active| Registration {
            is_active,
            intervals: intervals(row.send_interval_s, row.hello_interval_s),
            device_type: row.device_type.unwrap_or_default().into(),
        }),
        sequence: SequenceState {
            head: head_seq.zip(row.head_ts.map(Timestamp)),
            reboots: listing::count(row.reboots.unwrap_or(0)),
            open: gaps::open(connection, &row.device_id)?,
            ..SequenceState::default()
        },
        connection: status.map_or(Some(Connection::Unknown), Connection::from_name).ok_or(CORRUPT)?,
        last_seen: listing::time(row.last_seen),
        heard: Default::default(),
        fw_version: row.fw_version,
        doubtful_fw: None,
        latest: row.latest.as_deref().map_or(Ok(BTreeMap::new()), latest)?,
        span_us: row.span_us.unwrap_or(0),
        rules: row.rules.as_deref().map_or(Ok(BTreeMap::new()), rule_rows::holdings)?,
    };
    Ok((listing::device_id(&row.device_id)?, state))
}

const CORRUPT: Fault = Fault::Corrupt("device state");

/// What is configured; else, or when it is out of range, the default.
fn intervals(send_interval_s: Option<i64>, hello_interval_s: Option<i64>) -> Intervals {
    let default = Intervals::default();
    let within = |stored: Option<i64>, range: std::ops::RangeInclusive<u32>, default: u32| {
        stored.and_then(|s| u32::try_from(s).ok()).filter(|s| range.contains(s)).unwrap_or(default)
    };
    Intervals {
        send_interval_s: within(send_interval_s, 1..=3600, default.send_interval_s),
        hello_interval_s: within(hello_interval_s, 5..=3600, default.hello_interval_s),
    }
}

fn latest(text: &str) -> Result<BTreeMap<Metric, Latest>, Fault> {
    let members: BTreeMap<Cow<'_, str>, Stored<'_>> = serde_json::from_str(text).map_err(|_| CORRUPT)?;
    let read = |(name, stored): (Cow<'_, str>, Stored<'_>)| {
        let value = stored.value.get().parse().ok().filter(|value: &f64| value.is_finite()).ok_or(CORRUPT)?;
        let unit = stored.unit.map(|unit| Arc::from(&*unit));
        Ok((Metric::parse(&name).ok_or(CORRUPT)?, Latest { ts: Timestamp(stored.ts), value, unit }))
    };
    members.into_iter().map(read).collect()
}

//! What is remembered of each meter: read in bulk when the collector meets devices, written once a batch, all at once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use diesel::sql_types::{Array, BigInt, Bool, Json, Nullable, Text, Timestamptz};
use diesel::{PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::types::{JsonText, Time, optional};
use super::{gaps, shared, text};
use crate::domain::device::{Intervals, Latest};
use crate::domain::hearing::Hearings;
use crate::domain::presence::Connection;
use crate::domain::sequence::{Gap, Hints, SequenceState};
use crate::domain::{DeviceId, DeviceState, Metric, Registration, Timestamp};
use crate::store::Fresh;
use crate::store::fault::Fault;
use crate::store::{listing, rule_rows};

/// Ids asked for at once.
const CHUNK: usize = 10_000;

/// A first revision is the time, so that one of a device deleted and heard again is not taken for an earlier one.
const UPSERT: &str = "INSERT INTO device_sequence AS old (device_id, head_seq, head_ts, reboots, connection_status, \
     last_seen, fw_version, latest, span_us, hints, heard, rules, revision) \
     SELECT d, q, t, r, c, s, f, l::json, p, i::json, h::json, u::json, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint \
     FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
     AS n (d, q, t, r, c, s, f, l, p, i, h, u) ON CONFLICT (device_id) DO UPDATE SET head_seq = excluded.head_seq, \
     head_ts = excluded.head_ts, reboots = excluded.reboots, connection_status = excluded.connection_status, \
     last_seen = excluded.last_seen, fw_version = excluded.fw_version, latest = excluded.latest, \
     span_us = excluded.span_us, hints = excluded.hints, heard = excluded.heard, \
     rules = excluded.rules, \
     revision = CASE old.revision WHEN 0 THEN excluded.revision ELSE old.revision + 1 END";

/// A member of `latest`.
#[derive(Serialize, Deserialize)]
struct Newest {
    ts: i64,
    value: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit: Option<Arc<str>>,
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
    #[diesel(sql_type = Nullable<Timestamptz>)]
    head_ts: Option<Time>,
    #[diesel(sql_type = Nullable<BigInt>)]
    reboots: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    connection_status: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    last_seen: Option<Time>,
    #[diesel(sql_type = Nullable<Text>)]
    fw_version: Option<String>,
    #[diesel(sql_type = Nullable<Json>)]
    latest: Option<JsonText>,
    #[diesel(sql_type = Nullable<BigInt>)]
    span_us: Option<i64>,
    #[diesel(sql_type = Nullable<Json>)]
    hints: Option<JsonText>,
    #[diesel(sql_type = Nullable<Json>)]
    heard: Option<JsonText>,
    #[diesel(sql_type = Nullable<Json>)]
    rules: Option<JsonText>,
    #[diesel(sql_type = Nullable<BigInt>)]
    revision: Option<i64>,
}

const FIELDS: &str = "d.is_active, d.device_type, c.send_interval_s, c.hello_interval_s, s.head_seq, s.head_ts, s.reboots, \
                      s.connection_status, s.last_seen, s.fw_version, s.latest, greatest(s.span_us, k.span_us) AS span_us, \
                      s.hints, s.heard, s.rules, s.revision";

/// Writes states, whole; in key order, so that nodes do not wait for each other in a circle.
pub(super) fn upsert(connection: &mut PgConnection, node: Uuid, states: &[(DeviceId, DeviceState)]) -> QueryResult<()> {
    let mut sorted: Vec<_> = states.iter().collect();
    sorted.sort_unstable_by_key(|(device, _)| device.as_str());
    for part in sorted.chunks(CHUNK) {
        let of = |state: &DeviceState| i64::try_from(state.sequence.reboots).unwrap_or(i64::MAX);
        let head = |state: &DeviceState| state.sequence.head;
        let firmware =
            |state: &DeviceState| state.fw_version.as_deref().map(|version| text::plain(version).into_owned());
        sql_query(UPSERT)
            .bind::<Array<Text>, _>(part.iter().map(|(device, _)| device.as_str()).collect::<Vec<_>>())
            .bind::<Array<Nullable<BigInt>>, _>(column(part, |s| head(s).map(|(seq, _)| i64::from(seq))))
            .bind::<Array<Nullable<Timestamptz>>, _>(column(part, |s| head(s).map(|(_, ts)| Time(ts))))
            .bind::<Array<BigInt>, _>(column(part, of))
            .bind::<Array<Text>, _>(column(part, |s| s.connection.name()))
            .bind::<Array<Nullable<Timestamptz>>, _>(column(part, |s| optional(s.last_seen)))
            .bind::<Array<Nullable<Text>>, _>(column(part, firmware))
            .bind::<Array<Text>, _>(column(part, |s| latest_text(&s.latest)))
            .bind::<Array<BigInt>, _>(column(part, |s| s.span_us))
            .bind::<Array<Nullable<Text>>, _>(column(part, |s| shared::hints_text(&s.sequence.hints)))
            .bind::<Array<Nullable<Text>>, _>(column(part, |s| shared::heard_text(node, &s.heard)))
            .bind::<Array<Nullable<Text>>, _>(column(part, |s| rule_rows::holdings_text(&s.rules)))
            .execute(connection)?;
    }
    Ok(())
}

fn column<T>(states: &[&(DeviceId, DeviceState)], value: impl Fn(&DeviceState) -> T) -> Vec<T> {
    states.iter().map(|(_, state)| value(state)).collect()
}

fn latest_text(latest: &BTreeMap<Metric, Latest>) -> String {
    let newest = |l: &Latest| Newest { ts: l.ts.0, value: l.value, unit: l.unit.clone() };
    let members: BTreeMap<&str, Newest> = latest.iter().map(|(metric, l)| (metric.name(), newest(l))).collect();
    let text = serde_json::to_string(&members).expect("numbers and texts under text keys always fit JSON");
    text::json(&text).into_owned()
}

/// See [`Store::device_states`](crate::store::Store::device_states).
pub(super) fn of(connection: &mut PgConnection, node: Uuid, ids: &[DeviceId]) -> Result<Vec<Fresh>, Fault> {
    let query = format!(
        "SELECT j.id AS device_id, {FIELDS} FROM (SELECT id COLLATE \"C\" AS id FROM unnest($1) AS u (id)) AS j \
         LEFT JOIN devices AS d ON d.device_id = j.id \
         LEFT JOIN device_configs AS c ON c.device_id = j.id \
         LEFT JOIN device_sequence AS s ON s.device_id = j.id \
         LEFT JOIN kept_spans AS k ON k.device_id = j.id \
         WHERE d.device_id IS NOT NULL OR s.device_id IS NOT NULL"
    );
    let mut found = Vec::with_capacity(ids.len());
    for chunk in ids.chunks(CHUNK) {
        let names: Vec<&str> = chunk.iter().map(DeviceId::as_str).collect();
        let rows: Vec<Row> = sql_query(&query).bind::<Array<Text>, _>(&names).load(connection)?;
        let mut open = gaps::open(connection, &names)?;
        for row in rows {
            found.push(read(&mut open, node, row)?);
        }
    }
    Ok(found)
}

/// See [`Store::online_devices`](crate::store::Store::online_devices).
pub(super) fn online(connection: &mut PgConnection, node: Uuid) -> Result<Vec<Fresh>, Fault> {
    let query = format!(
        "SELECT s.device_id AS device_id, {FIELDS} FROM device_sequence AS s \
         LEFT JOIN devices AS d ON d.device_id = s.device_id \
         LEFT JOIN device_configs AS c ON c.device_id = s.device_id \
         LEFT JOIN kept_spans AS k ON k.device_id = s.device_id \
         WHERE s.connection_status = 'online'"
    );
    let rows: Vec<Row> = sql_query(query).load(connection)?;
    let names: Vec<&str> = rows.iter().map(|row| row.device_id.as_str()).collect();
    let mut open = gaps::open(connection, &names)?;
    rows.into_iter().map(|row| read(&mut open, node, row)).collect()
}

/// Removes a device's state. How far samples lie from their messages is kept, for measurements that stay.
pub(super) fn remove(connection: &mut PgConnection, device: &DeviceId) -> QueryResult<()> {
    sql_query(
        "WITH gone AS (DELETE FROM device_sequence WHERE device_id = $1 COLLATE \"C\" RETURNING device_id, span_us) \
         INSERT INTO kept_spans AS k (device_id, span_us) SELECT device_id, span_us FROM gone WHERE span_us > 0 \
         ON CONFLICT (device_id) DO UPDATE SET span_us = greatest(k.span_us, excluded.span_us)",
    )
    .bind::<Text, _>(device.as_str())
    .execute(connection)
    .map(drop)
}

/// Forgets that too: no measurement is left.
pub(super) fn forget_span(connection: &mut PgConnection, device: &DeviceId) -> QueryResult<()> {
    let forget = "DELETE FROM kept_spans WHERE device_id = $1 COLLATE \"C\"";
    sql_query(forget).bind::<Text, _>(device.as_str()).execute(connection).map(drop)
}

fn read(open: &mut HashMap<String, Vec<Gap>>, node: Uuid, row: Row) -> Result<Fresh, Fault> {
    let head_seq = row.head_seq.map(u32::try_from).transpose().map_err(|_| CORRUPT)?;
    let status = row.connection_status.as_deref();
    let state = DeviceState {
        registration: row.is_active.map(|is_active| Registration {
            is_active,
            intervals: intervals(row.send_interval_s, row.hello_interval_s),
            device_type: row.device_type.unwrap_or_default().into(),
        }),
        sequence: SequenceState {
            head: head_seq.zip(row.head_ts.map(|at| at.0)),
            reboots: listing::count(row.reboots.unwrap_or(0)),
            open: open.remove(&row.device_id).unwrap_or_default(),
            hints: row.hints.map_or(Ok(Hints::default()), |JsonText(text)| shared::hints(&text))?,
        },
        connection: status.map_or(Some(Connection::Unknown), Connection::from_name).ok_or(CORRUPT)?,
        last_seen: row.last_seen.map(|at| at.0),
        heard: row.heard.map_or(Ok(Hearings::default()), |JsonText(text)| shared::heard(node, &text))?,
        fw_version: row.fw_version,
        doubtful_fw: None,
        latest: row.latest.map_or(Ok(BTreeMap::new()), |JsonText(text)| latest(&text))?,
        span_us: row.span_us.unwrap_or(0),
        rules: row.rules.map_or(Ok(BTreeMap::new()), |JsonText(text)| rule_rows::holdings(&text))?,
    };
    Ok(Fresh {
        device: listing::device_id(&row.device_id)?,
        state,
        revision: listing::count(row.revision.unwrap_or(0)),
    })
}

pub(super) const CORRUPT: Fault = Fault::Corrupt("device state");

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
    let members: BTreeMap<String, Newest> = serde_json::from_str(text).map_err(|_| CORRUPT)?;
    let read = |(name, Newest { ts, value, unit }): (String, Newest)| {
        Ok((Metric::parse(&name).ok_or(CORRUPT)?, Latest { ts: Timestamp(ts), value, unit }))
    };
    members.into_iter().map(read).collect()
}

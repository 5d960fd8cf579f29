//! Alerts: raised and cleared by the system (one open a device and kind), or added by hand.

use std::collections::HashMap;
use std::hash::Hash;

use diesel::pg::Pg;
use diesel::prelude::Insertable;
use diesel::sql_types::{Array, Text, Timestamptz};
use diesel::{
    BoolExpressionMethods, ExpressionMethods, OptionalExtension, PgConnection, QueryDsl, QueryResult, Queryable,
    RunQueryDsl, sql_query,
};

use super::schema::device_alerts::{self, dsl};
use super::types::Time;
use super::{devices, text};
use crate::domain::alert::{AlertKind, SUPERSEDED};
use crate::domain::rule::RuleId;
use crate::domain::{DeviceId, Timestamp};
use crate::store::fault::Fault;
use crate::store::listing::{self, Part};
use crate::store::{Alert, AlertChange, AlertFilter, Listing, NewAlert, Page, Place};

#[derive(Queryable)]
struct Row {
    id: i64,
    device_id: String,
    alert_type: String,
    severity: String,
    message: String,
    _is_builtin: bool,
    created_at: Time,
    cleared_at: Option<Time>,
    acknowledged_at: Option<Time>,
    acknowledged_by: Option<String>,
    rule_id: Option<i64>,
    cleared_reason: Option<String>,
}

#[derive(Insertable)]
#[diesel(table_name = device_alerts)]
struct New<'a> {
    device_id: &'a str,
    alert_type: &'a str,
    severity: &'a str,
    message: &'a str,
    is_builtin: bool,
    created_at: Time,
}

fn read(row: Row) -> Result<Alert, Fault> {
    Ok(Alert {
        id: row.id,
        device_id: listing::device_id(&row.device_id)?,
        alert_type: row.alert_type,
        severity: row.severity,
        message: row.message,
        created_at: row.created_at.0,
        cleared_at: row.cleared_at.map(|at| at.0),
        acknowledged_at: row.acknowledged_at.map(|at| at.0),
        acknowledged_by: row.acknowledged_by,
        rule: row.rule_id.map(RuleId),
        cleared_reason: row.cleared_reason,
    })
}

/// An alert about a device that is no longer registered is nobody's, and is not raised.
const RAISE: &str = "INSERT INTO device_alerts (device_id, alert_type, severity, message, is_builtin, created_at) \
     SELECT r.d, r.k, r.s, r.m, true, r.t FROM unnest($1, $2, $3, $4, $5) WITH ORDINALITY AS r (d, k, s, m, t, n) \
     WHERE EXISTS (SELECT 1 FROM devices WHERE device_id = r.d COLLATE \"C\") ORDER BY r.n ON CONFLICT DO NOTHING";

/// What somebody has seen makes room for a newer one.
const SUPERSEDE: &str = "UPDATE device_alerts AS a SET cleared_at = r.t, cleared_reason = $4 \
     FROM unnest($1, $2, $3) AS r (d, k, t) WHERE a.device_id = r.d COLLATE \"C\" AND a.alert_type = r.k AND a.is_builtin \
     AND a.cleared_at IS NULL AND a.acknowledged_at IS NOT NULL";

const CLEAR: &str = "UPDATE device_alerts AS a SET cleared_at = c.t FROM unnest($1, $2, $3) AS c (d, k, t) \
     WHERE a.device_id = c.d COLLATE \"C\" AND a.alert_type = c.k AND a.is_builtin AND a.cleared_at IS NULL";

/// What is said of one thing, turn by turn: of several changes in a row to the same state the first counts, and a turn has
/// every thing once. `key`: which thing, and to which state.
pub(super) fn turns<'a, C, K: Hash + Eq>(changes: &'a [C], key: impl Fn(&'a C) -> (K, bool)) -> Vec<Vec<&'a C>> {
    let mut turns: Vec<Vec<&C>> = Vec::new();
    let mut last: HashMap<K, (usize, bool)> = HashMap::new();
    for change in changes {
        let (thing, state) = key(change);
        let turn = match last.get(&thing) {
            Some((_, before)) if *before == state => continue,
            Some((turn, _)) => turn + 1,
            None => 0,
        };
        last.insert(thing, (turn, state));
        if turns.len() == turn {
            turns.push(Vec::new());
        }
        turns[turn].push(change);
    }
    turns
}

/// Applies changes as if in order, each turn as one statement for all alerts.
pub(super) fn change(connection: &mut PgConnection, changes: &[AlertChange]) -> QueryResult<()> {
    fn key(change: &AlertChange) -> ((&DeviceId, AlertKind), bool) {
        match change {
            AlertChange::Raise { device, kind, .. } => ((device, *kind), true),
            AlertChange::Clear { device, kind, .. } => ((device, *kind), false),
        }
    }
    turns(changes, key).iter().try_for_each(|turn| take_turn(connection, turn))
}

fn take_turn(connection: &mut PgConnection, changes: &[&AlertChange]) -> QueryResult<()> {
    let (mut raised, mut cleared) = (<[Vec<String>; 4]>::default(), <[Vec<String>; 2]>::default());
    let (mut raised_at, mut cleared_at) = (Vec::new(), Vec::new());
    let (mut anew, mut anew_at) = (<[Vec<String>; 2]>::default(), Vec::new());
    for change in changes {
        match change {
            AlertChange::Raise { device, kind, message, at } => {
                if kind.is_raised_anew() {
                    let values = [device.as_str(), kind.name()];
                    anew.iter_mut().zip(values).for_each(|(column, value)| column.push(value.to_owned()));
                    anew_at.push(Time(*at));
                }
                let message = text::plain(message);
                let values = [device.as_str(), kind.name(), kind.severity().name(), &*message];
                raised.iter_mut().zip(values).for_each(|(column, value)| column.push(value.to_owned()));
                raised_at.push(Time(*at));
            }
            AlertChange::Clear { device, kind, at } => {
                let values = [device.as_str(), kind.name()];
                cleared.iter_mut().zip(values).for_each(|(column, value)| column.push(value.to_owned()));
                cleared_at.push(Time(*at));
            }
        }
    }
    if !anew_at.is_empty() {
        let [devices, kinds] = anew;
        sql_query(SUPERSEDE)
            .bind::<Array<Text>, _>(devices)
            .bind::<Array<Text>, _>(kinds)
            .bind::<Array<Timestamptz>, _>(anew_at)
            .bind::<Text, _>(SUPERSEDED)
            .execute(connection)?;
    }
    if !raised_at.is_empty() {
        let [devices, kinds, severities, messages] = raised;
        sql_query(RAISE)
            .bind::<Array<Text>, _>(devices)
            .bind::<Array<Text>, _>(kinds)
            .bind::<Array<Text>, _>(severities)
            .bind::<Array<Text>, _>(messages)
            .bind::<Array<Timestamptz>, _>(raised_at)
            .execute(connection)?;
    }
    if !cleared_at.is_empty() {
        let [devices, kinds] = cleared;
        sql_query(CLEAR)
            .bind::<Array<Text>, _>(devices)
            .bind::<Array<Text>, _>(kinds)
            .bind::<Array<Timestamptz>, _>(cleared_at)
            .execute(connection)?;
    }
    Ok(())
}

/// See [`Store::create_alert`](crate::store::Store::create_alert).
pub(super) fn create(
    connection: &mut PgConnection,
    id: &DeviceId,
    new: &NewAlert,
    now: Timestamp,
) -> Result<Option<Alert>, Fault> {
    if !devices::exists(connection, id)? {
        return Ok(None);
    }
    let row = New {
        device_id: id.as_str(),
        alert_type: &text::plain(&new.alert_type),
        severity: &new.severity,
        message: &text::plain(&new.message),
        is_builtin: false,
        created_at: Time(now),
    };
    let row: Row = diesel::insert_into(dsl::device_alerts).values(row).get_result(connection)?;
    read(row).map(Some)
}

/// Those of many that are there.
pub(super) fn find_many(connection: &mut PgConnection, ids: &[i64]) -> Result<Vec<Alert>, Fault> {
    let rows: Vec<Row> = dsl::device_alerts.filter(dsl::id.eq_any(ids)).load(connection)?;
    rows.into_iter().map(read).collect()
}

/// The alerts a filter lets through.
pub(super) fn matching(filter: &AlertFilter) -> device_alerts::BoxedQuery<'_, Pg> {
    let mut query = dsl::device_alerts.into_boxed();
    if let Some(id) = filter.id {
        query = query.filter(dsl::id.eq(id));
    }
    if let Some(device) = &filter.device {
        query = query.filter(dsl::device_id.eq(device.as_str()));
    }
    if let Some(prefix) = &filter.id_prefix {
        query = query.filter(dsl::device_id.ge(prefix).and(dsl::device_id.lt(listing::end_of(prefix))));
    }
    if let Some(severity) = &filter.severity {
        query = query.filter(dsl::severity.eq(severity));
    }
    query = match filter.acknowledged {
        Some(true) => query.filter(dsl::acknowledged_at.is_not_null()),
        Some(false) => query.filter(dsl::acknowledged_at.is_null()),
        None => query,
    };
    match filter.is_open {
        Some(true) => query.filter(dsl::cleared_at.is_null()),
        Some(false) => query.filter(dsl::cleared_at.is_not_null()),
        None => query,
    }
}

/// A part of a query, newest first.
pub(super) fn behind<'a>(query: device_alerts::BoxedQuery<'a, Pg>, part: &Part) -> device_alerts::BoxedQuery<'a, Pg> {
    let query = query.order(dsl::id.desc()).limit(part.limit).offset(part.offset);
    match part.behind {
        Some(Place(id, _)) => query.filter(dsl::id.lt(id)),
        None => query,
    }
}

/// See [`Store::alerts`](crate::store::Store::alerts).
pub(super) fn list(connection: &mut PgConnection, filter: &AlertFilter, page: Page) -> Result<Listing<Alert>, Fault> {
    let part = Part::new(page, || matching(filter).count().get_result(connection))?;
    let rows = behind(matching(filter), &part).load(connection)?;
    part.listing(rows, |row: &Row| Place(row.id, 0), read)
}

/// See [`Store::acknowledge_alert`](crate::store::Store::acknowledge_alert).
pub(super) fn acknowledge(
    connection: &mut PgConnection,
    alert: i64,
    by: &str,
    now: Timestamp,
) -> Result<Option<Alert>, Fault> {
    let unseen = dsl::device_alerts.find(alert).filter(dsl::acknowledged_at.is_null());
    diesel::update(unseen)
        .set((dsl::acknowledged_at.eq(Some(Time(now))), dsl::acknowledged_by.eq(Some(&*text::plain(by)))))
        .execute(connection)?;
    let row: Option<Row> = dsl::device_alerts.find(alert).first(connection).optional()?;
    row.map(read).transpose()
}

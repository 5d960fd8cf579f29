//! Alerts: raised and cleared by the system (one open a device and kind), or added by hand.

use diesel::prelude::Insertable;
use diesel::sqlite::Sqlite;
use diesel::{
    BoolExpressionMethods, ExpressionMethods, OptionalExtension, QueryDsl, QueryResult, Queryable, RunQueryDsl,
    SqliteConnection,
};

use super::fault::Fault;
use super::listing::Part;
use super::schema::device_alerts::{self, dsl};
use super::{devices, listing};
use crate::domain::alert::{AlertKind, SUPERSEDED};
use crate::domain::rule::RuleId;
use crate::domain::{DeviceId, Timestamp};
use crate::store::{Alert, AlertChange, AlertFilter, Listing, NewAlert, Page, Place};

#[derive(Queryable)]
struct Row {
    id: i64,
    device_id: String,
    alert_type: String,
    severity: String,
    message: String,
    _is_builtin: bool,
    created_at: i64,
    cleared_at: Option<i64>,
    acknowledged_at: Option<i64>,
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
    created_at: i64,
}

fn read(row: Row) -> Result<Alert, Fault> {
    Ok(Alert {
        id: row.id,
        device_id: listing::device_id(&row.device_id)?,
        alert_type: row.alert_type,
        severity: row.severity,
        message: row.message,
        created_at: Timestamp(row.created_at),
        cleared_at: listing::time(row.cleared_at),
        acknowledged_at: listing::time(row.acknowledged_at),
        acknowledged_by: row.acknowledged_by,
        rule: row.rule_id.map(RuleId),
        cleared_reason: row.cleared_reason,
    })
}

/// Applies changes in order. An alert about a device that is no longer registered is nobody's, and is not raised.
pub(super) fn change(connection: &mut SqliteConnection, changes: &[AlertChange]) -> Result<(), Fault> {
    for change in changes {
        match change {
            AlertChange::Raise { device, kind, message, at } => {
                if !devices::exists(connection, device)? {
                    continue;
                }
                if kind.is_raised_anew() {
                    supersede(connection, device, *kind, *at)?;
                }
                let row = New {
                    device_id: device.as_str(),
                    alert_type: kind.name(),
                    severity: kind.severity().name(),
                    message,
                    is_builtin: true,
                    created_at: at.0,
                };
                diesel::insert_into(dsl::device_alerts).values(row).on_conflict_do_nothing().execute(connection)?;
            }
            AlertChange::Clear { device, kind, at } => {
                let open = dsl::device_alerts
                    .filter(dsl::device_id.eq(device.as_str()))
                    .filter(dsl::alert_type.eq(kind.name()))
                    .filter(dsl::is_builtin)
                    .filter(dsl::cleared_at.is_null());
                diesel::update(open).set(dsl::cleared_at.eq(Some(at.0))).execute(connection)?;
            }
        }
    }
    Ok(())
}

/// Clears the open alert for a newer one, where somebody has seen it.
fn supersede(
    connection: &mut SqliteConnection,
    device: &DeviceId,
    kind: AlertKind,
    at: Timestamp,
) -> QueryResult<usize> {
    let seen = dsl::device_alerts
        .filter(dsl::device_id.eq(device.as_str()))
        .filter(dsl::alert_type.eq(kind.name()))
        .filter(dsl::is_builtin)
        .filter(dsl::cleared_at.is_null())
        .filter(dsl::acknowledged_at.is_not_null());
    diesel::update(seen)
        .set((dsl::cleared_at.eq(Some(at.0)), dsl::cleared_reason.eq(Some(SUPERSEDED))))
        .execute(connection)
}

/// See [`Store::create_alert`](crate::store::Store::create_alert).
pub(super) fn create(
    connection: &mut SqliteConnection,
    id: &DeviceId,
    new: &NewAlert,
    now: Timestamp,
) -> Result<Option<Alert>, Fault> {
    if !devices::exists(connection, id)? {
        return Ok(None);
    }
    let row = New {
        device_id: id.as_str(),
        alert_type: &new.alert_type,
        severity: &new.severity,
        message: &new.message,
        is_builtin: false,
        created_at: now.0,
    };
    diesel::insert_into(dsl::device_alerts).values(row).execute(connection)?;
    // Ids only grow, and this transaction is the only writer.
    let row: Row = dsl::device_alerts.order(dsl::id.desc()).first(connection)?;
    read(row).map(Some)
}

/// One alert.
pub(super) fn find(connection: &mut SqliteConnection, alert: i64) -> Result<Option<Alert>, Fault> {
    let row: Option<Row> = dsl::device_alerts.find(alert).first(connection).optional()?;
    row.map(read).transpose()
}

/// The alerts a filter lets through.
pub(super) fn matching(filter: &AlertFilter) -> device_alerts::BoxedQuery<'_, Sqlite> {
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
pub(super) fn behind<'a>(
    query: device_alerts::BoxedQuery<'a, Sqlite>,
    part: &Part,
) -> device_alerts::BoxedQuery<'a, Sqlite> {
    let query = query.order(dsl::id.desc()).limit(part.limit).offset(part.offset);
    match part.behind {
        Some(Place(id, _)) => query.filter(dsl::id.lt(id)),
        None => query,
    }
}

/// See [`Store::alerts`](crate::store::Store::alerts).
pub(super) fn list(
    connection: &mut SqliteConnection,
    filter: &AlertFilter,
    page: Page,
) -> Result<Listing<Alert>, Fault> {
    let part = Part::new(page, || matching(filter).count().get_result(connection))?;
    let rows = behind(matching(filter), &part).load(connection)?;
    part.listing(rows, |row: &Row| Place(row.id, 0), read)
}

/// See [`Store::acknowledge_alert`](crate::store::Store::acknowledge_alert).
pub(super) fn acknowledge(
    connection: &mut SqliteConnection,
    alert: i64,
    by: &str,
    now: Timestamp,
) -> Result<Option<Alert>, Fault> {
    let unseen = dsl::device_alerts.find(alert).filter(dsl::acknowledged_at.is_null());
    diesel::update(unseen)
        .set((dsl::acknowledged_at.eq(Some(now.0)), dsl::acknowledged_by.eq(Some(by))))
        .execute(connection)?;
    let row: Option<Row> = dsl::device_alerts.find(alert).first(connection).optional()?;
    row.map(read).transpose()
}

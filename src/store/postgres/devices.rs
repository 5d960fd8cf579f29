//! The registry of devices.

use std::collections::{HashMap, HashSet};

use diesel::pg::Pg;
use diesel::prelude::{AsChangeset, Insertable};
use diesel::sql_types::{Bool, Text};
use diesel::{
    BoolExpressionMethods, ExpressionMethods, OptionalExtension, PgConnection, PgTextExpressionMethods, QueryDsl,
    QueryResult, Queryable, RunQueryDsl,
};
use serde_json::Value;

use super::certificates;
use super::connection::Connections;
use super::schema::device_sequence;
use super::schema::devices::{self, dsl};
use super::types::Time;
use super::{locks, text};
use crate::domain::presence::Connection;
use crate::domain::{DeviceId, Timestamp};
use crate::store::fault::Fault;
use crate::store::listing::{self, Part};
use crate::store::{Device, DeviceChange, DeviceFilter, Listing, NewDevice, Outcome, Page, Place};

/// Devices registered by one statement: each takes ten of its 65 535 parameters.
const CHUNK: usize = 1000;

#[derive(Queryable)]
struct Row {
    id: i64,
    device_id: String,
    device_name: String,
    device_type: String,
    location: Option<String>,
    is_active: bool,
    metadata: Value,
    _token_sha256: Option<Vec<u8>>,
    created_at: Time,
    updated_at: Time,
    version: i64,
}

#[derive(Insertable)]
#[diesel(table_name = devices)]
struct New<'a> {
    device_id: &'a str,
    device_name: String,
    device_type: String,
    location: Option<String>,
    is_active: bool,
    metadata: Value,
    token_sha256: Option<&'a [u8]>,
    created_at: Time,
    updated_at: Time,
    version: i64,
}

#[derive(AsChangeset)]
#[diesel(table_name = devices)]
struct Change {
    device_name: Option<String>,
    device_type: Option<String>,
    location: Option<String>,
    is_active: Option<bool>,
    metadata: Option<Value>,
    updated_at: Time,
}

/// What a device's messages made known of it.
type Known = (String, Option<Time>, Option<String>);

/// Rows with what the devices' messages made known of them.
fn read(connection: &mut PgConnection, rows: Vec<Row>) -> Result<Vec<Device>, Fault> {
    let ids: Vec<&str> = rows.iter().map(|row| row.device_id.as_str()).collect();
    let states: Vec<(String, Known)> = device_sequence::table
        .filter(device_sequence::device_id.eq_any(ids))
        .select((
            device_sequence::device_id,
            (device_sequence::connection_status, device_sequence::last_seen, device_sequence::fw_version),
        ))
        .load(connection)?;
    let mut states: HashMap<String, Known> = states.into_iter().collect();
    rows.into_iter().map(|row| device(states.remove(&row.device_id), row)).collect()
}

fn device(known: Option<Known>, row: Row) -> Result<Device, Fault> {
    let (status, last_seen, fw_version) = known.unwrap_or((Connection::Unknown.name().into(), None, None));
    let Value::Object(metadata) = row.metadata else { return Err(Fault::Corrupt("device metadata")) };
    Ok(Device {
        id: row.id,
        device_id: listing::device_id(&row.device_id)?,
        device_name: row.device_name,
        device_type: row.device_type,
        location: row.location,
        is_active: row.is_active,
        connection: Connection::from_name(&status).ok_or(Fault::Corrupt("connection status"))?,
        last_seen: last_seen.map(|at| at.0),
        fw_version,
        created_at: row.created_at.0,
        updated_at: row.updated_at.0,
        metadata,
        version: row.version,
    })
}

fn clean(value: &str) -> String {
    text::plain(value).into_owned()
}

/// Adds devices, each with the time of its creation, unless their ids are taken; how many were added.
pub(super) fn register(connection: &mut PgConnection, new: &[(&NewDevice, Timestamp)]) -> QueryResult<usize> {
    add(connection, new).map(|added| added.len())
}

/// The same; the ids of those that were added.
fn add(connection: &mut PgConnection, new: &[(&NewDevice, Timestamp)]) -> QueryResult<Vec<String>> {
    let mut sorted: Vec<_> = new.iter().collect();
    sorted.sort_by(|a, b| a.0.device_id.cmp(&b.0.device_id));
    let mut added = Vec::new();
    for part in sorted.chunks(CHUNK) {
        let rows: Vec<New<'_>> = part.iter().map(|(new, now)| row(new, *now)).collect();
        let insert = diesel::insert_into(dsl::devices).values(rows).on_conflict_do_nothing();
        added.append(&mut insert.returning(dsl::device_id).get_results(connection)?);
    }
    Ok(added)
}

/// See [`Store::create_devices`](crate::store::Store::create_devices).
pub(super) fn create_many(
    connections: &Connections,
    new: &[NewDevice],
    all_or_nothing: bool,
    now: Timestamp,
) -> Result<Vec<bool>, Fault> {
    let ids: Vec<&str> = new.iter().map(|new| new.device_id.as_str()).collect();
    let rows: Vec<_> = new.iter().map(|new| (new, now)).collect();
    let mut free = None;
    let done = connections.write(|connection| {
        locks::outdate_all(connection, &ids)?;
        let added: HashSet<String> = add(connection, &rows)?.into_iter().collect();
        let is_undone = all_or_nothing && added.len() < ids.len();
        free = Some(ids.iter().map(|id| added.contains(*id)).collect());
        // Somebody else may have taken an id a moment ago: only what was inserted says so.
        if is_undone { Err(Fault::Sql(diesel::result::Error::RollbackTransaction)) } else { Ok(()) }
    });
    match (done, free) {
        (Ok(()) | Err(Fault::Sql(diesel::result::Error::RollbackTransaction)), Some(free)) => Ok(free),
        (done, _) => done.map(|()| Vec::new()),
    }
}

fn row(new: &NewDevice, now: Timestamp) -> New<'_> {
    New {
        device_id: new.device_id.as_str(),
        device_name: clean(&new.device_name),
        device_type: clean(&new.device_type),
        location: new.location.as_deref().map(clean),
        is_active: new.is_active,
        metadata: text::object(&new.metadata),
        token_sha256: new.token_sha256.as_ref().map(<[u8; 32]>::as_slice),
        created_at: Time(now),
        updated_at: Time(now),
        // Not 1: whoever knew a removed device of this id has no version of the new one.
        version: now.0,
    }
}

/// See [`Store::create_device`](crate::store::Store::create_device).
pub(super) fn create(connection: &mut PgConnection, new: &NewDevice, now: Timestamp) -> Result<Outcome<Device>, Fault> {
    locks::outdate(connection, &new.device_id)?;
    if register(connection, &[(new, now)])? == 0 {
        return Ok(Outcome::Conflict);
    }
    let device = find(connection, &new.device_id)?.ok_or(Fault::Sql(diesel::result::Error::NotFound))?;
    Ok(Outcome::Done(device))
}

/// Whether the device is registered.
pub(super) fn exists(connection: &mut PgConnection, id: &DeviceId) -> QueryResult<bool> {
    let query = dsl::devices.filter(dsl::device_id.eq(id.as_str())).select(dsl::id);
    Ok(query.first::<i64>(connection).optional()?.is_some())
}

/// One device.
pub(super) fn find(connection: &mut PgConnection, id: &DeviceId) -> Result<Option<Device>, Fault> {
    let row: Option<Row> = dsl::devices.filter(dsl::device_id.eq(id.as_str())).first(connection).optional()?;
    Ok(read(connection, row.into_iter().collect())?.pop())
}

/// Those of many that are registered.
pub(super) fn find_many(connection: &mut PgConnection, ids: &[DeviceId]) -> Result<Vec<Device>, Fault> {
    let names: Vec<&str> = ids.iter().map(DeviceId::as_str).collect();
    let rows: Vec<Row> = dsl::devices.filter(dsl::device_id.eq_any(names)).load(connection)?;
    read(connection, rows)
}

/// See [`Store::devices`](crate::store::Store::devices).
pub(super) fn list(connection: &mut PgConnection, filter: &DeviceFilter, page: Page) -> Result<Listing<Device>, Fault> {
    let part = Part::new(page, || matching(filter).count().get_result(connection))?;
    let rows: Vec<Row> = behind(matching(filter), &part).load(connection)?;
    let devices = read(connection, rows)?;
    part.listing(devices, |device| Place(device.id, 0), Ok)
}

/// A part of a query, newest first.
pub(super) fn behind<'a>(query: devices::BoxedQuery<'a, Pg>, part: &Part) -> devices::BoxedQuery<'a, Pg> {
    let query = query.order(dsl::id.desc()).limit(part.limit).offset(part.offset);
    match part.behind {
        Some(Place(id, _)) => query.filter(dsl::id.lt(id)),
        None => query,
    }
}

pub(super) fn matching(filter: &DeviceFilter) -> devices::BoxedQuery<'_, Pg> {
    let mut query = dsl::devices.into_boxed();
    if let Some(prefix) = &filter.id_prefix {
        query = query.filter(dsl::device_id.ge(prefix).and(dsl::device_id.lt(listing::end_of(prefix))));
    }
    if let Some(is_active) = filter.is_active {
        query = query.filter(dsl::is_active.eq(is_active));
    }
    if let Some(device_type) = &filter.device_type {
        query = query.filter(dsl::device_type.eq(clean(device_type)));
    }
    if let Some(location) = &filter.location {
        query = query.filter(dsl::location.eq(clean(location)));
    }
    if let Some(q) = &filter.q {
        let part = containing(&clean(q));
        query = query.filter(dsl::device_id.ilike(part.clone()).or(dsl::device_name.ilike(part)));
    }
    let states = device_sequence::table.select(device_sequence::device_id);
    let status = device_sequence::connection_status;
    query = match filter.connection {
        // Also a device never heard of.
        Some(Connection::Unknown) => {
            query.filter(dsl::device_id.ne_all(states.filter(status.ne(Connection::Unknown.name()))))
        }
        Some(connection) => query.filter(dsl::device_id.eq_any(states.filter(status.eq(connection.name())))),
        None => query,
    };
    for (key, wanted) in &filter.metadata {
        query = query.filter(member_is(key, wanted));
    }
    query
}

/// A LIKE pattern for `part` anywhere; its own wildcards are plain characters.
fn containing(part: &str) -> String {
    let escaped = part.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    format!("%{escaped}%")
}

/// Whether the top-level member `key` has the JSON text `wanted` (a string: without quotes). Key and text are bound, never
/// part of the statement.
fn member_is(key: &str, wanted: &str) -> Box<dyn diesel::BoxableExpression<dsl::devices, Pg, SqlType = Bool>> {
    // jsonb writes a number out where JSON has an exponent.
    let is_text_of = |real: &f64| serde_json::Number::from_f64(*real).is_some_and(|n| n.to_string() == wanted);
    let real = wanted.parse().ok().filter(is_text_of).filter(|_| wanted.contains('e'));
    let number = real.map_or_else(|| wanted.to_owned(), |real: f64| real.to_string());
    Box::new(
        diesel::dsl::sql::<Bool>("coalesce(CASE jsonb_typeof(devices.metadata -> ")
            .bind::<Text, _>(clean(key))
            .sql(") WHEN 'string' THEN devices.metadata ->> ")
            .bind::<Text, _>(clean(key))
            .sql(" = ")
            .bind::<Text, _>(clean(wanted))
            .sql(" WHEN 'boolean' THEN devices.metadata ->> ")
            .bind::<Text, _>(clean(key))
            .sql(" = ")
            .bind::<Text, _>(clean(wanted))
            .sql(" WHEN 'number' THEN devices.metadata ->> ")
            .bind::<Text, _>(clean(key))
            .sql(" = ")
            .bind::<Text, _>(number)
            .sql(" END, false)"),
    )
}

/// See [`Store::update_device`](crate::store::Store::update_device).
pub(super) fn update(
    connection: &mut PgConnection,
    id: &DeviceId,
    change: &DeviceChange,
    expected_version: Option<i64>,
    now: Timestamp,
) -> Result<Option<Outcome<Device>>, Fault> {
    locks::outdate(connection, id)?;
    let row = dsl::devices.filter(dsl::device_id.eq(id.as_str()));
    let version = row.select(dsl::version).for_update().first::<i64>(connection).optional()?;
    let Some(version) = version else { return Ok(None) };
    if expected_version.is_some_and(|expected| expected != version) {
        return Ok(Some(Outcome::Conflict));
    }
    let is_disabled = change.is_active == Some(false);
    let change = Change {
        device_name: change.device_name.as_deref().map(clean),
        device_type: change.device_type.as_deref().map(clean),
        location: change.location.as_deref().map(clean),
        is_active: change.is_active,
        metadata: change.metadata.as_ref().map(text::object),
        updated_at: Time(now),
    };
    diesel::update(row).set((change, dsl::version.eq(version + 1))).execute(connection)?;
    if is_disabled {
        certificates::note_device(connection, id)?;
    }
    Ok(find(connection, id)?.map(Outcome::Done))
}

//! The registry of devices.

use diesel::prelude::{AsChangeset, Insertable};
use diesel::sql_types::{Bool, Double, Nullable, Text};
use diesel::sqlite::Sqlite;
use diesel::{
    BoolExpressionMethods, EscapeExpressionMethods, ExpressionMethods, OptionalExtension, QueryDsl, QueryResult,
    Queryable, RunQueryDsl, SqliteConnection, TextExpressionMethods,
};

use super::certificates;
use super::connection::folded;
use super::fault::Fault;
use super::listing::{self, Part};
use super::schema::device_sequence;
use super::schema::devices::{self, dsl};
use crate::domain::presence::Connection;
use crate::domain::{DeviceId, Timestamp};
use crate::store::{Device, DeviceChange, DeviceFilter, Listing, NewDevice, Outcome, Page, Place};

#[derive(Queryable)]
struct Row {
    id: i64,
    device_id: String,
    device_name: String,
    device_type: String,
    location: Option<String>,
    is_active: bool,
    metadata: String,
    _token_sha256: Option<Vec<u8>>,
    created_at: i64,
    updated_at: i64,
    version: i64,
}

#[derive(Insertable)]
#[diesel(table_name = devices)]
struct New<'a> {
    device_id: &'a str,
    device_name: &'a str,
    device_type: &'a str,
    location: Option<&'a str>,
    is_active: bool,
    metadata: String,
    token_sha256: Option<&'a [u8]>,
    created_at: i64,
    updated_at: i64,
    version: i64,
}

#[derive(AsChangeset)]
#[diesel(table_name = devices)]
struct Change<'a> {
    device_name: Option<&'a str>,
    device_type: Option<&'a str>,
    location: Option<&'a str>,
    is_active: Option<bool>,
    metadata: Option<String>,
    updated_at: i64,
}

/// A row with what the device's messages made known of it.
fn read(connection: &mut SqliteConnection, row: Row) -> Result<Device, Fault> {
    let state: Option<(String, Option<i64>, Option<String>)> = device_sequence::table
        .find(&row.device_id)
        .select((device_sequence::connection_status, device_sequence::last_seen, device_sequence::fw_version))
        .first(connection)
        .optional()?;
    let (status, last_seen, fw_version) = state.unwrap_or((Connection::Unknown.name().into(), None, None));
    Ok(Device {
        id: row.id,
        device_id: listing::device_id(&row.device_id)?,
        device_name: row.device_name,
        device_type: row.device_type,
        location: row.location,
        is_active: row.is_active,
        connection: Connection::from_name(&status).ok_or(Fault::Corrupt("connection status"))?,
        last_seen: listing::time(last_seen),
        fw_version,
        created_at: Timestamp(row.created_at),
        updated_at: Timestamp(row.updated_at),
        metadata: listing::object(&row.metadata, "device metadata")?,
        version: row.version,
    })
}

/// Adds a device unless its id is taken; says whether it was added.
pub(super) fn register(connection: &mut SqliteConnection, new: &NewDevice, now: Timestamp) -> QueryResult<bool> {
    let row = New {
        device_id: new.device_id.as_str(),
        device_name: &new.device_name,
        device_type: &new.device_type,
        location: new.location.as_deref(),
        is_active: new.is_active,
        metadata: serde_json::json!(new.metadata).to_string(),
        token_sha256: new.token_sha256.as_ref().map(<[u8; 32]>::as_slice),
        created_at: now.0,
        updated_at: now.0,
        // Not 1: whoever knew a removed device of this id has no version of the new one.
        version: now.0,
    };
    let added = diesel::insert_into(dsl::devices).values(row).on_conflict_do_nothing().execute(connection)?;
    Ok(added == 1)
}

/// See [`Store::create_device`](crate::store::Store::create_device).
pub(super) fn create(
    connection: &mut SqliteConnection,
    new: &NewDevice,
    now: Timestamp,
) -> Result<Outcome<Device>, Fault> {
    if !register(connection, new, now)? {
        return Ok(Outcome::Conflict);
    }
    let device = find(connection, &new.device_id)?.ok_or(Fault::Sql(diesel::result::Error::NotFound))?;
    Ok(Outcome::Done(device))
}

/// See [`Store::create_devices`](crate::store::Store::create_devices).
pub(super) fn create_many(
    connection: &mut SqliteConnection,
    new: &[NewDevice],
    all_or_nothing: bool,
    now: Timestamp,
) -> QueryResult<Vec<bool>> {
    if all_or_nothing {
        // This transaction is the only writer: what is free stays so.
        let free = new.iter().map(|new| exists(connection, &new.device_id).map(|is_taken| !is_taken));
        let free: Vec<bool> = free.collect::<QueryResult<_>>()?;
        if free.contains(&false) {
            return Ok(free);
        }
    }
    new.iter().map(|new| register(connection, new, now)).collect()
}

/// Whether the device is registered.
pub(super) fn exists(connection: &mut SqliteConnection, id: &DeviceId) -> QueryResult<bool> {
    let query = dsl::devices.filter(dsl::device_id.eq(id.as_str())).select(dsl::id);
    Ok(query.first::<i64>(connection).optional()?.is_some())
}

/// One device.
pub(super) fn find(connection: &mut SqliteConnection, id: &DeviceId) -> Result<Option<Device>, Fault> {
    let row: Option<Row> = dsl::devices.filter(dsl::device_id.eq(id.as_str())).first(connection).optional()?;
    row.map(|row| read(connection, row)).transpose()
}

/// See [`Store::devices`](crate::store::Store::devices).
pub(super) fn list(
    connection: &mut SqliteConnection,
    filter: &DeviceFilter,
    page: Page,
) -> Result<Listing<Device>, Fault> {
    let part = Part::new(page, || matching(filter).count().get_result(connection))?;
    let rows: Vec<Row> = behind(matching(filter), &part).load(connection)?;
    part.listing(rows, |row| Place(row.id, 0), |row| read(connection, row))
}

/// A part of a query, newest first.
pub(super) fn behind<'a>(query: devices::BoxedQuery<'a, Sqlite>, part: &Part) -> devices::BoxedQuery<'a, Sqlite> {
    let query = query.order(dsl::id.desc()).limit(part.limit).offset(part.offset);
    match part.behind {
        Some(Place(id, _)) => query.filter(dsl::id.lt(id)),
        None => query,
    }
}

pub(super) fn matching(filter: &DeviceFilter) -> devices::BoxedQuery<'_, Sqlite> {
    let mut query = dsl::devices.into_boxed();
    if let Some(prefix) = &filter.id_prefix {
        query = query.filter(dsl::device_id.ge(prefix).and(dsl::device_id.lt(listing::end_of(prefix))));
    }
    if let Some(is_active) = filter.is_active {
        query = query.filter(dsl::is_active.eq(is_active));
    }
    if let Some(device_type) = &filter.device_type {
        query = query.filter(dsl::device_type.eq(device_type));
    }
    if let Some(location) = &filter.location {
        query = query.filter(dsl::location.eq(location));
    }
    if let Some(q) = &filter.q {
        let part = containing(&q.to_lowercase());
        let (id, name) = (folded(dsl::device_id), folded(dsl::device_name));
        query = query.filter(id.like(part.clone()).escape('\\').or(name.like(part).escape('\\')));
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

/// A LIKE pattern for `part` anywhere; its own wildcards are plain characters. (SQLite's pattern ends with U+0000, and what is
/// left would match everything: as in Postgres, it is U+FFFD.)
fn containing(part: &str) -> String {
    let plain = part.replace('\0', "\u{fffd}");
    let escaped = plain.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    format!("%{escaped}%")
}

/// Whether the top-level member `key` has the JSON text `wanted` (a string: without quotes). Key and text are bound, never
/// part of the statement.
fn member_is<'a>(
    key: &'a str,
    wanted: &'a str,
) -> Box<dyn diesel::BoxableExpression<dsl::devices, Sqlite, SqlType = Bool> + 'a> {
    // A real number is compared as one: SQLite's text of it has fewer digits than JSON's.
    let is_text_of = |real: &f64| serde_json::Number::from_f64(*real).is_some_and(|n| n.to_string() == wanted);
    let real = wanted.parse().ok().filter(is_text_of);
    Box::new(
        diesel::dsl::sql::<Bool>("EXISTS (SELECT 1 FROM json_each(devices.metadata) AS m WHERE m.key = ")
            .bind::<Text, _>(key)
            .sql(
                " AND CASE m.type WHEN 'text' THEN m.atom WHEN 'integer' THEN CAST(m.atom AS TEXT) \
                 WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' WHEN 'real' THEN \
                 CASE WHEN m.atom = ",
            )
            .bind::<Nullable<Double>, _>(real)
            .sql(" THEN ")
            .bind::<Text, _>(wanted)
            .sql(" END END = ")
            .bind::<Text, _>(wanted)
            .sql(")"),
    )
}

/// See [`Store::update_device`](crate::store::Store::update_device).
pub(super) fn update(
    connection: &mut SqliteConnection,
    id: &DeviceId,
    change: &DeviceChange,
    expected_version: Option<i64>,
    now: Timestamp,
) -> Result<Option<Outcome<Device>>, Fault> {
    let row = dsl::devices.filter(dsl::device_id.eq(id.as_str()));
    let Some(version) = row.select(dsl::version).first::<i64>(connection).optional()? else { return Ok(None) };
    if expected_version.is_some_and(|expected| expected != version) {
        return Ok(Some(Outcome::Conflict));
    }
    let is_disabled = change.is_active == Some(false);
    let change = Change {
        device_name: change.device_name.as_deref(),
        device_type: change.device_type.as_deref(),
        location: change.location.as_deref(),
        is_active: change.is_active,
        metadata: change.metadata.as_ref().map(|metadata| serde_json::json!(metadata).to_string()),
        updated_at: now.0,
    };
    diesel::update(row).set((change, dsl::version.eq(version + 1))).execute(connection)?;
    if is_disabled {
        certificates::note_device(connection, id)?;
    }
    Ok(find(connection, id)?.map(Outcome::Done))
}

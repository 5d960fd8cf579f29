//! Firmware images: what is known of them.

use diesel::pg::Pg;
use diesel::prelude::Insertable;
use diesel::{ExpressionMethods, OptionalExtension, PgConnection, QueryDsl, QueryResult, Queryable, RunQueryDsl};

use super::schema::firmware::{self, dsl};
use super::schema::rollouts;
use super::text::plain;
use super::types::Time;
use crate::store::fault::Fault;
use crate::store::listing::{self, Part};
use crate::store::rollout_rows::open_rollouts;
use crate::store::{Firmware, FirmwareFilter, Listing, NewFirmware, Outcome, Page, Place};

#[derive(Queryable)]
struct Row {
    id: i64,
    object: String,
    version: String,
    device_type: String,
    size_bytes: i64,
    sha256: Vec<u8>,
    created_at: Time,
    created_by: String,
}

#[derive(Insertable)]
#[diesel(table_name = firmware)]
struct New<'a> {
    object: &'a str,
    version: &'a str,
    device_type: &'a str,
    size_bytes: i64,
    sha256: &'a [u8],
    created_at: Time,
    created_by: &'a str,
}

fn read(row: Row) -> Result<Firmware, Fault> {
    Ok(Firmware {
        id: row.id,
        object: row.object,
        version: row.version,
        device_type: row.device_type,
        size_bytes: listing::count(row.size_bytes),
        sha256: listing::digest(row.sha256)?,
        created_at: row.created_at.0,
        created_by: row.created_by,
    })
}

/// See [`Rollouts::add_firmware`](crate::store::Rollouts::add_firmware).
pub(super) fn add(connection: &mut PgConnection, new: &NewFirmware) -> Result<Outcome<Firmware>, Fault> {
    let row = New {
        object: &new.object,
        version: &new.version,
        device_type: &new.device_type,
        size_bytes: i64::try_from(new.size_bytes).unwrap_or(i64::MAX),
        sha256: &new.sha256,
        created_at: Time(new.created_at),
        created_by: &plain(&new.created_by),
    };
    let added = diesel::insert_into(dsl::firmware).values(row).on_conflict_do_nothing().execute(connection)?;
    if added == 0 {
        return Ok(Outcome::Conflict);
    }
    let row: Row = dsl::firmware.filter(dsl::object.eq(&new.object)).first(connection)?;
    read(row).map(Outcome::Done)
}

/// One image.
pub(super) fn find(connection: &mut PgConnection, id: i64) -> Result<Option<Firmware>, Fault> {
    let row: Option<Row> = dsl::firmware.find(id).first(connection).optional()?;
    row.map(read).transpose()
}

/// One image, which nobody removes until the end of the transaction.
pub(super) fn hold(connection: &mut PgConnection, id: i64) -> Result<Option<Firmware>, Fault> {
    let row: Option<Row> = dsl::firmware.find(id).for_share().first(connection).optional()?;
    row.map(read).transpose()
}

fn matching(filter: &FirmwareFilter) -> firmware::BoxedQuery<'_, Pg> {
    let mut query = dsl::firmware.into_boxed();
    if let Some(device_type) = &filter.device_type {
        query = query.filter(dsl::device_type.eq(device_type));
    }
    if let Some(version) = &filter.version {
        query = query.filter(dsl::version.eq(version));
    }
    query
}

/// See [`Rollouts::firmwares`](crate::store::Rollouts::firmwares).
pub(super) fn list(
    connection: &mut PgConnection,
    filter: &FirmwareFilter,
    page: Page,
) -> Result<Listing<Firmware>, Fault> {
    let part = Part::new(page, || matching(filter).count().get_result(connection))?;
    let mut query = matching(filter).order(dsl::id.desc()).limit(part.limit).offset(part.offset);
    if let Some(Place(id, _)) = part.behind {
        query = query.filter(dsl::id.lt(id));
    }
    let rows = query.load(connection)?;
    part.listing(rows, |row: &Row| Place(row.id, 0), read)
}

/// See [`Rollouts::remove_firmware`](crate::store::Rollouts::remove_firmware).
pub(super) fn remove(connection: &mut PgConnection, id: i64) -> Result<Option<Outcome<Firmware>>, Fault> {
    // A rollout that is being made holds the row, or waits for it.
    let row: Option<Row> = dsl::firmware.find(id).for_update().first(connection).optional()?;
    let Some(image) = row.map(read).transpose()? else { return Ok(None) };
    let needing = rollouts::table.filter(rollouts::firmware_id.eq(id)).filter(rollouts::state.eq_any(open_rollouts()));
    if needing.count().get_result::<i64>(connection)? > 0 {
        return Ok(Some(Outcome::Conflict));
    }
    diesel::delete(dsl::firmware.find(id)).execute(connection)?;
    Ok(Some(Outcome::Done(image)))
}

/// See [`Rollouts::known_firmware`](crate::store::Rollouts::known_firmware).
pub(super) fn known(connection: &mut PgConnection, objects: &[String]) -> QueryResult<Vec<String>> {
    dsl::firmware.filter(dsl::object.eq_any(objects)).select(dsl::object).load(connection)
}

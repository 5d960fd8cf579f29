//! Digests of what API clients and devices log in with; never the secrets themselves.

use diesel::prelude::Insertable;
use diesel::{ExpressionMethods, OptionalExtension, PgConnection, QueryDsl, QueryResult, Queryable, RunQueryDsl};

use super::schema::{api_keys, devices};
use super::types::{Time, optional};
use super::{certificates, text};
use crate::domain::{DeviceId, Timestamp};
use crate::store::fault::Fault;
use crate::store::listing::{self, Part};
use crate::store::{ApiKey, DeviceCredential, Listing, Page, Place, Role};

#[derive(Queryable)]
struct Row {
    id: i64,
    prefix: String,
    key_sha256: Vec<u8>,
    role: String,
    name: String,
    device_prefix: Option<String>,
    created_at: Time,
    expires_at: Option<Time>,
    revoked_at: Option<Time>,
    last_used_at: Option<Time>,
    last_used_from: Option<String>,
}

#[derive(Insertable)]
#[diesel(table_name = api_keys)]
struct New<'a> {
    prefix: &'a str,
    key_sha256: &'a [u8],
    role: &'static str,
    name: &'a str,
    device_prefix: Option<&'a str>,
    created_at: Time,
    expires_at: Option<Time>,
    revoked_at: Option<Time>,
}

fn read(row: Row) -> Result<ApiKey, Fault> {
    Ok(ApiKey {
        prefix: row.prefix,
        key_sha256: listing::digest(row.key_sha256)?,
        role: Role::from_name(&row.role).ok_or(Fault::Corrupt("API key"))?,
        name: row.name,
        device_prefix: row.device_prefix,
        created_at: row.created_at.0,
        expires_at: row.expires_at.map(|at| at.0),
        revoked_at: row.revoked_at.map(|at| at.0),
        last_used_at: row.last_used_at.map(|at| at.0),
        last_used_from: row.last_used_from.and_then(|text| text.parse().ok()),
    })
}

/// See [`Store::create_api_key`](crate::store::Store::create_api_key).
pub(super) fn create_key(connection: &mut PgConnection, key: &ApiKey) -> QueryResult<()> {
    let row = New {
        prefix: &key.prefix,
        key_sha256: &key.key_sha256,
        role: key.role.name(),
        name: &text::plain(&key.name),
        device_prefix: key.device_prefix.as_deref(),
        created_at: Time(key.created_at),
        expires_at: optional(key.expires_at),
        revoked_at: optional(key.revoked_at),
    };
    diesel::insert_into(api_keys::table).values(row).execute(connection).map(drop)
}

/// The key with that public prefix.
pub(super) fn key(connection: &mut PgConnection, prefix: &str) -> Result<Option<ApiKey>, Fault> {
    let row: Option<Row> = api_keys::table.filter(api_keys::prefix.eq(prefix)).first(connection).optional()?;
    row.map(read).transpose()
}

/// All keys, newest first.
pub(super) fn keys(connection: &mut PgConnection) -> Result<Vec<ApiKey>, Fault> {
    let rows: Vec<Row> = api_keys::table.order(api_keys::id.desc()).load(connection)?;
    rows.into_iter().map(read).collect()
}

/// Keys, newest first.
pub(super) fn list_keys(connection: &mut PgConnection, page: Page) -> Result<Listing<ApiKey>, Fault> {
    let part = Part::new(page, || api_keys::table.count().get_result(connection))?;
    let mut query = api_keys::table.order(api_keys::id.desc()).limit(part.limit).offset(part.offset).into_boxed();
    if let Some(Place(id, _)) = part.behind {
        query = query.filter(api_keys::id.lt(id));
    }
    let rows: Vec<Row> = query.load(connection)?;
    part.listing(rows, |row: &Row| Place(row.id, 0), read)
}

/// Revokes a key, the first time for good; `false` = no such key.
pub(super) fn revoke_key(connection: &mut PgConnection, prefix: &str, now: Timestamp) -> Result<bool, Fault> {
    let valid = api_keys::table.filter(api_keys::prefix.eq(prefix)).filter(api_keys::revoked_at.is_null());
    diesel::update(valid).set(api_keys::revoked_at.eq(Some(Time(now)))).execute(connection)?;
    Ok(key(connection, prefix)?.is_some())
}

/// Sets or removes the digest of a device's token; `false` = no such device.
pub(super) fn set_token(
    connection: &mut PgConnection,
    id: &DeviceId,
    token_sha256: Option<[u8; 32]>,
) -> QueryResult<bool> {
    let device = devices::table.filter(devices::device_id.eq(id.as_str()));
    let changed = diesel::update(device)
        .set(devices::token_sha256.eq(token_sha256.as_ref().map(<[u8; 32]>::as_slice)))
        .execute(connection)?;
    if changed == 1 {
        certificates::note_token(connection, id)?;
    }
    Ok(changed == 1)
}

/// What a device may log in with.
pub(super) fn of_device(connection: &mut PgConnection, id: &DeviceId) -> Result<Option<DeviceCredential>, Fault> {
    let row: Option<(bool, Option<Vec<u8>>)> = devices::table
        .filter(devices::device_id.eq(id.as_str()))
        .select((devices::is_active, devices::token_sha256))
        .first(connection)
        .optional()?;
    let read = |(is_active, token): (bool, Option<Vec<u8>>)| {
        Ok(DeviceCredential { is_active, token_sha256: token.map(listing::digest).transpose()? })
    };
    row.map(read).transpose()
}

//! Accounts of programs that log in to MQTT. Whatever changes one writes its line into the queue of changed credentials.

use diesel::prelude::{AsChangeset, Insertable};
use diesel::{ExpressionMethods, OptionalExtension, PgConnection, QueryDsl, QueryResult, Queryable, RunQueryDsl};
use serde_json::Value;

use super::certificates;
use super::schema::service_accounts::{self, dsl};
use super::text::{self, plain};
use super::types::{Time, optional};
use crate::domain::Timestamp;
use crate::store::fault::Fault;
use crate::store::listing;
use crate::store::{Outcome, ServiceAccount, ServiceChange};

#[derive(Queryable, Insertable)]
#[diesel(table_name = service_accounts)]
struct Row {
    name: String,
    token_sha256: Vec<u8>,
    read_filters: Value,
    write_filters: Value,
    created_at: Time,
    created_by: String,
    expires_at: Option<Time>,
    revoked_at: Option<Time>,
    last_used_at: Option<Time>,
}

/// The columns of [`Row`].
macro_rules! columns {
    () => {
        (
            dsl::name,
            dsl::token_sha256,
            dsl::read_filters,
            dsl::write_filters,
            dsl::created_at,
            dsl::created_by,
            dsl::expires_at,
            dsl::revoked_at,
            dsl::last_used_at,
        )
    };
}

#[derive(AsChangeset)]
#[diesel(table_name = service_accounts)]
struct Change {
    token_sha256: Option<Vec<u8>>,
    read_filters: Option<Value>,
    write_filters: Option<Value>,
    expires_at: Option<Time>,
    revoked_at: Option<Time>,
}

fn json_of(filters: &[String]) -> Value {
    text::value(serde_json::json!(filters))
}

fn filters_of(stored: Value) -> Result<Vec<String>, Fault> {
    serde_json::from_value(stored).map_err(|_| Fault::Corrupt("service account"))
}

fn read(row: Row) -> Result<ServiceAccount, Fault> {
    Ok(ServiceAccount {
        token_sha256: listing::digest(row.token_sha256)?,
        read: filters_of(row.read_filters)?,
        write: filters_of(row.write_filters)?,
        name: row.name,
        created_at: row.created_at.0,
        created_by: row.created_by,
        expires_at: row.expires_at.map(|at| at.0),
        revoked_at: row.revoked_at.map(|at| at.0),
        last_used_at: row.last_used_at.map(|at| at.0),
    })
}

/// See [`Enrolment::create_service`](crate::store::Enrolment::create_service).
pub(super) fn create(connection: &mut PgConnection, new: &ServiceAccount) -> Result<Outcome<()>, Fault> {
    let row = Row {
        name: plain(&new.name).into_owned(),
        token_sha256: new.token_sha256.to_vec(),
        read_filters: json_of(&new.read),
        write_filters: json_of(&new.write),
        created_at: Time(new.created_at),
        created_by: plain(&new.created_by).into_owned(),
        expires_at: optional(new.expires_at),
        revoked_at: optional(new.revoked_at),
        last_used_at: optional(new.last_used_at),
    };
    let added =
        diesel::insert_into(service_accounts::table).values(row).on_conflict_do_nothing().execute(connection)?;
    Ok(if added == 1 { Outcome::Done(()) } else { Outcome::Conflict })
}

/// One account.
pub(super) fn find(connection: &mut PgConnection, name: &str) -> Result<Option<ServiceAccount>, Fault> {
    let row: Option<Row> =
        dsl::service_accounts.filter(dsl::name.eq(plain(name))).select(columns!()).first(connection).optional()?;
    row.map(read).transpose()
}

/// All accounts, newest first.
pub(super) fn list(connection: &mut PgConnection) -> Result<Vec<ServiceAccount>, Fault> {
    let rows: Vec<Row> = dsl::service_accounts.order(dsl::id.desc()).select(columns!()).load(connection)?;
    rows.into_iter().map(read).collect()
}

/// See [`Enrolment::update_service`](crate::store::Enrolment::update_service).
pub(super) fn update(
    connection: &mut PgConnection,
    name: &str,
    change: &ServiceChange,
) -> Result<Option<ServiceAccount>, Fault> {
    if *change != ServiceChange::default() {
        let change = Change {
            token_sha256: change.token_sha256.map(|digest| digest.to_vec()),
            read_filters: change.read.as_deref().map(json_of),
            write_filters: change.write.as_deref().map(json_of),
            expires_at: optional(change.expires_at),
            revoked_at: optional(change.revoked_at),
        };
        diesel::update(dsl::service_accounts.filter(dsl::name.eq(plain(name)))).set(change).execute(connection)?;
        certificates::note_service(connection, name)?;
    }
    find(connection, name)
}

/// Removes an account; `false` = there is none.
pub(super) fn delete(connection: &mut PgConnection, name: &str) -> QueryResult<bool> {
    let is_removed = diesel::delete(dsl::service_accounts.filter(dsl::name.eq(plain(name)))).execute(connection)? == 1;
    if is_removed {
        certificates::note_service(connection, name)?;
    }
    Ok(is_removed)
}

/// Notes a log-in.
pub(super) fn note_use(connection: &mut PgConnection, name: &str, at: Timestamp) -> QueryResult<()> {
    let row = dsl::service_accounts.filter(dsl::name.eq(plain(name)));
    diesel::update(row).set(dsl::last_used_at.eq(Some(Time(at)))).execute(connection).map(drop)
}

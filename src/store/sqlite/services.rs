//! Accounts of programs that log in to MQTT. Whatever changes one writes its line into the queue of changed credentials.

use diesel::prelude::{AsChangeset, Insertable};
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, QueryResult, Queryable, RunQueryDsl, SqliteConnection};

use super::certificates;
use super::fault::Fault;
use super::listing;
use super::schema::service_accounts::{self, dsl};
use crate::domain::Timestamp;
use crate::store::{Outcome, ServiceAccount, ServiceChange};

#[derive(Queryable, Insertable)]
#[diesel(table_name = service_accounts)]
struct Row {
    name: String,
    token_sha256: Vec<u8>,
    read_filters: String,
    write_filters: String,
    created_at: i64,
    created_by: String,
    expires_at: Option<i64>,
    revoked_at: Option<i64>,
    last_used_at: Option<i64>,
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
    read_filters: Option<String>,
    write_filters: Option<String>,
    expires_at: Option<i64>,
    revoked_at: Option<i64>,
}

fn text_of(filters: &[String]) -> String {
    serde_json::json!(filters).to_string()
}

fn filters_of(text: &str) -> Result<Vec<String>, Fault> {
    serde_json::from_str(text).map_err(|_| Fault::Corrupt("service account"))
}

fn read(row: Row) -> Result<ServiceAccount, Fault> {
    Ok(ServiceAccount {
        token_sha256: listing::digest(row.token_sha256)?,
        read: filters_of(&row.read_filters)?,
        write: filters_of(&row.write_filters)?,
        name: row.name,
        created_at: Timestamp(row.created_at),
        created_by: row.created_by,
        expires_at: listing::time(row.expires_at),
        revoked_at: listing::time(row.revoked_at),
        last_used_at: listing::time(row.last_used_at),
    })
}

/// See [`Enrolment::create_service`](crate::store::Enrolment::create_service).
pub(super) fn create(connection: &mut SqliteConnection, new: &ServiceAccount) -> Result<Outcome<()>, Fault> {
    let row = Row {
        name: new.name.clone(),
        token_sha256: new.token_sha256.to_vec(),
        read_filters: text_of(&new.read),
        write_filters: text_of(&new.write),
        created_at: new.created_at.0,
        created_by: new.created_by.clone(),
        expires_at: new.expires_at.map(|at| at.0),
        revoked_at: new.revoked_at.map(|at| at.0),
        last_used_at: new.last_used_at.map(|at| at.0),
    };
    let added =
        diesel::insert_into(service_accounts::table).values(row).on_conflict_do_nothing().execute(connection)?;
    Ok(if added == 1 { Outcome::Done(()) } else { Outcome::Conflict })
}

/// One account.
pub(super) fn find(connection: &mut SqliteConnection, name: &str) -> Result<Option<ServiceAccount>, Fault> {
    let row: Option<Row> =
        dsl::service_accounts.filter(dsl::name.eq(name)).select(columns!()).first(connection).optional()?;
    row.map(read).transpose()
}

/// All accounts, newest first.
pub(super) fn list(connection: &mut SqliteConnection) -> Result<Vec<ServiceAccount>, Fault> {
    let rows: Vec<Row> = dsl::service_accounts.order(dsl::id.desc()).select(columns!()).load(connection)?;
    rows.into_iter().map(read).collect()
}

/// See [`Enrolment::update_service`](crate::store::Enrolment::update_service).
pub(super) fn update(
    connection: &mut SqliteConnection,
    name: &str,
    change: &ServiceChange,
) -> Result<Option<ServiceAccount>, Fault> {
    if *change != ServiceChange::default() {
        let change = Change {
            token_sha256: change.token_sha256.map(|digest| digest.to_vec()),
            read_filters: change.read.as_deref().map(text_of),
            write_filters: change.write.as_deref().map(text_of),
            expires_at: change.expires_at.map(|at| at.0),
            revoked_at: change.revoked_at.map(|at| at.0),
        };
        diesel::update(dsl::service_accounts.filter(dsl::name.eq(name))).set(change).execute(connection)?;
        certificates::note_service(connection, name)?;
    }
    find(connection, name)
}

/// Removes an account; `false` = there is none.
pub(super) fn delete(connection: &mut SqliteConnection, name: &str) -> QueryResult<bool> {
    let is_removed = diesel::delete(dsl::service_accounts.filter(dsl::name.eq(name))).execute(connection)? == 1;
    if is_removed {
        certificates::note_service(connection, name)?;
    }
    Ok(is_removed)
}

/// Notes a log-in.
pub(super) fn note_use(connection: &mut SqliteConnection, name: &str, at: Timestamp) -> QueryResult<()> {
    let row = dsl::service_accounts.filter(dsl::name.eq(name));
    diesel::update(row).set(dsl::last_used_at.eq(Some(at.0))).execute(connection).map(drop)
}

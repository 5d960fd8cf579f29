//! Last use of keys, sessions of the console, and the audit log.
//!
//! Invariant: the hash of an audit entry is made in the transaction that inserts it, from the newest entry as that
//! transaction sees it; there is one writer, so the chain has no fork, whoever else writes to the file.

use std::ops::ControlFlow;

use diesel::prelude::Insertable;
use diesel::sql_types::BigInt;
use diesel::sqlite::Sqlite;
use diesel::{
    BoolExpressionMethods, ExpressionMethods, OptionalExtension, QueryDsl, QueryResult, Queryable, QueryableByName,
    RunQueryDsl, SqliteConnection, sql_query,
};

use super::connection::Sync;
use super::fault::Fault;
use super::listing::{self, Part};
use super::schema::audit_log::dsl;
use super::schema::{api_keys, audit_anchor, audit_log, web_sessions};
use super::{SqliteStore, credentials};
use crate::domain::Timestamp;
use crate::store::{
    Access, ApiKey, AuditEnds, AuditEntry, AuditFilter, AuditOutcome, AuditRow, Error, KeyUse, Listing, Page, Place,
    Role, SessionUse, Trimmed, WebSession,
};

/// Entries read at once of a scan.
const PART: i64 = 1000;

impl Access for SqliteStore {
    fn list_api_keys(&self, page: Page) -> Result<Listing<ApiKey>, Error> {
        self.read("list API keys", |c| credentials::list_keys(c, page))
    }

    fn note_uses(&self, keys: &[KeyUse], sessions: &[SessionUse]) -> Result<(), Error> {
        let noted = self.connections.write(Sync::Lazy, |c| Ok(note_uses(c, keys, sessions)?));
        noted.map_err(|fault| fault.during("note the use of keys"))
    }

    fn create_web_session(&self, new: &WebSession, keep: usize) -> Result<(), Error> {
        self.write("begin a session", |c| Ok(create_session(c, new, keep)?))
    }

    fn web_session(&self, id_sha256: &[u8; 32]) -> Result<Option<(WebSession, Option<ApiKey>)>, Error> {
        self.read("read a session", |c| session(c, id_sha256))
    }

    fn end_web_session(&self, id_sha256: &[u8; 32]) -> Result<bool, Error> {
        self.write("end a session", |c| {
            Ok(diesel::delete(web_sessions::table.find(id_sha256.as_slice())).execute(c)? > 0)
        })
    }

    fn append_audit(&self, entries: &[AuditEntry]) -> Result<(), Error> {
        self.write("write the audit log", |c| append(c, entries))
    }

    fn audit(&self, filter: &AuditFilter, page: Page) -> Result<Listing<AuditRow>, Error> {
        self.read("list the audit log", |c| list(c, filter, page))
    }

    fn scan_audit(&self, filter: &AuditFilter, each: &mut dyn FnMut(AuditRow) -> ControlFlow<()>) -> Result<(), Error> {
        let mut behind = 0;
        loop {
            let rows = self.read("read the audit log", |c| part(c, filter, behind))?;
            let Some(last) = rows.last() else { return Ok(()) };
            behind = last.id;
            for row in rows {
                if each(row).is_break() {
                    return Ok(());
                }
            }
        }
    }

    fn audit_ends(&self) -> Result<AuditEnds, Error> {
        self.read("read the ends of the audit log", ends)
    }

    fn trim_audit(&self, before: Timestamp, limit: usize, now: Timestamp) -> Result<usize, Error> {
        self.write("trim the audit log", |c| trim(c, before, limit, now))
    }
}

/// `IS NOT` and not `<>`: a key never used has no time.
fn note_uses(connection: &mut SqliteConnection, keys: &[KeyUse], sessions: &[SessionUse]) -> QueryResult<()> {
    for KeyUse { prefix, at, address } in keys {
        let older = api_keys::last_used_at.is_null().or(api_keys::last_used_at.lt(Some(at.0)));
        diesel::update(api_keys::table.filter(api_keys::prefix.eq(prefix)).filter(older))
            .set((
                api_keys::last_used_at.eq(Some(at.0)),
                api_keys::last_used_from.eq(address.map(|address| address.to_string())),
            ))
            .execute(connection)?;
    }
    for SessionUse { id_sha256, at } in sessions {
        let older = web_sessions::last_used_at.lt(at.0);
        diesel::update(web_sessions::table.find(id_sha256.as_slice()).filter(older))
            .set(web_sessions::last_used_at.eq(at.0))
            .execute(connection)?;
    }
    Ok(())
}

#[derive(Queryable, Insertable)]
#[diesel(table_name = web_sessions)]
struct SessionRow {
    id_sha256: Vec<u8>,
    actor: String,
    key_prefix: Option<String>,
    role: String,
    device_prefix: Option<String>,
    created_at: i64,
    last_used_at: i64,
    expires_at: i64,
}

fn create_session(connection: &mut SqliteConnection, new: &WebSession, keep: usize) -> QueryResult<()> {
    diesel::delete(web_sessions::table.filter(web_sessions::expires_at.le(new.created_at.0))).execute(connection)?;
    let own = web_sessions::table.filter(web_sessions::actor.eq(&new.actor));
    let others = i64::try_from(keep.saturating_sub(1)).unwrap_or(i64::MAX);
    let too_many: Vec<Vec<u8>> = own
        .order(web_sessions::created_at.desc())
        .select(web_sessions::id_sha256)
        .limit(i64::MAX)
        .offset(others)
        .load(connection)?;
    diesel::delete(web_sessions::table.filter(web_sessions::id_sha256.eq_any(too_many))).execute(connection)?;
    let row = SessionRow {
        id_sha256: new.id_sha256.to_vec(),
        actor: new.actor.clone(),
        key_prefix: new.key_prefix.clone(),
        role: new.role.name().to_owned(),
        device_prefix: new.device_prefix.clone(),
        created_at: new.created_at.0,
        last_used_at: new.last_used_at.0,
        expires_at: new.expires_at.0,
    };
    diesel::insert_into(web_sessions::table).values(row).execute(connection).map(drop)
}

fn session(
    connection: &mut SqliteConnection,
    id_sha256: &[u8; 32],
) -> Result<Option<(WebSession, Option<ApiKey>)>, Fault> {
    let row: Option<SessionRow> = web_sessions::table.find(id_sha256.as_slice()).first(connection).optional()?;
    let Some(row) = row else { return Ok(None) };
    let session = WebSession {
        id_sha256: listing::digest(row.id_sha256)?,
        actor: row.actor,
        key_prefix: row.key_prefix,
        role: Role::from_name(&row.role).ok_or(Fault::Corrupt("session"))?,
        device_prefix: row.device_prefix,
        created_at: Timestamp(row.created_at),
        last_used_at: Timestamp(row.last_used_at),
        expires_at: Timestamp(row.expires_at),
    };
    let key = match &session.key_prefix {
        Some(prefix) => credentials::key(connection, prefix)?,
        None => None,
    };
    Ok(Some((session, key)))
}

#[derive(Queryable, Insertable)]
#[diesel(table_name = audit_log)]
struct Row {
    id: i64,
    at: i64,
    actor: String,
    address: Option<String>,
    action: String,
    target: String,
    outcome: String,
    request_id: Option<String>,
    detail: String,
    prev_hash: Vec<u8>,
    hash: Vec<u8>,
}

/// What cannot be read any more was changed, and is said to be so: an address or an outcome that is none.
fn read(row: Row) -> Result<AuditRow, Fault> {
    let corrupt = || Fault::Corrupt("audit entry");
    let address = row.address.map(|text| text.parse().map_err(|_| corrupt())).transpose()?;
    let entry = AuditEntry {
        at: Timestamp(row.at),
        actor: row.actor,
        address,
        action: row.action,
        target: row.target,
        outcome: AuditOutcome::from_name(&row.outcome).ok_or_else(corrupt)?,
        request_id: row.request_id,
        detail: row.detail,
    };
    Ok(AuditRow { id: row.id, entry, prev_hash: listing::digest(row.prev_hash)?, hash: listing::digest(row.hash)? })
}

fn write(row: AuditRow) -> Row {
    let AuditRow { id, entry, prev_hash, hash } = row;
    Row {
        id,
        at: entry.at.0,
        actor: entry.actor,
        address: entry.address.map(|address| address.to_string()),
        action: entry.action,
        target: entry.target,
        outcome: entry.outcome.name().to_owned(),
        request_id: entry.request_id,
        detail: entry.detail,
        prev_hash: prev_hash.to_vec(),
        hash: hash.to_vec(),
    }
}

fn append(connection: &mut SqliteConnection, entries: &[AuditEntry]) -> Result<(), Fault> {
    let ends = ends(connection)?;
    let newest: Option<Vec<u8>> =
        dsl::audit_log.order(dsl::id.desc()).select(dsl::hash).first(connection).optional()?;
    let mut hash = newest.map_or(Ok(ends.anchor.1), listing::digest)?;
    for (id, entry) in (ends.last_given + 1..).zip(entries) {
        let row = AuditRow::behind(hash, id, entry.clone());
        hash = row.hash;
        diesel::insert_into(dsl::audit_log).values(write(row)).execute(connection)?;
    }
    Ok(())
}

#[derive(QueryableByName)]
struct Given {
    #[diesel(sql_type = BigInt)]
    seq: i64,
}

fn ends(connection: &mut SqliteConnection) -> Result<AuditEnds, Fault> {
    let (last_id, hash): (i64, Vec<u8>) =
        audit_anchor::table.select((audit_anchor::last_id, audit_anchor::hash)).first(connection)?;
    // SQLite's own note of the greatest id ever given, which goes with no row.
    let given = sql_query("SELECT seq FROM sqlite_sequence WHERE name = 'audit_log'").load::<Given>(connection)?;
    let last_given = given.first().map_or(last_id, |given| given.seq.max(last_id));
    Ok(AuditEnds { anchor: (last_id, listing::digest(hash)?), last_given })
}

fn matching(filter: &AuditFilter) -> audit_log::BoxedQuery<'_, Sqlite> {
    let mut query = dsl::audit_log.into_boxed();
    if let Some(actor) = &filter.actor {
        query = query.filter(dsl::actor.eq(actor));
    }
    if let Some(action) = &filter.action {
        query = query.filter(dsl::action.ge(action).and(dsl::action.lt(listing::end_of(action))));
    }
    if let Some(target) = &filter.target {
        query = query.filter(dsl::target.eq(target));
    }
    if let Some(outcome) = filter.outcome {
        query = query.filter(dsl::outcome.eq(outcome.name()));
    }
    if let Some(from) = filter.from {
        query = query.filter(dsl::at.ge(from.0));
    }
    if let Some(to) = filter.to {
        query = query.filter(dsl::at.lt(to.0));
    }
    query
}

fn list(connection: &mut SqliteConnection, filter: &AuditFilter, page: Page) -> Result<Listing<AuditRow>, Fault> {
    let part = Part::new(page, || matching(filter).count().get_result(connection))?;
    let mut query = matching(filter).order(dsl::id.desc()).limit(part.limit).offset(part.offset);
    if let Some(Place(id, _)) = part.behind {
        query = query.filter(dsl::id.lt(id));
    }
    let rows = query.load(connection)?;
    part.listing(rows, |row: &Row| Place(row.id, 0), read)
}

fn part(connection: &mut SqliteConnection, filter: &AuditFilter, behind: i64) -> Result<Vec<AuditRow>, Fault> {
    let query = matching(filter).filter(dsl::id.gt(behind)).order(dsl::id.asc()).limit(PART);
    query.load::<Row>(connection)?.into_iter().map(read).collect()
}

/// The oldest entries up to the first that is young enough: what stays has no hole. An entry says it.
fn trim(connection: &mut SqliteConnection, before: Timestamp, limit: usize, now: Timestamp) -> Result<usize, Fault> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let oldest: Vec<(i64, i64, Vec<u8>)> =
        dsl::audit_log.order(dsl::id.asc()).limit(limit).select((dsl::id, dsl::at, dsl::hash)).load(connection)?;
    let Some((last_id, last_at, hash)) = oldest.into_iter().take_while(|(_, at, _)| *at < before.0).last() else {
        return Ok(0);
    };
    diesel::update(audit_anchor::table)
        .set((
            audit_anchor::last_id.eq(last_id),
            audit_anchor::hash.eq(&hash),
            audit_anchor::trimmed_at.eq(Some(now.0)),
        ))
        .execute(connection)?;
    let gone = diesel::delete(dsl::audit_log.filter(dsl::id.le(last_id))).execute(connection)?;
    let trimmed = Trimmed { last_id, last_at: Timestamp(last_at), hash: listing::digest(hash)? };
    append(connection, &[trimmed.entry(now)])?;
    Ok(gone)
}

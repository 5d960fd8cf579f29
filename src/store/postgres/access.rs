//! Last use of keys, sessions of the console, and the audit log.
//!
//! Invariant: the hash of an audit entry is made in the transaction that inserts it, from the newest entry as that
//! transaction sees it; whoever appends or trims holds a lock until its end, so the chain has no fork, however many nodes
//! write to it. What is hashed is what is stored, without the character that Postgres cannot hold.

use std::ops::ControlFlow;

use diesel::pg::Pg;
use diesel::prelude::Insertable;
use diesel::sql_types::BigInt;
use diesel::{
    BoolExpressionMethods, ExpressionMethods, OptionalExtension, PgConnection, QueryDsl, QueryResult, Queryable,
    RunQueryDsl, sql_query,
};

use super::connection::View;
use super::schema::audit_log::dsl;
use super::schema::{api_keys, audit_anchor, audit_log, web_sessions};
use super::text::plain;
use super::types::Time;
use super::{PostgresStore, credentials};
use crate::domain::Timestamp;
use crate::store::fault::Fault;
use crate::store::listing::{self, Part};
use crate::store::{
    Access, ApiKey, AuditEnds, AuditEntry, AuditFilter, AuditOutcome, AuditRow, Error, KeyUse, Listing, Page, Place,
    Role, SessionUse, Trimmed, WebSession,
};

/// The advisory lock of whoever appends to the audit log or trims it.
const LOCK: i64 = 0x0069_6f74_2d61_7564;

/// Entries read at once of a scan.
const PART: i64 = 1000;

impl Access for PostgresStore {
    fn list_api_keys(&self, page: Page) -> Result<Listing<ApiKey>, Error> {
        self.read("list API keys", View::Snapshot, |c| credentials::list_keys(c, page))
    }

    fn note_uses(&self, keys: &[KeyUse], sessions: &[SessionUse]) -> Result<(), Error> {
        self.write("note the use of keys", |c| Ok(note_uses(c, keys, sessions)?))
    }

    fn create_web_session(&self, new: &WebSession, keep: usize) -> Result<(), Error> {
        self.write("begin a session", |c| Ok(create_session(c, new, keep)?))
    }

    fn web_session(&self, id_sha256: &[u8; 32]) -> Result<Option<(WebSession, Option<ApiKey>)>, Error> {
        self.read("read a session", View::Statement, |c| session(c, id_sha256))
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
        self.read("list the audit log", View::Snapshot, |c| list(c, filter, page))
    }

    fn scan_audit(&self, filter: &AuditFilter, each: &mut dyn FnMut(AuditRow) -> ControlFlow<()>) -> Result<(), Error> {
        let mut behind = 0;
        loop {
            let rows = self.read("read the audit log", View::Statement, |c| part(c, filter, behind))?;
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
        self.read("read the ends of the audit log", View::Statement, ends)
    }

    fn trim_audit(&self, before: Timestamp, limit: usize, now: Timestamp) -> Result<usize, Error> {
        self.write("trim the audit log", |c| trim(c, before, limit, now))
    }
}

/// In the order of their names: nodes that note the same uses never wait for each other in a circle.
fn note_uses(connection: &mut PgConnection, keys: &[KeyUse], sessions: &[SessionUse]) -> QueryResult<()> {
    let (mut keys, mut sessions): (Vec<_>, Vec<_>) = (keys.iter().collect(), sessions.iter().collect());
    keys.sort_by(|a, b| a.prefix.cmp(&b.prefix));
    sessions.sort_by_key(|used| used.id_sha256);
    for KeyUse { prefix, at, address } in keys {
        let older = api_keys::last_used_at.is_null().or(api_keys::last_used_at.lt(Some(Time(*at))));
        diesel::update(api_keys::table.filter(api_keys::prefix.eq(prefix)).filter(older))
            .set((
                api_keys::last_used_at.eq(Some(Time(*at))),
                api_keys::last_used_from.eq(address.map(|address| address.to_string())),
            ))
            .execute(connection)?;
    }
    for SessionUse { id_sha256, at } in sessions {
        let older = web_sessions::last_used_at.lt(Time(*at));
        diesel::update(web_sessions::table.find(id_sha256.as_slice()).filter(older))
            .set(web_sessions::last_used_at.eq(Time(*at)))
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
    created_at: Time,
    last_used_at: Time,
    expires_at: Time,
}

fn create_session(connection: &mut PgConnection, new: &WebSession, keep: usize) -> QueryResult<()> {
    diesel::delete(web_sessions::table.filter(web_sessions::expires_at.le(Time(new.created_at))))
        .execute(connection)?;
    let actor = plain(&new.actor);
    let own = web_sessions::table.filter(web_sessions::actor.eq(&*actor));
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
        actor: actor.into_owned(),
        key_prefix: new.key_prefix.clone(),
        role: new.role.name().to_owned(),
        device_prefix: new.device_prefix.as_deref().map(|prefix| plain(prefix).into_owned()),
        created_at: Time(new.created_at),
        last_used_at: Time(new.last_used_at),
        expires_at: Time(new.expires_at),
    };
    diesel::insert_into(web_sessions::table).values(row).execute(connection).map(drop)
}

fn session(connection: &mut PgConnection, id_sha256: &[u8; 32]) -> Result<Option<(WebSession, Option<ApiKey>)>, Fault> {
    let row: Option<SessionRow> = web_sessions::table.find(id_sha256.as_slice()).first(connection).optional()?;
    let Some(row) = row else { return Ok(None) };
    let session = WebSession {
        id_sha256: listing::digest(row.id_sha256)?,
        actor: row.actor,
        key_prefix: row.key_prefix,
        role: Role::from_name(&row.role).ok_or(Fault::Corrupt("session"))?,
        device_prefix: row.device_prefix,
        created_at: row.created_at.0,
        last_used_at: row.last_used_at.0,
        expires_at: row.expires_at.0,
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
    at: Time,
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
        at: row.at.0,
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
        at: Time(entry.at),
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

fn append(connection: &mut PgConnection, entries: &[AuditEntry]) -> Result<(), Fault> {
    if entries.is_empty() {
        return Ok(());
    }
    lock(connection)?;
    let ends = ends(connection)?;
    let newest: Option<Vec<u8>> =
        dsl::audit_log.order(dsl::id.desc()).select(dsl::hash).first(connection).optional()?;
    let mut hash = newest.map_or(Ok(ends.anchor.1), listing::digest)?;
    let mut last_given = ends.last_given;
    for (id, entry) in (ends.last_given + 1..).zip(entries) {
        let row = AuditRow::behind(hash, id, clean(entry));
        hash = row.hash;
        diesel::insert_into(dsl::audit_log).values(write(row)).execute(connection)?;
        last_given = id;
    }
    diesel::update(audit_anchor::table).set(audit_anchor::last_given.eq(last_given)).execute(connection)?;
    Ok(())
}

/// Waits for whoever else appends or trims; let go at the end of the transaction.
fn lock(connection: &mut PgConnection) -> QueryResult<()> {
    sql_query("SELECT pg_advisory_xact_lock($1)").bind::<BigInt, _>(LOCK).execute(connection).map(drop)
}

fn clean(entry: &AuditEntry) -> AuditEntry {
    let text = |text: &str| plain(text).into_owned();
    AuditEntry {
        at: entry.at,
        actor: text(&entry.actor),
        address: entry.address,
        action: text(&entry.action),
        target: text(&entry.target),
        outcome: entry.outcome,
        request_id: entry.request_id.as_deref().map(text),
        detail: text(&entry.detail),
    }
}

fn ends(connection: &mut PgConnection) -> Result<AuditEnds, Fault> {
    let (last_id, hash, last_given): (i64, Vec<u8>, i64) = audit_anchor::table
        .select((audit_anchor::last_id, audit_anchor::hash, audit_anchor::last_given))
        .first(connection)?;
    Ok(AuditEnds { anchor: (last_id, listing::digest(hash)?), last_given })
}

fn matching(filter: &AuditFilter) -> audit_log::BoxedQuery<'_, Pg> {
    let mut query = dsl::audit_log.into_boxed();
    if let Some(actor) = &filter.actor {
        query = query.filter(dsl::actor.eq(plain(actor)));
    }
    if let Some(action) = &filter.action {
        let action = plain(action).into_owned();
        let end = listing::end_of(&action);
        query = query.filter(dsl::action.ge(action).and(dsl::action.lt(end)));
    }
    if let Some(target) = &filter.target {
        query = query.filter(dsl::target.eq(plain(target)));
    }
    if let Some(outcome) = filter.outcome {
        query = query.filter(dsl::outcome.eq(outcome.name()));
    }
    if let Some(from) = filter.from {
        query = query.filter(dsl::at.ge(Time(from)));
    }
    if let Some(to) = filter.to {
        query = query.filter(dsl::at.lt(Time(to)));
    }
    query
}

fn list(connection: &mut PgConnection, filter: &AuditFilter, page: Page) -> Result<Listing<AuditRow>, Fault> {
    let part = Part::new(page, || matching(filter).count().get_result(connection))?;
    let mut query = matching(filter).order(dsl::id.desc()).limit(part.limit).offset(part.offset);
    if let Some(Place(id, _)) = part.behind {
        query = query.filter(dsl::id.lt(id));
    }
    let rows = query.load(connection)?;
    part.listing(rows, |row: &Row| Place(row.id, 0), read)
}

fn part(connection: &mut PgConnection, filter: &AuditFilter, behind: i64) -> Result<Vec<AuditRow>, Fault> {
    let query = matching(filter).filter(dsl::id.gt(behind)).order(dsl::id.asc()).limit(PART);
    query.load::<Row>(connection)?.into_iter().map(read).collect()
}

/// The oldest entries up to the first that is young enough: what stays has no hole. An entry says it.
fn trim(connection: &mut PgConnection, before: Timestamp, limit: usize, now: Timestamp) -> Result<usize, Fault> {
    lock(connection)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let oldest: Vec<(i64, Time, Vec<u8>)> =
        dsl::audit_log.order(dsl::id.asc()).limit(limit).select((dsl::id, dsl::at, dsl::hash)).load(connection)?;
    let Some((last_id, last_at, hash)) = oldest.into_iter().take_while(|(_, at, _)| at.0 < before).last() else {
        return Ok(0);
    };
    diesel::update(audit_anchor::table)
        .set((
            audit_anchor::last_id.eq(last_id),
            audit_anchor::hash.eq(&hash),
            audit_anchor::trimmed_at.eq(Some(Time(now))),
        ))
        .execute(connection)?;
    let gone = diesel::delete(dsl::audit_log.filter(dsl::id.le(last_id))).execute(connection)?;
    let trimmed = Trimmed { last_id, last_at: last_at.0, hash: listing::digest(hash)? };
    append(connection, &[trimmed.entry(now)])?;
    Ok(gone)
}

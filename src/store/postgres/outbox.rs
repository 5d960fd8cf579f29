//! Notices of alerts on their way out, and what is known of each alert.
//!
//! Whoever adds notices holds a lock until the end of the transaction: what is known of an alert is read and written by one
//! at a time, and notices become visible in the order of their ids. Whoever claims one passes over those that are locked.

use diesel::pg::Pg;
use diesel::prelude::Insertable;
use diesel::sql_types::{BigInt, Text, Timestamptz};
use diesel::{
    ExpressionMethods, OptionalExtension, PgConnection, QueryDsl, QueryResult, Queryable, QueryableByName, RunQueryDsl,
    sql_query,
};

use super::PostgresStore;
use super::connection::View;
use super::schema::incidents;
use super::schema::outbox::{self, dsl};
use super::text::plain;
use super::types::{Time, optional};
use crate::domain::Timestamp;
use crate::store::fault::Fault;
use crate::store::listing::{self, Part};
use crate::store::{
    AlertStatus, Due, Error, Incident, Issue, Listing, Notice, Outbox, OutboxFigures, OutboxFilter, OutboxRow,
    OutboxState, Outcome, Page, Place, Settlement,
};

const CORRUPT: Fault = Fault::Corrupt("notice");
/// The advisory lock of whoever adds notices.
const LOCK: i64 = 0x0069_6f74_2d6f_7574;

const WAITS: &str = OutboxState::Pending.name();

impl Outbox for PostgresStore {
    fn accept_notices(&self, notices: &[Notice], room: u64) -> Result<Outcome<usize>, Error> {
        self.write("take notices of alerts", |c| accept(c, notices, room))
    }

    fn claim_notice(&self, node: &str, now: Timestamp, until: Timestamp) -> Result<Option<Due>, Error> {
        self.write("claim a notice", |c| claim(c, node, now, until))
    }

    fn settle_notice(&self, id: i64, node: &str, end: &Settlement) -> Result<bool, Error> {
        self.write("settle a notice", |c| settle(c, id, node, end))
    }

    fn adopt_notices(&self, rows: &[OutboxRow]) -> Result<(), Error> {
        self.write("take notices over", |c| adopt(c, rows))
    }

    fn outbox(&self, filter: &OutboxFilter, page: Page) -> Result<Listing<OutboxRow>, Error> {
        self.read("list notices", View::Snapshot, |c| list(c, filter, page))
    }

    fn retry_notice(&self, id: i64, now: Timestamp) -> Result<Option<Outcome<OutboxRow>>, Error> {
        self.write("send a notice again", |c| retry(c, id, now))
    }

    fn outbox_figures(&self) -> Result<OutboxFigures, Error> {
        self.read("count notices", View::Snapshot, figures)
    }

    fn trim_outbox(&self, before: Timestamp, limit: usize) -> Result<usize, Error> {
        self.write("trim the outbox", |c| Ok(trim(c, before, limit)?))
    }
}

#[derive(Queryable, Insertable)]
#[diesel(table_name = outbox)]
struct Row {
    #[diesel(skip_insertion)]
    id: i64,
    fingerprint: String,
    status: String,
    starts_at: Time,
    name: String,
    body: String,
    created_at: Time,
    state: String,
    attempts: i64,
    next_attempt_at: Time,
    leased_by: Option<String>,
    leased_until: Option<Time>,
    last_error: Option<String>,
    result: Option<String>,
    issue: Option<String>,
    finished_at: Option<Time>,
}

fn read(row: Row) -> Result<OutboxRow, Fault> {
    Ok(OutboxRow {
        id: row.id,
        fingerprint: row.fingerprint,
        status: AlertStatus::from_name(&row.status).ok_or(CORRUPT)?,
        starts_at: row.starts_at.0,
        name: row.name,
        body: row.body,
        created_at: row.created_at.0,
        state: OutboxState::from_name(&row.state).ok_or(CORRUPT)?,
        attempts: u32::try_from(row.attempts).map_err(|_| CORRUPT)?,
        next_attempt_at: row.next_attempt_at.0,
        last_error: row.last_error,
        result: row.result,
        issue: row.issue.as_deref().and_then(Issue::parse),
        finished_at: row.finished_at.map(|at| at.0),
    })
}

/// A row to add: its id is given by the database.
fn write(row: &OutboxRow) -> Row {
    Row {
        id: 0,
        fingerprint: plain(&row.fingerprint).into_owned(),
        status: row.status.name().to_owned(),
        starts_at: Time(row.starts_at),
        name: plain(&row.name).into_owned(),
        body: plain(&row.body).into_owned(),
        created_at: Time(row.created_at),
        state: row.state.name().to_owned(),
        attempts: row.attempts.into(),
        next_attempt_at: Time(row.next_attempt_at),
        leased_by: None,
        leased_until: None,
        last_error: row.last_error.as_deref().map(|text| plain(text).into_owned()),
        result: row.result.clone(),
        issue: row.issue.as_ref().map(Issue::to_string),
        finished_at: optional(row.finished_at),
    }
}

#[derive(Queryable, Insertable, diesel::AsChangeset)]
#[diesel(table_name = incidents, treat_none_as_null = true)]
struct IncidentRow {
    fingerprint: String,
    status: String,
    starts_at: Time,
    told_at: Time,
    is_dry: bool,
    issue: Option<String>,
}

fn incident(connection: &mut PgConnection, fingerprint: &str) -> Result<Option<Incident>, Fault> {
    let row: Option<IncidentRow> = incidents::table.find(fingerprint).first(connection).optional()?;
    let read = |row: IncidentRow| {
        Ok(Incident {
            fingerprint: row.fingerprint,
            status: AlertStatus::from_name(&row.status).ok_or(Fault::Corrupt("incident"))?,
            starts_at: row.starts_at.0,
            told_at: row.told_at.0,
            is_dry: row.is_dry,
            issue: row.issue.as_deref().and_then(Issue::parse),
        })
    };
    row.map(read).transpose()
}

fn keep(connection: &mut PgConnection, incident: Incident) -> QueryResult<()> {
    let row = IncidentRow {
        fingerprint: plain(&incident.fingerprint).into_owned(),
        status: incident.status.name().to_owned(),
        starts_at: Time(incident.starts_at),
        told_at: Time(incident.told_at),
        is_dry: incident.is_dry,
        issue: incident.issue.as_ref().map(Issue::to_string),
    };
    diesel::insert_into(incidents::table)
        .values(&row)
        .on_conflict(incidents::fingerprint)
        .do_update()
        .set(&row)
        .execute(connection)
        .map(drop)
}

fn add(connection: &mut PgConnection, row: &OutboxRow) -> QueryResult<()> {
    diesel::insert_into(outbox::table).values(write(row)).execute(connection).map(drop)
}

fn accept(connection: &mut PgConnection, notices: &[Notice], room: u64) -> Result<Outcome<usize>, Fault> {
    lock(connection)?;
    let mut news = Vec::with_capacity(notices.len());
    for notice in notices {
        let incident = incident(connection, &notice.fingerprint)?;
        news.extend(OutboxRow::accepted(0, incident, notice));
    }
    let waiting: i64 = dsl::outbox.filter(dsl::state.eq(WAITS)).count().get_result(connection)?;
    let taken = news.len();
    if taken > 0 && listing::count(waiting) + taken as u64 > room {
        return Ok(Outcome::Conflict);
    }
    for (row, incident) in news {
        add(connection, &row)?;
        keep(connection, incident)?;
    }
    Ok(Outcome::Done(taken))
}

fn adopt(connection: &mut PgConnection, rows: &[OutboxRow]) -> Result<(), Fault> {
    lock(connection)?;
    for row in rows {
        let same =
            dsl::outbox.filter(dsl::fingerprint.eq(&row.fingerprint)).filter(dsl::created_at.eq(Time(row.created_at)));
        let found: Option<(i64, String)> = same.select((dsl::id, dsl::state)).first(connection).optional()?;
        if let Some((id, state)) = found {
            // The database took it in late, when it was sent from elsewhere.
            if state == WAITS && row.state == OutboxState::Done {
                finish(connection, id, &row.fingerprint, &row.end())?;
            }
            continue;
        }
        let known = incident(connection, &row.fingerprint)?;
        let (added, is_latest) = row.adopted(known.as_ref());
        if let Some(added) = added {
            add(connection, &added)?;
        }
        if is_latest {
            let issue = row.issue.clone().or_else(|| known.as_ref().and_then(|known| known.issue.clone()));
            keep(connection, Incident { issue, ..Incident::after(known, &row.notice()) })?;
        }
    }
    Ok(())
}

fn due(connection: &mut PgConnection, row: Row) -> Result<Due, Fault> {
    let row = read(row)?;
    // Not by id: what was taken over from elsewhere comes in behind what is later.
    let later =
        dsl::outbox.filter(dsl::fingerprint.eq(&row.fingerprint)).filter(dsl::created_at.gt(Time(row.created_at)));
    let done: i64 = later.filter(dsl::state.eq(OutboxState::Done.name())).count().get_result(connection)?;
    let issue = incident(connection, &row.fingerprint)?.and_then(|incident| incident.issue);
    Ok(Due { row, issue, is_overtaken: done > 0 })
}

fn settle(connection: &mut PgConnection, id: i64, node: &str, end: &Settlement) -> Result<bool, Fault> {
    if end.held_until.is_some() {
        // Two who put everything off would wait for each other's rows.
        lock(connection)?;
    }
    let own = dsl::outbox.find(id).filter(dsl::state.eq(WAITS)).filter(dsl::leased_by.eq(node));
    let fingerprint: Option<String> = own.select(dsl::fingerprint).first(connection).optional()?;
    let Some(fingerprint) = fingerprint else { return Ok(false) };
    finish(connection, id, &fingerprint, end)?;
    Ok(true)
}

/// Writes an end, whoever has the notice.
fn finish(connection: &mut PgConnection, id: i64, fingerprint: &str, end: &Settlement) -> QueryResult<()> {
    let finished_at = (end.state == OutboxState::Done).then_some(Time(end.at));
    diesel::update(dsl::outbox.find(id))
        .set((
            dsl::state.eq(end.state.name()),
            dsl::attempts.eq(i64::from(end.attempts)),
            dsl::next_attempt_at.eq(Time(end.next_attempt_at)),
            dsl::leased_by.eq(None::<String>),
            dsl::leased_until.eq(None::<Time>),
            dsl::result.eq(end.result.as_deref()),
            dsl::finished_at.eq(finished_at),
        ))
        .execute(connection)?;
    if let Some(until) = end.held_until {
        let sooner = dsl::outbox.filter(dsl::state.eq(WAITS)).filter(dsl::next_attempt_at.lt(Time(until)));
        diesel::update(sooner).set(dsl::next_attempt_at.eq(Time(until))).execute(connection)?;
    }
    if let Some(error) = &end.last_error {
        diesel::update(dsl::outbox.find(id)).set(dsl::last_error.eq(Some(plain(error)))).execute(connection)?;
    }
    if let Some(issue) = end.issue.as_ref().map(Issue::to_string) {
        diesel::update(dsl::outbox.find(id)).set(dsl::issue.eq(Some(&issue))).execute(connection)?;
        let incident = incidents::table.find(fingerprint);
        diesel::update(incident).set(incidents::issue.eq(Some(&issue))).execute(connection)?;
    }
    Ok(())
}

fn matching(filter: &OutboxFilter) -> outbox::BoxedQuery<'_, Pg> {
    let mut query = dsl::outbox.into_boxed();
    if let Some(state) = filter.state {
        query = query.filter(dsl::state.eq(state.name()));
    }
    if let Some(fingerprint) = &filter.fingerprint {
        query = query.filter(dsl::fingerprint.eq(plain(fingerprint)));
    }
    query
}

fn list(connection: &mut PgConnection, filter: &OutboxFilter, page: Page) -> Result<Listing<OutboxRow>, Fault> {
    let part = Part::new(page, || matching(filter).count().get_result(connection))?;
    let mut query = matching(filter).order(dsl::id.desc()).limit(part.limit).offset(part.offset);
    if let Some(Place(id, _)) = part.behind {
        query = query.filter(dsl::id.lt(id));
    }
    let rows = query.load(connection)?;
    part.listing(rows, |row: &Row| Place(row.id, 0), read)
}

fn retry(connection: &mut PgConnection, id: i64, now: Timestamp) -> Result<Option<Outcome<OutboxRow>>, Fault> {
    let row: Option<Row> = dsl::outbox.find(id).for_update().first(connection).optional()?;
    let Some(row) = row.map(read).transpose()? else { return Ok(None) };
    if row.state == OutboxState::Done {
        return Ok(Some(Outcome::Conflict));
    }
    let row = OutboxRow { state: OutboxState::Pending, attempts: 0, next_attempt_at: now, ..row };
    diesel::update(dsl::outbox.find(id))
        .set((dsl::state.eq(WAITS), dsl::attempts.eq(0), dsl::next_attempt_at.eq(Time(now))))
        .execute(connection)?;
    Ok(Some(Outcome::Done(row)))
}

fn figures(connection: &mut PgConnection) -> Result<OutboxFigures, Fault> {
    let mut figures = OutboxFigures::default();
    for state in OutboxState::ALL {
        let count = dsl::outbox.filter(dsl::state.eq(state.name())).count().get_result(connection)?;
        *match state {
            OutboxState::Pending => &mut figures.pending,
            OutboxState::Done => &mut figures.done,
            OutboxState::Dead => &mut figures.dead,
        } = listing::count(count);
    }
    let waiting = dsl::outbox.filter(dsl::state.eq(WAITS));
    let oldest: Option<Time> = waiting.select(diesel::dsl::min(dsl::created_at)).get_result(connection)?;
    figures.oldest = oldest.map(|at| at.0);
    Ok(figures)
}

/// Of alerts only those that nothing waits for: what is waiting needs their issue.
fn trim(connection: &mut PgConnection, before: Timestamp, limit: usize) -> QueryResult<usize> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let over = sql_query(
        "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE state <> 'pending' \
         AND coalesce(finished_at, next_attempt_at) < $1 LIMIT $2)",
    );
    let deleted = over.bind::<Timestamptz, _>(Time(before)).bind::<BigInt, _>(limit).execute(connection)?;
    let over = sql_query(
        "DELETE FROM incidents WHERE fingerprint IN (SELECT fingerprint FROM incidents AS i WHERE status = 'resolved' \
         AND told_at < $1 AND NOT EXISTS (SELECT 1 FROM outbox AS o WHERE o.fingerprint = i.fingerprint) LIMIT $2)",
    );
    Ok(deleted + over.bind::<Timestamptz, _>(Time(before)).bind::<BigInt, _>(limit).execute(connection)?)
}

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

fn lock(connection: &mut PgConnection) -> QueryResult<()> {
    sql_query("SELECT pg_advisory_xact_lock($1)").bind::<BigInt, _>(LOCK).execute(connection).map(drop)
}

/// The oldest notice that is due and the first of its alert.
fn next(connection: &mut PgConnection, node: &str, now: Timestamp) -> QueryResult<Option<i64>> {
    let found = sql_query(
        "SELECT o.id AS id FROM outbox AS o WHERE o.state = 'pending' AND o.next_attempt_at <= $1 \
         AND (o.leased_until IS NULL OR o.leased_until <= $1 OR o.leased_by = $2) \
         AND NOT EXISTS (SELECT 1 FROM outbox AS p WHERE p.fingerprint = o.fingerprint AND p.state = 'pending' \
         AND p.id < o.id) ORDER BY o.id LIMIT 1 FOR UPDATE SKIP LOCKED",
    );
    let found = found.bind::<Timestamptz, _>(Time(now)).bind::<Text, _>(node);
    Ok(found.get_result::<Id>(connection).optional()?.map(|found| found.id))
}

fn claim(connection: &mut PgConnection, node: &str, now: Timestamp, until: Timestamp) -> Result<Option<Due>, Fault> {
    let Some(id) = next(connection, node, now)? else { return Ok(None) };
    diesel::update(dsl::outbox.find(id))
        .set((
            dsl::attempts.eq(dsl::attempts + 1),
            dsl::leased_by.eq(Some(node)),
            dsl::leased_until.eq(Some(Time(until))),
        ))
        .execute(connection)?;
    let row = dsl::outbox.find(id).first(connection)?;
    due(connection, row).map(Some)
}

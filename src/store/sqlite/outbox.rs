//! Notices of alerts on their way out, and what is known of each alert.

use diesel::prelude::Insertable;
use diesel::sql_types::{BigInt, Text};
use diesel::sqlite::Sqlite;
use diesel::{
    ExpressionMethods, OptionalExtension, QueryDsl, QueryResult, Queryable, QueryableByName, RunQueryDsl,
    SqliteConnection, sql_query,
};

use super::SqliteStore;
use super::schema::incidents;
use super::schema::outbox::{self, dsl};
use crate::domain::Timestamp;
use crate::store::fault::Fault;
use crate::store::listing::{self, Part};
use crate::store::{
    AlertStatus, Due, Error, Incident, Issue, Listing, Notice, Outbox, OutboxFigures, OutboxFilter, OutboxRow,
    OutboxState, Outcome, Page, Place, Settlement,
};

const CORRUPT: Fault = Fault::Corrupt("notice");

const WAITS: &str = OutboxState::Pending.name();

impl Outbox for SqliteStore {
    fn accept_notices(&self, notices: &[Notice], room: u64) -> Result<Outcome<usize>, Error> {
        self.write("take notices of alerts", |c| accept(c, notices, room))
    }

    fn claim_notice(&self, node: &str, now: Timestamp, until: Timestamp) -> Result<Option<Due>, Error> {
        // Most times there is nothing: nobody is kept from writing to see that.
        let is_empty = self.read("look for notices", |c| Ok(next(c, node, now)?.is_none()))?;
        if is_empty { Ok(None) } else { self.write("claim a notice", |c| claim(c, node, now, until)) }
    }

    fn settle_notice(&self, id: i64, node: &str, end: &Settlement) -> Result<bool, Error> {
        self.write("settle a notice", |c| settle(c, id, node, end))
    }

    fn adopt_notices(&self, rows: &[OutboxRow]) -> Result<(), Error> {
        self.write("take notices over", |c| adopt(c, rows))
    }

    fn outbox(&self, filter: &OutboxFilter, page: Page) -> Result<Listing<OutboxRow>, Error> {
        self.read("list notices", |c| list(c, filter, page))
    }

    fn retry_notice(&self, id: i64, now: Timestamp) -> Result<Option<Outcome<OutboxRow>>, Error> {
        self.write("send a notice again", |c| retry(c, id, now))
    }

    fn outbox_figures(&self) -> Result<OutboxFigures, Error> {
        self.read("count notices", figures)
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
    starts_at: i64,
    name: String,
    body: String,
    created_at: i64,
    state: String,
    attempts: i64,
    next_attempt_at: i64,
    leased_by: Option<String>,
    leased_until: Option<i64>,
    last_error: Option<String>,
    result: Option<String>,
    issue: Option<String>,
    finished_at: Option<i64>,
}

fn read(row: Row) -> Result<OutboxRow, Fault> {
    Ok(OutboxRow {
        id: row.id,
        fingerprint: row.fingerprint,
        status: AlertStatus::from_name(&row.status).ok_or(CORRUPT)?,
        starts_at: Timestamp(row.starts_at),
        name: row.name,
        body: row.body,
        created_at: Timestamp(row.created_at),
        state: OutboxState::from_name(&row.state).ok_or(CORRUPT)?,
        attempts: u32::try_from(row.attempts).map_err(|_| CORRUPT)?,
        next_attempt_at: Timestamp(row.next_attempt_at),
        last_error: row.last_error,
        result: row.result,
        issue: row.issue.as_deref().and_then(Issue::parse),
        finished_at: listing::time(row.finished_at),
    })
}

/// A row to add: its id is given by the database.
fn write(row: &OutboxRow) -> Row {
    Row {
        id: 0,
        fingerprint: row.fingerprint.clone(),
        status: row.status.name().to_owned(),
        starts_at: row.starts_at.0,
        name: row.name.clone(),
        body: row.body.clone(),
        created_at: row.created_at.0,
        state: row.state.name().to_owned(),
        attempts: row.attempts.into(),
        next_attempt_at: row.next_attempt_at.0,
        leased_by: None,
        leased_until: None,
        last_error: row.last_error.clone(),
        result: row.result.clone(),
        issue: row.issue.as_ref().map(Issue::to_string),
        finished_at: row.finished_at.map(|at| at.0),
    }
}

#[derive(Queryable, Insertable, diesel::AsChangeset)]
#[diesel(table_name = incidents, treat_none_as_null = true)]
struct IncidentRow {
    fingerprint: String,
    status: String,
    starts_at: i64,
    told_at: i64,
    is_dry: bool,
    issue: Option<String>,
}

fn incident(connection: &mut SqliteConnection, fingerprint: &str) -> Result<Option<Incident>, Fault> {
    let row: Option<IncidentRow> = incidents::table.find(fingerprint).first(connection).optional()?;
    let read = |row: IncidentRow| {
        Ok(Incident {
            fingerprint: row.fingerprint,
            status: AlertStatus::from_name(&row.status).ok_or(Fault::Corrupt("incident"))?,
            starts_at: Timestamp(row.starts_at),
            told_at: Timestamp(row.told_at),
            is_dry: row.is_dry,
            issue: row.issue.as_deref().and_then(Issue::parse),
        })
    };
    row.map(read).transpose()
}

fn keep(connection: &mut SqliteConnection, incident: Incident) -> QueryResult<()> {
    let row = IncidentRow {
        fingerprint: incident.fingerprint,
        status: incident.status.name().to_owned(),
        starts_at: incident.starts_at.0,
        told_at: incident.told_at.0,
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

fn add(connection: &mut SqliteConnection, row: &OutboxRow) -> QueryResult<()> {
    diesel::insert_into(outbox::table).values(write(row)).execute(connection).map(drop)
}

fn accept(connection: &mut SqliteConnection, notices: &[Notice], room: u64) -> Result<Outcome<usize>, Fault> {
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

fn adopt(connection: &mut SqliteConnection, rows: &[OutboxRow]) -> Result<(), Fault> {
    for row in rows {
        let same =
            dsl::outbox.filter(dsl::fingerprint.eq(&row.fingerprint)).filter(dsl::created_at.eq(row.created_at.0));
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

fn due(connection: &mut SqliteConnection, row: Row) -> Result<Due, Fault> {
    let row = read(row)?;
    // Not by id: what was taken over from elsewhere comes in behind what is later.
    let later = dsl::outbox.filter(dsl::fingerprint.eq(&row.fingerprint)).filter(dsl::created_at.gt(row.created_at.0));
    let done: i64 = later.filter(dsl::state.eq(OutboxState::Done.name())).count().get_result(connection)?;
    let issue = incident(connection, &row.fingerprint)?.and_then(|incident| incident.issue);
    Ok(Due { row, issue, is_overtaken: done > 0 })
}

fn settle(connection: &mut SqliteConnection, id: i64, node: &str, end: &Settlement) -> Result<bool, Fault> {
    let own = dsl::outbox.find(id).filter(dsl::state.eq(WAITS)).filter(dsl::leased_by.eq(node));
    let fingerprint: Option<String> = own.select(dsl::fingerprint).first(connection).optional()?;
    let Some(fingerprint) = fingerprint else { return Ok(false) };
    finish(connection, id, &fingerprint, end)?;
    Ok(true)
}

/// Writes an end, whoever has the notice.
fn finish(connection: &mut SqliteConnection, id: i64, fingerprint: &str, end: &Settlement) -> QueryResult<()> {
    let finished_at = (end.state == OutboxState::Done).then_some(end.at.0);
    diesel::update(dsl::outbox.find(id))
        .set((
            dsl::state.eq(end.state.name()),
            dsl::attempts.eq(i64::from(end.attempts)),
            dsl::next_attempt_at.eq(end.next_attempt_at.0),
            dsl::leased_by.eq(None::<String>),
            dsl::leased_until.eq(None::<i64>),
            dsl::result.eq(end.result.as_deref()),
            dsl::finished_at.eq(finished_at),
        ))
        .execute(connection)?;
    if let Some(until) = end.held_until {
        let sooner = dsl::outbox.filter(dsl::state.eq(WAITS)).filter(dsl::next_attempt_at.lt(until.0));
        diesel::update(sooner).set(dsl::next_attempt_at.eq(until.0)).execute(connection)?;
    }
    if let Some(error) = &end.last_error {
        diesel::update(dsl::outbox.find(id)).set(dsl::last_error.eq(Some(error.as_str()))).execute(connection)?;
    }
    if let Some(issue) = end.issue.as_ref().map(Issue::to_string) {
        diesel::update(dsl::outbox.find(id)).set(dsl::issue.eq(Some(&issue))).execute(connection)?;
        let incident = incidents::table.find(fingerprint);
        diesel::update(incident).set(incidents::issue.eq(Some(&issue))).execute(connection)?;
    }
    Ok(())
}

fn matching(filter: &OutboxFilter) -> outbox::BoxedQuery<'_, Sqlite> {
    let mut query = dsl::outbox.into_boxed();
    if let Some(state) = filter.state {
        query = query.filter(dsl::state.eq(state.name()));
    }
    if let Some(fingerprint) = &filter.fingerprint {
        query = query.filter(dsl::fingerprint.eq(fingerprint));
    }
    query
}

fn list(connection: &mut SqliteConnection, filter: &OutboxFilter, page: Page) -> Result<Listing<OutboxRow>, Fault> {
    let part = Part::new(page, || matching(filter).count().get_result(connection))?;
    let mut query = matching(filter).order(dsl::id.desc()).limit(part.limit).offset(part.offset);
    if let Some(Place(id, _)) = part.behind {
        query = query.filter(dsl::id.lt(id));
    }
    let rows = query.load(connection)?;
    part.listing(rows, |row: &Row| Place(row.id, 0), read)
}

fn retry(connection: &mut SqliteConnection, id: i64, now: Timestamp) -> Result<Option<Outcome<OutboxRow>>, Fault> {
    let row: Option<Row> = dsl::outbox.find(id).first(connection).optional()?;
    let Some(row) = row.map(read).transpose()? else { return Ok(None) };
    if row.state == OutboxState::Done {
        return Ok(Some(Outcome::Conflict));
    }
    let row = OutboxRow { state: OutboxState::Pending, attempts: 0, next_attempt_at: now, ..row };
    diesel::update(dsl::outbox.find(id))
        .set((dsl::state.eq(WAITS), dsl::attempts.eq(0), dsl::next_attempt_at.eq(now.0)))
        .execute(connection)?;
    Ok(Some(Outcome::Done(row)))
}

fn figures(connection: &mut SqliteConnection) -> Result<OutboxFigures, Fault> {
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
    let oldest: Option<i64> = waiting.select(diesel::dsl::min(dsl::created_at)).get_result(connection)?;
    figures.oldest = listing::time(oldest);
    Ok(figures)
}

/// Of alerts only those that nothing waits for: what is waiting needs their issue.
fn trim(connection: &mut SqliteConnection, before: Timestamp, limit: usize) -> QueryResult<usize> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let over = sql_query(
        "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE state <> 'pending' \
         AND coalesce(finished_at, next_attempt_at) < ? LIMIT ?)",
    );
    let deleted = over.bind::<BigInt, _>(before.0).bind::<BigInt, _>(limit).execute(connection)?;
    let over = sql_query(
        "DELETE FROM incidents WHERE fingerprint IN (SELECT fingerprint FROM incidents AS i WHERE status = 'resolved' \
         AND told_at < ? AND NOT EXISTS (SELECT 1 FROM outbox AS o WHERE o.fingerprint = i.fingerprint) LIMIT ?)",
    );
    Ok(deleted + over.bind::<BigInt, _>(before.0).bind::<BigInt, _>(limit).execute(connection)?)
}

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

/// The oldest notice that is due and the first of its alert.
fn next(connection: &mut SqliteConnection, node: &str, now: Timestamp) -> QueryResult<Option<i64>> {
    let found = sql_query(
        "SELECT o.id AS id FROM outbox AS o WHERE o.state = 'pending' AND o.next_attempt_at <= ? \
         AND (o.leased_until IS NULL OR o.leased_until <= ? OR o.leased_by = ?) \
         AND NOT EXISTS (SELECT 1 FROM outbox AS p WHERE p.fingerprint = o.fingerprint AND p.state = 'pending' \
         AND p.id < o.id) ORDER BY o.id LIMIT 1",
    );
    let found = found.bind::<BigInt, _>(now.0).bind::<BigInt, _>(now.0).bind::<Text, _>(node);
    Ok(found.get_result::<Id>(connection).optional()?.map(|found| found.id))
}

fn claim(
    connection: &mut SqliteConnection,
    node: &str,
    now: Timestamp,
    until: Timestamp,
) -> Result<Option<Due>, Fault> {
    let Some(id) = next(connection, node, now)? else { return Ok(None) };
    diesel::update(dsl::outbox.find(id))
        .set((dsl::attempts.eq(dsl::attempts + 1), dsl::leased_by.eq(Some(node)), dsl::leased_until.eq(Some(until.0))))
        .execute(connection)?;
    let row = dsl::outbox.find(id).first(connection)?;
    due(connection, row).map(Some)
}

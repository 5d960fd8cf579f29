//! The queue of changes for those who watch, on any node.
//!
//! A row's number is given before its transaction commits, so a row may come to light behind one with a greater number. Rows are
//! therefore read by transaction, and only of those below the oldest one that is still under way.

use diesel::sql_types::{BigInt, Double, Text};
use diesel::{PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query};
use uuid::Uuid;

use super::connection::View;
use super::{PostgresStore, alerts, commands, states};
use crate::store::fault::Fault;
use crate::store::live::{Subject, Wanted};
use crate::store::{Error, LIVE_KEPT_S, Live, LiveChanges, LivePlace};

#[derive(QueryableByName)]
struct Note {
    #[diesel(sql_type = BigInt)]
    tx: i64,
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Text)]
    device_id: String,
    #[diesel(sql_type = Text)]
    name: String,
}

#[derive(QueryableByName)]
struct End {
    #[diesel(sql_type = BigInt)]
    oldest: i64,
}

fn end(connection: &mut PgConnection) -> QueryResult<LivePlace> {
    let query = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS oldest";
    let end: End = sql_query(query).get_result(connection)?;
    Ok(LivePlace(end.oldest - 1, i64::MAX))
}

fn changes(connection: &mut PgConnection, node: Uuid, after: LivePlace, limit: u32) -> Result<LiveChanges, Fault> {
    let query = "SELECT tx, id, kind, device_id, ref AS name FROM live_changes WHERE (tx, id) > ($1, $2) \
                 AND tx < pg_snapshot_xmin(pg_current_snapshot())::text::bigint ORDER BY tx, id LIMIT $3";
    let notes: Vec<Note> = sql_query(query)
        .bind::<BigInt, _>(after.0)
        .bind::<BigInt, _>(after.1)
        .bind::<BigInt, _>(i64::from(limit))
        .load(connection)?;
    let place = notes.last().map_or(after, |note| LivePlace(note.tx, note.id));
    let has_more = notes.len() as u64 >= u64::from(limit);
    if notes.is_empty() {
        return Ok(LiveChanges { changes: Vec::new(), place, has_more });
    }
    let subject = |note: &Note| Subject::of(&note.kind, &note.device_id, &note.name);
    let wanted = Wanted::of(notes.iter().filter_map(subject).collect());
    let states = states::of(connection, node, &wanted.devices)?;
    let states = states.into_iter().map(|fresh| (fresh.device, fresh.state)).collect();
    let alerts = alerts::find_many(connection, &wanted.alerts)?;
    let commands = commands::find_many(connection, &wanted.commands)?;
    Ok(LiveChanges { changes: wanted.found(states, alerts, commands), place, has_more })
}

/// By the server's clock, which has stamped them. Somebody's long transaction hides what was committed behind it: old notes may
/// be there that nobody could read yet.
fn trim(connection: &mut PgConnection, read: LivePlace) -> QueryResult<usize> {
    let query =
        "DELETE FROM live_changes WHERE at < clock_timestamp() - make_interval(secs => $1) AND (tx, id) <= ($2, $3)";
    sql_query(query)
        .bind::<Double, _>(LIVE_KEPT_S as f64)
        .bind::<BigInt, _>(read.0)
        .bind::<BigInt, _>(read.1)
        .execute(connection)
}

impl Live for PostgresStore {
    fn live_end(&self) -> Result<LivePlace, Error> {
        self.read("find the end of changes", View::Statement, |c| Ok(end(c)?))
    }

    fn live_changes(&self, after: LivePlace, limit: u32) -> Result<LiveChanges, Error> {
        self.read("read changes", View::Snapshot, |c| changes(c, self.node, after, limit))
    }

    fn trim_live(&self, read: LivePlace) -> Result<usize, Error> {
        self.write("trim changes", |c| Ok(trim(c, read)?))
    }
}

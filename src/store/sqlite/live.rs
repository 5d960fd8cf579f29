//! The queue of changes for those who watch.

use diesel::sql_types::{BigInt, Text};
use diesel::{QueryResult, QueryableByName, RunQueryDsl, SqliteConnection, sql_query};

use super::fault::Fault;
use super::{SqliteStore, alerts, commands, states};
use crate::store::live::{Subject, Wanted};
use crate::store::{Error, LIVE_KEPT_S, Live, LiveChanges, LivePlace};

#[derive(QueryableByName)]
struct Note {
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
    id: i64,
}

fn end(connection: &mut SqliteConnection) -> QueryResult<LivePlace> {
    // Not the last row, which may be trimmed.
    let query = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'live_changes'), 0) AS id";
    let end: End = sql_query(query).get_result(connection)?;
    Ok(LivePlace(0, end.id))
}

fn changes(connection: &mut SqliteConnection, after: LivePlace, limit: u32) -> Result<LiveChanges, Fault> {
    let query = "SELECT id, kind, device_id, ref AS name FROM live_changes WHERE id > ? ORDER BY id LIMIT ?";
    let notes: Vec<Note> =
        sql_query(query).bind::<BigInt, _>(after.1).bind::<BigInt, _>(i64::from(limit)).load(connection)?;
    let place = notes.last().map_or(after, |note| LivePlace(0, note.id));
    let has_more = notes.len() as u64 >= u64::from(limit);
    let subject = |note: &Note| Subject::of(&note.kind, &note.device_id, &note.name);
    let wanted = Wanted::of(notes.iter().filter_map(subject).collect());
    let states = states::of(connection, &wanted.devices)?;
    let alerts = wanted.alerts.iter().filter_map(|id| alerts::find(connection, *id).transpose());
    let alerts = alerts.collect::<Result<_, _>>()?;
    let commands = wanted.commands.iter().filter_map(|id| commands::find(connection, *id).transpose());
    let commands = commands.collect::<Result<_, _>>()?;
    Ok(LiveChanges { changes: wanted.found(states, alerts, commands), place, has_more })
}

fn trim(connection: &mut SqliteConnection, read: LivePlace) -> QueryResult<usize> {
    let kept = i64::try_from(LIVE_KEPT_S).unwrap_or(i64::MAX);
    sql_query("DELETE FROM live_changes WHERE at < unixepoch() - ? AND id <= ?")
        .bind::<BigInt, _>(kept)
        .bind::<BigInt, _>(read.1)
        .execute(connection)
}

impl Live for SqliteStore {
    fn live_end(&self) -> Result<LivePlace, Error> {
        self.read("find the end of changes", |c| Ok(end(c)?))
    }

    fn live_changes(&self, after: LivePlace, limit: u32) -> Result<LiveChanges, Error> {
        self.read("read changes", |c| changes(c, after, limit))
    }

    fn trim_live(&self, read: LivePlace) -> Result<usize, Error> {
        self.write_lazily("trim changes", |c| Ok(trim(c, read)?))
    }
}

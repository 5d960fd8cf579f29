//! What the broker keeps over a restart, as it hands it in and gets it back.
//!
//! Invariant: a session's change is complete or absent, whatever happens. A large save is several transactions, so that the
//! collector gets its turn between them; only the last one waits for the disk, and with it all of them are there.
//!
//! A message that waits for many sessions is stored for each of them: counting references would cost every message, and
//! many subscribers that are away from the same topic are rare.

use diesel::connection::DefaultLoadingMode;
use diesel::result::Error as SqlError;
use diesel::sql_types::{BigInt, Binary, Nullable, Text};
use diesel::{ExpressionMethods, QueryDsl, QueryResult, QueryableByName, RunQueryDsl, SqliteConnection, sql_query};

use super::connection::{Connections, Sync};
use super::fault::Fault;
use super::schema::{mqtt_retained, mqtt_session_messages, mqtt_sessions};
use super::statement::statement;
use crate::store::{RetainedChange, SavedSession, SessionChange, SessionSave};

/// What one transaction may weigh, in bytes; a single session is never cut.
const PART: usize = 4 << 20;
/// What a row weighs beside its bytes: as much as it takes time.
const ROW: usize = 1024;

statement! {
    /// A session's state, whole.
    UpsertSession: "INSERT INTO mqtt_sessions (client_id, state) VALUES (",
    ") ON CONFLICT (client_id) DO UPDATE SET state = excluded.state";
    client_id: &'a str => Text,
    state: &'a [u8] => Binary,
}

statement! {
    /// A message at its position.
    UpsertMessage: "INSERT INTO mqtt_session_messages (session_key, position, message) VALUES (",
    ") ON CONFLICT (session_key, position) DO UPDATE SET message = excluded.message";
    session_key: i64 => BigInt,
    position: i64 => BigInt,
    message: &'a [u8] => Binary,
}

statement! {
    /// A topic's message.
    UpsertRetained: "INSERT INTO mqtt_retained (topic, message) VALUES (",
    ") ON CONFLICT (topic) DO UPDATE SET message = excluded.message";
    topic: &'a str => Text,
    message: &'a [u8] => Binary,
}

#[derive(Clone, Copy)]
enum Change<'a> {
    Session(&'a SessionChange),
    Retained(&'a RetainedChange),
}

impl Change<'_> {
    fn weight(self) -> usize {
        let bytes = match self {
            Self::Retained(change) => change.message.as_ref().map_or(0, |message| message.len()),
            Self::Session(SessionChange { change: SessionSave::Ended, .. }) => 0,
            Self::Session(SessionChange { change: SessionSave::Changed { state, put, removed }, .. }) => {
                let messages: usize = put.iter().map(|(_, message)| ROW + message.len()).sum();
                state.as_ref().map_or(0, |state| state.len()) + messages + removed.len() * ROW
            }
        };
        ROW + bytes
    }

    fn store(self, connection: &mut SqliteConnection) -> Result<(), Fault> {
        match self {
            Self::Session(session) => save_session(connection, session),
            Self::Retained(retained) => Ok(save_retained(connection, retained)?),
        }
    }
}

/// See [`Store::save_sessions`](crate::store::Store::save_sessions).
pub(super) fn save(
    connections: &Connections,
    sessions: &[SessionChange],
    retained: &[RetainedChange],
) -> Result<(), Fault> {
    let changes: Vec<Change<'_>> =
        sessions.iter().map(Change::Session).chain(retained.iter().map(Change::Retained)).collect();
    let mut rest = &changes[..];
    while !rest.is_empty() {
        let (part, behind) = rest.split_at(first_part(rest));
        let sync = if behind.is_empty() { Sync::Now } else { Sync::Lazy };
        connections.write(sync, |connection| part.iter().try_for_each(|change| change.store(connection)))?;
        rest = behind;
    }
    Ok(())
}

/// How many of the changes fit one transaction; one always does.
fn first_part(changes: &[Change<'_>]) -> usize {
    let mut weight = 0;
    let fit = changes.iter().take_while(|change| {
        weight += change.weight();
        weight <= PART
    });
    fit.count().max(1)
}

fn save_session(connection: &mut SqliteConnection, session: &SessionChange) -> Result<(), Fault> {
    let client_id = session.client_id.as_str();
    let SessionSave::Changed { state, put, removed } = &session.change else {
        // Its messages go by the foreign key.
        diesel::delete(mqtt_sessions::table.filter(mqtt_sessions::client_id.eq(client_id))).execute(connection)?;
        return Ok(());
    };
    if let Some(state) = state {
        UpsertSession { client_id, state }.execute(connection)?;
    }
    let query = mqtt_sessions::table.filter(mqtt_sessions::client_id.eq(client_id));
    let session_key: i64 = query.select(mqtt_sessions::session_key).first(connection)?;
    for at in removed {
        diesel::delete(mqtt_session_messages::table.find((session_key, position(*at)?))).execute(connection)?;
    }
    for (at, message) in put {
        UpsertMessage { session_key, position: position(*at)?, message }.execute(connection)?;
    }
    Ok(())
}

fn position(position: u64) -> QueryResult<i64> {
    i64::try_from(position).map_err(|error| SqlError::SerializationError(error.into()))
}

fn save_retained(connection: &mut SqliteConnection, retained: &RetainedChange) -> QueryResult<()> {
    let topic = retained.topic.as_str();
    match &retained.message {
        Some(message) => UpsertRetained { topic, message }.execute(connection)?,
        None => diesel::delete(mqtt_retained::table.find(topic)).execute(connection)?,
    };
    Ok(())
}

/// A session (it has a client id), or a message of the one before.
#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Nullable<Text>)]
    client_id: Option<String>,
    #[diesel(sql_type = BigInt)]
    position: i64,
    #[diesel(sql_type = Binary)]
    bytes: Vec<u8>,
}

/// Two lists read side by side, each along its index; a session stands before its messages.
pub(super) const SESSIONS: &str = "SELECT session_key, -1 AS position, client_id, state AS bytes FROM mqtt_sessions \
     UNION ALL SELECT session_key, position, NULL, message FROM mqtt_session_messages ORDER BY session_key, position";

/// See [`Store::load_sessions`](crate::store::Store::load_sessions).
pub(super) fn load(connection: &mut SqliteConnection, each: &mut dyn FnMut(SavedSession)) -> Result<(), Fault> {
    let mut session: Option<SavedSession> = None;
    for row in sql_query(SESSIONS).load_iter::<Row, DefaultLoadingMode>(connection)? {
        let Row { client_id, position, bytes } = row?;
        if let Some(client_id) = client_id {
            let next = SavedSession { client_id, state: bytes, messages: Vec::new() };
            session.replace(next).into_iter().for_each(&mut *each);
        } else {
            let position = u64::try_from(position).map_err(|_| CORRUPT)?;
            session.as_mut().ok_or(CORRUPT)?.messages.push((position, bytes));
        }
    }
    session.into_iter().for_each(each);
    Ok(())
}

const CORRUPT: Fault = Fault::Corrupt("session");

/// See [`Store::load_retained`](crate::store::Store::load_retained).
pub(super) fn load_retained(
    connection: &mut SqliteConnection,
    each: &mut dyn FnMut(String, Vec<u8>),
) -> Result<(), Fault> {
    let columns = mqtt_retained::table.select((mqtt_retained::topic, mqtt_retained::message));
    for row in columns.load_iter::<(String, Vec<u8>), DefaultLoadingMode>(connection)? {
        let (topic, message) = row?;
        each(topic, message);
    }
    Ok(())
}

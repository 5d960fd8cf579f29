//! What the broker of this node keeps over a restart, as it hands it in and gets it back.
//!
//! Invariant: a session's change is complete or absent, whatever happens. A large save is several transactions, so that
//! none holds much. Names are found by their digest: MQTT allows them to be longer than an index takes.

use diesel::pg::PgRowByRowLoadingMode;
use diesel::result::Error as SqlError;
use diesel::sql_types::{Array, BigInt, Binary, Nullable, Text, Uuid as UuidType};
use diesel::{ExpressionMethods, PgConnection, QueryDsl, QueryResult, QueryableByName, RunQueryDsl, sql_query};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::connection::Connections;
use super::schema::{mqtt_retained, mqtt_sessions};
use crate::store::fault::Fault;
use crate::store::{RetainedChange, SavedSession, SessionChange, SessionSave};

/// What one transaction may weigh, in bytes; a single session is never cut.
const PART: usize = 4 << 20;
/// What a row weighs beside its bytes: as much as it takes time.
const ROW: usize = 1024;

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

    fn store(self, connection: &mut PgConnection, node: Uuid) -> Result<(), Fault> {
        match self {
            Self::Session(session) => save_session(connection, node, session),
            Self::Retained(retained) => Ok(save_retained(connection, node, retained)?),
        }
    }
}

/// See [`Store::save_sessions`](crate::store::Store::save_sessions).
pub(super) fn save(
    connections: &Connections,
    node: Uuid,
    sessions: &[SessionChange],
    retained: &[RetainedChange],
) -> Result<(), Fault> {
    let changes: Vec<Change<'_>> =
        sessions.iter().map(Change::Session).chain(retained.iter().map(Change::Retained)).collect();
    let mut rest = &changes[..];
    while !rest.is_empty() {
        let (part, behind) = rest.split_at(first_part(rest));
        connections.write(|connection| part.iter().try_for_each(|change| change.store(connection, node)))?;
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

fn digest(name: &str) -> Vec<u8> {
    Sha256::digest(name).to_vec()
}

fn save_session(connection: &mut PgConnection, node: Uuid, session: &SessionChange) -> Result<(), Fault> {
    let client = digest(&session.client_id);
    let SessionSave::Changed { state, put, removed } = &session.change else {
        // Its messages go by the foreign key.
        let of_client = mqtt_sessions::node.eq(node);
        diesel::delete(mqtt_sessions::table.filter(of_client).filter(mqtt_sessions::client_sha256.eq(client)))
            .execute(connection)?;
        return Ok(());
    };
    let session_key = match state {
        Some(state) => upsert(connection, node, client, session, state)?,
        None => mqtt_sessions::table
            .filter(mqtt_sessions::node.eq(node))
            .filter(mqtt_sessions::client_sha256.eq(client))
            .select(mqtt_sessions::session_key)
            .first(connection)?,
    };
    if !removed.is_empty() {
        let removed = removed.iter().map(|at| position(*at)).collect::<QueryResult<Vec<_>>>()?;
        sql_query("DELETE FROM mqtt_session_messages WHERE session_key = $1 AND position = ANY ($2)")
            .bind::<BigInt, _>(session_key)
            .bind::<Array<BigInt>, _>(removed)
            .execute(connection)?;
    }
    if !put.is_empty() {
        let positions = put.iter().map(|(at, _)| position(*at)).collect::<QueryResult<Vec<_>>>()?;
        let messages: Vec<&[u8]> = put.iter().map(|(_, message)| &**message).collect();
        sql_query(
            "INSERT INTO mqtt_session_messages (session_key, position, message) \
             SELECT $1, p, m FROM unnest($2, $3) AS n (p, m) \
             ON CONFLICT (session_key, position) DO UPDATE SET message = excluded.message",
        )
        .bind::<BigInt, _>(session_key)
        .bind::<Array<BigInt>, _>(positions)
        .bind::<Array<Binary>, _>(messages)
        .execute(connection)?;
    }
    Ok(())
}

/// Writes a session's state, whole; gives its key.
fn upsert(
    connection: &mut PgConnection,
    node: Uuid,
    client: Vec<u8>,
    session: &SessionChange,
    state: &[u8],
) -> QueryResult<i64> {
    let row = (
        mqtt_sessions::node.eq(node),
        mqtt_sessions::client_sha256.eq(client),
        mqtt_sessions::client_id.eq(&session.client_id),
        mqtt_sessions::state.eq(state),
    );
    diesel::insert_into(mqtt_sessions::table)
        .values(row)
        .on_conflict((mqtt_sessions::node, mqtt_sessions::client_sha256))
        .do_update()
        .set(mqtt_sessions::state.eq(state))
        .returning(mqtt_sessions::session_key)
        .get_result(connection)
}

fn position(position: u64) -> QueryResult<i64> {
    i64::try_from(position).map_err(|error| SqlError::SerializationError(error.into()))
}

fn save_retained(connection: &mut PgConnection, node: Uuid, retained: &RetainedChange) -> QueryResult<()> {
    let topic = digest(&retained.topic);
    let Some(message) = &retained.message else {
        return diesel::delete(mqtt_retained::table.find((node, topic))).execute(connection).map(drop);
    };
    let row = (
        mqtt_retained::node.eq(node),
        mqtt_retained::topic_sha256.eq(topic),
        mqtt_retained::topic.eq(&retained.topic),
        mqtt_retained::message.eq(&**message),
    );
    diesel::insert_into(mqtt_retained::table)
        .values(row)
        .on_conflict((mqtt_retained::node, mqtt_retained::topic_sha256))
        .do_update()
        .set(mqtt_retained::message.eq(&**message))
        .execute(connection)
        .map(drop)
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

/// A session stands before its messages.
const SESSIONS: &str = "SELECT session_key, -1 AS position, client_id, state AS bytes FROM mqtt_sessions \
     WHERE node = $1 UNION ALL SELECT m.session_key, m.position, NULL, m.message FROM mqtt_session_messages AS m \
     JOIN mqtt_sessions AS s ON s.session_key = m.session_key WHERE s.node = $1 ORDER BY session_key, position";

/// See [`Store::load_sessions`](crate::store::Store::load_sessions).
pub(super) fn load(connection: &mut PgConnection, node: Uuid, each: &mut dyn FnMut(SavedSession)) -> Result<(), Fault> {
    let mut session: Option<SavedSession> = None;
    let query = sql_query(SESSIONS).bind::<UuidType, _>(node);
    for row in query.load_iter::<Row, PgRowByRowLoadingMode>(connection)? {
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
    connection: &mut PgConnection,
    node: Uuid,
    each: &mut dyn FnMut(String, Vec<u8>),
) -> Result<(), Fault> {
    let own = mqtt_retained::table.filter(mqtt_retained::node.eq(node));
    let columns = own.select((mqtt_retained::topic, mqtt_retained::message));
    for row in columns.load_iter::<(String, Vec<u8>), PgRowByRowLoadingMode>(connection)? {
        let (topic, message) = row?;
        each(topic, message);
    }
    Ok(())
}

//! The tables of one snapshot as JSON, row by row through a cursor.
//!
//! ```text
//! devices/00000000.json    [ row, row, … ]   a row is what row_to_json makes of it; about a mebibyte a part
//! sequences.json           {"devices_id_seq": 17, …}   the last number given
//! ```
//! Tables stand after those they refer to. Numbers and texts come back to the bit: JSON columns go in and out as text.

use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::{PgConnection, QueryableByName, RunQueryDsl, sql_query};

use super::connection::Connections;
use super::partitions::TABLES;
use super::{cannot_open, migrations};
use crate::store::fault::Fault;
use crate::store::{CopyError, Options, Part, TakePart};

/// Bytes from which on a part is full.
const PART_BYTES: usize = 1 << 20;
/// Rows the server hands over at a time.
const ROWS: usize = 200;
/// What tables hold what meters said, or is made of it, and grow without an end.
fn is_data(table: &str) -> bool {
    TABLES.contains(&table) || table.starts_with("rollup")
}

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

#[derive(QueryableByName)]
struct Reference {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    needs: String,
}

#[derive(QueryableByName)]
struct Last {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Nullable<BigInt>)]
    last: Option<i64>,
}

/// See [`copy_out`](crate::store::copy_out).
pub(in crate::store) fn copy_out(
    url: &str,
    has_telemetry: bool,
    take: &mut TakePart<'_>,
) -> Result<Vec<String>, CopyError> {
    let connections = Connections::new(url, &Options { pool_size: 1, ..Options::default() });
    let mut connection = connections.establish().map_err(|fault| cannot_open(url, fault))?;
    let mut failed = None;
    let done = connection.build_transaction().read_only().repeatable_read().run(|connection| {
        read_all(connection, has_telemetry, take).map_err(|error| {
            failed = Some(error);
            diesel::result::Error::RollbackTransaction
        })
    });
    match (done, failed) {
        (_, Some(error)) => Err(error),
        (done, None) => Ok(done.map_err(|error| Fault::from(error).during("copy the database"))?),
    }
}

fn read_all(
    connection: &mut PgConnection,
    has_telemetry: bool,
    take: &mut TakePart<'_>,
) -> Result<Vec<String>, CopyError> {
    let sql = |error: diesel::result::Error| CopyError::Store(Fault::from(error).during("copy the database"));
    sql_query("SET LOCAL statement_timeout = 0").execute(connection).map_err(sql)?;
    sql_query("SET LOCAL TIME ZONE 'UTC'").execute(connection).map_err(sql)?;
    let versions = migrations::applied(connection).map_err(|fault| fault.during("read the schema's version"))?;
    if versions.is_empty() {
        return Err(CopyError::Missing { path: "this URL that iot-meter has made".to_owned() });
    }
    for table in tables(connection).map_err(sql)? {
        if has_telemetry || !is_data(&table) {
            read_table(connection, &table, take)?;
        }
    }
    let last = "SELECT sequencename::text AS name, last_value AS last FROM pg_sequences \
                WHERE schemaname = current_schema()";
    let last: Vec<Last> = sql_query(last).load(connection).map_err(sql)?;
    let given: serde_json::Map<_, _> =
        last.into_iter().filter_map(|row| Some((row.name, serde_json::Value::from(row.last?)))).collect();
    hand_over(take, "sequences.json".to_owned(), serde_json::Value::Object(given).to_string().as_bytes())?;
    Ok(versions)
}

/// The tables there are, those that others refer to first.
pub(super) fn tables(connection: &mut PgConnection) -> diesel::QueryResult<Vec<String>> {
    let names = "SELECT c.relname::text AS name FROM pg_class AS c \
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition \
        AND c.relname <> '__diesel_schema_migrations' AND NOT EXISTS (SELECT FROM pg_depend AS d \
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') ORDER BY 1";
    let mut left: Vec<String> = sql_query(names).load::<Name>(connection)?.into_iter().map(|row| row.name).collect();
    let references = "SELECT c.relname::text AS name, r.relname::text AS needs FROM pg_constraint AS k \
        JOIN pg_class AS c ON c.oid = k.conrelid JOIN pg_class AS r ON r.oid = k.confrelid \
        WHERE k.contype = 'f' AND k.conrelid <> k.confrelid";
    let references: Vec<Reference> = sql_query(references).load(connection)?;
    let mut ordered = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let waits = |name: &String| references.iter().any(|r| r.name == *name && left.contains(&r.needs));
        let (free, waiting): (Vec<_>, Vec<_>) = left.iter().cloned().partition(|name| !waits(name));
        if free.is_empty() {
            // Tables that refer to each other in a circle: none of ours.
            ordered.extend(waiting);
            break;
        }
        ordered.extend(free);
        left = waiting;
    }
    Ok(ordered)
}

fn read_table(connection: &mut PgConnection, table: &str, take: &mut TakePart<'_>) -> Result<(), CopyError> {
    let sql = |error: diesel::result::Error| CopyError::Store(Fault::from(error).during("copy a table"));
    let quoted = quoted(table);
    sql_query(format!(
        "DECLARE rows_of_table NO SCROLL CURSOR FOR SELECT row_to_json(t)::text AS name FROM {quoted} AS t"
    ))
    .execute(connection)
    .map_err(sql)?;
    let (mut part, mut number) = (Vec::new(), 0);
    loop {
        let rows: Vec<Name> = sql_query(format!("FETCH {ROWS} FROM rows_of_table")).load(connection).map_err(sql)?;
        let is_end = rows.is_empty();
        for Name { name: row } in rows {
            part.extend_from_slice(if part.is_empty() { b"[" } else { b",\n" });
            part.extend_from_slice(row.as_bytes());
        }
        // A table without rows has a part, too: it is one that was copied.
        if part.len() >= PART_BYTES || is_end && (!part.is_empty() || number == 0) {
            part.extend_from_slice(if part.is_empty() { b"[]" } else { b"]" });
            hand_over(take, format!("{table}/{number:08}.json"), &part)?;
            part.clear();
            number += 1;
        }
        if is_end {
            break;
        }
    }
    sql_query("CLOSE rows_of_table").execute(connection).map_err(sql)?;
    Ok(())
}

fn hand_over(take: &mut TakePart<'_>, name: String, mut bytes: &[u8]) -> Result<(), CopyError> {
    let size = bytes.len() as u64;
    Ok(take(Part { name, size, content: &mut bytes })?)
}

/// As an identifier of SQL.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

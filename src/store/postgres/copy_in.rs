//! The parts of a dump into an empty database, in one transaction: schema as it was, rows, numbers given, schema as it is.
//!
//! Triggers are off while rows go in: what they would do is in the rows already, and the audit log lets nothing be moved.

use std::collections::BTreeSet;

use diesel::connection::SimpleConnection;
use diesel::sql_types::{BigInt, Text};
use diesel::{Connection, PgConnection, QueryableByName, RunQueryDsl, sql_query};

use super::connection::Connections;
use super::copy_out::{quoted, tables};
use super::partitions::{self, DAY_US};
use super::{cannot_open, engines, migrations, text};
use crate::store::fault::Fault;
use crate::store::{CopyError, GivePart, Options};

/// What running nodes say of themselves, and to those who watch.
const LIVE: [&str; 3] = ["nodes", "device_sessions", "live_changes"];

/// Without measurements: whatever there was may be in the archive, and no hour of before is rolled up. (Message times go as
/// far as a day ahead; rollups go by whole days.)
const ALL_IS_PAST: &str = "INSERT INTO telemetry_trimmed AS t (id, before_ts) VALUES (1, now() + interval '1 day') \
     ON CONFLICT (id) DO UPDATE SET before_ts = greatest(t.before_ts, excluded.before_ts); \
     UPDATE rollup_state SET kept_from = greatest(kept_from, date_trunc('day', now()) + interval '2 days')";

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = Text)]
    name: String,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// See [`copy_in`](crate::store::copy_in).
pub(in crate::store) fn copy_in(
    url: &str,
    versions: &[String],
    give: &mut GivePart<'_>,
) -> Result<Vec<String>, CopyError> {
    let mut connection = connect(url)?;
    let mut failed = None;
    let done = connection.transaction(|connection| {
        fill(connection, versions, give).map_err(|error| {
            failed = Some(error);
            diesel::result::Error::RollbackTransaction
        })
    });
    match (done, failed) {
        (_, Some(error)) => Err(error),
        (done, None) => Ok(done.map_err(sql)?),
    }
}

/// See [`check_empty`](crate::store::check_empty).
pub(in crate::store) fn check_empty(url: &str) -> Result<(), CopyError> {
    refuse_used(&mut connect(url)?)
}

fn connect(url: &str) -> Result<PgConnection, CopyError> {
    let connections = Connections::new(url, &Options { pool_size: 1, ..Options::default() });
    Ok(connections.establish().map_err(|fault| cannot_open(url, fault))?)
}

fn sql(error: diesel::result::Error) -> CopyError {
    CopyError::Store(Fault::from(error).during("fill the database"))
}

fn refuse_used(connection: &mut PgConnection) -> Result<(), CopyError> {
    let any = "SELECT c.relname::text AS name FROM pg_class AS c \
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm') AND NOT EXISTS \
        (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') \
        ORDER BY c.relname <> 'devices', 1 LIMIT 1";
    match sql_query(any).load::<Found>(connection).map_err(sql)?.pop() {
        Some(found) => Err(CopyError::NotEmpty { what: format!("the table {}", found.name) }),
        None => Ok(()),
    }
}

fn fill(connection: &mut PgConnection, versions: &[String], give: &mut GivePart<'_>) -> Result<Vec<String>, CopyError> {
    connection
        .batch_execute("SET LOCAL statement_timeout = 0; SET LOCAL TIME ZONE 'UTC'; SET LOCAL lock_timeout = '30s'")
        .map_err(sql)?;
    migrations::lock_for_transaction(connection).map_err(sql)?;
    refuse_used(connection)?;
    let migrate = |connection: &mut PgConnection, only: Option<&[String]>| {
        migrations::run_some(connection, only).map_err(|fault| fault.during("fill the database"))
    };
    migrate(connection, Some(versions))?;
    let ours = tables(connection).map_err(sql)?;
    let each = |verb: &str, end: &str| -> String {
        ours.iter().map(|table| format!("{verb} {}{end};", quoted(table))).collect()
    };
    connection.batch_execute(&each("ALTER TABLE", " DISABLE TRIGGER USER")).map_err(sql)?;
    let (mut left_out, mut begun) = (Vec::new(), BTreeSet::new());
    while let Some((name, bytes)) = give()? {
        let table = name.split('/').next().unwrap_or_default();
        if LIVE.contains(&table) {
            continue;
        }
        let text = String::from_utf8(bytes).map_err(|_| damaged(&name))?;
        if name == "sequences.json" {
            set_sequences(connection, &text)?;
        } else if ours.iter().any(|known| known == table) {
            if begun.insert(table.to_owned()) {
                // What a migration puts into a new one. Tables that were not copied keep it.
                sql_query(format!("DELETE FROM {}", quoted(table))).execute(connection).map_err(sql)?;
            }
            insert(connection, table, &text)?;
        } else if !left_out.iter().any(|known| known == table) {
            left_out.push(table.to_owned());
        }
    }
    connection.batch_execute(&each("ALTER TABLE", " ENABLE TRIGGER USER")).map_err(sql)?;
    migrate(connection, None)?;
    if !begun.contains(partitions::TELEMETRY) {
        connection.batch_execute(ALL_IS_PAST).map_err(sql)?;
    }
    Ok(left_out)
}

fn damaged(name: &str) -> CopyError {
    std::io::Error::new(std::io::ErrorKind::InvalidData, format!("{name} is no part of a database")).into()
}

fn insert(connection: &mut PgConnection, table: &str, rows: &str) -> Result<(), CopyError> {
    let quoted = quoted(table);
    // A database of before may have let U+0000 into JSON.
    let rows = &*text::json(rows);
    if engines::is_partitioned(connection, &quoted).map_err(sql)? {
        let days = format!(
            "SELECT DISTINCT (floor(extract(epoch FROM ts) * 1000000 / {DAY_US}))::bigint AS number \
             FROM json_populate_recordset(NULL::{quoted}, $1::json)"
        );
        for day in sql_query(days).bind::<Text, _>(rows).load::<Number>(connection).map_err(sql)? {
            partitions::make(connection, table, day.number).map_err(|fault| fault.during("fill the database"))?;
        }
    }
    let columns = "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) AS name FROM pg_attribute \
        WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''";
    let Found { name: columns } = sql_query(columns).bind::<Text, _>(&quoted).get_result(connection).map_err(sql)?;
    sql_query(format!(
        "INSERT INTO {quoted} ({columns}) OVERRIDING SYSTEM VALUE \
         SELECT {columns} FROM json_populate_recordset(NULL::{quoted}, $1::json)"
    ))
    .bind::<Text, _>(rows)
    .execute(connection)
    .map_err(sql)?;
    Ok(())
}

/// Goes on counting where the database that was copied stood.
fn set_sequences(connection: &mut PgConnection, text: &str) -> Result<(), CopyError> {
    let given: std::collections::BTreeMap<String, i64> =
        serde_json::from_str(text).map_err(|_| damaged("sequences.json"))?;
    for (name, last) in given {
        let set = "SELECT coalesce((SELECT setval(c.oid::regclass, $2) FROM pg_class AS c WHERE c.relname = $1 \
                   AND c.relkind = 'S' AND c.relnamespace = current_schema()::regnamespace), 0) AS number";
        sql_query(set).bind::<Text, _>(name).bind::<BigInt, _>(last).get_result::<Number>(connection).map_err(sql)?;
    }
    Ok(())
}

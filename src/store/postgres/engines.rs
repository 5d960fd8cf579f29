//! What has become of the large tables: days of our own, an ordinary table, a hypertable (TimescaleDB), distributed (Citus).
//!
//! Only looks. What we do differently for it stands where we do it: `partitions` (no days where an extension cuts the
//! table up), `upkeep` (what is too old goes as the table wants it), `commit` (the way rows go in).

use diesel::sql_types::{Bool, Text};
use diesel::{PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query};

use super::partitions::TABLES;
use crate::store::Engine;

/// How a table is cut by time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cut {
    /// A partition a day, made and dropped by us.
    Days,
    /// Chunks, made by TimescaleDB and dropped by `drop_chunks`.
    Chunks,
    /// Not at all.
    Whole,
}

/// A large table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Table {
    pub name: &'static str,
    pub cut: Cut,
    /// Its rows lie on several servers (Citus): a row's place (`ctid`) says nothing.
    pub is_distributed: bool,
}

/// What differs between installations.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schema {
    /// `telemetry` and `device_events`.
    pub tables: [Table; 2],
}

impl Schema {
    /// Whether rows of a large table lie on several servers.
    pub fn is_distributed(&self) -> bool {
        self.tables.iter().any(|table| table.is_distributed)
    }

    /// Whether the large tables are what Postgres knows of itself.
    pub fn is_plain(&self) -> bool {
        self.tables.iter().all(|table| table.cut != Cut::Chunks && !table.is_distributed)
    }

    /// Says in the log what extensions have made of the tables.
    pub fn announce(&self) {
        for table in &self.tables {
            let name = table.name;
            if table.cut == Cut::Chunks {
                tracing::info!("{name} is a hypertable: chunks are made by TimescaleDB and dropped by drop_chunks");
            }
            if table.is_distributed {
                tracing::info!("{name} is distributed over the workers of a Citus cluster");
            }
        }
    }
}

#[derive(QueryableByName)]
struct Flag {
    #[diesel(sql_type = Bool)]
    flag: bool,
}

#[derive(QueryableByName)]
struct Extension {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    version: String,
}

#[derive(QueryableByName)]
struct Distributed {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Text)]
    column: String,
}

/// Looks what the tables are like.
pub(super) fn schema(connection: &mut PgConnection) -> QueryResult<Schema> {
    let extensions = extensions(connection)?;
    let has = |name: &str| extensions.iter().any(|extension| extension.name == name);
    let distributed = if has("citus") { distributed(connection)? } else { Vec::new() };
    let mut tables = TABLES.map(|name| Table { name, cut: Cut::Whole, is_distributed: false });
    for table in &mut tables {
        table.is_distributed = distributed.iter().any(|d| d.name == table.name && d.kind == "distributed");
        table.cut = match is_partitioned(connection, table.name)? {
            true => Cut::Days,
            false if has("timescaledb") && is_hypertable(connection, table.name)? => Cut::Chunks,
            false => Cut::Whole,
        };
    }
    Ok(Schema { tables })
}

/// What extensions have made of which tables, for people.
pub(super) fn engines(connection: &mut PgConnection) -> QueryResult<Vec<Engine>> {
    let mut found = Vec::new();
    for Extension { name, version } in extensions(connection)? {
        let tables = match name.as_str() {
            "citus" => {
                let words = |d: Distributed| match d.kind.as_str() {
                    "distributed" => format!("{} distributed by {}", d.name, d.column),
                    kind => format!("{} {kind}", d.name),
                };
                distributed(connection)?.into_iter().map(words).collect()
            }
            _ => {
                let mut hypertables = Vec::new();
                for table in TABLES {
                    if is_hypertable(connection, table)? {
                        hypertables.push(format!("{table} hypertable"));
                    }
                }
                hypertables
            }
        };
        found.push(Engine { name, version, tables });
    }
    Ok(found)
}

/// Those of the extensions that we know of.
fn extensions(connection: &mut PgConnection) -> QueryResult<Vec<Extension>> {
    sql_query(
        "SELECT extname::text AS name, extversion AS version FROM pg_extension \
         WHERE extname IN ('citus', 'timescaledb') ORDER BY 1",
    )
    .load(connection)
}

/// Whether a table has partitions; its name as an identifier of SQL.
pub(super) fn is_partitioned(connection: &mut PgConnection, table: &str) -> QueryResult<bool> {
    let query = "SELECT relkind = 'p' AS flag FROM pg_class WHERE oid = $1::regclass";
    Ok(sql_query(query).bind::<Text, _>(table).get_result::<Flag>(connection)?.flag)
}

fn is_hypertable(connection: &mut PgConnection, table: &str) -> QueryResult<bool> {
    let query = "SELECT EXISTS (SELECT FROM timescaledb_information.hypertables \
                 WHERE hypertable_schema = current_schema() AND hypertable_name = $1) AS flag";
    Ok(sql_query(query).bind::<Text, _>(table).get_result::<Flag>(connection)?.flag)
}

/// Tables that Citus knows: `distributed`, `reference`, `local`, `schema`. Not their partitions.
fn distributed(connection: &mut PgConnection) -> QueryResult<Vec<Distributed>> {
    sql_query(
        "SELECT c.relname::text AS name, t.citus_table_type AS kind, t.distribution_column AS column \
         FROM citus_tables AS t JOIN pg_class AS c ON c.oid = t.table_name::regclass \
         WHERE c.relnamespace = current_schema()::regnamespace AND NOT c.relispartition ORDER BY 1",
    )
    .load(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_an_extension_keeps_is_not_plain() {
        let check = |cut: Cut, is_distributed: bool, expected: bool| {
            let [telemetry, events] = TABLES.map(|name| Table { name, cut: Cut::Days, is_distributed: false });
            let other = |table: Table| Table { cut, is_distributed, ..table };
            assert_eq!(Schema { tables: [other(telemetry), events] }.is_plain(), expected, "{cut:?} {is_distributed}");
            assert_eq!(Schema { tables: [telemetry, other(events)] }.is_plain(), expected, "{cut:?} {is_distributed}");
        };
        check(Cut::Days, false, true);
        check(Cut::Whole, false, true);
        check(Cut::Chunks, false, false);
        check(Cut::Days, true, false);
        check(Cut::Whole, true, false);
    }
}

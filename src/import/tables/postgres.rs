//! The old tables from the old database itself: rows as JSON, in parts, of one snapshot.

use diesel::sql_types::{Nullable, Text};
use diesel::{Connection, PgConnection, QueryableByName, RunQueryDsl, sql_query};
use serde_json::Value;

use super::super::Error;
use super::super::row::Row;

/// Rows read at once.
const PART: usize = 1000;

/// An open connection, in a transaction that only reads.
pub(super) struct OldDatabase {
    connection: PgConnection,
}

#[derive(QueryableByName)]
struct Json {
    #[diesel(sql_type = Nullable<Text>)]
    row: Option<String>,
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::OldDatabase { detail: error.to_string().trim().to_owned() }
}

impl OldDatabase {
    pub(super) fn connect(url: &str) -> Result<Self, Error> {
        let mut connection = PgConnection::establish(url).map_err(failed)?;
        sql_query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").execute(&mut connection).map_err(failed)?;
        Ok(Self { connection })
    }

    /// Calls `each` with every row of a table; one that is missing has none.
    pub(super) fn each(
        &mut self,
        table: &'static str,
        each: &mut dyn FnMut(&str, Row) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let found: Vec<Json> = sql_query("SELECT to_regclass($1)::text AS row")
            .bind::<Text, _>(table)
            .load(&mut self.connection)
            .map_err(failed)?;
        if found.iter().all(|found| found.row.is_none()) {
            return Ok(());
        }
        let declare = format!("DECLARE old CURSOR FOR SELECT row_to_json(t)::text AS row FROM {table} AS t");
        sql_query(declare).execute(&mut self.connection).map_err(failed)?;
        let mut number = 0_u64;
        loop {
            let part: Vec<Json> =
                sql_query(format!("FETCH {PART} FROM old")).load(&mut self.connection).map_err(failed)?;
            if part.is_empty() {
                break;
            }
            for Json { row } in part {
                number += 1;
                let object = row.as_deref().map(serde_json::from_str::<serde_json::Map<String, Value>>);
                let object = object.transpose().map_err(failed)?.unwrap_or_default();
                let (columns, values): (Vec<String>, Vec<Value>) = object.into_iter().unzip();
                each(&format!("{table} row {number}"), Row::new(&columns, values))?;
            }
        }
        sql_query("CLOSE old").execute(&mut self.connection).map_err(failed)?;
        Ok(())
    }
}

//! A partition a day: made when the first row of the day comes, dropped when the day is past its retention.
//!
//! Invariants: days are those of UTC; whoever makes or drops one holds the advisory lock, so that nodes do not meet; making
//! one stops neither readers nor writers (it is made beside the table and then attached).
//! Which days may come at all is the collector's window: nothing older than retention, nothing beyond tomorrow.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, NaiveDate};
use diesel::connection::SimpleConnection;
use diesel::result::{DatabaseErrorKind, Error as SqlError};
use diesel::sql_types::{BigInt, Text};
use diesel::{Connection, PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query};

use super::engines::{Cut, Schema, Table};
use crate::domain::Timestamp;
use crate::store::Batch;
use crate::store::fault::{Fault, finds_no_partition};
use crate::store::listing;

pub(super) const DAY_US: i64 = 86_400_000_000;
/// The advisory lock of whoever makes or drops a partition.
const LOCK: i64 = 0x0069_6f74_2d64_6179;
/// From so many rows on the planner's estimate is good enough to say how many were dropped.
const MANY: f32 = 100_000.0;

/// The tables that are cut by day.
pub(super) const TABLES: [&str; 2] = [TELEMETRY, "device_events"];
/// Of which it is noted what has gone.
pub(super) const TELEMETRY: &str = "telemetry";

/// The partitions known to be there.
#[derive(Default)]
pub(super) struct Partitions {
    known: Mutex<HashSet<(&'static str, i64)>>,
}

#[derive(QueryableByName)]
struct Partition {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = diesel::sql_types::Float)]
    estimate: f32,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

impl Partitions {
    /// Makes the partitions for rows of these times, where they are missing.
    pub(super) fn ensure(
        &self,
        connection: &mut PgConnection,
        table: &'static str,
        times: impl Iterator<Item = Timestamp>,
    ) -> Result<(), Fault> {
        let mut last = None;
        for day in times.map(|at| at.0.div_euclid(DAY_US)) {
            if last.replace(day) == Some(day) || self.lock().contains(&(table, day)) {
                continue;
            }
            make(connection, table, day)?;
            self.lock().insert((table, day));
        }
        Ok(())
    }

    /// Makes the partitions for the rows of a batch, where they are missing.
    pub(super) fn ensure_for(
        &self,
        connection: &mut PgConnection,
        schema: &Schema,
        batch: &Batch,
    ) -> Result<(), Fault> {
        let [telemetry, events] = schema.tables;
        if telemetry.cut == Cut::Days {
            self.ensure(connection, telemetry.name, batch.telemetry.iter().map(|row| row.ts))?;
        }
        if events.cut == Cut::Days {
            self.ensure(connection, events.name, batch.events.iter().map(|row| row.ts))?;
        }
        Ok(())
    }

    /// Whether all of these partitions are known to be there.
    pub(super) fn has_all_for(&self, schema: &Schema, batch: &Batch) -> bool {
        let known = self.lock();
        let [telemetry, events] = schema.tables;
        let has = |table: Table, at: Timestamp| {
            table.cut != Cut::Days || known.contains(&(table.name, at.0.div_euclid(DAY_US)))
        };
        batch.telemetry.iter().all(|row| has(telemetry, row.ts)) && batch.events.iter().all(|row| has(events, row.ts))
    }

    /// Another node may have dropped any of them.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    /// Drops what is wholly before `before`, oldest first, until `limit` rows have gone; how many. A partition somebody is
    /// using for long is left for the next time: waiting for it would hold up everybody. One that cannot be dropped does
    /// not keep the others: its error comes at the end.
    pub(super) fn drop_before(
        &self,
        connection: &mut PgConnection,
        table: &'static str,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, Fault> {
        let (mut dropped, mut failed) = (0, None);
        for partition in attached(connection, table)? {
            let day = partition.name.strip_prefix(table).and_then(|rest| day_of(rest.strip_prefix('_')?));
            let end = day.map(|day| Timestamp((day + 1).saturating_mul(DAY_US)));
            let Some(end) = end.filter(|end| dropped < limit && *end <= before) else { continue };
            match drop_one(connection, &partition, (table == TELEMETRY).then_some(end)) {
                Ok(rows) => dropped += rows,
                Err(error) if is_in_use(&error) => {
                    tracing::info!(partition = partition.name, "a day past its retention is in use; dropped later");
                }
                Err(error) => failed = failed.or(Some(error)),
            }
            self.lock().retain(|known| Some(known.1) != day || known.0 != table);
        }
        failed.map_or(Ok(dropped), |error| Err(error.into()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<(&'static str, i64)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a row found no partition: it was dropped between the look and the row.
pub(super) fn is_missing(fault: &Fault) -> bool {
    matches!(fault, Fault::Sql(error) if finds_no_partition(error))
}

/// Makes the partition of a day since 1970, where it is missing.
pub(super) fn make(connection: &mut PgConnection, table: &str, day: i64) -> Result<(), Fault> {
    let beyond = || Fault::Sql(SqlError::SerializationError("a time no partition can have".into()));
    let (date, next) = date(day).zip(date(day + 1)).ok_or_else(beyond)?;
    let name = format!("{table}_{}", date.format("%Y%m%d"));
    connection.transaction(|connection| {
        sql_query("SELECT pg_advisory_xact_lock($1)").bind::<BigInt, _>(LOCK).execute(connection)?;
        let is_there = "SELECT count(*) FROM pg_inherits WHERE inhparent = to_regclass($1) AND inhrelid = to_regclass($2)";
        let found: Count = sql_query(is_there).bind::<Text, _>(table).bind::<Text, _>(&name).get_result(connection)?;
        if found.count > 0 {
            return Ok(());
        }
        // (The table may be there, detached by somebody: then it is taken back.)
        connection.batch_execute(&format!(
            "CREATE TABLE IF NOT EXISTS {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING STORAGE INCLUDING COMPRESSION); \
             ALTER TABLE {table} ATTACH PARTITION {name} \
             FOR VALUES FROM ('{date} 00:00:00+00') TO ('{next} 00:00:00+00')"
        ))?;
        Ok(())
    })
}

fn attached(connection: &mut PgConnection, table: &str) -> QueryResult<Vec<Partition>> {
    sql_query(
        "SELECT c.relname::text AS name, c.reltuples AS estimate FROM pg_inherits AS i JOIN pg_class AS c \
         ON c.oid = i.inhrelid WHERE i.inhparent = to_regclass($1) ORDER BY 1",
    )
    .bind::<Text, _>(table)
    .load(connection)
}

/// `end`: of telemetry, the end of its day.
fn drop_one(connection: &mut PgConnection, partition: &Partition, end: Option<Timestamp>) -> QueryResult<usize> {
    connection.transaction(|connection| {
        let name = &partition.name;
        connection.batch_execute("SET LOCAL lock_timeout = '1s'")?;
        unless_in_use(
            connection,
            &format!("PERFORM pg_advisory_xact_lock({LOCK}); LOCK TABLE {name} IN ACCESS SHARE MODE"),
        )?;
        let rows = if partition.estimate > MANY {
            partition.estimate as i64
        } else {
            sql_query(format!("SELECT count(*) FROM {name}")).get_result::<Count>(connection)?.count
        };
        unless_in_use(connection, &format!("DROP TABLE {name}"))?;
        if let Some(end) = end {
            super::reach::trimmed(connection, end)?;
        }
        Ok(usize::try_from(listing::count(rows)).unwrap_or(usize::MAX))
    })
}

/// Runs what waits for locks. Diesel does not pass on the code of a wait that took too long, and its words are in the server's
/// language: so the server itself turns it into an error that has a kind, which no statement here ends with otherwise.
fn unless_in_use(connection: &mut PgConnection, statements: &str) -> QueryResult<()> {
    connection.batch_execute(&format!(
        "DO $$ BEGIN {statements}; EXCEPTION WHEN lock_not_available THEN \
         RAISE EXCEPTION USING ERRCODE = 'exclusion_violation', MESSAGE = 'in use', DETAIL = SQLERRM; END $$"
    ))
}

/// Whether [`unless_in_use`] waited for too long.
fn is_in_use(error: &SqlError) -> bool {
    matches!(error, SqlError::DatabaseError(DatabaseErrorKind::ExclusionViolation, _))
}

/// The date of a day since 1970. Only what is written with four digits a year.
fn date(day: i64) -> Option<NaiveDate> {
    let date = DateTime::from_timestamp(day.checked_mul(86_400)?, 0)?.date_naive();
    (0..=9999).contains(&chrono::Datelike::year(&date)).then_some(date)
}

/// The inverse: the day of `YYYYMMDD`.
fn day_of(text: &str) -> Option<i64> {
    let date = NaiveDate::parse_from_str(text, "%Y%m%d").ok()?;
    Some(date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp().div_euclid(86_400))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_utc_also_before_1970() {
        let check = |us: i64, expected: &str| {
            let day = us.div_euclid(DAY_US);
            let text = date(day).unwrap().format("%Y%m%d").to_string();
            assert_eq!((text.as_str(), day_of(&text)), (expected, Some(day)), "{us}");
        };
        check(1_770_890_400_000_000, "20260212");
        check(0, "19700101");
        check(-1, "19691231");
        check(DAY_US - 1, "19700101");
        assert_eq!(date(i64::MAX / DAY_US), None);
        assert_eq!(day_of("default"), None);
    }
}

//! Minutes and hours of measurements, and which of them still hold. There is one writer: a commit that looks what is late and
//! whoever says that hours are finished never meet.

use diesel::sql_types::{BigInt, Binary, Integer, Nullable, Text};
use diesel::{OptionalExtension, QueryResult, QueryableByName, RunQueryDsl, SqliteConnection, sql_query};

use super::telemetry::{Keys, find_key};
use super::{SqliteStore, reach};
use crate::domain::{DeviceId, Timestamp};
use crate::store::fault::Fault;
use crate::store::listing;
use crate::store::rollups::{
    beginning, day_behind, good_from, is_before, late_hours, new_version, next_work, one_a_device,
};
use crate::store::{Error, Rolled, RollupFigures, RollupPage, RollupRow, RollupWork, Rollups, TelemetryRow};

const NEVER: i64 = i64::MIN;

#[derive(QueryableByName)]
struct State {
    #[diesel(sql_type = BigInt)]
    marked_until: i64,
    #[diesel(sql_type = BigInt)]
    kept_from: i64,
}

#[derive(QueryableByName)]
struct Progress {
    #[diesel(sql_type = Text)]
    device_id: String,
    #[diesel(sql_type = BigInt)]
    device_key: i64,
    #[diesel(sql_type = BigInt)]
    span_us: i64,
    #[diesel(sql_type = BigInt)]
    rolled_until: i64,
    #[diesel(sql_type = BigInt)]
    epoch: i64,
}

#[derive(QueryableByName)]
struct Mark {
    #[diesel(embed)]
    progress: Progress,
    #[diesel(embed)]
    dirty: Dirty,
    #[diesel(sql_type = BigInt)]
    version: i64,
}

#[derive(QueryableByName)]
struct Dirty {
    #[diesel(sql_type = BigInt)]
    day: i64,
    #[diesel(sql_type = Integer)]
    hours: i32,
}

#[derive(QueryableByName)]
struct Stored {
    #[diesel(sql_type = Integer)]
    level: i32,
    #[diesel(sql_type = BigInt)]
    start: i64,
    #[diesel(sql_type = Text)]
    metric: String,
    #[diesel(sql_type = Binary)]
    body: Vec<u8>,
}

#[derive(QueryableByName)]
struct Good {
    #[diesel(sql_type = BigInt)]
    good_from: i64,
    #[diesel(sql_type = BigInt)]
    rolled_until: i64,
}

#[derive(QueryableByName)]
struct At {
    #[diesel(sql_type = Nullable<BigInt>)]
    at: Option<i64>,
}

#[derive(QueryableByName)]
struct Figures {
    #[diesel(sql_type = BigInt)]
    waiting: i64,
    #[diesel(sql_type = BigInt)]
    dirty: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    rolled_until: Option<i64>,
}

impl Rollups for SqliteStore {
    fn rollups(
        &self,
        id: &DeviceId,
        level: i16,
        metrics: Option<&[String]>,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<RollupPage, Error> {
        self.read("read rollups", |c| page(c, id, level, metrics, from, to))
    }

    fn finish_hours(&self, until: Timestamp) -> Result<(), Error> {
        self.write_lazily("finish hours", |c| {
            let update = "UPDATE rollup_state SET marked_until = ?1 WHERE marked_until < ?1";
            sql_query(update).bind::<BigInt, _>(until.0).execute(c)?;
            Ok(())
        })
    }

    fn rollup_work(&self, limit: usize) -> Result<Vec<RollupWork>, Error> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let new = self.read("look for rollups", |c| Ok(new_devices(c, limit)?))?;
        if !new.is_empty() {
            self.write_lazily("begin rollups", |c| Ok(begin(c, &new)?))?;
        }
        self.read("look for rollups", |c| work(c, limit))
    }

    fn roll_up(&self, rolled: &[Rolled]) -> Result<usize, Error> {
        self.write_lazily("write rollups", |c| {
            rolled.iter().try_fold(0, |done, rolled| Ok(done + usize::from(roll_up(c, rolled)?)))
        })
    }

    fn trim_rollups(&self, before: Timestamp, limit: usize) -> Result<usize, Error> {
        self.write_lazily("trim rollups", |c| Ok(trim(c, before, limit)?))
    }

    fn rollup_figures(&self) -> Result<RollupFigures, Error> {
        self.read("count rollups", |c| Ok(figures(c)?))
    }
}

/// Marks the finished hours that rows of this transaction belong to.
pub(super) fn mark<'a>(
    connection: &mut SqliteConnection,
    keys: &mut Keys<'a>,
    rows: &'a [TelemetryRow],
) -> QueryResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let marked_until = state(connection)?.marked_until;
    let version = new_version();
    for ((device, day), hours) in late_hours(rows, Timestamp(marked_until)) {
        sql_query(
            "INSERT INTO rollup_marks (device_key, day, hours, version) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE \
             SET hours = hours | excluded.hours, version = excluded.version",
        )
        .bind::<BigInt, _>(keys.of(connection, device)?)
        .bind::<BigInt, _>(day.0)
        .bind::<Integer, _>(hours)
        .bind::<BigInt, _>(version)
        .execute(connection)?;
    }
    Ok(())
}

/// Deletes a device's rollups, some at a time; how many rows.
pub(super) fn purge(connection: &mut SqliteConnection, device_key: i64, limit: i64) -> QueryResult<usize> {
    let mut deleted = 0;
    for table in ["rollup_devices", "rollup_marks"] {
        deleted += sql_query(format!("DELETE FROM {table} WHERE device_key = ?"))
            .bind::<BigInt, _>(device_key)
            .execute(connection)?;
    }
    let rows = "SELECT rowid FROM rollups WHERE device_key = ? LIMIT ?";
    deleted += sql_query(format!("DELETE FROM rollups WHERE rowid IN ({rows})"))
        .bind::<BigInt, _>(device_key)
        .bind::<BigInt, _>(limit)
        .execute(connection)?;
    Ok(deleted)
}

/// From now on the samples are asked for what the archive alone has; see [`Takeover`](crate::store::Takeover).
pub(super) fn leave_to_samples(
    connection: &mut SqliteConnection,
    before: Timestamp,
    measured: &[(DeviceId, Timestamp)],
) -> Result<(), Fault> {
    reach::trimmed(connection, before)?;
    sql_query("UPDATE rollup_state SET kept_from = max(kept_from, ?1) WHERE marked_until = ?2")
        .bind::<BigInt, _>(day_behind(before).0)
        .bind::<BigInt, _>(NEVER)
        .execute(connection)?;
    for (device, newest) in measured {
        let key = find_key(connection, device)?;
        sql_query("UPDATE rollup_devices SET good_from = max(good_from, ?1) WHERE device_key = ?2")
            .bind::<BigInt, _>(day_behind(*newest).0)
            .bind::<Nullable<BigInt>, _>(key)
            .execute(connection)?;
    }
    Ok(())
}

fn state(connection: &mut SqliteConnection) -> QueryResult<State> {
    sql_query("SELECT marked_until, kept_from FROM rollup_state").get_result(connection)
}

fn page(
    connection: &mut SqliteConnection,
    id: &DeviceId,
    level: i16,
    metrics: Option<&[String]>,
    from: Timestamp,
    to: Timestamp,
) -> Result<RollupPage, Fault> {
    let Some(key) = find_key(connection, id)? else { return Ok(RollupPage::none()) };
    let known = sql_query("SELECT good_from, rolled_until FROM rollup_devices WHERE device_key = ?")
        .bind::<BigInt, _>(key)
        .get_result::<Good>(connection)
        .optional()?;
    let Some(Good { good_from, rolled_until }) = known else { return Ok(RollupPage::none()) };
    let dirty: Vec<Dirty> =
        sql_query("SELECT day, hours FROM rollup_marks WHERE device_key = ? AND day > ? - 86400000000 AND day < ?")
            .bind::<BigInt, _>(key)
            .bind::<BigInt, _>(from.0)
            .bind::<BigInt, _>(to.0)
            .load(connection)?;
    // (Names hold nothing that JSON would have to escape.)
    let metrics = metrics.map(|all| format!("[\"{}\"]", all.join("\",\"")));
    let rows: Vec<Stored> = sql_query(
        "SELECT level, start, metric, body FROM rollups WHERE device_key = ?1 AND level = ?2 AND start >= ?3 \
         AND start < ?4 AND (?5 IS NULL OR metric IN (SELECT value FROM json_each(?5))) ORDER BY start",
    )
    .bind::<BigInt, _>(key)
    .bind::<Integer, _>(i32::from(level))
    .bind::<BigInt, _>(from.0)
    .bind::<BigInt, _>(to.0)
    .bind::<Nullable<Text>, _>(metrics)
    .load(connection)?;
    let kept_from = Timestamp(state(connection)?.kept_from.max(good_from));
    let dirty = dirty.into_iter().map(|dirty| (Timestamp(dirty.day), dirty.hours)).collect();
    let row = |Stored { level, start, metric, body }| {
        let level = i16::try_from(level).map_err(|_| Fault::Corrupt("rollup"))?;
        Ok(RollupRow { level, start: Timestamp(start), metric, body })
    };
    let rows = rows.into_iter().map(row).collect::<Result<_, Fault>>()?;
    Ok(RollupPage { rolled_until: Timestamp(rolled_until), kept_from, dirty, rows })
}

/// Devices that are not taken up yet.
fn new_devices(connection: &mut SqliteConnection, limit: i64) -> QueryResult<Vec<Progress>> {
    if state(connection)?.marked_until == NEVER {
        return Ok(Vec::new());
    }
    sql_query(
        "SELECT k.device_id, k.device_key, s.span_us, 0 AS rolled_until, 0 AS epoch FROM device_sequence AS s \
         JOIN device_keys AS k ON k.device_id = s.device_id \
         LEFT JOIN rollup_devices AS r ON r.device_key = k.device_key WHERE r.device_key IS NULL LIMIT ?",
    )
    .bind::<BigInt, _>(limit)
    .load(connection)
}

fn begin(connection: &mut SqliteConnection, new: &[Progress]) -> QueryResult<()> {
    let State { marked_until, kept_from } = state(connection)?;
    let trimmed: At = sql_query("SELECT max(before_ts) AS at FROM telemetry_trimmed").get_result(connection)?;
    for Progress { device_key, span_us, .. } in new {
        let first: At = sql_query("SELECT min(ts) AS at FROM telemetry WHERE device_key = ?")
            .bind::<BigInt, _>(device_key)
            .get_result(connection)?;
        let from = beginning(first.at.map(Timestamp), *span_us, Timestamp(kept_from), Timestamp(marked_until));
        sql_query(
            "INSERT INTO rollup_devices (device_key, good_from, rolled_until, epoch) VALUES (?, ?, ?, 0) ON CONFLICT DO NOTHING",
        )
        .bind::<BigInt, _>(device_key)
        .bind::<BigInt, _>(good_from(from, trimmed.at.map(Timestamp)).0)
        .bind::<BigInt, _>(from.0)
        .execute(connection)?;
    }
    Ok(())
}

const KNOWN: &str = "rollup_devices AS r JOIN device_keys AS k ON k.device_key = r.device_key \
                     JOIN device_sequence AS s ON s.device_id = k.device_id";

fn work(connection: &mut SqliteConnection, limit: i64) -> Result<Vec<RollupWork>, Fault> {
    const FIELDS: &str = "k.device_id, k.device_key, s.span_us, r.rolled_until, r.epoch";
    let marked_until = state(connection)?.marked_until;
    let due: Vec<Progress> =
        sql_query(format!("SELECT {FIELDS} FROM {KNOWN} WHERE r.rolled_until < ? ORDER BY r.rolled_until LIMIT ?"))
            .bind::<BigInt, _>(marked_until)
            .bind::<BigInt, _>(limit)
            .load(connection)?;
    let marks: Vec<Mark> = sql_query(format!(
        "SELECT {FIELDS}, m.day, m.hours, m.version FROM {KNOWN} JOIN rollup_marks AS m \
         ON m.device_key = r.device_key WHERE m.day < r.rolled_until LIMIT ?"
    ))
    .bind::<BigInt, _>(limit)
    .load(connection)?;
    let mut all = Vec::with_capacity(due.len() + marks.len());
    for Progress { device_id, span_us, rolled_until, epoch, .. } in due {
        let device = listing::device_id(&device_id)?;
        let work = next_work(device, span_us, epoch, Timestamp(rolled_until), Timestamp(marked_until));
        all.push(work);
    }
    for Mark { progress, dirty: Dirty { day, hours }, version } in marks {
        let Progress { device_id, span_us, rolled_until, epoch, .. } = progress;
        if is_before(Timestamp(day), hours, Timestamp(rolled_until)) {
            let (device, day) = (listing::device_id(&device_id)?, Timestamp(day));
            let (rolled_until, mark, day_rows) = (None, Some(version), Vec::new());
            all.push(RollupWork { device, span_us, day, hours, epoch, rolled_until, mark, day_rows });
        }
    }
    let mut all = one_a_device(all);
    for work in &mut all {
        let device_key = find_key(connection, &work.device)?;
        let rows: Vec<Stored> = sql_query(
            "SELECT level, start, metric, body FROM rollups WHERE device_key = ? AND level = 3600 AND start = ?",
        )
        .bind::<Nullable<BigInt>, _>(device_key)
        .bind::<BigInt, _>(work.day.0)
        .load(connection)?;
        work.day_rows = rows.into_iter().map(|row| (row.metric, row.body)).collect();
    }
    Ok(all)
}

fn roll_up(connection: &mut SqliteConnection, rolled: &Rolled) -> QueryResult<bool> {
    let Some(key) = find_key(connection, &rolled.device)? else { return Ok(false) };
    let taken = sql_query(
        "UPDATE rollup_devices SET epoch = epoch + 1, rolled_until = max(rolled_until, ?3) \
         WHERE device_key = ?1 AND epoch = ?2",
    )
    .bind::<BigInt, _>(key)
    .bind::<BigInt, _>(rolled.epoch)
    .bind::<BigInt, _>(rolled.rolled_until.map_or(NEVER, |at| at.0))
    .execute(connection)?;
    if taken == 0 {
        return Ok(false);
    }
    for row in &rolled.rows {
        sql_query(
            "INSERT INTO rollups (device_key, level, start, metric, body) VALUES (?, ?, ?, ?, ?) \
             ON CONFLICT DO UPDATE SET body = excluded.body",
        )
        .bind::<BigInt, _>(key)
        .bind::<Integer, _>(i32::from(row.level))
        .bind::<BigInt, _>(row.start.0)
        .bind::<Text, _>(&row.metric)
        .bind::<Binary, _>(&row.body)
        .execute(connection)?;
    }
    if let Some(version) = rolled.mark {
        sql_query("DELETE FROM rollup_marks WHERE device_key = ? AND day = ? AND version = ?")
            .bind::<BigInt, _>(key)
            .bind::<BigInt, _>(rolled.day.0)
            .bind::<BigInt, _>(version)
            .execute(connection)?;
    }
    Ok(true)
}

/// Device by device along the index: no index by time alone is kept for it.
fn trim(connection: &mut SqliteConnection, before: Timestamp, limit: usize) -> QueryResult<usize> {
    sql_query("UPDATE rollup_state SET kept_from = ?1 WHERE kept_from < ?1")
        .bind::<BigInt, _>(before.0)
        .execute(connection)?;
    let rows = "SELECT t.rowid FROM device_keys AS k CROSS JOIN (SELECT 60 AS level UNION ALL SELECT 3600) AS l \
                CROSS JOIN rollups AS t ON t.device_key = k.device_key AND t.level = l.level AND t.start < ? LIMIT ?";
    let deleted = sql_query(format!("DELETE FROM rollups WHERE rowid IN ({rows})"))
        .bind::<BigInt, _>(before.0)
        .bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX))
        .execute(connection)?;
    sql_query("DELETE FROM rollup_marks WHERE day < ?").bind::<BigInt, _>(before.0).execute(connection)?;
    Ok(deleted)
}

fn figures(connection: &mut SqliteConnection) -> QueryResult<RollupFigures> {
    let found: Figures = sql_query(format!(
        "SELECT (SELECT count(*) FROM {KNOWN} WHERE r.rolled_until < (SELECT marked_until FROM rollup_state)) \
         AS waiting, (SELECT count(*) FROM rollup_marks) AS dirty, (SELECT min(r.rolled_until) FROM {KNOWN}) \
         AS rolled_until"
    ))
    .get_result(connection)?;
    Ok(RollupFigures {
        waiting_devices: listing::count(found.waiting),
        dirty_days: listing::count(found.dirty),
        rolled_until: found.rolled_until.map(Timestamp),
    })
}

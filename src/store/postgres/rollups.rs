//! Minutes and hours of measurements, and which of them still hold.
//!
//! Collectors share a lock from the moment they look what is late until their commit; whoever says that hours are finished
//! takes it alone. So nothing is stored unmarked for an hour that somebody already reads. What is rolled up is computed again
//! if it is lost: these commits do not wait for the disk.

use std::collections::HashSet;

use diesel::connection::SimpleConnection;
use diesel::sql_types::{Array, BigInt, Binary, Integer, Nullable, SmallInt, Text, Timestamptz};
use diesel::{OptionalExtension, PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query};

use super::connection::View;
use super::types::Time;
use super::{PostgresStore, reach};
use crate::domain::{DeviceId, Timestamp};
use crate::store::fault::Fault;
use crate::store::listing;
use crate::store::rollups::{
    beginning, day_behind, good_from, is_before, late_hours, new_version, next_work, one_a_device,
};
use crate::store::{Error, Rolled, RollupFigures, RollupPage, RollupRow, RollupWork, Rollups, TelemetryRow};

/// The advisory lock described above.
const LOCK: i64 = 0x0069_6f74_2d72_6f6c;
const NEVER: Timestamp = Timestamp(i64::MIN);

#[derive(QueryableByName)]
struct State {
    #[diesel(sql_type = Timestamptz)]
    marked_until: Time,
    #[diesel(sql_type = Timestamptz)]
    kept_from: Time,
}

#[derive(QueryableByName)]
struct Progress {
    #[diesel(sql_type = Text)]
    device_id: String,
    #[diesel(sql_type = BigInt)]
    span_us: i64,
    #[diesel(sql_type = Timestamptz)]
    rolled_until: Time,
    #[diesel(sql_type = BigInt)]
    epoch: i64,
}

#[derive(QueryableByName)]
struct New {
    #[diesel(sql_type = Text)]
    device_id: String,
    #[diesel(sql_type = BigInt)]
    span_us: i64,
}

#[derive(QueryableByName)]
struct DayRow {
    #[diesel(sql_type = BigInt)]
    number: i64,
    #[diesel(sql_type = Text)]
    metric: String,
    #[diesel(sql_type = Binary)]
    body: Vec<u8>,
}

#[derive(QueryableByName)]
struct Taken {
    #[diesel(sql_type = Text)]
    device_id: String,
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
    #[diesel(sql_type = Timestamptz)]
    day: Time,
    #[diesel(sql_type = Integer)]
    hours: i32,
}

#[derive(QueryableByName)]
struct Stored {
    #[diesel(sql_type = SmallInt)]
    level: i16,
    #[diesel(sql_type = Timestamptz)]
    start: Time,
    #[diesel(sql_type = Text)]
    metric: String,
    #[diesel(sql_type = Binary)]
    body: Vec<u8>,
}

#[derive(QueryableByName)]
struct Good {
    #[diesel(sql_type = Timestamptz)]
    good_from: Time,
    #[diesel(sql_type = Timestamptz)]
    rolled_until: Time,
}

#[derive(QueryableByName)]
struct At {
    #[diesel(sql_type = Nullable<Timestamptz>)]
    at: Option<Time>,
}

#[derive(QueryableByName)]
struct Figures {
    #[diesel(sql_type = BigInt)]
    waiting: i64,
    #[diesel(sql_type = BigInt)]
    dirty: i64,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    rolled_until: Option<Time>,
}

impl Rollups for PostgresStore {
    fn rollups(
        &self,
        id: &DeviceId,
        level: i16,
        metrics: Option<&[String]>,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<RollupPage, Error> {
        self.read("read rollups", View::Snapshot, |c| Ok(page(c, id, level, metrics, from, to)?))
    }

    fn finish_hours(&self, until: Timestamp) -> Result<(), Error> {
        self.write("finish hours", |c| {
            sql_query("SELECT pg_advisory_xact_lock($1)").bind::<BigInt, _>(LOCK).execute(c)?;
            let update = "UPDATE rollup_state SET marked_until = $1 WHERE marked_until < $1";
            sql_query(update).bind::<Timestamptz, _>(Time(until)).execute(c)?;
            Ok(())
        })
    }

    fn rollup_work(&self, limit: usize) -> Result<Vec<RollupWork>, Error> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let is_distributed = self.connections.schema().map_err(|fault| fault.during("begin rollups"))?.is_distributed();
        self.write("begin rollups", |c| Ok(begin(c, limit, is_distributed)?))?;
        self.read("look for rollups", View::Snapshot, |c| work(c, limit))
    }

    fn roll_up(&self, rolled: &[Rolled]) -> Result<usize, Error> {
        self.write("write rollups", |c| Ok(roll_up(c, rolled)?))
    }

    fn trim_rollups(&self, before: Timestamp, limit: usize) -> Result<usize, Error> {
        self.write("trim rollups", |c| Ok(trim(c, before, limit)?))
    }

    fn rollup_figures(&self) -> Result<RollupFigures, Error> {
        self.read("count rollups", View::Snapshot, |c| Ok(figures(c)?))
    }
}

/// Marks the finished hours that rows of this transaction belong to. Its last step but the checkpoint: who waits for the
/// lock holds nothing that somebody with the lock still wants. In key order, so that nodes do not wait in a circle.
pub(super) fn mark(connection: &mut PgConnection, rows: &[TelemetryRow]) -> QueryResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    sql_query("SELECT pg_advisory_xact_lock_shared($1)").bind::<BigInt, _>(LOCK).execute(connection)?;
    let late = late_hours(rows, state(connection)?.marked_until.0);
    if late.is_empty() {
        return Ok(());
    }
    let (keys, hours): (Vec<_>, Vec<i32>) = late.into_iter().unzip();
    let (devices, days): (Vec<&str>, Vec<Time>) =
        keys.into_iter().map(|(device, day)| (device.as_str(), Time(day))).unzip();
    sql_query(
        "INSERT INTO rollup_marks AS m (device_id, day, hours, version) \
         SELECT d, t, h, $4 FROM unnest($1, $2, $3) AS n (d, t, h) ON CONFLICT (device_id, day) \
         DO UPDATE SET hours = m.hours | excluded.hours, version = excluded.version",
    )
    .bind::<Array<Text>, _>(devices)
    .bind::<Array<Timestamptz>, _>(days)
    .bind::<Array<Integer>, _>(hours)
    .bind::<BigInt, _>(new_version())
    .execute(connection)?;
    Ok(())
}

/// Deletes a device's rollups, some at a time; how many rows. First what says how far they go, so that nobody adds to them
/// meanwhile.
pub(super) fn purge(connection: &mut PgConnection, id: &DeviceId, limit: i64) -> QueryResult<usize> {
    let mut deleted = 0;
    for table in ["rollup_devices", "rollup_marks", "rollups"] {
        let rows = format!("SELECT ctid FROM {table} WHERE device_id = $1 COLLATE \"C\" LIMIT $2");
        deleted += sql_query(format!("DELETE FROM {table} WHERE ctid = ANY (ARRAY ({rows}))"))
            .bind::<Text, _>(id.as_str())
            .bind::<BigInt, _>(limit)
            .execute(connection)?;
    }
    Ok(deleted)
}

/// From now on the samples are asked for what the archive alone has; see [`Takeover`](crate::store::Takeover). Waits for whoever
/// takes devices up, or has them wait, so that nobody begins one without knowing of it.
pub(super) fn leave_to_samples(
    connection: &mut PgConnection,
    before: Timestamp,
    measured: &[(DeviceId, Timestamp)],
) -> QueryResult<()> {
    connection.batch_execute("LOCK TABLE rollup_devices IN SHARE ROW EXCLUSIVE MODE")?;
    reach::trimmed(connection, before)?;
    let kept = "UPDATE rollup_state SET kept_from = greatest(kept_from, $1) WHERE marked_until = '-infinity'";
    sql_query(kept).bind::<Timestamptz, _>(Time(day_behind(before))).execute(connection)?;
    let (devices, days): (Vec<&str>, Vec<Time>) =
        measured.iter().map(|(device, newest)| (device.as_str(), Time(day_behind(*newest)))).unzip();
    sql_query(
        "UPDATE rollup_devices AS r SET good_from = greatest(r.good_from, n.day) FROM unnest($1, $2) AS n (id, day) \
         WHERE r.device_id = n.id COLLATE \"C\"",
    )
    .bind::<Array<Text>, _>(devices)
    .bind::<Array<Timestamptz>, _>(days)
    .execute(connection)?;
    Ok(())
}

fn state(connection: &mut PgConnection) -> QueryResult<State> {
    sql_query("SELECT marked_until, kept_from FROM rollup_state").get_result(connection)
}

fn page(
    connection: &mut PgConnection,
    id: &DeviceId,
    level: i16,
    metrics: Option<&[String]>,
    from: Timestamp,
    to: Timestamp,
) -> QueryResult<RollupPage> {
    let known = sql_query("SELECT good_from, rolled_until FROM rollup_devices WHERE device_id = $1 COLLATE \"C\"")
        .bind::<Text, _>(id.as_str())
        .get_result::<Good>(connection)
        .optional()?;
    let Some(Good { good_from, rolled_until }) = known else { return Ok(RollupPage::none()) };
    let day = "interval '1 day'";
    let dirty: Vec<Dirty> = sql_query(format!(
        "SELECT day, hours FROM rollup_marks WHERE device_id = $1 COLLATE \"C\" AND day > $2 - {day} AND day < $3"
    ))
    .bind::<Text, _>(id.as_str())
    .bind::<Timestamptz, _>(Time(from))
    .bind::<Timestamptz, _>(Time(to))
    .load(connection)?;
    let rows: Vec<Stored> = sql_query(
        "SELECT level, start, metric, body FROM rollups WHERE device_id = $1 COLLATE \"C\" AND level = $2 \
         AND start >= $3 AND start < $4 AND ($5 IS NULL OR metric = ANY ($5)) ORDER BY start",
    )
    .bind::<Text, _>(id.as_str())
    .bind::<SmallInt, _>(level)
    .bind::<Timestamptz, _>(Time(from))
    .bind::<Timestamptz, _>(Time(to))
    .bind::<Nullable<Array<Text>>, _>(metrics)
    .load(connection)?;
    let kept_from = state(connection)?.kept_from.0.max(good_from.0);
    let dirty = dirty.into_iter().map(|dirty| (dirty.day.0, dirty.hours)).collect();
    let row = |Stored { level, start, metric, body }| RollupRow { level, start: start.0, metric, body };
    Ok(RollupPage { rolled_until: rolled_until.0, kept_from, dirty, rows: rows.into_iter().map(row).collect() })
}

/// Takes up devices that are new.
fn begin(connection: &mut PgConnection, limit: i64, is_distributed: bool) -> QueryResult<()> {
    let State { marked_until, kept_from } = state(connection)?;
    if marked_until.0 == NEVER {
        return Ok(());
    }
    let new: Vec<New> = sql_query(
        "SELECT s.device_id, s.span_us FROM device_sequence AS s \
         LEFT JOIN rollup_devices AS r ON r.device_id = s.device_id WHERE r.device_id IS NULL ORDER BY 1 LIMIT $1",
    )
    .bind::<BigInt, _>(limit)
    .load(connection)?;
    if new.is_empty() {
        return Ok(());
    }
    let first_rows = first_rows(connection, &new, is_distributed)?;
    // What is gone or elsewhere is asked last: what was there above and goes meanwhile counts, too.
    connection.batch_execute("LOCK TABLE rollup_devices IN ROW EXCLUSIVE MODE")?;
    let trimmed: At = sql_query("SELECT max(before_ts) AS at FROM telemetry_trimmed").get_result(connection)?;
    let (mut from, mut good) = (Vec::with_capacity(new.len()), Vec::with_capacity(new.len()));
    for (New { span_us, .. }, first) in new.iter().zip(first_rows) {
        let begins = beginning(first.at.map(|at| at.0), *span_us, kept_from.0, marked_until.0);
        from.push(Time(begins));
        good.push(Time(good_from(begins, trimmed.at.as_ref().map(|at| at.0))));
    }
    sql_query(
        "INSERT INTO rollup_devices (device_id, good_from, rolled_until, epoch) \
         SELECT d, g, t, 0 FROM unnest($1, $2, $3) AS n (d, g, t) \
         ON CONFLICT DO NOTHING",
    )
    .bind::<Array<Text>, _>(new.iter().map(|new| new.device_id.as_str()).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(good)
    .bind::<Array<Timestamptz>, _>(from)
    .execute(connection)?;
    Ok(())
}

/// When each device's measurements begin. At once, since a statement that looks at every day takes longer to plan than to run;
/// where the table is distributed one by one and the key bare, for it is asked where it has the device, and not joined with what
/// is here alone.
fn first_rows(connection: &mut PgConnection, new: &[New], is_distributed: bool) -> QueryResult<Vec<At>> {
    if is_distributed {
        let first = |New { device_id, .. }: &New| {
            let first = "SELECT min(ts) AS at FROM telemetry WHERE device_id = $1";
            sql_query(first).bind::<Text, _>(device_id).get_result(connection)
        };
        return new.iter().map(first).collect();
    }
    sql_query(
        "SELECT (SELECT min(t.ts) FROM telemetry AS t WHERE t.device_id = d.id COLLATE \"C\") AS at \
         FROM unnest($1) WITH ORDINALITY AS d (id, n) ORDER BY n",
    )
    .bind::<Array<Text>, _>(new.iter().map(|new| new.device_id.as_str()).collect::<Vec<_>>())
    .load(connection)
}

const KNOWN: &str = "rollup_devices AS r JOIN device_sequence AS s ON s.device_id = r.device_id";

fn work(connection: &mut PgConnection, limit: i64) -> Result<Vec<RollupWork>, Fault> {
    let marked_until = state(connection)?.marked_until;
    let due: Vec<Progress> = sql_query(format!(
        "SELECT r.device_id, s.span_us, r.rolled_until, r.epoch FROM {KNOWN} WHERE r.rolled_until < $1 \
         ORDER BY r.rolled_until LIMIT $2"
    ))
    .bind::<Timestamptz, _>(marked_until)
    .bind::<BigInt, _>(limit)
    .load(connection)?;
    let marks: Vec<Mark> = sql_query(format!(
        "SELECT r.device_id, s.span_us, r.rolled_until, r.epoch, m.day, m.hours, m.version FROM {KNOWN} \
         JOIN rollup_marks AS m ON m.device_id = r.device_id WHERE m.day < r.rolled_until LIMIT $1"
    ))
    .bind::<BigInt, _>(limit)
    .load(connection)?;
    let mut all = Vec::with_capacity(due.len() + marks.len());
    for Progress { device_id, span_us, rolled_until, epoch } in due {
        let device = listing::device_id(&device_id)?;
        all.push(next_work(device, span_us, epoch, rolled_until.0, marked_until.0));
    }
    for Mark { progress: Progress { device_id, span_us, rolled_until, epoch }, dirty, version } in marks {
        let (day, hours) = (dirty.day.0, dirty.hours);
        if is_before(day, hours, rolled_until.0) {
            let (device, rolled_until, mark) = (listing::device_id(&device_id)?, None, Some(version));
            all.push(RollupWork { device, span_us, day, hours, epoch, rolled_until, mark, day_rows: Vec::new() });
        }
    }
    let mut all = one_a_device(all);
    let days: Vec<DayRow> = sql_query(
        "SELECT n.number, r.metric, r.body FROM unnest($1, $2) WITH ORDINALITY AS n (device_id, day, number) \
         JOIN rollups AS r ON r.device_id = n.device_id COLLATE \"C\" AND r.level = 3600 AND r.start = n.day",
    )
    .bind::<Array<Text>, _>(all.iter().map(|work| work.device.as_str()).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(all.iter().map(|work| Time(work.day)).collect::<Vec<_>>())
    .load(connection)?;
    for DayRow { number, metric, body } in days {
        let work = usize::try_from(number - 1).ok().and_then(|at| all.get_mut(at));
        work.ok_or(Fault::Corrupt("rollup"))?.day_rows.push((metric, body));
    }
    Ok(all)
}

fn roll_up(connection: &mut PgConnection, rolled: &[Rolled]) -> QueryResult<usize> {
    connection.batch_execute("SET LOCAL synchronous_commit = off")?;
    let mut sorted: Vec<&Rolled> = rolled.iter().collect();
    sorted.sort_unstable_by_key(|rolled| rolled.device.as_str());
    let until = |rolled: &&Rolled| Time(rolled.rolled_until.unwrap_or(NEVER));
    // Locked in key order: two nodes do not wait for each other in a circle.
    let taken: Vec<Taken> = sql_query(
        "WITH n AS (SELECT * FROM unnest($1, $2, $3) AS n (device_id, epoch, until)), \
         locked AS (SELECT r.device_id, n.until FROM rollup_devices AS r JOIN n ON n.device_id = r.device_id \
         AND n.epoch = r.epoch ORDER BY r.device_id FOR UPDATE OF r) \
         UPDATE rollup_devices AS r SET epoch = r.epoch + 1, rolled_until = greatest(r.rolled_until, l.until) \
         FROM locked AS l WHERE l.device_id = r.device_id RETURNING r.device_id",
    )
    .bind::<Array<Text>, _>(sorted.iter().map(|rolled| rolled.device.as_str()).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(sorted.iter().map(|rolled| rolled.epoch).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(sorted.iter().map(until).collect::<Vec<_>>())
    .load(connection)?;
    let taken: HashSet<&str> = taken.iter().map(|taken| taken.device_id.as_str()).collect();
    sorted.retain(|rolled| taken.contains(rolled.device.as_str()));
    let rows = || sorted.iter().flat_map(|rolled| rolled.rows.iter().map(|row| (rolled.device.as_str(), row)));
    if rows().next().is_some() {
        sql_query(
            "INSERT INTO rollups (start, level, device_id, metric, body) \
             SELECT s, l, d, m, b FROM unnest($1, $2, $3, $4, $5) AS n (s, l, d, m, b) \
             ON CONFLICT (device_id, level, start, metric) DO UPDATE SET body = excluded.body",
        )
        .bind::<Array<Timestamptz>, _>(rows().map(|(_, row)| Time(row.start)).collect::<Vec<_>>())
        .bind::<Array<SmallInt>, _>(rows().map(|(_, row)| row.level).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(rows().map(|(device, _)| device).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(rows().map(|(_, row)| row.metric.as_str()).collect::<Vec<_>>())
        .bind::<Array<Binary>, _>(rows().map(|(_, row)| row.body.as_slice()).collect::<Vec<_>>())
        .execute(connection)?;
    }
    let marks = || sorted.iter().filter_map(|rolled| Some((rolled.device.as_str(), rolled.day, rolled.mark?)));
    if marks().next().is_some() {
        sql_query(
            "DELETE FROM rollup_marks AS m USING unnest($1, $2, $3) AS n (device_id, day, version) \
             WHERE m.device_id = n.device_id COLLATE \"C\" AND m.day = n.day AND m.version = n.version",
        )
        .bind::<Array<Text>, _>(marks().map(|(device, ..)| device).collect::<Vec<_>>())
        .bind::<Array<Timestamptz>, _>(marks().map(|(_, day, _)| Time(day)).collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(marks().map(|(.., version)| version).collect::<Vec<_>>())
        .execute(connection)?;
    }
    Ok(sorted.len())
}

fn trim(connection: &mut PgConnection, before: Timestamp, limit: usize) -> QueryResult<usize> {
    sql_query("UPDATE rollup_state SET kept_from = $1 WHERE kept_from < $1")
        .bind::<Timestamptz, _>(Time(before))
        .execute(connection)?;
    let mut deleted = 0;
    for (table, column) in [("rollups", "start"), ("rollup_marks", "day")] {
        let rows = format!("SELECT ctid FROM {table} WHERE {column} < $1 LIMIT $2");
        deleted += sql_query(format!("DELETE FROM {table} WHERE ctid = ANY (ARRAY ({rows}))"))
            .bind::<Timestamptz, _>(Time(before))
            .bind::<BigInt, _>(i64::try_from(limit.saturating_sub(deleted)).unwrap_or(i64::MAX))
            .execute(connection)?;
    }
    Ok(deleted)
}

fn figures(connection: &mut PgConnection) -> QueryResult<RollupFigures> {
    let found: Figures = sql_query(format!(
        "SELECT (SELECT count(*) FROM {KNOWN}, rollup_state AS t WHERE r.rolled_until < t.marked_until) AS waiting, \
         (SELECT count(*) FROM rollup_marks) AS dirty, (SELECT min(r.rolled_until) FROM {KNOWN}) AS rolled_until"
    ))
    .get_result(connection)?;
    Ok(RollupFigures {
        waiting_devices: listing::count(found.waiting),
        dirty_days: listing::count(found.dirty),
        rolled_until: found.rolled_until.map(|at| at.0),
    })
}

//! How fast batches of measurements get into SQLite, beside its limit: the same bytes through one prepared insert, already
//! encoded and sorted, with nothing else in the transaction. Then what they take on disk, and how fast they are read back.
//!
//! `cargo bench --bench sqlite_commit`; the number of rows may follow: `-- 2000000`.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Integer, Nullable, Text};
use diesel::sqlite::Sqlite;
use diesel::{Connection, QueryResult, RunQueryDsl, SqliteConnection};
use iot_meter::domain::device::Latest;
use iot_meter::domain::metric::Known;
use iot_meter::domain::sequence::SequenceState;
use iot_meter::domain::{DeviceId, DeviceState, Metric, Sequence, Telemetry, Timestamp, presence};
use iot_meter::store::{self, Batch, TelemetryRow};

const DEVICES: usize = 1000;
const BATCH: usize = 4000;
const SLOTS: usize = 10;
const START: i64 = 1_770_890_400_000_000;
const ROWS: usize = 400_000;

fn main() {
    let rows = std::env::args().filter_map(|arg| arg.parse().ok()).next().unwrap_or(ROWS);
    println!("{rows} datagrams of {SLOTS} voltages and currents, {DEVICES} devices, {BATCH} a batch");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let committed = commit(&dir.path().join("commit.db"), rows);
    let raw = raw(&dir.path().join("raw.db"), rows);
    println!("ratio commit : raw insert      {:>9.2}", committed / raw);
}

/// One datagram of a device, the `round`th.
fn datagram(device: &DeviceId, index: usize, round: usize) -> TelemetryRow {
    let mut values = Telemetry::default();
    for slot in 0..SLOTS {
        let offset = (slot as i64 + 1 - SLOTS as i64) * 1_000_000;
        let wave = ((index * 31 + round * 17 + slot * 7) % 400) as f64;
        values.push(offset, Metric::Known(Known::VoltageDc), Some("V"), (7300.0 + wave) / 10.0);
        values.push(
            offset,
            Metric::Known(Known::CurrentDc),
            Some("A"),
            ((wave * 37.0).rem_euclid(14_000.0) - 5000.0) / 10.0,
        );
    }
    let ts = Timestamp(START + round as i64 * 10_000_000 + index as i64 * 997);
    let seq = Sequence::Counted(round as u32);
    TelemetryRow { device: device.clone(), ts, seq, received_at: ts.plus_us(350_000), values }
}

fn devices() -> Vec<DeviceId> {
    let name = |n| DeviceId::parse(&format!("train-{:04}-meter-{}", n / 4, n % 4)).expect("a valid id");
    (0..DEVICES).map(name).collect()
}

/// Batches as the collector makes them: in order of arrival, with the states of their devices.
fn batches(devices: &[DeviceId], rows: usize) -> impl Iterator<Item = Batch> {
    (0..rows).step_by(BATCH).map(move |first| {
        let numbers = first..(first + BATCH).min(rows);
        let telemetry: Vec<_> = numbers.map(|n| datagram(&devices[n % DEVICES], n % DEVICES, n / DEVICES)).collect();
        let states = telemetry.iter().rev().take(DEVICES).map(|row| (row.device.clone(), state(row))).collect();
        Batch { checkpoint: Some((first + BATCH) as u64), telemetry, states, ..Batch::default() }
    })
}

fn state(row: &TelemetryRow) -> DeviceState {
    let latest = |value| Latest { ts: row.ts, value, unit: None };
    DeviceState {
        sequence: SequenceState { head: row.seq.counted().map(|seq| (seq, row.ts)), ..SequenceState::default() },
        connection: presence::Connection::Online,
        last_seen: Some(row.received_at),
        latest: [(Metric::Known(Known::VoltageDc), latest(751.5)), (Metric::Known(Known::CurrentDc), latest(-20.3))]
            .into(),
        span_us: 9_000_000,
        ..DeviceState::default()
    }
}

/// Rows a second through the store.
fn commit(path: &Path, rows: usize) -> f64 {
    let store = store::open(&format!("sqlite://{}", path.display())).expect("a new database");
    let devices = devices();
    let (mut times, mut busy) = (Vec::new(), Some(Duration::ZERO));
    for batch in batches(&devices, rows) {
        let start = Instant::now();
        let done = measured(&mut busy, || store.commit(&batch)).expect("a commit");
        times.push(start.elapsed());
        assert_eq!(done.telemetry, batch.telemetry.len(), "every row is new");
    }
    let rate = report("commit", rows, &mut times, busy);
    scan(&*store, &devices[7]);
    drop(store);
    let bytes = std::fs::metadata(path).expect("the database").len() as f64;
    let values = (rows * SLOTS * 2) as f64;
    println!(
        "on disk                        {:>9.2} B a value, {:.0} B a datagram",
        bytes / values,
        bytes / rows as f64
    );
    rate
}

fn scan(store: &dyn store::Store, device: &DeviceId) {
    let (mut rows, mut values) = (0, 0);
    let start = Instant::now();
    let mut each = |row: TelemetryRow| {
        rows += 1;
        values += row.values.len();
        ControlFlow::Continue(())
    };
    store.scan_telemetry(device, Timestamp(0), Timestamp(i64::MAX), &mut each).expect("a scan");
    let took = start.elapsed();
    println!("read one device                {rows:>9} datagrams, {values} values in {took:.1?}");
}

/// Time this thread has been running, where the system tells: on a machine shared with others the fairer measure.
fn cpu() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

/// Runs `work`; adds the CPU it took.
fn measured<T>(total: &mut Option<Duration>, work: impl FnOnce() -> T) -> T {
    let before = cpu();
    let done = work();
    *total = total.zip(cpu().zip(before)).map(|(total, (after, before))| total + (after - before));
    done
}

fn report(what: &str, rows: usize, times: &mut [Duration], cpu: Option<Duration>) -> f64 {
    let total: Duration = times.iter().sum();
    times.sort();
    let rate = rows as f64 / total.as_secs_f64();
    let busy =
        cpu.map(|cpu| format!(", {:.1} µs of CPU each", cpu.as_secs_f64() * 1e6 / rows as f64)).unwrap_or_default();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    println!("{what:<30} {rate:>9.0} datagrams/s{busy}; a batch: median {median:.1?}, longest {worst:.1?}");
    rate
}

/// The limit: encoded before the clock starts, sorted, one prepared statement.
fn raw(path: &Path, rows: usize) -> f64 {
    let path = path.to_str().expect("a path in UTF-8");
    store::migrate(&format!("sqlite://{path}"), false).expect("a new database");
    let mut connection = SqliteConnection::establish(path).expect("a connection");
    for pragma in ["synchronous = NORMAL", "cache_size = -16384", "wal_autocheckpoint = 8192"] {
        connection.batch_execute(&format!("PRAGMA {pragma}")).expect("a pragma");
    }
    let (mut times, mut busy) = (Vec::new(), Some(Duration::ZERO));
    let devices = devices();
    for batch in batches(&devices, rows) {
        let mut inserts: Vec<Insert> = batch.telemetry.iter().map(|row| Insert::new(&devices, row)).collect();
        inserts.sort_by_key(|insert| (insert.device_key, insert.ts));
        let start = Instant::now();
        let all = |c: &mut SqliteConnection| inserts.iter().try_for_each(|insert| insert.execute(c).map(drop));
        measured(&mut busy, || connection.immediate_transaction(all)).expect("an insert");
        times.push(start.elapsed());
    }
    report("raw insert of the same bytes", rows, &mut times, busy)
}

struct Insert {
    device_key: i64,
    ts: i64,
    seq: i64,
    received_at: i64,
    offsets_us: String,
    series: [Option<String>; 11],
    flagged: i32,
    dropped: i32,
}

impl Insert {
    fn new(devices: &[DeviceId], row: &TelemetryRow) -> Self {
        let mut series: [Option<String>; 11] = Default::default();
        for one in &row.values.series {
            if let Metric::Known(known) = one.metric {
                series[known as usize] = Some(serde_json::json!(one.values).to_string());
            }
        }
        Self {
            device_key: devices.iter().position(|device| *device == row.device).expect("one of them") as i64,
            ts: row.ts.0,
            seq: row.seq.to_i64(),
            received_at: row.received_at.0,
            offsets_us: serde_json::json!(row.values.offsets_us).to_string(),
            series,
            flagged: 0,
            dropped: 0,
        }
    }
}

impl QueryId for Insert {
    type QueryId = Self;
}

impl QueryFragment<Sqlite> for Insert {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql("INSERT INTO telemetry VALUES (");
        for number in [&self.device_key, &self.ts, &self.seq, &self.received_at] {
            out.push_bind_param::<BigInt, _>(number)?;
            out.push_sql(", ");
        }
        out.push_bind_param::<Text, _>(&self.offsets_us)?;
        for series in &self.series {
            out.push_sql(", ");
            out.push_bind_param::<Nullable<Text>, _>(series)?;
        }
        for number in [&self.flagged, &self.dropped] {
            out.push_sql(", ");
            out.push_bind_param::<Integer, _>(number)?;
        }
        out.push_sql(") ON CONFLICT DO NOTHING");
        Ok(())
    }
}

impl RunQueryDsl<SqliteConnection> for &Insert {}

//! How fast batches of measurements get into Postgres, beside the limit: the same rows, encoded and sorted beforehand, by
//! COPY into a staging table and from there with the check for what is there already, and nothing else. Both in turn, batch
//! by batch, on one server that waits for its disk. Then what a value takes, and how fast a day of one device is read.
//!
//! `cargo bench --features postgres --bench postgres_commit`; the number of rows may follow: `-- 2000000`. Starts a Postgres
//! of its own.

use std::io::Write;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::pg::CopyFormat;
use diesel::{Connection, ExecuteCopyFromDsl, PgConnection, QueryResult, RunQueryDsl};
use iot_meter::domain::device::Latest;
use iot_meter::domain::metric::Known;
use iot_meter::domain::sequence::SequenceState;
use iot_meter::domain::{DeviceId, DeviceState, Metric, Sequence, Telemetry, Timestamp, presence};
use iot_meter::store::{self, Batch, Store, TelemetryRow};

#[path = "../tests/it/support/postgres.rs"]
#[allow(dead_code, clippy::unwrap_used)]
mod postgres;

const DEVICES: usize = 1000;
const BATCH: usize = 4000;
const SLOTS: usize = 10;
const START: i64 = 1_770_890_400_000_000;
const ROWS: usize = 400_000;

#[allow(missing_docs)]
mod schema {
    diesel::table! {
        staging (device_id, ts, seq) {
            ts -> Timestamptz,
            seq -> BigInt,
            received_at -> Timestamptz,
            first_us -> Nullable<BigInt>,
            step_us -> Nullable<Integer>,
            slots -> SmallInt,
            flagged -> Nullable<SmallInt>,
            dropped -> Nullable<SmallInt>,
            device_id -> Text,
            offsets_us -> Nullable<Array<BigInt>>,
            voltage_dc -> Nullable<Array<Double>>,
            current_dc -> Nullable<Array<Double>>,
            voltage_ac -> Nullable<Array<Double>>,
            current_ac -> Nullable<Array<Double>>,
            frequency -> Nullable<Array<Double>>,
            pf -> Nullable<Array<Double>>,
            thd_v -> Nullable<Array<Double>>,
            thd_i -> Nullable<Array<Double>>,
            temperature -> Nullable<Array<Double>>,
            battery -> Nullable<Array<Double>>,
            other -> Nullable<Json>,
        }
    }
}
use schema::staging;

fn main() {
    let rows = std::env::args().filter_map(|arg| arg.parse().ok()).next().unwrap_or(ROWS);
    let values: usize = batches(rows).flat_map(|batch| batch.telemetry).map(|row| row.values.len()).sum();
    println!("{rows} datagrams with {values} values, {DEVICES} devices, {BATCH} a batch");
    let server = postgres::Server::durable();
    let files = encode(&server, rows);
    let url = server.database();
    let store = store::open(&url).expect("a new database");
    let mut raw = raw(&server.database());
    let (mut committed, mut copied) = (Vec::new(), Vec::new());
    for (batch, bytes) in batches(rows).zip(&files) {
        let start = Instant::now();
        let done = store.commit(&batch).expect("a commit");
        committed.push(start.elapsed());
        assert_eq!(done.telemetry, batch.telemetry.len(), "every row is new");
        let start = Instant::now();
        let stored = copy(&mut raw, bytes).expect("a copy");
        copied.push(start.elapsed());
        assert_eq!(stored, batch.telemetry.len(), "every row is new");
    }
    let ours = report("commit", (rows, values), &mut committed);
    let limit = report("COPY and check of the same rows", (rows, values), &mut copied);
    println!("ratio commit : limit            {:>9.2}", ours / limit);
    again(&*store, (rows, values));
    sizes(&server, &url, (rows, values));
    scan(&*store);
}

/// One datagram of a device, the `round`th: what the simulator's `mix` sends, three meters on direct current and two on
/// alternating, slow values with every sixth datagram.
fn datagram(device: &DeviceId, index: usize, round: usize) -> TelemetryRow {
    let mut values = Telemetry::default();
    for slot in 0..SLOTS {
        let offset = (slot as i64 + 1 - SLOTS as i64) * 1_000_000 - index as i64 * 7;
        let wave = ((index * 31 + round * 17 + slot * 7) % 400) as f64;
        let current = ((wave * 3701.0).rem_euclid(140_000.0) - 50_000.0) / 100.0;
        let mut push = |known: Known, value: f64| values.push(offset, Metric::Known(known), Some(known.unit()), value);
        let is_slow = slot == 0 && round.is_multiple_of(6);
        if index % 5 < 3 {
            push(Known::VoltageDc, (7300.0 + wave) / 10.0);
            push(Known::CurrentDc, current);
        } else {
            push(Known::VoltageAc, 15_000.0 + wave);
            push(Known::CurrentAc, current.abs());
            push(Known::Frequency, 16.7 + (wave - 200.0) / 100_000.0);
            push(Known::Pf, (500.0 + wave) / 1000.0);
            if is_slow {
                push(Known::ThdV, 1.5 + wave / 100.0);
                push(Known::ThdI, 4.0 + wave / 10.0);
            }
        }
        if is_slow {
            push(Known::Temperature, 25.0 + wave / 100.0);
            push(Known::Battery, 26.1);
        }
    }
    let ts = Timestamp(START + round as i64 * 10_000_000 + index as i64 * 997);
    let seq = Sequence::Counted(round as u32);
    TelemetryRow { device: device.clone(), ts, seq, received_at: ts.plus_us(350_000), values }
}

fn device(n: usize) -> DeviceId {
    let profile = ["dc750", "dc1500", "dc3000", "ac15", "ac25"][n % 5];
    DeviceId::parse(&format!("sim-{profile}-{:04}", n / 5)).expect("a valid id")
}

/// Batches as the collector makes them: in order of arrival, with the states of their devices.
fn batches(rows: usize) -> impl Iterator<Item = Batch> {
    let devices: Vec<DeviceId> = (0..DEVICES).map(device).collect();
    (0..rows).step_by(BATCH).map(move |first| {
        let numbers = first..(first + BATCH).min(rows);
        let telemetry: Vec<_> = numbers.map(|n| datagram(&devices[n % DEVICES], n % DEVICES, n / DEVICES)).collect();
        let states = telemetry.iter().rev().take(DEVICES).map(|row| (row.device.clone(), state(row))).collect();
        Batch { checkpoint: Some((first + BATCH) as u64), telemetry, states, ..Batch::default() }
    })
}

fn state(row: &TelemetryRow) -> DeviceState {
    let latest = |value| Latest { ts: row.ts, value, unit: None };
    let values =
        [(Known::VoltageDc, 751.5), (Known::CurrentDc, -20.3), (Known::Temperature, 25.1), (Known::Battery, 26.1)];
    DeviceState {
        sequence: SequenceState { head: row.seq.counted().map(|seq| (seq, row.ts)), ..SequenceState::default() },
        connection: presence::Connection::Online,
        last_seen: Some(row.received_at),
        latest: values.map(|(known, value)| (Metric::Known(known), latest(value))).into(),
        span_us: 9_000_000,
        ..DeviceState::default()
    }
}

/// Each batch as the server itself writes it for COPY.
fn encode(server: &postgres::Server, rows: usize) -> Vec<Vec<u8>> {
    let url = server.database();
    let store = store::open(&url).expect("a new database");
    let file = server.dir().join("batch");
    let mut all = Vec::new();
    for batch in batches(rows) {
        store.commit(&batch).expect("a commit");
        server.query(
            &url,
            &format!(
                "COPY (SELECT * FROM telemetry ORDER BY device_id, ts, seq) TO '{}' (FORMAT binary)",
                file.display()
            ),
        );
        server.query(&url, "TRUNCATE telemetry");
        all.push(std::fs::read(&file).expect("what the server wrote"));
    }
    all
}

fn raw(url: &str) -> PgConnection {
    store::migrate(url, false).expect("a new database");
    let mut connection = PgConnection::establish(url).expect("a connection");
    for day in 0..30 {
        let from = |day: i64| Timestamp(START.div_euclid(86_400_000_000) * 86_400_000_000 + day * 86_400_000_000);
        let range = format!("FOR VALUES FROM ('{}') TO ('{}')", from(day), from(day + 1));
        connection
            .batch_execute(&format!("CREATE TABLE day_{day} PARTITION OF telemetry {range}"))
            .expect("a partition");
    }
    connection
        .batch_execute(
            "SET temp_buffers = '64MB'; CREATE TEMPORARY TABLE staging (LIKE telemetry) ON COMMIT DELETE ROWS",
        )
        .expect("a staging table");
    connection
}

fn copy(connection: &mut PgConnection, bytes: &[u8]) -> QueryResult<usize> {
    connection.transaction(|connection| {
        diesel::copy_from(staging::table)
            .from_raw_data(staging::table, |out: &mut dyn Write| {
                let failed = |error: std::io::Error| diesel::result::Error::SerializationError(Box::new(error));
                bytes.chunks(256 << 10).try_for_each(|chunk| out.write_all(chunk).map_err(failed))
            })
            .with_format(CopyFormat::Binary)
            .execute(connection)?;
        diesel::sql_query("INSERT INTO telemetry SELECT * FROM staging ON CONFLICT DO NOTHING").execute(connection)
    })
}

/// The same batches once more: as from a second broker.
fn again(store: &dyn Store, (rows, values): (usize, usize)) {
    let mut times = Vec::new();
    for batch in batches(rows) {
        let start = Instant::now();
        let done = store.commit(&batch).expect("a commit");
        times.push(start.elapsed());
        assert_eq!(done.duplicates, batch.telemetry.len(), "every row is there");
    }
    report("commit of what is there", (rows, values), &mut times);
}

fn report(what: &str, (rows, values): (usize, usize), times: &mut [Duration]) -> f64 {
    let total: Duration = times.iter().sum();
    times.sort();
    let rate = rows as f64 / total.as_secs_f64();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    println!(
        "{what:<32} {rate:>9.0} datagrams/s, {:>9.0} values/s; a batch: median {median:.1?}, longest {worst:.1?}",
        values as f64 / total.as_secs_f64()
    );
    rate
}

fn sizes(server: &postgres::Server, url: &str, (rows, values): (usize, usize)) {
    let of = |function: &str| -> f64 {
        let sum = "FROM pg_inherits WHERE inhparent = 'telemetry'::regclass";
        server.query(url, &format!("SELECT sum({function}(inhrelid)) {sum}")).parse().expect("a number")
    };
    let values = values as f64;
    let (all, index) = (of("pg_total_relation_size"), of("pg_indexes_size"));
    println!(
        "on disk                          {:>9.2} B a value, of it {:.2} B index; {:.0} B a datagram",
        all / values,
        index / values,
        all / rows as f64
    );
}

fn scan(store: &dyn Store) {
    for _ in 0..2 {
        let (mut rows, mut values) = (0, 0);
        let start = Instant::now();
        let mut each = |row: TelemetryRow| {
            rows += 1;
            values += row.values.len();
            ControlFlow::Continue(())
        };
        store.scan_telemetry(&device(7), Timestamp(0), Timestamp(i64::MAX), &mut each).expect("a scan");
        println!("read one device                  {rows:>9} datagrams, {values} values in {:.1?}", start.elapsed());
    }
}

//! How fast questions about history are answered over HTTP, beside what cannot be undercut: the same rows by COPY to nothing
//! (SQLite: read and dropped), and the same points written as text from memory.
//!
//! A day of one type of one device at one sample a second; the same thinned to 500 points, from samples and rolled up; a year
//! of days and of thinned points; a page of a list of 10 000 devices.
//!
//! `cargo bench --bench history_query`, with the feature `postgres` also on a Postgres of its own. Environment:
//! `HISTORY_VALUES`: values stored, 2 000 000 by default (a year of the device that is asked for is 63 000 000 of them: with
//! fewer, the days there are); `HISTORY_RUNS`: questions of each kind, 21.

#[path = "../tests/it/support/http.rs"]
#[allow(dead_code, clippy::unwrap_used)]
mod http;
#[cfg(feature = "postgres")]
#[path = "../tests/it/support/postgres.rs"]
#[allow(dead_code, clippy::unwrap_used)]
mod postgres;

use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use anyhow::ensure;
use iot_meter::config::{self, Flag, Sources};
use iot_meter::domain::metric::Known;
use iot_meter::domain::{Clock, DeviceId, DeviceState, Metric, Sequence, Telemetry, Timestamp};
use iot_meter::history::History;
use iot_meter::keeper::rollups::{Rollups, step};
use iot_meter::observe::Progress;
use iot_meter::serve::{self, Start};
use iot_meter::store::{Batch, NewDevice, Store, TelemetryRow};

/// 2026-02-12T00:00:00Z: where the day asked for ends.
const MIDNIGHT: Timestamp = Timestamp(1_770_854_400_000_000);
/// Five minutes later: it can be rolled up.
const NOW: Timestamp = MIDNIGHT.plus_us(300_000_000);
const DAY_US: i64 = 86_400_000_000;
const S: i64 = 1_000_000;
/// Samples of a datagram, each of two types.
const SLOTS: i64 = 10;
const DATAGRAMS_A_DAY: i64 = 8640;
const VALUES_A_DAY: i64 = DATAGRAMS_A_DAY * SLOTS * 2;
const YEAR: i64 = 365;
const DEVICES: usize = 10_000;
const BATCH: usize = 4000;

fn main() -> anyhow::Result<()> {
    let of = |name: &str, default: i64| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let (values, runs) = (of("HISTORY_VALUES", 2_000_000), of("HISTORY_RUNS", 21));
    #[cfg(feature = "postgres")]
    {
        let server = postgres::Server::durable();
        let raw = |url: &str| {
            // A year in a minute: what the server itself has to do behind that is done first.
            server.query(url, "VACUUM ANALYZE telemetry");
            Some(copy_day(url))
        };
        bench("Postgres", Some(&server.database()), values, runs, &raw)?;
    }
    bench("SQLite", None, values, runs, &|_| None)
}

fn bench(
    name: &str,
    url: Option<&str>,
    values: i64,
    runs: i64,
    copied: &dyn Fn(&str) -> Option<Duration>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let flag = |key: &str, value: &str| Flag { flag: key.into(), key: key.into(), value: value.into() };
    let mut flags = vec![
        flag("data_dir", &dir.path().display().to_string()),
        flag("http.listen", "127.0.0.1:0"),
        flag("mqtt.listen", "127.0.0.1:0"),
        flag("mqtt.tls_listen", "off"),
    ];
    flags.extend(url.map(|url| flag("database.url", url)));
    let settings = config::load(&Sources { flags, ..Sources::default() })?.settings;
    // By this clock nothing is over yet while the database is filled: the task sleeps, the bench does its work.
    let clock = Clock::manual(Timestamp(NOW.0 - 400 * DAY_US));
    let running = runtime.block_on(serve::start(Start { settings, open: true, clock: clock.clone(), demo: 0 }))?;
    let store = running.store();
    let days = (values / VALUES_A_DAY).clamp(2, YEAR);
    fill(&*store, values, days, name)?;
    let rest = (YEAR - days).max(0);
    let api = http::Api::new(running.addresses().http, None);
    let ask = Ask { api, runs };
    println!("\n{name}: {values} values, {days} days of the device asked for; median and longest of {runs}");
    println!("{:<44} {:>9} {:>9} {:>9} {:>7}", "", "median", "longest", "limit", "ratio");
    let day = format!(
        "/api/devices/{}/metrics?metric=voltage_dc&start={}&stop={MIDNIGHT}",
        device(0),
        MIDNIGHT.plus_us(-DAY_US)
    );
    let limit = copied(url.unwrap_or_default()).unwrap_or_else(|| scanned(&*store)) + written();
    ask.row("a day, 86 400 points", &day, 86_400, Some(limit))?;
    let thinned = format!("{day}&max_points=500");
    ask.row("the same thinned to 500, not rolled up", &thinned, 500, Some(limit))?;
    clock.set(NOW);
    let started = Instant::now();
    let rollups = Rollups {
        history: History::of_store(std::sync::Arc::clone(&store)),
        telemetry: Duration::from_secs(400 * 86_400),
        progress: Progress::default(),
    };
    while step(&rollups, NOW, &|| false)? > 0 {}
    let took = started.elapsed();
    ask.row("the same, rolled up", &thinned, 500, Some(limit))?;
    ask.row("a day in minutes", &format!("{day}&every=1m"), 1440, Some(limit))?;
    let year = format!(
        "/api/devices/{}/metrics?metric=voltage_dc&start={}&stop={MIDNIGHT}",
        device(0),
        MIDNIGHT.plus_us(-YEAR * DAY_US)
    );
    let shown = usize::try_from(days)?;
    ask.row(&format!("a year in days ({rest} of them empty)"), &format!("{year}&every=1d"), shown, Some(limit))?;
    ask.row("a year in hours", &format!("{year}&every=1h&fn=integral"), shown * 24, Some(limit))?;
    ask.row("a year thinned to 100", &format!("{year}&max_points=100"), 100, Some(limit))?;
    ask.row("page 1 of 10 000 devices, 100 a page", "/api/devices?per_page=100", 100, None)?;
    ask.row("page 50 of them", "/api/devices?per_page=100&page=50", 100, None)?;
    println!(
        "rolled up {values} values of {DEVICES} devices in {took:.1?}: {:.0} values/s",
        values as f64 / took.as_secs_f64()
    );
    runtime.block_on(running.stop())
}

fn device(n: usize) -> DeviceId {
    DeviceId::parse(&format!("meter-{n:05}")).expect("a valid id")
}

/// A datagram of direct current, `n` datagrams behind a time.
fn datagram(device: &DeviceId, from: i64, n: i64) -> TelemetryRow {
    let mut values = Telemetry::default();
    for slot in 0..SLOTS {
        let at = n * SLOTS + slot;
        let mut push = |known: Known, value: f64| values.push(slot * S, Metric::Known(known), None, value);
        push(Known::VoltageDc, (7300 + at * 7 % 411 + at / 600 % 90) as f64 / 10.0);
        push(Known::CurrentDc, (at * 3701 % 140_000 - 50_000) as f64 / 100.0);
    }
    let ts = Timestamp(from + n * SLOTS * S);
    let seq = Sequence::Counted(u32::try_from(n).unwrap_or(0));
    TelemetryRow { device: device.clone(), ts, seq, received_at: ts.plus_us(S), values }
}

/// The devices, then the days of the one that is asked for, then others until there is as much as wanted.
fn fill(store: &dyn Store, values: i64, days: i64, name: &str) -> anyhow::Result<()> {
    let new = |n: usize| NewDevice {
        device_id: device(n),
        device_name: format!("Meter {n}"),
        device_type: "dc750".into(),
        location: Some("Bern".into()),
        is_active: true,
        metadata: serde_json::Map::new(),
        token_sha256: None,
    };
    let state = DeviceState { span_us: SLOTS * S, ..DeviceState::default() };
    let registrations = (0..DEVICES).map(new).collect();
    let states = (0..DEVICES).map(|n| (device(n), state.clone())).collect();
    store.commit(&Batch { registrations, states, ..Batch::default() })?;
    let (mut left, mut at, mut shown) = (values / (SLOTS * 2), 0, Instant::now());
    for who in 0..DEVICES {
        let of_this = left.min(days * DATAGRAMS_A_DAY);
        let from = MIDNIGHT.0 - days * DAY_US;
        let skip = days * DATAGRAMS_A_DAY - of_this;
        let id = device(who);
        let mut rows = (skip..days * DATAGRAMS_A_DAY).map(|n| datagram(&id, from, n));
        loop {
            let telemetry: Vec<_> = rows.by_ref().take(BATCH).collect();
            if telemetry.is_empty() {
                break;
            }
            at += telemetry.len() as i64;
            store.commit(&Batch { telemetry, ..Batch::default() })?;
            if shown.elapsed() > Duration::from_secs(5) {
                eprintln!("{name}: {} of {values} values stored", at * SLOTS * 2);
                shown = Instant::now();
            }
        }
        left -= of_this;
    }
    Ok(())
}

struct Ask {
    api: http::Api,
    runs: i64,
}

impl Ask {
    fn row(&self, what: &str, path: &str, expected: usize, limit: Option<Duration>) -> anyhow::Result<()> {
        let mut times = Vec::new();
        for _ in 0..self.runs {
            let started = Instant::now();
            let answer = self.api.get(path);
            times.push(started.elapsed());
            ensure!(answer.status == 200, "{path}: {}", answer.text());
            if times.len() == 1 {
                let points = answer.json().as_array().map_or(0, Vec::len);
                ensure!(points == expected, "{path}: {points} points, not {expected}");
            }
        }
        times.sort();
        let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
        let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
        let ratio = limit.map_or(String::new(), |l| format!("{:.2}", median.as_secs_f64() / l.as_secs_f64()));
        let limit = limit.map_or(String::new(), ms);
        println!("{what:<44} {:>9} {:>9} {limit:>9} {ratio:>7}", ms(median), ms(longest));
        Ok(())
    }
}

/// The rows of a day, read by the store and dropped.
fn scanned(store: &dyn Store) -> Duration {
    let columns = iot_meter::store::Columns::NONE.with(Known::VoltageDc);
    let (from, to) = (MIDNIGHT.plus_us(-DAY_US), MIDNIGHT);
    median(|| {
        let mut slots = 0;
        let mut each = |row: TelemetryRow| {
            slots += row.values.offsets_us.len();
            ControlFlow::Continue(())
        };
        store.scan_columns(&device(0), columns, from, to, &mut each).expect("a scan");
        assert_eq!(slots, 86_400);
    })
}

/// The same by COPY, on a connection of its own, to nothing.
#[cfg(feature = "postgres")]
fn copy_day(url: &str) -> Duration {
    use diesel::connection::SimpleConnection;
    use diesel::{Connection, PgConnection};
    let mut connection = PgConnection::establish(url).expect("a connection");
    let (from, to) = (MIDNIGHT.plus_us(-DAY_US), MIDNIGHT);
    let query = format!(
        "COPY (SELECT ts, seq, first_us, step_us, slots, voltage_dc FROM telemetry WHERE device_id = '{}' \
         AND ts >= '{from}' AND ts < '{to}' ORDER BY ts, seq) TO '/dev/null' (FORMAT binary)",
        device(0),
    );
    median(|| connection.batch_execute(&query).expect("a copy"))
}

/// A day of points written as text, and nothing else.
fn written() -> Duration {
    let points: Vec<(Timestamp, f64)> =
        (0..86_400).map(|n| (Timestamp(NOW.0 - n * S), (7300 + n * 7 % 411) as f64 / 10.0)).collect();
    median(|| {
        let mut text = String::new();
        for (time, value) in &points {
            let _ = write!(
                text,
                "{{\"time\":\"{time}\",\"device_id\":\"meter-00000\",\"metric\":\"voltage_dc\",\"value\":{value},\"unit\":\"V\"}},"
            );
        }
        assert!(std::hint::black_box(text).len() > 8_000_000);
    })
}

fn median(mut work: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..7)
        .map(|_| {
            let started = Instant::now();
            work();
            started.elapsed()
        })
        .collect();
    times.sort();
    times[3]
}

//! A real server in this process, on free ports, with a data directory that goes away.

pub mod certified;
#[cfg(feature = "s3-tests")]
#[allow(dead_code)] // shared with the archive's own tests
pub mod cloud;
#[cfg(all(feature = "postgres", feature = "s3-tests"))]
pub mod cut;
pub mod figures;
pub mod fleet;
pub mod foreign;
pub mod github;
#[cfg(any(feature = "ops-tests", feature = "postgres", feature = "s3-tests"))]
#[allow(dead_code)] // by tests of a feature
pub mod guides;
pub mod http;
pub mod issuer;
pub mod mqtt;
#[cfg(feature = "postgres")]
#[allow(dead_code)] // shared with the store's own tests and the benchmark
pub mod postgres;
pub mod process;
pub mod sse;
pub mod wrapped;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use iot_meter::config::{self, Flag, Settings, Sources};
use iot_meter::domain::{Clock, Timestamp};
use iot_meter::serve::{self, Start};
use serde_json::json;

pub use figures::Figures;
pub use http::Api;
pub use mqtt::{Client, Connect, Packet};

/// How long a test waits for a condition before it fails.
const PATIENCE: Duration = Duration::from_secs(90);

/// A running server.
pub struct TestApp {
    runtime: tokio::runtime::Runtime,
    running: Option<serve::Running>,
    settings: Settings,
    open: bool,
    clock: Clock,
    base: Timestamp,
    pub api: Api,
    _dir: tempfile::TempDir,
}

/// How to start one.
pub struct Builder {
    open: bool,
    clock: Clock,
    set: Vec<(String, String)>,
}

impl Builder {
    /// With another value of a setting.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.set.push((key.to_owned(), value.to_owned()));
        self
    }

    /// No credential needed.
    pub fn open(self) -> Self {
        Self { open: true, ..self }
    }

    /// A clock that stands still at `at` until the test moves it.
    pub fn clock(self, at: &str) -> Self {
        Self { clock: Clock::manual(Timestamp::parse_rfc3339(at).unwrap()), ..self }
    }

    pub fn start(self) -> TestApp {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(&dir.path().join("data"), &self.set);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let base = Timestamp(self.clock.now().0 / 1_000_000 * 1_000_000).plus_us(-300_000_000);
        let (running, api) = launch(&runtime, &settings, self.open, &self.clock);
        TestApp { runtime, running: Some(running), settings, open: self.open, clock: self.clock, base, api, _dir: dir }
    }
}

/// The defaults, on this data directory and free ports.
fn settings(data_dir: &std::path::Path, set: &[(String, String)]) -> Settings {
    let flag = |key: &str, value: &str| Flag { flag: key.into(), key: key.into(), value: value.into() };
    let mut flags = vec![
        flag("data_dir", &data_dir.display().to_string()),
        flag("http.listen", "127.0.0.1:0"),
        flag("mqtt.listen", "127.0.0.1:0"),
        // Not on its usual port, which every address of this machine would have.
        flag("mqtt.tls_listen", "off"),
    ];
    flags.extend(database().map(|url| flag("database.url", &url)));
    flags.extend(set.iter().map(|(key, value)| flag(key, value)));
    config::load(&Sources { flags, ..Sources::default() }).expect("good settings").settings
}

/// A new database on the Postgres of the tests when `IOT_METER_TEST_DATABASE` asks for it: `postgres`, or `timescaledb`, where
/// it has hypertables. Else the default.
fn database() -> Option<String> {
    #[cfg(feature = "postgres")]
    match std::env::var("IOT_METER_TEST_DATABASE").as_deref() {
        Ok("postgres") => return Some(postgres::Server::shared().database()),
        Ok("timescaledb") => {
            let server = postgres::Server::timescaledb();
            let url = server.database();
            drop(iot_meter::store::open(&url).unwrap());
            server.script(&url, "timescaledb.sql");
            return Some(url);
        }
        Ok(other) => panic!("IOT_METER_TEST_DATABASE={other}: postgres or timescaledb"),
        Err(_) => {}
    }
    None
}

fn launch(runtime: &tokio::runtime::Runtime, settings: &Settings, open: bool, clock: &Clock) -> (serve::Running, Api) {
    let start = Start { settings: settings.clone(), open, clock: clock.clone(), demo: 0 };
    let running = runtime.block_on(serve::start(start)).unwrap_or_else(|e| panic!("the server starts: {e:#}"));
    // (Later, when the database is away.)
    let key = std::fs::read_to_string(settings.data_dir.join("admin.key")).ok().filter(|_| !open);
    let key = key.map(|text| text.trim().to_owned());
    let api = Api::new(running.addresses().http, key);
    (running, api)
}

impl TestApp {
    pub fn builder() -> Builder {
        Builder { open: false, clock: Clock::system(), set: Vec::new() }
    }

    /// With `--open`.
    pub fn open() -> Self {
        Self::builder().open().start()
    }

    fn running(&self) -> &serve::Running {
        self.running.as_ref().expect("the server is running")
    }

    /// The database, behind the server's back.
    pub fn store(&self) -> iot_meter::store::SharedStore {
        self.running().store()
    }

    /// Where its database is.
    pub fn database_url(&self) -> String {
        self.settings.database.url.reveal().to_owned()
    }

    /// Where it keeps its things.
    pub fn data_dir(&self) -> &std::path::Path {
        &self.settings.data_dir
    }

    pub fn mqtt_address(&self) -> SocketAddr {
        self.running().addresses().mqtt
    }

    /// The file of the addresses really bound.
    pub fn announced(&self) -> serde_json::Value {
        let text = std::fs::read(self.settings.data_dir.join("run/addresses.json")).expect("is announced");
        serde_json::from_slice(&text).expect("is JSON")
    }

    /// The address of a listener, by its name in the file.
    pub fn address(&self, name: &str) -> SocketAddr {
        let announced = self.announced();
        announced[name].as_str().unwrap_or_else(|| panic!("no {name} in {announced}")).parse().unwrap()
    }

    /// Connects a client; it also says whether the server had its session.
    pub fn mqtt(&self, how: &Connect<'_>) -> (Client, bool) {
        Client::connect(self.mqtt_address(), how)
    }

    /// A time `seconds` after a base five minutes before the start.
    pub fn at(&self, seconds: i64) -> Timestamp {
        self.base.plus_us(seconds * 1_000_000)
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Moves a standing clock.
    pub fn pass_s(&self, seconds: i64) {
        self.clock.set(self.clock.now().plus_us(seconds * 1_000_000));
    }

    /// Waits until all that was accepted before this call is stored.
    pub fn settled(&self) {
        settled(&self.api);
    }

    /// Lets the collector look at the clock once: a request to it is answered after its turn.
    pub fn tick(&self) {
        for _ in 0..2 {
            self.api.post("/api/devices/nobody-at-all/heartbeat", &json!({})).expect(404);
        }
    }

    /// Waits until `condition` holds; fails with `what` when it never does.
    pub fn eventually(&self, what: &str, condition: impl FnMut() -> bool) {
        eventually(what, condition);
    }

    /// Registers a device over REST.
    pub fn register(&self, device: &str) {
        self.api.post("/api/devices", &json!({"device_id": device, "device_name": device})).expect(201);
    }

    /// All stored values of a metric, in order of time.
    pub fn values(&self, device: &str, metric: &str) -> Vec<f64> {
        let rows = self.api.get(&format!("/api/devices/{device}/metrics?start=-1h&metric={metric}")).expect(200).json();
        rows.as_array().unwrap().iter().map(|r| r["value"].as_f64().unwrap()).collect()
    }

    /// Stops in good order and starts again on the same data directory, `seconds` later by a standing clock.
    pub fn restart_after_s(&mut self, seconds: i64) {
        let clock = self.clock.clone();
        self.restart_while(|| clock.set(clock.now().plus_us(seconds * 1_000_000)));
    }

    /// Stops in good order and starts again on the same data directory after `meanwhile`.
    pub fn restart_while(&mut self, meanwhile: impl FnOnce()) {
        let running = self.running.take().expect("the server is running");
        self.runtime.block_on(running.stop()).unwrap_or_else(|e| panic!("the server stops: {e:#}"));
        meanwhile();
        let (running, api) = launch(&self.runtime, &self.settings, self.open, &self.clock);
        self.running = Some(running);
        self.api = api;
    }

    /// Stops in good order and starts again on the same data directory.
    pub fn restart(&mut self) {
        self.restart_while(|| ());
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        if let Some(running) = self.running.take()
            && let Err(error) = self.runtime.block_on(running.stop())
            && !std::thread::panicking()
        {
            panic!("the server stops: {error:#}");
        }
    }
}

/// Waits until all that was accepted before this call is stored.
pub fn settled(api: &Api) {
    settled_within(PATIENCE, api);
}

/// The same, with more or less patience.
pub fn settled_within(patience: Duration, api: &Api) {
    let position = |name: &str, field: &str, status: &serde_json::Value| status[name][field].as_u64().unwrap();
    let durable = position("journal", "durable", &api.get("/api/system/status").expect(200).json());
    let now = || position("collector", "position", &api.get("/api/system/status").expect(200).json());
    eventually_within(
        patience,
        "everything accepted is stored",
        || now() >= durable,
        || format!("{} of {durable}", now()),
    );
}

/// Waits until `condition` holds; fails with `what` when it does not within a minute and a half.
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    eventually_within(PATIENCE, what, condition, String::new);
}

/// Waits until `condition` holds; fails with `what`, and what there is to see, when it does not in time.
pub fn eventually_within(
    patience: Duration,
    what: &str,
    mut condition: impl FnMut() -> bool,
    seen: impl Fn() -> String,
) {
    let end = Instant::now() + patience;
    while !condition() {
        assert!(Instant::now() < end, "never happened: {what} {}", seen());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A moment an hour ago, on a whole second: where the samples of meters begin.
pub fn an_hour_ago() -> Timestamp {
    Timestamp(Clock::system().now().0 / 1_000_000 * 1_000_000).plus_us(-3600 * 1_000_000)
}

/// With one text in place of another, which must be there.
#[allow(dead_code)] // by tests of a feature
#[track_caller]
pub fn replaced(text: &str, old: &str, new: &str) -> String {
    assert!(text.contains(old), "{old:?} is not in:\n{text}");
    text.replace(old, new)
}

/// A datagram of one voltage/current pair sampled at `ts`.
pub fn telemetry(device: &str, ts: Timestamp, seq: u32, voltage: f64) -> String {
    let ts = ts.to_string();
    json!({
        "v": 2, "device_id": device, "ts": ts, "seq": seq, "msg_type": "telemetry",
        "measurements": [
            {"ts": ts, "type": "voltage_dc", "val": voltage, "unit": "V"},
            {"ts": ts, "type": "current_dc", "val": 100.0, "unit": "A"},
        ]
    })
    .to_string()
}

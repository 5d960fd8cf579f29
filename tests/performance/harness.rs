//! The load of `scenario.json` on the REST API, without k6: clients that ask, wait a moment and ask again.
//!
//! Reports times beside their limits; what to make of them is the caller's business. Used by `benches/api.rs` and by the
//! integration tests. Must not know the server: it gets an address.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

const SCENARIO: &str = include_str!("scenario.json");

/// A kind of call.
struct Call {
    name: String,
    method: String,
    path: String,
    p95_ms: u64,
}

/// How one kind of call went.
pub struct Line {
    /// The call's name.
    pub name: String,
    /// Requests.
    pub count: usize,
    /// Requests without a 2xx answer.
    pub errors: usize,
    /// 95th percentile of the time to a whole answer.
    pub p95: Duration,
    /// What it should be.
    pub limit: Duration,
}

/// How all of it went.
pub struct Report {
    /// A line a kind of call.
    pub lines: Vec<Line>,
    /// All calls together.
    pub all: Line,
    /// The part of requests that may fail.
    pub errors_allowed: f64,
}

/// What to run.
pub struct Load<'a> {
    /// `http://host:port`.
    pub url: &'a str,
    /// Devices to ask for.
    pub devices: &'a [String],
    /// Instead of the scenario's.
    pub clients: Option<u64>,
    /// Instead of the scenario's.
    pub time: Option<Duration>,
}

/// Runs the scenario.
pub fn run(load: &Load<'_>) -> Report {
    let scenario: Value = serde_json::from_str(SCENARIO).expect("the scenario is JSON");
    let number = |of: &Value, name: &str| of[name].as_u64();
    let all_p95 = number(&scenario, "p95_ms").expect("has a limit");
    let mut deck = Vec::new();
    for call in scenario["calls"].as_array().expect("has calls") {
        let text = |name: &str| call[name].as_str().expect("is a text").to_owned();
        let p95_ms = number(call, "p95_ms").unwrap_or(all_p95);
        for _ in 0..number(call, "weight").expect("has a weight") {
            deck.push(Call { name: text("name"), method: text("method"), path: text("path"), p95_ms });
        }
    }
    let pause = Duration::from_millis(number(&scenario, "pause_ms").expect("has a pause"));
    let time = load.time.unwrap_or(Duration::from_secs(number(&scenario, "duration_s").expect("has a duration")));
    let clients = load.clients.unwrap_or(number(&scenario, "clients").expect("has clients"));

    let end = Instant::now() + time;
    let mut taken: BTreeMap<&str, Vec<(Duration, bool)>> = BTreeMap::new();
    std::thread::scope(|scope| {
        let deck = &deck;
        let running: Vec<_> =
            (0..clients).map(|client| scope.spawn(move || ask(load, deck, client, pause, end))).collect();
        for client in running {
            for (name, took, is_good) in client.join().expect("a client ends") {
                taken.entry(name).or_default().push((took, is_good));
            }
        }
    });
    let limit = |name: &str| deck.iter().find(|call| call.name == name).map_or(all_p95, |call| call.p95_ms);
    let everything: Vec<_> = taken.values().flatten().copied().collect();
    Report {
        lines: taken.into_iter().map(|(name, times)| line(name, times, limit(name))).collect(),
        all: line("all", everything, all_p95),
        errors_allowed: scenario["errors"].as_f64().expect("has a limit of errors"),
    }
}

/// One client's calls: (name, time taken, whether it was answered well).
fn ask<'a>(
    load: &Load<'_>,
    deck: &'a [Call],
    client: u64,
    pause: Duration,
    end: Instant,
) -> Vec<(&'a str, Duration, bool)> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(30)))
        .build()
        .into();
    let mut done = Vec::new();
    // Every client goes through the deck from another place and with another step, so that all calls mix.
    let (mut at, mut device) = (usize::try_from(client).unwrap_or(0), usize::try_from(client).unwrap_or(0));
    while Instant::now() < end {
        at = (at + 7) % deck.len();
        device = (device + 1) % load.devices.len();
        let call = &deck[at];
        let url = format!("{}{}", load.url, call.path.replace("{device}", &load.devices[device]));
        let request = ureq::http::Request::builder().method(call.method.as_str()).uri(url).body(());
        let begun = Instant::now();
        let answer = agent.run(request.expect("the scenario's paths are good"));
        let is_good = answer.is_ok_and(|mut a| a.status().is_success() && a.body_mut().read_to_vec().is_ok());
        done.push((call.name.as_str(), begun.elapsed(), is_good));
        // The pace of the scenario, not a condition waited for.
        std::thread::sleep(pause);
    }
    done
}

fn line(name: &str, mut times: Vec<(Duration, bool)>, limit_ms: u64) -> Line {
    times.sort();
    let p95 = times.get((times.len() * 95 / 100).min(times.len().saturating_sub(1))).map_or(Duration::ZERO, |t| t.0);
    let errors = times.iter().filter(|(_, is_good)| !is_good).count();
    Line { name: name.to_owned(), count: times.len(), errors, p95, limit: Duration::from_millis(limit_ms) }
}

impl Report {
    /// Whether fewer requests failed than may.
    pub fn is_good(&self) -> bool {
        (self.all.errors as f64) < self.errors_allowed * self.all.count as f64
    }

    /// The lines that were slower than they should be. A benchmark's to judge: a test runs on machines that are busy.
    #[allow(dead_code)] // by the test, which only prints them
    pub fn over(&self) -> Vec<&str> {
        let lines = self.lines.iter().chain([&self.all]);
        lines.filter(|line| line.p95 > line.limit).map(|line| line.name.as_str()).collect()
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{:10} {:>8} {:>7} {:>10} {:>8}", "call", "requests", "errors", "p95 ms", "limit")?;
        for line in self.lines.iter().chain([&self.all]) {
            let mark = if line.p95 <= line.limit { "" } else { "  over" };
            let ms = line.p95.as_secs_f64() * 1e3;
            let limit = line.limit.as_millis();
            writeln!(f, "{:10} {:>8} {:>7} {ms:>10.1} {limit:>8}{mark}", line.name, line.count, line.errors)?;
        }
        Ok(())
    }
}

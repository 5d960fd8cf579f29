//! The proof: everything acknowledged is stored, once.
//!
//! Waits until the collector has reached what was durable, on every node of the database (messages may have come to
//! another node than the one that is asked), then streams every device's voltage samples of the run. Each
//! message has ten of them at instants no other message has ([`Grid`]), so that counting instants by message shows what is
//! missing (fewer than ten) and what is there twice (more). Memory: a byte a message of one device. Blocking.

use std::io::{BufRead, BufReader, Read};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::connection::Outcome;
use super::options::Error;
use super::report::Verification;
use super::template::{Grid, SAMPLES};
use crate::domain::Timestamp;
use crate::simulate::ApiAccess;

/// Longest wait for the first byte of an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// Pause between two questions for the state of the collector.
const POLL: Duration = Duration::from_millis(100);
/// How far the clocks of nodes may differ (`[nodes]` asks for less).
const CLOCKS: Duration = Duration::from_secs(1);
/// A node heard of since so long before the run may have got messages of the run.
const BEFORE_THE_RUN: Duration = Duration::from_secs(60);
/// A line longer than this is no reading.
const MAX_LINE: u64 = 64 * 1024;

#[derive(Deserialize)]
struct SystemStatus {
    time: String,
    journal: Journal,
    collector: Collector,
}

#[derive(Deserialize)]
struct Journal {
    durable: u64,
}

#[derive(Deserialize)]
struct Collector {
    position: u64,
}

/// Of `GET /api/nodes`.
#[derive(Deserialize)]
struct Node {
    name: String,
    is_this: bool,
    heartbeat_at: Option<String>,
    stored_until: Option<String>,
}

impl Node {
    /// Whether nothing it received from `begun` to `ended` is still on its way into the store. One that stopped in good
    /// order has no heartbeat, and nothing on its way. (Behind a balancer the node that answers now need not be the one whose
    /// collector was asked.)
    fn is_settled(&self, begun: Timestamp, ended: Timestamp) -> bool {
        let is_from = |text: &Option<String>, time| {
            text.as_deref().and_then(Timestamp::parse_rfc3339).is_some_and(|at: Timestamp| at >= time)
        };
        let is_alone = self.is_this && self.stored_until.is_none();
        is_alone || !is_from(&self.heartbeat_at, begun) || is_from(&self.stored_until, ended.plus(CLOCKS))
    }
}

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow)]
    time: &'a str,
}

/// Waits for the servers to settle, then checks every device. `started` is when the run began.
pub(super) fn verify(
    api: &ApiAccess,
    grid: Grid,
    outcomes: Vec<Outcome>,
    started: Instant,
    patience: Duration,
) -> Result<Verification, Error> {
    let client = Client::new(api)?;
    client.settle(started, patience)?;
    let mut total = Verification::default();
    for outcome in outcomes.iter().filter(|outcome| outcome.sent > 0) {
        let counts = client.count_samples(&outcome.device_id, grid, outcome.sent)?;
        total.devices += 1;
        judge(&counts, |n| outcome.acked.contains(n), &mut total);
    }
    Ok(total)
}

/// Adds what the sample counts of one device say.
fn judge(counts: &[u8], is_acked: impl Fn(u64) -> bool, total: &mut Verification) {
    for (n, &count) in counts.iter().enumerate() {
        let is_acked = is_acked(n as u64);
        let is_whole = u64::from(count) >= SAMPLES;
        total.stored += u64::from(is_whole);
        total.missing += u64::from(is_acked && !is_whole);
        total.duplicated += u64::from(u64::from(count) > SAMPLES);
        total.unacknowledged_but_stored += u64::from(!is_acked && count > 0);
    }
}

struct Client {
    agent: ureq::Agent,
    base: String,
    key: Option<String>,
}

impl Client {
    fn new(api: &ApiAccess) -> Result<Self, Error> {
        let config = api.http()?.timeout_recv_response(Some(ANSWER_TIMEOUT));
        let base = api.url.trim_end_matches('/').to_owned();
        Ok(Self { agent: config.build().into(), base, key: api.key.clone() })
    }

    fn get(&self, url: &str) -> Result<ureq::Body, Error> {
        let mut request = self.agent.get(url);
        if let Some(key) = &self.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let failed = |source| Error::Api { url: url.into(), source: Box::new(source) };
        Ok(request.call().map_err(failed)?.into_body())
    }

    fn json<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let url = format!("{}{path}", self.base);
        self.get(&url)?.read_json().map_err(|source| Error::Api { url, source: Box::new(source) })
    }

    /// Returns when the collector has passed what was durable at the first answer, and other nodes have stored what they
    /// received before it. A server that is just starting may refuse to answer for a while.
    fn settle(&self, started: Instant, patience: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + patience;
        let mut first = None;
        loop {
            let unsettled = self.unsettled(started, &mut first);
            let is_late = Instant::now() >= deadline;
            match unsettled {
                Ok(None) => return Ok(()),
                Ok(Some(node)) if is_late => return Err(Error::NotSettled { node, patience }),
                Err(error) if is_late => return Err(error),
                _ => std::thread::sleep(POLL),
            }
        }
    }

    /// A node that has not stored everything yet. `first` is what the first answer said: how much was durable, and when.
    fn unsettled(&self, started: Instant, first: &mut Option<(u64, Timestamp)>) -> Result<Option<String>, Error> {
        let status: SystemStatus = self.json("/api/system/status")?;
        let Some(now) = Timestamp::parse_rfc3339(&status.time) else {
            return Err(Error::Unexpected { url: format!("{}/api/system/status", self.base), answer: status.time });
        };
        let (durable, ended) = *first.get_or_insert((status.journal.durable, now));
        if status.collector.position < durable {
            return Ok(Some(String::from("the server that was asked")));
        }
        let ago = started.elapsed() + BEFORE_THE_RUN;
        let begun = now.plus_us(i64::try_from(ago.as_micros()).map_or(i64::MIN, |us| -us));
        let nodes: Vec<Node> = self.json("/api/nodes")?;
        Ok(nodes.into_iter().find(|node| !node.is_settled(begun, ended)).map(|node| format!("node {}", node.name)))
    }

    /// How many samples of each of the first `messages` messages are stored; 255 stands for more.
    fn count_samples(&self, device_id: &str, grid: Grid, messages: u64) -> Result<Vec<u8>, Error> {
        let (start, stop) = grid.range(messages);
        let url = format!(
            "{}/api/devices/{device_id}/metrics?start={start}&stop={stop}&metric=voltage_dc&format=ndjson",
            self.base
        );
        let body = BufReader::with_capacity(256 * 1024, self.get(&url)?.into_reader());
        count_lines(body, &url, grid, messages)
    }
}

fn count_lines(mut body: impl BufRead, url: &str, grid: Grid, messages: u64) -> Result<Vec<u8>, Error> {
    let mut counts = vec![0u8; usize::try_from(messages).unwrap_or(usize::MAX)];
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = body.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        if read.map_err(|source| Error::Read { url: url.into(), source })? == 0 {
            return Ok(counts);
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let row = serde_json::from_slice::<Row<'_>>(&line).ok();
        let Some(at) = row.and_then(|row| Timestamp::parse_rfc3339(row.time)) else {
            let answer = String::from_utf8_lossy(&line).chars().take(200).collect();
            return Err(Error::Unexpected { url: url.into(), answer });
        };
        // Values of other runs in the same time are none of ours.
        if let Some(count) = grid.message_of(at).and_then(|n| counts.get_mut(n as usize)) {
            *count = count.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID_START: Timestamp = Timestamp(1_770_890_400_123_456);

    fn line(at: Timestamp) -> String {
        format!("{{\"time\":\"{at}\",\"device_id\":\"load-0001\",\"metric\":\"voltage_dc\",\"value\":750.5}}\n")
    }

    #[test]
    fn samples_are_counted_by_the_message_they_belong_to() {
        let grid = Grid::new(GRID_START, 1000);
        let mut text = String::new();
        for n in [0i64, 0, 2] {
            // Message 0 twice, message 1 not at all, message 2 without its last sample.
            let samples = if n == 2 { 9 } else { 10 };
            (0..samples).for_each(|k| text += &line(GRID_START.plus_us(n * 1000 - 900 + k * 100)));
        }
        text += &line(GRID_START.plus_us(37));
        text += "\n";
        let counts = count_lines(text.as_bytes(), "u", grid, 4).unwrap();
        assert_eq!(counts, [20, 0, 9, 0]);

        let mut total = Verification::default();
        judge(&counts, |n| n != 2, &mut total);
        let expected = Verification { devices: 0, stored: 1, missing: 2, duplicated: 1, unacknowledged_but_stored: 1 };
        assert_eq!(total, expected);
    }

    #[test]
    fn an_answer_of_another_shape_is_an_error_not_a_loss() {
        let grid = Grid::new(GRID_START, 1000);
        let check = |text: &str| {
            let error = count_lines(text.as_bytes(), "u", grid, 1).unwrap_err().to_string();
            assert!(error.contains("unexpected"), "{error}");
        };
        check("[]\n");
        check("{\"time\":\"yesterday\"}\n");
        check(&"x".repeat(200_000));
    }
}

//! What a load run did, live for the progress line and as the final report.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::connection::Outcome;
use super::histogram::Histogram;
use super::options::Options;

/// Counters shared by all connections.
#[derive(Default)]
pub(super) struct Shared {
    pub sent: AtomicU64,
    pub acked: AtomicU64,
    pub retransmitted: AtomicU64,
    pub bytes: AtomicU64,
    pub connect_failures: AtomicU64,
    pub lost_connections: AtomicU64,
    /// When the last connection stood for the first time, µs of the run.
    pub last_first_connect_us: AtomicU64,
}

/// Connects that succeeded: TCP, TLS where it is spoken, CONNECT and CONNACK.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Connects {
    /// How many.
    pub count: u64,
    /// How many a second, until each connection stood for the first time. (In TLS: full handshakes.)
    pub first_per_s: f64,
    /// How long one took.
    pub latency: Latency,
}

/// From when a message was sent first (open loop: was due) to its acknowledgement, in milliseconds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
#[allow(missing_docs)]
pub struct Latency {
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

impl Latency {
    fn of(histogram: &Histogram) -> Self {
        let ms = |us: u64| us as f64 / 1000.0;
        Self {
            p50_ms: ms(histogram.quantile(0.5)),
            p95_ms: ms(histogram.quantile(0.95)),
            p99_ms: ms(histogram.quantile(0.99)),
            max_ms: ms(histogram.max()),
        }
    }
}

/// What the store says of the messages sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Verification {
    /// Devices looked at.
    pub devices: usize,
    /// Messages found with all their values.
    pub stored: u64,
    /// Acknowledged messages of which at least one value is not there.
    pub missing: u64,
    /// Messages with a value that is there more than once.
    pub duplicated: u64,
    /// Messages stored although their acknowledgement never arrived: allowed, the connection was lost in between.
    pub unacknowledged_but_stored: u64,
}

/// The outcome of a run.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// Connections, each a device.
    pub connections: usize,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Time of sending, without the wait for the last acknowledgements when the run was ended by time.
    pub elapsed_s: f64,
    /// Messages sent.
    pub sent: u64,
    /// Messages acknowledged (none at QoS 0).
    pub acknowledged: u64,
    /// Acknowledged a second.
    pub acknowledged_per_s: f64,
    /// Messages sent and never acknowledged (none at QoS 0).
    pub unacknowledged: u64,
    /// Messages sent again after a lost connection.
    pub retransmitted: u64,
    /// Bytes written a second.
    pub bytes_per_s: f64,
    /// Acknowledgement latency; `None` when nothing was acknowledged.
    pub latency: Option<Latency>,
    /// Connects that succeeded; `None` when none did.
    pub connects: Option<Connects>,
    /// Connects that failed.
    pub connect_failures: u64,
    /// Connections lost.
    pub lost_connections: u64,
    /// What the store says, when it was asked.
    pub verification: Option<Verification>,
}

impl Report {
    pub(super) fn new(options: &Options, outcomes: &[Outcome], shared: &Shared, elapsed: Duration) -> Self {
        let mut histogram = Histogram::default();
        outcomes.iter().for_each(|outcome| histogram.merge(&outcome.latency_us));
        let mut connect_us = Histogram::default();
        outcomes.iter().for_each(|outcome| connect_us.merge(&outcome.connect_us));
        let connected = outcomes.iter().filter(|outcome| !outcome.connect_us.is_empty()).count();
        let connecting_s = shared.last_first_connect_us.load(Relaxed).max(1) as f64 / 1e6;
        let sent: u64 = outcomes.iter().map(|outcome| outcome.sent).sum();
        let acknowledged: u64 = outcomes.iter().map(|outcome| outcome.acked.len()).sum();
        let seconds = elapsed.as_secs_f64().max(1e-6);
        Self {
            connections: options.connections,
            qos: options.qos.level(),
            elapsed_s: seconds,
            sent,
            acknowledged,
            acknowledged_per_s: acknowledged as f64 / seconds,
            unacknowledged: if options.qos.level() == 0 { 0 } else { sent - acknowledged },
            retransmitted: shared.retransmitted.load(Relaxed),
            bytes_per_s: shared.bytes.load(Relaxed) as f64 / seconds,
            latency: (!histogram.is_empty()).then(|| Latency::of(&histogram)),
            connects: (!connect_us.is_empty()).then(|| Connects {
                count: connect_us.len(),
                first_per_s: connected as f64 / connecting_s,
                latency: Latency::of(&connect_us),
            }),
            connect_failures: shared.connect_failures.load(Relaxed),
            lost_connections: shared.lost_connections.load(Relaxed),
            verification: None,
        }
    }

    /// Whether something was sent and, as far as it was looked at, every acknowledged message is stored exactly once.
    /// Lost connections and messages left unacknowledged do not spoil it: the server never promised those.
    pub fn is_clean(&self) -> bool {
        let is_proved = self.verification.is_none_or(|v| v.missing == 0 && v.duplicated == 0);
        self.sent > 0 && (self.qos == 0 || self.acknowledged > 0) && is_proved
    }
}

/// Shows a line a second while it lives.
pub(super) struct Progress(Option<tokio::task::JoinHandle<()>>);

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// Starts the progress line when it is wanted and stderr is a terminal.
pub(super) fn show_progress(shared: Arc<Shared>, is_wanted: bool) -> Progress {
    if !is_wanted || !std::io::stderr().is_terminal() {
        return Progress(None);
    }
    Progress(Some(tokio::spawn(async move {
        let style =
            ProgressStyle::with_template("{spinner} {elapsed} {msg}").unwrap_or(ProgressStyle::default_spinner());
        let line = ProgressBar::new_spinner().with_style(style);
        let mut every = tokio::time::interval(Duration::from_secs(1));
        let (mut acked_before, mut sent_before) = (0, 0);
        loop {
            every.tick().await;
            let (sent, acked) = (shared.sent.load(Relaxed), shared.acked.load(Relaxed));
            let lost = shared.lost_connections.load(Relaxed);
            line.set_message(format!(
                "sent {}/s, acknowledged {}/s, {acked} in all, {} under way, {lost} connections lost",
                sent - sent_before,
                acked - acked_before,
                sent.saturating_sub(acked),
            ));
            line.tick();
            (acked_before, sent_before) = (acked, sent);
        }
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(acknowledged: u64, verification: Option<Verification>) -> Report {
        let shared = Shared::default();
        let mut report = Report::new(&Options::default(), &[], &shared, Duration::from_secs(1));
        (report.sent, report.acknowledged, report.verification) = (10, acknowledged, verification);
        report
    }

    #[test]
    fn a_report_is_clean_unless_nothing_came_through_or_the_proof_fails() {
        let proof = Verification::default();
        assert!(report(10, None).is_clean());
        assert!(report(10, Some(Verification { unacknowledged_but_stored: 3, ..proof })).is_clean());
        assert!(!report(0, None).is_clean());
        assert!(!report(10, Some(Verification { missing: 1, ..proof })).is_clean());
        assert!(!report(10, Some(Verification { duplicated: 1, ..proof })).is_clean());
    }

    #[test]
    fn a_report_is_json() {
        let json = serde_json::to_value(report(10, Some(Verification::default()))).unwrap();
        assert_eq!((&json["acknowledged"], &json["verification"]["missing"]), (&10.into(), &0.into()));
    }
}

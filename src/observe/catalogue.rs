//! The one catalogue of metrics: name, kind, unit, labels and help of everything the process counts.
//!
//! Invariant: no series exists that is not defined here; the README's table is written from this list and a test keeps
//! the two in step. Base units (seconds, bytes), counters end in `_total`, names begin with `iot_meter_`.
//! A label's values are a closed list, or the empty list where the set is open (then bounded by the recorder).

use std::fmt::Write as _;

pub use super::labels::*;
use super::metrics::{Counter, Gauge, Histogram};

/// What a metric is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// A value of now.
    Gauge,
    /// A distribution with these upper bounds.
    Histogram(&'static [f64]),
}

/// A metric's definition.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct MetricDef {
    /// Full name.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// What one of it is.
    pub unit: &'static str,
    /// Labels, each with all its values; an empty list of values = open but bounded.
    pub labels: &'static [(&'static str, &'static [&'static str])],
    /// One sentence.
    pub help: &'static str,
}

impl MetricDef {
    /// Whether all label values are known beforehand.
    pub fn is_closed(&self) -> bool {
        self.labels.iter().all(|(_, values)| !values.is_empty())
    }

    /// All combinations of a closed label set, the last label varying fastest.
    pub fn combinations(&self) -> Vec<Vec<&'static str>> {
        self.labels.iter().fold(vec![Vec::new()], |done, (_, values)| {
            let extend = |head: &Vec<&'static str>| {
                let head = head.clone();
                values.iter().map(move |value| head.iter().copied().chain([*value]).collect())
            };
            done.iter().flat_map(extend).collect()
        })
    }
}

/// The rooms of the program, in the order of `lib.rs` (a test compares), and what is of none of them.
pub const ROOMS: [&str; 32] = [
    "domain",
    "payload",
    "mqtt",
    "observe",
    "pki",
    "vault",
    "journal",
    "store",
    "live",
    "audit",
    "tls",
    "fetch",
    "oidc",
    "archive",
    "history",
    "energy",
    "series",
    "broker",
    "collector",
    "dispatch",
    "notify",
    "keeper",
    "backup",
    "api",
    "console",
    "config",
    "import",
    "simulate",
    "load",
    "serve",
    "cli",
    "other",
];
const REQUEST_BUCKETS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const DISK_BUCKETS: &[f64] = &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

macro_rules! kind {
    (counter) => {
        Kind::Counter
    };
    (gauge) => {
        Kind::Gauge
    };
    (histogram $buckets:expr) => {
        Kind::Histogram($buckets)
    };
}

macro_rules! handle {
    (counter) => {
        Counter
    };
    (gauge) => {
        Gauge
    };
    (histogram) => {
        Histogram
    };
}

macro_rules! catalogue {
    ($($kind:ident $id:ident $(($buckets:expr))? = $name:literal, $unit:literal,
       [$($label:literal: $values:expr),*], $help:literal;)*) => {
        $(
            #[doc = $help]
            pub static $id: handle!($kind) = <handle!($kind)>::new(&MetricDef {
                name: concat!("iot_meter_", $name),
                kind: kind!($kind $($buckets)?),
                unit: $unit,
                labels: &[$(($label, &$values)),*],
                help: $help,
            });
        )*

        /// Every metric, in the order of the reference's table.
        pub static CATALOGUE: &[&MetricDef] = &[
            $(&MetricDef {
                name: concat!("iot_meter_", $name),
                kind: kind!($kind $($buckets)?),
                unit: $unit,
                labels: &[$(($label, &$values)),*],
                help: $help,
            },)*
            PROCESS_CPU_SECONDS,
        ];

        /// Makes the series of counters and histograms with a closed label set. Gauges appear when they are first set: a
        /// value nobody knows yet is not zero.
        pub(super) fn prepare_closed() {
            $($id.prepare();)*
        }
    };
}

/// Processor time; rendered by hand because it is the one counter that is not a whole number.
pub(super) const PROCESS_CPU_SECONDS: &MetricDef = &MetricDef {
    name: "iot_meter_process_cpu_seconds_total",
    kind: Kind::Counter,
    unit: "seconds",
    labels: &[],
    help: "User and system processor time of the process.",
};

catalogue! {
    counter MESSAGES_RECEIVED = "messages_received_total", "messages", ["kind": MESSAGE_KINDS],
        "Messages of meters accepted into the journal, copies included.";
    counter MESSAGES_PROCESSED = "messages_processed_total", "messages", ["kind": MESSAGE_KINDS],
        "Messages of meters decoded and committed to the database, copies included.";
    counter MESSAGES_REFUSED = "messages_refused_total", "messages", ["kind": REFUSED_KINDS, "reason": REFUSALS],
        "Messages that could not be used; their bytes are kept as category invalid.";
    counter MESSAGES_DUPLICATE = "messages_duplicate_total", "messages", [],
        "Copies of messages already stored.";
    counter READINGS_STORED = "readings_stored_total", "readings", [],
        "Measured values committed to the database, those of copies included.";
    counter READINGS_DROPPED = "readings_dropped_total", "readings", [],
        "Single measurements left out of a stored datagram: not a number, no valid type, or one type too many.";
    counter READINGS_FLAGGED = "readings_flagged_total", "readings", [],
        "Stored values outside the plausible range of their type.";
    counter SEQUENCE_GAPS = "sequence_gaps_total", "gaps", [],
        "Ranges of missing sequence numbers found.";
    counter SEQUENCE_GAPS_FILLED = "sequence_gaps_filled_total", "gaps", [],
        "Ranges once missing whose last message has arrived.";
    counter DEVICES_REGISTERED = "devices_registered_total", "devices", [],
        "Devices registered by their first message.";
    counter DEVICE_REBOOTS = "device_reboots_total", "reboots", [],
        "Restarts of meters seen in their sequence numbers.";
    counter MESSAGES_AHEAD = "messages_ahead_total", "messages", [],
        "Messages stamped more than 2 s after their receipt: the meter's clock is ahead.";
    histogram COMMIT_SECONDS (DISK_BUCKETS) = "commit_duration_seconds", "seconds", [],
        "Duration of a database transaction of the collector.";
    counter COMMIT_FAILURES = "commit_failures_total", "transactions", [],
        "Transactions of the collector that failed and were tried again.";

    counter ENERGY_INTERVALS = "energy_intervals_total", "intervals", ["quality": QUALITIES],
        "Intervals of energy answered, by quality; of the fleet those of its groups.";
    counter ENERGY_HOURS = "energy_parts_computed_total", "hours", ["reason": ["answer", "new", "late"]],
        "Hours of devices whose energy was computed from telemetry: for an answer, or to be kept: once over, or again for late data.";
    counter ENERGY_HOURS_READ = "energy_parts_read_total", "hours", [],
        "Hours of devices whose energy was kept and did not have to be computed for an answer.";
    histogram ENERGY_SECONDS (REQUEST_BUCKETS) = "energy_answer_duration_seconds", "seconds", ["of": ["device", "fleet"]],
        "Time to compute and hand over an answer about energy.";

    gauge JOURNAL_HEAD = "journal_head_records", "records", [],
        "Records ever appended to the journal (exclusive end of its offsets).";
    gauge JOURNAL_DURABLE = "journal_durable_records", "records", [],
        "Records of the journal known to be on disk (exclusive end of their offsets).";
    gauge JOURNAL_BYTES = "journal_size_bytes", "bytes", [],
        "Bytes of the journal's segment files.";
    gauge JOURNAL_SEGMENTS = "journal_segments", "segments", [],
        "Segment files of the journal.";
    histogram JOURNAL_FSYNC_SECONDS (DISK_BUCKETS) = "journal_fsync_duration_seconds", "seconds", [],
        "Duration of the journal's fsync; one for all messages waiting for it.";
    counter JOURNAL_SYNCED_BYTES = "journal_synced_bytes_total", "bytes", [],
        "Bytes the journal has brought to disk.";
    gauge JOURNAL_UNRELEASED_BYTES = "journal_unreleased_bytes", "bytes", [],
        "Bytes of the journal not yet both stored and archived; senders are slowed down at journal.max_bytes.";
    gauge JOURNAL_LIMIT_BYTES = "journal_limit_bytes", "bytes", [],
        "The setting journal.max_bytes.";
    gauge JOURNAL_STALLED = "journal_stalled", "", [],
        "1 while the journal cannot write (disk full, or failed) and nothing is acknowledged.";
    gauge READER_POSITION = "reader_position_records", "records", ["reader": READERS],
        "Records of the journal a reader has processed and committed.";
    gauge READER_LAG_RECORDS = "reader_lag_records", "records", ["reader": READERS],
        "Durable records of the journal a reader has still to process.";
    gauge READER_LAG_SECONDS = "reader_lag_seconds", "seconds", ["reader": READERS],
        "Age of the oldest record a reader has still to process; for the collector: of the oldest unstored message.";

    histogram DATABASE_SECONDS (REQUEST_BUCKETS) = "database_query_duration_seconds", "seconds",
        ["operation": ["read", "write"]],
        "Duration of a call to the database but the collector's commits, waiting for a connection included.";
    counter DATABASE_FAILURES = "database_query_failures_total", "calls", ["operation": ["read", "write"]],
        "Calls to the database that failed.";
    gauge DATABASE_CONNECTIONS = "database_connections", "connections", ["state": ["idle", "busy"]],
        "Connections of the pool; SQLite: those that read.";
    histogram DATABASE_WAIT_SECONDS (REQUEST_BUCKETS) = "database_connection_wait_seconds", "seconds", [],
        "How long calls waited for a connection of the pool; SQLite: those that read.";

    counter ARCHIVE_OBJECTS = "archive_objects_total", "objects", [],
        "Objects written to the archive.";
    counter ARCHIVE_BYTES = "archive_written_bytes_total", "bytes", [],
        "Bytes of objects written to the archive.";
    histogram ARCHIVE_WRITE_SECONDS (REQUEST_BUCKETS) = "archive_write_duration_seconds", "seconds", [],
        "Duration of writing one object to the archive.";
    counter ARCHIVE_FAILURES = "archive_failures_total", "objects", [],
        "Writes to the archive that failed and were tried again.";
    counter ARCHIVE_COMPACTED = "archive_compacted_total", "objects", [],
        "Small objects of finished hours that were put together into larger ones.";
    histogram ARCHIVE_COMPACT_SECONDS (REQUEST_BUCKETS) = "archive_compact_duration_seconds", "seconds", [],
        "Duration of putting objects together into one.";
    counter ARCHIVE_REMOVED = "archive_removed_total", "objects", ["why": ["compacted", "expired"]],
        "Objects removed from the archive: they are in a larger one, or past retention.raw_days.";
    counter ARCHIVE_UPKEEP_FAILURES = "archive_upkeep_failures_total", "passes", [],
        "Passes over the archive (putting objects together, retention) that failed in part and are tried again.";
    counter HISTORY_PAST = "history_archive_reads_total", "reads", ["result": ["read", "failed"]],
        "Reads of telemetry that went back to what only the archive still has.";

    gauge MQTT_CONNECTIONS = "mqtt_connections", "connections", [],
        "MQTT clients connected now.";
    counter MQTT_CONNECTS = "mqtt_accepts_total", "connections", [],
        "TCP connections accepted by the MQTT listeners.";
    counter MQTT_REFUSED = "mqtt_refused_total", "connections",
        ["reason": ["connection_limit", "address_limit", "address_rate", "session_limit", "connect_timeout", "tls",
            "websocket", "version", "client_id", "credentials", "not_authorized", "unavailable", "will_size"]],
        "MQTT connections that did not get as far as an accepted CONNECT.";
    counter MQTT_CONNECTS_DELAYED = "mqtt_connects_delayed_total", "connections", [],
        "MQTT connections that had to wait for their turn to log in (mqtt.connect_per_s).";
    counter MQTT_TLS_RELOADS = "mqtt_tls_reloads_total", "reloads", ["result": ["good", "bad"]],
        "New certificates taken from their files, and looks at the files that found no good one.";
    counter TLS_HANDSHAKES = "tls_handshakes_total", "handshakes",
        ["server": TLS_SERVERS, "kind": ["full", "resumed"], "version": ["1.2", "1.3"]],
        "TLS handshakes that were completed.";
    counter TLS_REFUSED = "tls_refused_total", "handshakes",
        ["server": TLS_SERVERS, "reason": ["not_tls", "incompatible", "no_certificate", "unknown_ca", "expired",
            "revoked", "bad_certificate", "alert", "other"]],
        "TLS handshakes that came to nothing; alert = the client refused this server.";
    gauge CERTIFICATES = "certificates", "certificates", ["state": ["valid", "expiring", "expired", "revoked"]],
        "Certificates of devices by state; expiring (and valid): the newest of a device, that should have been renewed by now.";
    gauge CERTIFICATE_EXPIRY = "certificate_expiry_seconds", "seconds", ["of": ["device", "server", "ca"]],
        "Time until the certificate ends: of devices the first to end of each one's newest, of the server the one in use.";
    gauge CERTIFICATE_LIFETIME = "certificate_lifetime_seconds", "seconds", ["of": ["server", "ca"]],
        "How long the certificate is good in all; certificate_expiry_seconds is what is left of it.";
    counter MQTT_CLOSED = "mqtt_closed_total", "connections",
        ["reason": ["malformed", "not_allowed", "keep_alive", "stalled", "taken_over", "certificate"]],
        "MQTT connections closed by the server after an accepted CONNECT.";
    counter MQTT_WILLS = "mqtt_wills_total", "messages", [],
        "Last wills published.";
    counter MQTT_WILLS_DROPPED = "mqtt_wills_dropped_total", "messages", [],
        "Last wills not published, as too many of them waited for a full journal.";
    gauge MQTT_SESSIONS = "mqtt_sessions", "sessions", [],
        "MQTT sessions kept, connected or not.";
    gauge MQTT_SUBSCRIPTIONS = "mqtt_subscriptions", "subscriptions", [],
        "Subscriptions of all MQTT sessions.";
    counter MQTT_SUBSCRIPTIONS_REFUSED = "mqtt_subscriptions_refused_total", "subscriptions", [],
        "Subscriptions answered with a refusal.";
    counter MQTT_PUBLISHES_REFUSED = "mqtt_publishes_refused_total", "messages", [],
        "Publishes of MQTT 5 clients answered with a refusal; MQTT 3.1.1 closes the connection (mqtt_closed_total).";
    gauge MQTT_INFLIGHT = "mqtt_inflight_messages", "messages", [],
        "Messages sent to connected subscribers at QoS 1 or 2 and not yet complete.";
    gauge MQTT_QUEUED = "mqtt_queued_messages", "messages", [],
        "Messages waiting for subscribers, or in flight to them at QoS 1 or 2.";
    gauge MQTT_QUEUED_BYTES = "mqtt_queued_bytes", "bytes", [],
        "Bytes of these.";
    gauge MQTT_RETAINED = "mqtt_retained_messages", "messages", [],
        "Retained messages kept.";
    gauge MQTT_RETAINED_BYTES = "mqtt_retained_bytes", "bytes", [],
        "Bytes of retained messages kept.";
    counter MQTT_MESSAGES_IN = "mqtt_messages_in_total", "messages", [],
        "PUBLISH packets taken from clients, repetitions of QoS 2 not counted.";
    counter MQTT_MESSAGES_OUT = "mqtt_messages_out_total", "messages", [],
        "PUBLISH packets written to clients.";
    counter MQTT_MESSAGES_DROPPED = "mqtt_messages_dropped_total", "messages",
        ["reason": ["qos0_slow", "queue_full", "retained_full", "expired", "too_large", "refused"]],
        "Messages not delivered to a subscriber, or not retained; what meters sent is stored all the same.";
    counter MQTT_BYTES_IN = "mqtt_received_bytes_total", "bytes", [],
        "Bytes read from MQTT clients.";
    counter MQTT_BYTES_OUT = "mqtt_sent_bytes_total", "bytes", [],
        "Bytes written to MQTT clients.";
    gauge SOURCE_CONNECTED = "source_connected", "", ["source": OPEN],
        "1 while the external broker of this number is connected and subscribed to, 0 otherwise.";
    counter SOURCE_FAILURES = "source_failures_total", "connections", ["source": OPEN],
        "Connections to an external broker that failed or broke off.";
    counter SOURCE_MESSAGES = "source_messages_total", "messages", ["source": OPEN, "outcome": OPEN],
        "Messages taken from an external broker: stored, of other_topic (acknowledged, not kept), or too_large (the same).";
    gauge SOURCE_UNCONFIRMED = "source_unconfirmed_messages", "messages", ["source": OPEN],
        "Messages of an external broker that are not yet on disk and not acknowledged.";
    gauge SOURCE_DEVICES = "source_devices", "devices", ["source": OPEN],
        "Devices that have spoken through an external broker since it is connected.";
    counter SOURCE_COMMANDS = "source_commands_total", "commands", ["source": OPEN, "outcome": OPEN],
        "Commands published at an external broker: delivered, or not_delivered (refused, or nobody is subscribed).";

    counter HTTP_REQUESTS = "http_requests_total", "requests", ["route": OPEN, "method": OPEN, "status": OPEN],
        "HTTP requests answered, by route pattern.";
    histogram HTTP_REQUEST_SECONDS (REQUEST_BUCKETS) = "http_request_duration_seconds", "seconds",
        ["route": OPEN, "method": OPEN, "status": OPEN],
        "Time from the head of a request to the end of its answer's head.";
    gauge HTTP_IN_FLIGHT = "http_requests_in_flight", "requests", [],
        "HTTP requests being answered now.";
    gauge HTTP_CONNECTIONS = "http_connections", "connections", [],
        "HTTP connections open now, idle ones included, those of metrics.listen not.";
    counter HTTP_REFUSED = "http_refused_total", "connections", ["reason": ["connection_limit", "address_limit", "scrape_limit"]],
        "HTTP connections closed at once (http.max_connections, http.max_connections_per_address; 64 at metrics.listen).";
    counter HTTP_CLOSED = "http_closed_total", "connections", ["reason": ["stalled"]],
        "HTTP connections closed because the client took nothing of its answer for http.write_timeout_s (ten seconds at metrics.listen).";
    counter HTTP_RATE_LIMITED = "http_rate_limited_total", "requests", ["limit": ["read", "write", "command", "login"]],
        "HTTP requests refused by a rate limit.";

    gauge STREAMS_OPEN = "streams_open", "streams", [],
        "Streams of events (GET /api/stream) open now.";
    counter STREAM_EVENTS = "stream_events_total", "events", ["kind": EVENT_KINDS],
        "Events sent to streams, once for each stream.";
    counter STREAM_LOST = "stream_events_lost_total", "events", [],
        "Events that streams were too slow or came back too late for, and were told so; of all devices, also those not asked for.";
    counter STREAMS_REFUSED = "streams_refused_total", "streams", ["reason": ["full", "key"]],
        "Streams refused because there are as many as there may be (http.max_streams), in all or of one key.";

    counter HTTP_AUTH_REFUSALS = "http_auth_refusals_total", "requests",
        ["reason": ["no_credential", "bad_credential", "forbidden"]],
        "HTTP requests refused for want of a credential or a right; those of MQTT are in mqtt_refused_total.";

    counter AUTH_FAILURES = "auth_failures_total", "requests",
        ["reason": ["unreadable", "unknown_key", "wrong_key", "revoked_key", "expired_key", "token", "session", "csrf"]],
        "Credentials of HTTP requests that were no good, by what was wrong with them.";
    counter WEB_SESSIONS = "web_sessions_total", "sessions", ["event": ["begun", "ended"]],
        "Sessions of the console begun by a log-in, and ended by a log-out.";
    counter OIDC_KEY_REFRESHES = "oidc_key_refreshes_total", "reads", ["result": ["good", "bad"]],
        "Reads of the token issuer's keys; after a bad one the last good keys stay in use.";
    counter AUDIT_ENTRIES = "audit_entries_total", "entries", ["result": ["written", "coalesced", "dropped"]],
        "Entries of the audit log: written, counted within another (repeated refusals), or lost (queue full, store away).";

    gauge DEVICES = "devices", "devices", ["status": ["active", "inactive"]],
        "Registered devices by status.";
    gauge DEVICE_CONNECTIONS = "device_connections", "devices", ["state": ["online", "offline", "unknown"]],
        "Registered devices by connection status.";
    gauge ALERTS_UNACKNOWLEDGED = "alerts_unacknowledged", "alerts", [],
        "Alerts nobody has acknowledged.";
    gauge RULES = "alert_rules", "rules", ["state": ["enabled", "disabled"]],
        "Alert rules by whether they are switched on, as this node read them last.";
    counter RULE_ALERTS = "rule_alerts_total", "alerts", ["severity": SEVERITIES],
        "Alerts raised by rules, by severity, as this node found them.";
    gauge COMMANDS = "commands", "commands", ["cmd": COMMAND_KINDS, "status": COMMAND_STATES],
        "Commands to meters by kind and by what has become of them.";

    gauge ROLLOUTS = "rollouts", "rollouts", ["state": ROLLOUT_STATES],
        "Staged firmware updates by state.";
    gauge ROLLOUTS_PAUSED = "rollouts_paused", "rollouts", ["reason": PAUSE_REASONS],
        "Staged firmware updates that are paused, by reason: somebody wanted it, or too many devices failed.";
    gauge ROLLOUT_DEVICES = "rollout_devices", "devices", ["state": UPDATE_STATES],
        "Devices of rollouts that are not over, by how far each has come.";
    counter ROLLOUT_UPDATES = "rollout_updates_total", "devices", ["result": ["confirmed", "failed", "skipped"]],
        "Devices of rollouts that came to an end, as far as this node saw it.";
    counter FIRMWARE_DOWNLOADS = "firmware_downloads_total", "requests", ["result": ["whole", "part"]],
        "Downloads of firmware images that were begun.";
    counter FIRMWARE_SENT_BYTES = "firmware_sent_bytes_total", "bytes", [],
        "Bytes of firmware images handed to downloads.";

    counter ALERT_NOTICES = "alert_notices_total", "alerts", ["result": ["queued", "repeated"]],
        "Alerts that Alertmanager told of: to be told to GitHub, or known already.";
    gauge OUTBOX_NOTICES = "outbox_notices", "alerts", ["state": ["pending", "done", "dead"]],
        "Alerts on their way to GitHub, of all nodes: waiting, told, or given up until somebody sends them again.";
    gauge OUTBOX_OLDEST_SECONDS = "outbox_oldest_pending_seconds", "seconds", [],
        "Age of the oldest alert that waits to be told to GitHub.";
    gauge OUTBOX_SPOOLED = "outbox_spooled_notices", "alerts", [],
        "Alerts kept on this node's disk because the database is away.";
    counter OUTBOX_TRIES = "outbox_tries_total", "tries", ["result": ["done", "later", "dead"]],
        "Tries to tell an alert to GitHub.";
    counter GITHUB_REQUESTS = "github_requests_total", "requests",
        ["call": ["find", "read", "create", "comments", "comment", "change"],
            "result": ["ok", "away", "limited", "refused"]],
        "Requests to GitHub; limited = it wants us to wait.";

    gauge NODES = "nodes", "nodes", ["state": ["alive", "dead", "stopped"]],
        "Nodes on this database, this one included, as it saw them at its last heartbeat.";
    gauge NODE_DUTY = "node_duty", "", ["duty": DUTIES],
        "1 while this node does what one node does for all, 0 while another one does.";
    gauge READY = "ready", "", ["check": ["journal", "database", "archive", "collector"]],
        "1 while this part can do its work, 0 otherwise; the same that /readyz says.";
    gauge TASK_STATE = "task_state", "", ["task": OPEN, "state": TASK_STATES],
        "1 for the state a task of the process is in, 0 for the others.";
    counter LOG_MESSAGES = "log_messages_total", "lines", ["level": ["error", "warn"], "room": ROOMS],
        "Warnings and errors written to the log, by the part of the program they come from.";
    counter TRACE_SPANS = "trace_spans_total", "spans", ["result": ["exported", "failed", "dropped"]],
        "Spans of sampled traces: sent to the collector, not taken by it, or lost because too many waited.";
    gauge UPTIME_SECONDS = "uptime_seconds", "seconds", [],
        "Time since the process started.";
    gauge BUILD_INFO = "build_info", "", ["version": [env!("CARGO_PKG_VERSION")]],
        "Always 1; the label says what runs.";
    gauge PROCESS_START_TIME = "process_start_time_seconds", "seconds", [],
        "When the process started, in seconds since 1970.";
    gauge PROCESS_VIRTUAL_BYTES = "process_virtual_memory_bytes", "bytes", [],
        "Virtual memory of the process.";
    gauge PROCESS_RESIDENT_BYTES = "process_resident_memory_bytes", "bytes", [],
        "Resident memory of the process.";
    gauge PROCESS_THREADS = "process_threads", "threads", [],
        "Threads of the process.";
    gauge PROCESS_OPEN_FDS = "process_open_fds", "descriptors", [],
        "Open file descriptors.";
    counter ROLLUP_HOURS = "rollup_parts_total", "hours", ["kind": ["new", "late"]],
        "Hours of devices that were rolled up: once over, and again for late data.";
    counter ROLLUP_FAILURES = "rollup_failures_total", "steps", [],
        "Steps of rolling up that failed and are tried again.";
    gauge ROLLUP_WAITING_DEVICES = "rollup_waiting_devices", "devices", [],
        "Devices with finished hours that are not rolled up yet (0 on nodes that do not do it).";
    gauge ROLLUP_DIRTY_DAYS = "rollup_dirty_partitions", "days", [],
        "Days of devices for which data came late and that are to be rolled up again (0 on nodes that do not do it).";
    gauge ROLLUP_BEHIND_SECONDS = "rollup_behind_seconds", "seconds", [],
        "Age of the moment up to which every device is rolled up; up to an hour where all is well (0 on nodes that do not do it).";
    gauge PROCESS_MAX_FDS = "process_max_fds", "descriptors", [],
        "Most file descriptors the process may open.";
}

/// The table of docs/reference.md.
pub fn markdown() -> String {
    let mut table = String::from("| metric | type | unit | labels | meaning |\n|---|---|---|---|---|\n");
    for def in CATALOGUE {
        let kind = match def.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        let labels: Vec<String> = def.labels.iter().map(|(name, _)| format!("`{name}`")).collect();
        let _ = writeln!(table, "| `{}` | {kind} | {} | {} | {} |", def.name, def.unit, labels.join(" "), def.help);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_prometheus() {
        let mut seen = std::collections::HashSet::new();
        for def in CATALOGUE {
            let name = def.name;
            assert!(seen.insert(name), "{name} twice");
            assert!(name.starts_with("iot_meter_"), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{name}");
            assert_eq!(name.ends_with("_total"), def.kind == Kind::Counter, "{name}");
            if let Kind::Histogram(buckets) = def.kind {
                assert!(!buckets.is_empty() && buckets.is_sorted(), "{name}");
                assert!(name.ends_with("_seconds") && def.unit == "seconds", "{name}");
            }
            assert!(def.help.ends_with('.') && !def.help.contains('|'), "{name}");
        }
    }

    #[test]
    fn combinations_vary_the_last_label_fastest() {
        let def = MetricDef {
            name: "x",
            kind: Kind::Gauge,
            unit: "",
            labels: &[("a", &["1", "2"]), ("b", &["x", "y"])],
            help: "",
        };
        assert_eq!(def.combinations(), [["1", "x"], ["1", "y"], ["2", "x"], ["2", "y"]]);
    }
}

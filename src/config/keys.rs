//! The table of keys: name, type, default, range and meaning of every setting, once.
//!
//! Invariant: a key is written here and nowhere else; its default passes its own check (a test looks).

use std::net::SocketAddr;
use std::path::PathBuf;

use super::entries::ExternalBroker;
use super::secret::Secret;
use super::texts::Rule;
use super::value::{FromValue, Kind, MetricsAccess, UnknownDevices, Value};
use crate::observe::log::Format;

/// A setting's line in the table.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// `section.key`, or `key` at the top.
    pub path: &'static str,
    /// The default as it would be written.
    pub default: &'static str,
    /// Type and range.
    pub kind: Kind,
    /// What it does.
    pub doc: &'static str,
    /// The flag of `serve` that sets it.
    pub flag: Option<&'static str>,
}

impl Key {
    /// Its environment variable.
    pub fn env(&self) -> String {
        format!("IOT_METER__{}", self.path.replace('.', "__").to_ascii_uppercase())
    }

    /// Whether its value may not show, and may be read from a file named by `…_FILE`.
    pub fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::SecretUrl { .. } | Kind::Text(Rule::Secret))
    }
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

const fn int(min: u64, max: u64, unit: &'static str) -> Kind {
    Kind::Int { min, max, unit }
}

const fn size(min: u64, max: u64) -> Kind {
    Kind::Size { min, max }
}

macro_rules! flag {
    () => {
        None
    };
    ($flag:literal) => {
        Some($flag)
    };
}

macro_rules! settings {
    ($(
        $(#[doc = $section_doc:literal])*
        $section:ident: $Section:ident {
            $($(#[doc = $doc:literal])* $key:ident: $ty:ty = $default:literal, $kind:expr $(, $flag:literal)?;)*
        }
    )*) => {
        $(
            $(#[doc = $section_doc])*
            #[derive(Clone, Debug, PartialEq)]
            pub struct $Section {
                $($(#[doc = $doc])* pub $key: $ty,)*
            }
        )*

        /// Every setting, complete and checked.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Settings {
            /// Directory of everything that is kept; absolute.
            pub data_dir: PathBuf,
            $($(#[doc = $section_doc])* pub $section: $Section,)*
            /// External brokers.
            pub sources: Vec<ExternalBroker>,
        }

        /// The table.
        pub const KEYS: &[Key] = &[
            Key {
                path: "data_dir",
                default: "./data",
                kind: Kind::Path,
                doc: " Directory of everything that is kept. Made when missing, for this user alone.",
                flag: Some("--data-dir"),
            },
            $($(Key {
                path: concat!(stringify!($section), ".", stringify!($key)),
                default: $default,
                kind: $kind,
                doc: concat!($($doc, "\n"),*),
                flag: flag!($($flag)?),
            },)*)*
        ];

        /// What each section is about.
        pub(super) const SECTIONS: &[(&str, &str)] = &[
            $((stringify!($section), concat!($($section_doc, "\n"),*)),)*
        ];

        impl Settings {
            /// Settings of a complete set of values.
            pub(super) fn from_values<'a>(value: impl Fn(&str) -> &'a Value, sources: Vec<ExternalBroker>) -> Self {
                Self {
                    sources,
                    data_dir: PathBuf::from_value(value("data_dir")),
                    $($section: $Section {
                        $($key: <$ty>::from_value(value(concat!(stringify!($section), ".", stringify!($key)))),)*
                    },)*
                }
            }
        }
    };
}

settings! {
    /// The database of devices, alerts, commands and telemetry.
    database: Database {
        /// Where it is. The scheme chooses the kind.
        url: Secret = "sqlite:///<data_dir>/iot-meter.db", Kind::SecretUrl { schemes: &["sqlite"] }, "--database-url";
    }

    /// The archive: every received message, exact bytes, as Parquet objects.
    archive: Archive {
        /// Where the objects go.
        url: String = "file:///<data_dir>/archive", Kind::Url { schemes: &["file"] }, "--archive-url";
        /// An object is written when its oldest message is this old.
        flush_age_s: u64 = "60", int(1, 86_400, "s");
        /// An object is written when its messages reach this size.
        flush_bytes: u64 = "16 MiB", size(64 * KIB, GIB);
    }

    /// The REST API, the console and the metrics page.
    http: Http {
        /// Address of the listener; port 0 takes a free one.
        listen: SocketAddr = "127.0.0.1:8080", Kind::Listen { may_be_off: false }, "--http-listen";
        /// Largest request body accepted.
        body_limit_bytes: usize = "1 MiB", size(KIB, 64 * MIB);
        /// Threads that answer requests; 0 = one a processor.
        workers: usize = "0", int(0, 256, "threads");
        /// Reads allowed to one key or address a second, over time.
        read_per_s: u32 = "2000", int(1, 1_000_000, "requests/s");
        /// Reads allowed at once.
        read_burst: u32 = "4000", int(1, 1_000_000, "requests");
        /// Writes allowed to one key or address a second, over time.
        write_per_s: u32 = "2000", int(1, 1_000_000, "requests/s");
        /// Writes allowed at once.
        write_burst: u32 = "4000", int(1, 1_000_000, "requests");
        /// Commands to meters allowed to one key or address a second, over time.
        command_per_s: u32 = "500", int(1, 1_000_000, "requests/s");
        /// Commands to meters allowed at once.
        command_burst: u32 = "1000", int(1, 1_000_000, "requests");
        /// Requests with a wrong credential allowed to one address a second, over time.
        login_per_s: u32 = "1", int(1, 1_000_000, "requests/s");
        /// Requests with a wrong credential allowed at once.
        login_burst: u32 = "20", int(1, 1_000_000, "requests");
    }

    /// The MQTT broker.
    mqtt: Mqtt {
        /// Address of the listener for plain TCP; port 0 takes a free one.
        listen: SocketAddr = "127.0.0.1:1883", Kind::Listen { may_be_off: false }, "--mqtt-listen";
        /// Largest packet accepted.
        max_packet_bytes: usize = "256 KiB", size(KIB, 64 * MIB);
        /// A connection that has not sent its CONNECT by then is closed.
        connect_timeout_s: u64 = "10", int(1, 600, "s");
        /// Connections open at once; further ones are refused.
        max_connections: usize = "20000", int(1, 1_000_000, "connections");
        /// Longest keep-alive a client may have; one that asks for more, or for none, is held to this. 0 = no limit.
        max_keepalive: u16 = "0", int(0, 65_535, "s");
        /// Messages sent to a subscriber at QoS 1 or 2 and not yet acknowledged by it.
        max_inflight: usize = "256", int(1, 65_535, "messages");
        /// Messages kept for a subscriber that is away or slow.
        max_queued_messages: usize = "1000", int(0, 1_000_000, "messages");
        /// Bytes of messages kept for a subscriber that is away or slow.
        max_queued_bytes: usize = "4 MiB", size(0, GIB);
        /// Sessions kept, connected or not.
        max_sessions: usize = "100000", int(1, 10_000_000, "sessions");
        /// A session whose client is away for longer is forgotten.
        session_expiry_max_s: u64 = "86400", int(1, 31_536_000, "s");
        /// Subscriptions of one session.
        max_subscriptions: usize = "256", int(1, 100_000, "subscriptions");
        /// Topic filters nobody may subscribe to, exactly as a client would write them.
        refused_filters: Vec<String> = "", Kind::Filters;
        /// Retained messages kept.
        retained_max_count: usize = "100000", int(0, 10_000_000, "messages");
        /// Bytes of retained messages kept.
        retained_max_bytes: usize = "64 MiB", size(0, 16 * GIB);
    }

    /// The metrics page on a listener of its own.
    metrics: Metrics {
        /// Address for scrapes without a credential; `off` = only `/metrics` on `http.listen`.
        listen: Option<SocketAddr> = "off", Kind::Listen { may_be_off: true }, "--metrics-listen";
        /// Who may read `/metrics` on `http.listen` without a key: peers on `loopback`, `anyone`, or nobody (`key`).
        access: MetricsAccess = "loopback", Kind::Choice(&MetricsAccess::NAMES);
    }

    /// The journal: what is on disk before a message is acknowledged.
    journal: Journal {
        /// A segment file is closed at this size.
        segment_bytes: u64 = "64 MiB", size(MIB, 4 * GIB);
        /// With this much on disk that is not yet both stored and archived, senders are slowed down.
        max_bytes: u64 = "8 GiB", size(4 * MIB, 1024 * GIB);
        /// Bytes waiting for the disk at which senders are slowed down.
        queue_bytes: usize = "8 MiB", size(64 * KIB, GIB);
    }

    /// What is accepted from meters.
    ingest: Ingest {
        /// Meters nobody registered: `register` them, `quarantine` (registered inactive, data kept, no alerts), `refuse`,
        /// or `auto` (`register` with `--open`, else `quarantine`).
        unknown_devices: UnknownDevices = "auto", Kind::Choice(&UnknownDevices::NAMES);
        /// How far ahead of this server's clock a message may be dated.
        future_s: u64 = "86400", int(0, 31_536_000, "s");
    }

    /// From the journal to the database.
    collector: Collector {
        /// Messages of one transaction at most.
        batch_records: usize = "4096", int(1, 1_000_000, "messages");
        /// Bytes of one transaction at most.
        batch_bytes: usize = "8 MiB", size(64 * KIB, 256 * MIB);
        /// Meters whose state is held in memory; others are read back when they speak.
        max_cached_devices: usize = "50000", int(1, 10_000_000, "devices");
    }

    /// How long data is kept.
    retention: Retention {
        /// Telemetry and events in the database; also the oldest message time accepted.
        telemetry_days: u64 = "400", int(1, 36_500, "days");
    }

    /// Commands to meters.
    commands: Commands {
        /// A delivered command without an acknowledgement by then becomes `timeout`.
        ack_timeout_s: u64 = "60", int(1, 86_400, "s");
        /// An undelivered command becomes `expired` after this, unless its sender said otherwise.
        default_expires_s: u64 = "86400", int(1, 31_536_000, "s");
    }

    /// What the process says about itself, on stderr.
    log: Log {
        /// A level (`off error warn info debug trace`), or `target=level` separated by commas. Also `IOT_METER_LOG`.
        level: String = "info", Kind::LogFilter;
        /// `text`, `json`, or `auto` (text when stderr is a terminal).
        format: Format = "auto", Kind::Choice(&Format::NAMES);
    }
}

impl Settings {
    /// The listeners that other machines can reach, by key.
    pub fn public_listeners(&self) -> Vec<(&'static str, SocketAddr)> {
        let all = [
            ("http.listen", Some(self.http.listen)),
            ("mqtt.listen", Some(self.mqtt.listen)),
            ("metrics.listen", self.metrics.listen),
        ];
        all.into_iter().filter_map(|(key, a)| a.filter(|a| !a.ip().is_loopback()).map(|a| (key, a))).collect()
    }
}

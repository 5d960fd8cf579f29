//! The table of keys: name, type, default, range and meaning of every setting, once.
//!
//! Invariant: a key is written here and nowhere else; its default passes its own check (a test looks).

use std::net::SocketAddr;
use std::path::PathBuf;

use super::entries::ExternalBroker;
use super::secret::Secret;
use super::texts::Rule;
use super::value::{FromValue, Kind, MetricsAccess, TlsVersion, UnknownDevices, Value};
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
        /// Where it is. The scheme chooses the kind; `postgres://` needs a program built with the feature `postgres`.
        url: Secret = "sqlite:///<data_dir>/iot-meter.db",
            Kind::SecretUrl { schemes: &["sqlite", "postgres", "postgresql"] }, "--database-url";
        /// Postgres: connections at most, beside the collector's own.
        pool_size: u32 = "8", int(1, 1000, "connections");
        /// Postgres: how long a connection may take, and how long a call waits for a free one.
        connect_timeout_s: u64 = "5", int(1, 300, "s");
        /// Postgres: what takes longer is broken off.
        statement_timeout_s: u64 = "60", int(1, 3600, "s");
    }

    /// The archive: every received message, exact bytes, as Parquet objects.
    archive: Archive {
        /// Where the objects go.
        url: String = "file:///<data_dir>/archive", Kind::Url { schemes: &["file"] }, "--archive-url";
        /// An object is written when its oldest message is this old; sooner where a burst is followed by a pause.
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
        /// Address of the listener for MQTT in TLS; `auto` = `0.0.0.0:8883` where `tls_cert_file` and `tls_key_file` are
        /// set, else off.
        tls_listen: Option<SocketAddr> = "auto", Kind::ListenAuto, "--mqtts-listen";
        /// Address of the listener for MQTT over WebSocket, at the path `/mqtt`.
        ws_listen: Option<SocketAddr> = "off", Kind::Listen { may_be_off: true }, "--ws-listen";
        /// Address of the listener for MQTT over WebSocket in TLS, at the path `/mqtt`.
        wss_listen: Option<SocketAddr> = "off", Kind::Listen { may_be_off: true }, "--wss-listen";
        /// PEM file of the server's certificate, followed by those of its issuers. Needed by listeners with TLS.
        tls_cert_file: Option<PathBuf> = "", Kind::File;
        /// PEM file of its private key; other users of this machine must not be able to read it.
        tls_key_file: Option<PathBuf> = "", Kind::File;
        /// Oldest version of TLS accepted.
        tls_min_version: TlsVersion = "1.3", Kind::Choice(&TlsVersion::NAMES);
        /// How often the files of certificate and key are read anew; connections stay as they are.
        tls_reload_s: u64 = "30", int(1, 86_400, "s");
        /// Connections the system holds until the broker accepts them; net.core.somaxconn may hold fewer.
        backlog: u32 = "16384", int(16, 65_535, "connections");
        /// Largest packet accepted.
        max_packet_bytes: usize = "256 KiB", size(KIB, 64 * MIB);
        /// A connection that has not sent its CONNECT by then is closed.
        connect_timeout_s: u64 = "10", int(1, 600, "s");
        /// Connections open at once; further ones are refused.
        max_connections: usize = "20000", int(1, 1_000_000, "connections");
        /// Connections of one address (IPv6: one /56) open at once; further ones are refused. 0 = no limit. The default
        /// keeps a fifth of the places for others; meters that all come through one proxy may need more.
        max_connections_per_address: usize = "16000", int(0, 1_000_000, "connections");
        /// Clients that may log in a second, over time; more wait for their turn. 0 = no limit.
        connect_per_s: u32 = "2000", int(0, 1_000_000, "connections/s");
        /// Clients that may log in at once.
        connect_burst: u32 = "4000", int(1, 1_000_000, "connections");
        /// Connections of one address (IPv6: one /56) accepted a second, over time; further ones are refused. 0 = no limit.
        address_connect_per_s: u32 = "500", int(0, 1_000_000, "connections/s");
        /// Connections of one address accepted at once: a whole fleet behind it may come back together.
        address_connect_burst: u32 = "16000", int(1, 1_000_000, "connections");
        /// Largest WebSocket message accepted, at least `max_packet_bytes` where there is such a listener.
        ws_max_message_bytes: usize = "256 KiB", size(KIB, 64 * MIB);
        /// Longest keep-alive a client may have; one that asks for more, or for none, is held to this (MQTT 5 tells it).
        /// 0 = no limit.
        max_keepalive: u16 = "0", int(0, 65_535, "s");
        /// Messages sent to a subscriber at QoS 1 or 2 and not yet acknowledged by it.
        max_inflight: usize = "256", int(1, 65_535, "messages");
        /// QoS 1 and 2 publishes of one MQTT 5 client not yet acknowledged (Receive Maximum); one more ends its connection.
        receive_maximum: usize = "1024", int(1, 65_535, "messages");
        /// Topic aliases in use on one MQTT 5 connection, in each direction; 0 = none.
        max_topic_aliases: u16 = "16", int(0, 65_535, "aliases");
        /// Longest topic of a publish, and longest filter of a subscription.
        max_topic_length: usize = "65535", size(64, 65_535);
        /// Most levels of a topic or filter, separated by `/`.
        max_topic_levels: usize = "128", int(4, 128, "levels");
        /// Largest payload of a last will; a CONNECT with a larger one is refused.
        max_will_bytes: usize = "32 KiB", size(256, 65_535);
        /// Messages kept for a subscriber that is away or slow.
        max_queued_messages: usize = "1000", int(0, 1_000_000, "messages");
        /// Bytes of messages kept for a subscriber that is away or slow.
        max_queued_bytes: usize = "4 MiB", size(0, GIB);
        /// Messages kept for all subscribers together.
        max_total_queued_messages: usize = "1000000", int(0, 100_000_000, "messages");
        /// Bytes of messages kept for all subscribers together.
        max_total_queued_bytes: usize = "256 MiB", size(0, 64 * GIB);
        /// Sessions kept, connected or not.
        max_sessions: usize = "100000", int(1, 10_000_000, "sessions");
        /// A session whose client is away for longer is forgotten. MQTT 5 clients may ask for less; they are told when they
        /// ask for more.
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
    /// Every listener, by key.
    pub fn listeners(&self) -> [(&'static str, Option<SocketAddr>); 6] {
        [
            ("http.listen", Some(self.http.listen)),
            ("mqtt.listen", Some(self.mqtt.listen)),
            ("mqtt.tls_listen", self.mqtt.tls_listen),
            ("mqtt.ws_listen", self.mqtt.ws_listen),
            ("mqtt.wss_listen", self.mqtt.wss_listen),
            ("metrics.listen", self.metrics.listen),
        ]
    }

    /// The listeners that other machines can reach, by key.
    pub fn public_listeners(&self) -> Vec<(&'static str, SocketAddr)> {
        let public = |a: &SocketAddr| !a.ip().is_loopback();
        self.listeners().into_iter().filter_map(|(key, a)| Some((key, a.filter(public)?))).collect()
    }
}

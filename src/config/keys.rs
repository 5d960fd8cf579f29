//! The table of keys: name, type, default, range and meaning of every setting, once.
//!
//! Invariant: a key is written here and nowhere else; its default passes its own check (a test looks).

use std::net::SocketAddr;
use std::path::PathBuf;

use super::entries::ExternalBroker;
use super::from_value::FromValue;
use super::lists::{Entry, PROXY_HEADERS};
use super::rules::TLS_LISTEN;
use super::secret::Secret;
use super::table::{Key, settings};
use super::texts::Rule;
use super::value::{AutoListen, Kind, MetricsAccess, TlsVersion, UnknownDevices, Value};
use crate::api::ProxyHeader;
use crate::domain::Network;
use crate::observe::log::Format;
use crate::oidc::Algorithm;
use crate::store::Role;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

const fn int(min: u64, max: u64, unit: &'static str) -> Kind {
    Kind::Int { min, max, unit }
}

const fn size(min: u64, max: u64) -> Kind {
    Kind::Size { min, max }
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
        url: String = "file:///<data_dir>/archive", Kind::Url { schemes: &["file", "s3", "az", "gs"] }, "--archive-url";
        /// Address of an object store that is not the cloud's own, such as MinIO's.
        endpoint: String = "", Kind::Text(Rule::Any);
        /// Region of an S3 bucket; "" = the environment's (`AWS_REGION`), else us-east-1.
        region: String = "", Kind::Text(Rule::Any);
        /// Access key id (S3) or storage account (Azure); "" = what the environment names, else the machine's own role. A storage
        /// account without a key is used with the machine's identity, or what the environment names.
        access_key_id: Secret = "", Kind::Text(Rule::Secret);
        /// Secret access key (S3), account key (Azure) or service account as JSON (Google).
        secret_access_key: Secret = "", Kind::Text(Rule::Secret);
        /// How an S3 bucket is addressed: as part of the path, or of the host's name.
        addressing: String = "path", Kind::Choice(&["path", "virtual"]);
        /// An object is written when its oldest message is this old; sooner where a burst is followed by a pause.
        flush_age_s: u64 = "60", int(1, 86_400, "s");
        /// An object is written when its messages reach this size.
        flush_bytes: u64 = "16 MiB", size(64 * KIB, GIB);
        /// Small objects of an hour that is over are put together.
        compact: bool = "true", Kind::Bool;
        /// How often that is done, and days past `retention.raw_days` are deleted. Also how long after its end an hour counts
        /// as over, and how long objects that were put together stay for those who are reading them.
        upkeep_s: u64 = "600", int(1, 86_400, "s");
    }

    /// The REST API, the console and the metrics page.
    http: Http {
        /// Address of the listener; port 0 takes a free one.
        listen: SocketAddr = "127.0.0.1:8080", Kind::Listen { may_be_off: false }, "--http-listen";
        /// Address of the same in TLS, with the certificates of `mqtt.tls_…`.
        tls_listen: Option<SocketAddr> = "off", Kind::Listen { may_be_off: true }, "--https-listen";
        /// How meters and other machines reach this server over HTTP, such as `https://meters.example.org`; it stands before the
        /// path in the links that meters download firmware by. Empty = the listener's own address, where that says it.
        public_url: String = "", Kind::Text(Rule::HttpUrl);
        /// Largest request body accepted.
        body_limit_bytes: usize = "1 MiB", size(KIB, 64 * MIB);
        /// Largest table of devices accepted by `POST /api/devices/import`; it is kept in memory while it is imported.
        import_limit_bytes: usize = "16 MiB", size(KIB, 256 * MIB);
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
        /// A request whose line and headers take longer to arrive is refused.
        head_timeout_s: u64 = "10", int(1, 600, "s");
        /// A request whose body takes longer to arrive is refused.
        body_timeout_s: u64 = "30", int(1, 3600, "s");
        /// A connection without a request for so long is closed.
        idle_timeout_s: u64 = "15", int(1, 3600, "s");
        /// A connection whose client takes nothing of its answer for so long is closed.
        write_timeout_s: u64 = "30", int(1, 3600, "s");
        /// Connections open at once; further ones are closed at once.
        max_connections: usize = "8000", int(1, 1_000_000, "connections");
        /// Connections of one address (IPv6: one /56) open at once; further ones are closed at once. 0 = no limit. The default
        /// keeps a fifth of the places for others; what all comes through one proxy may need more.
        max_connections_per_address: usize = "6400", int(0, 1_000_000, "connections");
        /// Streams of events (`GET /api/stream`) open at once; one key may have four fifths of them.
        max_streams: usize = "100", int(1, 10_000, "streams");
        /// Memory for the last events, which streams that are slow or come back go on from.
        stream_keep_bytes: usize = "32 MiB", size(MIB, GIB);
        /// Longest path and query of a request.
        max_uri_bytes: usize = "8 KiB", size(256, 64 * KIB);
        /// Origins of other sites whose pages may call the API with a key, exactly as browsers write them; the console's
        /// cookie is never taken from them. None = CORS is off.
        cors_origins: Vec<String> = "", Kind::List(Entry::Origin);
        /// Proxies before this server. Only from them the client's address is believed, for limits, audit and logs.
        trusted_proxies: Vec<Network> = "", Kind::List(Entry::Network);
        /// The header in which they tell it. They must set it themselves, not pass on what clients send.
        proxy_header: ProxyHeader = "x-forwarded-for", Kind::Choice(&PROXY_HEADERS);
    }

    /// Sessions of the console, and keys that are given.
    auth: Auth {
        /// File of API keys that are added at the start: a line each of role, key (`iotm_…`) and name. For those who must
        /// have a key before the first start. Taking a line away revokes nothing.
        keys_file: Option<PathBuf> = "", Kind::File;
        /// A session ends so long after its log-in.
        session_life_s: u64 = "43200", int(300, 2_592_000, "s");
        /// A session that is not used for so long is over.
        session_idle_s: u64 = "3600", int(300, 2_592_000, "s");
    }

    /// People and programs with tokens of an OpenID Connect issuer, beside API keys.
    oidc: Oidc {
        /// The issuer, exactly as its tokens name it (`iss`); empty = none.
        issuer: String = "", Kind::Text(Rule::SafeUrl);
        /// Who tokens for the API must be meant for (`aud`); empty = the API takes no tokens.
        audience: String = "", Kind::Text(Rule::Any);
        /// What tokens may be signed with: asymmetric algorithms only.
        algorithms: Vec<Algorithm> = "RS256,ES256,EdDSA", Kind::List(Entry::Algorithm);
        /// File of the issuer's keys (JWKS), read again every ten seconds; empty = asked of the issuer.
        jwks_file: Option<PathBuf> = "", Kind::File;
        /// Address of the issuer's keys (JWKS); empty = where the issuer's description says.
        jwks_url: String = "", Kind::Text(Rule::SafeUrl);
        /// Where in a token the role stands: a member's name, with dots for members of members.
        role_claim: String = "roles", Kind::Text(Rule::Any);
        /// Values there and the roles they give; the greatest counts, and without any nobody gets in.
        roles: Vec<(String, Role)> = "viewer=viewer,operator=operator,admin=admin", Kind::List(Entry::Role);
        /// Where in a token the beginning of the ids of the only devices it reaches stands (`*` = all); empty = tokens reach
        /// all devices.
        devices_claim: String = "", Kind::Text(Rule::Any);
        /// What the issuer knows the console as; empty = no log-in to the console by the issuer.
        client_id: String = "", Kind::Text(Rule::Any);
        /// The console's secret at the issuer, where it has one.
        client_secret: Option<Secret> = "", Kind::Text(Rule::Secret);
        /// The address of `/api/session/oidc/callback` as browsers reach it.
        redirect_url: String = "", Kind::Text(Rule::SafeUrl);
        /// What is asked for at a log-in.
        scopes: String = "openid", Kind::Text(Rule::Any);
    }

    /// The MQTT broker.
    mqtt: Mqtt {
        /// Address of the listener for plain TCP; port 0 takes a free one.
        listen: SocketAddr = "127.0.0.1:1883", Kind::Listen { may_be_off: false }, "--mqtt-listen";
        /// Address of the listener for MQTT in TLS; `auto` = `0.0.0.0:8883`, unless somebody else has that address, or
        /// there is no certificate (with `--open` none is made, but for `--demo`, and then it is `127.0.0.1:8883`).
        tls_listen: AutoListen = "auto", Kind::ListenAuto, "--mqtts-listen";
        /// Address of the listener for MQTT over WebSocket, at the path `/mqtt`.
        ws_listen: Option<SocketAddr> = "off", Kind::Listen { may_be_off: true }, "--ws-listen";
        /// Address of the listener for MQTT over WebSocket in TLS, at the path `/mqtt`.
        wss_listen: Option<SocketAddr> = "off", Kind::Listen { may_be_off: true }, "--wss-listen";
        /// PEM file of the server's certificate, followed by those of its issuers. Without one the server makes itself a
        /// certificate of its own authority, unless it is started with `--open` and without `--demo`.
        tls_cert_file: Option<PathBuf> = "", Kind::File;
        /// PEM file of its private key; other users of this machine must not be able to read it.
        tls_key_file: Option<PathBuf> = "", Kind::File;
        /// Oldest version of TLS accepted.
        tls_min_version: TlsVersion = "1.3", Kind::Choice(&TlsVersion::NAMES);
        /// PEM file of the authorities whose client certificates are taken, besides the server's own. Where it is set at the
        /// first start, no authority is made.
        tls_client_ca_file: Option<PathBuf> = "", Kind::File;
        /// File of the lists of revoked certificates (PEM or DER) of these authorities; the server's own needs none.
        tls_crl_file: Option<PathBuf> = "", Kind::File;
        /// Whether clients in TLS must bring a certificate, and meters may not log in with a token alone.
        require_client_certificate: bool = "false", Kind::Bool;
        /// Whether tokens are taken over plain connections from other machines too. Everybody on the way can read them.
        plain_tokens: bool = "false", Kind::Bool;
        /// How often all these files are read anew; connections whose certificate is still good stay as they are.
        tls_reload_s: u64 = "30", int(1, 86_400, "s");
        /// Connections the system holds until the broker accepts them; net.core.somaxconn may hold fewer.
        backlog: u32 = "16384", int(16, 65_535, "connections");
        /// Largest packet accepted.
        max_packet_bytes: usize = "256 KiB", size(KIB, 64 * MIB);
        /// A connection that has not sent its CONNECT by then is closed.
        connect_timeout_s: u64 = "30", int(1, 600, "s");
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
        /// Largest WebSocket message accepted, at least `max_packet_bytes` where there is such a listener. Before its CONNECT
        /// is accepted a client may send no more than one, here and elsewhere: `max_will_bytes` and 8 KiB.
        ws_max_message_bytes: usize = "256 KiB", size(KIB, 64 * MIB);
        /// Longest keep-alive a client may have; one that asks for more, or for none, is held to this (MQTT 5 tells it).
        /// 0 = no limit.
        max_keepalive: u16 = "0", int(0, 65_535, "s");
        /// Messages sent to a subscriber at QoS 1 or 2 and not yet acknowledged by it.
        max_inflight: usize = "256", int(1, 65_535, "messages");
        /// QoS 1 and 2 publishes of one MQTT 5 client not yet acknowledged (Receive Maximum); one more ends its connection.
        receive_maximum: usize = "1024", int(1, 65_535, "messages");
        /// Topic aliases in use on one MQTT 5 connection, in each direction; 0 = none.
        max_topic_aliases: u16 = "10", int(0, 65_535, "aliases");
        /// Longest topic of a publish, and longest filter of a subscription.
        max_topic_length: usize = "65535", size(64, 65_535);
        /// Most levels of a topic or filter, separated by `/`.
        max_topic_levels: usize = "128", int(4, 128, "levels");
        /// Largest payload of a last will; a CONNECT with a larger one is refused.
        max_will_bytes: usize = "8 KiB", size(256, 65_535);
        /// Messages kept for a subscriber that is away or slow.
        max_queued_messages: usize = "1000", int(0, 1_000_000, "messages");
        /// Bytes of messages kept for a subscriber that is away or slow.
        max_queued_bytes: usize = "4 MiB", size(0, GIB);
        /// Messages kept for all subscribers together, those in flight included.
        max_total_queued_messages: usize = "1000000", int(0, 100_000_000, "messages");
        /// Bytes of these.
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

    /// Certificates made by this server. Its authority and its own certificate are in `<data_dir>/pki`.
    pki: Pki {
        /// Names and addresses of this machine in the server's certificate, besides `localhost`, the loopback addresses and
        /// the machine's own name. What meters connect to must be among them.
        server_names: Vec<String> = "", Kind::Names;
        /// How long a meter's certificate is good, unless asked for otherwise.
        device_days: u32 = "365", int(1, 3650, "days");
        /// How long the server's own certificate is good; it is renewed when a third of that is left.
        server_days: u32 = "90", int(1, 3650, "days");
        /// How long the authority is good, at its making.
        ca_days: u32 = "7300", int(30, 36_500, "days");
    }

    /// The metrics page on a listener of its own.
    metrics: Metrics {
        /// Address for scrapes without a credential, 64 connections at once; `off` = only `/metrics` on `http.listen`.
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

    /// Several nodes on one Postgres database. Their clocks must agree to well below a second.
    nodes: Nodes {
        /// What this node is called in `GET /api/nodes`; empty = the machine's name.
        name: String = "", Kind::Text(Rule::Any);
        /// How often a node says that it is there.
        heartbeat_s: u64 = "2", int(1, 60, "s");
        /// A node silent for so long is taken for dead: its commands go to others. The same for all nodes.
        timeout_s: u64 = "10", int(3, 600, "s");
    }

    /// How long data is kept.
    retention: Retention {
        /// Telemetry and events in the database; also the oldest message time accepted. And what nothing else keeps: entries of
        /// missing messages, alerts that are over or seen, commands and rollouts that have ended.
        telemetry_days: u64 = "400", int(1, 36_500, "days");
        /// Received messages in the archive, by whole days of their receipt; 0 = for ever. History ends where they end.
        raw_days: u64 = "0", int(0, 36_500, "days");
        /// Entries of the audit log, by whole days. What is left stays a chain that can be verified.
        audit_days: u64 = "400", int(1, 36_500, "days");
        /// What minutes and hours of measurements come to (buckets and thinned lines of long ranges); longer than telemetry.
        rollup_days: u64 = "1830", int(1, 36_500, "days");
        /// Alerts that were told to GitHub or given up (`GET /api/webhooks`).
        webhook_days: u64 = "90", int(1, 36_500, "days");
    }

    /// Commands to meters.
    commands: Commands {
        /// A delivered command without an acknowledgement by then becomes `timeout`.
        ack_timeout_s: u64 = "60", int(1, 86_400, "s");
        /// An undelivered command becomes `expired` after this, unless its sender said otherwise.
        default_expires_s: u64 = "86400", int(1, 31_536_000, "s");
    }

    /// Firmware images.
    firmware: Firmware {
        /// Largest image that is taken.
        max_bytes: u64 = "64 MiB", size(KIB, 4 * GIB);
    }

    /// Secrets that are kept in the database are sealed by a key that is not in it.
    secrets: Secrets {
        /// The key: 32 bytes in hexadecimal or base64. Without one the first start makes the file secrets.key in the data
        /// directory.
        key: Option<Secret> = "", Kind::Text(Rule::SealingKey);
        /// Earlier keys, separated by commas, until the next start has sealed everything anew.
        old_keys: Option<Secret> = "", Kind::Text(Rule::SealingKeys);
    }

    /// What a new meter is told when it enrols.
    enrolment: Enrolment {
        /// Brokers as host:port, separated by commas; empty = this server, as the meter has called it.
        brokers: Vec<(String, u16)> = "", Kind::Text(Rule::Hosts);
        /// Time between two samples.
        sampling_cadence_ms: u32 = "1000", int(100, 60_000, "ms");
        /// Time between two telemetry messages.
        send_interval_s: u32 = "10", int(1, 3600, "s");
        /// Time between two hellos.
        hello_interval_s: u32 = "30", int(5, 3600, "s");
        /// Meters may enrol over plain HTTP from other machines. A proxy of `http.trusted_proxies` on this machine, or in TLS
        /// itself, needs it not: it is enough that it says so where its client came in TLS.
        plain_http: bool = "false", Kind::Bool;
    }

    /// Alertmanager, which tells of the alerts in deploy/prometheus/rules.yml: `POST /api/alertmanager/webhook`.
    alertmanager: Alertmanager {
        /// The bearer token it brings (its `credentials_file`); 20 characters at least. Unlike a key it is good while the
        /// database is away too. Empty = a key with the role operator is wanted.
        token: Option<Secret> = "", Kind::Text(Rule::Secret);
    }

    /// Issues for these alerts: one an alert, closed when it is over.
    github: Github {
        /// The repository of the issues.
        repository: String = "", Kind::Text(Rule::Repository);
        /// A token that may read and write its issues.
        token: Option<Secret> = "", Kind::Text(Rule::Secret);
        /// Address of the API; GitHub Enterprise Server has it at `https://HOST/api/v3`.
        api_url: String = "https://api.github.com", Kind::Text(Rule::SafeUrl);
        /// Only log what would be done; `auto` = as long as there is no token.
        dry_run: Option<bool> = "auto", Kind::BoolAuto;
    }

    /// What the process says about itself, on stderr.
    log: Log {
        /// A level (`off error warn info debug trace`), or `target=level` separated by commas. Also `IOT_METER_LOG`.
        level: String = "info", Kind::LogFilter;
        /// `text`, `json`, or `auto` (text when stderr is a terminal).
        format: Format = "auto", Kind::Choice(&Format::NAMES);
    }

    /// Traces. A caller's `traceparent` is taken up in any case; spans are recorded where they have somewhere to go.
    trace: Trace {
        /// Where spans are sent: a collector's address for OTLP over HTTP, such as `http://127.0.0.1:4318` (`/v1/traces` is
        /// added where it has no path). Empty = nowhere. Needs an executable built with the feature `otel`.
        endpoint: String = "", Kind::Text(Rule::HttpUrl);
        /// Headers the collector wants, as `Name: value`, separated by commas.
        headers: Vec<(String, Secret)> = "", Kind::Text(Rule::SecretHeaders);
        /// What part of all traces that begin here is recorded; of those that come from elsewhere, what their `traceparent`
        /// says.
        sample_ratio: f64 = "0", Kind::Ratio;
        /// Spans that wait to be sent; further ones are lost and counted.
        queue: usize = "4096", int(16, 1_000_000, "spans");
    }
}

impl Settings {
    /// Every listener, by key.
    pub fn listeners(&self) -> [(&'static str, Option<SocketAddr>); 7] {
        [
            ("http.listen", Some(self.http.listen)),
            ("mqtt.listen", Some(self.mqtt.listen)),
            ("http.tls_listen", self.http.tls_listen),
            ("mqtt.tls_listen", self.mqtts_listen()),
            ("mqtt.ws_listen", self.mqtt.ws_listen),
            ("mqtt.wss_listen", self.mqtt.wss_listen),
            ("metrics.listen", self.metrics.listen),
        ]
    }

    /// Where MQTT in TLS is, as far as the settings alone say: `auto` counts where a certificate is named.
    fn mqtts_listen(&self) -> Option<SocketAddr> {
        match self.mqtt.tls_listen {
            AutoListen::Off => None,
            AutoListen::At(address) => Some(address),
            AutoListen::Auto => self.mqtt.tls_cert_file.as_ref().map(|_| TLS_LISTEN),
        }
    }

    /// The listeners that other machines can reach, by key.
    pub fn public_listeners(&self) -> Vec<(&'static str, SocketAddr)> {
        let public = |a: &SocketAddr| !a.ip().is_loopback();
        self.listeners().into_iter().filter_map(|(key, a)| Some((key, a.filter(public)?))).collect()
    }
}

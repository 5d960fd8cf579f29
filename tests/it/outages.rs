//! Postgres and the object store away, failing, and cut off in the middle of what they do, under load: counts are equal at
//! the end, to the message.
//!
//! `OUTAGE_S` says how many seconds an outage lasts, 4 by default: `OUTAGE_S=300 cargo test --features postgres,s3-tests
//! --test it outages::` makes it five minutes.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use iot_meter::load::{self, Options, Pace, Report};
use iot_meter::simulate::{ApiAccess, BrokerUrl};
use tokio::sync::watch;

use crate::support::cloud::{Bucket, Kind, Mood};
use crate::support::cut::{Network, Target};
use crate::support::postgres::Server;
use crate::support::{TestApp, eventually_within};

/// Messages a second: what every machine takes in a build for tests.
const RATE: f64 = 400.0;
/// How long the server may take to make good what was missed.
const PATIENCE: Duration = Duration::from_secs(180);

fn outage() -> Duration {
    let seconds = std::env::var("OUTAGE_S").ok().map(|text| text.parse().expect("OUTAGE_S is a number of seconds"));
    Duration::from_secs(seconds.unwrap_or(4))
}

/// Both backends, and a network to each.
struct Backends {
    postgres: Server,
    url: String,
    to_postgres: Network,
    s3: Bucket,
    to_s3: Network,
}

impl Backends {
    fn start() -> Self {
        let (postgres, s3) = (Server::start(), Bucket::start(Kind::S3));
        let url = postgres.database();
        let to_postgres = Network::to(Target::Unix(postgres.dir().join(".s.PGSQL.5432")));
        let to_s3 = Network::to(Target::Tcp(s3.address()));
        Self { postgres, url, to_postgres, s3, to_s3 }
    }

    /// The settings of a server that reaches both over the networks.
    fn settings(&self) -> Vec<(String, String)> {
        let database = self.url.trim_start_matches("postgres:///").split('?').next().unwrap();
        let mut settings = self.s3.settings("");
        for (key, value) in &mut settings {
            if key == "archive.endpoint" {
                *value = format!("http://{}", self.to_s3.address());
            }
        }
        let url = format!("postgres://postgres@{}/{database}?sslmode=disable", self.to_postgres.address());
        settings.push(("database.url".to_owned(), url));
        settings
    }

    fn server(&self) -> TestApp {
        let builder = TestApp::builder().open().set("archive.flush_age_s", "1").set("database.connect_timeout_s", "1");
        self.settings().iter().fold(builder, |builder, (key, value)| builder.set(key, value)).start()
    }

    /// Nothing is lost and nothing is there twice: in the database, in the archive, and as the API shows it.
    fn hold_exactly(&self, app: &TestApp, report: &Report) {
        assert_eq!(report.unacknowledged, 0, "the broker has answered all: {report:?}");
        assert_eq!(report.lost_connections, 0, "no meter has noticed anything");
        let shown = report.verification.expect("asked for");
        assert_eq!((shown.missing, shown.duplicated, shown.stored), (0, 0, report.acknowledged), "{shown:?}");
        let query = "SELECT count(*), count(DISTINCT (device_id, seq)) FROM telemetry";
        let expected = report.acknowledged;
        assert_eq!(self.postgres.query(&self.url, query), format!("{expected}|{expected}"));
        eventually_within(
            PATIENCE,
            "everything is archived",
            || {
                let status = app.api.get("/api/system/status").expect(200).json();
                status["archiver"]["position"] == status["journal"]["durable"]
            },
            String::new,
        );
        let mut verify = Command::new(env!("CARGO_BIN_EXE_iot-meter"));
        verify.args(["archive", "verify", "--output", "json", "--data-dir"]).arg(app.data_dir());
        verify.current_dir(std::env::temp_dir()).stdin(Stdio::null());
        for (key, value) in self.s3.settings("") {
            verify.env(format!("IOT_METER__{}", key.replace('.', "__").to_uppercase()), value);
        }
        let Output { status, stdout, stderr } = verify.output().unwrap();
        let (said, complained) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success(), "{said}{complained}");
        let verified: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!(
            (&verified["is_sound"], verified["messages"].as_u64()),
            (&true.into(), Some(expected)),
            "{verified}"
        );
    }
}

/// Loads the server from before until after what the test does meanwhile.
fn loaded(app: &TestApp, meanwhile: impl FnOnce()) -> Report {
    let mqtt = app.mqtt_address();
    let broker =
        BrokerUrl { is_tls: false, host: mqtt.ip().to_string(), port: mqtt.port(), user: None, password: None };
    let options = Options {
        broker,
        connections: 8,
        pace: Pace::Rate(RATE),
        duration: None,
        api: Some(ApiAccess { url: format!("http://{}", app.address("http")), key: None, ca_file: None }),
        verify_patience: PATIENCE,
        is_progress_shown: false,
        ..Options::default()
    };
    let (stop, stopping) = watch::channel(false);
    let loading = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(load::run(options, stopping)).unwrap()
    });
    let grows = |what: &str| {
        let before = durable(app);
        eventually_within(PATIENCE, what, || durable(app) > before + 100, String::new);
    };
    grows("messages are acknowledged");
    meanwhile();
    grows("messages are acknowledged afterwards");
    stop.send_replace(true);
    loading.join().unwrap()
}

/// Messages on disk.
fn durable(app: &TestApp) -> u64 {
    app.api.get("/api/system/status").expect(200).json()["journal"]["durable"].as_u64().unwrap()
}

fn is_ready(app: &TestApp) -> bool {
    app.api.try_send("GET", "/readyz", &[], None).is_ok_and(|answer| answer.status == 200)
}

#[test]
fn a_database_that_is_stopped_and_a_bucket_that_fails_for_long_lose_and_double_nothing() {
    let (backends, outage) = (Backends::start(), outage());
    let app = backends.server();
    let report = loaded(&app, || {
        let end = Instant::now() + outage;
        backends.postgres.stop();
        backends.s3.be(Mood::Failing);
        eventually_within(PATIENCE, "the server says that it is not ready", || !is_ready(&app), String::new);
        // The outage lasts as long as it is said to, and until what meters say in such a time is on disk: an acknowledgement is
        // for what is durable, and none of this is from before or after.
        let (before, said) = (durable(&app), (RATE * outage.as_secs_f64()) as u64);
        let durable_meanwhile = || durable(&app) - before;
        eventually_within(
            outage + PATIENCE,
            "what meters say is on disk while database and bucket are away",
            || {
                assert!(!is_ready(&app), "it is away all the time");
                Instant::now() >= end && durable_meanwhile() >= said
            },
            || format!("{} of {said}", durable_meanwhile()),
        );
        backends.postgres.restart();
        backends.s3.be(Mood::Well);
        eventually_within(PATIENCE, "the server is ready again", || is_ready(&app), String::new);
    });
    backends.hold_exactly(&app, &report);
}

#[test]
fn a_network_that_breaks_in_the_middle_of_transactions_and_uploads_loses_and_doubles_nothing() {
    let (backends, outage) = (Backends::start(), outage());
    let app = backends.server();
    let (postgres, s3) = (&backends.to_postgres, &backends.to_s3);
    let report = loaded(&app, || {
        let end = Instant::now() + outage;
        postgres.cut_within(Some(400_000));
        s3.cut_within(Some(20_000));
        eventually_within(
            outage + PATIENCE,
            "both are cut often, Postgres also in transactions",
            || Instant::now() >= end && s3.cuts() >= 3 && postgres.cuts() >= 3 && postgres.cuts_in_transaction() >= 1,
            || {
                format!(
                    "{} cuts of S3, {} of Postgres, {} in transactions",
                    s3.cuts(),
                    postgres.cuts(),
                    postgres.cuts_in_transaction()
                )
            },
        );
        postgres.cut_within(None);
        s3.cut_within(None);
    });
    backends.hold_exactly(&app, &report);
}

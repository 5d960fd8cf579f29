//! What the figures of single parts say, to the number: certificates, rollouts, rollups, the archive's upkeep and its reads.
//! Each server is a process of its own: figures are the process's, and other tests have servers too.
//! (Those of nodes are looked at where there are several: `nodes`.)

use std::path::Path;

use iot_meter::domain::{Clock, Timestamp};
use serde_json::{Value, json};

use crate::firmware::upload;
use crate::support::certified::Guarded;
use crate::support::process::{Server, command};
use crate::support::{Api, Client, Connect, Figures, TestApp, eventually, eventually_within, settled, telemetry};

const DAY_S: f64 = 86_400.0;

/// Waits until the page shows all of these.
#[track_caller]
fn shows(api: &Api, expected: &[(&str, f64)]) {
    let seen = || {
        let page = Figures::of(api);
        format!("{:?}", expected.iter().map(|(series, _)| (series, page.get(series))).collect::<Vec<_>>())
    };
    let condition = || Figures::of(api).are(expected);
    eventually_within(std::time::Duration::from_secs(60), &format!("{expected:?}"), condition, seen);
}

#[test]
fn certificates_are_counted_by_state_and_the_next_end_is_known() {
    let app = Guarded::start(&[]);
    let issue = |device: &str, days: u32| {
        let body = json!({"device_id": device, "days": days});
        app.api.post("/api/certificates", &body).expect(201).json()["serial"].as_str().unwrap().to_owned()
    };
    const OF_DEVICES: &str = "certificate_expiry_seconds{of=\"device\"}";
    eventually("the server's end is known", || {
        Figures::of(&app.api).get("certificate_expiry_seconds{of=\"server\"}").is_some()
    });
    assert_eq!(Figures::of(&app.api).get(OF_DEVICES), None, "no device has one, and 0 would be: now");
    for device in ["long", "short", "gone"] {
        app.register(device);
    }
    let good = [issue("long", 400), issue("short", 10)];
    let gone = issue("gone", 5);
    app.api.delete(&format!("/api/certificates/{gone}")).expect(200);
    // One that is good for ten days, and new, is not late.
    let counts = [("valid", 2.0), ("expiring", 0.0), ("expired", 0.0), ("revoked", 1.0)];
    let counts = counts.map(|(state, count)| (format!("certificates{{state=\"{state}\"}}"), count));
    let counts = counts.each_ref().map(|(series, count)| (series.as_str(), *count));
    shows(&app.api, &counts);
    let page = Figures::of(&app.api);
    let left = |of: &str| page.value(&format!("certificate_expiry_seconds{{of=\"{of}\"}}")) / DAY_S;
    assert!((9.9..10.1).contains(&left("device")), "the first that is good: {}", left("device"));
    assert!(left("server") > 30.0 && left("ca") > left("server"), "{} {}", left("server"), left("ca"));
    let whole = |of: &str| page.value(&format!("certificate_lifetime_seconds{{of=\"{of}\"}}")) / DAY_S;
    for (of, days) in [("server", 90.0), ("ca", 7300.0)] {
        assert!((days..days + 0.1).contains(&whole(of)) && left(of) <= whole(of), "{of}: {} {}", left(of), whole(of));
    }
    // One that comes to its end sooner counts at the next look.
    let soonest = issue("long", 3);
    eventually("the next end is another one", || {
        (2.9..3.1).contains(&(Figures::of(&app.api).value(OF_DEVICES) / DAY_S))
    });
    for serial in good.iter().chain([&soonest]) {
        app.api.delete(&format!("/api/certificates/{serial}")).expect(200);
    }
    eventually("no end is the next one", || Figures::of(&app.api).value(OF_DEVICES).is_nan());
}

/// A rollout over these devices.
fn roll_out(api: &Api, devices: &[&str]) -> String {
    for device in devices {
        let new = json!({"device_id": device, "device_name": device, "device_type": "dc750"});
        api.post("/api/devices", &new).expect(201);
    }
    let parts: [(&str, &[u8]); 3] = [("version", b"2.0.0"), ("device_type", b"dc750"), ("file", &[7; 1000])];
    let image = upload(api, &parts).expect(201).json();
    let made = api.post("/api/rollouts", &json!({"firmware_id": image["id"], "stages": ["100%"]})).expect(201).json();
    format!("/api/rollouts/{}", made["id"])
}

#[test]
fn rollouts_are_counted_by_state_and_why_they_are_paused() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let api = &server.api;
    let path = roll_out(api, &["r-1", "r-2", "r-3"]);
    shows(
        api,
        &[
            ("rollouts{state=\"running\"}", 1.0),
            ("rollouts{state=\"paused\"}", 0.0),
            ("rollout_devices{state=\"waiting\"}", 3.0),
            ("rollouts_paused{reason=\"by_hand\"}", 0.0),
        ],
    );
    api.post(&format!("{path}/pause"), &json!({})).expect(200);
    shows(
        api,
        &[
            ("rollouts{state=\"running\"}", 0.0),
            ("rollouts{state=\"paused\"}", 1.0),
            ("rollouts_paused{reason=\"by_hand\"}", 1.0),
            ("rollouts_paused{reason=\"too_many_failed\"}", 0.0),
        ],
    );
    api.post(&format!("{path}/abort"), &json!({})).expect(200);
    shows(
        api,
        &[
            ("rollouts{state=\"paused\"}", 0.0),
            ("rollouts{state=\"aborted\"}", 1.0),
            ("rollouts_paused{reason=\"by_hand\"}", 0.0),
            ("rollout_devices{state=\"waiting\"}", 0.0),
        ],
    );
}

#[test]
fn alert_rules_and_the_alerts_they_raise_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let api = &server.api;
    let raised = |severity: &str| format!("rule_alerts_total{{severity=\"{severity}\"}}");
    shows(api, &[("alert_rules{state=\"enabled\"}", 0.0), (&raised("critical"), 0.0)]);
    for (name, is_enabled) in [("over", true), ("far over", true), ("not now", false)] {
        let rule = json!({"name": name, "metric": "voltage_dc", "op": "gt", "threshold": 600, "severity": "critical",
            "enabled": is_enabled});
        api.post("/api/rules", &rule).expect(201);
    }
    shows(api, &[("alert_rules{state=\"enabled\"}", 2.0), ("alert_rules{state=\"disabled\"}", 1.0)]);
    say(&server, "r-1", 1, 0);
    shows(api, &[(&raised("critical"), 2.0), (&raised("warning"), 0.0)]);
    say(&server, "r-1", 0, 1);
    assert_eq!(Figures::of(api).value(&raised("critical")), 2.0, "as long as the condition lasts");
}

/// A message of a meter that was made some minutes ago.
fn say(server: &Server, device: &str, minutes_ago: i64, seq: u32) {
    let (mut meter, _) = Client::connect(server.mqtt, &Connect::id(device));
    let at = Clock::system().now().plus_us(-minutes_ago * 60_000_000);
    meter.publish(&format!("iot/{device}/telemetry"), telemetry(device, at, seq, 700.0).as_bytes(), 1);
    settled(&server.api);
}

#[cfg(feature = "sqlite")]
#[test]
fn rollups_say_how_much_was_done_how_far_behind_they_are_and_that_they_fail() {
    use diesel::connection::SimpleConnection;
    use diesel::{Connection, SqliteConnection};

    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut process = command(&data);
    process.env("IOT_METER__DATABASE__URL", "sqlite:///<data_dir>/own.db");
    let server = Server::start_with(&mut process, &data);
    let api = &server.api;
    shows(api, &[("rollup_parts_total{kind=\"new\"}", 0.0), ("rollup_failures_total", 0.0)]);
    say(&server, "up-1", 5 * 60, 0);
    say(&server, "up-1", 5 * 60 - 1, 1);
    eventually("it is rolled up", || Figures::of(api).value("rollup_parts_total{kind=\"new\"}") >= 1.0);
    shows(
        api,
        &[("rollup_waiting_devices", 0.0), ("rollup_dirty_partitions", 0.0), ("node_duty{duty=\"rollups\"}", 1.0)],
    );
    // An hour is rolled up two minutes after its end, so what is newest among the rolled up ended between two minutes and an hour
    // and two minutes ago. (More shows for a moment when an hour has just come to be rolled up.)
    let behind = || Figures::of(api).value("rollup_behind_seconds");
    eventually("only what waits for its hour is not rolled up", || (120.0..=3720.0).contains(&behind()));
    let new = Figures::of(api);
    say(&server, "up-1", 5 * 60 - 2, 2);
    eventually("what came late is rolled up again", || {
        Figures::of(api).get("rollup_parts_total{kind=\"late\"}") == Some(1.0)
    });
    shows(
        api,
        &[
            ("rollup_dirty_partitions", 0.0),
            ("rollup_parts_total{kind=\"new\"}", new.value("rollup_parts_total{kind=\"new\"}")),
        ],
    );

    let mut other = SqliteConnection::establish(data.join("own.db").to_str().unwrap()).unwrap();
    other.batch_execute("PRAGMA busy_timeout = 30000; BEGIN IMMEDIATE").unwrap();
    let before = behind();
    eventually("it fails", || Figures::of(api).value("rollup_failures_total") >= 1.0);
    eventually("it falls behind meanwhile", || behind() > before);
    drop(other);
    let failed = Figures::of(api).value("rollup_failures_total");
    say(&server, "up-1", 5 * 60 - 3, 3);
    eventually("it goes on", || Figures::of(api).get("rollup_parts_total{kind=\"late\"}") == Some(2.0));
    // (One more may have been under way.)
    assert!(Figures::of(api).value("rollup_failures_total") <= failed + 1.0);
}

const START: &str = "2026-02-12T10:00:00Z";
/// Hours of small objects, and how many in each.
const HOURS: u32 = 4;
const OBJECTS: u32 = 3;

/// Fills an archive with small objects of hours long past; afterwards nobody serves it.
fn fill_archive(app: &TestApp) {
    let archived = || app.api.get("/api/system/status").expect(200).json()["archiver"]["position"].as_u64().unwrap();
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    for seq in 0..HOURS * OBJECTS {
        meter.publish("iot/m1/telemetry", telemetry("m1", app.now(), seq, 700.0).as_bytes(), 1);
        app.settled();
        app.eventually("it is archived", || {
            app.pass_s(1);
            archived() == u64::from(seq) + 1
        });
        let passed = app.now().since(Timestamp::parse_rfc3339(START).unwrap()).as_secs() as i64;
        app.pass_s(i64::from(seq + 1) * 3600 / i64::from(OBJECTS) - passed);
    }
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn the_archives_upkeep_and_its_reads_are_counted_one_by_one() {
    let builder = TestApp::builder().open().clock(START).set("archive.flush_age_s", "1");
    let mut app = builder.set("archive.compact", "false").start();
    fill_archive(&app);
    let dir = app.data_dir().to_owned();
    let database = app.database_url();
    app.restart_while(|| {
        let all = HOURS * OBJECTS;
        assert_eq!(files(&dir.join("archive/raw")).len(), all as usize, "one object a message");
        let process = || {
            let mut process = command(&dir);
            process.env("IOT_METER__ARCHIVE__UPKEEP_S", "1").env("IOT_METER__RETENTION__TELEMETRY_DAYS", "1");
            process.env("IOT_METER__DATABASE__URL", &database);
            process
        };
        let server = Server::start_with(&mut process(), &dir);
        let put_together = [
            ("archive_compacted_total", f64::from(all)),
            ("archive_compact_duration_seconds_count", f64::from(HOURS)),
            ("archive_removed_total{why=\"expired\"}", 0.0),
        ];
        shows(&server.api, &put_together);
        assert_eq!(server.terminate(), Some(0));
        // (Some of them may be gone already.)
        let left = files(&dir.join("archive/raw")).len() - HOURS as usize;
        // Hours long past are looked at once a day, and at a start: what is in larger objects now goes, if they are older than
        // a period.
        let is_old = |file: &Path| {
            let written = std::fs::metadata(file).unwrap().modified().unwrap();
            written.elapsed().is_ok_and(|age| age > std::time::Duration::from_secs(2))
        };
        eventually("a period has passed", || files(&dir.join("archive/raw")).iter().all(|file| is_old(file)));
        let server = Server::start_with(&mut process(), &dir);
        let api = &server.api;
        shows(api, &[("archive_compacted_total", 0.0), ("archive_removed_total{why=\"compacted\"}", left as f64)]);
        assert_eq!(files(&dir.join("archive/raw")).len(), HOURS as usize);
        let ask = || {
            api.get("/api/devices/m1/metrics?metric=voltage_dc&start=2026-02-12T00:00:00Z&stop=2026-02-13T00:00:00Z")
        };
        let reads =
            |result: &str| Figures::of(api).value(&format!("history_archive_reads_total{{result=\"{result}\"}}"));
        eventually("the database has nothing of it any more", || {
            let before = reads("read");
            let answer: Value = ask().expect(200).json();
            assert_eq!(answer.as_array().unwrap().len(), all as usize);
            reads("read") == before + 1.0
        });
        assert_eq!(reads("failed"), 0.0);
        // What cannot be read is counted, too, and so is what cannot be looked after.
        let sound: Vec<_> =
            files(&dir.join("archive/raw")).into_iter().map(|file| (std::fs::read(&file).unwrap(), file)).collect();
        for (bytes, file) in &sound {
            std::fs::write(file, vec![0; bytes.len()]).unwrap();
        }
        assert!(ask().status >= 500);
        assert_eq!(reads("failed"), 1.0);
        server.kill();
        // What it cannot go on from is waited for, and said: a restart is not the cure, the object is.
        let server = Server::start_unready(&mut process(), &dir);
        let archiver = || server.api.get("/api/system/status").expect(200).json()["tasks"]["archiver"].clone();
        eventually("it says what it waits for", || archiver()["state"] == "retrying");
        assert_eq!(archiver()["last_error"], "an archive object is damaged");
        assert_eq!(server.api.get("/readyz").status, 503);
        for (bytes, file) in &sound {
            std::fs::write(file, bytes).unwrap();
        }
        eventually_within(
            std::time::Duration::from_secs(60),
            "it goes on",
            || archiver()["state"] == "running",
            || archiver().to_string(),
        );
        assert_eq!(server.terminate(), Some(0));
    });
}

#[test]
fn an_upkeep_that_fails_is_counted_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    assert_eq!(Server::start(&data).terminate(), Some(0));
    // Objects of a node that is no more (it would have put them together within two days), and no longer what they were. After
    // three days they would be looked at once a day.
    let at = Clock::system().now().plus_us(-60 * 3_600_000_000).to_string();
    let hour = data.join(format!("archive/raw/v1/date={}/hour={}", &at[..10], &at[11..13]));
    std::fs::create_dir_all(&hour).unwrap();
    for n in 0..2 {
        let name = format!("1ed6c9f6-23e8-4a19-84a0-6824e5567bd4-{n:020}-{n:020}.parquet");
        std::fs::write(hour.join(name), b"no Parquet").unwrap();
    }
    let mut process = command(&data);
    let server = Server::start_with(process.env("IOT_METER__ARCHIVE__UPKEEP_S", "1"), &data);
    eventually("it fails, and again", || Figures::of(&server.api).value("archive_upkeep_failures_total") >= 2.0);
    let page = Figures::of(&server.api);
    assert!(page.are(&[("archive_compacted_total", 0.0), ("archive_removed_total{why=\"compacted\"}", 0.0)]));
    let status = server.api.get("/api/system/status").expect(200).json();
    assert!(status["tasks"]["archive upkeep"]["last_error"].is_string(), "{status}");
    assert_eq!(server.terminate(), Some(0), "nothing else suffers");
}

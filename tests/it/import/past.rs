//! Messages older than the database keeps: in every answer, whatever ran before, and their meters known; and what the archive
//! does not keep either.

use iot_meter::domain::{DeviceId, Timestamp};
use iot_meter::store::RollupPage;
use serde_json::{Value, json};

use super::{Import, Old, counts};
use crate::support::{Connect, TestApp, telemetry};

const MINUTE_US: i64 = 60_000_000;
const DAY_US: i64 = 1440 * MINUTE_US;
/// Messages of each meter, one a minute.
const COUNT: i64 = 150;
/// How far its sample lies before a message.
const BACK_US: i64 = 90_000_000;

/// A datagram of one instant, sent later.
fn message(device: &str, ts: Timestamp, seq: i64) -> String {
    let sample = |kind: &str, value: i64, unit: &str| json!({"ts": ts.plus_us(-BACK_US).to_string(), "type": kind, "val": value, "unit": unit});
    json!({
        "v": 2, "device_id": device, "ts": ts.to_string(), "seq": seq, "msg_type": "telemetry",
        "measurements": [sample("voltage_dc", 700 + seq % 50, "V"), sample("current_dc", 100, "A")],
    })
    .to_string()
}

fn numbers(rows: &Value, field: &str) -> Vec<f64> {
    rows.as_array().unwrap().iter().filter_map(|row| row[field].as_f64()).collect()
}

/// What buckets, a thinned line and energy say, against the samples.
fn check_answers(app: &TestApp, device: &str, base: Timestamp) {
    let ask = |call: &str, from: Timestamp, to: Timestamp, more: &str| {
        app.api.get(&format!("/api/devices/{device}/{call}?start={from}&stop={to}{more}")).expect(200).json()
    };
    let later = |minutes: i64| base.plus_us(minutes * MINUTE_US);
    let metrics = |from: i64, to: i64, more: &str| {
        numbers(&ask("metrics", later(from), later(to), &format!("&metric=voltage_dc{more}")), "value")
    };
    let values: Vec<f64> = (0..COUNT).map(|n| (700 + n % 50) as f64).collect();
    assert_eq!(metrics(0, 180, ""), values, "{device}");
    assert_eq!(metrics(10, 11, ""), values[10..11], "of a message that came after the range");
    let day = 1440;
    for (from, to) in [(0, 180), (-10 * day, 10 * day)] {
        assert_eq!(metrics(from, to, "&every=1h&fn=count"), [60.0, 60.0, 30.0], "{device} {from}");
        assert_eq!(metrics(from, to, "&every=1h&fn=max"), [749.0, 749.0, 749.0], "{device} {from}");
    }
    assert_eq!(metrics(0, 240, "&every=1m&fn=mean"), values);
    for thinned in [metrics(0, 240, "&max_points=50"), metrics(-10 * day, 10 * day, "&max_points=50")] {
        assert!(thinned.len() > 5 && thinned.iter().all(|value| values.contains(value)), "{device}: {thinned:?}");
    }
    let energy = ask("energy", later(0), later(180), "&period=1h");
    let wh = numbers(&energy, "import_wh");
    assert_eq!(wh.len(), 3, "{energy:#}");
    assert!(wh.iter().all(|wh| *wh > 30_000.0), "{energy:#}");
    assert_eq!(
        numbers(&ask("energy", later(-10 * day), later(10 * day), "&period=1h"), "import_wh").iter().sum::<f64>(),
        wh.iter().sum::<f64>(),
        "{device}"
    );
}

/// Serves, as in the first step of the change-over, then takes over what is long past, and serves on.
fn take_the_past_over(mut app: TestApp) {
    app.register("old-1");
    let (mut meter, _) = app.mqtt(&Connect::id("old-1"));
    meter.publish("iot/old-1/telemetry", telemetry("old-1", app.now(), 9_999, 750.0).as_bytes(), 1);
    app.settled();
    drop(meter);
    let id = DeviceId::parse("old-1").unwrap();
    let page = || app.store().rollups(&id, 3600, None, Timestamp(0), app.now()).unwrap();
    app.eventually("rollups have taken it up", || page() != RollupPage::none());

    let long_ago = app.now().plus_us(-500 * DAY_US);
    let base = Timestamp(long_ago.0 - long_ago.0.rem_euclid(DAY_US));
    let old = Old::new(base);
    for device in ["old-1", "new-1"] {
        for n in 0..COUNT {
            let ts = base.plus_us(n * MINUTE_US + BACK_US);
            old.put(device, "telemetry", ts.plus_us(300_000), &message(device, ts, n));
        }
    }
    let status = json!({"v": 2, "device_id": "new-2", "ts": base.to_string(), "status": "offline"});
    old.put("new-2", "status", base, &status.to_string());
    let bucket = old.path("bucket");
    let import = Import::of(&app);
    app.restart_while(|| {
        let (dry, _) = import.run(&["--raw", &bucket, "--dry-run"]);
        let (report, is_clean) = import.run(&["--raw", &bucket]);
        assert!(is_clean, "{report:#}");
        let all = 2 * COUNT as u64 + 1;
        assert_eq!(counts(&report, "raw"), [all, all, 0, 0]);
        assert_eq!(report["kinds"]["raw"]["archive_only"], all);
        for report in [&dry, &report] {
            let mut found: Vec<&str> = (report["quarantined"].as_array().unwrap().iter())
                .map(|device| device.as_str().unwrap())
                .filter(|device| *device != "old-1")
                .collect();
            found.sort_unstable();
            assert_eq!(found, ["new-1", "new-2"], "{report:#}");
        }
        let (again, _) = import.run(&["--raw", &bucket]);
        assert_eq!(counts(&again, "raw"), [all, 0, all, 0]);
        assert_eq!(again["quarantined"], json!([]));
    });
    check_answers(&app, "old-1", base);
    check_answers(&app, "new-1", base);
    for device in ["new-1", "new-2"] {
        let found = app.api.get(&format!("/api/devices/{device}")).expect(200).json();
        assert_eq!((&found["status"], &found["metadata"]["quarantined"]), (&json!("inactive"), &json!(true)));
    }
    assert_eq!(app.values("old-1", "voltage_dc"), [750.0]);
    assert!(app.values("new-1", "voltage_dc").is_empty(), "in the last hour");
}

#[test]
fn what_only_the_archive_has_is_in_every_answer_of_a_server_that_ran_before() {
    take_the_past_over(TestApp::open());
}

#[cfg(feature = "postgres")]
#[test]
fn what_only_the_archive_has_is_in_every_answer_with_postgres_too() {
    let url = crate::support::postgres::Server::shared().database();
    take_the_past_over(TestApp::builder().open().set("database.url", &url).start());
}

#[test]
fn what_neither_database_nor_archive_keeps_is_refused_by_name() {
    let mut app = TestApp::open();
    let old = Old::new(app.at(0));
    for (seq, days) in [(1, 500), (2, 100), (3, 0)] {
        let ts = old.base.plus_us(-days * DAY_US);
        old.put("m", "telemetry", ts.plus_us(300_000), &telemetry("m", ts, seq, 750.0));
    }
    let bucket = old.path("bucket");
    let import = Import::of(&app);
    app.restart_while(|| {
        let run = |more: &[&str]| -> Value {
            let mut command = import.command(&[&["--raw", bucket.as_str()][..], more].concat());
            let done = command.env("IOT_METER__RETENTION__RAW_DAYS", "30").output().unwrap();
            serde_json::from_slice(&done.stdout).unwrap()
        };
        for report in [run(&["--dry-run"]), run(&[])] {
            assert_eq!(counts(&report, "raw"), [3, 2, 0, 1], "{report:#}");
            assert_eq!(report["kinds"]["raw"]["refused"], json!({"older_than_raw_retention": 1}));
            assert_eq!(report["kinds"]["raw"]["archive_only"], 0);
        }
        assert_eq!(counts(&run(&[]), "raw"), [3, 0, 2, 1], "the database has it, though the archive does not");
    });
    let raw = app.api.get("/api/devices/m/raw-data?limit=10").expect(200).json();
    assert_eq!(raw.as_array().unwrap().len(), 1, "{raw:#}");
}

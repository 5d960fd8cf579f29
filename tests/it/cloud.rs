//! The archive in an object store: written, read back, and away for a while.

mod process;

use crate::support::cloud::{Bucket, Kind, Mood};
use crate::support::{Api, Client, Connect, TestApp, telemetry};

/// The tests of this file on each kind of store.
macro_rules! on_every_store {
    ($($test:ident)*) => {
        mod s3 {
            $(#[test] fn $test() { super::$test(super::Kind::S3); })*
        }
        #[cfg(feature = "azure")]
        mod azure {
            $(#[test] fn $test() { super::$test(super::Kind::Azure); })*
        }
        #[cfg(feature = "gcs")]
        mod google {
            $(#[test] fn $test() { super::$test(super::Kind::Google); })*
        }
    };
}

on_every_store! {
    messages_are_archived_in_a_bucket_and_read_back_from_there
    a_bucket_that_fails_or_is_away_stops_neither_intake_nor_recent_data_and_is_filled_later
    a_bucket_that_refuses_the_key_is_reported_without_the_key
    firmware_lies_in_the_bucket_and_is_read_in_ranges_from_there
    history_is_the_same_from_there_and_a_store_that_is_away_is_said
    the_readmes_settings_archive_soundly
}

/// An open server that archives into `bucket` every second.
fn app(bucket: &Bucket, folder: &str) -> TestApp {
    let builder = TestApp::builder().open().set("archive.flush_age_s", "1");
    bucket.settings(folder).iter().fold(builder, |builder, (key, value)| builder.set(key, value)).start()
}

fn send(app: &TestApp, meter: &mut Client, range: std::ops::Range<u32>) {
    for seq in range {
        meter.publish("iot/m1/telemetry", telemetry("m1", app.at(i64::from(seq)), seq, 750.0).as_bytes(), 1);
    }
}

/// Where the archiver is, and what is durable.
fn positions(api: &Api) -> (u64, u64) {
    let status = api.get("/api/system/status").expect(200).json();
    (status["archiver"]["position"].as_u64().unwrap(), status["journal"]["durable"].as_u64().unwrap())
}

fn raw(app: &TestApp) -> Vec<String> {
    let list = app.api.get("/api/devices/m1/raw-data?limit=1000").expect(200).json();
    let names = list.as_array().unwrap().iter().map(|e| e["filename"].as_str().unwrap().to_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names.dedup();
    names
}

/// The thirty newest messages: names and bytes.
fn newest_thirty(app: &TestApp) -> Vec<(String, String)> {
    let list = app.api.get("/api/devices/m1/raw-data?limit=30").expect(200).json();
    let names = list.as_array().unwrap().iter().map(|entry| entry["filename"].as_str().unwrap().to_owned());
    let read = |name: String| {
        let bytes = app.api.get(&format!("/api/devices/m1/raw-data/{name}")).expect(200).text();
        (name, bytes)
    };
    let newest: Vec<_> = names.map(read).collect();
    assert_eq!(newest.len(), 30);
    newest
}

fn messages_are_archived_in_a_bucket_and_read_back_from_there(kind: Kind) {
    let bucket = Bucket::start(kind);
    let mut app = app(&bucket, "/fleet/north");
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    send(&app, &mut meter, 0..50);
    app.settled();
    app.eventually("everything is archived", || positions(&app.api).0 == 50);
    assert!(!bucket.objects("fleet/north/raw/v1").is_empty(), "below the URL's folder");
    let before = raw(&app);
    assert_eq!(before.len(), 50);
    app.restart();
    assert_eq!(raw(&app), before, "the same names from the bucket");
    let bytes = app.api.get(&format!("/api/devices/m1/raw-data/{}", before[7])).expect(200).text();
    assert_eq!(bytes, telemetry("m1", app.at(7), 7, 750.0));
}

fn a_bucket_that_fails_or_is_away_stops_neither_intake_nor_recent_data_and_is_filled_later(kind: Kind) {
    let bucket = Bucket::start(kind);
    let app = app(&bucket, "");
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    send(&app, &mut meter, 0..20);
    app.eventually("the first are archived", || positions(&app.api).0 == 20);
    let mut sent = 20;
    for mood in [Mood::Failing, Mood::Away] {
        bucket.be(mood);
        send(&app, &mut meter, sent..sent + 30);
        sent += 30;
        app.settled();
        app.eventually("readiness names the archive", || {
            app.api.get("/readyz").json()["checks"]["archiver"].as_str().is_some_and(|why| why.contains("archive"))
        });
        assert_eq!(app.values("m1", "voltage_dc").len(), sent as usize, "stored all the same");
        let (archived, durable) = positions(&app.api);
        assert!(archived < durable, "nothing is taken for archived: {archived} of {durable}");
        let newest = newest_thirty(&app);
        let problem = app.api.get("/api/devices/m1/raw-data?limit=31").expect(503).json();
        assert!(problem["detail"].as_str().unwrap().contains("archive"), "no part for the whole: {problem}");
        bucket.be(Mood::Well);
        app.eventually("the rest is archived", || positions(&app.api).0 == u64::from(sent));
        assert_eq!(newest_thirty(&app), newest, "the same from the bucket");
    }
    assert_eq!(raw(&app).len(), sent as usize, "each once");
    assert_eq!(app.api.get("/readyz").status, 200);
}

fn a_bucket_that_refuses_the_key_is_reported_without_the_key(kind: Kind) {
    let bucket = Bucket::start(kind);
    let builder = TestApp::builder().open().set("archive.flush_age_s", "1");
    let wrong = bucket.wrong_secret();
    let builder = bucket.settings("").iter().fold(builder, |builder, (key, value)| match key.as_str() {
        "archive.secret_access_key" => builder.set(key, &wrong),
        _ => builder.set(key, value),
    });
    let app = builder.start();
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    send(&app, &mut meter, 0..5);
    app.eventually("readiness names the archive", || app.api.get("/readyz").json()["checks"]["archiver"].is_string());
    let some_of_it = &wrong[wrong.len() / 3..][..8];
    for path in ["/readyz", "/api/system/status", "/metrics"] {
        assert!(!app.api.get(path).text().contains(some_of_it), "{path}");
    }
    app.settled();
    assert_eq!(app.values("m1", "voltage_dc").len(), 5);
}

fn firmware_lies_in_the_bucket_and_is_read_in_ranges_from_there(kind: Kind) {
    let bucket = Bucket::start(kind);
    let mut app = app(&bucket, "/fleet/north");
    // More than one part of an upload.
    let bytes: Vec<u8> = (0..9_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 9) as u8).collect();
    let parts: [(&str, &[u8]); 3] = [("version", b"2.0.0"), ("device_type", b"dc750"), ("file", &bytes)];
    let made = crate::firmware::upload(&app.api, &parts).expect(201).json();
    assert_eq!(bucket.objects("fleet/north/firmware").len(), 1);
    app.restart();
    let path = format!("/api/firmware/{}", made["id"]);
    let download = format!("{path}/download");
    let part = app.api.send("GET", &download, &[("Range", "bytes=8388600-8388619")], None).expect(206);
    assert!(part.body == bytes[8_388_600..8_388_620]);
    assert!(app.api.get(&download).expect(200).body == bytes);
    app.api.delete(&path).expect(200);
    assert!(bucket.objects("fleet/north/firmware").is_empty());
}

fn history_is_the_same_from_there_and_a_store_that_is_away_is_said(kind: Kind) {
    crate::history::check_bucket(kind);
}

fn the_readmes_settings_archive_soundly(kind: Kind) {
    process::the_readmes_settings_archive_soundly(kind);
}

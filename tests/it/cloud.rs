//! The archive in an object store: written, read back, and away for a while.

use crate::support::s3::{Mood, S3};
use crate::support::{Client, Connect, TestApp, telemetry};

/// An open server that archives into `s3` every second.
fn app(s3: &S3, folder: &str) -> TestApp {
    let builder = TestApp::builder().open().set("archive.flush_age_s", "1");
    s3.settings(folder).iter().fold(builder, |builder, (key, value)| builder.set(key, value)).start()
}

fn send(app: &TestApp, meter: &mut Client, range: std::ops::Range<u32>) {
    for seq in range {
        meter.publish("iot/m1/telemetry", telemetry("m1", app.at(i64::from(seq)), seq, 750.0).as_bytes(), 1);
    }
}

/// Where the archiver is, and what is durable.
fn positions(app: &TestApp) -> (u64, u64) {
    let status = app.api.get("/api/system/status").expect(200).json();
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

#[test]
fn messages_are_archived_in_a_bucket_and_read_back_from_there() {
    let s3 = S3::start();
    let mut app = app(&s3, "/fleet/north");
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    send(&app, &mut meter, 0..50);
    app.settled();
    app.eventually("everything is archived", || positions(&app).0 == 50);
    assert!(!s3.objects("fleet/north/raw/v1").is_empty(), "below the URL's folder");
    let before = raw(&app);
    assert_eq!(before.len(), 50);
    app.restart();
    assert_eq!(raw(&app), before, "the same names from the bucket");
    let bytes = app.api.get(&format!("/api/devices/m1/raw-data/{}", before[7])).expect(200).text();
    assert_eq!(bytes, telemetry("m1", app.at(7), 7, 750.0));
}

#[test]
fn a_bucket_that_fails_or_is_away_stops_neither_intake_nor_recent_data_and_is_filled_later() {
    let s3 = S3::start();
    let app = app(&s3, "");
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    send(&app, &mut meter, 0..20);
    app.eventually("the first are archived", || positions(&app).0 == 20);
    let mut sent = 20;
    for mood in [Mood::Failing, Mood::Away] {
        s3.be(mood);
        send(&app, &mut meter, sent..sent + 30);
        sent += 30;
        app.settled();
        app.eventually("readiness names the archive", || {
            app.api.get("/readyz").json()["checks"]["archiver"].as_str().is_some_and(|why| why.contains("archive"))
        });
        assert_eq!(app.values("m1", "voltage_dc").len(), sent as usize, "stored all the same");
        let (archived, durable) = positions(&app);
        assert!(archived < durable, "nothing is taken for archived: {archived} of {durable}");
        s3.be(Mood::Well);
        app.eventually("the rest is archived", || positions(&app).0 == u64::from(sent));
    }
    assert_eq!(raw(&app).len(), sent as usize, "each once");
    assert_eq!(app.api.get("/readyz").status, 200);
}

#[test]
fn a_bucket_that_refuses_the_key_is_reported_without_the_key() {
    let s3 = S3::start();
    let builder = TestApp::builder().open().set("archive.flush_age_s", "1");
    let builder = s3.settings("").iter().fold(builder, |builder, (key, value)| match key.as_str() {
        "archive.secret_access_key" => builder.set(key, "guessed-secret"),
        _ => builder.set(key, value),
    });
    let app = builder.start();
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    send(&app, &mut meter, 0..5);
    app.eventually("readiness names the archive", || app.api.get("/readyz").json()["checks"]["archiver"].is_string());
    for path in ["/readyz", "/api/system/status", "/metrics"] {
        assert!(!app.api.get(path).text().contains("guessed-secret"), "{path}");
    }
    app.settled();
    assert_eq!(app.values("m1", "voltage_dc").len(), 5);
}

#[test]
fn firmware_lies_in_the_bucket_and_is_read_in_ranges_from_there() {
    let s3 = S3::start();
    let mut app = app(&s3, "/fleet/north");
    // More than one part of an upload.
    let bytes: Vec<u8> = (0..9_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 9) as u8).collect();
    let parts: [(&str, &[u8]); 3] = [("version", b"2.0.0"), ("device_type", b"dc750"), ("file", &bytes)];
    let made = crate::firmware::upload(&app.api, &parts).expect(201).json();
    assert_eq!(s3.objects("fleet/north/firmware").len(), 1);
    app.restart();
    let path = format!("/api/firmware/{}", made["id"]);
    let download = format!("{path}/download");
    let part = app.api.send("GET", &download, &[("Range", "bytes=8388600-8388619")], None).expect(206);
    assert!(part.body == bytes[8_388_600..8_388_620]);
    assert!(app.api.get(&download).expect(200).body == bytes);
    app.api.delete(&path).expect(200);
    assert!(s3.objects("fleet/north/firmware").is_empty());
}

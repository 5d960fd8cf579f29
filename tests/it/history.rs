//! One history over database and archive, and the archive's upkeep, through the whole server and the command line.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use iot_meter::domain::Timestamp;

use crate::support::process::{Server, command};
use crate::support::{Api, Client, Connect, TestApp, eventually, telemetry};

const START: &str = "2026-02-12T10:00:00Z";
/// Messages, and how far apart.
const COUNT: u32 = 40;
const APART_S: i64 = 1200;

/// A server that keeps a day in the database, at a clock that stands still.
fn builder() -> crate::support::Builder {
    let builder = TestApp::builder().open().clock(START).set("archive.flush_age_s", "1");
    builder.set("retention.telemetry_days", "1").set("archive.upkeep_s", "1")
}

fn archiver(api: &Api) -> serde_json::Value {
    api.get("/api/system/status").expect(200).json()["archiver"].take()
}

fn archived(api: &Api) -> u64 {
    archiver(api)["position"].as_u64().unwrap()
}

/// Sends a message every twenty minutes, each into an object of its own; two of them late, one twice.
fn fill(app: &TestApp) {
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    let mut sent = 0;
    let mut send = |meter: &mut Client, ts: Timestamp, seq: u32| {
        let payload = telemetry("m1", ts, seq, 700.0 + f64::from(seq));
        meter.publish("iot/m1/telemetry", payload.as_bytes(), 1);
        sent += 1;
        let mut is_moved = false;
        app.eventually("those before it are archived", || {
            // What is read only after the clock was moved grows old when it is moved again.
            if !is_moved && archiver(&app.api)["lag_s"].as_f64().unwrap() > 0.0 {
                app.pass_s(1);
                is_moved = true;
            }
            archived(&app.api) + 1 >= sent
        });
        app.settled();
    };
    for seq in 0..COUNT {
        let late_s = if seq % 15 == 7 { 20_000 } else { 0 };
        let ts = app.now().plus_us(-late_s * 1_000_000 - 5);
        send(&mut meter, ts, seq);
        if seq == 9 {
            app.pass_s(5);
            send(&mut meter, ts, seq);
        }
        app.pass_s(APART_S);
    }
}

fn rows_stored(app: &TestApp) -> usize {
    let id = iot_meter::domain::DeviceId::parse("m1").unwrap();
    let mut count = 0;
    let mut each = |_| {
        count += 1;
        std::ops::ControlFlow::Continue(())
    };
    app.store().scan_telemetry(&id, Timestamp(0), Timestamp(i64::MAX / 2), &mut each).unwrap();
    count
}

/// What is asked for before and after.
fn answers(app: &TestApp) -> Vec<String> {
    let range = "start=2026-02-11T00:00:00Z&stop=2026-02-14T00:00:00Z";
    let queries = [
        format!("metrics?{range}"),
        format!("metrics?{range}&metric=voltage_dc&format=csv"),
        format!("metrics?{range}&metric=voltage_dc&every=1h&fn=mean&format=ndjson"),
        format!("metrics?{range}&metric=voltage_dc&max_points=10"),
        "metrics?start=2026-02-12T05:30:00Z&stop=2026-02-12T12:00:00Z&format=ndjson".to_owned(),
        "raw-data?limit=1000".to_owned(),
    ];
    queries.iter().map(|q| app.api.get(&format!("/api/devices/m1/{q}")).expect(200).text()).collect()
}

fn latest(app: &TestApp) -> (String, f64) {
    let latest = app.api.get("/api/devices/m1/latest").expect(200).json();
    (latest[0]["time"].as_str().unwrap().to_owned(), latest[0]["value"].as_f64().unwrap())
}

/// Days later, with nothing of it in the database.
fn outlive(app: &mut TestApp) {
    app.restart_after_s(3 * 86_400);
    app.eventually("the database is trimmed", || rows_stored(app) == 0);
}

fn check_that_nothing_changes(mut app: TestApp) {
    fill(&app);
    assert_eq!(rows_stored(&app), COUNT as usize);
    let (before, newest) = (answers(&app), latest(&app));
    assert_eq!(before[1].lines().count(), COUNT as usize + 1);
    outlive(&mut app);
    for (after, before) in answers(&app).iter().zip(&before) {
        assert_eq!(after, before);
    }
    assert_eq!(latest(&app), newest);
    // A device nobody has heard of has no history either.
    app.api.get("/api/devices/m2/metrics?start=2026-02-11T00:00:00Z").expect(404);
}

#[test]
fn answers_are_the_same_when_the_database_no_longer_has_the_data() {
    check_that_nothing_changes(builder().start());
}

#[cfg(feature = "s3-tests")]
pub fn check_bucket(kind: crate::support::cloud::Kind) {
    use crate::support::cloud::{Bucket, Mood};
    let start = |bucket: &Bucket, folder: &str| {
        bucket.settings(folder).iter().fold(builder(), |builder, (key, value)| builder.set(key, value)).start()
    };
    let bucket = Bucket::start(kind);
    check_that_nothing_changes(start(&bucket, "/fleet"));
    let mut app = start(&bucket, "/another");
    fill(&app);
    outlive(&mut app);
    // One an hour, named also by its times. (The others stay beside: by the test's clock all is written in the future.)
    let is_whole = |object: &&String| object.rsplit('/').next().is_some_and(|name| name.split('-').count() > 8);
    app.eventually("small objects are put together", || {
        let objects = bucket.objects("another/raw/v1");
        objects.iter().filter(is_whole).count() as i64 == i64::from(COUNT) * APART_S / 3600 + 1
    });
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    meter.publish("iot/m1/telemetry", telemetry("m1", app.now(), 99, 1.0).as_bytes(), 1);
    app.settled();
    bucket.be(Mood::Away);
    let problem = app.api.get("/api/devices/m1/metrics?start=2026-02-11T00:00:00Z").expect(503).json();
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("archive") && detail.contains("later start"), "{detail}");
    let of_m1 = |query: &str| app.api.get(&format!("/api/devices/m1/metrics?metric=voltage_dc&{query}")).expect(200);
    let recent = of_m1("start=-1h&stop=2026-03-01T00:00:00Z").json();
    assert_eq!(recent.as_array().unwrap().len(), 1, "{recent}");
    bucket.be(Mood::Well);
    let all = of_m1("start=2026-02-11T00:00:00Z&stop=2026-03-01T00:00:00Z&format=ndjson");
    assert_eq!(all.text().lines().count(), COUNT as usize + 1);
}

#[test]
fn what_was_purged_does_not_come_back_with_the_device() {
    let mut app = builder().start();
    fill(&app);
    outlive(&mut app);
    let all = "/api/devices/m1/metrics?metric=voltage_dc&start=2026-02-11T00:00:00Z&stop=2026-02-14T00:00:00Z";
    assert_eq!(app.api.get(all).expect(200).json().as_array().unwrap().len(), COUNT as usize);
    app.api.delete("/api/devices/m1?purge=true").expect(200);
    app.register("m1");
    assert_eq!(app.api.get(all).expect(200).json().as_array().unwrap().len(), 0);
}

#[test]
fn raw_data_end_where_their_retention_ends_and_so_does_history() {
    let mut app = builder().set("retention.raw_days", "2").start();
    fill(&app);
    app.restart_after_s(86_400);
    let dates = |app: &TestApp| {
        let days = std::fs::read_dir(app.data_dir().join("archive/raw/v1")).unwrap();
        days.map(|day| day.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>().len()
    };
    assert_eq!(dates(&app), 1, "all within a day of messages every twenty minutes");
    outlive(&mut app);
    app.eventually("the day is deleted", || dates(&app) == 0);
    let text = app.api.get("/metrics").expect(200).text();
    assert!(text.contains("iot_meter_archive_removed_total{why=\"expired\"}"), "{text}");
    let all = "/api/devices/m1/metrics?metric=voltage_dc&start=2026-02-11T00:00:00Z&stop=2026-02-14T00:00:00Z";
    assert_eq!(app.api.get(all).expect(200).json().as_array().unwrap().len(), 0);
}

fn archive(data_dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_iot-meter"));
    command.arg("archive").args(args).arg("--data-dir").arg(data_dir).stdin(Stdio::null());
    command.current_dir(std::env::temp_dir()).output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}{}", text_of(&output.stdout), text_of(&output.stderr));
    text_of(&output.stdout)
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_command_line_lists_shows_exports_and_verifies_beside_a_running_server() {
    let app = builder().start();
    fill(&app);
    app.eventually("everything is archived", || {
        app.pass_s(5);
        archived(&app.api) > u64::from(COUNT)
    });
    let dir = app.data_dir().to_owned();
    let days: serde_json::Value = serde_json::from_str(&text(&archive(&dir, &["ls", "--output", "json"]))).unwrap();
    let messages: u64 = days.as_array().unwrap().iter().map(|day| day["messages"].as_u64().unwrap()).sum();
    assert_eq!(messages, u64::from(COUNT) + 1, "{days}");
    let objects = text(&archive(&dir, &["ls", "--date", "2026-02-12", "--device", "m1", "--category", "telemetry"]));
    assert!(objects.contains(".parquet") && objects.contains("RECEIVED FROM"), "{objects}");
    assert_eq!(text(&archive(&dir, &["ls", "--objects", "--device", "m2"])).lines().count(), 1, "the head alone");
    // One message, byte by byte, and many.
    let listed = app.api.get("/api/devices/m1/raw-data?limit=1").expect(200).json();
    let name = listed[0]["filename"].as_str().unwrap();
    let bytes = app.api.get(&format!("/api/devices/m1/raw-data/{name}")).expect(200).text();
    assert_eq!(text(&archive(&dir, &["cat", name])), bytes);
    let lines = text(&archive(&dir, &["cat", "--device", "m1", "--from", START, "--category", "telemetry"]));
    assert_eq!(lines.lines().count(), COUNT as usize + 1);
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!((first["device_id"].as_str(), first["seq"].as_u64()), (Some("m1"), Some(0)), "{first}");
    assert!(!archive(&dir, &["cat", "m1/hello/2026-02-12T10-00-00.000000Z-77.json"]).status.success());
    // Measurements, as the API has them.
    let range = ["--from", "2026-02-11", "--to", "2026-02-14"];
    let out = dir.join("x.csv");
    let export = |out: &Path, more: &[&str]| {
        let out = out.to_str().unwrap();
        archive(
            &dir,
            &[&["export", "--device", "m1", "--metric", "voltage_dc", "--out", out], &range[..], more].concat(),
        )
    };
    text(&export(&out, &[]));
    let query =
        "/api/devices/m1/metrics?start=2026-02-11T00:00:00Z&stop=2026-02-14T00:00:00Z&metric=voltage_dc&format=csv";
    assert_eq!(std::fs::read_to_string(&out).unwrap(), app.api.get(query).expect(200).text());
    assert!(text_of(&export(&out, &[]).stderr).contains("--force"));
    text(&export(&dir.join("x.parquet"), &[]));
    assert!(std::fs::read(dir.join("x.parquet")).unwrap().starts_with(b"PAR1"));
    assert_eq!(text(&export(Path::new("-"), &["--format", "ndjson"])).lines().count(), COUNT as usize);
    // Sound; then one object is damaged and one is taken away.
    let report: serde_json::Value =
        serde_json::from_str(&text(&archive(&dir, &["verify", "--output", "json"]))).unwrap();
    assert_eq!((report["is_sound"].as_bool(), report["messages"].as_u64()), (Some(true), Some(u64::from(COUNT) + 1)));
    break_two(&dir);
    let broken = archive(&dir, &["verify"]);
    assert_eq!(broken.status.code(), Some(1));
    let said = text_of(&broken.stdout);
    assert!(said.contains("is damaged") && said.contains("are missing") && said.contains("not sound"), "{said}");
}

/// Objects that are to be read, by name.
fn objects(dir: &Path) -> Vec<std::path::PathBuf> {
    let listed: serde_json::Value =
        serde_json::from_str(&text(&archive(dir, &["ls", "--objects", "--output", "json"]))).unwrap();
    let keys = listed.as_array().unwrap().iter().map(|object| object["key"].as_str().unwrap().to_owned());
    keys.map(|key| dir.join("archive").join(key)).collect()
}

/// Damages one object and removes another, with whatever they were put together from.
fn break_two(dir: &Path) {
    let all = objects(dir);
    for hour in [&all[2], &all[4]] {
        for entry in std::fs::read_dir(hour.parent().unwrap()).unwrap() {
            let path = entry.unwrap().path();
            if path != *hour {
                std::fs::remove_file(path).unwrap();
            }
        }
    }
    let mut bytes = std::fs::read(&all[2]).unwrap();
    bytes[8..40].iter_mut().for_each(|byte| *byte ^= 0xFF);
    std::fs::write(&all[2], bytes).unwrap();
    std::fs::remove_file(&all[4]).unwrap();
}

#[test]
fn a_server_killed_while_it_puts_objects_together_loses_and_doubles_nothing() {
    // Many small objects of hours long past.
    let mut app = builder().set("archive.compact", "false").start();
    fill(&app);
    let dir = app.data_dir().to_owned();
    let names = |api: &Api| {
        let list = api.get("/api/devices/m1/raw-data?limit=1000").expect(200).json();
        list.as_array().unwrap().iter().map(|e| e["filename"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let expected = names(&app.api);
    assert_eq!(expected.len(), COUNT as usize + 1);
    app.restart_while(|| {
        let before = objects(&dir).len();
        assert!(before > 20, "{before} objects");
        for round in 0..12u64 {
            let mut command = command(&dir);
            command.env("IOT_METER__ARCHIVE__UPKEEP_S", "1").env("IOT_METER__ARCHIVE__FLUSH_AGE_S", "1");
            let server = Server::start_with(&mut command, &dir);
            assert_eq!(names(&server.api), expected, "round {round}");
            std::thread::sleep(std::time::Duration::from_millis(round * 37 % 400));
            server.kill();
            assert_eq!(text(&archive(&dir, &["cat"])).lines().count(), COUNT as usize + 1, "round {round}");
            text(&archive(&dir, &["verify"]));
        }
        let mut command = command(&dir);
        command.env("IOT_METER__ARCHIVE__UPKEEP_S", "1");
        let server = Server::start_with(&mut command, &dir);
        let files = || files_below(&dir.join("archive/raw"));
        eventually("one object an hour is left", || files() == objects(&dir).len() && files() < before);
        assert_eq!(names(&server.api), expected);
        assert_eq!(server.terminate(), Some(0));
        let report = text(&archive(&dir, &["verify"]));
        assert!(report.contains(&format!("sound: {} messages", COUNT + 1)), "{report}");
    });
}

fn files_below(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { files_below(&path) } else { 1 }).sum()
}

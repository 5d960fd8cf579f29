//! Backups of Postgres: one snapshot into an empty database, and the recipe with `pg_dump` as the README has it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::backup::{Desk, PAUSE, good, refused, run, run_on};
use crate::crash::{publish_paced, stored};
use crate::support::postgres::Server as Postgres;
use crate::support::process::{Server, command};
use crate::support::{Client, Connect, an_hour_ago, settled, telemetry};

fn start(data: &Path, url: &str) -> Server {
    Server::start_with(command(data).env("IOT_METER__DATABASE__URL", url), data)
}

fn say(meter: &mut Client, device: &str, numbers: std::ops::Range<u32>, base: iot_meter::domain::Timestamp) {
    for seq in numbers {
        let ts = base.plus_us(i64::from(seq) * 1000);
        let payload = telemetry(device, ts, seq, f64::from(seq) / 3.0);
        meter.publish(&format!("iot/{device}/telemetry"), payload.as_bytes(), 1);
    }
}

/// A digest of every row of every table, but for what a running server changes all the time.
fn digest(postgres: &Postgres, url: &str, table: &str) -> String {
    postgres
        .query(url, &format!("SELECT md5(string_agg(t::text, E'\\n' ORDER BY t::text)), count(*) FROM {table} AS t"))
}

#[test]
fn a_backup_of_postgres_under_load_goes_into_an_empty_database() {
    let (desk, postgres, base) = (Desk::new(), Postgres::shared(), an_hour_ago());
    let (url, target) = (postgres.database(), postgres.database());
    let server = start(&desk.path("data"), &url);
    let stop = Arc::new(AtomicBool::new(false));
    let (meter, _) = Client::connect(server.mqtt, &Connect::id("load").persistent());
    let load = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || publish_paced(meter, "load", &mut 0, base, PAUSE, &stop))
    };
    let (mut calm, _) = Client::connect(server.mqtt, &Connect::id("calm"));
    say(&mut calm, "calm", 0..50, base);
    let (data, pass, file) = (desk.text("data"), desk.text("pass"), desk.text("b.tar.zst"));
    good(&run_on(Some(&url), &["backup", "--data-dir", &data, "--passphrase-file", &pass, &file, "--with-telemetry"]));
    let new = desk.text("new");
    let restore =
        |url: &str| run(&["restore", "--data-dir", &new, "--database-url", url, "--passphrase-file", &pass, &file]);
    assert!(refused(&restore(&url)).contains("not empty: it has the table devices"));
    let sqlite = run(&["restore", "--data-dir", &new, "--passphrase-file", &pass, &file]);
    assert!(refused(&sqlite).contains("of the same kind"));
    assert!(!desk.path("new").exists());
    good(&restore(&target));
    let restored = start(&desk.path("new"), &target);
    settled(&restored.api);
    assert_eq!(stored(&restored, "calm", base), (0..50).collect::<Vec<_>>());
    let loaded = stored(&restored, "load", base);
    assert_eq!(loaded, (0..i64::try_from(loaded.len()).unwrap()).collect::<Vec<_>>(), "once, and without a hole");
    // New numbers go on behind the old ones, and the log of audits is a whole chain.
    let device = serde_json::json!({"device_id": "m9", "device_name": "M", "device_type": "meter"});
    restored.api.post("/api/devices", &device).expect(201);
    good(&run_on(Some(&target), &["audit", "verify", "--data-dir", &new]));
    let (mut calm_again, _) = Client::connect(restored.mqtt, &Connect::id("calm"));
    say(&mut calm_again, "calm", 50..60, base);
    settled(&restored.api);
    assert_eq!(stored(&restored, "calm", base), (0..60).collect::<Vec<_>>());
    stop.store(true, Ordering::Relaxed);
    assert!(load.join().unwrap().len() > 100);
    assert_eq!((server.terminate(), restored.terminate()), (Some(0), Some(0)));
}

#[test]
fn every_row_comes_back_to_the_bit() {
    let (desk, postgres, base) = (Desk::new(), Postgres::shared(), an_hour_ago());
    let (url, target) = (postgres.database(), postgres.database());
    let server = start(&desk.path("data"), &url);
    let rule = serde_json::json!({"name": "any", "metric": "voltage_dc", "op": "gt", "threshold": 0.1});
    server.api.post("/api/rules", &rule).expect(201);
    let (mut meter, _) = Client::connect(server.mqtt, &Connect::id("m1"));
    say(&mut meter, "m1", 0..200, base);
    for value in ["-0.0", "1e-300", "0.1", "123456789.123456789", "1e22"] {
        let payload = format!(
            r#"{{"ts":"{}","seq":{},"samples":[{{"ts":"{}","voltage_dc":{value},"odd_metric":{value}}}]}}"#,
            base.plus_us(1),
            value.len() + 5000,
            base.plus_us(1)
        );
        meter.publish("iot/m1/telemetry", payload.as_bytes(), 1);
    }
    let nul = telemetry("m1", base.plus_us(2), 4000, 1.0).replace(r#""unit":"A""#, r#""unit":"\u0000""#);
    meter.publish("iot/m1/telemetry", nul.as_bytes(), 1);
    settled(&server.api);
    assert_eq!(server.terminate(), Some(0));
    let (data, file, new) = (desk.text("data"), desk.text("b.tar.zst"), desk.text("new"));
    good(&run_on(Some(&url), &["backup", "--data-dir", &data, "--without-secrets", &file, "--with-telemetry"]));
    // Somebody's own table is none of ours.
    postgres.query(&url, "CREATE TABLE aaa_notes (text text); INSERT INTO aaa_notes VALUES ('mine')");
    let second = desk.text("second.tar.zst");
    good(&run_on(Some(&url), &["backup", "--data-dir", &data, "--without-secrets", &second, "--with-telemetry"]));
    let restored = run(&["restore", "--data-dir", &new, "--database-url", &target, &second]);
    good(&restored);
    assert!(String::from_utf8_lossy(&restored.stdout).contains("aaa_notes"));
    let tables = postgres.query(
        &target,
        "SELECT string_agg(relname, ' ') FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition \
         AND relnamespace = 'public'::regnamespace",
    );
    assert!(tables.contains("telemetry") && tables.contains("audit_anchor"), "{tables}");
    let is_compared =
        |table: &&str| !table.starts_with("__diesel") && !["nodes", "device_sessions", "live_changes"].contains(table);
    for table in tables.split(' ').filter(is_compared) {
        assert_eq!(digest(postgres, &target, table), digest(postgres, &url, table), "{table}");
    }
    let shown = postgres.query(&target, "SELECT other FROM readings WHERE seq = 4000");
    assert_eq!(shown, r#"{ "current_dc" : 100.0 }"#);
    let triggers = "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'O'";
    assert_eq!(postgres.query(&target, triggers), "0");
}

#[test]
fn a_database_restored_without_measurements_knows_that_the_archive_has_them() {
    let (desk, postgres, base) = (Desk::new(), Postgres::shared(), an_hour_ago());
    let (url, target) = (postgres.database(), postgres.database());
    let server = start(&desk.path("data"), &url);
    let (mut meter, _) = Client::connect(server.mqtt, &Connect::id("m1"));
    say(&mut meter, "m1", 0..200, base);
    settled(&server.api);
    let hours =
        format!("/api/devices/m1/metrics?metric=voltage_dc&start={base}&stop=now()&every=1h&fn=count&format=csv");
    let before = server.api.get(&hours).expect(200).text();
    assert_eq!(before.lines().count(), 2, "{before}");
    assert_eq!(server.terminate(), Some(0));
    let (data, file, new) = (desk.text("data"), desk.text("b.tar.zst"), desk.text("new"));
    good(&run_on(Some(&url), &["backup", "--data-dir", &data, "--without-secrets", &file]));
    good(&run(&["restore", "--data-dir", &new, "--database-url", &target, &file]));
    assert_eq!(postgres.query(&target, "SELECT count(*) FROM telemetry"), "0");
    assert_eq!(postgres.query(&target, "SELECT count(*) FROM nodes"), "0");
    let restored = start(&desk.path("new"), &target);
    assert_eq!(stored(&restored, "m1", base), (0..200).collect::<Vec<_>>());
    assert_eq!(restored.api.get(&hours).expect(200).text(), before);
    assert_eq!(restored.terminate(), Some(0));
}

#[test]
fn a_restore_into_postgres_that_is_killed_leaves_an_empty_database() {
    let (desk, postgres, base) = (Desk::new(), Postgres::shared(), an_hour_ago());
    let (url, target) = (postgres.database(), postgres.database());
    let server = start(&desk.path("data"), &url);
    let (mut meter, _) = Client::connect(server.mqtt, &Connect::id("m1"));
    say(&mut meter, "m1", 0..50, base);
    settled(&server.api);
    assert_eq!(server.terminate(), Some(0));
    let (data, file, new) = (desk.text("data"), desk.text("b.tar.zst"), desk.text("new"));
    good(&run_on(Some(&url), &["backup", "--data-dir", &data, "--without-secrets", &file, "--with-telemetry"]));
    // It waits for whoever migrates: then it is in the middle.
    let lock = 0x0069_6f74_2d6d_6574_i64;
    let count = |what: &str| {
        let locks = "SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database \
                     WHERE d.datname = current_database()";
        postgres.query(&target, &format!("{locks} AND {what}"))
    };
    let mut holder = Command::new("psql")
        .args(["-X", "-q", "-d", &target, "-c", &format!("SELECT pg_advisory_lock({lock}); SELECT pg_sleep(600)")])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    crate::support::eventually("the lock is held", || count("l.locktype = 'advisory' AND l.granted") == "1");
    let mut child = Command::new(env!("CARGO_BIN_EXE_iot-meter"))
        .args(["restore", "--data-dir", &new, "--database-url", &target, &file])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    crate::support::eventually("the restore waits", || count("l.locktype = 'advisory' AND NOT l.granted") == "1");
    child.kill().unwrap();
    child.wait().unwrap();
    holder.kill().unwrap();
    holder.wait().unwrap();
    postgres.query(&target, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()");
    let tables = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace";
    assert_eq!(postgres.query(&target, tables), "0");
    let started = command(&desk.path("new")).stderr(Stdio::piped()).output().unwrap();
    assert!(refused(&started).contains("cut short"));
}

/// The shell lines of the README between a marker and the end of the block.
fn recipe(marker: &str) -> String {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let block = readme.split("```sh\n").find(|block| block.starts_with(marker)).expect("the README has the recipe");
    block.split("```").next().unwrap().to_owned()
}

#[test]
fn the_recipe_of_the_readme_brings_a_database_back() {
    let (desk, postgres, base) = (Desk::new(), Postgres::shared(), an_hour_ago());
    let (url, target) = (postgres.database(), postgres.database());
    let server = start(&desk.path("data"), &url);
    let (mut meter, _) = Client::connect(server.mqtt, &Connect::id("m1"));
    say(&mut meter, "m1", 0..300, base);
    settled(&server.api);
    let shell = |script: &str| {
        let bin = postgres.programs().display().to_string();
        let path = format!(
            "{}:{bin}:{}",
            Path::new(env!("CARGO_BIN_EXE_iot-meter")).parent().unwrap().display(),
            std::env::var("PATH").unwrap()
        );
        let done = Command::new("sh")
            .args(["-euc", script])
            .env("PATH", path)
            .env("OLD", &url)
            .env("NEW", &target)
            .env("BACKUPS", desk.path(""))
            .env("DATA", desk.path("data"))
            .env("NEW_DATA", desk.path("new"))
            .current_dir(desk.path(""))
            .output()
            .unwrap();
        good(&done);
    };
    std::fs::copy(desk.path("pass"), desk.path("passphrase")).unwrap();
    shell(&recipe("# Postgres: back up"));
    // What comes after the dump is lost with the machine, but not what came before.
    say(&mut meter, "m1", 300..310, base);
    server.kill();
    shell(&recipe("# Postgres: restore"));
    let restored = start(&desk.path("new"), &target);
    settled(&restored.api);
    let there = stored(&restored, "m1", base);
    assert_eq!(there[..300], (0..300).collect::<Vec<_>>());
    let (mut meter, _) = Client::connect(restored.mqtt, &Connect::id("m1"));
    say(&mut meter, "m1", 400..410, base);
    settled(&restored.api);
    assert_eq!(stored(&restored, "m1", base).len(), there.len() + 10);
    assert_eq!(restored.terminate(), Some(0));
}

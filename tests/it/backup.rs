//! `backup` and `restore` with the real executable: under load, killed, on a full disk, damaged.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::crash::{SmallDisk, publish_paced, stored};
use crate::support::process::{Server, command};
use crate::support::{Api, Client, Connect, an_hour_ago, eventually, settled, telemetry};

const PASSPHRASE: &str = "a passphrase that nobody guesses";
/// After every 32 messages of a load that goes on during a backup: some six hundred a second at most.
pub const PAUSE: Duration = Duration::from_millis(50);

/// The executable with these arguments.
pub fn run(args: &[&str]) -> Output {
    run_on(None, args)
}

/// The same, on this database.
pub fn run_on(url: Option<&str>, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_iot-meter"));
    command.args(args).envs(url.map(|url| ("IOT_METER__DATABASE__URL", url)));
    command.current_dir(std::env::temp_dir()).stdin(Stdio::null()).output().expect("the executable starts")
}

/// What it said when it failed.
pub fn refused(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    said
}

/// It did what it was told.
pub fn good(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A directory to work in.
pub struct Desk {
    dir: tempfile::TempDir,
}

impl Desk {
    pub fn new() -> Self {
        let desk = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::write(desk.path("pass"), format!("{PASSPHRASE}\n")).unwrap();
        desk
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn backup(&self, data: &str, file: &str, more: &[&str]) -> Output {
        let (data, file, pass) = (self.text(data), self.text(file), self.text("pass"));
        let mut args = vec!["backup", "--data-dir", &data, "--passphrase-file", &pass, &file];
        args.extend(more);
        run(&args)
    }

    fn restore(&self, data: &str, file: &str, more: &[&str]) -> Output {
        let (data, file, pass) = (self.text(data), self.text(file), self.text("pass"));
        let mut args = vec!["restore", "--data-dir", &data, "--passphrase-file", &pass, &file];
        args.extend(more);
        run(&args)
    }
}

/// The server with authentication, as it is started by default.
fn closed(data_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_iot-meter"));
    command
        .args([
            "serve",
            "--http-listen",
            "127.0.0.1:0",
            "--mqtt-listen",
            "127.0.0.1:0",
            "--mqtts-listen",
            "127.0.0.1:0",
        ])
        .arg("--data-dir")
        .arg(data_dir)
        .current_dir(std::env::temp_dir())
        .env("IOT_METER__LOG__LEVEL", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// Some messages in a directory at rest.
fn at_rest(desk: &Desk, data: &str) {
    let server = Server::start(&desk.path(data));
    let (mut meter, _) = Client::connect(server.mqtt, &Connect::id("calm"));
    let base = an_hour_ago();
    for seq in 0..20 {
        let ts = base.plus_us(i64::from(seq) * 1_000_000);
        meter.publish("iot/calm/telemetry", telemetry("calm", ts, seq, f64::from(seq)).as_bytes(), 1);
    }
    settled(&server.api);
    assert_eq!(server.terminate(), Some(0));
}

fn is_empty(path: &Path) -> bool {
    std::fs::read_dir(path).map_or(true, |mut items| items.next().is_none())
}

#[test]
fn what_was_acknowledged_before_a_backup_under_load_is_there_once_after_the_restore() {
    let desk = Desk::new();
    let base = an_hour_ago();
    let server = Server::start(&desk.path("data"));
    let stop = Arc::new(AtomicBool::new(false));
    let (meter, _) = Client::connect(server.mqtt, &Connect::id("load").persistent());
    let (mut calm, _) = Client::connect(server.mqtt, &Connect::id("calm"));
    let load = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || publish_paced(meter, "load", &mut 0, base, PAUSE, &stop))
    };
    for round in 0..3 {
        // What `calm` says is acknowledged before the backup begins; the other one never stops.
        for seq in round * 40..round * 40 + 40 {
            let ts = base.plus_us(i64::from(seq) * 1000);
            calm.publish("iot/calm/telemetry", telemetry("calm", ts, seq, f64::from(seq)).as_bytes(), 1);
        }
        let before = 40 * (i64::from(round) + 1);
        let (file, data) = (format!("{round}.tar.zst"), format!("restored-{round}"));
        good(&desk.backup("data", &file, &[]));
        good(&desk.restore(&data, &file, &[]));
        let restored = Server::start(&desk.path(&data));
        // All that the other one has sent meanwhile, too.
        settled(&restored.api);
        assert_eq!(stored(&restored, "calm", base), (0..before).collect::<Vec<_>>(), "round {round}");
        let loaded = stored(&restored, "load", base);
        let unique: BTreeSet<i64> = loaded.iter().copied().collect();
        assert_eq!(unique.len(), loaded.len(), "something is stored twice");
        assert_eq!(unique.last().map_or(0, |last| last + 1), i64::try_from(unique.len()).unwrap(), "a hole");
        // It goes on: what comes now is stored, listed raw, and there after another start.
        let (mut meter, _) = Client::connect(restored.mqtt, &Connect::id("calm"));
        let ts = base.plus_us(before * 1000);
        meter.publish("iot/calm/telemetry", telemetry("calm", ts, 9999, 1.0).as_bytes(), 1);
        settled(&restored.api);
        restored.kill();
        let restored = Server::start(&desk.path(&data));
        settled(&restored.api);
        assert_eq!(stored(&restored, "calm", base), (0..=before).collect::<Vec<_>>(), "round {round}");
        assert_eq!(raw_count(&restored.api, "calm"), before + 1, "round {round}");
        assert_eq!(restored.terminate(), Some(0));
    }
    stop.store(true, Ordering::Relaxed);
    assert!(load.join().unwrap().len() > 100);
    // The original is as it was.
    settled(&server.api);
    assert_eq!(stored(&server, "calm", base), (0..120).collect::<Vec<_>>());
    assert_eq!(server.terminate(), Some(0));
}

/// Messages the archive and the journal have of a device.
fn raw_count(api: &Api, device: &str) -> i64 {
    let list = api.get(&format!("/api/devices/{device}/raw-data?limit=1000")).expect(200).json();
    let list = list.as_array().or_else(|| list["items"].as_array()).cloned().unwrap_or_default();
    let names: BTreeSet<&str> = list.iter().filter_map(|entry| entry["filename"].as_str()).collect();
    assert_eq!(names.len(), list.len(), "something is listed twice");
    i64::try_from(names.len()).unwrap()
}

#[test]
fn keys_tokens_and_certificates_work_after_a_restore() {
    let desk = Desk::new();
    let data = desk.path("data");
    let server = Server::start_with(&mut closed(&data), &data);
    let key = std::fs::read_to_string(data.join("admin.key")).unwrap().trim().to_owned();
    let api = Api::new(server.http, Some(key.clone()));
    let device = serde_json::json!({"device_id": "m1", "device_name": "M", "device_type": "meter"});
    let made = api.post("/api/devices", &device).expect(201).json();
    let token = made["token"].as_str().expect("a token").to_owned();
    let rule = serde_json::json!({"name": "high", "metric": "voltage_dc", "op": "gt", "threshold": 900});
    api.post("/api/rules", &rule).expect(201);
    let rules = api.get("/api/rules").expect(200).json();
    good(&desk.backup("data", "b.tar.zst", &[]));
    let pki = std::fs::read(data.join("pki/ca.pem")).unwrap();
    server.kill();
    assert!(
        refused(&run(&["restore", "--data-dir", &desk.text("new"), &desk.text("b.tar.zst")])).contains("passphrase")
    );
    std::fs::write(desk.path("other"), "another passphrase\n").unwrap();
    let wrong = run(&[
        "restore",
        "--data-dir",
        &desk.text("new"),
        "--passphrase-file",
        &desk.text("other"),
        &desk.text("b.tar.zst"),
    ]);
    assert!(refused(&wrong).contains("not the one"));
    assert!(!desk.path("new").exists(), "nothing was written");
    good(&desk.restore("new", "b.tar.zst", &[]));
    let new = desk.path("new");
    assert_eq!(std::fs::read(new.join("pki/ca.pem")).unwrap(), pki);
    assert_eq!(std::fs::read(new.join("secrets.key")).unwrap(), std::fs::read(data.join("secrets.key")).unwrap());
    assert_eq!(std::fs::read(new.join("node-id")).unwrap(), std::fs::read(data.join("node-id")).unwrap());
    let server = Server::start_with(&mut closed(&new), &new);
    let api = Api::new(server.http, Some(key));
    api.get("/api/devices/m1").expect(200);
    assert_eq!(api.get("/api/rules").expect(200).json(), rules);
    Client::connect(server.mqtt, &Connect::id("m1").login("m1", &token));
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn nothing_is_restored_over_anything_nor_from_a_damaged_or_cut_file() {
    let desk = Desk::new();
    at_rest(&desk, "data");
    good(&desk.backup("data", "b.tar.zst", &[]));
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(desk.path("b.tar.zst")).unwrap().permissions().mode() & 0o777, 0o600);
    good(&run(&["restore", "--check", &desk.text("b.tar.zst")]));
    assert!(refused(&desk.backup("data", "b.tar.zst", &[])).contains("is there already"));
    assert!(refused(&desk.restore("data", "b.tar.zst", &[])).contains("is not empty: it has"));
    let whole = std::fs::read(desk.path("b.tar.zst")).unwrap();
    let content = zstd::decode_all(&whole[..]).unwrap();
    for cut in [0, 10, whole.len() / 3, whole.len() / 2, whole.len() - 1000, whole.len() - 3] {
        std::fs::write(desk.path("cut"), &whole[..cut]).unwrap();
        let said = refused(&desk.restore("new", "cut", &[]));
        assert!(said.contains("is damaged or cut short"), "{cut}: {said}");
        assert!(!desk.path("new").exists(), "{cut}");
    }
    for at in (0..20).map(|n| 30 + n * (whole.len() - 60) / 20) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x40;
        // A bit of the packing that changes nothing of what is in it is no damage.
        if zstd::decode_all(&damaged[..]).is_ok_and(|unpacked| unpacked == content) {
            continue;
        }
        std::fs::write(desk.path("damaged"), &damaged).unwrap();
        refused(&desk.restore("new", "damaged", &[]));
        assert!(!desk.path("new").exists(), "{at}");
    }
    // A file where nothing of it is: SQLite's cannot go into Postgres.
    let other = desk.restore("new", "b.tar.zst", &["--database-url", "postgres://nobody@127.0.0.1:1/x"]);
    let said = String::from_utf8_lossy(&other.stderr);
    let has_postgres = cfg!(feature = "postgres");
    let (code, why) = if has_postgres { (1, "of the same kind") } else { (78, "without the feature `postgres`") };
    assert_eq!(other.status.code(), Some(code), "{said}");
    assert!(said.contains(why), "{said}");
    // Keys have to be decided on.
    let open = run(&["backup", "--data-dir", &desk.text("data"), &desk.text("c.tar.zst")]);
    assert_eq!(open.status.code(), Some(2));
    std::fs::write(desk.path("short"), "short\n").unwrap();
    let (data, short, file) = (desk.text("data"), desk.text("short"), desk.text("c.tar.zst"));
    let said = refused(&run(&["backup", "--data-dir", &data, "--passphrase-file", &short, &file]));
    assert!(said.contains("12 characters"), "{said}");
}

#[test]
fn secrets_are_in_the_file_only_as_asked() {
    let desk = Desk::new();
    let data = desk.path("data");
    let server = Server::start_with(&mut closed(&data), &data);
    let secret = std::fs::read(data.join("secrets.key")).unwrap();
    let secret = secret.trim_ascii_end();
    let unpacked = |name: &str| {
        let mut all = Vec::new();
        let file = std::fs::File::open(desk.path(name)).unwrap();
        zstd::Decoder::new(file).unwrap().read_to_end(&mut all).unwrap();
        all
    };
    let has = |all: &[u8]| all.windows(secret.len()).any(|part| part == secret);
    good(&desk.backup("data", "sealed", &[]));
    good(&run(&["backup", "--data-dir", &desk.text("data"), "--secrets-in-clear", &desk.text("clear")]));
    good(&run(&["backup", "--data-dir", &desk.text("data"), "--without-secrets", &desk.text("without")]));
    assert!(!has(&unpacked("sealed")) && has(&unpacked("clear")) && !has(&unpacked("without")));
    let piped = run(&["backup", "--data-dir", &desk.text("data"), "--without-secrets", "-"]);
    good(&piped);
    std::fs::write(desk.path("piped"), &piped.stdout).unwrap();
    good(&run(&["restore", "--check", &desk.text("piped")]));
    assert_eq!(server.terminate(), Some(0));
    good(&run(&["restore", "--data-dir", &desk.text("n1"), &desk.text("clear")]));
    assert_eq!(std::fs::read(desk.path("n1/secrets.key")).unwrap().trim_ascii_end(), secret);
    good(&run(&["restore", "--data-dir", &desk.text("n2"), &desk.text("without")]));
    assert!(!desk.path("n2/secrets.key").exists() && !desk.path("n2/pki").exists());
    let list = std::fs::read_dir(desk.path("n1")).unwrap().map(|item| item.unwrap().file_name());
    assert!(list.into_iter().all(|name| !name.to_string_lossy().contains("part")));
}

#[test]
fn killed_backups_and_restores_leave_nothing_that_looks_complete() {
    let desk = Desk::new();
    at_rest(&desk, "data");
    // Large enough to be met in the middle.
    let mut ballast = std::fs::File::create(desk.path("data/ballast")).unwrap();
    let mut noise = vec![0_u8; 1 << 20];
    for _ in 0..48 {
        rand::fill(&mut noise[..]);
        ballast.write_all(&noise).unwrap();
    }
    let spawn = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_iot-meter"));
        command.args(args).current_dir(std::env::temp_dir()).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::null()).spawn().unwrap()
    };
    let (data, file, pass) = (desk.text("data"), desk.text("b.tar.zst"), desk.text("pass"));
    let mut child = spawn(&["backup", "--data-dir", &data, "--passphrase-file", &pass, &file]);
    let size = |path: PathBuf| std::fs::metadata(path).map_or(0, |meta| meta.len());
    eventually("the backup is under way", || size(desk.path("b.tar.zst.part")) > 2 << 20);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!desk.path("b.tar.zst").exists());
    good(&desk.backup("data", "b.tar.zst", &[]));
    let left: Vec<_> = std::fs::read_dir(desk.dir.path()).unwrap().map(|item| item.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().ends_with(".part")), "{left:?}");
    let new = desk.text("new");
    let mut child = spawn(&["restore", "--data-dir", &new, "--passphrase-file", &pass, &file]);
    eventually("the restore is under way", || size(desk.path("new/restore.part/ballast")) > 2 << 20);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!desk.path("new/iot-meter.db").exists() && !desk.path("new/journal").exists());
    let started = command(&desk.path("new")).stderr(Stdio::piped()).output().unwrap();
    assert!(refused(&started).contains("cut short"));
    assert!(refused(&desk.restore("new", "b.tar.zst", &[])).contains("remove everything in it"));
    std::fs::remove_dir_all(desk.path("new")).unwrap();
    good(&desk.restore("new", "b.tar.zst", &[]));
    let server = Server::start(&desk.path("new"));
    server.api.get("/api/devices/calm").expect(200);
}

#[test]
fn a_full_disk_is_said_in_words_and_leaves_nothing() {
    let desk = Desk::new();
    at_rest(&desk, "data");
    let mut ballast = std::fs::File::create(desk.path("data/ballast")).unwrap();
    let mut noise = vec![0_u8; 30 << 20];
    rand::fill(&mut noise[..]);
    ballast.write_all(&noise).unwrap();
    let disk = SmallDisk::mount();
    let on_disk = |name: &str| disk.path().join(name).to_str().unwrap().to_owned();
    let (data, pass, file) = (desk.text("data"), desk.text("pass"), on_disk("b.tar.zst"));
    let said = refused(&run(&["backup", "--data-dir", &data, "--passphrase-file", &pass, &file]));
    assert!(said.contains("full"), "{said}");
    assert!(is_empty(disk.path()), "something is left");
    good(&desk.backup("data", "b.tar.zst", &[]));
    let (new, file) = (on_disk("new"), desk.text("b.tar.zst"));
    let said = refused(&run(&["restore", "--data-dir", &new, "--passphrase-file", &pass, &file]));
    assert!(said.contains("bytes are needed"), "{said}");
    assert!(is_empty(disk.path()), "something is left");
}

#[test]
fn a_journal_that_was_lost_beside_its_database_loses_nothing_more() {
    let desk = Desk::new();
    at_rest(&desk, "data");
    std::fs::remove_dir_all(desk.path("data/journal")).unwrap();
    let base = an_hour_ago();
    // Twice killed before anything large: the journal begins at 0 again, below the checkpoint.
    for round in 0..3_u32 {
        let server = Server::start(&desk.path("data"));
        let (mut meter, _) = Client::connect(server.mqtt, &Connect::id("new"));
        for seq in round * 5..round * 5 + 5 {
            let ts = base.plus_us(i64::from(seq) * 1000);
            meter.publish("iot/new/telemetry", telemetry("new", ts, seq, 1.0).as_bytes(), 1);
        }
        server.kill();
    }
    let server = Server::start(&desk.path("data"));
    settled(&server.api);
    assert_eq!(stored(&server, "new", base), (0..15).collect::<Vec<_>>());
}

#[test]
fn the_manifest_of_another_format_is_refused() {
    let desk = Desk::new();
    at_rest(&desk, "data");
    good(&desk.backup("data", "b.tar.zst", &[]));
    // Written anew with one number changed.
    let mut all = Vec::new();
    zstd::Decoder::new(std::fs::File::open(desk.path("b.tar.zst")).unwrap()).unwrap().read_to_end(&mut all).unwrap();
    let at = all.windows(10).rposition(|part| part == b"\"format\":1").expect("the manifest");
    all[at + 9] = b'9';
    std::fs::write(desk.path("new-format"), zstd::encode_all(&all[..], 1).unwrap()).unwrap();
    assert!(refused(&desk.restore("new", "new-format", &[])).contains("is of format 9"));
    // A schema that this program does not know.
    let mut newer = all.clone();
    newer[at + 9] = b'1';
    let place = newer.windows(11).rposition(|part| part == b"\"schema\":[\"").expect("the schema");
    newer[place + 11..place + 15].copy_from_slice(b"2999");
    std::fs::write(desk.path("newer"), zstd::encode_all(&newer[..], 1).unwrap()).unwrap();
    let said = refused(&desk.restore("new", "newer", &[]));
    assert!(said.contains("newer than this program"), "{said}");
    assert!(!desk.path("new").exists());
    let shown = run(&["restore", "--check", "--output", "json", &desk.text("b.tar.zst")]);
    good(&shown);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!((shown["dialect"].as_str(), shown["secrets"].as_str()), (Some("sqlite"), Some("sealed")));
}

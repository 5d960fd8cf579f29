//! The audit log of a real process, and the commands that read and verify it.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::process::Server;
use crate::support::{Api, eventually};

fn run(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_iot-meter")).args(args).arg("--data-dir").arg(dir).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// `serve` with authentication.
fn serve(dir: &Path) -> Server {
    let mut command = Command::new(env!("CARGO_BIN_EXE_iot-meter"));
    command.args(["serve", "--http-listen", "127.0.0.1:0", "--mqtt-listen", "127.0.0.1:0", "--mqtts-listen", "off"]);
    command.arg("--data-dir").arg(dir);
    command.current_dir(std::env::temp_dir()).env("IOT_METER__LOG__LEVEL", "warn").stdout(std::process::Stdio::null());
    Server::start_with(&mut command, dir)
}

fn admin(server: &Server, dir: &Path) -> Api {
    let key = std::fs::read_to_string(dir.join("admin.key")).unwrap();
    server.api.with_key(Some(key.trim()))
}

fn sql(dir: &Path, statement: &str) {
    use diesel::connection::SimpleConnection;
    use diesel::{Connection, SqliteConnection};
    let path = dir.join("iot-meter.db");
    SqliteConnection::establish(path.to_str().unwrap()).unwrap().batch_execute(statement).unwrap();
}

#[test]
fn what_was_done_is_written_before_the_server_ends_and_edits_show() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = serve(&data);
    let api = admin(&server, &data);
    for n in 0..20 {
        api.post("/api/devices", &json!({"device_id": format!("m{n}"), "device_name": "x"})).expect(201);
    }
    for _ in 0..10 {
        api.with_key(Some("iotm_00000000_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")).get("/api/devices").expect(401);
    }
    eventually("the entries show", || {
        api.get("/api/audit?action=POST").expect(200).header("x-total-count") == Some("20")
    });
    // While the server runs, the command line writes to the same chain.
    assert!(run(&data, &["key", "create", "--name", "x", "--expires", "90d"]).status.success());
    assert_eq!(server.terminate(), Some(0));

    let export = run(&data, &["audit", "export"]);
    let lines: Vec<Value> = text(&export).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |action: &str| lines.iter().filter(|l| l["action"] == action).collect::<Vec<_>>();
    assert_eq!(of("POST /api/devices").len(), 20);
    // What the first start has made, and the command line later.
    let by = |action: &str| of(action).iter().map(|l| l["actor"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(by("key.create"), ["server", "local"]);
    assert_eq!(by("certificate.issue"), ["server"]);
    assert_eq!(by("authority.create"), ["server"]);
    let refused = of("credential.refused");
    assert_eq!(refused.len(), 2, "the first, and how many followed: {refused:?}");
    assert!(refused[1]["detail"].as_str().unwrap().starts_with("9 more since "));

    let good = run(&data, &["audit", "verify", "--output", "json"]);
    let found: Value = serde_json::from_slice(&good.stdout).unwrap();
    assert_eq!((&found["good"], &found["entries"]), (&json!(true), &json!(lines.len())));
    let since = format!("{}:{}", found["last_id"], found["last_hash"].as_str().unwrap());
    assert!(run(&data, &["audit", "verify", "--since", &since]).status.success());

    sql(&data, "DROP TRIGGER audit_log_no_update; UPDATE audit_log SET target = 'm99' WHERE id = 7");
    let broken = run(&data, &["audit", "verify"]);
    assert_eq!(broken.status.code(), Some(1));
    assert!(text(&broken).contains("entry 7 was changed"), "{}", text(&broken));
}

#[test]
fn a_log_cut_off_or_hashed_anew_is_seen_too() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    for name in ["a", "b", "c"] {
        assert!(run(&data, &["key", "create", "--name", name]).status.success());
    }
    let good = run(&data, &["audit", "verify", "--output", "json"]);
    let found: Value = serde_json::from_slice(&good.stdout).unwrap();
    let since = format!("3:{}", found["last_hash"].as_str().unwrap());
    sql(&data, "DROP TRIGGER audit_log_no_delete; DELETE FROM audit_log WHERE id = 3");
    let cut = run(&data, &["audit", "verify"]);
    assert!(!cut.status.success() && text(&cut).contains("entries 3 to 3 are missing at the end"), "{}", text(&cut));
    // As one who knows how would: the number is given again, and the new entry hashed.
    sql(&data, "UPDATE sqlite_sequence SET seq = 2 WHERE name = 'audit_log'");
    assert!(run(&data, &["key", "create", "--name", "d"]).status.success());
    assert!(run(&data, &["audit", "verify"]).status.success(), "nothing in the file itself tells");
    let forged = run(&data, &["audit", "verify", "--since", &since]);
    assert!(!forged.status.success() && text(&forged).contains("hashed anew"), "{}", text(&forged));
}

#[test]
fn a_beginning_that_somebody_moved_is_seen_and_one_that_retention_moved_is_good() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    for name in ["a", "b", "c"] {
        assert!(run(&data, &["key", "create", "--name", name]).status.success());
    }
    let verify = |more: &[&str]| {
        let output = run(&data, &[&["audit", "verify"], more].concat());
        (output.status.code(), text(&output))
    };
    // No trigger is in the way of whoever moves the anchor first.
    sql(
        &data,
        "UPDATE audit_anchor SET last_id = 2, hash = (SELECT hash FROM audit_log WHERE id = 2), trimmed_at = 1;
         DELETE FROM audit_log WHERE id <= 2",
    );
    let (code, said) = verify(&[]);
    assert!(code == Some(1) && said.contains("entries 1 to 2 are gone, and no entry says"), "{code:?} {said}");

    // The same by retention, of entries that are old enough; and, by a hand that knows how, of such that are not.
    let now = iot_meter::domain::Clock::system().now();
    for (days_ago, expected) in [(500, None), (100, Some("gone too early"))] {
        let data = dir.path().join(format!("of-{days_ago}"));
        assert!(run(&data, &["key", "create", "--name", "a"]).status.success());
        let store = iot_meter::store::open(&format!("sqlite://{}", data.join("iot-meter.db").display())).unwrap();
        let newest =
            || store.audit(&Default::default(), iot_meter::store::Page::behind(None, 1)).unwrap().items.remove(0);
        let mut entry = newest().entry;
        let at = now.plus_us(-days_ago * 86_400_000_000);
        sql(&data, "DROP TRIGGER audit_log_no_delete; DELETE FROM audit_log; UPDATE sqlite_sequence SET seq = 0");
        entry.at = at;
        store.append_audit(&[entry.clone(), entry.clone()]).unwrap();
        let old = newest();
        entry.at = now;
        store.append_audit(&[entry]).unwrap();
        assert_eq!(store.trim_audit(at.plus_us(1), 100, now).unwrap(), 2);
        let verify = |since: Option<String>| {
            let more: Vec<String> = since.into_iter().flat_map(|since| ["--since".to_owned(), since]).collect();
            let args: Vec<&str> = ["audit", "verify"].into_iter().chain(more.iter().map(String::as_str)).collect();
            let output = run(&data, &args);
            (output.status.code(), text(&output))
        };
        let (code, said) = verify(None);
        assert_eq!(code, Some(i32::from(expected.is_some())), "{said}");
        assert!(said.contains(expected.unwrap_or("2 entries, all as they were written")), "{said}");
        let (code, said) = verify(Some(format!("{}:{}", old.id, hex::encode(old.hash))));
        assert!(code == Some(1) && said.contains("entry 2 of --since proves nothing any more"), "{code:?} {said}");
    }
}

#[test]
fn an_authority_that_is_replaced_and_an_import_that_stops_half_way_are_noted() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let entries = |action: &str| -> Vec<Value> {
        let exported = run(&data, &["audit", "export", "--action", action]);
        text(&exported).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    // The server's own certificate is from elsewhere: the authority alone is made.
    for init in [&["pki", "init"][..], &["pki", "init", "--force"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_iot-meter"));
        command.args(init).arg("--data-dir").arg(&data).current_dir(dir.path());
        command
            .env("IOT_METER__MQTT__TLS_CERT_FILE", "/server.pem")
            .env("IOT_METER__MQTT__TLS_KEY_FILE", "/server.key");
        let done = command.output().unwrap();
        assert!(done.status.success(), "{}", text(&done));
    }
    let made = entries("authority.create");
    let details: Vec<&str> = made.iter().map(|entry| entry["detail"].as_str().unwrap()).collect();
    assert_eq!(details.len(), 2, "{made:?}");
    assert!(!details[0].contains("in place of") && details[1].ends_with(", in place of another"), "{details:?}");
    assert!(made.iter().all(|entry| entry["actor"] == "local") && made[0]["target"] != made[1]["target"], "{made:?}");

    std::fs::create_dir(dir.path().join("old")).unwrap();
    std::fs::write(dir.path().join("old/devices.csv"), "device_id,device_name\nm1,One\n").unwrap();
    let (old, points) = (dir.path().join("old"), dir.path().join("not-there.lp"));
    let stopped = run(&data, &["import", "--tables", old.to_str().unwrap(), "--points", points.to_str().unwrap()]);
    assert!(!stopped.status.success() && text(&stopped).contains("the import stopped"), "{}", text(&stopped));
    let noted = entries("import.run");
    assert_eq!(noted.len(), 1, "{noted:?}");
    assert_eq!((&noted[0]["outcome"], &noted[0]["actor"]), (&json!("failed"), &json!("local")));
    let detail = noted[0]["detail"].as_str().unwrap();
    assert!(detail.starts_with("stopped") && detail.contains("not-there.lp"), "{detail}");
}

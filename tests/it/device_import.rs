//! A table of meters into the registry of a running server: over HTTP and by the command line.

use std::fmt::Write as _;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Connect, TestApp};

fn import(app: &TestApp, query: &str, kind: &str, table: &str) -> crate::support::http::Answer {
    let path = format!("/api/devices/import{query}");
    app.api.send("POST", &path, &[("Content-Type", kind)], Some(table.as_bytes().to_vec()))
}

#[test]
fn ten_thousand_meters_are_registered_by_one_request_and_all_can_log_in() {
    let app = TestApp::builder().set("ingest.unknown_devices", "refuse").start();
    let mut table = "device_id,device_name,location,metadata.car\n".to_owned();
    for n in 0..10_000 {
        let _ = writeln!(table, "fleet-{n:05},\"Meter, {n}\",Depot,{}", n % 12);
    }
    let body = import(&app, "", "text/csv", &table).expect(207).json();
    assert_eq!((&body["registered"], &body["refused"]), (&json!(10_000), &json!(0)));
    let listed = app.api.get("/api/devices?page=1&per_page=1&metadata.car=7").expect(200);
    assert_eq!(listed.header("X-Total-Count"), Some("833"));
    for row in [0, 9_999] {
        let row = &body["rows"][row];
        let (id, token) = (row["device_id"].as_str().unwrap(), row["token"].as_str().unwrap());
        let (mut meter, _) = app.mqtt(&Connect::id(id).login(id, token));
        meter.publish(&format!("iot/{id}/status"), status(id, &app).as_bytes(), 1);
        app.settled();
        assert_eq!(app.api.get(&format!("/api/devices/{id}/status")).expect(200).json()["connection_status"], "online");
    }
    let again = import(&app, "?atomic=true", "text/csv", &table).expect(207).json();
    assert_eq!((&again["registered"], &again["known"]), (&json!(0), &json!(10_000)), "the same table may come again");
    let audited = || app.api.get("/api/audit?action=device.import").expect(200).json();
    app.eventually("both are in the audit log", || audited().as_array().unwrap().len() == 2);
    let audited = audited();
    let details: Vec<&str> = audited.as_array().unwrap().iter().map(|e| e["detail"].as_str().unwrap()).collect();
    assert!(details[1].starts_with("status 207 registered 10000 known 0 refused 0 sha256 "), "{details:?}");
}

fn status(id: &str, app: &TestApp) -> String {
    json!({"v": 2, "device_id": id, "ts": app.now().to_string(), "seq": 0, "msg_type": "status", "status": "online"})
        .to_string()
}

#[test]
fn all_or_nothing_leaves_nothing_when_one_row_is_bad() {
    let app = TestApp::open();
    app.register("m2");
    let lines = ["m1", "m2", "m3"].map(|id| json!({"device_id": id, "device_name": format!("Meter {id}")}).to_string());
    let refused = import(&app, "?atomic=true", "application/x-ndjson", &lines.join("\n")).expect(409);
    assert_eq!(refused.header("Content-Type"), Some("application/problem+json"));
    assert_eq!(refused.json()["errors"][0]["field"], "row 2 (m2): device_id");
    app.api.get("/api/devices/m1").expect(404);
    let body = import(&app, "", "application/x-ndjson", &lines.join("\n")).expect(207).json();
    let statuses: Vec<&Value> = body["rows"].as_array().unwrap().iter().map(|row| &row["status"]).collect();
    assert_eq!(statuses, [201, 409, 201]);
    app.api.get("/api/devices/m1").expect(200);
}

#[test]
fn a_table_has_a_limit_of_its_own() {
    let app = TestApp::builder().open().set("http.import_limit_bytes", "1 KiB").start();
    let table = format!("device_id,device_name\nm1,{}\n", "x".repeat(200));
    import(&app, "", "text/csv", &table).expect(207);
    import(&app, "", "text/csv", &(table + &"\n".repeat(1024))).expect(413);
}

#[test]
fn the_command_line_imports_a_file_and_says_what_became_of_each_row() {
    let app = TestApp::builder().start();
    let file = app.data_dir().join("meters.csv");
    std::fs::write(&file, "device_id,device_name,status\nm1,One,\nm2,Two,gone\nm1,Twice,\n").unwrap();
    let url = format!("http://{}", app.address("http"));
    let key = std::fs::read_to_string(app.data_dir().join("admin.key")).unwrap();
    let run = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_iot-meter"));
        command.args(["device", "--api", &url, "--key", key.trim(), "import"]).arg(&file).args(more);
        command.output().unwrap()
    };
    let refused = run(&["--atomic"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("row 2 (m2): status must be active or inactive"), "{said}");
    app.api.get("/api/devices/m1").expect(404);
    let done = run(&[]);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.ends_with("1 registered, 0 known already, 2 refused\n"), "{said}");
    // As Excel writes it.
    std::fs::write(&file, "\u{feff}device_id,device_name\r\nm1,One\r\n").unwrap();
    let again = run(&["--output", "json"]);
    assert_eq!(again.status.code(), Some(0));
    let body: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(body["known"], 1);
}

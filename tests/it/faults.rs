//! Clients and operators at their worst moment: many at once, backpressure, deletion under traffic, a disk that fails.

use std::process::Command;

use iot_meter::domain::DeviceId;
use iot_meter::store::Batch;

use crate::support::process::{self, Server};
use crate::support::{Connect, Figures, TestApp, eventually, telemetry};

#[test]
fn a_meter_deleted_while_it_speaks_does_not_come_back_by_what_it_said_before() {
    let app = TestApp::builder().start();
    let new = serde_json::json!({"device_id": "m1", "device_name": "Meter"});
    let made = app.api.post("/api/devices", &new).expect(201).json();
    let token = made["token"].as_str().unwrap();
    let will = br#"{"v":2,"device_id":"m1","ts":"2026-02-12T11:00:00Z","status":"offline"}"#;
    let how = Connect::id("m1").login("m1", token).will("iot/m1/status", will, 1, true);
    let (mut meter, _) = app.mqtt(&how);
    for seq in 0..50 {
        meter.publish("iot/m1/telemetry", telemetry("m1", app.at(i64::from(seq)), seq, 750.0).as_bytes(), 1);
    }
    app.api.delete("/api/devices/m1").expect(200);
    assert_eq!(meter.receive(), None, "the session is closed");
    app.settled();
    app.api.get("/api/devices/m1").expect(404);
    app.api.post("/api/devices", &new).expect(201);
    // Its measurements were kept: the deletion did not ask for a purge.
    assert!(!app.values("m1", "voltage_dc").is_empty());
}

#[test]
fn a_database_that_lost_its_last_commits_gets_them_from_the_journal_again_while_the_server_runs() {
    let app = TestApp::open();
    let say = |seq: u32| {
        let payload = telemetry("m1", app.at(i64::from(seq)), seq, 750.0);
        // The sessions of a device that is deleted are ended.
        app.eventually("it is acknowledged", || {
            app.mqtt(&Connect::id("m1")).0.try_publish("iot/m1/telemetry", payload.as_bytes(), 1)
        });
    };
    (0..10).for_each(say);
    app.settled();
    assert_eq!(app.values("m1", "voltage_dc").len(), 10);
    let counted = Figures::of(&app.api);
    // As a standby that takes over and never had them.
    let (store, id) = (app.store(), DeviceId::parse("m1").unwrap());
    let lose = || {
        assert!(store.delete_device(&id, true).unwrap());
        store.commit(&Batch { checkpoint: Some(0), ..Batch::default() }).unwrap();
    };
    let has =
        |count: usize| app.api.get("/api/devices/m1").status == 200 && app.values("m1", "voltage_dc").len() == count;
    lose();
    say(10);
    app.eventually("all are there again", || has(11));
    lose();
    app.eventually("also when nothing comes any more", || has(11));
    let duplicates = |of: &Figures| of.value("messages_duplicate_total");
    assert!(duplicates(&Figures::of(&app.api)) - duplicates(&counted) < 5.0, "they were gone");
    let gaps = app.api.get("/api/devices/m1/gaps").expect(200).json();
    assert_eq!(gaps.as_array().unwrap().len(), 0, "{gaps}");
    say(11);
    app.settled();
    assert_eq!(app.values("m1", "voltage_dc").len(), 12);
}

#[test]
fn an_accepted_configuration_changes_the_presence_timeout() {
    let app = TestApp::builder().open().clock("2026-02-12T12:00:00Z").start();
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    meter.publish("iot/m1/telemetry", telemetry("m1", app.now(), 0, 750.0).as_bytes(), 1);
    app.settled();
    let accept = |command: serde_json::Value| {
        let sent = app.api.post("/api/devices/m1/commands", &command).json();
        let path = format!("/api/commands/{}/ack", sent["cmd_id"].as_str().unwrap());
        app.api.put(&path, &serde_json::json!({"result": "accepted"})).expect(200);
    };
    accept(serde_json::json!({"cmd": "update_config", "params": {"send_interval_s": 600}}));
    meter.publish("iot/m1/telemetry", telemetry("m1", app.now(), 1, 750.0).as_bytes(), 1);
    app.settled();
    let status = || app.api.get("/api/devices/m1/status").json()["connection_status"].clone();
    app.pass_s(1100);
    app.tick();
    assert_eq!(status(), "online", "twice 600 s have not passed");
    app.pass_s(200);
    app.eventually("1200 s of silence is offline", || status() == "offline");
    accept(serde_json::json!({"cmd": "factory_reset"}));
    meter.publish("iot/m1/telemetry", telemetry("m1", app.now(), 2, 750.0).as_bytes(), 1);
    app.settled();
    assert_eq!(status(), "online");
    app.pass_s(62);
    app.eventually("60 s are once more", || status() == "offline");
}

#[test]
fn a_hundred_meters_at_once_are_all_stored() {
    let app = TestApp::open();
    let (base, to) = (app.at(0), app.mqtt_address());
    let meters: Vec<_> = (0..100)
        .map(|n| {
            std::thread::spawn(move || {
                let id = format!("crowd-{n}");
                let (mut meter, _) = crate::support::Client::connect(to, &Connect::id(&id));
                for seq in 0..10u32 {
                    let ts = base.plus_us(i64::from(seq) * 1_000_000);
                    let qos = ((seq + 2) % 3) as u8; // the last one is acknowledged
                    meter.publish(&format!("iot/{id}/telemetry"), telemetry(&id, ts, seq, 750.0).as_bytes(), qos);
                }
                meter.ping();
            })
        })
        .collect();
    for meter in meters {
        meter.join().unwrap();
    }
    app.settled();
    let stats = app.api.get("/api/stats").expect(200).json();
    assert_eq!(stats["total_devices"], 100);
    for n in [0, 50, 99] {
        assert_eq!(app.values(&format!("crowd-{n}"), "voltage_dc").len(), 10);
    }
}

/// A server that outlives a write beyond the limit of its files: the write fails, as on a failing disk. Its log is a file, too.
fn with_a_disk_that_may_fail(data: &std::path::Path) -> Server {
    let usual = process::command(data);
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(usual.get_program()).args(usual.get_args());
    command.envs(usual.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir(std::env::temp_dir());
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    command.stderr(std::fs::File::create(data.with_extension("log")).unwrap());
    Server::start_with(&mut command, data)
}

/// No file can be written any more.
fn fail_disk(data: &std::path::Path) {
    let pid = std::fs::read_to_string(data.join("run/pid")).unwrap().trim().parse().unwrap();
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::prlimit(rustix::process::Pid::from_raw(pid), rustix::process::Resource::Fsize, none).unwrap();
}

#[test]
fn a_journal_that_fails_acknowledges_nothing_and_says_so_before_the_process_ends() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut server = with_a_disk_that_may_fail(&data);
    let now = iot_meter::domain::Clock::system().now();
    let connect = || crate::support::Client::connect(server.mqtt, &Connect::id("m1")).0;
    let mut meter = connect();
    meter.publish("iot/m1/telemetry", telemetry("m1", now, 0, 750.0).as_bytes(), 1);
    fail_disk(&data);
    assert!(!meter.try_publish("iot/m1/telemetry", telemetry("m1", now, 1, 750.0).as_bytes(), 1), "it is not on disk");
    let failed = [("task_state{task=\"journal\",state=\"failed\"}", 1.0), ("ready{check=\"journal\"}", 0.0)];
    eventually("whoever looks is told", || Figures::of(&server.api).are(&failed));
    let ready = server.api.get("/readyz").expect(503).json();
    assert_eq!(ready["checks"]["journal"], "a write to the journal failed", "{ready}");
    eventually("meters are sent away", || std::net::TcpStream::connect(server.mqtt).is_err());
    assert!(server.is_running(), "Prometheus has to look, too");
    assert_eq!(server.terminate(), Some(1), "no end in good order");
}

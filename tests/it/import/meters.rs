//! What an import makes known of a meter: its types, as many as one may have, and its firmware.

use iot_meter::domain::Timestamp;
use serde_json::{Value, json};

use super::{Import, Old, counts};
use crate::support::TestApp;

#[test]
fn what_is_of_more_types_than_a_meter_may_have_is_named() {
    const TYPES: i64 = 70;
    let mut app = TestApp::open();
    let old = Old::new(app.at(0));
    let fields: Vec<String> = (0..TYPES).map(|n| format!("f{n}={n}")).collect();
    let line = |ms: i64| format!("m,device_id=many {} {}\n", fields.join(","), old.at(ms).0 * 1000);
    old.write("points.lp", line(0) + &line(1000));
    let sample = |n: i64| json!({"ts": old.at(0).to_string(), "type": format!("f{n}"), "val": n, "unit": "V"});
    let message = json!({
        "v": 2, "device_id": "said", "ts": old.at(0).to_string(), "seq": 1, "msg_type": "telemetry",
        "measurements": (0..TYPES).map(sample).collect::<Vec<Value>>(),
    });
    old.put("said", "telemetry", old.at(100), &message.to_string());
    let (points, bucket) = (old.path("points.lp"), old.path("bucket"));
    let import = Import::of(&app);
    app.restart_while(|| {
        let all = ["--points", &points, "--raw", &bucket];
        let (dry, _) = import.run(&[&all[..], &["--dry-run"]].concat());
        let (report, is_clean) = import.run(&all);
        assert!(!is_clean);
        for report in [&dry, &report] {
            assert_eq!(counts(report, "points"), [140, 128, 0, 12]);
            assert_eq!(report["kinds"]["points"]["refused"], json!({"too_many_types": 12}));
        }
        assert_eq!(counts(&report, "raw"), [1, 1, 0, 0], "the message is in the archive, whole");
        assert_eq!(report["notes"], json!(["a meter has 64 types at most: values of others are in the archive only"]));
        let refused = std::fs::read_to_string(report["refused_file"].as_str().unwrap()).unwrap();
        let lines: Vec<Value> = refused.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 12);
        assert!(lines.iter().all(|line| line["place"] == "many"), "{refused}");
        let (again, _) = import.run(&all);
        assert_eq!(counts(&again, "points"), [140, 0, 128, 12]);
    });
    let values = ["f0", "f50", "f8", "f9"].map(|name| app.values("many", name));
    assert_eq!(values, [vec![0.0; 2], vec![50.0; 2], vec![], vec![]], "the first 64");
}

#[test]
fn firmware_is_what_the_newest_hello_says() {
    let mut app = TestApp::open();
    let old = Old::new(app.at(0));
    let seen = old.at(0);
    old.write(
        "t/devices.csv",
        format!("device_id,last_seen,fw_version\nahead,{seen},2.0.0\nbehind,{seen},2.0.0\nnew,,\n"),
    );
    let later = |ms: i64| seen.plus_us(ms * 1000);
    let hello = |device: &str, at: Timestamp, version: &str| {
        let message = json!({
            "timestamp": at.to_string(), "fw_version": version, "uptime_s": 1, "broker_connections": 1,
            "buf_usage_pct": 0.0,
        });
        old.put(device, "hello", at, &message.to_string());
    };
    hello("ahead", later(1000), "2.1.0");
    hello("ahead", later(2000), "2.2.0");
    hello("behind", later(-1000), "1.9.0");
    hello("new", later(1000), "1.0.0");
    // The last word of none of them is a hello.
    let flat = format!(r#"{{"timestamp": "{}", "voltage_dc": 601.5}}"#, later(3000));
    old.put("ahead", "telemetry", later(3000), &flat);
    old.put("new", "telemetry", later(3000), &flat);
    let status = format!(r#"{{"timestamp": "{}", "status": "online"}}"#, later(3000));
    old.put("behind", "status", later(3000), &status);
    let import = Import::of(&app);
    app.restart_while(|| {
        let (report, is_clean) = import.run(&["--tables", &old.path("t"), "--raw", &old.path("bucket")]);
        assert!(is_clean, "{report:#}");
        assert_eq!(counts(&report, "raw"), [7, 7, 0, 0]);
    });
    for (device, version) in [("ahead", "2.2.0"), ("behind", "2.0.0"), ("new", "1.0.0")] {
        let found = app.api.get(&format!("/api/devices/{device}")).expect(200).json();
        assert_eq!(found["fw_version"], version, "{device}");
    }
}

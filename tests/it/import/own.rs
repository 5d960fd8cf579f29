//! What a server received itself before the import: known again, however the old installation has written it.

use serde_json::json;

use super::{Import, Old, counts};
use crate::support::{Connect, TestApp, telemetry};

#[test]
fn what_a_server_received_itself_is_not_taken_over_again() {
    let mut app = TestApp::open();
    let old = Old::new(app.at(0));
    let bucket = old.bucket();
    let hello = json!({
        "timestamp": old.at(6_000).to_string(), "fw_version": "1.0.0", "uptime_s": 20, "broker_connections": 1,
        "buf_usage_pct": 0.0,
    });
    old.put("old-2", "hello", old.at(6_200), &hello.to_string());
    app.register("old-1");
    let (mut meter, _) = app.mqtt(&Connect::id("old-1"));
    for seq in 0..2 {
        let text = telemetry("old-1", old.at(i64::from(seq) * 10_000), seq, 750.5);
        meter.publish("iot/old-1/telemetry", text.as_bytes(), 1);
    }
    // Of what has no count the meters' bytes differ from what the old collector made of them.
    let status = format!(r#"{{"v": 2, "device_id": "old-1", "ts": "{}", "status": "offline"}}"#, old.at(21_000));
    meter.publish("iot/old-1/status", status.as_bytes(), 1);
    app.register("old-2");
    let (mut other, _) = app.mqtt(&Connect::id("old-2"));
    let flat = format!(r#"{{"current_dc":-3,"voltage_dc":601.5,"timestamp":"{}"}}"#, old.at(5_000));
    other.publish("iot/old-2/telemetry", flat.as_bytes(), 1);
    other.publish("iot/old-2/hello", format!("{hello:#}").as_bytes(), 1);
    app.settled();
    drop((meter, other));
    let import = Import::of(&app);
    app.restart_while(|| {
        let (report, _) = import.run(&["--raw", &bucket]);
        assert_eq!(counts(&report, "raw"), [6, 1, 5, 0], "the hello of the first is new: {report:#}");
    });
    let raw = |device: &str| app.api.get(&format!("/api/devices/{device}/raw-data?limit=10")).expect(200).json();
    assert_eq!(raw("old-1").as_array().unwrap().len(), 4);
    assert_eq!(raw("old-2").as_array().unwrap().len(), 2);
    assert_eq!(app.values("old-2", "voltage_dc"), [601.5]);
}

#[test]
fn another_word_of_the_same_instant_is_taken_over() {
    let mut app = TestApp::open();
    let old = Old::new(app.at(0));
    let status = |word: &str| format!(r#"{{"device_id":"m","ts":"{}","status":"{word}","v":2}}"#, old.at(0));
    old.put("m", "status", old.at(100), &status("offline"));
    app.register("m");
    let (mut meter, _) = app.mqtt(&Connect::id("m"));
    meter.publish("iot/m/status", status("online").as_bytes(), 1);
    app.settled();
    drop(meter);
    let import = Import::of(&app);
    app.restart_while(|| {
        let (report, _) = import.run(&["--raw", &old.path("bucket")]);
        assert_eq!(counts(&report, "raw"), [1, 1, 0, 0], "{report:#}");
    });
}

//! Long ranges of a running server: the same answer before and after they are rolled up, and with what comes late at once.

use iot_meter::domain::{DeviceId, Timestamp};
use serde_json::{Value, json};

use crate::support::{Client, Connect, TestApp};

const NOW: &str = "2026-02-12T10:05:00Z";
/// Hours of data.
const HOURS: i64 = 60;

fn ago(minutes: i64) -> Timestamp {
    Timestamp::parse_rfc3339(NOW).unwrap().plus_us(-minutes * 60_000_000)
}

/// A datagram of 20 samples, one a second.
fn say(client: &mut Client, device: &str, minutes_ago: i64, seq: u32) {
    let at = ago(minutes_ago);
    let sample = |n: i64| {
        let ts = at.plus_us((n - 19) * 1_000_000).to_string();
        let value = 700 + (minutes_ago * 7 + n * 3) % 90;
        [
            json!({"ts": ts, "type": "voltage_dc", "val": value, "unit": "V"}),
            json!({"ts": ts, "type": "current_dc", "val": 100 - value % 7, "unit": "A"}),
        ]
    };
    let measurements: Vec<Value> = (0..20).flat_map(sample).collect();
    let body = json!({"v": 2, "device_id": device, "ts": at.to_string(), "seq": seq, "msg_type": "telemetry",
        "measurements": measurements});
    client.publish(&format!("iot/{device}/telemetry"), body.to_string().as_bytes(), 1);
}

fn page(app: &TestApp, device: &str) -> iot_meter::store::RollupPage {
    let id = DeviceId::parse(device).unwrap();
    app.store().rollups(&id, 3600, None, ago(HOURS * 60 + 1500), ago(-60)).unwrap()
}

fn is_rolled_up(app: &TestApp, device: &str) -> bool {
    let page = page(app, device);
    page.dirty.is_empty() && page.rolled_until == Timestamp::parse_rfc3339("2026-02-12T10:00:00Z").unwrap()
}

#[test]
fn a_long_range_is_answered_the_same_rolled_up_or_not_and_late_data_show_at_once() {
    let app = TestApp::builder().open().clock(NOW).start();
    app.register("m1");
    let (mut client, _) = app.mqtt(&Connect::id("m1"));
    for n in 0..HOURS * 6 {
        say(&mut client, "m1", HOURS * 60 - n * 10, n as u32);
    }
    app.settled();
    let ask = |query: &str| app.api.get(&format!("/api/devices/m1/metrics?{query}")).expect(200).json();
    let queries: Vec<String> = ["mean", "min", "max", "first", "last", "count", "sum", "integral"]
        .iter()
        .flat_map(|function| {
            [("7m", "-50h"), ("1h", "-8d"), ("1d", "-9d")].map(|(every, start)| {
                format!("metric=voltage_dc,active_power&every={every}&fn={function}&start={start}")
            })
        })
        .chain(["max_points=20&start=-50h&metric=voltage_dc".to_owned(), "max_points=100&start=-8d".to_owned()])
        .collect();
    let all = || queries.iter().map(|query| ask(query)).collect::<Vec<Value>>();
    let before = all();
    assert!(before.iter().all(|answer| !answer.as_array().unwrap().is_empty()), "{before:?}");
    app.eventually("it is rolled up", || is_rolled_up(&app, "m1"));
    assert!(page(&app, "m1").rows.len() >= 9, "three types, three days");
    assert_eq!(all(), before);
    let count = "every=1d&fn=count&metric=voltage_dc&start=-9d";
    let counted =
        |answer: &Value| answer.as_array().unwrap().iter().map(|point| point["value"].as_f64().unwrap()).sum::<f64>();
    assert_eq!(counted(&ask(count)), (HOURS * 6 * 20) as f64);
    // Late: it counts from the moment it is stored, and the hour is rolled up again.
    say(&mut client, "m1", 30 * 60 + 5, 100_000);
    app.settled();
    assert_eq!(counted(&ask(count)), (HOURS * 6 * 20 + 20) as f64);
    let late = all();
    assert_ne!(late, before);
    app.eventually("it is rolled up again", || is_rolled_up(&app, "m1"));
    assert_eq!(all(), late);
    let metrics = app.api.get("/metrics").expect(200).text();
    let value = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert!(value("iot_meter_rollup_parts_total{kind=\"new\"}") >= HOURS as f64);
    assert!(value("iot_meter_rollup_parts_total{kind=\"late\"}") >= 1.0);
    assert_eq!(app.api.get("/api/system/status").expect(200).json()["tasks"]["rollups"]["state"], "running");
    // A device that goes with its data leaves none of it.
    app.api.delete("/api/devices/m1?purge=true").expect(200);
    app.register("m1");
    assert_eq!(page(&app, "m1").rows, []);
    assert_eq!(ask(count), json!([]));
}

#[test]
fn few_samples_of_a_long_range_are_all_shown() {
    let app = TestApp::builder().open().clock(NOW).start();
    app.register("m1");
    let (mut client, _) = app.mqtt(&Connect::id("m1"));
    say(&mut client, "m1", 40 * 60, 1);
    app.settled();
    let ask = || app.api.get("/api/devices/m1/metrics?metric=voltage_dc&start=-50h&max_points=30").expect(200).json();
    assert_eq!(ask().as_array().unwrap().len(), 20);
    app.eventually("it is rolled up", || is_rolled_up(&app, "m1"));
    assert_eq!(ask().as_array().unwrap().len(), 20, "a minute's corners would be four");
}

//! Measurements, latest values, raw messages, gaps.

use serde_json::{Value, json};

use crate::api::testing::{Bench, NOW};
use crate::domain::device::Latest;
use crate::domain::metric::Metric;
use crate::domain::sequence::Gap;
use crate::domain::{DeviceState, Timestamp};
use crate::store::GapEntry;

fn ago(ms: i64) -> Timestamp {
    NOW.plus_us(-ms * 1000)
}

/// (milliseconds before now, value) of the points of an answer.
fn points(body: &Value) -> Vec<(i64, f64)> {
    let time = |p: &Value| Timestamp::parse_rfc3339(p["time"].as_str().unwrap()).unwrap();
    body.as_array().unwrap().iter().map(|p| ((NOW.0 - time(p).0) / 1000, p["value"].as_f64().unwrap())).collect()
}

/// Two datagrams whose samples overlap in time.
fn overlapping(bench: &Bench) {
    bench.add_datagram("m-1", ago(10_000), 1, &[(-2000, "voltage_dc", 1.0), (3000, "voltage_dc", 4.0)]);
    bench.add_datagram("m-1", ago(8000), 2, &[(-3000, "voltage_dc", 2.0), (0, "voltage_dc", 3.0)]);
}

#[actix_web::test]
async fn measurements_come_by_sample_time_though_messages_overlap() {
    let bench = Bench::new(true);
    bench.add_device("m-1").await;
    overlapping(&bench);
    let answer = bench.get("/api/devices/m-1/metrics").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    assert_eq!(points(&answer.json()), [(12_000, 1.0), (11_000, 2.0), (8000, 3.0), (7000, 4.0)]);
    assert_eq!(
        answer.json()[0],
        json!({"time": "2026-02-12T09:59:48Z", "device_id": "m-1", "metric": "voltage_dc", "value": 1.0, "unit": "V"})
    );
}

#[actix_web::test]
async fn a_range_finds_samples_of_messages_outside_it() {
    let bench = Bench::new(true);
    bench.add_device("m-1").await;
    overlapping(&bench);
    let get = async |query: &str| points(&bench.get(&format!("/api/devices/m-1/metrics?{query}")).await.json());
    assert_eq!(get("start=-12s&stop=-11s").await, [(12_000, 1.0)]);
    assert_eq!(get("start=-7s").await, [(7000, 4.0)]);
    assert_eq!(get("start=-11s&stop=-8s").await, [(11_000, 2.0)]);
    assert_eq!(get("start=-1s").await, []);
    assert_eq!(get(&format!("start={}&stop=2026-02-12T09:59:52.001Z", (NOW.0 / 1000) - 11_000)).await.len(), 2);
}

#[actix_web::test]
async fn odd_values_are_marked_and_power_is_derived() {
    let bench = Bench::new(true);
    bench.add_device("m-1").await;
    bench.add_datagram("m-1", ago(5000), 1, &[(0, "voltage_dc", 9000.0), (0, "current_dc", 2.0)]);
    let all = bench.get("/api/devices/m-1/metrics").await.json();
    assert_eq!((&all[0]["quality"], all[1].get("quality")), (&json!("out_of_range"), None));
    let power = bench.get("/api/devices/m-1/metrics?metric=active_power").await.json();
    assert_eq!(
        power,
        json!([{"time": "2026-02-12T09:59:55Z", "device_id": "m-1", "metric": "active_power", "value": 18000.0,
            "unit": "W", "quality": "out_of_range"}])
    );
}

#[actix_web::test]
async fn buckets_thinning_and_formats_work_together() {
    let bench = Bench::new(true);
    bench.add_device("m-1").await;
    for n in 0..60_i64 {
        bench.add_datagram("m-1", ago(600_000 - n * 10_000), n as u32, &[(0, "voltage_dc", n as f64)]);
    }
    let path = |query: &str| format!("/api/devices/m-1/metrics?start=-1h&{query}");
    let buckets = bench.get(&path("every=5m&fn=max")).await.json();
    assert_eq!(points(&buckets), [(600_000, 29.0), (300_000, 59.0)]);
    assert_eq!(bench.get(&path("max_points=7")).await.json().as_array().unwrap().len(), 7);
    assert_eq!(bench.get(&path("every=1m&max_points=4")).await.json().as_array().unwrap().len(), 4);
    let csv = bench.get(&path("every=5m&format=csv")).await;
    assert_eq!(String::from_utf8(csv.bytes).unwrap().lines().count(), 3);
    let lines = bench.get(&path("format=ndjson")).await;
    assert_eq!(String::from_utf8(lines.bytes).unwrap().lines().count(), 60);
    let unknown = bench.get(&path("format=xml")).await;
    assert_eq!(unknown.status, 400);
    assert!(unknown.json()["error"].as_str().unwrap().contains("json, csv, ndjson or parquet"));
}

#[actix_web::test]
async fn a_long_answer_is_whole() {
    let bench = Bench::new(true);
    bench.add_device("m-1").await;
    for n in 0..3000_i64 {
        bench.add_datagram(
            "m-1",
            ago(3_500_000 - n * 1000),
            n as u32,
            &[(0, "voltage_dc", 1.0), (0, "current_dc", 2.0)],
        );
    }
    let answer = bench.get("/api/devices/m-1/metrics").await;
    assert!(answer.bytes.len() > 400_000);
    assert_eq!(answer.json().as_array().unwrap().len(), 6000);
}

#[actix_web::test]
async fn an_unknown_device_is_404_and_an_empty_one_an_empty_array() {
    let bench = Bench::new(true);
    bench.add_device("m-1").await;
    for what in ["metrics", "latest", "raw-data", "gaps", "status"] {
        assert_eq!(bench.get(&format!("/api/devices/m-9/{what}")).await.status, 404, "{what}");
    }
    assert_eq!(bench.get("/api/devices/-bad/metrics").await.status, 404);
    for what in ["metrics", "latest", "gaps"] {
        let answer = bench.get(&format!("/api/devices/m-1/{what}")).await;
        assert_eq!((answer.status, answer.json()), (200, json!([])), "{what}");
    }
    for bad in ["start=soon", "stop=1h", "start=now()&stop=-1h"] {
        assert_eq!(bench.get(&format!("/api/devices/m-1/metrics?{bad}")).await.status, 400, "{bad}");
    }
}

#[actix_web::test]
async fn latest_says_how_old_each_value_is() {
    let bench = Bench::new(true);
    bench.add_device("m-1").await;
    let newest = Latest { ts: ago(2500), value: 750.0, unit: None };
    let latest = [(Metric::parse("voltage_dc").unwrap(), newest)].into();
    bench.with_state("m-1", DeviceState { latest, ..DeviceState::default() });
    assert_eq!(
        bench.get("/api/devices/m-1/latest").await.json(),
        json!([{"time": "2026-02-12T09:59:57.500Z", "device_id": "m-1", "metric": "voltage_dc", "value": 750.0,
            "unit": "V", "age_s": 2.5}])
    );
}

#[actix_web::test]
async fn raw_messages_are_listed_and_given_as_they_came_but_never_run() {
    let bench = Bench::new(true);
    bench.add_device("m-1").await;
    let list = bench.get("/api/devices/m-1/raw-data?prefix=telemetry&limit=5").await;
    let filename = list.json()[0]["filename"].as_str().unwrap().to_owned();
    assert_eq!(
        list.json(),
        json!([{"filename": "m-1/telemetry/2026-02-12T10:00:00Z.json", "size": 7,
            "last_modified": "2026-02-12T10:00:00Z"}])
    );
    for name in [filename.as_str(), "telemetry/2026-02-12T10:00:00Z.json", &filename.replace('/', "%2F")] {
        let raw = bench.get(&format!("/api/devices/m-1/raw-data/{name}")).await;
        assert_eq!((raw.status, raw.bytes.as_slice()), (200, &b"<b>\xff"[..]), "{name}");
        assert_eq!(raw.header("content-type"), "application/octet-stream");
    }
    assert_eq!(bench.get("/api/devices/m-1/raw-data/x").await.status, 404);
    for bad in ["limit=0", "limit=1001", "prefix=secrets"] {
        assert_eq!(bench.get(&format!("/api/devices/m-1/raw-data?{bad}")).await.status, 400, "{bad}");
    }
}

#[actix_web::test]
async fn gaps_say_what_is_missing_and_when_it_was_filled() {
    let bench = Bench::new(true);
    bench.add_device("m-1").await;
    let missing = vec![(u32::MAX, 1), (5, 5)];
    let gap = Gap { first: u32::MAX, last: 9, after: ago(9000), before: ago(8000), missing };
    bench.add_gap(GapEntry { gap, detected_at: ago(7000), filled_at: None });
    let gaps = bench.get("/api/devices/m-1/gaps?start=-1h").await.json();
    assert_eq!((&gaps[0]["missing_count"], &gaps[0]["filled_at"]), (&json!(4), &Value::Null));
    assert_eq!(gaps[0]["missing"], json!([[u32::MAX, 1], [5, 5]]));
}

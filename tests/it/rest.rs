//! The contract of old REST clients: paths, codes and shapes.

use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::{Value, json};

use crate::support::{Connect, TestApp, telemetry};

fn has(value: &Value, fields: &[&str]) {
    for field in fields {
        assert!(value.get(field).is_some(), "`{field}` is missing in {value}");
    }
}

#[test]
fn health_ready_and_stats_have_their_shapes() {
    let app = TestApp::open();
    let health = app.api.get("/health").expect(200).json();
    assert_eq!((health["status"].as_str(), health["service"].as_str()), (Some("healthy"), Some("iot-meter")));
    assert_eq!(app.api.get("/healthz").expect(200).json()["status"], "alive");
    let ready = app.api.get("/readyz").expect(200).json();
    assert_eq!(ready["status"], "ready");
    assert!(ready["checks"].is_object());
    let stats = app.api.get("/api/stats").expect(200).json();
    has(&stats, &["total_devices", "device_by_status", "unacknowledged_alerts"]);
}

#[test]
fn devices_are_made_read_changed_listed_and_removed() {
    let app = TestApp::open();
    let new = json!({"device_id": "m1", "device_name": "Meter 1", "device_type": "dc", "location": "Bern", "metadata": {"line": "S1"}});
    let made = app.api.post("/api/devices", &new).expect(201).json();
    has(
        &made,
        &[
            "id",
            "device_id",
            "device_name",
            "device_type",
            "location",
            "status",
            "connection_status",
            "last_seen",
            "fw_version",
            "created_at",
            "updated_at",
            "metadata",
        ],
    );
    assert_eq!(made["status"], "active");
    app.api.post("/api/devices", &new).expect(409);
    let missing = app.api.post("/api/devices", &json!({"device_id": "m2"})).expect(400);
    assert_eq!(missing.header("Content-Type"), Some("application/problem+json"));
    let missing = missing.json();
    has(&missing, &["type", "title", "status", "detail", "error", "request_id"]);
    assert!(missing["error"].as_str().unwrap().contains("device_name"), "{missing}");
    app.api.get("/api/devices/none").expect(404);
    let one = app.api.get("/api/devices/m1").expect(200);
    let etag = one.header("ETag").expect("single resources have an ETag").to_owned();
    assert_eq!(app.api.send("GET", "/api/devices/m1", &[("If-None-Match", &etag)], None).status, 304);
    app.api.put("/api/devices/m1", &json!({})).expect(400);
    app.api.put("/api/devices/none", &json!({"location": "Thun"})).expect(404);
    let changed = app.api.put("/api/devices/m1", &json!({"location": "Thun", "status": "inactive"})).expect(200).json();
    assert_eq!((changed["location"].as_str(), changed["status"].as_str()), (Some("Thun"), Some("inactive")));
    let stale = app.api.send(
        "PUT",
        "/api/devices/m1",
        &[("Content-Type", "application/json"), ("If-Match", &etag)],
        Some(br#"{"location":"Olten"}"#.to_vec()),
    );
    assert_eq!(stale.status, 412, "{}", stale.text());
    for n in 2..=5 {
        app.register(&format!("m{n}"));
    }
    let page = app.api.get("/api/devices?page=2&per_page=2").expect(200);
    assert_eq!(page.header("X-Total-Count"), Some("5"));
    assert!(
        page.header("Link").is_some_and(|l| l.contains(r#"rel="next""#) && l.contains(r#"rel="prev""#)),
        "{page:?}"
    );
    assert_eq!(page.json().as_array().unwrap().len(), 2);
    let check = |query: &str, count: usize| {
        let found = app.api.get(&format!("/api/devices?{query}")).expect(200).json();
        assert_eq!(found.as_array().unwrap().len(), count, "{query}: {found}");
    };
    check("status=inactive", 1);
    check("location=Thun", 1);
    check("metadata.line=S1", 1);
    check("metadata.line=S2", 0);
    check("q=M1", 1);
    check("connection_status=unknown", 5);
    app.api.get("/api/devices?per_page=0").expect(400);
    has(&app.api.delete("/api/devices/m1").expect(200).json(), &["message"]);
    app.api.delete("/api/devices/m1").expect(404);
}

#[test]
fn a_list_is_walked_by_cursor_while_it_changes() {
    let app = TestApp::open();
    for n in 1..=7 {
        app.register(&format!("w{n}"));
    }
    let mut seen = Vec::new();
    let mut next = Some("/api/devices?cursor=&per_page=2&q=w".to_owned());
    while let Some(path) = next {
        let part = app.api.get(&path).expect(200);
        assert_eq!(part.header("X-Total-Count"), None);
        let items = part.json();
        seen.extend(items.as_array().unwrap().iter().map(|d| d["device_id"].as_str().unwrap().to_owned()));
        match seen.len() {
            // One seen, one not yet seen, and the very one the cursor names go; a new one comes.
            2 => {
                for gone in ["w7", "w6", "w4"] {
                    app.api.delete(&format!("/api/devices/{gone}")).expect(200);
                }
                app.register("w8");
            }
            _ => assert!(seen.len() <= 6, "{seen:?}"),
        }
        let links = part.header("Link").unwrap().to_owned();
        let link = links.split(", ").find_map(|link| link.strip_suffix("; rel=\"next\""));
        next = link.map(|link| link.trim_matches(['<', '>']).to_owned());
    }
    assert_eq!(seen, ["w7", "w6", "w5", "w3", "w2", "w1"]);
    let refused = app.api.get("/api/devices?cursor=w5").expect(400).json();
    assert_eq!(refused["errors"][0]["field"], "cursor");
    app.api.get("/api/devices?cursor=&page=1").expect(400);
}

#[test]
fn alerts_are_raised_listed_and_acknowledged() {
    let app = TestApp::open();
    app.register("m1");
    app.api.post("/api/devices/none/alerts", &json!({"message": "x"})).expect(404);
    let made = app
        .api
        .post("/api/devices/m1/alerts", &json!({"alert_type": "door", "severity": "critical", "message": "open"}))
        .expect(201)
        .json();
    has(&made, &["id", "device_id", "alert_type", "severity", "message", "acknowledged", "created_at"]);
    assert_eq!(made["acknowledged"], false);
    app.api.post("/api/devices/m1/alerts", &json!({})).expect(201);
    let done = app.api.post(&format!("/api/alerts/{}/acknowledge", made["id"]), &json!({})).expect(200).json();
    assert_eq!(done["acknowledged"], true);
    app.api.post("/api/alerts/999999/acknowledge", &json!({})).expect(404);
    let open = app.api.get("/api/devices/m1/alerts?acknowledged=false").expect(200).json();
    assert_eq!(open.as_array().unwrap().len(), 1, "{open}");
    let critical = app.api.get("/api/devices/m1/alerts?severity=critical").expect(200).json();
    assert_eq!(critical.as_array().unwrap().len(), 1);
    assert_eq!(app.api.get("/api/stats").expect(200).json()["unacknowledged_alerts"], 1);
}

#[test]
fn bad_requests_get_the_status_and_the_words_they_deserve() {
    let app = TestApp::open();
    app.register("m1");
    let json_type = [("Content-Type", "application/json")];
    assert_eq!(app.api.send("POST", "/api/devices", &json_type, Some(b"{not json".to_vec())).status, 400);
    assert_eq!(
        app.api.send("POST", "/api/devices", &[("Content-Type", "text/plain")], Some(b"{}".to_vec())).status,
        415
    );
    let large = format!(r#"{{"device_id":"x","device_name":"{}"}}"#, "a".repeat(2 << 20));
    assert_eq!(app.api.send("POST", "/api/devices", &json_type, Some(large.into_bytes())).status, 413);
    for query in
        ["start=banana", "stop=tomorrow", "every=-5m&fn=mean", "every=5m&fn=median", "format=xml", "max_points=0"]
    {
        let answer = app.api.get(&format!("/api/devices/m1/metrics?{query}"));
        assert_eq!(answer.status, 400, "{query}: {}", answer.text());
    }
    app.api.get("/api/devices/m1/raw-data?limit=1001").expect(400);
    app.api.get("/api/nothing/here").expect(404);
    let with_id = app.api.send("GET", "/api/stats", &[("X-Request-Id", "abc-123")], None);
    assert_eq!(with_id.header("X-Request-Id"), Some("abc-123"));
    assert!(app.api.get("/api/stats").header("X-Request-Id").is_some());
}

#[test]
fn metrics_come_in_buckets_thinned_derived_and_in_other_formats() {
    let app = TestApp::open();
    let (mut meter, _) = app.mqtt(&Connect::id("m1"));
    for seq in 0..60u32 {
        let payload = telemetry("m1", app.at(i64::from(seq)), seq, 700.0 + f64::from(seq));
        meter.publish("iot/m1/telemetry", payload.as_bytes(), 1);
    }
    app.settled();
    let get = |query: &str| app.api.get(&format!("/api/devices/m1/metrics?start=-1h&{query}")).expect(200);
    let power = get("metric=active_power").json();
    assert_eq!(power.as_array().unwrap().len(), 60);
    assert_eq!(power[0]["value"], 700.0 * 100.0);
    let thin = get("metric=voltage_dc&max_points=10").json();
    // A minute gives its first, least, greatest and last sample: two of this line, or one where it has no more.
    let border = 60 - app.at(0).0 / 1_000_000 % 60;
    let minutes = [0..border, border..60].into_iter().filter(|minute| !minute.is_empty());
    let mut corners: Vec<f64> =
        minutes.flat_map(|minute| [minute.start, minute.end - 1]).map(|n| 700.0 + n as f64).collect();
    corners.dedup();
    let values: Vec<f64> = thin.as_array().unwrap().iter().filter_map(|point| point["value"].as_f64()).collect();
    assert_eq!(values, corners, "{thin}");
    let max = get("metric=voltage_dc&every=1h&fn=max").json();
    let highest = max.as_array().unwrap().iter().filter_map(|r| r["value"].as_f64()).fold(0.0, f64::max);
    assert_eq!(highest, 759.0);
    let count: f64 = get("metric=voltage_dc&every=1m&fn=count")
        .json()
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|r| r["value"].as_f64())
        .sum();
    assert_eq!(count, 60.0);
    assert_eq!(get("metric=voltage_dc&format=ndjson").text().lines().count(), 60);
    assert_eq!(get("metric=voltage_dc&format=csv").text().lines().count(), 61);
    let table = get("metric=voltage_dc&format=parquet");
    assert_eq!(table.header("Content-Type"), Some("application/vnd.apache.parquet"));
    let file = SerializedFileReader::new(bytes::Bytes::from(table.body)).unwrap();
    assert_eq!(file.metadata().file_metadata().num_rows(), 60);
    let latest = app.api.get("/api/devices/m1/latest").expect(200).json();
    assert!(latest.to_string().contains("759"), "{latest}");
}

#[test]
fn the_openapi_document_and_its_page_are_served_without_another_host() {
    let app = TestApp::open();
    let document = app.api.get("/api/openapi.json").expect(200).json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    assert!(document["paths"].get("/api/devices/{id}").is_some());
    let page = app.api.get("/api/docs/");
    assert_eq!(page.status, 200);
    assert!(!page.text().contains("https://"), "{}", page.text());
}

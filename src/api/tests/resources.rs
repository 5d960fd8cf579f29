//! Devices, alerts, commands, health: shapes and status codes that clients in the field rely on.

use serde_json::{Value, json};

use super::walk::example;
use crate::api::testing::{Bench, NOW};
use crate::api::{Options, Route, routes};
use crate::collector::RequestKind;
use crate::dispatch::Request;
use crate::domain::DeviceId;
use crate::domain::presence::Connection;
use crate::domain::sequence::Gap;
use crate::store::{GapEntry, Store};

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[actix_web::test]
async fn a_device_is_created_read_changed_and_removed() {
    let mut bench = Bench::new(true);
    let body = json!({"device_id": "m-1", "device_name": "One", "metadata": {"line": "S1"}, "extra": 1});
    let made = bench.post("/api/devices", body.clone()).await;
    assert_eq!(made.status, 201);
    let made = made.json();
    for name in [
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
        "token",
    ] {
        assert!(keys(&made).contains(&name), "{name}");
    }
    assert_eq!((&made["status"], &made["created_at"]), (&json!("active"), &json!("2026-02-12T10:00:00Z")));
    let digest = crate::api::key::digest(made["token"].as_str().unwrap());
    let credential = bench.store.device_credential(&DeviceId::parse("m-1").unwrap()).unwrap().unwrap();
    assert_eq!(credential.token_sha256, Some(digest));
    assert_eq!(bench.post("/api/devices", body).await.status, 409);

    let read = bench.get("/api/devices/m-1").await;
    assert!(!keys(&read.json()).contains(&"token"));
    let changed = bench.put("/api/devices/m-1", json!({"device_name": "Two", "status": "inactive"})).await;
    assert_eq!((changed.status, changed.json()["status"].clone()), (200, json!("inactive")));
    assert_eq!(bench.put("/api/devices/m-1", json!({})).await.status, 400);
    assert_eq!(bench.put("/api/devices/m-2", json!({"device_name": "x"})).await.status, 404);
    assert_eq!(bench.asked.try_recv(), Ok(Request::Disconnect(DeviceId::parse("m-1").unwrap())));

    let removed = bench.send("DELETE", "/api/devices/m-1", None, &[]).await;
    assert_eq!((removed.status, keys(&removed.json())), (200, vec!["message"]));
    assert_eq!(bench.send("DELETE", "/api/devices/m-1", None, &[]).await.status, 404);
    assert!(bench.asked.try_recv().is_ok());
    let told = bench.told.lock().unwrap();
    assert_eq!(*told, [RequestKind::Reload, RequestKind::Reload, RequestKind::Deleted]);
}

#[actix_web::test]
async fn a_stale_edit_is_412_and_an_unchanged_read_304() {
    let bench = Bench::new(true);
    bench.add_device("m-1").await;
    let read = bench.get("/api/devices/m-1").await;
    let tag = read.header("etag").to_owned();
    let again = bench.send("GET", "/api/devices/m-1", None, &[("if-none-match", &tag)]).await;
    assert_eq!((again.status, again.bytes.len()), (304, 0));
    let edit =
        async || bench.send("PUT", "/api/devices/m-1", Some(json!({"device_name": "n"})), &[("if-match", &tag)]).await;
    assert_eq!(edit().await.status, 200);
    assert_eq!(edit().await.status, 412);
    let remove = async |tag: &str| bench.send("DELETE", "/api/devices/m-1", None, &[("if-match", tag)]).await.status;
    assert_eq!(remove(&tag).await, 412);
    assert_eq!(bench.get("/api/devices/m-1").await.json()["status"], "active");
    assert_eq!(remove(bench.get("/api/devices/m-1").await.header("etag")).await, 200);
}

#[actix_web::test]
async fn a_status_that_is_not_what_it_was_is_not_set_by_who_has_read_it_before() {
    let bench = Bench::new(true);
    bench.add_device("m-1").await;
    let path = "/api/devices/m-1/status";
    let tag = bench.get(path).await.header("etag").to_owned();
    assert_eq!(bench.send("GET", path, None, &[("if-none-match", &tag)]).await.status, 304);
    let set = async |tag: &str| {
        let body = Some(json!({"connection_status": "offline"}));
        bench.send("PUT", path, body, &[("if-match", tag)]).await.status
    };
    assert_eq!([set(&tag).await, set("*").await, set("\"0-00\"").await], [200, 200, 412]);
    let expected = |kind: &RequestKind| match kind {
        RequestKind::SetStatus { expected, .. } => Some(expected.clone()),
        _ => None,
    };
    let told: Vec<_> = bench.told.lock().unwrap().iter().filter_map(expected).collect();
    assert_eq!(told, [Some((Connection::Unknown, None)), None], "and the collector compares once more");
    bench.set_connection("m-1", Connection::Online);
    let before = bench.told.lock().unwrap().len();
    assert_eq!(set(&tag).await, 412);
    assert_eq!(bench.told.lock().unwrap().len(), before, "the collector is not told");
    assert_eq!(set(bench.get(path).await.header("etag")).await, 200);
}

#[actix_web::test]
async fn what_has_no_tag_is_changed_by_nobody_who_names_one() {
    let untagged: Vec<_> = routes().into_iter().filter(Route::is_untagged).collect();
    let mut names: Vec<_> = untagged.iter().map(|route| format!("{} {}", route.method, route.pattern)).collect();
    names.sort();
    // Whoever adds one has to say so here.
    let expected = [
        "DELETE /api/claims/{prefix}",
        "DELETE /api/devices/{id}/enrolment",
        "DELETE /api/firmware/{firmware_id}",
        "DELETE /api/keys/{prefix}",
        "DELETE /api/services/{name}",
        "DELETE /api/session",
        "PUT /api/services/{name}",
        "PUT /api/system/log-level",
    ];
    assert_eq!(names, expected);
    let bench = Bench::new(true);
    assert_eq!(bench.post("/api/services", json!({"name": "grafana"})).await.status, 201);
    for route in untagged {
        let path = example(&route.pattern, "1", "1");
        let ask = async |tag: &str| bench.send(route.method.as_str(), &path, None, &[("if-match", tag)]).await.status;
        assert_eq!(ask("\"1-00\"").await, 412, "{route:?}");
        assert_ne!(ask("*").await, 412, "{route:?}");
    }
    assert_eq!(bench.get("/api/services").await.json(), json!([]), "that was removed with *");
}

#[actix_web::test]
async fn a_command_that_has_gone_on_is_not_acknowledged_by_who_has_read_it_before() {
    let bench = Bench::new(true);
    bench.add_device("m-1").await;
    let given = bench.post("/api/devices/m-1/commands", json!({"cmd": "reboot"})).await.json();
    let path = format!("/api/commands/{}", given["cmd_id"].as_str().unwrap());
    let tag = bench.get(&path).await.header("etag").to_owned();
    let ack = async |tag: &str| {
        let body = Some(json!({"result": "accepted"}));
        bench.send("PUT", &format!("{path}/ack"), body, &[("if-match", tag)]).await.status
    };
    assert_eq!([ack("\"99-00\"").await, ack(&tag).await, ack(&tag).await], [412, 200, 412]);
    assert_eq!(ack(bench.get(&path).await.header("etag")).await, 200);
}

#[actix_web::test]
async fn missing_fields_are_400_and_all_are_named() {
    let bench = Bench::new(true);
    let answer = bench.post("/api/devices", json!({"status": "gone"})).await;
    assert_eq!(answer.status, 400);
    let mut fields: Vec<String> =
        answer.json()["errors"].as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap().to_owned()).collect();
    fields.sort();
    assert_eq!(fields, ["device_id", "device_name", "status"]);
}

#[actix_web::test]
async fn lists_are_arrays_newest_first_with_pages() {
    let bench = Bench::new(true);
    for n in 1..=60 {
        bench.add_device(&format!("m-{n}")).await;
    }
    let first = bench.get("/api/devices").await;
    assert_eq!(first.json().as_array().unwrap().len(), 50);
    assert_eq!(first.json()[0]["device_id"], "m-60");
    assert_eq!(first.header("x-total-count"), "60");
    assert!(first.header("link").contains("</api/devices?page=2&per_page=50>; rel=\"next\""));
    assert_eq!(bench.get("/api/devices?page=2").await.json().as_array().unwrap().len(), 10);
    assert_eq!(bench.get("/api/devices?per_page=501&status=x").await.json()["errors"].as_array().unwrap().len(), 2);
}

/// Follows the links of a list to its end: the parts' lengths.
async fn walk(bench: &Bench, start: &str) -> Vec<usize> {
    let mut parts = Vec::new();
    let mut next = Some(start.to_owned());
    while let Some(path) = next {
        let answer = bench.get(&path).await;
        assert_eq!((answer.status, answer.header("x-total-count")), (200, ""), "{path}");
        assert!(answer.header("link").contains("?cursor=&per_page=2"), "{}", answer.header("link"));
        parts.push(answer.json().as_array().unwrap().len());
        let links = answer.header("link").split(", ").find_map(|link| link.strip_suffix(">; rel=\"next\""));
        next = links.map(|link| link[1..].to_owned());
    }
    parts
}

#[actix_web::test]
async fn every_list_can_be_walked_by_cursor() {
    let bench = Bench::new(true);
    for n in 1..=5 {
        bench.add_device(&format!("m-{n}")).await;
        assert_eq!(bench.post("/api/devices/m-1/alerts", json!({})).await.status, 201);
        assert_eq!(bench.post("/api/devices/m-1/commands", json!({"cmd": "reboot"})).await.status, 202);
        let gap = Gap { first: n, last: n, after: NOW, before: NOW, missing: vec![] };
        bench.add_gap(GapEntry { gap, detected_at: NOW, filled_at: None });
        let fingerprint = format!("{n:x}");
        let alert = json!({"status": "firing", "fingerprint": fingerprint, "startsAt": "2026-02-12T09:00:00Z"});
        let told = json!({"version": "4", "alerts": [alert]});
        assert_eq!(bench.post("/api/alertmanager/webhook", told).await.status, 202);
        assert_eq!(bench.post("/api/claims", json!({"name": "x", "devices": "m-*"})).await.status, 201);
        assert_eq!(bench.post("/api/services", json!({"name": format!("s-{n}")})).await.status, 201);
    }
    let lists = ["devices", "alerts", "webhooks", "devices/m-1/alerts", "devices/m-1/commands", "devices/m-1/gaps"];
    for list in lists.into_iter().chain(["claims", "services"]) {
        assert_eq!(walk(&bench, &format!("/api/{list}?cursor=&per_page=2")).await, [2, 2, 1], "{list}");
        let bad = bench.get(&format!("/api/{list}?cursor=x&page=1")).await;
        let errors = bad.json()["errors"].as_array().unwrap().clone();
        assert!(bad.status == 400 && errors.iter().all(|e| e["field"] == "cursor") && errors.len() == 2, "{errors:?}");
    }
}

#[actix_web::test]
async fn claims_and_service_accounts_come_in_pages() {
    let bench = Bench::new(true);
    for n in 1..=51 {
        assert_eq!(bench.post("/api/claims", json!({"name": format!("c-{n}"), "devices": "m-*"})).await.status, 201);
        assert_eq!(bench.post("/api/services", json!({"name": format!("s-{n}")})).await.status, 201);
    }
    for (list, newest, oldest) in [("claims", "c-51", "c-1"), ("services", "s-51", "s-1")] {
        let first = bench.get(&format!("/api/{list}")).await;
        assert_eq!((first.json().as_array().unwrap().len(), first.header("x-total-count")), (50, "51"), "{list}");
        assert!(first.header("link").contains(&format!("</api/{list}?page=2&per_page=50>; rel=\"next\"")), "{list}");
        assert_eq!(first.json()[0]["name"], newest);
        let second = bench.get(&format!("/api/{list}?page=2")).await.json();
        assert_eq!((second.as_array().unwrap().len(), &second[0]["name"]), (1, &json!(oldest)));
        assert_eq!(bench.get(&format!("/api/{list}?per_page=0")).await.status, 400, "{list}");
    }
}

#[actix_web::test]
async fn a_service_account_does_not_begin_after_its_end() {
    let bench = Bench::new(true);
    let make = async |end: &str| bench.post("/api/services", json!({"name": "grafana", "expires_at": end})).await;
    let late = make("2026-02-12T10:00:00Z").await;
    assert_eq!((late.status, &late.json()["errors"][0]["field"]), (422, &json!("expires_at")));
    assert_eq!(bench.get("/api/services").await.json(), json!([]));
    assert_eq!(make("2026-02-12T10:00:01Z").await.status, 201);
}

/// A list that is forgotten above would have a page number and no cursor.
#[test]
fn every_list_with_pages_has_cursors() {
    let document = serde_json::to_value(crate::api::document()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let parameters = |item: &Value| -> Vec<String> {
        let all = item["get"]["parameters"].as_array().cloned().unwrap_or_default();
        all.iter().map(|p| p["name"].as_str().unwrap().to_owned()).collect()
    };
    let has = |item: &Value, name: &str| parameters(item).iter().any(|p| p == name);
    let pages: Vec<_> = paths.iter().filter(|(_, item)| has(item, "page")).map(|(path, _)| path.as_str()).collect();
    let cursors: Vec<_> = paths.iter().filter(|(_, item)| has(item, "cursor")).map(|(path, _)| path.as_str()).collect();
    assert_eq!(pages, cursors);
    assert_eq!(pages.len(), 15, "{pages:?}");
}

#[actix_web::test]
async fn presence_by_rest_goes_through_the_collector() {
    let bench = Bench::new(true);
    bench.add_device("m-1").await;
    assert_eq!(bench.send("POST", "/api/devices/m-1/heartbeat", None, &[]).await.status, 200);
    assert_eq!(bench.send("POST", "/api/devices/m-2/heartbeat", None, &[]).await.status, 404);
    let set = bench.put("/api/devices/m-1/status", json!({"connection_status": "online", "fw_version": "2"})).await;
    assert_eq!(set.status, 200);
    assert_eq!(bench.put("/api/devices/m-1/status", json!({})).await.status, 400);
    assert_eq!(bench.put("/api/devices/m-1/status", json!({"connection_status": "up"})).await.status, 400);
    assert_eq!(bench.put("/api/devices/m-2/status", json!({"connection_status": "online"})).await.status, 404);
    let status = bench.get("/api/devices/m-1/status").await.json();
    for name in ["device_id", "connection_status", "last_seen", "fw_version"] {
        assert!(keys(&status).contains(&name), "{name}");
    }
    assert!(bench.told.lock().unwrap().contains(&RequestKind::Heartbeat));
}

#[actix_web::test]
async fn an_alert_is_raised_listed_and_acknowledged_once() {
    let bench = Bench::new(true);
    bench.add_device("m-1").await;
    let raised = bench.post("/api/devices/m-1/alerts", json!({"message": "hot"})).await;
    assert_eq!((raised.status, raised.json()["acknowledged"].clone()), (201, json!(false)));
    assert_eq!(bench.post("/api/devices/m-2/alerts", json!({})).await.status, 404);
    let seen = bench.send("POST", "/api/alerts/1/acknowledge", None, &[]).await;
    assert_eq!((seen.status, seen.json()["acknowledged"].clone()), (200, json!(true)));
    assert_eq!(seen.json()["acknowledged_by"], "open");
    assert_eq!(bench.send("POST", "/api/alerts/9/acknowledge", None, &[]).await.status, 404);
    assert_eq!(bench.send("POST", "/api/alerts/x/acknowledge", None, &[]).await.status, 404);
    assert_eq!(bench.get("/api/devices/m-1/alerts?acknowledged=false").await.json(), json!([]));
    assert_eq!(bench.get("/api/devices/m-1/alerts?acknowledged=maybe").await.status, 400);
    assert_eq!(bench.get("/api/alerts").await.json().as_array().unwrap().len(), 1);
    assert_eq!(bench.get("/api/devices/m-2/alerts").await.status, 404);
}

#[actix_web::test]
async fn a_command_waits_for_an_offline_device_and_goes_to_a_connected_one() {
    let mut bench = Bench::new(true);
    bench.add_device("m-1").await;
    let id = DeviceId::parse("m-1").unwrap();
    let body = json!({"cmd": "update_config", "params": {"send_interval_s": 5}});
    let waits = bench.post("/api/devices/m-1/commands", body.clone()).await;
    assert_eq!((waits.status, waits.json()["status"].clone()), (202, json!("pending")));
    assert_eq!(bench.asked.try_recv(), Ok(Request::Deliver(id.clone())));
    bench.connected.insert(id);
    let goes = bench.post("/api/devices/m-1/commands", body).await;
    assert_eq!(goes.status, 201);
    for name in ["cmd_id", "device_id", "cmd", "status", "message"] {
        assert!(keys(&goes.json()).contains(&name), "{name}");
    }
    let unknown = bench.post("/api/devices/m-1/commands", json!({"cmd": "explode"})).await;
    assert_eq!(unknown.status, 400);
    for name in ["update_config", "start_ota", "reboot", "factory_reset", "request_status"] {
        assert!(unknown.json()["error"].as_str().unwrap().contains(name));
    }
    let bad = bench.post("/api/devices/m-1/commands", json!({"cmd": "reboot", "params": {"x": 1}})).await;
    assert_eq!((bad.status, bad.json()["errors"][0]["field"].clone()), (400, json!("params.x")));
    let empty = bench.post("/api/devices/m-1/commands", json!({"cmd": "update_config"})).await;
    assert_eq!((empty.status, empty.json()["errors"][0]["field"].clone()), (400, json!("params")));
    assert_eq!(bench.post("/api/devices/m-2/commands", json!({"cmd": "reboot"})).await.status, 404);
    assert_eq!(bench.get("/api/devices/m-1/commands?status=pending").await.json().as_array().unwrap().len(), 2);
}

#[actix_web::test]
async fn a_command_is_acknowledged_or_cancelled_and_then_stays() {
    let bench = Bench::new(true);
    bench.add_device("m-1").await;
    let give = async || {
        let answer = bench.post("/api/devices/m-1/commands", json!({"cmd": "reboot"})).await;
        format!("/api/commands/{}", answer.json()["cmd_id"].as_str().unwrap())
    };
    let path = give().await;
    let ack = async |result: &str| bench.put(&format!("{path}/ack"), json!({"result": result})).await.status;
    assert_eq!(ack("done").await, 400);
    assert_eq!([ack("accepted").await, ack("accepted").await, ack("error").await], [200, 200, 409]);
    assert_eq!(bench.get(&path).await.json()["status"], "accepted");
    assert_eq!(bench.send("DELETE", &path, None, &[]).await.status, 409);
    let other = give().await;
    assert_eq!(bench.send("DELETE", &other, None, &[]).await.json()["status"], "cancelled");
    let missing = format!("/api/commands/{}/ack", uuid::Uuid::nil());
    assert_eq!(bench.put(&missing, json!({"result": "accepted"})).await.status, 404);
}

#[actix_web::test]
async fn an_accepted_configuration_reaches_the_collector() {
    let bench = Bench::new(true);
    bench.add_device("m-1").await;
    let reloads = || bench.told.lock().unwrap().len();
    let ack = async |cmd: Value, result: &str| {
        let given = bench.post("/api/devices/m-1/commands", cmd).await.json();
        let path = format!("/api/commands/{}/ack", given["cmd_id"].as_str().unwrap());
        assert_eq!(bench.put(&path, json!({"result": result})).await.status, 200);
    };
    let config = || json!({"cmd": "update_config", "params": {"send_interval_s": 5}});
    let before = reloads();
    ack(config(), "rejected").await;
    ack(json!({"cmd": "reboot"}), "accepted").await;
    assert_eq!(reloads(), before);
    ack(config(), "accepted").await;
    assert_eq!(reloads(), before + 1);
}

#[actix_web::test]
async fn a_command_lives_as_long_as_configured_unless_it_says() {
    let command_life = std::time::Duration::from_secs(60);
    let bench = Bench::with(true, Options { command_life, ..Options::default() });
    bench.add_device("m-1").await;
    let give = async |body: Value| bench.post("/api/devices/m-1/commands", body).await.json()["expires_at"].clone();
    assert_eq!(give(json!({"cmd": "reboot"})).await, "2026-02-12T10:01:00Z");
    assert_eq!(give(json!({"cmd": "reboot", "expires_in_s": 5})).await, "2026-02-12T10:00:05Z");
}

#[actix_web::test]
async fn health_and_figures_have_their_shapes() {
    let bench = Bench::new(true);
    let health = bench.get("/health").await.json();
    assert_eq!((&health["status"], &health["service"]), (&json!("healthy"), &json!("iot-meter")));
    assert_eq!(bench.get("/healthz").await.json()["status"], "alive");
    let ready = bench.get("/readyz").await;
    assert_eq!((ready.status, ready.json()["status"].clone()), (200, json!("ready")));
    let stats = bench.get("/api/stats").await.json();
    assert_eq!((&stats["total_devices"], &stats["unacknowledged_alerts"]), (&json!(0), &json!(0)));
    assert_eq!(stats["device_by_status"], json!([{"status": "active", "count": 0}]));
    let status = bench.get("/api/system/status").await.json();
    assert_eq!(status["journal"]["durable"], 100);
    assert_eq!((&status["collector"]["position"], &status["collector"]["lag_messages"]), (&json!(90), &json!(10)));
    assert_eq!(status["tasks"]["collector"]["state"], "running");
    assert_eq!(status["journal"]["stalled"], Value::Null);
    bench.take_database_away();
    assert_eq!(bench.get("/readyz").await.status, 200, "the answer of a moment ago");
    bench.clock.set(NOW.plus_us(1_000_000));
    let ready = bench.get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["checks"], json!({"database": "the database is unavailable"}));
}

#[actix_web::test]
async fn the_metrics_page_asks_strangers_for_a_key() {
    let bench = Bench::new(false);
    assert_eq!(bench.get("/metrics").await.status, 401);
    let key = bench.add_key(crate::store::Role::Viewer, None);
    let page = bench.send("GET", "/metrics", None, &[("x-api-key", &key)]).await;
    assert_eq!((page.status, page.bytes.as_slice()), (200, &b"up 1\n"[..]));
}

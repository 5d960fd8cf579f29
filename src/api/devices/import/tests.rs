//! Tables in, verdicts out, over a store in memory.

use std::sync::Arc;

use serde_json::{Value, json};

use super::MAX_IMPORTS;
use crate::api::testing::{Answer, Bench, PATIENCE};
use crate::api::{Options, key};
use crate::collector::RequestKind;
use crate::domain::DeviceId;
use crate::store::{Role, Store};

const CSV: &str = "text/csv; charset=UTF-8";

async fn import(bench: &Bench, query: &str, kind: &str, text: &str, key: Option<&str>) -> Answer {
    let mut headers = vec![("content-type", kind)];
    headers.extend(key.map(|key| ("x-api-key", key)));
    bench.send("POST", &format!("/api/devices/import{query}"), Some(text.into()), &headers).await
}

fn statuses(answer: &Answer) -> Vec<(u64, i64)> {
    let row = |row: &Value| (row["row"].as_u64().unwrap(), row["status"].as_i64().unwrap());
    answer.json()["rows"].as_array().unwrap().iter().map(row).collect()
}

const TABLE: &str = "device_id,device_name,device_type,location,metadata.line\n\
    m1,One,dc750,Bern,S1\nm1,Again,,,\nm2,Two,,,\nold,Old,,,\nkept,Kept,,,\n.m,,,,\n";

async fn with_two() -> Bench {
    let bench = Bench::new(true);
    for (id, name) in [("old", "Older"), ("kept", "Kept")] {
        assert_eq!(bench.post("/api/devices", json!({"device_id": id, "device_name": name})).await.status, 201);
    }
    bench.told.lock().unwrap().clear();
    bench
}

#[actix_web::test]
async fn every_row_has_its_verdict_and_a_token_where_it_was_registered() {
    let bench = with_two().await;
    let answer = import(&bench, "", CSV, TABLE, None).await;
    assert_eq!(answer.status, 207);
    assert_eq!(statuses(&answer), [(1, 201), (2, 409), (3, 201), (4, 409), (5, 200), (6, 422)]);
    let body = answer.json();
    assert_eq!((&body["registered"], &body["known"], &body["refused"]), (&json!(2), &json!(1), &json!(3)));
    let rows = &body["rows"];
    assert_eq!(rows[1]["error"], "device_id stands in row 1 already");
    assert_eq!(rows[5]["device_id"], ".m");
    assert_eq!(rows[5]["errors"].as_array().unwrap().len(), 2);
    assert!(rows[4]["token"].is_null() && rows[3]["token"].is_null());
    let device = bench.get("/api/devices/m1").await.json();
    assert_eq!((&device["location"], &device["metadata"]), (&json!("Bern"), &json!({"line": "S1"})));
    let token = rows[0]["token"].as_str().unwrap();
    let credential = bench.store.device_credential(&DeviceId::parse("m1").unwrap()).unwrap().unwrap();
    assert_eq!(credential.token_sha256, Some(key::digest(token)));
    assert_eq!(*bench.told.lock().unwrap(), [RequestKind::Reload, RequestKind::Reload]);
    let again = import(&bench, "", CSV, TABLE, None).await;
    assert_eq!(statuses(&again), [(1, 200), (2, 409), (3, 200), (4, 409), (5, 200), (6, 422)], "it can be sent again");
}

#[actix_web::test]
async fn all_or_nothing_names_the_rows_and_writes_nothing() {
    let bench = with_two().await;
    let answer = import(&bench, "?atomic=true", CSV, TABLE, None).await;
    assert_eq!((answer.status, answer.header("content-type")), (422, "application/problem+json"));
    let body = answer.json();
    let fields: Vec<&str> =
        body["errors"].as_array().unwrap().iter().map(|fault| fault["field"].as_str().unwrap()).collect();
    assert!(fields.contains(&"row 2 (m1): device_id") && fields.contains(&"row 4 (old): device_id"), "{fields:?}");
    assert!(
        body["detail"].as_str().unwrap().starts_with("nothing was imported: row 2 (m1): device_id stands"),
        "{body}"
    );
    let taken = import(&bench, "?atomic=true", CSV, "device_id,device_name\nm1,One\nold,Old\n", None).await;
    assert_eq!(taken.status, 409, "what is there already, and otherwise");
    assert_eq!(bench.get("/api/devices").await.json().as_array().unwrap().len(), 2);
    assert!(bench.told.lock().unwrap().is_empty());
    let good = import(&bench, "?atomic=true", CSV, "device_id,device_name\nm1,One\nkept,Kept\n", None).await;
    assert_eq!((good.status, statuses(&good)), (207, vec![(1, 201), (2, 200)]));
    assert_eq!(import(&bench, "?atomic=maybe", CSV, TABLE, None).await.status, 400);
}

#[actix_web::test]
async fn a_database_that_goes_away_in_the_middle_takes_no_token_with_it() {
    let bench = with_two().await;
    bench.take_database_away_after_a_creation();
    let answer = import(&bench, "", CSV, TABLE, None).await;
    assert_eq!(statuses(&answer), [(1, 201), (2, 409), (3, 201), (4, 503), (5, 503), (6, 422)]);
    let token = answer.json()["rows"][0]["token"].as_str().unwrap().to_owned();
    assert!(answer.json()["rows"][3]["token"].is_null());
    let again = import(&bench, "", CSV, TABLE, None).await;
    assert_eq!(again.status, 503, "nothing was written, and nothing is to be told");
    bench.bring_database_back();
    let credential = bench.store.device_credential(&DeviceId::parse("m1").unwrap()).unwrap().unwrap();
    assert_eq!(credential.token_sha256, Some(key::digest(&token)));
}

#[actix_web::test]
async fn an_import_whose_client_has_gone_keeps_its_place_until_it_is_done_and_is_noted() {
    let bench = with_two().await;
    bench.noted();
    let (store, imports) = (Arc::clone(&bench.store), Arc::clone(&bench.state.imports));
    let held = store.hold();
    tokio::select! {
        answer = import(&bench, "", CSV, TABLE, None) => panic!("it was answered: {}", answer.status),
        () = store.next_creation() => {}
    }
    assert_eq!(imports.available_permits(), MAX_IMPORTS - 1, "it goes on");
    drop(held);
    // As many as there are: the last of them is that of this import.
    let all = u32::try_from(MAX_IMPORTS).unwrap();
    drop(tokio::time::timeout(PATIENCE, imports.acquire_many(all)).await.unwrap().unwrap());
    let noted = bench.noted();
    assert_eq!(noted.len(), 1, "{noted:?}");
    assert_eq!(noted[0].action, "device.import");
    assert!(noted[0].detail.starts_with("status 207 registered 2 known 1 refused 3 sha256 "), "{noted:?}");
}

#[actix_web::test]
async fn a_limited_key_registers_what_it_reaches() {
    let bench = Bench::new(false);
    let key = bench.add_key(Role::Operator, Some("dc-"));
    let table = "{\"device_id\":\"dc-1\",\"device_name\":\"A\"}\n{\"device_id\":\"ac-1\",\"device_name\":\"B\"}\n";
    let lines = "application/x-ndjson";
    let refused = import(&bench, "?atomic=true", lines, table, Some(&key)).await;
    assert_eq!(refused.status, 403);
    let answer = import(&bench, "", lines, table, Some(&key)).await;
    assert_eq!(statuses(&answer), [(1, 201), (2, 403)]);
    assert_eq!(bench.store.device(&DeviceId::parse("ac-1").unwrap()).unwrap(), None);
    let viewer = bench.add_key(Role::Viewer, None);
    assert_eq!(import(&bench, "", lines, table, Some(&viewer)).await.status, 403);
}

#[actix_web::test]
async fn what_is_no_table_is_refused_by_its_head() {
    let bench = Bench::with(true, Options { import_limit_bytes: 100, ..Options::default() });
    let check = |kind: &'static str, text: String, expected: u16| {
        let bench = &bench;
        async move { assert_eq!(import(bench, "", kind, &text, None).await.status, expected, "{kind} {text}") }
    };
    let small = || "device_id,device_name\nm1,One\n".to_owned();
    check("application/json", small(), 415).await;
    check("text/csv; charset=iso-8859-1", small(), 415).await;
    check(CSV, small() + &"x".repeat(100), 413).await;
    check(CSV, "device_id\nm1\n".into(), 422).await;
    check(CSV, small(), 207).await;
}

#[actix_web::test]
async fn a_device_may_be_called_import() {
    let bench = Bench::new(true);
    let answer = import(&bench, "", CSV, "device_id,device_name\nimport,Import\n", None).await;
    assert_eq!(statuses(&answer), [(1, 201)]);
    assert_eq!(bench.get("/api/devices/import").await.json()["device_name"], "Import");
    assert_eq!(bench.put("/api/devices/import", json!({"location": "Thun"})).await.status, 200);
    assert_eq!(bench.send("DELETE", "/api/devices/import", None, &[]).await.status, 200);
    assert_eq!(bench.send("PATCH", "/api/devices/import", None, &[]).await.status, 405);
}

//! What goes into the audit log, and how it is read.

use std::sync::Arc;

use serde_json::json;

use crate::api::testing::{Bench, NOW};
use crate::api::{Allowance, LimitOptions, Options, key};
use crate::audit::{Event, Outcome};
use crate::store::{Access, Role, Store};

fn brief(event: &Event) -> (String, String, String, Outcome, String) {
    let Event { actor, action, target, outcome, detail, .. } = event.clone();
    (actor, action, target, outcome, detail)
}

fn expected(
    actor: &str,
    action: &str,
    target: &str,
    outcome: Outcome,
    detail: &str,
) -> (String, String, String, Outcome, String) {
    (actor.to_owned(), action.to_owned(), target.to_owned(), outcome, detail.to_owned())
}

#[actix_web::test]
async fn every_write_is_noted_with_who_what_on_what_and_its_result() {
    let bench = Bench::new(false);
    let operator = bench.add_key(Role::Operator, None);
    let actor = format!("key:{}", key::prefix_of(&operator).unwrap());
    let call = async |method, path, body| {
        bench.send(method, path, body, &[("x-api-key", operator.as_str()), ("x-request-id", "r-7")]).await.status
    };
    let new = || Some(json!({"device_id": "m-1", "device_name": "secret words"}));
    assert_eq!(call("POST", "/api/devices", new()).await, 201);
    assert_eq!(call("POST", "/api/devices", new()).await, 409);
    assert_eq!(call("GET", "/api/devices", None).await, 200);
    assert_eq!(call("DELETE", "/api/devices/m-1", None).await, 200);
    assert_eq!(call("POST", "/api/keys", Some(json!({}))).await, 403);
    assert_eq!(call("GET", "/api/audit", None).await, 403);
    assert_eq!(call("POST", "/api/nothing", None).await, 404);
    let noted = bench.noted();
    let wanted = [
        expected(&actor, "POST /api/devices", "m-1", Outcome::Done, "status 201"),
        expected(&actor, "POST /api/devices", "", Outcome::Failed, "status 409"),
        expected(&actor, "DELETE /api/devices/{id}", "m-1", Outcome::Done, "status 200"),
        expected(&actor, "POST /api/keys", "", Outcome::Refused, "status 403"),
        expected(&actor, "GET /api/audit", "", Outcome::Refused, "status 403"),
    ];
    assert_eq!(noted.iter().map(brief).collect::<Vec<_>>(), wanted);
    for event in &noted {
        assert_eq!((event.at, event.address), (NOW, Some([10, 0, 0, 9].into())));
        assert_eq!(event.request_id.as_deref(), Some("r-7"));
        assert!(!format!("{event:?}").contains(&operator) && !format!("{event:?}").contains("secret words"));
    }
}

#[actix_web::test]
async fn a_write_whose_client_goes_before_the_answer_is_noted_and_a_read_is_not() {
    let bench = Bench::new(false);
    let operator = bench.add_key(Role::Operator, None);
    let actor = format!("key:{}", key::prefix_of(&operator).unwrap());
    let headers = [("x-api-key", operator.as_str())];
    let store = Arc::clone(&bench.store);
    // The key is known from now on: what is held up below is the work, not the way in.
    assert_eq!(bench.send("GET", "/api/devices", None, &headers).await.status, 200);
    let held = store.hold();
    let body = json!({"device_id": "m-1", "device_name": "secret words"});
    tokio::select! {
        answer = bench.send("POST", "/api/devices", Some(body), &headers) => panic!("{}", answer.status),
        () = store.next_creation() => {}
    }
    let mut reading = Box::pin(bench.send("GET", "/api/devices", None, &headers));
    assert!((0..100).all(|_| futures_util::FutureExt::now_or_never(&mut reading).is_none()));
    drop((reading, held));
    let noted: Vec<_> = bench.noted().iter().map(brief).collect();
    let unknown = "nobody was answered; how it ended is not known";
    assert_eq!(noted, [expected(&actor, "POST /api/devices", "", Outcome::Failed, unknown)]);
}

#[actix_web::test]
async fn bad_credentials_are_noted_by_their_public_part_and_reason() {
    let login = Some(Allowance::new(1, 100));
    let limits = LimitOptions { login, ..LimitOptions::default() };
    let bench = Bench::with(false, Options { limits, ..Options::default() });
    let good = bench.add_key(Role::Viewer, None);
    let (prefix, foreign) = (key::prefix_of(&good).unwrap(), key::generate("x", Role::Admin, None, NOW).0);
    let wrong = format!("{}{}", &good[..14], &foreign[14..]);
    bench.send("GET", "/api/devices", None, &[("x-api-key", &foreign)]).await;
    bench.send("POST", "/api/devices", Some(json!({})), &[("x-api-key", &wrong)]).await;
    bench.send("GET", "/api/devices", None, &[("authorization", "Bearer a.b.c")]).await;
    bench.send("GET", "/api/devices", None, &[]).await;
    bench.send("POST", "/api/devices", Some(json!({})), &[]).await;
    bench.post("/api/session", json!({ "key": wrong })).await;
    let noted = bench.noted();
    let unknown = key::prefix_of(&foreign).unwrap();
    let wanted = [
        expected("-", "credential.refused", unknown, Outcome::Refused, "unknown_key at GET /api/devices"),
        expected("-", "credential.refused", prefix, Outcome::Refused, "wrong_key at POST /api/devices"),
        expected(
            "-",
            "credential.refused",
            "",
            Outcome::Refused,
            "token (no issuer is configured) at GET /api/devices",
        ),
        expected("-", "POST /api/devices", "", Outcome::Refused, "status 401"),
        expected("-", "POST /api/session", prefix, Outcome::Refused, "status 401 wrong_key"),
    ];
    assert_eq!(noted.iter().map(brief).collect::<Vec<_>>(), wanted);
    let all = format!("{noted:?}");
    assert!([&good, &foreign, &wrong].iter().all(|key| !all.contains(&key[14..])), "{all}");
}

#[actix_web::test]
async fn the_log_is_read_in_pages_by_filter_or_whole_as_json_lines() {
    let bench = Bench::new(false);
    let admin = bench.add_key(Role::Admin, None);
    let entry = |n: i64, outcome| Event {
        at: NOW.plus_us(n * 1_000_000),
        actor: format!("key:{n}"),
        address: None,
        action: "POST /api/devices".into(),
        target: String::new(),
        outcome,
        request_id: None,
        detail: String::new(),
    };
    let entries: Vec<_> =
        (0..60).map(|n| entry(n, if n % 2 == 0 { Outcome::Done } else { Outcome::Refused })).collect();
    bench.store.append_audit(&entries).unwrap();
    let get =
        async |query: &str| bench.send("GET", &format!("/api/audit{query}"), None, &[("x-api-key", &admin)]).await;
    let first = get("").await;
    assert_eq!((first.status, first.header("x-total-count")), (200, "60"));
    assert_eq!((first.json().as_array().unwrap().len(), &first.json()[0]["id"]), (50, &json!(60)));
    assert!(get("?cursor=").await.header("link").contains("rel=\"next\""));
    assert_eq!(get("?outcome=refused").await.header("x-total-count"), "30");
    assert_eq!(get("?actor=key:7").await.json()[0]["actor"], "key:7");
    assert_eq!(get("?action=POST&from=2026-02-12T10:00:58Z").await.header("x-total-count"), "2");
    assert_eq!(get("?outcome=x&from=y&format=z").await.json()["errors"].as_array().unwrap().len(), 3);
    let export = get("?format=ndjson&outcome=done").await;
    assert_eq!(export.header("content-type"), "application/x-ndjson");
    let lines: Vec<serde_json::Value> =
        String::from_utf8(export.bytes).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["id"], &lines[29]["id"]), (30, &json!(1), &json!(59)));
    assert_eq!(lines[0]["hash"].as_str().unwrap().len(), 64);
    assert_eq!(bench.store.api_keys().unwrap().len(), 1);
}

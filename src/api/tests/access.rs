//! Who gets in, and what every answer has.

use serde_json::{Value, json};

use crate::api::testing::{Bench, NOW, PATIENCE};
use crate::api::{Allowance, LimitOptions, Newcomers, Options};
use crate::store::{Role, Store};

#[actix_web::test]
async fn a_page_of_another_site_cannot_write_even_with_a_good_key() {
    let bench = Bench::new(false);
    let key = bench.add_key(Role::Admin, None);
    let body = || Some(json!({"device_id": "m-1", "device_name": "x"}));
    let call = async |site| {
        let headers = [("x-api-key", key.as_str()), ("sec-fetch-site", site)];
        bench.send("POST", "/api/devices", body(), &headers).await
    };
    let refused = call("cross-site").await;
    assert_eq!((refused.status, refused.header("content-type")), (403, "application/problem+json"));
    assert_eq!(call("same-origin").await.status, 201);
}

#[actix_web::test]
async fn a_key_that_any_node_revoked_is_refused_by_the_next_request() {
    let bench = Bench::new(false);
    let key = bench.add_key(Role::Viewer, None);
    let bearer = format!("Bearer {key}");
    let ask = async || bench.send("GET", "/api/devices", None, &[("authorization", &bearer)]).await;
    assert_eq!(ask().await.status, 200);
    // Beside the API, as another node does it.
    bench.store.revoke_api_key(crate::api::key::prefix_of(&key).unwrap(), NOW).unwrap();
    assert_eq!(ask().await.status, 401);
}

#[actix_web::test]
async fn a_key_limited_to_some_devices_sees_and_touches_only_those() {
    let bench = Bench::new(false);
    let admin = bench.add_key(Role::Admin, None);
    let some = bench.add_key(Role::Operator, Some("dc-"));
    let call =
        async |key: &str, method: &str, path: &str, body| bench.send(method, path, body, &[("x-api-key", key)]).await;
    for id in ["dc-1", "ac-1", "dc-2"] {
        let body = Some(json!({"device_id": id, "device_name": id}));
        assert_eq!(call(&admin, "POST", "/api/devices", body).await.status, 201);
    }
    let list = call(&some, "GET", "/api/devices", None).await;
    let ids: Vec<_> = list.json().as_array().unwrap().iter().map(|d| d["device_id"].clone()).collect();
    assert_eq!(ids, ["dc-2", "dc-1"]);
    assert_eq!(list.header("x-total-count"), "2");
    let list = call(&some, "GET", "/api/devices?q=1", None).await;
    assert_eq!((list.json()[0]["device_id"].clone(), list.header("x-total-count")), (json!("dc-1"), "1"));
    assert_eq!(call(&some, "GET", "/api/devices/dc-1", None).await.status, 200);
    assert_eq!(call(&some, "GET", "/api/devices/ac-1", None).await.status, 403);
    assert_eq!(call(&some, "DELETE", "/api/devices/ac-1", None).await.status, 403);
    assert_eq!(call(&some, "GET", "/api/stats", None).await.status, 403);
    let body = Some(json!({"device_id": "ac-2", "device_name": "x"}));
    assert_eq!(call(&some, "POST", "/api/devices", body).await.status, 403);

    let alert = call(&admin, "POST", "/api/devices/ac-1/alerts", Some(json!({}))).await.json()["id"].clone();
    assert_eq!(call(&some, "POST", &format!("/api/alerts/{alert}/acknowledge"), None).await.status, 404);
    assert_eq!(call(&some, "GET", "/api/alerts", None).await.json(), json!([]));
    let own = call(&some, "POST", "/api/devices/dc-1/alerts", Some(json!({}))).await.json()["id"].clone();
    let list = call(&some, "GET", "/api/alerts", None).await;
    assert_eq!((list.json()[0]["id"].clone(), list.header("x-total-count")), (own.clone(), "1"));
    assert_eq!(call(&some, "GET", "/api/alerts?device=ac-1", None).await.json(), json!([]));
    assert_eq!(call(&some, "POST", &format!("/api/alerts/{own}/acknowledge"), None).await.status, 200);
    let command = call(&admin, "POST", "/api/devices/ac-1/commands", Some(json!({"cmd": "reboot"}))).await;
    let path = format!("/api/commands/{}", command.json()["cmd_id"].as_str().unwrap());
    assert_eq!(call(&some, "GET", &path, None).await.status, 404);
    assert_eq!(call(&admin, "GET", &path, None).await.status, 200);
}

#[actix_web::test]
async fn errors_are_problems_with_the_request_id_and_no_inside_text() {
    let bench = Bench::new(true);
    let answer = bench.send("GET", "/api/devices/none", None, &[("x-request-id", "abc")]).await;
    assert_eq!((answer.status, answer.header("content-type")), (404, "application/problem+json"));
    assert_eq!(answer.header("x-request-id"), "abc");
    assert_eq!(answer.json()["request_id"], "abc");
    assert_eq!(answer.json()["error"], answer.json()["detail"]);
    bench.take_database_away();
    let answer = bench.get("/api/devices").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "1"));
    assert!(!String::from_utf8(answer.bytes).unwrap().contains("secret"));
}

#[actix_web::test]
async fn unknown_paths_are_404_and_other_methods_405() {
    let bench = Bench::new(true);
    assert_eq!(bench.get("/api/nothing").await.status, 404);
    assert_eq!(bench.get("/nothing").await.json()["status"], 404);
    let answer = bench.send("PATCH", "/api/devices/m-1", None, &[]).await;
    assert_eq!(answer.status, 405);
    assert!(answer.header("allow").contains("PUT"));
    assert_eq!(bench.send("HEAD", "/health", None, &[]).await.status, 200);
}

#[actix_web::test]
async fn a_stranger_sends_32_kib_at_most() {
    let bench = Bench::new(false);
    let body = |n: usize| json!({ "key": "x".repeat(n) });
    assert_eq!(bench.post("/api/session", body(20 * 1024)).await.status, 422);
    assert_eq!(bench.post("/api/session", body(40 * 1024)).await.status, 413);
}

#[actix_web::test]
async fn bodies_are_json_within_the_limit() {
    let bench = Bench::with(true, Options { body_limit_bytes: 100, ..Options::default() });
    let large = json!({"device_id": "a", "device_name": "x".repeat(200)});
    assert_eq!(bench.post("/api/devices", large).await.status, 413);
    let form = [("content-type", "application/x-www-form-urlencoded"), ("content-length", "3")];
    assert_eq!(bench.send("POST", "/api/devices", None, &form).await.status, 415);
}

#[actix_web::test]
async fn an_allowance_used_up_is_429_with_the_time_to_wait() {
    let two = Some(Allowance::new(1, 2));
    let limits = LimitOptions { read: two, write: None, command: None, login: two };
    let bench = Bench::with(true, Options { limits, ..Options::default() });
    let first = bench.get("/api/devices").await;
    assert_eq!((first.status, first.header("ratelimit-limit"), first.header("ratelimit-remaining")), (200, "2", "1"));
    bench.get("/api/devices").await;
    let third = bench.get("/api/devices").await;
    assert_eq!((third.status, third.header("retry-after")), (429, "1"));
    assert_eq!(third.json()["status"], 429);
    assert_eq!(bench.get("/health").await.status, 200);
}

#[actix_web::test]
async fn guessing_keys_is_slowed_down() {
    let login = Some(Allowance::new(1, 2));
    let limits = LimitOptions { login, ..LimitOptions::default() };
    let bench = Bench::with(false, Options { limits, ..Options::default() });
    let ask = || bench.send("GET", "/api/devices", None, &[("x-api-key", "wrong")]);
    assert_eq!([ask().await.status, ask().await.status, ask().await.status], [401, 401, 429]);
}

#[actix_web::test]
async fn who_tries_claims_too_often_is_told_how_it_stands() {
    let limits = LimitOptions { login: Some(Allowance::new(1, 1)), ..LimitOptions::default() };
    let newcomers = Newcomers { is_plain_allowed: true, ..Newcomers::default() };
    let bench = Bench::with(false, Options { limits, newcomers, ..Options::default() });
    let enrol = async || bench.post("/api/enrol", json!({"device_id": "m-1", "claim_token": "x"})).await;
    assert_eq!(enrol().await.status, 403);
    let refused = enrol().await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, "1"));
    assert_eq!((refused.header("ratelimit-limit"), refused.header("ratelimit-remaining")), ("1", "0"));
}

#[actix_web::test]
async fn pages_carry_a_strict_policy_and_need_no_key() {
    let bench = Bench::new(false);
    let page = bench.get("/").await;
    assert_eq!((page.status, page.bytes.as_slice()), (200, &b"<p>hello</p>"[..]));
    assert!(page.header("content-security-policy").contains("script-src 'self';"));
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    let again = bench.send("GET", "/", None, &[("if-none-match", page.header("etag"))]).await;
    assert_eq!(again.status, 304);
}

/// Every error is described as it is sent, and those of a JSON body are there wherever one is taken.
fn check_errors(document: &Value) {
    let (mut problems, mut bodies) = (0, 0);
    let paths = document["paths"].as_object().unwrap();
    for (path, method, operation) in
        paths.iter().flat_map(|(path, item)| item.as_object().unwrap().iter().map(move |(m, o)| (path, m, o)))
    {
        let Some(responses) = operation["responses"].as_object() else { continue };
        for (status, response) in responses {
            let at = format!("{method} {path} {status}");
            for (kind, content) in response["content"].as_object().into_iter().flatten() {
                let is_problem = content["schema"]["$ref"] == "#/components/schemas/Problem";
                assert_eq!(is_problem, kind == "application/problem+json", "{at}: {kind}");
                problems += usize::from(is_problem);
            }
        }
        if operation["requestBody"]["content"]["application/json"].is_object() {
            bodies += 1;
            for status in ["400", "413", "415"] {
                let content = &responses.get(status).unwrap_or(&Value::Null)["content"];
                assert!(content["application/problem+json"].is_object(), "{method} {path} {status}");
            }
        }
    }
    assert!(problems > 300 && bodies > 10, "{problems} {bodies}");
}

#[actix_web::test]
async fn the_description_and_its_page_come_from_this_server() {
    let bench = Bench::new(true);
    let document = bench.get("/api/openapi.json").await.json();
    assert_eq!(document["openapi"].as_str().unwrap().get(..3), Some("3.1"));
    let operation = &document["paths"]["/api/devices"]["post"];
    assert!(operation["responses"]["409"].is_object() && operation["security"].is_array(), "{operation}");
    assert!(operation["requestBody"].is_object());
    check_errors(&document);
    assert_eq!(bench.get("/api/docs").await.status, 308);
    let page = bench.get("/api/docs/").await;
    assert_eq!(page.status, 200);
    let text = String::from_utf8(page.bytes).unwrap();
    assert!(!text.contains("src=\"http"), "{text}");
    let script = bench.get("/api/docs/swagger-initializer.js").await;
    assert!(String::from_utf8(script.bytes).unwrap().contains("/api/openapi.json"));
}

#[actix_web::test]
async fn the_head_of_an_answer_without_an_end_is_all_of_it_and_holds_no_place() {
    let bench = Bench::with(true, Options { max_streams: 1, max_scans: 1, ..Options::default() }).with_live();
    bench.add_device("m-1").await;
    for _ in 0..3 {
        for (path, kind) in [("/api/stream", "text/event-stream"), ("/api/devices/m-1/metrics", "application/json")] {
            let head = tokio::time::timeout(PATIENCE, bench.send("HEAD", path, None, &[])).await.expect("it ends");
            assert_eq!((head.status, head.header("content-type"), head.bytes.len()), (200, kind, 0));
        }
    }
}

#[actix_web::test]
async fn who_accepts_no_encoding_at_all_is_answered_as_everybody_else() {
    let bench = Bench::new(true);
    let ask = async |accepted: &str| bench.send("GET", "/api/devices", None, &[("accept-encoding", accepted)]).await;
    for nothing in ["identity;q=0", "*;q=0", "br;q=0, identity;q=0", "compress, *;q=0"] {
        let answer = ask(nothing).await;
        assert_eq!((answer.status, answer.header("content-encoding")), (200, ""), "{nothing}");
        assert!(!answer.header("x-request-id").is_empty(), "{nothing}");
    }
    assert_eq!(ask("gzip, identity;q=0").await.header("content-encoding"), "gzip");
}

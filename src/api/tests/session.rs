//! Keys over the API, and sessions of the console.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use crate::api::testing::{Answer, Bench, NOW, soon};
use crate::api::{Allowance, LimitOptions, Options, Proxies, key};
use crate::domain::Network;
use crate::oidc::{self, Algorithm, Issuer, KeySource};
use crate::store::{Role, Store};

fn cookie(answer: &Answer) -> String {
    answer.header("set-cookie").split(';').next().unwrap().to_owned()
}

#[actix_web::test]
async fn a_key_is_made_shown_once_listed_and_revoked() {
    let bench = Bench::new(false);
    let admin = bench.add_key(Role::Admin, None);
    let call = async |method: &str, path: &str, body| bench.send(method, path, body, &[("x-api-key", &admin)]).await;
    let body = json!({"name": "depot", "role": "operator", "devices": "dc-", "expires_in_days": 1});
    let made = call("POST", "/api/keys", Some(body)).await;
    assert_eq!(made.status, 201);
    let text = made.json()["key"].as_str().unwrap().to_owned();
    let prefix = key::prefix_of(&text).unwrap();
    assert_eq!(made.header("location"), format!("/api/keys/{prefix}"));
    assert_eq!((&made.json()["devices"], &made.json()["expires_at"]), (&json!("dc-"), &json!("2026-02-13T10:00:00Z")));
    let listed = call("GET", "/api/keys", None).await;
    let all = String::from_utf8(listed.bytes.clone()).unwrap();
    assert!(!all.contains("sha256") && !all.contains(&text[14..]) && !all.contains("\"key\""), "{all}");
    assert_eq!((listed.header("x-total-count"), &listed.json()[0]["prefix"]), ("2", &json!(prefix)));
    let ask = async || bench.send("GET", "/api/devices", None, &[("x-api-key", &text)]).await.status;
    assert_eq!(ask().await, 200);
    let revoked = call("DELETE", &format!("/api/keys/{prefix}"), None).await;
    assert_eq!((revoked.status, revoked.json()["state"].as_str()), (200, Some("revoked")));
    assert_eq!((ask().await, call("DELETE", &format!("/api/keys/{prefix}"), None).await.status), (401, 200));
    assert_eq!(call("DELETE", "/api/keys/00000000", None).await.status, 404);
}

#[actix_web::test]
async fn a_bad_body_of_a_key_is_refused_with_every_fault() {
    let bench = Bench::new(true);
    let faults = async |body| {
        let answer = bench.post("/api/keys", body).await;
        assert_eq!(answer.status, 422);
        let mut fields: Vec<String> = answer.json()["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e["field"].as_str().unwrap().to_owned())
            .collect();
        fields.sort();
        fields
    };
    assert_eq!(faults(json!({})).await, ["name", "role"]);
    let all = json!({"name": "", "role": "root", "devices": "a*", "expires_at": "soon", "x": 1});
    assert_eq!(faults(all).await, ["devices", "expires_at", "name", "role", "x"]);
    let both = json!({"name": "a", "role": "viewer", "expires_at": "2027-01-31", "expires_in_days": 1});
    assert_eq!(faults(both).await, ["expires_in_days"]);
    assert_eq!(faults(json!({"name": "a", "role": "viewer", "expires_at": "2020-01-31"})).await, ["expires_at"]);
    assert_eq!(faults(json!({"name": "a", "role": "viewer", "expires_in_days": 0})).await, ["expires_in_days"]);
}

#[actix_web::test]
async fn a_key_is_exchanged_for_a_session_that_ends_with_it() {
    let bench = Bench::new(false);
    let text = bench.add_key(Role::Operator, Some("dc-"));
    let begun = bench.post("/api/session", json!({ "key": text })).await;
    assert_eq!((begun.status, begun.header("cache-control")), (201, "no-store"));
    let set = begun.header("set-cookie");
    // The peer is on the network: only a secure connection may carry it.
    for part in ["__Host-iotm=", "HttpOnly", "SameSite=Strict", "Secure", "Path=/;"] {
        assert!(set.contains(part), "{part} in {set}");
    }
    let cookie = cookie(&begun);
    let ask = async || bench.send("GET", "/api/session", None, &[("cookie", &cookie)]).await;
    let asked = ask().await;
    assert_eq!((asked.header("cache-control"), asked.headers.contains_key("set-cookie")), ("no-store", false));
    let own = asked.json();
    assert_eq!((&own["role"], &own["devices"]), (&json!("operator"), &json!("dc-")));
    assert_eq!(own["actor"], format!("key:{}", key::prefix_of(&text).unwrap()));
    assert_eq!(own["csrf_token"], begun.json()["csrf_token"]);
    assert_eq!(bench.send("GET", "/api/session", None, &[("cookie", "__Host-iotm=guess")]).await.status, 401);
    bench.store.revoke_api_key(key::prefix_of(&text).unwrap(), NOW).unwrap();
    assert_eq!(ask().await.status, 401);
}

#[actix_web::test]
async fn a_session_ends_by_log_out_by_idleness_and_by_age() {
    let bench = Bench::new(false);
    let text = bench.add_key(Role::Viewer, None);
    let log_in = async || {
        let begun = bench.post("/api/session", json!({ "key": text })).await;
        (cookie(&begun), begun.json()["csrf_token"].as_str().unwrap().to_owned())
    };
    let ask = async |cookie: &str| bench.send("GET", "/api/session", None, &[("cookie", cookie)]).await.status;
    let hour = |n: i64| NOW.plus_us(n * 3_600_000_000);

    let (first, csrf) = log_in().await;
    let ended = bench.send("DELETE", "/api/session", None, &[("cookie", &first), ("x-csrf-token", &csrf)]).await;
    assert_eq!((ended.status, ended.header("set-cookie").contains("Max-Age=0")), (204, true));
    assert_eq!(ask(&first).await, 401);

    let (idle, _) = log_in().await;
    bench.clock.set(hour(1).plus_us(-1));
    assert_eq!(ask(&idle).await, 200);
    let noted = async |cookie: &str| {
        let id = crate::api::key::digest(cookie.split_once('=').unwrap().1);
        let used = || crate::store::Access::web_session(&*bench.store, &id).unwrap().unwrap().0.last_used_at;
        soon("a note of its use", || used() >= bench.clock.now()).await;
    };
    noted(&idle).await;
    bench.clock.set(hour(2).plus_us(-2));
    assert_eq!(ask(&idle).await, 200, "it was used meanwhile");
    noted(&idle).await;
    bench.clock.set(hour(3));
    assert_eq!(ask(&idle).await, 401);

    let (old, _) = log_in().await;
    for n in 0..24 {
        bench.clock.set(hour(3).plus_us(n * 1_800_000_000));
        assert_eq!(ask(&old).await, 200, "{n}");
        noted(&old).await;
    }
    bench.clock.set(hour(15));
    assert_eq!(ask(&old).await, 401, "twelve hours, however busy");
}

#[actix_web::test]
async fn who_has_no_log_in_left_is_refused_before_its_key_is_looked_up() {
    let limits = LimitOptions { login: Some(Allowance::new(1, 2)), ..LimitOptions::default() };
    let bench = Bench::with(false, Options { limits, ..Options::default() });
    let good = bench.add_key(Role::Viewer, None);
    let log_in = async |key: &str| bench.post("/api/session", json!({ "key": key })).await;
    assert_eq!(
        [log_in("wrong").await.status, log_in(&good).await.status, log_in("wrong").await.status],
        [401, 201, 401]
    );
    for key in [good.as_str(), "wrong"] {
        let refused = log_in(key).await;
        assert_eq!((refused.status, refused.header("retry-after")), (429, "1"));
        assert_eq!((refused.header("ratelimit-limit"), refused.header("ratelimit-remaining")), ("2", "0"));
    }
}

#[actix_web::test]
async fn a_good_key_does_not_begin_sessions_without_end() {
    let limits = LimitOptions { write: Some(Allowance::new(1, 2)), ..LimitOptions::default() };
    let bench = Bench::with(false, Options { limits, ..Options::default() });
    let good = bench.add_key(Role::Viewer, None);
    let log_in = async || bench.post("/api/session", json!({ "key": good })).await;
    let first = log_in().await;
    assert_eq!((first.status, first.header("ratelimit-remaining")), (201, "1"));
    assert_eq!(log_in().await.status, 201);
    let third = log_in().await;
    assert_eq!((third.status, third.header("retry-after"), third.header("ratelimit-limit")), (429, "1", "2"));
}

/// An issuer that takes no code: its address, and how many codes it was shown.
fn refusing_issuer() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let codes = Arc::new(AtomicUsize::new(0));
    let (own, shown) = (url.clone(), Arc::clone(&codes));
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let mut reader = BufReader::new(socket.try_clone().unwrap());
            let (mut head, mut length) = (Vec::new(), 0);
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if line.trim().is_empty() {
                    break;
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                head.push(line);
            }
            let mut form = vec![0_u8; length];
            reader.read_exact(&mut form).unwrap();
            let is_code = head.first().is_some_and(|line| line.starts_with("POST "));
            let (status, body) = match is_code {
                true => (400, json!({"error": "invalid_grant"})),
                false => (
                    200,
                    json!({"issuer": own, "jwks_uri": format!("{own}/keys"),
                        "authorization_endpoint": format!("{own}/auth"), "token_endpoint": format!("{own}/token")}),
                ),
            };
            shown.fetch_add(usize::from(is_code), Ordering::SeqCst);
            let body = body.to_string();
            let head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}", body.len());
            let _ = write!(socket, "{head}\r\n\r\n{body}");
        }
    });
    (url, codes)
}

/// A bench with a log-in by that issuer, and so many log-ins at once.
fn with_log_in(url: &str, login: Option<Allowance>) -> Bench {
    let options = oidc::Options {
        issuer: url.to_owned(),
        audience: String::new(),
        algorithms: vec![Algorithm::EdDsa],
        keys: KeySource::Discovery,
        role_claim: vec!["roles".into()],
        roles: Vec::new(),
        devices_claim: Vec::new(),
        client: Some(oidc::Client {
            id: "console".into(),
            secret: None,
            redirect_url: "https://m.example/api/session/oidc/callback".into(),
            scopes: "openid".into(),
        }),
    };
    let limits = LimitOptions { login, ..LimitOptions::default() };
    let bench = Bench::with(false, Options { limits, ..Options::default() });
    bench.with_issuer(|clock| Arc::new(Issuer::new(options, clock)))
}

/// Begins a log-in: its cookie, and the path of an answer to it.
async fn begin_at_the_issuer(bench: &Bench) -> (String, String) {
    let sent = bench.get("/api/session/oidc").await;
    assert_eq!(sent.status, 303);
    let state = sent.header("location").split("&state=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    (cookie(&sent), format!("/api/session/oidc/callback?code=made-up&state={state}"))
}

#[actix_web::test]
async fn the_issuer_is_asked_no_more_often_than_a_peer_may_log_in() {
    let (url, codes) = refusing_issuer();
    let bench = with_log_in(&url, Some(Allowance::new(1, 4)));
    let (cookie, path) = begin_at_the_issuer(&bench).await;
    let mut answered = 0;
    let refused = loop {
        let answer = bench.send("GET", &path, None, &[("cookie", &cookie)]).await;
        if answer.status == 429 {
            break answer;
        }
        assert_eq!(answer.status, 401);
        answered += 1;
    };
    assert!(!refused.header("retry-after").is_empty());
    assert_eq!((refused.header("ratelimit-limit"), refused.header("ratelimit-remaining")), ("4", "0"));
    assert_eq!(codes.load(Ordering::SeqCst), answered, "what is refused is not passed on");
}

#[actix_web::test]
async fn a_log_in_is_not_begun_by_a_cookie_that_anybody_on_the_way_can_set() {
    let (url, codes) = refusing_issuer();
    let bench = with_log_in(&url, None);
    let (cookie, path) = begin_at_the_issuer(&bench).await;
    let plain = cookie.strip_prefix("__Secure-").unwrap();
    let finish = async |cookie: &str| bench.send("GET", &path, None, &[("cookie", cookie)]).await.status;
    assert_eq!((finish(plain).await, codes.load(Ordering::SeqCst)), (400, 0));
    assert_eq!((finish(&cookie).await, codes.load(Ordering::SeqCst)), (401, 1));
}

#[actix_web::test]
async fn a_script_gets_no_challenge_that_makes_the_browser_ask() {
    let bench = Bench::new(false);
    let challenge = async |headers: &[(&str, &str)]| {
        bench.send("GET", "/api/devices", None, headers).await.header("www-authenticate").to_owned()
    };
    assert!(challenge(&[]).await.contains("Basic"));
    assert!(challenge(&[("sec-fetch-mode", "navigate")]).await.contains("Basic"));
    assert_eq!(challenge(&[("sec-fetch-mode", "cors")]).await, "Bearer realm=\"iot-meter\"");
}

#[actix_web::test]
async fn pages_of_configured_origins_may_call_with_a_key_and_never_with_a_cookie() {
    let origins = vec!["https://grafana.example".to_owned()];
    let bench = Bench::with(false, Options { cors_origins: origins, ..Options::default() });
    let key = bench.add_key(Role::Operator, None);
    let from = |origin| [("origin", origin), ("sec-fetch-site", "cross-site"), ("x-api-key", key.as_str())];
    let good = bench.send("GET", "/api/devices", None, &from("https://grafana.example")).await;
    assert_eq!(good.header("access-control-allow-origin"), "https://grafana.example");
    assert_eq!((good.header("access-control-allow-credentials"), good.header("vary").contains("origin")), ("", true));
    let new = json!({"device_id": "m-1", "device_name": "x"});
    assert_eq!(
        bench.send("POST", "/api/devices", Some(new.clone()), &from("https://grafana.example")).await.status,
        201
    );
    assert_eq!(bench.send("POST", "/api/devices", Some(new), &from("https://evil.example")).await.status, 403);
    let preflight = |origin| [("origin", origin), ("access-control-request-method", "POST")];
    let asked = bench.send("OPTIONS", "/api/devices", None, &preflight("https://grafana.example")).await;
    assert_eq!((asked.status, asked.header("access-control-allow-methods").contains("POST")), (204, true));
    let headers: Vec<_> = asked.header("access-control-allow-headers").split(", ").collect();
    assert!(headers.contains(&"last-event-id") && headers.contains(&"if-match"), "a stream goes on: {headers:?}");
    for other in ["https://evil.example", "null", "https://grafana.example.evil.example"] {
        let asked = bench.send("OPTIONS", "/api/devices", None, &preflight(other)).await;
        assert_eq!((asked.status, asked.header("access-control-allow-origin")), (405, ""));
        let read = bench.send("GET", "/api/devices", None, &from(other)).await;
        assert_eq!(read.header("access-control-allow-origin"), "");
    }
}

#[actix_web::test]
async fn behind_a_proxy_of_ours_it_is_the_client_that_is_counted_and_noted() {
    let trusted = vec![Network::parse("10.0.0.0/24").unwrap()];
    let proxies = Proxies { trusted, ..Proxies::default() };
    let bench = Bench::with(false, Options { proxies, ..Options::default() });
    let ask = async |forwarded: &str| {
        let headers = [("x-api-key", "wrong"), ("x-forwarded-for", forwarded), ("forwarded", "for=6.6.6.6")];
        bench.send("GET", "/api/devices", None, &headers).await.status
    };
    for _ in 0..20 {
        assert_eq!(ask("6.6.6.6, 192.0.2.1").await, 401);
    }
    assert_eq!(ask("7.7.7.7, 192.0.2.1").await, 429, "what a client writes itself makes it nobody else");
    assert_eq!(ask("192.0.2.2").await, 401);
    assert!(bench.noted().iter().take(20).all(|event| event.address == Some([192, 0, 2, 1].into())));
}

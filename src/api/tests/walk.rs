//! Every route of the table, one by one: nobody, too little, another one's device; for keys, tokens and sessions.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::api::testing::{Answer, Bench, NOW, alert};
use crate::api::{Access, LimitOptions, Options, Route, key, routes};
use crate::domain::DeviceId;
use crate::oidc::testing::{AUDIENCE, ISSUER, Signer, claims, jwks};
use crate::oidc::{self, Algorithm, Issuer, KeySource};
use crate::store::{Certificate, Certificates, Role};

/// Limited keys begin with this.
const OWN: &str = "dc-";

/// A path with something in place of its names: the device of somebody else, and its alert and command.
pub(super) fn example(pattern: &str, alert: &str, command: &str) -> String {
    pattern
        .replace("{id}", "ac-1")
        .replace("{filename}", "x")
        .replace("{file}", "index.html")
        .replace("{alert_id}", alert)
        .replace("{cmd_id}", command)
        .replace("{prefix}", "00000000")
        .replace("{serial}", "0a0b")
        .replace("{name}", "grafana")
        .replace("{webhook_id}", "1")
        .replace("{firmware_id}", "1")
        .replace("{rollout_id}", "1")
        .replace("{rule_id}", "1")
}

/// Judges row by row what a limited key may.
const IMPORT: &str = "/api/devices/import";
/// Does not end.
const STREAM: &str = "/api/stream";

/// A body that passes where one is needed, so that what refuses is not the body.
fn body(route: &Route) -> Option<Value> {
    match (route.method.as_str(), route.pattern.as_str()) {
        ("POST", "/api/devices") => Some(json!({"device_id": "ac-9", "device_name": "x"})),
        ("POST", IMPORT) => Some("device_id,device_name\nac-9,x\n".into()),
        ("POST", "/api/devices/{id}/commands") => Some(json!({"cmd": "reboot"})),
        ("PUT", "/api/devices/{id}") => Some(json!({"device_name": "stolen"})),
        ("PUT", "/api/devices/{id}/status") => Some(json!({"connection_status": "online"})),
        ("PUT", "/api/commands/{cmd_id}/ack") => Some(json!({"result": "accepted"})),
        ("POST", "/api/certificates") => Some(json!({"device_id": "ac-1"})),
        ("POST", "/api/claims") => Some(json!({"name": "x", "devices": "ac-*", "max_uses": 1, "expires_in_s": 60})),
        ("POST" | "PUT", "/api/rules" | "/api/rules/{rule_id}") => {
            Some(json!({"name": "x", "metric": "pf", "op": "lt", "threshold": 0, "devices": "ac-*"}))
        }
        ("POST", "/api/services") => Some(json!({"name": "x", "read": ["#"]})),
        ("POST", "/api/alertmanager/webhook") => Some(json!({"version": "4", "alerts": []})),
        ("POST", "/api/keys") => Some(json!({"name": "x", "role": "admin"})),
        ("POST" | "PUT", _) => Some(json!({})),
        _ => None,
    }
}

/// A bench, with an issuer of tokens.
struct World {
    bench: Bench,
    signer: Signer,
    _dir: tempfile::TempDir,
    alert: String,
    command: String,
}

/// How somebody comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum How {
    Key,
    Token,
    Session,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let signer = Signer::ed25519("k");
        let path = dir.path().join("jwks.json");
        std::fs::write(&path, jwks(&[&signer])).unwrap();
        let roles = [Role::Viewer, Role::Operator, Role::Admin].map(|r| (r.name().to_owned(), r)).to_vec();
        let issuer = oidc::Options {
            issuer: ISSUER.into(),
            audience: AUDIENCE.into(),
            algorithms: vec![Algorithm::EdDsa],
            keys: KeySource::File(path),
            role_claim: vec!["roles".into()],
            roles,
            devices_claim: vec!["devices".into()],
            client: None,
        };
        let limits = LimitOptions { login: None, ..LimitOptions::default() };
        let bench = Bench::with(false, Options { limits, ..Options::default() })
            .with_issuer(|clock| Arc::new(Issuer::new(issuer, clock)))
            .with_live();
        let mut world = Self { bench, signer, _dir: dir, alert: String::new(), command: String::new() };
        let admin = world.headers(How::Key, Role::Admin, None).await;
        for id in ["ac-1", "dc-1"] {
            let new = Some(json!({"device_id": id, "device_name": id}));
            assert_eq!(world.call("POST", "/api/devices", new, &admin).await.status, 201);
        }
        let alert = world.call("POST", "/api/devices/ac-1/alerts", Some(json!({})), &admin).await;
        let certificate = Certificate {
            serial: "0a0b".into(),
            device: DeviceId::parse("ac-1"),
            not_before: NOW,
            not_after: NOW.plus_us(3_600_000_000),
            fingerprint: "00".into(),
            pem: String::new(),
            issued_at: NOW,
            issued_by: "key:00000000".into(),
            revocation: None,
        };
        world.bench.store.add_certificate(&certificate).unwrap();
        let rule = json!({"name": "ac-rule", "metric": "pf", "op": "lt", "threshold": 0, "devices": "ac-*"});
        let rule = world.call("POST", "/api/rules", Some(rule), &admin).await;
        assert_eq!(rule.json()["id"], 1);
        world.alert = alert.json()["id"].to_string();
        let command = world.call("POST", "/api/devices/ac-1/commands", Some(json!({"cmd": "reboot"})), &admin).await;
        world.command = command.json()["cmd_id"].as_str().unwrap().to_owned();
        world
    }

    async fn call(&self, method: &str, path: &str, body: Option<Value>, headers: &[(String, String)]) -> Answer {
        let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        self.bench.send(method, path, body, &headers).await
    }

    /// What somebody of that role, perhaps limited, sends along.
    async fn headers(&self, how: How, role: Role, devices: Option<&str>) -> Vec<(String, String)> {
        let header = |name: &str, value: String| (name.to_owned(), value);
        match how {
            How::Key => vec![header("x-api-key", self.bench.add_key(role, devices))],
            How::Token => {
                let mut claims = claims(NOW.0 / 1_000_000, &[role.name()]);
                claims["devices"] = json!(devices.unwrap_or("*"));
                vec![header("authorization", format!("Bearer {}", self.signer.token(&claims)))]
            }
            How::Session => {
                let key = self.bench.add_key(role, devices);
                let begun = self.bench.post("/api/session", json!({ "key": key })).await;
                assert_eq!(begun.status, 201);
                let cookie = begun.header("set-cookie").split(';').next().unwrap().to_owned();
                let csrf = begun.json()["csrf_token"].as_str().unwrap().to_owned();
                vec![header("cookie", cookie), header("x-csrf-token", csrf)]
            }
        }
    }

    async fn send(&self, route: &Route, headers: &[(String, String)]) -> Answer {
        let path = example(&route.pattern, &self.alert, &self.command);
        let mut headers = headers.to_vec();
        if route.pattern == IMPORT {
            headers.push(("content-type".to_owned(), "text/csv".to_owned()));
        }
        if route.pattern == STREAM {
            let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            // What comes behind another one's was not stopped by it.
            return self.bench.listen(&path, &headers, ["ac-1", "dc-1"].map(alert).to_vec(), "dc-1").await;
        }
        self.call(route.method.as_str(), &path, body(route), &headers).await
    }
}

/// Lists that show a limited key what it may see.
const LISTS: [&str; 5] = ["/api/devices", "/api/alerts", "/api/energy", "/api/rules", STREAM];
const HOWS: [How; 3] = [How::Key, How::Token, How::Session];
const ROLES: [Role; 3] = [Role::Viewer, Role::Operator, Role::Admin];

fn needed(route: &Route) -> Option<Role> {
    match route.access {
        Access::Open | Access::Certificate => None,
        Access::Metrics => Some(Role::Viewer),
        Access::Alertmanager => Some(Role::Operator),
        Access::Link => Some(Role::Admin),
        Access::Role(role) => Some(role),
    }
}

#[actix_web::test]
async fn without_a_credential_every_route_that_is_not_open_is_401() {
    let world = World::new().await;
    let open: Vec<String> =
        routes().iter().filter(|r| r.access == Access::Open).map(|r| format!("{} {}", r.method, r.pattern)).collect();
    // Whoever opens one more has to say so here.
    let expected = [
        "GET /api/certificates/ca",
        "GET /api/session/oidc",
        "GET /api/session/oidc/callback",
        "GET /api/session/ways",
        "GET /health",
        "GET /healthz",
        "GET /readyz",
        "POST /api/enrol",
        "POST /api/session",
    ];
    let mut sorted = open;
    sorted.sort();
    assert_eq!(sorted, expected);
    for route in routes().iter().filter(|r| needed(r).is_some()) {
        let mut seen = Vec::new();
        let foreign = key::generate("x", Role::Admin, None, NOW).0;
        let wrong = format!("{}{}", &world.bench.add_key(Role::Admin, None)[..14], &foreign[14..]);
        for headers in [vec![], vec![("x-api-key", foreign.as_str())], vec![("x-api-key", wrong.as_str())]] {
            let headers: Vec<_> = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            let answer = world.send(route, &headers).await;
            assert_eq!(answer.status, 401, "{route:?}");
            assert!(answer.header("www-authenticate").starts_with("Bearer"));
            let mut body = answer.json();
            body["request_id"] = Value::Null;
            seen.push(body);
        }
        assert!(seen.windows(2).all(|w| w[0] == w[1]), "an unknown key and a wrong one get the same: {seen:?}");
    }
    let admin = world.headers(How::Key, Role::Admin, None).await;
    for route in routes().iter().filter(|r| r.access == Access::Certificate) {
        assert_eq!(world.send(route, &admin).await.status, 401, "{route:?}: no key stands for a certificate");
    }
}

#[actix_web::test]
async fn with_too_small_a_role_every_route_is_403_and_with_enough_it_is_not() {
    let world = World::new().await;
    for how in HOWS {
        for role in ROLES {
            let headers = world.headers(how, role, None).await;
            for route in routes() {
                let Some(needed) = needed(&route) else { continue };
                if role >= needed && !matches!(route.method.as_str(), "GET") {
                    continue; // It would really be done; that it may is asked below.
                }
                let answer = world.send(&route, &headers).await;
                let expected = role < needed;
                assert_eq!(answer.status == 403, expected, "{how:?} {role:?} {route:?}: {}", answer.status);
                assert_ne!(answer.status, 401, "{how:?} {role:?} {route:?}");
            }
        }
        // Enough role, and the request gets as far as the handler.
        let admin = world.headers(how, Role::Admin, None).await;
        let made = world.call("POST", "/api/keys", Some(json!({"name": "x", "role": "viewer"})), &admin).await;
        assert_eq!(made.status, 201, "{how:?}");
    }
}

#[actix_web::test]
async fn limited_to_some_devices_no_route_shows_or_touches_another() {
    let world = World::new().await;
    for how in HOWS {
        for role in ROLES {
            let headers = world.headers(how, role, Some(OWN)).await;
            for route in routes() {
                if needed(&route).is_none_or(|needed| role < needed) || route.pattern == "/api/session" {
                    continue;
                }
                let answer = world.send(&route, &headers).await;
                let at = format!("{how:?} {role:?} {route:?}: {}", answer.status);
                let text = String::from_utf8_lossy(&answer.bytes);
                if route.pattern.contains("{id}")
                    || route.pattern.contains("{alert_id}")
                    || route.pattern.contains("{cmd_id}")
                    || route.pattern.contains("{serial}")
                    || route.pattern.contains("{rule_id}")
                {
                    assert!(matches!(answer.status, 403 | 404), "{at}");
                } else if route.pattern.starts_with("/api/docs") || route.pattern == "/api/openapi.json" {
                    assert!(matches!(answer.status, 200 | 308), "{at}");
                } else if route.pattern == "/api/certificates/crl" {
                    assert_ne!(answer.status, 403, "serial numbers of revoked certificates are everybody's: {at}");
                } else if route.pattern == IMPORT {
                    assert_eq!((answer.status, &answer.json()["rows"][0]["status"]), (207, &json!(403)), "{at} {text}");
                } else if LISTS.contains(&route.pattern.as_str()) && route.method == "GET" {
                    assert_eq!(answer.status, 200, "{at}");
                    assert!(!text.contains("ac-"), "{at} {text}");
                    assert!(route.pattern != STREAM || text.contains("dc-1"), "{at} {text}");
                } else {
                    assert_eq!(answer.status, 403, "{at}");
                }
            }
        }
    }
    let admin = world.headers(How::Key, Role::Admin, None).await;
    let device = world.call("GET", "/api/devices/ac-1", None, &admin).await.json();
    assert_eq!((&device["device_name"], &device["status"]), (&json!("ac-1"), &json!("active")), "nothing was touched");
}

#[actix_web::test]
async fn a_write_by_cookie_needs_the_sessions_own_csrf_token() {
    let world = World::new().await;
    let one = world.headers(How::Session, Role::Admin, None).await;
    let other = world.headers(How::Session, Role::Admin, None).await;
    let crossed = vec![one[0].clone(), other[1].clone()];
    for route in routes().iter().filter(|r| r.method != "GET" && needed(r).is_some()) {
        for headers in [&one[..1], &crossed] {
            let answer = world.send(route, headers).await;
            assert_eq!(answer.status, 403, "{route:?}");
            assert!(answer.json()["detail"].as_str().unwrap().contains("X-CSRF-Token"), "{route:?}");
        }
    }
    assert_eq!(world.call("GET", "/api/devices", None, &one[..1]).await.status, 200, "reads need none");
}

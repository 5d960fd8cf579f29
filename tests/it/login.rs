//! Keys, tokens of an issuer and sessions of the console, against the whole server.

use serde_json::{Value, json};

use crate::support::http::Answer;
use crate::support::issuer::Issuer;
use crate::support::{Api, TestApp, eventually};

fn app(issuer: &Issuer) -> TestApp {
    TestApp::builder()
        .set("oidc.issuer", &issuer.url)
        .set("oidc.audience", "meters-api")
        .set("oidc.role_claim", "groups")
        .set("oidc.roles", "meter-readers=viewer,meter-ops=operator")
        .set("oidc.client_id", "console")
        .set("oidc.redirect_url", "http://127.0.0.1:1/api/session/oidc/callback")
        .start()
}

fn ask(api: &Api, token: &str) -> u16 {
    api.with_key(Some(token)).get("/api/devices").status
}

fn cookies(answer: &Answer) -> Vec<String> {
    let set = answer.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
    set.map(|(_, value)| value.split(';').next().unwrap().to_owned()).collect()
}

#[test]
fn a_token_of_the_issuer_gives_the_configured_role_and_nothing_else_does() {
    let issuer = Issuer::start();
    let app = app(&issuer);
    let token = |more: Value| issuer.token(&more);
    eventually("the issuer's keys are known", || ask(&app.api, &token(json!({"groups": ["meter-readers"]}))) == 200);
    let viewer = app.api.with_key(Some(&token(json!({"groups": ["x", "meter-readers"]}))));
    let new = json!({"device_id": "m1", "device_name": "x"});
    viewer.post("/api/devices", &new).expect(403);
    let operator = app.api.with_key(Some(&token(json!({"groups": ["meter-ops"]}))));
    operator.post("/api/devices", &new).expect(201);
    operator.get("/api/keys").expect(403);
    assert_eq!(operator.get("/api/session").expect(200).json()["actor"], "user:anna");
    for bad in [
        json!({}),
        json!({"groups": ["admin"]}),
        json!({"groups": ["meter-ops"], "aud": "console"}),
        json!({"groups": ["meter-ops"], "iss": "http://evil.example"}),
        json!({"groups": ["meter-ops"], "exp": 1}),
    ] {
        assert_eq!(ask(&app.api, &token(bad.clone())), 401, "{bad}");
    }
}

#[test]
fn a_rotated_key_is_found_and_an_issuer_that_is_away_stops_nobody() {
    let issuer = Issuer::start();
    let app = app(&issuer);
    let token = || issuer.token(&json!({"groups": ["meter-readers"]}));
    eventually("the issuer's keys are known", || ask(&app.api, &token()) == 200);
    let before = issuer.key_reads();
    issuer.rotate("k2");
    let good = token();
    assert_eq!(ask(&app.api, &good), 200, "the unknown key was asked for");
    assert_eq!(issuer.key_reads(), before + 1);
    issuer.rotate("k3");
    let forged = token();
    issuer.rotate("k2");
    for _ in 0..5 {
        assert_eq!(ask(&app.api, &forged), 401);
    }
    assert_eq!(issuer.key_reads(), before + 1, "the issuer is not asked again at once");
    issuer.go_away();
    assert_eq!(ask(&app.api, &good), 200);
}

#[test]
fn a_person_logs_in_to_the_console_at_the_issuer() {
    let issuer = Issuer::start();
    let app = app(&issuer);
    let nobody = app.api.with_key(None);
    assert_eq!(nobody.get("/api/session/ways").expect(200).json()["oidc"], "/api/session/oidc");
    let begin = || {
        let sent = nobody.without_redirects().get("/api/session/oidc").expect(303);
        let (code, state) = issuer.log_in(sent.header("location").unwrap());
        (cookies(&sent).remove(0), code, state)
    };
    let finish = |cookie: &str, code: &str, state: &str| {
        let path = format!("/api/session/oidc/callback?code={code}&state={state}");
        nobody.without_redirects().send("GET", &path, &[("Cookie", cookie)], None)
    };
    let (cookie, code, state) = begin();
    let (other, ..) = begin();
    finish("", &code, &state).expect(400);
    finish(&other, &code, &state).expect(400);
    finish(&cookie, &code, "forged").expect(400);
    finish(&cookie, "unknown", &state).expect(401);
    let done = finish(&cookie, &code, &state).expect(303);
    assert_eq!(done.header("location"), Some("/"));
    let session = cookies(&done).into_iter().find(|c| c.starts_with("iotm=")).expect("a session begins");
    let own = nobody.send("GET", "/api/session", &[("Cookie", &session)], None).expect(200).json();
    assert_eq!((&own["actor"], &own["role"]), (&json!("user:anna"), &json!("operator")));
    finish(&cookie, &code, &state).expect(401);

    let body = json!({"device_id": "m1", "device_name": "x"}).to_string().into_bytes();
    let kind = ("Content-Type", "application/json");
    nobody.send("POST", "/api/devices", &[("Cookie", &session), kind], Some(body.clone())).expect(403);
    let csrf = own["csrf_token"].as_str().unwrap();
    let with_csrf = [("Cookie", session.as_str()), ("X-CSRF-Token", csrf), kind];
    nobody.send("POST", "/api/devices", &with_csrf, Some(body)).expect(201);
    nobody.send("DELETE", "/api/session", &with_csrf[..2], None).expect(204);
    nobody.send("GET", "/api/session", &[("Cookie", &session)], None).expect(401);
}

#[test]
fn last_use_is_noted_and_sessions_and_revocations_survive_a_restart() {
    let mut app = TestApp::builder().start();
    let made = app.api.post("/api/keys", &json!({"name": "x", "role": "viewer"})).expect(201).json();
    let (text, prefix) = (made["key"].as_str().unwrap(), made["prefix"].as_str().unwrap());
    let begun = app.api.with_key(None).post("/api/session", &json!({ "key": text })).expect(201);
    let session = cookies(&begun).remove(0);
    let ask = |app: &TestApp| app.api.with_key(None).send("GET", "/api/devices", &[("Cookie", &session)], None).status;
    eventually("the use is noted", || {
        let keys = app.api.get("/api/keys").expect(200).json();
        let own = keys.as_array().unwrap().iter().find(|k| k["prefix"] == prefix).unwrap().clone();
        own["last_used_at"].is_string() && own["last_used_from"] == "127.0.0.1"
    });
    app.restart();
    assert_eq!(ask(&app), 200);
    app.api.delete(&format!("/api/keys/{prefix}")).expect(200);
    assert_eq!((ask(&app), app.api.with_key(Some(text)).get("/api/devices").status), (401, 401));
    app.restart();
    assert_eq!((ask(&app), app.api.with_key(Some(text)).get("/api/devices").status), (401, 401));
}

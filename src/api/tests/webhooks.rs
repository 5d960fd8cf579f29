//! Alertmanager's webhook, and what becomes of what it says.

use std::sync::Arc;

use actix_web::web;
use serde_json::{Value, json};

use crate::api::testing::{Answer, Bench, NOW};
use crate::api::{Authenticator, State};
use crate::audit::Outcome;
use crate::store::{Outbox, OutboxState, Role, Settlement};

const TOKEN: &str = "alertmanager-token-0123456789";
const PATH: &str = "/api/alertmanager/webhook";

fn alert(fingerprint: &str, status: &str) -> Value {
    json!({
        "status": status, "fingerprint": fingerprint, "startsAt": "2026-02-12T09:59:00Z", "endsAt": "0001-01-01T00:00:00Z",
        "labels": {"alertname": "Down", "severity": "critical"}, "annotations": {}, "generatorURL": "",
    })
}

fn body(alerts: &[Value]) -> Value {
    json!({"version": "4", "groupKey": "{}", "receiver": "r", "status": "firing", "truncatedAlerts": 0, "alerts": alerts})
}

/// With Alertmanager's token.
fn bench() -> Bench {
    let bench = Bench::new(false);
    let mut services = bench.state.services.clone();
    let authenticator = Authenticator::new(false, bench.clock.clone()).with_alertmanager_token(Some(TOKEN));
    services.authenticator = Arc::new(authenticator);
    let state = web::Data::new(State::new(services, bench.state.options.clone()));
    Bench { state, ..bench }
}

async fn tell(bench: &Bench, token: &str, body: Value) -> Answer {
    bench.send("POST", PATH, Some(body), &[("authorization", &format!("Bearer {token}"))]).await
}

#[actix_web::test]
async fn alerts_are_taken_once_and_from_whom_may() {
    let bench = bench();
    let both = body(&[alert("ab", "firing"), alert("cd", "firing")]);
    let first = tell(&bench, TOKEN, both.clone()).await;
    assert_eq!((first.status, first.json()), (202, json!({"queued": 2, "repeated": 0})));
    let operator = bench.add_key(Role::Operator, None);
    let again = tell(&bench, &operator, both.clone()).await;
    assert_eq!((again.status, again.json()), (202, json!({"queued": 0, "repeated": 2})));
    let viewer = bench.add_key(Role::Viewer, None);
    let limited = bench.add_key(Role::Admin, Some("dc-"));
    for (token, status) in [(&*viewer, 403), (&*limited, 403), ("alertmanager-token-012345678x", 401), ("", 401)] {
        assert_eq!(tell(&bench, token, both.clone()).await.status, status, "{token}");
    }
    assert_eq!(bench.send("POST", PATH, Some(both), &[]).await.status, 401);
    let noted = bench.noted();
    assert!(noted.iter().all(|event| event.outcome == Outcome::Refused), "what is told nobody has done: {noted:?}");
    // The token is good for nothing else.
    for (method, path) in [("GET", "/api/devices"), ("POST", "/api/webhooks/1/retry"), ("GET", "/api/webhooks")] {
        let answer = bench.send(method, path, None, &[("authorization", &format!("Bearer {TOKEN}"))]).await;
        assert_eq!(answer.status, 401, "{path}");
    }
}

#[actix_web::test]
async fn a_body_of_another_version_or_form_is_refused_by_name() {
    let bench = bench();
    let other = json!({"version": "5", "alerts": [{"status": "on"}]});
    let answer = tell(&bench, TOKEN, other).await;
    assert_eq!(answer.status, 422);
    let fields: Vec<_> = answer.json()["errors"].as_array().unwrap().iter().map(|e| e["field"].to_string()).collect();
    let expected = ["version", "alerts[0].fingerprint", "alerts[0].startsAt", "alerts[0].status"];
    assert_eq!(fields, expected.map(|field| format!("{field:?}")));
    assert!(answer.json()["detail"].as_str().unwrap().contains("\"5\" is not known"));
    assert_eq!(tell(&bench, TOKEN, json!([1])).await.status, 400);
    let large = json!({"version": "4", "alerts": [], "x": "y".repeat(2 << 20)});
    assert_eq!(tell(&bench, TOKEN, large).await.status, 413);
}

#[actix_web::test]
async fn alerts_are_taken_while_the_database_is_away_and_not_by_a_key() {
    let bench = bench();
    let key = bench.add_key(Role::Operator, None);
    bench.take_database_away();
    let answer = tell(&bench, TOKEN, body(&[alert("ab", "firing")])).await;
    assert_eq!((answer.status, answer.json()["queued"].as_u64()), (202, Some(1)));
    let again = tell(&bench, &key, body(&[alert("ab", "firing")])).await;
    assert_eq!(
        (again.status, again.json()["repeated"].as_u64()),
        (202, Some(1)),
        "the keys are in the part that is there"
    );
}

#[actix_web::test]
async fn what_is_given_up_is_listed_and_sent_again_by_an_administrator() {
    let bench = bench();
    let key = bench.add_key(Role::Admin, None);
    let call = async |method: &str, path: &str| bench.send(method, path, None, &[("x-api-key", key.as_str())]).await;
    tell(&bench, TOKEN, body(&[alert("ab", "firing"), alert("cd", "firing")])).await;
    let due = bench.store.claim_notice("n", NOW, NOW.plus_us(1)).unwrap().unwrap();
    let dead = Settlement {
        at: NOW,
        state: OutboxState::Dead,
        attempts: 3,
        next_attempt_at: NOW,
        last_error: Some("GitHub answered 401 to find: Bad credentials".into()),
        result: None,
        issue: None,
        held_until: None,
    };
    assert!(bench.store.settle_notice(due.row.id, "n", &dead).unwrap());
    bench.noted();
    let all = call("GET", "/api/webhooks").await;
    assert_eq!(all.header("x-total-count"), "2");
    let listed = call("GET", "/api/webhooks?state=dead&cursor=").await.json();
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (&listed[0]["fingerprint"], &listed[0]["name"], &listed[0]["attempts"]),
        (&json!("ab"), &json!("Down"), &json!(3))
    );
    assert!(listed[0]["last_error"].as_str().unwrap().contains("401"));
    assert_eq!(call("GET", "/api/webhooks?state=lost").await.status, 400);
    assert_eq!(call("GET", "/api/webhooks?fingerprint=cd").await.json()[0]["state"], "pending");
    let id = listed[0]["id"].as_i64().unwrap();
    let sent = call("POST", &format!("/api/webhooks/{id}/retry")).await;
    assert_eq!((sent.status, &sent.json()["state"], &sent.json()["attempts"]), (202, &json!("pending"), &json!(0)));
    let noted = bench.noted();
    assert_eq!((noted.len(), noted[0].target.as_str(), noted[0].outcome), (1, id.to_string().as_str(), Outcome::Done));
    assert_eq!(noted[0].action, "POST /api/webhooks/{webhook_id}/retry");
    assert!(noted[0].detail.contains("Down firing ab"), "{}", noted[0].detail);
    assert_eq!(call("POST", "/api/webhooks/9999/retry").await.status, 404);
    let done = Settlement { state: OutboxState::Done, ..dead };
    bench.store.claim_notice("n", NOW, NOW.plus_us(1)).unwrap().unwrap();
    assert!(bench.store.settle_notice(id, "n", &done).unwrap());
    assert_eq!(call("POST", &format!("/api/webhooks/{id}/retry")).await.status, 409);
}

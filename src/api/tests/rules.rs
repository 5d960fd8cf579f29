//! Alert rules over HTTP: what they look like, what is refused, who sees which.

use serde_json::{Value, json};

use crate::api::key;
use crate::api::testing::Bench;
use crate::audit::Outcome;
use crate::store::Role;

fn rule(name: &str) -> Value {
    json!({"name": name, "metric": "voltage_dc", "op": "gt", "threshold": 900})
}

#[actix_web::test]
async fn a_rule_is_made_read_replaced_and_removed() {
    let bench = Bench::new(true);
    let made = bench.post("/api/rules", rule("overvoltage")).await;
    assert_eq!((made.status, made.header("location")), (201, "/api/rules/1"));
    let expected = json!({
        "id": 1, "name": "overvoltage", "metric": "voltage_dc", "op": "gt", "threshold": 900.0, "clear_threshold": null,
        "for_s": 0, "devices": null, "device_type": null, "severity": "warning", "message": null, "enabled": true,
        "created_at": "2026-02-12T10:00:00Z", "created_by": made.json()["created_by"], "updated_at": "2026-02-12T10:00:00Z",
    });
    assert_eq!(made.json(), expected);
    let read = bench.get("/api/rules/1").await;
    assert_eq!((read.json(), read.header("etag")), (expected.clone(), made.header("etag")));
    let tag = read.header("etag").to_owned();
    assert_eq!(bench.send("GET", "/api/rules/1", None, &[("if-none-match", &tag)]).await.status, 304);

    let mut other = rule("undervoltage");
    (other["op"], other["clear_threshold"], other["for_s"]) = (json!("lt"), json!(910.5), json!(86400));
    (other["devices"], other["device_type"], other["enabled"]) = (json!("dc-*"), json!("dc750"), json!(false));
    (other["severity"], other["message"]) = (json!("critical"), json!("Too low"));
    let put = bench.send("PUT", "/api/rules/1", Some(other.clone()), &[("if-match", &tag)]).await;
    assert_eq!(put.status, 200);
    for (field, value) in other.as_object().unwrap() {
        let same = put.json()[field] == *value || put.json()[field].as_f64() == value.as_f64();
        assert!(same, "{field}: {}", put.json());
    }
    assert_ne!(put.header("etag"), tag);
    for method in ["PUT", "DELETE"] {
        let stale = bench.send(method, "/api/rules/1", Some(other.clone()), &[("if-match", &tag)]).await;
        assert_eq!(stale.status, 412, "{method}");
    }
    let whole = bench.put("/api/rules/1", rule("whole")).await.json();
    assert_eq!((&whole["devices"], &whole["enabled"]), (&Value::Null, &json!(true)), "what is left out is the default");
    assert_eq!(bench.send("DELETE", "/api/rules/1", None, &[]).await.status, 200);
    for path in ["/api/rules/1", "/api/rules/x"] {
        assert_eq!(bench.get(path).await.status, 404);
        assert_eq!(bench.put(path, rule("x")).await.status, 404);
        assert_eq!(bench.send("DELETE", path, None, &[]).await.status, 404);
    }
}

#[actix_web::test]
async fn a_body_of_the_wrong_shape_is_422_and_one_that_is_no_json_400() {
    let bench = Bench::new(true);
    assert_eq!(bench.post("/api/rules", rule("x")).await.status, 201);
    for body in [json!([]), json!(5), json!(null)] {
        let answer = bench.put("/api/rules/1", body.clone()).await;
        assert_eq!((answer.status, &answer.json()["errors"][0]["field"]), (422, &json!("body")), "{body}");
    }
    // Clients in the field know 400 here.
    bench.add_device("m-1").await;
    assert_eq!(bench.put("/api/devices/m-1", json!([])).await.status, 400);
}

#[actix_web::test]
async fn every_bad_field_of_a_rule_is_named() {
    let bench = Bench::new(true);
    let check = async |body: Value, expected: &[&str]| {
        let answer = bench.post("/api/rules", body.clone()).await;
        assert_eq!(answer.status, 422, "{body}");
        let errors = answer.json()["errors"].clone();
        let mut fields: Vec<_> = errors.as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap()).collect();
        fields.sort_unstable();
        assert_eq!(fields, expected, "{body}: {errors}");
    };
    check(json!({}), &["metric", "name", "op", "threshold"]).await;
    let bad = json!({
        "name": "", "metric": "a b", "op": "above", "threshold": "900", "clear_threshold": true, "for_s": 86401, "devices": "a b",
        "device_type": "", "severity": "bad", "message": "", "enabled": 1, "colour": "red",
    });
    let all = [
        "clear_threshold",
        "colour",
        "device_type",
        "devices",
        "enabled",
        "for_s",
        "message",
        "metric",
        "name",
        "op",
        "severity",
        "threshold",
    ];
    check(bad, &all).await;
    let with = |field: &str, value: Value| {
        let mut rule = rule("r");
        rule[field] = value;
        rule
    };
    for (field, value) in [
        ("name", json!("device_offline")),
        ("name", json!("é".repeat(65))),
        ("name", json!("a\nb")),
        ("name", json!("a\u{0}b")),
        ("for_s", json!(-1)),
        ("for_s", json!(1.5)),
        ("clear_threshold", json!(900.5)),
        ("message", json!("x".repeat(513))),
        ("devices", json!("é")),
    ] {
        check(with(field, value), &[field]).await;
    }
    let mut equal = with("clear_threshold", json!(900));
    equal["op"] = json!("eq");
    check(equal, &["clear_threshold"]).await;
    assert_eq!(bench.post("/api/rules", with("clear_threshold", json!(900))).await.status, 201);
    assert_eq!(bench.post("/api/rules", rule("r")).await.status, 409, "the name is taken");
    assert_eq!(
        bench.get("/api/rules?enabled=maybe&severity=bad&metric=a%20b").await.json()["errors"][2]["field"],
        "severity"
    );
}

#[actix_web::test]
async fn rules_are_listed_newest_first_by_page_cursor_and_filter() {
    let bench = Bench::new(true);
    for n in 0..5 {
        let mut rule = rule(&format!("r{n}"));
        (rule["enabled"], rule["severity"]) = (json!(n != 2), json!(if n == 3 { "info" } else { "critical" }));
        assert_eq!(bench.post("/api/rules", rule).await.status, 201);
    }
    let names = async |path: &str| {
        let answer = bench.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        let names: Vec<String> =
            answer.json().as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap().to_owned()).collect();
        (names.join(" "), answer)
    };
    let (all, answer) = names("/api/rules?page=2&per_page=2").await;
    assert_eq!((all.as_str(), answer.header("x-total-count")), ("r2 r1", "5"));
    assert!(answer.header("link").contains("rel=\"next\""), "{}", answer.header("link"));
    let (first, answer) = names("/api/rules?cursor=&per_page=3").await;
    let link = answer.header("link").to_owned();
    let next = link.split('<').find(|part| part.contains("rel=\"next\"")).unwrap().split('>').next().unwrap();
    assert_eq!((first.as_str(), names(next).await.0.as_str()), ("r4 r3 r2", "r1 r0"));
    assert_eq!(names("/api/rules?enabled=false").await.0, "r2");
    assert_eq!(names("/api/rules?severity=info&metric=voltage_dc").await.0, "r3");
    assert_eq!(names("/api/rules?metric=pf").await.0, "");
}

#[actix_web::test]
async fn a_limited_key_sees_rules_of_its_devices_only_and_changes_none() {
    let bench = Bench::new(false);
    let (admin, limited) = (bench.add_key(Role::Admin, None), bench.add_key(Role::Admin, Some("dc-")));
    let call = async |method: &str, path: &str, body: Option<Value>, key: &str| {
        bench.send(method, path, body, &[("x-api-key", key)]).await
    };
    for (n, devices) in [json!("dc-7*"), json!("ac-"), json!("*"), Value::Null].into_iter().enumerate() {
        let mut rule = rule(&format!("r{n}"));
        rule["devices"] = devices;
        assert_eq!(call("POST", "/api/rules", Some(rule), &admin).await.status, 201);
    }
    let seen = call("GET", "/api/rules", None, &limited).await;
    assert_eq!((seen.json().as_array().unwrap().len(), seen.header("x-total-count")), (1, "1"));
    assert_eq!(call("GET", "/api/rules/1", None, &limited).await.status, 200);
    for path in ["/api/rules/2", "/api/rules/3", "/api/rules/4"] {
        assert_eq!(call("GET", path, None, &limited).await.status, 404);
    }
    let mut own = rule("own");
    own["devices"] = json!("dc-1");
    assert_eq!(call("POST", "/api/rules", Some(own.clone()), &limited).await.status, 403);
    assert_eq!(call("PUT", "/api/rules/1", Some(own), &limited).await.status, 403);
    assert_eq!(call("DELETE", "/api/rules/1", None, &limited).await.status, 403);
}

#[actix_web::test]
async fn a_change_of_a_rule_is_in_the_audit_log_with_its_number_and_name() {
    let bench = Bench::new(false);
    let admin = bench.add_key(Role::Admin, None);
    let headers = [("x-api-key", admin.as_str())];
    assert_eq!(bench.send("POST", "/api/rules", Some(rule("a")), &headers).await.status, 201);
    assert_eq!(bench.send("PUT", "/api/rules/1", Some(rule("b")), &headers).await.status, 200);
    assert_eq!(bench.send("DELETE", "/api/rules/1", None, &headers).await.status, 200);
    let noted: Vec<_> = bench.noted().into_iter().map(|e| (e.actor, e.action, e.target, e.outcome, e.detail)).collect();
    let actor = format!("key:{}", key::prefix_of(&admin).unwrap());
    let entry = |action: &str, detail: &str| {
        (actor.clone(), action.to_owned(), "1".to_owned(), Outcome::Done, detail.to_owned())
    };
    let expected = [
        entry("POST /api/rules", "status 201 a"),
        entry("PUT /api/rules/{rule_id}", "status 200 b"),
        entry("DELETE /api/rules/{rule_id}", "status 200 b"),
    ];
    assert_eq!(noted, expected);
}

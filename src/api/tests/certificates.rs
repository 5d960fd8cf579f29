//! Certificates by REST: who sees and revokes which. Issuing is tested with the whole server.

use serde_json::json;

use crate::api::testing::{Bench, NOW};
use crate::domain::DeviceId;
use crate::store::{Certificate, Certificates, Role};

const DAY_US: i64 = 86_400_000_000;

fn add(bench: &Bench, serial: &str, device: Option<&str>, days: i64) {
    let certificate = Certificate {
        serial: serial.into(),
        device: device.map(|id| DeviceId::parse(id).unwrap()),
        not_before: NOW.plus_us(-DAY_US),
        not_after: NOW.plus_us(days * DAY_US),
        fingerprint: "f".into(),
        pem: "PEM".into(),
        issued_at: NOW,
        issued_by: "local".into(),
        revocation: None,
    };
    bench.store.add_certificate(&certificate).unwrap();
}

#[actix_web::test]
async fn certificates_are_an_administrators_of_the_whole_fleet() {
    let bench = Bench::new(false);
    add(&bench, "0a", Some("dc-1"), 10);
    add(&bench, "0b", Some("ac-1"), 400);
    add(&bench, "0c", None, 90);
    let all = bench.add_key(Role::Admin, None);
    let call = async |key: &str, method: &str, path: &str| bench.send(method, path, None, &[("x-api-key", key)]).await;
    let list = async |key: &str, query: &str| {
        let answer = call(key, "GET", &format!("/api/certificates?{query}")).await.json();
        answer.as_array().unwrap().iter().map(|c| c["serial"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(list(&all, "").await, ["0c", "0b", "0a"]);
    assert_eq!(list(&all, "device=ac-1").await, ["0b"]);
    assert_eq!(list(&all, "expiring_within_days=30").await, ["0a"]);
    assert_eq!(call(&all, "GET", "/api/certificates?expiring_within_days=x").await.status, 400);
    // Neither may an operator, who gives devices their tokens, nor an administrator of some of them.
    for (role, devices) in
        [(Role::Viewer, None), (Role::Operator, None), (Role::Operator, Some("dc-")), (Role::Admin, Some("dc-"))]
    {
        let key = bench.add_key(role, devices);
        let calls = [("GET", ""), ("POST", ""), ("GET", "/0a"), ("DELETE", "/0a"), ("DELETE", "/ff")];
        for (method, path) in calls {
            let answer = call(&key, method, &format!("/api/certificates{path}")).await;
            assert_eq!(answer.status, 403, "{role:?} {devices:?} {method} {path}");
        }
    }
    for method in ["GET", "DELETE"] {
        assert_eq!(call(&all, method, "/api/certificates/ff").await.status, 404);
    }
    let one = call(&all, "GET", "/api/certificates/0A").await;
    assert_eq!((one.status, &one.json()["state"], one.header("etag").is_empty()), (200, &json!("valid"), false));
    bench.noted();
    let revoked = call(&all, "DELETE", "/api/certificates/0a").await;
    let noted: Vec<_> = bench.noted().into_iter().map(|event| (event.action, event.target)).collect();
    assert_eq!(noted, [("certificate.revoke".to_owned(), "0a".to_owned())], "one entry");
    assert_eq!((revoked.status, &revoked.json()["state"]), (200, &json!("revoked")));
    let revocations = &bench.state.services.pki.revocations;
    assert!(revocations.has("0a") && !revocations.has("0b"));
    assert_eq!(list(&all, "expiring_within_days=30").await, Vec::<String>::new());
    bench.clock.set(NOW.plus_us(500 * DAY_US));
    assert_eq!(call(&all, "GET", "/api/certificates/0b").await.json()["state"], "expired");
}

#[actix_web::test]
async fn a_certificate_that_has_been_revoked_meanwhile_is_not_revoked_by_who_has_read_it_before() {
    let bench = Bench::new(true);
    add(&bench, "0a", None, 10);
    let path = "/api/certificates/0a";
    let tag = bench.get(path).await.header("etag").to_owned();
    let revoke = async |tag: &str| bench.send("DELETE", path, None, &[("if-match", tag)]).await.status;
    assert_eq!(revoke("\"1-00\"").await, 412);
    assert_eq!(bench.get(path).await.json()["state"], "valid");
    assert_eq!([revoke(&tag).await, revoke(&tag).await, revoke("*").await], [200, 412, 200]);
    assert_eq!(bench.send("DELETE", "/api/certificates/ff", None, &[("if-match", &tag)]).await.status, 404);
}

#[actix_web::test]
async fn without_an_authority_nothing_is_issued_and_the_reason_is_told() {
    let bench = Bench::new(true);
    bench.add_device("m-1").await;
    let refused = bench.post("/api/certificates", json!({"device_id": "m-1"})).await;
    assert_eq!(refused.status, 409);
    assert!(refused.json()["detail"].as_str().unwrap().contains("external"));
    assert_eq!(bench.post("/api/certificates", json!({"device_id": "m-2"})).await.status, 404);
    let faults = bench.post("/api/certificates", json!({"days": 9999, "csr": "", "colour": 1})).await;
    let mut fields: Vec<_> =
        faults.json()["errors"].as_array().unwrap().iter().map(|f| f["field"].as_str().unwrap().to_owned()).collect();
    fields.sort();
    assert_eq!((faults.status, fields), (422, ["colour", "csr", "days", "device_id"].map(str::to_owned).to_vec()));
    assert_eq!(bench.get("/api/certificates/ca").await.status, 404);
    assert_eq!(bench.get("/api/certificates/crl").await.status, 409);
}

#[actix_web::test]
async fn a_deleted_devices_certificates_are_revoked_with_it() {
    let bench = Bench::new(true);
    bench.add_device("m-1").await;
    add(&bench, "0a", Some("m-1"), 10);
    assert_eq!(bench.send("DELETE", "/api/devices/m-1", None, &[]).await.status, 200);
    let revocation = bench.store.certificate("0a").unwrap().unwrap().revocation.unwrap();
    assert_eq!((revocation.by.as_str(), revocation.reason.as_str()), ("open", "the device was deleted"));
}

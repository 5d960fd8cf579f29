//! How many certificates a meter may have, at the real executable.

use iot_meter::store::MAX_GOOD_CERTIFICATES;
use serde_json::json;

use crate::support::certified::Guarded;

#[test]
fn a_meter_renews_until_it_has_as_many_as_it_may_and_again_when_one_is_revoked() {
    let app = Guarded::start(&[]);
    let first = app.enrol("m1");
    let m1 = app.client(Some(&first));
    let renew = || app.https(&m1, "POST /api/certificates/renew", "{}").unwrap();
    for _ in 1..MAX_GOOD_CERTIFICATES {
        renew().expect(201);
    }
    let refused = renew().expect(409).json();
    assert!(refused["detail"].as_str().unwrap().contains("revoke"), "{refused}");
    let issue = || app.api.post("/api/certificates", &json!({"device_id": "m1"}));
    issue().expect(409);
    assert_eq!(app.run(&["pki", "renew", &first.serial]).status.code(), Some(1));
    let listed = app.api.get("/api/certificates?device=m1").expect(200).json();
    assert_eq!(listed.as_array().map(Vec::len), usize::try_from(MAX_GOOD_CERTIFICATES).ok());
    let newest = listed[0]["serial"].as_str().unwrap();
    app.api.delete(&format!("/api/certificates/{newest}")).expect(200);
    renew().expect(201);

    app.api.put("/api/devices/m1", &json!({"status": "inactive"})).expect(200);
    let refused = issue().expect(409).json();
    assert!(refused["detail"].as_str().unwrap().contains("disabled"), "{refused}");
}

//! Rollouts over HTTP, where somebody else is faster.

use serde_json::json;

use crate::api::testing::{Bench, NOW};
use crate::domain::DeviceId;
use crate::store::{NewDevice, NewFirmware, Outcome};

/// A rollout that runs; its path.
async fn begin(bench: &Bench) -> String {
    let device = NewDevice {
        device_id: DeviceId::parse("m-1").unwrap(),
        device_name: "M".into(),
        device_type: "dc750".into(),
        location: None,
        is_active: true,
        metadata: serde_json::Map::new(),
        token_sha256: None,
    };
    bench.store.real().create_device(&device, NOW).unwrap();
    let image = NewFirmware {
        object: "ab".into(),
        version: "2.0.0".into(),
        device_type: "dc750".into(),
        size_bytes: 9,
        sha256: [7; 32],
        created_at: NOW,
        created_by: "key:a".into(),
    };
    let Outcome::Done(image) = bench.store.real().add_firmware(&image).unwrap() else { panic!("it is the first") };
    let made = bench.post("/api/rollouts", json!({"firmware_id": image.id, "stages": ["100%"]})).await;
    assert_eq!(made.status, 201);
    format!("/api/rollouts/{}", made.json()["id"])
}

#[actix_web::test]
async fn who_comes_too_late_is_told_what_has_become_of_the_rollout() {
    let bench = Bench::new(true);
    let path = begin(&bench).await;
    let abort = async || bench.send("POST", &format!("{path}/abort"), None, &[]).await;
    let (one, other) = tokio::join!(abort(), abort());
    let refused = if one.status == 200 { other } else { one };
    assert_eq!(refused.status, 409);
    let expected = "only a rollout that is running or paused can be; this one is aborted";
    assert_eq!(refused.json()["detail"], expected);
}

//! Meters that take themselves in: each presents the claim once and gets its MQTT password and its command key.
//!
//! Invariant: neither the claim nor what it brought shows in an error or in `Debug`. Blocking, like `register`.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use zeroize::Zeroizing;

use super::options::{ApiAccess, Error};
use crate::vault::Secret32;

/// Longest time for one call.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How often a call is repeated when the server asks for patience (429): enrolments are limited like log-ins.
const PATIENCE: u32 = 120;

/// What a meter has to log in and to judge its commands by.
#[derive(Clone, Default)]
pub struct Credentials {
    /// MQTT password.
    pub token: Option<String>,
    /// What its commands must be signed with.
    pub command_key: Option<Secret32>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(***)")
    }
}

#[derive(Deserialize)]
struct Answer {
    mqtt_token: Option<String>,
    command_key: String,
}

/// Enrols `(device_id, device_type)` in order.
pub fn enrol(api: &ApiAccess, claim: &str, devices: &[(String, &'static str)]) -> Result<Vec<Credentials>, Error> {
    let config = api.http()?.timeout_global(Some(TIMEOUT)).http_status_as_error(false);
    let agent: ureq::Agent = config.build().into();
    let url = format!("{}/api/enrol", api.url.trim_end_matches('/'));
    devices.iter().map(|(id, device_type)| enrol_one(&agent, &url, claim, id, device_type)).collect()
}

fn enrol_one(agent: &ureq::Agent, url: &str, claim: &str, id: &str, device_type: &str) -> Result<Credentials, Error> {
    let failed = |source| Error::Register { device_id: id.into(), url: url.into(), source: Box::new(source) };
    let body = serde_json::json!({
        "device_id": id,
        "claim_token": claim,
        "device_name": format!("Simulated meter {id}"),
        "device_type": device_type,
        "mqtt_token": true,
    });
    let mut status = 0;
    for _ in 0..PATIENCE {
        let mut response = agent.post(url).send_json(&body).map_err(failed)?;
        status = response.status().as_u16();
        match status {
            201 => {
                let answer = response.body_mut().read_json::<Answer>().map_err(failed)?;
                let mut key = Zeroizing::new([0; 32]);
                let is_key = hex::decode_to_slice(&answer.command_key, &mut *key).is_ok();
                return Ok(Credentials { token: answer.mqtt_token, command_key: is_key.then_some(key) });
            }
            429 => {
                let after = response.headers().get("Retry-After").and_then(|v| v.to_str().ok());
                let seconds = after.and_then(|v| v.parse().ok()).unwrap_or(1).clamp(1, 10);
                std::thread::sleep(Duration::from_secs(seconds));
            }
            _ => break,
        }
    }
    Err(Error::RegisterRefused { device_id: id.into(), url: url.into(), status })
}

//! Registers devices over the REST API and takes the tokens it returns.

use std::time::Duration;

use serde::Deserialize;

use super::options::{ApiAccess, Error};

/// Longest time for one call.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How often a call is repeated when the server asks for patience (429).
const PATIENCE: u32 = 20;

#[derive(Deserialize)]
struct Created {
    token: Option<String>,
}

/// Registers `(device_id, device_type)` in order and returns each one's MQTT token; a device that exists already (409) is
/// fine and yields none. Blocking: call it on a blocking thread.
pub fn register(api: &ApiAccess, devices: &[(String, &'static str)]) -> Result<Vec<Option<String>>, Error> {
    let config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false);
    let agent: ureq::Agent = config.build().into();
    let url = format!("{}/api/devices", api.url.trim_end_matches('/'));
    devices.iter().map(|(id, device_type)| register_one(&agent, api, &url, id, device_type)).collect()
}

fn register_one(
    agent: &ureq::Agent,
    api: &ApiAccess,
    url: &str,
    device_id: &str,
    device_type: &str,
) -> Result<Option<String>, Error> {
    let failed = |source| Error::Register { device_id: device_id.into(), url: url.into(), source: Box::new(source) };
    let body = serde_json::json!({
        "device_id": device_id,
        "device_name": format!("Simulated meter {device_id}"),
        "device_type": device_type,
        "metadata": {"simulated": true},
    });
    for _ in 0..PATIENCE {
        let mut request = agent.post(url);
        if let Some(key) = &api.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let mut response = request.send_json(&body).map_err(failed)?;
        let status = response.status().as_u16();
        match status {
            200 | 201 => return Ok(response.body_mut().read_json::<Created>().map_err(failed)?.token),
            409 => return Ok(None),
            429 => {
                let after = response.headers().get("Retry-After").and_then(|v| v.to_str().ok());
                let seconds = after.and_then(|v| v.parse().ok()).unwrap_or(1).clamp(1, 10);
                std::thread::sleep(Duration::from_secs(seconds));
            }
            status => return Err(Error::RegisterRefused { device_id: device_id.into(), url: url.into(), status }),
        }
    }
    Err(Error::RegisterRefused { device_id: device_id.into(), url: url.into(), status: 429 })
}

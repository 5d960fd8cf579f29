//! Firmware and its rollouts, put together of the settings.

use std::sync::Arc;

use anyhow::Context;
use tokio::sync::watch;

use super::Parts;
use super::admission::Doors;
use super::archiving::cloud_options;
use super::datadir::{Addresses, DataDir};
use super::start::behind;
use super::supervise::Tasks;
use crate::archive::Images;
use crate::config::Settings;
use crate::dispatch::Handle;
use crate::dispatch::rollouts::{Campaigns, Rollouts, TASK};
use crate::vault::Keyring;

/// Opens where images are kept and starts the task that steps rollouts.
#[allow(clippy::too_many_arguments, reason = "the parts of the start that it needs")]
pub async fn start(
    settings: &Settings,
    data: &DataDir,
    addresses: &Addresses,
    parts: &Parts,
    (vault, dispatch): (&Arc<Keyring>, &Handle),
    doors: &Doors,
    stopping: &watch::Receiver<bool>,
    tasks: &mut Tasks,
) -> anyhow::Result<Campaigns> {
    let (url, dir, options) = (settings.archive.url.clone(), data.path("firmware"), cloud_options(settings));
    let runtime = tokio::runtime::Handle::current();
    let opened = tokio::task::spawn_blocking(move || Images::open(&url, &dir, &options, runtime)).await;
    let images = opened.context("opening the firmware directory panicked")??;
    let campaigns = Campaigns::new(images, public_url(&settings.http.public_url, addresses));
    let (store, board) = (Arc::clone(&parts.store), parts.board.clone());
    let rollouts = Rollouts::new(campaigns.clone(), store, Arc::clone(vault), dispatch.clone(), board);
    let stop = stopping.clone();
    let stepping = async move {
        rollouts.run(stop).await;
        Ok(())
    };
    tasks.spawn(TASK, behind(doors, stopping, stepping));
    Ok(campaigns)
}

/// How meters reach this server over HTTP: as configured, else by the address of a listener that says it. A listener on this
/// machine alone is reached by meters that are there too: when MQTT listens nowhere else.
fn public_url(configured: &str, addresses: &Addresses) -> Option<String> {
    if !configured.is_empty() {
        return Some(configured.trim_end_matches('/').to_owned());
    }
    let mqtt = [Some(addresses.mqtt), addresses.mqtts, addresses.ws, addresses.wss];
    let is_all_near = mqtt.into_iter().flatten().all(|address| address.ip().is_loopback());
    let says = |ip: std::net::IpAddr| !ip.is_unspecified() && (is_all_near || !ip.is_loopback());
    let https = addresses.https.filter(|address| says(address.ip())).map(|address| format!("https://{address}"));
    https.or_else(|| says(addresses.http.ip()).then(|| format!("http://{}", addresses.http)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meters_are_told_what_is_configured_or_an_address_that_they_can_reach() {
        let check = |configured: &str, http: &str, https: Option<&str>, mqtt: &str, expected: Option<&str>| {
            let parse = |text: &str| text.parse().unwrap();
            let addresses = Addresses {
                http: parse(http),
                https: https.map(parse),
                mqtt: parse(mqtt),
                mqtts: None,
                ws: None,
                wss: None,
                metrics: None,
            };
            assert_eq!(public_url(configured, &addresses).as_deref(), expected, "{http} {https:?} {mqtt}");
        };
        let (near, far, any) = ("127.0.0.1:80", "10.0.0.7:80", "0.0.0.0:80");
        check("https://m.example/iot/", any, None, any, Some("https://m.example/iot"));
        check("", near, None, near, Some("http://127.0.0.1:80"));
        check("", near, None, any, None);
        check("", any, None, any, None);
        check("", far, None, any, Some("http://10.0.0.7:80"));
        check("", far, Some("10.0.0.7:443"), any, Some("https://10.0.0.7:443"));
        check("", far, Some("0.0.0.0:443"), any, Some("http://10.0.0.7:80"));
        check("", "[::1]:80", None, near, Some("http://[::1]:80"));
    }
}

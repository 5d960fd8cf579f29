//! `--demo N`: simulated meters inside the process, speaking real MQTT to its own port.

use tokio::sync::watch;

use super::{Addresses, supervise::Tasks};
use crate::simulate::{self, ApiAccess, BrokerUrl};

/// Starts the fleet; it ends with the process. With a key the meters are registered over the API first.
pub fn spawn(devices: u32, addresses: &Addresses, key: Option<String>, stop: watch::Receiver<bool>, tasks: &mut Tasks) {
    let (host, port) = (addresses.mqtt.ip().to_string(), addresses.mqtt.port());
    let mut options = simulate::Options::demo(devices, BrokerUrl { host, port, user: None, password: None });
    options.api = key.map(|key| ApiAccess { url: format!("http://{}", addresses.http), key: Some(key) });
    tasks.spawn("demo", async move {
        simulate::run(options, stop).await?;
        Ok(())
    });
}

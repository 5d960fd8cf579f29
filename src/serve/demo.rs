//! `--demo N`: simulated meters inside the process, speaking real MQTT to its own port.

use tokio::sync::watch;

use super::{Addresses, Parts, supervise::Tasks};
use crate::simulate::{self, ApiAccess, BrokerUrl};

/// The task's name.
const TASK: &str = "demo";

/// Starts the fleet; it ends with the process. With a key the meters are registered over the API first.
pub fn spawn(devices: u32, addresses: &Addresses, key: Option<String>, stop: watch::Receiver<bool>, tasks: &mut Tasks) {
    let broker = BrokerUrl {
        host: addresses.mqtt.ip().to_string(),
        port: addresses.mqtt.port(),
        user: None,
        password: None,
    };
    let api = key.map(|key| ApiAccess { url: format!("http://{}", addresses.http), key: Some(key) });
    let options = simulate::Options {
        devices,
        id_prefix: "demo-".into(),
        brokers: vec![broker],
        api,
        send_interval_s: 2,
        ..simulate::Options::default()
    };
    tasks.spawn(TASK, async move {
        simulate::run(options, stop).await?;
        Ok(())
    });
}

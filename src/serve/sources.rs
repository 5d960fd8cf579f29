//! The configured external brokers, each a task of its own.

use std::time::Duration;

use super::Parts;
use super::supervise::Tasks;
use crate::broker::source::{Options, Password, TASKS};
use crate::config::{ExternalBroker, Settings};

/// Seconds between signs of life.
const KEEP_ALIVE_S: u16 = 30;

/// From dialling to the accepted subscription.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Starts all of them. None has to be there: a source that is not connected is on the task board and holds nothing up.
pub fn start(settings: &Settings, node_id: uuid::Uuid, parts: &Parts, tasks: &mut Tasks) {
    for broker in &settings.sources {
        let source = parts.broker.source(options(broker, settings, node_id), parts.board.clone());
        let name = TASKS.get(broker.number).copied().unwrap_or("source");
        tasks.spawn(name, async move {
            source.await;
            Ok(())
        });
    }
}

fn options(broker: &ExternalBroker, settings: &Settings, node_id: uuid::Uuid) -> Options {
    let ExternalBroker { number, url, filter, client_id, username, version, session_expiry_s, .. } = broker.clone();
    let text = broker.password.as_ref().map(|secret| Password::Text(secret.reveal().to_owned()));
    Options {
        number,
        address: url,
        filter,
        client_id: if client_id.is_empty() { format!("iot-meter-{node_id}") } else { client_id },
        username,
        password: text.or_else(|| broker.password_file.clone().map(Password::File)),
        version,
        session_expiry_s,
        keep_alive_s: KEEP_ALIVE_S,
        ca_file: broker.ca_file.clone(),
        max_devices: broker.max_devices,
        max_packet_bytes: settings.mqtt.max_packet_bytes,
        connect_timeout: CONNECT_TIMEOUT,
    }
}

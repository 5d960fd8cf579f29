//! `--demo N`: simulated meters inside the process, speaking real MQTT to its own port.

use tokio::sync::watch;

use super::{Addresses, supervise::Tasks};
use crate::simulate::{self, ApiAccess, BrokerUrl};

/// Starts the fleet; it ends with the process. With a key the meters are registered over the API first.
pub fn spawn(devices: u32, addresses: &Addresses, key: Option<String>, stop: watch::Receiver<bool>, tasks: &mut Tasks) {
    let (host, port) = (addresses.mqtt.ip().to_string(), addresses.mqtt.port());
    let mut options =
        simulate::Options::demo(devices, BrokerUrl { is_tls: false, host, port, user: None, password: None });
    options.api = key.map(|key| ApiAccess { url: format!("http://{}", addresses.http), key: Some(key), ca_file: None });
    tasks.spawn("demo", async move {
        simulate::run(options, stop).await?;
        Ok(())
    });
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use crate::config::{Flag, Sources, load};
    use crate::domain::{Clock, DeviceId, Timestamp};
    use crate::serve::{Running, Start, start};
    use crate::store;

    /// Waits until the first meter has been heard of after `since`.
    async fn heard_of(running: &Running, since: Timestamp) {
        let id = DeviceId::parse("demo-dc750-0001").unwrap();
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let wanted = id.clone();
            let device = store::run(&running.parts.store, move |s| s.device(&wanted)).await.unwrap();
            if device.is_some_and(|d| d.last_seen.is_some_and(|at| at >= since)) {
                return;
            }
            assert!(Instant::now() < end, "the meter was not heard of");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn demo_meters_log_in_at_every_start_with_authentication_on() {
        let dir = tempfile::tempdir().unwrap();
        let flag = |key: &str, value: &str| Flag { flag: key.into(), key: key.into(), value: value.into() };
        let flags = vec![
            flag("data_dir", &dir.path().join("data").display().to_string()),
            flag("http.listen", "127.0.0.1:0"),
            flag("mqtt.listen", "127.0.0.1:0"),
            flag("mqtt.tls_listen", "off"),
        ];
        let settings = load(&Sources { flags, ..Sources::default() }).unwrap().settings;
        for _ in 0..2 {
            let clock = Clock::system();
            let since = clock.now();
            let running = start(Start { settings: settings.clone(), open: false, clock, demo: 2 }).await.unwrap();
            heard_of(&running, since).await;
            running.stop().await.unwrap();
        }
    }
}

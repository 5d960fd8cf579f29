//! `--demo N`: simulated meters inside the process, speaking real MQTT to its own port.
//!
//! One of them loses messages and is given a command, so that nothing that shows gaps, alerts or commands is empty.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::supervise::Tasks;
use super::{Addresses, Parts};
use crate::dispatch::{self, Request};
use crate::domain::command::CommandKind;
use crate::domain::{Clock, CommandId, DeviceId, Timestamp};
use crate::simulate::{self, ApiAccess, BrokerUrl};
use crate::store::{self, CommandFilter, DEFAULT_COMMAND_LIFE, NewCommand, Page, SharedStore, Store};

/// How often the meter is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Starts the fleet; it ends with the process. With a key the meters are registered over the API first.
pub fn spawn(
    devices: u32,
    addresses: &Addresses,
    key: Option<String>,
    (parts, dispatcher): (&Parts, dispatch::Handle),
    stop: watch::Receiver<bool>,
    tasks: &mut Tasks,
) {
    let (host, port) = (addresses.mqtt.ip().to_string(), addresses.mqtt.port());
    let mut options =
        simulate::Options::demo(devices, BrokerUrl { is_tls: false, host, port, user: None, password: None });
    options.api = key.map(|key| ApiAccess { url: format!("http://{}", addresses.http), key: Some(key), ca_file: None });
    let of_number = |index: u32| options.fleet().into_iter().nth(index as usize);
    let struck = options.struck.and_then(|struck| of_number(struck.index));
    let meter = struck.and_then(|(id, _)| DeviceId::parse(&id));
    let (store, clock, mut stopping) = (Arc::clone(&parts.store), parts.board.clock().clone(), stop.clone());
    tasks.spawn("demo", async move {
        let asking = async {
            let Some(meter) = meter else { return Ok::<(), simulate::Error>(()) };
            tokio::select! {
                () = ask(&store, &clock, &dispatcher, &meter) => {}
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
            Ok(())
        };
        tokio::try_join!(simulate::run(options, stop), asking)?;
        Ok(())
    });
}

/// Asks a meter for its state as soon as it is known, unless it has a command already.
async fn ask(store: &SharedStore, clock: &Clock, dispatcher: &dispatch::Handle, meter: &DeviceId) {
    loop {
        let (wanted, now) = (meter.clone(), clock.now());
        // A database that is away is waited for, as the meter is.
        if matches!(store::run(store, move |s| give(s, &wanted, now)).await, Ok(true)) {
            dispatcher.ask(Request::Deliver(meter.clone())).await;
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether it has a command now.
fn give(store: &dyn Store, meter: &DeviceId, now: Timestamp) -> Result<bool, store::Error> {
    let filter = CommandFilter { device: Some(meter.clone()), status: None };
    if !store.commands(&filter, Page::offset(0, 1))?.items.is_empty() {
        return Ok(true);
    }
    let new = NewCommand {
        cmd_id: CommandId::random(),
        device: meter.clone(),
        cmd: CommandKind::RequestStatus.name().to_owned(),
        params: serde_json::Map::new(),
        created_at: now,
        created_by: "demo".to_owned(),
        expires_at: now.plus(DEFAULT_COMMAND_LIFE),
    };
    Ok(store.create_command(&new)?.is_some())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::config::{Flag, Settings, Sources, load};
    use crate::serve::{Running, Start, start};

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

    fn settings(dir: &tempfile::TempDir) -> Settings {
        let flag = |key: &str, value: &str| Flag { flag: key.into(), key: key.into(), value: value.into() };
        let flags = vec![
            flag("data_dir", &dir.path().join("data").display().to_string()),
            flag("http.listen", "127.0.0.1:0"),
            flag("mqtt.listen", "127.0.0.1:0"),
            flag("mqtt.tls_listen", "off"),
        ];
        load(&Sources { flags, ..Sources::default() }).unwrap().settings
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_demo_has_one_command_and_a_meter_that_obeys_it() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        let running = start(Start { settings: settings(&dir), open: true, clock, demo: 1 }).await.unwrap();
        let meter = DeviceId::parse("demo-dc750-0001").unwrap();
        let end = Instant::now() + Duration::from_secs(30);
        let all = CommandFilter { device: Some(meter.clone()), status: None };
        let commands = || {
            let all = all.clone();
            let page = store::run(&running.parts.store, move |s| s.commands(&all, Page::offset(0, 9)));
            async move { page.await.unwrap().items }
        };
        while !commands().await.iter().any(|command| command.finished_at.is_some()) {
            assert!(Instant::now() < end, "the meter has not obeyed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let again = store::run(&running.parts.store, move |s| give(s, &meter, Timestamp(0))).await.unwrap();
        assert_eq!((again, commands().await.len()), (true, 1), "after a restart it has one already");
        running.stop().await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn demo_meters_log_in_at_every_start_with_authentication_on() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(&dir);
        for _ in 0..2 {
            let clock = Clock::system();
            let since = clock.now();
            let running = start(Start { settings: settings.clone(), open: false, clock, demo: 2 }).await.unwrap();
            heard_of(&running, since).await;
            running.stop().await.unwrap();
        }
    }
}

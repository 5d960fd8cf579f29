//! A fleet of simulated meters that speaks the whole meter protocol over real MQTT.
//!
//! Promise: what leaves here is what a meter in the field sends: physics of a train, one counter over all messages that
//! restarts at power-on, hello rule, last will, commands with effect, firmware updates, several brokers, and, when asked
//! for, faults that are counted so that a test can compare them with what the server found.
//! Time: a meter's time stamps are always **real time**. `speed` X makes its train run, and its intervals pass, X times
//! faster: ten seconds of meter life then fit into 10/X real seconds, samples lie closer together, and nothing ever
//! leaves the server's accepted window.
//! Must not know: broker, store and API of this product; it is a client like any other and encodes its own bytes.
//!
//! Start from [`Options`] and [`run`]; one meter, without any input or output, is [`meter::Meter`].

mod device;
mod electric;
mod enrol;
mod faults;
mod firmware;
mod link;
pub mod meter;
mod options;
mod ota;
mod register;
mod report;
mod secure;
mod train;
mod tunnel;
mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::domain::Clock;

pub use enrol::{Credentials, enrol};
pub use faults::Faults;
pub use options::{ApiAccess, BrokerUrl, Error, Options, Profile, Struck};
pub use register::register;
pub use report::{Counts, FaultCounts, Report};
pub use secure::TlsFiles;
pub(crate) use secure::{Trust, dial};

/// Meters whose connects are spread evenly over this time at most, so that a big fleet does not arrive in one burst.
const CONNECT_SPREAD: Duration = Duration::from_secs(5);
/// Time a meter is given to connect before the next one starts, until the spread above is used up.
const CONNECT_SPACING: Duration = Duration::from_millis(2);

/// Runs the fleet until `options.duration` has passed or `stop` becomes true (or its sender is gone), then lets every
/// meter say `offline` and leave.
///
/// Broken connections are not errors: a meter buffers and reconnects. Errors: options out of range, or the API refused
/// to register a device.
pub async fn run(options: Options, stop: watch::Receiver<bool>) -> Result<Report, Error> {
    options.check()?;
    let started = Instant::now();
    let fleet = options.fleet();
    let credentials = register_fleet(&options, &fleet).await?;
    let counters = Arc::new(report::Counters::default());
    tracing::info!(devices = fleet.len(), brokers = options.brokers.len(), speed = options.speed, "simulation started");

    let (inner_stop, inner_stopped) = watch::channel(false);
    let wrappings =
        options.brokers.iter().any(|broker| broker.is_tls).then(|| Wrappings::open(&options.tls)).transpose()?;
    let spacing = CONNECT_SPACING.min(CONNECT_SPREAD / options.devices.max(1));
    let mut tasks = JoinSet::new();
    for (index, ((device_id, profile), credentials)) in fleet.into_iter().zip(credentials).enumerate() {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        let wrapping = wrappings.as_ref().map(|wrappings| wrappings.of_device(&device_id)).transpose()?;
        let plan = device::Plan::new(&options, index, device_id, profile, credentials, wrapping);
        let (counters, stopped) = (counters.clone(), inner_stopped.clone());
        tasks.spawn(device::live(plan, Clock::system(), counters, spacing.saturating_mul(index), stopped));
    }
    wait_for_end(options.duration, stop).await;
    let _ = inner_stop.send(true);
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|source| Error::MeterTask { source })?;
    }
    let report = counters.report(options.devices, started.elapsed());
    tracing::info!(elapsed_s = report.elapsed_s, "simulation ended");
    Ok(report)
}

/// What all lines in TLS have in common.
struct Wrappings {
    trust: Trust,
    sockets: Arc<tunnel::Sockets>,
}

impl Wrappings {
    fn open(files: &TlsFiles) -> Result<Self, Error> {
        Ok(Self { trust: Trust::read(files)?, sockets: Arc::new(tunnel::Sockets::make()?) })
    }

    fn of_device(&self, device_id: &str) -> Result<tunnel::Wrapping, Error> {
        Ok(tunnel::Wrapping { config: self.trust.of_device(device_id)?, sockets: Arc::clone(&self.sockets) })
    }
}

/// Returns when `duration` has passed, or `stop` is true or its sender gone.
pub(crate) async fn wait_for_end(duration: Option<Duration>, mut stop: watch::Receiver<bool>) {
    let stopped = stop.wait_for(|stop| *stop);
    match duration {
        Some(duration) => {
            let _ = tokio::time::timeout(duration, stopped).await;
        }
        None => {
            let _ = stopped.await;
        }
    }
}

/// What each meter has got: by a claim, or its token from the registry, else nothing of its own.
async fn register_fleet(options: &Options, fleet: &[(String, Profile)]) -> Result<Vec<Credentials>, Error> {
    let Some(api) = options.api.clone() else {
        return Ok(vec![Credentials::default(); fleet.len()]);
    };
    let devices: Vec<(String, &'static str)> =
        fleet.iter().map(|(id, profile)| (id.clone(), profile.device_type())).collect();
    let claim = options.claim.clone();
    let work = move || match claim {
        Some(claim) => enrol(&api, claim.reveal(), &devices),
        None => {
            let of_token = |token| Credentials { token, ..Credentials::default() };
            Ok(register(&api, &devices)?.into_iter().map(of_token).collect())
        }
    };
    tokio::task::spawn_blocking(work).await.map_err(|source| Error::MeterTask { source })?
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;

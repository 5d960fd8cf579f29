//! Load generator: telemetry as fast as a server takes it, or at a given rate, and the proof that what was acknowledged
//! is stored.
//!
//! A hand-made MQTT 3.1.1 client on raw sockets: packets are built once and patched in place, many go out with one write,
//! acknowledgements are read in bulk. Every message of a device is a function of its number `n` ([`template`]): it is
//! rebuilt, not kept, when it must be sent again, and after the run the store is asked for exactly these instants.
//! Promise: memory is bounded by connections × window, however long it runs; a server killed and restarted in the
//! middle is reconnected to and gets every unacknowledged message again, same bytes, DUP set.
//! Must not know: broker, store and API of this product; it is a client like any other.
//!
//! Start from [`Options`] and [`run`].

mod acked;
mod connection;
mod histogram;
mod options;
mod packet;
mod report;
mod template;
mod verify;

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::domain::Clock;
use crate::simulate;

pub use histogram::Histogram;
pub use options::{Error, Options, Pace, Qos};
pub use report::{Connects, Latency, Report, Verification};

use connection::{Connection, Outcome, WayIn};
use report::Shared;

/// Drives the load until its duration or count is reached, or `stop` becomes true (or its sender is gone); waits for the
/// last acknowledgements; verifies over the API when one is given.
///
/// Lost connections are not errors, they are counted. Errors: options out of range, credentials refused, or the API
/// could not answer. Whether the outcome is good is for the caller to judge by [`Report::is_clean`].
pub async fn run(options: Options, stop: watch::Receiver<bool>) -> Result<Report, Error> {
    options.check()?;
    let tokens = register(&options).await?;
    let grid = template::Grid::new(Clock::system().now(), options.step_us());
    let trust = options.broker.is_tls.then(|| simulate::Trust::read(&options.tls)).transpose()?;
    let of_device = |index| trust.as_ref().map(|trust| trust.of_device(&options.device_id(index))).transpose();
    let tls: Vec<_> = (0..options.connections).map(of_device).collect::<Result<_, _>>()?;
    let shared = Arc::new(Shared::default());
    let started = Instant::now();
    let (inner_stop, inner_stopped) = watch::channel(false);

    let mut tasks = JoinSet::new();
    for (index, (token, tls)) in tokens.into_iter().zip(tls).enumerate() {
        let way_in = WayIn { token, tls };
        let connection = Connection::new(&options, index, grid, way_in, shared.clone(), started);
        tasks.spawn(connection.run(inner_stopped.clone()));
    }
    let progress = report::show_progress(shared.clone(), options.is_progress_shown);
    let mut ended = Box::pin(simulate::wait_for_end(options.duration, stop));
    let mut outcomes: Vec<Outcome> = Vec::with_capacity(options.connections);
    let mut is_ending = false;
    let mut sending_s = None;
    loop {
        tokio::select! {
            next = tasks.join_next() => match next {
                Some(outcome) => outcomes.push(outcome.map_err(|source| Error::Task { source })??),
                None => break,
            },
            () = &mut ended, if !is_ending => {
                is_ending = true;
                sending_s = Some(started.elapsed());
                let _ = inner_stop.send(true);
            }
        }
    }
    drop(progress);
    outcomes.sort_by_key(|outcome| outcome.index);
    let elapsed = sending_s.unwrap_or_else(|| started.elapsed());
    let mut report = Report::new(&options, &outcomes, &shared, elapsed);
    if let Some(api) = options.api.clone() {
        let patience = options.verify_patience;
        let work = move || verify::verify(&api, grid, outcomes, started, patience);
        report.verification = Some(tokio::task::spawn_blocking(work).await.map_err(|source| Error::Task { source })??);
    }
    Ok(report)
}

/// The MQTT password of each connection.
async fn register(options: &Options) -> Result<Vec<Option<String>>, Error> {
    let Some(api) = options.api.clone() else {
        return Ok(vec![None; options.connections]);
    };
    let devices: Vec<_> = (0..options.connections).map(|index| (options.device_id(index), "dc_meter")).collect();
    let work = move || simulate::register(&api, &devices);
    Ok(tokio::task::spawn_blocking(work).await.map_err(|source| Error::Task { source })??)
}

#[cfg(test)]
mod tests;

//! One process out of all rooms: bind what can fail, start, watch, stop.
//!
//! Promise: everything that can fail at the start (data directory, journal, store, archive, sockets) fails before the
//! first client is let in; a task that ends unexpectedly ends the process with an error; stopping keeps everything
//! acknowledged. Must not know: what any room does inside.
//!
//! Start from [`start()`]; [`Running`] is the process while it serves.

mod access;
mod admission;
mod archiving;
pub mod authority;
mod bind;
mod certificates;
mod credentials;
mod datadir;
mod deeds;
mod demo;
mod firmware;
mod first_start;
mod given_keys;
mod listeners;
mod nodes;
mod notices;
mod rollups;
mod sampler;
mod secrets;
mod sources;
mod start;
mod supervise;
mod systemd;
mod traces;

pub use archiving::{cloud_options, open_archive};
pub use certificates::{CertificateFault, check as check_certificates, needing as needing_certificate};
pub use datadir::{Addresses, DataDir, write_private};
pub use start::start;

use std::time::Duration;

use anyhow::Context;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::api;
use crate::broker::Broker;
use crate::config::Settings;
use crate::domain::Clock;
use crate::journal::Journal;
use crate::keeper::Peers;
use crate::live::Hub;
use crate::observe::{Board, Progress};
use crate::payload::Classes;
use crate::store::SharedStore;
use supervise::Tasks;
use systemd::Supervisor;

/// One deadline for the whole stop.
const STOP_WITHIN: Duration = Duration::from_secs(25);
/// Of it, what is kept for ending without the store or the archive.
const GIVE_UP_WITHIN: Duration = Duration::from_secs(3);

/// How long a process whose journal has failed still answers: longer than Prometheus takes from one look to the next
/// (`deploy/prometheus`), shorter than a supervisor waits for signs of life.
const LAST_WORDS: Duration = Duration::from_secs(20);

/// What to start.
#[derive(Clone, Debug)]
pub struct Start {
    /// Checked settings.
    pub settings: Settings,
    /// No credential is asked for (the caller has made sure that every listener is on loopback, or that it is intended).
    pub open: bool,
    /// The one clock.
    pub clock: Clock,
    /// Simulated meters to run inside; 0 = none.
    pub demo: u32,
}

/// What tasks share; clones are the same parts.
#[derive(Clone)]
struct Parts {
    store: SharedStore,
    journal: Journal,
    broker: Broker,
    board: Board,
    collector_progress: Progress,
    archiver_progress: Progress,
    classes: Classes,
    peers: Peers,
    live: Hub,
}

/// The serving process.
pub struct Running {
    data: DataDir,
    addresses: Addresses,
    admin_key: Option<String>,
    parts: Parts,
    /// Everything but the HTTP servers.
    tasks: Tasks,
    /// The HTTP servers: they end last, so that a stop can be watched.
    http: Tasks,
    servers: Vec<api::ServerHandle>,
    stop: watch::Sender<bool>,
    /// The audit log ends when nobody notes anything any more.
    audit_stop: watch::Sender<bool>,
    /// The journal's readers stop waiting for a store or an archive that is away.
    give_up: watch::Sender<bool>,
}

impl Running {
    /// The addresses really bound.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The admin key, when this start made it: to be shown once.
    pub fn admin_key(&self) -> Option<&str> {
        self.admin_key.as_deref()
    }

    /// The store, to look at.
    pub fn store(&self) -> SharedStore {
        self.parts.store.clone()
    }

    /// Serves until `until` resolves or a task ends unexpectedly; then stops in good order.
    pub async fn serve(mut self, until: impl Future<Output = ()>) -> anyhow::Result<()> {
        let supervisor = Supervisor::of_process();
        supervisor.ready();
        let telling = tokio::spawn(supervisor.clone().keep_telling(self.parts.board.clone()));
        tokio::pin!(until);
        let failure = tokio::select! {
            () = &mut until => None,
            error = self.tasks.first_end() => Some(error),
            error = self.http.first_end() => Some(error),
        };
        if let Some(error) = &failure {
            tracing::error!(error = format!("{error:#}"), "stopping because of a failure");
            self.say_last_words(until).await;
        }
        supervisor.stopping();
        let stopped = self.stop().await;
        telling.abort();
        match failure {
            Some(error) => Err(error),
            None => stopped,
        }
    }

    /// When the journal has failed: meters are sent away at once, and whoever looks at the process is told why before it ends.
    /// Signs of life end with the failure, so the words are counted from it, and meters that do not go take no time from what
    /// is left for the stop; who is told to stop meanwhile stops at once.
    async fn say_last_words(&mut self, until: impl Future<Output = ()>) {
        if self.parts.journal.status().failed.is_none() {
            return;
        }
        let end = Instant::now() + LAST_WORDS;
        sampler::tell_failure(&self.parts.board);
        let broker = self.parts.broker.clone();
        let words = async {
            broker.stop(GIVE_UP_WITHIN).await;
            tokio::time::sleep_until(end).await;
        };
        tokio::select! {
            () = words => {}
            () = until => {}
            _ = self.http.first_end() => {}
        }
    }

    /// Stops: listeners close, what was accepted is acknowledged, the journal closes, its readers drain, then the API.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let end = Instant::now() + STOP_WITHIN;
        let left = |reserve: Duration| end.saturating_duration_since(Instant::now()).saturating_sub(reserve);
        tracing::info!("stopping");
        if !self.parts.broker.stop(left(STOP_WITHIN / 2)).await {
            tracing::warn!("some MQTT connections did not end in time and were cut off");
        }
        self.stop.send_replace(true);
        let closed = match timeout(left(GIVE_UP_WITHIN), self.parts.journal.close()).await {
            Ok(closed) => closed.context("the journal did not close cleanly"),
            Err(_) => Err(anyhow::anyhow!("the journal did not close in time: its disk does not answer")),
        };
        let mut failures = self.tasks.drain(left(GIVE_UP_WITHIN)).await;
        if !self.tasks.is_empty() {
            self.give_up.send_replace(true);
            failures.extend(self.tasks.drain(left(GIVE_UP_WITHIN / 2)).await);
        }
        for server in &self.servers {
            // One that does not end in time shows among the late ones below.
            let _ = timeout(left(Duration::ZERO).min(GIVE_UP_WITHIN), server.stop(true)).await;
        }
        self.audit_stop.send_replace(true);
        failures.extend(self.http.drain(left(Duration::ZERO)).await);
        failures.extend(closed.err());
        let late: Vec<_> = self.tasks.names().into_iter().chain(self.http.names()).collect();
        if !late.is_empty() {
            failures.push(anyhow::anyhow!("these did not end in time: {}", late.join(", ")));
        }
        self.data.withdraw();
        match failures.into_iter().next() {
            Some(error) => Err(error),
            None => {
                tracing::info!("stopped");
                Ok(())
            }
        }
    }
}

//! Rights taken away elsewhere, by another node or the command line, take effect here: looked for every second along an
//! index. And what certificates want from time to time: the server's own renewed, their ends told.
//!
//! Invariant: nothing is missed while the store is away: the next look begins where the last good one ended.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;

use super::authority;
use super::certificates::Served;
use crate::broker::{Broker, grant_of};
use crate::config::Settings;
use crate::domain::{Clock, Timestamp};
use crate::observe::metrics;
use crate::pki::Facts;
use crate::store::{self, Certificate, CredentialChange, SharedStore};
use crate::tls::{OwnCa, Revocations};

/// The name on the task board.
pub const TASK: &str = "credentials";

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks between two rounds of upkeep, and between two counts of certificates.
const UPKEEP_EVERY: u32 = 60;
const COUNT_EVERY: u32 = 15;
/// Changes taken at a time.
const BATCH: u32 = 1000;
/// What ends within that time is told of.
pub const SOON: Duration = Duration::from_secs(30 * 86_400);
/// How often it is told in the log.
const WARN_EVERY: Duration = Duration::from_secs(86_400);

/// What it works on.
pub struct Watch {
    pub store: SharedStore,
    pub broker: Broker,
    pub revocations: Revocations,
    pub clock: Clock,
    pub settings: Settings,
    pub served: Option<Served>,
    /// Whether certificates are made here.
    pub has_authority: bool,
    /// The latest change that is known.
    pub seen: i64,
    /// Accounts that ended before were looked at.
    pub looked_at: Timestamp,
}

/// What was revoked before the start, and the number of the latest change.
pub async fn load(store: &SharedStore, revocations: &Revocations, now: Timestamp) -> Result<i64, store::Error> {
    // The number first: what comes in between is seen twice, not never.
    let (seen, revoked) =
        store::run(store, move |s| Ok((s.last_credential_change()?, s.revoked_certificates(now)?))).await?;
    revocations.add(revoked.into_iter().map(|r| (r.serial, r.not_after)));
    Ok(seen)
}

/// Keeps a certificate; again is fine.
pub async fn keep(store: &SharedStore, certificate: Certificate) -> Result<(), store::Error> {
    let add = move |s: &dyn store::Store| match s.certificate(&certificate.serial)? {
        Some(_) => Ok(()),
        None => s.add_certificate(&certificate),
    };
    store::run(store, add).await
}

/// What is kept of a certificate that was issued to this server.
pub fn own(issued: crate::pki::Issued, now: Timestamp) -> Certificate {
    Certificate::new(issued.pem, issued.facts, None, "server".to_owned(), now)
}

impl Watch {
    /// Runs until `stop` says so.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let (mut round, mut warned) = (0u32, None);
        loop {
            if let Err(error) = self.look().await {
                tracing::debug!(%error, "cannot look for changed credentials");
            }
            if round.is_multiple_of(UPKEEP_EVERY) {
                self.upkeep().await;
            }
            if round.is_multiple_of(COUNT_EVERY) {
                self.count(&mut warned).await;
            }
            round = round.wrapping_add(1);
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                _ = stop.wait_for(|stopping| *stopping) => return,
            }
        }
    }

    async fn look(&mut self) -> Result<(), store::Error> {
        loop {
            let after = self.seen;
            let changes = store::run(&self.store, move |s| s.credential_changes(after, BATCH)).await?;
            let is_last = changes.len() < BATCH as usize;
            for (number, change) in changes {
                self.act(change).await?;
                self.seen = number;
            }
            if is_last {
                break;
            }
        }
        let (before, now) = (self.looked_at, self.clock.now());
        let services = store::run(&self.store, |s| s.services()).await?;
        let ended = services.iter().filter(|service| service.expires_at.is_some_and(|end| before < end && end <= now));
        for service in ended {
            self.broker.disconnect_service(&service.name, None);
        }
        self.looked_at = now;
        Ok(())
    }

    async fn act(&self, change: CredentialChange) -> Result<(), store::Error> {
        match change {
            CredentialChange::Certificate(serial) => {
                let found = store::run(&self.store, move |s| s.certificate(&serial)).await?;
                self.revocations.add(found.map(|c| (c.serial, c.not_after)));
            }
            CredentialChange::Device(device) => {
                let id = device.clone();
                let credential = store::run(&self.store, move |s| s.device_credential(&id)).await?;
                match credential {
                    // Enabled again meanwhile, or registered anew: then by another token, which who is connected may not have.
                    Some(now) if now.is_active => self.broker.disconnect_token(&device, now.token_sha256),
                    _ => self.broker.disconnect(&device),
                }
            }
            CredentialChange::Token(device) => {
                let id = device.clone();
                let credential = store::run(&self.store, move |s| s.device_credential(&id)).await?;
                // Who has come with the new token meanwhile stays.
                self.broker.disconnect_token(&device, credential.and_then(|credential| credential.token_sha256));
            }
            CredentialChange::Service(name) => {
                let wanted = name.clone();
                let account = store::run(&self.store, move |s| s.service(&wanted)).await?;
                let grant = grant_of(account.as_ref(), self.clock.now());
                self.broker.disconnect_service(&name, grant.as_ref());
            }
        }
        Ok(())
    }

    async fn upkeep(&self) {
        let now = self.clock.now();
        self.revocations.prune(now);
        if self.has_authority {
            let (dir, settings) = (self.dir(), self.settings.clone());
            let renewed =
                tokio::task::spawn_blocking(move || authority::renew_server_if_due(&dir, &settings, now)).await;
            match renewed {
                Ok(Ok(Some(issued))) => {
                    if let Err(error) = keep(&self.store, own(issued, now)).await {
                        tracing::warn!(%error, "the new server certificate is not in the database");
                    }
                }
                Ok(Ok(None)) => {}
                Ok(Err(error)) => {
                    tracing::error!(error = format!("{error:#}"), "the server certificate is not renewed")
                }
                Err(_) => {}
            }
        }
    }

    /// How many certificates there are, and when the next ones end.
    async fn count(&self, warned: &mut Option<Timestamp>) {
        let now = self.clock.now();
        let soon = now.plus(SOON);
        let Ok(figures) = store::run(&self.store, move |s| s.certificate_figures(now, soon)).await else { return };
        let states = [
            ("valid", figures.valid),
            ("expiring", figures.expiring),
            ("expired", figures.expired),
            ("revoked", figures.revoked),
        ];
        for (state, count) in states {
            metrics::CERTIFICATES.set(&[("state", state)], count as f64);
        }
        let ends = [("device", figures.next_expiry), ("server", self.server_end()), ("ca", self.ca_end())];
        let tells = warned.is_none_or(|at| now.since(at) >= WARN_EVERY);
        for (of, end) in ends {
            let Some(end) = end else {
                metrics::CERTIFICATE_EXPIRY.forget(&[("of", of)]);
                continue;
            };
            let left = (end.micros() - now.micros()) as f64 / 1e6;
            metrics::CERTIFICATE_EXPIRY.set(&[("of", of)], left);
            if tells && end < soon {
                *warned = Some(now);
                tracing::warn!(of, until = %end, expiring = figures.expiring, "a certificate ends within 30 days");
            }
        }
    }

    fn dir(&self) -> PathBuf {
        self.settings.data_dir.join("pki")
    }

    fn server_end(&self) -> Option<Timestamp> {
        self.served.as_ref().and_then(|served| served.mqtt.not_after())
    }

    fn ca_end(&self) -> Option<Timestamp> {
        let pem = OwnCa::at(&self.dir()).pem().ok()??;
        Facts::of_pem(&pem).ok().map(|facts| facts.not_after)
    }
}

//! Rights taken away elsewhere, by another node or the command line, take effect here: looked for every second along an
//! index. And what certificates want from time to time: the server's own renewed, their ends told.
//!
//! Invariant: nothing is missed while the store is away: the next look begins where the last good one ended, and who came in
//! before the first one is judged then.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;

use super::certificates::Served;
use super::{Parts, authority, deeds};
use crate::broker::grant_of;
use crate::collector::{self, RequestKind};
use crate::config::Settings;
use crate::domain::{DeviceId, Timestamp};
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
/// How long the collector may take to be told of a removed device, and how long that is remembered.
const PATIENCE: Duration = Duration::from_secs(5);
const BURIED_FOR: Duration = Duration::from_secs(60);
/// What ends within that time is told of; of a device's, what it should have renewed by then.
pub const SOON: Duration = Duration::from_secs(30 * 86_400);
/// How often it is told in the log.
const WARN_EVERY: Duration = Duration::from_secs(86_400);

/// What it works on.
pub struct Watch {
    pub parts: Parts,
    pub collector: collector::Handle,
    pub revocations: Revocations,
    pub settings: Settings,
    pub served: Option<Served>,
    /// Whether certificates are made here.
    pub has_authority: bool,
    /// The latest change that is known.
    pub seen: i64,
    /// Accounts that ended before were looked at.
    pub looked_at: Timestamp,
    /// Removed devices that the collector was told of lately, and when.
    pub buried: Vec<(DeviceId, Timestamp)>,
}

/// What was revoked before the start, and the number of the latest change.
pub async fn load(store: &SharedStore, revocations: &Revocations, now: Timestamp) -> Result<i64, store::Error> {
    // The number first: what comes in between is seen twice, not never.
    let (seen, revoked) =
        store::run(store, move |s| Ok((s.last_credential_change()?, s.revoked_certificates(now)?))).await?;
    revocations.add(revoked.into_iter().map(|r| (r.serial, r.not_after)));
    Ok(seen)
}

/// Keeps a certificate of this server, and notes that it was issued; again is fine.
pub async fn keep(store: &SharedStore, certificate: Certificate, now: Timestamp) -> Result<(), store::Error> {
    let serial = certificate.serial.clone();
    let add = move |s: &dyn store::Store| match s.certificate(&certificate.serial)? {
        Some(_) => Ok(false),
        None => s.add_certificate(&certificate).map(|()| true),
    };
    match store::run(store, add).await? {
        true => deeds::note(store, "certificate.issue", &serial, "this server".to_owned(), now).await,
        false => Ok(()),
    }
}

/// What is kept of a certificate that was issued to this server.
pub fn own(issued: crate::pki::Issued, now: Timestamp) -> Certificate {
    Certificate::new(issued.pem, issued.facts, None, deeds::ACTOR.to_owned(), now)
}

impl Watch {
    /// Runs until `stop` says so.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let (mut round, mut warned, mut is_judged) = (0u32, None, false);
        loop {
            let looked = match is_judged {
                true => self.look().await,
                false => self.judge().await,
            };
            match looked {
                Ok(()) => is_judged = true,
                Err(error) => tracing::debug!(%error, "cannot look for changed credentials"),
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

    /// Who came in by what this node knew while the database was away: it may have lost its right before that.
    async fn judge(&mut self) -> Result<(), store::Error> {
        for device in self.parts.broker.logged_in_devices() {
            self.act(CredentialChange::Device(device)).await?;
        }
        self.look().await
    }

    async fn look(&mut self) -> Result<(), store::Error> {
        loop {
            let after = self.seen;
            let changes = store::run(&self.parts.store, move |s| s.credential_changes(after, BATCH)).await?;
            let is_last = changes.len() < BATCH as usize;
            for (number, change) in changes {
                self.act(change).await?;
                self.seen = number;
            }
            if is_last {
                break;
            }
        }
        let (before, now) = (self.looked_at, self.now());
        let services = store::run(&self.parts.store, |s| s.services()).await?;
        let ended = services.iter().filter(|service| service.expires_at.is_some_and(|end| before < end && end <= now));
        for service in ended {
            self.parts.broker.disconnect_service(&service.name, None);
        }
        self.looked_at = now;
        Ok(())
    }

    async fn act(&mut self, change: CredentialChange) -> Result<(), store::Error> {
        match change {
            CredentialChange::Certificate(serial) => {
                let found = store::run(&self.parts.store, move |s| s.certificate(&serial)).await?;
                self.revocations.add(found.map(|c| (c.serial, c.not_after)));
            }
            CredentialChange::Device(device) => {
                let id = device.clone();
                let credential = store::run(&self.parts.store, move |s| s.device_credential(&id)).await?;
                match credential {
                    // Enabled again meanwhile, or registered anew: then by another token, which who is connected may not have.
                    Some(now) if now.is_active => self.parts.broker.disconnect_token(&device, now.token_sha256),
                    _ => {
                        self.parts.broker.disconnect(&device);
                        self.bury(device).await?;
                    }
                }
            }
            CredentialChange::Token(device) => {
                let id = device.clone();
                let credential = store::run(&self.parts.store, move |s| s.device_credential(&id)).await?;
                // Who has come with the new token meanwhile stays.
                self.parts.broker.disconnect_token(&device, credential.and_then(|credential| credential.token_sha256));
            }
            CredentialChange::Service(name) => {
                let wanted = name.clone();
                let account = store::run(&self.parts.store, move |s| s.service(&wanted)).await?;
                let grant = grant_of(account.as_ref(), self.now());
                self.parts.broker.disconnect_service(&name, grant.as_ref());
            }
        }
        Ok(())
    }

    /// A device that was removed is forgotten. Where another node removed it, what was heard of it here until now is not taken
    /// any more. What was taken meanwhile may have made it known again.
    async fn bury(&mut self, device: DeviceId) -> Result<(), store::Error> {
        let now = self.now();
        self.buried.retain(|(_, at)| now.since(*at) < BURIED_FOR);
        if self.buried.iter().any(|(buried, _)| *buried == device) {
            return Ok(()); // whoever comes again after that is new
        }
        let id = device.clone();
        let found = store::run(&self.parts.store, move |s| Ok((s.device(&id)?, s.reach(&id)?.purged_at))).await?;
        let (is_removed, purged_at) = (found.0.is_none_or(|device| device.is_only_heard_of()), found.1);
        if !is_removed {
            return Ok(()); // it was disabled: what it said is stored
        }
        self.parts.broker.forget_retained(&device);
        // Who removed it, alone, has told the collector.
        if self.parts.peers.census().alive < 2 {
            return Ok(());
        }
        let told = self.collector.tell(device.clone(), RequestKind::Deleted);
        if !matches!(tokio::time::timeout(PATIENCE, told).await, Ok(Ok(_))) {
            tracing::warn!(device_id = %device, "the collector is busy or stopping and was not told of a change");
            return Ok(());
        }
        self.buried.push((device.clone(), now));
        let was_purged = purged_at.is_some_and(|at| now.since(at) < BURIED_FOR);
        let once_more =
            move |s: &dyn store::Store| match s.device(&device)?.is_some_and(|found| found.is_only_heard_of()) {
                true => s.delete_device(&device, was_purged),
                false => Ok(false),
            };
        store::run(&self.parts.store, once_more).await.map(drop)
    }

    fn now(&self) -> Timestamp {
        self.parts.board.clock().now()
    }

    async fn upkeep(&self) {
        let now = self.now();
        self.revocations.prune(now);
        if self.has_authority {
            let (dir, settings) = (self.dir(), self.settings.clone());
            let renewed =
                tokio::task::spawn_blocking(move || authority::renew_server_if_due(&dir, &settings, now)).await;
            match renewed {
                Ok(Ok(Some(issued))) => {
                    if let Err(error) = keep(&self.parts.store, own(issued, now), now).await {
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
        let now = self.now();
        let soon = now.plus(SOON);
        let Ok(figures) = store::run(&self.parts.store, move |s| s.certificate_figures(now, soon)).await else {
            return;
        };
        let states = [
            ("valid", figures.valid),
            ("expiring", figures.expiring),
            ("expired", figures.expired),
            ("revoked", figures.revoked),
        ];
        for (state, count) in states {
            metrics::CERTIFICATES.set(&[("state", state)], count as f64);
        }
        let (server, ca) = (self.served.as_ref().and_then(|served| served.mqtt.facts()), self.ca());
        for (of, facts) in [("server", &server), ("ca", &ca)] {
            match facts.as_ref().map(authority::lifetime) {
                Some(whole) => metrics::CERTIFICATE_LIFETIME.set(&[("of", of)], whole.as_secs_f64()),
                None => metrics::CERTIFICATE_LIFETIME.forget(&[("of", of)]),
            }
        }
        // What is good for a short time is near its end before each renewal.
        let is_late = server.as_ref().is_some_and(|facts| authority::is_overdue(facts, now));
        let ends = [
            ("device", figures.next_expiry, figures.expiring > 0),
            ("server", server.map(|facts| facts.not_after), is_late),
            ("ca", ca.map(|facts| facts.not_after), true),
        ];
        let may_tell = warned.is_none_or(|at| now.since(at) >= WARN_EVERY);
        for (of, end, is_told) in ends {
            let Some(end) = end else {
                metrics::CERTIFICATE_EXPIRY.forget(&[("of", of)]);
                continue;
            };
            let left = (end.micros() - now.micros()) as f64 / 1e6;
            metrics::CERTIFICATE_EXPIRY.set(&[("of", of)], left);
            if may_tell && is_told && end < soon {
                *warned = Some(now);
                tracing::warn!(of, until = %end, expiring = figures.expiring, "a certificate ends within 30 days");
            }
        }
    }

    fn dir(&self) -> PathBuf {
        self.settings.data_dir.join("pki")
    }

    fn ca(&self) -> Option<Facts> {
        let pem = OwnCa::at(&self.dir()).pem().ok()??;
        Facts::of_pem(&pem).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{Ca, Validity};

    #[tokio::test]
    async fn a_certificate_of_this_server_is_kept_and_noted_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = store::open(&format!("sqlite://{}/certificates.db", dir.path().display())).unwrap();
        let now = Timestamp(1_770_890_400_000_000);
        let (ca, _) = Ca::make("Test CA", Validity { now, days: 40 }).unwrap();
        let issued = ca.issue_server(&["localhost".to_owned()], Validity { now, days: 30 }).unwrap();
        let certificate = own(issued, now);
        for _ in 0..2 {
            keep(&store, certificate.clone(), now).await.unwrap();
        }
        assert!(store.certificate(&certificate.serial).unwrap().is_some());
        let expected = ["server", "certificate.issue", certificate.serial.as_str(), "this server"];
        assert_eq!(deeds::noted(&store), [expected.map(str::to_owned)]);
    }
}

//! What the database must have been asked before the API lets anybody in: whether our keys open the secrets it holds, what was
//! revoked, whether there are an admin key and the keys that are given; and the server's own new certificate is kept in it.
//!
//! Where the database is away at the start all that is done as soon as it is there, and until then the API answers 503 and no
//! command is handed out. Meters come in meanwhile, by what this node last knew of them.
//! Invariant: `Doors::open` is true only after all of it went well; what does not go well ends the process.

use std::path::PathBuf;

use anyhow::Context;
use tokio::sync::watch;

use super::{credentials, deeds, first_start, given_keys, secrets};
use crate::domain::Clock;
use crate::observe::backoff::Backoff;
use crate::pki::Facts;
use crate::store::{self, ApiKey, Certificate, SharedStore};
use crate::tls::Revocations;

/// The name on the list of tasks.
pub const TASK: &str = "first start";

/// What is to be done once with the database.
pub struct Admission {
    pub store: SharedStore,
    pub clock: Clock,
    pub revocations: Revocations,
    pub keys: secrets::Keys,
    /// API keys that others have already.
    pub given: Vec<ApiKey>,
    /// The certificate authority that was just made.
    pub authority: Option<Facts>,
    /// A certificate that was just issued to this server.
    pub issued: Option<Certificate>,
    /// Where the admin key is written; `None` = nobody needs one.
    pub key_file: Option<PathBuf>,
}

/// Who waits for it.
#[derive(Clone)]
pub struct Doors {
    /// Whether somebody may be let in.
    pub open: watch::Receiver<bool>,
    /// The latest taking away of a right that is known then.
    pub seen: watch::Receiver<i64>,
}

/// The other side of [`Doors`].
pub struct Opener {
    open: watch::Sender<bool>,
    seen: watch::Sender<i64>,
}

/// Doors that are closed.
pub fn doors() -> (Opener, Doors) {
    let ((open, opened), (seen, known)) = (watch::channel(false), watch::channel(0));
    (Opener { open, seen }, Doors { open: opened, seen: known })
}

impl Doors {
    /// Waits for the doors to open; `false` = the end came before. Who was to open them and failed ends the process by
    /// itself: nobody else ends before it is told to, or its end would be taken for the reason.
    pub async fn opened(&self, stopping: &watch::Receiver<bool>) -> bool {
        let (mut open, mut stopping) = (self.open.clone(), stopping.clone());
        let opens = async {
            if open.wait_for(|open| *open).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            _ = stopping.wait_for(|stops| *stops) => false,
            () = opens => true,
        }
    }
}

impl Admission {
    /// Does it, and opens the doors; the admin key that was made.
    pub async fn run(&self, opener: &Opener) -> anyhow::Result<Option<String>> {
        self.keys.prove(&self.store).await?;
        given_keys::keep(&self.store, &self.given, self.clock.now()).await?;
        let made = match &self.key_file {
            Some(file) => first_start::admin_key(&self.store, file, &self.clock).await?,
            None => None,
        };
        let seen = credentials::load(&self.store, &self.revocations, self.clock.now()).await?;
        if let Some(issued) = &self.issued {
            let kept = credentials::keep(&self.store, issued.clone(), self.clock.now()).await;
            kept.context("the server certificate cannot be stored")?;
        }
        // The last of what may fail and is tried again: it is noted once.
        if let Some(made) = &self.authority {
            let detail = made.common_name.clone().unwrap_or_default();
            let noted = deeds::note(&self.store, "authority.create", &made.serial, detail, self.clock.now()).await;
            noted.context("the audit log cannot be written")?;
        }
        opener.seen.send_replace(seen);
        opener.open.send_replace(true);
        Ok(made)
    }

    /// The same for a database that is away: when it is there. Ends with the process.
    pub async fn run_later(self, opener: Opener, mut stopping: watch::Receiver<bool>) -> anyhow::Result<()> {
        let mut backoff = Backoff::default();
        loop {
            match self.run(&opener).await {
                Ok(made) => {
                    if let Some(file) = self.key_file.as_ref().filter(|_| made.is_some()) {
                        tracing::info!(path = %file.display(), "the admin key was made");
                    }
                    // No task may end before it is told to.
                    let _ = stopping.wait_for(|stops| *stops).await;
                    return Ok(());
                }
                Err(error) if is_away(&error) => {}
                Err(error) => return Err(error),
            }
            tokio::select! {
                _ = stopping.wait_for(|stops| *stops) => return Ok(()),
                () = tokio::time::sleep(backoff.next_pause()) => {}
            }
        }
    }
}

/// Whether it failed because the database is away.
pub fn is_away(error: &anyhow::Error) -> bool {
    error.downcast_ref::<store::Error>().is_some_and(store::Error::is_transient)
}

//! The first start with authentication on: an admin key is made, so that somebody can get in and nobody else.

use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::sync::watch;

use super::datadir::{DataDir, write_private};
use crate::api::key;
use crate::domain::Clock;
use crate::observe::backoff::Backoff;
use crate::store::{self, Role, SharedStore};

/// Where the key is written for the other commands on this machine.
const FILE: &str = "admin.key";

/// Makes the admin key when the store has none that is good; its text, to be shown once.
pub async fn admin_key(store: &SharedStore, file: &Path, clock: &Clock) -> anyhow::Result<Option<String>> {
    let now = clock.now();
    let keys = store::run(store, |s| s.api_keys()).await.context("the API keys cannot be read")?;
    let is_good = |key: &store::ApiKey| {
        key.role == Role::Admin && key.revoked_at.is_none() && key.expires_at.is_none_or(|end| now < end)
    };
    if keys.iter().any(is_good) {
        return Ok(None);
    }
    let (text, key) = key::generate("first start", Role::Admin, None, now);
    // The file first: a key in the store whose text nobody has would keep everybody out.
    write_private(file, format!("{text}\n").as_bytes())?;
    store::run(store, move |s| s.create_api_key(&key)).await.context("the admin key cannot be stored")?;
    Ok(Some(text))
}

/// Whether it failed because the database is away.
pub fn is_away(error: &anyhow::Error) -> bool {
    error.downcast_ref::<store::Error>().is_some_and(store::Error::is_transient)
}

/// The same for a database that is away at the start: when it is there. Ends with the process.
pub async fn admin_key_later(
    store: SharedStore,
    file: PathBuf,
    clock: Clock,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let mut backoff = Backoff::default();
    loop {
        match admin_key(&store, &file, &clock).await {
            Ok(made) => {
                if made.is_some() {
                    tracing::info!(file = %file.display(), "the admin key was made");
                }
                // No task may end before it is told to.
                let _ = stop.wait_for(|stops| *stops).await;
                return Ok(());
            }
            Err(error) if is_away(&error) => {}
            Err(error) => return Err(error),
        }
        tokio::select! {
            _ = stop.wait_for(|stops| *stops) => return Ok(()),
            () = tokio::time::sleep(backoff.next_pause()) => {}
        }
    }
}

/// Where the key is.
pub fn file(data: &DataDir) -> PathBuf {
    data.path(FILE)
}

/// The key written by an earlier start.
pub fn stored_key(data: &DataDir) -> Option<String> {
    std::fs::read_to_string(data.path(FILE)).ok().map(|text| text.trim().to_owned())
}

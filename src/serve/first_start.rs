//! The first start with authentication on: an admin key is made, so that somebody can get in and nobody else.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::datadir::{DataDir, write_private};
use crate::api::key;
use crate::domain::Clock;
use crate::store::{self, Role, SharedStore};

/// Where the key is written for the other commands on this machine.
const FILE: &str = "admin.key";

/// Makes the admin key when the store has none that is good; its text, to be shown once.
pub async fn admin_key(store: &SharedStore, file: &Path, clock: &Clock) -> anyhow::Result<Option<String>> {
    let now = clock.now();
    let keys = store::run(store, |s| s.api_keys()).await.context("the API keys cannot be read")?;
    if keys.iter().any(|key| key.role == Role::Admin && key.device_prefix.is_none() && key.is_good(now)) {
        return Ok(None);
    }
    let (text, key) = key::generate("first start", Role::Admin, None, now);
    // The file first: a key in the store whose text nobody has would keep everybody out.
    write_private(file, format!("{text}\n").as_bytes())?;
    store::run(store, move |s| s.create_api_key(&key)).await.context("the admin key cannot be stored")?;
    Ok(Some(text))
}

/// Where the key is.
pub fn file(data: &DataDir) -> PathBuf {
    data.path(FILE)
}

/// The key written by an earlier start.
pub fn stored_key(data: &DataDir) -> Option<String> {
    std::fs::read_to_string(data.path(FILE)).ok().map(|text| text.trim().to_owned())
}

//! The first start with authentication on: an admin key is made, so that somebody can get in and nobody else.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::datadir::{DataDir, write_private};
use super::deeds;
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
    let (prefix, detail) = (key.prefix.clone(), format!("{} {:?}", key.role.name(), key.name));
    store::run(store, move |s| s.create_api_key(&key)).await.context("the admin key cannot be stored")?;
    deeds::note(store, "key.create", &prefix, detail, now).await.context("the audit log cannot be written")?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    #[tokio::test]
    async fn the_first_key_is_made_once_and_is_in_the_audit_log() {
        let dir = tempfile::tempdir().unwrap();
        let store = store::open(&format!("sqlite://{}/keys.db", dir.path().display())).unwrap();
        let (file, clock) = (dir.path().join(FILE), Clock::manual(Timestamp(1_000)));
        let text = admin_key(&store, &file, &clock).await.unwrap().expect("is made");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{text}\n"));
        assert!(admin_key(&store, &file, &clock).await.unwrap().is_none());
        let prefix = key::prefix_of(&text).unwrap();
        let expected = ["server", "key.create", prefix, "admin \"first start\""];
        assert_eq!(deeds::noted(&store), [expected.map(str::to_owned)]);
    }
}

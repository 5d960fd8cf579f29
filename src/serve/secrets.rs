//! The key that seals stored secrets: found or made at the start, and everything sealed anew when it has changed.
//!
//! Invariant: a server whose database holds what its keys cannot open does not start, and says which key is missing: it
//! would send meters commands they must refuse.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::datadir::{DataDir, write_private};
use crate::config::{ConfigError, Fault, Settings, Source};
use crate::store::{self, Sealed, SharedStore};
use crate::vault::{Key, KeyId, Keyring, Purpose};

/// The name on the list of tasks.
pub const TASK: &str = "secrets";

/// Where the first start writes the key.
const FILE: &str = "secrets.key";
/// The setting to speak of.
const SETTING: &str = "secrets.key";
/// Secrets sealed anew at a time.
const PART: u32 = 256;

/// The keys as found without the database.
pub struct Keys {
    pub ring: Arc<Keyring>,
    path: PathBuf,
    /// A new one, because none was found: written down when nothing turns out to be sealed yet.
    made: Option<Zeroizing<String>>,
}

/// The keys: of the settings, else of the data directory, else a new one.
pub fn find(settings: &Settings, data: &DataDir) -> anyhow::Result<Keys> {
    let mut old = Vec::new();
    if let Some(texts) = &settings.secrets.old_keys {
        for text in texts.reveal().split(',').filter(|text| !text.trim().is_empty()) {
            old.push(Key::parse(text).context("secrets.old_keys")?);
        }
    }
    let path = data.path(FILE);
    let kept = read_file(&path)?;
    let mut made = None;
    let current = match (&settings.secrets.key, kept) {
        (Some(text), kept) => {
            old.extend(kept);
            Key::parse(text.reveal()).context(SETTING)?
        }
        (None, Some(kept)) => kept,
        (None, None) => {
            let key = Key::random();
            made = Some(key.to_text());
            key
        }
    };
    Ok(Keys { ring: Arc::new(Keyring::new(current, old)), path, made })
}

impl Keys {
    /// Looks whether they open what the database holds. Again is fine.
    pub async fn prove(&self, store: &SharedStore) -> anyhow::Result<()> {
        let sealing = store::run(store, |s| s.sealing_keys()).await.context("the stored secrets cannot be read")?;
        if let Some(text) = &self.made {
            if !sealing.is_empty() && !self.path.exists() {
                let message = format!(
                    "is missing: the database holds secrets sealed by {}, and there is no {}",
                    sealing.join(", "),
                    self.path.display()
                );
                return Err(missing(message));
            }
            if !self.path.exists() {
                write_private(&self.path, Zeroizing::new(format!("{}\n", **text)).as_bytes())?;
            }
        }
        let is_ours = |id: &String| KeyId::parse(id).is_some_and(|id| self.ring.has(id));
        let unknown: Vec<_> = sealing.into_iter().filter(|id| !is_ours(id)).collect();
        if !unknown.is_empty() {
            let message = format!(
                "is another one: the database holds secrets sealed by {}; put that key into secrets.old_keys",
                unknown.join(", ")
            );
            return Err(missing(message));
        }
        Ok(())
    }
}

fn missing(message: String) -> anyhow::Error {
    ConfigError { faults: vec![Fault { key: SETTING.to_owned(), source: Source::Default, message }] }.into()
}

fn read_file(path: &Path) -> anyhow::Result<Option<Key>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let mode = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.permissions().mode();
    anyhow::ensure!(
        mode & 0o007 == 0,
        "{} may be read by every user of this machine; take that right away (chmod o-rwx)",
        path.display()
    );
    Key::parse(&text).map(Some).with_context(|| format!("{} is damaged", path.display()))
}

/// Seals with the current key what an earlier one sealed, then waits for the end.
pub async fn seal_anew(
    store: SharedStore,
    ring: Arc<Keyring>,
    mut stopping: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let work = async {
        match rotate(&store, &ring).await {
            Ok(0) => {}
            Ok(count) => {
                tracing::info!(count, key = %ring.current(), "stored secrets are sealed by the current key now")
            }
            Err(error) => tracing::error!(error = format!("{error:#}"), "stored secrets are not all sealed anew"),
        }
    };
    tokio::select! {
        () = work => {}
        _ = stopping.wait_for(|stops| *stops) => return Ok(()),
    }
    let _ = stopping.wait_for(|stops| *stops).await;
    Ok(())
}

/// How many were sealed anew. One that cannot be opened is left as it is.
async fn rotate(store: &SharedStore, ring: &Arc<Keyring>) -> anyhow::Result<usize> {
    let (mut count, mut after) = (0, None::<(String, String)>);
    loop {
        let (ring, place) = (Arc::clone(ring), after.clone());
        let part = move |s: &dyn store::Store| {
            let current = ring.current().to_string();
            let behind = place.as_ref().map(|(device, purpose)| (device.as_str(), purpose.as_str()));
            let rows = s.secrets_not_of(&current, behind, PART)?;
            let mut done = 0;
            for (device, purpose, envelope) in &rows {
                let sealed = Purpose::from_name(purpose).map(|purpose| ring.reseal(purpose, device, envelope));
                let Some(Ok(anew)) = sealed else {
                    tracing::error!(
                        device_id = device,
                        purpose,
                        "a stored secret cannot be opened and is left as it is"
                    );
                    continue;
                };
                let new = Sealed { key_id: current.clone(), envelope: anew };
                done += usize::from(s.replace_secret(device, purpose, envelope, &new)?);
            }
            Ok((done, rows.last().map(|(device, purpose, _)| (device.clone(), purpose.clone()))))
        };
        let (done, last) = store::run(store, part).await?;
        count += done;
        if last.is_none() {
            return Ok(count);
        }
        after = last;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::domain::{DeviceId, Timestamp};
    use crate::store::NewDevice;

    fn store_in(dir: &Path) -> SharedStore {
        store::open(&format!("sqlite://{}", dir.join("a.db").display())).unwrap()
    }

    async fn open(settings: &Settings, data: &DataDir, store: &SharedStore) -> anyhow::Result<Arc<Keyring>> {
        let keys = find(settings, data)?;
        keys.prove(store).await?;
        Ok(keys.ring)
    }

    fn add_secret(store: &SharedStore, ring: &Keyring, device: &str) {
        let id = DeviceId::parse(device).unwrap();
        let new = NewDevice {
            device_id: id.clone(),
            device_name: "M".into(),
            device_type: "meter".into(),
            location: None,
            is_active: true,
            metadata: serde_json::Map::new(),
            token_sha256: None,
        };
        store.create_device(&new, Timestamp(0)).unwrap();
        let envelope = ring.seal(Purpose::CommandKey, device, &[7; 32]);
        let sealed = Sealed { key_id: ring.current().to_string(), envelope };
        store.set_device_secret(&id, Purpose::CommandKey.name(), &sealed, Timestamp(0)).unwrap();
    }

    #[tokio::test]
    async fn the_first_start_makes_a_private_key_and_the_next_finds_it() {
        let dir = tempfile::tempdir().unwrap();
        let (data, store) = (DataDir::open(dir.path()).unwrap(), store_in(dir.path()));
        let settings = Settings::in_dir(dir.path());
        let first = open(&settings, &data, &store).await.unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&data.path(FILE)), 0o600);
        assert_eq!(open(&settings, &data, &store).await.unwrap().current(), first.current());
        fs::set_permissions(data.path(FILE), fs::Permissions::from_mode(0o644)).unwrap();
        let error = open(&settings, &data, &store).await.unwrap_err().to_string();
        assert!(error.contains("every user"), "{error}");
    }

    #[tokio::test]
    async fn a_key_that_is_gone_stops_the_start_by_the_name_of_its_setting() {
        let dir = tempfile::tempdir().unwrap();
        let (data, store) = (DataDir::open(dir.path()).unwrap(), store_in(dir.path()));
        let mut settings = Settings::in_dir(dir.path());
        let ring = open(&settings, &data, &store).await.unwrap();
        add_secret(&store, &ring, "m1");
        let text = fs::read_to_string(data.path(FILE)).unwrap();
        fs::remove_file(data.path(FILE)).unwrap();
        let error = open(&settings, &data, &store).await.unwrap_err();
        let error = error.downcast_ref::<ConfigError>().unwrap().to_string();
        assert!(error.contains("secrets.key: is missing") && error.contains(&ring.current().to_string()), "{error}");
        assert!(!data.path(FILE).exists(), "no new key takes its place");
        settings.secrets.key = Some(Secret::new(Key::random().to_text().as_str()));
        let error = open(&settings, &data, &store).await.unwrap_err().to_string();
        assert!(error.contains("secrets.key: is another one"), "{error}");
        settings.secrets.old_keys = Some(Secret::new(text.trim()));
        assert!(open(&settings, &data, &store).await.unwrap().has(ring.current()));
    }

    #[tokio::test]
    async fn after_a_change_of_keys_everything_is_sealed_anew_and_still_opens() {
        let dir = tempfile::tempdir().unwrap();
        let (data, store) = (DataDir::open(dir.path()).unwrap(), store_in(dir.path()));
        let mut settings = Settings::in_dir(dir.path());
        let old = open(&settings, &data, &store).await.unwrap();
        for n in 0..PART + 3 {
            add_secret(&store, &old, &format!("m{n}"));
        }
        settings.secrets.key = Some(Secret::new(Key::random().to_text().as_str()));
        let ring = open(&settings, &data, &store).await.unwrap();
        assert_eq!(rotate(&store, &ring).await.unwrap(), PART as usize + 3);
        assert_eq!(store.sealing_keys().unwrap(), [ring.current().to_string()]);
        let sealed = store.device_secret(&DeviceId::parse("m7").unwrap(), "command_key").unwrap().unwrap();
        assert_eq!(*ring.open_32(Purpose::CommandKey, "m7", &sealed).unwrap(), [7; 32]);
        assert_eq!(rotate(&store, &ring).await.unwrap(), 0);
    }
}

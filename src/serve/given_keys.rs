//! API keys that somebody else made and the server is to know: for those who must have a key before the first start, such as
//! an Alertmanager beside it in containers.
//!
//! Invariant: only what is missing is added. A key that was revoked stays revoked, and one that is no longer in the file goes on
//! being a key until it is revoked. Does not know who has them.

use std::path::Path;

use anyhow::{Context, bail, ensure};

use super::deeds;
use crate::api::key;
use crate::domain::Timestamp;
use crate::store::{self, ApiKey, Role, SharedStore};

/// Most bytes of the file.
const MAX_BYTES: u64 = 1 << 20;

/// The keys of a file: a line each of role, key and name. Empty lines and those that begin with `#` say nothing.
pub fn read(file: &Path, now: Timestamp) -> anyhow::Result<Vec<ApiKey>> {
    let about = || format!("auth.keys_file: {}", file.display());
    let size = std::fs::metadata(file).with_context(about)?.len();
    ensure!(size <= MAX_BYTES, "{}: is larger than {MAX_BYTES} bytes", about());
    parse(&std::fs::read_to_string(file).with_context(about)?, now).with_context(about)
}

fn parse(text: &str, now: Timestamp) -> anyhow::Result<Vec<ApiKey>> {
    let mut keys: Vec<ApiKey> = Vec::new();
    for (at, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line.trim())) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut words = line.split_whitespace();
        let (role, text) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let name = words.collect::<Vec<_>>().join(" ");
        // Nothing of the line is said: what stands at the wrong place may be a key.
        let Some(role) = Role::from_name(role) else {
            bail!("line {at} does not begin with viewer, operator or admin");
        };
        let Some(prefix) = key::prefix_of(text) else {
            bail!("line {at} has no key of the form iotm_<8 hexadecimal digits>_<43 letters of base64url>");
        };
        ensure!(keys.iter().all(|key| key.prefix != prefix), "line {at} has the prefix of another line, {prefix}");
        let name = if name.is_empty() { "keys file".to_owned() } else { name };
        keys.push(key::given(text, prefix, &name, role, now));
    }
    Ok(keys)
}

/// Adds those that are missing; how many. A prefix that belongs to another key is an error: its holder could not get in, and would
/// not know why.
pub async fn keep(store: &SharedStore, given: &[ApiKey], now: Timestamp) -> anyhow::Result<usize> {
    let mut added = 0;
    for key in given {
        if is_there(store, key).await? {
            continue;
        }
        let new = key.clone();
        match store::run(store, move |s| s.create_api_key(&new)).await {
            Ok(_) => {
                tracing::info!(key = key.prefix, name = key.name, role = key.role.name(), "API key added");
                let detail = format!("{} {:?}, of auth.keys_file", key.role.name(), key.name);
                let noted = deeds::note(store, "key.create", &key.prefix, detail, now).await;
                noted.context("the audit log cannot be written")?;
                added += 1;
            }
            // Another node was first.
            Err(_) if is_there(store, key).await? => {}
            Err(error) => return Err(error).context("a given API key cannot be stored"),
        }
    }
    Ok(added)
}

async fn is_there(store: &SharedStore, key: &ApiKey) -> anyhow::Result<bool> {
    let prefix = key.prefix.clone();
    let stored = store::run(store, move |s| s.api_key(&prefix)).await.context("the API keys cannot be read")?;
    let is_another = stored.as_ref().is_some_and(|stored| stored.key_sha256 != key.key_sha256);
    ensure!(!is_another, "auth.keys_file: there is another key with the prefix {}", key.prefix);
    Ok(stored.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000);

    fn text(prefix: &str) -> String {
        format!("iotm_{prefix}_{}", "a".repeat(43))
    }

    fn fault(text: &str) -> String {
        format!("{:#}", parse(text, NOW).err().expect("is refused"))
    }

    #[test]
    fn a_line_is_a_role_a_key_and_a_name() {
        let file = format!(
            "# for Alertmanager\n\n  operator\t{} alerts of production\nviewer {}\n",
            text("01234567"),
            text("89abcdef")
        );
        let keys = parse(&file, NOW).unwrap();
        let found: Vec<_> = keys.iter().map(|k| (k.role, k.prefix.as_str(), k.name.as_str())).collect();
        let expected = [(Role::Operator, "01234567", "alerts of production"), (Role::Viewer, "89abcdef", "keys file")];
        assert_eq!(found, expected);
        assert_eq!(key::judge(&text("01234567"), keys.first(), NOW), key::Verdict::Good);
    }

    #[test]
    fn a_bad_line_is_named_and_not_shown() {
        let key = text("01234567");
        assert_eq!(fault(&format!("\n{key} operator")), "line 2 does not begin with viewer, operator or admin");
        let form = "line 1 has no key of the form iotm_<8 hexadecimal digits>_<43 letters of base64url>";
        assert_eq!(fault("viewer s3cret"), form);
        assert_eq!(fault("viewer"), form);
        let twice = format!("viewer {key}\nadmin {key}");
        assert_eq!(fault(&twice), "line 2 has the prefix of another line, 01234567");
    }

    #[tokio::test]
    async fn what_is_missing_is_added_and_what_was_revoked_stays_so() {
        let dir = tempfile::tempdir().unwrap();
        let store = store::open(&format!("sqlite://{}/keys.db", dir.path().display())).unwrap();
        let given = parse(&format!("operator {} alerts", text("01234567")), NOW).unwrap();
        assert_eq!(keep(&store, &given, NOW).await.unwrap(), 1);
        assert!(store.revoke_api_key("01234567", NOW).unwrap());
        assert_eq!(keep(&store, &given, NOW).await.unwrap(), 0);
        assert!(store.api_key("01234567").unwrap().unwrap().revoked_at.is_some());
        let other = parse(&format!("operator iotm_01234567_{}", "b".repeat(43)), NOW).unwrap();
        let error = keep(&store, &other, NOW).await.expect_err("is refused");
        assert_eq!(error.to_string(), "auth.keys_file: there is another key with the prefix 01234567");
        let expected = ["server", "key.create", "01234567", "operator \"alerts\", of auth.keys_file"];
        assert_eq!(deeds::noted(&store), [expected.map(str::to_owned)], "what was added, once");
    }
}

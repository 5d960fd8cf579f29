//! API keys: `iotm_<8 hex>_<43 base64url>`, a public prefix to find the key by and 256 random bits to prove it.
//!
//! Invariant: a key's text exists only in the answer of [`generate`]; what is stored is its SHA-256 (256 random bits
//! need no slow hash: there is nothing to guess; a slow one would only slow the server, at every request), and digests are
//! compared in constant time. Knows no HTTP.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngCore;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::domain::Timestamp;
use crate::store::{ApiKey, Role};

/// Letters of the public prefix.
const PREFIX_LEN: usize = 8;
/// Letters of the secret: 32 bytes in base64url.
const SECRET_LEN: usize = 43;

/// 256 random bits as base64url: a device's MQTT token, or the secret part of a key.
pub fn random_token() -> String {
    let mut bytes = [0_u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// SHA-256 of a key or token as it is stored.
pub fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// A new key: its text, to be shown once, and what to store.
pub fn generate(name: &str, role: Role, device_prefix: Option<String>, now: Timestamp) -> (String, ApiKey) {
    let mut id = [0_u8; PREFIX_LEN / 2];
    rand::rng().fill_bytes(&mut id);
    let prefix = hex::encode(id);
    let text = format!("iotm_{prefix}_{}", random_token());
    let key = ApiKey { device_prefix, ..given(&text, &prefix, name, role, now) };
    (text, key)
}

/// What to store of a key whose text somebody else made.
pub fn given(text: &str, prefix: &str, name: &str, role: Role, now: Timestamp) -> ApiKey {
    ApiKey {
        key_sha256: digest(text),
        prefix: prefix.to_owned(),
        role,
        name: name.to_owned(),
        device_prefix: None,
        created_at: now,
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
        last_used_from: None,
    }
}

/// The public prefix of a key's text; `None` when the text has not the form of a key.
pub fn prefix_of(text: &str) -> Option<&str> {
    let (prefix, secret) = text.strip_prefix("iotm_")?.split_at_checked(PREFIX_LEN)?;
    let secret = secret.strip_prefix('_')?;
    let good = prefix.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        && secret.len() == SECRET_LEN
        && secret.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    good.then_some(prefix)
}

/// An end as people write it: an RFC 3339 time, or a date, whose first moment (UTC) it means.
pub fn parse_end(text: &str) -> Option<Timestamp> {
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    Timestamp::parse_rfc3339(&whole)
}

/// What a key's text is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is the stored key, and that is good.
    Good,
    /// There is no key with this prefix.
    Unknown,
    /// There is, but this is not it.
    Wrong,
    /// It was revoked.
    Revoked,
    /// Its time is over.
    Expired,
}

/// In place of the digest of a key that does not exist.
const NOBODY: [u8; 32] = [0; 32];

/// Judges `text` against the key stored under its prefix. The work is the same whether there is one or not.
pub fn judge(text: &str, stored: Option<&ApiKey>, now: Timestamp) -> Verdict {
    let expected = stored.map_or(&NOBODY, |key| &key.key_sha256);
    let is_same: bool = digest(text).ct_eq(expected).into();
    match stored {
        None => Verdict::Unknown,
        Some(_) if !is_same => Verdict::Wrong,
        Some(key) if key.revoked_at.is_some() => Verdict::Revoked,
        Some(key) if !key.is_good(now) => Verdict::Expired,
        Some(_) => Verdict::Good,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_has_its_form_and_proves_itself_only() {
        let now = Timestamp(1_000);
        let (text, key) = generate("first", Role::Admin, None, now);
        let (other, _) = generate("second", Role::Admin, None, now);
        assert_eq!(text.len(), 5 + PREFIX_LEN + 1 + SECRET_LEN);
        assert_eq!(prefix_of(&text), Some(key.prefix.as_str()));
        assert_eq!(judge(&text, Some(&key), now), Verdict::Good);
        assert_eq!(judge(&other, Some(&key), now), Verdict::Wrong);
        assert_eq!(judge(&text, None, now), Verdict::Unknown);
    }

    #[test]
    fn an_expired_or_revoked_key_is_no_key() {
        let now = Timestamp(1_000);
        let (text, key) = generate("x", Role::Viewer, None, now);
        let verdict = |key: ApiKey| judge(&text, Some(&key), now);
        assert_eq!(verdict(ApiKey { expires_at: Some(now), ..key.clone() }), Verdict::Expired);
        assert_eq!(verdict(ApiKey { expires_at: Some(now.plus_us(1)), ..key.clone() }), Verdict::Good);
        assert_eq!(verdict(ApiKey { revoked_at: Some(now), ..key }), Verdict::Revoked);
    }

    #[test]
    fn other_texts_have_no_prefix() {
        for text in ["", "iotm_", "iotm_0123456é_x", "iotm_01234567_short", "iotm_0123456G_", "eyJhbGciOi.x.y"] {
            assert_eq!(prefix_of(text), None, "{text:?}");
        }
    }
}

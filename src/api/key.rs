//! API keys: `iotm_<8 hex>_<43 base64url>`, a public prefix to find the key by and 256 random bits to prove it.
//!
//! Invariant: a key's text exists only in the answer of [`generate`]; what is stored is its SHA-256 (256 random bits
//! need no slow hash), and digests are compared in constant time. Knows no HTTP.

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
    let key = ApiKey {
        key_sha256: digest(&text),
        prefix,
        role,
        name: name.to_owned(),
        device_prefix,
        created_at: now,
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
        last_used_from: None,
    };
    (text, key)
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

/// Whether `text` is the key `stored` and the key is good at `now`.
pub fn verify(text: &str, stored: &ApiKey, now: Timestamp) -> bool {
    let same: bool = digest(text).ct_eq(&stored.key_sha256).into();
    same && stored.is_good(now)
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
        assert!(verify(&text, &key, now));
        assert!(!verify(&other, &key, now));
    }

    #[test]
    fn an_expired_or_revoked_key_is_no_key() {
        let now = Timestamp(1_000);
        let (text, key) = generate("x", Role::Viewer, None, now);
        assert!(!verify(&text, &ApiKey { expires_at: Some(now), ..key.clone() }, now));
        assert!(verify(&text, &ApiKey { expires_at: Some(now.plus_us(1)), ..key.clone() }, now));
        assert!(!verify(&text, &ApiKey { revoked_at: Some(now), ..key }, now));
    }

    #[test]
    fn other_texts_have_no_prefix() {
        for text in ["", "iotm_", "iotm_0123456é_x", "iotm_01234567_short", "iotm_0123456G_", "eyJhbGciOi.x.y"] {
            assert_eq!(prefix_of(text), None, "{text:?}");
        }
    }
}

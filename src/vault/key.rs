//! A key that seals: 32 bytes, its public id, and the forms it may be written in.
//!
//! Invariant: the bytes leave by [`Key::reveal`] and [`Key::to_text`] only, and are wiped when the key is dropped.

use std::fmt;
use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use super::{Error, KEY_ID_LEN, Secret32, random_32};

/// Names a key without telling anything of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(pub(super) [u8; KEY_ID_LEN]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl KeyId {
    /// Reads eight hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut id = [0; KEY_ID_LEN];
        hex::decode_to_slice(text, &mut id).ok()?;
        Some(Self(id))
    }
}

/// A sealing key.
pub struct Key {
    bytes: Secret32,
    id: KeyId,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

impl Key {
    /// A new key.
    pub fn random() -> Self {
        Self::of(random_32())
    }

    /// Reads 64 hexadecimal digits, or base64 of 32 bytes (either alphabet, padded or not).
    pub fn parse(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let mut bytes = Zeroizing::new([0; 32]);
        if text.len() == 64 && hex::decode_to_slice(text, &mut *bytes).is_ok() {
            return Ok(Self::of(bytes));
        }
        let bare = text.trim_end_matches('=');
        let is_meant = text.len() <= 44 && bare.len() == 43;
        let decoded = match bare.contains(['-', '_']) {
            true => URL_SAFE_NO_PAD.decode(bare),
            false => STANDARD_NO_PAD.decode(bare),
        };
        let decoded = Zeroizing::new(decoded.ok().filter(|_| is_meant).ok_or(Error::NotAKey)?);
        bytes.copy_from_slice(decoded.get(..32).ok_or(Error::NotAKey)?);
        Ok(Self::of(bytes))
    }

    /// The key of a passphrase: PBKDF2 with HMAC-SHA-256. The same words with the same salt and count give the same key.
    pub fn of_passphrase(passphrase: &[u8], salt: &[u8], rounds: NonZeroU32) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        ring::pbkdf2::derive(ring::pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, passphrase, &mut *bytes);
        Self::of(bytes)
    }

    fn of(bytes: Secret32) -> Self {
        let mut digest: [u8; 32] =
            Sha256::new().chain_update("iot-meter secrets key id").chain_update(bytes.as_slice()).finalize().into();
        let mut id = [0; KEY_ID_LEN];
        id.copy_from_slice(&digest[..KEY_ID_LEN]);
        digest.zeroize();
        Self { bytes, id: KeyId(id) }
    }

    /// Its public name.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// As it is written to a file.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(*self.bytes))
    }

    pub(super) fn reveal(&self) -> &[u8; 32] {
        &self.bytes
    }
}

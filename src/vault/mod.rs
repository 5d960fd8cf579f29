//! Secrets that must be kept: sealed by a key that is not in the database, and tokens of which only the digest is kept.
//!
//! Promise: what is sealed opens only with its key, for its purpose and its owner: a row copied to another device's place
//! does not open, nor one that was changed. Nothing of this room shows a secret in `Debug`, and what it holds in clear is
//! wiped when it is dropped. Pure: no files, no settings, no clock. Must not know: where sealed values are kept.
//!
//! ```text
//! envelope   version 1 (1 byte) │ key id (4) │ nonce (12, random) │ ciphertext │ tag (16)
//! sealed as  ChaCha20-Poly1305; associated data = the first 5 bytes of the envelope, purpose, 0, owner
//! ```
//! Start from [`Keyring`]; [`token`] makes and judges tokens.

mod key;
mod link;
pub mod token;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

pub use key::{Key, KeyId};

const VERSION: u8 = 1;
const KEY_ID_LEN: usize = 4;
const HEAD_LEN: usize = 1 + KEY_ID_LEN;
const TAG_LEN: usize = 16;

/// A 32-byte secret in clear; wiped when dropped.
pub type Secret32 = Zeroizing<[u8; 32]>;

/// What a sealed value is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Purpose {
    /// The key that a device's commands are signed with.
    CommandKey,
    /// A file in a backup.
    BackupFile,
}

impl Purpose {
    /// As stored; part of the associated data, so it never changes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CommandKey => "command_key",
            Self::BackupFile => "backup_file",
        }
    }

    /// Reads the stored word.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::CommandKey, Self::BackupFile].into_iter().find(|purpose| purpose.name() == name)
    }
}

/// Why a value does not open, or a key is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// Not 32 bytes in hexadecimal or base64.
    #[error("is not 32 bytes in hexadecimal or base64")]
    NotAKey,
    /// Not an envelope of this room.
    #[error("the sealed value is damaged")]
    Malformed,
    /// Sealed by a key that is not at hand.
    #[error("the value is sealed by the key {0}, which is not at hand")]
    UnknownKey(KeyId),
    /// Changed, or another owner's, or for another purpose.
    #[error("the sealed value is not what was sealed for this owner")]
    Forged,
}

/// The key that seals, and those that only open what was sealed before.
#[derive(Debug)]
pub struct Keyring {
    current: Key,
    old: Vec<Key>,
}

impl Keyring {
    /// Seals with `current`.
    pub fn new(current: Key, old: Vec<Key>) -> Self {
        Self { current, old }
    }

    /// A keyring of one new key, for tests.
    pub fn of_new_key() -> Self {
        Self::new(Key::random(), Vec::new())
    }

    /// The id of the key that seals.
    pub fn current(&self) -> KeyId {
        self.current.id()
    }

    /// Whether what that key sealed can be opened.
    pub fn has(&self, id: KeyId) -> bool {
        self.find(id).is_some()
    }

    fn find(&self, id: KeyId) -> Option<&Key> {
        std::iter::once(&self.current).chain(&self.old).find(|key| key.id() == id)
    }

    /// Seals `clear` for one purpose and owner.
    pub fn seal(&self, purpose: Purpose, owner: &str, clear: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce);
        let mut head = [VERSION; HEAD_LEN];
        head[1..].copy_from_slice(&self.current.id().0);
        let mut envelope = Vec::with_capacity(HEAD_LEN + NONCE_LEN + clear.len() + TAG_LEN);
        envelope.extend_from_slice(&head);
        envelope.extend_from_slice(&nonce);
        let mut body = Vec::with_capacity(clear.len() + TAG_LEN);
        body.extend_from_slice(clear);
        cipher(&self.current)
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad(&head, purpose, owner), &mut body)
            .expect("a few bytes are far below the cipher's limit");
        envelope.append(&mut body);
        envelope
    }

    /// Opens an envelope.
    pub fn open(&self, purpose: Purpose, owner: &str, envelope: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let id = key_id(envelope).ok_or(Error::Malformed)?;
        let key = self.find(id).ok_or(Error::UnknownKey(id))?;
        let (head, rest) = envelope.split_at(HEAD_LEN);
        let (nonce, body) = rest.split_at_checked(NONCE_LEN).ok_or(Error::Malformed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Error::Malformed)?;
        let mut clear = Zeroizing::new(body.to_vec());
        let opened = cipher(key).open_in_place(nonce, aad(head, purpose, owner), &mut clear);
        let length = opened.map_err(|_| Error::Forged)?.len();
        clear.truncate(length);
        Ok(clear)
    }

    /// Opens a 32-byte secret.
    pub fn open_32(&self, purpose: Purpose, owner: &str, envelope: &[u8]) -> Result<Secret32, Error> {
        let clear = self.open(purpose, owner, envelope)?;
        let mut secret = Zeroizing::new([0; 32]);
        if clear.len() != secret.len() {
            return Err(Error::Malformed);
        }
        secret.copy_from_slice(&clear);
        Ok(secret)
    }

    /// The same value, sealed by the current key.
    pub fn reseal(&self, purpose: Purpose, owner: &str, envelope: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(self.seal(purpose, owner, &self.open(purpose, owner, envelope)?))
    }
}

/// A new 32-byte secret.
pub fn random_32() -> Secret32 {
    let mut secret = Zeroizing::new([0; 32]);
    rand::fill(&mut *secret);
    secret
}

/// Which key sealed an envelope; `None` = it is none.
pub fn key_id(envelope: &[u8]) -> Option<KeyId> {
    let id = envelope.strip_prefix(&[VERSION])?.first_chunk::<KEY_ID_LEN>()?;
    Some(KeyId(*id))
}

fn cipher(key: &Key) -> LessSafeKey {
    let unbound = UnboundKey::new(&CHACHA20_POLY1305, key.reveal());
    LessSafeKey::new(unbound.expect("the cipher takes keys of 32 bytes"))
}

fn aad(head: &[u8], purpose: Purpose, owner: &str) -> Aad<Vec<u8>> {
    let mut data = head.to_vec();
    data.extend_from_slice(purpose.name().as_bytes());
    data.push(0);
    data.extend_from_slice(owner.as_bytes());
    Aad::from(data)
}

#[cfg(test)]
mod tests;

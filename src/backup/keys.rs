//! Keys in a backup: which files they are, and how a passphrase seals them.

use std::fs;
use std::num::NonZeroU32;
use std::path::Path;

use zeroize::Zeroizing;

use super::Error;
use super::manifest::Derivation;
use crate::vault::{Key, Keyring, Purpose, random_32};

/// Characters that a passphrase has at least.
pub const MIN_PASSPHRASE: usize = 12;
/// Rounds for a new backup: a third of a second.
const ROUNDS: NonZeroU32 = NonZeroU32::new(600_000).expect("is not zero");
/// Rounds that a backup may ask for at most: a minute or so.
const MAX_ROUNDS: u32 = 100_000_000;

/// What somebody remembers, or keeps elsewhere.
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// The first line of a file.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let text = Zeroizing::new(fs::read_to_string(path).map_err(Error::io("read", path))?);
        let line = Zeroizing::new(text.lines().next().unwrap_or_default().trim().to_owned());
        if line.chars().count() < MIN_PASSPHRASE {
            return Err(Error::PassphraseShort { path: path.to_owned(), min: MIN_PASSPHRASE });
        }
        Ok(Self(line))
    }

    /// A new way to a key for a backup, and the key.
    pub(super) fn derive(&self, backup: uuid::Uuid) -> (Derivation, Keyring) {
        let salt = random_32();
        let ring = Keyring::new(Key::of_passphrase(self.0.as_bytes(), &*salt, ROUNDS), Vec::new());
        let proof = hex::encode(seal(&ring, backup, PROOF, b""));
        (Derivation { salt: hex::encode(*salt), rounds: ROUNDS.get(), proof }, ring)
    }

    /// The key that a backup was sealed with, if the passphrase is the same.
    pub(super) fn derive_again(&self, backup: uuid::Uuid, how: &Derivation) -> Result<Keyring, Error> {
        let rounds = NonZeroU32::new(how.rounds).filter(|rounds| rounds.get() <= MAX_ROUNDS);
        let salt = hex::decode(&how.salt).ok().filter(|salt| salt.len() >= 16);
        let (rounds, salt) = rounds.zip(salt).ok_or(Error::PassphraseWrong)?;
        let ring = Keyring::new(Key::of_passphrase(self.0.as_bytes(), &salt, rounds), Vec::new());
        let proof = hex::decode(&how.proof).map_err(|_| Error::PassphraseWrong)?;
        open(&ring, backup, PROOF, &proof)?;
        Ok(ring)
    }
}

/// The name that the proof is sealed for: no file has it.
const PROOF: &str = "";

/// Whether a file of the data directory, named from there, is a key or belongs to one.
pub(super) fn is_secret(name: &str) -> bool {
    name.starts_with("pki/") || name.ends_with(".key")
}

/// Whom a file is sealed for: this place in this backup.
fn owner(backup: uuid::Uuid, name: &str) -> String {
    format!("{backup}/{name}")
}

pub(super) fn seal(ring: &Keyring, backup: uuid::Uuid, name: &str, clear: &[u8]) -> Vec<u8> {
    ring.seal(Purpose::BackupFile, &owner(backup, name), clear)
}

pub(super) fn open(ring: &Keyring, backup: uuid::Uuid, name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    // Its digest was right, so what does not open is closed by another key.
    ring.open(Purpose::BackupFile, &owner(backup, name), sealed).map_err(|_| Error::PassphraseWrong)
}

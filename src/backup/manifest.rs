//! What a backup says of itself. Pure.
//!
//! Invariant: a backup without a readable manifest as its last entry is none.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The version of the format that this program writes and reads.
pub(super) const FORMAT: u32 = 1;
/// The entry's name.
pub(super) const NAME: &str = "manifest.json";

/// How keys are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretsForm {
    /// As envelopes that a passphrase opens.
    Sealed,
    /// As they are.
    Clear,
    /// Not at all.
    None,
}

impl SecretsForm {
    /// For people: keys are …
    pub fn words(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Clear => "in clear",
            Self::None => "left out",
        }
    }
}

/// How the key comes from the passphrase: PBKDF2 with HMAC-SHA-256.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Derivation {
    /// Hexadecimal.
    pub salt: String,
    pub rounds: u32,
    /// A sealed nothing, in hexadecimal: it opens with the right passphrase.
    pub proof: String,
}

/// The part of the journal in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JournalRange {
    /// The first offset.
    pub first: u64,
    /// Exclusive end.
    pub head: u64,
}

/// An entry's length and digest.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    pub size_bytes: u64,
    /// Hexadecimal.
    pub sha256: String,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Manifest {
    pub(super) format: u32,
    /// Names this backup; sealed files open for it only.
    pub(super) id: uuid::Uuid,
    /// Version of the program that wrote it.
    pub program: String,
    /// When it was begun, RFC 3339.
    pub begun_at: String,
    /// The node whose data directory it was; none where nothing has served yet.
    pub node_id: Option<uuid::Uuid>,
    /// `sqlite` or `postgres`; none where the database is not in it.
    pub dialect: Option<String>,
    /// Versions of the schema, oldest first.
    pub schema: Vec<String>,
    /// Whether measurements and events are in it.
    pub has_telemetry: bool,
    /// Whether the raw archive is in it.
    pub has_archive: bool,
    /// What of the journal is in it.
    pub journal: Option<JournalRange>,
    /// How keys are kept.
    pub secrets: SecretsForm,
    pub(super) derivation: Option<Derivation>,
    pub(super) entries: BTreeMap<String, Entry>,
}

impl Manifest {
    /// Bytes of all entries.
    pub fn size_bytes(&self) -> u64 {
        self.entries.values().map(|entry| entry.size_bytes).sum()
    }

    /// How many entries there are.
    pub fn entry_count(&self) -> usize {
        self.entries.len()
    }
}

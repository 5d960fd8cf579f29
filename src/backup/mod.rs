//! Backups: everything a server needs to go on elsewhere, in one file, taken while it runs; and back again.
//!
//! Promises: after a restore every message that was acknowledged before the backup began is there once; a file that was
//! damaged or cut short is refused before anything of it is written; what a restore that was cut short leaves behind looks
//! like nothing else, and no server starts on it; keys are in the file sealed, in clear or not at all, as was asked.
//! Must not know: HTTP, MQTT, what is in the tables, who may call.
//!
//! ```text
//! FILE.tar.zst
//!   settings.toml              the settings that differ from the defaults, without secrets
//!   journal/…                  the journal's records that were on disk when the backup began, as they are
//!   files/…                    what else lies in the data directory, but for keys
//!   secrets/…                  pki/, *.key: envelopes of the vault, or in clear
//!   database/…                 one snapshot: the file (SQLite), or the rows of each table (Postgres)
//!   archive/…                  when asked for, and the archive is a directory
//!   manifest.json              the last one: what all others are, with length and SHA-256
//! ```
//!
//! Why the journal comes first: what the snapshot's checkpoint does not cover yet was on disk before it, so it is in the
//! copy; and nothing has to stand still for that. A restored journal goes on far behind the copy (see `journal`), because
//! the original may have given the next numbers to messages that lie in the archive by now.
//!
//! Start from [`make()`] and [`restore()`].

mod error;
mod files;
mod keys;
mod make;
mod manifest;
mod read;
mod restore;
#[cfg(test)]
#[cfg(feature = "sqlite")]
mod tests;
mod write;

pub use error::Error;
pub use keys::{MIN_PASSPHRASE, Passphrase};
pub use make::{Made, Secrets, Source, make};
pub use manifest::{Manifest, SecretsForm};
pub use read::check;
pub use restore::{Restored, Target, restore};

/// The directory in a data directory whose restore is not finished.
pub const UNFINISHED: &str = "restore.part";

//! What people and programs log in with, and what they did: last use of API keys, console sessions, the audit log.
//!
//! Invariant: no secret is here, only digests; an audit entry is written once and never changed (`chain`).

use std::net::IpAddr;
use std::ops::ControlFlow;

use super::chain::AuditRow;
use super::{ApiKey, Error, Listing, Page, Role};
use crate::domain::Timestamp;

/// Part of the [`Store`](super::Store).
pub trait Access {
    /// Keys that match, newest first.
    fn list_api_keys(&self, page: Page) -> Result<Listing<ApiKey>, Error>;
    /// Notes when keys and sessions were last used. Need not survive a power loss; what is older than what is known, or of a
    /// key or session that has gone, is passed over.
    fn note_uses(&self, keys: &[KeyUse], sessions: &[SessionUse]) -> Result<(), Error>;

    /// Begins a session. Those that are over at `new.created_at` go, and of the actor's others the oldest beyond `keep`.
    fn create_web_session(&self, new: &WebSession, keep: usize) -> Result<(), Error>;
    /// The session whose cookie has that digest, with the key it was begun with, as both are now.
    fn web_session(&self, id_sha256: &[u8; 32]) -> Result<Option<(WebSession, Option<ApiKey>)>, Error>;
    /// Ends a session; `false` = there is none.
    fn end_web_session(&self, id_sha256: &[u8; 32]) -> Result<bool, Error>;

    /// Appends entries to the audit log, in this order and in one transaction, each chained to the one before.
    fn append_audit(&self, entries: &[AuditEntry]) -> Result<(), Error>;
    /// Entries that match, newest first.
    fn audit(&self, filter: &AuditFilter, page: Page) -> Result<Listing<AuditRow>, Error>;
    /// Calls `each` with the entries that match, oldest first, until it breaks. Read in parts: memory does not grow with the
    /// log, and no lock is held while `each` runs.
    fn scan_audit(&self, filter: &AuditFilter, each: &mut dyn FnMut(AuditRow) -> ControlFlow<()>) -> Result<(), Error>;
    /// Where the log begins and ends.
    fn audit_ends(&self) -> Result<AuditEnds, Error>;
    /// Takes away entries from before `before`, the oldest first and at most `limit`; how many. The chain goes on from the
    /// last one taken away, which an entry of it names ([`Trimmed`](super::Trimmed)).
    fn trim_audit(&self, before: Timestamp, limit: usize, now: Timestamp) -> Result<usize, Error>;
}

/// A key was used.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct KeyUse {
    pub prefix: String,
    pub at: Timestamp,
    pub address: Option<IpAddr>,
}

/// A session was used.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct SessionUse {
    pub id_sha256: [u8; 32],
    pub at: Timestamp,
}

/// A person's session in a browser.
#[derive(Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct WebSession {
    /// SHA-256 of the cookie's text (256 random bits: no slow hash needed).
    pub id_sha256: [u8; 32],
    /// As a principal's name: `key:<prefix>` or `user:<subject>`.
    pub actor: String,
    /// The key it was begun with: the session is good only while the key is.
    pub key_prefix: Option<String>,
    pub role: Role,
    pub device_prefix: Option<String>,
    pub created_at: Timestamp,
    pub last_used_at: Timestamp,
    pub expires_at: Timestamp,
}

/// What came of an action.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AuditOutcome {
    /// It was done.
    Done,
    /// Whoever asked may not.
    Refused,
    /// It went wrong.
    Failed,
}

impl AuditOutcome {
    /// As in the API, the command line and the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }

    /// Reads the word.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Done, Self::Refused, Self::Failed].into_iter().find(|o| o.name() == name)
    }
}

/// One thing that somebody did or tried. Secrets never belong in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// Who: `key:<prefix>`, `device:<id>`, `service:<name>`, `user:<subject>`, `local` (the command line), `server`, or `-`
    /// for nobody known.
    pub actor: String,
    /// From where; `None` = from this machine's command line, or the server itself.
    pub address: Option<IpAddr>,
    /// What, as `thing.verb` (`mqtt.connect`, `certificate.revoke`) or as method and route (`POST /api/devices`).
    pub action: String,
    /// On what: a device, a key's prefix, a serial, a topic.
    pub target: String,
    /// What came of it.
    pub outcome: AuditOutcome,
    /// The request's id, where there was one.
    pub request_id: Option<String>,
    /// Anything else worth knowing: a reason, a status code.
    pub detail: String,
}

/// Which entries.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct AuditFilter {
    pub actor: Option<String>,
    /// What the action begins with.
    pub action: Option<String>,
    pub target: Option<String>,
    pub outcome: Option<AuditOutcome>,
    /// Not before.
    pub from: Option<Timestamp>,
    /// Before.
    pub to: Option<Timestamp>,
}

/// Where the audit log begins and ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AuditEnds {
    /// The last entry that retention took away (0 = none), and its hash.
    pub anchor: (i64, [u8; 32]),
    /// The greatest id ever given: the id of the newest entry, unless entries were cut off.
    pub last_given: i64,
}

//! What the audit log says of its own beginning: that retention took away the entries up to one, and how old that one was.
//!
//! The anchor alone proves nothing: whoever can write the database can move it forward and delete what it has passed. So
//! whoever trims adds an entry, in the same transaction, which is chained like every other; an anchor that no entry vouches
//! for was moved by somebody else ([`Proof`](super::Proof)). Pure.

use super::{AuditEntry, AuditOutcome};
use crate::domain::Timestamp;

/// The action of such an entry.
pub const TRIM: &str = "audit.trim";
/// Who adds it.
const ACTOR: &str = "server";
/// What stands before the time.
const OF: &str = "the last entry taken away is of ";

/// What was taken away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trimmed {
    /// The last entry, all before it included.
    pub last_id: i64,
    /// When it was.
    pub last_at: Timestamp,
    /// Its hash.
    pub hash: [u8; 32],
}

impl Trimmed {
    /// The entry that says so.
    pub fn entry(&self, now: Timestamp) -> AuditEntry {
        AuditEntry {
            at: now,
            actor: ACTOR.to_owned(),
            address: None,
            action: TRIM.to_owned(),
            target: format!("{}:{}", self.last_id, hex::encode(self.hash)),
            outcome: AuditOutcome::Done,
            request_id: None,
            detail: format!("{OF}{}", self.last_at),
        }
    }

    /// What an entry says of it; `None` = it is about something else.
    pub fn of(entry: &AuditEntry) -> Option<Self> {
        if entry.action != TRIM || entry.actor != ACTOR {
            return None;
        }
        let (id, hash) = entry.target.split_once(':')?;
        Some(Self {
            last_id: id.parse().ok()?,
            last_at: Timestamp::parse_rfc3339(entry.detail.strip_prefix(OF)?)?,
            hash: hex::decode(hash).ok()?.try_into().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_entry_says_of_a_trim_is_read_back_and_nobody_else_says_it() {
        let trimmed = Trimmed { last_id: 7, last_at: Timestamp(1_770_890_400_123_456), hash: [0xab; 32] };
        let entry = trimmed.entry(Timestamp(1));
        assert_eq!(Trimmed::of(&entry), Some(trimmed));
        type Edit = fn(&mut AuditEntry);
        let edits: [Edit; 4] = [
            |e| e.actor = "local".into(),
            |e| e.action = "audit.trimmed".into(),
            |e| e.target = "7".into(),
            |e| e.detail = "2026-02-12T10:00:00Z".into(),
        ];
        for edit in edits {
            let mut other = entry.clone();
            edit(&mut other);
            assert_eq!(Trimmed::of(&other), None, "{other:?}");
        }
    }
}

//! The chain of the audit log: what each entry's hash is made of, and how a chain is checked.
//!
//! ```text
//! hash = SHA-256( "iot-meter audit 1\n" | previous hash (32 bytes) | id (8, big endian) | at (8, big endian)
//!                 | actor | address | action | target | outcome | request id | detail )
//! text = length (4, big endian) and bytes; what is absent has the length 2^32 - 1 and no bytes
//! ```
//!
//! Invariant: no two different entries have the same bytes to hash. Whoever changes, removes or adds an entry has to make
//! every later hash anew; who has noted one of those (`audit verify` prints the newest) sees that. Pure.

use sha2::{Digest, Sha256};

use super::AuditEntry;

/// An entry as it is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct AuditRow {
    /// From 1, without a gap.
    pub id: i64,
    pub entry: AuditEntry,
    pub prev_hash: [u8; 32],
    pub hash: [u8; 32],
}

impl AuditRow {
    /// The entry behind one with `prev_hash`.
    pub fn behind(prev_hash: [u8; 32], id: i64, entry: AuditEntry) -> Self {
        let hash = hash(&prev_hash, id, &entry);
        Self { id, entry, prev_hash, hash }
    }
}

/// The hash of an entry.
fn hash(prev_hash: &[u8; 32], id: i64, entry: &AuditEntry) -> [u8; 32] {
    let mut sha = Sha256::new();
    sha.update(b"iot-meter audit 1\n");
    sha.update(prev_hash);
    sha.update(id.to_be_bytes());
    sha.update(entry.at.0.to_be_bytes());
    let address = entry.address.map(|a| a.to_string());
    let texts = [
        Some(entry.actor.as_str()),
        address.as_deref(),
        Some(&entry.action),
        Some(&entry.target),
        Some(entry.outcome.name()),
        entry.request_id.as_deref(),
        Some(&entry.detail),
    ];
    for text in texts {
        let length = text.map_or(u32::MAX, |t| u32::try_from(t.len()).unwrap_or(u32::MAX - 1));
        sha.update(length.to_be_bytes());
        sha.update(text.unwrap_or_default());
    }
    sha.finalize().into()
}

/// What is wrong with an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Break {
    /// Entries before it are gone, or it is out of order.
    #[error("entry {wanted} is missing: entry {found} follows")]
    Missing {
        /// The id that should be here.
        wanted: i64,
        /// The one that is.
        found: i64,
    },
    /// It does not follow the entry before it.
    #[error("entry {id} does not follow the one before it: that one was changed, or this one")]
    Unchained {
        /// Its id.
        id: i64,
    },
    /// Its contents are not what its hash says.
    #[error("entry {id} was changed")]
    Changed {
        /// Its id.
        id: i64,
    },
}

/// Walks a chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Walk {
    /// The last entry seen.
    pub id: i64,
    /// Its hash.
    pub hash: [u8; 32],
}

impl Walk {
    /// Begins behind an anchor.
    pub const fn behind((id, hash): (i64, [u8; 32])) -> Self {
        Self { id, hash }
    }

    /// Takes the next entry.
    pub fn step(&mut self, row: &AuditRow) -> Result<(), Break> {
        let wanted = self.id + 1;
        if row.id != wanted {
            return Err(Break::Missing { wanted, found: row.id });
        }
        if row.prev_hash != self.hash {
            return Err(Break::Unchained { id: row.id });
        }
        if hash(&row.prev_hash, row.id, &row.entry) != row.hash {
            return Err(Break::Changed { id: row.id });
        }
        *self = Self { id: row.id, hash: row.hash };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;
    use crate::store::AuditOutcome;

    fn entry() -> AuditEntry {
        AuditEntry {
            at: Timestamp(7),
            actor: "key:aaaa".into(),
            address: Some([10, 0, 0, 1].into()),
            action: "POST /api/devices".into(),
            target: "m-1".into(),
            outcome: AuditOutcome::Done,
            request_id: None,
            detail: "status 201".into(),
        }
    }

    fn chain(length: i64) -> Vec<AuditRow> {
        let mut hash = [0; 32];
        let make = |id| {
            let row = AuditRow::behind(hash, id, AuditEntry { target: format!("m-{id}"), ..entry() });
            hash = row.hash;
            row
        };
        (1..=length).map(make).collect()
    }

    fn walk(rows: &[AuditRow]) -> Result<Walk, Break> {
        let mut walk = Walk::behind((0, [0; 32]));
        rows.iter().try_for_each(|row| walk.step(row))?;
        Ok(walk)
    }

    #[test]
    fn whatever_is_changed_moved_or_taken_away_shows() {
        let good = chain(5);
        assert_eq!(walk(&good).unwrap().id, 5);
        type Edit = fn(&mut AuditRow);
        let edits: [Edit; 8] = [
            |r| r.entry.at.0 += 1,
            |r| r.entry.actor.push('x'),
            |r| r.entry.address = None,
            |r| r.entry.action.clear(),
            |r| r.entry.target = "m-1".into(),
            |r| r.entry.outcome = AuditOutcome::Refused,
            |r| r.entry.request_id = Some(String::new()),
            |r| r.entry.detail = "status 202".into(),
        ];
        for edit in edits {
            let mut rows = good.clone();
            edit(&mut rows[2]);
            assert_eq!(walk(&rows), Err(Break::Changed { id: 3 }));
        }
        let mut rows = good.clone();
        rows.remove(1);
        assert_eq!(walk(&rows), Err(Break::Missing { wanted: 2, found: 3 }));
        // Hashed anew by somebody who forgot the later ones.
        let mut rows = good.clone();
        rows[2] = AuditRow::behind(rows[2].prev_hash, 3, entry());
        assert_eq!(walk(&rows), Err(Break::Unchained { id: 4 }));
    }

    #[test]
    fn text_cannot_move_from_one_field_into_another() {
        let hash_of = |entry: &AuditEntry| hash(&[0; 32], 1, entry);
        let a = AuditEntry { action: "ab".into(), target: "c".into(), ..entry() };
        let b = AuditEntry { action: "a".into(), target: "bc".into(), ..entry() };
        assert_ne!(hash_of(&a), hash_of(&b));
        let absent = AuditEntry { request_id: None, ..entry() };
        let empty = AuditEntry { request_id: Some(String::new()), ..entry() };
        assert_ne!(hash_of(&absent), hash_of(&empty));
    }
}

//! Several nodes on one database: which of them are there, and who does what only one should do.

use super::{Duty, Error, Lease};

/// Part of the [`Store`](super::Store). What stands here is the answer of a store that one node has for itself.
pub trait Nodes {
    /// Whether other nodes may use the same database.
    fn is_shared(&self) -> bool {
        false
    }

    /// Takes over what is done by one node at a time; `None` = another node has it, or this one has it already under another
    /// lease. Through [`Leader`](super::Leader), unless for a single step.
    fn try_lead(&self, duty: Duty) -> Result<Option<Lease>, Error> {
        let _ = duty;
        Ok(Some(Lease::alone()))
    }
}

//! Several nodes on one database: which of them are there, whose meters are connected where, and who does what only one
//! should do.
//!
//! What stands here as the answer of a [`Nodes`] is that of a store that one node has for itself: nobody else is there.

use uuid::Uuid;

use super::{Duty, Error, Lease};
use crate::domain::{DeviceId, Timestamp};

/// Part of the [`Store`](super::Store).
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

    /// Says that this node is there, and how far it is. Nodes silent for a week are forgotten.
    fn beat(&self, own: &Beat) -> Result<(), Error> {
        let _ = own;
        Ok(())
    }

    /// Says that this node stops: nobody has to wait for it.
    fn leave(&self) -> Result<(), Error> {
        Ok(())
    }

    /// All nodes, those that are there first, then by name; none where the store is one node's own.
    fn nodes(&self) -> Result<Vec<Node>, Error> {
        Ok(Vec::new())
    }

    /// Until when every **other** node that is there has stored what it received; `None` = there is no other.
    fn heard_until(&self) -> Result<Option<Timestamp>, Error> {
        Ok(None)
    }

    /// Devices that count as online and have been silent at `now` for longer than their presence timeout, as far as the
    /// database knows; at most `limit`, those silent for longest first.
    fn silent_devices(&self, now: Timestamp, limit: usize) -> Result<Vec<DeviceId>, Error> {
        let _ = (now, limit);
        Ok(Vec::new())
    }

    /// Notes which devices this node can reach now (`true`) and which no more.
    fn note_sessions(&self, changes: &[(DeviceId, bool)], now: Timestamp) -> Result<(), Error> {
        let _ = (changes, now);
        Ok(())
    }

    /// This node reaches nobody: it has just started.
    fn forget_sessions(&self) -> Result<(), Error> {
        Ok(())
    }

    /// The nodes that are there and can reach the device.
    fn holders(&self, device: &DeviceId) -> Result<Vec<Uuid>, Error> {
        let _ = device;
        Ok(Vec::new())
    }

    /// Devices this node can reach for which there are commands that it has not claimed and may
    /// ([`claim_commands`](super::Store::claim_commands)): given over another node, or left behind by one; at most `limit`.
    fn waiting_devices(&self, now: Timestamp, limit: usize) -> Result<Vec<DeviceId>, Error> {
        let _ = (now, limit);
        Ok(Vec::new())
    }
}

/// What a node says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Beat {
    /// For people; need not be unique.
    pub name: String,
    /// Of the program.
    pub version: String,
    /// What it listens on: (`http`, address) and the like.
    pub addresses: Vec<(String, String)>,
    /// When its process started.
    pub started_at: Timestamp,
    /// Everything it received before this is stored.
    pub stored_until: Timestamp,
}

/// A node as the others see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// Its id, which stays with its data directory.
    pub id: Uuid,
    /// What it said last.
    pub said: Beat,
    /// When, by the database's clock; `None` = it stopped in good order.
    pub heartbeat_at: Option<Timestamp>,
    /// Whether it has said so lately.
    pub is_alive: bool,
    /// Devices it can reach.
    pub sessions: u64,
}

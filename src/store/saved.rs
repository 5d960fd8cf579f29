//! What the broker keeps over a restart: sessions with their waiting messages, and retained messages.
//!
//! The store knows names, positions and bytes; what the bytes mean is the broker's secret, and so is their version.

use bytes::Bytes;

/// What happened to a session since it was last saved.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct SessionChange {
    pub client_id: String,
    pub change: SessionSave,
}

/// See [`SessionChange`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SessionSave {
    /// It has ended: it goes with all its messages. Fine for one that was never saved.
    Ended,
    /// It goes on.
    Changed {
        /// Its state, whole; `None` = as saved before, which it then must have been.
        state: Option<Bytes>,
        /// Messages to add, or to replace, by position (at most `i64::MAX`). A buffer may be shared by many sessions.
        put: Vec<(u64, Bytes)>,
        /// Positions to remove before that; fine for ones that are not there.
        removed: Vec<u64>,
    },
}

/// A topic's retained message, or with `None` that it has none any more.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct RetainedChange {
    pub topic: String,
    pub message: Option<Bytes>,
}

/// A session as it was saved.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct SavedSession {
    pub client_id: String,
    pub state: Vec<u8>,
    /// By position, ascending.
    pub messages: Vec<(u64, Vec<u8>)>,
}

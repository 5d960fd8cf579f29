//! What people and programs log in with, and what they did: API keys, console sessions, the audit log.

/// Part of the [`Store`](super::Store).
pub trait Access {}

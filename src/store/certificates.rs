//! Certificates that were issued or revoked.

/// Part of the [`Store`](super::Store).
pub trait Certificates {}

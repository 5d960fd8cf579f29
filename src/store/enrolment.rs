//! What devices and services are let in with: claims, command keys, service accounts.

/// Part of the [`Store`](super::Store).
pub trait Enrolment {}

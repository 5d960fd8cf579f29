//! Journal → decode → plan → commit: what meters said becomes rows, states, gaps and alerts.
//!
//! Promise: every journal record is looked at in order, its effects and the new checkpoint are committed in one
//! transaction, and a record seen twice (a copy, a retransmission, a replay after a crash) changes nothing the second
//! time. The database being away delays, it never drops. Must not know: sockets, HTTP.
//!
//! Start from [`plan::plan`], the pure heart; [`Collector`] is the thread around it; [`Handle`] is how the REST API
//! speaks to the owner of device state.

mod cache;
mod place;
pub mod plan;
#[cfg(test)]
mod plan_tests;
mod planning;
mod requests;
mod task;

pub use requests::MAX_AT_ONCE;
pub use task::{Collector, Error, Options, TASK};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::domain::DeviceId;
use crate::domain::presence::Connection;

/// The collector's ear for what the REST API says about a device. Clones share it.
#[derive(Clone, Debug)]
pub struct Handle {
    tx: tokio::sync::mpsc::Sender<Request>,
    rules_changed: Arc<AtomicBool>,
}

/// The collector's end of it.
#[derive(Debug)]
pub struct Inbox {
    /// What was asked.
    pub requests: tokio::sync::mpsc::Receiver<Request>,
    /// Set when the alert rules have changed; taken by the collector when it has read them.
    pub rules_changed: Arc<AtomicBool>,
}

/// Something said about a device over REST; handled by the one task that owns device state.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Request {
    pub device: DeviceId,
    pub kind: RequestKind,
    /// Answered after the commit.
    pub reply: tokio::sync::oneshot::Sender<Answer>,
}

/// What was said.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub enum RequestKind {
    /// It is there.
    Heartbeat,
    /// Its status was set by hand; with `expected` only where this is its connection and firmware.
    SetStatus { connection: Connection, fw_version: Option<String>, expected: Option<(Connection, Option<String>)> },
    /// The registry changed (update, registration, configuration): forget what is cached.
    Reload,
    /// It was deleted: what it said before now and is not stored yet must not bring it back.
    Deleted,
}

impl RequestKind {
    /// Whether it changes the device's state (the others only change what is cached).
    pub const fn says_something(&self) -> bool {
        matches!(self, Self::Heartbeat | Self::SetStatus { .. })
    }
}

/// What became of what was said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It is committed.
    Done,
    /// There is no such device.
    NoDevice,
    /// The device is not as it was expected to be; nothing was changed.
    Stale,
}

/// The collector is stopping or has stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the collector is stopping")]
pub struct Stopped;

impl Handle {
    /// A handle and the collector's end of it.
    pub fn channel() -> (Self, Inbox) {
        let (tx, requests) = tokio::sync::mpsc::channel(256);
        let rules_changed = Arc::new(AtomicBool::new(false));
        (Self { tx, rules_changed: Arc::clone(&rules_changed) }, Inbox { requests, rules_changed })
    }

    /// Says that the alert rules have changed: what is received from now on is judged by them as they are now.
    pub fn rules_changed(&self) {
        self.rules_changed.store(true, Ordering::Release);
    }

    /// Says `kind` about `device` and waits until it is committed.
    pub async fn tell(&self, device: DeviceId, kind: RequestKind) -> Result<Answer, Stopped> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.tx.send(Request { device, kind, reply }).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }
}

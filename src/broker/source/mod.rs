//! External brokers as sources: meters that are connected to another broker are heard, and reached, through it.
//!
//! Promises: a message is acknowledged to the other broker only after the journal has it on disk, so that what was under
//! way at a crash comes again; a broker that is away is tried again for as long as it takes and stops nothing else; a
//! device that has spoken through a source gets its commands through it. Must not know: what payloads mean.
//!
//! ```text
//! run: dial ─ connection: Reader ─► Session ─► journal ─durable─► acknowledgement
//!                                      ▲
//!                commands ──► Line ────┘            (Line: who has spoken, what waits; shared with the command side)
//! ```
//! Copies cost nothing: what comes twice (a reconnect, several nodes, a meter that is connected here as well) is stored
//! once, by the message's identity. Nothing is passed on to subscribers of our own broker.
//!
//! Start from [`Options`]; [`Broker::source`](super::Broker::source) runs one.

mod address;
mod connection;
mod dial;
mod line;
mod read;
mod run;
mod seen;
mod session;
mod wire;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;

use super::slot::Signals;
use crate::domain::{CommandId, DeviceId};

pub use address::Address;
pub(super) use line::Line;
pub(super) use run::run;

/// Most sources of a process.
pub const MAX_SOURCES: usize = 16;

/// The names of the sources on the task board, by number.
pub const TASKS: [&str; MAX_SOURCES] = [
    "source 0",
    "source 1",
    "source 2",
    "source 3",
    "source 4",
    "source 5",
    "source 6",
    "source 7",
    "source 8",
    "source 9",
    "source 10",
    "source 11",
    "source 12",
    "source 13",
    "source 14",
    "source 15",
];

/// Version of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Version {
    /// MQTT 5.
    #[default]
    V5,
    /// MQTT 3.1.1.
    V311,
}

impl Version {
    /// As written in the settings.
    pub const NAMES: [&'static str; 2] = ["5", "3.1.1"];

    /// Reads the settings' word.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::V5, Self::V311].into_iter().zip(Self::NAMES).find(|(_, n)| *n == name).map(|(version, _)| version)
    }
}

/// A password; it never shows.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// The password itself.
    Text(String),
    /// The file that holds it, read at each connection, so that it may be changed.
    File(PathBuf),
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Password(***)"),
            Self::File(path) => write!(f, "Password({})", path.display()),
        }
    }
}

/// One external broker.
#[derive(Clone, PartialEq, Debug)]
pub struct Options {
    /// Its number, below [`MAX_SOURCES`]: name on the task board and label of its metrics.
    pub number: usize,
    /// Where it is.
    pub address: Address,
    /// What to subscribe to.
    pub filter: String,
    /// The name of our session there; no other client may have it.
    pub client_id: String,
    /// User name and password; an empty name = none.
    pub username: String,
    /// See there.
    pub password: Option<Password>,
    /// The protocol to speak.
    pub version: Version,
    /// How long the broker is to keep the session, with what comes in meanwhile, while we are away (version 5).
    pub session_expiry_s: u32,
    /// Seconds between signs of life, where the broker does not want others.
    pub keep_alive_s: u16,
    /// PEM file of the certificate authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Devices remembered as having spoken.
    pub max_devices: usize,
    /// Largest message taken; larger ones are acknowledged, counted and dropped.
    pub max_packet_bytes: usize,
    /// From dialling to the accepted subscription.
    pub connect_timeout: Duration,
}

/// The sources of a broker.
#[derive(Default)]
pub(super) struct Sources(RwLock<Vec<Arc<Line>>>);

impl Sources {
    /// One more.
    pub(super) fn add(&self, max_devices: usize) -> Arc<Line> {
        let line = Arc::new(Line::new(max_devices));
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&line));
        line
    }

    /// Gives a command to the source through which its device spoke last.
    pub(super) fn send_command(&self, device: &DeviceId, command: CommandId, payload: &Bytes) -> bool {
        let heard = self.lines().into_iter().filter_map(|line| Some((line.last_heard(device)?, line)));
        heard.max_by_key(|(at, _)| *at).is_some_and(|(_, line)| line.offer(device, command, payload))
    }

    /// Whether a device has spoken through one of them.
    pub(super) fn have(&self, device: &DeviceId) -> bool {
        self.lines().iter().any(|line| line.last_heard(device).is_some())
    }

    /// Forgets that a device has spoken.
    pub(super) fn forget(&self, device: &DeviceId) {
        for line in self.lines() {
            line.forget(device);
        }
    }

    pub(super) fn signal_all(&self, signals: Signals) {
        for line in self.lines() {
            line.signal.raise(signals);
        }
    }

    fn lines(&self) -> Vec<Arc<Line>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests;

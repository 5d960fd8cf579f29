//! What the task of a source shares with the rest: who has spoken there, and the commands waiting to go there.
//!
//! Invariants: a command that is taken is either reported as delivered or forgotten with its connection, and then its
//! device is told to be gone; both collections are bounded. The lock is held for moments and never while the command
//! side is told something (its own lock is taken before this one).

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::time::Instant;

use super::seen::Seen;
use crate::broker::events::Event;
use crate::broker::slot::{Signal, Signals};
use crate::domain::{CommandId, DeviceId};

/// Commands waiting for one source.
const MAX_WAITING: usize = 256;

/// A command on its way.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Parcel {
    pub(super) command: CommandId,
    pub(super) device: DeviceId,
    pub(super) payload: Bytes,
}

/// See the module.
pub(in crate::broker) struct Line {
    /// Wakes the task of the source.
    pub(super) signal: Signal,
    desk: Mutex<Desk>,
}

struct Desk {
    seen: Seen,
    waiting: VecDeque<Parcel>,
    /// Commands waiting or under way.
    known: HashSet<CommandId>,
}

impl Line {
    pub(super) fn new(max_devices: usize) -> Self {
        let desk = Desk { seen: Seen::new(max_devices), waiting: VecDeque::new(), known: HashSet::new() };
        Self { signal: Signal::default(), desk: Mutex::new(desk) }
    }

    /// When this device spoke here last, if it did since the source is connected.
    pub(super) fn last_heard(&self, device: &DeviceId) -> Option<Instant> {
        self.desk().seen.last_heard(device)
    }

    /// Takes a command for a device that has spoken here; `false` = it has not, or there is no room.
    pub(super) fn offer(&self, device: &DeviceId, command: CommandId, payload: &Bytes) -> bool {
        let mut desk = self.desk();
        if desk.seen.last_heard(device).is_none() {
            return false;
        }
        if desk.known.contains(&command) {
            return true;
        }
        if desk.waiting.len() >= MAX_WAITING {
            return false;
        }
        desk.known.insert(command);
        desk.waiting.push_back(Parcel { command, device: device.clone(), payload: payload.clone() });
        drop(desk);
        self.signal.raise(Signals::MAIL);
        true
    }

    /// The next command to send.
    pub(super) fn take(&self) -> Option<Parcel> {
        self.desk().waiting.pop_front()
    }

    /// A command is through.
    pub(super) fn complete(&self, command: CommandId) {
        self.desk().known.remove(&command);
    }

    /// These devices have spoken; what the command side has to hear of it goes to `events`.
    pub(super) fn hear<'a>(&self, devices: impl Iterator<Item = &'a str>, events: &mut Vec<Event>) {
        let now = Instant::now();
        let mut desk = self.desk();
        for device in devices {
            events.extend(desk.seen.hear(device, now).map(|device| Event::Ready { device }));
        }
        events.extend(desk.seen.crowd_out().into_iter().map(|device| Event::Gone { device }));
    }

    /// This device cannot be reached here, until it speaks again.
    pub(super) fn forget(&self, device: &DeviceId) -> bool {
        self.desk().seen.forget(device)
    }

    /// The connection is gone, and with it everybody who has spoken and every command.
    pub(super) fn clear(&self, events: &mut Vec<Event>) {
        let mut desk = self.desk();
        desk.waiting.clear();
        desk.known.clear();
        events.extend(desk.seen.clear().into_iter().map(|device| Event::Gone { device }));
    }

    /// Devices that have spoken.
    pub(super) fn devices(&self) -> usize {
        self.desk().seen.len()
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

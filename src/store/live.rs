//! What changed of presence, alerts and commands, by whichever node or program: a queue that triggers of the database fill.
//!
//! Invariant: a change is given out once it is committed, in the order of the commits as far as one can follow from another;
//! nothing that is committed is passed over. A thing that changed several times in one look is given once, as it is now.

use std::collections::{HashMap, HashSet};

use super::{Alert, Command, Error};
use crate::domain::{CommandId, DeviceId, DeviceState};

/// How long changes are kept for those who read them.
pub const LIVE_KEPT_S: u64 = 600;

/// A place in the queue: everything behind it is still to come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct LivePlace(pub i64, pub i64);

/// Something that changed, as it is now.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub enum LiveChange {
    Presence(DeviceId, Box<DeviceState>),
    Alert(Alert),
    Command(Command),
}

/// A part of the queue.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct LiveChanges {
    /// In order; what is gone meanwhile is left out.
    pub changes: Vec<LiveChange>,
    /// Where to read on.
    pub place: LivePlace,
    /// Whether more may be there already.
    pub has_more: bool,
}

/// The queue.
pub trait Live {
    /// The end of the queue as it is now.
    fn live_end(&self) -> Result<LivePlace, Error>;
    /// What was noted behind `after`, of `limit` notes at most.
    fn live_changes(&self, after: LivePlace, limit: u32) -> Result<LiveChanges, Error>;
    /// Forgets what was noted more than [`LIVE_KEPT_S`] ago, and is not behind `read`; how much that was.
    fn trim_live(&self, read: LivePlace) -> Result<usize, Error>;
}

/// What a note is about.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Subject {
    Presence(DeviceId),
    Alert(i64),
    Command(CommandId),
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl Subject {
    /// Of a row; `None` = none that is known here.
    pub(super) fn of(kind: &str, device_id: &str, name: &str) -> Option<Self> {
        match kind {
            "presence" => DeviceId::parse(device_id).map(Self::Presence),
            "alert" => name.parse().ok().map(Self::Alert),
            "command" => CommandId::parse(name).map(Self::Command),
            _ => None,
        }
    }
}

/// What is to be looked up of some notes, each thing once, where it was noted last.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
#[derive(Debug, Default)]
pub(super) struct Wanted {
    order: Vec<Subject>,
    pub(super) devices: Vec<DeviceId>,
    pub(super) alerts: Vec<i64>,
    pub(super) commands: Vec<CommandId>,
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl Wanted {
    pub(super) fn of(subjects: Vec<Subject>) -> Self {
        let (mut wanted, mut seen) = (Self::default(), HashSet::new());
        for subject in subjects.into_iter().rev() {
            if !seen.insert(subject.clone()) {
                continue;
            }
            match &subject {
                Subject::Presence(device) => wanted.devices.push(device.clone()),
                Subject::Alert(alert) => wanted.alerts.push(*alert),
                Subject::Command(command) => wanted.commands.push(*command),
            }
            wanted.order.push(subject);
        }
        wanted.order.reverse();
        wanted
    }

    /// What was found, in order.
    pub(super) fn found(
        self,
        states: Vec<(DeviceId, DeviceState)>,
        alerts: Vec<Alert>,
        commands: Vec<Command>,
    ) -> Vec<LiveChange> {
        let mut states: HashMap<DeviceId, DeviceState> = states.into_iter().collect();
        let mut alerts: HashMap<i64, Alert> = alerts.into_iter().map(|alert| (alert.id, alert)).collect();
        let mut commands: HashMap<CommandId, Command> = commands.into_iter().map(|c| (c.cmd_id, c)).collect();
        let mut take = |subject| match subject {
            Subject::Presence(device) => {
                let state = states.remove(&device)?;
                Some(LiveChange::Presence(device, Box::new(state)))
            }
            Subject::Alert(alert) => alerts.remove(&alert).map(LiveChange::Alert),
            Subject::Command(command) => commands.remove(&command).map(LiveChange::Command),
        };
        self.order.into_iter().filter_map(&mut take).collect()
    }
}

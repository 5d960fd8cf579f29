//! Staged firmware updates: which devices when, when to go on, when to stop. Pure.
//!
//! A rollout goes through its devices stage by stage: the devices have an order, a stage is a piece of it. A stage is passed
//! when enough of its devices, and of those before, have confirmed. Too many failures pause the rollout. A device is confirmed
//! only when a hello of it carries the new version.
//!
//! Start from [`step()`]: what is known goes in, what changes comes out. Time is an argument. Does not know: how commands
//! travel, where anything is kept.

mod stages;
mod step;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use stages::{MAX_STAGES, StageFault, StageSize, stage_ends};
pub use step::step;

use super::command::CommandStatus;
use super::message::OtaState;
use super::{DeviceId, Timestamp};

/// Where a rollout stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RolloutState {
    /// Devices are updated.
    Running,
    /// No further device is told; what is under way is followed.
    Paused,
    /// Every device has come to an end.
    Completed,
    /// Given up.
    Aborted,
}

impl RolloutState {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Running, Self::Paused, Self::Completed, Self::Aborted];

    /// As in the API and the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Aborted => "aborted",
        }
    }

    /// Reads the word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.name() == name)
    }

    /// Whether it may still change.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

/// Where one device of a rollout stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)]
pub enum UpdateState {
    /// For its stage, for a free place, or for the device to be there.
    Waiting,
    /// It has a command.
    Sent,
    Downloading,
    Verifying,
    /// Its image is good; it installs it and starts again.
    Applying,
    /// A hello said the new version.
    Confirmed,
    Failed,
    /// Nothing to do.
    Skipped,
    /// The rollout was given up.
    Cancelled,
}

impl UpdateState {
    /// All states.
    pub const ALL: [Self; 9] = [
        Self::Waiting,
        Self::Sent,
        Self::Downloading,
        Self::Verifying,
        Self::Applying,
        Self::Confirmed,
        Self::Failed,
        Self::Skipped,
        Self::Cancelled,
    ];

    /// As in the API and the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sent => "sent",
            Self::Downloading => "downloading",
            Self::Verifying => "verifying",
            Self::Applying => "applying",
            Self::Confirmed => "confirmed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
        }
    }

    /// Reads the word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.name() == name)
    }

    /// Whether the device has been told and has not come to an end.
    pub const fn is_under_way(self) -> bool {
        matches!(self, Self::Sent | Self::Downloading | Self::Verifying | Self::Applying)
    }
}

/// Why a device has come to an end without an update.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum UpdateReason {
    /// It refused the command.
    Refused,
    /// It knows no updates.
    Unsupported,
    /// It could not begin.
    Broken,
    /// Somebody cancelled the command.
    Withdrawn,
    /// It got the command and never said a word.
    Unanswered,
    /// It said that the update failed: the image was not what was announced, mostly.
    UpdateFailed,
    /// It took longer than allowed.
    TimedOut,
    /// It has the version already.
    AlreadyThere,
    /// It is not registered any more, or inactive.
    Gone,
}

impl UpdateReason {
    /// All reasons.
    pub const ALL: [Self; 9] = [
        Self::Refused,
        Self::Unsupported,
        Self::Broken,
        Self::Withdrawn,
        Self::Unanswered,
        Self::UpdateFailed,
        Self::TimedOut,
        Self::AlreadyThere,
        Self::Gone,
    ];

    /// As in the API and the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unsupported => "unsupported",
            Self::Broken => "error",
            Self::Withdrawn => "withdrawn",
            Self::Unanswered => "unanswered",
            Self::UpdateFailed => "update_failed",
            Self::TimedOut => "timeout",
            Self::AlreadyThere => "already_there",
            Self::Gone => "gone",
        }
    }

    /// Reads the word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.name() == name)
    }
}

/// Why a rollout is paused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PauseReason {
    /// Somebody wanted it.
    ByHand,
    /// More devices failed than allowed.
    TooManyFailed,
    /// All devices of the stage have come to an end, and too few of them with the new version.
    TooFewConfirmed,
}

impl PauseReason {
    /// All reasons.
    pub const ALL: [Self; 3] = [Self::ByHand, Self::TooManyFailed, Self::TooFewConfirmed];

    /// As in the API and the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ByHand => "by_hand",
            Self::TooManyFailed => "too_many_failed",
            Self::TooFewConfirmed => "too_few_confirmed",
        }
    }

    /// Reads the word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.name() == name)
    }
}

/// What a rollout keeps to. Set when it is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Devices under way at once.
    pub max_parallel: u32,
    /// With more failures than this part of the devices so far, in percent, it pauses.
    pub max_failed_pct: u8,
    /// A stage is passed when this part of the devices so far, in percent, has confirmed.
    pub min_confirmed_pct: u8,
    /// How long a device may take from its command to its confirmation.
    pub device_timeout: Duration,
    /// How long a passed stage is watched before the next one begins.
    pub soak: Duration,
}

/// Limits and stages. `ends`: how many devices there are up to the end of each stage, rising, at least one.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Plan {
    pub limits: Limits,
    pub ends: Vec<u32>,
}

/// How far a rollout has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Where it stands.
    pub state: RolloutState,
    /// Why it is paused.
    pub pause: Option<PauseReason>,
    /// The stage it is in, from 0.
    pub stage: u32,
    /// When that stage was passed.
    pub passed_at: Option<Timestamp>,
}

impl Progress {
    /// A rollout that begins.
    pub const START: Self = Self { state: RolloutState::Running, pause: None, stage: 0, passed_at: None };
}

/// What somebody wants of a rollout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Tell no further device.
    Pause,
    /// Go on. Failures so far are accepted, or with `retry` tried again.
    Resume {
        /// Devices that failed wait again.
        retry: bool,
    },
    /// Give it up.
    Abort,
}

impl Action {
    /// What becomes of a rollout; `None` = its state forbids it.
    pub const fn apply(self, progress: Progress) -> Option<Progress> {
        use RolloutState::{Aborted, Paused, Running};
        let (state, pause) = match (self, progress.state) {
            (Self::Pause, Running) => (Paused, Some(PauseReason::ByHand)),
            (Self::Resume { .. }, Paused) => (Running, None),
            (Self::Abort, Running | Paused) => (Aborted, None),
            _ => return None,
        };
        Some(Progress { state, pause, ..progress })
    }
}

/// How many devices of a stage stand where.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Tally {
    pub waiting: u32,
    pub under_way: u32,
    pub confirmed: u32,
    /// Not those that were accepted.
    pub failed: u32,
    /// Failures that somebody accepted by going on.
    pub forgiven: u32,
    pub skipped: u32,
    pub cancelled: u32,
}

impl Tally {
    /// The count a device belongs to.
    pub const fn count_of(&mut self, state: UpdateState, is_forgiven: bool) -> &mut u32 {
        match state {
            UpdateState::Waiting => &mut self.waiting,
            UpdateState::Confirmed => &mut self.confirmed,
            UpdateState::Failed if is_forgiven => &mut self.forgiven,
            UpdateState::Failed => &mut self.failed,
            UpdateState::Skipped => &mut self.skipped,
            UpdateState::Cancelled => &mut self.cancelled,
            UpdateState::Sent | UpdateState::Downloading | UpdateState::Verifying | UpdateState::Applying => {
                &mut self.under_way
            }
        }
    }

    /// All devices.
    pub const fn total(&self) -> u32 {
        self.waiting + self.under_way + self.confirmed + self.failed + self.forgiven + self.skipped + self.cancelled
    }

    /// Both.
    pub const fn plus(self, other: Self) -> Self {
        Self {
            waiting: self.waiting + other.waiting,
            under_way: self.under_way + other.under_way,
            confirmed: self.confirmed + other.confirmed,
            failed: self.failed + other.failed,
            forgiven: self.forgiven + other.forgiven,
            skipped: self.skipped + other.skipped,
            cancelled: self.cancelled + other.cancelled,
        }
    }
}

/// What is known of a device, from elsewhere.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// It is registered and active.
    pub is_there: bool,
    /// It is online.
    pub is_online: bool,
    /// Its last hello said the version that is wanted.
    pub has_target: bool,
    /// Where its command stands; `None` = it has none, or none any more.
    pub command: Option<CommandStatus>,
    /// What it said last about the update.
    pub report: Option<OtaState>,
    /// Its words about that.
    pub words: Option<String>,
}

/// A device of a rollout.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Update {
    pub device: DeviceId,
    /// From 0.
    pub stage: u32,
    pub state: UpdateState,
    pub is_forgiven: bool,
    pub sent_at: Option<Timestamp>,
    pub seen: Seen,
}

/// A device's next state. To [`UpdateState::Sent`] means: give it the command.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Change {
    pub device: DeviceId,
    pub from: UpdateState,
    pub to: UpdateState,
    pub reason: Option<UpdateReason>,
    /// The device's words, where it failed.
    pub detail: Option<String>,
}

/// What a step changes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Step {
    /// The rollout's own, where it changes.
    pub progress: Option<Progress>,
    /// Its devices', each once at most.
    pub changes: Vec<Change>,
}

impl Step {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.progress.is_none() && self.changes.is_empty()
    }
}

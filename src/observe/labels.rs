//! Values of the metrics' labels, where they are those of the domain or shared by several metrics.

use crate::domain::Refusal;
use crate::domain::command::{CommandKind, CommandStatus};
use crate::domain::energy::Quality;
use crate::domain::rollout::{PauseReason, RolloutState, UpdateState};
use crate::domain::rule::Severity;

/// Kinds of message, as in the topics and the archive.
pub const MESSAGE_KINDS: [&str; 5] = ["telemetry", "hello", "status", "command_ack", "ota_status"];
/// The kind of a message whose topic says none.
pub const UNKNOWN_KIND: &str = "unknown";
/// Kinds of message, where it may say none.
pub const REFUSED_KINDS: [&str; MESSAGE_KINDS.len() + 1] = {
    let [telemetry, hello, status, command_ack, ota_status] = MESSAGE_KINDS;
    [telemetry, hello, status, command_ack, ota_status, UNKNOWN_KIND]
};
/// Kinds of events of a stream.
pub const EVENT_KINDS: [&str; 4] = ["reading", "presence", "alert", "command"];
/// States of a task.
pub const TASK_STATES: [&str; 5] = ["starting", "running", "retrying", "stopped", "failed"];
/// What one node does for all (a test of `store::lease` compares).
pub const DUTIES: [&str; 4] = ["retention", "rollups", "presence", "rollouts"];
/// Readers of the journal.
pub const READERS: [&str; 2] = ["collector", "archiver"];

/// The names of all values of a type.
macro_rules! names {
    ($kind:ident) => {{
        let mut names = [""; $kind::ALL.len()];
        let mut i = 0;
        while i < names.len() {
            names[i] = $kind::ALL[i].name();
            i += 1;
        }
        names
    }};
}

/// Why a message was refused.
pub const REFUSALS: [&str; Refusal::ALL.len()] = names!(Refusal);

/// What has become of a command.
pub const COMMAND_STATES: [&str; CommandStatus::ALL.len()] = names!(CommandStatus);

/// What commands there are.
pub const COMMAND_KINDS: [&str; CommandKind::ALL.len()] = names!(CommandKind);

/// States of a rollout.
pub const ROLLOUT_STATES: [&str; RolloutState::ALL.len()] = names!(RolloutState);
/// Why a rollout is paused.
pub const PAUSE_REASONS: [&str; PauseReason::ALL.len()] = names!(PauseReason);
/// What has become of an update of a device.
pub const UPDATE_STATES: [&str; UpdateState::ALL.len()] = names!(UpdateState);
/// How bad what a rule watches for is.
pub const SEVERITIES: [&str; Severity::ALL.len()] = names!(Severity);
/// How good an interval of energy is.
pub const QUALITIES: [&str; Quality::ALL.len()] = names!(Quality);

/// What speaks TLS.
pub const TLS_SERVERS: [&str; 2] = ["mqtt", "https"];

/// A set that is not known beforehand.
pub const OPEN: [&str; 0] = [];

//! Values of the metrics' labels, where they are those of the domain or shared by several metrics.

use crate::domain::Refusal;
use crate::domain::command::{CommandKind, CommandStatus};
use crate::domain::energy::Quality;

/// Kinds of message, as in the topics and the archive.
pub const MESSAGE_KINDS: [&str; 5] = ["telemetry", "hello", "status", "command_ack", "ota_status"];
/// States of a task.
pub const TASK_STATES: [&str; 5] = ["starting", "running", "retrying", "stopped", "failed"];
/// What one node does for all (a test of `store::lease` compares).
pub const DUTIES: [&str; 6] = ["retention", "rollups", "compaction", "energy", "presence", "rollouts"];
/// Readers of the journal.
pub const READERS: [&str; 2] = ["collector", "archiver"];

/// Why a message was refused.
pub const REFUSALS: [&str; Refusal::ALL.len()] = {
    let mut names = [""; Refusal::ALL.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = Refusal::ALL[i].name();
        i += 1;
    }
    names
};

/// What has become of a command.
pub const COMMAND_STATES: [&str; CommandStatus::ALL.len()] = {
    let mut names = [""; CommandStatus::ALL.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = CommandStatus::ALL[i].name();
        i += 1;
    }
    names
};

/// What commands there are.
pub const COMMAND_KINDS: [&str; CommandKind::ALL.len()] = {
    let mut names = [""; CommandKind::ALL.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = CommandKind::ALL[i].name();
        i += 1;
    }
    names
};

/// How good an interval of energy is.
pub const QUALITIES: [&str; Quality::ALL.len()] = {
    let mut names = [""; Quality::ALL.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = Quality::ALL[i].name();
        i += 1;
    }
    names
};

/// What speaks TLS.
pub const TLS_SERVERS: [&str; 2] = ["mqtt", "https"];

/// A set that is not known beforehand.
pub const OPEN: [&str; 0] = [];

//! What is taken over from an old installation: rows with their own times, written once.
//!
//! Invariant: taking the same rows over again changes nothing. A device is known by its id, a configuration by its device
//! (only what is not set yet is set), an alert by device, type, time and message, a command by its id. Nothing that is
//! there already is changed.

use super::{Error, NewDevice};
use crate::domain::command::CommandStatus;
use crate::domain::{CommandId, DeviceId, Sequence, Timestamp};

/// Part of the [`Store`](super::Store). Each call is one transaction, with an answer for each row.
pub trait Takeover {
    /// Registers devices. One that is quarantined and as it was found (nobody has named or changed it) gets its old row.
    fn take_over_devices(&self, devices: &[OldDevice]) -> Result<Vec<TakenOver>, Error>;
    /// Sets what is known of devices' configuration.
    fn take_over_configs(&self, configs: &[OldConfig]) -> Result<Vec<TakenOver>, Error>;
    /// Adds alerts.
    fn take_over_alerts(&self, alerts: &[OldAlert]) -> Result<Vec<TakenOver>, Error>;
    /// Adds commands, as they ended.
    fn take_over_commands(&self, commands: &[OldCommand]) -> Result<Vec<TakenOver>, Error>;
    /// When the messages of these identities were received; `None` = not stored.
    fn received_at(&self, messages: &[(DeviceId, Timestamp, Sequence)]) -> Result<Vec<Option<Timestamp>>, Error>;
    /// Notes that of messages older than `before` some are in the archive alone: measurements of these devices, the newest of
    /// each being of then. The rollups of such a device no longer speak of the time up to that day; where nothing has been
    /// rolled up yet, none speaks of the time up to `before`.
    fn note_archive_only(&self, before: Timestamp, measured: &[(DeviceId, Timestamp)]) -> Result<(), Error>;
}

/// What became of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TakenOver {
    /// It is there now.
    Stored,
    /// It was there before.
    Known,
    /// Its device is not registered.
    NoDevice,
}

/// A device.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub struct OldDevice {
    pub new: NewDevice,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A configuration; `None` = not known.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub struct OldConfig {
    pub device: DeviceId,
    pub sampling_cadence_ms: Option<i64>,
    pub send_interval_s: Option<i64>,
    pub hello_interval_s: Option<i64>,
    /// An array of `{host, port}`.
    pub brokers: Option<serde_json::Value>,
    pub updated_at: Timestamp,
}

/// An alert.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub struct OldAlert {
    pub device: DeviceId,
    pub alert_type: String,
    pub severity: String,
    pub message: String,
    pub created_at: Timestamp,
    pub cleared_at: Option<Timestamp>,
    /// When it was seen, and by whom.
    pub acknowledged: Option<(Timestamp, String)>,
}

/// A command and what became of it.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub struct OldCommand {
    pub cmd_id: CommandId,
    pub device: DeviceId,
    pub cmd: String,
    pub params: serde_json::Map<String, serde_json::Value>,
    pub status: CommandStatus,
    pub detail: Option<String>,
    pub created_at: Timestamp,
    pub created_by: String,
    pub sent_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

//! What goes into and comes out of a store: plain values of the domain, no SQL types.

use std::net::IpAddr;
use std::time::Duration;

use super::RuleAlert;
use crate::domain::alert::AlertKind;
use crate::domain::command::CommandStatus;
use crate::domain::presence::Connection;
use crate::domain::rule::RuleId;
use crate::domain::sequence::Gap;
use crate::domain::{CommandId, DeviceId, DeviceState, Sequence, Telemetry, Timestamp};

/// An expected result that is not always the wished one.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome<T> {
    /// Done; the value as it now is.
    Done(T),
    /// Not done: the thing exists already, has moved on, or its state forbids it.
    Conflict,
}

/// Part of a list: at most `limit` rows from `start` on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Page {
    pub start: Start,
    pub limit: u32,
}

/// Where a part of a list begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// Behind so many rows; all are counted.
    Offset(u64),
    /// Behind the row that stands, or stood, at this place; `None` = with the first row. Nothing is counted.
    Behind(Option<Place>),
}

/// A row's place in its list: what the list is ordered by, the second number telling rows apart whose first is the same (0
/// where the first is unique). It stays while other rows come and go, so a walk from place to place gives every row that
/// is there all the time exactly once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place(pub i64, pub i64);

impl Page {
    /// `limit` rows behind `offset` others.
    pub const fn offset(offset: u64, limit: u32) -> Self {
        Self { start: Start::Offset(offset), limit }
    }

    /// `limit` rows behind a place.
    pub const fn behind(place: Option<Place>, limit: u32) -> Self {
        Self { start: Start::Behind(place), limit }
    }
}

/// A part of a list.
#[derive(Clone, PartialEq, Debug)]
pub struct Listing<T> {
    /// The rows.
    pub items: Vec<T>,
    /// The number of all; `None` where nothing is counted.
    pub total: Option<u64>,
    /// The place of the last row when more follow it; `None` where all are counted.
    pub next: Option<Place>,
}

// ---- what the collector commits --------------------------------------------------------------------------------

/// All that a run of journal records changes; stored in one transaction.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Batch {
    /// Offset behind the last record of the batch; `None` leaves the checkpoint (a presence tick).
    pub checkpoint: Option<u64>,
    /// Where the checkpoint must stand before, or nothing is stored; `None` = anywhere.
    pub since: Option<u64>,
    /// Devices to register (those already there are left as they are).
    pub registrations: Vec<NewDevice>,
    /// Measurement rows.
    pub telemetry: Vec<TelemetryRow>,
    /// Everything else meters said.
    pub events: Vec<EventRow>,
    /// New states, whole; the registration inside is not written. A device once at most.
    pub states: Vec<(DeviceId, DeviceState)>,
    /// Ledger entries, new ones and changed ones, in the order of their first change. One named by (device, after, first) once
    /// at most. Of one that is stored already the time it was found stays, and the time it was filled.
    pub gaps: Vec<(DeviceId, GapEntry)>,
    /// Alerts raised and cleared, in order.
    pub alerts: Vec<AlertChange>,
    /// Alerts raised and cleared by rules, in order.
    pub rule_alerts: Vec<RuleAlert>,
    /// Acknowledgements that came home.
    pub commands: Vec<CommandChange>,
}

/// What a commit did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Committed {
    /// Telemetry rows newly stored.
    pub telemetry: usize,
    /// Event rows newly stored.
    pub events: usize,
    /// Rows that were there already.
    pub duplicates: usize,
}

/// One datagram.
#[derive(Clone, PartialEq, Debug)]
pub struct TelemetryRow {
    /// The meter.
    pub device: DeviceId,
    /// Message time.
    pub ts: Timestamp,
    /// With device and ts the identity.
    pub seq: Sequence,
    /// When this server received it.
    pub received_at: Timestamp,
    /// The values.
    pub values: Telemetry,
}

/// How far back the database's telemetry of a device reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reach {
    /// Of what has a message time before this, retention may have taken rows; everything from it on is there. `None` =
    /// nothing was ever taken.
    pub trimmed_before: Option<Timestamp>,
    /// When somebody last removed the device's data.
    pub purged_at: Option<Timestamp>,
}

/// A hello, status, acknowledgement or update progress.
#[derive(Clone, PartialEq, Debug)]
pub struct EventRow {
    /// The meter.
    pub device: DeviceId,
    /// Message time.
    pub ts: Timestamp,
    /// With device and ts the identity.
    pub seq: Sequence,
    /// When this server received it.
    pub received_at: Timestamp,
    /// `hello status command_ack ota_status`.
    pub kind: String,
    /// The message's fields as a JSON object.
    pub body: serde_json::Value,
}

/// A change of the one open alert of a device and kind.
#[derive(Clone, PartialEq, Debug)]
pub enum AlertChange {
    /// Opens one, unless one is open. Of a kind that is raised anew ([`AlertKind::is_raised_anew`]) one that is open and
    /// acknowledged is cleared for it.
    Raise {
        /// The device.
        device: DeviceId,
        /// The kind.
        kind: AlertKind,
        /// For people.
        message: String,
        /// When.
        at: Timestamp,
    },
    /// Closes the open one, if any.
    Clear {
        /// The device.
        device: DeviceId,
        /// The kind.
        kind: AlertKind,
        /// When.
        at: Timestamp,
    },
}

/// A step of a command.
#[derive(Clone, PartialEq, Debug)]
pub struct CommandChange {
    /// Which.
    pub cmd_id: CommandId,
    /// When set, the command must be this device's (an acknowledgement of another's command changes nothing).
    pub device: Option<DeviceId>,
    /// Where to.
    pub to: CommandStatus,
    /// The meter's or the operator's words.
    pub detail: Option<String>,
    /// When.
    pub at: Timestamp,
}

// ---- devices ---------------------------------------------------------------------------------------------------

/// A device to add.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub struct NewDevice {
    pub device_id: DeviceId,
    pub device_name: String,
    pub device_type: String,
    pub location: Option<String>,
    pub is_active: bool,
    /// A JSON object.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// SHA-256 of its MQTT token; `None` = it gets none yet and cannot log in.
    pub token_sha256: Option<[u8; 32]>,
}

/// A registered device with what is known of it.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub struct Device {
    pub id: i64,
    pub device_id: DeviceId,
    pub device_name: String,
    pub device_type: String,
    pub location: Option<String>,
    pub is_active: bool,
    pub connection: Connection,
    pub last_seen: Option<Timestamp>,
    pub fw_version: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Grows by one with every change through the API: the ETag.
    pub version: i64,
}

impl Device {
    /// Whether it was only heard of, and nobody has changed anything of it since.
    pub fn is_only_heard_of(&self) -> bool {
        !self.is_active && self.metadata.contains_key("quarantined") && self.updated_at == self.created_at
    }
}

/// Which devices. All conditions must hold.
#[derive(Clone, PartialEq, Debug, Default)]
#[allow(missing_docs)]
pub struct DeviceFilter {
    /// Beginning of the id, with regard to case.
    pub id_prefix: Option<String>,
    pub is_active: Option<bool>,
    pub device_type: Option<String>,
    pub connection: Option<Connection>,
    pub location: Option<String>,
    /// Part of id or name, without regard to case; `%` and `_` are themselves.
    pub q: Option<String>,
    /// Top-level metadata members that must equal these texts (a number or boolean compares by its JSON text).
    pub metadata: Vec<(String, String)>,
}

/// Fields to change; `None` = leave.
#[derive(Clone, PartialEq, Debug, Default)]
#[allow(missing_docs)]
pub struct DeviceChange {
    pub device_name: Option<String>,
    pub device_type: Option<String>,
    pub location: Option<String>,
    pub is_active: Option<bool>,
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
}

/// What a device may log in with.
#[derive(Clone, PartialEq, Eq)]
pub struct DeviceCredential {
    /// An inactive device may not connect (unless it is quarantined by `--open`; the broker decides).
    pub is_active: bool,
    /// SHA-256 of its token (256 random bits: no slow hash needed); `None` = it has none.
    pub token_sha256: Option<[u8; 32]>,
}

/// Figures about everything.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Stats {
    /// Registered devices.
    pub total_devices: u64,
    /// (`active` or `inactive`, count).
    pub device_by_status: Vec<(String, u64)>,
    /// (`online`, `offline` or `unknown`, count).
    pub device_by_connection: Vec<(String, u64)>,
    /// Alerts nobody has seen.
    pub unacknowledged_alerts: u64,
    /// (kind of command, status, count).
    pub commands_by_kind: Vec<(String, String, u64)>,
}

impl Stats {
    /// Takes `kind status` apart.
    pub fn split_commands(counts: Vec<(String, u64)>) -> Vec<(String, String, u64)> {
        let split = |(name, count): (String, u64)| {
            let (kind, status) = name.split_once(' ')?;
            Some((kind.to_owned(), status.to_owned(), count))
        };
        counts.into_iter().filter_map(split).collect()
    }

    /// (command status, count), in order of the names.
    pub fn commands_by_status(&self) -> Vec<(String, u64)> {
        let mut by_status = std::collections::BTreeMap::new();
        for (_, status, count) in &self.commands_by_kind {
            *by_status.entry(status.clone()).or_default() += count;
        }
        by_status.into_iter().collect()
    }
}

// ---- ledger ----------------------------------------------------------------------------------------------------

/// A ledger entry.
#[derive(Clone, PartialEq, Debug)]
pub struct GapEntry {
    /// The range and what of it is still missing.
    pub gap: Gap,
    /// When it was found.
    pub detected_at: Timestamp,
    /// When the last missing message arrived.
    pub filled_at: Option<Timestamp>,
}

// ---- alerts ----------------------------------------------------------------------------------------------------

/// An alert to add by hand.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub struct NewAlert {
    pub alert_type: String,
    pub severity: String,
    pub message: String,
}

/// An alert.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub struct Alert {
    pub id: i64,
    pub device_id: DeviceId,
    pub alert_type: String,
    pub severity: String,
    pub message: String,
    pub created_at: Timestamp,
    /// Set = the condition has gone, or as `cleared_reason` says.
    pub cleared_at: Option<Timestamp>,
    /// Set = somebody has seen it.
    pub acknowledged_at: Option<Timestamp>,
    pub acknowledged_by: Option<String>,
    /// The rule that raised it.
    pub rule: Option<RuleId>,
    /// Why it was cleared, unless its condition has gone.
    pub cleared_reason: Option<String>,
}

/// Which alerts.
#[derive(Clone, PartialEq, Debug, Default)]
#[allow(missing_docs)]
pub struct AlertFilter {
    /// One alert.
    pub id: Option<i64>,
    pub device: Option<DeviceId>,
    /// Beginning of the device's id, with regard to case.
    pub id_prefix: Option<String>,
    pub acknowledged: Option<bool>,
    pub severity: Option<String>,
    /// `Some(true)`: still open (not cleared).
    pub is_open: Option<bool>,
}

// ---- commands --------------------------------------------------------------------------------------------------

/// A command to add, state `pending`.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub struct NewCommand {
    pub cmd_id: CommandId,
    pub device: DeviceId,
    pub cmd: String,
    pub params: serde_json::Map<String, serde_json::Value>,
    pub created_at: Timestamp,
    pub created_by: String,
    pub expires_at: Timestamp,
}

/// A command and how far it has come.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub struct Command {
    pub cmd_id: CommandId,
    pub device: DeviceId,
    pub cmd: String,
    pub params: serde_json::Map<String, serde_json::Value>,
    pub status: CommandStatus,
    pub detail: Option<String>,
    pub created_at: Timestamp,
    pub created_by: String,
    pub expires_at: Timestamp,
    pub sent_at: Option<Timestamp>,
    pub delivered_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

/// Which commands.
#[derive(Clone, PartialEq, Debug, Default)]
#[allow(missing_docs)]
pub struct CommandFilter {
    pub device: Option<DeviceId>,
    pub status: Option<CommandStatus>,
}

// ---- credentials -----------------------------------------------------------------------------------------------

/// What a key may do; a greater role may all that a smaller one may.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)]
pub enum Role {
    Viewer,
    Operator,
    Admin,
}

impl Role {
    /// As in the API, the command line and the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// Reads the word.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Viewer, Self::Operator, Self::Admin].into_iter().find(|r| r.name() == name)
    }
}

/// An API key as stored: never the key itself.
#[derive(Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ApiKey {
    /// The public part, by which it is found and named.
    pub prefix: String,
    /// SHA-256 of the whole key (256 random bits: no slow hash needed).
    pub key_sha256: [u8; 32],
    pub role: Role,
    pub name: String,
    /// Only devices whose id begins with this.
    pub device_prefix: Option<String>,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    /// Exact to a minute.
    pub last_used_at: Option<Timestamp>,
    pub last_used_from: Option<IpAddr>,
}

impl ApiKey {
    /// Neither revoked nor over.
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}

/// How long a command waits when the client does not say.
pub const DEFAULT_COMMAND_LIFE: Duration = Duration::from_secs(24 * 3600);

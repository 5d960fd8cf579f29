//! What a meter said, decoded; and why a payload was refused.

use super::ids::{CommandId, DeviceId};
use super::metric::Telemetry;
use super::time::Timestamp;

/// One message of a meter. Its identity is (`device`, `ts`, `seq`).
#[derive(Clone, PartialEq, Debug)]
pub struct Message {
    /// Who said it; equals the topic's device.
    pub device: DeviceId,
    /// When the message was made, by the meter's clock (version 1 without any time: time of receipt).
    pub ts: Timestamp,
    /// Its place in the meter's count, or its digest.
    pub seq: Sequence,
    /// Version of the envelope: 1 or 2.
    pub version: u8,
    /// What it says.
    pub body: Body,
}

/// The third part of a message's identity.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Sequence {
    /// The meter's own counter over all its message types; restarts at 0 at power-on, wraps after 2³²−1.
    Counted(u32),
    /// The message has no counter (version 1, `status`): a digest of its bytes, so that only a byte-identical payload
    /// of the same time is the same message.
    Digest(u64),
}

impl Sequence {
    /// As stored: 0…2³²−1 for a counted one, negative for a digest (of which 63 bits are kept).
    pub const fn to_i64(self) -> i64 {
        match self {
            Self::Counted(n) => n as i64,
            Self::Digest(d) => (d | 1 << 63) as i64,
        }
    }

    /// The inverse of [`to_i64`](Self::to_i64).
    pub const fn from_i64(stored: i64) -> Self {
        if stored >= 0 { Self::Counted(stored as u32) } else { Self::Digest(stored as u64) }
    }

    /// The counter, where there is one.
    pub const fn counted(self) -> Option<u32> {
        match self {
            Self::Counted(n) => Some(n),
            Self::Digest(_) => None,
        }
    }
}

/// The content of a message, by kind.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub enum Body {
    Telemetry(Telemetry),
    Hello(Hello),
    Status { online: bool },
    CommandAck(CommandAck),
    OtaStatus(OtaStatus),
}

impl Body {
    /// The raw-data category and message kind: `telemetry hello status command_ack ota_status`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Telemetry(_) => "telemetry",
            Self::Hello(_) => "hello",
            Self::Status { .. } => "status",
            Self::CommandAck(_) => "command_ack",
            Self::OtaStatus(_) => "ota_status",
        }
    }
}

/// A heartbeat.
#[derive(Clone, PartialEq, Debug)]
pub struct Hello {
    /// Firmware the meter runs.
    pub fw_version: String,
    /// Seconds since power-on.
    pub uptime_s: u64,
    /// Brokers the meter is connected to.
    pub broker_connections: u32,
    /// Fill of the meter's send buffer, 0…100 %.
    pub buf_usage_pct: f64,
    /// Inside temperature in °C, where it has a sensor.
    pub temp_internal: Option<f64>,
}

/// A meter's answer to a command.
#[derive(Clone, PartialEq, Debug)]
pub struct CommandAck {
    /// The command answered.
    pub cmd_id: CommandId,
    /// What came of it.
    pub result: AckResult,
    /// The meter's words, at most 1024 bytes kept.
    pub detail: Option<String>,
}

/// What came of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum AckResult {
    Accepted,
    Rejected,
    Error,
    Unsupported,
}

impl AckResult {
    /// As on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Error => "error",
            Self::Unsupported => "unsupported",
        }
    }

    /// Reads the wire's word.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Accepted, Self::Rejected, Self::Error, Self::Unsupported].into_iter().find(|r| r.name() == name)
    }
}

/// Progress of a firmware update.
#[derive(Clone, PartialEq, Debug)]
pub struct OtaStatus {
    /// The `start_ota` command it belongs to.
    pub cmd_id: CommandId,
    /// `downloading verifying applying success failed`.
    pub state: OtaState,
    /// 0…100 %.
    pub progress_pct: f64,
    /// The version being installed.
    pub fw_version_target: String,
    /// The meter's words, at most 1024 bytes kept.
    pub detail: Option<String>,
}

/// Stage of a firmware update.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum OtaState {
    Downloading,
    Verifying,
    Applying,
    Success,
    Failed,
}

impl OtaState {
    /// As on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Downloading => "downloading",
            Self::Verifying => "verifying",
            Self::Applying => "applying",
            Self::Success => "success",
            Self::Failed => "failed",
        }
    }

    /// Reads the wire's word.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Downloading, Self::Verifying, Self::Applying, Self::Success, Self::Failed]
            .into_iter()
            .find(|s| s.name() == name)
    }
}

/// Why a payload is kept as `invalid` instead of being stored. The names are those of the vectors.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum Refusal {
    /// Not JSON or CBOR, or not an object.
    Malformed,
    UnknownVersion,
    /// The payload's `device_id` is not the topic's.
    DeviceMismatch,
    BadTimestamp,
    /// `ts` outside the accepted window.
    TimestampOutOfRange,
    BadSeq,
    /// `msg_type` is not the topic's.
    BadMsgType,
    NoMeasurements,
    TooManyMeasurements,
    /// A required field is missing or has a wrong type or value.
    BadField,
    /// The device is not registered and `ingest.unknown_devices = refuse`.
    UnknownDevice,
    /// The topic is none of the meter topics.
    UnknownTopic,
}

impl Refusal {
    /// All reasons: the label values of the counter.
    pub const ALL: [Self; 12] = [
        Self::Malformed,
        Self::UnknownVersion,
        Self::DeviceMismatch,
        Self::BadTimestamp,
        Self::TimestampOutOfRange,
        Self::BadSeq,
        Self::BadMsgType,
        Self::NoMeasurements,
        Self::TooManyMeasurements,
        Self::BadField,
        Self::UnknownDevice,
        Self::UnknownTopic,
    ];

    /// The reason's name in metrics, the archive and the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownVersion => "unknown_version",
            Self::DeviceMismatch => "device_mismatch",
            Self::BadTimestamp => "bad_timestamp",
            Self::TimestampOutOfRange => "timestamp_out_of_range",
            Self::BadSeq => "bad_seq",
            Self::BadMsgType => "bad_msg_type",
            Self::NoMeasurements => "no_measurements",
            Self::TooManyMeasurements => "too_many_measurements",
            Self::BadField => "bad_field",
            Self::UnknownDevice => "unknown_device",
            Self::UnknownTopic => "unknown_topic",
        }
    }
}

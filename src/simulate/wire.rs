//! The bytes a meter sends and reads: version 2 JSON, written and read here on purpose without the server's decoder, so that
//! each tests the other.
//!
//! Does not know: when something is sent, or why.

use std::borrow::Cow;

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::Timestamp;
use crate::domain::message::{AckResult, OtaState};

/// Kind of message, and with it topic, QoS and retain flag.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum Kind {
    Telemetry,
    Hello,
    Status,
    CommandAck,
    OtaStatus,
}

impl Kind {
    /// All kinds, in the order of the report.
    pub const ALL: [Self; 5] = [Self::Telemetry, Self::Hello, Self::Status, Self::CommandAck, Self::OtaStatus];

    /// The message type's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Telemetry => "telemetry",
            Self::Hello => "hello",
            Self::Status => "status",
            Self::CommandAck => "command_ack",
            Self::OtaStatus => "ota_status",
        }
    }

    /// Last levels of the topic.
    pub const fn topic_end(self) -> &'static str {
        match self {
            Self::Telemetry => "telemetry",
            Self::Hello => "hello",
            Self::Status => "status",
            Self::CommandAck => "command/ack",
            Self::OtaStatus => "ota/status",
        }
    }

    /// Whether a meter publishes it at QoS 2, else at QoS 1.
    pub const fn is_exactly_once(self) -> bool {
        matches!(self, Self::Telemetry | Self::Hello | Self::CommandAck)
    }
}

/// One message, ready to be published; the same bytes go to every broker.
#[derive(Clone, PartialEq, Debug)]
pub struct Outgoing {
    /// What it is.
    pub kind: Kind,
    /// Its JSON.
    pub payload: Bytes,
}

/// The envelope's fields every message but `status` has.
#[derive(Clone, Copy)]
pub(super) struct Head<'a> {
    pub device_id: &'a str,
    pub ts: Timestamp,
    pub seq: u32,
}

/// One measurement as it goes out.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Measurement {
    #[serde(serialize_with = "millis")]
    pub ts: Timestamp,
    #[serde(rename = "type")]
    pub name: &'static str,
    #[serde(serialize_with = "short")]
    pub val: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<&'static str>,
}

/// A meter writes `750`, not `750.0`.
fn short<S: serde::Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
    if value.fract() == 0.0 && value.abs() < 1e15 { to.serialize_i64(*value as i64) } else { to.serialize_f64(*value) }
}

fn millis<S: serde::Serializer>(ts: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&text(*ts))
}

fn text(ts: Timestamp) -> String {
    let time = DateTime::from_timestamp_micros(ts.micros()).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[derive(Serialize)]
struct Envelope<'a, B: Serialize> {
    v: u8,
    device_id: &'a str,
    #[serde(serialize_with = "millis")]
    ts: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    msg_type: Option<&'static str>,
    #[serde(flatten)]
    body: B,
}

fn encode<B: Serialize>(kind: Kind, device_id: &str, ts: Timestamp, seq: Option<u32>, body: B) -> Outgoing {
    let msg_type = seq.map(|_| kind.name());
    let envelope = Envelope { v: 2, device_id, ts, seq, msg_type, body };
    let json = serde_json::to_vec(&envelope).expect("structs with text keys and finite numbers always serialise");
    Outgoing { kind, payload: json.into() }
}

/// A measurement datagram.
pub(super) fn telemetry(head: Head<'_>, measurements: &[Measurement]) -> Outgoing {
    #[derive(Serialize)]
    struct Body<'a> {
        measurements: &'a [Measurement],
    }
    encode(Kind::Telemetry, head.device_id, head.ts, Some(head.seq), Body { measurements })
}

/// What a heartbeat says.
#[derive(Serialize)]
pub(super) struct Hello<'a> {
    pub fw_version: &'a str,
    pub uptime_s: u64,
    pub broker_connections: usize,
    #[serde(serialize_with = "short")]
    pub buf_usage_pct: f64,
    pub temp_internal: f64,
}

/// A heartbeat.
pub(super) fn hello(head: Head<'_>, body: &Hello<'_>) -> Outgoing {
    encode(Kind::Hello, head.device_id, head.ts, Some(head.seq), body)
}

/// Presence; also the last will.
pub(super) fn status(device_id: &str, ts: Timestamp, online: bool) -> Outgoing {
    #[derive(Serialize)]
    struct Body {
        status: &'static str,
    }
    encode(Kind::Status, device_id, ts, None, Body { status: if online { "online" } else { "offline" } })
}

/// The answer to a command.
pub(super) fn command_ack(head: Head<'_>, cmd_id: Uuid, result: AckResult, detail: Option<&str>) -> Outgoing {
    #[derive(Serialize)]
    struct Body<'a> {
        cmd_id: Uuid,
        result: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<&'a str>,
    }
    let body = Body { cmd_id, result: result.name(), detail };
    encode(Kind::CommandAck, head.device_id, head.ts, Some(head.seq), body)
}

/// Progress of a firmware update.
pub(super) struct Progress<'a> {
    pub cmd_id: Uuid,
    pub state: OtaState,
    pub pct: u8,
    pub target: &'a str,
    pub detail: Option<&'a str>,
}

/// Reports progress of a firmware update.
pub(super) fn ota_status(head: Head<'_>, progress: &Progress<'_>) -> Outgoing {
    #[derive(Serialize)]
    struct Body<'a> {
        cmd_id: Uuid,
        ota_state: &'static str,
        progress_pct: u8,
        fw_version_target: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<&'a str>,
    }
    let Progress { cmd_id, state, pct, target, detail } = *progress;
    let body = Body { cmd_id, ota_state: state.name(), progress_pct: pct, fw_version_target: target, detail };
    encode(Kind::OtaStatus, head.device_id, head.ts, Some(head.seq), body)
}

/// A command as it comes in. The simulator holds no command key, so a signature is not looked at.
#[derive(Deserialize)]
pub(super) struct Command<'a> {
    pub cmd_id: Uuid,
    #[serde(borrow)]
    pub device_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub cmd: Cow<'a, str>,
    #[serde(default)]
    pub params: serde_json::Value,
}

/// Parameters of `update_config`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfigParams {
    pub sampling_cadence_ms: Option<u32>,
    pub send_interval_s: Option<u32>,
    pub hello_interval_s: Option<u32>,
    pub brokers: Option<Vec<Broker>>,
}

/// A broker as configured by command.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broker {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// Parameters of `start_ota`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OtaParams {
    pub fw_version: String,
    pub fw_url: String,
    pub fw_sha256: String,
    pub fw_size_bytes: u64,
}

//! Domain → payload, version 2, in JSON and CBOR by one description: what a meter sends. For the simulator, the load
//! generator and the tests; and a message's members as they are stored.

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use crate::domain::{Body, CommandId, Message, Telemetry, Timestamp};

/// What a payload is written in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum Form {
    Json,
    Cbor,
}

impl Form {
    /// The MQTT 5 content type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Cbor => "application/cbor",
        }
    }
}

/// The payload of `message`, as a version 2 meter writes it (whatever [`Message::version`] says). Measurements come in
/// the order of time slots; a status has no counter.
pub fn encode(message: &Message, form: Form) -> Vec<u8> {
    match form {
        Form::Json => serde_json::to_vec(&Envelope(message)).expect("texts and finite numbers are always JSON"),
        Form::Cbor => minicbor_serde::to_vec(Envelope(message)).expect("writing to memory does not fail"),
    }
}

/// The members of a message's kind as a JSON object, as events are stored; empty for telemetry.
pub fn body_json(body: &Body) -> serde_json::Value {
    let members = members(body).into_iter().map(|(name, value)| {
        let value = serde_json::to_value(value).expect("texts and finite numbers are always JSON");
        (name.to_owned(), value)
    });
    serde_json::Value::Object(members.collect())
}

struct Envelope<'a>(&'a Message);

impl Serialize for Envelope<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Message { device, ts, seq, version: _, body } = self.0;
        let is_status = matches!(body, Body::Status { .. });
        let counter = seq.counted().filter(|_| !is_status);
        let telemetry = match body {
            Body::Telemetry(telemetry) => Some(Measurements { ts: *ts, telemetry }),
            _ => None,
        };
        let members = members(body);
        let optional = [counter.is_some(), !is_status, telemetry.is_some()].into_iter().filter(|is| *is).count();
        let mut map = serializer.serialize_map(Some(3 + optional + members.len()))?;
        map.serialize_entry("v", &2_u8)?;
        map.serialize_entry("device_id", device.as_str())?;
        map.serialize_entry("ts", &Time(*ts))?;
        if let Some(counter) = counter {
            map.serialize_entry("seq", &counter)?;
        }
        if !is_status {
            map.serialize_entry("msg_type", body.kind())?;
        }
        if let Some(measurements) = telemetry {
            map.serialize_entry("measurements", &measurements)?;
        }
        for (name, value) in &members {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// A member's value.
enum Member<'a> {
    Text(&'a str),
    Unsigned(u64),
    Number(f64),
    Command(CommandId),
}

impl Serialize for Member<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Unsigned(n) => serializer.serialize_u64(*n),
            Self::Number(n) => serializer.serialize_f64(*n),
            Self::Command(id) => serializer.collect_str(id),
        }
    }
}

/// The members of a kind of message but telemetry.
fn members(body: &Body) -> Vec<(&'static str, Member<'_>)> {
    let (mut members, detail) = match body {
        Body::Telemetry(_) => return Vec::new(),
        Body::Hello(hello) => {
            let mut members = vec![
                ("fw_version", Member::Text(&hello.fw_version)),
                ("uptime_s", Member::Unsigned(hello.uptime_s)),
                ("broker_connections", Member::Unsigned(hello.broker_connections.into())),
                ("buf_usage_pct", Member::Number(hello.buf_usage_pct)),
            ];
            members.extend(hello.temp_internal.map(|celsius| ("temp_internal", Member::Number(celsius))));
            (members, None)
        }
        Body::Status { online } => (vec![("status", Member::Text(if *online { "online" } else { "offline" }))], None),
        Body::CommandAck(ack) => {
            let members = vec![("cmd_id", Member::Command(ack.cmd_id)), ("result", Member::Text(ack.result.name()))];
            (members, ack.detail.as_deref())
        }
        Body::OtaStatus(ota) => {
            let members = vec![
                ("cmd_id", Member::Command(ota.cmd_id)),
                ("ota_state", Member::Text(ota.state.name())),
                ("progress_pct", Member::Number(ota.progress_pct)),
                ("fw_version_target", Member::Text(&ota.fw_version_target)),
            ];
            (members, ota.detail.as_deref())
        }
    };
    members.extend(detail.map(|detail| ("detail", Member::Text(detail))));
    members
}

/// A time as text, written straight into the output.
struct Time(Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

struct Measurements<'a> {
    ts: Timestamp,
    telemetry: &'a Telemetry,
}

impl Serialize for Measurements<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.telemetry.len()))?;
        for (slot, offset_us) in self.telemetry.offsets_us.iter().enumerate() {
            for series in self.telemetry.series.iter().filter(|series| !series.values[slot].is_nan()) {
                list.serialize_element(&Measurement {
                    ts: self.ts.plus_us(*offset_us),
                    name: series.metric.name(),
                    value: series.values[slot],
                    unit: series.unit(),
                })?;
            }
        }
        list.end()
    }
}

struct Measurement<'a> {
    ts: Timestamp,
    name: &'a str,
    value: f64,
    unit: Option<&'a str>,
}

impl Serialize for Measurement<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3 + usize::from(self.unit.is_some())))?;
        map.serialize_entry("ts", &Time(self.ts))?;
        map.serialize_entry("type", self.name)?;
        map.serialize_entry("val", &self.value)?;
        if let Some(unit) = self.unit {
            map.serialize_entry("unit", unit)?;
        }
        map.end()
    }
}

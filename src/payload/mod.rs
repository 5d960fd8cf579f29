//! Payload bytes ⇄ domain: version 1 and 2 of the meter protocol in JSON and CBOR. Pure.
//!
//! Promise: [`decode`] never panics and never loses a good measurement beside a bad one; the same structure in JSON and
//! in CBOR gives the same [`Message`]. Both forms are read into one neutral form (`draft`), which the rules of version 1
//! (`v1`) and 2 (`v2`) judge in a fixed order: malformed → version → device → time → window → sequence number → message
//! type → fields. Must not know: files, sockets, the store.
//!
//! Malformed is: not UTF-8, not one JSON or CBOR map and nothing else (no byte order mark, nothing behind it), or a
//! member that is read here named twice. Names not known here are skipped.
//!
//! A measurement without a number, with a bad name, outside the window or more than 24 h from its message's `ts` is
//! dropped and counted (`Telemetry::dropped`): a datagram covers one send interval (an hour at most) and steps of the
//! clock. So no single sample can make every later read of its device look through years of messages.
//!
//! Start from [`parse_topic`] and [`decode`]; [`encode()`] is the way back, for the simulator and for tests, and
//! [`encode_command`] makes what meters receive. [`csv`] reads the tables that people bring.

mod cbor;
mod classes;
mod command;
pub mod csv;
mod draft;
mod encode;
mod fields;
mod json;
mod params;
mod plain;
mod repair;
mod topic;
mod v1;
mod v2;

#[cfg(test)]
mod tests;

use crate::domain::{DeviceId, Message, Refusal, Timestamp};

pub use classes::{Class, Classes};
pub use command::{CommandRefusal, ReceivedCommand, canonical_json, decode_command, encode_command};
pub use encode::{Form, body_json, encode};
pub use params::{ParamFault, validate_command};
pub use topic::{command_topic, parse_topic, topic};

use draft::{Draft, Malformed};

/// What kind of message a topic carries.
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
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Telemetry, Self::Hello, Self::Status, Self::CommandAck, Self::OtaStatus];

    /// The `msg_type`, and the raw-data category.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Telemetry => "telemetry",
            Self::Hello => "hello",
            Self::Status => "status",
            Self::CommandAck => "command_ack",
            Self::OtaStatus => "ota_status",
        }
    }

    /// What follows the device id in the topic.
    pub const fn topic_suffix(self) -> &'static str {
        match self {
            Self::Telemetry => "telemetry",
            Self::Hello => "hello",
            Self::Status => "status",
            Self::CommandAck => "command/ack",
            Self::OtaStatus => "ota/status",
        }
    }
}

/// Accepted range of `ts`, relative to the time of receipt (so that a replay judges as the first time did).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Oldest accepted: receipt − this (retention, 400 days by default).
    pub past: std::time::Duration,
    /// Newest accepted: receipt + this (24 h).
    pub future: std::time::Duration,
}

/// What is known of a message before its payload is read.
struct Context<'a> {
    device: &'a DeviceId,
    kind: Kind,
    payload: &'a [u8],
    received_at: Timestamp,
    oldest: Timestamp,
    newest: Timestamp,
}

impl Context<'_> {
    fn is_in_window(&self, ts: Timestamp) -> bool {
        (self.oldest..=self.newest).contains(&ts)
    }
}

/// Decodes one message. `content_type` empty = not said. Never panics, whatever the bytes.
pub fn decode(
    device: &DeviceId,
    kind: Kind,
    content_type: &str,
    payload: &[u8],
    received_at: Timestamp,
    window: Window,
) -> Result<Message, Refusal> {
    let past_us = i64::try_from(window.past.as_micros()).unwrap_or(i64::MAX);
    let context = Context {
        device,
        kind,
        payload,
        received_at,
        oldest: received_at.plus_us(past_us.saturating_neg()),
        newest: received_at.plus(window.future),
    };
    if is_cbor(content_type, payload) {
        return judge(&context, cbor::draft(payload)?, || cbor::flat(payload));
    }
    let text = std::str::from_utf8(payload).map_err(|_| Refusal::Malformed)?;
    let judged = json_draft(text).map_err(Refusal::from);
    match judged.and_then(|draft| judge(&context, draft, || json::flat(text))) {
        // Some meters print NaN or an overflowing number where JSON has no word for it: that is one bad value.
        Err(Refusal::Malformed) => {
            let repaired = |instead| repair::without_non_finite(text, instead).ok_or(Refusal::Malformed);
            let (nulls, zeros) = (repaired("null")?, repaired("0")?);
            judge(&context, json_draft(&nulls)?, || json::flat_of_repaired(&nulls, &zeros))
        }
        judged => judged,
    }
}

fn json_draft(text: &str) -> Result<Draft<'_>, Malformed> {
    plain::draft(text).map_or_else(|| json::draft(text), Ok)
}

fn is_cbor(content_type: &str, payload: &[u8]) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case("application/cbor") || matches!(payload.first(), Some(0xA0..=0xBF))
}

/// Judges by the rules of the version the payload names; `flat` reads the payload as a flat object of numbers.
fn judge<'a>(
    context: &Context<'_>,
    draft: Draft<'a>,
    flat: impl FnOnce() -> Result<draft::Flat<'a>, Malformed>,
) -> Result<Message, Refusal> {
    match draft.version()? {
        1 => v1::message(context, &draft, flat),
        _ => v2::message(context, draft),
    }
}

impl From<Malformed> for Refusal {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

//! Payload bytes ⇄ domain. Pure. (to be written; the signature is fixed)

use crate::domain::{DeviceId, Message, Refusal, Timestamp};

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

/// Splits `iot/{device_id}/{telemetry|hello|status|command/ack|ota/status}`; `None` for any other topic.
pub fn parse_topic(_topic: &str) -> Option<(&str, Kind)> {
    unimplemented!()
}

/// Accepted range of `ts`, relative to the time of receipt (so that a replay judges as the first time did).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Oldest accepted: receipt − this (retention, 400 days by default).
    pub past: std::time::Duration,
    /// Newest accepted: receipt + this (24 h).
    pub future: std::time::Duration,
}

/// Decodes one message. `content_type` empty = not said. Never panics, whatever the bytes.
pub fn decode(
    _device: &DeviceId,
    _kind: Kind,
    _content_type: &str,
    _payload: &[u8],
    _received_at: Timestamp,
    _window: Window,
) -> Result<Message, Refusal> {
    unimplemented!()
}

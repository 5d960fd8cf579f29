//! What a record is filed under: its device, its category, and what its payload says about itself.
//!
//! Invariant: nothing makes a record unfit for the archive; what cannot be decoded gets category `invalid` and a reason.

use crate::domain::{DeviceId, Refusal};
use crate::journal::Record;
use crate::payload::{self, Class, Window};

/// How records are judged; a parameter so that the rest can be tested without payloads.
pub(crate) type Classify = fn(&Record<'_>, Window) -> Class;

/// Judges a record by decoding it.
pub(crate) fn classify(record: &Record<'_>, window: Window) -> Class {
    let known = payload::parse_topic(record.topic).and_then(|(device, kind)| Some((DeviceId::parse(device)?, kind)));
    let decoded = known.ok_or(Refusal::UnknownTopic).and_then(|(device, kind)| {
        payload::decode(&device, kind, record.content_type, record.payload, record.received_at, window)
    });
    Class::from(&decoded)
}

/// The device a record is filed under: the one its topic names, else whoever sent it.
pub(crate) fn device_of<'a>(record: &Record<'a>) -> &'a str {
    let named = record.topic.strip_prefix("iot/").and_then(|rest| rest.split('/').next());
    named.filter(|d| DeviceId::is_valid(d)).unwrap_or(record.identity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;
    use crate::journal::{Flags, Offset};

    #[test]
    fn a_record_is_filed_under_its_topics_device_else_under_its_sender() {
        let check = |topic: &str, expected: &str| {
            let record = Record {
                offset: Offset(0),
                received_at: Timestamp(0),
                topic,
                identity: "sender",
                content_type: "",
                flags: Flags::default(),
                payload: b"",
            };
            assert_eq!(device_of(&record), expected, "{topic}");
        };
        check("iot/m-1/telemetry", "m-1");
        check("iot/m-1/what/ever", "m-1");
        check("iot/m-1", "m-1");
        check("iot/-bad/telemetry", "sender");
        check("elsewhere/m-1/telemetry", "sender");
        check("", "sender");
    }
}

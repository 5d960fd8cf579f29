//! The meter topics. Which topics exist and what they carry, nothing about who may use them.

use crate::domain::DeviceId;

use super::Kind;

/// Splits `iot/{device_id}/{telemetry|hello|status|command/ack|ota/status}`; `None` for any other topic, also when the
/// device id breaks its rule.
pub fn parse_topic(topic: &str) -> Option<(&str, Kind)> {
    let (device, rest) = topic.strip_prefix("iot/")?.split_once('/')?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.topic_suffix() == rest)?;
    DeviceId::is_valid(device).then_some((device, kind))
}

/// The topic on which `device` says messages of `kind`.
pub fn topic(device: &DeviceId, kind: Kind) -> String {
    format!("iot/{device}/{}", kind.topic_suffix())
}

/// The topic on which `device` hears its commands.
pub fn command_topic(device: &DeviceId) -> String {
    format!("iot/{device}/command")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_meter_topics_are_taken_apart() {
        let check = |topic: &str, expected: Option<(&str, Kind)>| assert_eq!(parse_topic(topic), expected, "{topic:?}");
        check("iot/m-1/telemetry", Some(("m-1", Kind::Telemetry)));
        check("iot/m-1/hello", Some(("m-1", Kind::Hello)));
        check("iot/m-1/status", Some(("m-1", Kind::Status)));
        check("iot/m-1/command/ack", Some(("m-1", Kind::CommandAck)));
        check("iot/m-1/ota/status", Some(("m-1", Kind::OtaStatus)));
        check("iot/m-1/command", None);
        check("iot/m-1/telemetry/", None);
        check("iot/m-1/telemetry/x", None);
        check("/iot/m-1/telemetry", None);
        check("iot//telemetry", None);
        check("iot/telemetry", None);
        check("iot/.x/telemetry", None);
        check("IOT/m-1/telemetry", None);
        check("", None);
    }

    #[test]
    fn a_topic_made_is_the_topic_read() {
        let device = DeviceId::parse("m-1").expect("valid");
        for kind in Kind::ALL {
            assert_eq!(parse_topic(&topic(&device, kind)), Some(("m-1", kind)));
        }
    }
}

//! Who may publish and subscribe what. Pure; what is not allowed here is denied.
//!
//! A device speaks on its own meter topics only and listens to its own commands only; its last will may only say its
//! status. A service listens to everything and says nothing. Without authentication everybody may do everything but speak
//! for the server: nobody publishes under `$SYS/` or to the name of a shared subscription.

use super::auth::Identity;
use crate::payload::{Kind, parse_topic};

/// Whether `who` may publish to `topic`.
pub(super) fn may_publish(who: &Identity, topic: &str) -> bool {
    match who {
        Identity::Open => !topic.starts_with("$SYS/") && !topic.starts_with("$share/"),
        Identity::Device(id) => parse_topic(topic).is_some_and(|(device, _)| device == id.as_str()),
        Identity::Service(_) => false,
    }
}

/// Whether `who` may leave a last will for `topic`.
pub(super) fn may_will(who: &Identity, topic: &str) -> bool {
    match who {
        Identity::Open => may_publish(who, topic),
        Identity::Device(id) => parse_topic(topic) == Some((id.as_str(), Kind::Status)),
        Identity::Service(_) => false,
    }
}

/// Whether `who` may subscribe to `filter`.
pub(super) fn may_subscribe(who: &Identity, filter: &str) -> bool {
    match who {
        Identity::Open | Identity::Service(_) => true,
        Identity::Device(id) => command_device(filter) == Some(id.as_str()),
    }
}

/// The device of `iot/{device}/command`.
pub(super) fn command_device(topic: &str) -> Option<&str> {
    let device = topic.strip_prefix("iot/")?.strip_suffix("/command")?;
    crate::domain::DeviceId::is_valid(device).then_some(device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::DeviceId;

    #[test]
    fn a_device_speaks_for_itself_only() {
        let device = Identity::Device(DeviceId::parse("m1").unwrap());
        let service = Identity::Service("grafana".into());
        let check = |topic: &str, publish: bool, will: bool, subscribe: bool| {
            assert_eq!(may_publish(&device, topic), publish, "publish {topic}");
            assert_eq!(may_will(&device, topic), will, "will {topic}");
            assert_eq!(may_subscribe(&device, topic), subscribe, "subscribe {topic}");
            assert!(!may_publish(&service, topic) && !may_will(&service, topic) && may_subscribe(&service, topic));
            let open = &Identity::Open;
            assert!(may_publish(open, topic) && may_will(open, topic) && may_subscribe(open, topic));
        };
        check("iot/m1/telemetry", true, false, false);
        check("iot/m1/hello", true, false, false);
        check("iot/m1/status", true, true, false);
        check("iot/m1/command/ack", true, false, false);
        check("iot/m1/ota/status", true, false, false);
        check("iot/m1/command", false, false, true);
        check("iot/m2/telemetry", false, false, false);
        check("iot/m2/command", false, false, false);
        check("iot/m1", false, false, false);
        check("other", false, false, false);
        assert!(!may_publish(&Identity::Open, "$SYS/broker/uptime") && !may_will(&Identity::Open, "$share/g/a"));
        assert!(!may_subscribe(&device, "$share/g/iot/m1/command") && !may_subscribe(&device, "$SYS/#"));
        assert!(!may_subscribe(&device, "iot/+/command") && !may_subscribe(&device, "#"));
    }
}

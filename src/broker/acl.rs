//! Who may publish and subscribe what. Pure; what is not allowed here is denied.
//!
//! A device speaks on its own meter topics only and listens to its own commands only; its last will may only say its
//! status. A service does what its filters cover; what `$SYS` says only where a filter begins so. Without authentication everybody may do everything but speak
//! for the server: nobody publishes under `$SYS/` or to the name of a shared subscription.

use super::auth::Identity;
use crate::mqtt::{cover, topic};
use crate::payload::{Kind, parse_topic};

/// Whether `who` may publish to `topic`.
pub(super) fn may_publish(who: &Identity, topic: &str) -> bool {
    match who {
        Identity::Open => !is_servers(topic),
        Identity::Device(id) => parse_topic(topic).is_some_and(|(device, _)| device == id.as_str()),
        Identity::Service(grant) => !is_servers(topic) && grant.write.iter().any(|f| topic::matches(f, topic)),
    }
}

/// Whether `who` may leave a last will for `topic`.
pub(super) fn may_will(who: &Identity, topic: &str) -> bool {
    match who {
        Identity::Open => may_publish(who, topic),
        Identity::Device(id) => parse_topic(topic) == Some((id.as_str(), Kind::Status)),
        Identity::Service(_) => may_publish(who, topic),
    }
}

/// Whether `who` may subscribe to `filter`.
pub(super) fn may_subscribe(who: &Identity, filter: &str) -> bool {
    match who {
        Identity::Open => true,
        Identity::Service(grant) => {
            let wanted = topic::split_share(filter).map_or(filter, |(_, shared)| shared);
            grant.read.iter().any(|granted| cover::covers(granted, wanted))
        }
        Identity::Device(id) => command_device(filter) == Some(id.as_str()),
    }
}

/// Whether only the server may say something there.
fn is_servers(topic: &str) -> bool {
    topic.starts_with("$SYS/") || topic.starts_with("$share/")
}

/// The device of `iot/{device}/command`.
pub(super) fn command_device(topic: &str) -> Option<&str> {
    let device = topic.strip_prefix("iot/")?.strip_suffix("/command")?;
    crate::domain::DeviceId::is_valid(device).then_some(device)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::auth::Grant;
    use super::*;
    use crate::domain::DeviceId;

    #[test]
    fn a_device_speaks_for_itself_only() {
        let device = Identity::Device(DeviceId::parse("m1").unwrap());
        let check = |topic: &str, publish: bool, will: bool, subscribe: bool| {
            assert_eq!(may_publish(&device, topic), publish, "publish {topic}");
            assert_eq!(may_will(&device, topic), will, "will {topic}");
            assert_eq!(may_subscribe(&device, topic), subscribe, "subscribe {topic}");
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

    #[test]
    fn a_service_does_what_its_filters_cover() {
        let list = |filters: &[&str]| filters.iter().map(|f| (*f).to_owned()).collect();
        let grant = |read: &[&str], write: &[&str]| {
            let grant = Grant { name: "s".into(), token_sha256: [0; 32], read: list(read), write: list(write) };
            Identity::Service(Arc::new(grant))
        };
        let service = grant(&["iot/+/telemetry", "app/#"], &["app/#", "iot/m1/command"]);
        let check = |topic: &str, publish: bool, subscribe: bool| {
            assert_eq!(may_publish(&service, topic), publish, "publish {topic}");
            assert_eq!(may_will(&service, topic), publish, "will {topic}");
            assert_eq!(may_subscribe(&service, topic), subscribe, "subscribe {topic}");
        };
        check("iot/m1/telemetry", false, true);
        check("iot/m1/command", true, false);
        check("app", true, true);
        check("app/x/y", true, true);
        check("other", false, false);
        for (filter, granted) in [
            ("iot/+/telemetry", true),
            ("$share/g/iot/+/telemetry", true),
            ("app/+/#", true),
            ("iot/+/#", false),
            ("$share/g/#", false),
            ("+/m1/telemetry", false),
            ("#", false),
            ("$SYS/#", false),
        ] {
            assert_eq!(may_subscribe(&service, filter), granted, "{filter}");
        }
        let all = grant(&["#"], &["#"]);
        assert!(may_subscribe(&all, "#") && !may_subscribe(&all, "$SYS/#") && may_publish(&all, "x"));
        assert!(!may_publish(&grant(&[], &["$SYS/#", "$share/#"]), "$SYS/x"), "that is the server's");
        assert!(may_subscribe(&grant(&["$SYS/#"], &[]), "$SYS/broker/uptime"));
        let none = grant(&[], &[]);
        assert!(!may_subscribe(&none, "a") && !may_publish(&none, "a"));
    }
}

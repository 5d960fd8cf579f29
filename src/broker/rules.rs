//! What a logged-in client may publish and subscribe: permissions and limits, as the reason it is refused for. Pure.

use super::acl;
use super::auth::Identity;
use super::options::Options;
use crate::mqtt::{Publish, Reason, topic};

/// Why a publish goes nowhere; `None` = it may.
pub(super) fn refuse_publish(options: &Options, who: &Identity, publish: &Publish) -> Option<Reason> {
    if !acl::may_publish(who, &publish.topic) {
        return Some(Reason::NotAuthorized);
    }
    let is_short = fits(options, &publish.topic);
    (!is_short).then_some(Reason::TopicNameInvalid)
}

/// Why a filter is not granted; `None` = it is.
pub(super) fn refuse_subscription(options: &Options, who: &Identity, filter: &str) -> Option<Reason> {
    let inner = topic::split_share(filter).map_or(filter, |(_, inner)| inner);
    if options.refused_filters.iter().any(|refused| refused == filter) {
        return Some(Reason::Unspecified);
    }
    if !acl::may_subscribe(who, filter) {
        return Some(Reason::NotAuthorized);
    }
    (!fits(options, inner)).then_some(Reason::TopicFilterInvalid)
}

fn fits(options: &Options, topic: &str) -> bool {
    topic.len() <= options.max_topic_length && topic.split('/').count() <= options.max_topic_levels
}

/// A refusal for people.
pub(super) const fn explain(reason: Reason) -> &'static str {
    match reason {
        Reason::NotAuthorized => "this client is not allowed to do that",
        Reason::TopicNameInvalid => "the topic is longer or deeper than mqtt.max_topic_length or mqtt.max_topic_levels",
        Reason::TopicFilterInvalid => {
            "the filter is longer or deeper than mqtt.max_topic_length or mqtt.max_topic_levels"
        }
        Reason::QuotaExceeded => "a limit of the server is reached",
        Reason::Unspecified => "refused by the server's settings",
        Reason::BadUserNameOrPassword => "unknown user name or wrong password",
        Reason::ClientIdentifierNotValid => "this client id is not allowed",
        Reason::BadAuthenticationMethod => "enhanced authentication is not offered",
        Reason::PacketTooLarge => "larger than the server takes",
        Reason::ServerUnavailable => "the server cannot check the credentials now",
        _ => "refused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::DeviceId;

    #[test]
    fn limits_and_permissions_have_their_own_reasons() {
        let options = Options {
            max_topic_length: 30,
            max_topic_levels: 3,
            refused_filters: vec!["test/nosubscribe".into()],
            ..Options::default()
        };
        let device = Identity::Device(DeviceId::parse("m1").unwrap());
        let publish = |who: &Identity, topic: &str| {
            refuse_publish(&options, who, &Publish { topic: topic.into(), ..Publish::default() })
        };
        let subscribe = |who: &Identity, filter: &str| refuse_subscription(&options, who, filter);
        let open = &Identity::Open;
        assert_eq!(publish(open, "a/b/c"), None);
        assert_eq!(publish(open, "a/b/c/d"), Some(Reason::TopicNameInvalid));
        assert_eq!(publish(open, &"a".repeat(31)), Some(Reason::TopicNameInvalid));
        assert_eq!(publish(open, "$SYS/x"), Some(Reason::NotAuthorized));
        assert_eq!(publish(&device, "iot/m2/status"), Some(Reason::NotAuthorized));
        assert_eq!(subscribe(open, "test/nosubscribe"), Some(Reason::Unspecified));
        assert_eq!(subscribe(open, "$share/group/a/b/c"), None);
        assert_eq!(subscribe(open, "a/b/c/#"), Some(Reason::TopicFilterInvalid));
        assert_eq!(subscribe(&device, "$share/g/iot/m2/command"), Some(Reason::NotAuthorized));
        assert_eq!(subscribe(&device, "iot/m1/command"), None);
    }
}

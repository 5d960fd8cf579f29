//! What a logged-in client may publish and subscribe: permissions and limits, as the reason it is refused for. Pure.

use super::acl;
use super::auth::Identity;
use super::options::Options;
use crate::mqtt::{Reason, topic};
use crate::payload::{Kind, parse_topic};

/// The meter topic a client was last allowed to publish on: mostly it is the only one, and looked at once.
#[derive(Default)]
pub(super) struct MeterTopic(Option<(Box<str>, Kind)>);

impl MeterTopic {
    /// Why a publish on `topic` goes nowhere, `None` = it may; and what it says, where it may and is a meter's. Always for
    /// the same client and options.
    pub(super) fn judge(&mut self, options: &Options, who: &Identity, topic: &str) -> (Option<Reason>, Option<Kind>) {
        if let Some((last, kind)) = &self.0
            && **last == *topic
        {
            return (None, Some(*kind));
        }
        let refusal = refuse_publish(options, who, topic);
        let meter = parse_topic(topic).map(|(_, kind)| kind).filter(|_| refusal.is_none());
        if let Some(kind) = meter {
            self.0 = Some((topic.into(), kind));
        }
        (refusal, meter)
    }
}

/// Why a publish goes nowhere; `None` = it may.
fn refuse_publish(options: &Options, who: &Identity, topic: &str) -> Option<Reason> {
    if !acl::may_publish(who, topic) {
        return Some(Reason::NotAuthorized);
    }
    let is_short = fits(options, topic);
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
        let publish = |who: &Identity, topic: &str| refuse_publish(&options, who, topic);
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

    #[test]
    fn what_was_said_of_a_meter_topic_is_said_of_no_other() {
        let options = Options { max_topic_length: 30, ..Options::default() };
        let device = Identity::Device(DeviceId::parse("m1").unwrap());
        let judge = |who: &Identity, topics: &[&str]| {
            let mut last = MeterTopic::default();
            topics.iter().map(|topic| last.judge(&options, who, topic)).collect::<Vec<_>>()
        };
        let (telemetry, hello) = ((None, Some(Kind::Telemetry)), (None, Some(Kind::Hello)));
        let (denied, too_long) = ((Some(Reason::NotAuthorized), None), (Some(Reason::TopicNameInvalid), None));
        let long = format!("iot/{}/telemetry", "m".repeat(30));
        let topics =
            ["iot/m1/telemetry", "iot/m1/telemetry", "iot/m2/telemetry", "iot/m1/hello", "a", "iot/m1/telemetry"];
        assert_eq!(judge(&device, &topics), [telemetry, telemetry, denied, hello, denied, telemetry]);
        assert_eq!(judge(&Identity::Open, &topics), [telemetry, telemetry, telemetry, hello, (None, None), telemetry]);
        assert_eq!(judge(&Identity::Open, &[&long, &long, topics[0]]), [too_long, too_long, telemetry]);
    }
}

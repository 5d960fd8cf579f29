//! Topic aliases (MQTT 5 section 3.3.2.3.4): a small number instead of a topic, on one connection, in one direction.
//!
//! Invariant: at most as many as the receiving side allows; they end with the connection `[MQTT-3.3.2-7]`.

use std::collections::HashMap;

use bytestring::ByteString;

use super::Violation;
use crate::mqtt::packet::{Publish, TopicAlias};

/// What the client's numbers stand for.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    topics: HashMap<TopicAlias, ByteString>,
    max: u16,
}

impl Incoming {
    pub(super) fn new(max: u16) -> Self {
        Self { topics: HashMap::new(), max }
    }

    /// Puts the topic into a publish that has an alias, or learns what the alias stands for.
    pub(super) fn resolve(&mut self, publish: &mut Publish) -> Result<(), Violation> {
        let Some(alias) = publish.topic_alias.take() else { return Ok(()) };
        if alias.get() > self.max {
            return Err(Violation::AliasTooLarge); // [MQTT-3.3.2-9]
        }
        if publish.topic.is_empty() {
            publish.topic = self.topics.get(&alias).cloned().ok_or(Violation::AliasUnknown)?;
        } else {
            // A copy: the slice would keep the receive buffer alive.
            self.topics.insert(alias, ByteString::from(&*publish.topic));
        }
        Ok(())
    }
}

/// The numbers the client has been given: to the first topics that come, until there are no more.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    aliases: HashMap<ByteString, TopicAlias>,
    max: u16,
}

impl Outgoing {
    pub(super) fn new(max: u16) -> Self {
        Self { aliases: HashMap::new(), max }
    }

    /// The form of `publish` that is to be sent: with a known alias instead of the topic, or with a new one beside it.
    pub(super) fn shorten(&mut self, publish: &mut Publish) {
        if let Some(alias) = self.aliases.get(&publish.topic) {
            publish.topic_alias = Some(*alias);
            publish.topic = ByteString::new();
        } else if self.aliases.len() < usize::from(self.max) {
            let next = u16::try_from(self.aliases.len() + 1).ok().and_then(TopicAlias::new);
            publish.topic_alias = next;
            self.aliases.extend(next.map(|alias| (publish.topic.clone(), alias)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(topic: &str, alias: u16) -> Publish {
        Publish { topic: topic.into(), topic_alias: TopicAlias::new(alias), ..Publish::default() }
    }

    #[test]
    fn what_one_side_shortens_the_other_resolves() {
        let (mut outgoing, mut incoming) = (Outgoing::new(2), Incoming::new(2));
        for (topic, expected_len) in [("a", 1), ("a", 0), ("b", 1), ("c", 1), ("c", 1), ("b", 0), ("a", 0)] {
            let mut sent = publish(topic, 0);
            outgoing.shorten(&mut sent);
            assert_eq!(sent.topic.len(), expected_len, "{topic}");
            incoming.resolve(&mut sent).unwrap();
            assert_eq!((&*sent.topic, sent.topic_alias), (topic, None));
        }
    }

    #[test]
    fn an_alias_out_of_range_or_unknown_is_a_violation_and_a_new_topic_replaces_the_old() {
        let mut incoming = Incoming::new(2);
        assert_eq!(incoming.resolve(&mut publish("a", 3)), Err(Violation::AliasTooLarge));
        assert_eq!(incoming.resolve(&mut publish("", 2)), Err(Violation::AliasUnknown));
        incoming.resolve(&mut publish("a", 2)).unwrap();
        incoming.resolve(&mut publish("b", 2)).unwrap();
        let mut short = publish("", 2);
        incoming.resolve(&mut short).unwrap();
        assert_eq!(&*short.topic, "b");
        assert_eq!(Incoming::new(0).resolve(&mut publish("a", 1)), Err(Violation::AliasTooLarge));
    }
}

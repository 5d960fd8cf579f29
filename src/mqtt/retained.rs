//! The last retained message of each topic (section 3.3.1.3), bounded by number and by bytes.
//!
//! Policy when full: a topic that is not kept yet is refused and the caller counts it; replacing and removing always
//! work, so a kept value is never stale. Knows nothing of subscribers.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use super::packet::QoS;
use super::queue::Message;
use super::topic;

/// What came of [`Retained::set`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Kept {
    Stored,
    Removed,
    Refused,
}

/// The store.
#[derive(Debug)]
pub struct Retained {
    by_topic: BTreeMap<Box<str>, (Arc<Message>, QoS)>,
    bytes: usize,
    max_count: usize,
    max_bytes: usize,
}

impl Retained {
    /// An empty store with its limits.
    pub const fn new(max_count: usize, max_bytes: usize) -> Self {
        Self { by_topic: BTreeMap::new(), bytes: 0, max_count, max_bytes }
    }

    /// Keeps the message instead of its topic's former one `[MQTT-3.3.1-5]`; an empty payload removes it
    /// `[MQTT-3.3.1-10]`, `[MQTT-3.3.1-11]`. A value that cannot be kept for its size removes the former one as well.
    pub fn set(&mut self, message: Arc<Message>, qos: QoS) -> Kept {
        if let Some((old, _)) = self.by_topic.get(&*message.topic) {
            self.bytes -= old.size();
            self.by_topic.remove(&*message.topic);
        }
        if message.payload.is_empty() {
            return Kept::Removed;
        }
        let bytes = self.bytes + message.size();
        if self.by_topic.len() >= self.max_count || bytes > self.max_bytes {
            return Kept::Refused;
        }
        self.bytes = bytes;
        self.by_topic.insert((&*message.topic).into(), (message, qos));
        Kept::Stored
    }

    /// The message of this very topic.
    pub fn get(&self, topic: &str) -> Option<(&Arc<Message>, QoS)> {
        self.by_topic.get(topic).map(|(message, qos)| (message, *qos))
    }

    /// Forgets what has expired `[MQTT-3.3.2-5]`; gives the topics.
    pub fn expire(&mut self, now: Instant) -> Vec<Box<str>> {
        let topics: Vec<_> =
            self.by_topic.iter().filter(|(_, (m, _))| m.is_expired(now)).map(|(topic, _)| topic.clone()).collect();
        for topic in &topics {
            if let Some((message, _)) = self.by_topic.remove(topic) {
                self.bytes -= message.size();
            }
        }
        topics
    }

    /// Calls `each` with every kept message that matches `filter` and has not expired, in the order of the topics.
    pub fn matching(&self, filter: &str, now: Instant, mut each: impl FnMut(&Arc<Message>, QoS)) {
        if !topic::has_wildcard(filter) {
            if let Some((message, qos)) = self.by_topic.get(filter).filter(|(m, _)| !m.is_expired(now)) {
                each(message, *qos);
            }
            return;
        }
        let literal = filter.find(['+', '#']).map_or(filter, |at| &filter[..at]);
        let prefix = literal.strip_suffix('/').unwrap_or(literal); // `sport/#` matches `sport`
        let from = (Bound::Included(prefix), Bound::Unbounded);
        for (name, (message, qos)) in self.by_topic.range::<str, _>(from) {
            if !name.starts_with(prefix) {
                break;
            }
            if topic::matches(filter, name) && !message.is_expired(now) {
                each(message, *qos);
            }
        }
    }

    /// Number of messages kept.
    pub fn len(&self) -> usize {
        self.by_topic.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.by_topic.is_empty()
    }

    /// What they count for in the byte limit.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(store: &mut Retained, topic: &str, payload: &str) -> Kept {
        store.set(Message::detached(topic, payload.as_bytes()), QoS::AtLeastOnce)
    }

    fn topics(store: &Retained, filter: &str) -> Vec<String> {
        let mut found = Vec::new();
        store.matching(filter, Instant::now(), |m, _| found.push(m.topic.to_string()));
        found
    }

    #[test]
    fn a_filter_finds_what_it_matches_and_nothing_else() {
        let mut store = Retained::new(100, 100_000);
        for name in ["sport", "sport/a", "sport/a/b", "sports", "iot/m1/status", "iot/m2/status", "$SYS/x", "/x"] {
            assert_eq!(set(&mut store, name, "1"), Kept::Stored);
        }
        let check = |filter: &str, expected: &[&str]| assert_eq!(topics(&store, filter), expected, "{filter}");
        check("sport", &["sport"]);
        check("sport/#", &["sport", "sport/a", "sport/a/b"]);
        check("sport/+", &["sport/a"]);
        check("iot/+/status", &["iot/m1/status", "iot/m2/status"]);
        check("+/x", &["/x"]);
        check("$SYS/#", &["$SYS/x"]);
        check("/+", &["/x"]);
        assert_eq!(topics(&store, "#").len(), 7);
    }

    #[test]
    fn limits_refuse_new_topics_only_and_an_empty_payload_removes() {
        let mut store = Retained::new(2, 1000);
        assert_eq!(set(&mut store, "a", "1"), Kept::Stored);
        assert_eq!(set(&mut store, "b", "1"), Kept::Stored);
        assert_eq!(set(&mut store, "c", "1"), Kept::Refused);
        assert_eq!(set(&mut store, "a", "22"), Kept::Stored);
        assert_eq!(set(&mut store, "b", ""), Kept::Removed);
        assert_eq!(set(&mut store, "c", &"x".repeat(2000)), Kept::Refused);
        assert_eq!(set(&mut store, "a", ""), Kept::Removed);
        assert!(store.is_empty() && store.bytes() == 0);
    }

    #[test]
    fn what_has_expired_is_not_found_and_then_forgotten() {
        let mut store = Retained::new(9, 9000);
        let now = Instant::now();
        let (soon, later) = (std::time::Duration::from_secs(1), std::time::Duration::from_secs(2));
        let message = Message { expires_at: Some(now + soon), ..(*Message::detached("a", b"1")).clone() };
        store.set(Arc::new(message), QoS::AtMostOnce);
        set(&mut store, "b", "1");
        let count = |store: &Retained, at| {
            let mut n = 0;
            store.matching("#", at, |_, _| n += 1);
            store.matching("a", at, |_, _| n += 1);
            n
        };
        assert_eq!((count(&store, now), count(&store, now + later)), (3, 1));
        assert!(store.expire(now).is_empty());
        assert_eq!(store.expire(now + later), ["a".into()]);
        assert_eq!((store.len(), store.bytes()), (1, Message::detached("b", b"1").size()));
    }
}

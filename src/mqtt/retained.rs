//! The last retained message of each topic (section 3.3.1.3), bounded by number and by bytes.
//!
//! Policy when full: a topic that is not kept yet is refused and the caller counts it; replacing and removing always
//! work, so a kept value is never stale. Knows nothing of subscribers.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

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

    /// Calls `each` with every kept message that matches `filter`, in the order of the topics.
    pub fn matching(&self, filter: &str, mut each: impl FnMut(&Arc<Message>, QoS)) {
        if !topic::has_wildcard(filter) {
            if let Some((message, qos)) = self.by_topic.get(filter) {
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
            if topic::matches(filter, name) {
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
        store.matching(filter, |m, _| found.push(m.topic.to_string()));
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
}

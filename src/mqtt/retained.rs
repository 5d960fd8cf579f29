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
    by_topic: BTreeMap<Box<str>, Entry>,
    bytes: usize,
    max_count: usize,
    max_bytes: usize,
}

#[derive(Debug)]
struct Entry {
    message: Arc<Message>,
    qos: QoS,
    position: u64,
}

impl Retained {
    /// An empty store with its limits.
    pub const fn new(max_count: usize, max_bytes: usize) -> Self {
        Self { by_topic: BTreeMap::new(), bytes: 0, max_count, max_bytes }
    }

    /// Keeps the message instead of its topic's former one `[MQTT-3.3.1-5]`; an empty payload removes it
    /// `[MQTT-3.3.1-10]`, `[MQTT-3.3.1-11]`. A value that cannot be kept for its size removes the former one as well.
    /// `position`: its place among all that is delivered.
    pub fn set(&mut self, message: Arc<Message>, qos: QoS, position: u64) -> Kept {
        self.remove(&message.topic);
        if message.payload.is_empty() {
            return Kept::Removed;
        }
        let bytes = self.bytes + message.size();
        if self.by_topic.len() >= self.max_count || bytes > self.max_bytes {
            return Kept::Refused;
        }
        self.bytes = bytes;
        self.by_topic.insert((&*message.topic).into(), Entry { message, qos, position });
        Kept::Stored
    }

    fn remove(&mut self, topic: &str) {
        if let Some(old) = self.by_topic.remove(topic) {
            self.bytes -= old.message.size();
        }
    }

    /// The message of this very topic.
    pub fn get(&self, topic: &str) -> Option<(&Arc<Message>, QoS)> {
        self.by_topic.get(topic).map(|entry| (&entry.message, entry.qos))
    }

    /// Forgets what stands below `prefix`; gives the topics.
    pub fn forget(&mut self, prefix: &str) -> Vec<Box<str>> {
        let topics: Vec<_> =
            self.from(prefix).take_while(|(t, _)| t.starts_with(prefix)).map(|(t, _)| t.clone()).collect();
        topics.iter().for_each(|topic| self.remove(topic));
        topics
    }

    fn from(&self, topic: &str) -> impl Iterator<Item = (&Box<str>, &Entry)> {
        self.by_topic.range::<str, _>((Bound::Included(topic), Bound::Unbounded))
    }

    /// Forgets what has expired `[MQTT-3.3.2-5]`; gives the topics.
    pub fn expire(&mut self, now: Instant) -> Vec<Box<str>> {
        let has_expired = |entry: &Entry| entry.message.is_expired(now);
        let topics: Vec<_> =
            self.by_topic.iter().filter(|(_, entry)| has_expired(entry)).map(|(topic, _)| topic.clone()).collect();
        topics.iter().for_each(|topic| self.remove(topic));
        topics
    }

    /// Looks at up to `steps` topics and calls `each` with every kept message that matches `filter`, came before `before` and
    /// has not expired, in the order of the topics. `after` is where it left off the last time; gives where it does now, or
    /// `None` at the end.
    pub fn matching(
        &self,
        filter: &str,
        after: Option<&str>,
        before: u64,
        steps: usize,
        now: Instant,
        mut each: impl FnMut(&Arc<Message>, QoS),
    ) -> Option<Box<str>> {
        let mut give = |entry: &Entry| {
            if entry.position < before && !entry.message.is_expired(now) {
                each(&entry.message, entry.qos);
            }
        };
        if !topic::has_wildcard(filter) {
            self.by_topic.get(filter).into_iter().for_each(give);
            return None;
        }
        let literal = filter.find(['+', '#']).map_or(filter, |at| &filter[..at]);
        let prefix = literal.strip_suffix('/').unwrap_or(literal); // `sport/#` matches `sport`
        let first = after.map_or(Bound::Included(prefix), Bound::Excluded);
        let mut looked_at = 0;
        for (name, entry) in self.by_topic.range::<str, _>((first, Bound::Unbounded)) {
            if !name.starts_with(prefix) {
                break;
            }
            if topic::matches(filter, name) {
                give(entry);
            }
            looked_at += 1;
            if looked_at >= steps {
                return Some(name.clone());
            }
        }
        None
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
        store.set(Message::detached(topic, payload.as_bytes()), QoS::AtLeastOnce, 1)
    }

    fn topics(store: &Retained, filter: &str) -> Vec<String> {
        let all = |steps| {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let each = |m: &Arc<Message>, _| found.push(m.topic.to_string());
                after = store.matching(filter, after.as_deref(), 2, steps, Instant::now(), each);
                if after.is_none() {
                    return found;
                }
            }
        };
        assert_eq!(all(1), all(100), "in steps or at once");
        all(3)
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
        store.set(Arc::new(message), QoS::AtMostOnce, 1);
        set(&mut store, "b", "1");
        let count = |store: &Retained, at| {
            let mut n = 0;
            for filter in ["#", "a"] {
                store.matching(filter, None, 2, 100, at, |_, _| n += 1);
            }
            n
        };
        assert_eq!((count(&store, now), count(&store, now + later)), (3, 1));
        assert!(store.expire(now).is_empty());
        assert_eq!(store.expire(now + later), ["a".into()]);
        assert_eq!((store.len(), store.bytes()), (1, Message::detached("b", b"1").size()));
    }

    #[test]
    fn what_came_after_a_subscription_is_not_found_for_it() {
        let mut store = Retained::new(9, 9000);
        for (topic, position) in [("a", 1), ("b", 5), ("c", 4)] {
            store.set(Message::detached(topic, b"1"), QoS::AtMostOnce, position);
        }
        let mut found = Vec::new();
        for filter in ["#", "b"] {
            store.matching(filter, None, 5, 100, Instant::now(), |m, _| found.push(m.topic.to_string()));
        }
        assert_eq!(found, ["a", "c"]);
    }

    #[test]
    fn all_of_one_place_is_forgotten_and_nothing_beside_it() {
        let mut store = Retained::new(9, 9000);
        for topic in ["iot/m1", "iot/m1/status", "iot/m1/x/y", "iot/m10/status", "iot/m1-b/status"] {
            set(&mut store, topic, "1");
        }
        assert_eq!(store.forget("iot/m1/"), ["iot/m1/status".into(), "iot/m1/x/y".into()]);
        assert_eq!(topics(&store, "#"), ["iot/m1", "iot/m1-b/status", "iot/m10/status"]);
        assert_eq!(store.bytes(), 3 * 66 + "iot/m1iot/m1-b/statusiot/m10/status".len() - 3);
    }
}

//! Who gets what: a trie of topic filters, one node a level.
//!
//! Invariants: a subscriber stands once under one filter; one message gives a subscriber one delivery, at the highest
//! QoS of its matching filters (section 3.3.5 allows it); empty branches are removed, so memory follows the
//! subscriptions that exist. Knows nothing of what a subscriber is.

use std::collections::HashMap;

use super::packet::QoS;

/// The trie. `K` names a subscriber.
#[derive(Debug)]
pub struct Router<K> {
    root: Node<K>,
    len: usize,
}

#[derive(Debug)]
struct Node<K> {
    children: HashMap<Box<str>, Box<Node<K>>>,
    plus: Option<Box<Node<K>>>,
    /// Subscribers of exactly this path.
    here: Vec<(K, QoS)>,
    /// Subscribers of this path and all below (`…/#`).
    below: Vec<(K, QoS)>,
}

impl<K> Default for Node<K> {
    fn default() -> Self {
        Self { children: HashMap::new(), plus: None, here: Vec::new(), below: Vec::new() }
    }
}

impl<K> Default for Router<K> {
    fn default() -> Self {
        Self { root: Node::default(), len: 0 }
    }
}

impl<K: Copy + Ord> Router<K> {
    /// Adds a subscription or changes its QoS `[MQTT-3.8.4-3]`; `true` = it is new.
    pub fn subscribe(&mut self, filter: &str, who: K, qos: QoS) -> bool {
        let mut node = &mut self.root;
        let mut list_below = false;
        for level in filter.split('/') {
            match level {
                "#" => list_below = true,
                "+" => node = node.plus.get_or_insert_default(),
                _ => node = node.children.entry(level.into()).or_default(),
            }
        }
        let list = if list_below { &mut node.below } else { &mut node.here };
        if let Some(entry) = list.iter_mut().find(|(k, _)| *k == who) {
            entry.1 = qos;
            return false;
        }
        list.reserve_exact(usize::from(list.is_empty()));
        list.push((who, qos));
        self.len += 1;
        true
    }

    /// Removes a subscription; `false` = there is none.
    pub fn unsubscribe(&mut self, filter: &str, who: K) -> bool {
        let removed = self.root.remove(filter.split('/'), who);
        self.len -= usize::from(removed);
        removed
    }

    /// Puts every subscriber of `name` into `found` (cleared first), each once with its highest QoS, ordered by key.
    pub fn matches(&self, name: &str, found: &mut Vec<(K, QoS)>) {
        found.clear();
        if self.len == 0 {
            return;
        }
        // [MQTT-4.7.2-1]: no leading wildcard for a name that starts with `$`.
        if name.starts_with('$') {
            let (first, rest) = name.split_once('/').map_or((name, None), |(a, b)| (a, Some(b)));
            if let Some(child) = self.root.children.get(first) {
                child.collect(rest, found);
            }
        } else {
            self.root.collect(Some(name), found);
        }
        if found.len() > 1 {
            found.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
            found.dedup_by_key(|(k, _)| *k);
        }
    }

    /// Subscribers of this very filter.
    pub fn exact(&self, filter: &str) -> &[(K, QoS)] {
        let mut node = &self.root;
        for level in filter.split('/') {
            let next = match level {
                "#" => return &node.below,
                "+" => node.plus.as_ref(),
                _ => node.children.get(level),
            };
            let Some(next) = next else { return &[] };
            node = next;
        }
        &node.here
    }

    /// Number of subscriptions.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no subscription.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<K: Copy + Ord> Node<K> {
    /// `rest`: the levels below this node; `None` = the name ends here.
    fn collect(&self, rest: Option<&str>, found: &mut Vec<(K, QoS)>) {
        found.extend_from_slice(&self.below);
        let Some(rest) = rest else {
            found.extend_from_slice(&self.here);
            return;
        };
        let (level, rest) = rest.split_once('/').map_or((rest, None), |(a, b)| (a, Some(b)));
        if let Some(child) = self.children.get(level) {
            child.collect(rest, found);
        }
        if let Some(plus) = &self.plus {
            plus.collect(rest, found);
        }
    }

    fn remove<'a>(&mut self, mut levels: impl Iterator<Item = &'a str>, who: K) -> bool {
        match levels.next() {
            None => take(&mut self.here, who),
            Some("#") => take(&mut self.below, who),
            Some("+") => {
                let Some(node) = &mut self.plus else { return false };
                // A trait object: the type of the iterator must not grow with the depth.
                let removed = node.remove(&mut levels as &mut dyn Iterator<Item = &'a str>, who);
                if node.is_unused() {
                    self.plus = None;
                }
                removed
            }
            Some(level) => {
                let Some(node) = self.children.get_mut(level) else { return false };
                let removed = node.remove(&mut levels as &mut dyn Iterator<Item = &'a str>, who);
                if node.is_unused() {
                    self.children.remove(level);
                    if self.children.is_empty() {
                        self.children = HashMap::new();
                    }
                }
                removed
            }
        }
    }

    fn is_unused(&self) -> bool {
        self.children.is_empty() && self.plus.is_none() && self.here.is_empty() && self.below.is_empty()
    }
}

fn take<K: Copy + Ord>(list: &mut Vec<(K, QoS)>, who: K) -> bool {
    match list.iter().position(|(k, _)| *k == who) {
        Some(at) => {
            list.swap_remove(at);
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::mqtt::topic;

    #[test]
    fn overlapping_subscriptions_give_one_delivery_at_the_highest_qos() {
        let mut router = Router::default();
        assert!(router.subscribe("a/#", 1, QoS::AtMostOnce));
        assert!(router.subscribe("a/+", 1, QoS::ExactlyOnce));
        assert!(router.subscribe("a/b", 1, QoS::AtLeastOnce));
        assert!(router.subscribe("a/b", 2, QoS::AtLeastOnce));
        assert!(!router.subscribe("a/b", 2, QoS::AtMostOnce), "only its QoS changes");
        let mut found = Vec::new();
        router.matches("a/b", &mut found);
        assert_eq!(found, [(1, QoS::ExactlyOnce), (2, QoS::AtMostOnce)]);
        assert_eq!(router.exact("a/b").len(), 2);
        assert_eq!(router.exact("a/+"), [(1, QoS::ExactlyOnce)]);
        assert_eq!(router.exact("a/c"), []);
    }

    #[test]
    fn what_is_unsubscribed_leaves_nothing_behind() {
        let mut router = Router::default();
        for filter in ["#", "+/x/#", "a/b/c", "a/b"] {
            router.subscribe(filter, 1, QoS::AtMostOnce);
        }
        assert!(!router.unsubscribe("a/b", 2));
        for filter in ["a/b", "a/b/c", "#", "+/x/#"] {
            assert!(router.unsubscribe(filter, 1), "{filter}");
        }
        assert!(router.is_empty() && router.root.is_unused());
    }

    proptest! {
        #[test]
        fn routing_agrees_with_a_list_of_subscriptions(
            steps in prop::collection::vec(("([ab+$]?/){0,2}([ab+#$]?)", 0..4_u8, 0..3_u8, prop::bool::weighted(0.8)), 0..40),
            names in prop::collection::vec("([ab$]?/){0,3}[ab$]?", 1..8),
        ) {
            let mut router = Router::default();
            let mut list = BTreeMap::new();
            for (filter, who, qos, adds) in steps.into_iter().filter(|s| topic::is_valid_filter(&s.0)) {
                let qos = QoS::from_level(qos).unwrap();
                if adds {
                    let is_new = list.insert((filter.clone(), who), qos).is_none();
                    prop_assert_eq!(router.subscribe(&filter, who, qos), is_new);
                } else {
                    let was_there = list.remove(&(filter.clone(), who)).is_some();
                    prop_assert_eq!(router.unsubscribe(&filter, who), was_there);
                }
            }
            prop_assert_eq!(router.len(), list.len());
            let mut found = Vec::new();
            for name in names.iter().filter(|n| topic::is_valid_name(n)) {
                let mut expected = BTreeMap::new();
                for ((filter, who), qos) in &list {
                    if topic::matches(filter, name) {
                        let best = expected.entry(*who).or_insert(*qos);
                        *best = (*best).max(*qos);
                    }
                }
                router.matches(name, &mut found);
                prop_assert_eq!(&found, &expected.into_iter().collect::<Vec<_>>(), "{}", name);
            }
        }
    }
}

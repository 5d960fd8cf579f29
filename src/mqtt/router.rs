//! Who gets what: a trie of topic filters, one node a level.
//!
//! Invariants: a subscriber stands once under one filter; empty branches are removed, so memory follows the
//! subscriptions that exist. Knows nothing of what a subscriber is, nor of shared subscriptions (`share` does).

use std::collections::HashMap;

use super::packet::{QoS, SubscribeOptions, SubscriptionId};

/// A subscription of one subscriber.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Entry<K> {
    pub who: K,
    pub options: SubscribeOptions,
    pub id: Option<SubscriptionId>,
}

impl<K> Entry<K> {
    /// With nothing but its QoS.
    pub fn plain(who: K, qos: QoS) -> Self {
        Self { who, options: SubscribeOptions { qos, ..SubscribeOptions::default() }, id: None }
    }
}

/// What one subscriber gets of one message: all its matching subscriptions as one (section 3.3.4 allows it).
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Match<K> {
    pub who: K,
    /// The highest of them `[MQTT-3.3.4-2]`.
    pub qos: QoS,
    pub retain_as_published: bool,
    /// Of all of them that have one `[MQTT-3.3.4-4]`.
    pub ids: Vec<SubscriptionId>,
}

/// Merges entries that are ordered by subscriber; those that are not to hear of their own messages do not hear of
/// `from`'s `[MQTT-3.8.3-3]`.
pub fn merge<K: Copy + Ord>(entries: &[Entry<K>], from: Option<K>) -> impl Iterator<Item = Match<K>> {
    entries.chunk_by(|a, b| a.who == b.who).filter_map(move |of_one| {
        let mut heard = of_one.iter().filter(|e| !(e.options.no_local && from == Some(e.who)));
        let first = heard.next()?;
        let mut found = Match {
            who: first.who,
            qos: first.options.qos,
            retain_as_published: first.options.retain_as_published,
            ids: first.id.into_iter().collect(),
        };
        for entry in heard {
            found.qos = found.qos.max(entry.options.qos);
            found.retain_as_published |= entry.options.retain_as_published;
            found.ids.extend(entry.id);
        }
        Some(found)
    })
}

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
    here: Vec<Entry<K>>,
    /// Subscribers of this path and all below (`…/#`).
    below: Vec<Entry<K>>,
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
    /// Adds a subscription or replaces its options `[MQTT-3.8.4-3]`; `true` = it is new.
    pub fn subscribe(&mut self, filter: &str, new: Entry<K>) -> bool {
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
        if let Some(entry) = list.iter_mut().find(|e| e.who == new.who) {
            *entry = new;
            return false;
        }
        list.reserve_exact(usize::from(list.is_empty()));
        list.push(new);
        self.len += 1;
        true
    }

    /// Removes a subscription; `false` = there is none.
    pub fn unsubscribe(&mut self, filter: &str, who: K) -> bool {
        let removed = self.root.remove(filter.split('/'), who);
        self.len -= usize::from(removed);
        removed
    }

    /// Puts every subscription to `name` into `found` (cleared first), ordered by subscriber.
    pub fn matches(&self, name: &str, found: &mut Vec<Entry<K>>) {
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
            found.sort_unstable_by_key(|e| e.who);
        }
    }

    /// Subscribers of this very filter.
    pub fn exact(&self, filter: &str) -> &[Entry<K>] {
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
    fn collect(&self, rest: Option<&str>, found: &mut Vec<Entry<K>>) {
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

fn take<K: Copy + Ord>(list: &mut Vec<Entry<K>>, who: K) -> bool {
    match list.iter().position(|e| e.who == who) {
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

    /// Who gets `name`, and at which QoS.
    fn found(router: &Router<u8>, name: &str) -> Vec<(u8, QoS)> {
        let mut entries = Vec::new();
        router.matches(name, &mut entries);
        merge(&entries, None).map(|m| (m.who, m.qos)).collect()
    }

    #[test]
    fn overlapping_subscriptions_give_one_delivery_at_the_highest_qos() {
        let mut router = Router::default();
        assert!(router.subscribe("a/#", Entry::plain(1, QoS::AtMostOnce)));
        assert!(router.subscribe("a/+", Entry::plain(1, QoS::ExactlyOnce)));
        assert!(router.subscribe("a/b", Entry::plain(1, QoS::AtLeastOnce)));
        assert!(router.subscribe("a/b", Entry::plain(2, QoS::AtLeastOnce)));
        assert!(!router.subscribe("a/b", Entry::plain(2, QoS::AtMostOnce)), "only its QoS changes");
        assert_eq!(found(&router, "a/b"), [(1, QoS::ExactlyOnce), (2, QoS::AtMostOnce)]);
        assert_eq!(router.exact("a/b").len(), 2);
        assert_eq!(router.exact("a/+"), [Entry::plain(1, QoS::ExactlyOnce)]);
        assert_eq!(router.exact("a/c"), []);
    }

    #[test]
    fn a_delivery_names_all_subscriptions_it_is_for_and_leaves_out_those_that_are_not_local() {
        let entry = |who: u8, qos, no_local, id: u32| {
            let options =
                SubscribeOptions { qos, no_local, retain_as_published: id == 3, ..SubscribeOptions::default() };
            Entry { who, options, id: SubscriptionId::new(id) }
        };
        let entries = [
            entry(1, QoS::AtMostOnce, false, 7),
            entry(1, QoS::ExactlyOnce, true, 9),
            entry(2, QoS::AtLeastOnce, false, 0),
            entry(3, QoS::AtLeastOnce, true, 3),
        ];
        let check = |from: Option<u8>, expected: &[(u8, QoS, bool, &[u32])]| {
            let merged: Vec<_> = merge(&entries, from)
                .map(|m| (m.who, m.qos, m.retain_as_published, m.ids.iter().map(|id| id.get()).collect::<Vec<_>>()))
                .collect();
            let expected: Vec<_> = expected.iter().map(|(w, q, r, ids)| (*w, *q, *r, ids.to_vec())).collect();
            assert_eq!(merged, expected, "from {from:?}");
        };
        let (two, three) = ((2, QoS::AtLeastOnce, false, &[][..]), (3, QoS::AtLeastOnce, true, &[3][..]));
        check(None, &[(1, QoS::ExactlyOnce, false, &[7, 9]), two, three]);
        check(Some(1), &[(1, QoS::AtMostOnce, false, &[7]), two, three]);
        check(Some(3), &[(1, QoS::ExactlyOnce, false, &[7, 9]), two]);
    }

    #[test]
    fn what_is_unsubscribed_leaves_nothing_behind() {
        let mut router = Router::default();
        for filter in ["#", "+/x/#", "a/b/c", "a/b"] {
            router.subscribe(filter, Entry::plain(1, QoS::AtMostOnce));
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
            let mut router = Router::<u8>::default();
            let mut list = BTreeMap::new();
            for (filter, who, qos, adds) in steps.into_iter().filter(|s| topic::is_valid_filter(&s.0)) {
                let qos = QoS::from_level(qos).unwrap();
                if adds {
                    let is_new = list.insert((filter.clone(), who), qos).is_none();
                    prop_assert_eq!(router.subscribe(&filter, Entry::plain(who, qos)), is_new);
                } else {
                    let was_there = list.remove(&(filter.clone(), who)).is_some();
                    prop_assert_eq!(router.unsubscribe(&filter, who), was_there);
                }
            }
            prop_assert_eq!(router.len(), list.len());
            for name in names.iter().filter(|n| topic::is_valid_name(n)) {
                let mut expected = BTreeMap::new();
                for ((filter, who), qos) in &list {
                    if topic::matches(filter, name) {
                        let best = expected.entry(*who).or_insert(*qos);
                        *best = (*best).max(*qos);
                    }
                }
                prop_assert_eq!(found(&router, name), expected.into_iter().collect::<Vec<_>>(), "{}", name);
            }
        }
    }
}

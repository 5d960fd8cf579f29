//! Shared subscriptions (MQTT 5 section 4.8.2): `$share/{group}/{filter}` gives each message to one of its members.
//!
//! Invariants: a share exists while it has a member, and no later one has its id; members take turns, so that each gets
//! as many as the others; who leaves is out at once. Knows nothing of who is connected: the caller tries the members in the order given.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::packet::QoS;
use super::queue::ShareId;
use super::router::{Entry, Router};
use super::topic;

/// All shared subscriptions. `K` names a subscriber.
#[derive(Debug)]
pub struct Shares<K> {
    filters: Router<u32>,
    by_name: HashMap<Box<str>, u32>,
    shares: HashMap<u32, Share<K>>,
    last: u32,
    len: usize,
}

#[derive(Debug)]
struct Share<K> {
    members: Vec<Entry<K>>,
    /// Whose turn it is, modulo the number of members.
    turn: AtomicUsize,
}

impl<K> Default for Shares<K> {
    fn default() -> Self {
        Self { filters: Router::default(), by_name: HashMap::new(), shares: HashMap::new(), last: 0, len: 0 }
    }
}

impl<K: Copy + Ord> Shares<K> {
    /// Adds a member to the share of this name (`$share/…`), or replaces its options.
    pub fn subscribe(&mut self, name: &str, new: Entry<K>) {
        let Some((_, filter)) = topic::split_share(name) else { return };
        let at = match self.by_name.get(name) {
            Some(at) => *at,
            None => self.create(name, filter),
        };
        let Some(share) = self.shares.get_mut(&at) else { return };
        match share.members.iter_mut().find(|m| m.who == new.who) {
            Some(member) => *member = new,
            None => {
                share.members.push(new);
                self.len += 1;
            }
        }
    }

    fn create(&mut self, name: &str, filter: &str) -> u32 {
        self.last += 1;
        let at = self.last;
        self.shares.insert(at, Share { members: Vec::new(), turn: AtomicUsize::new(0) });
        self.by_name.insert(name.into(), at);
        self.filters.subscribe(filter, Entry::plain(at, QoS::AtMostOnce));
        at
    }

    /// Removes a member.
    pub fn unsubscribe(&mut self, name: &str, who: K) {
        let Some(&at) = self.by_name.get(name) else { return };
        let Some(share) = self.shares.get_mut(&at) else { return };
        let before = share.members.len();
        share.members.retain(|m| m.who != who);
        self.len -= before - share.members.len();
        if share.members.is_empty() {
            self.shares.remove(&at);
            self.by_name.remove(name);
            if let Some((_, filter)) = topic::split_share(name) {
                self.filters.unsubscribe(filter, at);
            }
        }
    }

    /// Calls `each` for every share that gets messages of this topic.
    pub fn matching(&self, name: &str, mut each: impl FnMut(ShareId)) {
        if self.len == 0 {
            return;
        }
        let mut found = Vec::new();
        self.filters.matches(name, &mut found);
        found.iter().for_each(|entry| each(ShareId(entry.who)));
    }

    /// The members of a share, beginning with the one whose turn it is. Every call is a turn.
    pub fn members(&self, share: ShareId) -> impl Iterator<Item = &Entry<K>> {
        let share = self.shares.get(&share.0);
        let members = share.map_or(&[][..], |s| &s.members);
        let turn = share.map_or(0, |s| s.turn.fetch_add(1, Ordering::Relaxed));
        let (early, late) = members.split_at(turn % members.len().max(1));
        late.iter().chain(early)
    }

    /// Whether a share has such a member. Not a turn.
    pub fn has_member(&self, share: ShareId, is_meant: impl Fn(&Entry<K>) -> bool) -> bool {
        self.shares.get(&share.0).is_some_and(|s| s.members.iter().any(is_meant))
    }

    /// Number of memberships.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares_of(shares: &Shares<u8>, name: &str) -> Vec<ShareId> {
        let mut found = Vec::new();
        shares.matching(name, |id| found.push(id));
        found
    }

    #[test]
    fn members_take_turns_and_each_group_has_its_own_copy() {
        let mut shares = Shares::default();
        for who in 1..=3 {
            shares.subscribe("$share/g/a/+", Entry::plain(who, QoS::AtLeastOnce));
        }
        shares.subscribe("$share/h/a/+", Entry::plain(1, QoS::AtLeastOnce));
        assert_eq!((shares_of(&shares, "a/b").len(), shares_of(&shares, "b").len()), (2, 0));
        let share = shares_of(&shares, "a/b")[0];
        let firsts: Vec<_> = (0..6).map(|_| shares.members(share).next().map(|m| m.who).unwrap_or_default()).collect();
        assert_eq!(firsts, [1, 2, 3, 1, 2, 3]);
        assert_eq!(shares.members(share).count(), 3, "the others come after it");
    }

    #[test]
    fn what_is_left_by_all_leaves_nothing_behind() {
        let mut shares = Shares::default();
        shares.subscribe("$share/g/a", Entry::plain(1, QoS::AtLeastOnce));
        shares.subscribe("$share/g/a", Entry::plain(1, QoS::AtMostOnce));
        shares.subscribe("$share/g/a", Entry::plain(2, QoS::AtMostOnce));
        assert_eq!(shares.len(), 2);
        shares.unsubscribe("$share/g/a", 1);
        shares.unsubscribe("$share/g/a", 1);
        shares.unsubscribe("$share/g/a", 2);
        assert!(shares.is_empty() && shares.filters.is_empty() && shares.by_name.is_empty());
        shares.subscribe("$share/g/b", Entry::plain(5, QoS::AtMostOnce));
        assert_eq!(shares.members(shares_of(&shares, "b")[0]).next().map(|m| m.who), Some(5));
        assert_eq!(shares.members(ShareId(99)).count(), 0);
    }
}

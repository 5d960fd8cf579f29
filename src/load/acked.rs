//! Which messages of a device were acknowledged: everything below a mark, and a bounded set above it.

use std::collections::BTreeSet;

/// How far the newest acknowledged message may lie above the oldest unacknowledged one: bounds the set.
pub(super) const SPREAD: u64 = 1 << 16;

/// A set of message numbers, compact because acknowledgements come nearly in order.
#[derive(Clone, Default)]
pub(super) struct Acked {
    below: u64,
    above: BTreeSet<u64>,
}

impl Acked {
    /// Adds a number; returns whether it is new.
    pub(super) fn insert(&mut self, n: u64) -> bool {
        if n != self.below {
            return n > self.below && self.above.insert(n);
        }
        self.below += 1;
        while self.above.remove(&self.below) {
            self.below += 1;
        }
        true
    }

    /// Whether the number is in.
    pub(super) fn contains(&self, n: u64) -> bool {
        n < self.below || self.above.contains(&n)
    }

    /// How many numbers are in.
    pub(super) fn len(&self) -> u64 {
        self.below + self.above.len() as u64
    }

    /// Whether message `n` may be sent without letting the set outgrow its bound.
    pub(super) fn has_room_for(&self, n: u64) -> bool {
        n < self.below + SPREAD
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_holds_what_a_plain_set_holds(numbers in prop::collection::vec(0u64..60, 0..100)) {
            let (mut acked, mut model) = (Acked::default(), BTreeSet::new());
            for n in numbers {
                prop_assert_eq!(acked.insert(n), model.insert(n));
                prop_assert_eq!(acked.len(), model.len() as u64);
            }
            for n in 0..60 {
                prop_assert_eq!(acked.contains(n), model.contains(&n));
            }
            prop_assert!(acked.has_room_for(acked.below) && !acked.has_room_for(acked.below + SPREAD));
        }
    }
}

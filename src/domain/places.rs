//! Places for so many at once, and for so many of one: the one rule of all listeners, and of streams.
//!
//! Bounded: a count for each that has a place. Who counts as one is said by a key: the line of an address
//! ([`line_of`](super::line_of)), a name. Gives no place back by itself: who has taken one says when it is free. Pure.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

/// Why there is no place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoPlace {
    /// All are taken.
    Any,
    /// This one has as many as one may.
    OfOne,
}

/// Who has how many.
#[derive(Debug)]
pub struct Places<K> {
    most: usize,
    most_of_one: usize,
    taken: usize,
    /// Those of each, where they are counted.
    each: HashMap<K, usize>,
}

impl<K: Eq + Hash> Places<K> {
    /// So many; `most_of_one` = 0: one may have them all, and is not counted.
    pub fn new(most: usize, most_of_one: usize) -> Self {
        Self { most, most_of_one, taken: 0, each: HashMap::new() }
    }

    /// Takes a place.
    pub fn enter(&mut self, one: K) -> Result<(), NoPlace> {
        if self.taken >= self.most {
            return Err(NoPlace::Any);
        }
        if self.most_of_one > 0 {
            let count = self.each.entry(one).or_default();
            if *count >= self.most_of_one {
                return Err(NoPlace::OfOne);
            }
            *count += 1;
        }
        self.taken += 1;
        Ok(())
    }

    /// Gives back a place that this one has taken.
    pub fn leave(&mut self, one: K) {
        self.taken = self.taken.saturating_sub(1);
        if let Entry::Occupied(mut entry) = self.each.entry(one) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
        // A storm from many leaves no large table behind.
        if self.each.capacity() > 1024 && self.each.len() < self.each.capacity() / 8 {
            self.each.shrink_to_fit();
        }
    }

    /// Places that are taken now.
    pub fn taken(&self) -> usize {
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_can_be_full_while_others_are_not() {
        let mut places = Places::new(100, 2);
        assert_eq!([places.enter("a"), places.enter("a"), places.enter("b")], [Ok(()); 3]);
        assert_eq!(places.enter("a"), Err(NoPlace::OfOne));
        ["a", "a", "b"].into_iter().for_each(|one| places.leave(one));
        assert!(places.taken() == 0 && places.each.is_empty(), "nothing is remembered of who has gone: {places:?}");
        assert_eq!(places.enter("a"), Ok(()));
    }

    #[test]
    fn without_a_limit_one_may_take_every_place() {
        let mut places = Places::new(3, 0);
        assert!((0..3).all(|_| places.enter("a").is_ok()));
        assert_eq!([places.enter("a"), places.enter("b")], [Err(NoPlace::Any); 2]);
        places.leave("a");
        assert_eq!(places.enter("b"), Ok(()));
    }

    #[test]
    fn who_finds_no_place_is_not_counted() {
        let mut places = Places::new(1, 1);
        assert_eq!(places.enter(0), Ok(()));
        assert!((0..9).all(|one| places.enter(one).is_err()));
        assert_eq!((places.taken(), places.each.len()), (1, 1));
    }
}

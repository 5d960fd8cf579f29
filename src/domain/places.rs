//! Places for so many at once, and for so many of one peer: the one rule of all listeners.
//!
//! Bounded: a count a peer that has a place. IPv6 peers count by line ([`line_of`]). Knows no sockets and gives no place
//! back by itself: who has taken one says when it is free. Pure.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;

use super::line_of;

/// Why there is no place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoPlace {
    /// All are taken.
    Any,
    /// This peer has as many as one may.
    OfPeer,
}

/// Who has how many.
#[derive(Debug)]
pub struct Places {
    most: usize,
    most_of_peer: usize,
    taken: usize,
    /// Those of each peer, where they are counted.
    peers: HashMap<IpAddr, usize>,
}

impl Places {
    /// So many; `most_of_peer` = 0: one peer may have them all, and is not counted.
    pub fn new(most: usize, most_of_peer: usize) -> Self {
        Self { most, most_of_peer, taken: 0, peers: HashMap::new() }
    }

    /// Takes a place.
    pub fn enter(&mut self, address: IpAddr) -> Result<(), NoPlace> {
        if self.taken >= self.most {
            return Err(NoPlace::Any);
        }
        if self.most_of_peer > 0 {
            let count = self.peers.entry(line_of(address)).or_default();
            if *count >= self.most_of_peer {
                return Err(NoPlace::OfPeer);
            }
            *count += 1;
        }
        self.taken += 1;
        Ok(())
    }

    /// Gives back a place that this address has taken.
    pub fn leave(&mut self, address: IpAddr) {
        self.taken = self.taken.saturating_sub(1);
        if let Entry::Occupied(mut entry) = self.peers.entry(line_of(address)) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
        // A storm from many addresses leaves no large table behind.
        if self.peers.capacity() > 1024 && self.peers.len() < self.peers.capacity() / 8 {
            self.peers.shrink_to_fit();
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

    fn address(text: &str) -> IpAddr {
        text.parse().expect("is an address")
    }

    #[test]
    fn one_peer_can_be_full_while_others_are_not() {
        let mut places = Places::new(100, 2);
        let mut enter = |text: &str| places.enter(address(text));
        assert_eq!([enter("2001:db8::1"), enter("2001:db8::2")], [Ok(()), Ok(())]);
        assert_eq!(enter("2001:db8::ff:2"), Err(NoPlace::OfPeer), "the same /56");
        assert_eq!([enter("2001:db8:0:100::1"), enter("10.0.0.1")], [Ok(()), Ok(())]);
        for text in ["2001:db8::1", "2001:db8::2", "2001:db8:0:100::1", "10.0.0.1"] {
            places.leave(address(text));
        }
        assert!(places.taken() == 0 && places.peers.is_empty(), "nothing is remembered of who has gone: {places:?}");
        assert_eq!(places.enter(address("2001:db8::1")), Ok(()));
    }

    #[test]
    fn without_a_limit_a_peer_may_take_every_place() {
        let mut places = Places::new(3, 0);
        assert!((0..3).all(|_| places.enter(address("10.0.0.1")).is_ok()));
        assert_eq!(places.enter(address("10.0.0.1")), Err(NoPlace::Any));
        assert_eq!(places.enter(address("10.0.0.2")), Err(NoPlace::Any));
        places.leave(address("10.0.0.1"));
        assert_eq!(places.enter(address("10.0.0.2")), Ok(()));
    }

    #[test]
    fn who_finds_no_place_is_not_counted() {
        let mut places = Places::new(1, 1);
        assert_eq!(places.enter(address("10.0.0.1")), Ok(()));
        assert!((0..9).all(|n| places.enter(IpAddr::from([10, 0, 1, n])).is_err()));
        assert_eq!((places.taken(), places.peers.len()), (1, 1));
    }
}

//! Who has an allowance of their own: as many as there is room for, and whoever has one keeps it, however many come later.
//!
//! It keeps the states of a rate limiter and can be asked who is among them, which the limiter cannot. Bounded by whoever
//! counts: only who [has a place](Tracked::has_place) is to be counted alone. Knows no rates, no clock.

use std::hash::Hash;
use std::sync::Arc;

use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::{DashMapStateStore, ShrinkableKeyedStateStore};

/// The states of a limiter; a clone is the same.
pub struct Tracked<K>(Arc<DashMapStateStore<K>>);

impl<K: Eq + Hash> Default for Tracked<K> {
    fn default() -> Self {
        Self(Arc::new(DashMapStateStore::default()))
    }
}

impl<K> Clone for Tracked<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Eq + Hash> Tracked<K> {
    /// Whether this one is among them, or there are fewer than `most`.
    pub fn has_place(&self, key: &K, most: usize) -> bool {
        self.0.len() < most || self.0.contains_key(key)
    }
}

impl<K: Eq + Hash + Clone> StateStore for Tracked<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.0.measure_and_replace(key, f)
    }
}

impl<K: Eq + Hash + Clone> ShrinkableKeyedStateStore<K> for Tracked<K> {
    fn retain_recent(&self, drop_below: Nanos) {
        self.0.retain_recent(drop_below);
    }

    fn shrink_to_fit(&self) {
        self.0.shrink_to_fit();
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use governor::clock::FakeRelativeClock;
    use governor::middleware::NoOpMiddleware;
    use governor::{Quota, RateLimiter};

    use super::*;

    #[test]
    fn who_is_among_them_stays_when_there_is_no_place_left_until_the_allowance_is_whole() {
        let (known, clock) = (Tracked::default(), FakeRelativeClock::default());
        let rate: RateLimiter<u8, Tracked<u8>, FakeRelativeClock, NoOpMiddleware<Nanos>> =
            RateLimiter::new(Quota::per_second(NonZeroU32::MIN), known.clone(), clock.clone());
        let places = |most: usize| [1, 2, 3].map(|key| known.has_place(&key, most));
        assert_eq!(places(2), [true; 3]);
        assert!([1, 2].iter().all(|key| rate.check_key(key).is_ok()));
        assert_eq!((places(2), places(3)), ([true, true, false], [true; 3]));
        rate.retain_recent();
        assert_eq!(places(2), [true, true, false]);
        clock.advance(std::time::Duration::from_secs(10));
        rate.retain_recent();
        assert_eq!(places(2), [true; 3]);
    }
}

//! Pauses between tries: doubling, with jitter so that nodes do not try in step. The one back-off of all tasks.

use std::time::Duration;

/// Counts failed tries.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failed: u32,
}

impl Default for Backoff {
    /// From 50 ms to 5 s: for what is near, as the database.
    fn default() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(5))
    }
}

impl Backoff {
    /// Pauses from `first`, doubling up to `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failed: 0 }
    }

    /// Whether any try has failed.
    pub const fn has_failed(&self) -> bool {
        self.failed > 0
    }

    /// The pause after one more failed try: between half of the step and all of it.
    pub fn next_pause(&mut self) -> Duration {
        let step = self.first.saturating_mul(1 << self.failed.min(16)).min(self.longest);
        self.failed = self.failed.saturating_add(1);
        step.mul_f64(rand::random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_within_their_bounds() {
        let (first, longest) = (Duration::from_millis(30), Duration::from_secs(7));
        let mut backoff = Backoff::new(first, longest);
        assert!(!backoff.has_failed());
        let pauses: Vec<_> = (0..40).map(|_| backoff.next_pause()).collect();
        assert!(backoff.has_failed());
        assert!(pauses[0] <= first && pauses[0] >= first / 2);
        assert!(pauses[1] <= first * 2 && pauses[1] >= first);
        assert!(pauses[20..].iter().all(|p| *p >= longest / 2 && *p <= longest));
    }
}

//! Pauses between tries: doubling from 50 ms to 5 s, with jitter so that nodes do not try in step.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);

/// Counts failed tries.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    failed: u32,
}

impl Backoff {
    /// Whether any try has failed.
    pub const fn has_failed(&self) -> bool {
        self.failed > 0
    }

    /// The pause after one more failed try: between half of the step and all of it.
    pub fn next_pause(&mut self) -> Duration {
        let step = FIRST.saturating_mul(1 << self.failed.min(16)).min(LONGEST);
        self.failed = self.failed.saturating_add(1);
        step.mul_f64(rand::random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_within_their_bounds() {
        let mut backoff = Backoff::default();
        assert!(!backoff.has_failed());
        let pauses: Vec<_> = (0..40).map(|_| backoff.next_pause()).collect();
        assert!(pauses[0] <= FIRST && pauses[0] >= FIRST / 2);
        assert!(pauses[20..].iter().all(|p| *p >= LONGEST / 2 && *p <= LONGEST));
    }
}

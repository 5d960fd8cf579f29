//! How often a meter samples, seen in the distances between its samples, where its datagrams do not tell.

use std::collections::VecDeque;

use super::{DEFAULT_CADENCE_US, MAX_CADENCE_US};

/// Most distances looked at.
const KEPT: usize = 16;
/// Fewer tell nothing: a single one may be a hole.
const ENOUGH: usize = 2;

/// The newest distances between samples.
#[derive(Clone, Debug, Default)]
pub struct Steps {
    seen: VecDeque<i64>,
}

impl Steps {
    /// The next distance. Those that are longer than a cadence can be are holes, and say nothing.
    pub fn see(&mut self, step_us: i64) {
        if (1..=MAX_CADENCE_US).contains(&step_us) {
            if self.seen.len() == KEPT {
                self.seen.pop_front();
            }
            self.seen.push_back(step_us);
        }
    }

    /// Whether there are enough of them.
    pub fn tell(&self) -> bool {
        self.seen.len() >= ENOUGH
    }

    /// The cadence: the lower median, or the default.
    pub fn cadence_us(&self) -> i64 {
        let mut steps: Vec<i64> = self.seen.iter().copied().collect();
        lower_median(&mut steps).filter(|_| self.tell()).unwrap_or(DEFAULT_CADENCE_US)
    }
}

/// The middle one, of two the less.
pub fn lower_median(steps: &mut [i64]) -> Option<i64> {
    let middle = steps.len().checked_sub(1)? / 2;
    Some(*steps.select_nth_unstable(middle).1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cadence_is_the_median_of_the_last_distances() {
        let check = |steps_s: &[i64], expected_s: i64| {
            let mut steps = Steps::default();
            steps_s.iter().for_each(|step| steps.see(step * 1_000_000));
            assert_eq!(steps.cadence_us(), expected_s * 1_000_000, "{steps_s:?}");
        };
        check(&[], 1);
        check(&[10], 1);
        check(&[10, 10], 10);
        check(&[10, 30], 10);
        check(&[0, 10, 0, 10, 10, 60], 10);
        check(&[61, 61, 61], 1);
        check(&[1; 40].iter().chain(&[5; 9]).copied().collect::<Vec<_>>(), 5);
    }
}

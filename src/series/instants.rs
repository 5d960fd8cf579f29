//! How densely a device samples, told from the instants themselves: each waits for the next one. Pure.

use std::ops::ControlFlow;

use super::quantity::{Found, Quantity};
use super::summary::{MAX_CADENCE_US, Reading};
use crate::domain::Timestamp;

const MINUTE_US: i64 = 60_000_000;

/// The samples of the newest instant.
#[derive(Debug, Default)]
pub(super) struct Instants {
    at: Option<Timestamp>,
    /// From the instant before, where that is of the same minute.
    before_us: Option<i64>,
    waiting: Vec<Found>,
}

impl Instants {
    /// Takes what stands at the next place, in order of time, and gives out what has waited for it.
    pub(super) fn push(
        &mut self,
        time: Timestamp,
        item: Option<Found>,
        each: &mut dyn FnMut(Quantity, Reading) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if self.at != Some(time) {
            let minute = |at: Timestamp| at.0.div_euclid(MINUTE_US);
            let neighbour = self.at.filter(|at| minute(*at) == minute(time));
            let distance = neighbour.map(|at| time.0.saturating_sub(at.0));
            self.finish(distance, each)?;
            (self.at, self.before_us) = (Some(time), distance);
        }
        self.waiting.extend(item);
        ControlFlow::Continue(())
    }

    /// Gives out what waits; `after_us` = how far the next instant of its minute lies.
    pub(super) fn finish(
        &mut self,
        after_us: Option<i64>,
        each: &mut dyn FnMut(Quantity, Reading) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let Some(time) = self.at else { return ControlFlow::Continue(()) };
        let nearer = self.before_us.into_iter().chain(after_us).fold(MAX_CADENCE_US, i64::min);
        for Found { quantity, value, unit, is_plausible } in self.waiting.drain(..) {
            each(quantity, Reading { time, value, unit, is_plausible, step_us: nearer })?;
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cadence_is_the_distance_to_the_nearer_neighbour_of_the_minute() {
        let check = |seconds: &[i64], expected: &[i64]| {
            let mut instants = Instants::default();
            let mut steps = Vec::new();
            let mut each = |_, reading: Reading| {
                steps.push(reading.step_us / 1_000_000);
                ControlFlow::Continue(())
            };
            for second in seconds {
                let quantity = Quantity::parse("x").unwrap();
                let found = Found { quantity, value: 0.0, unit: None, is_plausible: true };
                let _ = instants.push(Timestamp(second * 1_000_000), Some(found), &mut each);
            }
            let _ = instants.finish(None, &mut each);
            assert_eq!(steps, expected, "{seconds:?}");
        };
        check(&[], &[]);
        check(&[5], &[60]);
        check(&[0, 1, 2, 12], &[1, 1, 1, 10]);
        check(&[0, 10, 11], &[10, 1, 1]);
        check(&[58, 59, 60, 70], &[1, 1, 10, 10]);
        check(&[5, 5, 7], &[2, 2, 2]);
        check(&[30, 90, 150], &[60, 60, 60]);
    }
}

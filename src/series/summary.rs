//! What many samples of a quantity come to: enough for every function of a bucket, and for the shape of a line.
//!
//! The integral is the trapezoid between neighbouring samples, and nothing across a hole: two samples count when they lie no
//! further apart than 3 × the sampling cadence about them ([`Reading::step_us`]). Invariant: a summary's area is that of the
//! pairs inside it; the pair between two summaries is added where they are put together. A sum beyond all numbers is the
//! greatest one there is, so that it can be written. Pure.

use std::sync::Arc;

use crate::domain::Timestamp;

/// The longest cadence a meter can be set to: what lies further apart is a hole, not a slow meter.
pub const MAX_CADENCE_US: i64 = 60_000_000;

/// A sample of a quantity.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub struct Reading {
    pub time: Timestamp,
    pub value: f64,
    /// The unit as sent, where it differs from the quantity's usual one.
    pub unit: Option<Arc<str>>,
    pub is_plausible: bool,
    /// The sampling cadence here, in µs: how far the device's next instant lies on the nearer side, within the same minute of
    /// the clock; [`MAX_CADENCE_US`] where there is none, and at most. (A minute tells of itself alone: what comes late
    /// changes no other one.)
    pub step_us: i64,
}

impl Reading {
    /// The area between this sample and the next one in value × seconds; `None` = there is a hole between them, or no time.
    pub fn area_to(&self, next: &Self) -> Option<f64> {
        self.is_bridged_to(next).then(|| area_under(self.value, next.value, self.us_to(next)))
    }

    /// Whether the line from this sample to the next one counts.
    pub fn is_bridged_to(&self, next: &Self) -> bool {
        let us = self.us_to(next);
        0 < us && us <= self.step_us.min(next.step_us).saturating_mul(3)
    }

    fn us_to(&self, next: &Self) -> i64 {
        next.time.0.saturating_sub(self.time.0)
    }
}

/// Samples of one quantity within some stretch of time. There is at least one.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub struct Summary {
    pub first: Reading,
    /// The first of the least ones.
    pub min: Reading,
    /// The first of the greatest ones.
    pub max: Reading,
    pub last: Reading,
    pub count: u64,
    pub sum: f64,
    /// Value × seconds between neighbours inside; `None` = no two of them belong together.
    pub area: Option<f64>,
    /// Whether all samples are.
    pub is_plausible: bool,
}

impl Summary {
    /// One sample.
    pub fn of(reading: Reading) -> Self {
        let (sum, is_plausible) = (reading.value, reading.is_plausible);
        let (first, min, max) = (reading.clone(), reading.clone(), reading.clone());
        Self { first, min, max, last: reading, count: 1, sum, area: None, is_plausible }
    }

    /// Takes the next sample.
    pub fn add(&mut self, reading: Reading) {
        add_area(&mut self.area, self.last.area_to(&reading));
        self.count += 1;
        self.sum = total(self.sum, reading.value);
        self.is_plausible &= reading.is_plausible;
        if reading.value < self.min.value {
            self.min = reading.clone();
        }
        if reading.value > self.max.value {
            self.max = reading.clone();
        }
        self.last = reading;
    }

    /// Puts what comes later behind, with the pair between them.
    pub fn append(&mut self, later: &Self) {
        add_area(&mut self.area, self.last.area_to(&later.first));
        self.merge(later);
    }

    /// Puts what comes later behind; the pair between them is the caller's.
    pub fn merge(&mut self, later: &Self) {
        add_area(&mut self.area, later.area);
        self.count += later.count;
        self.sum = total(self.sum, later.sum);
        self.is_plausible &= later.is_plausible;
        if later.min.value < self.min.value {
            self.min = later.min.clone();
        }
        if later.max.value > self.max.value {
            self.max = later.max.clone();
        }
        self.last = later.last.clone();
    }

    /// Their mean, which lies among them also where their sum is beyond all numbers.
    pub fn mean(&self) -> f64 {
        let mean = self.sum / self.count as f64;
        if self.sum.abs() < f64::MAX { mean } else { mean.clamp(self.min.value, self.max.value) }
    }

    /// First, least, greatest and last, each sample once, in order of time.
    pub fn corners(self) -> impl Iterator<Item = Reading> {
        let Self { first, mut min, mut max, last, .. } = self;
        if max.time < min.time {
            std::mem::swap(&mut min, &mut max);
        }
        let mut corners = vec![first];
        for next in [min, max, last] {
            if corners.last() != Some(&next) {
                corners.push(next);
            }
        }
        corners.into_iter()
    }
}

/// Adds a part of an area.
pub(super) fn add_area(area: &mut Option<f64>, part: Option<f64>) {
    if let Some(part) = part {
        *area = Some(total(area.unwrap_or(0.0), part));
    }
}

/// The area under the line between two values that lie so far apart, in value × seconds.
pub(super) fn area_under(from: f64, to: f64, us: i64) -> f64 {
    let area = (from + to) / 2.0 * us as f64 / 1e6;
    if area.is_finite() { area } else { number((from / 2.0 + to / 2.0) * (us as f64 / 1e6)) }
}

/// The sum of two numbers.
fn total(a: f64, b: f64) -> f64 {
    number(a + b)
}

/// The nearest number: JSON has no others.
pub(super) fn number(value: f64) -> f64 {
    value.clamp(f64::MIN, f64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(second: i64, value: f64, step_s: i64) -> Reading {
        let (time, step_us) = (Timestamp(second * 1_000_000), step_s * 1_000_000);
        Reading { time, value, unit: None, is_plausible: true, step_us }
    }

    #[test]
    fn a_pair_counts_up_to_three_times_the_cadence_about_it() {
        let check = |a: (i64, i64), b: (i64, i64), expected: Option<f64>| {
            assert_eq!(reading(a.0, 2.0, a.1).area_to(&reading(b.0, 4.0, b.1)), expected, "{a:?} {b:?}");
        };
        check((0, 1), (3, 1), Some(9.0));
        check((0, 1), (4, 1), None);
        check((0, 60), (3, 1), Some(9.0));
        check((0, 60), (4, 1), None);
        check((0, 60), (180, 60), Some(540.0));
        check((5, 1), (5, 1), None);
    }

    #[test]
    fn corners_are_in_order_and_each_stands_once() {
        let corners = |values: &[f64]| -> Vec<(i64, f64)> {
            let mut readings = values.iter().zip(0..).map(|(value, second)| reading(second, *value, 1));
            let mut summary = Summary::of(readings.next().unwrap());
            readings.for_each(|reading| summary.add(reading));
            summary.corners().map(|corner| (corner.time.0 / 1_000_000, corner.value)).collect()
        };
        assert_eq!(corners(&[5.0]), [(0, 5.0)]);
        assert_eq!(corners(&[5.0, 5.0]), [(0, 5.0), (1, 5.0)]);
        assert_eq!(corners(&[1.0, 9.0, -3.0, 2.0]), [(0, 1.0), (1, 9.0), (2, -3.0), (3, 2.0)]);
        assert_eq!(corners(&[9.0, 5.0, 1.0]), [(0, 9.0), (2, 1.0)]);
    }
}

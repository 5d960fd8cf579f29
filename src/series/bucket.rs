//! Samples, or what samples come to, gathered into buckets of equal length, aligned to the epoch; one value a bucket and
//! quantity.
//!
//! Bounded: only the buckets a coming sample can still touch are held: the newest, for an integral those of the longest
//! hole that is bridged. The integral is the trapezoid between neighbouring samples, split exactly at the borders, and
//! nothing across a hole (see [`summary`](super::summary)). Pure.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::Point;
use super::quantity::Quantity;
use super::summary::{MAX_CADENCE_US, Reading, Summary, add_area, area_under, number};
use crate::domain::Timestamp;

/// How the values of a bucket become one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Function {
    Mean,
    Min,
    Max,
    First,
    Last,
    Count,
    Sum,
    /// Value × seconds.
    Integral,
}

impl Function {
    /// All of them, by name.
    pub const ALL: [(&'static str, Self); 8] = [
        ("mean", Self::Mean),
        ("min", Self::Min),
        ("max", Self::Max),
        ("first", Self::First),
        ("last", Self::Last),
        ("count", Self::Count),
        ("sum", Self::Sum),
        ("integral", Self::Integral),
    ];

    /// Reads the API's word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(n, _)| *n == name).map(|(_, f)| *f)
    }
}

/// What a bucket has gathered of one quantity.
#[derive(Clone, Debug)]
struct Gathered {
    /// `None` where only a line passes through.
    samples: Option<Summary>,
    /// Of the parts of lines that come from another bucket, or go there.
    area: Option<f64>,
    unit: Option<Arc<str>>,
    is_plausible: bool,
}

impl Gathered {
    fn new(unit: Option<Arc<str>>) -> Self {
        Self { samples: None, area: None, unit, is_plausible: true }
    }

    fn take(&mut self, summary: Summary) {
        self.is_plausible &= summary.is_plausible;
        match &mut self.samples {
            Some(samples) => samples.merge(&summary),
            None => self.samples = Some(summary),
        }
    }

    fn value(&self, function: Function) -> Option<f64> {
        if function == Function::Integral {
            let mut area = self.samples.as_ref().and_then(|samples| samples.area);
            add_area(&mut area, self.area);
            return area.map(number);
        }
        let samples = self.samples.as_ref()?;
        Some(match function {
            Function::Mean => samples.mean(),
            Function::Min => samples.min.value,
            Function::Max => samples.max.value,
            Function::First => samples.first.value,
            Function::Last => samples.last.value,
            Function::Count => samples.count as f64,
            Function::Sum | Function::Integral => number(samples.sum),
        })
    }
}

/// Takes a bucket's value.
pub type Each<'a> = dyn FnMut(Point) -> ControlFlow<()> + 'a;

/// The buckets under way.
#[derive(Debug)]
pub struct Buckets {
    every_us: i64,
    function: Function,
    open: BTreeMap<(i64, Quantity), Gathered>,
    previous: BTreeMap<Quantity, Reading>,
}

impl Buckets {
    /// Buckets of `every_us` microseconds, more than zero.
    pub fn new(every_us: i64, function: Function) -> Self {
        Self { every_us: every_us.max(1), function, open: BTreeMap::new(), previous: BTreeMap::new() }
    }

    /// Takes what lies in one bucket, in order of time. Gives out what is complete.
    pub fn push(&mut self, quantity: &Quantity, summary: Summary, each: &mut Each<'_>) -> ControlFlow<()> {
        let is_integral = self.function == Function::Integral;
        let slack = if is_integral { 3 * MAX_CADENCE_US } else { 0 };
        let time = summary.first.time.0;
        self.flush(time.saturating_sub(slack), each)?;
        let start = self.start_of(time);
        if is_integral {
            let before = self.previous.insert(quantity.clone(), summary.last.clone());
            if let Some(before) = before.filter(|before| before.is_bridged_to(&summary.first)) {
                self.integrate(quantity, &before, &summary.first);
            }
        }
        let unit = &summary.first.unit;
        let gathered = self.open.entry((start, quantity.clone())).or_insert_with(|| Gathered::new(unit.clone()));
        gathered.take(summary);
        ControlFlow::Continue(())
    }

    /// Gives out the rest.
    pub fn finish(&mut self, each: &mut Each<'_>) -> ControlFlow<()> {
        self.flush(i64::MAX, each)
    }

    fn start_of(&self, t: i64) -> i64 {
        t.div_euclid(self.every_us).saturating_mul(self.every_us)
    }

    /// Adds the area between two samples to the buckets it lies in.
    fn integrate(&mut self, quantity: &Quantity, before: &Reading, next: &Reading) {
        let (t0, v0, t1, v1) = (before.time.0, before.value, next.time.0, next.value);
        let at = |t: i64| {
            let (rise, part) = (v1 - v0, (t - t0) as f64 / (t1 - t0) as f64);
            if rise.is_finite() { v0 + rise * part } else { v0 * (1.0 - part) + v1 * part }
        };
        let mut from = t0;
        while from < t1 {
            let start = self.start_of(from);
            let to = start.saturating_add(self.every_us).min(t1);
            let area = area_under(at(from), at(to), to - from);
            let gathered =
                self.open.entry((start, quantity.clone())).or_insert_with(|| Gathered::new(next.unit.clone()));
            add_area(&mut gathered.area, Some(area));
            gathered.is_plausible &= next.is_plausible;
            from = to;
        }
    }

    /// Gives out the buckets that end at or before `end`.
    fn flush(&mut self, end: i64, each: &mut Each<'_>) -> ControlFlow<()> {
        while let Some(entry) = self.open.first_entry() {
            if entry.key().0.saturating_add(self.every_us) > end {
                return ControlFlow::Continue(());
            }
            let ((start, quantity), gathered) = entry.remove_entry();
            let Some(value) = gathered.value(self.function) else { continue };
            let usual = || gathered.unit.clone().unwrap_or_else(|| quantity.unit().into());
            let unit = match self.function {
                Function::Count => Some(Arc::from("")),
                Function::Integral => Some(format!("{}.s", usual()).trim_start_matches('.').into()),
                _ => gathered.unit.clone(),
            };
            let is_plausible = gathered.is_plausible;
            each(Point { time: Timestamp(start), quantity, value, unit, is_plausible })?;
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000;

    fn check(function: &str, samples: &[(i64, f64)], expected: &[(i64, f64)]) {
        let mut buckets = Buckets::new(10 * S, Function::from_name(function).unwrap());
        let mut got = Vec::new();
        let mut each = |p: Point| {
            got.push((p.time.0 / S, p.value));
            ControlFlow::Continue(())
        };
        let quantity = Quantity::parse("voltage_dc").unwrap();
        for (t, value) in samples {
            let reading = Reading { time: Timestamp(t * S), value: *value, unit: None, is_plausible: true, step_us: S };
            let _ = buckets.push(&quantity, Summary::of(reading), &mut each);
        }
        let _ = buckets.finish(&mut each);
        assert_eq!(got, expected, "{function}");
    }

    #[test]
    fn every_function_makes_one_value_a_bucket() {
        let samples = [(-1, 9.0), (0, 1.0), (5, 4.0), (9, 1.0), (25, 7.0)];
        check("mean", &samples, &[(-10, 9.0), (0, 2.0), (20, 7.0)]);
        check("min", &samples, &[(-10, 9.0), (0, 1.0), (20, 7.0)]);
        check("max", &samples, &[(-10, 9.0), (0, 4.0), (20, 7.0)]);
        check("first", &samples, &[(-10, 9.0), (0, 1.0), (20, 7.0)]);
        check("last", &samples, &[(-10, 9.0), (0, 1.0), (20, 7.0)]);
        check("count", &samples, &[(-10, 1.0), (0, 3.0), (20, 1.0)]);
        check("sum", &samples, &[(-10, 9.0), (0, 6.0), (20, 7.0)]);
    }

    #[test]
    fn the_integral_splits_at_borders_and_invents_nothing_across_holes() {
        let ramp: Vec<(i64, f64)> = (0..=20).map(|t| (t, t as f64)).collect();
        check("integral", &ramp, &[(0, 50.0), (10, 150.0)]);
        check("integral", &[(9, 2.0), (11, 4.0)], &[(0, 2.5), (10, 3.5)]);
        check("integral", &[(0, 5.0), (4, 5.0), (6, 5.0)], &[(0, 10.0)]);
        check("integral", &[(0, 5.0)], &[]);
    }

    #[test]
    fn what_is_beyond_all_numbers_is_the_greatest_of_them() {
        let large = [(0, 1.5e308), (1, 1.5e308)];
        check("mean", &large, &[(0, 1.5e308)]);
        check("sum", &large, &[(0, f64::MAX)]);
        check("integral", &large, &[(0, 1.5e308)]);
        check("integral", &[large[0], large[1], (2, 1.5e308)], &[(0, f64::MAX)]);
        check("integral", &[(9, -1.5e308), (11, 1.5e308)], &[(0, -0.75e308), (10, 0.75e308)]);
        check("sum", &[(0, -1.5e308), (1, -1.5e308)], &[(0, f64::MIN)]);
    }
}

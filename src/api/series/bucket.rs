//! Samples gathered into buckets of equal length, aligned to the epoch; one value a bucket and quantity.
//!
//! Bounded: only the buckets a coming sample can still touch are held: the newest, for an integral those of the longest
//! hole that is bridged. The integral is the trapezoid between neighbouring samples, split exactly at the borders, and
//! nothing across a hole longer than 3 × the sampling cadence. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Point;
use super::quantity::Quantity;
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
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    first: f64,
    last: f64,
    area: Option<f64>,
    unit: Option<Arc<str>>,
    is_plausible: bool,
}

impl Gathered {
    fn new(unit: Option<Arc<str>>) -> Self {
        let (min, max) = (f64::INFINITY, f64::NEG_INFINITY);
        Self { count: 0, sum: 0.0, min, max, first: 0.0, last: 0.0, area: None, unit, is_plausible: true }
    }

    fn add(&mut self, value: f64, is_plausible: bool) {
        if self.count == 0 {
            self.first = value;
        }
        self.count += 1;
        self.sum += value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.last = value;
        self.is_plausible &= is_plausible;
    }

    fn value(&self, function: Function) -> Option<f64> {
        if function == Function::Integral {
            return self.area;
        }
        (self.count > 0).then_some(match function {
            Function::Mean => self.sum / self.count as f64,
            Function::Min => self.min,
            Function::Max => self.max,
            Function::First => self.first,
            Function::Last => self.last,
            Function::Count => self.count as f64,
            Function::Sum | Function::Integral => self.sum,
        })
    }
}

/// The buckets under way.
#[derive(Debug)]
pub struct Buckets {
    every_us: i64,
    function: Function,
    open: BTreeMap<(i64, Quantity), Gathered>,
    previous: BTreeMap<Quantity, (Timestamp, f64)>,
}

impl Buckets {
    /// Buckets of `every_us` microseconds, more than zero.
    pub fn new(every_us: i64, function: Function) -> Self {
        Self { every_us: every_us.max(1), function, open: BTreeMap::new(), previous: BTreeMap::new() }
    }

    /// Takes a sample, in order of time; `hole_us` is the longest distance over which is integrated. Gives out what is
    /// complete.
    pub fn push(&mut self, point: Point, hole_us: i64, out: &mut dyn FnMut(Point)) {
        let is_integral = self.function == Function::Integral;
        let slack = if is_integral { hole_us } else { 0 };
        self.flush(point.time.0.saturating_sub(slack), out);
        let start = self.start_of(point.time.0);
        let unit = point.unit.clone();
        if is_integral {
            let before = self.previous.insert(point.quantity.clone(), (point.time, point.value));
            if let Some((t0, v0)) = before.filter(|(t0, _)| point.time.0 - t0.0 <= hole_us) {
                self.integrate(&point, t0.0, v0);
            }
        }
        let gathered = self.open.entry((start, point.quantity)).or_insert_with(|| Gathered::new(unit));
        gathered.add(point.value, point.is_plausible);
    }

    /// Gives out the rest.
    pub fn finish(&mut self, out: &mut dyn FnMut(Point)) {
        self.flush(i64::MAX, out);
    }

    fn start_of(&self, t: i64) -> i64 {
        t.div_euclid(self.every_us).saturating_mul(self.every_us)
    }

    /// Adds the area between the previous sample and this one to the buckets it lies in.
    fn integrate(&mut self, point: &Point, t0: i64, v0: f64) {
        let (t1, v1) = (point.time.0, point.value);
        let at = |t: i64| v0 + (v1 - v0) * ((t - t0) as f64 / (t1 - t0) as f64);
        let mut from = t0;
        while from < t1 {
            let start = self.start_of(from);
            let to = start.saturating_add(self.every_us).min(t1);
            let area = (at(from) + at(to)) / 2.0 * (to - from) as f64 / 1e6;
            let key = (start, point.quantity.clone());
            let gathered = self.open.entry(key).or_insert_with(|| Gathered::new(point.unit.clone()));
            gathered.area = Some(gathered.area.unwrap_or(0.0) + area);
            gathered.is_plausible &= point.is_plausible;
            from = to;
        }
    }

    /// Gives out the buckets that end at or before `end`.
    fn flush(&mut self, end: i64, out: &mut dyn FnMut(Point)) {
        while let Some(entry) = self.open.first_entry() {
            if entry.key().0.saturating_add(self.every_us) > end {
                return;
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
            out(Point { time: Timestamp(start), quantity, value, unit, is_plausible });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000;

    fn check(function: &str, samples: &[(i64, f64)], expected: &[(i64, f64)]) {
        let mut buckets = Buckets::new(10 * S, Function::from_name(function).unwrap());
        let mut got = Vec::new();
        let quantity = Quantity::parse("voltage_dc").unwrap();
        for (t, value) in samples {
            let quantity = quantity.clone();
            let point = Point { time: Timestamp(t * S), quantity, value: *value, unit: None, is_plausible: true };
            buckets.push(point, 3 * S, &mut |p| got.push((p.time.0 / S, p.value)));
        }
        buckets.finish(&mut |p| got.push((p.time.0 / S, p.value)));
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
}

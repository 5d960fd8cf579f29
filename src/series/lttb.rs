//! Fewer points with the same shape: largest-triangle-three-buckets (Steinarsson 2013), on the extremes of equal
//! slices of time where there are too many points to hold.
//!
//! Bounded by what is asked for, not by what is there: at most [`HELD_PER_POINT`] × `max_points` points a quantity, and
//! about [`HELD`] in all as long as that leaves each quantity twice what is asked for.
//! With `max_points` or fewer points nothing is changed. Pure.

use std::collections::BTreeMap;

use super::Point;
use super::quantity::Quantity;

/// Points held for each one asked for.
const HELD_PER_POINT: usize = 8;
/// Points held in all.
const HELD: usize = 400_000;

/// Thins every quantity to so many points.
#[derive(Debug)]
pub struct Thinner {
    max_points: usize,
    series: BTreeMap<Quantity, Held>,
}

#[derive(Debug, Default)]
struct Held {
    points: Vec<Point>,
    first: Option<Point>,
    last: Option<Point>,
    /// Width of the slices of which only the extremes are held; 0 = all points are.
    slice_us: i64,
}

impl Thinner {
    /// At least three points a quantity.
    pub fn new(max_points: usize) -> Self {
        Self { max_points: max_points.max(3), series: BTreeMap::new() }
    }

    /// Takes a point, in order of time.
    pub fn push(&mut self, point: Point) {
        let share = HELD / self.series.len().max(1);
        let held = self.series.entry(point.quantity.clone()).or_default();
        held.first.get_or_insert_with(|| point.clone());
        held.last = Some(point.clone());
        held.points.push(point);
        let most = share.clamp(self.max_points * 2, self.max_points * HELD_PER_POINT);
        if held.points.len() > most {
            held.compress(most / 2);
        }
    }

    /// Lets go of a quantity's points.
    pub fn forget(&mut self, quantity: &Quantity) {
        self.series.remove(quantity);
    }

    /// The chosen points of all quantities, in order of time.
    pub fn finish(self) -> Vec<Point> {
        let max_points = self.max_points;
        let mut chosen: Vec<Point> =
            self.series.into_values().flat_map(|held| choose(held.all(), max_points)).collect();
        chosen.sort_by(|a, b| (a.time, &a.quantity).cmp(&(b.time, &b.quantity)));
        chosen
    }
}

impl Held {
    /// Keeps the least and the greatest of each slice, slices made wider until at most `most` are left.
    fn compress(&mut self, most: usize) {
        let length = self.points.last().zip(self.points.first()).map_or(0, |(b, a)| b.time.0 - a.time.0);
        let least = length / i64::try_from(most.max(1)).unwrap_or(i64::MAX) + 1;
        self.slice_us = self.slice_us.max(least);
        loop {
            self.points = extremes(&self.points, self.slice_us);
            if self.points.len() <= most {
                return;
            }
            self.slice_us = self.slice_us.saturating_mul(2);
        }
    }

    /// What is held, with the first and the last point of all.
    fn all(self) -> Vec<Point> {
        let mut points = self.points;
        if let Some(first) = self.first.filter(|first| points.first() != Some(first)) {
            points.insert(0, first);
        }
        if let Some(last) = self.last.filter(|last| points.last() != Some(last)) {
            points.push(last);
        }
        points
    }
}

fn extremes(points: &[Point], slice_us: i64) -> Vec<Point> {
    let mut kept = Vec::new();
    for slice in points.chunk_by(|a, b| a.time.0.div_euclid(slice_us) == b.time.0.div_euclid(slice_us)) {
        let by_value = |a: &usize, b: &usize| slice[*a].value.total_cmp(&slice[*b].value);
        let (Some(least), Some(greatest)) = ((0..slice.len()).min_by(by_value), (0..slice.len()).max_by(by_value))
        else {
            continue;
        };
        kept.push(slice[least.min(greatest)].clone());
        if least != greatest {
            kept.push(slice[least.max(greatest)].clone());
        }
    }
    kept
}

/// The algorithm itself: first, last, and from each bucket between the point of the largest triangle.
fn choose(points: Vec<Point>, max_points: usize) -> Vec<Point> {
    if points.len() <= max_points {
        return points;
    }
    let inner = points.len() - 2;
    let buckets = max_points - 2;
    let border = |n: usize| 1 + n * inner / buckets;
    let x = |p: &Point| (p.time.0 - points[0].time.0) as f64;
    let mut chosen = Vec::with_capacity(max_points);
    let mut previous = 0;
    chosen.push(points[0].clone());
    for bucket in 0..buckets {
        let next = match bucket + 1 < buckets {
            true => &points[border(bucket + 1)..border(bucket + 2)],
            false => &points[points.len() - 1..],
        };
        let mean_x = next.iter().map(x).sum::<f64>() / next.len() as f64;
        let mean_y = next.iter().map(|p| p.value).sum::<f64>() / next.len() as f64;
        let (x0, y0) = (x(&points[previous]), points[previous].value);
        let area = |n: &usize| {
            let (x1, y1) = (x(&points[*n]), points[*n].value);
            ((x0 - mean_x) * (y1 - y0) - (x0 - x1) * (mean_y - y0)).abs()
        };
        let best = (border(bucket)..border(bucket + 1)).max_by(|a, b| area(a).total_cmp(&area(b)));
        previous = best.unwrap_or(previous);
        chosen.push(points[previous].clone());
    }
    chosen.push(points[points.len() - 1].clone());
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    fn thin(values: impl Iterator<Item = f64>, max_points: usize) -> Vec<(i64, f64)> {
        let mut thinner = Thinner::new(max_points);
        let quantity = Quantity::parse("x").unwrap();
        for (n, value) in values.enumerate() {
            let time = Timestamp(n as i64 * 1000);
            thinner.push(Point { time, quantity: quantity.clone(), value, unit: None, is_plausible: true });
            let held = &thinner.series[&quantity];
            assert!(held.points.len() <= max_points * HELD_PER_POINT);
        }
        thinner.finish().into_iter().map(|p| (p.time.0 / 1000, p.value)).collect()
    }

    #[test]
    fn few_points_stay_as_they_are() {
        assert_eq!(thin([1.0, 5.0, 2.0].into_iter(), 3), [(0, 1.0), (1, 5.0), (2, 2.0)]);
        assert!(thin(std::iter::empty(), 10).is_empty());
    }

    #[test]
    fn a_peak_survives_and_ends_are_kept_whatever_the_length() {
        for length in [50, 1000, 100_000] {
            let peak = length / 3;
            let got = thin((0..length).map(|n| if n == peak { 100.0 } else { (n % 7) as f64 }), 20);
            assert_eq!(got.len(), 20, "{length}");
            assert_eq!(got[0].0, 0);
            assert_eq!(got[19].0, length - 1);
            assert!(got.contains(&(peak, 100.0)), "{length}");
            assert!(got.windows(2).all(|w| w[0].0 < w[1].0), "in order");
        }
    }
}

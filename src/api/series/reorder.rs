//! Rows come by message time, answers go by sample time: the buffer between.
//!
//! A sample lies at most `span` from its message's time, so no later row holds one before `row.ts − span`: everything
//! older leaves the buffer. Invariant: at most `capacity` samples are held. Should a span be so wide that this is not
//! enough, the latest are put aside and [`Reorder::again`] says from where to read a second time; the order holds.
//! Pure.

use std::collections::BTreeMap;

use super::quantity::Found;
use crate::domain::Timestamp;

/// Where a sample stands: time, then message time and number, then place in the message. Unique.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs)]
pub struct Place {
    pub time: Timestamp,
    pub message: (Timestamp, i64),
    pub slot: (u32, u32),
}

/// Samples that are not yet known to be in their turn.
#[derive(Debug)]
pub struct Reorder {
    held: BTreeMap<Place, Found>,
    capacity: usize,
    /// Samples before it were given out in an earlier reading.
    floor: Option<Place>,
    /// Samples from it on are for the next reading.
    ceiling: Option<Place>,
}

impl Reorder {
    /// Holds at most `capacity` samples.
    pub fn new(capacity: usize) -> Self {
        Self { held: BTreeMap::new(), capacity: capacity.max(1), floor: None, ceiling: None }
    }

    /// Takes a sample.
    pub fn insert(&mut self, place: Place, found: Found) {
        if self.floor.is_some_and(|floor| place < floor) || self.ceiling.is_some_and(|ceiling| place >= ceiling) {
            return;
        }
        self.held.insert(place, found);
        if self.held.len() > self.capacity {
            self.ceiling = self.held.pop_last().map(|(place, _)| place);
        }
    }

    /// The next sample before `horizon`, in order.
    pub fn next_before(&mut self, horizon: Timestamp) -> Option<(Timestamp, Found)> {
        let first = self.held.first_entry()?;
        if first.key().time >= horizon {
            return None;
        }
        let (place, found) = first.remove_entry();
        Some((place.time, found))
    }

    /// The next sample, when no more rows come.
    pub fn next_at_end(&mut self) -> Option<(Timestamp, Found)> {
        self.held.pop_first().map(|(place, found)| (place.time, found))
    }

    /// After a reading: the time from which to read again, if something had to be put aside.
    pub fn again(&mut self) -> Option<Timestamp> {
        self.floor = Some(self.ceiling.take()?);
        self.floor.map(|floor| floor.time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::series::quantity::Quantity;
    use proptest::prelude::*;

    fn found(value: f64) -> Found {
        Found { quantity: Quantity::parse("x").unwrap(), value, unit: None, is_plausible: true }
    }

    /// Reads rows of (message time, sample times) as the source does.
    fn read(rows: &[(i64, Vec<i64>)], span: i64, capacity: usize) -> Vec<i64> {
        let mut reorder = Reorder::new(capacity);
        let mut out = Vec::new();
        loop {
            for (seq, (ts, samples)) in rows.iter().enumerate() {
                while let Some((time, _)) = reorder.next_before(Timestamp(ts - span)) {
                    out.push(time.0);
                }
                for (slot, time) in samples.iter().enumerate() {
                    let message = (Timestamp(*ts), seq as i64);
                    let place = Place { time: Timestamp(*time), message, slot: (slot as u32, 0) };
                    reorder.insert(place, found(0.0));
                }
            }
            while let Some((time, _)) = reorder.next_at_end() {
                out.push(time.0);
            }
            if reorder.again().is_none() {
                return out;
            }
        }
    }

    proptest! {
        #[test]
        fn all_samples_come_once_and_in_order_whatever_the_capacity(
            steps in prop::collection::vec((0_i64..50, prop::collection::vec(-30_i64..30, 0..6)), 0..40),
            capacity in 1_usize..20,
        ) {
            let mut ts = 0;
            let rows: Vec<(i64, Vec<i64>)> = steps.into_iter().map(|(step, offsets)| {
                ts += step;
                (ts, offsets.into_iter().map(|o| ts + o).collect())
            }).collect();
            let mut expected: Vec<i64> = rows.iter().flat_map(|(_, s)| s.iter().copied()).collect();
            expected.sort_unstable();
            prop_assert_eq!(read(&rows, 30, capacity), expected);
        }
    }
}

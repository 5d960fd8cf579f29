//! Rows come by message time, answers go by sample time: the buffer between.
//!
//! A sample lies at most `span` from its message's time, so no later row holds one before `row.ts − span`: everything
//! older leaves the buffer. Invariant: at most `capacity` samples are held. Should a span be so wide that this is not
//! enough, the latest are put aside and [`Reorder::again`] says from where to read a second time; the order holds.
//! Mostly samples come in their order; only the others pay for being sorted. Pure.

use std::collections::{BTreeMap, VecDeque};

use super::time::Timestamp;

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
pub struct Reorder<T> {
    /// Those that came behind all before them.
    in_order: VecDeque<(Place, T)>,
    /// The others.
    late: BTreeMap<Place, T>,
    capacity: usize,
    /// Samples before it were given out in an earlier reading.
    floor: Option<Place>,
    /// Samples from it on are for the next reading.
    ceiling: Option<Place>,
}

impl<T> Reorder<T> {
    /// Holds at most `capacity` samples.
    pub fn new(capacity: usize) -> Self {
        let (in_order, late) = (VecDeque::new(), BTreeMap::new());
        Self { in_order, late, capacity: capacity.max(1), floor: None, ceiling: None }
    }

    /// Takes a sample.
    pub fn insert(&mut self, place: Place, item: T) {
        if self.floor.is_some_and(|floor| place < floor) || self.ceiling.is_some_and(|ceiling| place >= ceiling) {
            return;
        }
        match self.in_order.back() {
            Some((last, _)) if *last >= place => {
                self.late.insert(place, item);
            }
            _ => self.in_order.push_back((place, item)),
        }
        if self.in_order.len() + self.late.len() > self.capacity {
            self.ceiling = self.pop_last();
        }
    }

    fn pop_last(&mut self) -> Option<Place> {
        let (ordered, late) = (self.in_order.back().map(|(place, _)| *place), self.late.keys().next_back().copied());
        if ordered > late {
            self.in_order.pop_back();
        } else {
            self.late.pop_last();
        }
        ordered.max(late)
    }

    /// The next sample before `horizon`, in order.
    pub fn next_before(&mut self, horizon: Timestamp) -> Option<(Timestamp, T)> {
        let first = self.first().filter(|first| first.time < horizon)?;
        self.take(first)
    }

    /// The next sample, when no more rows come.
    pub fn next_at_end(&mut self) -> Option<(Timestamp, T)> {
        self.take(self.first()?)
    }

    fn first(&self) -> Option<Place> {
        let ordered = self.in_order.front().map(|(place, _)| *place);
        if self.late.is_empty() {
            return ordered;
        }
        ordered.into_iter().chain(self.late.keys().next().copied()).min()
    }

    fn take(&mut self, place: Place) -> Option<(Timestamp, T)> {
        let is_ordered = self.late.is_empty() || self.in_order.front().is_some_and(|(first, _)| *first == place);
        let item = if is_ordered { self.in_order.pop_front()?.1 } else { self.late.remove(&place)? };
        Some((place.time, item))
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
    use proptest::prelude::*;

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
                    reorder.insert(place, ());
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

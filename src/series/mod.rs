//! Measurements of a device over time: samples in order, what a minute or an hour of them comes to, buckets, thinning.
//!
//! Promise: what a question about buckets or shape is answered with depends on the samples alone, never on what is rolled up
//! already: both ways add up minutes, and hours out of minutes, in the same order. Memory does not grow with the range.
//! Must not know: HTTP, SQL, how answers are written.
//!
//! Start from [`source`] (samples), [`summary`] (what many samples come to) and [`walk`] (both over a long range); [`roll`]
//! makes the rows that the store keeps, [`codec`] their bytes.

pub mod bucket;
pub mod codec;
pub mod gather;
mod instants;
pub mod lttb;
pub mod quantity;
pub mod roll;
pub mod source;
pub mod summary;
#[cfg(test)]
mod tests;
pub mod walk;

pub use bucket::{Buckets, Function};
pub use gather::{Gather, Level};
pub use lttb::Thinner;
pub use quantity::{Quantity, Wanted};
pub use source::Job;
pub use summary::{Reading, Summary};

use std::sync::Arc;

use crate::domain::Timestamp;

/// A half-open range of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Range {
    pub start: Timestamp,
    pub stop: Timestamp,
}

impl Range {
    /// Whether `t` lies in the range.
    pub fn contains(self, t: Timestamp) -> bool {
        self.start <= t && t < self.stop
    }
}

/// A value of a quantity at an instant.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub struct Point {
    pub time: Timestamp,
    pub quantity: Quantity,
    pub value: f64,
    /// Where it differs from the quantity's usual one; empty = none.
    pub unit: Option<Arc<str>>,
    /// Whether it, and all it is derived from, lies in its plausible range.
    pub is_plausible: bool,
}

impl Point {
    /// A reading of a quantity.
    pub fn new(quantity: Quantity, reading: Reading) -> Self {
        let Reading { time, value, unit, is_plausible, .. } = reading;
        Self { time, quantity, value, unit, is_plausible }
    }

    /// The unit to show.
    pub fn unit(&self) -> Option<&str> {
        Some(self.unit.as_deref().unwrap_or_else(|| self.quantity.unit())).filter(|unit| !unit.is_empty())
    }

    /// The quality to show: good is not said.
    pub fn quality(&self) -> Option<&'static str> {
        (!self.is_plausible).then_some("out_of_range")
    }
}

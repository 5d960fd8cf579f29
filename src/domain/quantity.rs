//! What can be asked for, or watched: a measured type, or a value derived from the measured ones of the same instant.
//!
//! Pure; the formulas are [`Derived`]'s.

use super::derived::Derived;
use super::metric::Metric;

/// Before the key of a derived quantity: no metric's name begins so.
const DERIVED: char = '=';

/// A measured or derived quantity.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Quantity {
    /// As sent by the meter.
    Measured(Metric),
    /// Computed from voltage, current and power factor of one instant.
    Derived(Derived),
}

impl Quantity {
    /// The quantity of that name; `None` when it cannot be one.
    pub fn parse(name: &str) -> Option<Self> {
        Derived::from_name(name).map(Self::Derived).or_else(|| Metric::parse(name).map(Self::Measured))
    }

    /// As in the API.
    pub fn name(&self) -> &str {
        match self {
            Self::Measured(metric) => metric.name(),
            Self::Derived(derived) => derived.name(),
        }
    }

    /// The name under which the store keeps its rollups: a meter may call what it measures by a derived quantity's name.
    pub fn key(&self) -> String {
        match self {
            Self::Measured(metric) => metric.name().to_owned(),
            Self::Derived(derived) => format!("{DERIVED}{}", derived.name()),
        }
    }

    /// The inverse of [`key`](Self::key).
    pub fn from_key(key: &str) -> Option<Self> {
        match key.strip_prefix(DERIVED) {
            Some(name) => Derived::from_name(name).map(Self::Derived),
            None => Metric::parse(key).map(Self::Measured),
        }
    }

    /// The unit when the meter said no other; empty = none.
    pub fn unit(&self) -> &str {
        match self {
            Self::Measured(Metric::Known(known)) => known.unit(),
            Self::Measured(Metric::Other(_)) => "",
            Self::Derived(derived) => derived.unit(),
        }
    }
}

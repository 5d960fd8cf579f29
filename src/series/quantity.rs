//! What is asked for: measured types, or values derived from the measured ones of the same instant.
//!
//! Pure; the formulas are the domain's ([`Derived`]).

use std::sync::Arc;

pub use crate::domain::Quantity;
use crate::domain::Telemetry;
use crate::domain::derived::{Derived, Power};
use crate::domain::metric::Metric;
use crate::store::Columns;

/// A value found in a datagram.
#[derive(Clone, PartialEq, Debug)]
pub struct Found {
    /// What.
    pub quantity: Quantity,
    /// How much.
    pub value: f64,
    /// The unit as sent, where it differs from the usual one.
    pub unit: Option<Arc<str>>,
    /// Whether it, and all it is derived from, lies in its plausible range.
    pub is_plausible: bool,
}

/// Which quantities are asked for.
#[derive(Clone, PartialEq, Debug)]
pub enum Wanted {
    /// All that was measured.
    Measured,
    /// All that was measured, and all that can be derived from it.
    Everything,
    /// These.
    These(Vec<Quantity>),
}

impl Wanted {
    /// Whether it is a single one.
    pub fn is_one(&self) -> bool {
        matches!(self, Self::These(all) if all.len() == 1)
    }

    fn is_measured(&self, metric: &Metric) -> bool {
        match self {
            Self::Measured | Self::Everything => true,
            Self::These(all) => all.iter().any(|q| matches!(q, Quantity::Measured(wanted) if wanted == metric)),
        }
    }

    fn derived(&self) -> impl Iterator<Item = Derived> + '_ {
        Derived::ALL.into_iter().filter(move |derived| match self {
            Self::Measured => false,
            Self::Everything => true,
            Self::These(all) => all.contains(&Quantity::Derived(*derived)),
        })
    }

    /// The columns that hold it.
    pub fn columns(&self) -> Columns {
        let Self::These(all) = self else { return Columns::ALL };
        all.iter().fold(Columns::NONE, |columns, quantity| match quantity {
            Quantity::Measured(Metric::Known(known)) => columns.with(*known),
            Quantity::Measured(Metric::Other(_)) => columns,
            Quantity::Derived(_) => Derived::INPUTS.into_iter().fold(columns, Columns::with),
        })
    }
}

/// Calls `each` with slot, ordinal within the slot, and value, for all that is wanted of a datagram.
pub fn find(values: &Telemetry, wanted: &Wanted, mut each: impl FnMut(usize, u32, Found)) {
    let mut ordinal = 0;
    for series in values.series.iter().filter(|s| wanted.is_measured(&s.metric)) {
        for (slot, value) in series.values.iter().enumerate().filter(|(_, v)| v.is_finite()) {
            let quantity = Quantity::Measured(series.metric.clone());
            let is_plausible = series.metric.is_plausible(*value);
            each(slot, ordinal, Found { quantity, value: *value, unit: series.unit.clone(), is_plausible });
        }
        ordinal += 1;
    }
    for derived in wanted.derived() {
        for (slot, Power { value, is_plausible }) in derived.of_datagram(values) {
            each(slot, ordinal, Found { quantity: Quantity::Derived(derived), value, unit: None, is_plausible });
        }
        ordinal += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(values: &[(i64, &str, f64)]) -> Telemetry {
        let mut telemetry = Telemetry::default();
        for (offset, name, value) in values {
            telemetry.push(*offset, Metric::parse(name).unwrap(), None, *value);
        }
        telemetry
    }

    fn check(values: &[(i64, &str, f64)], wanted: &str, expected: &[(usize, f64)]) {
        let wanted: Vec<_> = wanted.split_whitespace().map(|n| Quantity::parse(n).unwrap()).collect();
        let wanted = if wanted.is_empty() { Wanted::Measured } else { Wanted::These(wanted) };
        let mut got = Vec::new();
        find(&datagram(values), &wanted, |slot, _, found| got.push((slot, found.value)));
        assert_eq!(got, expected);
    }

    #[test]
    fn power_is_made_of_values_of_the_same_instant_only() {
        let dc =
            [(0, "voltage_dc", 750.0), (0, "current_dc", -100.0), (1, "voltage_dc", 740.0), (2, "current_dc", 1.0)];
        check(&dc, "active_power", &[(0, -75_000.0)]);
        check(&dc, "apparent_power", &[(0, 75_000.0)]);
        check(&dc, "reactive_power", &[(0, 0.0)]);
        let ac = [(0, "voltage_ac", 100.0), (0, "current_ac", 10.0), (0, "pf", -0.6)];
        check(&ac, "active_power", &[(0, -600.0)]);
        check(&ac, "reactive_power", &[(0, 800.0)]);
        check(&ac[..2], "active_power", &[]);
        check(&[&dc[..2], &ac].concat(), "active_power", &[(0, -75_600.0)]);
    }

    #[test]
    fn without_a_wish_all_measured_values_come_and_no_derived_ones() {
        let values = [(0, "voltage_dc", 750.0), (0, "current_dc", 2.0), (0, "voltage_dc", 751.0)];
        check(&values, "", &[(0, 750.0), (1, 751.0), (0, 2.0)]);
        check(&values, "current_dc", &[(0, 2.0)]);
    }
}

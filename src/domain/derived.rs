//! Power from voltage, current and power factor: values no meter sends.
//!
//! Voltage, current and power factor belong together when they stand in one slot of a datagram (same sample time).
//! Import and export are the sign of active power. Where a vehicle has a DC and an AC system and a sample holds both,
//! their active and apparent powers add: the system that is not in use reads zero, and then needs no power factor. Where
//! AC power flows and its power factor is missing, the sample's active and reactive power are unknown, not the DC part.
//! So they are where one of the values came in another unit than its registered one, and where a power is beyond all numbers
//! that many of them could still be added up to.

use super::metric::{Known, Metric, Series, Telemetry};

/// The largest power, in W, VA or var: of larger ones the energy of a fleet and of years would be no number any more.
const LARGEST: f64 = 1e290;

/// A derived quantity.
#[allow(clippy::enum_variant_names, reason = "the field's words, as in the API")]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Derived {
    /// P in W: DC V · I, AC V · I · pf; negative = regenerating.
    ActivePower,
    /// S in VA: |V · I|.
    ApparentPower,
    /// Q in var: √(S² − P²), magnitude only, no quadrant.
    ReactivePower,
}

impl Derived {
    /// All derived quantities.
    pub const ALL: [Self; 3] = [Self::ActivePower, Self::ApparentPower, Self::ReactivePower];

    /// What they are derived from.
    pub const INPUTS: [Known; 5] = [Known::VoltageDc, Known::CurrentDc, Known::VoltageAc, Known::CurrentAc, Known::Pf];

    /// What this one is derived from.
    pub fn inputs(self) -> &'static [Known] {
        match self {
            Self::ApparentPower => &[Known::VoltageDc, Known::CurrentDc, Known::VoltageAc, Known::CurrentAc],
            Self::ActivePower | Self::ReactivePower => &Self::INPUTS,
        }
    }

    /// The quantity's name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ActivePower => "active_power",
            Self::ApparentPower => "apparent_power",
            Self::ReactivePower => "reactive_power",
        }
    }

    /// The quantity's unit.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::ActivePower => "W",
            Self::ApparentPower => "VA",
            Self::ReactivePower => "var",
        }
    }

    /// Reads the API's word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|derived| derived.name() == name)
    }

    /// The quantity of one sample; `None` when it lacks what the formula needs, or when a product is too large: 1e290.
    /// `value` gives the sample's measured values by type.
    pub fn of_sample(self, value: impl Fn(Known) -> Option<f64>) -> Option<Power> {
        let dc_va = product(&value, &[Known::VoltageDc, Known::CurrentDc]);
        let ac_va = product(&value, &[Known::VoltageAc, Known::CurrentAc]).map(Power::abs);
        let ac_w = match (ac_va, value(Known::Pf)) {
            (Some(s), Some(pf)) => Some(s.times(Known::Pf, pf)),
            (Some(s), None) if s.value == 0.0 => Some(s),
            (Some(_), None) if self != Self::ApparentPower => return None,
            _ => None,
        };
        if ![dc_va, ac_va, ac_w].iter().flatten().all(Power::is_a_number) {
            return None;
        }
        let power = match self {
            Self::ActivePower => sum(dc_va, ac_w),
            Self::ApparentPower => sum(dc_va.map(Power::abs), ac_va),
            Self::ReactivePower => match (ac_va, ac_w) {
                (Some(s), Some(p)) => Some(p.with(((s.value - p.value) * (s.value + p.value)).max(0.0).sqrt())),
                _ => dc_va.map(|p| p.with(0.0)),
            },
        };
        power.filter(Power::is_a_number)
    }

    /// The quantity of each sample of a datagram that has it, with the sample's slot.
    pub fn of_datagram(self, telemetry: &Telemetry) -> impl Iterator<Item = (usize, Power)> + '_ {
        let usual = |known| telemetry.series.iter().find(|s| s.metric == Metric::Known(known) && s.is_usual());
        let series = Self::INPUTS.map(usual);
        let is_input = |s: &&Series| matches!(&s.metric, Metric::Known(known) if self.inputs().contains(known));
        let foreign: Vec<&Series> = telemetry.series.iter().filter(is_input).filter(|s| !s.is_usual()).collect();
        let is_usual = move |slot: &usize| foreign.iter().all(|s| s.values[*slot].is_nan());
        (0..telemetry.offsets_us.len()).filter(is_usual).filter_map(move |slot| {
            let value = |known| {
                let input = Self::INPUTS.iter().position(|input| *input == known)?;
                series[input].map(|s| s.values[slot]).filter(|v| !v.is_nan())
            };
            self.of_sample(value).map(|power| (slot, power))
        })
    }
}

/// A derived value.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Power {
    /// In the quantity's unit.
    pub value: f64,
    /// Whether all it is derived from lies in its plausible range.
    pub is_plausible: bool,
}

impl Power {
    /// Whether it can be reckoned with.
    fn is_a_number(&self) -> bool {
        self.value.abs() <= LARGEST
    }

    fn abs(self) -> Self {
        self.with(self.value.abs())
    }

    fn with(self, value: f64) -> Self {
        Self { value, ..self }
    }

    fn times(self, known: Known, value: f64) -> Self {
        Self { value: self.value * value, is_plausible: self.is_plausible && known.is_plausible(value) }
    }
}

/// The product of measured values, when all are there.
fn product(value: &impl Fn(Known) -> Option<f64>, factors: &[Known]) -> Option<Power> {
    let one = Power { value: 1.0, is_plausible: true };
    factors.iter().try_fold(one, |product, known| Some(product.times(*known, value(*known)?)))
}

/// The sum of what there is.
fn sum(a: Option<Power>, b: Option<Power>) -> Option<Power> {
    match (a, b) {
        (Some(a), Some(b)) => Some(Power { value: a.value + b.value, is_plausible: a.is_plausible && b.is_plausible }),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sample: &[(Known, f64)], active: Option<f64>, apparent: Option<f64>, reactive: Option<f64>) {
        let value = |known| sample.iter().find(|(k, _)| *k == known).map(|(_, v)| *v);
        for (derived, expected) in Derived::ALL.into_iter().zip([active, apparent, reactive]) {
            assert_eq!(derived.of_sample(value).map(|power| power.value), expected, "{derived:?} of {sample:?}");
        }
    }

    #[test]
    fn power_follows_the_formulas_and_their_signs() {
        use Known::{CurrentAc, CurrentDc, Pf, VoltageAc, VoltageDc};
        check(&[(VoltageDc, 750.0), (CurrentDc, 300.0)], Some(225_000.0), Some(225_000.0), Some(0.0));
        check(&[(VoltageDc, 750.0), (CurrentDc, -300.0)], Some(-225_000.0), Some(225_000.0), Some(0.0));
        check(&[(VoltageAc, 100.0), (CurrentAc, 10.0), (Pf, 0.6)], Some(600.0), Some(1000.0), Some(800.0));
        check(&[(VoltageAc, 100.0), (CurrentAc, 10.0), (Pf, -0.6)], Some(-600.0), Some(1000.0), Some(800.0));
        check(&[(VoltageAc, 100.0), (CurrentAc, 10.0)], None, Some(1000.0), None);
        check(&[(VoltageAc, 100.0), (CurrentAc, 10.0), (Pf, 1.5)], Some(1500.0), Some(1000.0), Some(0.0));
        check(&[(VoltageDc, 750.0), (Pf, 1.0)], None, None, None);
        check(&[(VoltageAc, 1e200), (CurrentAc, 1e200), (Pf, 0.5)], None, None, None);
        check(&[(VoltageDc, 1.2e154), (CurrentDc, 1.2e154)], None, None, None);
        check(&[(VoltageDc, 1e290), (CurrentDc, -1.0)], Some(-1e290), Some(1e290), Some(0.0));
    }

    #[test]
    fn two_systems_of_one_vehicle_add() {
        use Known::{CurrentAc, CurrentDc, Pf, VoltageAc, VoltageDc};
        let dc = [(VoltageDc, 750.0), (CurrentDc, -2.0)];
        let ac = [(VoltageAc, 100.0), (CurrentAc, 10.0), (Pf, 0.6)];
        check(&[dc.as_slice(), &ac].concat(), Some(-900.0), Some(2500.0), Some(800.0));
        let idle = [(VoltageAc, 0.0), (CurrentAc, 0.0), (Pf, 0.0)];
        check(&[dc.as_slice(), &idle].concat(), Some(-1500.0), Some(1500.0), Some(0.0));
        check(&[dc.as_slice(), &idle[..2]].concat(), Some(-1500.0), Some(1500.0), Some(0.0));
        check(&[dc.as_slice(), &ac[..2]].concat(), None, Some(2500.0), None);
    }

    #[test]
    fn a_value_is_plausible_when_all_it_is_made_of_is() {
        use Known::{CurrentAc, CurrentDc, Pf, VoltageAc, VoltageDc};
        let sample = [(VoltageDc, 750.0), (CurrentDc, 1.0), (VoltageAc, 100.0), (CurrentAc, 10.0), (Pf, 1.5)];
        let value = |known| sample.iter().find(|(k, _)| *k == known).map(|(_, v)| *v);
        let is_plausible = Derived::ALL.map(|derived| derived.of_sample(value).map(|power| power.is_plausible));
        assert_eq!(is_plausible, [Some(false), Some(true), Some(false)]);
    }

    #[test]
    fn only_values_of_one_sample_belong_together() {
        let mut telemetry = Telemetry::default();
        telemetry.push(0, Metric::Known(Known::VoltageDc), None, 750.0);
        telemetry.push(0, Metric::Known(Known::CurrentDc), None, 10.0);
        telemetry.push(1_000_000, Metric::Known(Known::VoltageDc), None, 751.0);
        telemetry.push(2_000_000, Metric::Known(Known::CurrentDc), None, 12.0);
        let power = Power { value: 7500.0, is_plausible: true };
        assert_eq!(Derived::ActivePower.of_datagram(&telemetry).collect::<Vec<_>>(), [(0, power)]);
    }

    #[test]
    fn a_sample_with_a_value_in_another_unit_has_no_power_not_even_that_of_its_other_system() {
        let check = |unit: &str, expected: &[usize]| {
            let mut telemetry = Telemetry::default();
            let values = [(Known::VoltageDc, "V", 750.0), (Known::CurrentDc, unit, 0.3)];
            for (known, unit, value) in values {
                telemetry.push(0, Metric::Known(known), Some(unit), value);
            }
            let values = [(Known::VoltageAc, 100.0), (Known::CurrentAc, 10.0), (Known::Pf, 0.6)];
            for (slot, (known, value)) in [0, 1].into_iter().flat_map(|slot| values.map(|value| (slot, value))) {
                telemetry.push(slot, Metric::Known(known), None, value);
            }
            for derived in Derived::ALL {
                let slots: Vec<usize> = derived.of_datagram(&telemetry).map(|(slot, _)| slot).collect();
                assert_eq!(slots, expected, "{derived:?} {unit}");
            }
        };
        check("A", &[0, 1]);
        check("kA", &[1]);
    }
}

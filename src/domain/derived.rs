//! Power from voltage, current and power factor: values no meter sends.
//!
//! Voltage, current and power factor belong together when they stand in one slot of a datagram (same sample time).
//! Import and export are the sign of active power. Where a vehicle has a DC and an AC system and a sample holds both,
//! their active and apparent powers add: the system that is not in use reads zero.

use super::metric::{Known, Metric, Telemetry};

/// A derived quantity.
#[allow(clippy::enum_variant_names, reason = "the field's words, as in the API")]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
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

    /// The quantity of one sample; `None` when it lacks what the formula needs. `value` gives the sample's measured
    /// values by type.
    pub fn of_sample(self, value: impl Fn(Known) -> Option<f64>) -> Option<f64> {
        let product = |voltage, current| Some(value(voltage)? * value(current)?);
        let dc_va = product(Known::VoltageDc, Known::CurrentDc);
        let ac_va = product(Known::VoltageAc, Known::CurrentAc).map(f64::abs);
        let ac_w = ac_va.zip(value(Known::Pf)).map(|(s, pf)| s * pf);
        match self {
            Self::ActivePower => sum(dc_va, ac_w),
            Self::ApparentPower => sum(dc_va.map(f64::abs), ac_va),
            Self::ReactivePower => match (ac_va, ac_w) {
                (Some(s), Some(p)) => Some((s * s - p * p).max(0.0).sqrt()),
                (Some(_), None) => None,
                (None, _) => dc_va.map(|_| 0.0),
            },
        }
    }

    /// The quantity of each sample of a datagram that has it, as (sample time − message time in µs, value).
    pub fn of_datagram(self, telemetry: &Telemetry) -> impl Iterator<Item = (i64, f64)> + '_ {
        const INPUTS: [Known; 5] = [Known::VoltageDc, Known::CurrentDc, Known::VoltageAc, Known::CurrentAc, Known::Pf];
        let series = INPUTS.map(|known| telemetry.series.iter().find(|s| s.metric == Metric::Known(known)));
        telemetry.offsets_us.iter().enumerate().filter_map(move |(slot, offset_us)| {
            let value = |known| {
                let input = INPUTS.iter().position(|input| *input == known)?;
                series[input].map(|s| s.values[slot]).filter(|v| !v.is_nan())
            };
            self.of_sample(value).map(|power| (*offset_us, power))
        })
    }
}

/// The sum of what there is.
fn sum(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a + b),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sample: &[(Known, f64)], active: Option<f64>, apparent: Option<f64>, reactive: Option<f64>) {
        let value = |known| sample.iter().find(|(k, _)| *k == known).map(|(_, v)| *v);
        assert_eq!(Derived::ActivePower.of_sample(value), active, "P of {sample:?}");
        assert_eq!(Derived::ApparentPower.of_sample(value), apparent, "S of {sample:?}");
        assert_eq!(Derived::ReactivePower.of_sample(value), reactive, "Q of {sample:?}");
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
    }

    #[test]
    fn only_values_of_one_sample_belong_together() {
        let mut telemetry = Telemetry::default();
        telemetry.push(0, Metric::Known(Known::VoltageDc), None, 750.0);
        telemetry.push(0, Metric::Known(Known::CurrentDc), None, 10.0);
        telemetry.push(1_000_000, Metric::Known(Known::VoltageDc), None, 751.0);
        telemetry.push(2_000_000, Metric::Known(Known::CurrentDc), None, 12.0);
        assert_eq!(Derived::ActivePower.of_datagram(&telemetry).collect::<Vec<_>>(), [(0, 7500.0)]);
    }
}

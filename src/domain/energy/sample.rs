//! A datagram's power samples.

use std::iter::Peekable;

use super::super::derived::{Derived, Power};
use super::super::metric::Telemetry;
use super::super::time::Timestamp;
use super::steps::lower_median;
use super::{DEFAULT_CADENCE_US, Doubts, MAX_CADENCE_US};

/// The powers of one instant.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sample {
    /// When.
    pub time: Timestamp,
    /// P in W, negative = feeding back.
    pub active_w: f64,
    /// S in VA.
    pub apparent_va: f64,
    /// Q in var, magnitude.
    pub reactive_var: f64,
    /// Distance of samples, µs, where its datagram tells it.
    pub cadence_us: Option<i64>,
    /// What speaks against it.
    pub doubts: Doubts,
}

impl Sample {
    /// Its cadence, or the default one.
    pub fn known_cadence_us(&self) -> i64 {
        self.cadence_us.unwrap_or(DEFAULT_CADENCE_US)
    }
}

/// Calls `each` with the slot and the sample of each instant of a datagram that has a power. Samples that lack what active
/// power needs, or one of whose powers is beyond all numbers, are as if they were not there.
///
/// The meter's cadence is the lower median of the distances within the datagram, when there are at least two: they leave a
/// meter together, so one that is lost leaves no hole among them.
pub fn samples(ts: Timestamp, values: &Telemetry, is_clock_off: bool, each: &mut dyn FnMut(usize, Sample)) {
    let mut active = Derived::ActivePower.of_datagram(values).peekable();
    if active.peek().is_none() {
        return;
    }
    let active: Vec<(usize, Power)> = active.collect();
    let mut apparent = Derived::ApparentPower.of_datagram(values).peekable();
    let mut reactive = Derived::ReactivePower.of_datagram(values).peekable();
    let cadence_us = cadence(active.iter().filter_map(|(slot, _)| values.offsets_us.get(*slot).copied()).collect());
    for (slot, power) in active {
        let (Some(s), Some(q)) = (of_slot(&mut apparent, slot), of_slot(&mut reactive, slot)) else { continue };
        let sample = Sample {
            time: ts.plus_us(values.offsets_us[slot]),
            active_w: power.value,
            apparent_va: s.value,
            reactive_var: q.value,
            cadence_us,
            doubts: Doubts { is_implausible: !power.is_plausible, is_clock_off },
        };
        each(slot, sample);
    }
}

/// The power of a slot, if it has one; those of later slots stay.
fn of_slot(powers: &mut Peekable<impl Iterator<Item = (usize, Power)>>, slot: usize) -> Option<Power> {
    while powers.next_if(|(at, _)| *at < slot).is_some() {}
    powers.next_if(|(at, _)| *at == slot).map(|(_, power)| power)
}

/// The distance of a datagram's samples.
fn cadence(mut offsets_us: Vec<i64>) -> Option<i64> {
    offsets_us.sort_unstable();
    let steps = offsets_us.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).filter(|step| *step > 0);
    let mut steps: Vec<i64> = steps.collect();
    if steps.len() < 2 {
        return None;
    }
    lower_median(&mut steps).map(|us| us.min(MAX_CADENCE_US))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::metric::Metric;

    fn check(values: &[(i64, &str, f64)], expected: &[(i64, f64, f64, f64, bool)], cadence_s: Option<i64>) {
        let mut telemetry = Telemetry::default();
        for (offset_s, name, value) in values {
            telemetry.push(offset_s * 1_000_000, Metric::parse(name).unwrap(), None, *value);
        }
        let mut got = Vec::new();
        samples(Timestamp(0), &telemetry, false, &mut |_, sample| {
            assert_eq!(sample.cadence_us, cadence_s.map(|s| s * 1_000_000), "{values:?}");
            let Sample { time, active_w, apparent_va, reactive_var, doubts, .. } = sample;
            got.push((time.0 / 1_000_000, active_w, apparent_va, reactive_var, doubts.is_implausible));
        });
        assert_eq!(got, expected, "{values:?}");
    }

    #[test]
    fn a_sample_is_an_instant_with_all_that_active_power_needs() {
        let ac = [(0, "voltage_ac", 100.0), (0, "current_ac", 10.0), (0, "pf", -0.6), (1, "voltage_ac", 100.0)];
        check(&ac, &[(0, -600.0, 1000.0, 800.0, false)], None);
        let no_pf = [(0, "voltage_ac", 100.0), (0, "current_ac", 10.0)];
        check(&no_pf, &[], None);
        let dc = [(0, "voltage_dc", 9000.0), (0, "current_dc", -1.0), (2, "voltage_dc", 1.0), (2, "current_dc", 1.0)];
        check(&dc, &[(0, -9000.0, 9000.0, 0.0, true), (2, 1.0, 1.0, 0.0, false)], None);
    }

    #[test]
    fn a_sample_beyond_all_numbers_takes_no_other_with_it() {
        let ac = |at: i64, volts: f64, amperes: f64| {
            [(at, "voltage_ac", volts), (at, "current_ac", amperes), (at, "pf", 0.6)]
        };
        // Of the middle one active power is a number, and what reactive power is the root of is none.
        let values = [ac(0, 100.0, 10.0), ac(1, 1e80, 1e80), ac(2, 100.0, 20.0)].concat();
        check(&values, &[(0, 600.0, 1000.0, 800.0, false), (2, 1200.0, 2000.0, 1600.0, false)], Some(1));
        // Each of these powers is a number; what they come to together would be none.
        let dc = |at: i64, volts: f64, amperes: f64| [(at, "voltage_dc", volts), (at, "current_dc", amperes)];
        let values = [dc(0, 750.0, 2.0), dc(1, 1.2e154, 1.2e154), dc(2, 1.2e154, -1.2e154), dc(3, 750.0, 4.0)].concat();
        check(&values, &[(0, 1500.0, 1500.0, 0.0, false), (3, 3000.0, 3000.0, 0.0, false)], None);
    }

    #[test]
    fn the_cadence_is_the_usual_distance_within_the_datagram() {
        let at = |times: &[i64]| -> Vec<(i64, &str, f64)> {
            times.iter().flat_map(|t| [(*t, "voltage_dc", 1.0), (*t, "current_dc", 1.0)]).collect()
        };
        let check = |times: &[i64], cadence_s| {
            let expected: Vec<_> = times.iter().map(|t| (*t, 1.0, 1.0, 0.0, false)).collect();
            check(&at(times), &expected, cadence_s);
        };
        check(&[0, 1], None);
        check(&[0, 2, 4, 6], Some(2));
        check(&[-9, -8, -7, 53], Some(1));
        check(&[0, 1, 40], Some(1));
        check(&[0, 600, 1200], Some(60));
    }
}

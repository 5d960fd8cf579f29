//! What the line and the converter make of a train's power: volts, amperes, power factor, distortion.
//!
//! The line is a source behind a resistance that changes with the way to the substation: the voltage sags under load and
//! rises while the train feeds back. Invariant: every value lies in the plausible range of its type, and for DC
//! V·I equals the power drawn up to rounding. Does not know: time stamps, messages.

use rand::Rng;
use rand::rngs::SmallRng;

use super::options::Profile;
use super::train::{Train, Vehicle};

/// A measured value of one instant: type, unit, value rounded as the meter sends it.
pub(super) type Value = (&'static str, Option<&'static str>, f64);

/// The supply of a profile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    /// The vehicles on it.
    pub vehicle: Vehicle,
    /// Voltage without load, V.
    no_load_v: f64,
    /// Highest voltage at which the vehicle still feeds back, V.
    ceiling_v: f64,
    /// Line resistance (AC: magnitude of impedance), least and most, Ω.
    resistance: (f64, f64),
    /// Heating, lights, compressors: least and most, W.
    auxiliary_w: (f64, f64),
    /// Most electric power fed back, W.
    feedback_w: f64,
    /// `None` for DC.
    frequency_hz: Option<f64>,
}

const TRAM: Vehicle = Vehicle {
    mass_kg: 56_000.0,
    acceleration: 1.2,
    braking: 1.1,
    power_w: 620e3,
    speed: 16.7,
    distance_m: (400.0, 1100.0),
    stop_s: (15.0, 35.0),
};
const SUBURBAN: Vehicle = Vehicle {
    mass_kg: 190_000.0,
    acceleration: 1.0,
    braking: 0.9,
    power_w: 1.9e6,
    speed: 30.5,
    distance_m: (1500.0, 4000.0),
    stop_s: (25.0, 50.0),
};
const REGIONAL: Vehicle = Vehicle {
    mass_kg: 320_000.0,
    acceleration: 0.7,
    braking: 0.7,
    power_w: 3.2e6,
    speed: 38.9,
    distance_m: (3000.0, 9000.0),
    stop_s: (40.0, 90.0),
};

impl Line {
    /// The supply and the vehicles of `profile`; a mix counts as its first line.
    pub(super) fn of(profile: Profile) -> Self {
        let base = Self {
            vehicle: TRAM,
            no_load_v: 780.0,
            ceiling_v: 900.0,
            resistance: (0.010, 0.060),
            auxiliary_w: (15e3, 60e3),
            feedback_w: 450e3,
            frequency_hz: None,
        };
        match profile {
            Profile::Dc750 | Profile::Mix => base,
            Profile::Dc1500 => Self {
                vehicle: SUBURBAN,
                no_load_v: 1620.0,
                ceiling_v: 1800.0,
                resistance: (0.02, 0.12),
                auxiliary_w: (60e3, 180e3),
                feedback_w: 1.4e6,
                ..base
            },
            Profile::Dc3000 => Self {
                vehicle: REGIONAL,
                no_load_v: 3350.0,
                ceiling_v: 3600.0,
                resistance: (0.05, 0.30),
                auxiliary_w: (90e3, 260e3),
                feedback_w: 2.2e6,
                ..base
            },
            Profile::Ac15 => Self {
                vehicle: REGIONAL,
                no_load_v: 15_600.0,
                ceiling_v: 17_250.0,
                resistance: (0.8, 3.5),
                auxiliary_w: (90e3, 260e3),
                feedback_w: 2.4e6,
                frequency_hz: Some(16.7),
            },
            Profile::Ac25 => Self {
                vehicle: Vehicle { mass_kg: 410_000.0, power_w: 4.6e6, speed: 44.4, ..REGIONAL },
                no_load_v: 26_200.0,
                ceiling_v: 27_500.0,
                resistance: (1.5, 6.0),
                auxiliary_w: (120e3, 340e3),
                feedback_w: 3.4e6,
                frequency_hz: Some(50.0),
            },
        }
    }
}

/// A train on its line, as its meter sees it.
#[derive(Clone, Debug)]
pub(super) struct Source {
    line: Line,
    train: Train,
    resistance: f64,
    auxiliary_w: f64,
    frequency_error: f64,
    temperature: f64,
    ambient: f64,
    battery: f64,
}

impl Source {
    /// A train standing at a station, warmed up.
    pub(super) fn new(profile: Profile, rng: &mut SmallRng) -> Self {
        let line = Line::of(profile);
        let ambient = rng.random_range(5.0..25.0);
        Self {
            train: Train::new(line.vehicle, rng),
            resistance: rng.random_range(line.resistance.0..line.resistance.1),
            auxiliary_w: rng.random_range(line.auxiliary_w.0..line.auxiliary_w.1),
            frequency_error: 0.0,
            temperature: ambient + 10.0,
            ambient,
            battery: rng.random_range(25.5..27.5),
            line,
        }
    }

    /// Inside temperature, °C.
    pub(super) fn temperature(&self) -> f64 {
        round(self.temperature, 1)
    }

    /// Lives `seconds` further and appends the values of that instant; `slow` adds those that change slowly.
    pub(super) fn sample(&mut self, seconds: f64, slow: bool, rng: &mut SmallRng, out: &mut Vec<Value>) {
        let wheel_w = self.train.advance(seconds, rng);
        self.drift(seconds, wheel_w, rng);
        let power_w = self.electric_w(wheel_w) + self.auxiliary_w;
        match self.line.frequency_hz {
            None => self.dc(power_w, rng, out),
            Some(hz) => self.ac(power_w, hz, slow, rng, out),
        }
        if slow {
            out.push(("temperature", Some("Cel"), self.temperature()));
            out.push(("battery", Some("V"), round(self.battery, 2)));
        }
    }

    /// Traction power at the line: losses of motor and converter both ways; no feedback at walking pace.
    fn electric_w(&self, wheel_w: f64) -> f64 {
        if wheel_w >= 0.0 { wheel_w / 0.87 } else { -(-wheel_w * 0.80 - 4e3).clamp(0.0, self.line.feedback_w) }
    }

    fn drift(&mut self, seconds: f64, wheel_w: f64, rng: &mut SmallRng) {
        let walk = |value: f64, step: f64, (low, high): (f64, f64), rng: &mut SmallRng| {
            (value + rng.random_range(-1.0..1.0) * step * seconds.sqrt()).clamp(low, high)
        };
        let (line, span) = (&self.line, |(low, high): (f64, f64)| high - low);
        self.resistance = walk(self.resistance, span(line.resistance) * 0.02, line.resistance, rng);
        self.auxiliary_w = walk(self.auxiliary_w, span(line.auxiliary_w) * 0.05, line.auxiliary_w, rng);
        self.frequency_error = walk(self.frequency_error, 0.004, (-0.05, 0.05), rng);
        let warm = self.ambient + 10.0 + 25.0 * (wheel_w.abs() / line.vehicle.power_w).min(1.5);
        self.temperature += (warm - self.temperature) * (seconds / 600.0).min(1.0);
        self.battery = walk(self.battery, 0.01, (23.0, 28.8), rng);
    }

    fn dc(&self, power_w: f64, rng: &mut SmallRng, out: &mut Vec<Value>) {
        let e = self.line.no_load_v * rng.random_range(0.998..1.002);
        let (v, i) = solve(e, self.resistance, power_w, self.line.ceiling_v);
        out.push(("voltage_dc", Some("V"), round(v, 1)));
        out.push(("current_dc", Some("A"), round(i, 2)));
    }

    fn ac(&self, power_w: f64, hz: f64, slow: bool, rng: &mut SmallRng, out: &mut Vec<Value>) {
        let e = self.line.no_load_v * rng.random_range(0.998..1.002);
        let (v, active_a) = solve(e, self.resistance, power_w, self.line.ceiling_v);
        let load = (power_w.abs() / self.line.vehicle.power_w).min(1.0);
        // Four-quadrant converters: near unity under load, worse when only the auxiliaries draw.
        let size = (0.78 + 0.2 * (load * 4.0).min(1.0) + rng.random_range(-0.005..0.005)).clamp(0.5, 0.995);
        let pf = if active_a < 0.0 { -size } else { size };
        out.push(("voltage_ac", Some("V"), round(v, 0)));
        out.push(("current_ac", Some("A"), round(active_a.abs() / size, 2)));
        out.push(("frequency", Some("Hz"), round(hz + self.frequency_error * hz / 50.0, 2)));
        out.push(("pf", None, round(pf, 3)));
        if slow {
            out.push(("thd_v", Some("%"), round(1.5 + 3.0 * load + rng.random_range(0.0..0.5), 1)));
            out.push(("thd_i", Some("%"), round(4.0 + 30.0 * (1.0 - load).powi(3) + rng.random_range(0.0..2.0), 1)));
        }
    }
}

/// Voltage and current (along the voltage) of a constant power behind a resistance; the converter cuts what the line cannot
/// give, and burns in its brake resistor what the line cannot take.
fn solve(no_load_v: f64, resistance: f64, power_w: f64, ceiling_v: f64) -> (f64, f64) {
    let most_w = 0.84 * no_load_v * no_load_v / (4.0 * resistance);
    let power_w = power_w.min(most_w);
    let current = (no_load_v - (no_load_v * no_load_v - 4.0 * resistance * power_w).sqrt()) / (2.0 * resistance);
    let current = current.max(-(ceiling_v - no_load_v).max(0.0) / resistance);
    (no_load_v - resistance * current, current)
}

fn round(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    // Adding zero turns the −0 that rounding may leave into 0.
    (value * scale).round() / scale + 0.0
}

#[cfg(test)]
mod tests {
    use super::super::train::Phase;
    use super::*;
    use crate::domain::metric::Known;
    use proptest::prelude::*;
    use rand::SeedableRng;

    struct Hour {
        import_j: f64,
        export_j: f64,
        sags: bool,
        rises: bool,
    }

    fn hour(profile: Profile, seed: u64) -> Hour {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut source = Source::new(profile, &mut rng);
        let mut hour = Hour { import_j: 0.0, export_j: 0.0, sags: false, rises: false };
        let (mut driving, mut idle, mut braking) = (vec![], vec![], vec![]);
        for second in 0..3600 {
            let mut values = Vec::new();
            source.sample(1.0, second % 60 == 0, &mut rng, &mut values);
            for (name, unit, value) in &values {
                let known = Known::from_name(name).expect("only registered types");
                assert!(known.is_plausible(*value), "{name} {value}");
                assert_eq!(unit.unwrap_or(""), known.unit(), "{name}");
            }
            let of = |name: &str| values.iter().find(|v| v.0 == name).map(|v| v.2);
            let v = of("voltage_dc").or(of("voltage_ac")).unwrap();
            let i = of("current_dc").or(of("current_ac")).unwrap();
            let power = v * i * of("pf").unwrap_or(1.0);
            if power > 0.0 {
                hour.import_j += power
            } else {
                hour.export_j -= power
            }
            match source.train.phase() {
                Phase::Accelerating if power > source.line.vehicle.power_w * 0.5 => driving.push(v),
                Phase::Standing => idle.push(v),
                Phase::Braking if power < -50e3 => braking.push(v),
                _ => {}
            }
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        hour.sags = mean(&driving) < mean(&idle);
        hour.rises = mean(&braking) > mean(&idle);
        hour
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn an_hour_of_any_line_is_plausible_and_feeds_back_less_than_it_draws(seed: u64, line in 0usize..5) {
            let hour = hour(Profile::LINES[line], seed);
            prop_assert!(hour.import_j > 3.6e6 * 20.0, "drew {} J", hour.import_j);
            prop_assert!(hour.export_j > 0.02 * hour.import_j, "fed back {} of {}", hour.export_j, hour.import_j);
            prop_assert!(hour.export_j < 0.6 * hour.import_j, "fed back {} of {}", hour.export_j, hour.import_j);
            prop_assert!(hour.sags, "voltage does not sag under load");
            prop_assert!(hour.rises, "voltage does not rise while feeding back");
        }

        #[test]
        fn power_behind_a_resistance_is_the_power_asked_for(r in 0.01f64..0.06, p in -2e5f64..1e6) {
            let (v, i) = solve(780.0, r, p, 900.0);
            prop_assert!((v * i - p).abs() < 1.0, "{v} V {i} A for {p} W");
            prop_assert!((i < 0.0) == (p < 0.0) && (v > 780.0) == (i < 0.0));
        }
    }
}

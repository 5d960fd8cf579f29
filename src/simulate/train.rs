//! How a train moves: it stands, accelerates, holds or coasts, brakes, and stands at the next station.
//!
//! Point mass with rotating-mass allowance, Davis running resistance, jerk-limited acceleration, tractive effort bounded by
//! adhesion (acceleration) and power. Invariant: speed is never negative nor above the line's limit by more than a hair,
//! and the wheel's energy equals kinetic energy plus resistance losses up to the integration step.
//! Does not know: volts and amperes; it yields mechanical power at the wheel.

use rand::Rng;
use rand::rngs::SmallRng;

/// Largest integration step in seconds.
const STEP_S: f64 = 0.1;
/// Change of acceleration per second, m/s³.
const JERK: f64 = 0.7;

/// What a vehicle is built for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Vehicle {
    /// Mass with passengers, kg.
    pub mass_kg: f64,
    /// Largest acceleration, m/s².
    pub acceleration: f64,
    /// Service braking, m/s².
    pub braking: f64,
    /// Largest mechanical power at the wheel when driving, W.
    pub power_w: f64,
    /// Line speed, m/s.
    pub speed: f64,
    /// Shortest and longest way to the next station, m.
    pub distance_m: (f64, f64),
    /// Shortest and longest stop, s.
    pub stop_s: (f64, f64),
}

/// What the driver does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Standing,
    Accelerating,
    Coasting,
    Braking,
}

/// Where a train is in its run.
#[derive(Clone, Debug)]
pub(super) struct Train {
    vehicle: Vehicle,
    phase: Phase,
    stop_left_s: f64,
    to_station_m: f64,
    speed: f64,
    acceleration: f64,
}

impl Train {
    /// A train that stands at a station, somewhere in its stop.
    pub(super) fn new(vehicle: Vehicle, rng: &mut SmallRng) -> Self {
        let stop_left_s = rng.random_range(0.0..vehicle.stop_s.1);
        Self { vehicle, phase: Phase::Standing, stop_left_s, to_station_m: 0.0, speed: 0.0, acceleration: 0.0 }
    }

    /// What the driver does.
    #[cfg(test)]
    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Moves on by `seconds`; returns the mean mechanical power at the wheel in W, negative while braking.
    pub(super) fn advance(&mut self, seconds: f64, rng: &mut SmallRng) -> f64 {
        let steps = (seconds / STEP_S).ceil().max(1.0);
        let dt = seconds / steps;
        let mut energy = 0.0;
        for _ in 0..steps as u64 {
            energy += self.step(dt, rng) * dt;
        }
        energy / seconds
    }

    /// One integration step; returns wheel power.
    fn step(&mut self, dt: f64, rng: &mut SmallRng) -> f64 {
        if self.phase == Phase::Standing {
            self.stand(dt, rng);
            return 0.0;
        }
        let wanted = self.wanted_acceleration();
        let change = (wanted - self.acceleration).clamp(-JERK * dt, JERK * dt);
        self.acceleration += change;
        let before = self.speed;
        self.speed = (before + self.acceleration * dt).clamp(0.0, self.vehicle.speed * 1.01);
        let mean_speed = (before + self.speed) / 2.0;
        self.to_station_m -= mean_speed * dt;
        let gained = (self.speed - before) / dt;
        if self.phase == Phase::Braking && self.speed < 0.2 {
            self.arrive(rng);
        }
        (self.inertia_kg() * gained + self.resistance_n(mean_speed)) * mean_speed
    }

    fn stand(&mut self, dt: f64, rng: &mut SmallRng) {
        self.stop_left_s -= dt;
        if self.stop_left_s <= 0.0 {
            self.phase = Phase::Accelerating;
            self.to_station_m = rng.random_range(self.vehicle.distance_m.0..self.vehicle.distance_m.1);
        }
    }

    fn arrive(&mut self, rng: &mut SmallRng) {
        self.phase = Phase::Standing;
        self.speed = 0.0;
        self.acceleration = 0.0;
        self.stop_left_s = rng.random_range(self.vehicle.stop_s.0..self.vehicle.stop_s.1);
    }

    /// Decides the phase and the acceleration it asks for.
    fn wanted_acceleration(&mut self) -> f64 {
        let v = self.speed;
        let brake = self.vehicle.braking;
        // Way to stand still, with the way run while the brake builds up from the present acceleration.
        let build_up_s = (brake + self.acceleration.max(0.0)) / JERK;
        let stopping_m = v * v / (2.0 * brake) + v * build_up_s / 2.0;
        if self.phase == Phase::Braking || stopping_m >= self.to_station_m {
            self.phase = Phase::Braking;
            let needed = v * v / (2.0 * self.to_station_m.max(0.5));
            return -needed.clamp(0.3 * brake, 1.3 * brake);
        }
        let drag = -self.resistance_n(v) / self.inertia_kg();
        if v >= self.vehicle.speed * 0.98 {
            self.phase = Phase::Coasting;
        } else if v < self.vehicle.speed * 0.85 {
            self.phase = Phase::Accelerating;
        }
        if self.phase == Phase::Coasting {
            return drag;
        }
        let by_power = self.vehicle.power_w / (v.max(1.0) * self.inertia_kg()) + drag;
        self.vehicle.acceleration.min(by_power)
    }

    /// Mass and rotating parts.
    fn inertia_kg(&self) -> f64 {
        self.vehicle.mass_kg * 1.08
    }

    /// Davis: rolling, bearing and flange, air.
    fn resistance_n(&self, v: f64) -> f64 {
        let tonnes = self.vehicle.mass_kg / 1000.0;
        tonnes * 14.0 + tonnes * 0.25 * v + 6.5 * v * v
    }

    #[cfg(test)]
    fn kinetic_j(&self) -> f64 {
        self.inertia_kg() * self.speed * self.speed / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::electric::Line;
    use super::super::options::Profile;
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_train_runs_from_station_to_station_and_keeps_its_limits(seed: u64, line in 0usize..5) {
            let vehicle = Line::of(Profile::LINES[line]).vehicle;
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut train = Train::new(vehicle, &mut rng);
            let (mut stops, mut way, mut wheel_j, mut lost_j) = (0, 0.0, 0.0, 0.0);
            let mut brake_losses = 0.0;
            for _ in 0..20_000 {
                let (was, speed_before) = (train.phase, train.speed);
                let power = train.step(STEP_S, &mut rng);
                let mean = (speed_before + train.speed) / 2.0;
                prop_assert!(train.speed >= 0.0 && train.speed <= vehicle.speed * 1.01 + 1e-9);
                prop_assert!(power <= vehicle.power_w * 1.35, "{power}");
                prop_assert!(train.to_station_m > -60.0, "overrun by {}", train.to_station_m);
                if was == Phase::Braking && train.phase == Phase::Standing {
                    stops += 1;
                    // The last crawl below 0.2 m/s is stopped by the parking brake.
                    brake_losses += train.inertia_kg() * 0.2 * 0.2 / 2.0;
                }
                way += mean * STEP_S;
                wheel_j += power * STEP_S;
                lost_j += if was == Phase::Standing { 0.0 } else { train.resistance_n(mean) * mean * STEP_S };
            }
            prop_assert!(stops >= 1, "never arrived");
            prop_assert!(way > 1000.0);
            let balance = wheel_j - lost_j - train.kinetic_j();
            prop_assert!(balance.abs() <= brake_losses + 0.02 * lost_j + 1e6, "balance {balance}, lost {lost_j}");
        }
    }
}

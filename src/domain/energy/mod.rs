//! Energy: active power integrated over time, import and export apart, in intervals aligned to the clock.
//!
//! Promise: the trapezoid between neighbouring samples, split exactly at zero crossings and minute borders; nothing across
//! a hole longer than three times the sampling cadence. Every interval is the sum of its minutes, or hours, in their order,
//! and these are made of an hour's samples and of what joins that hour to its neighbours: the same interval has the same
//! value, to the bit, whatever range was asked for, and whether its hours were integrated now or are kept from before.
//! Pure; a function of the telemetry alone.
//!
//! Samples ([`samples`]) become hours ([`Hours`]), those become minutes ([`Join`]), and those intervals ([`Periods`]).

mod hour;
mod join;
mod periods;
mod sample;
mod steps;
#[cfg(test)]
mod tests;

pub use hour::{Hour, Hours, MINUTES, hours_for};
pub use join::Join;
pub use periods::{Interval, Period, Periods};
pub use sample::{Sample, samples};

use super::time::Timestamp;

/// Length of a piece.
pub const MINUTE_US: i64 = 60_000_000;
/// Distance between samples when nothing is known: the meters' default cadence.
pub const DEFAULT_CADENCE_US: i64 = 1_000_000;
/// The longest cadence a meter can be set to: what lies further apart is a hole, not a slow meter.
pub const MAX_CADENCE_US: i64 = 60_000_000;
/// No energy across a hole longer than so many cadences.
pub const HOLE_CADENCES: i64 = 3;
/// Length of an hour.
pub const HOUR_US: i64 = 3_600_000_000;

/// The beginning of the minute `at` lies in.
pub const fn minute_of(at: Timestamp) -> Timestamp {
    Timestamp(at.0.div_euclid(MINUTE_US).saturating_mul(MINUTE_US))
}

/// The beginning of the hour `at` lies in.
pub const fn hour_of(at: Timestamp) -> Timestamp {
    Timestamp(at.0.div_euclid(HOUR_US).saturating_mul(HOUR_US))
}

/// Why an interval is not to be trusted blindly, beside its coverage.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Doubts {
    /// A value outside its plausible range went into it.
    pub is_implausible: bool,
    /// The meter's clock was ahead by more than 2 s. (One that is behind looks like data that come late.)
    pub is_clock_off: bool,
}

impl Doubts {
    /// Whether there are any.
    pub const fn any(self) -> bool {
        self.is_implausible || self.is_clock_off
    }

    /// Those of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            is_implausible: self.is_implausible || other.is_implausible,
            is_clock_off: self.is_clock_off || other.is_clock_off,
        }
    }
}

/// What was measured over some time. Import and export are two registers and never netted.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Totals {
    /// ∫ max(P, 0) dt in W·s.
    pub import_ws: f64,
    /// ∫ max(−P, 0) dt in W·s: fed back.
    pub export_ws: f64,
    /// ∫ S dt in VA·s.
    pub apparent_vas: f64,
    /// ∫ Q dt in var·s, magnitude.
    pub reactive_vars: f64,
    /// Time over which was integrated.
    pub covered_us: i64,
    /// What speaks against it.
    pub doubts: Doubts,
}

const SECONDS_PER_HOUR: f64 = 3600.0;

impl Totals {
    /// Takes in another stretch of time.
    pub fn add(&mut self, other: &Self) {
        self.import_ws += other.import_ws;
        self.export_ws += other.export_ws;
        self.apparent_vas += other.apparent_vas;
        self.reactive_vars += other.reactive_vars;
        self.covered_us = self.covered_us.saturating_add(other.covered_us);
        self.doubts = self.doubts.and(other.doubts);
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.covered_us == 0 && !self.doubts.any()
    }

    /// Drawn, in Wh.
    pub fn import_wh(&self) -> f64 {
        self.import_ws / SECONDS_PER_HOUR
    }

    /// Fed back, in Wh.
    pub fn export_wh(&self) -> f64 {
        self.export_ws / SECONDS_PER_HOUR
    }

    /// Apparent energy, in VAh.
    pub fn apparent_vah(&self) -> f64 {
        self.apparent_vas / SECONDS_PER_HOUR
    }

    /// Reactive energy, in varh.
    pub fn reactive_varh(&self) -> f64 {
        self.reactive_vars / SECONDS_PER_HOUR
    }

    /// The covered part of `length_us`, 0 to 1.
    pub fn coverage(&self, length_us: i64) -> f64 {
        if length_us <= 0 { 0.0 } else { self.covered_us as f64 / length_us as f64 }
    }

    /// Whether at least 99 % of `length_us` is covered.
    pub fn is_whole(&self, length_us: i64) -> bool {
        i128::from(self.covered_us) * 100 >= i128::from(length_us) * 99
    }

    /// What it is worth as that of an interval of `length_us`: valid with at least 99 % covered and nothing against it,
    /// missing when nothing is covered.
    pub fn quality(&self, length_us: i64) -> Quality {
        match self.covered_us {
            0 => Quality::Missing,
            _ if self.is_whole(length_us) && !self.doubts.any() => Quality::Valid,
            _ => Quality::Uncertain,
        }
    }
}

/// The totals of a minute, or of an hour where that is enough.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Piece {
    /// Its beginning.
    pub start: Timestamp,
    /// What was measured in it.
    pub totals: Totals,
}

/// How good an interval is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Quality {
    /// At least 99 % covered, and nothing speaks against it.
    Valid,
    /// Less covered, or a flagged value, or the meter's clock was off.
    Uncertain,
    /// Nothing covered.
    Missing,
}

impl Quality {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Valid, Self::Uncertain, Self::Missing];

    /// As in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Uncertain => "uncertain",
            Self::Missing => "missing",
        }
    }
}

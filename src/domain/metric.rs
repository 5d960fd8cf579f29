//! Measured quantities: the registered types with unit and plausible range, and a datagram's values.

use std::sync::Arc;

/// Most measurements in a datagram.
pub const MAX_MEASUREMENTS: usize = 200;
/// Most distinct measurement types of one device.
pub const MAX_METRICS_PER_DEVICE: usize = 64;

/// A measurement type: one of the registered ones, or another under its own name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Metric {
    /// Registered: has a unit, a plausible range and a column of its own in the store.
    Known(Known),
    /// Not registered: `[A-Za-z0-9_.-]{1,64}`.
    Other(Arc<str>),
}

/// The registered measurement types, in the order of the store's columns.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[allow(missing_docs)]
pub enum Known {
    VoltageDc,
    CurrentDc,
    VoltageAc,
    CurrentAc,
    Frequency,
    Pf,
    ThdV,
    ThdI,
    Temperature,
    Battery,
}

/// `(type, name, unit, lowest plausible, highest plausible)`; the unit of a pure number is empty.
const REGISTERED: [(Known, &str, &str, f64, f64); 10] = [
    (Known::VoltageDc, "voltage_dc", "V", 0.0, 4000.0),
    (Known::CurrentDc, "current_dc", "A", -5000.0, 5000.0),
    (Known::VoltageAc, "voltage_ac", "V", 0.0, 30000.0),
    (Known::CurrentAc, "current_ac", "A", 0.0, 2000.0),
    (Known::Frequency, "frequency", "Hz", 15.0, 65.0),
    (Known::Pf, "pf", "", -1.0, 1.0),
    (Known::ThdV, "thd_v", "%", 0.0, 100.0),
    (Known::ThdI, "thd_i", "%", 0.0, 1000.0),
    (Known::Temperature, "temperature", "Cel", -40.0, 85.0),
    (Known::Battery, "battery", "V", 0.0, 60.0),
];

impl Known {
    /// All registered types, in column order.
    pub const ALL: [Known; 10] = [
        Known::VoltageDc,
        Known::CurrentDc,
        Known::VoltageAc,
        Known::CurrentAc,
        Known::Frequency,
        Known::Pf,
        Known::ThdV,
        Known::ThdI,
        Known::Temperature,
        Known::Battery,
    ];

    /// The type's name on the wire, in the API and as a column.
    pub const fn name(self) -> &'static str {
        REGISTERED[self as usize].1
    }

    /// The type's unit; empty for a pure number.
    pub const fn unit(self) -> &'static str {
        REGISTERED[self as usize].2
    }

    /// Whether `value` lies in the plausible range.
    pub fn is_plausible(self, value: f64) -> bool {
        let (_, _, _, low, high) = REGISTERED[self as usize];
        (low..=high).contains(&value)
    }

    /// The registered type of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        REGISTERED.iter().find(|row| row.1 == name).map(|row| row.0)
    }
}

impl Metric {
    /// The metric of that name; `None` when the name breaks `[A-Za-z0-9_.-]{1,64}`.
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(known) = Known::from_name(name) {
            return Some(Self::Known(known));
        }
        let ok = (1..=64).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        ok.then(|| Self::Other(name.into()))
    }

    /// The name on the wire and in the API.
    pub fn name(&self) -> &str {
        match self {
            Self::Known(known) => known.name(),
            Self::Other(name) => name,
        }
    }

    /// The registered unit; `None` for a pure number or an unregistered type.
    pub fn unit(&self) -> Option<&'static str> {
        match self {
            Self::Known(known) if !known.unit().is_empty() => Some(known.unit()),
            _ => None,
        }
    }

    /// Whether `value` is plausible; an unregistered type has no range and is always so.
    pub fn is_plausible(&self, value: f64) -> bool {
        match self {
            Self::Known(known) => known.is_plausible(value),
            Self::Other(_) => true,
        }
    }
}

/// The values of one datagram: a common time axis and an array a type.
///
/// Invariant: every series has as many values as the axis has slots; `NaN` stands for «no value in this slot» (a
/// measured NaN or infinity never gets here). Two measurements of one time and type take two slots of equal time, so
/// that all are kept, in order.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Telemetry {
    /// Sample time minus the message's `ts`, in microseconds, a slot each.
    pub offsets_us: Vec<i64>,
    /// A series a type, in order of first appearance.
    pub series: Vec<Series>,
    /// How many values lie outside their type's plausible range (they are kept).
    pub flagged: u16,
    /// How many measurements were dropped: not a number, no valid type name, a second unit of its type, or one type too many.
    pub dropped: u16,
}

/// The values of one type on the datagram's time axis.
#[derive(Clone, PartialEq, Debug)]
pub struct Series {
    /// What was measured.
    pub metric: Metric,
    /// The unit as sent, when it differs from the registered one; `None` without a registered one = none was sent.
    pub unit: Option<Arc<str>>,
    /// A value a slot; `NaN` = none.
    pub values: Vec<f64>,
}

impl Series {
    /// The unit to show: as sent, else the registered one; `None` for a pure number or an unknown unit.
    pub fn unit(&self) -> Option<&str> {
        self.unit.as_deref().or(self.metric.unit())
    }

    /// Whether it can be compared and reckoned with: a registered type in its unit, or a type that has none registered.
    pub fn is_usual(&self) -> bool {
        matches!(self.metric, Metric::Other(_)) || self.unit.is_none()
    }
}

impl Telemetry {
    /// Empty, with room for so many values of one type.
    pub fn with_capacity(values: usize) -> Self {
        Self { offsets_us: Vec::with_capacity(values), ..Self::default() }
    }

    /// Adds one value; it takes the first slot of its time that its type has not filled yet, else a new slot. A type has one
    /// series and that one unit: a value in another one than those before it is dropped and counted. Without a unit it is in the
    /// registered one; where none is registered, in that of its type's other values, also of those that come later.
    pub fn push(&mut self, offset_us: i64, metric: Metric, unit: Option<&str>, value: f64) {
        debug_assert!(value.is_finite(), "only finite values are measurements");
        let unit = unit.filter(|u| !matches!(&metric, Metric::Known(k) if k.unit() == *u));
        let row = self.series.iter().position(|s| s.metric == metric);
        if let Some(row) = row {
            let of_others = &mut self.series[row].unit;
            let is_left_out = matches!(metric, Metric::Other(_)) && (unit.is_none() || of_others.is_none());
            if !is_left_out && of_others.as_deref() != unit {
                self.dropped = self.dropped.saturating_add(1);
                return;
            }
            if of_others.is_none() {
                *of_others = unit.map(Arc::from);
            }
        }
        if !metric.is_plausible(value) {
            self.flagged = self.flagged.saturating_add(1);
        }
        let row = row.unwrap_or_else(|| {
            let mut values = Vec::with_capacity(self.offsets_us.capacity());
            values.resize(self.offsets_us.len(), f64::NAN);
            self.series.push(Series { metric, unit: unit.map(Arc::from), values });
            self.series.len() - 1
        });
        let slot = (0..self.offsets_us.len())
            .find(|slot| self.offsets_us[*slot] == offset_us && self.series[row].values[*slot].is_nan());
        match slot {
            Some(slot) => self.series[row].values[slot] = value,
            None => {
                self.offsets_us.push(offset_us);
                for (index, series) in self.series.iter_mut().enumerate() {
                    series.values.push(if index == row { value } else { f64::NAN });
                }
            }
        }
    }

    /// Takes out the series whose metric is not wanted, counts their values as dropped, and closes up the time axis.
    pub fn retain(&mut self, is_wanted: impl Fn(&Metric) -> bool) {
        if self.series.iter().all(|series| is_wanted(&series.metric)) {
            return;
        }
        let before = self.len();
        self.series.retain(|series| is_wanted(&series.metric));
        let has_value = |series: &[Series], slot: usize| series.iter().any(|s| !s.values[slot].is_nan());
        let kept: Vec<bool> = (0..self.offsets_us.len()).map(|slot| has_value(&self.series, slot)).collect();
        let mut slot = kept.iter();
        self.offsets_us.retain(|_| slot.next().copied().unwrap_or(true));
        self.flagged = 0;
        for series in &mut self.series {
            let mut slot = kept.iter();
            series.values.retain(|_| slot.next().copied().unwrap_or(true));
            let implausible = series.values.iter().filter(|v| !v.is_nan() && !series.metric.is_plausible(**v)).count();
            self.flagged = self.flagged.saturating_add(u16::try_from(implausible).unwrap_or(u16::MAX));
        }
        let dropped = u16::try_from(before - self.len()).unwrap_or(u16::MAX);
        self.dropped = self.dropped.saturating_add(dropped);
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.series.iter().map(|s| s.values.iter().filter(|v| !v.is_nan()).count()).sum()
    }

    /// Whether there is no value at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, units: &[Option<&str>], unit: Option<&str>, kept: &[f64]) {
        let mut telemetry = Telemetry::default();
        for (at, unit) in (0_i32..).zip(units) {
            telemetry.push(at.into(), Metric::parse(name).unwrap(), *unit, at.into());
        }
        assert_eq!(telemetry.series.len(), 1, "{name} {units:?}");
        let series = &telemetry.series[0];
        assert_eq!((series.unit.as_deref(), series.values.as_slice()), (unit, kept), "{name} {units:?}");
        assert_eq!(usize::from(telemetry.dropped), units.len() - kept.len(), "{name} {units:?}");
    }

    #[test]
    fn a_value_in_another_unit_than_those_of_its_type_before_it_is_dropped_and_counted() {
        check("current_dc", &[None, Some("kA"), Some("A")], None, &[0.0, 2.0]);
        check("current_dc", &[Some("kA"), Some("A"), None, Some("kA")], Some("kA"), &[0.0, 3.0]);
        check("pf", &[Some(""), Some("%"), None], None, &[0.0, 2.0]);
        check("speed", &[Some("m/s"), Some("km/h")], Some("m/s"), &[0.0]);
    }

    #[test]
    fn a_value_without_a_unit_is_in_that_of_its_type() {
        check("speed", &[Some("m/s"), None, Some("m/s")], Some("m/s"), &[0.0, 1.0, 2.0]);
        check("speed", &[None, Some("m/s"), None, Some("km/h")], Some("m/s"), &[0.0, 1.0, 2.0]);
        check("speed", &[None, None], None, &[0.0, 1.0]);
        // The registered one, which is not that of the others.
        check("current_dc", &[Some("kA"), None], Some("kA"), &[0.0]);
        check("current_dc", &[None, Some("kA")], None, &[0.0]);
    }
}

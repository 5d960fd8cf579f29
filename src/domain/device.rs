//! What is remembered of a meter: the part an operator set, and the part its messages made.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::hearing::Hearings;
use super::metric::{MAX_METRICS_PER_DEVICE, Metric, Telemetry};
use super::presence::Connection;
use super::rule::{Holding, RuleId};
use super::sequence::SequenceState;
use super::time::Timestamp;

/// The type of a device of which nobody has said one.
pub const DEFAULT_DEVICE_TYPE: &str = "meter";

/// What a meter's messages have made known of it. Derived: it can be rebuilt from the journal.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct DeviceState {
    /// The registry's part; `None` = not registered.
    pub registration: Option<Registration>,
    /// Position in the meter's count, and its open gaps.
    pub sequence: SequenceState,
    /// Whether it is there.
    pub connection: Connection,
    /// When any message of it was last received, by any node.
    pub last_seen: Option<Timestamp>,
    /// What each node heard last.
    pub heard: Hearings,
    /// Firmware, from its last hello.
    pub fw_version: Option<String>,
    /// What a hello said that was not ahead of the count, if nothing that is was heard since. Need not be stored.
    pub doubtful_fw: Option<String>,
    /// The newest value of each type **by sample time**; at most 64 types.
    pub latest: BTreeMap<Metric, Latest>,
    /// The widest |sample time − message ts| ever seen: how far around a time range a reader must look.
    pub span_us: i64,
    /// The alert rules whose condition holds.
    pub rules: BTreeMap<RuleId, Holding>,
}

impl DeviceState {
    /// Takes in a datagram of time `ts`: the newest value of each type by sample time (of equal times the later in
    /// order), and the span. Types beyond the most a device may have are taken out of the datagram and counted there.
    pub fn absorb(&mut self, telemetry: &mut Telemetry, ts: Timestamp) {
        for series in &telemetry.series {
            let Some((offset_us, value)) = newest(&telemetry.offsets_us, &series.values) else { continue };
            let at = ts.plus_us(offset_us);
            let has_room = self.latest.len() < MAX_METRICS_PER_DEVICE;
            match self.latest.get_mut(&series.metric) {
                Some(latest) if at < latest.ts => {}
                Some(latest) => {
                    (latest.ts, latest.value) = (at, value);
                    if latest.unit != series.unit {
                        latest.unit.clone_from(&series.unit);
                    }
                }
                None if has_room => {
                    self.latest.insert(series.metric.clone(), Latest { ts: at, value, unit: series.unit.clone() });
                }
                None => {}
            }
        }
        if self.latest.len() >= MAX_METRICS_PER_DEVICE {
            telemetry.retain(|metric| self.latest.contains_key(metric));
        }
        let widest = telemetry.offsets_us.iter().map(|offset_us| offset_us.saturating_abs()).max();
        self.span_us = self.span_us.max(widest.unwrap_or(0));
    }
}

/// The newest slot that has a value, the last one of equal times.
fn newest(offsets_us: &[i64], values: &[f64]) -> Option<(i64, f64)> {
    let slots = offsets_us.iter().copied().zip(values.iter().copied());
    slots.filter(|(_, value)| !value.is_nan()).max_by_key(|(offset_us, _)| *offset_us)
}

/// The newest value of one type.
#[derive(Clone, PartialEq, Debug)]
pub struct Latest {
    /// Sample time.
    pub ts: Timestamp,
    /// The value.
    pub value: f64,
    /// The unit as sent, where it differs from the registered one or there is none registered.
    pub unit: Option<Arc<str>>,
}

/// The part of the registry the collector needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registration {
    /// `false`: registered but `inactive` (also: quarantined). Its data are stored, it raises no alerts.
    pub is_active: bool,
    /// Configured intervals, for the presence timeout.
    pub intervals: Intervals,
    /// As registered: alert rules may be about one type.
    pub device_type: Arc<str>,
}

/// How often a meter says something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Intervals {
    /// Seconds between datagrams, 1…3600.
    pub send_interval_s: u32,
    /// Seconds between hellos, 5…3600.
    pub hello_interval_s: u32,
}

impl Default for Intervals {
    fn default() -> Self {
        Self { send_interval_s: 10, hello_interval_s: 30 }
    }
}

impl Intervals {
    /// `2 × max(send_interval, hello_interval)`: silent for longer means offline.
    pub fn presence_timeout(self) -> Duration {
        Duration::from_secs(2 * u64::from(self.send_interval_s.max(self.hello_interval_s)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::metric::Known;

    fn telemetry(samples: &[(i64, &str, f64)]) -> Telemetry {
        let mut telemetry = Telemetry::default();
        for (offset_us, name, value) in samples {
            telemetry.push(*offset_us, Metric::parse(name).expect("valid"), None, *value);
        }
        telemetry
    }

    #[test]
    fn the_newest_value_is_by_sample_time_not_by_receipt() {
        let mut state = DeviceState::default();
        let mut absorb = |ts: i64, samples: &[(i64, &str, f64)]| {
            state.absorb(&mut telemetry(samples), Timestamp(ts));
            let latest = &state.latest[&Metric::Known(Known::VoltageDc)];
            (latest.ts.micros(), latest.value, state.span_us)
        };
        assert_eq!(absorb(100, &[(-5, "voltage_dc", 1.0), (-9, "voltage_dc", 2.0)]), (95, 1.0, 9));
        assert_eq!(absorb(90, &[(0, "voltage_dc", 3.0)]), (95, 1.0, 9), "late data do not step back");
        assert_eq!(absorb(95, &[(0, "voltage_dc", 4.0), (0, "voltage_dc", 5.0)]), (95, 5.0, 9), "the later in order");
        assert_eq!(absorb(96, &[(20, "current_dc", 4.0), (30, "voltage_dc", 6.0)]), (126, 6.0, 30));
    }

    #[test]
    fn types_beyond_the_most_allowed_are_dropped_and_counted() {
        let mut state = DeviceState::default();
        let names: Vec<String> = (0..63).map(|n| format!("m{n}")).collect();
        let samples: Vec<_> = names.iter().map(|name| (0, name.as_str(), 1.0)).collect();
        state.absorb(&mut telemetry(&samples), Timestamp(0));
        let mut values = telemetry(&[
            (0, "m0", 1.0),
            (1, "new1", 2.0),
            (2, "voltage_dc", -1.0),
            (2, "voltage_dc", 1.0),
            (3, "m1", 3.0),
        ]);
        assert_eq!(values.flagged, 1);
        state.absorb(&mut values, Timestamp(10));
        assert_eq!(state.latest.len(), MAX_METRICS_PER_DEVICE);
        assert_eq!((values.len(), values.dropped, values.flagged), (3, 2, 0), "new1 was the last that fitted");
        assert_eq!(values.offsets_us, [0, 1, 3], "no empty slot stays");
        state.absorb(&mut values, Timestamp(20));
        assert_eq!(values.dropped, 2, "known types pass");
    }
}

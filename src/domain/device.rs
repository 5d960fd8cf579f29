//! What is remembered of a meter: the part an operator set, and the part its messages made.

use std::collections::BTreeMap;
use std::time::Duration;

use super::metric::Metric;
use super::presence::Connection;
use super::sequence::SequenceState;
use super::time::Timestamp;

/// What a meter's messages have made known of it. Derived: it can be rebuilt from the journal.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct DeviceState {
    /// The registry's part; `None` = not registered.
    pub registration: Option<Registration>,
    /// Position in the meter's count, and its open gaps.
    pub sequence: SequenceState,
    /// Whether it is there.
    pub connection: Connection,
    /// When any message of it was last received.
    pub last_seen: Option<Timestamp>,
    /// Firmware, from its last hello.
    pub fw_version: Option<String>,
    /// The newest value of each type **by sample time**; at most 64 types.
    pub latest: BTreeMap<Metric, Latest>,
    /// The widest |sample time − message ts| ever seen: how far around a time range a reader must look.
    pub span_us: i64,
}

/// The newest value of one type.
#[derive(Clone, PartialEq, Debug)]
pub struct Latest {
    /// Sample time.
    pub ts: Timestamp,
    /// The value.
    pub value: f64,
    /// The unit as sent, where it differs from the registered one or there is none registered.
    pub unit: Option<std::sync::Arc<str>>,
}

/// The part of the registry the collector needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registration {
    /// `false`: registered but `inactive` (also: quarantined). Its data are stored, it raises no alerts.
    pub is_active: bool,
    /// Configured intervals, for the presence timeout.
    pub intervals: Intervals,
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

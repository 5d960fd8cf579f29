//! Alert rules: what value of which quantity, held for how long, of which devices, is worth an alert.
//!
//! A rule fires once a device and stays so until its condition is over: at its threshold, or at another one that lies on the
//! far side of it ([`Condition::clear`]), so that a value that wavers does not raise one alert after another. Time is that
//! of the samples. A sample that is not newer than what is known of its quantity already (late, out of order, a copy) says
//! nothing; so the same messages give the same alerts whatever is replayed or retransmitted. But a time that was still to come
//! when the device was last heard, and behind which it goes on, was wrong, and keeps no rule from what follows.
//!
//! Start from [`RuleSet`]: the rules that are switched on, and how a datagram is judged by them.

mod set;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

pub use set::{RuleSet, Seen, Verdict};

use super::time::Timestamp;
use super::{DeviceId, DevicePattern, Quantity};

/// Most rules, switched off ones included.
pub const MAX_RULES: usize = 1000;
/// Longest name, in characters: it is its alerts' type.
pub const MAX_NAME_CHARS: usize = 64;
/// Longest text of a rule's own, in characters.
pub const MAX_MESSAGE_CHARS: usize = 512;
/// Longest time a condition may have to hold, in seconds: a day.
pub const MAX_FOR_S: u32 = 86_400;

/// A rule's number. They only grow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RuleId(pub i64);

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)]
pub enum Severity {
    Info,
    Warning,
    Critical,
}

impl Severity {
    /// All, the least bad one first.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    /// As in the API and the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// Reads the word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.name() == name)
    }
}

/// How a value is compared with a threshold.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum Op {
    Gt,
    Ge,
    Lt,
    Le,
    Eq,
    Ne,
}

impl Op {
    /// All.
    pub const ALL: [Self; 6] = [Self::Gt, Self::Ge, Self::Lt, Self::Le, Self::Eq, Self::Ne];

    /// As in the API and the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gt => "gt",
            Self::Ge => "ge",
            Self::Lt => "lt",
            Self::Le => "le",
            Self::Eq => "eq",
            Self::Ne => "ne",
        }
    }

    /// As people write it.
    pub const fn sign(self) -> &'static str {
        match self {
            Self::Gt => ">",
            Self::Ge => ">=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Eq => "=",
            Self::Ne => "!=",
        }
    }

    /// Reads the word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|op| op.name() == name)
    }

    /// Whether `value` stands so to `threshold`. Exact: 0.1 + 0.2 is not 0.3.
    pub fn holds(self, value: f64, threshold: f64) -> bool {
        match self {
            Self::Gt => value > threshold,
            Self::Ge => value >= threshold,
            Self::Lt => value < threshold,
            Self::Le => value <= threshold,
            Self::Eq => value == threshold,
            Self::Ne => value != threshold,
        }
    }

    /// Whether an alert may be cleared by another threshold than it was raised by: one on the far side of it.
    pub fn may_clear_at(self, threshold: f64, clear: f64) -> bool {
        match self {
            Self::Gt | Self::Ge => clear <= threshold,
            Self::Lt | Self::Le => clear >= threshold,
            Self::Eq | Self::Ne => false,
        }
    }
}

/// When a rule fires.
#[derive(Clone, PartialEq, Debug)]
pub struct Condition {
    /// What is compared, in its registered unit: values sent in another one are not judged.
    pub quantity: Quantity,
    /// How.
    pub op: Op,
    /// With what; finite.
    pub threshold: f64,
    /// Once it fires, it does until the comparison with this fails; `None` = with the threshold. See [`Op::may_clear_at`].
    pub clear: Option<f64>,
    /// How long it must hold from sample to sample, in seconds, at most [`MAX_FOR_S`]; 0 = one sample is enough.
    pub for_s: u32,
}

impl Condition {
    fn begins(&self, value: f64) -> bool {
        self.op.holds(value, self.threshold)
    }

    fn goes_on(&self, value: f64) -> bool {
        self.op.holds(value, self.clear.unwrap_or(self.threshold))
    }

    fn is_due(&self, since: Timestamp, at: Timestamp) -> bool {
        since.plus(Duration::from_secs(u64::from(self.for_s))) <= at
    }
}

/// `voltage_dc > 900 for 10 s`.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.quantity.name(), self.op.sign(), number(self.threshold))?;
        match self.for_s {
            0 => Ok(()),
            seconds => write!(f, " for {seconds} s"),
        }
    }
}

/// Which devices a rule is about. Both conditions must hold; with none it is about all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Selector {
    /// By id.
    pub devices: Option<DevicePattern>,
    /// By type, as registered.
    pub device_type: Option<String>,
}

impl Selector {
    /// Whether a device is meant.
    pub fn admits(&self, device: &DeviceId, device_type: &str) -> bool {
        self.devices.as_ref().is_none_or(|pattern| pattern.admits(device.as_str()))
            && self.device_type.as_deref().is_none_or(|wanted| wanted == device_type)
    }

    /// Whether all that it can mean begins with `prefix`.
    pub fn lies_within(&self, prefix: &str) -> bool {
        self.devices.as_ref().is_some_and(|pattern| pattern.fixed_part().starts_with(prefix))
    }
}

/// A rule that is switched on, as the collector needs it.
#[derive(Clone, PartialEq, Debug)]
pub struct Rule {
    /// Its number.
    pub id: RuleId,
    /// Grows with each change of what the rule judges, or by whom: what was found by another generation is void.
    pub generation: i64,
    /// Its alerts' type.
    pub name: String,
    /// When.
    pub condition: Condition,
    /// Whose.
    pub selector: Selector,
    /// How bad.
    pub severity: Severity,
    /// A text for people, to stand before what was measured.
    pub message: Option<String>,
}

impl Rule {
    /// The message of an alert: what was measured, when, and what the rule says of it.
    pub fn alert_message(&self, device: &DeviceId, value: f64, at: Timestamp) -> String {
        let quantity = &self.condition.quantity;
        let unit = match quantity.unit() {
            "" => String::new(),
            unit => format!(" {unit}"),
        };
        let found =
            format!("{device}: {} is {}{unit} at {at} (rule: {})", quantity.name(), number(value), self.condition);
        self.message.as_ref().map_or(found.clone(), |text| format!("{text}: {found}"))
    }
}

/// A rule's condition holds for a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holding {
    /// By which generation of the rule.
    pub generation: i64,
    /// Since which sample.
    pub since: Timestamp,
    /// Whether it has held for long enough: there is an alert.
    pub is_firing: bool,
}

/// Why an alert of a rule was cleared though its condition may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClearReason {
    /// The rule judges otherwise now; what comes is judged anew.
    Changed,
    /// The rule was switched off.
    Disabled,
    /// The rule was removed.
    Deleted,
    /// The device is none of those the rule is about any more.
    NotSelected,
}

impl ClearReason {
    /// As in the API and the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Changed => "rule_changed",
            Self::Disabled => "rule_disabled",
            Self::Deleted => "rule_deleted",
            Self::NotSelected => "device_not_selected",
        }
    }
}

/// A number as people read it: plain while that is short.
fn number(value: f64) -> String {
    let is_plain = value == 0.0 || (1e-6..1e15).contains(&value.abs());
    if is_plain { value.to_string() } else { format!("{value:e}") }
}

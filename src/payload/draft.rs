//! The neutral form: a payload taken apart into scalars and samples, whatever it was written in, not yet judged.
//!
//! Borrowed from the payload where possible. Knows the names of the protocol's members, not which are required.

use std::borrow::Cow;

use crate::domain::metric::MAX_MEASUREMENTS;
use crate::domain::{Refusal, Timestamp};

/// The bytes are not one well-formed map. Why does not matter to anybody: the bytes are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Malformed;

/// A member's value, as far as anything here can use it.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Scalar<'a> {
    Text(Cow<'a, str>),
    Unsigned(u64),
    Negative(i64),
    /// Finite or not.
    Float(f64),
    Null,
    /// A boolean, a list, a map, bytes: nothing that any member may be.
    Other,
}

impl Scalar<'_> {
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A finite number.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Unsigned(n) => Some(*n as f64),
            Self::Negative(n) => Some(*n as f64),
            Self::Float(f) if f.is_finite() => Some(*f),
            _ => None,
        }
    }

    /// A number that is meant as one, finite or not.
    pub(super) fn is_number(&self) -> bool {
        matches!(self, Self::Unsigned(_) | Self::Negative(_) | Self::Float(_))
    }

    /// A whole number from 0, also when written as `2.0`: JSON and CBOR writers differ in that.
    pub(super) fn unsigned(&self) -> Option<u64> {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        match self {
            Self::Unsigned(n) => Some(*n),
            Self::Float(f) if f.fract() == 0.0 && (0.0..=EXACT).contains(f) => Some(*f as u64),
            _ => None,
        }
    }
}

/// The members that are read. `Measurements` has its own place in [`Draft`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Field {
    V,
    DeviceId,
    Ts,
    Timestamp,
    Seq,
    MsgType,
    Status,
    FwVersion,
    UptimeS,
    BrokerConnections,
    BufUsagePct,
    TempInternal,
    CmdId,
    Result,
    Detail,
    OtaState,
    ProgressPct,
    FwVersionTarget,
    Measurements,
}

impl Field {
    const COUNT: usize = Self::Measurements as usize;

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "v" => Self::V,
            "device_id" => Self::DeviceId,
            "ts" => Self::Ts,
            "timestamp" => Self::Timestamp,
            "seq" => Self::Seq,
            "msg_type" => Self::MsgType,
            "status" => Self::Status,
            "fw_version" => Self::FwVersion,
            "uptime_s" => Self::UptimeS,
            "broker_connections" => Self::BrokerConnections,
            "buf_usage_pct" => Self::BufUsagePct,
            "temp_internal" => Self::TempInternal,
            "cmd_id" => Self::CmdId,
            "result" => Self::Result,
            "detail" => Self::Detail,
            "ota_state" => Self::OtaState,
            "progress_pct" => Self::ProgressPct,
            "fw_version_target" => Self::FwVersionTarget,
            "measurements" => Self::Measurements,
            _ => return None,
        })
    }
}

/// One payload, taken apart.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Draft<'a> {
    scalars: [Option<Scalar<'a>>; Field::COUNT],
    pub(super) measurements: Option<Measurements<'a>>,
}

impl<'a> Draft<'a> {
    /// Keeps a member; one named twice says two things.
    pub(super) fn put(&mut self, field: Field, value: Scalar<'a>) -> Result<(), Malformed> {
        match self.scalars[field as usize].replace(value) {
            None => Ok(()),
            Some(_) => Err(Malformed),
        }
    }

    pub(super) fn put_measurements(&mut self, measurements: Measurements<'a>) -> Result<(), Malformed> {
        match self.measurements.replace(measurements) {
            None => Ok(()),
            Some(_) => Err(Malformed),
        }
    }

    /// A scalar member; `None` = absent.
    pub(super) fn get(&self, field: Field) -> Option<&Scalar<'a>> {
        self.scalars[field as usize].as_ref()
    }

    /// Like [`get`](Self::get), `null` being the same as absent.
    pub(super) fn optional(&self, field: Field) -> Option<&Scalar<'a>> {
        self.get(field).filter(|value| **value != Scalar::Null)
    }

    /// 1 (also when absent) or 2.
    pub(super) fn version(&self) -> Result<u8, Refusal> {
        match self.get(Field::V).map(Scalar::unsigned) {
            None | Some(Some(1)) => Ok(1),
            Some(Some(2)) => Ok(2),
            Some(_) => Err(Refusal::UnknownVersion),
        }
    }
}

/// The member `measurements`.
#[derive(Debug, PartialEq)]
pub(super) enum Measurements<'a> {
    NotAList,
    List(List<'a>),
}

/// The usable measurements of a list, in order.
#[derive(Debug, Default, PartialEq)]
pub(super) struct List<'a> {
    pub(super) samples: Vec<Sample<'a>>,
    /// How many entries the list has, usable or not.
    pub(super) len: usize,
    pub(super) times: Times<'a>,
}

/// The last time read: samples taken together carry the same text, one behind the other.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Times<'a>(Option<(&'a str, Timestamp)>);

impl<'a> Times<'a> {
    pub(super) fn read(&mut self, text: &'a str) -> Option<Timestamp> {
        if let Some((last, at)) = self.0
            && last == text
        {
            return Some(at);
        }
        let at = Timestamp::parse_rfc3339(text)?;
        self.0 = Some((text, at));
        Some(at)
    }
}

impl<'a> List<'a> {
    /// Takes one entry, `None` being one that is no map; beyond the most allowed it is only counted.
    pub(super) fn push(&mut self, entry: Option<Entry<'a>>) {
        let sample = entry.and_then(|entry| entry.into_sample(&mut self.times));
        self.add(sample);
    }

    /// Takes one entry, `None` being one that is of no use.
    pub(super) fn add(&mut self, sample: Option<Sample<'a>>) {
        self.len += 1;
        if self.len <= MAX_MEASUREMENTS
            && let Some(sample) = sample
        {
            if self.samples.capacity() == 0 {
                self.samples.reserve(24);
            }
            self.samples.push(sample);
        }
    }
}

/// One measurement that has a number and a name; the name is not yet judged.
#[derive(Debug, PartialEq)]
pub(super) struct Sample<'a> {
    /// `None`: the message's time.
    pub(super) ts: Option<Timestamp>,
    pub(super) name: Cow<'a, str>,
    pub(super) unit: Option<Cow<'a, str>>,
    /// Finite.
    pub(super) value: f64,
}

/// The members of one measurement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum EntryField {
    Ts,
    Type,
    Val,
    Unit,
}

impl EntryField {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "ts" => Self::Ts,
            "type" => Self::Type,
            "val" => Self::Val,
            "unit" => Self::Unit,
            _ => return None,
        })
    }
}

/// One measurement, taken apart.
#[derive(Debug, Default)]
pub(super) struct Entry<'a>([Option<Scalar<'a>>; 4]);

impl<'a> Entry<'a> {
    pub(super) fn put(&mut self, field: EntryField, value: Scalar<'a>) -> Result<(), Malformed> {
        match self.0[field as usize].replace(value) {
            None => Ok(()),
            Some(_) => Err(Malformed),
        }
    }

    /// `None` = no number, no name, or a time that is none.
    fn into_sample(self, times: &mut Times<'a>) -> Option<Sample<'a>> {
        let [ts, name, value, unit] = self.0;
        let ts = match ts {
            None | Some(Scalar::Null) => None,
            Some(Scalar::Text(Cow::Borrowed(text))) => Some(times.read(text)?),
            Some(Scalar::Text(Cow::Owned(text))) => Some(Timestamp::parse_rfc3339(&text)?),
            Some(_) => return None,
        };
        let Some(Scalar::Text(name)) = name else { return None };
        let unit = match unit {
            Some(Scalar::Text(unit)) => Some(unit),
            _ => None,
        };
        Some(Sample { ts, name, unit, value: value?.number()? })
    }
}

/// A payload as a flat object: version 1.
#[derive(Debug, Default)]
pub(super) struct Flat<'a> {
    /// The members with a number, in order; one more than allowed at most.
    pub(super) numbers: Vec<(Cow<'a, str>, Scalar<'a>)>,
}

impl<'a> Flat<'a> {
    /// Takes one member.
    pub(super) fn put(&mut self, name: Cow<'a, str>, value: Scalar<'a>) -> Result<(), Malformed> {
        let is_envelope = matches!(&*name, "timestamp" | "ts" | "device_id" | "v" | "seq");
        if is_envelope || !value.is_number() || self.numbers.len() > MAX_MEASUREMENTS {
            return Ok(());
        }
        if self.numbers.iter().any(|(other, _)| *other == name) {
            return Err(Malformed);
        }
        self.numbers.push((name, value));
        Ok(())
    }
}

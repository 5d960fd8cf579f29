//! Version 2: the envelope and its rules, and the measurements of a datagram.

use crate::domain::metric::{MAX_MEASUREMENTS, Metric};
use crate::domain::{Body, Message, Refusal, Sequence, Telemetry, Timestamp};

use super::draft::{Draft, Field, List, Measurements, Sample, Scalar};
use super::{Context, Kind, fields};

/// Longest unit kept, in bytes.
const MAX_UNIT_LEN: usize = 32;
/// Farthest a measurement's time may lie from its message's: 24 h.
const MAX_OFFSET_US: u64 = 86_400_000_000;

pub(super) fn message(context: &Context<'_>, mut draft: Draft<'_>) -> Result<Message, Refusal> {
    let is_named = fields::names_device(context, &draft)?;
    let ts = draft.get(Field::Ts).and_then(Scalar::text).and_then(Timestamp::parse_rfc3339);
    let ts = ts.ok_or(Refusal::BadTimestamp)?;
    if !context.is_in_window(ts) {
        return Err(Refusal::TimestampOutOfRange);
    }
    let seq = sequence(context, &draft)?;
    let msg_type = draft.optional(Field::MsgType);
    let is_own_type = match msg_type {
        None => context.kind == Kind::Status,
        Some(named) => named.text() == Some(context.kind.name()),
    };
    if !is_own_type {
        return Err(Refusal::BadMsgType);
    }
    if !is_named {
        return Err(Refusal::BadField);
    }
    let body = match context.kind {
        Kind::Telemetry => Body::Telemetry(telemetry(context, ts, draft.measurements.take())?),
        kind => fields::body(kind, &draft)?,
    };
    Ok(fields::assemble(context, 2, ts, seq, body))
}

/// The counter; a status has none (and if one is there it is not of the meter's count: a last will is made at connect).
fn sequence(context: &Context<'_>, draft: &Draft<'_>) -> Result<Sequence, Refusal> {
    if context.kind == Kind::Status {
        return Ok(fields::digest(context));
    }
    let seq = draft.get(Field::Seq).and_then(Scalar::unsigned).and_then(|n| u32::try_from(n).ok());
    seq.map(Sequence::Counted).ok_or(Refusal::BadSeq)
}

fn telemetry(
    context: &Context<'_>,
    ts: Timestamp,
    measurements: Option<Measurements<'_>>,
) -> Result<Telemetry, Refusal> {
    let List { samples, len, .. } = match measurements {
        None => return Err(Refusal::NoMeasurements),
        Some(Measurements::NotAList) => return Err(Refusal::BadField),
        Some(Measurements::List(list)) => list,
    };
    if len == 0 {
        return Err(Refusal::NoMeasurements);
    }
    if len > MAX_MEASUREMENTS {
        return Err(Refusal::TooManyMeasurements);
    }
    let mut telemetry = Telemetry::with_capacity(samples.len());
    let mut kept = 0;
    for sample in &samples {
        kept += usize::from(add(context, ts, &mut telemetry, sample));
    }
    telemetry.dropped = telemetry.dropped.saturating_add(u16::try_from(len - kept).unwrap_or(u16::MAX));
    Ok(telemetry)
}

/// Adds a sample; `false` when its name breaks the rule or its time lies outside the accepted window or far from `ts`.
fn add(context: &Context<'_>, ts: Timestamp, telemetry: &mut Telemetry, sample: &Sample<'_>) -> bool {
    let at = sample.ts.unwrap_or(ts);
    let offset_us = at.micros().saturating_sub(ts.micros());
    if !context.is_in_window(at) || offset_us.unsigned_abs() > MAX_OFFSET_US {
        return false;
    }
    let Some(metric) = metric(telemetry, &sample.name) else { return false };
    let unit = sample.unit.as_deref().map(|unit| fields::cut(unit, MAX_UNIT_LEN)).filter(|unit| !unit.is_empty());
    telemetry.push(offset_us, metric, unit, sample.value);
    true
}

/// The metric of that name; one the datagram has already is shared, not made again.
pub(super) fn metric(telemetry: &Telemetry, name: &str) -> Option<Metric> {
    let known = telemetry.series.iter().find(|series| series.metric.name() == name);
    known.map(|series| series.metric.clone()).or_else(|| Metric::parse(name))
}

//! Version 1, old meters: a flat object in which every number is a measurement.
//!
//! Old meters send telemetry only. Should one say something else, it is read by version 2's members of that kind,
//! without a counter and with version 1's time.

use crate::domain::metric::MAX_MEASUREMENTS;
use crate::domain::{Body, Message, Refusal, Telemetry, Timestamp};

use super::draft::{Draft, Field, Flat, Malformed, Scalar};
use super::{Context, Kind, fields, v2};

/// A number of this many is taken as milliseconds since the epoch, a smaller one as seconds (this is year 5138 in
/// seconds, and 1973 in milliseconds).
const FIRST_MS: f64 = 1e11;

pub(super) fn message<'a>(
    context: &Context<'_>,
    draft: &Draft<'a>,
    flat: impl FnOnce() -> Result<Flat<'a>, Malformed>,
) -> Result<Message, Refusal> {
    // An ambiguous object is malformed before anything else is wrong with it.
    let numbers = if context.kind == Kind::Telemetry { Some(flat()?) } else { None };
    fields::names_device(context, draft)?;
    let ts = match draft.optional(Field::Timestamp).or_else(|| draft.optional(Field::Ts)) {
        None => context.received_at,
        Some(value) => time(value).ok_or(Refusal::BadTimestamp)?,
    };
    if !context.is_in_window(ts) {
        return Err(Refusal::TimestampOutOfRange);
    }
    let body = match numbers {
        Some(flat) => Body::Telemetry(telemetry(&flat)?),
        None => fields::body(context.kind, draft)?,
    };
    Ok(fields::assemble(context, 1, ts, fields::digest(context), body))
}

/// A time as text (without a zone: UTC), or as seconds or milliseconds since the epoch.
fn time(value: &Scalar<'_>) -> Option<Timestamp> {
    if let Some(text) = value.text() {
        return Timestamp::parse_utc_default(text);
    }
    let number = value.number()?;
    let micros = if number.abs() < FIRST_MS { number * 1e6 } else { number * 1e3 };
    // The cast saturates: such a time is outside every window.
    Some(Timestamp(micros.round() as i64))
}

fn telemetry(flat: &Flat<'_>) -> Result<Telemetry, Refusal> {
    if flat.numbers.is_empty() {
        return Err(Refusal::NoMeasurements);
    }
    if flat.numbers.len() > MAX_MEASUREMENTS {
        return Err(Refusal::TooManyMeasurements);
    }
    let mut telemetry = Telemetry::default();
    for (name, value) in &flat.numbers {
        match (v2::metric(&telemetry, name), value.number()) {
            (Some(metric), Some(value)) => telemetry.push(0, metric, None, value),
            _ => telemetry.dropped += 1,
        }
    }
    Ok(telemetry)
}

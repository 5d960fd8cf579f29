//! Energy of a device, interval by interval, and of the fleet.
//!
//! Promise: an interval has the same values whatever range was asked for; intervals without data are there, and say so.

mod body;
mod fleet;

use std::ops::ControlFlow;
use std::time::Instant;

use actix_web::{HttpResponse, get, web};

pub use body::IntervalBody;
use body::Writer;
pub use fleet::*;

use super::State;
use super::auth::Target;
use super::error::ApiError;
use super::query::Params;
use super::range::Range;
use super::series::format::Format;
use super::series::{known_state, stream};
use crate::domain::Timestamp;
use crate::domain::energy::{Period, Periods};
use crate::energy::{self, Job};
use crate::observe::metrics;

/// Without `start`: the last hour.
const DEFAULT_US: i64 = 3_600_000_000;
/// Most intervals of an answer: a leap year by the minute.
const MAX_INTERVALS: i64 = 366 * 1440;

/// What an interval may be, for error messages.
fn words() -> String {
    let words: Vec<&str> = Period::ALL.iter().map(|(word, _)| *word).collect();
    format!("one of {}", words.join(", "))
}

/// `period`; five minutes without it.
fn read_period(params: &mut Params) -> Option<Period> {
    params.read("period", &words(), Period::from_name)
}

/// `format`, of those that are text.
fn read_format(params: &mut Params) -> Format {
    let text = |name: &str| Format::from_name(name).filter(|format| *format != Format::Parquet);
    params.read("format", "json, csv or ndjson", text).unwrap_or(Format::Json)
}

/// How many intervals a range touches.
fn count(period: Period, range: Range) -> i64 {
    let (start, stop) = Periods::new(period, range.start, range.stop).range();
    stop.0.saturating_sub(start.0) / period.us()
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct Query {
    range: Range,
    period: Period,
    format: Format,
}

impl Query {
    fn read(mut params: Params, now: Timestamp) -> Result<Self, ApiError> {
        let range = Range::read(&mut params, DEFAULT_US, now);
        let period = read_period(&mut params).unwrap_or_default();
        let format = read_format(&mut params);
        if count(period, range) > MAX_INTERVALS {
            params.fault("period", format!("must divide the range into at most {MAX_INTERVALS} intervals"));
        }
        params.finish()?;
        Ok(Self { range, period, format })
    }
}

/// Energy of a device in intervals aligned to 00:00:00 UTC, ordered by time.
///
/// Every interval that the range touches is there and whole, also one without data (`missing`). Import and export are two
/// registers. `valid`: at least 99 % covered by measurements, and nothing against it; else `uncertain`, with what is
/// against it in `doubts`.
#[utoipa::path(tag = "data", params(("id" = String, Path, description = "Device id"),
    ("start" = Option<String>, Query, description = "`-1h` by default; as for measurements"),
    ("stop" = Option<String>, Query, description = "`now()` by default"),
    ("period" = Option<String>, Query, description = "`1m 5m 10m 15m 1h 1d`; `5m` by default; at most 527040 intervals"),
    ("format" = Option<String>, Query, description = "`json csv ndjson`")),
    responses((status = 200, content((Vec<IntervalBody> = "application/json"), (String = "text/csv"),
        (String = "application/x-ndjson"))),
    (status = 400, body = super::Problem), (status = 404, body = super::Problem)))]
#[get("/api/devices/{id}/energy")]
pub async fn device_energy(
    state: web::Data<State>,
    Target(id): Target,
    params: Params,
) -> Result<HttpResponse, ApiError> {
    let Query { range, period, format } = Query::read(params, state.services.clock.now())?;
    let known = known_state(&state, &id).await?;
    let job = Job { device: id, span_us: known.span_us };
    stream::respond(&state, format.content_type(), move |history, sink| {
        let started = Instant::now();
        let mut writer = Writer::begin(format, IntervalBody::COLUMNS, sink.buffer());
        let mut periods = Periods::new(period, range.start, range.stop);
        let client = sink.client();
        let mut write = |interval| {
            writer.row(&IntervalBody::of(&interval, 1), sink.buffer());
            sink.flow()
        };
        let (all, whole) = (periods.range(), period.whole_hours());
        let flow = energy::pieces(history, &job, all, whole, &mut || client.waits(), &mut |piece| {
            periods.push(piece, &mut write)
        })?;
        if flow.is_break() || periods.finish(&mut write).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        writer.end(sink.buffer());
        metrics::ENERGY_SECONDS.observe(&[("of", "device")], started.elapsed());
        Ok(sink.flow())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_whole_or_refused_with_every_fault() {
        let check = |query: &str, faults: usize| {
            let read = Query::read(Params::parse(query), Timestamp(1_770_890_400_000_000));
            assert_eq!(read.err().map_or(0, |e| e.faults().len()), faults, "{query}");
        };
        check("", 0);
        check("period=1d&start=0&format=csv", 0);
        check("period=1m&start=-366d", 0);
        check("period=1m&start=-367d", 1);
        check("period=1m&start=0&stop=9223372036854775", 1);
        check("period=2m&format=parquet&start=soon", 3);
    }
}

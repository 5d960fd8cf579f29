//! Measurements of a device over time: read in order, gathered into buckets, thinned, written, streamed.
//!
//! Promise: ordered by sample time; memory does not grow with the answer.

mod bucket;
mod export;
mod format;
mod latest;
mod lttb;
mod quantity;
mod reorder;
mod source;
pub(super) mod stream;
mod table;

use std::ops::ControlFlow;
use std::sync::Arc;

use actix_web::{HttpResponse, get, web};
use serde::Serialize;
use utoipa::ToSchema;

pub use export::{ExportFault, Exporter};
pub use latest::*;

use super::State;
use super::auth::Target;
use super::error::ApiError;
use super::query::Params;
use super::range::{Range, parse_length_us};
use super::show::Time;
use crate::domain::{DeviceId, DeviceState, Timestamp};
use bucket::{Buckets, Function};
use format::{Format, Writer};
use lttb::Thinner;
use quantity::{Found, Quantity};
use source::Job;
use stream::Sink;
use table::Table;

/// Without `start`: the last hour.
const DEFAULT_US: i64 = 3_600_000_000;
/// Most types asked for at once.
const MAX_WANTED: usize = 70;
/// A bucket is at most so long: 366 days.
const MAX_EVERY_US: i64 = 366 * 86_400_000_000;
/// Most buckets a range may be divided into: more is read as samples, or part by part.
const MAX_BUCKETS: i64 = 1_000_000;

/// A value at an instant.
#[derive(Clone, PartialEq, Debug)]
pub struct Point {
    time: Timestamp,
    quantity: Quantity,
    value: f64,
    /// Where it differs from the quantity's usual one; empty = none.
    unit: Option<Arc<str>>,
    is_plausible: bool,
}

impl Point {
    fn new(time: Timestamp, found: Found) -> Self {
        let Found { quantity, value, unit, is_plausible } = found;
        Self { time, quantity, value, unit, is_plausible }
    }

    /// The unit to show.
    fn unit(&self) -> Option<&str> {
        Some(self.unit.as_deref().unwrap_or_else(|| self.quantity.unit())).filter(|unit| !unit.is_empty())
    }

    /// The quality to show: good is not said.
    fn quality(&self) -> Option<&'static str> {
        (!self.is_plausible).then_some("out_of_range")
    }
}

/// A point as the API shows it.
#[derive(Serialize, ToSchema)]
pub struct PointBody {
    #[schema(value_type = String, format = DateTime)]
    time: Time,
    device_id: String,
    metric: String,
    value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
    /// `out_of_range`, or absent when good.
    #[serde(skip_serializing_if = "Option::is_none")]
    quality: Option<&'static str>,
}

/// What is asked for.
#[derive(Clone, PartialEq, Debug)]
struct Query {
    range: Range,
    wanted: Vec<Quantity>,
    buckets: Option<(i64, Function)>,
    max_points: Option<usize>,
    format: Format,
}

impl Query {
    fn read(mut params: Params, now: Timestamp) -> Result<Self, ApiError> {
        let range = Range::read(&mut params, DEFAULT_US, now);
        let mut wanted: Vec<Quantity> = Vec::new();
        let names: Vec<String> = params.all("metric").into_iter().map(str::to_owned).collect();
        for name in names {
            match Quantity::parse(&name) {
                None => params.fault("metric", "must be names of 1 to 64 of A-Z a-z 0-9 _ . -"),
                Some(quantity) if !wanted.contains(&quantity) => wanted.push(quantity),
                Some(_) => {}
            }
        }
        if wanted.len() > MAX_WANTED {
            params.fault("metric", format!("may name at most {MAX_WANTED} types"));
        }
        let every = params.read("every", "a length such as 30s, 5m, 1h or 1d, at most 366d", |v| {
            parse_length_us(v).filter(|us| (1..=MAX_EVERY_US).contains(us))
        });
        if every.is_some_and(|us| range.stop.0.saturating_sub(range.start.0) / us > MAX_BUCKETS) {
            params.fault("every", format!("must divide the range into at most {MAX_BUCKETS} buckets"));
        }
        let names = Function::ALL.map(|(name, _)| name).join(", ");
        let function = params.read("fn", &format!("one of {names}"), Function::from_name);
        if function.is_some() && params.text("every").is_none() {
            params.fault("fn", "needs every");
        }
        let max_points = params.number("max_points", 3..=5000).and_then(|n| usize::try_from(n).ok());
        let format = params.read("format", "json, csv, ndjson or parquet", Format::from_name).unwrap_or(Format::Json);
        let buckets = every.map(|us| (us, function.unwrap_or(Function::Mean)));
        params.finish()?;
        Ok(Self { range, wanted, buckets, max_points, format })
    }
}

/// From samples to text: buckets if asked for, then thinning if asked for, then writing.
struct Pipeline<'a> {
    buckets: Option<Buckets>,
    thinner: Option<Thinner>,
    writer: Output,
    sink: &'a mut Sink,
}

/// Where points are written.
enum Output {
    Text(Writer),
    /// `None` once it has failed: the answer is broken off.
    Table(Option<Box<Table>>),
}

impl Output {
    fn new(format: Format, device: &DeviceId, sink: &mut Sink) -> Self {
        if format == Format::Parquet {
            return Self::Table(Table::new(device.as_str()).map(Box::new).ok());
        }
        let writer = Writer::new(format, device.as_str());
        writer.begin(sink.buffer());
        Self::Text(writer)
    }

    fn point(&mut self, point: Point, sink: &mut Sink) {
        match self {
            Self::Text(writer) => writer.point(&point, sink.buffer()),
            Self::Table(table) => {
                if table.as_mut().is_some_and(|table| table.point(point, sink.bytes()).is_err()) {
                    *table = None;
                }
            }
        }
    }

    fn end(self, sink: &mut Sink) -> ControlFlow<()> {
        match self {
            Self::Text(writer) => writer.end(sink.buffer()),
            Self::Table(table) => {
                if table.is_none_or(|table| table.end(sink.bytes()).is_err()) {
                    return ControlFlow::Break(());
                }
            }
        }
        sink.flow()
    }
}

impl<'a> Pipeline<'a> {
    fn new(query: &Query, device: &DeviceId, sink: &'a mut Sink) -> Self {
        let writer = Output::new(query.format, device, sink);
        Self {
            buckets: query.buckets.map(|(every_us, function)| Buckets::new(every_us, function)),
            thinner: query.max_points.map(Thinner::new),
            writer,
            sink,
        }
    }

    fn push(&mut self, point: Point, cadence_us: i64) -> ControlFlow<()> {
        let Self { buckets, thinner, writer, sink } = self;
        let mut write = |point: Point| match thinner {
            Some(thinner) => thinner.push(point),
            None => writer.point(point, sink),
        };
        match buckets {
            Some(buckets) => buckets.push(point, cadence_us.saturating_mul(3), &mut write),
            None => write(point),
        }
        self.sink.flow()
    }

    fn finish(mut self) -> ControlFlow<()> {
        let Self { buckets, thinner, writer, sink } = &mut self;
        if let Some(mut buckets) = buckets.take() {
            buckets.finish(&mut |point| match thinner {
                Some(thinner) => thinner.push(point),
                None => writer.point(point, sink),
            });
        }
        for point in thinner.take().map(Thinner::finish).unwrap_or_default() {
            writer.point(point, sink);
            sink.flow()?;
        }
        self.writer.end(self.sink)
    }
}

/// What is known of a device that is registered or was heard of; 404 for any other.
async fn known_state(state: &State, id: &DeviceId) -> Result<DeviceState, ApiError> {
    let wanted = id.clone();
    let found = state
        .store(move |s| {
            let known = s.device_states(std::slice::from_ref(&wanted))?.pop().map(|(_, known)| known);
            match known {
                Some(known) => Ok(Some(known)),
                None => Ok(s.device(&wanted)?.map(|_| DeviceState::default())),
            }
        })
        .await?;
    found.ok_or_else(|| ApiError::no_device(id.as_str()))
}

/// Measurements of a device, ordered by time.
///
/// `start` is included, `stop` is not. Buckets are aligned to the epoch and named by their start.
#[utoipa::path(tag = "data", params(("id" = String, Path, description = "Device id"),
    ("start" = Option<String>, Query, description = "`-30s -15m -1h -7d`, `now()`, RFC 3339, or epoch ms; `-1h` by default"),
    ("stop" = Option<String>, Query, description = "Likewise; `now()` by default"),
    ("metric" = Option<String>, Query,
        description = "Types, by commas or repeated; also `active_power apparent_power reactive_power`"),
    ("every" = Option<String>, Query, description = "Length of buckets: `30s 5m 1h 1d`; at most 1000000 buckets"),
    ("fn" = Option<String>, Query,
        description = "`mean min max first last count sum integral` (value × seconds, nothing across holes); `mean` by default"),
    ("max_points" = Option<u32>, Query, description = "At most so many points a type, keeping the shape; 3 to 5000"),
    ("format" = Option<String>, Query, description = "`json csv ndjson parquet`")),
    responses((status = 200, content((Vec<PointBody> = "application/json"), (String = "text/csv"),
        (String = "application/x-ndjson"), (Vec<u8> = "application/vnd.apache.parquet"))),
    (status = 400, body = super::Problem), (status = 404, body = super::Problem)))]
#[get("/api/devices/{id}/metrics")]
pub async fn device_metrics(
    state: web::Data<State>,
    Target(id): Target,
    params: Params,
) -> Result<HttpResponse, ApiError> {
    let query = Query::read(params, state.services.clock.now())?;
    let known = known_state(&state, &id).await?;
    let job = Job { device: id, range: query.range, span_us: known.span_us, wanted: query.wanted.clone() };
    stream::respond(&state, query.format.content_type(), move |history, sink| {
        let mut pipeline = Pipeline::new(&query, &job.device, sink);
        let mut flow = ControlFlow::Continue(());
        source::read(history, &job, &mut |point, cadence_us| {
            flow = pipeline.push(point, cadence_us);
            flow
        })?;
        Ok(if flow.is_continue() { pipeline.finish() } else { flow })
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
        check("metric=voltage_dc,current_dc&metric=active_power&every=5m&fn=max&format=csv&max_points=500", 0);
        check("fn=max", 1);
        check("every=0s", 1);
        check("every=1s&start=-11d", 0);
        check("every=1s&start=-12d", 1);
        check("every=1h&start=0", 0);
        check("every=1s&start=0&stop=9223372036854775", 1);
        check("every=5m&fn=median", 1);
        check("start=soon&stop=later&metric=a%20b&max_points=2&format=xml", 5);
    }
}

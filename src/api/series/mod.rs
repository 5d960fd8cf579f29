//! Measurements of a device over time, as asked for over HTTP: the question read, the answer written and streamed.
//!
//! Promise: ordered by sample time; memory does not grow with the answer.

mod export;
pub(super) mod format;
mod latest;
mod pipeline;
pub(super) mod stream;
mod table;

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
use crate::series::{Function, Job, Level, Quantity, Wanted};
use format::Format;

/// Without `start`: the last hour.
const DEFAULT_US: i64 = 3_600_000_000;
/// Most types asked for at once.
const MAX_WANTED: usize = 70;
/// A bucket is at most so long: 366 days.
const MAX_EVERY_US: i64 = 366 * 86_400_000_000;
/// From so long a range on, buckets of hours are made of hours, not of minutes.
const LONG_US: i64 = 7 * 86_400_000_000;
/// Most buckets a range may be divided into: more is read as samples, or part by part.
const MAX_BUCKETS: i64 = 1_000_000;

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
    wanted: Wanted,
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
        let wanted = if wanted.is_empty() { Wanted::Measured } else { Wanted::These(wanted) };
        Ok(Self { range, wanted, buckets, max_points, format })
    }

    /// What the answer is made of in place of samples: minutes or hours where the buckets are made of whole ones, or where
    /// there is at least one for each point (each gives up to four). By the question alone: the same one always has the same
    /// answer.
    fn level(&self) -> Option<Level> {
        let length = self.range.stop.0.saturating_sub(self.range.start.0);
        let fits = |level: Level| match (self.buckets, self.max_points) {
            (Some((every_us, _)), _) => every_us % level.us() == 0 && (level == Level::Minutes || length >= LONG_US),
            (None, Some(most)) => i64::try_from(most).is_ok_and(|most| length / level.us() >= most),
            (None, None) => false,
        };
        [Level::Hours, Level::Minutes].into_iter().find(|level| fits(*level))
    }
}

/// What is known of a device that is registered or was heard of; 404 for any other.
pub(super) async fn known_state(state: &State, id: &DeviceId) -> Result<DeviceState, ApiError> {
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
/// `start` is included, `stop` is not. Buckets are aligned to the epoch and named by their start. Buckets of whole minutes,
/// and `max_points` where the range has as many minutes or hours, come from minutes and hours that were added up before
/// (those under way and those that late data have changed, from the samples): a year is answered about as fast as a day. A
/// thinned line is then chosen from the first, least, greatest and last sample of each minute or hour.
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
        pipeline::answer(history, &query, &job, sink)
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

    #[test]
    fn the_question_alone_says_what_an_answer_is_made_of() {
        let check = |query: &str, expected: Option<Level>| {
            let query = Query::read(Params::parse(query), Timestamp(1_770_890_400_000_000)).unwrap();
            assert_eq!(query.level(), expected, "{query:?}");
        };
        check("start=-365d", None);
        check("every=1m", Some(Level::Minutes));
        check("every=90s", None);
        check("every=1h&start=-6d", Some(Level::Minutes));
        check("every=1h&start=-7d", Some(Level::Hours));
        check("every=90m&start=-7d", Some(Level::Minutes));
        check("every=1d&start=-365d&max_points=100", Some(Level::Hours));
        check("max_points=500&start=-8h", None);
        check("max_points=500&start=-9h", Some(Level::Minutes));
        check("max_points=500&start=-20d", Some(Level::Minutes));
        check("max_points=500&start=-21d", Some(Level::Hours));
    }
}

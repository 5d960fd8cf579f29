//! Energy of many devices: in all, by device, type or location, by interval.
//!
//! Bounded: one device is read at a time, and what is added up is [`MAX_ROWS`] rows at most.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::time::Instant;

use actix_web::{HttpResponse, get, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::body::{IntervalBody, Row, Writer};
use super::{DEFAULT_US, MAX_INTERVALS, count, read_format, read_period};
use crate::api::auth::Principal;
use crate::api::error::{ApiError, Fault};
use crate::api::query::Params;
use crate::api::range::Range;
use crate::api::series::format::{Format, cell};
use crate::api::series::stream;
use crate::api::{State, devices};
use crate::domain::energy::{Interval, Period, Periods, Totals};
use crate::domain::{DeviceId, Timestamp};
use crate::energy::{self, Job};
use crate::history::{Error, History};
use crate::observe::metrics;
use crate::store::{Device, DeviceFilter, Page};

/// Most devices that can be named.
const MAX_NAMED: usize = 500;
/// Most devices of an answer.
const MAX_DEVICES: u64 = 100_000;
/// Most rows of an answer.
const MAX_ROWS: usize = 200_000;
/// Devices listed at a time.
const PAGE: u32 = 500;

/// What rows are made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct By {
    device: bool,
    device_type: bool,
    location: bool,
    /// `None` = the whole range is one interval.
    period: Option<Period>,
}

#[derive(Clone, PartialEq, Debug)]
struct Query {
    range: Range,
    named: Vec<DeviceId>,
    filter: DeviceFilter,
    by: By,
    format: Format,
}

impl Query {
    fn read(mut params: Params, now: Timestamp) -> Result<Self, ApiError> {
        let range = Range::read(&mut params, DEFAULT_US, now);
        let filter = devices::filter(&mut params);
        let named = named(&mut params);
        if !named.is_empty() && filter != DeviceFilter::default() {
            params.fault("device", "cannot stand beside type, location, status, connection_status, q and metadata");
        }
        let by = by(&mut params);
        let format = read_format(&mut params);
        if count(by.period.unwrap_or(Period::Hour), range) > MAX_INTERVALS {
            let name = if by.period.is_some() { "period" } else { "start" };
            params.fault(name, format!("makes more than {MAX_INTERVALS} intervals of the range"));
        }
        params.finish()?;
        Ok(Self { range, named, filter, by, format })
    }

    /// The intervals of a group: of the period, or one of whole minutes.
    fn periods(&self) -> (Timestamp, Timestamp, usize) {
        let period = self.by.period.unwrap_or(Period::Minute);
        let (start, stop) = Periods::new(period, self.range.start, self.range.stop).range();
        let intervals = if self.by.period.is_some() { count(period, self.range) } else { 1 };
        (start, stop, usize::try_from(intervals).unwrap_or(usize::MAX))
    }
}

fn named(params: &mut Params) -> Vec<DeviceId> {
    let names: Vec<String> = params.all("device").into_iter().map(str::to_owned).collect();
    let mut named: Vec<DeviceId> = Vec::new();
    for name in names {
        match DeviceId::parse(&name) {
            None => params.fault("device", "must be device ids, by commas or repeated"),
            Some(id) if !named.contains(&id) => named.push(id),
            Some(_) => {}
        }
    }
    if named.len() > MAX_NAMED {
        params.fault("device", format!("may name at most {MAX_NAMED} devices"));
    }
    named
}

fn by(params: &mut Params) -> By {
    let words: Vec<String> = params.all("group_by").into_iter().map(str::to_owned).collect();
    let has = |word: &str| words.iter().any(|w| w == word);
    if words.iter().any(|word| !["device", "type", "location", "period"].contains(&word.as_str())) {
        params.fault("group_by", "must be of device, type, location and period, by commas or repeated");
    }
    let period = read_period(params);
    if period.is_some() && !has("period") {
        params.fault("period", "needs group_by=period");
    }
    let period = has("period").then(|| period.unwrap_or_default());
    By { device: has("device"), device_type: has("type"), location: has("location"), period }
}

/// What a row is about.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
struct Group {
    device: Option<String>,
    device_type: Option<String>,
    location: Option<Option<String>>,
}

/// What is needed of a device.
#[derive(Clone, PartialEq, Debug)]
struct Member {
    id: DeviceId,
    device_type: String,
    location: Option<String>,
}

impl From<Device> for Member {
    fn from(device: Device) -> Self {
        Self { id: device.device_id, device_type: device.device_type, location: device.location }
    }
}

impl Group {
    fn of(device: &Member, by: By) -> Self {
        Self {
            device: by.device.then(|| device.id.to_string()),
            device_type: by.device_type.then(|| device.device_type.clone()),
            location: by.location.then(|| device.location.clone()),
        }
    }
}

/// What a group comes to.
#[derive(Clone, Debug, Default)]
struct Sum {
    devices: i64,
    intervals: Vec<Totals>,
}

/// Energy of some devices together.
#[derive(Serialize, ToSchema)]
pub struct FleetBody {
    /// With `group_by=device`.
    #[serde(skip_serializing_if = "Option::is_none")]
    device_id: Option<String>,
    /// With `group_by=type`.
    #[serde(skip_serializing_if = "Option::is_none")]
    device_type: Option<String>,
    /// With `group_by=location`; null = those without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    location: Option<Option<String>>,
    /// How many devices there are, also those without data.
    devices: i64,
    #[serde(flatten)]
    energy: IntervalBody,
}

impl FleetBody {
    fn columns() -> String {
        format!("device_id,device_type,location,devices,{}", IntervalBody::COLUMNS)
    }
}

impl Row for FleetBody {
    fn csv(&self, out: &mut String) {
        for text in [
            self.device_id.as_deref(),
            self.device_type.as_deref(),
            self.location.iter().flatten().next().map(String::as_str),
        ] {
            cell(text.unwrap_or_default(), out);
            out.push(',');
        }
        // Writing to a string cannot fail.
        let _ = write!(out, "{},", self.devices);
        self.energy.csv(out);
    }
}

/// Energy of the fleet, or of some devices, added up.
///
/// Without `group_by` one row of the whole range, in whole minutes. Coverage and quality are those of all devices together.
#[utoipa::path(tag = "data", params(
    ("start" = Option<String>, Query, description = "`-1h` by default; as for measurements"),
    ("stop" = Option<String>, Query, description = "`now()` by default"),
    ("device" = Option<String>, Query, description = "Device ids, by commas or repeated; without: all"),
    ("group_by" = Option<String>, Query, description = "Of `device type location period`, by commas or repeated"),
    ("period" = Option<String>, Query, description = "With `group_by=period`: `1m 5m 10m 15m 1h 1d`; `5m` by default"),
    ("type" = Option<String>, Query, description = "Of this device type only"),
    ("location" = Option<String>, Query, description = "Of this location only"),
    ("status" = Option<String>, Query, description = "`active` or `inactive`"),
    ("connection_status" = Option<String>, Query, description = "`online`, `offline` or `unknown`"),
    ("q" = Option<String>, Query, description = "Part of id or name"),
    ("metadata.KEY" = Option<String>, Query, description = "Value of the metadata member KEY"),
    ("format" = Option<String>, Query, description = "`json csv ndjson`")),
    responses((status = 200, content((Vec<FleetBody> = "application/json"), (String = "text/csv"),
        (String = "application/x-ndjson"))),
    (status = 400, body = crate::api::Problem), (status = 404, body = crate::api::Problem)))]
#[get("/api/energy")]
pub async fn fleet_energy(
    state: web::Data<State>,
    principal: Principal,
    params: Params,
) -> Result<HttpResponse, ApiError> {
    let query = Query::read(params, state.services.clock.now())?;
    let devices = match query.named.is_empty() {
        true => matching(&state, &query, principal.device_prefix).await?,
        false => find(&state, &query.named, &principal).await?,
    };
    let mut groups: BTreeMap<Group, Sum> = BTreeMap::new();
    for device in &devices {
        groups.entry(Group::of(device, query.by)).or_default().devices += 1;
    }
    let (_, _, intervals) = query.periods();
    if groups.len().saturating_mul(intervals) > MAX_ROWS {
        let text = format!("makes more than {MAX_ROWS} rows: ask for a shorter range, a longer period or fewer groups");
        return Err(ApiError::Bad(vec![Fault::new("group_by", text)]));
    }
    groups.values_mut().for_each(|sum| sum.intervals = vec![Totals::default(); intervals]);
    stream::respond(&state, query.format.content_type(), move |history, sink| {
        let started = Instant::now();
        for some in devices.chunks(PAGE as usize) {
            if add(history, &query, some, &mut groups, &mut || sink.flow())?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        let mut writer = Writer::begin(query.format, &FleetBody::columns(), sink.buffer());
        for (group, sum) in groups {
            for energy in rows(&query, &sum) {
                let Group { device, device_type, location } = group.clone();
                let body = FleetBody { device_id: device, device_type, location, devices: sum.devices, energy };
                writer.row(&body, sink.buffer());
                if sink.flow().is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        writer.end(sink.buffer());
        metrics::ENERGY_SECONDS.observe(&[("of", "fleet")], started.elapsed());
        Ok(sink.flow())
    })
    .await
}

/// Adds the energy of devices to their groups.
fn add(
    history: &History,
    query: &Query,
    devices: &[Member],
    groups: &mut BTreeMap<Group, Sum>,
    go_on: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Error> {
    let ids: Vec<DeviceId> = devices.iter().map(|device| device.id.clone()).collect();
    let known: BTreeMap<DeviceId, i64> =
        history.store().device_states(&ids)?.into_iter().map(|(id, state)| (id, state.span_us)).collect();
    let (start, stop, _) = query.periods();
    let whole = match query.by.period {
        Some(period) => period.whole_hours(),
        None => energy::whole_hours(start, stop),
    };
    for device in devices {
        if go_on().is_break() {
            return Ok(ControlFlow::Break(()));
        }
        // Nothing was ever heard of the others.
        let Some(span_us) = known.get(&device.id).copied() else { continue };
        let Some(sum) = groups.get_mut(&Group::of(device, query.by)) else { continue };
        let job = Job { device: device.id.clone(), span_us };
        let flow = energy::pieces(history, &job, (start, stop), whole, go_on, &mut |piece| {
            let at = query.by.period.map_or(0, |period| piece.start.0.saturating_sub(start.0) / period.us());
            if let Some(totals) = usize::try_from(at).ok().and_then(|at| sum.intervals.get_mut(at)) {
                totals.add(&piece.totals);
            }
            ControlFlow::Continue(())
        })?;
        if flow.is_break() {
            return Ok(flow);
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// The intervals of a group.
fn rows<'a>(query: &Query, sum: &'a Sum) -> impl Iterator<Item = IntervalBody> + use<'a> {
    let (start, stop, _) = query.periods();
    let length_us = query.by.period.map_or(stop.0.saturating_sub(start.0), Period::us);
    let devices = sum.devices;
    sum.intervals.iter().zip(0_i64..).map(move |(totals, at)| {
        let start = start.plus_us(at.saturating_mul(length_us));
        IntervalBody::of(&Interval { start, end: start.plus_us(length_us), totals: *totals }, devices)
    })
}

/// The devices that were named, each within reach.
async fn find(state: &State, named: &[DeviceId], principal: &Principal) -> Result<Vec<Member>, ApiError> {
    let mut found = Vec::with_capacity(named.len());
    for id in named {
        if !principal.may_reach(id) {
            return Err(ApiError::Forbidden(format!("this key does not reach the device {:?}", id.as_str())));
        }
        found.push(Member::from(devices::find(state, id).await?));
    }
    Ok(found)
}

/// All devices that match, within reach.
async fn matching(state: &State, query: &Query, prefix: Option<String>) -> Result<Vec<Member>, ApiError> {
    let filter = DeviceFilter { id_prefix: prefix, ..query.filter.clone() };
    let all = state.store(move |s| {
        let mut all: Vec<Member> = Vec::new();
        let mut place = None;
        loop {
            let listing = s.devices(&filter, Page::behind(place, PAGE))?;
            all.extend(listing.items.into_iter().map(Member::from));
            place = listing.next;
            if place.is_none() || all.len() as u64 > MAX_DEVICES {
                return Ok(all);
            }
        }
    });
    let all = all.await?;
    if all.len() as u64 > MAX_DEVICES {
        let text = format!("is needed: more than {MAX_DEVICES} devices match");
        return Err(ApiError::Bad(vec![Fault::new("device", text)]));
    }
    Ok(all)
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
        check("device=a,b&device=c&group_by=device,period&period=1h", 0);
        check("group_by=type&type=tram&location=depot&q=1&metadata.line=S1", 0);
        check("group_by=colour", 1);
        check("period=1h", 1);
        check("group_by=period", 0);
        check("device=a&type=tram", 1);
        check("device=-a", 1);
        check("group_by=period&period=1m&start=-400d", 1);
        check("start=0&stop=9223372036854775", 1);
        check("device=-a&group_by=x&period=7m&format=xml&start=x", 5);
    }
}

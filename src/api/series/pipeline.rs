//! From samples, or from what minutes and hours come to, to text: buckets if asked for, then thinning if asked for, then
//! writing.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::Query;
use super::format::{Format, Writer};
use super::stream::Sink;
use super::table::Table;
use crate::domain::DeviceId;
use crate::history::{Error, History};
use crate::series::{Buckets, Job, Point, Quantity, Summary, Thinner, Wanted, source, walk};

struct Pipeline<'a> {
    buckets: Option<Buckets>,
    out: Out<'a>,
    /// Samples of a quantity, and how many of them were handed on as points.
    counts: BTreeMap<Quantity, (u64, u64)>,
}

/// What comes behind the buckets.
struct Out<'a> {
    thinner: Option<Thinner>,
    writer: Output,
    sink: &'a mut Sink,
}

/// Where points are written.
enum Output {
    Text(Box<Writer>),
    /// `None` once it has failed: the answer is broken off.
    Table(Option<Box<Table>>),
}

/// Reads what is asked for and writes it; breaks when the client is gone.
pub(super) fn answer(history: &History, query: &Query, job: &Job, sink: &mut Sink) -> Result<ControlFlow<()>, Error> {
    let client = sink.client();
    let mut pipeline = Pipeline::new(query, &job.device, sink);
    let flow = match query.level() {
        Some(level) => walk::read(history, job, level, &mut || client.waits(), &mut |_, quantity, summary| {
            pipeline.summary(quantity, summary)
        })?,
        None => pipeline.samples(history, job)?,
    };
    if flow.is_break() {
        return Ok(flow);
    }
    let thinned = pipeline.thinned_too_much(query);
    if !thinned.is_empty() {
        let again = Job { wanted: Wanted::These(thinned), ..job.clone() };
        let flow = pipeline.samples(history, &again)?;
        if flow.is_break() {
            return Ok(flow);
        }
    }
    Ok(pipeline.finish())
}

impl<'a> Pipeline<'a> {
    fn new(query: &Query, device: &DeviceId, sink: &'a mut Sink) -> Self {
        let writer = Output::new(query.format, device, sink);
        let thinner = query.max_points.map(Thinner::new);
        let buckets = query.buckets.map(|(every_us, function)| Buckets::new(every_us, function));
        Self { buckets, out: Out { thinner, writer, sink }, counts: BTreeMap::new() }
    }

    fn samples(&mut self, history: &History, job: &Job) -> Result<ControlFlow<()>, Error> {
        let Self { buckets, out, .. } = self;
        match buckets {
            Some(buckets) => source::read(history, job, &mut |quantity, reading| {
                buckets.push(&quantity, Summary::of(reading), &mut |point| out.point(point))?;
                out.sink.flow()
            }),
            None => source::points(history, job, &mut |point| {
                out.point(point)?;
                out.sink.flow()
            }),
        }
    }

    fn summary(&mut self, quantity: &Quantity, summary: Summary) -> ControlFlow<()> {
        let Self { buckets, out, counts } = self;
        if let Some(buckets) = buckets {
            buckets.push(quantity, summary, &mut |point| out.point(point))?;
            return out.sink.flow();
        }
        if !counts.contains_key(quantity) {
            counts.insert(quantity.clone(), (0, 0));
        }
        let counted = summary.count;
        let mut points = 0;
        for reading in summary.corners() {
            points += 1;
            out.point(Point::new(quantity.clone(), reading))?;
        }
        if let Some((all, given)) = counts.get_mut(quantity) {
            *all += counted;
            *given += points;
        }
        // Nothing is written yet, but the client may have gone.
        out.sink.flow()
    }

    /// The quantities of which there are so few samples that all are to be shown, and not all were handed on: they are
    /// forgotten, to be read as samples.
    fn thinned_too_much(&mut self, query: &Query) -> Vec<Quantity> {
        let most = query.max_points.map_or(0, |most| most as u64);
        let is_so = |(all, given): (u64, u64)| given < all && all <= most;
        let some: Vec<Quantity> =
            self.counts.iter().filter(|(_, counts)| is_so(**counts)).map(|(quantity, _)| quantity.clone()).collect();
        if let Some(thinner) = &mut self.out.thinner {
            some.iter().for_each(|quantity| thinner.forget(quantity));
        }
        some
    }

    fn finish(mut self) -> ControlFlow<()> {
        let Self { buckets, out, .. } = &mut self;
        if let Some(mut buckets) = buckets.take() {
            buckets.finish(&mut |point| out.point(point))?;
        }
        for point in out.thinner.take().map(Thinner::finish).unwrap_or_default() {
            out.point(point)?;
            out.sink.flow()?;
        }
        self.out.writer.end(self.out.sink)
    }
}

impl Out<'_> {
    fn point(&mut self, point: Point) -> ControlFlow<()> {
        match &mut self.thinner {
            Some(thinner) => thinner.push(point),
            None => self.writer.point(point, self.sink),
        }
        ControlFlow::Continue(())
    }
}

impl Output {
    fn new(format: Format, device: &DeviceId, sink: &mut Sink) -> Self {
        if format == Format::Parquet {
            return Self::Table(Table::new(device.as_str()).map(Box::new).ok());
        }
        let writer = Writer::new(format, device.as_str());
        writer.begin(sink.buffer());
        Self::Text(Box::new(writer))
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

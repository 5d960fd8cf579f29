//! The hours of a device, integrated from the rows of its history. Memory is bounded by [`MAX_HELD`].

use std::ops::ControlFlow;

use super::Job;
use crate::domain::Timestamp;
use crate::domain::derived::Derived;
use crate::domain::energy::{Hour, Hours, Sample, samples};
use crate::domain::reorder::{Place, Reorder};
use crate::history::{Error, History};
use crate::observe::metrics;
use crate::store::{Columns, TelemetryRow};

/// Most samples held to bring them in order.
const MAX_HELD: usize = 200_000;

/// Makes hours of rows that come in order of their messages.
#[derive(Debug)]
pub struct Feed {
    span_us: i64,
    range: (Timestamp, Timestamp),
    reorder: Reorder<Sample>,
    hours: Hours,
}

impl Feed {
    /// Of the samples in `range` (whole hours), none of which lies further than `span_us` from its message.
    pub fn new(span_us: i64, range: (Timestamp, Timestamp)) -> Self {
        let span_us = span_us.max(0);
        Self { span_us, range, reorder: Reorder::new(MAX_HELD), hours: Hours::default() }
    }

    /// Takes a row; gives out the hours that are complete.
    pub fn row(&mut self, row: &TelemetryRow, out: &mut dyn FnMut(Hour)) {
        let horizon = row.ts.plus_us(-self.span_us);
        while let Some((_, sample)) = self.reorder.next_before(horizon) {
            self.hours.push(sample, out);
        }
        let message = (row.ts, row.seq.to_i64());
        let (from, to) = self.range;
        samples(row.ts, &row.values, row.ts.is_ahead_of(row.received_at), &mut |slot, sample| {
            if from <= sample.time && sample.time < to {
                let slot = u32::try_from(slot).unwrap_or(u32::MAX);
                self.reorder.insert(Place { time: sample.time, message, slot: (slot, 0) }, sample);
            }
        });
    }

    /// There are no more rows. Where there were too many samples to hold: from where rows must be read again.
    pub fn end(&mut self, out: &mut dyn FnMut(Hour)) -> Option<Timestamp> {
        while let Some((_, sample)) = self.reorder.next_at_end() {
            self.hours.push(sample, out);
        }
        self.reorder.again()
    }

    /// Gives out the last hour.
    pub fn finish(self, out: &mut dyn FnMut(Hour)) {
        self.hours.finish(out);
    }
}

/// Calls `each` with every hour of `from..to` (whole hours) that has a sample, in order, until it breaks. Blocks.
pub fn hours(
    history: &History,
    job: &Job,
    (from, to): (Timestamp, Timestamp),
    each: &mut dyn FnMut(Hour) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Error> {
    let mut flow = ControlFlow::Continue(());
    let mut feed = Feed::new(job.span_us, (from, to));
    let (span_us, columns) = (feed.span_us, Derived::INPUTS.into_iter().fold(Columns::NONE, Columns::with));
    let mut begin = Some(from);
    while let Some(from) = begin {
        history.scan_columns(&job.device, columns, from.plus_us(-span_us), to.plus_us(span_us), &mut |row| {
            feed.row(&row, &mut |hour| give(hour, &mut flow, each));
            flow
        })?;
        if flow.is_break() {
            return Ok(flow);
        }
        begin = feed.end(&mut |hour| give(hour, &mut flow, each));
    }
    feed.finish(&mut |hour| give(hour, &mut flow, each));
    Ok(flow)
}

fn give(hour: Hour, flow: &mut ControlFlow<()>, each: &mut dyn FnMut(Hour) -> ControlFlow<()>) {
    if flow.is_continue() {
        metrics::ENERGY_HOURS.increment(&[("reason", "answer")], 1);
        *flow = each(hour);
    }
}

//! The hours of a device, integrated from the rows of its history. Blocks; memory is bounded by [`MAX_HELD`].

use std::ops::ControlFlow;

use super::Job;
use super::reorder::{Place, Reorder};
use crate::domain::Timestamp;
use crate::domain::energy::{Hour, Hours, Sample, is_clock_off, samples};
use crate::history::{Error, History};
use crate::observe::metrics;
use crate::store::TelemetryRow;

/// Most samples held to bring them in order.
const MAX_HELD: usize = 200_000;

/// Calls `each` with every hour of `from..to` (whole hours) that has a sample, in order, until it breaks.
pub fn hours(
    history: &History,
    job: &Job,
    from: Timestamp,
    to: Timestamp,
    each: &mut dyn FnMut(Hour) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Error> {
    let span = job.span_us.max(0);
    let mut flow = ControlFlow::Continue(());
    let mut give = |hour: Hour| {
        if flow.is_continue() {
            metrics::ENERGY_HOURS.increment(&[], 1);
            flow = each(hour);
        }
        flow
    };
    let mut hours = Hours::default();
    let mut push = |sample: Sample| {
        let mut flow = ControlFlow::Continue(());
        hours.push(sample, &mut |hour| flow = give(hour));
        flow
    };
    let mut reorder = Reorder::new(MAX_HELD);
    let mut begin = from;
    loop {
        let mut read = ControlFlow::Continue(());
        history.scan_telemetry(&job.device, begin.plus_us(-span), to.plus_us(span), &mut |row| {
            let horizon = row.ts.plus_us(-span);
            while let Some((_, sample)) = reorder.next_before(horizon) {
                read = push(sample);
                if read.is_break() {
                    return read;
                }
            }
            insert(&mut reorder, (from, to), &row);
            read
        })?;
        while read.is_continue() {
            let Some((_, sample)) = reorder.next_at_end() else { break };
            read = push(sample);
        }
        match reorder.again() {
            Some(time) if read.is_continue() => begin = time,
            _ if read.is_break() => return Ok(read),
            _ => break,
        }
    }
    hours.finish(&mut |hour| {
        let _ = give(hour);
    });
    Ok(flow)
}

fn insert(reorder: &mut Reorder<Sample>, (from, to): (Timestamp, Timestamp), row: &TelemetryRow) {
    let message = (row.ts, row.seq.to_i64());
    samples(row.ts, &row.values, is_clock_off(row.ts, row.received_at), &mut |slot, sample| {
        if from <= sample.time && sample.time < to {
            let slot = u32::try_from(slot).unwrap_or(u32::MAX);
            reorder.insert(Place { time: sample.time, message, slot: (slot, 0) }, sample);
        }
    });
}

//! A device's samples within a range of time, in order of sample time, from the rows of its history.
//!
//! Reads the messages whose time lies up to the device's span outside the range, since a message holds samples of
//! before or behind its own time. Blocks; memory is bounded by [`MAX_HELD`].

use std::ops::ControlFlow;

use super::Point;
use super::quantity::{self, Quantity};
use super::reorder::{Place, Reorder};
use crate::api::range::Range;
use crate::domain::{DeviceId, Telemetry, Timestamp};
use crate::history::{Error, History};
use crate::store::TelemetryRow;

/// Most samples held to bring them in order.
const MAX_HELD: usize = 200_000;
/// Distance between samples when nothing is known: the meter's default cadence.
const DEFAULT_CADENCE_US: i64 = 1_000_000;
/// The longest cadence a meter can be set to: what lies further apart is a hole, not a slow meter.
const MAX_CADENCE_US: i64 = 60_000_000;

/// What to read.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Job {
    pub device: DeviceId,
    pub range: Range,
    /// Widest distance of a sample from its message.
    pub span_us: i64,
    /// Empty = all that was measured.
    pub wanted: Vec<Quantity>,
}

/// Calls `each` with every sample in order, and with the sampling cadence seen so far in µs, until it breaks.
pub fn read(history: &History, job: &Job, each: &mut dyn FnMut(Point, i64) -> ControlFlow<()>) -> Result<(), Error> {
    let span = job.span_us.max(0);
    let mut reorder = Reorder::new(MAX_HELD);
    let mut cadence = Cadence::default();
    let mut from = job.range.start;
    let to = job.range.stop.plus_us(span);
    loop {
        let mut flow = ControlFlow::Continue(());
        history.scan_telemetry(&job.device, from.plus_us(-span), to, &mut |row| {
            cadence.see(row.ts, &row.values);
            let horizon = row.ts.plus_us(-span);
            while let Some((time, found)) = reorder.next_before(horizon) {
                flow = each(Point::new(time, found), cadence.us());
                if flow.is_break() {
                    return flow;
                }
            }
            insert(&mut reorder, job, &row);
            flow
        })?;
        while flow.is_continue() {
            let Some((time, found)) = reorder.next_at_end() else { break };
            flow = each(Point::new(time, found), cadence.us());
        }
        match reorder.again() {
            Some(time) if flow.is_continue() => from = time,
            _ => return Ok(()),
        }
    }
}

fn insert(reorder: &mut Reorder, job: &Job, row: &TelemetryRow) {
    let message = (row.ts, row.seq.to_i64());
    quantity::find(&row.values, &job.wanted, &mut |slot, ordinal, found| {
        let time = row.ts.plus_us(row.values.offsets_us[slot]);
        if job.range.contains(time) {
            let slot = u32::try_from(slot).unwrap_or(u32::MAX);
            reorder.insert(Place { time, message, slot: (slot, ordinal) }, found);
        }
    });
}

/// The least distance between neighbouring samples, within what the protocol allows.
#[derive(Debug, Default)]
struct Cadence {
    least_us: Option<i64>,
    last: Option<Timestamp>,
}

impl Cadence {
    fn see(&mut self, ts: Timestamp, values: &Telemetry) {
        for offset in &values.offsets_us {
            let time = ts.plus_us(*offset);
            let step = self.last.map_or(0, |last| time.0.saturating_sub(last.0));
            if step > 0 {
                self.least_us = Some(self.least_us.map_or(step, |least| least.min(step)));
            }
            self.last = Some(time);
        }
    }

    fn us(&self) -> i64 {
        self.least_us.map_or(DEFAULT_CADENCE_US, |least| least.min(MAX_CADENCE_US))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cadence_is_the_least_step_and_never_longer_than_a_meter_can_be_set_to() {
        let check = |steps_s: &[i64], expected_s: i64| {
            let mut cadence = Cadence::default();
            let mut at = Timestamp(0);
            cadence.see(at, &Telemetry { offsets_us: vec![0], ..Telemetry::default() });
            for step in steps_s {
                at = at.plus_us(step * 1_000_000);
                cadence.see(at, &Telemetry { offsets_us: vec![0], ..Telemetry::default() });
            }
            assert_eq!(cadence.us(), expected_s * 1_000_000, "{steps_s:?}");
        };
        check(&[], 1);
        check(&[10, 5, 10], 5);
        check(&[60], 60);
        check(&[86_400 * 30], 60);
        check(&[0, -5], 1);
    }
}

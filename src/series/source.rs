//! A device's samples within a range of time, in order of sample time, from the rows of its history.
//!
//! Reads the messages whose time lies up to the device's span outside the range, since a message holds samples of
//! before or behind its own time. Blocks; memory is bounded by [`MAX_HELD`].

use std::ops::ControlFlow;

use super::instants::Instants;
use super::quantity::{self, Found, Quantity, Wanted};
use super::summary::Reading;
use super::{Point, Range};
use crate::domain::reorder::{Place, Reorder};
use crate::domain::{DeviceId, Timestamp};
use crate::history::{Error, History};
use crate::store::TelemetryRow;

/// Most samples held to bring them in order.
const MAX_HELD: usize = 200_000;

/// What to read.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Job {
    pub device: DeviceId,
    pub range: Range,
    /// Widest distance of a sample from its message.
    pub span_us: i64,
    pub wanted: Wanted,
}

/// What stands at a place: a value, or nothing that is wanted.
type Item = Option<Found>;

/// Calls `each` with every sample in order until it breaks.
pub fn read(
    history: &History,
    job: &Job,
    each: &mut dyn FnMut(Quantity, Reading) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Error> {
    read_rows(history, job, &mut |_| (), each)
}

/// The same, and calls `look` with every row once, in order of messages, before its samples are given out.
pub fn read_rows(
    history: &History,
    job: &Job,
    look: &mut dyn FnMut(&TelemetryRow),
    each: &mut dyn FnMut(Quantity, Reading) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Error> {
    let mut instants = Instants::default();
    let flow = in_order(history, job, true, look, |time, item| instants.push(time, item, &mut *each))?;
    Ok(if flow.is_break() { flow } else { instants.finish(None, each) })
}

/// Calls `each` with every sample in order until it breaks, for who does not ask how densely they lie.
pub fn points(
    history: &History,
    job: &Job,
    each: &mut dyn FnMut(Point) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Error> {
    in_order(history, job, false, &mut |_| (), |time, item| match item {
        Some(Found { quantity, value, unit, is_plausible }) => {
            each(Point { time, quantity, value, unit, is_plausible })
        }
        None => ControlFlow::Continue(()),
    })
}

/// Gives out what stands at each place, in order of time, until it breaks; slots without anything that is wanted on request.
fn in_order(
    history: &History,
    job: &Job,
    with_bare: bool,
    look: &mut dyn FnMut(&TelemetryRow),
    mut give: impl FnMut(Timestamp, Item) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Error> {
    // What is read a second time has been looked at.
    let mut looked: Option<(Timestamp, i64)> = None;
    let span = job.span_us.max(0);
    let columns = job.wanted.columns();
    let mut reorder = Reorder::new(MAX_HELD);
    let mut slots = Vec::new();
    let mut from = job.range.start;
    let to = job.range.stop.plus_us(span);
    loop {
        let mut flow = ControlFlow::Continue(());
        history.scan_columns(&job.device, columns, from.plus_us(-span), to, &mut |row| {
            let place = (row.ts, row.seq.to_i64());
            if looked.is_none_or(|last| last < place) {
                looked = Some(place);
                look(&row);
            }
            let horizon = row.ts.plus_us(-span);
            while let Some((time, item)) = reorder.next_before(horizon) {
                flow = give(time, item);
                if flow.is_break() {
                    return flow;
                }
            }
            insert(&mut reorder, &mut slots, job, with_bare, &row);
            flow
        })?;
        while flow.is_continue() {
            let Some((time, item)) = reorder.next_at_end() else { break };
            flow = give(time, item);
        }
        match reorder.again() {
            Some(time) if flow.is_continue() => from = time,
            _ => return Ok(flow),
        }
    }
}

/// Hands a row's samples over in order.
fn insert(reorder: &mut Reorder<Item>, slots: &mut Vec<(Place, Item)>, job: &Job, with_bare: bool, row: &TelemetryRow) {
    let message = (row.ts, row.seq.to_i64());
    let place = |slot: usize, ordinal: u32| {
        let time = row.ts.plus_us(row.values.offsets_us[slot]);
        let slot = u32::try_from(slot).unwrap_or(u32::MAX);
        job.range.contains(time).then_some(Place { time, message, slot: (slot, ordinal) })
    };
    if !with_bare && job.wanted.is_one() {
        // One after the other as the slots are, and these mostly lie in order of time.
        quantity::find(&row.values, &job.wanted, |slot, ordinal, found| {
            if let Some(place) = place(slot, ordinal) {
                reorder.insert(place, Some(found));
            }
        });
        return;
    }
    quantity::find(&row.values, &job.wanted, |slot, ordinal, found| {
        slots.extend(place(slot, ordinal).map(|place| (place, Some(found))));
    });
    if with_bare && slots.len() < row.values.offsets_us.len() {
        let bare = (0..row.values.offsets_us.len()).filter_map(|slot| place(slot, u32::MAX));
        slots.extend(bare.map(|place| (place, None)));
    }
    slots.sort_unstable_by_key(|(place, _)| *place);
    for (place, item) in slots.drain(..) {
        reorder.insert(place, item);
    }
}

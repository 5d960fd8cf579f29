//! A device's finished hours as rows of the store: minutes of each hour, and the hours of the day; and their energy, from the
//! same reading.
//!
//! Invariant: made by the very code that gathers samples for an answer, so that both come out the same. Blocks; a day of
//! minutes is held, without the samples.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::gather::{Gather, Level, put_behind};
use super::quantity::{Quantity, Wanted};
use super::source::{self, Job};
use super::summary::Summary;
use super::{Range, codec};
use crate::domain::Timestamp;
use crate::energy;
use crate::history::{Error, History};
use crate::store::{self, Rolled, RollupRow, RollupWork};

const HOUR_US: i64 = 3_600_000_000;

/// The summaries of one quantity, by number within their row.
type Row = Vec<(usize, Summary)>;

/// Computes what `work` asks for.
pub fn roll(history: &History, work: &RollupWork) -> Result<Rolled, Error> {
    let mut minutes: BTreeMap<(i64, Quantity), Row> = BTreeMap::new();
    let mut energy = energy::Roll::new(work);
    for range in ranges(work) {
        energy.begin_range(range.start, range.stop);
        let job = Job { device: work.device.clone(), range, span_us: work.span_us, wanted: Wanted::Everything };
        let mut each = |start: i64, quantity: &Quantity, summary: Summary| {
            let hour = Level::Hours.start_of(start);
            let number = usize::try_from((start - hour) / Level::Minutes.us()).unwrap_or(0);
            minutes.entry((hour, quantity.clone())).or_default().push((number, summary));
            ControlFlow::Continue(())
        };
        let mut gather = Gather::new(Level::Minutes);
        let mut push = |quantity, reading| gather.push(quantity, reading, &mut each);
        let _ = source::read_rows(history, &job, &mut |row| energy.look(row), &mut push)?;
        let _ = gather.finish(&mut each);
        energy.end_range(history)?;
    }
    let mut rows = day_rows(work, &minutes)?;
    rows.extend(energy.rows()?);
    rows.extend(minutes.into_iter().map(|((hour, quantity), row)| {
        let body = codec::encode(&row, Level::Minutes, Timestamp(hour));
        RollupRow { level: Level::Minutes.seconds(), start: Timestamp(hour), metric: quantity.key(), body }
    }));
    Ok(Rolled { rows, ..Rolled::of(work) })
}

/// Neighbouring hours as one range.
fn ranges(work: &RollupWork) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    for hour in (0..24).filter(|hour| work.hours >> hour & 1 == 1) {
        let start = work.day.plus_us(hour * HOUR_US);
        let stop = start.plus_us(HOUR_US);
        match ranges.last_mut().filter(|last| last.stop == start) {
            Some(last) => last.stop = stop,
            None => ranges.push(Range { start, stop }),
        }
    }
    ranges
}

/// The day's rows with these hours in place of what they held.
fn day_rows(work: &RollupWork, minutes: &BTreeMap<(i64, Quantity), Row>) -> Result<Vec<RollupRow>, Error> {
    let mut days: BTreeMap<Quantity, BTreeMap<usize, Summary>> = BTreeMap::new();
    for (metric, body) in work.day_rows.iter().filter(|(metric, _)| metric != energy::KEY) {
        let row = codec::decode(body, Level::Hours, work.day).zip(Quantity::from_key(metric));
        let (row, quantity) = row.ok_or(store::Error::Corrupt { what: "rollup" })?;
        let kept = row.into_iter().filter(|(hour, _)| work.hours >> hour & 1 == 0).collect();
        days.insert(quantity, kept);
    }
    for ((hour, quantity), row) in minutes {
        let mut whole = BTreeMap::new();
        row.iter().for_each(|(_, minute)| put_behind(&mut whole, quantity.clone(), minute.clone()));
        let number = usize::try_from((hour - work.day.0) / HOUR_US).unwrap_or(0);
        let day = days.entry(quantity.clone()).or_default();
        day.extend(whole.into_values().map(|summary| (number, summary)));
    }
    let row = |(quantity, hours): (Quantity, BTreeMap<usize, Summary>)| {
        let hours: Row = hours.into_iter().collect();
        let body = codec::encode(&hours, Level::Hours, work.day);
        RollupRow { level: Level::Hours.seconds(), start: work.day, metric: quantity.key(), body }
    };
    Ok(days.into_iter().map(row).collect())
}

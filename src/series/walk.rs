//! A long range as minutes or hours: what is rolled up from the store's rollups, everything else from the samples.
//!
//! Promise: the same stretches, to the bit, whatever is rolled up. What a late message has made dirty, what is not rolled up
//! yet, and the broken stretches at both ends are gathered from samples. Bounded: a page of rollups is held. Blocks.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::gather::{Each, Gather, Level};
use super::quantity::{Quantity, Wanted};
use super::source::{self, Job};
use super::summary::Summary;
use super::{Range, codec};
use crate::domain::Timestamp;
use crate::energy;
use crate::history::{Error, History};
use crate::store::{self, RollupPage};

/// Rollups of one page at most: rows, as long as few types are asked for.
const PAGE_ROWS: i64 = 400;
/// Types of which nobody has said how many they are.
const MANY: i64 = 16;

/// The stretches of one row, by number.
type Stretches = BTreeMap<usize, Vec<(Quantity, Summary)>>;

struct Walk<'a, 'b> {
    history: &'a History,
    job: &'a Job,
    level: Level,
    gather: Gather,
    /// From here on samples are to be read.
    raw_from: Timestamp,
    each: &'a mut Each<'b>,
}

/// Calls `each` with every stretch of the range that holds samples, in order of time, until it breaks, or `go_on`, which is
/// asked once a page: a long range may hold nothing.
pub fn read(
    history: &History,
    job: &Job,
    level: Level,
    go_on: &mut dyn FnMut() -> ControlFlow<()>,
    each: &mut Each<'_>,
) -> Result<ControlFlow<()>, Error> {
    let Range { start, stop } = job.range;
    let start = start.max(Timestamp::OLDEST);
    let whole = Range { start: Timestamp(ceil(start.0, level)), stop: Timestamp(level.start_of(stop.0)) };
    let gather = Gather::new(level);
    let mut walk = Walk { history, job, level, gather, raw_from: start, each };
    let mut at = whole.start.0;
    let row_us = level.row_us();
    while at < whole.stop.0 {
        if go_on().is_break() {
            return Ok(ControlFlow::Break(()));
        }
        let from = at - at.rem_euclid(row_us);
        let to = from.saturating_add(page_rows(&job.wanted).saturating_mul(row_us));
        let keys = keys(&job.wanted);
        let (from, until) = (Timestamp(from), Timestamp(to.min(ceil_to(whole.stop.0, row_us))));
        let page = history.store().rollups(&job.device, level.seconds(), keys.as_deref(), from, until)?;
        if walk.page(&page, from, until, whole)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        if page.rolled_until < until {
            break;
        }
        at = until.0;
    }
    if walk.raw_until(stop)?.is_break() {
        return Ok(ControlFlow::Break(()));
    }
    Ok(walk.gather.finish(walk.each))
}

fn ceil(us: i64, level: Level) -> i64 {
    ceil_to(us, level.us())
}

fn ceil_to(us: i64, length: i64) -> i64 {
    us.saturating_add((length - us.rem_euclid(length)) % length)
}

fn keys(wanted: &Wanted) -> Option<Vec<String>> {
    match wanted {
        Wanted::These(all) => Some(all.iter().map(Quantity::key).collect()),
        Wanted::Measured | Wanted::Everything => None,
    }
}

fn page_rows(wanted: &Wanted) -> i64 {
    let types = match wanted {
        Wanted::These(all) => i64::try_from(all.len()).unwrap_or(MANY),
        Wanted::Measured | Wanted::Everything => MANY,
    };
    (PAGE_ROWS / types.max(1)).max(4)
}

impl Walk<'_, '_> {
    /// Gives out the stretches of a page that lie in `whole` and are good.
    fn page(
        &mut self,
        page: &RollupPage,
        from: Timestamp,
        until: Timestamp,
        whole: Range,
    ) -> Result<ControlFlow<()>, Error> {
        let row_us = self.level.row_us();
        let mut rows = page.rows.chunk_by(|a, b| a.start == b.start).peekable();
        let mut row = from;
        while row < until {
            let of_row = rows.next_if(|rows| rows[0].start == row).unwrap_or_default();
            let end = row.plus_us(row_us);
            if of_row.is_empty() && page.dirty.is_empty() && page.kept_from <= row && end <= page.rolled_until {
                // Nothing was measured.
                if self.raw_until(whole.start.max(row))?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                self.raw_from = self.raw_from.max(whole.stop.min(end));
                row = end;
                continue;
            }
            let mut stretches = self.decode(of_row, row)?;
            // An hour is good or it is not; a row of hours has 24 of them, a row of minutes is one.
            let hours = (row.0..end.0).step_by(usize::try_from(Level::Hours.us()).unwrap_or(1));
            for hour in hours {
                let next = Timestamp(hour.saturating_add(Level::Hours.us()));
                let part = Range { start: whole.start.max(Timestamp(hour)), stop: whole.stop.min(next) };
                if part.start >= part.stop || !page.is_good(Timestamp(hour)) {
                    continue;
                }
                if self.raw_until(part.start)?.is_break() || self.give(&mut stretches, row, part).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                self.raw_from = part.stop;
            }
            row = end;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn decode(&self, rows: &[store::RollupRow], start: Timestamp) -> Result<Stretches, Error> {
        let mut stretches = Stretches::new();
        for row in rows {
            if row.metric == energy::KEY {
                continue;
            }
            let quantity = Quantity::from_key(&row.metric);
            let decoded = codec::decode(&row.body, self.level, start).zip(quantity);
            let (decoded, quantity) = decoded.ok_or(store::Error::Corrupt { what: "rollup" })?;
            if self.job.wanted == Wanted::Measured && matches!(quantity, Quantity::Derived(_)) {
                continue;
            }
            for (at, summary) in decoded {
                stretches.entry(at).or_default().push((quantity.clone(), summary));
            }
        }
        Ok(stretches)
    }

    /// Gives out the stretches that lie in `part`.
    fn give(&mut self, stretches: &mut Stretches, row: Timestamp, part: Range) -> ControlFlow<()> {
        // Gathered hours come before; the broken ones at their ends are never the same as these.
        self.gather.finish(self.each)?;
        let number = |at: Timestamp| usize::try_from((at.0 - row.0) / self.level.us()).unwrap_or(usize::MAX);
        let range = number(part.start)..number(part.stop);
        for at in range {
            let start = row.0 + i64::try_from(at).unwrap_or(0) * self.level.us();
            let mut all = stretches.remove(&at).unwrap_or_default();
            all.sort_by(|a, b| a.0.cmp(&b.0));
            all.into_iter().try_for_each(|(quantity, summary)| (self.each)(start, &quantity, summary))?;
        }
        ControlFlow::Continue(())
    }

    /// Gathers the samples up to here.
    fn raw_until(&mut self, stop: Timestamp) -> Result<ControlFlow<()>, Error> {
        if self.raw_from >= stop {
            return Ok(ControlFlow::Continue(()));
        }
        let job = Job { range: Range { start: self.raw_from, stop }, ..self.job.clone() };
        self.raw_from = stop;
        let (gather, each) = (&mut self.gather, &mut *self.each);
        source::read(self.history, &job, &mut |quantity, reading| gather.push(quantity, reading, each))
    }
}

//! The hours of a long range: those that are kept, and from telemetry those that are not, or that late data have changed.
//!
//! Bounded: a page of kept hours is held. Blocks.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::{Job, KEY, codec, source};
use crate::domain::Timestamp;
use crate::domain::energy::{HOUR_US, Hour};
use crate::history::{Error, History};
use crate::observe::metrics;
use crate::store::{self, RollupPage};

const DAY_US: i64 = 24 * HOUR_US;

/// How hours are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Grain {
    /// An hour a row, with its minutes.
    Minutes,
    /// A day a row, with the sum of each hour.
    Hours,
}

impl Grain {
    const fn seconds(self) -> i16 {
        match self {
            Self::Minutes => 60,
            Self::Hours => 3600,
        }
    }

    const fn row_us(self) -> i64 {
        match self {
            Self::Minutes => HOUR_US,
            Self::Hours => DAY_US,
        }
    }

    /// Length of a page: two days, or a month.
    const fn page_us(self) -> i64 {
        match self {
            Self::Minutes => 2 * DAY_US,
            Self::Hours => 32 * DAY_US,
        }
    }
}

/// What is needed of the hour at `at`, and up to where the same is.
fn grain(at: Timestamp, to: Timestamp, whole: Option<(Timestamp, Timestamp)>) -> (Grain, Timestamp) {
    match whole {
        Some((start, stop)) if start <= at && at < stop => (Grain::Hours, to.min(stop)),
        Some((start, _)) if at < start => (Grain::Minutes, to.min(start)),
        _ => (Grain::Minutes, to),
    }
}

struct Walk<'a, 'b> {
    history: &'a History,
    job: &'a Job,
    /// From here on telemetry is to be read.
    raw_from: Timestamp,
    each: &'a mut (dyn FnMut(Hour) -> ControlFlow<()> + 'b),
}

/// Calls `each` with every hour of `from..to` (whole hours) that has a sample, in order, until it breaks, or `go_on`, which is
/// asked once a page: a long range may hold nothing. Those in `whole` may come without their minutes.
pub fn hours(
    history: &History,
    job: &Job,
    (from, to): (Timestamp, Timestamp),
    whole: Option<(Timestamp, Timestamp)>,
    go_on: &mut dyn FnMut() -> ControlFlow<()>,
    each: &mut dyn FnMut(Hour) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Error> {
    let from = from.max(Timestamp::OLDEST);
    let mut walk = Walk { history, job, raw_from: from, each };
    let keys = [KEY.to_owned()];
    let mut at = from;
    while at < to {
        if go_on().is_break() {
            return Ok(ControlFlow::Break(()));
        }
        let (grain, end) = grain(at, to, whole);
        let row = at.0 - at.0.rem_euclid(grain.row_us());
        let until = end.min(Timestamp(row.saturating_add(grain.page_us())));
        let page = history.store().rollups(&job.device, grain.seconds(), Some(&keys), Timestamp(row), until)?;
        if walk.page(&page, grain, (at, until))?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        if page.rolled_until < until {
            break;
        }
        at = until;
    }
    walk.raw_until(to)
}

impl Walk<'_, '_> {
    /// Gives out the hours of a page that are good.
    fn page(
        &mut self,
        page: &RollupPage,
        grain: Grain,
        (from, until): (Timestamp, Timestamp),
    ) -> Result<ControlFlow<()>, Error> {
        let mut kept = decode(page, grain)?;
        let mut hour = from;
        while hour < until {
            let next = hour.plus_us(HOUR_US);
            if page.is_good(hour) {
                if self.raw_until(hour)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                self.raw_from = next;
                if let Some(kept) = kept.remove(&hour) {
                    metrics::ENERGY_HOURS_READ.increment(&[], 1);
                    if (self.each)(kept).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
            }
            hour = next;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Integrates the hours up to here.
    fn raw_until(&mut self, stop: Timestamp) -> Result<ControlFlow<()>, Error> {
        if self.raw_from >= stop {
            return Ok(ControlFlow::Continue(()));
        }
        let from = std::mem::replace(&mut self.raw_from, stop);
        source::hours(self.history, self.job, (from, stop), self.each)
    }
}

/// The hours of a page, by their beginning.
fn decode(page: &RollupPage, grain: Grain) -> Result<BTreeMap<Timestamp, Hour>, Error> {
    let mut hours = BTreeMap::new();
    for row in &page.rows {
        let decoded = match grain {
            Grain::Minutes => codec::decode_hour(&row.body, row.start).map(|hour| vec![hour]),
            Grain::Hours => codec::decode_day(&row.body, row.start),
        };
        let decoded = decoded.ok_or(store::Error::Corrupt { what: "kept energy" })?;
        hours.extend(decoded.into_iter().map(|hour| (hour.start, hour)));
    }
    Ok(hours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_come_with_minutes_where_those_are_needed() {
        let at = |hour: i64| Timestamp(hour * HOUR_US);
        let check = |hour: i64, whole: Option<(i64, i64)>, expected: (Grain, i64)| {
            let whole = whole.map(|(start, stop)| (at(start), at(stop)));
            assert_eq!(grain(at(hour), at(10), whole), (expected.0, at(expected.1)), "{hour} {whole:?}");
        };
        check(0, None, (Grain::Minutes, 10));
        check(0, Some((0, 20)), (Grain::Hours, 10));
        check(0, Some((2, 8)), (Grain::Minutes, 2));
        check(2, Some((2, 8)), (Grain::Hours, 8));
        check(8, Some((2, 8)), (Grain::Minutes, 10));
    }
}

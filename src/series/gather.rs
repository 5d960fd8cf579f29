//! Samples gathered into whole minutes and, out of these, whole hours, all quantities side by side.
//!
//! Bounded: one minute and one hour of each quantity are held. Minutes are given out in order of time, hours likewise. Pure.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::quantity::Quantity;
use super::summary::{Reading, Summary};

const MINUTE_US: i64 = 60_000_000;
const HOUR_US: i64 = 3_600_000_000;

/// How long a stretch one summary stands for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum Level {
    Minutes,
    Hours,
}

impl Level {
    /// In µs.
    pub const fn us(self) -> i64 {
        match self {
            Self::Minutes => MINUTE_US,
            Self::Hours => HOUR_US,
        }
    }

    /// The stretch kept in one row of the store, in µs: an hour of minutes, a day of hours.
    pub const fn row_us(self) -> i64 {
        match self {
            Self::Minutes => HOUR_US,
            Self::Hours => 24 * HOUR_US,
        }
    }

    /// As the store names it: its length in seconds.
    pub const fn seconds(self) -> i16 {
        match self {
            Self::Minutes => 60,
            Self::Hours => 3600,
        }
    }

    /// The beginning of the stretch a time lies in, in µs.
    pub fn start_of(self, us: i64) -> i64 {
        us.saturating_sub(us.rem_euclid(self.us()))
    }
}

/// Takes a stretch's beginning in µs, a quantity, and what it comes to.
pub type Each<'a> = dyn FnMut(i64, &Quantity, Summary) -> ControlFlow<()> + 'a;

/// The stretch under way.
#[derive(Debug)]
pub struct Gather {
    level: Level,
    minute: (i64, BTreeMap<Quantity, Summary>),
    hour: (i64, BTreeMap<Quantity, Summary>),
}

impl Gather {
    /// Gathers to this level.
    pub fn new(level: Level) -> Self {
        Self { level, minute: (i64::MIN, BTreeMap::new()), hour: (i64::MIN, BTreeMap::new()) }
    }

    /// Takes a sample, in order of time. Gives out what is complete.
    pub fn push(&mut self, quantity: Quantity, reading: Reading, each: &mut Each<'_>) -> ControlFlow<()> {
        let start = Level::Minutes.start_of(reading.time.0);
        if start != self.minute.0 {
            self.close_minute(each)?;
            self.minute.0 = start;
        }
        match self.minute.1.get_mut(&quantity) {
            Some(summary) => summary.add(reading),
            None => {
                self.minute.1.insert(quantity, Summary::of(reading));
            }
        }
        ControlFlow::Continue(())
    }

    /// Gives out the rest. Also before a stretch that comes from elsewhere.
    pub fn finish(&mut self, each: &mut Each<'_>) -> ControlFlow<()> {
        self.close_minute(each)?;
        self.close_hour(each)
    }

    fn close_minute(&mut self, each: &mut Each<'_>) -> ControlFlow<()> {
        let (start, summaries) = (self.minute.0, std::mem::take(&mut self.minute.1));
        if self.level == Level::Minutes {
            return summaries.into_iter().try_for_each(|(quantity, summary)| each(start, &quantity, summary));
        }
        let hour = Level::Hours.start_of(start);
        if hour != self.hour.0 {
            self.close_hour(each)?;
            self.hour.0 = hour;
        }
        for (quantity, minute) in summaries {
            put_behind(&mut self.hour.1, quantity, minute);
        }
        ControlFlow::Continue(())
    }

    fn close_hour(&mut self, each: &mut Each<'_>) -> ControlFlow<()> {
        let (start, summaries) = (self.hour.0, std::mem::take(&mut self.hour.1));
        summaries.into_iter().try_for_each(|(quantity, summary)| each(start, &quantity, summary))
    }
}

/// Puts a quantity's next minute to its hour.
pub(super) fn put_behind(hour: &mut BTreeMap<Quantity, Summary>, quantity: Quantity, minute: Summary) {
    match hour.get_mut(&quantity) {
        Some(summary) => summary.append(&minute),
        None => {
            hour.insert(quantity, minute);
        }
    }
}

//! Intervals of a chosen length, aligned to 00:00:00 UTC, summed up from minutes or hours.

use std::ops::ControlFlow;

use super::{Piece, Timestamp, Totals};

/// Lengths of an interval. Each divides a day, so that all begin anew at 00:00:00 UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub enum Period {
    Minute,
    #[default]
    Minutes5,
    Minutes10,
    Minutes15,
    Hour,
    Day,
}

impl Period {
    /// All of them, by the API's word.
    pub const ALL: [(&'static str, Self); 6] = [
        ("1m", Self::Minute),
        ("5m", Self::Minutes5),
        ("10m", Self::Minutes10),
        ("15m", Self::Minutes15),
        ("1h", Self::Hour),
        ("1d", Self::Day),
    ];

    /// Reads the API's word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(word, _)| *word == name).map(|(_, period)| *period)
    }

    /// Its length.
    pub const fn us(self) -> i64 {
        let minutes = match self {
            Self::Minute => 1,
            Self::Minutes5 => 5,
            Self::Minutes10 => 10,
            Self::Minutes15 => 15,
            Self::Hour => 60,
            Self::Day => 1440,
        };
        minutes * super::MINUTE_US
    }

    /// The hours that need not be taken apart for it.
    pub fn whole_hours(self) -> Option<(Timestamp, Timestamp)> {
        (self.us() >= super::HOUR_US).then_some((Timestamp(i64::MIN), Timestamp(i64::MAX)))
    }

    /// The beginning of the interval `at` lies in.
    pub const fn start_of(self, at: Timestamp) -> Timestamp {
        Timestamp(at.0.div_euclid(self.us()).saturating_mul(self.us()))
    }

    /// The first beginning of an interval that is not before `at`.
    pub const fn end_of(self, at: Timestamp) -> Timestamp {
        let start = self.start_of(at);
        if start.0 == at.0 { start } else { start.plus_us(self.us()) }
    }
}

/// A stretch of time with what was measured in it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Interval {
    /// Included.
    pub start: Timestamp,
    /// Not included.
    pub end: Timestamp,
    /// What was measured.
    pub totals: Totals,
}

/// Makes every interval of a range out of pieces that come in order; one without pieces is there too.
#[derive(Clone, Debug)]
pub struct Periods {
    period: Period,
    stop: Timestamp,
    open: Interval,
}

impl Periods {
    /// The intervals that lie in or touch `start..stop`, each whole.
    pub fn new(period: Period, start: Timestamp, stop: Timestamp) -> Self {
        let open = Self::empty(period, period.start_of(start));
        Self { period, stop: period.end_of(stop.max(start)), open }
    }

    /// The range of all its intervals: the pieces they need.
    pub const fn range(&self) -> (Timestamp, Timestamp) {
        (self.open.start, self.stop)
    }

    fn empty(period: Period, start: Timestamp) -> Interval {
        Interval { start, end: start.plus_us(period.us()), totals: Totals::default() }
    }

    /// Takes a piece; those outside the range are left out. Gives out the intervals before it until `out` breaks.
    pub fn push(&mut self, piece: &Piece, out: &mut dyn FnMut(Interval) -> ControlFlow<()>) -> ControlFlow<()> {
        if piece.start < self.open.start || piece.start >= self.stop {
            return ControlFlow::Continue(());
        }
        self.advance(self.period.start_of(piece.start), out)?;
        self.open.totals.add(&piece.totals);
        ControlFlow::Continue(())
    }

    /// Gives out the rest.
    pub fn finish(mut self, out: &mut dyn FnMut(Interval) -> ControlFlow<()>) -> ControlFlow<()> {
        self.advance(self.stop, out)
    }

    fn advance(&mut self, to: Timestamp, out: &mut dyn FnMut(Interval) -> ControlFlow<()>) -> ControlFlow<()> {
        while self.open.start < to {
            let next = Self::empty(self.period, self.open.end);
            out(std::mem::replace(&mut self.open, next))?;
        }
        ControlFlow::Continue(())
    }
}

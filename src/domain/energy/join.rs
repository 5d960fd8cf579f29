//! Hours put together: the line between the last sample of one and the first of the next.

use super::hour::bridge;
use super::{HOUR_US, Hour, MINUTE_US, Piece, Timestamp};

/// Makes pieces of hours that come in order: minutes, or whole hours where those are enough.
#[derive(Clone, Debug, Default)]
pub struct Join {
    /// Hours that lie in it are not taken apart.
    whole: Option<(Timestamp, Timestamp)>,
    before: Option<Hour>,
}

impl Join {
    /// Makes minutes, but for the hours that lie in `whole`.
    pub fn new(whole: Option<(Timestamp, Timestamp)>) -> Self {
        Self { whole, before: None }
    }

    /// Takes an hour, later than the last one; gives out the pieces of the one before of which there is something to tell.
    pub fn push(&mut self, mut hour: Hour, out: &mut dyn FnMut(Piece)) {
        if let Some(mut before) = self.before.take() {
            debug_assert!(before.start < hour.start, "hours come in order");
            let (last, first) = (before.ends[1], hour.ends[0]);
            bridge(&last, &first, &mut |minute, part| {
                let side = if minute < hour.start { &mut before } else { &mut hour };
                side.join(minute, &part);
            });
            self.give(&before, out);
        }
        self.before = Some(hour);
    }

    /// Gives out the rest.
    pub fn finish(mut self, out: &mut dyn FnMut(Piece)) {
        if let Some(hour) = self.before.take() {
            self.give(&hour, out);
        }
    }

    fn give(&self, hour: &Hour, out: &mut dyn FnMut(Piece)) {
        let is_in = |(start, stop): (Timestamp, Timestamp)| start <= hour.start && hour.start.plus_us(HOUR_US) <= stop;
        if self.whole.is_some_and(is_in) {
            if !hour.sum.is_empty() {
                out(Piece { start: hour.start, totals: hour.sum });
            }
            return;
        }
        let starts = (0..).map(|minute: i64| hour.start.plus_us(minute * MINUTE_US));
        for (start, totals) in starts.zip(&hour.minutes).filter(|(_, totals)| !totals.is_empty()) {
            out(Piece { start, totals: *totals });
        }
    }
}

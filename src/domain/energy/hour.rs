//! What the samples of an hour of the clock come to, told by that hour alone.
//!
//! Invariant: an [`Hour`] depends on the samples in it and on nothing else, so that what comes late changes the hours it
//! lies in and no other. What lies between the last sample of an hour and the first one of the next is no part of either: it
//! is added where hours are put together ([`Join`](super::Join)).

use std::collections::VecDeque;

use super::steps::Steps;
use super::{Doubts, HOLE_CADENCES, HOUR_US, MINUTE_US, Sample, Timestamp, Totals, hour_of, minute_of};

/// Minutes of an hour.
pub const MINUTES: usize = 60;
/// Most samples that wait until the hour tells the cadence.
const MAX_WAITING: usize = 64;

/// An hour's minutes, and its ends.
#[derive(Clone, PartialEq, Debug)]
pub struct Hour {
    /// Its beginning, a whole hour.
    pub start: Timestamp,
    /// What lies between its own samples.
    pub sum: Totals,
    /// The same minute by minute, whose sum it is; or nothing, where only the sum is asked for.
    pub minutes: Vec<Totals>,
    /// Its first and its last sample, which may be the same one, with the cadence about them.
    pub ends: [Sample; 2],
}

impl Hour {
    /// The hour of these minutes.
    pub fn of(start: Timestamp, minutes: Vec<Totals>, ends: [Sample; 2]) -> Self {
        let mut hour = Self { start, sum: Totals::default(), minutes, ends };
        hour.minutes.iter().for_each(|minute| hour.sum.add(minute));
        hour
    }

    fn new(start: Timestamp, first: Sample) -> Self {
        Self { start, sum: Totals::default(), minutes: vec![Totals::default(); MINUTES], ends: [first; 2] }
    }

    /// The totals of the minute that begins at `start`, when it is one of this hour's.
    fn minute_mut(&mut self, start: Timestamp) -> Option<&mut Totals> {
        let us = start.0.checked_sub(self.start.0).filter(|us| *us >= 0)?;
        self.minutes.get_mut(usize::try_from(us / MINUTE_US).ok()?)
    }

    /// Adds a part of the line to a neighbour, which lies in the minute that begins at `start`.
    pub(super) fn join(&mut self, start: Timestamp, part: &Totals) {
        self.sum.add(part);
        if let Some(totals) = self.minute_mut(start) {
            totals.add(part);
        }
    }

    /// Takes in a sample's part of the line, and the line from the one before.
    fn take(&mut self, sample: Sample) {
        let [_, last] = self.ends;
        bridge(&last, &sample, &mut |start, part| {
            if let Some(totals) = self.minute_mut(start) {
                totals.add(&part);
            }
        });
        self.note(sample.time, sample.doubts);
        self.ends[1] = sample;
    }

    fn note(&mut self, at: Timestamp, doubts: Doubts) {
        if let Some(totals) = self.minute_mut(minute_of(at)) {
            totals.doubts = totals.doubts.and(doubts);
        }
    }
}

/// Makes hours of samples that come in order of time.
#[derive(Clone, Debug, Default)]
pub struct Hours {
    hour: Option<Hour>,
    start: Timestamp,
    last: Option<Timestamp>,
    steps: Steps,
    /// Samples whose cadence nothing tells yet, and those behind them.
    waiting: VecDeque<Sample>,
}

impl Hours {
    /// Takes a sample, not earlier than the last one; gives out the hour before it, when that is complete.
    pub fn push(&mut self, sample: Sample, out: &mut dyn FnMut(Hour)) {
        let start = hour_of(sample.time);
        if self.start != start {
            self.close(out);
            self.start = start;
        }
        if let Some(last) = self.last.replace(sample.time) {
            debug_assert!(last <= sample.time, "samples come in order");
            self.steps.see(sample.time.0.saturating_sub(last.0));
        }
        self.waiting.push_back(sample);
        let is_told = |sample: &Sample, steps: &Steps| sample.cadence_us.is_some() || steps.tell();
        while self.waiting.front().is_some_and(|s| is_told(s, &self.steps)) || self.waiting.len() > MAX_WAITING {
            self.take();
        }
    }

    /// Gives out the rest.
    pub fn finish(mut self, out: &mut dyn FnMut(Hour)) {
        self.close(out);
    }

    fn take(&mut self) {
        let Some(mut sample) = self.waiting.pop_front() else { return };
        sample.cadence_us.get_or_insert_with(|| self.steps.cadence_us());
        match &mut self.hour {
            Some(hour) => hour.take(sample),
            None => {
                let mut hour = Hour::new(self.start, sample);
                hour.note(sample.time, sample.doubts);
                self.hour = Some(hour);
            }
        }
    }

    fn close(&mut self, out: &mut dyn FnMut(Hour)) {
        while !self.waiting.is_empty() {
            self.take();
        }
        if let Some(hour) = self.hour.take() {
            out(Hour::of(hour.start, hour.minutes, hour.ends));
        }
        *self = Self::default();
    }
}

/// Calls `each` with the beginning of each minute between two samples and what lies in it, unless there is a hole.
pub fn bridge(a: &Sample, b: &Sample, each: &mut dyn FnMut(Timestamp, Totals)) {
    let length_us = b.time.0.saturating_sub(a.time.0);
    let cadence_us = a.known_cadence_us().min(b.known_cadence_us());
    if !(1..=cadence_us.saturating_mul(HOLE_CADENCES)).contains(&length_us) {
        return;
    }
    let doubts = a.doubts.and(b.doubts);
    // At the ends exactly the samples' values.
    let between = |t: i64, from: f64, to: f64| match t {
        _ if t == b.time.0 => to,
        _ => from + (to - from) * ((t - a.time.0) as f64 / length_us as f64),
    };
    let mut from = a.time.0;
    while from < b.time.0 {
        let minute = minute_of(Timestamp(from));
        let to = minute.0.saturating_add(MINUTE_US).min(b.time.0);
        let ends = |x: f64, y: f64| (between(from, x, y), between(to, x, y));
        let seconds = (to - from) as f64 / 1e6;
        let (import_ws, export_ws) = areas(ends(a.active_w, b.active_w), seconds);
        let mean = |(x, y): (f64, f64)| (x + y) / 2.0;
        let apparent_vas = mean(ends(a.apparent_va, b.apparent_va)) * seconds;
        let reactive_vars = mean(ends(a.reactive_var, b.reactive_var)) * seconds;
        let covered_us = to - from;
        each(minute, Totals { import_ws, export_ws, apparent_vas, reactive_vars, covered_us, doubts });
        from = to;
    }
}

/// The areas above and below zero under a straight line between two powers.
fn areas((from, to): (f64, f64), seconds: f64) -> (f64, f64) {
    if from >= 0.0 && to >= 0.0 {
        return ((from + to) / 2.0 * seconds, 0.0);
    }
    if from <= 0.0 && to <= 0.0 {
        return (0.0, -(from + to) / 2.0 * seconds);
    }
    // Two triangles, whose widths are as their heights.
    let whole = from.abs() + to.abs();
    let triangle = |height: f64| height / whole * height / 2.0 * seconds;
    (triangle(from.max(to)), triangle(-from.min(to)))
}

/// The hours that must be known for the minutes of `start..stop` to be exact: their own, and the neighbours whose ends reach
/// into the range.
pub fn hours_for(start: Timestamp, stop: Timestamp) -> (Timestamp, Timestamp) {
    let reach_us = HOLE_CADENCES * super::MAX_CADENCE_US;
    let end = stop.plus_us(reach_us);
    let last = hour_of(end);
    (hour_of(start.plus_us(-reach_us)), if last == end { last } else { last.plus_us(HOUR_US) })
}

//! A device's finished hours of energy as rows of the store, made in the pass that makes its rollups, of the same rows.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::source::{self, Feed};
use super::{Job, KEY, codec};
use crate::domain::Timestamp;
use crate::domain::energy::{HOUR_US, Hour};
use crate::history::{Error, History};
use crate::store::{self, RollupRow, RollupWork, TelemetryRow};

const HOUR_LEVEL: i16 = 60;
const DAY_LEVEL: i16 = 3600;

/// The energy of one work.
#[derive(Debug)]
pub struct Roll<'a> {
    work: &'a RollupWork,
    /// The range under way, and what makes its hours.
    range: Option<((Timestamp, Timestamp), Feed)>,
    hours: BTreeMap<Timestamp, Hour>,
}

impl<'a> Roll<'a> {
    /// Nothing yet.
    pub fn new(work: &'a RollupWork) -> Self {
        Self { work, range: None, hours: BTreeMap::new() }
    }

    /// The rows that follow are those of the hours `start..stop`.
    pub fn begin_range(&mut self, start: Timestamp, stop: Timestamp) {
        self.range = Some(((start, stop), Feed::new(self.work.span_us, (start, stop))));
    }

    /// The next row, in order of messages.
    pub fn look(&mut self, row: &TelemetryRow) {
        if let Some((_, feed)) = &mut self.range {
            feed.row(row, &mut |hour| drop(self.hours.insert(hour.start, hour)));
        }
    }

    /// All rows of the range were there. Should they have been too many to hold what they say, they are read once more.
    pub fn end_range(&mut self, history: &History) -> Result<(), Error> {
        let Some((range, mut feed)) = self.range.take() else { return Ok(()) };
        let hours = &mut self.hours;
        if feed.end(&mut |hour| drop(hours.insert(hour.start, hour))).is_none() {
            feed.finish(&mut |hour| drop(hours.insert(hour.start, hour)));
            return Ok(());
        }
        let job = Job { device: self.work.device.clone(), span_us: self.work.span_us };
        let _ = source::hours(history, &job, range, &mut |hour| {
            hours.insert(hour.start, hour);
            ControlFlow::Continue(())
        })?;
        Ok(())
    }

    /// What is to be kept: each hour with its minutes, and the day with these hours in place of what it held.
    pub fn rows(self) -> Result<Vec<RollupRow>, Error> {
        let row = |level, start, body| RollupRow { level, start, metric: KEY.to_owned(), body };
        let mut rows: Vec<RollupRow> =
            self.hours.iter().map(|(start, hour)| row(HOUR_LEVEL, *start, codec::encode_hour(hour))).collect();
        let before = self.work.day_rows.iter().find(|(metric, _)| metric == KEY);
        let before = match before {
            Some((_, body)) => codec::decode_day(body, self.work.day)
                .ok_or(Error::Store(store::Error::Corrupt { what: "kept energy" }))?,
            None => Vec::new(),
        };
        let is_left = |hour: &Hour| {
            let number = hour.start.0.saturating_sub(self.work.day.0) / HOUR_US;
            self.work.hours >> number & 1 == 0
        };
        let mut day: BTreeMap<Timestamp, Hour> =
            before.into_iter().filter(is_left).map(|hour| (hour.start, hour)).collect();
        day.extend(self.hours);
        if !day.is_empty() {
            rows.push(row(DAY_LEVEL, self.work.day, codec::encode_day(day.values())));
        }
        Ok(rows)
    }
}

/// How many hours of energy are among rows.
pub fn hours_of(rows: &[RollupRow]) -> u64 {
    rows.iter().filter(|row| row.level == HOUR_LEVEL && row.metric == KEY).count() as u64
}

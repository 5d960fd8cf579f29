//! What minutes and hours of measurements come to, kept so that long ranges are read quickly. The store knows when it was
//! made and whether it still holds, not what it says.
//!
//! Invariant: an hour of a device is good when it lies before the device's `rolled_until` and is not marked. What is stored
//! for an hour before `marked_until` marks it in the same transaction; `marked_until` moves while no such transaction is
//! under way, and no device is rolled up beyond it. A mark goes only as the very one that was seen before the samples were
//! read, and a device's rows are written only on top of those that were: two who roll up at once do no harm.

use std::collections::BTreeMap;

use super::{Error, TelemetryRow};
use crate::domain::{DeviceId, Timestamp};

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;

/// Part of the [`Store`](super::Store).
pub trait Rollups {
    /// Rows of a device whose `start` lies in `from..to`, ascending by it, of these types or of all; with what tells which
    /// hours of that range are good, as of the same instant. Not in pages: the caller asks for as much as it can hold.
    fn rollups(
        &self,
        id: &DeviceId,
        level: i16,
        metrics: Option<&[String]>,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<RollupPage, Error>;

    /// Says that the hours before `until` are finished: what is stored for them from now on is late. Never moves back.
    fn finish_hours(&self, until: Timestamp) -> Result<(), Error>;

    /// What is to be rolled up, about `limit` days of devices at most, of a device one: oldest finished hours first, and what
    /// has become dirty.
    fn rollup_work(&self, limit: usize) -> Result<Vec<RollupWork>, Error>;

    /// Writes what came of works, each of another device, in one transaction; how many. What somebody else has rolled up
    /// meanwhile is left out: it comes again if there is anything left.
    fn roll_up(&self, rolled: &[Rolled]) -> Result<usize, Error>;

    /// Deletes rollups of before `before`, at most about `limit` rows a call; how many.
    fn trim_rollups(&self, before: Timestamp, limit: usize) -> Result<usize, Error>;

    /// How much is left to be done.
    fn rollup_figures(&self) -> Result<RollupFigures, Error>;
}

/// What one type of one device comes to, over the stretches of one row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RollupRow {
    /// Seconds of a stretch: 60 (a row is an hour) or 3600 (a row is a day).
    pub level: i16,
    /// When the row begins.
    pub start: Timestamp,
    /// Name of the type.
    pub metric: String,
    /// What they come to.
    pub body: Vec<u8>,
}

/// Rows, and which hours are good.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RollupPage {
    /// Hours before are good unless dirty.
    pub rolled_until: Timestamp,
    /// Hours before have been deleted, or were never rolled up.
    pub kept_from: Timestamp,
    /// Days with dirty hours, as bits.
    pub dirty: Vec<(Timestamp, i32)>,
    /// The rows, ascending by start.
    pub rows: Vec<RollupRow>,
}

impl RollupPage {
    /// Where nothing is rolled up.
    pub const fn none() -> Self {
        let first = Timestamp(i64::MIN);
        Self { rolled_until: first, kept_from: first, dirty: Vec::new(), rows: Vec::new() }
    }

    /// Whether the hour that begins then is good.
    pub fn is_good(&self, hour: Timestamp) -> bool {
        let (day, bit) = place(hour);
        self.kept_from <= hour
            && hour.plus_us(HOUR_US) <= self.rolled_until
            && !self.dirty.iter().any(|(dirty, hours)| *dirty == day && hours & bit != 0)
    }
}

/// Hours of one day of a device that are to be rolled up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RollupWork {
    /// The device.
    pub device: DeviceId,
    /// Widest distance of a sample from its message.
    pub span_us: i64,
    /// When the day begins, UTC.
    pub day: Timestamp,
    /// Its hours, as bits: bit 0 is the first one.
    pub hours: i32,
    /// What was written for the device so far.
    pub epoch: i64,
    /// How far it will be rolled up then; `None` = as far as it is.
    pub rolled_until: Option<Timestamp>,
    /// The mark that goes with it.
    pub mark: Option<i64>,
    /// The day's rows of level 3600 as they are: type and body.
    pub day_rows: Vec<(String, Vec<u8>)>,
}

/// What came of a [`RollupWork`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Rolled {
    pub device: DeviceId,
    pub day: Timestamp,
    pub epoch: i64,
    pub rolled_until: Option<Timestamp>,
    pub mark: Option<i64>,
    /// In place of those of the same level, start and type.
    pub rows: Vec<RollupRow>,
}

impl Rolled {
    /// Without rows.
    pub fn of(work: &RollupWork) -> Self {
        let RollupWork { device, day, epoch, rolled_until, mark, .. } = work.clone();
        Self { device, day, epoch, rolled_until, mark, rows: Vec::new() }
    }
}

/// How much is left to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RollupFigures {
    /// Devices that are not rolled up as far as they could be.
    pub waiting_devices: u64,
    /// Days of devices with dirty hours.
    pub dirty_days: u64,
    /// How far every device is rolled up; `None` = there is none yet.
    pub rolled_until: Option<Timestamp>,
}

/// The day of an hour, and the hour's bit.
fn place(hour: Timestamp) -> (Timestamp, i32) {
    let of_day = hour.0.rem_euclid(DAY_US);
    (Timestamp(hour.0 - of_day), 1 << (of_day / HOUR_US))
}

/// The hours of a day from `from` to `to`, as bits.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
fn hours_of(from: Timestamp, to: Timestamp) -> i32 {
    let (mut hours, mut hour) = (0, from);
    while hour < to {
        hours |= place(hour).1;
        hour = hour.plus_us(HOUR_US);
    }
    hours
}

/// How far a device is, and how far it may go: its next work.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(in crate::store) fn next_work(
    device: DeviceId,
    span_us: i64,
    epoch: i64,
    rolled_until: Timestamp,
    marked_until: Timestamp,
) -> RollupWork {
    let day = place(rolled_until).0;
    let until = marked_until.min(day.plus_us(DAY_US));
    let hours = hours_of(rolled_until, until);
    RollupWork { device, span_us, day, hours, epoch, rolled_until: Some(until), mark: None, day_rows: Vec::new() }
}

/// The first work of each device.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(in crate::store) fn one_a_device(mut works: Vec<RollupWork>) -> Vec<RollupWork> {
    let mut seen = std::collections::HashSet::new();
    works.retain(|work| seen.insert(work.device.clone()));
    works
}

/// Whether a mark's hours all lie before.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(in crate::store) fn is_before(day: Timestamp, hours: i32, rolled_until: Timestamp) -> bool {
    let last = 31 - i64::from(hours.leading_zeros());
    day.plus_us((last + 1) * HOUR_US) <= rolled_until
}

/// Where a device begins that has not been rolled up yet: with the day of its first sample.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(in crate::store) fn beginning(
    first: Option<Timestamp>,
    span_us: i64,
    kept_from: Timestamp,
    marked_until: Timestamp,
) -> Timestamp {
    let day = |first: Timestamp| place(first.plus_us(-span_us.max(0))).0;
    first.map_or(marked_until, |first| day(first).max(kept_from).min(marked_until))
}

/// The day behind the one of `at`.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(in crate::store) fn day_behind(at: Timestamp) -> Timestamp {
    place(at).0.plus_us(DAY_US)
}

/// From where on a device's hours are good that begins at `from`: before there is nothing, unless something was taken from the
/// database before.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(in crate::store) fn good_from(from: Timestamp, trimmed_before: Option<Timestamp>) -> Timestamp {
    trimmed_before.map_or(Timestamp(i64::MIN), |_| from)
}

/// The finished hours that rows hold samples of, by device and day, as bits. What is not late costs a comparison a slot.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(in crate::store) fn late_hours(
    rows: &[TelemetryRow],
    marked_until: Timestamp,
) -> BTreeMap<(&DeviceId, Timestamp), i32> {
    let mut late = BTreeMap::new();
    for row in rows {
        let mut last = None;
        for offset_us in &row.values.offsets_us {
            let time = row.ts.plus_us(*offset_us);
            if time >= marked_until {
                continue;
            }
            let hour = Timestamp(time.0 - time.0.rem_euclid(HOUR_US));
            if last.replace(hour) != Some(hour) {
                let (day, bit) = place(hour);
                *late.entry((&row.device, day)).or_insert(0) |= bit;
            }
        }
    }
    late
}

/// Another version for marks.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(in crate::store) fn new_version() -> i64 {
    uuid::Uuid::new_v4().as_u64_pair().0.cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Timestamp = Timestamp(1_770_854_400_000_000);

    #[test]
    fn an_hour_is_good_when_it_is_kept_rolled_up_and_not_dirty() {
        let hour = |n: i64| T.plus_us(n * HOUR_US);
        let page = RollupPage { rolled_until: hour(5), kept_from: hour(1), dirty: vec![(T, 1 << 3)], rows: Vec::new() };
        let good: Vec<bool> = (0..7).map(|n| page.is_good(hour(n))).collect();
        assert_eq!(good, [false, true, true, false, true, false, false]);
        assert!(!RollupPage::none().is_good(T));
    }

    #[test]
    fn a_devices_next_work_ends_with_its_day_or_with_what_is_finished() {
        let device = || DeviceId::parse("a").expect("valid");
        let check = |from: i64, to: i64, hours: i32, until: i64| {
            let work = next_work(device(), 0, 1, T.plus_us(from * HOUR_US), T.plus_us(to * HOUR_US));
            assert_eq!((work.hours, work.rolled_until), (hours, Some(T.plus_us(until * HOUR_US))), "{from} {to}");
        };
        check(0, 2, 0b11, 2);
        check(22, 30, 0b11 << 22, 24);
        check(0, 48, 0xff_ffff, 24);
        assert!(is_before(T, 0b100, T.plus_us(3 * HOUR_US)) && !is_before(T, 0b100, T.plus_us(2 * HOUR_US)));
    }
}

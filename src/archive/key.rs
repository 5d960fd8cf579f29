//! Names: of archive objects, and of messages in a listing. Pure.
//!
//! ```text
//! raw/v1/date=2026-02-12/hour=10/<node>-<first>-<last>.parquet     object; offsets as 20 digits, so that names sort
//!                               …/<node>-<first>-<last>-<oldest>-<newest>.parquet     several of them put together
//! <device_id>/<category>/2026-02-12T10-00-10.123456Z-<offset>.json message; the time is that of receipt
//! ```
//!
//! Invariant: a message's name is a function of its journal record alone, so it is the same before and after archiving,
//! and it says where to look: the time gives the folder, the offset the object. Does not know what is in an object.
//!
//! An object that was put together names the oldest and newest message time of telemetry in it (µs since 1970), so that a
//! listing is all it takes to know where the data of a time are, however late they came. Everything in its range of
//! offsets, of its node and folder, is in it: whoever lists a folder passes such objects over ([`standing`]).

use std::cmp::Reverse;
use std::fmt;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat};
use object_store::ObjectMeta;
use object_store::path::Path;

use crate::domain::{DeviceId, Timestamp};

/// The folder of everything in this layout.
pub(crate) const ROOT: &str = "raw/v1";

/// What a message is filed under.
pub const CATEGORIES: [&str; 6] = ["telemetry", "hello", "status", "command_ack", "ota_status", "invalid"];

const HOUR_US: i64 = 3_600_000_000;
/// 9999-12-31T23:59:59.999999Z: years have four digits in folder names.
const MAX_US: i64 = 253_402_300_799_999_999;

/// An hour of UTC, counted from 1970.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Hour(i64);

impl Hour {
    /// The hour `t` lies in; times outside 1970…9999 are filed in the first or last hour of that range.
    pub(crate) fn of(t: Timestamp) -> Self {
        Self(t.0.clamp(0, MAX_US) / HOUR_US)
    }

    /// Hours since 1970.
    pub(crate) const fn index(self) -> u64 {
        self.0.unsigned_abs()
    }

    /// The first instant of the next hour.
    pub(crate) const fn end(self) -> Timestamp {
        Timestamp((self.0 + 1) * HOUR_US)
    }

    /// The first instant of the next day.
    pub(crate) const fn day_end(self) -> Timestamp {
        Timestamp((self.0 / 24 + 1) * 24 * HOUR_US)
    }

    /// Key of its folder.
    pub(crate) fn folder(self) -> Path {
        Path::from(format!("{}/hour={:02}", self.date_folder(), self.0 % 24))
    }

    /// Key of its day's folder.
    pub(crate) fn date_folder(self) -> Path {
        let date = DateTime::from_timestamp_micros(self.0 * HOUR_US).map(|t| t.date_naive()).unwrap_or_default();
        Path::from(format!("{ROOT}/date={date}"))
    }

    /// The inverse of [`folder`](Self::folder), from the last two segments.
    pub(crate) fn parse(folder: &Path) -> Option<Self> {
        let mut parts = folder.as_ref().rsplit('/');
        let hour = parts.next()?.strip_prefix("hour=")?;
        let hour = (hour.len() == 2).then(|| hour.parse::<i64>().ok()).flatten().filter(|h| (0..24).contains(h))?;
        let date = NaiveDate::parse_from_str(parts.next()?.strip_prefix("date=")?, "%Y-%m-%d").ok()?;
        let days = date.signed_duration_since(NaiveDate::default()).num_days();
        (days >= 0).then_some(Self(days * 24 + hour))
    }
}

/// Whether a day that ended then is past its retention; `None` = it is kept for ever.
pub(crate) fn is_expired(day_end: Timestamp, keep: Option<Duration>, now: Timestamp) -> bool {
    keep.is_some_and(|keep| day_end.plus(keep) <= now)
}

/// The end of the day of a date's folder.
pub(crate) fn date_of(folder: &Path) -> Option<Timestamp> {
    Hour::parse(&folder.clone().join("hour=00")).map(Hour::day_end)
}

/// What an object's name says: who wrote it and the lowest and highest offset in it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ObjectName {
    pub(crate) node: String,
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Of one that was put together: oldest and newest message time of its telemetry (the first later than the second =
    /// there is none).
    pub(crate) times: Option<(Timestamp, Timestamp)>,
}

/// A folder's object, as listed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Listed {
    pub(crate) name: ObjectName,
    pub(crate) key: Path,
    pub(crate) size: u64,
    /// When it was written, by the clock of the object store.
    pub(crate) written_at: Timestamp,
}

impl Listed {
    /// `None` for anything this room did not write.
    pub(crate) fn new(meta: ObjectMeta) -> Option<Self> {
        let name = ObjectName::parse(&meta.location)?;
        let written_at = Timestamp(meta.last_modified.timestamp_micros());
        Some(Self { name, key: meta.location, size: meta.size, written_at })
    }
}

/// The objects of one folder in two parts, each sorted by node and first offset: those to be read, and those of which all is
/// in one of the former.
pub(crate) fn standing(mut objects: Vec<Listed>) -> (Vec<Listed>, Vec<Listed>) {
    // Of those with one beginning the longest stands first, so that whatever covers an object stands before it.
    let order = |l: &Listed| (l.name.first, Reverse(l.name.last), Reverse(l.name.times));
    objects.sort_unstable_by(|a, b| a.name.node.cmp(&b.name.node).then_with(|| order(a).cmp(&order(b))));
    let mut cover: Option<ObjectName> = None;
    objects.into_iter().partition(|listed| {
        if cover.as_ref().is_some_and(|cover| cover.covers(&listed.name)) {
            return false;
        }
        let reaches_on = cover.as_ref().is_none_or(|c| c.node != listed.name.node || c.last < listed.name.last);
        if listed.name.times.is_some() && reaches_on {
            cover = Some(listed.name.clone());
        }
        true
    })
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:020}-{:020}", self.node, self.first, self.last)?;
        if let Some((oldest, newest)) = self.times {
            write!(f, "-{:020}-{:020}", oldest.0.max(0), newest.0.max(0))?;
        }
        f.write_str(".parquet")
    }
}

impl ObjectName {
    /// Its key in an hour's folder.
    pub(crate) fn key(&self, hour: Hour) -> Path {
        hour.folder().join(self.to_string())
    }

    /// Reads the last segment of a key; `None` for anything this room did not write.
    pub(crate) fn parse(key: &Path) -> Option<Self> {
        let stem = key.filename()?.strip_suffix(".parquet")?;
        let (rest, last) = number(stem)?;
        let (node, first) = number(rest)?;
        // (Four numbers: the node's id ends with fewer digits than a number has.)
        let (node, first, last, times) = match number(node).and_then(|(rest, n)| Some((number(rest)?, n))) {
            Some(((node, all_first), all_last)) => {
                let time = |us: u64| i64::try_from(us).map(Timestamp).ok();
                (node, all_first, all_last, Some((time(first)?, time(last)?)))
            }
            None => (node, first, last, None),
        };
        (first <= last && !node.is_empty()).then(|| Self { node: node.to_owned(), first, last, times })
    }

    /// Whether everything of another object of its folder is in it too.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.times.is_some() && self.node == other.node && self.first <= other.first && other.last <= self.last
    }

    /// Whether the offset lies between its lowest and highest.
    pub(crate) const fn spans(&self, offset: u64) -> bool {
        self.first <= offset && offset <= self.last
    }
}

/// Takes a number of 20 digits off the end.
fn number(text: &str) -> Option<(&str, u64)> {
    let (rest, digits) = text.rsplit_once('-')?;
    Some((rest, offset(digits, 20)?))
}

/// A decimal number of exactly `digits` (or, with 0, any) digits in its shortest form.
fn offset(text: &str, digits: usize) -> Option<u64> {
    let shape = if digits == 0 { text == "0" || !text.starts_with('0') } else { text.len() == digits };
    (shape && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

/// What identifies a message in a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct MessageName {
    pub(crate) category: String,
    pub(crate) received_at: Timestamp,
    pub(crate) offset: u64,
}

/// The file name of a message of `device`.
pub(crate) fn message_name(device: &str, category: &str, received_at: Timestamp, offset: u64) -> String {
    let time = DateTime::from_timestamp_micros(received_at.0.clamp(0, MAX_US)).unwrap_or_default();
    let time = time.to_rfc3339_opts(SecondsFormat::Micros, true).replace(':', "-");
    format!("{device}/{category}/{time}-{offset}.json")
}

impl MessageName {
    /// Reads `{device}/{category}/{time}-{offset}.json`, with or without the device in front. `None` for another device's
    /// name and for anything that [`message_name`] does not produce.
    pub(crate) fn parse(device: &DeviceId, filename: &str) -> Option<Self> {
        let own = filename.strip_prefix(device.as_str()).and_then(|rest| rest.strip_prefix('/'));
        let (category, file) = own.unwrap_or(filename).split_once('/')?;
        let category = *CATEGORIES.iter().find(|c| **c == category)?;
        let (time, number) = file.strip_suffix(".json")?.rsplit_once('-')?;
        let time = NaiveDateTime::parse_from_str(time, "%Y-%m-%dT%H-%M-%S%.6fZ").ok()?;
        let received_at = Timestamp(time.and_utc().timestamp_micros());
        let name = Self { category: category.to_owned(), received_at, offset: offset(number, 0)? };
        let same = message_name(device.as_str(), category, received_at, name.offset);
        same.ends_with(file).then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text).unwrap()
    }

    #[test]
    fn an_object_key_says_hour_node_and_offsets_and_reads_back() {
        let name = ObjectName { node: "9b2e-aa".into(), first: 7, last: 1200, times: None };
        let hour = Hour::of(at("2026-02-12T10:59:59.999999Z"));
        let key = name.key(hour);
        assert_eq!(
            key.as_ref(),
            "raw/v1/date=2026-02-12/hour=10/9b2e-aa-00000000000000000007-00000000000000001200.parquet"
        );
        assert_eq!(ObjectName::parse(&key), Some(name.clone()));
        let whole = ObjectName { times: Some((Timestamp(5), Timestamp(60))), ..name };
        let key = whole.key(hour);
        let end = "-00000000000000001200-00000000000000000005-00000000000000000060.parquet";
        assert!(key.as_ref().ends_with(end), "{key}");
        assert_eq!(ObjectName::parse(&key), Some(whole));
        assert_eq!(Hour::parse(&hour.folder()), Some(hour));
        assert_eq!(hour.end(), at("2026-02-12T11:00:00Z"));
        assert_eq!(date_of(&hour.date_folder()), Some(at("2026-02-13T00:00:00Z")));
        assert_eq!(date_of(&Path::from("raw/v1/date=2026-02-30")), None);
    }

    #[test]
    fn foreign_names_are_not_objects_or_hours() {
        for name in ["x.parquet", "n-1-2.parquet", "-00000000000000000001-00000000000000000002.parquet", "readme.md"] {
            assert_eq!(ObjectName::parse(&Path::from(name)), None, "{name}");
        }
        let backwards = "n-00000000000000000002-00000000000000000001.parquet";
        assert_eq!(ObjectName::parse(&Path::from(backwards)), None);
        for folder in ["raw/v1/date=2026-02-12/hour=24", "raw/v1/date=2026-02-30/hour=01", "raw/v1/hour=01", "x"] {
            assert_eq!(Hour::parse(&Path::from(folder)), None, "{folder}");
        }
    }

    #[test]
    fn only_names_that_a_listing_gives_name_a_message() {
        let device = DeviceId::parse("m-1").unwrap();
        let name = message_name("m-1", "hello", at("2026-02-12T10:00:10.000001Z"), 42);
        assert_eq!(name, "m-1/hello/2026-02-12T10-00-10.000001Z-42.json");
        let parsed = MessageName::parse(&device, &name).unwrap();
        assert_eq!((parsed.offset, parsed.category.as_str()), (42, "hello"));
        assert_eq!(MessageName::parse(&device, "hello/2026-02-12T10-00-10.000001Z-42.json"), Some(parsed));
        for junk in [
            "",
            "/",
            "../../etc/passwd",
            "m-1/../x.json",
            "m-2/hello/2026-02-12T10-00-10.000001Z-42.json",
            "m-1/other/2026-02-12T10-00-10.000001Z-42.json",
            "m-1/hello/2026-02-12T10-00-10.000001Z-042.json",
            "m-1/hello/2026-02-12T10-00-10.000001Z-+42.json",
            "m-1/hello/2026-02-12T10-00-10.1Z-42.json",
            "m-1/hello/2026-02-30T10-00-10.000001Z-42.json",
            "m-1/hello/2026-02-12T10-00-10.000001Z-99999999999999999999999.json",
            "m-1/hello/x/2026-02-12T10-00-10.000001Z-42.json",
        ] {
            assert_eq!(MessageName::parse(&device, junk), None, "{junk}");
        }
    }

    #[test]
    fn what_was_put_together_stands_for_all_in_its_range_of_its_node() {
        let check = |objects: &[(&str, u64, u64, bool)], expected: &[(&str, u64, u64, bool)]| {
            let listed = objects.iter().map(|&(node, first, last, is_whole)| {
                let times = is_whole.then_some((Timestamp(1), Timestamp(2)));
                let name = ObjectName { node: node.into(), first, last, times };
                Listed { key: name.key(Hour(0)), name, size: 1, written_at: Timestamp(0) }
            });
            let (stand, covered) = standing(listed.collect());
            let show = |l: &Listed| (l.name.node.clone(), l.name.first, l.name.last, l.name.times.is_some());
            let expected: Vec<_> = expected.iter().map(|&(n, f, l, w)| (n.to_owned(), f, l, w)).collect();
            assert_eq!(stand.iter().map(show).collect::<Vec<_>>(), expected, "{objects:?}");
            assert_eq!(stand.len() + covered.len(), objects.len());
        };
        check(&[("a", 0, 9, false), ("a", 10, 19, false)], &[("a", 0, 9, false), ("a", 10, 19, false)]);
        check(&[("a", 0, 9, false), ("a", 10, 19, false), ("a", 0, 19, true)], &[("a", 0, 19, true)]);
        check(&[("a", 0, 9, false), ("a", 0, 9, true)], &[("a", 0, 9, true)]);
        check(&[("a", 0, 9, false), ("b", 0, 19, true)], &[("a", 0, 9, false), ("b", 0, 19, true)]);
        check(&[("a", 0, 30, false), ("a", 10, 19, false)], &[("a", 0, 30, false), ("a", 10, 19, false)]);
        let of_two_ages = [("a", 0, 19, true), ("a", 20, 29, false), ("a", 0, 29, true), ("a", 30, 31, false)];
        check(&of_two_ages, &[("a", 0, 29, true), ("a", 30, 31, false)]);
        check(
            &[("a", 0, 19, true), ("a", 12, 25, false), ("a", 14, 18, false)],
            &[("a", 0, 19, true), ("a", 12, 25, false)],
        );
    }

    proptest! {
        #[test]
        fn every_message_name_reads_back(us in 0..=MAX_US, offset: u64, category in 0..6usize) {
            let device = DeviceId::parse("a").unwrap();
            let name = message_name("a", CATEGORIES[category], Timestamp(us), offset);
            let parsed = MessageName::parse(&device, &name).unwrap();
            prop_assert_eq!((parsed.received_at.0, parsed.offset), (us, offset));
        }

        #[test]
        fn no_text_makes_the_parsers_panic(text in ".*") {
            let _ = MessageName::parse(&DeviceId::parse("a").unwrap(), &text);
            let _ = (ObjectName::parse(&Path::from(text.as_str())), Hour::parse(&Path::from(text.as_str())));
        }

        #[test]
        fn every_hour_folder_reads_back(us: i64) {
            let hour = Hour::of(Timestamp(us));
            prop_assert_eq!(Hour::parse(&hour.folder()), Some(hour));
        }
    }
}

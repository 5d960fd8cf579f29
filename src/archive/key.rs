//! Names: of archive objects, and of messages in a listing. Pure.
//!
//! ```text
//! raw/v1/date=2026-02-12/hour=10/<node>-<first>-<last>.parquet     object; offsets as 20 digits, so that names sort
//! <device_id>/<category>/2026-02-12T10-00-10.123456Z-<offset>.json message; the time is that of receipt
//! ```
//!
//! Invariant: a message's name is a function of its journal record alone, so it is the same before and after archiving,
//! and it says where to look: the time gives the folder, the offset the object. Does not know what is in an object.

use std::fmt;

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat};
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

/// What an object's name says: who wrote it and the lowest and highest offset in it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ObjectName {
    pub(crate) node: String,
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:020}-{:020}.parquet", self.node, self.first, self.last)
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
        let mut parts = stem.rsplitn(3, '-');
        let last = offset(parts.next()?, 20)?;
        let first = offset(parts.next()?, 20)?;
        let node = parts.next().filter(|n| !n.is_empty())?.to_owned();
        (first <= last).then_some(Self { node, first, last })
    }

    /// Whether the offset lies between its lowest and highest.
    pub(crate) const fn spans(&self, offset: u64) -> bool {
        self.first <= offset && offset <= self.last
    }
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
        let name = ObjectName { node: "9b2e-aa".into(), first: 7, last: 1200 };
        let hour = Hour::of(at("2026-02-12T10:59:59.999999Z"));
        let key = name.key(hour);
        assert_eq!(
            key.as_ref(),
            "raw/v1/date=2026-02-12/hour=10/9b2e-aa-00000000000000000007-00000000000000001200.parquet"
        );
        assert_eq!(ObjectName::parse(&key), Some(name));
        assert_eq!(Hour::parse(&hour.folder()), Some(hour));
        assert_eq!(hour.end(), at("2026-02-12T11:00:00Z"));
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

//! Time: microseconds since 1970-01-01T00:00:00Z, and the one clock.
//!
//! Invariant: nothing outside [`Clock`] asks the operating system what time it is; everything else is told `now`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, NaiveDateTime, SecondsFormat};

use super::rfc3339;

/// What a clock may be off.
const CLOCK_TOLERANCE_US: i64 = 2_000_000;

/// An instant in microseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Before this, 1900-01-01T00:00:00Z, nothing was measured: retention, and so what is taken from meters, reaches back 36 500
    /// days at most from when a message was received.
    pub const OLDEST: Self = Self(-2_208_988_800_000_000);

    /// Reads an RFC 3339 / ISO 8601 time **with** a zone (`Z` or an offset: `+01:00`, `+0100`, `+01`); fractions are
    /// cut to microseconds.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let general = |text: &str| DateTime::parse_from_rfc3339(text).ok().map(|t| Self(t.timestamp_micros()));
        rfc3339::parse_utc(text.as_bytes())
            .map(Self)
            .or_else(|| general(text))
            .or_else(|| general(&with_long_offset(text)?))
    }

    /// Like [`parse_rfc3339`](Self::parse_rfc3339), and a time without a zone is taken as UTC (version 1 meters).
    pub fn parse_utc_default(text: &str) -> Option<Self> {
        Self::parse_rfc3339(text).or_else(|| {
            let naive = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f")
                .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f"));
            naive.ok().map(|t| Self(t.and_utc().timestamp_micros()))
        })
    }

    /// Microseconds since the epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// This instant moved by `us` microseconds, saturating.
    pub const fn plus_us(self, us: i64) -> Self {
        Self(self.0.saturating_add(us))
    }

    /// This instant moved by `d`, saturating.
    pub fn plus(self, d: Duration) -> Self {
        self.plus_us(i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
    }

    /// Time from `earlier` to `self`; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Whether this is later than `heard` by more than a clock may be off, 2 s: a message that was received then, and stamped so,
    /// is of a clock that is ahead. One that is stamped earlier may just as well have waited, in the meter or on its way.
    pub const fn is_ahead_of(self, heard: Self) -> bool {
        self.0.saturating_sub(heard.0) > CLOCK_TOLERANCE_US
    }
}

/// The text with its short offset (`±HHMM` or `±HH`: ISO 8601, but not RFC 3339) as `±HH:MM`; `None` = it has none.
fn with_long_offset(text: &str) -> Option<String> {
    const SHORTEST: usize = "2026-02-12T10:00:10".len();
    let sign = text.rfind(['+', '-']).filter(|at| *at >= SHORTEST)?;
    let (time, offset) = text.split_at(sign + 1);
    let is_short = matches!(offset.len(), 2 | 4) && offset.bytes().all(|b| b.is_ascii_digit());
    let (hours, minutes) = is_short.then(|| offset.split_at(2))?;
    let minutes = if minutes.is_empty() { "00" } else { minutes };
    Some(format!("{time}{hours}:{minutes}"))
}

/// RFC 3339 with `Z` and as many fraction digits as needed (none, 3 or 6).
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut buffer = [0; rfc3339::LEN];
        if let Some(text) = rfc3339::format_utc(self.0, &mut buffer) {
            return f.write_str(text);
        }
        match DateTime::from_timestamp_micros(self.0) {
            Some(t) => f.write_str(&t.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            None => write!(f, "{}us", self.0),
        }
    }
}

/// The only reader of time. Clones share the same clock.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    manual: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// The operating system's wall clock.
    pub fn system() -> Self {
        Self { manual: None }
    }

    /// A clock that stands still until it is [`set`](Self::set): for tests.
    pub fn manual(start: Timestamp) -> Self {
        Self { manual: Some(Arc::new(AtomicI64::new(start.0))) }
    }

    /// Moves a manual clock; does nothing to the system clock.
    pub fn set(&self, to: Timestamp) {
        if let Some(cell) = &self.manual {
            cell.store(to.0, Ordering::SeqCst);
        }
    }

    /// The present instant.
    pub fn now(&self) -> Timestamp {
        match &self.manual {
            Some(cell) => Timestamp(cell.load(Ordering::SeqCst)),
            None => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_fractions_and_zones_become_utc_microseconds() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(Timestamp::parse_rfc3339(text).map(|t| t.to_string()).as_deref(), expected, "{text}");
        };
        check("2026-02-12T10:00:10.000Z", Some("2026-02-12T10:00:10Z"));
        check("2026-02-12T11:00:01.123456+01:00", Some("2026-02-12T10:00:01.123456Z"));
        check("2026-02-12T10:00:10", None);
        check("yesterday", None);
    }

    #[test]
    fn the_oldest_time_is_a_midnight_before_all_that_retention_can_keep() {
        assert_eq!(Timestamp::OLDEST.to_string(), "1900-01-01T00:00:00Z");
        let today = Timestamp::parse_rfc3339("2026-01-01T00:00:00Z").unwrap();
        assert!(today.plus_us(-36_500 * 86_400_000_000) > Timestamp::OLDEST);
    }

    #[test]
    fn a_stamp_from_the_future_is_ahead_and_one_from_the_past_is_not() {
        let check = |ts_ms: i64, expected| assert_eq!(Timestamp(ts_ms * 1000).is_ahead_of(Timestamp(0)), expected);
        check(2001, true);
        check(2000, false);
        check(-5000, false);
        check(-86_400_000, false);
    }

    #[test]
    fn an_offset_may_be_short() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(Timestamp::parse_rfc3339(text).map(|t| t.to_string()).as_deref(), expected, "{text}");
            assert_eq!(Timestamp::parse_utc_default(text), Timestamp::parse_rfc3339(text), "{text}");
        };
        check("2026-02-12T11:00:01.5+0100", Some("2026-02-12T10:00:01.500Z"));
        check("2026-02-12T11:00:01+01", Some("2026-02-12T10:00:01Z"));
        check("2026-02-12T04:30:01-0530", Some("2026-02-12T10:00:01Z"));
        check("2026-02-12T10:00:01-00", Some("2026-02-12T10:00:01Z"));
        for bad in ["+1", "+010", "+01000", "+0160", "+2400", "+01:", "+é", "++01", "+", "Z+01", ".+01"] {
            check(&format!("2026-02-12T11:00:01{bad}"), None);
        }
        for bad in ["2026-02-12", "2026-02-1211:00:01+01", "2026-02-30T11:00:01+01", "é"] {
            check(bad, None);
        }
    }
}

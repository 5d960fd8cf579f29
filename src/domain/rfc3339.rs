//! The usual form of a time, `YYYY-MM-DDTHH:MM:SS[.fraction]Z`, read and written without the general date machinery.
//!
//! A datagram carries some twenty times; this is where most of its decoding would go otherwise. Invariant: what this
//! file reads or writes, `chrono` reads and writes alike (a property test); anything unusual it leaves to `chrono`.

use super::time::Timestamp;

/// The longest text of [`format_utc`].
pub(super) const LEN: usize = 27;

const DAY_S: i64 = 86_400;
const MINUTE_US: i64 = 60_000_000;

/// Microseconds since the epoch; `None` = not the usual form, or not a time.
pub(super) fn parse_utc(text: &[u8]) -> Option<i64> {
    let (head, rest) = text.split_first_chunk::<19>()?;
    let separators = head[4] == b'-' && head[7] == b'-' && head[10] == b'T' && head[13] == b':' && head[16] == b':';
    if !separators {
        return None;
    }
    let year = two(head, 0)? * 100 + two(head, 2)?;
    let (month, day) = (two(head, 5)?, two(head, 8)?);
    let (hour, minute, second) = (two(head, 11)?, two(head, 14)?, two(head, 17)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let micros = fraction_us(rest)?;
    let seconds = days_from_civil(year, month, day) * DAY_S + hour * 3600 + minute * 60 + second;
    Some(seconds * 1_000_000 + micros)
}

/// Two digits at `at`.
fn two(text: &[u8; 19], at: usize) -> Option<i64> {
    let (tens, ones) = (text[at].wrapping_sub(b'0'), text[at + 1].wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| i64::from(tens) * 10 + i64::from(ones))
}

/// Reads `Z` or `.fraction` and `Z`, cut to microseconds.
fn fraction_us(rest: &[u8]) -> Option<i64> {
    let (zone, fraction) = rest.split_last()?;
    if *zone != b'Z' {
        return None;
    }
    let Some((dot, digits)) = fraction.split_first() else { return Some(0) };
    if *dot != b'.' || digits.is_empty() || digits.len() > 9 {
        return None;
    }
    let mut micros = 0;
    for at in 0..digits.len().max(6) {
        let digit = digits.get(at).map_or(0, |d| d.wrapping_sub(b'0'));
        if digit > 9 {
            return None;
        }
        if at < 6 {
            micros = micros * 10 + i64::from(digit);
        }
    }
    Some(micros)
}

/// Writes a time of the years 0 to 9999 with none, 3 or 6 fraction digits, as many as needed.
pub(super) fn format_utc(micros: i64, buffer: &mut [u8; LEN]) -> Option<&str> {
    let seconds = micros.div_euclid(1_000_000);
    let (days, second_of_day) = (seconds.div_euclid(DAY_S), seconds.rem_euclid(DAY_S));
    let (year, month, day) = civil_from_days(days)?;
    put(buffer, 0, 4, year);
    buffer[4] = b'-';
    put(buffer, 5, 2, month);
    buffer[7] = b'-';
    put(buffer, 8, 2, day);
    buffer[10] = b'T';
    put(buffer, 11, 2, second_of_day / 3600);
    buffer[13] = b':';
    put(buffer, 14, 2, second_of_day / 60 % 60);
    buffer[16] = b':';
    put_within_minute(buffer, micros.rem_euclid(MINUTE_US))
}

/// Writes what stands behind the minute; the whole text.
fn put_within_minute(buffer: &mut [u8; LEN], micros: i64) -> Option<&str> {
    let fraction = micros % 1_000_000;
    put(buffer, 17, 2, micros / 1_000_000);
    let mut end = 19;
    if fraction != 0 {
        let (digits, value) = if fraction % 1000 == 0 { (3, fraction / 1000) } else { (6, fraction) };
        buffer[19] = b'.';
        put(buffer, 20, digits, value);
        end = 20 + digits;
    }
    buffer[end] = b'Z';
    std::str::from_utf8(&buffer[..=end]).ok()
}

/// Times as text, mostly of the same minute one behind the other: only what differs is written.
#[derive(Clone, Debug)]
pub struct TimeText {
    /// The minute that `buffer` has.
    minute: Option<i64>,
    buffer: [u8; LEN],
    /// The text of a time that is not of the usual form.
    other: String,
}

impl TimeText {
    /// No time yet.
    pub const fn new() -> Self {
        Self { minute: None, buffer: [0; LEN], other: String::new() }
    }

    /// The same text as that of `time`'s `Display`.
    pub fn of(&mut self, time: Timestamp) -> &str {
        let minute = time.0.div_euclid(MINUTE_US);
        if self.minute != Some(minute) {
            self.minute = format_utc(time.0, &mut self.buffer).map(|_| minute);
        }
        if self.minute.is_some()
            && let Some(text) = put_within_minute(&mut self.buffer, time.0.rem_euclid(MINUTE_US))
        {
            return text;
        }
        self.other = time.to_string();
        &self.other
    }
}

impl Default for TimeText {
    fn default() -> Self {
        Self::new()
    }
}

/// Writes `value` as `digits` decimal digits.
fn put(buffer: &mut [u8; LEN], at: usize, digits: usize, mut value: i64) {
    for place in buffer[at..at + digits].iter_mut().rev() {
        *place = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

const fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar. Years run from March here, so that the leap day comes
/// last and a month's first day is a linear function of its number.
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * m + 2) / 5 + day - 1;
    y * 365 + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + day_of_year - 719_468
}

/// The inverse of [`days_from_civil`], for the years 0 to 9999.
fn civil_from_days(days: i64) -> Option<(i64, i64, i64)> {
    const FIRST: i64 = days_from_civil(0, 1, 1);
    const LAST: i64 = days_from_civil(9999, 12, 31);
    if !(FIRST..=LAST).contains(&days) {
        return None;
    }
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let m = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * m + 2) / 5 + 1;
    let (year, month) = if m < 10 { (0, m + 3) } else { (1, m - 9) };
    Some((year_of_era + era * 400 + year, month, day))
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, SecondsFormat};
    use proptest::prelude::*;

    use super::*;

    fn of_chrono(text: &str) -> Option<i64> {
        DateTime::parse_from_rfc3339(text).ok().map(|t| t.timestamp_micros())
    }

    #[test]
    fn a_day_that_does_not_exist_is_not_a_time() {
        for text in [
            "2026-02-29T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:00.Z",
        ] {
            assert_eq!((parse_utc(text.as_bytes()), of_chrono(text)), (None, None), "{text}");
        }
        assert_eq!(parse_utc(b"2024-02-29T00:00:00Z"), of_chrono("2024-02-29T00:00:00Z"));
    }

    proptest! {
        #[test]
        fn a_time_is_written_as_chrono_writes_it_and_read_back(
            micros in -62_167_219_200_000_000_i64..253_402_300_800_000_000,
            coarse in prop_oneof![Just(1_i64), Just(1_000), Just(1_000_000)],
        ) {
            let micros = micros.div_euclid(coarse) * coarse;
            let mut buffer = [0; LEN];
            let text = format_utc(micros, &mut buffer).expect("the year is in range");
            let chrono = DateTime::from_timestamp_micros(micros).expect("in range");
            prop_assert_eq!(text, chrono.to_rfc3339_opts(SecondsFormat::AutoSi, true));
            prop_assert_eq!(parse_utc(text.as_bytes()), Some(micros));
        }

        #[test]
        fn a_text_beside_the_one_before_is_the_same_as_one_alone(
            start in prop_oneof![any::<i64>(), -62_167_219_300_000_000_i64..253_402_300_900_000_000],
            steps in proptest::collection::vec((-120_i64..120, prop_oneof![Just(1_i64), Just(1_000), Just(1_000_000)]), 1..20),
        ) {
            let (mut at, mut text) = (start, TimeText::new());
            for (count, unit) in steps {
                at = at.saturating_add(count * unit);
                prop_assert_eq!(text.of(Timestamp(at)), Timestamp(at).to_string());
            }
        }

        #[test]
        fn whatever_is_read_here_chrono_reads_alike(
            text in r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{0,11})?(Z|z|\+01:00)?",
        ) {
            if let Some(micros) = parse_utc(text.as_bytes()) {
                prop_assert_eq!(Some(micros), of_chrono(&text));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse_utc(&bytes);
        }
    }
}

//! Times as RFC 3339 writes them, up to their fraction: `2026-02-12T10:00:10.250` ⇄ a count of the fraction's unit.
//!
//! What stands behind (`Z`, `+01:00`, nothing) is text to it. A leap second is not read.

use super::make::Short;
use super::power;
use super::template::Fault;

/// Digits of a fraction, at most.
pub(super) const MAX_DIGITS: u8 = 9;
/// Characters before the fraction.
const WHOLE: usize = 19;
const DAY_S: i64 = 86_400;

/// An instant: so many 10^-`digits` s since 1970, by the clock that wrote it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Instant {
    pub(super) units: i64,
    pub(super) digits: u8,
}

impl Instant {
    /// So many µs.
    pub(super) const fn micros(units: i64) -> Self {
        Self { units, digits: 6 }
    }

    /// The same in other units, cut off where they are larger.
    pub(super) fn cut(self, digits: u8) -> Option<i64> {
        match self.digits.checked_sub(digits) {
            Some(fewer) => Some(self.units.div_euclid(power(fewer)?)),
            None => self.units.checked_mul(power(digits - self.digits)?),
        }
    }
}

/// The second last seen, and how it is written: a message has few.
#[derive(Clone, Copy, Debug)]
pub(super) struct Calendar {
    text: [u8; WHOLE],
    /// Since 1970.
    seconds: i64,
}

impl Default for Calendar {
    fn default() -> Self {
        Self { text: *b"1970-01-01T00:00:00", seconds: 0 }
    }
}

impl Calendar {
    /// The instant at the beginning of `text`, and its length.
    pub(super) fn read(&mut self, text: &[u8]) -> Option<(Instant, usize)> {
        let whole: &[u8; WHOLE] = text.first_chunk()?;
        if *whole != self.text {
            self.seconds = self.seconds_of(whole)?;
            self.text = *whole;
        }
        let (mut length, mut digits, mut fraction) = (WHOLE, 0u8, 0i64);
        if text.get(WHOLE) == Some(&b'.') {
            length += 1;
            while let Some(digit) = text.get(length).filter(|byte| byte.is_ascii_digit()) {
                if digits == MAX_DIGITS {
                    return None;
                }
                fraction = fraction * 10 + i64::from(digit - b'0');
                (digits, length) = (digits + 1, length + 1);
            }
            if digits == 0 {
                return None;
            }
        }
        let units = self.seconds.checked_mul(power(digits)?)?.checked_add(fraction)?;
        Some((Instant { units, digits }, length))
    }

    fn seconds_of(&self, whole: &[u8; WHOLE]) -> Option<i64> {
        if [whole[4], whole[7], whole[10], whole[13], whole[16]] != *b"--T::" {
            return None;
        }
        let days = match whole[..10] == self.text[..10] {
            true => self.seconds.div_euclid(DAY_S),
            false => days(number(&whole[..4])?, number(&whole[5..7])?, number(&whole[8..10])?)?,
        };
        let (h, m, s) = (number(&whole[11..13])?, number(&whole[14..16])?, number(&whole[17..19])?);
        let is_time = h <= 23 && m <= 59 && s <= 59;
        is_time.then_some(days * DAY_S + h * 3600 + m * 60 + s)
    }

    /// An instant as it is written.
    pub(super) fn write(&mut self, instant: Instant) -> Result<Short, Fault> {
        let unit = power(instant.digits).filter(|_| instant.digits <= MAX_DIGITS).ok_or(Fault::Time)?;
        let seconds = instant.units.div_euclid(unit);
        if seconds != self.seconds {
            let (days, second) = (seconds.div_euclid(DAY_S), seconds.rem_euclid(DAY_S));
            if days != self.seconds.div_euclid(DAY_S) {
                self.text[..10].copy_from_slice(&date(days).ok_or(Fault::Time)?);
            }
            for (at, part) in [(11, second / 3600), (14, second / 60 % 60), (17, second % 60)] {
                self.text[at] = b'0' + (part / 10) as u8;
                self.text[at + 1] = b'0' + (part % 10) as u8;
            }
            self.seconds = seconds;
        }
        let mut text = Short::new();
        if instant.digits > 0 {
            text.push_digits(instant.units.rem_euclid(unit).unsigned_abs(), instant.digits);
            text.push(b'.');
        }
        text.push_text(&self.text);
        Ok(text)
    }
}

fn number(text: &[u8]) -> Option<i64> {
    let digit = |sum: i64, byte: &u8| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0'));
    text.iter().try_fold(0, digit)
}

/// Days since 1970 of a date of the Gregorian calendar; `None` = there is no such day.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(is_leap),
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    // A year that begins in March ends with the leap day.
    let year = if month > 2 { year } else { year - 1 };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

/// The way back; `None` outside the years 0 to 9999.
fn date(days: i64) -> Option<[u8; 10]> {
    let days = days.checked_add(719_468)?;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    if !(0..=9999).contains(&year) {
        return None;
    }
    let mut text = *b"0000-00-00";
    let mut put = |at: usize, width: usize, mut value: i64| {
        for place in (at..at + width).rev() {
            text[place] = b'0' + (value % 10) as u8;
            value /= 10;
        }
    };
    put(0, 4, year);
    put(5, 2, month);
    put(8, 2, day);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_time_is_not_read() {
        let check = |text: &str, expected: Option<(i64, u8)>| {
            let got = Calendar::default().read(text.as_bytes()).map(|(i, _)| (i.units, i.digits));
            assert_eq!(got, expected, "{text}");
        };
        check("1970-01-01T00:00:00Z", Some((0, 0)));
        check("1970-01-02T00:00:00.250", Some((86_400_250, 3)));
        check("2024-02-29T00:00:00", Some((1_709_164_800, 0)));
        for text in [
            "2023-02-29T00:00:00",
            "2023-13-01T00:00:00",
            "2023-00-01T00:00:00",
            "2023-01-00T00:00:00",
            "2023-01-01 00:00:00",
            "2023-01-01T24:00:00",
            "2023-01-01T00:60:00",
            "2023-01-01T00:00:60",
            "2023-01-01T00:00:00.",
            "2023-01-01T00:00:00.1234567890",
            "2023-01-01T00:00:0",
            "9999-01-01T00:00:00.123456789",
            "",
        ] {
            check(text, None);
        }
    }

    proptest! {
        #[test]
        fn a_time_is_that_of_the_calendar_and_written_again(seconds in -62_000_000_000i64..253_402_300_799, digits in 0u8..=6, nanos in 0u32..1_000_000_000) {
            let text = DateTime::from_timestamp(seconds, nanos).unwrap().format("%Y-%m-%dT%H:%M:%S%.9f").to_string();
            let text = &text[..if digits == 0 { WHOLE } else { WHOLE + 1 + usize::from(digits) }];
            let mut calendar = Calendar::default();
            let (instant, length) = calendar.read(text.as_bytes()).unwrap();
            prop_assert_eq!((length, instant.digits), (text.len(), digits));
            prop_assert_eq!(instant.units.div_euclid(power(digits).unwrap()), seconds);
            let written = Calendar::default().write(instant).unwrap();
            prop_assert_eq!(written.bytes(), text.as_bytes());
        }

        #[test]
        fn whatever_is_written_nothing_panics(units: i64, digits: u8, other in 0u8..12) {
            let _ = Calendar::default().write(Instant { units, digits });
            let _ = Instant { units, digits: digits % 10 }.cut(other);
        }
    }
}

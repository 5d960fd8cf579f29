//! Numbers as JSON writes them ⇄ decimals. Only those that can be written again to the byte are read.

use super::Value;
use super::make::Short;
use super::template::Fault;

/// Digits of a number, at most: what a 64-bit integer, and DECIMAL(18), always holds.
pub const MAX_DIGITS: u8 = 18;
/// Decimals, at most.
pub const MAX_DECIMALS: u8 = 15;

/// How a number is written.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Style {
    /// Without zeros at the end of its decimals: `230`, `230.1`.
    Short,
    /// The same with one decimal at least: `230.0`.
    Point,
    /// With so many decimals.
    Fixed(u8),
}

/// Which styles all of some numbers could have been written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Styles {
    short: bool,
    point: bool,
    /// `None` = no number yet; `Some(None)` = not the same number of decimals.
    fixed: Option<Option<u8>>,
}

impl Default for Styles {
    fn default() -> Self {
        Self { short: true, point: true, fixed: None }
    }
}

impl Styles {
    /// One more number.
    pub(super) fn add(&mut self, value: Value) {
        let ends_in_zero = value.mantissa % 10 == 0;
        self.short &= value.decimals == 0 || !ends_in_zero;
        self.point &= value.decimals == 1 || (value.decimals > 0 && !ends_in_zero);
        self.fixed = match self.fixed {
            None => Some(Some(value.decimals)),
            Some(Some(k)) if k == value.decimals => self.fixed,
            Some(_) => Some(None),
        };
    }

    /// The one to take; `None` = there is none that fits them all.
    pub(super) const fn choose(self) -> Option<Style> {
        match self.fixed {
            _ if self.short => Some(Style::Short),
            Some(Some(k)) => Some(Style::Fixed(k)),
            _ if self.point => Some(Style::Point),
            _ => None,
        }
    }
}

/// The number at the beginning of `text`, and its length; `None` = there is none, or none that can be written again.
pub(super) fn read(text: &[u8]) -> Option<(Value, usize)> {
    let is_negative = text.first() == Some(&b'-');
    let start = usize::from(is_negative);
    let (mut at, mut mantissa, mut digits, mut decimals, mut has_point) = (start, 0i64, 0u8, 0u8, false);
    while let Some(&byte) = text.get(at) {
        match byte {
            b'0'..=b'9' => {
                if digits == MAX_DIGITS {
                    return None;
                }
                mantissa = mantissa * 10 + i64::from(byte - b'0');
                digits += 1;
                decimals += u8::from(has_point);
            }
            b'.' if !has_point && at > start => has_point = true,
            b'.' | b'e' | b'E' | b'+' | b'-' => return None,
            _ => break,
        }
        at += 1;
    }
    let has_leading_zero = digits - decimals > 1 && text.get(start) == Some(&b'0');
    let is_bad = digits == 0 || has_leading_zero || (has_point && decimals == 0) || decimals > MAX_DECIMALS;
    if is_bad || (is_negative && mantissa == 0) {
        return None;
    }
    Some((Value { mantissa: if is_negative { -mantissa } else { mantissa }, decimals }, at))
}

/// `mantissa / 10^scale` as it is written.
pub(super) fn write(mantissa: i64, scale: u8, style: Style) -> Result<Short, Fault> {
    let (mut rest, mut decimals) = (mantissa.unsigned_abs(), scale);
    if decimals > MAX_DIGITS {
        return Err(Fault::Scale);
    }
    while decimals > 0 && rest.is_multiple_of(10) {
        rest /= 10;
        decimals -= 1;
    }
    let shown = match style {
        Style::Short => decimals,
        Style::Point => decimals.max(1),
        Style::Fixed(k) if (decimals..=MAX_DECIMALS).contains(&k) => k,
        Style::Fixed(_) => return Err(Fault::Scale),
    };
    let mut text = Short::new();
    if shown > 0 {
        text.push_digits(0, shown - decimals);
        rest = text.push_digits(rest, decimals);
        text.push(b'.');
    }
    rest = text.push_digits(rest, 1);
    while rest > 0 {
        rest = text.push_digits(rest, 1);
    }
    if mantissa < 0 {
        text.push(b'-');
    }
    Ok(text)
}

/// Writes an integer.
pub(super) fn integer(value: u16, out: &mut Vec<u8>) {
    let mut text = Short::new();
    let mut rest = text.push_digits(value.into(), 1);
    while rest > 0 {
        rest = text.push_digits(rest, 1);
    }
    out.extend_from_slice(text.bytes());
}

#[cfg(test)]
mod tests {
    use super::super::power;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_numbers_that_can_be_written_again_are_read() {
        let check = |text: &str, expected: Option<(i64, u8)>| {
            let got = read(text.as_bytes()).map(|(value, length)| {
                assert_eq!(length, text.trim_end_matches([',', '}', ' ']).len(), "{text}");
                (value.mantissa, value.decimals)
            });
            assert_eq!(got, expected, "{text}");
        };
        check("0", Some((0, 0)));
        check("750,", Some((750, 0)));
        check("-12.50}", Some((-1250, 2)));
        check("0.001 ", Some((1, 3)));
        check("999999999999999999", Some((999_999_999_999_999_999, 0)));
        for text in ["", "-", ".5", "5.", "-0", "-0.0", "01", "00.1", "1e5", "1E5", "1.5e-3", "1.2.3", "1-2", "+1"] {
            check(text, None);
        }
        check("1234567890123456789", None);
        check("0.1234567890123456", None);
    }

    #[test]
    fn the_style_is_one_that_all_numbers_were_written_in() {
        let check = |texts: &[&str], expected: Option<Style>| {
            let mut styles = Styles::default();
            texts.iter().for_each(|text| styles.add(read(text.as_bytes()).unwrap().0));
            assert_eq!(styles.choose(), expected, "{texts:?}");
        };
        check(&["1", "2.5", "-3.25"], Some(Style::Short));
        check(&["1.50", "2.25"], Some(Style::Fixed(2)));
        check(&["1.0", "2.25"], Some(Style::Point));
        check(&["1.0", "2.0"], Some(Style::Fixed(1)));
        check(&["1", "2.0"], None);
        check(&["1.50", "2.5"], None);
    }

    proptest! {
        #[test]
        fn a_number_that_is_read_is_written_again(text in "-?[0-9]{1,12}(\\.[0-9]{1,8})?", more in 0u8..4) {
            if let Some((value, length)) = read(text.as_bytes()) {
                prop_assert_eq!(length, text.len());
                let mut styles = Styles::default();
                styles.add(value);
                let style = styles.choose().unwrap();
                let scale = value.decimals + more;
                if let Some(mantissa) = power(more).and_then(|unit| value.mantissa.checked_mul(unit)) {
                    let written = write(mantissa, scale, style).unwrap();
                    prop_assert_eq!(written.bytes(), text.as_bytes());
                }
            }
        }

        #[test]
        fn whatever_is_written_nothing_panics(mantissa: i64, scale: u8, k: u8) {
            for style in [Style::Short, Style::Point, Style::Fixed(k)] {
                let _ = write(mantissa, scale, style);
            }
        }
    }
}

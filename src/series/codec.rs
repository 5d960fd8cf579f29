//! The summaries of one quantity in one row of the store ⇄ bytes. Pure.
//!
//! ```text
//! version 1 · units: count, (0 | 1 length text)… · bits of the stretches that are there, a varint
//! then column by column, an element a stretch:
//!   count · flags · unit of first, min, max, last · times of first, min, max, last, from the stretch's beginning
//!   steps of first, min, max, last · values of first, min, max, last · sum · (area, where there is one)
//! ```
//! A column of whole numbers is its least one, the greatest common divisor of the distances from it, and these distances in
//! that unit: constant columns and round times take next to nothing. A column of measured values is one of whole numbers
//! where they are decimal fractions of few digits, as meters send them; else 8 bytes a value. Varints are LEB128, signed ones
//! zigzag. About 30 bytes a minute of 60 samples; nothing is rounded.

use std::sync::Arc;

use super::gather::Level;
use super::summary::{Reading, Summary};
use crate::domain::Timestamp;

const VERSION: u8 = 1;
/// Written in place of a number of digits: values follow as they are.
const PLAIN: u8 = 0xff;
const POWERS: [f64; 7] = [1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6];
/// Whole numbers up to here are exact as doubles.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The readings of a summary.
fn readings(summary: &Summary) -> [&Reading; 4] {
    [&summary.first, &summary.min, &summary.max, &summary.last]
}

/// Bytes of the stretches of a row that begins at `row`, each with its number, ascending.
pub fn encode(stretches: &[(usize, Summary)], level: Level, row: Timestamp) -> Vec<u8> {
    let mut out = vec![VERSION];
    let mut units: Vec<Option<Arc<str>>> = Vec::new();
    let mut unit_of = |reading: &Reading| {
        let at = units.iter().position(|unit| *unit == reading.unit).unwrap_or_else(|| {
            units.push(reading.unit.clone());
            units.len() - 1
        });
        i64::try_from(at).unwrap_or(i64::MAX)
    };
    let of = |read: &dyn Fn(&Summary) -> i64| stretches.iter().map(|(_, s)| read(s)).collect::<Vec<i64>>();
    let unit_columns: Vec<Vec<i64>> =
        (0..4).map(|n| stretches.iter().map(|(_, s)| unit_of(readings(s)[n])).collect()).collect();
    put_units(&mut out, &units);
    put(&mut out, stretches.iter().fold(0, |bits, (n, _)| bits | 1 << n));
    ints(&mut out, &of(&|s| i64::try_from(s.count).unwrap_or(i64::MAX)));
    ints(&mut out, &of(&flags));
    unit_columns.iter().for_each(|column| ints(&mut out, column));
    for n in 0..4 {
        let start = |at: usize| row.0 + i64::try_from(at).unwrap_or(0) * level.us();
        let times: Vec<i64> = stretches.iter().map(|(at, s)| readings(s)[n].time.0 - start(*at)).collect();
        ints(&mut out, &times);
    }
    (0..4).for_each(|n| ints(&mut out, &of(&|s| readings(s)[n].step_us)));
    for n in 0..4 {
        floats(&mut out, &stretches.iter().map(|(_, s)| readings(s)[n].value).collect::<Vec<_>>());
    }
    floats(&mut out, &stretches.iter().map(|(_, s)| s.sum).collect::<Vec<_>>());
    floats(&mut out, &stretches.iter().filter_map(|(_, s)| s.area).collect::<Vec<_>>());
    out
}

/// The inverse of [`encode`]; `None` = these bytes are none of it.
pub fn decode(bytes: &[u8], level: Level, row: Timestamp) -> Option<Vec<(usize, Summary)>> {
    let mut rest = bytes.strip_prefix(&[VERSION])?;
    let from = &mut rest;
    let units = take_units(from)?;
    let bits = take(from)?;
    let numbers: Vec<usize> = (0..64).filter(|n| bits >> n & 1 == 1).collect();
    let len = numbers.len();
    let (counts, flags) = (take_ints(from, len)?, take_ints(from, len)?);
    let mut four = || (0..4).map(|_| take_ints(from, len)).collect::<Option<Vec<_>>>();
    let (unit_columns, times, steps) = (four()?, four()?, four()?);
    let values = (0..4).map(|_| take_floats(from, len)).collect::<Option<Vec<_>>>()?;
    let sums = take_floats(from, len)?;
    let mut areas = take_floats(from, flags.iter().filter(|flags| *flags & HAS_AREA != 0).count())?.into_iter();
    let one = |at: usize| {
        let start = row.0.checked_add(i64::try_from(numbers[at]).ok()?.checked_mul(level.us())?)?;
        let reading = |n: usize| {
            Some(Reading {
                time: Timestamp(start.checked_add(times[n][at])?),
                value: values[n][at],
                unit: units.get(usize::try_from(unit_columns[n][at]).ok()?)?.clone(),
                is_plausible: flags[at] >> n & 1 == 1,
                step_us: steps[n][at],
            })
        };
        let area = if flags[at] & HAS_AREA != 0 { Some(areas.next()?) } else { None };
        let summary = Summary {
            first: reading(0)?,
            min: reading(1)?,
            max: reading(2)?,
            last: reading(3)?,
            count: u64::try_from(counts[at]).ok()?,
            sum: sums[at],
            area,
            is_plausible: flags[at] & IS_PLAUSIBLE != 0,
        };
        Some((numbers[at], summary))
    };
    (0..len).map(one).collect()
}

/// Bits 0 to 3: whether the four readings are plausible.
fn flags(summary: &Summary) -> i64 {
    let four =
        readings(summary).into_iter().enumerate().map(|(n, reading)| i64::from(reading.is_plausible) << n).sum::<i64>();
    let all = if summary.is_plausible { IS_PLAUSIBLE } else { 0 };
    let area = if summary.area.is_some() { HAS_AREA } else { 0 };
    four | all | area
}

const IS_PLAUSIBLE: i64 = 1 << 4;
const HAS_AREA: i64 = 1 << 5;

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

fn take_signed(from: &mut &[u8]) -> Option<i64> {
    let coded = take(from)?;
    Some((coded >> 1).cast_signed() ^ -(coded & 1).cast_signed())
}

fn put_units(out: &mut Vec<u8>, units: &[Option<Arc<str>>]) {
    put(out, units.len() as u64);
    for unit in units {
        match unit {
            None => put(out, 0),
            Some(text) => {
                put(out, 1);
                put(out, text.len() as u64);
                out.extend_from_slice(text.as_bytes());
            }
        }
    }
}

fn take_units(from: &mut &[u8]) -> Option<Vec<Option<Arc<str>>>> {
    let count = take(from)?;
    let mut one = || {
        if take(from)? == 0 {
            return Some(None);
        }
        let length = usize::try_from(take(from)?).ok()?;
        let (text, rest) = from.split_at_checked(length)?;
        *from = rest;
        Some(Some(Arc::from(std::str::from_utf8(text).ok()?)))
    };
    (0..count).map(|_| one()).collect()
}

fn ints(out: &mut Vec<u8>, values: &[i64]) {
    let Some(least) = values.iter().min() else { return };
    let distance = |value: &i64| value.wrapping_sub(*least).cast_unsigned();
    let unit = values.iter().map(distance).fold(0, gcd);
    put_signed(out, *least);
    put(out, unit);
    if unit > 0 {
        values.iter().for_each(|value| put(out, distance(value) / unit));
    }
}

fn take_ints(from: &mut &[u8], len: usize) -> Option<Vec<i64>> {
    if len == 0 {
        return Some(Vec::new());
    }
    let (least, unit) = (take_signed(from)?, take(from)?);
    if unit == 0 {
        return Some(vec![least; len]);
    }
    (0..len).map(|_| Some(least.wrapping_add(take(from)?.wrapping_mul(unit).cast_signed()))).collect()
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn floats(out: &mut Vec<u8>, values: &[f64]) {
    if values.is_empty() {
        return;
    }
    for (digits, power) in (0..).zip(POWERS) {
        if let Some(whole) = values.iter().map(|value| decimal(*value, power)).collect::<Option<Vec<_>>>() {
            out.push(digits);
            ints(out, &whole);
            return;
        }
    }
    out.push(PLAIN);
    values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
}

/// The whole number that is `value` when divided by `power`, to the bit.
fn decimal(value: f64, power: f64) -> Option<i64> {
    let whole = (value * power).round();
    // (Not −0.)
    let is_same = whole.abs() <= EXACT && (whole as i64 as f64 / power).to_bits() == value.to_bits();
    is_same.then_some(whole as i64)
}

fn take_floats(from: &mut &[u8], len: usize) -> Option<Vec<f64>> {
    if len == 0 {
        return Some(Vec::new());
    }
    let (digits, rest) = from.split_first()?;
    *from = rest;
    if *digits == PLAIN {
        let (bytes, rest) = from.split_at_checked(len.checked_mul(8)?)?;
        *from = rest;
        return Some(bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect());
    }
    let power = POWERS.get(usize::from(*digits))?;
    Some(take_ints(from, len)?.into_iter().map(|whole| whole as f64 / power).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reading() -> impl Strategy<Value = Reading> {
        let value = prop_oneof![(-90_000_i64..90_000).prop_map(|n| n as f64 / 100.0), any::<f64>(), Just(-0.0)];
        let unit = prop_oneof![Just(None), "[a-zé%]{0,3}".prop_map(|text| Some(Arc::from(text.as_str())))];
        (0_i64..60_000_000, value, unit, any::<bool>(), 1_i64..60_000_000).prop_map(
            |(us, value, unit, is_plausible, step_us)| Reading {
                time: Timestamp(us),
                value: if value.is_finite() { value } else { 0.5 },
                unit,
                is_plausible,
                step_us,
            },
        )
    }

    fn summary() -> impl Strategy<Value = Summary> {
        let area = prop_oneof![Just(None), any::<f64>().prop_map(|a| Some(if a.is_finite() { a } else { 1.0 }))];
        ((reading(), reading(), reading(), reading()), any::<u32>(), -1e9..1e9, area, any::<bool>()).prop_map(
            |((first, min, max, last), count, sum, area, is_plausible)| Summary {
                first,
                min,
                max,
                last,
                count: count.into(),
                sum,
                area,
                is_plausible,
            },
        )
    }

    proptest! {
        #[test]
        fn every_row_comes_back(some in prop::collection::btree_map(0_usize..60, summary(), 0..60), hour in -9_i64..999) {
            let row = Timestamp(hour * Level::Minutes.row_us());
            let shift = |at: usize, s: &mut Summary| {
                for reading in [&mut s.first, &mut s.min, &mut s.max, &mut s.last] {
                    reading.time = reading.time.plus_us(row.0 + at as i64 * 60_000_000);
                }
            };
            let mut all: Vec<_> = some.into_iter().collect();
            all.iter_mut().for_each(|(at, summary)| shift(*at, summary));
            let back = decode(&encode(&all, Level::Minutes, row), Level::Minutes, row).unwrap();
            let bits = |all: &[(usize, Summary)]| -> Vec<Vec<u64>> {
                let area = |s: &Summary| s.area.map_or(1, f64::to_bits);
                let four = |s: &Summary| readings(s).map(|r| r.value.to_bits());
                all.iter().map(|(_, s)| [four(s).as_slice(), &[s.sum.to_bits(), area(s)]].concat()).collect()
            };
            prop_assert_eq!(&back, &all);
            prop_assert_eq!(bits(&back), bits(&all), "to the bit");
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(first) = bytes.first_mut() {
                *first = VERSION;
            }
            let _ = decode(&bytes, Level::Hours, Timestamp(0));
        }
    }

    #[test]
    fn an_hour_of_a_meter_takes_less_than_two_bytes_a_second() {
        let mut all = Vec::new();
        for minute in 0..60 {
            let reading = |second: i64| Reading {
                time: Timestamp((minute as i64 * 60 + second) * 1_000_000),
                value: 750.0 + ((second * 37 + minute as i64 * 11) % 90) as f64 / 10.0,
                unit: None,
                is_plausible: true,
                step_us: 1_000_000,
            };
            let mut summary = Summary::of(reading(0));
            (1..60).for_each(|second| summary.add(reading(second)));
            all.push((minute, summary));
        }
        let bytes = encode(&all, Level::Minutes, Timestamp(0)).len();
        assert!(bytes < 2000, "{bytes}");
    }
}

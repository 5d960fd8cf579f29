//! Hours of energy ⇄ bytes of a rollup's row. Pure; nothing is rounded.
//!
//! ```text
//! row of an hour: version 1 · ends · minutes that are there, u64 as bits · totals of each
//! row of a day:   version 1 · for each hour: its number, u8 · ends · totals
//! ends:   twice: µs from the hour's beginning, u32 · P, S, Q, f64 · cadence µs, u32 · doubts, u8
//! totals: flags, u8 · those that are not 0 of import, export, apparent, reactive, f64 · covered µs, u32, unless all of it is
//! ```
//! Little-endian. An hour of a vehicle under a DC line takes about 1200 bytes, a day's row at most 2700.

use crate::domain::Timestamp;
use crate::domain::energy::{Doubts, HOUR_US, Hour, MINUTE_US, MINUTES, Sample, Totals};

const VERSION: u8 = 1;
/// Flags of totals, after one bit for each of the four sums.
const ALL_COVERED: u8 = 1 << 4;
const IMPLAUSIBLE: u8 = 1 << 5;
const CLOCK_OFF: u8 = 1 << 6;

/// An hour with its minutes.
pub fn encode_hour(hour: &Hour) -> Vec<u8> {
    let mut out = vec![VERSION];
    put_ends(&mut out, hour);
    let is_there = |(_, totals): &(usize, &Totals)| !totals.is_empty();
    let there = || hour.minutes.iter().enumerate().filter(is_there);
    out.extend(there().fold(0_u64, |bits, (minute, _)| bits | 1 << minute).to_le_bytes());
    there().for_each(|(_, totals)| put_totals(&mut out, totals, MINUTE_US));
    out
}

/// The hour that begins at `start`; `None` when the bytes are none.
pub fn decode_hour(body: &[u8], start: Timestamp) -> Option<Hour> {
    let mut reader = Reader(body.strip_prefix(&[VERSION])?);
    let ends = reader.ends(start)?;
    let there = u64::from_le_bytes(reader.take()?);
    let mut minutes = vec![Totals::default(); MINUTES];
    for (minute, totals) in minutes.iter_mut().enumerate() {
        if there >> minute & 1 == 1 {
            *totals = reader.totals(MINUTE_US)?;
        }
    }
    (reader.0.is_empty() && there >> MINUTES == 0).then(|| Hour::of(start, minutes, ends))
}

/// The sums of a day's hours.
pub fn encode_day<'a>(hours: impl IntoIterator<Item = &'a Hour>) -> Vec<u8> {
    let mut out = vec![VERSION];
    for hour in hours {
        let number = hour.start.0.rem_euclid(24 * HOUR_US) / HOUR_US;
        out.push(u8::try_from(number).unwrap_or(u8::MAX));
        put_ends(&mut out, hour);
        put_totals(&mut out, &hour.sum, HOUR_US);
    }
    out
}

/// The hours of the day that begins at `start`, without their minutes; `None` when the bytes are none.
pub fn decode_day(body: &[u8], start: Timestamp) -> Option<Vec<Hour>> {
    let mut reader = Reader(body.strip_prefix(&[VERSION])?);
    let mut hours = Vec::new();
    while !reader.0.is_empty() {
        let [number] = reader.take()?;
        let start = start.plus_us(i64::from(number) * HOUR_US);
        let ends = reader.ends(start).filter(|_| number < 24)?;
        hours.push(Hour { start, sum: reader.totals(HOUR_US)?, minutes: Vec::new(), ends });
    }
    Some(hours)
}

/// A length of at most an hour.
fn put_us(out: &mut Vec<u8>, us: i64) {
    out.extend(u32::try_from(us).unwrap_or(u32::MAX).to_le_bytes());
}

fn put_ends(out: &mut Vec<u8>, hour: &Hour) {
    for sample in &hour.ends {
        put_us(out, sample.time.0.saturating_sub(hour.start.0));
        for value in [sample.active_w, sample.apparent_va, sample.reactive_var] {
            out.extend(value.to_le_bytes());
        }
        put_us(out, sample.known_cadence_us());
        out.push(bits_of(sample.doubts));
    }
}

fn bits_of(doubts: Doubts) -> u8 {
    let Doubts { is_implausible, is_clock_off } = doubts;
    (u8::from(is_implausible) * IMPLAUSIBLE) | (u8::from(is_clock_off) * CLOCK_OFF)
}

fn doubts_of(bits: u8) -> Doubts {
    Doubts { is_implausible: bits & IMPLAUSIBLE != 0, is_clock_off: bits & CLOCK_OFF != 0 }
}

fn put_totals(out: &mut Vec<u8>, totals: &Totals, length_us: i64) {
    let sums = [totals.import_ws, totals.export_ws, totals.apparent_vas, totals.reactive_vars];
    let mut flags = bits_of(totals.doubts);
    flags |= (0..4).filter(|n| sums[*n].to_bits() != 0).fold(0, |bits, n| bits | 1 << n);
    let is_all = totals.covered_us == length_us;
    out.push(flags | (u8::from(is_all) * ALL_COVERED));
    sums.iter().filter(|sum| sum.to_bits() != 0).for_each(|sum| out.extend(sum.to_le_bytes()));
    if !is_all {
        put_us(out, totals.covered_us);
    }
}

/// What is left to be read.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn us(&mut self) -> Option<i64> {
        self.take().map(|bytes| i64::from(u32::from_le_bytes(bytes)))
    }

    fn value(&mut self) -> Option<f64> {
        self.take().map(f64::from_le_bytes)
    }

    fn ends(&mut self, start: Timestamp) -> Option<[Sample; 2]> {
        Some([self.sample(start)?, self.sample(start)?])
    }

    fn sample(&mut self, start: Timestamp) -> Option<Sample> {
        Some(Sample {
            time: start.plus_us(self.us()?),
            active_w: self.value()?,
            apparent_va: self.value()?,
            reactive_var: self.value()?,
            cadence_us: Some(self.us()?),
            doubts: doubts_of(u8::from_le_bytes(self.take()?)),
        })
    }

    fn totals(&mut self, length_us: i64) -> Option<Totals> {
        let [flags] = self.take()?;
        let mut sums = [0.0; 4];
        for (n, sum) in sums.iter_mut().enumerate() {
            if flags >> n & 1 == 1 {
                *sum = self.value()?;
            }
        }
        let covered_us = if flags & ALL_COVERED != 0 { length_us } else { self.us()? };
        let [import_ws, export_ws, apparent_vas, reactive_vars] = sums;
        Some(Totals { import_ws, export_ws, apparent_vas, reactive_vars, covered_us, doubts: doubts_of(flags) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::energy::Hours;
    use proptest::prelude::*;

    const START: Timestamp = Timestamp(1_770_890_400_000_000);

    fn hour(steps: &[(i64, f64, bool)]) -> Option<Hour> {
        let (mut hours, mut made, mut time) = (Hours::default(), None, START.0);
        for (step, active_w, is_odd) in steps {
            let doubts = Doubts { is_implausible: *is_odd, is_clock_off: *is_odd && *active_w > 0.0 };
            let (apparent_va, reactive_var) = (active_w.abs() * 2.0, active_w.abs());
            let time_of = Timestamp(time);
            hours.push(
                Sample { time: time_of, active_w: *active_w, apparent_va, reactive_var, cadence_us: None, doubts },
                &mut |_| panic!("one hour only"),
            );
            time += step;
        }
        hours.finish(&mut |hour| made = Some(hour));
        made
    }

    proptest! {
        #[test]
        fn an_hour_is_read_back_to_the_bit(
            steps in prop::collection::vec((0_i64..30_000_000, -1e7_f64..1e7, prop::bool::weighted(0.05)), 1..119)
        ) {
            let hour = hour(&steps).expect("there is a sample");
            prop_assert_eq!(decode_hour(&encode_hour(&hour), START), Some(hour.clone()));
            let day = Timestamp(START.0 - 10 * HOUR_US);
            let kept = decode_day(&encode_day([&hour]), day).expect("it is a day");
            prop_assert_eq!(kept, vec![Hour { minutes: Vec::new(), ..hour }]);
        }

        #[test]
        fn any_bytes_are_an_hour_or_none(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let with_version = [&[VERSION], body.as_slice()].concat();
            for body in [body, with_version] {
                let _ = (decode_hour(&body, START), decode_day(&body, START));
            }
        }
    }

    #[test]
    fn an_hour_under_a_dc_line_takes_as_much_as_is_said() {
        let steps: Vec<_> = (0..360).map(|n| (10_000_000, 1e5 + f64::from(n), false)).collect();
        let hour = hour(&steps[..360]).expect("there is a sample");
        let flat = Hour { minutes: hour.minutes.iter().map(|m| Totals { reactive_vars: 0.0, ..*m }).collect(), ..hour };
        let length = encode_hour(&flat).len();
        assert!((1000..=1200).contains(&length), "{length}");
        assert!(decode_hour(&[2], START).is_none() && decode_day(&[], START).is_none());
    }
}

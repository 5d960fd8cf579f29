//! Sorted points → what of them is not stored yet → datagrams.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use sha2::{Digest, Sha256};

use crate::domain::metric::{MAX_MEASUREMENTS, MAX_METRICS_PER_DEVICE};
use crate::domain::{DeviceId, Metric, Sequence, Telemetry, Timestamp};
use crate::import::Error;
use crate::import::meters::{Meters, Rows};
use crate::import::report::{Kind, Ledger};
use crate::import::sort::Sorted;
use crate::store::{Store, TelemetryRow};

/// Points of a meter looked at together.
const PART: usize = 50_000;
/// A datagram spans less than this.
const SPAN_US: i64 = 10_000_000;
/// Times this near are the same.
const NEAR_US: i64 = 1000;

/// A point of one meter.
#[derive(Clone, PartialEq, Debug)]
struct Sample {
    at: Timestamp,
    metric: String,
    value: f64,
}

/// A point as a record that sorts by meter, time and type.
pub(super) fn pack(device: &DeviceId, at: Timestamp, metric: &str, value: f64) -> Vec<u8> {
    let mut record = device.as_str().as_bytes().to_vec();
    record.push(0);
    record.extend_from_slice(&(at.0.cast_unsigned() ^ 1 << 63).to_be_bytes());
    record.extend_from_slice(metric.as_bytes());
    record.extend_from_slice(&value.to_bits().to_be_bytes());
    record
}

fn unpack(record: &[u8]) -> Option<(DeviceId, Sample)> {
    let end = record.iter().position(|byte| *byte == 0)?;
    let device = DeviceId::parse(std::str::from_utf8(&record[..end]).ok()?)?;
    let (at, rest) = record[end + 1..].split_first_chunk::<8>()?;
    let (metric, value) = rest.split_last_chunk::<8>()?;
    let at = Timestamp((u64::from_be_bytes(*at) ^ 1 << 63).cast_signed());
    let metric = std::str::from_utf8(metric).ok()?.to_owned();
    Some((device, Sample { at, metric, value: f64::from_bits(u64::from_be_bytes(*value)) }))
}

/// Stores all points that are not stored.
pub(super) fn store(mut sorted: Sorted, meters: &mut Meters, ledger: &mut Ledger<'_>) -> Result<(), Error> {
    let mut part: Option<Part> = None;
    while let Some((record, more)) = sorted.next()? {
        let Some((device, sample)) = unpack(record) else { continue };
        ledger.tally(Kind::Points).duplicate += more;
        match &mut part {
            Some(part) if part.device == device => {
                if part.samples.len() >= PART {
                    part.store(meters, ledger)?;
                }
                part.samples.push(sample);
            }
            _ => {
                if let Some(mut of_another) = part.replace(Part::begin(device, sample, meters)?) {
                    of_another.store(meters, ledger)?;
                }
            }
        }
    }
    match part {
        Some(mut part) => part.store(meters, ledger),
        None => Ok(()),
    }
}

/// Points of one meter that are looked at together.
struct Part {
    device: DeviceId,
    /// The types the meter has.
    types: HashSet<String>,
    samples: Vec<Sample>,
}

impl Part {
    fn begin(device: DeviceId, first: Sample, meters: &Meters) -> Result<Self, Error> {
        let states = match &meters.store {
            Some(store) => store.device_states(std::slice::from_ref(&device))?,
            None => Vec::new(),
        };
        let types = states.into_iter().flat_map(|(_, state)| state.latest.into_keys());
        let types = types.map(|metric| metric.name().to_owned()).collect();
        Ok(Self { device, types, samples: vec![first] })
    }

    /// Stores what is not stored; none is left.
    fn store(&mut self, meters: &mut Meters, ledger: &mut Ledger<'_>) -> Result<(), Error> {
        let samples = std::mem::take(&mut self.samples);
        let is_stored = match &meters.store {
            Some(store) => stored(&**store, &self.device, &samples)?,
            None => vec![false; samples.len()],
        };
        let mut new = Vec::with_capacity(samples.len());
        for (sample, is_stored) in samples.into_iter().zip(is_stored) {
            if is_stored {
                ledger.tally(Kind::Points).duplicate += 1;
            } else if self.may_have(&sample.metric) {
                new.push(sample);
            } else {
                let Sample { at, metric, .. } = sample;
                let detail = format!("{metric} at {at}: the meter has {MAX_METRICS_PER_DEVICE} other types");
                ledger.refuse(Kind::Points, "too_many_types", self.device.as_str(), detail)?;
            }
        }
        ledger.tally(Kind::Points).stored += new.len() as u64;
        let telemetry = datagrams(&self.device, &new);
        meters.store(Rows { telemetry, ..Rows::default() }, ledger)?;
        Ok(())
    }

    /// Whether the meter has that type, or has room for it: then it has it from now on.
    fn may_have(&mut self, metric: &str) -> bool {
        let is_known = self.types.contains(metric);
        let has_room = self.types.len() < MAX_METRICS_PER_DEVICE;
        if !is_known && has_room {
            self.types.insert(metric.to_owned());
        }
        is_known || has_room
    }
}

/// Which of the samples (in order of time) are stored.
fn stored(store: &dyn Store, device: &DeviceId, samples: &[Sample]) -> Result<Vec<bool>, Error> {
    let mut is_stored = vec![false; samples.len()];
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return Ok(is_stored) };
    let span = store.device_states(std::slice::from_ref(device))?.first().map_or(0, |(_, state)| state.span_us);
    let mut wanted: HashMap<(&str, u64), Vec<usize>> = HashMap::new();
    for (index, sample) in samples.iter().enumerate() {
        wanted.entry((&sample.metric, sample.value.to_bits())).or_default().push(index);
    }
    let (from, to) = (first.at.plus_us(-span - NEAR_US), last.at.plus_us(span + NEAR_US));
    store.scan_telemetry(device, from, to, &mut |row| {
        for series in &row.values.series {
            for (offset_us, value) in row.values.offsets_us.iter().zip(&series.values) {
                let Some(indices) = wanted.get(&(series.metric.name(), value.to_bits())) else { continue };
                let at = row.ts.plus_us(*offset_us);
                let start = indices.partition_point(|&i| samples[i].at.0 <= at.0 - NEAR_US);
                let near = indices[start..].iter().take_while(|&&i| samples[i].at.0 < at.0 + NEAR_US);
                near.for_each(|&i| is_stored[i] = true);
            }
        }
        ControlFlow::Continue(())
    })?;
    Ok(is_stored)
}

/// Samples in order of time as datagrams of their first one's time.
fn datagrams(device: &DeviceId, samples: &[Sample]) -> Vec<TelemetryRow> {
    let mut rows = Vec::new();
    let mut rest = samples;
    while let Some(first) = rest.first() {
        let fits = |sample: &Sample| sample.at.0 - first.at.0 < SPAN_US;
        let len = rest.iter().take(MAX_MEASUREMENTS).take_while(|sample| fits(sample)).count();
        let (datagram, behind) = rest.split_at(len);
        rest = behind;
        let (mut values, mut digest) = (Telemetry::default(), Sha256::new());
        for sample in datagram {
            if let Some(metric) = Metric::parse(&sample.metric) {
                values.push(sample.at.0 - first.at.0, metric, None, sample.value);
                digest.update(pack(device, sample.at, &sample.metric, sample.value));
            }
        }
        let digest = digest.finalize();
        let seq = Sequence::Digest(digest.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes)));
        rows.push(TelemetryRow { device: device.clone(), ts: first.at, seq, received_at: first.at, values });
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id() -> DeviceId {
        DeviceId::parse("m-1").unwrap()
    }

    #[test]
    fn points_of_ten_seconds_become_one_datagram() {
        let sample = |us: i64, metric: &str| Sample { at: Timestamp(us), metric: metric.into(), value: 1.0 };
        let samples = [sample(5, "a"), sample(5, "b"), sample(9_000_000, "a"), sample(10_000_005, "a")];
        let rows = datagrams(&id(), &samples);
        assert_eq!(rows.iter().map(|row| (row.ts.0, row.values.len())).collect::<Vec<_>>(), [(5, 3), (10_000_005, 1)]);
        assert_eq!(rows[0].values.offsets_us, [0, 8_999_995]);
        let many: Vec<Sample> = (0..450).map(|us| sample(us, "a")).collect();
        let lens: Vec<usize> = datagrams(&id(), &many).iter().map(|row| row.values.len()).collect();
        assert_eq!(lens, [200, 200, 50]);
    }

    proptest! {
        #[test]
        fn records_read_back_and_sort_by_time(a: i64, b: i64, value: f64) {
            let (one, other) = (pack(&id(), Timestamp(a), "x", value), pack(&id(), Timestamp(b), "x", value));
            prop_assert_eq!(one.cmp(&other), a.cmp(&b));
            let (device, sample) = unpack(&one).unwrap();
            prop_assert_eq!((device, sample.at.0, sample.metric, sample.value.to_bits()), (id(), a, "x".to_owned(), value.to_bits()));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = unpack(&bytes);
        }
    }
}

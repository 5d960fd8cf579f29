//! Points of InfluxDB: line protocol or annotated CSV → samples, sorted by meter and time → datagrams of the store.
//!
//! A point has no identity of a message. It is the same as a stored reading when meter, type and value are the same and the
//! times are less than a millisecond apart (the old collector kept milliseconds): such points are duplicates, whether the
//! reading came from a message or from an earlier run. The others become datagrams of at most ten seconds, known by a
//! digest of what is in them.
//!
//! Invariant: memory holds one part of one meter's points.

mod annotated;
mod line;
mod samples;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use super::meters::Meters;
use super::report::{Kind, Ledger};
use super::sort::Sorter;
use super::{Error, Options, tables};
use crate::domain::{DeviceId, Metric, Timestamp};

/// Unit of the times in line protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub enum Precision {
    #[default]
    Ns,
    Us,
    Ms,
    S,
}

impl Precision {
    /// A time in microseconds; `None` = beyond what a time can be.
    pub(super) const fn micros(self, time: i64) -> Option<i64> {
        match self {
            Self::Ns => Some(time.div_euclid(1000)),
            Self::Us => Some(time),
            Self::Ms => time.checked_mul(1000),
            Self::S => time.checked_mul(1_000_000),
        }
    }
}

/// How points are read.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The tag (or column) with the meter's id.
    pub device_tag: String,
    /// Only these measurements; empty = all.
    pub measurements: Vec<String>,
    /// Fields that are no measurements of a meter.
    pub skipped_fields: Vec<String>,
    /// Of line protocol.
    pub precision: Precision,
}

impl Default for Reading {
    fn default() -> Self {
        let (measurements, skipped_fields, precision) = Default::default();
        Self { device_tag: "device_id".to_owned(), measurements, skipped_fields, precision }
    }
}

/// A field of a point, as written.
pub(super) struct Point<'a> {
    pub(super) measurement: &'a str,
    pub(super) tags: &'a [(String, String)],
    pub(super) field: &'a str,
    /// `None`: it is no number.
    pub(super) value: Option<f64>,
    /// `None`: there is none, or none that can be read.
    pub(super) at: Option<Timestamp>,
}

/// Takes all files over.
pub(super) fn run(options: &Options, meters: &mut Meters, ledger: &mut Ledger<'_>) -> Result<(), Error> {
    let mut intake = Intake { options, oldest: meters.oldest, sorter: Sorter::new(&options.scratch), ledger };
    for path in &options.points {
        let name = path.display().to_string();
        let input = match name.as_str() {
            "-" => tables::unpacked(std::io::stdin())
                .map_err(|source| Error::Read { path: "standard input".into(), source })?,
            _ => tables::open(path)?,
        };
        file(input, path, &mut intake)?;
    }
    let Intake { sorter, .. } = intake;
    samples::store(sorter.sorted()?, meters, ledger)
}

/// A file of either form: annotated CSV begins with its annotations or with its first, empty column.
fn file(input: Box<dyn Read>, path: &Path, intake: &mut Intake<'_, '_>) -> Result<(), Error> {
    let name = path.display().to_string();
    let mut input = BufReader::new(input);
    let start = input.fill_buf().map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    let is_csv = [&b"#datatype"[..], b"#group", b"#default", b",", b"\"\","].iter().any(|head| start.starts_with(head));
    match is_csv {
        true => annotated::read(input, &name, intake),
        false => line::read(input, &name, intake),
    }
}

/// Judges points and sorts those that are good.
struct Intake<'a, 'b> {
    options: &'a Options,
    oldest: Timestamp,
    sorter: Sorter,
    ledger: &'a mut Ledger<'b>,
}

impl Intake<'_, '_> {
    /// What cannot be read at all.
    fn refuse(&mut self, reason: &'static str, place: &str, detail: &str) -> Result<(), Error> {
        self.ledger.read(Kind::Points);
        self.ledger.refuse(Kind::Points, reason, place, detail)
    }

    /// One field of one point.
    fn take(&mut self, place: &str, point: &Point<'_>) -> Result<(), Error> {
        let reading = &self.options.reading;
        if !(reading.measurements.is_empty() || reading.measurements.iter().any(|m| m == point.measurement))
            || reading.skipped_fields.iter().any(|field| field == point.field)
        {
            return Ok(());
        }
        self.ledger.read(Kind::Points);
        let mut refuse = |reason, detail: String| self.ledger.refuse(Kind::Points, reason, place, detail);
        let tag = |name: &str| point.tags.iter().find(|(tag, _)| tag == name).map(|(_, value)| value.as_str());
        let Some(id) = tag(&reading.device_tag) else {
            return refuse("no_device", format!("there is no tag {}", reading.device_tag));
        };
        let Some(device) = DeviceId::parse(id) else {
            return refuse("bad_device_id", format!("{id:?} is not a device id"));
        };
        let named = match point.field {
            "value" | "val" => tag("metric").or_else(|| tag("type")).unwrap_or(point.measurement),
            field => field,
        };
        let Some(metric) = Metric::parse(named) else {
            return refuse("bad_metric", format!("{named:?} is not the name of a type"));
        };
        let Some(value) = point.value.filter(|value| value.is_finite()) else {
            return refuse("not_a_number", format!("{named} of {id} is not a finite number"));
        };
        let Some(at) = point.at else { return refuse("bad_time", format!("a point of {id} has no time")) };
        if at < self.oldest {
            return refuse("older_than_retention", format!("{named} of {id} at {at}: raise retention.telemetry_days"));
        }
        if at > self.options.now.plus(self.options.window.future) {
            return refuse("in_the_future", format!("{named} of {id} at {at}"));
        }
        if self.options.before.is_some_and(|before| at >= before) {
            self.ledger.tally(Kind::Points).later += 1;
            return Ok(());
        }
        self.sorter.push(&samples::pack(&device, at, metric.name(), value))
    }
}

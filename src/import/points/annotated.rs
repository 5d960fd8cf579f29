//! Annotated CSV, as `influx query --raw` and Flux write it: tables one behind the other, each with a line of names, a point a
//! line in the columns `_time`, `_value`, `_field`, `_measurement` and those of its tags.
//!
//! Invariant: a record at a time; columns are known by name. A table without one that is needed is refused by name.

use std::io::Read;

use super::{Intake, Point};
use crate::import::Error;
use crate::import::row;
use crate::import::tables::Records;

/// Columns that are no tags.
const OWN: [&str; 9] = ["", "result", "table", "_start", "_stop", "_time", "_value", "_field", "_measurement"];

/// Where the columns of a table are.
struct Columns {
    names: Vec<String>,
    time: usize,
    value: usize,
    field: usize,
    measurement: Option<usize>,
}

pub(super) fn read(input: impl Read, name: &str, intake: &mut Intake<'_, '_>) -> Result<(), Error> {
    let mut records = Records::new(input, name);
    let mut columns: Option<Columns> = None;
    let mut defaults: Vec<String> = Vec::new();
    while let Some(record) = records.next()? {
        let record: Vec<String> = record.into_iter().map(|(text, _)| text).collect();
        let first = record[0].as_str();
        if record.len() == 1 && first.is_empty() {
            columns = None;
        } else if first.starts_with('#') {
            columns = None;
            if first == "#default" {
                defaults = record;
            }
        } else if columns.is_none() {
            columns = Some(Columns::of(record).map_err(|wanted| {
                records.malformed(&format!("the table has no column {wanted}: is this an answer of Flux, not pivoted?"))
            })?);
        } else if let Some(columns) = &columns {
            if record.len() != columns.names.len() {
                intake.refuse("malformed", &records.place(), "more or fewer fields than columns")?;
                continue;
            }
            take(&records.place(), columns, &defaults, record, intake)?;
        }
    }
    Ok(())
}

impl Columns {
    fn of(names: Vec<String>) -> Result<Self, &'static str> {
        let find = |name: &'static str| names.iter().position(|n| n == name).ok_or(name);
        let (time, value, field) = (find("_time")?, find("_value")?, find("_field")?);
        Ok(Self { time, value, field, measurement: find("_measurement").ok(), names })
    }
}

fn take(
    place: &str,
    columns: &Columns,
    defaults: &[String],
    record: Vec<String>,
    intake: &mut Intake<'_, '_>,
) -> Result<(), Error> {
    let cell = |at: usize| match record[at].as_str() {
        "" => defaults.get(at).map_or("", String::as_str),
        text => text,
    };
    let is_tag = |name: &str| !OWN.contains(&name);
    let tags: Vec<(String, String)> = (columns.names.iter().enumerate())
        .filter(|(at, name)| is_tag(name) && !cell(*at).is_empty())
        .map(|(at, name)| (name.clone(), cell(at).to_owned()))
        .collect();
    let point = Point {
        measurement: columns.measurement.map_or("", cell),
        tags: &tags,
        field: cell(columns.field),
        value: cell(columns.value).parse().ok(),
        at: row::time(cell(columns.time)),
    };
    intake.take(place, &point)
}

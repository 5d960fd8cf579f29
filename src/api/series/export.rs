//! Stored rows as points in a file, written as the API writes them; by message, and within one by sample.

use parquet::errors::ParquetError;

use super::MAX_WANTED;
use super::format::{Format, Writer};
use super::table::Table;
use crate::domain::DeviceId;
use crate::series::quantity::{self, Found};
use crate::series::{Point, Quantity, Wanted};
use crate::store::TelemetryRow;

enum Form {
    Text(Writer),
    Table(Box<Table>),
}

/// Writes the points of one device's rows.
pub struct Exporter {
    form: Form,
    wanted: Wanted,
}

/// Why there is none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ExportFault {
    #[error("the format {0:?} is none of json, csv, ndjson, parquet")]
    Format(String),
    #[error("{0:?} is no name of a measured or derived type: 1 to 64 of A-Z a-z 0-9 _ . -")]
    Metric(String),
    #[error("at most {MAX_WANTED} types can be asked for at once")]
    TooMany,
}

impl Exporter {
    /// A writer in one of the API's formats; no `metrics` = all that was measured. The beginning goes to `out`.
    pub fn new(format: &str, device: &DeviceId, metrics: &[String], out: &mut Vec<u8>) -> Result<Self, ExportFault> {
        let unknown = || ExportFault::Format(format.to_owned());
        let format = Format::from_name(format).ok_or_else(unknown)?;
        let quantity = |name: &String| Quantity::parse(name).ok_or_else(|| ExportFault::Metric(name.clone()));
        let wanted = metrics.iter().map(quantity).collect::<Result<Vec<_>, _>>()?;
        if wanted.len() > MAX_WANTED {
            return Err(ExportFault::TooMany);
        }
        let form = match format {
            Format::Parquet => Form::Table(Box::new(Table::new(device.as_str()).map_err(|_| unknown())?)),
            text => {
                let writer = Writer::new(text, device.as_str());
                let mut begin = String::new();
                writer.begin(&mut begin);
                out.extend_from_slice(begin.as_bytes());
                Form::Text(writer)
            }
        };
        let wanted = if wanted.is_empty() { Wanted::Measured } else { Wanted::These(wanted) };
        Ok(Self { form, wanted })
    }

    /// One row; what is ready goes to `out`. Gives how many points it had.
    pub fn row(&mut self, row: &TelemetryRow, out: &mut Vec<u8>) -> Result<u64, ParquetError> {
        let mut points = Vec::new();
        quantity::find(&row.values, &self.wanted, &mut |slot, ordinal, found| {
            let time = row.ts.plus_us(row.values.offsets_us[slot]);
            let Found { quantity, value, unit, is_plausible } = found;
            points.push((slot, ordinal, Point { time, quantity, value, unit, is_plausible }));
        });
        points.sort_unstable_by_key(|(slot, ordinal, _)| (*slot, *ordinal));
        let count = points.len() as u64;
        let mut text = String::new();
        for (_, _, point) in points {
            match &mut self.form {
                Form::Text(writer) => writer.point(&point, &mut text),
                Form::Table(table) => table.point(point, out)?,
            }
        }
        out.extend_from_slice(text.as_bytes());
        Ok(count)
    }

    /// The end of the file.
    pub fn finish(self, out: &mut Vec<u8>) -> Result<(), ParquetError> {
        match self.form {
            Form::Text(writer) => {
                let mut end = String::new();
                writer.end(&mut end);
                out.extend_from_slice(end.as_bytes());
                Ok(())
            }
            Form::Table(table) => table.end(out),
        }
    }
}

//! Intervals as JSON array, JSON lines or CSV.

use std::fmt::Write as _;

use serde::Serialize;
use utoipa::ToSchema;

use crate::api::series::format::{Format, cell, number};
use crate::api::show::Time;
use crate::domain::energy::{Doubts, Interval};
use crate::observe::metrics;

/// A row of an answer.
pub trait Row: Serialize {
    /// Its cells, in the order of the columns, each followed by a comma but the last.
    fn csv(&self, out: &mut String);
}

/// Writes rows.
#[derive(Debug)]
pub struct Writer {
    format: Format,
    is_first: bool,
}

impl Writer {
    /// Writes what stands before the first row.
    pub fn begin(format: Format, columns: &str, out: &mut String) -> Self {
        match format {
            Format::Json => out.push('['),
            Format::Csv => {
                out.push_str(columns);
                out.push_str("\r\n");
            }
            Format::Ndjson | Format::Parquet => {}
        }
        Self { format, is_first: true }
    }

    /// One row.
    pub fn row(&mut self, row: &impl Row, out: &mut String) {
        if self.format == Format::Csv {
            row.csv(out);
            out.push_str("\r\n");
            return;
        }
        if self.format == Format::Json && !self.is_first {
            out.push(',');
        }
        self.is_first = false;
        // Plain values always have a JSON form.
        out.push_str(&serde_json::to_string(row).unwrap_or_default());
        if self.format == Format::Ndjson {
            out.push('\n');
        }
    }

    /// What stands behind the last row.
    pub fn end(&self, out: &mut String) {
        if self.format == Format::Json {
            out.push(']');
        }
    }
}

/// An interval's energy.
#[derive(Serialize, ToSchema)]
pub struct IntervalBody {
    /// Included.
    #[schema(value_type = String, format = DateTime)]
    start: Time,
    /// Not included.
    #[schema(value_type = String, format = DateTime)]
    end: Time,
    /// Drawn.
    import_wh: f64,
    /// Fed back; never taken off what was drawn.
    export_wh: f64,
    apparent_vah: f64,
    /// Magnitude.
    reactive_varh: f64,
    /// The part of the interval that measurements cover, 0 to 1.
    coverage: f64,
    /// `valid`, `uncertain` or `missing`.
    quality: &'static str,
    /// Why a covered interval is uncertain: `incomplete` (less than 99 % covered), `out_of_range` (a value outside its
    /// plausible range), `clock_off` (the meter's clock is more than 2 s ahead). Absent when there is nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    doubts: Vec<&'static str>,
}

impl IntervalBody {
    /// Names of the columns.
    pub const COLUMNS: &'static str =
        "start,end,import_wh,export_wh,apparent_vah,reactive_varh,coverage,quality,doubts";

    /// The interval of `devices` devices together. Counts it.
    pub fn of(interval: &Interval, devices: i64) -> Self {
        let Interval { start, end, totals } = interval;
        let length_us = end.0.saturating_sub(start.0).saturating_mul(devices);
        let Doubts { is_implausible, is_clock_off } = totals.doubts;
        let quality = totals.quality(length_us).name();
        metrics::ENERGY_INTERVALS.increment(&[("quality", quality)], 1);
        let is_incomplete = totals.covered_us > 0 && !totals.is_whole(length_us);
        let doubts = [(is_incomplete, "incomplete"), (is_implausible, "out_of_range"), (is_clock_off, "clock_off")];
        Self {
            start: Time(*start),
            end: Time(*end),
            import_wh: totals.import_wh(),
            export_wh: totals.export_wh(),
            apparent_vah: totals.apparent_vah(),
            reactive_varh: totals.reactive_varh(),
            coverage: totals.coverage(length_us),
            quality,
            doubts: doubts.into_iter().filter(|(holds, _)| *holds).map(|(_, word)| word).collect(),
        }
    }
}

impl Row for IntervalBody {
    fn csv(&self, out: &mut String) {
        // Writing to a string cannot fail.
        let _ = write!(out, "{},{},", self.start.0, self.end.0);
        let numbers = [self.import_wh, self.export_wh, self.apparent_vah, self.reactive_varh, self.coverage];
        for value in numbers {
            number(value, out);
            out.push(',');
        }
        out.push_str(self.quality);
        out.push(',');
        cell(&self.doubts.join(" "), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;
    use crate::domain::energy::Totals;

    fn check(format: Format, expected: &str) {
        let interval = |minute: i64, covered_s: i64, is_implausible: bool| {
            let start = Timestamp(1_770_890_400_000_000 + minute * 60_000_000);
            let doubts = Doubts { is_implausible, is_clock_off: false };
            let totals = Totals { import_ws: 3600.0, covered_us: covered_s * 1_000_000, doubts, ..Totals::default() };
            Interval { start, end: start.plus_us(60_000_000), totals }
        };
        let mut out = String::new();
        let mut writer = Writer::begin(format, IntervalBody::COLUMNS, &mut out);
        for interval in [interval(0, 60, false), interval(1, 30, true)] {
            writer.row(&IntervalBody::of(&interval, 1), &mut out);
        }
        writer.end(&mut out);
        assert_eq!(out, expected);
    }

    const ONE: &str = "{\"start\":\"2026-02-12T10:00:00Z\",\"end\":\"2026-02-12T10:01:00Z\",\"import_wh\":1.0,\
        \"export_wh\":0.0,\"apparent_vah\":0.0,\"reactive_varh\":0.0,\"coverage\":1.0,\"quality\":\"valid\"}";
    const TWO: &str = "{\"start\":\"2026-02-12T10:01:00Z\",\"end\":\"2026-02-12T10:02:00Z\",\"import_wh\":1.0,\
        \"export_wh\":0.0,\"apparent_vah\":0.0,\"reactive_varh\":0.0,\"coverage\":0.5,\"quality\":\"uncertain\",\
        \"doubts\":[\"incomplete\",\"out_of_range\"]}";

    #[test]
    fn intervals_are_an_array_lines_or_a_table() {
        check(Format::Json, &format!("[{ONE},{TWO}]"));
        check(Format::Ndjson, &format!("{ONE}\n{TWO}\n"));
        check(
            Format::Csv,
            "start,end,import_wh,export_wh,apparent_vah,reactive_varh,coverage,quality,doubts\r\n\
             2026-02-12T10:00:00Z,2026-02-12T10:01:00Z,1.0,0.0,0.0,0.0,1.0,valid,\r\n\
             2026-02-12T10:01:00Z,2026-02-12T10:02:00Z,1.0,0.0,0.0,0.0,0.5,uncertain,incomplete out_of_range\r\n",
        );
    }
}

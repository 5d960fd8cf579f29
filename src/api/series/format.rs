//! Points as JSON array, JSON lines or CSV, appended to a buffer; Parquet is written by `table`.
//!
//! Pure. A point's optional members are left out when there is nothing to say.

use std::fmt::Write;

use crate::domain::TimeText;
use crate::series::{Point, Quantity};

/// How points are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Format {
    Json,
    Csv,
    Ndjson,
    Parquet,
}

impl Format {
    /// Reads the API's word.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "json" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            "ndjson" => Some(Self::Ndjson),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }

    /// The content type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Ndjson => "application/x-ndjson",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }
}

/// Writes points of one device. What stays the same from point to point is made once.
#[derive(Debug)]
pub struct Writer {
    format: Format,
    device: String,
    written: u64,
    time: TimeText,
    /// The last quantity, and what stands between time and value.
    middle: Option<(Quantity, String)>,
    /// The last unit, and what stands behind the value.
    tail: (String, String),
}

impl Writer {
    /// Nothing written yet.
    pub fn new(format: Format, device: &str) -> Self {
        let (device, time) = (device.to_owned(), TimeText::new());
        Self { format, device, written: 0, time, middle: None, tail: (String::new(), String::new()) }
    }

    /// Before the first point.
    pub fn begin(&self, out: &mut String) {
        out.push_str(match self.format {
            Format::Json => "[",
            Format::Csv => "time,device_id,metric,value,unit,quality\r\n",
            Format::Ndjson | Format::Parquet => "",
        });
    }

    /// After the last point.
    pub fn end(&self, out: &mut String) {
        if self.format == Format::Json {
            out.push(']');
        }
    }

    /// One point.
    pub fn point(&mut self, point: &Point, out: &mut String) {
        self.prepare(point);
        let is_first = self.written == 0;
        self.written += 1;
        match self.format {
            Format::Csv => self.csv(point, out),
            Format::Ndjson => {
                self.object(point, out);
                out.push('\n');
            }
            Format::Parquet => {}
            Format::Json => {
                if !is_first {
                    out.push(',');
                }
                self.object(point, out);
            }
        }
    }

    /// Makes anew what is not as it was. Device ids and metric names need no escaping by their rules; units may.
    fn prepare(&mut self, point: &Point) {
        if self.middle.as_ref().is_none_or(|(quantity, _)| *quantity != point.quantity) {
            let (device, metric) = (&self.device, point.quantity.name());
            let text = match self.format {
                Format::Csv => format!(",{device},{metric},"),
                _ => format!("\",\"device_id\":\"{device}\",\"metric\":\"{metric}\",\"value\":"),
            };
            self.middle = Some((point.quantity.clone(), text));
        }
        let unit = point.unit().unwrap_or_default();
        if self.tail.0 != unit {
            let (of, text) = &mut self.tail;
            of.clear();
            of.push_str(unit);
            text.clear();
            match self.format {
                Format::Csv => cell(unit, text),
                _ if unit.is_empty() => {}
                _ => {
                    // Writing to a string cannot fail.
                    let _ = write!(text, ",\"unit\":{}", serde_json::Value::from(unit));
                }
            }
        }
    }

    fn middle(&self) -> &str {
        self.middle.as_ref().map_or("", |(_, text)| text)
    }

    fn object(&mut self, point: &Point, out: &mut String) {
        out.push_str("{\"time\":\"");
        out.push_str(self.time.of(point.time));
        out.push_str(self.middle());
        number(point.value, out);
        out.push_str(&self.tail.1);
        if let Some(quality) = point.quality() {
            let _ = write!(out, ",\"quality\":\"{quality}\"");
        }
        out.push('}');
    }

    fn csv(&mut self, point: &Point, out: &mut String) {
        out.push_str(self.time.of(point.time));
        out.push_str(self.middle());
        number(point.value, out);
        out.push(',');
        out.push_str(&self.tail.1);
        out.push(',');
        out.push_str(point.quality().unwrap_or_default());
        out.push_str("\r\n");
    }
}

/// As JSON writes it: the shortest text that reads back the same.
pub fn number(value: f64, out: &mut String) {
    match value.is_finite() {
        // What serde_json itself writes numbers with.
        true => out.push_str(zmij::Buffer::new().format_finite(value)),
        false => out.push_str("null"),
    }
}

/// A CSV cell (RFC 4180), quoted where needed.
pub fn cell(text: &str, out: &mut String) {
    if text.contains(['"', ',', '\n', '\r']) {
        out.push('"');
        out.push_str(&text.replace('"', "\"\""));
        out.push('"');
    } else {
        out.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    fn check(format: Format, expected: &str) {
        let point = |metric: &str, value: f64, unit: Option<&str>, is_plausible: bool| Point {
            time: Timestamp(1_770_890_400_000_000),
            quantity: Quantity::parse(metric).unwrap(),
            value,
            unit: unit.map(Into::into),
            is_plausible,
        };
        let points = [
            point("voltage_dc", 750.5, None, true),
            point("pf", 3.0, None, false),
            point("x", 1.0, Some("a,\"b"), true),
        ];
        let mut writer = Writer::new(format, "m-1");
        let mut out = String::new();
        writer.begin(&mut out);
        points.iter().for_each(|p| writer.point(p, &mut out));
        writer.end(&mut out);
        assert_eq!(out, expected);
    }

    #[test]
    fn json_is_an_array_of_points() {
        check(
            Format::Json,
            "[{\"time\":\"2026-02-12T10:00:00Z\",\"device_id\":\"m-1\",\"metric\":\"voltage_dc\",\"value\":750.5,\
             \"unit\":\"V\"},\
             {\"time\":\"2026-02-12T10:00:00Z\",\"device_id\":\"m-1\",\"metric\":\"pf\",\"value\":3.0,\
             \"quality\":\"out_of_range\"},\
             {\"time\":\"2026-02-12T10:00:00Z\",\"device_id\":\"m-1\",\"metric\":\"x\",\"value\":1.0,\
             \"unit\":\"a,\\\"b\"}]",
        );
    }

    #[test]
    fn csv_has_a_header_and_quotes_what_needs_it() {
        check(
            Format::Csv,
            "time,device_id,metric,value,unit,quality\r\n\
             2026-02-12T10:00:00Z,m-1,voltage_dc,750.5,V,\r\n\
             2026-02-12T10:00:00Z,m-1,pf,3.0,,out_of_range\r\n\
             2026-02-12T10:00:00Z,m-1,x,1.0,\"a,\"\"b\",\r\n",
        );
    }
}

//! A datagram's values ⇄ the JSON texts of its row. Pure.
//!
//! JSON, so that the `sqlite3` shell and dashboards can unnest a row with `json_each`; and a measured value («751.5») is
//! mostly shorter than the eight bytes of a double. Numbers are the shortest that read back to the same bits.
//!
//! Invariant: `null` stands for «no value in this slot»; every array of a row has as many elements as `offsets_us`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::fault::Fault;
use crate::domain::metric::{Known, Series};
use crate::domain::{Metric, Telemetry};

/// Number of types with a column.
pub(super) const COLUMNS: usize = Known::ALL.len();

/// The texts of one row; used again for the next, so that a batch allocates once.
#[derive(Default)]
pub(super) struct Encoded {
    bytes: Vec<u8>,
    offsets: Range<usize>,
    columns: [Option<Range<usize>>; COLUMNS],
    other: Option<Range<usize>>,
}

/// What `other` holds of a type.
#[derive(Serialize, Deserialize)]
struct Other<'a> {
    #[serde(borrow)]
    unit: Option<Cow<'a, str>>,
    #[serde(borrow)]
    values: &'a RawValue,
}

/// A series that belongs in its type's column: registered, and in the registered unit.
fn column(series: &Series) -> Option<usize> {
    match (&series.metric, &series.unit) {
        (Metric::Known(known), None) => Some(*known as usize),
        _ => None,
    }
}

impl Encoded {
    /// Takes in a datagram in place of the one before.
    pub(super) fn encode(&mut self, telemetry: &Telemetry) {
        self.bytes.clear();
        self.columns = Default::default();
        self.offsets = array(&mut self.bytes, &telemetry.offsets_us);
        let mut has_other = false;
        for series in &telemetry.series {
            match column(series) {
                Some(index) => self.columns[index] = Some(array(&mut self.bytes, &series.values)),
                None => has_other = true,
            }
        }
        self.other = has_other.then(|| others(&mut self.bytes, telemetry));
    }

    pub(super) fn offsets(&self) -> &str {
        self.text(&self.offsets)
    }

    pub(super) fn column(&self, known: Known) -> Option<&str> {
        self.columns[known as usize].as_ref().map(|range| self.text(range))
    }

    pub(super) fn other(&self) -> Option<&str> {
        self.other.as_ref().map(|range| self.text(range))
    }

    fn text(&self, range: &Range<usize>) -> &str {
        std::str::from_utf8(&self.bytes[range.clone()]).expect("JSON was written there")
    }
}

/// Appends `[a,b,…]`; a NaN becomes `null`.
fn array<T: Serialize>(bytes: &mut Vec<u8>, values: &[T]) -> Range<usize> {
    append(bytes, values)
}

fn others(bytes: &mut Vec<u8>, telemetry: &Telemetry) -> Range<usize> {
    let mut members: BTreeMap<&str, serde_json::Value> = BTreeMap::new();
    for series in telemetry.series.iter().filter(|series| column(series).is_none()) {
        members.insert(series.metric.name(), serde_json::json!({ "unit": &series.unit, "values": &series.values }));
    }
    append(bytes, &members)
}

fn append<T: Serialize + ?Sized>(bytes: &mut Vec<u8>, value: &T) -> Range<usize> {
    let start = bytes.len();
    serde_json::to_writer(&mut *bytes, value).expect("numbers and texts under text keys always fit JSON");
    start..bytes.len()
}

/// The inverse of [`Encoded::encode`]; series come in column order, then those without a column by name.
pub(super) fn decode(
    offsets: &str,
    columns: &[Option<String>; COLUMNS],
    other: Option<&str>,
) -> Result<Telemetry, Fault> {
    let mut telemetry = Telemetry { offsets_us: elements(offsets, |text| text.parse().ok())?, ..Telemetry::default() };
    let slots = telemetry.offsets_us.len();
    for (known, text) in Known::ALL.into_iter().zip(columns) {
        if let Some(text) = text {
            let values = numbers(text, slots)?;
            telemetry.series.push(Series { metric: Metric::Known(known), unit: None, values });
        }
    }
    if let Some(text) = other {
        let members: BTreeMap<Cow<'_, str>, Other<'_>> = serde_json::from_str(text).map_err(|_| CORRUPT)?;
        for (name, member) in members {
            let metric = Metric::parse(&name).ok_or(CORRUPT)?;
            let values = numbers(member.values.get(), slots)?;
            telemetry.series.push(Series { metric, unit: member.unit.map(|unit| Arc::from(&*unit)), values });
        }
    }
    Ok(telemetry)
}

const CORRUPT: Fault = Fault::Corrupt("telemetry");

fn numbers(text: &str, slots: usize) -> Result<Vec<f64>, Fault> {
    let values = elements(text, |text| match text {
        "null" => Some(f64::NAN),
        _ => text.parse().ok().filter(|value: &f64| value.is_finite()),
    })?;
    if values.len() == slots { Ok(values) } else { Err(CORRUPT) }
}

/// The elements of a flat JSON array. By hand: the library's numbers may be off by the last bit.
fn elements<T>(text: &str, read: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, Fault> {
    let inner = text.trim().strip_prefix('[').and_then(|text| text.strip_suffix(']')).ok_or(CORRUPT)?.trim();
    if inner.is_empty() {
        return Ok(Vec::new());
    }
    inner.split(',').map(|element| read(element.trim()).ok_or(CORRUPT)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn through_text(telemetry: &Telemetry) -> Telemetry {
        let mut encoded = Encoded::default();
        encoded.encode(telemetry);
        let columns = Known::ALL.map(|known| encoded.column(known).map(str::to_owned));
        decode(encoded.offsets(), &columns, encoded.other()).unwrap()
    }

    /// NaN ≠ NaN, so bits are compared.
    fn bits(telemetry: &Telemetry) -> Vec<(String, Option<String>, Vec<Option<u64>>)> {
        let slot = |value: &f64| (!value.is_nan()).then(|| value.to_bits());
        let mut all: Vec<_> = telemetry
            .series
            .iter()
            .map(|s| (s.metric.name().into(), s.unit.as_deref().map(Into::into), s.values.iter().map(slot).collect()))
            .collect();
        all.sort();
        all
    }

    proptest! {
        #[test]
        fn every_value_reads_back_to_the_same_bits(
            pushes in prop::collection::vec((-5i64..5, 0usize..6, any::<f64>()), 0..40),
        ) {
            let types = [("voltage_dc", None), ("current_dc", Some("mA")), ("pf", Some("")), ("x", None),
                ("y.z-1", Some("\"\\é")), ("battery", Some("V"))];
            let mut telemetry = Telemetry::default();
            for (offset, index, value) in pushes {
                if value.is_finite() {
                    telemetry.push(offset * 1_000_000, Metric::parse(types[index].0).unwrap(), types[index].1, value);
                }
            }
            let back = through_text(&telemetry);
            prop_assert_eq!(&back.offsets_us, &telemetry.offsets_us);
            prop_assert_eq!(bits(&back), bits(&telemetry));
        }

        #[test]
        fn no_stored_text_makes_it_panic(offsets in ".{0,20}", column in ".{0,20}", other in ".{0,40}") {
            let mut columns: [Option<String>; COLUMNS] = Default::default();
            columns[3] = Some(column);
            let _ = decode(&offsets, &columns, Some(&other));
        }
    }

    #[test]
    fn arrays_are_plain_json() {
        let mut telemetry = Telemetry::default();
        telemetry.push(-1_000_000, Metric::Known(Known::VoltageDc), Some("V"), 751.5);
        telemetry.push(0, Metric::Known(Known::CurrentDc), Some("mA"), -3.0);
        let mut encoded = Encoded::default();
        encoded.encode(&telemetry);
        assert_eq!(encoded.offsets(), "[-1000000,0]");
        assert_eq!(encoded.column(Known::VoltageDc), Some("[751.5,null]"));
        assert_eq!(encoded.column(Known::CurrentDc), None, "another unit than the column's");
        assert_eq!(encoded.other(), Some(r#"{"current_dc":{"unit":"mA","values":[null,-3.0]}}"#));
    }
}

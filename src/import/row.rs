//! A row of an old table: values by column name, read as what is wanted of them. Pure.
//!
//! Invariant: a column is found by any of its known names, whatever its case; what is empty or null is not there.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::domain::{DeviceId, Timestamp};

/// A row of a table.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Row {
    values: BTreeMap<String, Value>,
    /// Names that were asked for.
    asked: BTreeSet<&'static str>,
}

/// What is wrong with a row, or a name: the reason it is refused for, and the words.
pub(super) type Wrong = (&'static str, String);

impl Row {
    /// From columns and values; a text that stands for a null must be a null already.
    pub(super) fn new(columns: &[String], values: impl IntoIterator<Item = Value>) -> Self {
        let named = columns.iter().map(|name| name.trim().to_lowercase()).zip(values);
        Self { values: named.collect(), asked: BTreeSet::new() }
    }

    /// The value of the first of these columns that has one.
    pub(super) fn value(&mut self, names: &'static [&'static str]) -> Option<&Value> {
        self.asked.extend(names);
        let is_there = |value: &&Value| !value.is_null() && value.as_str() != Some("");
        names.iter().filter_map(|name| self.values.get(*name)).find(is_there)
    }

    /// These columns are known, and not wanted.
    pub(super) fn pass_over(&mut self, names: &'static [&'static str]) {
        self.asked.extend(names);
    }

    /// As text.
    pub(super) fn text(&mut self, names: &'static [&'static str]) -> Option<String> {
        self.value(names).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }

    /// The device.
    pub(super) fn device(&mut self) -> Result<DeviceId, Wrong> {
        let text = self.text(&["device_id"]).ok_or(("missing_value", "device_id has no value".to_owned()))?;
        DeviceId::parse(&text).ok_or_else(|| ("bad_device_id", format!("{text:?} is not a device id")))
    }

    /// As a time; without a zone it is UTC.
    pub(super) fn time(&mut self, names: &'static [&'static str]) -> Result<Option<Timestamp>, Wrong> {
        let Some(text) = self.text(names) else { return Ok(None) };
        time(&text).map(Some).ok_or_else(|| ("bad_time", format!("{}: {text:?} is not a time", names[0])))
    }

    /// As yes or no.
    pub(super) fn flag(&mut self, names: &'static [&'static str]) -> Result<Option<bool>, Wrong> {
        let Some(text) = self.text(names) else { return Ok(None) };
        match text.to_ascii_lowercase().as_str() {
            "t" | "true" | "1" | "yes" => Ok(Some(true)),
            "f" | "false" | "0" | "no" => Ok(Some(false)),
            _ => Err(("bad_value", format!("{}: {text:?} is neither true nor false", names[0]))),
        }
    }

    /// As JSON; a text holds it.
    pub(super) fn json(&mut self, names: &'static [&'static str]) -> Result<Option<Value>, Wrong> {
        match self.value(names) {
            None => Ok(None),
            Some(Value::String(text)) => {
                let parsed = serde_json::from_str(text);
                parsed.map(Some).map_err(|error| ("bad_json", format!("{}: {error}", names[0])))
            }
            Some(value) => Ok(Some(value.clone())),
        }
    }

    /// As a JSON object; an empty one where there is none.
    pub(super) fn object(&mut self, names: &'static [&'static str]) -> Result<Map<String, Value>, Wrong> {
        match self.json(names)? {
            None | Some(Value::Null) => Ok(Map::new()),
            Some(Value::Object(object)) => Ok(object),
            Some(_) => Err(("bad_json", format!("{} is not a JSON object", names[0]))),
        }
    }

    /// Its columns.
    pub(super) fn columns(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// Columns that nobody asked for.
    pub(super) fn ignored(&self) -> impl Iterator<Item = &str> {
        self.columns().filter(|name| !self.asked.contains(name))
    }
}

/// A time as Postgres writes it (`2026-02-12 10:00:00.5+00`), or as everybody does.
pub(super) fn time(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if !text.is_ascii() {
        return None;
    }
    if let Some(at) = Timestamp::parse_utc_default(text) {
        return Some(at);
    }
    // `+00` and `+0530` are short for `+00:00` and `+05:30`.
    let (day, clock) = text.split_once([' ', 'T'])?;
    let zone = clock.rfind(['+', '-'])?;
    let (clock, sign_and_zone) = clock.split_at(zone);
    let zone = match sign_and_zone.len() {
        3 => format!("{sign_and_zone}:00"),
        5 => format!("{}:{}", &sign_and_zone[..3], &sign_and_zone[3..]),
        _ => sign_and_zone.to_owned(),
    };
    Timestamp::parse_rfc3339(&format!("{day}T{clock}{zone}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(columns: &[&str], values: &[Value]) -> Row {
        Row::new(&columns.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>(), values.iter().cloned())
    }

    #[test]
    fn columns_are_found_by_any_of_their_names_and_what_nobody_asked_for_is_known() {
        let mut row = row(
            &["Device_ID", "name", "metadata", "seen", "colour"],
            &[json!("m1"), json!(""), json!("{\"a\": 1}"), json!("t"), Value::Null],
        );
        assert_eq!(row.device().unwrap().as_str(), "m1");
        assert_eq!(row.text(&["device_name", "name"]), None);
        assert_eq!(row.object(&["metadata"]).unwrap()["a"], 1);
        assert_eq!(row.flag(&["seen"]).unwrap(), Some(true));
        assert_eq!(row.ignored().collect::<Vec<_>>(), ["colour"]);
    }

    #[test]
    fn what_cannot_be_read_says_which_column_it_was() {
        let mut row = row(
            &["device_id", "created_at", "acknowledged", "params"],
            &[json!("../x"), json!("yesterday"), json!("maybe"), json!("[1")],
        );
        assert_eq!(row.device().unwrap_err().0, "bad_device_id");
        assert_eq!(row.time(&["created_at"]).unwrap_err().1, "created_at: \"yesterday\" is not a time");
        assert_eq!(row.flag(&["acknowledged"]).unwrap_err().0, "bad_value");
        assert_eq!(row.object(&["params"]).unwrap_err().0, "bad_json");
    }

    #[test]
    fn times_are_read_as_postgres_writes_them() {
        let check = |text: &str, expected: &str| {
            assert_eq!(time(text), Timestamp::parse_rfc3339(expected), "{text}");
        };
        check("2026-02-12 10:00:00", "2026-02-12T10:00:00Z");
        check("2026-02-12 10:00:00.123456", "2026-02-12T10:00:00.123456Z");
        check("2026-02-12 10:00:00.5+00", "2026-02-12T10:00:00.5Z");
        check("2026-02-12 10:00:00-05", "2026-02-12T15:00:00Z");
        check("2026-02-12 10:00:00+0530", "2026-02-12T04:30:00Z");
        check("2026-02-12T10:00:00+01:00", "2026-02-12T09:00:00Z");
        for junk in ["", "2026-02-12", "2026-02-30 10:00:00", "x y+z", "2026-02-12 é+0é", "12:00+00"] {
            assert_eq!(time(junk), None, "{junk}");
        }
    }
}

//! A table's text → rows, each with what it says or everything that is wrong with it. Pure.
//!
//! Invariant: a bad row hides no other; only a table that has no rows, too many, or a bad header is refused as a whole.

use serde_json::{Map, Value};

use crate::api::body::{self, Rule};
use crate::api::devices::bodies::CreateDevice;
use crate::api::error::{ApiError, Fault};
use crate::domain::DeviceId;
use crate::domain::ids::MAX_DEVICE_ID_LEN;
use crate::payload::csv::{Field, Records, is_blank};

/// Most rows of a table: as many verdicts are one answer.
pub const MAX_ROWS: usize = 50_000;
/// Columns without those of the metadata.
const COLUMNS: [&str; 5] = ["device_id", "device_name", "device_type", "location", "status"];
/// Columns that no table can do without.
const NEEDED: [&str; 2] = ["device_id", "device_name"];
/// Columns of metadata begin with this.
const METADATA: &str = "metadata.";
/// So much of an unknown name is repeated.
const NAME_LEN: usize = 64;

/// How a table is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// RFC 4180, with a header.
    Csv,
    /// A JSON object a line.
    Lines,
}

/// A row.
#[derive(Debug)]
pub struct Row {
    /// Counted from 1, without the header and empty lines.
    pub number: u32,
    /// The line of the table it begins on.
    pub line: u64,
    /// The id as it is written, where it is a text.
    pub device_id: Option<String>,
    /// What it says, or what is wrong with it.
    pub said: Result<CreateDevice, Vec<Fault>>,
}

impl Row {
    /// The id, where it is one.
    pub fn id(&self) -> Option<DeviceId> {
        DeviceId::parse(self.device_id.as_deref()?)
    }

    fn of(line: u64, members: Result<Map<String, Value>, Fault>) -> Self {
        let members = match members {
            Ok(members) => members,
            Err(fault) => return Self { number: 0, line, device_id: None, said: Err(vec![fault]) },
        };
        let id = members.get("device_id").and_then(Value::as_str);
        let device_id = id.filter(|id| id.chars().count() <= MAX_DEVICE_ID_LEN).map(str::to_owned);
        Self { number: 0, line, device_id, said: body::judge(members, Rule::Strict) }
    }
}

/// Reads a table.
pub fn read(format: Format, bytes: &[u8]) -> Result<Vec<Row>, ApiError> {
    let mut rows = Vec::new();
    match format {
        Format::Csv => of_csv(bytes, &mut rows)?,
        Format::Lines => of_lines(bytes, &mut rows)?,
    }
    if rows.is_empty() {
        return Err(ApiError::Invalid(vec![Fault::new("body", "has no rows")]));
    }
    for (number, row) in (1..).zip(&mut rows) {
        row.number = number;
    }
    Ok(rows)
}

fn push(rows: &mut Vec<Row>, row: Row) -> Result<(), ApiError> {
    if rows.len() == MAX_ROWS {
        let text = format!("has more than {MAX_ROWS} rows: send it in parts");
        return Err(ApiError::Invalid(vec![Fault::new("body", text)]));
    }
    rows.push(row);
    Ok(())
}

fn of_lines(bytes: &[u8], rows: &mut Vec<Row>) -> Result<(), ApiError> {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    for (line, text) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        if text.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let members = serde_json::from_slice(text).map_err(|_| Fault::new("row", "must be a JSON object"));
        push(rows, Row::of(line, members))?;
    }
    Ok(())
}

fn of_csv(bytes: &[u8], rows: &mut Vec<Row>) -> Result<(), ApiError> {
    let mut records = Records::of(bytes);
    let Some((_, head)) = records.next() else { return Ok(()) };
    let head = head.map_err(|fault| ApiError::Invalid(vec![Fault::new("header", fault.words())]))?;
    let columns: Vec<String> = head.into_iter().map(|(name, _)| name.trim().to_owned()).collect();
    check(&columns)?;
    for (line, record) in records {
        let members = match record {
            Ok(fields) if is_blank(&fields) => continue,
            Ok(fields) if fields.len() != columns.len() => {
                let text = format!("has {} fields, where the header has {}", fields.len(), columns.len());
                Err(Fault::new("row", text))
            }
            Ok(fields) => Ok(members(&columns, fields)),
            Err(fault) => Err(Fault::new("row", format!("is no CSV: {}", fault.words()))),
        };
        push(rows, Row::of(line, members))?;
    }
    Ok(())
}

/// Refuses a header by all that is wrong with it.
fn check(columns: &[String]) -> Result<(), ApiError> {
    let mut faults = Vec::new();
    for (at, name) in columns.iter().enumerate() {
        let is_known =
            COLUMNS.contains(&name.as_str()) || name.strip_prefix(METADATA).is_some_and(|key| !key.is_empty());
        let shown: String = name.chars().filter(|c| !c.is_control()).take(NAME_LEN).collect();
        if !is_known {
            let known = COLUMNS.join(", ");
            faults.push(Fault::new(shown, format!("is not a known column; known: {known}, {METADATA}KEY")));
        } else if columns[..at].contains(name) {
            faults.push(Fault::new(shown, "is a column twice"));
        }
    }
    let is_missing = |needed: &&str| !columns.iter().any(|name| name == needed);
    faults.extend(NEEDED.into_iter().filter(is_missing).map(|name| Fault::new(name, "is required as a column")));
    if faults.is_empty() { Ok(()) } else { Err(ApiError::Invalid(faults)) }
}

/// A record as the object that `POST /api/devices` takes. A field that is empty, and not in quotes, is not given.
fn members(columns: &[String], fields: Vec<Field>) -> Map<String, Value> {
    let (mut members, mut metadata) = (Map::new(), Map::new());
    for (name, (text, is_quoted)) in columns.iter().zip(fields) {
        if text.is_empty() && !is_quoted {
            continue;
        }
        match name.strip_prefix(METADATA) {
            Some(key) => metadata.insert(key.to_owned(), Value::String(text)),
            None => members.insert(name.clone(), Value::String(text)),
        };
    }
    if !metadata.is_empty() {
        members.insert("metadata".to_owned(), Value::Object(metadata));
    }
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(rows: &[Row]) -> Vec<(u32, u64, &str, String)> {
        let fault = |faults: &Vec<Fault>| faults.iter().map(|f| f.field.as_str()).collect::<Vec<_>>().join(" ");
        let row = |row: &Row| match &row.said {
            Ok(_) => String::new(),
            Err(faults) => fault(faults),
        };
        rows.iter().map(|r| (r.number, r.line, r.device_id.as_deref().unwrap_or("-"), row(r))).collect()
    }

    #[test]
    fn a_bad_row_hides_no_other() {
        let text = "\u{feff}device_id,device_name,status,metadata.line\r\nm1,\"One,\n two\",,S1\r\n\r\n\
                    .m2,,gone,\r\nm3,Three\r\n\"m4\"x,a,b,c\r\nm5,Five,inactive,\"\"\r\n";
        let rows = read(Format::Csv, text.as_bytes()).unwrap();
        let expected = [
            (1, 2, "m1", String::new()),
            (2, 5, ".m2", "device_id device_name status".to_owned()),
            (3, 6, "-", "row".to_owned()),
            (4, 7, "-", "row".to_owned()),
            (5, 8, "m5", String::new()),
        ];
        let mut found = shown(&rows);
        found[1].3 = {
            let mut names: Vec<&str> = found[1].3.split(' ').collect();
            names.sort_unstable();
            names.join(" ")
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn lines_are_objects_as_a_registration_takes_them_and_unknown_fields_are_refused() {
        let text = "{\"device_id\":\"m1\",\"device_name\":\"One\",\"metadata\":{\"n\":1}}\n\n[]\n{\n\
                    {\"device_id\":\"m2\",\"device_name\":\"Two\",\"colour\":\"red\"}";
        let rows = read(Format::Lines, text.as_bytes()).unwrap();
        let text = |text: &str| text.to_owned();
        let expected =
            [(1, 1, "m1", text("")), (2, 3, "-", text("row")), (3, 4, "-", text("row")), (4, 5, "m2", text("colour"))];
        assert_eq!(shown(&rows), expected);
    }

    #[test]
    fn a_table_is_refused_as_a_whole_by_its_header_or_its_size() {
        let check = |format, text: &str, expected: &str| {
            assert_eq!(read(format, text.as_bytes()).unwrap_err().to_string(), expected);
        };
        check(Format::Csv, "", "body has no rows");
        check(Format::Csv, "device_id,device_name\n", "body has no rows");
        check(Format::Lines, "\n \n", "body has no rows");
        check(
            Format::Csv,
            "device_id,device_id,colour\n",
            "device_id is a column twice; colour is not a known column; known: device_id, device_name, device_type, \
             location, status, metadata.KEY; device_name is required as a column",
        );
        check(Format::Csv, "device_id,\"a\n", "header the file ends within quotes");
        let many = "{}\n".repeat(MAX_ROWS + 1);
        check(Format::Lines, &many, "body has more than 50000 rows: send it in parts");
    }
}

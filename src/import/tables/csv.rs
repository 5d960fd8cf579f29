//! Tables in CSV (`payload::csv`), from a file that is read as it goes: a first line of names, then a row a record.
//!
//! Invariant: a record at a time, of at most [`MAX_BYTES`]. An empty field without quotes is null.

use std::io::{BufRead, BufReader, Read};

use serde_json::Value;

use super::super::Error;
use super::super::row::Row;
use crate::payload::csv::{Fault, Field, is_blank, is_open, record};

/// Largest record.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Records of a text.
pub(in crate::import) struct Records<R> {
    input: BufReader<R>,
    place: String,
    /// Of the record read last.
    pub(in crate::import) line: u64,
    next_line: u64,
}

impl<R: Read> Records<R> {
    pub(in crate::import) fn new(input: R, place: &str) -> Self {
        Self { input: BufReader::new(input), place: place.to_owned(), line: 0, next_line: 1 }
    }

    /// Where the record read last stood.
    pub(in crate::import) fn place(&self) -> String {
        format!("{}:{}", self.place, self.line)
    }

    /// The next record; `None` at the end. An empty line is a record of one empty field.
    pub(in crate::import) fn next(&mut self) -> Result<Option<Vec<Field>>, Error> {
        let (mut bytes, mut is_within) = (Vec::new(), false);
        self.line = self.next_line;
        loop {
            let before = bytes.len();
            // One byte more shows that it is too long.
            let room = (MAX_BYTES + 1 - before) as u64;
            let read = self.input.by_ref().take(room).read_until(b'\n', &mut bytes);
            let read = read.map_err(|source| self.unreadable(source))?;
            self.next_line += 1;
            if bytes.is_empty() {
                return Ok(None);
            }
            if bytes.len() > MAX_BYTES {
                return Err(self.malformed("a record is too long"));
            }
            is_within ^= is_open(&bytes[before..]);
            if read == 0 || !is_within {
                break;
            }
        }
        record(&bytes).map_err(|fault: Fault| self.malformed(fault.words())).map(Some)
    }

    fn unreadable(&self, source: std::io::Error) -> Error {
        Error::Read { path: self.place.clone().into(), source }
    }

    pub(in crate::import) fn malformed(&self, detail: &str) -> Error {
        Error::Malformed { place: self.place(), detail: detail.to_owned() }
    }
}

/// Calls `each` with every row of a table.
pub(super) fn read(
    input: impl Read,
    name: &str,
    each: &mut dyn FnMut(&str, Row) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut records = Records::new(input, name);
    let Some(head) = records.next()? else { return Ok(()) };
    let columns: Vec<String> = head.into_iter().map(|(name, _)| name).collect();
    while let Some(record) = records.next()? {
        if is_blank(&record) {
            continue;
        }
        if record.len() != columns.len() {
            let detail = format!("{} fields, where the first line has {}", record.len(), columns.len());
            return Err(records.malformed(&detail));
        }
        let values = record.into_iter().map(|(text, is_quoted)| match text.is_empty() && !is_quoted {
            true => Value::Null,
            false => Value::String(text),
        });
        each(&records.place(), Row::new(&columns, values))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Result<Vec<Vec<String>>, Error> {
        let mut records = Records::new(text.as_bytes(), "t.csv");
        let mut all = Vec::new();
        while let Some(record) = records.next()? {
            all.push(record.into_iter().map(|(text, _)| text).collect());
        }
        Ok(all)
    }

    #[test]
    fn quotes_hold_commas_quotes_and_lines() {
        let read = all("\u{feff}a,b\r\n\"x, \"\"y\"\"\nz\",\n,\"\"").unwrap();
        assert_eq!(read, [["a", "b"], ["x, \"y\"\nz", ""], ["", ""]]);
    }

    #[test]
    fn a_record_that_never_ends_is_refused() {
        for begin in ["", "a\n\"b\nc"] {
            let endless = begin.as_bytes().chain(std::io::repeat(b','));
            let error = read(endless, "t.csv", &mut |_, _| Ok(())).unwrap_err().to_string();
            assert!(error.ends_with("a record is too long"), "{error}");
        }
    }

    #[test]
    fn what_is_no_csv_is_refused_with_its_line() {
        let check = |text: &str, expected: &str| assert_eq!(all(text).unwrap_err().to_string(), expected);
        check("a\n\"b", "t.csv:2: the file ends within quotes");
        check("a\nb\n\"c\"d", "t.csv:3: a quote is not closed");
        let short = read("a,b\n1\n".as_bytes(), "t.csv", &mut |_, _| Ok(())).unwrap_err();
        assert_eq!(short.to_string(), "t.csv:2: 1 fields, where the first line has 2");
    }
}

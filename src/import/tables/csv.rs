//! CSV as RFC 4180 has it: a first line of names, fields in quotes where they need it, quotes doubled.
//!
//! Invariant: a record at a time, of at most [`MAX_BYTES`]. An empty field without quotes is null.

use std::io::{BufRead, BufReader, Read};

use serde_json::Value;

use super::super::Error;
use super::super::row::Row;

/// Largest record.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// A field: its text, and whether it stood in quotes.
pub(in crate::import) type Field = (String, bool);

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
        let mut bytes = Vec::new();
        self.line = self.next_line;
        loop {
            let read = self.input.read_until(b'\n', &mut bytes).map_err(|source| self.unreadable(source))?;
            self.next_line += 1;
            let is_open = bytes.iter().filter(|b| **b == b'"').count() % 2 == 1;
            match (read, is_open) {
                (0, _) if bytes.is_empty() => return Ok(None),
                (0, true) => return Err(self.malformed("the file ends within quotes")),
                (0, false) | (_, false) => break,
                _ if bytes.len() > MAX_BYTES => return Err(self.malformed("a record is too long")),
                _ => {}
            }
        }
        let text = String::from_utf8(bytes).map_err(|_| self.malformed("it is not UTF-8"))?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        // A byte order mark belongs to no name.
        fields(text.strip_prefix('\u{feff}').unwrap_or(text))
            .ok_or_else(|| self.malformed("a quote is not closed"))
            .map(Some)
    }

    fn unreadable(&self, source: std::io::Error) -> Error {
        Error::Read { path: self.place.clone().into(), source }
    }

    pub(in crate::import) fn malformed(&self, detail: &str) -> Error {
        Error::Malformed { place: self.place(), detail: detail.to_owned() }
    }
}

fn fields(text: &str) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, behind) = match rest.strip_prefix('"') {
            Some(inside) => {
                let (text, behind) = quoted(inside)?;
                ((text, true), behind)
            }
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                ((rest[..end].to_owned(), false), &rest[end..])
            }
        };
        fields.push(field);
        match behind.strip_prefix(',') {
            Some(next) => rest = next,
            None => return behind.is_empty().then_some(fields),
        }
    }
}

/// The text up to the closing quote, and what follows it.
fn quoted(inside: &str) -> Option<(String, &str)> {
    let mut text = String::new();
    let mut rest = inside;
    loop {
        let end = rest.find('"')?;
        text.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                text.push('"');
                rest = more;
            }
            None => return Some((text, rest)),
        }
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
        if record.len() == 1 && record[0].0.is_empty() {
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
    use proptest::prelude::*;

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
    fn what_is_no_csv_is_refused_with_its_line() {
        let check = |text: &str, expected: &str| assert_eq!(all(text).unwrap_err().to_string(), expected);
        check("a\n\"b", "t.csv:2: the file ends within quotes");
        check("a\nb\n\"c\"d", "t.csv:3: a quote is not closed");
        let short = read("a,b\n1\n".as_bytes(), "t.csv", &mut |_, _| Ok(())).unwrap_err();
        assert_eq!(short.to_string(), "t.csv:2: 1 fields, where the first line has 2");
    }

    proptest! {
        #[test]
        fn every_record_reads_back(records in prop::collection::vec(prop::collection::vec("[a-z\",\n é]{0,6}", 1..4), 0..5)) {
            let quote = |field: &String| format!("\"{}\"", field.replace('"', "\"\""));
            let text: String =
                records.iter().map(|r| r.iter().map(quote).collect::<Vec<_>>().join(",") + "\n").collect();
            prop_assert_eq!(all(&text).unwrap(), records);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in ".*") {
            let _ = all(&text);
        }
    }
}

//! CSV as RFC 4180 has it: fields in quotes where they need it, quotes doubled, a line break within quotes being part of the
//! field. Pure.
//!
//! Invariant: one pass; a record that is not closed ends with the text. What the columns mean others know.

/// A field: its text, and whether it stood in quotes.
pub type Field = (String, bool);

/// Why a record cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It is not UTF-8.
    NotUtf8,
    /// A quote within it is not closed, or something follows a closing quote.
    OpenQuote,
    /// The text ends within quotes.
    EndsWithin,
}

impl Fault {
    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::NotUtf8 => "it is not UTF-8",
            Self::OpenQuote => "a quote is not closed",
            Self::EndsWithin => "the file ends within quotes",
        }
    }
}

/// Whether these lines end within quotes, so that the next one belongs to the same record.
pub fn is_open(lines: &[u8]) -> bool {
    lines.iter().filter(|b| **b == b'"').count() % 2 == 1
}

/// The fields of a whole record, with or without its line break. A byte order mark before it belongs to no field.
pub fn record(bytes: &[u8]) -> Result<Vec<Field>, Fault> {
    if is_open(bytes) {
        return Err(Fault::EndsWithin);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Fault::NotUtf8)?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    fields(text.strip_prefix('\u{feff}').unwrap_or(text)).ok_or(Fault::OpenQuote)
}

/// Whether a record is an empty line.
pub fn is_blank(record: &[Field]) -> bool {
    matches!(record, [(text, false)] if text.is_empty())
}

/// The records of a text that is all there, each with the line it begins on, counted from 1.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
    line: u64,
}

impl<'a> Records<'a> {
    /// From the first record on.
    pub const fn of(text: &'a [u8]) -> Self {
        Self { rest: text, line: 1 }
    }
}

impl Iterator for Records<'_> {
    type Item = (u64, Result<Vec<Field>, Fault>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let (begin, mut end, mut is_open) = (self.line, 0, false);
        for line in self.rest.split_inclusive(|byte| *byte == b'\n') {
            end += line.len();
            self.line += 1;
            is_open ^= self::is_open(line);
            if !is_open {
                break;
            }
        }
        let (bytes, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some((begin, record(bytes)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(text: &[u8]) -> Vec<(u64, Result<Vec<String>, Fault>)> {
        let texts = |fields: Vec<Field>| fields.into_iter().map(|(text, _)| text).collect();
        Records::of(text).map(|(line, record)| (line, record.map(texts))).collect()
    }

    #[test]
    fn a_record_begins_on_its_own_line_whatever_stands_before_it() {
        let strings = |texts: &[&str]| Ok(texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>());
        let read = all(b"\xef\xbb\xbfa,b\r\n\"x, \"\"y\"\"\nz\",\n\n,\"\"");
        let expected = [
            (1, strings(&["a", "b"])),
            (2, strings(&["x, \"y\"\nz", ""])),
            (4, strings(&[""])),
            (5, strings(&["", ""])),
        ];
        assert_eq!(read, expected);
        assert!(is_blank(&[(String::new(), false)]) && !is_blank(&[(String::new(), true)]));
    }

    #[test]
    fn a_bad_record_leaves_those_behind_it_alone_unless_it_never_ends() {
        let read = all(b"a\n\"c\"d\nb\xff\nc\n\"d\ne");
        let good = |text: &str| Ok(vec![text.to_owned()]);
        let expected = [
            (1, good("a")),
            (2, Err(Fault::OpenQuote)),
            (3, Err(Fault::NotUtf8)),
            (4, good("c")),
            (5, Err(Fault::EndsWithin)),
        ];
        assert_eq!(read, expected);
    }

    proptest! {
        #[test]
        fn every_record_reads_back(records in prop::collection::vec(prop::collection::vec("[a-z\",\n é]{0,6}", 1..4), 0..5)) {
            let quote = |field: &String| format!("\"{}\"", field.replace('"', "\"\""));
            let text: String =
                records.iter().map(|r| r.iter().map(quote).collect::<Vec<_>>().join(",") + "\n").collect();
            let read: Vec<_> = all(text.as_bytes()).into_iter().map(|(_, record)| record.unwrap()).collect();
            prop_assert_eq!(read, records);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = all(&text);
        }
    }
}

//! What `pg_dump` writes as text: `COPY table (columns) FROM stdin;` with a row a line, or `INSERT INTO table (columns)
//! VALUES (…);`. Statements about other tables are passed over.
//!
//! Invariant: columns are known by name, from the statement itself or from the table's `CREATE TABLE` before it; else the
//! dump is refused. A statement at a time, of at most [`MAX_BYTES`].

use std::io::{BufRead, BufReader, Read};

use serde_json::Value;

use super::super::Error;
use super::super::row::Row;

/// Largest statement.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// Calls `each` with every row of a table; whether the dump has it.
pub(super) fn read(
    input: impl Read,
    name: &str,
    table: &str,
    each: &mut dyn FnMut(&str, Row) -> Result<(), Error>,
) -> Result<bool, Error> {
    let mut dump = Dump { input: BufReader::new(input), name: name.to_owned(), line: 0 };
    let (mut is_there, mut declared) = (false, Vec::new());
    while let Some(statement) = dump.statement()? {
        let mut words = Tokens(&statement);
        match words.head() {
            Some((Head::Create, of)) if of == table => declared = columns_declared(&mut words),
            Some((Head::Copy, of)) => {
                let columns = words.names();
                let is_wanted = of == table;
                is_there |= is_wanted;
                while let Some(line) = dump.copied()? {
                    if is_wanted {
                        let row = copied_row(&columns, &line)
                            .ok_or_else(|| dump.malformed("a row does not fit its columns"))?;
                        each(&dump.place(), row)?;
                    }
                }
            }
            Some((Head::Insert, of)) if of == table => {
                is_there = true;
                let named = words.names();
                let columns = if named.is_empty() { &declared } else { &named };
                if columns.is_empty() {
                    return Err(Error::NoColumns { place: dump.place() });
                }
                for values in words.values().ok_or_else(|| dump.malformed("an INSERT that cannot be read"))? {
                    if values.len() != columns.len() {
                        return Err(dump.malformed("an INSERT with more or fewer values than columns"));
                    }
                    each(&dump.place(), Row::new(columns, values))?;
                }
            }
            _ => {}
        }
    }
    Ok(is_there)
}

struct Dump<R> {
    input: BufReader<R>,
    name: String,
    line: u64,
}

impl<R: Read> Dump<R> {
    fn place(&self) -> String {
        format!("{}:{}", self.name, self.line)
    }

    fn malformed(&self, detail: &str) -> Error {
        Error::Malformed { place: self.place(), detail: detail.to_owned() }
    }

    /// One more line; `None` at the end.
    fn next_line(&mut self) -> Result<Option<String>, Error> {
        let mut bytes = Vec::new();
        let read = self.input.by_ref().take(MAX_BYTES as u64).read_until(b'\n', &mut bytes);
        let read = read.map_err(|source| Error::Read { path: self.name.clone().into(), source })?;
        self.line += 1;
        match String::from_utf8(bytes) {
            Ok(line) => Ok((read > 0).then_some(line)),
            Err(_) => Err(self.malformed("it is not UTF-8 text of pg_dump (use its plain format)")),
        }
    }

    /// The next statement up to its semicolon, without comments.
    fn statement(&mut self) -> Result<Option<String>, Error> {
        let (mut statement, mut is_within_quotes) = (String::new(), false);
        while let Some(line) = self.next_line()? {
            if statement.is_empty() && (line.trim().is_empty() || line.starts_with("--") || line.starts_with('\\')) {
                continue;
            }
            statement.push_str(&line);
            is_within_quotes ^= line.bytes().filter(|b| *b == b'\'').count() % 2 == 1;
            if line.trim_end().ends_with(';') && !is_within_quotes {
                return Ok(Some(statement));
            }
            if statement.len() > MAX_BYTES {
                return Err(self.malformed("a statement is too long"));
            }
        }
        Ok((!statement.is_empty()).then_some(statement))
    }

    /// The next line of a COPY; `None` at its end.
    fn copied(&mut self) -> Result<Option<String>, Error> {
        match self.next_line()? {
            None => Err(self.malformed("the dump ends within a COPY")),
            Some(line) if line.trim_end() == "\\." => Ok(None),
            Some(line) => Ok(Some(line.strip_suffix('\n').unwrap_or(&line).to_owned())),
        }
    }
}

/// A line of COPY: fields between tabs, `\N` is null, backslashes escape.
fn copied_row(columns: &[String], line: &str) -> Option<Row> {
    let values: Vec<Value> = line.split('\t').map(copied_value).collect();
    (values.len() == columns.len()).then(|| Row::new(columns, values))
}

fn copied_value(field: &str) -> Value {
    if field == "\\N" {
        return Value::Null;
    }
    let mut text = String::with_capacity(field.len());
    let mut chars = field.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '\\' { chars.next() } else { None }) {
            ('\\', Some('n')) => text.push('\n'),
            ('\\', Some('t')) => text.push('\t'),
            ('\\', Some('r')) => text.push('\r'),
            ('\\', Some('b')) => text.push('\u{8}'),
            ('\\', Some('f')) => text.push('\u{c}'),
            ('\\', Some('v')) => text.push('\u{b}'),
            ('\\', Some(other)) => text.push(other),
            (other, _) => text.push(other),
        }
    }
    Value::String(text)
}

/// What a statement begins with.
enum Head {
    Create,
    Copy,
    Insert,
}

/// What is left of a statement.
struct Tokens<'a>(&'a str);

impl<'a> Tokens<'a> {
    /// The kind of statement, and the table without its schema.
    fn head(&mut self) -> Option<(Head, String)> {
        let heads = [("CREATE TABLE ", Head::Create), ("COPY ", Head::Copy), ("INSERT INTO ", Head::Insert)];
        let text = self.0.trim_start();
        let (rest, head) = heads.into_iter().find_map(|(word, head)| Some((text.strip_prefix(word)?, head)))?;
        self.0 = rest.strip_prefix("IF NOT EXISTS ").unwrap_or(rest);
        let mut name = self.name()?;
        while let Some(rest) = self.0.strip_prefix('.') {
            self.0 = rest;
            name = self.name()?;
        }
        Some((head, name))
    }

    /// A name, in quotes or not.
    fn name(&mut self) -> Option<String> {
        let text = self.0.trim_start();
        let (name, rest) = match text.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => text.split_at(text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len())),
        };
        self.0 = rest;
        (!name.is_empty()).then(|| name.to_owned())
    }

    fn symbol(&mut self, symbol: char) -> bool {
        let rest = self.0.trim_start().strip_prefix(symbol);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// Names between brackets; none where there are none.
    fn names(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        if self.symbol('(') {
            names.extend(self.name());
            while self.symbol(',') {
                names.extend(self.name());
            }
            self.symbol(')');
        }
        names
    }

    /// The rows behind VALUES.
    fn values(&mut self) -> Option<Vec<Vec<Value>>> {
        self.0 = self.0.trim_start().strip_prefix("VALUES")?;
        let mut rows = Vec::new();
        loop {
            let mut row = Vec::new();
            self.symbol('(').then_some(())?;
            row.push(self.literal()?);
            while self.symbol(',') {
                row.push(self.literal()?);
            }
            self.symbol(')').then_some(())?;
            rows.push(row);
            if !self.symbol(',') {
                return Some(rows);
            }
        }
    }

    /// A text in quotes, or a word: a number, `true`, `NULL`.
    fn literal(&mut self) -> Option<Value> {
        let text = self.0.trim_start();
        let Some(mut rest) = text.strip_prefix('\'') else {
            let end = text.find([',', ')'])?;
            let word = text[..end].trim();
            self.0 = &text[end..];
            return Some(if word.eq_ignore_ascii_case("null") { Value::Null } else { Value::String(word.to_owned()) });
        };
        let mut value = String::new();
        loop {
            let end = rest.find('\'')?;
            value.push_str(&rest[..end]);
            rest = &rest[end + 1..];
            match rest.strip_prefix('\'') {
                Some(more) => {
                    value.push('\'');
                    rest = more;
                }
                None => break,
            }
        }
        // A cast says nothing that the column's name does not.
        if let Some(cast) = rest.strip_prefix("::") {
            rest = &cast[cast.find([',', ')'])?..];
        }
        self.0 = rest;
        Some(Value::String(value))
    }
}

/// The columns of a CREATE TABLE: the first word of each part that is no constraint.
fn columns_declared(words: &mut Tokens<'_>) -> Vec<String> {
    const CONSTRAINTS: [&str; 6] = ["CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN", "EXCLUDE"];
    let inside = words.0.trim_start().strip_prefix('(').unwrap_or_default();
    let (mut depth, mut quoted, mut start, mut parts) = (0, false, 0, Vec::new());
    for (at, c) in inside.char_indices() {
        match c {
            '\'' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted && depth == 0 => {
                parts.push(&inside[start..at]);
                break;
            }
            ')' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                parts.push(&inside[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    let names = parts.into_iter().filter_map(|part| Tokens(part).name());
    names.filter(|name| !CONSTRAINTS.contains(&name.to_ascii_uppercase().as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(text: &str, table: &str) -> Result<(bool, Vec<Row>), Error> {
        let mut rows = Vec::new();
        let is_there = read(text.as_bytes(), "d.sql", table, &mut |_, row| {
            rows.push(row);
            Ok(())
        })?;
        Ok((is_there, rows))
    }

    fn texts(rows: &mut [Row]) -> Vec<Option<String>> {
        rows.iter_mut().map(|row| row.text(&["b"])).collect()
    }

    #[test]
    fn all_forms_that_pg_dump_has_give_the_same_rows() {
        let copy = "SET x = 1;\nCOPY public.t (a, \"b\") FROM stdin;\n1\tit's\\n(a), b;\n2\t\\N\n\\.\n";
        let named =
            "INSERT INTO public.t (a, b) VALUES (1, 'it''s\n(a), b;');\nINSERT INTO t (a, b) VALUES (2, NULL);\n";
        let declared = "CREATE TABLE public.t (\n  a integer DEFAULT nextval('x(,'::regclass),\n  b numeric(3,1),\n  \
                        CONSTRAINT c CHECK (a > 0)\n);\nINSERT INTO public.t VALUES (1, 'it''s\n(a), b;'), (2, NULL);\n";
        for dump in [copy, named, declared] {
            let (is_there, mut rows) = all(dump, "t").unwrap();
            assert!(is_there);
            assert_eq!(texts(&mut rows), [Some("it's\n(a), b;".to_owned()), None], "{dump}");
            assert_eq!(all(dump, "u").unwrap(), (false, Vec::new()));
        }
    }

    #[test]
    fn a_dump_without_column_names_is_refused_by_saying_how_to_make_one() {
        let error = all("\nINSERT INTO public.t VALUES (1);\n", "t").unwrap_err().to_string();
        assert_eq!(
            error,
            "d.sql:2: the column names are missing; dump with `pg_dump --data-only` or `pg_dump --column-inserts`"
        );
    }

    #[test]
    fn what_is_broken_is_refused_with_its_line() {
        let check = |text: &str, expected: &str| assert_eq!(all(text, "t").unwrap_err().to_string(), expected);
        check("COPY t (a) FROM stdin;\n1\n", "d.sql:3: the dump ends within a COPY");
        check("COPY t (a) FROM stdin;\n1\t2\n\\.\n", "d.sql:2: a row does not fit its columns");
        check("INSERT INTO t (a) VALUES (1, 2);\n", "d.sql:1: an INSERT with more or fewer values than columns");
        check("INSERT INTO t (a) VALUES (1;\n", "d.sql:1: an INSERT that cannot be read");
    }

    proptest! {
        #[test]
        fn every_text_comes_back_from_a_copy(text in "[a-z\\\\\t\n\r',;é]{0,12}") {
            let escaped = text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r");
            let dump = format!("COPY t (b) FROM stdin;\n{escaped}\n\\.\n");
            let (_, mut rows) = all(&dump, "t").unwrap();
            prop_assert_eq!(texts(&mut rows), [Some(text).filter(|t| !t.is_empty())]);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "[A-Za-z(),;'\"\\\\\n\t. é]{0,40}") {
            for head in ["INSERT INTO t ", "COPY t ", "CREATE TABLE t ", ""] {
                let _ = all(&format!("{head}{text}"), "t");
            }
        }
    }
}

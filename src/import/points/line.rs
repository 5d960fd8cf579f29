//! Line protocol: `measurement,tag=value field=1.5,other=2i,text="…" 1770890410000000000`.
//!
//! Invariant: a line at a time; one that cannot be read is refused, the others go on.

use std::io::{BufRead, Read};

use super::{Intake, Point};
use crate::domain::Timestamp;
use crate::import::Error;

/// Longest line.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

pub(super) fn read(mut input: impl BufRead, name: &str, intake: &mut Intake<'_, '_>) -> Result<(), Error> {
    let mut bytes = Vec::new();
    for number in 1_u64.. {
        bytes.clear();
        let read = input.by_ref().take(MAX_BYTES).read_until(b'\n', &mut bytes);
        if read.map_err(|source| Error::Read { path: name.into(), source })? == 0 {
            break;
        }
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let place = format!("{name}:{number}");
        match parse(text) {
            Some(line) => {
                let micros = line.time.and_then(|time| intake.options.reading.precision.micros(time));
                for (field, value) in &line.fields {
                    let (measurement, tags) = (line.measurement.as_str(), line.tags.as_slice());
                    let at = micros.map(Timestamp);
                    intake.take(&place, &Point { measurement, tags, field, value: *value, at })?;
                }
            }
            None => intake.refuse("malformed", &place, "this is not line protocol")?,
        }
    }
    Ok(())
}

/// A line taken apart.
#[derive(PartialEq, Debug)]
struct Line {
    measurement: String,
    tags: Vec<(String, String)>,
    /// `None`: no number.
    fields: Vec<(String, Option<f64>)>,
    time: Option<i64>,
}

fn parse(text: &str) -> Option<Line> {
    let mut rest = text;
    let measurement = word(&mut rest, &[',', ' ']);
    let mut tags = Vec::new();
    while let Some(next) = rest.strip_prefix(',') {
        rest = next;
        let tag = word(&mut rest, &['=', ',', ' ']);
        rest = rest.strip_prefix('=')?;
        tags.push((tag, word(&mut rest, &[',', ' '])));
    }
    rest = rest.strip_prefix(' ')?.trim_start_matches(' ');
    let mut fields = Vec::new();
    loop {
        let field = word(&mut rest, &['=', ',', ' ']);
        rest = rest.strip_prefix('=')?;
        fields.push((field, value(&mut rest)?));
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None => break,
        }
    }
    let time = match rest.trim() {
        "" => None,
        _ if !rest.starts_with(' ') => return None,
        time => Some(time.parse().ok()?),
    };
    let is_named = !measurement.is_empty() && fields.iter().all(|(field, _)| !field.is_empty());
    is_named.then_some(Line { measurement, tags, fields, time })
}

/// Text up to one of `ends`; a backslash before one of `, =` makes it part of the text.
fn word(rest: &mut &str, ends: &[char]) -> String {
    let mut text = String::new();
    let mut chars = rest.char_indices().peekable();
    let mut end = rest.len();
    while let Some((at, c)) = chars.next() {
        match chars.peek() {
            Some((_, next)) if c == '\\' && [',', '=', ' ', '\\'].contains(next) => {
                text.push(*next);
                chars.next();
            }
            _ if ends.contains(&c) => {
                end = at;
                break;
            }
            _ => text.push(c),
        }
    }
    *rest = &rest[end..];
    text
}

/// A field's value; the inner `None` = it is no number. The outer: it is none of what a value can be.
fn value(rest: &mut &str) -> Option<Option<f64>> {
    if let Some(inside) = rest.strip_prefix('"') {
        let mut is_escaped = false;
        let end = inside.find(|c| {
            let ends = c == '"' && !is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            ends
        })?;
        *rest = &inside[end + 1..];
        return Some(None);
    }
    let word = word(rest, &[',', ' ']);
    match word.as_str() {
        "t" | "T" | "true" | "True" | "TRUE" | "f" | "F" | "false" | "False" | "FALSE" => Some(None),
        number => number.strip_suffix(['i', 'u']).unwrap_or(number).parse().ok().map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, measurement: &str, tags: &[(&str, &str)], fields: &[(&str, Option<f64>)], time: Option<i64>) {
        let tags = tags.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let fields = fields.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect();
        let expected = Line { measurement: measurement.into(), tags, fields, time };
        assert_eq!(parse(text), Some(expected), "{text}");
    }

    #[test]
    fn lines_are_read_with_all_their_signs() {
        check("m v=1.5", "m", &[], &[("v", Some(1.5))], None);
        check(
            "m,device_id=a,k=x v=-2i,w=3u 17",
            "m",
            &[("device_id", "a"), ("k", "x")],
            &[("v", Some(-2.0)), ("w", Some(3.0))],
            Some(17),
        );
        check(r"m\ x,a\,b=c\=d v\ w=1e3 5", "m x", &[("a,b", "c=d")], &[("v w", Some(1000.0))], Some(5));
        check(
            r#"m,d=a s="x, \"y\" z",t=true,v=1 -5"#,
            "m",
            &[("d", "a")],
            &[("s", None), ("t", None), ("v", Some(1.0))],
            Some(-5),
        );
        check("m   v=1   5 ", "m", &[], &[("v", Some(1.0))], Some(5));
    }

    #[test]
    fn what_is_no_line_is_none() {
        for text in ["", "m", "m v", "m v=", "m v=x", "m,a v=1", ",a=b v=1", "m v=1 x", "m v=\"x", "m v=\"x\"y", "m =1"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,60}", signs in "[m,=\" \\\\1é]{0,20}") {
            let _ = (parse(&text), parse(&signs));
        }
    }
}

//! A text it has not seen the like of: where its numbers and times are, and what each is called.
//!
//! The text is followed only as far as it takes to know that: strings, what is a name and what a value, brackets. What is not
//! JSON-like has no marks.
//!
//! A number is called after the members that lead to it; in an object that is one of several in a list also after what kind it
//! is of, its member `type` or else its first text: `measurements_voltage_dc_val`. So a kind's numbers stand in one column,
//! wherever in a message they are. Names are lower case and have letters, digits and `_` only; two that become one share a
//! column, which does no harm: what belongs where is in the templates.

use std::ops::Range;

use super::time::Calendar;
use super::{CLOSE, Context, MAX_NUMBERS, OPEN, Value, number};

/// Brackets within brackets, at most.
const MAX_DEPTH: usize = 16;
/// Characters of a name, at most.
const MAX_NAME: usize = 64;

/// What is marked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Found {
    Device,
    Seq,
    Time { name: String },
    Number { value: Value, name: String },
}

/// Where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Marked {
    pub(super) at: Range<usize>,
    pub(super) found: Found,
}

/// A bracket that is open.
struct Open {
    is_object: bool,
    /// An object of a list: its numbers bear the name of its kind.
    in_list: bool,
    /// Bytes of the path when it opened.
    path: usize,
    /// Marks found before.
    found: usize,
    /// A name comes next, if it is an object.
    wants_name: bool,
    kind: Option<String>,
    kind_is_type: bool,
}

struct Walk<'a> {
    text: &'a [u8],
    context: Context<'a>,
    at: usize,
    path: String,
    open: Vec<Open>,
    found: Vec<Marked>,
    /// For each, the object that is to say its kind, by depth, and where its name goes on behind that object's path.
    owners: Vec<Option<(usize, usize)>>,
    calendar: Calendar,
}

/// The marks of a text in their order; `None` = it is not JSON-like, or has too many.
pub(super) fn marks(context: Context<'_>, text: &[u8]) -> Option<Vec<Marked>> {
    std::str::from_utf8(text).ok()?;
    if text.iter().any(|byte| matches!(*byte, OPEN | CLOSE)) {
        return None;
    }
    let (open, found, owners, calendar) = (Vec::new(), Vec::new(), Vec::new(), Calendar::default());
    let mut walk = Walk { text, context, at: 0, path: String::new(), open, found, owners, calendar };
    while let Some(&byte) = text.get(walk.at) {
        walk.step(byte)?;
        if walk.found.len() > MAX_NUMBERS {
            return None;
        }
    }
    walk.open.is_empty().then_some(walk.found)
}

impl Walk<'_> {
    fn step(&mut self, byte: u8) -> Option<()> {
        match byte {
            b'{' | b'[' => return self.opens(byte == b'{'),
            b'}' | b']' => return self.closes(byte == b'}'),
            b'"' => return self.string(),
            b'-' | b'0'..=b'9' => return self.number(),
            b',' => self.wants_name(true)?,
            b':' => self.wants_name(false)?,
            b' ' | b'\t' | b'\r' | b'\n' | b'a'..=b'z' | b'A'..=b'Z' => {}
            _ => return None,
        }
        self.at += 1;
        Some(())
    }

    fn wants_name(&mut self, wants: bool) -> Option<()> {
        self.open.last_mut()?.wants_name = wants;
        Some(())
    }

    fn opens(&mut self, is_object: bool) -> Option<()> {
        if self.open.len() == MAX_DEPTH {
            return None;
        }
        let in_list = is_object && self.open.last().is_some_and(|open| !open.is_object);
        let (path, found) = (self.path.len(), self.found.len());
        self.open.push(Open { is_object, in_list, path, found, wants_name: true, kind: None, kind_is_type: false });
        self.at += 1;
        Some(())
    }

    fn closes(&mut self, is_object: bool) -> Option<()> {
        let open = self.open.pop().filter(|open| open.is_object == is_object)?;
        let depth = self.open.len();
        let Open { kind, path, found, .. } = open;
        self.path.truncate(path);
        for (marked, owner) in self.found[found..].iter_mut().zip(&self.owners[found..]) {
            let Some((_, behind)) = owner.filter(|(of, _)| *of == depth) else { continue };
            if let (Found::Number { name, .. }, Some(kind)) = (&mut marked.found, &kind) {
                let place = behind.min(name.len());
                let rest = name.split_off(place);
                for part in [kind.as_str(), rest.trim_start_matches('_')] {
                    join(name, part);
                }
            }
        }
        self.at += 1;
        Some(())
    }

    /// A name, or a text as a value.
    fn string(&mut self) -> Option<()> {
        let start = self.at + 1;
        let mut end = start;
        loop {
            match self.text.get(end)? {
                b'"' => break,
                b'\\' => end += 2,
                0..0x20 => return None,
                _ => end += 1,
            }
        }
        self.at = end + 1;
        let content = &self.text[start..end];
        let of_name = self.open.last().filter(|open| open.is_object && open.wants_name).map(|open| open.path);
        if let Some(path) = of_name {
            // In the place of the name before: a path has no more names than brackets, whatever the text repeats.
            self.path.truncate(path);
            join(&mut self.path, &named(content));
        } else if content == self.context.device {
            self.mark(start..end, Found::Device, None);
        } else if let Some((_, length)) = self.calendar.read(content) {
            let name = self.name();
            self.mark(start..start + length, Found::Time { name }, None);
        } else if let Some(open) = self.open.last_mut().filter(|open| open.in_list && !open.kind_is_type) {
            let is_type = self.path[open.path..].trim_start_matches('_') == "type";
            if is_type || open.kind.is_none() {
                open.kind = Some(named(content));
                open.kind_is_type = is_type;
            }
        }
        Some(())
    }

    fn number(&mut self) -> Option<()> {
        let rest = &self.text[self.at..];
        let Some((value, length)) = number::read(rest) else {
            // It stays in the template.
            let is_of_number = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
            self.at += rest.iter().take_while(is_of_number).count();
            return Some(());
        };
        let range = self.at..self.at + length;
        self.at += length;
        let is_seq = self.open.len() == 1 && self.path == "seq" && value.decimals == 0;
        if is_seq && self.context.seq == Some(value.mantissa) {
            self.mark(range, Found::Seq, None);
            return Some(());
        }
        let owner = self.open.iter().enumerate().rev().find(|(_, open)| open.is_object);
        let owner = owner.filter(|(_, open)| open.in_list).map(|(depth, open)| (depth, open.path));
        let name = self.name();
        self.mark(range, Found::Number { value, name }, owner);
        Some(())
    }

    /// What a number here is called, but for its kind.
    fn name(&self) -> String {
        if self.path.is_empty() { "value".to_owned() } else { self.path.clone() }
    }

    fn mark(&mut self, at: Range<usize>, found: Found, owner: Option<(usize, usize)>) {
        self.found.push(Marked { at, found });
        self.owners.push(owner);
    }
}

/// A name's letters and digits, the rest as `_`.
fn named(text: &[u8]) -> String {
    let text = text.iter().take(MAX_NAME).map(|byte| match byte {
        b'a'..=b'z' | b'0'..=b'9' => char::from(*byte),
        b'A'..=b'Z' => char::from(byte.to_ascii_lowercase()),
        _ => '_',
    });
    text.collect()
}

fn join(path: &mut String, name: &str) {
    if !path.is_empty() && !name.is_empty() {
        path.push('_');
    }
    path.push_str(name);
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXT: Context<'static> = Context { device: b"m-1", seq: Some(7), base_us: 0 };

    fn check(text: &str, expected: &[(&str, &str)]) {
        let marks = marks(CONTEXT, text.as_bytes()).unwrap_or_else(|| panic!("{text}"));
        let got: Vec<(&str, String)> = marks
            .into_iter()
            .map(|marked| {
                let shown = match marked.found {
                    Found::Device => "device".to_owned(),
                    Found::Seq => "sequence".to_owned(),
                    Found::Time { name } => format!("time {name}"),
                    Found::Number { name, .. } => name,
                };
                (&text[marked.at], shown)
            })
            .collect();
        let got: Vec<(&str, &str)> = got.iter().map(|(text, name)| (*text, name.as_str())).collect();
        assert_eq!(got, expected, "{text}");
    }

    #[test]
    fn numbers_are_called_after_the_members_that_lead_to_them_and_their_kind() {
        check(
            r#"{"v":2,"device_id":"m-1","ts":"2026-02-12T10:00:10.000Z","seq":7,"measurements":[{"ts":"2026-02-12T10:00:01Z","type":"voltage_dc","val":-1.5,"unit":"V"},{"val":3,"unit":"A","type":"I"}]}"#,
            &[
                ("2", "v"),
                ("m-1", "device"),
                ("2026-02-12T10:00:10.000", "time ts"),
                ("7", "sequence"),
                ("2026-02-12T10:00:01", "time measurements_ts"),
                ("-1.5", "measurements_voltage_dc_val"),
                ("3", "measurements_i_val"),
            ],
        );
        check(r#"{ "a" : { "B c" : 1 , "d":[2,3]},"e":4 }"#, &[("1", "a_b_c"), ("2", "a_d"), ("3", "a_d"), ("4", "e")]);
        check(
            r#"[1,{"x":{"y":2},"k":"kind","z":[3]},4]"#,
            &[("1", "value"), ("2", "x_y"), ("3", "kind_z"), ("4", "value")],
        );
        check(r#"{"a":{"seq":7},"b":"x\"1\\","c":"","seq":8}"#, &[("7", "a_seq"), ("8", "seq")]);
        check(r#"{"a""b""c" 1}"#, &[("1", "c")]);
        check("17", &[("17", "value")]);
        check("null", &[]);
    }

    #[test]
    fn numbers_that_could_not_be_written_again_are_text() {
        check(r#"{"a":1e5,"b":-0,"c":007,"d":1,"e":12345678901234567890,"f":true}"#, &[("1", "d")]);
    }

    #[test]
    fn what_is_not_like_json_has_no_marks() {
        for text in [
            "{",
            "}",
            "[}",
            "{]",
            "\"open",
            "\"a\\",
            "{\"a\":\"\u{1}\"}",
            "a;b",
            ",1",
            ":",
            "\u{2}",
            "{1}]",
            "é",
            "\"\\\u{1}\"",
        ] {
            assert_eq!(marks(CONTEXT, text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(marks(CONTEXT, b"\"\xFF\""), None);
        assert_eq!(marks(CONTEXT, "[".repeat(MAX_DEPTH + 1).as_bytes()), None);
        let many = format!("[{}]", vec!["1"; MAX_NUMBERS + 1].join(","));
        assert_eq!(marks(CONTEXT, many.as_bytes()), None);
    }
}

//! JSON as meters write it → neutral form, without the general machinery, in half its time: it was a third of the collector's.
//!
//! Plain are strings without escapes, whole numbers of a size that meters have, and no lists or maps but the measurements.
//! Invariant: what is read here, `json` reads alike (a property test); anything else, good or bad, is left to it.
//! Standard: RFC 8259.

use std::borrow::Cow;

use super::draft::{Draft, EntryField, Field, List, Measurements, Sample, Scalar, Times};

/// Most digits of a number whose value they give here: it fits 64 bits.
const MAX_DIGITS: usize = 18;
/// Up to here every whole number is an `f64`.
const EXACT: u64 = 1 << 53;
/// Powers of ten that are exact as `f64`: a quotient of two exact numbers is rounded once, thus correctly.
const POWERS: [f64; MAX_DIGITS + 1] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18];

/// Reads the members the protocol knows; `None` = not plain, or not JSON.
pub(super) fn draft(text: &str) -> Option<Draft<'_>> {
    let mut reader = Reader { text, rest: text.as_bytes() };
    let mut draft = Draft::default();
    reader.next_is(b'{').then_some(())?;
    reader.members(|reader| match Field::from_name(reader.name()?) {
        Some(Field::Measurements) => draft.put_measurements(reader.measurements()?).ok(),
        Some(field) => draft.put(field, reader.scalar()?).ok(),
        None => reader.scalar().map(drop),
    })?;
    reader.skip_blanks();
    reader.rest.is_empty().then_some(draft)
}

struct Reader<'a> {
    text: &'a str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Passes the next byte if it is such a one.
    fn passes(&mut self, is_such: impl FnOnce(u8) -> bool) -> bool {
        match self.rest {
            [next, rest @ ..] if is_such(*next) => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// Passes `text` if it is next.
    fn passes_all(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text.as_bytes());
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn skip_blanks(&mut self) {
        while self.passes(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t')) {}
    }

    /// Passes `byte` if it is next, blanks before it or not.
    fn next_is(&mut self, byte: u8) -> bool {
        self.passes(|next| next == byte) || {
            self.skip_blanks();
            self.passes(|next| next == byte)
        }
    }

    /// What stands between here and a place behind it.
    fn until(&self, start: &[u8], len: usize) -> Option<&'a str> {
        let start = self.text.len() - start.len();
        self.text.get(start..start + len)
    }

    /// Has the members of a map read, whose `{` was passed.
    fn members(&mut self, mut read: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        if self.next_is(b'}') {
            return Some(());
        }
        loop {
            read(self)?;
            if !self.next_is(b',') {
                return self.next_is(b'}').then_some(());
            }
        }
    }

    /// Reads a member's name, and the colon.
    fn name(&mut self) -> Option<&'a str> {
        let name = self.text()?;
        self.next_is(b':').then_some(name)
    }

    fn text(&mut self) -> Option<&'a str> {
        self.next_is(b'"').then(|| self.string())?
    }

    /// Reads a string whose opening quote was passed.
    fn string(&mut self) -> Option<&'a str> {
        let start = self.rest;
        let len = plain_len(start);
        self.rest = start.get(len..)?;
        self.passes(|byte| byte == b'"').then(|| self.until(start, len))?
    }

    fn scalar(&mut self) -> Option<Scalar<'a>> {
        if self.next_is(b'"') {
            return self.string().map(|text| Scalar::Text(Cow::Borrowed(text)));
        }
        match self.rest.first()? {
            b'-' | b'0'..=b'9' => self.number(),
            b'n' => self.passes_all("null").then_some(Scalar::Null),
            b't' => self.passes_all("true").then_some(Scalar::Other),
            b'f' => self.passes_all("false").then_some(Scalar::Other),
            _ => None,
        }
    }

    fn number(&mut self) -> Option<Scalar<'a>> {
        let start = self.rest;
        let is_negative = self.passes(|byte| byte == b'-');
        let has_zero = self.rest.first() == Some(&b'0');
        let (mut value, mut digits) = self.digits(0)?;
        if has_zero && digits > 1 {
            return None;
        }
        let mut decimals = 0;
        if self.passes(|byte| byte == b'.') {
            (value, decimals) = self.digits(value)?;
            digits += decimals;
        }
        let has_exponent = self.passes(|byte| matches!(byte, b'e' | b'E'));
        if has_exponent {
            self.passes(|byte| matches!(byte, b'+' | b'-'));
            self.digits(0)?;
        }
        if has_exponent || decimals > 0 {
            if has_exponent || digits > MAX_DIGITS || value > EXACT {
                let float = self.until(start, start.len() - self.rest.len())?.parse().ok();
                return float.filter(|float: &f64| float.is_finite()).map(Scalar::Float);
            }
            let size = value as f64 / POWERS[decimals];
            return Some(Scalar::Float(if is_negative { -size } else { size }));
        }
        match (is_negative, value) {
            _ if digits > MAX_DIGITS => None,
            (false, _) => Some(Scalar::Unsigned(value)),
            // Minus zero is not a whole number.
            (true, 0) => None,
            (true, _) => Some(Scalar::Negative(-value.cast_signed())),
        }
    }

    /// One digit or more, behind the digits of `before`, and how many; the value is meaningless when they are more than
    /// [`MAX_DIGITS`] together.
    fn digits(&mut self, before: u64) -> Option<(u64, usize)> {
        let (mut value, mut count) = (before, 0);
        while let [byte @ b'0'..=b'9', rest @ ..] = self.rest {
            value = value.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
            count += 1;
            self.rest = rest;
        }
        (count > 0).then_some((value, count))
    }

    fn measurements(&mut self) -> Option<Measurements<'a>> {
        self.next_is(b'[').then_some(())?;
        let mut list = List::default();
        if self.next_is(b']') {
            return Some(Measurements::List(list));
        }
        loop {
            let sample = self.sample(&mut list.times)?;
            list.add(sample);
            if !self.next_is(b',') {
                return self.next_is(b']').then_some(Measurements::List(list));
            }
        }
    }

    /// Reads a measurement; `Some(None)` = one of no use. One with a value of another type than its member has is not plain.
    fn sample(&mut self, times: &mut Times<'a>) -> Option<Option<Sample<'a>>> {
        let (mut ts, mut name, mut value, mut unit) = (None, None, None, None);
        self.next_is(b'{').then_some(())?;
        self.members(|reader| {
            let is_plain = match reader.entry_field()? {
                Some(EntryField::Ts) => ts.replace(times.read(reader.text()?)).is_none(),
                Some(EntryField::Type) => name.replace(reader.text()?).is_none(),
                Some(EntryField::Unit) => unit.replace(reader.text()?).is_none(),
                Some(EntryField::Val) => {
                    reader.skip_blanks();
                    value.replace(reader.number()?).is_none()
                }
                None => reader.scalar().is_some(),
            };
            is_plain.then_some(())
        })?;
        let value = value.and_then(|value| value.number());
        Some(match (ts, name, value) {
            (Some(None), ..) | (_, None, _) | (.., None) => None,
            (ts, Some(name), Some(value)) => {
                Some(Sample { ts: ts.flatten(), name: Cow::Borrowed(name), unit: unit.map(Cow::Borrowed), value })
            }
        })
    }

    /// The name of a measurement's member, and the colon. As most write them they are told by one comparison.
    fn entry_field(&mut self) -> Option<Option<EntryField>> {
        let known = [
            ("\"ts\":", EntryField::Ts),
            ("\"type\":", EntryField::Type),
            ("\"val\":", EntryField::Val),
            ("\"unit\":", EntryField::Unit),
        ];
        for (text, field) in known {
            if self.passes_all(text) {
                return Some(Some(field));
            }
        }
        self.name().map(EntryField::from_name)
    }
}

/// Length of what stands in a string as it is: up to a quote, an escape, or what must not stand there.
///
/// Eight bytes at a time: a byte below `n` borrows from its highest bit when `n` is taken off (Hacker's Delight, 6-1).
fn plain_len(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let below = |word: u64, n: u64| word.wrapping_sub(ONES * n) & !word & HIGH;
    let (words, rest) = bytes.as_chunks();
    for (n, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let ends = below(word, 0x20) | below(word ^ (ONES * 0x22), 1) | below(word ^ (ONES * 0x5c), 1);
        if ends != 0 {
            return n * 8 + ends.trailing_zeros() as usize / 8;
        }
    }
    let ends = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    bytes.len() - rest.len() + rest.iter().position(ends).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::json;
    use super::*;

    fn number() -> impl Strategy<Value = String> {
        prop_oneof![
            "-?(0|[1-9][0-9]{0,5})",
            "-?(0|[1-9][0-9]{0,20})",
            r"-?(0|[1-9][0-9]{0,4})\.[0-9]{1,3}",
            r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?",
            any::<f64>().prop_map(|float| format!("{float}")),
            any::<f32>().prop_map(|float| format!("{:?}", f64::from(float))),
            "[-+0-9.eE]{0,8}",
        ]
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof!["[a-z_]{0,9}", "(voltage_dc|V|ts|2026-02-12T10:00:00.25Z)", r#"[a"\\\x01\u{e9}\u{20ac}/nu0]{0,6}"#]
            .prop_map(|text| format!("\"{text}\""))
    }

    fn scalar() -> impl Strategy<Value = String> {
        prop_oneof![4 => number(), 4 => text(), 1 => "(null|true|false|nul|\\[1\\]|\\{\\}|)"]
    }

    fn map(names: &'static str, value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
        let member = (names, "[ \t\r\n]?", value, "[ \n]?")
            .prop_map(|(name, a, value, b)| format!("\"{name}\"{b}:{a}{value}{b}"));
        prop::collection::vec(member, 0..6).prop_map(|members| format!("{{{}}}", members.join(",")))
    }

    fn payload() -> impl Strategy<Value = String> {
        let entry = prop_oneof![9 => map("(ts|type|val|unit|x)", scalar()), 1 => scalar()];
        let list = prop::collection::vec(entry, 0..4).prop_map(|list| format!("[{}]", list.join(", ")));
        map("(v|device_id|ts|seq|msg_type|detail|x|measurements)", prop_oneof![2 => scalar(), 1 => list])
    }

    fn alike(text: &str) -> Result<bool, TestCaseError> {
        let Some(plain) = draft(text) else { return Ok(false) };
        prop_assert_eq!(Ok(plain), json::draft(text), "{}", text);
        Ok(true)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn what_is_read_here_the_general_reader_reads_alike(text in payload()) {
            alike(&text)?;
        }

        #[test]
        fn a_text_with_a_byte_changed_is_no_other_here(text in payload(), at in any::<prop::sample::Index>(), byte in 0u8..128) {
            let mut bytes = text.into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(text) = std::str::from_utf8(&bytes) {
                alike(text)?;
            }
        }

        #[test]
        fn a_number_is_the_one_it_was(value in any::<f64>(), decimals in 0usize..20, short in -1e6..1e6) {
            for text in [format!("{value}"), format!("{value:?}"), format!("{value:e}"), format!("{short:.decimals$}")] {
                let is_plain = alike(&format!(r#"{{"v":{text}}}"#))?;
                let is_whole = !text.contains(['.', 'e']);
                prop_assert!(is_plain || is_whole || !value.is_finite(), "{}", text);
            }
        }
    }

    #[test]
    fn what_meters_send_is_plain() {
        for text in [
            r#"{"v":2,"device_id":"m-1","ts":"2026-02-12T10:00:10Z","seq":4294967295,"msg_type":"telemetry","measurements":[
                {"ts":"2026-02-12T10:00:01Z","type":"voltage_dc","val":750.25,"unit":"V"},
                {"type":"current_dc","val":-310,"unit":"A"}, {"type":"pf","val":1e-05,"unit":""}]}"#,
            r#"{"v": 2, "device_id": "m-1", "ts": "2026-02-12T10:00:10+00:00", "status": "online", "broker_connections": null}"#,
            r#"{"voltage_dc": 749.9999999999999, "ok": true, "b": false, "temperature": -0.0, "x": 0.30000000000000004}"#,
            " {} ",
            r#"{"measurements":[]}"#,
        ] {
            assert_eq!(alike(text).ok(), Some(true), "{text}");
        }
    }
}

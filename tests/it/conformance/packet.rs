//! The text form of packets, to be sent and to be expected.
//!
//! | text | is |
//! |---|---|
//! | `82 0001` | bytes, in hexadecimal |
//! | `{ … }` | what is inside, behind its length as variable byte integer: remaining length, property length |
//! | `"a/b"` | a string behind its two-byte length; `@` in it becomes the case's own name |
//! | `'x'` | the bytes of a text |
//! | `[746F00]` | bytes behind their two-byte length |
//! | `%` | empty properties: `00` in version 5, nothing in 3.1.1 |
//! | `lv` | the protocol level, `04` or `05` |
//! | `(5 … )` `(4 … )` | only in that version |
//! | `v:300` | a variable byte integer |
//! | `t:70` `fill:70` | 70 × `x`, with and without a two-byte length |
//! | `#1` | a packet id of the server: any but 0 when first expected, the same ever after; to be sent, too |
//! | `..` `**` | expected only: any byte; anything up to the end |
//! | `p{ … }` | expected only: these properties in any order, user properties among themselves in this one |
//!
//! Spaces separate where needed and mean nothing. A text that breaks these rules is a fault of the table: panic.

use std::collections::BTreeMap;

use super::socket::{put_varint, varint};
use super::table::Version;

/// What a text means.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Element {
    Byte(u8),
    Any,
    Rest,
    Id(char),
    Properties(Vec<u8>),
}

/// Packet ids seen, by their name in the case.
pub type Ids = BTreeMap<char, u16>;

/// A packet text, understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet(Vec<Element>);

impl Packet {
    pub fn parse(text: &str, version: Version, name: &str) -> Self {
        let mut parser = Parser { chars: text.chars().collect(), at: 0, version, name, text };
        let elements = parser.until(None);
        Self(elements)
    }

    /// As bytes to send.
    pub fn bytes(&self, ids: &Ids) -> Vec<u8> {
        let mut out = Vec::new();
        for element in &self.0 {
            match element {
                Element::Byte(byte) => out.push(*byte),
                Element::Id(name) => {
                    let id = ids.get(name).unwrap_or_else(|| panic!("packet id #{name} was not received before"));
                    out.extend(id.to_be_bytes());
                }
                other => panic!("{other:?} cannot be sent"),
            }
        }
        out
    }

    /// Whether `bytes` are such a packet; learns its packet ids then.
    pub fn matches(&self, bytes: &[u8], ids: &mut Ids) -> bool {
        let mut learned = ids.clone();
        let mut rest = bytes;
        for element in &self.0 {
            let taken = match element {
                Element::Rest => return learn(ids, learned),
                Element::Byte(byte) => (rest.first() == Some(byte)).then_some(1),
                Element::Any => (!rest.is_empty()).then_some(1),
                Element::Id(name) => take_id(rest, *name, &mut learned),
                Element::Properties(expected) => take_properties(rest, expected),
            };
            let Some(taken) = taken else { return false };
            rest = &rest[taken..];
        }
        rest.is_empty() && learn(ids, learned)
    }
}

fn learn(ids: &mut Ids, learned: Ids) -> bool {
    *ids = learned;
    true
}

fn take_id(bytes: &[u8], name: char, ids: &mut Ids) -> Option<usize> {
    let id = u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]);
    (id != 0 && *ids.entry(name).or_insert(id) == id).then_some(2)
}

fn take_properties(bytes: &[u8], expected: &[u8]) -> Option<usize> {
    let (len, header) = varint(bytes)?;
    let found = bytes.get(header..header + len)?;
    (in_order(split_properties(found)?) == in_order(split_properties(expected)?)).then_some(header + len)
}

/// Sorted, but user properties in the order in which they came.
fn in_order(mut properties: Vec<&[u8]>) -> Vec<&[u8]> {
    let (mut user, mut other): (Vec<_>, Vec<_>) = properties.drain(..).partition(|p| p[0] == USER_PROPERTY);
    other.sort_unstable();
    other.append(&mut user);
    other
}

const USER_PROPERTY: u8 = 0x26;

/// How the value of a property is written (table 2-4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Byte,
    TwoBytes,
    FourBytes,
    Varint,
    /// UTF-8 or binary: a two-byte length in front.
    Text,
    /// Two of these.
    Pair,
}

/// The kind of a property's value; `None` = there is no such property.
pub fn property_kind(id: u8) -> Option<Kind> {
    match id {
        0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => Some(Kind::Byte),
        0x13 | 0x21 | 0x22 | 0x23 => Some(Kind::TwoBytes),
        0x02 | 0x11 | 0x18 | 0x27 => Some(Kind::FourBytes),
        0x0B => Some(Kind::Varint),
        0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => Some(Kind::Text),
        USER_PROPERTY => Some(Kind::Pair),
        _ => None,
    }
}

/// Properties, each with its id; `None` where the bytes are none.
pub fn split_properties(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let text = |bytes: &[u8]| Some(2 + usize::from(u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?])));
    let mut found = Vec::new();
    while let Some((&id, value)) = bytes.split_first() {
        let len = 1 + match property_kind(id)? {
            Kind::Byte => 1,
            Kind::TwoBytes => 2,
            Kind::FourBytes => 4,
            Kind::Varint => varint(value)?.1,
            Kind::Text => text(value)?,
            Kind::Pair => {
                let key = text(value)?;
                key + text(value.get(key..)?)?
            }
        };
        found.push(bytes.get(..len)?);
        bytes = &bytes[len..];
    }
    Some(found)
}

struct Parser<'a> {
    chars: Vec<char>,
    at: usize,
    version: Version,
    name: &'a str,
    text: &'a str,
}

impl Parser<'_> {
    fn fail(&self, what: &str) -> ! {
        panic!("{what} at character {} of the packet text {:?}", self.at, self.text)
    }

    fn next(&mut self) -> Option<char> {
        let c = self.chars.get(self.at).copied();
        self.at += 1;
        c
    }

    /// What follows, without and past `end`.
    fn take_to(&mut self, end: char) -> String {
        let start = self.at;
        while let Some(c) = self.next() {
            if c == end {
                return self.chars[start..self.at - 1].iter().collect();
            }
        }
        self.fail(&format!("no closing {end}"))
    }

    fn word(&mut self) -> String {
        let start = self.at;
        while self.chars.get(self.at).is_some_and(|c| c.is_ascii_alphanumeric() || *c == ':') {
            self.at += 1;
        }
        self.chars[start..self.at].iter().collect()
    }

    /// Elements up to the closing character, or to the end.
    fn until(&mut self, end: Option<char>) -> Vec<Element> {
        let mut out = Vec::new();
        while let Some(c) = self.next() {
            match c {
                c if Some(c) == end => return out,
                ' ' | '\n' => {}
                '{' => {
                    let inner = self.until(Some('}'));
                    let len = self.len(&inner);
                    bytes(&mut out, &as_varint(len));
                    out.extend(inner);
                }
                '(' => {
                    let wanted = self.next();
                    let inner = self.until(Some(')'));
                    if wanted == Some(self.version.digit()) {
                        out.extend(inner);
                    }
                }
                '"' => {
                    let text = self.take_to('"').replace('@', self.name);
                    with_len(&mut out, text.as_bytes());
                }
                '\'' => {
                    let text = self.take_to('\'');
                    bytes(&mut out, text.as_bytes());
                }
                '[' => {
                    let digits = self.take_to(']');
                    let inner = self.hex(&digits);
                    with_len(&mut out, &inner);
                }
                '%' if self.version == Version::V5 => out.push(Element::Byte(0)),
                '%' => {}
                '.' if self.next() == Some('.') => out.push(Element::Any),
                '*' if self.next() == Some('*') => out.push(Element::Rest),
                '#' => match self.next() {
                    Some(name) => out.push(Element::Id(name)),
                    None => self.fail("# without a name"),
                },
                c if c.is_ascii_alphanumeric() => {
                    self.at -= 1;
                    self.words(&mut out);
                }
                c => self.fail(&format!("{c:?} means nothing")),
            }
        }
        if end.is_some() { self.fail("something is not closed") } else { out }
    }

    fn words(&mut self, out: &mut Vec<Element>) {
        let word = self.word();
        let number = |digits: &str| digits.parse::<usize>().unwrap_or_else(|_| self.fail("no number"));
        match word.split_once(':') {
            Some(("v", digits)) => bytes(out, &as_varint(number(digits))),
            Some(("t", digits)) => with_len(out, &vec![b'x'; number(digits)]),
            Some(("fill", digits)) => bytes(out, &vec![b'x'; number(digits)]),
            Some(_) => self.fail("unknown word"),
            None if word == "lv" => out.push(Element::Byte(self.version.level())),
            None if word == "p" && self.next() == Some('{') => {
                let inner = self.until(Some('}'));
                let plain = Packet(inner).bytes(&Ids::new());
                out.push(Element::Properties(plain));
            }
            None => {
                let found = self.hex(&word);
                bytes(out, &found);
            }
        }
    }

    fn hex(&self, digits: &str) -> Vec<u8> {
        if !digits.len().is_multiple_of(2) {
            self.fail("half a byte");
        }
        let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap_or_else(|_| self.fail("not hex"));
        (0..digits.len()).step_by(2).map(byte).collect()
    }

    fn len(&self, elements: &[Element]) -> usize {
        let one = |element: &Element| match element {
            Element::Byte(_) | Element::Any => 1,
            Element::Id(_) => 2,
            Element::Properties(inner) => as_varint(inner.len()).len() + inner.len(),
            Element::Rest => self.fail("** inside of {} has no length"),
        };
        elements.iter().map(one).sum()
    }
}

fn as_varint(value: usize) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(value, &mut out);
    out
}

fn bytes(out: &mut Vec<Element>, bytes: &[u8]) {
    out.extend(bytes.iter().map(|byte| Element::Byte(*byte)));
}

fn with_len(out: &mut Vec<Element>, inner: &[u8]) {
    let len = u16::try_from(inner.len()).expect("a two-byte length");
    bytes(out, &len.to_be_bytes());
    bytes(out, inner);
}

#[test]
fn a_text_becomes_bytes() {
    let check = |text: &str, v311: &[u8], v5: &[u8]| {
        for (version, expected) in [(Version::V311, v311), (Version::V5, v5)] {
            assert_eq!(Packet::parse(text, version, "me").bytes(&Ids::from([('1', 7)])), expected, "{text}");
        }
    };
    check(
        "82{0001 % \"@/a\" 00}",
        b"\x82\x09\0\x01\0\x04me/a\0"[..].into(),
        b"\x82\x0A\0\x01\0\0\x04me/a\0"[..].into(),
    );
    check("lv 'a@'", b"\x04a@", b"\x05a@");
    check("[C328] t:2 fill:1", b"\0\x02\xC3\x28\0\x02xxx", b"\0\x02\xC3\x28\0\x02xxx");
    check("40{#1 (500)}", b"\x40\x02\0\x07", b"\x40\x03\0\x07\0");
    check("v:300 {{}}", b"\xAC\x02\x01\0", b"\xAC\x02\x01\0");
}

#[test]
fn an_expectation_takes_what_it_says_and_nothing_else() {
    let check = |text: &str, bytes: &[u8], expected: bool| {
        let packet = Packet::parse(text, Version::V5, "me");
        assert_eq!(packet.matches(bytes, &mut Ids::from([('1', 7)])), expected, "{text} {bytes:?}");
    };
    check("40{0001}", &[0x40, 2, 0, 1], true);
    check("40{0001}", &[0x40, 2, 0, 2], false);
    check("40{0001}", &[0x40, 2, 0, 1, 0], false);
    check("40{0001}", &[0x40, 2, 0], false);
    check("40{#1}", &[0x40, 2, 0, 7], true);
    check("40{#1}", &[0x40, 2, 0, 8], false);
    check("40{#2}", &[0x40, 2, 0, 8], true);
    check("40{#2}", &[0x40, 2, 0, 0], false);
    check("40{..01}", &[0x40, 2, 9, 1], true);
    check("40 **", &[0x40, 2, 9, 1], true);
    check("30 **", &[0x40, 2, 9, 1], false);
    let properties = "{p{26\"a\"\"1\" 26\"b\"\"2\" 0101}}";
    check(properties, b"\x11\x10\x01\x01\x26\0\x01a\0\x011\x26\0\x01b\0\x012", true);
    check(properties, b"\x11\x10\x26\0\x01a\0\x011\x01\x01\x26\0\x01b\0\x012", true);
    check(properties, b"\x11\x10\x26\0\x01b\0\x012\x26\0\x01a\0\x011\x01\x01", false);
    check(properties, b"\x0F\x0E\x26\0\x01b\0\x012\x26\0\x01a\0\x011", false);
}

//! The data types of the wire (section 1.5), written.
//!
//! Invariant: a packet's length is found by writing it to a [`Length`], so it cannot differ from what is sent.

use super::properties::id;

/// Where a packet is written to.
pub(super) trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Counts only.
#[derive(Default)]
struct Length(usize);

impl Sink for Length {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

/// How many bytes `write` puts.
pub(super) fn length(write: impl Fn(&mut dyn Sink)) -> usize {
    let mut length = Length::default();
    write(&mut length);
    length.0
}

/// A whole packet: the fixed header, then what `body` puts.
pub(super) fn packet(first: u8, body: impl Fn(&mut dyn Sink), out: &mut Vec<u8>) {
    let len = length(&body);
    out.reserve(5 + len);
    out.push(first);
    varint(len, out);
    body(out);
}

/// How long [`packet`] makes it.
pub(super) fn packet_len(body: impl Fn(&mut dyn Sink)) -> usize {
    let len = length(body);
    1 + length(|out| varint(len, out)) + len
}

/// A variable byte integer (section 1.5.5); no value here comes near the limit of 268 435 455.
pub(super) fn varint(value: usize, out: &mut dyn Sink) {
    let mut rest = value;
    while rest > 0x7f {
        out.put(&[(rest & 0x7f) as u8 | 0x80]);
        rest >>= 7;
    }
    out.put(&[rest as u8]);
}

/// Length and bytes; longer than a length can say is cut.
pub(super) fn binary(bytes: &[u8], out: &mut dyn Sink) {
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.put(&len.to_be_bytes());
    out.put(&bytes[..usize::from(len)]);
}

/// As [`binary`], cut between characters.
pub(super) fn text(text: &str, out: &mut dyn Sink) {
    binary(&text.as_bytes()[..text.floor_char_boundary(usize::from(u16::MAX))], out);
}

/// What `write` puts, behind its length.
pub(super) fn properties(out: &mut dyn Sink, write: impl Fn(&mut dyn Sink)) {
    varint(length(&write), out);
    write(out);
}

pub(super) fn property_bool(id: u8, value: bool, out: &mut dyn Sink) {
    out.put(&[id, u8::from(value)]);
}

pub(super) fn property_u16(id: u8, value: Option<u16>, out: &mut dyn Sink) {
    if let Some(value) = value {
        let [high, low] = value.to_be_bytes();
        out.put(&[id, high, low]);
    }
}

pub(super) fn property_u32(id: u8, value: Option<u32>, out: &mut dyn Sink) {
    if let Some(value) = value {
        out.put(&[id]);
        out.put(&value.to_be_bytes());
    }
}

pub(super) fn property_text(id: u8, value: Option<&str>, out: &mut dyn Sink) {
    if let Some(value) = value {
        out.put(&[id]);
        text(value, out);
    }
}

pub(super) fn property_user(name: &str, value: &str, out: &mut dyn Sink) {
    out.put(&[id::USER_PROPERTY]);
    text(name, out);
    text(value, out);
}

//! Rows as binary COPY takes them. Pure.
//!
//! ```text
//! "PGCOPY\n" 0xff "\r\n" 0x00 | flags: u32 | length of an extension: u32   (both 0)
//! a row:   fields: u16 | a field: length: i32 (-1 = null) | bytes
//! the end: 0xffff                                            all big-endian
//! ```
//! By hand, not through `Insertable`: arrays are written without making a vector of options for each, and U+0000, which
//! Postgres cannot hold in a text, nor read out of JSON, is replaced on the way (see `text`).

use super::text;
use super::types::pg_micros;
use crate::domain::Timestamp;

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const FLOAT8: u32 = 701;
const INT8: u32 = 20;

/// A COPY stream in the making.
pub(super) struct Rows {
    bytes: Vec<u8>,
}

impl Rows {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        let mut all = Vec::with_capacity(bytes + SIGNATURE.len());
        all.extend_from_slice(SIGNATURE);
        Self { bytes: all }
    }

    /// Begins a row of so many fields.
    pub(super) fn row(&mut self, fields: u16) {
        self.bytes.extend_from_slice(&fields.to_be_bytes());
    }

    pub(super) fn null(&mut self) {
        self.bytes.extend_from_slice(&(-1i32).to_be_bytes());
    }

    /// A number in its width, as it is; or null.
    pub(super) fn number<const N: usize>(&mut self, big_endian: Option<[u8; N]>) {
        match big_endian {
            Some(bytes) => self.field(&bytes),
            None => self.null(),
        }
    }

    pub(super) fn time(&mut self, at: Timestamp) {
        self.field(&pg_micros(at).to_be_bytes());
    }

    pub(super) fn text(&mut self, value: &str) {
        self.field(text::plain(value).as_bytes());
    }

    /// JSON text for a column of type json.
    pub(super) fn json(&mut self, value: Option<&str>) {
        match value {
            Some(value) => self.field(text::json(value).as_bytes()),
            None => self.null(),
        }
    }

    /// JSON text for a column of type jsonb.
    pub(super) fn jsonb(&mut self, value: &str) {
        self.sized(|bytes| {
            bytes.push(1);
            bytes.extend_from_slice(text::json(value).as_bytes());
        });
    }

    /// An array of doubles; a NaN is null.
    pub(super) fn floats(&mut self, values: &[f64]) {
        let has_null = values.iter().any(|value| value.is_nan());
        self.array(FLOAT8, values.len(), has_null, |bytes| {
            for value in values {
                if value.is_nan() {
                    bytes.extend_from_slice(&(-1i32).to_be_bytes());
                } else {
                    bytes.extend_from_slice(&8i32.to_be_bytes());
                    bytes.extend_from_slice(&value.to_be_bytes());
                }
            }
        });
    }

    /// An array of eight-byte integers.
    pub(super) fn longs(&mut self, values: &[i64]) {
        self.array(INT8, values.len(), false, |bytes| {
            for value in values {
                bytes.extend_from_slice(&8i32.to_be_bytes());
                bytes.extend_from_slice(&value.to_be_bytes());
            }
        });
    }

    /// The whole stream.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&(-1i16).to_be_bytes());
        self.bytes
    }

    fn field(&mut self, value: &[u8]) {
        self.sized(|bytes| bytes.extend_from_slice(value));
    }

    /// Dimensions, whether there are nulls, type; then length and lower bound of the one dimension.
    fn array(&mut self, element: u32, len: usize, has_null: bool, elements: impl FnOnce(&mut Vec<u8>)) {
        self.sized(|bytes| {
            let dimensions = i32::from(len > 0);
            for word in [dimensions, i32::from(has_null), element.cast_signed()] {
                bytes.extend_from_slice(&word.to_be_bytes());
            }
            if len > 0 {
                let len = i32::try_from(len).expect("a datagram has at most 200 slots");
                bytes.extend_from_slice(&len.to_be_bytes());
                bytes.extend_from_slice(&1i32.to_be_bytes());
            }
            elements(bytes);
        });
    }

    /// A field whose length is known when it is written.
    fn sized(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        write(&mut self.bytes);
        let len = i32::try_from(self.bytes.len() - at - 4).expect("no field reaches 2 GiB: payloads are limited");
        self.bytes[at..at + 4].copy_from_slice(&len.to_be_bytes());
    }
}

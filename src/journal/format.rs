//! Headers and records ⇄ bytes, as drawn on the front page. Pure.
//!
//! Invariant: decoding accepts exactly what encoding makes, and never panics on other bytes.

use uuid::Uuid;

use super::checksum::{crc32c, crc32c_append};
use super::{Entry, Error, Fault, Flags, MAX_APPEND_BYTES, Offset, Record};
use crate::domain::Timestamp;

/// Bytes of a segment's header.
pub(super) const SEGMENT_HEADER: usize = 64;
/// Bytes of a record before its body.
pub(super) const RECORD_HEADER: usize = 40;

const MAGIC: &[u8; 8] = b"IOTMJRNL";
const VERSION: u32 = 1;
const NO_PREDECESSOR: u64 = u64::MAX;
const MESSAGE: u8 = 0;
const HOLE: u8 = 1;

/// What a segment says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SegmentHeader {
    pub node_id: Uuid,
    pub first: u64,
    /// First offset and sealed length of the segment before it.
    pub previous: Option<(u64, u64)>,
}

impl SegmentHeader {
    pub fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut out = [0; SEGMENT_HEADER];
        let (previous_first, previous_len) = self.previous.unwrap_or((NO_PREDECESSOR, 0));
        out[0..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[16..32].copy_from_slice(self.node_id.as_bytes());
        out[32..40].copy_from_slice(&self.first.to_le_bytes());
        out[40..48].copy_from_slice(&previous_first.to_le_bytes());
        out[48..56].copy_from_slice(&previous_len.to_le_bytes());
        let crc = crc32c(&out[..60]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let bytes = bytes.get(..SEGMENT_HEADER).ok_or(Fault::Truncated)?;
        if &bytes[..8] != MAGIC {
            return Err(if bytes.iter().all(|b| *b == 0) { Fault::Zeros } else { Fault::Magic });
        }
        if u32_at(bytes, 60) != crc32c(&bytes[..60]) {
            return Err(Fault::HeaderChecksum);
        }
        match u32_at(bytes, 8) {
            VERSION => {}
            other => return Err(Fault::Version(other)),
        }
        let (previous_first, previous_len) = (u64_at(bytes, 40), u64_at(bytes, 48));
        Ok(Self {
            node_id: Self::claimed_node(bytes).ok_or(Fault::Truncated)?,
            first: u64_at(bytes, 32),
            previous: (previous_first != NO_PREDECESSOR).then_some((previous_first, previous_len)),
        })
    }

    /// The node id as it stands there, whatever the checksum says.
    pub fn claimed_node(bytes: &[u8]) -> Option<Uuid> {
        Uuid::from_slice(bytes.get(16..32)?).ok()
    }
}

/// Where the record checksums of a node start from.
pub(super) fn seed(node_id: Uuid) -> u32 {
    crc32c(node_id.as_bytes())
}

/// The bytes `entries` take as records, when they may be appended at all.
pub(super) fn encoded_len(entries: &[Entry<'_>]) -> Result<usize, Error> {
    let mut total = 0_usize;
    for entry in entries {
        let texts = [("topic", entry.topic), ("identity", entry.identity), ("content type", entry.content_type)];
        total = total.saturating_add(RECORD_HEADER).saturating_add(entry.payload.len());
        for (field, text) in texts {
            if text.len() > usize::from(u16::MAX) {
                return Err(Error::TextTooLong { field, bytes: text.len() });
            }
            total = total.saturating_add(text.len());
        }
    }
    if total > MAX_APPEND_BYTES {
        return Err(Error::TooLarge { bytes: total, limit: MAX_APPEND_BYTES });
    }
    Ok(total)
}

/// Appends a message record; `nth` records of the same write stand before it. The entry has passed [`encoded_len`].
pub(super) fn encode_record(out: &mut Vec<u8>, seed: u32, offset: u64, nth: u32, entry: &Entry<'_>) {
    let start = begin(out);
    for part in [entry.topic.as_bytes(), entry.identity.as_bytes(), entry.content_type.as_bytes(), entry.payload] {
        out.extend_from_slice(part);
    }
    let head = Head {
        len: out.len() - start,
        offset,
        received_at: entry.received_at,
        nth,
        body_crc: 0,
        flags: entry.flags,
        kind: MESSAGE,
        texts: [entry.topic.len(), entry.identity.len(), entry.content_type.len()],
    };
    finish(out, start, seed, head);
}

/// Appends a record that stands for `count` lost ones; none: the mark that all before it was synced.
pub(super) fn encode_hole(out: &mut Vec<u8>, seed: u32, offset: u64, count: u64) {
    let start = begin(out);
    out.extend_from_slice(&count.to_le_bytes());
    let head = Head { len: out.len() - start, offset, kind: HOLE, ..Head::default() };
    finish(out, start, seed, head);
}

fn begin(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; RECORD_HEADER]);
    start
}

fn finish(out: &mut [u8], start: usize, seed: u32, head: Head) {
    let (header, body) = out[start..].split_at_mut(RECORD_HEADER);
    let flags = head.flags.qos & 3 | u8::from(head.flags.retain) << 2 | u8::from(head.flags.dup) << 3;
    header[4..8].copy_from_slice(&(head.len as u32).to_le_bytes());
    header[8..16].copy_from_slice(&head.offset.to_le_bytes());
    header[16..24].copy_from_slice(&head.received_at.0.to_le_bytes());
    header[24..28].copy_from_slice(&head.nth.to_le_bytes());
    header[28..32].copy_from_slice(&crc32c(body).to_le_bytes());
    header[32] = flags;
    header[33] = head.kind;
    for (i, len) in head.texts.into_iter().enumerate() {
        header[34 + 2 * i..36 + 2 * i].copy_from_slice(&(len as u16).to_le_bytes());
    }
    let crc = crc32c_append(seed, &header[4..]);
    header[..4].copy_from_slice(&crc.to_le_bytes());
}

/// A record's header.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Head {
    /// Of the whole record.
    pub len: usize,
    pub offset: u64,
    received_at: Timestamp,
    /// Records before it in the same write.
    nth: u32,
    body_crc: u32,
    flags: Flags,
    kind: u8,
    texts: [usize; 3],
}

impl Head {
    /// Reads the header at the start of `bytes`.
    pub fn decode(bytes: &[u8], seed: u32) -> Result<Self, Fault> {
        let bytes = bytes.get(..RECORD_HEADER).ok_or(Fault::Truncated)?;
        let len = u32_at(bytes, 4) as usize;
        if len == 0 && bytes.iter().all(|b| *b == 0) {
            return Err(Fault::Zeros);
        }
        // Cheap refusals first: the search for the next record asks at every byte.
        let texts = [34, 36, 38].map(|at| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]])));
        let is_plausible = len <= MAX_APPEND_BYTES && len >= RECORD_HEADER + texts.iter().sum::<usize>();
        if !is_plausible || u32_at(bytes, 0) != crc32c_append(seed, &bytes[4..]) {
            return Err(Fault::HeaderChecksum);
        }
        let head = Self {
            len,
            offset: u64_at(bytes, 8),
            received_at: Timestamp(u64_at(bytes, 16) as i64),
            nth: u32_at(bytes, 24),
            body_crc: u32_at(bytes, 28),
            flags: Flags { qos: bytes[32] & 3, retain: bytes[32] & 4 != 0, dup: bytes[32] & 8 != 0 },
            kind: bytes[33],
            texts,
        };
        match head.kind {
            MESSAGE => Ok(head),
            HOLE if len == RECORD_HEADER + 8 && texts == [0; 3] => Ok(head),
            HOLE => Err(Fault::Lengths),
            other => Err(Fault::Kind(other)),
        }
    }

    /// The first offset of the write this record came with: everything below was synced before.
    pub fn write_first(&self) -> u64 {
        self.offset.saturating_sub(u64::from(self.nth))
    }

    /// Checks the whole record, which `bytes` begins with, and that it is number `expected`.
    pub fn check(bytes: &[u8], seed: u32, expected: u64) -> Result<Self, Fault> {
        let head = Self::decode(bytes, seed)?;
        let body = bytes.get(RECORD_HEADER..head.len).ok_or(Fault::Truncated)?;
        if crc32c(body) != head.body_crc {
            return Err(Fault::BodyChecksum);
        }
        if head.offset != expected {
            return Err(Fault::Sequence { found: Offset(head.offset) });
        }
        if head.kind == HOLE {
            return head.offset.checked_add(u64_at(body, 0)).map(|_| head).ok_or(Fault::Lengths);
        }
        let texts = body.get(..head.texts.iter().sum()).ok_or(Fault::Lengths)?;
        let mut rest = texts;
        for len in head.texts {
            let (text, after) = rest.split_at(len);
            std::str::from_utf8(text).map_err(|_| Fault::Text)?;
            rest = after;
        }
        Ok(head)
    }

    /// The offset after this record. `bytes` begins with it and has passed [`check`](Self::check).
    pub fn next_offset(&self, bytes: &[u8]) -> u64 {
        let count = if self.kind == HOLE { u64_at(bytes, RECORD_HEADER) } else { 1 };
        self.offset.saturating_add(count)
    }

    /// Whether it is no message: a hole or a mark.
    pub fn is_hole(&self) -> bool {
        self.kind == HOLE
    }

    /// The message in `bytes`, which begin with this record and have passed [`check`](Self::check).
    pub fn record<'a>(&self, bytes: &'a [u8]) -> Record<'a> {
        let mut rest = bytes.get(RECORD_HEADER..self.len).unwrap_or_default();
        let [topic, identity, content_type] = self.texts.map(|len| {
            let (text, after) = rest.split_at_checked(len).unwrap_or_default();
            rest = after;
            std::str::from_utf8(text).unwrap_or_default()
        });
        Record {
            offset: Offset(self.offset),
            received_at: self.received_at,
            topic,
            identity,
            content_type,
            flags: self.flags,
            payload: rest,
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("a slice of 4 bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("a slice of 8 bytes"))
}

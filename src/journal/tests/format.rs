//! The format by itself: what goes in comes out, everything else is refused with its reason.

use proptest::prelude::*;

use super::super::checksum::crc32c;
use super::super::format::{
    Head, RECORD_HEADER, SEGMENT_HEADER, SegmentHeader, encode_hole, encode_record, encoded_len,
};
use super::super::{Entry, Error, Fault, Flags, MAX_APPEND_BYTES, Offset};
use super::{NODE, entry};
use crate::domain::Timestamp;

const SEED: u32 = 0x5eed_1234;

fn record(offset: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_record(&mut out, SEED, offset, 3, &entry(payload));
    out
}

#[test]
fn a_segment_header_reads_back_and_any_changed_byte_is_refused() {
    for previous in [None, Some((0, 64)), Some((7, u64::MAX))] {
        let header = SegmentHeader { node_id: NODE, first: 12, previous };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        for at in 0..SEGMENT_HEADER {
            let mut bad = bytes;
            bad[at] ^= 0x10;
            assert!(SegmentHeader::decode(&bad).is_err(), "byte {at}");
        }
    }
}

#[test]
fn bytes_that_are_no_segment_header_are_refused_with_the_reason() {
    let good = SegmentHeader { node_id: NODE, first: 12, previous: None }.encode();
    let check = |bytes: &[u8], fault: Fault| assert_eq!(SegmentHeader::decode(bytes), Err(fault));
    check(&[], Fault::Truncated);
    check(&good[..63], Fault::Truncated);
    check(&[0; 64], Fault::Zeros);
    check(&[1; 64], Fault::Magic);
    let mut newer = good;
    newer[8] = 9;
    let crc = crc32c(&newer[..60]).to_le_bytes();
    newer[60..].copy_from_slice(&crc);
    check(&newer, Fault::Version(9));
}

#[test]
fn bytes_that_are_not_the_expected_record_are_refused_with_the_reason() {
    let good = record(5, b"payload");
    let check = |bytes: &[u8], expected: u64, fault: Fault| {
        assert_eq!(Head::check(bytes, SEED, expected), Err(fault), "{bytes:?}");
    };
    let changed = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    check(&[], 5, Fault::Truncated);
    check(&good[..RECORD_HEADER - 1], 5, Fault::Truncated);
    check(&good[..good.len() - 1], 5, Fault::Truncated);
    check(&[0; 100], 5, Fault::Zeros);
    check(&good, 4, Fault::Sequence { found: Offset(5) });
    check(&good, 6, Fault::Sequence { found: Offset(5) });
    check(&changed(0), 5, Fault::HeaderChecksum);
    check(&changed(9), 5, Fault::HeaderChecksum);
    check(&changed(RECORD_HEADER), 5, Fault::BodyChecksum);
    check(&changed(good.len() - 1), 5, Fault::BodyChecksum);
    assert_eq!(Head::check(&good, SEED ^ 1, 5), Err(Fault::HeaderChecksum), "another node's record");
}

#[test]
fn a_hole_stands_for_its_offsets_and_a_mark_for_none() {
    for count in [0, 1, 1000] {
        let mut out = Vec::new();
        encode_hole(&mut out, SEED, 40, count);
        let head = Head::check(&out, SEED, 40).unwrap();
        assert!(head.is_hole());
        assert_eq!(head.next_offset(&out), 40 + count);
    }
    let mut out = Vec::new();
    encode_hole(&mut out, SEED, 40, u64::MAX);
    assert_eq!(Head::check(&out, SEED, 40), Err(Fault::Lengths));
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_queued() {
    let long = "x".repeat(65_536);
    let fits = &long[1..];
    let big = vec![0; MAX_APPEND_BYTES];
    assert!(encoded_len(&[Entry { topic: fits, identity: fits, content_type: fits, ..entry(b"") }]).is_ok());
    let is_long = |e: Entry<'_>| matches!(encoded_len(&[e]), Err(Error::TextTooLong { bytes: 65_536, .. }));
    assert!(is_long(Entry { topic: &long, ..entry(b"") }));
    assert!(is_long(Entry { identity: &long, ..entry(b"") }));
    assert!(is_long(Entry { content_type: &long, ..entry(b"") }));
    assert!(matches!(encoded_len(&[entry(&big)]), Err(Error::TooLarge { .. })));
    assert!(matches!(encoded_len(&[entry(&big[..40 << 20]); 2]), Err(Error::TooLarge { .. })));
}

proptest! {
    #[test]
    fn a_record_reads_back_as_it_was(
        offset: u64, at: i64, nth: u32, qos in 0_u8..3, retain: bool, dup: bool,
        topic: String, identity: String, content_type: String, payload: Vec<u8>, behind: Vec<u8>,
    ) {
        let offset = offset / 2;
        let entry = Entry {
            received_at: Timestamp(at),
            topic: &topic,
            identity: &identity,
            content_type: &content_type,
            flags: Flags { qos, retain, dup },
            payload: &payload,
        };
        let mut bytes = Vec::new();
        encode_record(&mut bytes, SEED, offset, nth, &entry);
        prop_assert_eq!(bytes.len(), encoded_len(&[entry]).unwrap());
        bytes.extend(behind);
        let head = Head::check(&bytes, SEED, offset).unwrap();
        prop_assert_eq!(head.write_first(), offset.saturating_sub(u64::from(nth)));
        prop_assert_eq!(head.next_offset(&bytes), offset + 1);
        let record = head.record(&bytes);
        prop_assert_eq!(record.offset, Offset(offset));
        prop_assert_eq!(record.received_at, entry.received_at);
        prop_assert_eq!(record.flags, entry.flags);
        prop_assert_eq!((record.topic, record.identity), (entry.topic, entry.identity));
        prop_assert_eq!((record.content_type, record.payload), (entry.content_type, entry.payload));
    }

    #[test]
    fn arbitrary_bytes_are_refused(bytes: Vec<u8>) {
        prop_assert!(SegmentHeader::decode(&bytes).is_err());
        prop_assert!(Head::check(&bytes, SEED, 0).is_err());
    }
}

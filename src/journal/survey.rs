//! Reading a segment through to the end, whatever is in it: which bytes are records, which are not, and which offsets
//! are lost by that. What `verify` reports and `salvage` rewrites.
//!
//! Invariant: the pieces cover the file from its header to its end, in order. Only reads.

use std::path::{Path, PathBuf};

use super::format::{SEGMENT_HEADER, SegmentHeader};
use super::recovery::{open_read, read_header};
use super::scan::{Scanner, Step};
use super::{Error, Fault};

/// A part of a segment file, from one byte position to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Piece {
    /// Records one after the other.
    Good { from: u64, to: u64 },
    /// Something else; the records `first..end` should be there.
    Lost { from: u64, to: u64, first: u64, end: u64, fault: Fault },
}

/// What a segment file holds.
#[derive(Debug)]
pub(super) struct Survey {
    pub path: PathBuf,
    /// By its name.
    pub first: u64,
    pub file_bytes: u64,
    pub header: Result<SegmentHeader, Fault>,
    pub pieces: Vec<Piece>,
    /// Bytes at the end of the last segment that opening would cut: position and number.
    pub torn: Option<(u64, u64)>,
    /// Holes that an earlier salvage left: position, first offset, number of offsets.
    pub holes: Vec<(u64, u64, u64)>,
    pub records: u64,
    /// The offset after the last record or, when it is sealed, of the next segment.
    pub end: u64,
}

impl Survey {
    /// Reads the segment at `path` whose first offset is `first`; it is sealed when there is a `next` one.
    pub fn of(path: &Path, first: u64, next: Option<u64>, seed: u32) -> Result<Self, Error> {
        let (file, len) = open_read(path)?;
        let header = read_header(&file, len, path)?;
        let mut survey = Self {
            path: path.to_owned(),
            first,
            file_bytes: len,
            header,
            pieces: Vec::new(),
            torn: None,
            holes: Vec::new(),
            records: 0,
            end: first,
        };
        let start = (SEGMENT_HEADER as u64).min(len);
        let mut scanner = Scanner::new(&file, start, len, first, seed);
        survey.walk(&mut scanner, next).map_err(Error::io("read", path))?;
        Ok(survey)
    }

    fn walk(&mut self, scanner: &mut Scanner<'_>, next: Option<u64>) -> std::io::Result<()> {
        let limit = next.unwrap_or(u64::MAX);
        loop {
            let (from, first) = (scanner.position, scanner.expected);
            let fault = match scanner.step()? {
                Step::Record(head, bytes) if head.next_offset(bytes) <= limit => {
                    let count = head.next_offset(bytes) - first;
                    match head.is_hole() {
                        true if count > 0 => self.holes.push((from, first, count)),
                        true => {}
                        false => self.records += 1,
                    }
                    self.good(from, head.len as u64);
                    self.end = scanner.expected;
                    continue;
                }
                // The next segment has this offset too: whichever was meant, one of them is not in its place.
                Step::Record(head, _) => Fault::Sequence { found: super::Offset(head.offset) },
                Step::End if first < limit && next.is_some() => Fault::Truncated,
                Step::End => return Ok(()),
                Step::Bad(fault) => fault,
            };
            scanner.position = from;
            if next.is_none() && !scanner.is_followed_by_later_write(first)? {
                scanner.position = from;
                let used = scanner.used_end()?;
                self.torn = (used > from).then_some((from, used - from));
                return Ok(());
            }
            scanner.position = from;
            let end = self.resume(scanner, first, next)?;
            self.pieces.push(Piece::Lost { from, to: scanner.position, first, end, fault });
            self.end = end;
            if scanner.position >= self.file_bytes {
                return Ok(());
            }
        }
    }

    /// Moves the scanner to the next whole record that belongs here, or to the end of the file; returns the offset that
    /// comes next: the record's, the next segment's, or the one after the last that a readable header tells of.
    fn resume(&self, scanner: &mut Scanner<'_>, first: u64, next: Option<u64>) -> std::io::Result<u64> {
        let limit = next.unwrap_or(u64::MAX);
        let mut told = first;
        while let Some((at, head)) = scanner.find(first)? {
            if head.offset >= limit {
                continue;
            }
            scanner.expected = head.offset;
            if matches!(scanner.step()?, Step::Record(..)) && scanner.expected <= limit {
                (scanner.position, scanner.expected) = (at, head.offset);
                return Ok(head.offset);
            }
            scanner.position = at;
            told = told.max(head.offset + u64::from(!head.is_hole()));
        }
        Ok(next.unwrap_or(told))
    }

    fn good(&mut self, at: u64, len: u64) {
        match self.pieces.last_mut() {
            Some(Piece::Good { to, .. }) if *to == at => *to += len,
            _ => self.pieces.push(Piece::Good { from: at, to: at + len }),
        }
    }

    /// Whether records or bytes in it are lost.
    pub fn has_lost(&self) -> bool {
        self.pieces.iter().any(|p| matches!(p, Piece::Lost { .. }))
    }
}

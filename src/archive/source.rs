//! An object as the Parquet decoder wants to see it: bytes by position, some of them at hand, the others fetched.
//!
//! Does not know what the bytes mean.

use std::io::{self, Read};
use std::ops::Range;

use bytes::{Buf, Bytes};
use object_store::path::Path;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use super::bucket::Bucket;

/// Bytes fetched when the decoder does not say how many it will need.
const STEP: u64 = 64 * 1024;

/// An object's bytes.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) bucket: Bucket,
    pub(crate) key: Path,
    pub(crate) size: u64,
    /// Bytes already in memory and the position of the first.
    pub(crate) at_hand: (u64, Bytes),
}

impl Source {
    fn part_at_hand(&self, range: &Range<u64>) -> Option<Bytes> {
        let (start, bytes) = &self.at_hand;
        let from = usize::try_from(range.start.checked_sub(*start)?).ok()?;
        let to = usize::try_from(range.end.checked_sub(*start)?).ok()?;
        (from <= to && to <= bytes.len()).then(|| bytes.slice(from..to))
    }

    fn get(&self, range: Range<u64>) -> Result<Bytes, ParquetError> {
        match self.part_at_hand(&range) {
            Some(bytes) => Ok(bytes),
            None => self.bucket.get_range(&self.key, range).map_err(|e| ParquetError::External(Box::new(e))),
        }
    }
}

impl Length for Source {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Source {
    type T = Stream;

    fn get_read(&self, start: u64) -> Result<Stream, ParquetError> {
        let (at, bytes) = &self.at_hand;
        let end = at + bytes.len() as u64;
        let end = if (*at..end).contains(&start) { end } else { self.size.min(start.saturating_add(STEP)) };
        let now = self.get(start..end)?;
        Ok(Stream { source: (self.bucket.clone(), self.key.clone()), size: self.size, next: end, now })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let end = start.saturating_add(length as u64);
        if end > self.size {
            return Err(ParquetError::EOF(format!("{length} bytes at {start} of {}", self.size)));
        }
        self.get(start..end)
    }
}

/// The bytes from a position on.
#[derive(Debug)]
pub(crate) struct Stream {
    source: (Bucket, Path),
    size: u64,
    next: u64,
    now: Bytes,
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.now.is_empty() && self.next < self.size {
            let end = self.size.min(self.next.saturating_add(STEP));
            self.now = self.source.0.get_range(&self.source.1, self.next..end).map_err(io::Error::other)?;
            self.next = end;
        }
        let count = into.len().min(self.now.len());
        self.now.copy_to_slice(&mut into[..count]);
        Ok(count)
    }
}

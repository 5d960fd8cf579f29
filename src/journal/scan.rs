//! Reading a segment file record by record, and finding the next record behind bytes that are none.
//!
//! Invariant: memory is one chunk or one record, whichever is larger; nothing outside `start..end` is looked at. Does
//! not decide what a bad record means.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::Fault;
use super::format::{Head, RECORD_HEADER};

const CHUNK: u64 = 1 << 20;

/// Compared with, to pass over space that was taken ahead of the writes.
const ZEROS: [u8; 4096] = [0; 4096];

/// A place in a segment file and the offset that should stand there.
pub(super) struct Scanner<'f> {
    file: &'f File,
    end: u64,
    seed: u32,
    /// Byte position of the next record.
    pub position: u64,
    /// Its offset.
    pub expected: u64,
    buffer: Vec<u8>,
    buffer_at: u64,
}

/// What stands at the scanner's place.
pub(super) enum Step<'a> {
    /// A record; the scanner has moved behind it.
    Record(Head, &'a [u8]),
    /// The end of the file.
    End,
    /// Something else; the scanner stays.
    Bad(Fault),
}

impl<'f> Scanner<'f> {
    /// Reads `file` from `position` on, up to `end`.
    pub fn new(file: &'f File, position: u64, end: u64, expected: u64, seed: u32) -> Self {
        Self { file, end, seed, position, expected, buffer: Vec::new(), buffer_at: 0 }
    }

    /// The next record.
    pub fn step(&mut self) -> io::Result<Step<'_>> {
        if self.position >= self.end {
            return Ok(Step::End);
        }
        self.fill(RECORD_HEADER)?;
        if let Ok(head) = Head::decode(self.rest(), self.seed) {
            self.fill(head.len)?;
        }
        match Head::check(self.rest(), self.seed, self.expected) {
            Ok(head) => {
                let start = (self.position - self.buffer_at) as usize;
                let bytes = &self.buffer[start..start + head.len];
                self.position += head.len as u64;
                self.expected = head.next_offset(bytes);
                Ok(Step::Record(head, bytes))
            }
            Err(fault) => Ok(Step::Bad(fault)),
        }
    }

    /// The next place behind this one where the header of a record of offset `at_least` or more stands, if there is one.
    pub fn find(&mut self, at_least: u64) -> io::Result<Option<(u64, Head)>> {
        self.position += 1;
        while self.position + RECORD_HEADER as u64 <= self.end {
            self.fill(RECORD_HEADER)?;
            let rest = self.rest();
            let zeros = rest.chunks_exact(ZEROS.len()).take_while(|block| *block == ZEROS).count() * ZEROS.len();
            if zeros > 0 {
                // A header may begin with zeros, but it does not consist of them.
                self.position += (zeros - RECORD_HEADER + 1) as u64;
                continue;
            }
            let candidates = (rest.len() - RECORD_HEADER + 1).min(4 * ZEROS.len());
            let found = (0..candidates).find_map(|at| {
                let head = Head::decode(&rest[at..], self.seed).ok()?;
                (head.offset >= at_least).then_some((at as u64, head))
            });
            if let Some((at, head)) = found {
                self.position += at;
                return Ok(Some((self.position, head)));
            }
            self.position += candidates as u64;
        }
        self.position = self.end;
        Ok(None)
    }

    /// Whether a record of a later write than that of offset `end`, which is not readable here, stands behind this place.
    /// Writes are synced one after the other, so then the bytes here were once good. Moves the scanner.
    pub fn is_followed_by_later_write(&mut self, end: u64) -> io::Result<bool> {
        while let Some((_, head)) = self.find(end)? {
            if head.write_first() > end {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Position behind the last byte from here on that is not zero.
    pub fn used_end(&mut self) -> io::Result<u64> {
        let mut used = self.position;
        while self.position < self.end {
            self.fill(1)?;
            let rest = self.rest();
            for (at, block) in (self.position..).step_by(ZEROS.len()).zip(rest.chunks(ZEROS.len())) {
                if block != &ZEROS[..block.len()] {
                    used = at + block.iter().rposition(|b| *b != 0).map_or(0, |last| last as u64 + 1);
                }
            }
            self.position += rest.len() as u64;
        }
        Ok(used)
    }

    fn rest(&self) -> &[u8] {
        self.buffer.get((self.position - self.buffer_at) as usize..).unwrap_or_default()
    }

    /// Has at least `need` bytes from the place on in the buffer, if the file has them.
    fn fill(&mut self, need: usize) -> io::Result<()> {
        let buffer_end = self.buffer_at + self.buffer.len() as u64;
        let available = self.end - self.position;
        if (buffer_end.saturating_sub(self.position)) >= (need as u64).min(available) && self.position >= self.buffer_at
        {
            return Ok(());
        }
        let len = available.min(CHUNK.max(need as u64)) as usize;
        self.buffer.resize(len, 0);
        self.buffer_at = self.position;
        self.file.read_exact_at(&mut self.buffer, self.position)
    }
}

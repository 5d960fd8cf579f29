//! A reader's place in the journal.
//!
//! Invariants: nothing at or behind the durable mark is read; every record is checked; offsets come in order and without
//! a gap, but for holes and, in a reader without a hold, what was trimmed. Reads its segment files itself and shares
//! with the writer only the list of them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::format::{Head, RECORD_HEADER, SEGMENT_HEADER};
use super::scan::{Scanner, Step};
use super::shared::{Hold, Phase, Segment, Shared};
use super::{Batch, Error, Fault, Offset, disk, large};

/// The least that is read at once: a few pages cost as much as one.
const LEAST_READ: u64 = 16 << 10;

/// A reader's place. Its calls block on file reads: use it from a blocking thread.
#[derive(Debug)]
pub struct Cursor {
    shared: Arc<Shared>,
    /// The name under which it holds records back.
    hold: Option<&'static str>,
    position: u64,
    file: Option<Place>,
    /// Where the hole began in whose middle it was.
    hole: Option<u64>,
    /// Bytes a record took, lately.
    record_bytes: u64,
    /// What the next batch is read into.
    spare: Vec<u8>,
}

/// A byte position in an open segment: that of the cursor's next record.
#[derive(Debug)]
struct Place {
    file: File,
    first: u64,
    at: u64,
}

impl Cursor {
    /// A cursor with a hold.
    pub(super) fn holding(shared: Arc<Shared>, name: &'static str, at: Offset) -> Result<Self, Error> {
        let mut state = shared.lock();
        let first = Offset(state.first());
        if at < first {
            return Err(Error::Trimmed { at, first });
        }
        if at.0 > state.head {
            return Err(Error::Ahead { at, head: Offset(state.head) });
        }
        match state.holds.iter_mut().find(|h| h.name == name) {
            Some(hold) if hold.is_open => return Err(Error::NameTaken { name }),
            Some(hold) => (hold.is_open, hold.released) = (true, at.0),
            None => state.holds.push(Hold { name, released: at.0, is_open: true }),
        }
        state.count_released();
        drop(state);
        shared.room.notify_one();
        Ok(Self {
            shared,
            hold: Some(name),
            position: at.0,
            file: None,
            hole: None,
            record_bytes: 2048,
            spare: Vec::new(),
        })
    }

    /// A cursor without a hold.
    pub(super) fn reading(shared: Arc<Shared>, at: Offset) -> Result<Self, Error> {
        let head = Offset(shared.lock().head);
        if at > head {
            return Err(Error::Ahead { at, head });
        }
        Ok(Self { shared, hold: None, position: at.0, file: None, hole: None, record_bytes: 2048, spare: Vec::new() })
    }

    /// Offset of the next record to read.
    pub fn position(&self) -> Offset {
        Offset(self.position)
    }

    /// The first offset of the hole in whose middle this cursor began; known once it has read. Who looks backwards goes on
    /// there: a hole may be longer than everything else.
    pub fn hole(&self) -> Option<Offset> {
        self.hole.map(Offset)
    }

    /// The next durable records, at least one if there is any, at most the limits; empty at the durable end. An error
    /// leaves the cursor where it is, behind the last good record.
    pub fn next_batch(&mut self, max_records: usize, max_bytes: usize) -> Result<Batch, Error> {
        let mut missing = None;
        while let Some(segment) = self.locate()? {
            match self.read(segment, max_records.max(1), max_bytes as u64) {
                Ok(batch) if batch.is_empty() => {}
                Ok(batch) => return Ok(batch),
                // Trimmed between the look at the list and the opening: the list says where to go on. If that is here, somebody
                // else has taken the file away.
                Err(Error::Io { source, .. })
                    if source.kind() == io::ErrorKind::NotFound
                        && self.hold.is_none()
                        && missing.replace(segment.first) != Some(segment.first) =>
                {
                    self.file = None;
                }
                Err(error) => return Err(error),
            }
        }
        self.spare = Vec::new();
        Ok(Batch::default())
    }

    /// Takes the buffer of a batch that is done with for the next one: while batches come one behind the other, its pages
    /// need not be asked for, nor emptied, again. At the durable end it is given back.
    pub fn reuse(&mut self, batch: Batch) {
        self.spare = batch.buffer;
    }

    /// The segment of the next record as far as it is durable; `None` at the durable end.
    fn locate(&mut self) -> Result<Option<Segment>, Error> {
        let state = self.shared.lock();
        let first = state.first();
        if self.position < first {
            if self.hold.is_some() {
                return Err(Error::Trimmed { at: Offset(self.position), first: Offset(first) });
            }
            self.position = first;
        }
        if self.position >= state.durable {
            return Ok(None);
        }
        Ok(state.segment_of(self.position))
    }

    /// Reads once. An empty batch means that only holes were passed.
    fn read(&mut self, segment: Segment, max_records: usize, max_bytes: u64) -> Result<Batch, Error> {
        let place = match self.file.take() {
            Some(place) if place.first == segment.first => place,
            _ => self.enter(segment)?,
        };
        let place = self.file.insert(place);
        let damaged = |at: u64, offset: u64, fault| Error::Damaged {
            file: disk::segment_path(&self.shared.dir, segment.first),
            position: at,
            offset: Offset(offset),
            fault,
        };
        let available = segment.bytes.saturating_sub(place.at);
        if available == 0 && self.position >= segment.end {
            // A hole at the journal's end was entered in its middle.
            return Ok(Batch::default());
        }
        let wanted = (max_records as u64).saturating_mul(self.record_bytes + self.record_bytes / 4).max(LEAST_READ);
        let mut len = wanted.min(max_bytes).min(available);
        loop {
            let mut buffer = std::mem::take(&mut self.spare);
            if buffer.len() < len as usize {
                let more = len as usize - buffer.len();
                large::reserve(&mut buffer, more);
                buffer.resize(len as usize, 0);
            }
            let read = &mut buffer[..len as usize];
            let io = |e| Error::io("read", &disk::segment_path(&self.shared.dir, segment.first))(e);
            place.file.read_exact_at(read, place.at).map_err(io)?;
            let parsed = Parsed::of(read, self.shared.seed, self.position, max_records);
            if parsed.used > 0 {
                place.at += parsed.used as u64;
                self.position = parsed.next;
                self.record_bytes = (parsed.used / parsed.records.len().max(1)) as u64;
                return Ok(Batch { buffer, records: parsed.records });
            }
            match parsed.fault {
                // One record alone is over the limit, or its header is cut: read just it.
                Some(Fault::Truncated) if len < available && parsed.need > len => len = parsed.need.min(available),
                fault => return Err(damaged(place.at, self.position, fault.unwrap_or(Fault::Truncated))),
            }
        }
    }

    /// Opens the segment and finds the cursor's record in it, or the first behind it where a hole takes its place.
    fn enter(&mut self, segment: Segment) -> Result<Place, Error> {
        let path = disk::segment_path(&self.shared.dir, segment.first);
        let file = disk::open_read(&path)?;
        let start = SEGMENT_HEADER as u64;
        let mut scanner = Scanner::new(&file, start, segment.bytes, segment.first, self.shared.seed);
        let mut hole = None;
        while scanner.expected < self.position {
            let (position, offset) = (scanner.position, Offset(scanner.expected));
            let fault = match scanner.step().map_err(Error::io("read", &path))? {
                Step::Record(head, _) => {
                    hole = head.is_hole().then_some(head.offset);
                    continue;
                }
                Step::End => Fault::Truncated,
                Step::Bad(fault) => fault,
            };
            return Err(Error::Damaged { file: path, position, offset, fault });
        }
        let at = scanner.position;
        // A hole that ends just here was not entered in its middle.
        self.hole = hole.filter(|_| scanner.expected > self.position).or(self.hole);
        self.position = scanner.expected;
        Ok(Place { file, first: segment.first, at })
    }

    /// Blocks until there is something to read (`true`), the journal is closed and read to its end, or the time is over.
    pub fn wait(&self, timeout: Duration) -> bool {
        let state = self.shared.lock();
        let waited = self
            .shared
            .published
            .wait_timeout_while(state, timeout, |s| s.durable <= self.position && s.phase != Phase::Ended);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.durable > self.position
    }

    /// Whether the journal is closed (or has failed) and this cursor has read all of it.
    pub fn is_finished(&self) -> bool {
        let state = self.shared.lock();
        state.phase == Phase::Ended && self.position >= state.durable
    }

    /// Everything below `below` may be trimmed as far as this cursor is concerned. Never goes back.
    pub fn release(&self, below: Offset) {
        let mut state = self.shared.lock();
        let below = below.0.min(state.durable);
        let Some(hold) = state.holds.iter_mut().find(|h| Some(h.name) == self.hold && h.released < below) else {
            return;
        };
        hold.released = below;
        state.count_released();
        let is_trim_due = state.is_trim_due();
        drop(state);
        if is_trim_due {
            self.shared.trim.notify_one();
        }
        self.shared.room.notify_one();
    }

    /// Ends the cursor and gives up its hold.
    pub fn retire(self) {
        let mut state = self.shared.lock();
        state.holds.retain(|h| Some(h.name) != self.hold);
        state.count_released();
        drop(state);
        self.shared.trim.notify_one();
        self.shared.room.notify_one();
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if let Some(hold) = state.holds.iter_mut().find(|h| Some(h.name) == self.hold) {
            hold.is_open = false;
        }
    }
}

/// The records at the start of a buffer.
struct Parsed {
    records: Vec<(usize, Head)>,
    /// Bytes they and the holes among them take.
    used: usize,
    /// The offset after them.
    next: u64,
    /// Why there are no more, when not for the limit.
    fault: Option<Fault>,
    /// Bytes from the end of the used ones on that would hold the next.
    need: u64,
}

impl Parsed {
    fn of(buffer: &[u8], seed: u32, expected: u64, max_records: usize) -> Self {
        let mut parsed = Self {
            records: Vec::with_capacity(max_records.min(buffer.len() / 1024)),
            used: 0,
            next: expected,
            fault: None,
            need: 0,
        };
        while parsed.records.len() < max_records {
            let rest = &buffer[parsed.used..];
            match Head::check(rest, seed, parsed.next) {
                Ok(head) => {
                    if !head.is_hole() {
                        parsed.records.push((parsed.used, head));
                    }
                    parsed.next = head.next_offset(rest);
                    parsed.used += head.len;
                }
                Err(fault) => {
                    parsed.need = Head::decode(rest, seed).map_or(RECORD_HEADER, |h| h.len) as u64;
                    parsed.fault = Some(fault);
                    break;
                }
            }
        }
        parsed
    }
}

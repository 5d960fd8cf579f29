//! Messages of one device that are in the journal, newest first.
//!
//! Costs: the journal is scanned backwards in steps of [`STEP`] records, only until enough are found; holes are stepped over. Normally all of it
//! is one step: what is not archived is at most a minute old. While the archive is away the tail grows with the journal,
//! and a device with few messages makes a listing read all of it.
//!
//! Invariant: says exactly which offsets it has seen, so that the caller can take the others from the archive.

use std::ops::Range;

use super::Error;
use super::classify::{Classify, device_of};
use super::log::Log;
use super::object::Entry;
use crate::domain::DeviceId;
use crate::payload::Window;

/// Records scanned before looking whether that is enough.
const STEP: u64 = 50_000;
const READ_RECORDS: usize = 8192;
const READ_BYTES: usize = 4 * 1024 * 1024;

/// Which messages are wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) device: &'a DeviceId,
    pub(crate) category: Option<&'a str>,
    pub(crate) limit: usize,
}

/// How to judge records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judge {
    pub(crate) classify: Classify,
    pub(crate) window: Window,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    pub(crate) entries: Vec<Entry>,
    /// Offsets looked at.
    seen: Vec<Range<u64>>,
}

impl Tail {
    /// Whether the record with this offset was looked at.
    pub(crate) fn has_seen(&self, offset: u64) -> bool {
        self.seen.iter().any(|range| range.contains(&offset))
    }
}

/// Looks at the records from `archived` (everything below is in the archive) on.
pub(crate) fn scan(log: &dyn Log, archived: u64, wanted: Wanted<'_>, judge: Judge) -> Result<Tail, Error> {
    let mut tail = Tail::default();
    let mut end = log.durable();
    let first = archived.max(log.first());
    while end > first && tail.entries.len() < wanted.limit {
        let start = end.saturating_sub(STEP).max(first);
        end = step(log, start..end, wanted, judge, &mut tail)?;
    }
    Ok(tail)
}

/// Looks at the records in `range`; returns below where there may be more.
fn step(log: &dyn Log, range: Range<u64>, wanted: Wanted<'_>, judge: Judge, tail: &mut Tail) -> Result<u64, Error> {
    let mut reader = log.reader(range.start)?;
    let (mut next, mut below) = (range.start, range.start);
    while next < range.end {
        let most = READ_RECORDS.min(usize::try_from(range.end - next).unwrap_or(READ_RECORDS));
        let read = reader.read(most, READ_BYTES, &mut |record| {
            let offset = record.offset.0;
            next = offset + 1;
            // Trimming can make a reader skip beyond the step.
            if !range.contains(&offset) {
                return;
            }
            match tail.seen.last_mut() {
                Some(seen) if seen.end == offset => seen.end += 1,
                _ => tail.seen.push(offset..offset + 1),
            }
            if device_of(record) != wanted.device.as_str() {
                return;
            }
            let category = (judge.classify)(record, judge.window).category;
            if wanted.category.is_none_or(|c| c == category) {
                tail.entries.push(Entry {
                    received_at: record.received_at,
                    offset,
                    category: category.to_owned(),
                    size: record.payload.len() as u64,
                });
            }
        })?;
        // Where a restored journal goes on lies a hole that in steps would have no end.
        below = below.min(reader.hole().unwrap_or(below));
        if read == 0 {
            break;
        }
    }
    Ok(below)
}

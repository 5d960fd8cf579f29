//! What this room needs of the journal, as traits, so that it can be tested against records that no disk has seen.
//!
//! Does not know how records are stored; the real implementation only forwards.

use std::fmt;
use std::time::Duration;

use crate::journal::{Cursor, Error, Journal, Offset, Record};

/// Limits of one read, where nothing else limits it.
pub(crate) const READ_RECORDS: usize = 4096;
pub(crate) const READ_BYTES: usize = 1024 * 1024;

/// A journal, as a place to read from.
pub(crate) trait Log: fmt::Debug + Send + Sync {
    /// The oldest offset still there.
    fn first(&self) -> u64;
    /// Exclusive end of what is on disk.
    fn durable(&self) -> u64;
    /// A place that holds back trimming.
    fn hold(&self, at: u64) -> Result<Box<dyn Follow>, Error>;
    /// A place that holds nothing back.
    fn reader(&self, at: u64) -> Result<Box<dyn Follow>, Error>;
}

/// A place in the journal. Calls block.
pub(crate) trait Follow: Send {
    /// Hands the next durable records to `each`, within the limits but at least one if there is any; returns how many.
    fn read(&mut self, max_records: usize, max_bytes: usize, each: &mut dyn FnMut(&Record<'_>))
    -> Result<usize, Error>;
    /// Offset of the next record to read.
    fn position(&self) -> u64;
    /// The first offset of the hole in whose middle this place lay when it was first read from.
    fn hole(&self) -> Option<u64>;
    /// Waits until there is something to read (`true`) or the journal is closed or the time is over.
    fn wait(&self, timeout: Duration) -> bool;
    /// Whether the journal is closed and read to its end.
    fn is_finished(&self) -> bool;
    /// Everything below may be trimmed as far as this place is concerned.
    fn release(&self, below: u64);
}

/// No journal at all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoLog;

impl Log for NoLog {
    fn first(&self) -> u64 {
        0
    }

    fn durable(&self) -> u64 {
        0
    }

    fn hold(&self, _: u64) -> Result<Box<dyn Follow>, Error> {
        Ok(Box::new(Self))
    }

    fn reader(&self, _: u64) -> Result<Box<dyn Follow>, Error> {
        Ok(Box::new(Self))
    }
}

impl Follow for NoLog {
    fn position(&self) -> u64 {
        0
    }

    fn hole(&self) -> Option<u64> {
        None
    }

    fn read(&mut self, _: usize, _: usize, _: &mut dyn FnMut(&Record<'_>)) -> Result<usize, Error> {
        Ok(0)
    }

    fn wait(&self, _: Duration) -> bool {
        false
    }

    fn is_finished(&self) -> bool {
        true
    }

    fn release(&self, _: u64) {}
}

impl Log for Journal {
    fn first(&self) -> u64 {
        self.status().first.0
    }

    fn durable(&self) -> u64 {
        self.status().durable.0
    }

    fn hold(&self, at: u64) -> Result<Box<dyn Follow>, Error> {
        Ok(Box::new(self.cursor("archiver", Offset(at))?))
    }

    fn reader(&self, at: u64) -> Result<Box<dyn Follow>, Error> {
        Ok(Box::new(Self::reader(self, Offset(at))?))
    }
}

impl Follow for Cursor {
    fn read(
        &mut self,
        max_records: usize,
        max_bytes: usize,
        each: &mut dyn FnMut(&Record<'_>),
    ) -> Result<usize, Error> {
        let batch = self.next_batch(max_records, max_bytes)?;
        batch.iter().for_each(|record| each(&record));
        let count = batch.len();
        self.reuse(batch);
        Ok(count)
    }

    fn position(&self) -> u64 {
        Self::position(self).0
    }

    fn hole(&self) -> Option<u64> {
        Self::hole(self).map(|at| at.0)
    }

    fn wait(&self, timeout: Duration) -> bool {
        Self::wait(self, timeout)
    }

    fn is_finished(&self) -> bool {
        Self::is_finished(self)
    }

    fn release(&self, below: u64) {
        Self::release(self, Offset(below));
    }
}

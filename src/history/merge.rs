//! One pass over the database, with the archive's rows merged in.
//!
//! Invariant: a row of the database is given out only after it is certain that no row before it had been trimmed when it was
//! read, or that the archive is asked for those.

use std::ops::ControlFlow;

use super::Error;
use super::past::PastRows;
use crate::domain::{DeviceId, Timestamp};
use crate::store::{Columns, FIRST_PAGE, Store, TelemetryRow, page_after};

/// The part of a row's identity that orders a device's rows.
type Key = (Timestamp, i64);

/// How a pass ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// All was given out, or nobody wants more.
    Done,
    /// Trimming has overtaken it: begin anew behind what was given out.
    Trimmed,
}

/// A pass.
pub(super) struct Pass<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) id: &'a DeviceId,
    /// Types with a column that are needed.
    pub(super) columns: Columns,
    /// Up to where rows may be missing in the database, as it said at the beginning.
    pub(super) trimmed: Option<Timestamp>,
    /// What the archive has of those.
    pub(super) past: Option<PastRows>,
    /// The last row given out.
    pub(super) given: Option<Key>,
    pub(super) each: &'a mut dyn FnMut(TelemetryRow) -> ControlFlow<()>,
}

/// Whether to go on with the next chunk, or how it ended.
type Next = ControlFlow<Result<End, Error>>;

impl Pass<'_> {
    /// Reads `start..to`.
    pub(super) fn run(&mut self, start: Timestamp, to: Timestamp) -> Result<End, Error> {
        // As they are read: a chunk waits for no second page. Each costs a question to the database.
        let (mut chunk, mut most) = (Vec::new(), FIRST_PAGE);
        let mut end = ControlFlow::Continue(());
        let store = self.store;
        store.scan_columns(self.id, self.columns, start, to, &mut |row| {
            chunk.push(row);
            if chunk.len() < most {
                return ControlFlow::Continue(());
            }
            most = page_after(most);
            end = self.chunk(std::mem::take(&mut chunk));
            if end.is_break() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if let ControlFlow::Break(end) = end {
            return end;
        }
        match self.last(chunk) {
            ControlFlow::Break(end) => end,
            ControlFlow::Continue(()) => Ok(End::Done),
        }
    }

    /// The last chunk, and what the archive has beyond it.
    fn last(&mut self, rows: Vec<TelemetryRow>) -> Next {
        self.chunk(rows)?;
        self.past_before(None)
    }

    /// Gives out a chunk of the database's rows, with what the archive has before each of them.
    fn chunk(&mut self, rows: Vec<TelemetryRow>) -> Next {
        let now = match self.store.reach(self.id) {
            Ok(reach) => reach.trimmed_before,
            Err(error) => return ControlFlow::Break(Err(error.into())),
        };
        // What lies before the last row given out matters no more.
        if now > self.trimmed && now.is_some_and(|before| self.given.is_none_or(|(ts, _)| ts < before)) {
            return ControlFlow::Break(Ok(End::Trimmed));
        }
        for row in rows {
            let key = (row.ts, row.seq.to_i64());
            self.past_before(Some(key))?;
            self.give(row)?;
        }
        ControlFlow::Continue(())
    }

    /// Gives out what the archive has before a row of the database; passes over that row itself.
    fn past_before(&mut self, row: Option<Key>) -> Next {
        loop {
            let Some(past) = &mut self.past else { return ControlFlow::Continue(()) };
            let key = match past.peek() {
                Ok(found) => found.map(|found| (found.ts, found.seq.to_i64())),
                Err(error) => return ControlFlow::Break(Err(error)),
            };
            match key {
                Some(key) if row.is_none_or(|row| key <= row) => {
                    let found = past.take();
                    if let Some(found) = found.filter(|_| row != Some(key)) {
                        self.give(found)?;
                    }
                }
                Some(_) => return ControlFlow::Continue(()),
                None => self.past = None,
            }
        }
    }

    /// Gives out a row, unless it was given out by an earlier pass.
    fn give(&mut self, row: TelemetryRow) -> Next {
        let key = (row.ts, row.seq.to_i64());
        if self.given.is_some_and(|given| key <= given) {
            return ControlFlow::Continue(());
        }
        self.given = Some(key);
        match (self.each)(row) {
            ControlFlow::Continue(()) => ControlFlow::Continue(()),
            ControlFlow::Break(()) => ControlFlow::Break(Ok(End::Done)),
        }
    }
}

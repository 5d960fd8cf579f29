//! Several objects of one node and hour become one.
//!
//! The parts are read twice: first one after the other, to see which numbers they have (that makes the whole's columns), then
//! all at once, in the order of the rows.
//!
//! Invariants: every row of the parts is in the whole once; equal parts give equal bytes, whoever does it; a part that does
//! not keep its own checksum is not put together with anything. Bounded: the parts' bytes as they are kept (compressed), a
//! page a column of each, one row group, and the whole's bytes. Does not know where objects are kept.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use bytes::Bytes;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;

use super::encode::{BATCH_KEY, DIGEST_KEY, Digest, Effort, GROUP_ROWS, PARTS_KEY, Writer};
use super::full::{Full, Scan};
use super::key::ObjectName;
use super::shred::{Group, Plan, Shapes};
use crate::domain::Timestamp;

/// Payload bytes at which a row group is closed.
const GROUP_BYTES: usize = 8 * 1024 * 1024;
/// Ranges of parts an object names at most.
const MAX_PARTS: usize = 2000;

/// What they became.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) name: ObjectName,
    pub(crate) bytes: Bytes,
    pub(crate) rows: u64,
}

/// Why they did not.
#[derive(Debug)]
pub(crate) struct Failed {
    /// Which part.
    pub(crate) part: usize,
    pub(crate) error: ParquetError,
}

/// A part being read.
struct Input {
    scan: Scan,
    rows: VecDeque<Full>,
    /// Rows come in order, or the part is damaged.
    last: Option<(ByteArray, i64, i64)>,
}

impl Input {
    fn next(&mut self) -> Result<Option<Full>, ParquetError> {
        if self.rows.is_empty() {
            self.rows = self.scan.next_rows()?.into();
        }
        let Some(mut row) = self.rows.pop_front() else { return Ok(None) };
        if self.last.as_ref().is_some_and(|(device, time, offset)| row.place() < (device.data(), *time, *offset)) {
            return Err(ParquetError::General("its rows are not in order".into()));
        }
        self.last = Some((row.device.clone(), row.received_at, row.offset));
        // (A slice would keep its whole page in memory.)
        row.payload = ByteArray::from(Bytes::copy_from_slice(row.payload.data()));
        Ok(Some(row))
    }
}

/// A part's next row, to be compared by its place.
struct Head(Full, usize);

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head {}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.place().cmp(&other.0.place()).then(self.1.cmp(&other.1))
    }
}

/// The whole under way.
struct Output {
    writer: Writer,
    shapes: Shapes,
    group: Vec<Full>,
    group_bytes: usize,
    digest: Digest,
    rows: u64,
    times: (Timestamp, Timestamp),
}

impl Output {
    fn push(&mut self, row: Full) -> Result<(), ParquetError> {
        self.digest.add(row.offset, row.received_at, row.payload.data());
        self.rows += 1;
        if let Some(ts) = row.telemetry_ts() {
            self.times = (self.times.0.min(Timestamp(ts)), self.times.1.max(Timestamp(ts)));
        }
        self.group_bytes += row.payload.len();
        self.group.push(row);
        if self.group.len() < GROUP_ROWS && self.group_bytes < GROUP_BYTES {
            return Ok(());
        }
        self.end_group()
    }

    fn end_group(&mut self) -> Result<(), ParquetError> {
        let mut read = Group::default();
        for row in &self.group {
            read.push(&mut self.shapes, row.context(), row.payload.data());
        }
        self.writer.group(&self.group, &self.shapes, &read)?;
        self.group.clear();
        self.group_bytes = 0;
        Ok(())
    }
}

/// The texts a part has, and their numbers, into the plan of the whole.
fn survey(bytes: &Bytes, shapes: &mut Shapes, plan: &mut Plan) -> Result<(), ParquetError> {
    let mut scan = Scan::new(bytes.clone())?;
    loop {
        let (rows, mut group) = (scan.next_rows()?, Group::default());
        if rows.is_empty() {
            return Ok(());
        }
        rows.iter().for_each(|row| group.push(shapes, row.context(), row.payload.data()));
        plan.add(shapes, &group);
    }
}

/// Puts parts (of one node and hour, in the order of their offsets, none within another) together.
pub(crate) fn merge(parts: Vec<(ObjectName, Bytes)>) -> Result<Whole, Failed> {
    let at = |part: usize| move |error: ParquetError| Failed { part, error };
    let bytes = parts.iter().map(|(_, bytes)| bytes.len()).sum();
    let (mut shapes, mut plan) = (Shapes::default(), Plan::default());
    for (part, (_, bytes)) in parts.iter().enumerate() {
        survey(bytes, &mut shapes, &mut plan).map_err(at(part))?;
    }
    let (mut inputs, mut heads, mut ranges, mut batch) = (Vec::new(), BinaryHeap::new(), Vec::new(), String::new());
    for (part, (name, bytes)) in parts.iter().enumerate() {
        let scan = Scan::new(bytes.clone()).map_err(at(part))?;
        ranges.extend(scan.entry(PARTS_KEY).unwrap_or_default().split_whitespace().map(str::to_owned));
        ranges.push(format!("{}-{}", name.first, name.last));
        batch = scan.entry(BATCH_KEY).unwrap_or_default().to_owned();
        let mut input = Input { scan, rows: VecDeque::new(), last: None };
        if let Some(row) = input.next().map_err(at(part))? {
            heads.push(Reverse(Head(row, part)));
        }
        inputs.push(input);
    }
    // The newest ranges are those somebody may still have in a listing.
    ranges.dedup();
    ranges.drain(..ranges.len().saturating_sub(MAX_PARTS));
    let none = (Timestamp(i64::MAX), Timestamp(0));
    let (group, digest) = (Vec::new(), Digest::default());
    let writer = Writer::new(bytes, Effort::Thorough, plan.columns(&shapes)).map_err(at(0))?;
    let mut output = Output { writer, shapes, group, group_bytes: 0, digest, rows: 0, times: none };
    while let Some(Reverse(Head(row, part))) = heads.pop() {
        output.push(row).map_err(at(part))?;
        if let Some(next) = inputs[part].next().map_err(at(part))? {
            heads.push(Reverse(Head(next, part)));
        }
    }
    finish(parts, output, &ranges, batch).map_err(at(0))
}

fn finish(
    parts: Vec<(ObjectName, Bytes)>,
    mut output: Output,
    ranges: &[String],
    batch: String,
) -> Result<Whole, ParquetError> {
    if !output.group.is_empty() {
        output.end_group()?;
    }
    let Output { writer, digest, rows, times, .. } = output;
    let entries = vec![(BATCH_KEY, batch), (PARTS_KEY, ranges.join(" ")), (DIGEST_KEY, digest.text())];
    let bytes = writer.finish(entries)?;
    let names = || parts.iter().map(|(name, _)| name);
    let name = ObjectName {
        node: names().next().map(|name| name.node.clone()).unwrap_or_default(),
        first: names().map(|name| name.first).min().unwrap_or(0),
        last: names().map(|name| name.last).max().unwrap_or(0),
        times: Some(times),
    };
    Ok(Whole { name, bytes, rows })
}

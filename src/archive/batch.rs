//! Records collected in memory until they are worth an object, and how they are split into objects. Pure.
//!
//! A batch is a gapless run of offsets. It becomes one object an hour of receipt in it, so almost always one.
//!
//! Invariant: equal records give equal parts, in equal order; nothing here depends on time or chance. Does not know
//! Parquet or where objects are kept.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

use super::classify::device_of;
use super::key::{Hour, ObjectName};
use crate::domain::Timestamp;
use crate::journal::{Flags, Offset, Record, large};
use crate::payload::Class;

/// One record: its numbers, and where in the batch's bytes its texts are.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) offset: u64,
    pub(crate) received_at: Timestamp,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) device: Range<usize>,
    pub(crate) topic: Range<usize>,
    pub(crate) content_type: Range<usize>,
    pub(crate) payload: Range<usize>,
}

impl Row {
    /// The record it was; its identity is the device it is filed under.
    fn record<'a>(&self, text: &'a [u8]) -> Record<'a> {
        let words = |range: &Range<usize>| std::str::from_utf8(&text[range.clone()]).unwrap_or_default();
        Record {
            offset: Offset(self.offset),
            received_at: self.received_at,
            topic: words(&self.topic),
            identity: words(&self.device),
            content_type: words(&self.content_type),
            flags: Flags { qos: self.qos, retain: self.retain, dup: false },
            payload: &text[self.payload.clone()],
        }
    }
}

/// Records being collected.
#[derive(Default, Debug)]
pub(crate) struct Pending {
    text: Vec<u8>,
    rows: Vec<Row>,
    /// Room for what they are.
    classes: Vec<Class>,
}

impl Pending {
    /// Adds the next record.
    pub(crate) fn push(&mut self, record: &Record<'_>) {
        let row = Row {
            offset: record.offset.0,
            received_at: record.received_at,
            qos: record.flags.qos,
            retain: record.flags.retain,
            device: self.keep(device_of(record).as_bytes()),
            topic: self.keep(record.topic.as_bytes()),
            content_type: self.keep(record.content_type.as_bytes()),
            payload: self.keep(record.payload),
        };
        large::reserve(&mut self.rows, 1);
        self.rows.push(row);
    }

    fn keep(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.text.len();
        large::reserve(&mut self.text, bytes.len());
        self.text.extend_from_slice(bytes);
        start..self.text.len()
    }

    /// Memory its records take.
    pub(crate) const fn bytes(&self) -> usize {
        self.text.len() + self.rows.len() * size_of::<Row>()
    }

    /// Exclusive end of its offsets.
    pub(crate) fn end(&self) -> u64 {
        self.rows.last().map_or(0, |row| row.offset + 1)
    }

    /// When its first record was received.
    pub(crate) fn oldest(&self) -> Option<Timestamp> {
        self.rows.first().map(|row| row.received_at)
    }

    /// The records as a batch; `None` when there are none. What each of them is, is `known` by its offset, or else found out by
    /// `classify`. Leaves nothing behind.
    pub(crate) fn take(
        &mut self,
        mut known: impl FnMut(u64) -> Option<Class>,
        mut classify: impl FnMut(&Record<'_>) -> Class,
    ) -> Option<Batch> {
        let Self { text, rows, mut classes } = std::mem::take(self);
        large::reserve(&mut classes, rows.len());
        classes.extend(rows.iter().map(|row| known(row.offset).unwrap_or_else(|| classify(&row.record(&text)))));
        (!rows.is_empty()).then(|| Batch { text: Bytes::from(text), rows, classes })
    }

    /// The memory of a batch that is done with, for the next: memory that was just used costs less than new one. Of no effect
    /// while anything is pending.
    pub(crate) fn reuse(&mut self, batch: Batch) {
        let Batch { text, mut rows, mut classes } = batch;
        if let (true, Ok(mut text)) = (self.rows.is_empty(), text.try_into_mut()) {
            text.clear();
            rows.clear();
            classes.clear();
            *self = Self { text: text.into(), rows, classes };
        }
    }
}

/// A run of records that become objects together.
#[derive(Debug)]
pub(crate) struct Batch {
    text: Bytes,
    rows: Vec<Row>,
    classes: Vec<Class>,
}

/// The records of a batch that go into one object.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Part {
    pub(crate) hour: Hour,
    pub(crate) name: ObjectName,
    /// Indices of its rows, sorted by (device, received_at, offset).
    pub(crate) order: Vec<usize>,
}

impl Batch {
    /// Exclusive end of its offsets.
    pub(crate) fn end(&self) -> u64 {
        self.rows.last().map_or(0, |row| row.offset + 1)
    }

    /// A row by index.
    pub(crate) fn row(&self, index: usize) -> &Row {
        &self.rows[index]
    }

    /// What it is.
    pub(crate) fn class(&self, index: usize) -> Class {
        self.classes[index]
    }

    /// Bytes of the payloads of a part.
    pub(crate) fn payload_bytes(&self, part: &Part) -> usize {
        part.order.iter().map(|&i| self.rows[i].payload.len()).sum()
    }

    /// Bytes of a row's text, shared.
    pub(crate) fn bytes(&self, range: &Range<usize>) -> Bytes {
        self.text.slice(range.clone())
    }

    /// The same, to be looked at.
    pub(crate) fn text(&self, range: &Range<usize>) -> &[u8] {
        &self.text[range.clone()]
    }

    /// Its split into objects of `node`, by hour, in the order in which they must be written: the one with the first record
    /// comes first, because that record is where `recover` looks for a batch that was begun.
    pub(crate) fn parts(&self, node: &str) -> Vec<Part> {
        let mut hours: BTreeMap<Hour, Vec<usize>> = BTreeMap::new();
        for (index, row) in self.rows.iter().enumerate() {
            hours.entry(Hour::of(row.received_at)).or_default().push(index);
        }
        let mut parts: Vec<Part> = hours.into_iter().map(|(hour, indices)| self.part(node, hour, indices)).collect();
        parts.sort_unstable_by_key(|part| part.name.first);
        parts
    }

    fn part(&self, node: &str, hour: Hour, indices: Vec<usize>) -> Part {
        let bound = |index: Option<&usize>| index.map_or(0, |&i| self.rows[i].offset);
        let (first, last) = (bound(indices.first()), bound(indices.last()));
        let name = ObjectName { node: node.to_owned(), first, last, times: None };
        let mut devices: BTreeMap<&[u8], Vec<usize>> = BTreeMap::new();
        for index in indices {
            devices.entry(self.text(&self.rows[index].device)).or_default().push(index);
        }
        // (Stable: equal times stay in the order of their offsets.)
        devices.values_mut().for_each(|of| of.sort_by_key(|&index| self.rows[index].received_at));
        Part { hour, name, order: devices.into_values().flatten().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn batch(records: &[(&str, i64)]) -> Option<Batch> {
        let mut pending = Pending::default();
        for (offset, (device, us)) in (100u64..).zip(records) {
            let record = Record {
                offset: Offset(offset),
                received_at: Timestamp(*us),
                topic: &format!("iot/{device}/hello"),
                identity: device,
                content_type: "",
                flags: Flags::default(),
                payload: b"{}",
            };
            pending.push(&record);
        }
        let batch = pending.take(|_| None, |_| Class { category: "hello", ts: None, seq: None, reason: None });
        assert_eq!((pending.bytes(), pending.oldest()), (0, None));
        batch
    }

    #[test]
    fn rows_are_sorted_by_device_and_time_and_split_at_the_hour() {
        const H: i64 = 3_600_000_000;
        let batch = batch(&[("b", H - 2), ("a", H - 1), ("b", H), ("a", H - 3), ("b", H + 1)]).unwrap();
        let parts = batch.parts("n");
        let shown: Vec<_> = parts.iter().map(|p| (p.name.first, p.name.last, p.order.clone())).collect();
        assert_eq!(shown, [(100, 103, vec![3, 1, 0]), (102, 104, vec![2, 4])]);
        assert_eq!(batch.end(), 105);
    }

    #[test]
    fn nothing_collected_is_no_batch() {
        assert!(batch(&[]).is_none());
    }

    #[test]
    fn the_memory_of_a_batch_is_used_again_but_not_what_was_in_it() {
        let first = batch(&[("a", 5), ("b", 6)]).unwrap();
        let (room, mut pending) = (first.rows.capacity(), Pending::default());
        let shared = first.bytes(&first.row(0).payload);
        pending.reuse(first);
        assert_eq!((pending.rows.capacity(), &shared[..]), (0, &b"{}"[..]), "what somebody still has is left alone");
        pending.reuse(batch(&[("c", 7), ("d", 8), ("e", 9)]).unwrap());
        assert_eq!((pending.bytes(), pending.oldest(), pending.end()), (0, None, 0));
        assert!(pending.rows.capacity() >= room && pending.text.capacity() > 0);
        assert!(pending.take(|_| None, |_| unreachable!()).is_none());
    }

    proptest! {
        #[test]
        fn every_record_is_in_exactly_one_part_and_in_its_hour(times in prop::collection::vec(0i64..20_000_000_000, 1..60)) {
            let records: Vec<_> = times.iter().map(|us| (if us % 3 == 0 { "a" } else { "b" }, *us)).collect();
            let batch = batch(&records).unwrap();
            let mut seen = Vec::new();
            let parts = batch.parts("n");
            prop_assert_eq!(parts[0].name.first, 100);
            for part in parts {
                for &i in &part.order {
                    let row = batch.row(i);
                    prop_assert_eq!(Hour::of(row.received_at), part.hour);
                    prop_assert!(part.name.spans(row.offset));
                    seen.push(row.offset);
                }
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (100..100 + times.len() as u64).collect::<Vec<_>>());
        }
    }
}

//! Records → the bytes of a Parquet object. Pure.
//!
//! Shape: rows sorted by (device_id, received_at); row groups of [`GROUP_ROWS`] rows with the smallest and largest
//! device and time, so that a reader of one device opens few of them; the columns that payloads are made of come last, so
//! that everything a listing needs of a row group is one short range; their pages are indexed, so that one message is a page
//! of each.
//!
//! Columns beside those of the design: `reason`, why a message is `invalid`, because an invalid message without its
//! reason would have to be decoded again with the rules of that day to be understood; `size_bytes`, because a listing
//! shows sizes and must not decompress payloads for them.
//!
//! Invariant: equal batches give equal bytes. Does not know where objects are kept.

use std::ops::Range;

use bytes::Bytes;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};

use super::batch::{Batch, Part};
use super::full::Full;
use super::schema::{COLUMNS, LAYOUT_KEY, properties, schema};
use super::shred::{Columns, Context, Group, Lists, Plan, Shapes, Shredded};
use crate::journal::{checksum::crc32c_append, large};

/// Rows a row group has at most.
pub(crate) const GROUP_ROWS: usize = 8192;

/// Key of the metadata entry that names all objects of a batch.
pub(crate) const BATCH_KEY: &str = "iot-meter.batch";
/// Key of the metadata entry of an object that was put together: the ranges of offsets of what went into it, `first-last`.
pub(crate) const PARTS_KEY: &str = "iot-meter.parts";
/// Key of the metadata entry with the checksum of the records.
pub(crate) const DIGEST_KEY: &str = "iot-meter.digest";

/// How hard an object is compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Effort {
    /// While messages are coming in: zstd 1.
    Quick,
    /// Once, in the background, for the time it is kept: zstd 9.
    Thorough,
}

impl Effort {
    const fn level(self) -> i32 {
        match self {
            Self::Quick => 1,
            Self::Thorough => 9,
        }
    }
}

/// Checksum (CRC-32C) over offset, time of receipt and payload of rows in their order: whether two objects hold the same
/// records.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Digest(u32);

impl Digest {
    /// One more row.
    pub(crate) fn add(&mut self, offset: i64, received_at: i64, payload: &[u8]) {
        let sum = crc32c_append(self.0, &offset.to_le_bytes());
        let sum = crc32c_append(sum, &received_at.to_le_bytes());
        self.0 = crc32c_append(sum, payload);
    }

    /// As in the metadata.
    pub(crate) fn text(self) -> String {
        format!("{:08x}", self.0)
    }
}

/// Makes objects, in memory that it keeps from one to the next.
#[derive(Default)]
pub(crate) struct Encoder {
    groups: Vec<Group>,
    rows: Vec<Full>,
}

impl Encoder {
    /// The object of `part`, and the checksum of its rows. `siblings`: keys of all objects of the batch, kept in it so that a
    /// restart can tell whether all of them were written.
    pub(crate) fn encode(
        &mut self,
        batch: &Batch,
        part: &Part,
        siblings: &str,
    ) -> Result<(Bytes, String), ParquetError> {
        let (mut shapes, mut plan, mut digest) = (Shapes::default(), Plan::default(), Digest::default());
        let chunks = || part.order.chunks(GROUP_ROWS);
        self.groups.resize_with(self.groups.len().max(chunks().len()), Group::default);
        for (indices, group) in chunks().zip(&mut self.groups) {
            group.clear();
            for (row, class) in indices.iter().map(|&index| (batch.row(index), batch.class(index))) {
                let (device, payload) = (batch.text(&row.device), batch.text(&row.payload));
                digest.add(row.offset.cast_signed(), row.received_at.0, payload);
                let context = Context::new(device, class.seq, class.ts.map(|ts| ts.0), row.received_at.0);
                group.push(&mut shapes, context, payload);
            }
            plan.add(&shapes, group);
        }
        let columns = plan.columns(&shapes);
        let mut writer = Writer::new(batch.payload_bytes(part), Effort::Quick, columns)?;
        let node = ByteArray::from(Bytes::copy_from_slice(part.name.node.as_bytes()));
        for (indices, group) in chunks().zip(&self.groups) {
            self.rows.extend(indices.iter().map(|&index| full(batch, index, &node)));
            let written = writer.group(&self.rows, &shapes, group);
            // (They hold on to the batch.)
            self.rows.clear();
            written?;
        }
        let bytes = writer.finish(vec![(BATCH_KEY, siblings.to_owned()), (DIGEST_KEY, digest.text())])?;
        Ok((bytes, digest.text()))
    }
}

/// An object being written, row group by row group.
pub(crate) struct Writer {
    file: SerializedFileWriter<Vec<u8>>,
    columns: Columns,
}

impl Writer {
    /// An empty one, about so large before compression.
    pub(crate) fn new(bytes: usize, effort: Effort, columns: Columns) -> Result<Self, ParquetError> {
        let mut object = Vec::new();
        large::reserve(&mut object, bytes);
        let properties = properties(effort.level(), &columns);
        Ok(Self { file: SerializedFileWriter::new(object, schema(&columns)?, properties)?, columns })
    }

    /// A row group, at most [`GROUP_ROWS`] rows in their order, which `group` has read.
    pub(crate) fn group(&mut self, rows: &[Full], shapes: &Shapes, group: &Group) -> Result<(), ParquetError> {
        let shreds = || group.finish(shapes, &self.columns, &|row| (rows[row].context(), rows[row].payload.data()));
        let shredded = (!self.columns.names.is_empty()).then(shreds);
        self.write_group(rows, shredded)
    }

    /// A row group whose payloads are as they are, or taken apart.
    pub(super) fn write_group(&mut self, rows: &[Full], shredded: Option<Shredded>) -> Result<(), ParquetError> {
        let mut group = self.file.next_row_group()?;
        write_common(&mut group, rows)?;
        match shredded {
            None => write_column::<ByteArrayType>(&mut group, rows.iter().map(|r| r.payload.clone()))?,
            Some(shredded) => write_shredded(&mut group, rows, shredded)?,
        }
        group.close().map(drop)
    }

    /// The object's bytes, with these entries in its metadata.
    pub(crate) fn finish(mut self, entries: Vec<(&str, String)>) -> Result<Bytes, ParquetError> {
        let layout = (!self.columns.names.is_empty()).then(|| (LAYOUT_KEY, COLUMNS.to_owned()));
        for (key, value) in entries.into_iter().chain(layout) {
            self.file.append_key_value_metadata(KeyValue { key: key.to_owned(), value: Some(value) });
        }
        Ok(self.file.into_inner()?.into())
    }
}

fn full(batch: &Batch, index: usize, node: &ByteArray) -> Full {
    let (row, class) = (batch.row(index), batch.class(index));
    let text = |range: &Range<usize>| ByteArray::from(batch.bytes(range));
    let fixed = |text: &'static str| ByteArray::from(Bytes::from_static(text.as_bytes()));
    Full {
        device: text(&row.device),
        category: fixed(class.category),
        received_at: row.received_at.0,
        offset: row.offset.cast_signed(),
        size: i32::try_from(row.payload.len()).unwrap_or(i32::MAX),
        topic: text(&row.topic),
        ts: class.ts.map(|t| t.0),
        seq: class.seq,
        reason: class.reason.map(fixed),
        qos: i32::from(row.qos),
        retain: row.retain,
        content_type: (!row.content_type.is_empty()).then(|| text(&row.content_type)),
        node: node.clone(),
        payload: text(&row.payload),
    }
}

/// Writes the columns of both layouts in the order of the schema.
fn write_common(group: &mut SerializedRowGroupWriter<'_, Vec<u8>>, rows: &[Full]) -> Result<(), ParquetError> {
    write_column::<ByteArrayType>(group, rows.iter().map(|r| r.device.clone()))?;
    write_column::<ByteArrayType>(group, rows.iter().map(|r| r.category.clone()))?;
    write_column::<Int64Type>(group, rows.iter().map(|r| r.received_at))?;
    write_column::<Int64Type>(group, rows.iter().map(|r| r.offset))?;
    write_column::<Int32Type>(group, rows.iter().map(|r| r.size))?;
    write_column::<ByteArrayType>(group, rows.iter().map(|r| r.topic.clone()))?;
    write_some::<Int64Type>(group, rows.iter().map(|r| r.ts))?;
    write_some::<Int64Type>(group, rows.iter().map(|r| r.seq))?;
    write_some::<ByteArrayType>(group, rows.iter().map(|r| r.reason.clone()))?;
    write_column::<Int32Type>(group, rows.iter().map(|r| r.qos))?;
    write_column::<BoolType>(group, rows.iter().map(|r| r.retain))?;
    write_some::<ByteArrayType>(group, rows.iter().map(|r| r.content_type.clone()))?;
    write_column::<ByteArrayType>(group, rows.iter().map(|r| r.node.clone()))
}

/// Writes templates and numbers, and the payloads of rows without a template.
fn write_shredded(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    rows: &[Full],
    shredded: Shredded,
) -> Result<(), ParquetError> {
    let Shredded { templates, of_row, lists } = shredded;
    let templates: Vec<ByteArray> = templates.into_iter().map(ByteArray::from).collect();
    write_some::<ByteArrayType>(group, of_row.iter().map(|template| Some(templates[(*template)? as usize].clone())))?;
    for list in lists {
        write_lists(group, &list)?;
    }
    let payloads = rows.iter().zip(&of_row).map(|(row, template)| template.is_none().then(|| row.payload.clone()));
    write_some::<ByteArrayType>(group, payloads)
}

fn write<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    values: &[T::T],
    levels: Option<&[i16]>,
    repeated: Option<&[i16]>,
) -> Result<(), ParquetError> {
    let mut column = group.next_column()?.ok_or_else(|| ParquetError::General("more values than columns".into()))?;
    column.typed::<T>().write_batch(values, levels, repeated)?;
    column.close()
}

fn write_column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    values: impl Iterator<Item = T::T>,
) -> Result<(), ParquetError> {
    write::<T>(group, &values.collect::<Vec<_>>(), None, None)
}

fn write_some<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    values: impl Iterator<Item = Option<T::T>>,
) -> Result<(), ParquetError> {
    let (mut some, mut levels) = (Vec::new(), Vec::new());
    for value in values {
        levels.push(i16::from(value.is_some()));
        some.extend(value);
    }
    write::<T>(group, &some, Some(&levels), None)
}

fn write_lists(group: &mut SerializedRowGroupWriter<'_, Vec<u8>>, lists: &Lists) -> Result<(), ParquetError> {
    let most = lists.values.len() + lists.counts.len();
    let (mut levels, mut repeated) = (Vec::with_capacity(most), Vec::with_capacity(most));
    for count in &lists.counts {
        levels.push(i16::from(*count > 0));
        repeated.push(0);
        for _ in 1..*count {
            levels.push(1);
            repeated.push(1);
        }
    }
    write::<Int64Type>(group, &lists.values, Some(&levels), Some(&repeated))
}

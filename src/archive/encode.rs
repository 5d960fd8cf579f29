//! Records → the bytes of a Parquet object. Pure.
//!
//! Shape: rows sorted by (device_id, received_at); row groups of [`GROUP_ROWS`] rows with the smallest and largest
//! device and time, so that a reader of one device opens few of them; the payload column comes last, so that everything a
//! listing needs of a row group is one short range; payload pages are small and indexed, so that one message is one page.
//!
//! Columns beside those of the design: `reason`, why a message is `invalid`, because an invalid message without its
//! reason would have to be decoded again with the rules of that day to be understood; `size_bytes`, because a listing
//! shows sizes and must not decompress payloads for them.
//!
//! Invariant: equal batches give equal bytes. Does not know where objects are kept.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{ColumnPath, Type, TypePtr};

use super::batch::{Batch, Part, Row};
use super::full::Full;
use crate::journal::large;

/// Rows a row group has at most.
pub(crate) const GROUP_ROWS: usize = 8192;
/// Rows a payload page has at most: what is decompressed to read one message.
const PAGE_ROWS: usize = 128;
/// Bytes at which a page is closed.
const PAGE_BYTES: usize = 256 * 1024;

/// Key of the metadata entry that names all objects of a batch.
pub(crate) const BATCH_KEY: &str = "iot-meter.batch";
/// Key of the metadata entry of an object that was put together: the ranges of offsets of what went into it, `first-last`.
pub(crate) const PARTS_KEY: &str = "iot-meter.parts";
/// Key of the metadata entry with the checksum of the records.
pub(crate) const DIGEST_KEY: &str = "iot-meter.digest";

/// The columns that are read back, by position (a test compares them with the schema).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Column {
    DeviceId = 0,
    Category = 1,
    ReceivedAt = 2,
    JournalOffset = 3,
    SizeBytes = 4,
    Topic = 5,
    Ts = 6,
    Seq = 7,
    Reason = 8,
    Qos = 9,
    Retain = 10,
    ContentType = 11,
    Node = 12,
    /// The last one.
    Payload = 13,
}

fn column(name: &str, physical: Physical, logical: Option<LogicalType>, repetition: Repetition) -> TypePtr {
    let column = Type::primitive_type_builder(name, physical)
        .with_repetition(repetition)
        .with_logical_type(logical)
        .build()
        .expect("the physical types below can carry the logical ones");
    Arc::new(column)
}

static SCHEMA: LazyLock<TypePtr> = LazyLock::new(|| {
    const REQUIRED: Repetition = Repetition::REQUIRED;
    const OPTIONAL: Repetition = Repetition::OPTIONAL;
    let text = |name, repetition| column(name, Physical::BYTE_ARRAY, Some(LogicalType::String), repetition);
    let time = |name, repetition| {
        let micros = LogicalType::timestamp(true, TimeUnit::MICROS);
        column(name, Physical::INT64, Some(micros), repetition)
    };
    let fields = vec![
        text("device_id", REQUIRED),
        text("category", REQUIRED),
        time("received_at", REQUIRED),
        column("journal_offset", Physical::INT64, None, REQUIRED),
        column("size_bytes", Physical::INT32, None, REQUIRED),
        text("topic", REQUIRED),
        time("ts", OPTIONAL),
        column("seq", Physical::INT64, None, OPTIONAL),
        text("reason", OPTIONAL),
        column("qos", Physical::INT32, None, REQUIRED),
        column("retain", Physical::BOOLEAN, None, REQUIRED),
        text("content_type", OPTIONAL),
        text("node", REQUIRED),
        column("payload", Physical::BYTE_ARRAY, None, REQUIRED),
    ];
    let schema = Type::group_type_builder("iot_meter_raw_v1").with_fields(fields).build();
    Arc::new(schema.expect("a group of primitive fields is a schema"))
});

/// How hard an object is compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Effort {
    /// While messages are coming in: zstd 1.
    Quick,
    /// Once, in the background, for the time it is kept: zstd 9, a fifth less at three times the work.
    Thorough,
}

static QUICK: LazyLock<WriterPropertiesPtr> = LazyLock::new(|| properties(1));
static THOROUGH: LazyLock<WriterPropertiesPtr> = LazyLock::new(|| properties(9));

fn properties(level: i32) -> WriterPropertiesPtr {
    let payload = ColumnPath::from("payload");
    let sorting = [Column::DeviceId, Column::ReceivedAt].map(|c| SortingColumn {
        column_idx: c as i32,
        descending: false,
        nulls_first: false,
    });
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(level).unwrap_or_default()))
        .set_write_batch_size(PAGE_ROWS)
        .set_data_page_size_limit(PAGE_BYTES)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_statistics_truncate_length(None)
        .set_sorting_columns(Some(sorting.to_vec()))
        .set_column_dictionary_enabled(payload.clone(), false)
        .set_column_statistics_enabled(payload.clone(), EnabledStatistics::None)
        .set_column_data_page_row_count_limit(payload, PAGE_ROWS);
    for numbers in ["received_at", "journal_offset", "ts", "seq"] {
        builder = builder
            .set_column_dictionary_enabled(ColumnPath::from(numbers), false)
            .set_column_encoding(ColumnPath::from(numbers), Encoding::DELTA_BINARY_PACKED);
    }
    Arc::new(builder.build())
}

/// Checksum (CRC-32C) over offset, time of receipt and payload of rows in their order: whether two objects hold the same
/// records.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Digest(u32);

impl Digest {
    /// One more row.
    pub(crate) fn add(&mut self, offset: i64, received_at: i64, payload: &[u8]) {
        let sum = crc32c::crc32c_append(self.0, &offset.to_le_bytes());
        let sum = crc32c::crc32c_append(sum, &received_at.to_le_bytes());
        self.0 = crc32c::crc32c_append(sum, payload);
    }

    /// As in the metadata.
    pub(crate) fn text(self) -> String {
        format!("{:08x}", self.0)
    }
}

/// The checksum of a part's rows.
pub(crate) fn digest(batch: &Batch, part: &Part) -> String {
    let mut digest = Digest::default();
    for &index in &part.order {
        let row = batch.row(index);
        digest.add(row.offset.cast_signed(), row.received_at.0, &batch.bytes(&row.payload));
    }
    digest.text()
}

/// The object of `part`. `siblings`: keys of all objects of the batch, kept in it so that a restart can tell whether all
/// of them were written.
pub(crate) fn encode(batch: &Batch, part: &Part, siblings: &str, digest: String) -> Result<Bytes, ParquetError> {
    let mut writer = Writer::new(batch.payload_bytes(part), Effort::Quick)?;
    let node = ByteArray::from(Bytes::copy_from_slice(part.name.node.as_bytes()));
    for indices in part.order.chunks(GROUP_ROWS) {
        let rows: Vec<Full> = indices.iter().map(|&i| full(batch, batch.row(i), &node)).collect();
        writer.group(&rows)?;
    }
    writer.finish(vec![(BATCH_KEY, siblings.to_owned()), (DIGEST_KEY, digest)])
}

/// An object being written, row group by row group.
pub(crate) struct Writer(SerializedFileWriter<Vec<u8>>);

impl Writer {
    /// An empty one, about so large before compression.
    pub(crate) fn new(bytes: usize, effort: Effort) -> Result<Self, ParquetError> {
        let mut object = Vec::new();
        large::reserve(&mut object, bytes);
        let properties = match effort {
            Effort::Quick => &QUICK,
            Effort::Thorough => &THOROUGH,
        };
        Ok(Self(SerializedFileWriter::new(object, Arc::clone(&SCHEMA), Arc::clone(properties))?))
    }

    /// A row group, at most [`GROUP_ROWS`] rows in their order.
    pub(crate) fn group(&mut self, rows: &[Full]) -> Result<(), ParquetError> {
        let mut group = self.0.next_row_group()?;
        write_group(&mut group, rows)?;
        group.close().map(drop)
    }

    /// The object's bytes, with these entries in its metadata.
    pub(crate) fn finish(mut self, entries: Vec<(&str, String)>) -> Result<Bytes, ParquetError> {
        for (key, value) in entries {
            self.0.append_key_value_metadata(KeyValue { key: key.to_owned(), value: Some(value) });
        }
        Ok(self.0.into_inner()?.into())
    }
}

fn full(batch: &Batch, row: &Row, node: &ByteArray) -> Full {
    let text = |range: &Range<usize>| ByteArray::from(batch.bytes(range));
    let fixed = |text: &'static str| ByteArray::from(Bytes::from_static(text.as_bytes()));
    Full {
        device: text(&row.device),
        category: fixed(row.class.category),
        received_at: row.received_at.0,
        offset: row.offset.cast_signed(),
        size: i32::try_from(row.payload.len()).unwrap_or(i32::MAX),
        topic: text(&row.topic),
        ts: row.class.ts.map(|t| t.0),
        seq: row.class.seq,
        reason: row.class.reason.map(fixed),
        qos: i32::from(row.qos),
        retain: row.retain,
        content_type: (!row.content_type.is_empty()).then(|| text(&row.content_type)),
        node: node.clone(),
        payload: text(&row.payload),
    }
}

/// Writes the columns in the order of the schema.
fn write_group(group: &mut SerializedRowGroupWriter<'_, Vec<u8>>, rows: &[Full]) -> Result<(), ParquetError> {
    fn all<T>(rows: &[Full], f: impl Fn(&Full) -> T) -> Vec<T> {
        rows.iter().map(f).collect()
    }
    write::<ByteArrayType>(group, &all(rows, |r| r.device.clone()))?;
    write::<ByteArrayType>(group, &all(rows, |r| r.category.clone()))?;
    write::<Int64Type>(group, &all(rows, |r| r.received_at))?;
    write::<Int64Type>(group, &all(rows, |r| r.offset))?;
    write::<Int32Type>(group, &all(rows, |r| r.size))?;
    write::<ByteArrayType>(group, &all(rows, |r| r.topic.clone()))?;
    write_some::<Int64Type>(group, rows.iter().map(|r| r.ts))?;
    write_some::<Int64Type>(group, rows.iter().map(|r| r.seq))?;
    write_some::<ByteArrayType>(group, rows.iter().map(|r| r.reason.clone()))?;
    write::<Int32Type>(group, &all(rows, |r| r.qos))?;
    write::<BoolType>(group, &all(rows, |r| r.retain))?;
    write_some::<ByteArrayType>(group, rows.iter().map(|r| r.content_type.clone()))?;
    write::<ByteArrayType>(group, &all(rows, |r| r.node.clone()))?;
    write::<ByteArrayType>(group, &all(rows, |r| r.payload.clone()))
}

fn write<T: DataType>(group: &mut SerializedRowGroupWriter<'_, Vec<u8>>, values: &[T::T]) -> Result<(), ParquetError> {
    let mut column = group.next_column()?.ok_or_else(|| ParquetError::General("more values than columns".into()))?;
    column.typed::<T>().write_batch(values, None, None)?;
    column.close()
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
    let mut column = group.next_column()?.ok_or_else(|| ParquetError::General("more values than columns".into()))?;
    column.typed::<T>().write_batch(&some, Some(&levels), None)?;
    column.close()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_read_back_are_where_the_schema_has_them() {
        use Column::{Category, ContentType, DeviceId, JournalOffset, Node, Payload, Qos};
        use Column::{Reason, ReceivedAt, Retain, Seq, SizeBytes, Topic, Ts};
        let names: Vec<&str> = SCHEMA.get_fields().iter().map(|field| field.name()).collect();
        let check = |column: Column, name: &str| assert_eq!(names[column as usize], name);
        check(DeviceId, "device_id");
        check(Category, "category");
        check(ReceivedAt, "received_at");
        check(JournalOffset, "journal_offset");
        check(SizeBytes, "size_bytes");
        check(Topic, "topic");
        check(Ts, "ts");
        check(Seq, "seq");
        check(Reason, "reason");
        check(Qos, "qos");
        check(Retain, "retain");
        check(ContentType, "content_type");
        check(Node, "node");
        check(Payload, "payload");
        assert_eq!(names.len(), Payload as usize + 1);
    }
}

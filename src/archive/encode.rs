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
use crate::journal::large;

/// Rows a row group has at most.
const GROUP_ROWS: usize = 8192;
/// Rows a payload page has at most: what is decompressed to read one message.
const PAGE_ROWS: usize = 128;
/// Bytes at which a page is closed.
const PAGE_BYTES: usize = 256 * 1024;

/// Key of the metadata entry that names all objects of a batch.
pub(crate) const BATCH_KEY: &str = "iot-meter.batch";
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
    ContentType = 11,
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

fn properties(metadata: Vec<KeyValue>) -> WriterPropertiesPtr {
    let payload = ColumnPath::from("payload");
    let sorting = [Column::DeviceId, Column::ReceivedAt].map(|c| SortingColumn {
        column_idx: c as i32,
        descending: false,
        nulls_first: false,
    });
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).unwrap_or_default()))
        .set_write_batch_size(PAGE_ROWS)
        .set_data_page_size_limit(PAGE_BYTES)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_statistics_truncate_length(None)
        .set_sorting_columns(Some(sorting.to_vec()))
        .set_key_value_metadata(Some(metadata))
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

/// Checksum (CRC-32C) over offset, time and payload of a part's rows: whether two objects hold the same records.
pub(crate) fn digest(batch: &Batch, part: &Part) -> String {
    let sum = part.order.iter().fold(0, |sum, &i| {
        let row = batch.row(i);
        let sum = crc32c::crc32c_append(sum, &row.offset.to_le_bytes());
        let sum = crc32c::crc32c_append(sum, &row.received_at.0.to_le_bytes());
        crc32c::crc32c_append(sum, &batch.bytes(&row.payload))
    });
    format!("{sum:08x}")
}

/// The object of `part`. `siblings`: keys of all objects of the batch, kept in it so that a restart can tell whether all
/// of them were written.
pub(crate) fn encode(batch: &Batch, part: &Part, siblings: &str, digest: String) -> Result<Bytes, ParquetError> {
    let entry = |key: &str, value: String| KeyValue { key: key.to_owned(), value: Some(value) };
    let metadata = vec![entry(BATCH_KEY, siblings.to_owned()), entry(DIGEST_KEY, digest)];
    let mut object = Vec::new();
    large::reserve(&mut object, batch.payload_bytes(part));
    let mut file = SerializedFileWriter::new(object, Arc::clone(&SCHEMA), properties(metadata))?;
    let node = ByteArray::from(Bytes::copy_from_slice(part.name.node.as_bytes()));
    for indices in part.order.chunks(GROUP_ROWS) {
        let rows: Vec<&Row> = indices.iter().map(|&i| batch.row(i)).collect();
        let mut group = file.next_row_group()?;
        write_group(&mut group, batch, &rows, &node)?;
        group.close()?;
    }
    Ok(file.into_inner()?.into())
}

/// Writes the columns in the order of the schema.
fn write_group(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    batch: &Batch,
    rows: &[&Row],
    node: &ByteArray,
) -> Result<(), ParquetError> {
    let text = |range: &Range<usize>| ByteArray::from(batch.bytes(range));
    let fixed = |text: &'static str| ByteArray::from(Bytes::from_static(text.as_bytes()));
    let all = |f: &dyn Fn(&Row) -> ByteArray| rows.iter().map(|row| f(row)).collect::<Vec<_>>();
    let big = |f: &dyn Fn(&Row) -> i64| rows.iter().map(|row| f(row)).collect::<Vec<_>>();

    write::<ByteArrayType>(group, &all(&|r| text(&r.device)))?;
    write::<ByteArrayType>(group, &all(&|r| fixed(r.class.category)))?;
    write::<Int64Type>(group, &big(&|r| r.received_at.0))?;
    write::<Int64Type>(group, &big(&|r| r.offset.cast_signed()))?;
    let sizes = rows.iter().map(|r| i32::try_from(r.payload.len()).unwrap_or(i32::MAX));
    write::<Int32Type>(group, &sizes.collect::<Vec<_>>())?;
    write::<ByteArrayType>(group, &all(&|r| text(&r.topic)))?;
    write_some::<Int64Type>(group, rows.iter().map(|r| r.class.ts.map(|t| t.0)))?;
    write_some::<Int64Type>(group, rows.iter().map(|r| r.class.seq))?;
    write_some::<ByteArrayType>(group, rows.iter().map(|r| r.class.reason.map(fixed)))?;
    write::<Int32Type>(group, &rows.iter().map(|r| i32::from(r.qos)).collect::<Vec<_>>())?;
    write::<BoolType>(group, &rows.iter().map(|r| r.retain).collect::<Vec<_>>())?;
    let said = rows.iter().map(|r| (!r.content_type.is_empty()).then(|| text(&r.content_type)));
    write_some::<ByteArrayType>(group, said)?;
    write::<ByteArrayType>(group, &vec![node.clone(); rows.len()])?;
    write::<ByteArrayType>(group, &all(&|r| text(&r.payload)))
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
        use Column::{Category, ContentType, DeviceId, JournalOffset, Payload, ReceivedAt, SizeBytes};
        let names: Vec<&str> = SCHEMA.get_fields().iter().map(|field| field.name()).collect();
        let check = |column: Column, name: &str| assert_eq!(names[column as usize], name);
        check(DeviceId, "device_id");
        check(Category, "category");
        check(ReceivedAt, "received_at");
        check(JournalOffset, "journal_offset");
        check(SizeBytes, "size_bytes");
        check(ContentType, "content_type");
        check(Payload, "payload");
        assert_eq!(names.len(), Payload as usize + 1);
    }
}

//! The columns of an object, how each is kept, and where they are in one that is read.
//!
//! Two layouts, told apart by the entry [`LAYOUT_KEY`] of an object's metadata:
//!
//! ```text
//! plain    device_id … node, payload
//! columns  device_id … node, template, payload_*, payload          (what a template is: `shred`)
//! ```
//!
//! A row of the second has either a template, and the numbers of its payload as lists in the columns `payload_…`, or its
//! payload as it is. (They are columns side by side and not one group: engines join those of many files by their names.) The first is older; it is still written where there are no numbers to take out.

use std::ops::RangeInclusive;
use std::sync::Arc;

use parquet::basic::{Compression, Encoding, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr};
use parquet::schema::types::{ColumnPath, Type, TypePtr};

use super::encode::GROUP_ROWS;
use super::shred::{Columns, MAX_COLUMNS, MAX_DECIMALS, MAX_DIGITS};

/// Rows a payload page has at most: what is decompressed to read one message.
pub(super) const PAGE_ROWS: usize = 128;
/// Bytes at which a page is closed.
const PAGE_BYTES: usize = 256 * 1024;
/// Rows a page of numbers has at most.
const NUMBER_PAGE_ROWS: usize = 1024;

/// Key of the metadata entry that names the layout; objects without it are plain.
pub(crate) const LAYOUT_KEY: &str = "iot-meter.layout";
/// Its value.
pub(crate) const COLUMNS: &str = "columns";
/// What the names of columns of numbers begin with.
const NUMBERS: &str = "payload_";

/// The columns that are read back, by position: the same in both layouts (a test compares them with the schema).
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
    /// The last of those that both layouts have in one place.
    Node = 12,
}

/// Rows a row group can have.
const GROUP_RANGE: RangeInclusive<i64> = 0..=GROUP_ROWS as i64;
/// Columns before the template, or the payload.
const COMMON: usize = Column::Node as usize + 1;

/// Where an object's other columns are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Layout {
    /// Decimals of the columns of numbers; `None` = plain.
    scales: Option<Vec<u8>>,
}

impl Layout {
    /// That of an object being read, if it is one of the two.
    pub(crate) fn of(metadata: &ParquetMetaData) -> Result<Self, ParquetError> {
        let schema = metadata.file_metadata().schema_descr();
        let (columns, file) = (schema.columns(), metadata.file_metadata());
        let entries = file.key_value_metadata().map(Vec::as_slice).unwrap_or_default();
        let layout = entries.iter().find(|entry| entry.key == LAYOUT_KEY).map(|entry| entry.value.as_deref());
        let (scales, payload) = match layout {
            None => (None, COMMON),
            Some(Some(COLUMNS)) if (COMMON + 2..=COMMON + 2 + MAX_COLUMNS).contains(&columns.len()) => {
                let numbers = &columns[COMMON + 1..columns.len() - 1];
                let scales = numbers.iter().map(|column| {
                    let is_list = column.max_rep_level() == 1 && column.max_def_level() == 1;
                    let scale = u8::try_from(column.type_scale()).ok().filter(|scale| *scale <= MAX_DECIMALS);
                    scale.filter(|_| is_list && column.physical_type() == Physical::INT64)
                });
                let scales = scales.collect::<Option<Vec<u8>>>();
                let is_known = columns[COMMON].name() == "template" && scales.is_some();
                if !is_known {
                    return Err(ParquetError::General("its columns of numbers are not understood".into()));
                }
                (scales, columns.len() - 1)
            }
            Some(Some(COLUMNS)) | Some(None) => {
                return Err(ParquetError::General(format!("{} columns", columns.len())));
            }
            Some(Some(other)) => {
                let why = format!("its layout {other:?} is not known: a later version wrote it");
                return Err(ParquetError::General(why));
            }
        };
        if columns.len() != payload + 1 {
            return Err(ParquetError::General(format!("{} columns", columns.len())));
        }
        // (Room is made for as many rows as a group says it has.)
        if let Some(group) = metadata.row_groups().iter().find(|group| !GROUP_RANGE.contains(&group.num_rows())) {
            return Err(ParquetError::General(format!("a row group of {} rows", group.num_rows())));
        }
        Ok(Self { scales })
    }

    /// The column of templates, if it has one.
    pub(crate) fn template(&self) -> Option<usize> {
        self.scales.as_ref().map(|_| COMMON)
    }

    /// Decimals of its columns of numbers.
    pub(crate) fn scales(&self) -> &[u8] {
        self.scales.as_deref().unwrap_or_default()
    }

    /// The column that is the `number`-th of numbers.
    pub(crate) const fn number(number: usize) -> usize {
        COMMON + 1 + number
    }

    /// The column of payloads.
    pub(crate) fn payload(&self) -> usize {
        self.scales.as_ref().map_or(COMMON, |scales| COMMON + 1 + scales.len())
    }

    /// The column before which the range ends that is read to find rows: that of payloads, or the first of numbers.
    pub(crate) fn end_of_finding(&self) -> usize {
        COMMON + usize::from(self.scales.is_some())
    }

    /// Memory it takes.
    pub(crate) fn weight(&self) -> u64 {
        self.scales().len() as u64
    }
}

fn column(name: &str, physical: Physical, logical: Option<LogicalType>, repetition: Repetition) -> TypePtr {
    let column = Type::primitive_type_builder(name, physical)
        .with_repetition(repetition)
        .with_logical_type(logical)
        .build()
        .expect("the physical types below can carry the logical ones");
    Arc::new(column)
}

/// A column of lists of decimals.
fn numbers(name: &str, scale: u8) -> Result<TypePtr, ParquetError> {
    let (precision, scale) = (i32::from(MAX_DIGITS), i32::from(scale));
    let name = format!("{NUMBERS}{name}");
    let builder = Type::primitive_type_builder(&name, Physical::INT64).with_repetition(Repetition::REPEATED);
    let logical = Some(LogicalType::decimal(scale, precision));
    Ok(Arc::new(builder.with_logical_type(logical).with_precision(precision).with_scale(scale).build()?))
}

/// The schema; without columns of numbers the plain one.
pub(super) fn schema(columns: &Columns) -> Result<TypePtr, ParquetError> {
    const REQUIRED: Repetition = Repetition::REQUIRED;
    const OPTIONAL: Repetition = Repetition::OPTIONAL;
    let text = |name, repetition| column(name, Physical::BYTE_ARRAY, Some(LogicalType::String), repetition);
    let time = |name, repetition| {
        let micros = LogicalType::timestamp(true, TimeUnit::MICROS);
        column(name, Physical::INT64, Some(micros), repetition)
    };
    let mut fields = vec![
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
    ];
    let is_plain = columns.names.is_empty();
    if !is_plain {
        fields.push(text("template", OPTIONAL));
        for (name, scale) in columns.names.iter().zip(&columns.scales) {
            fields.push(numbers(name, *scale)?);
        }
    }
    fields.push(column("payload", Physical::BYTE_ARRAY, None, if is_plain { REQUIRED } else { OPTIONAL }));
    Ok(Arc::new(Type::group_type_builder("iot_meter_raw_v1").with_fields(fields).build()?))
}

/// How the columns are kept, compressed with zstd `level`.
pub(super) fn properties(level: i32, columns: &Columns) -> WriterPropertiesPtr {
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
        .set_column_statistics_enabled(ColumnPath::from("template"), EnabledStatistics::None)
        .set_column_data_page_row_count_limit(payload, PAGE_ROWS);
    let common = ["received_at", "journal_offset", "ts", "seq"].map(ColumnPath::from);
    let numbers = columns.names.iter().map(|name| ColumnPath::from(format!("{NUMBERS}{name}")));
    let numbers: Vec<ColumnPath> = numbers.collect();
    for path in &numbers {
        builder = builder
            .set_column_statistics_enabled(path.clone(), EnabledStatistics::None)
            .set_column_data_page_row_count_limit(path.clone(), NUMBER_PAGE_ROWS);
    }
    for path in common.into_iter().chain(numbers) {
        builder = builder
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
    }
    Arc::new(builder.build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_read_back_are_where_the_schemas_have_them() {
        use Column::{Category, ContentType, DeviceId, JournalOffset, Node, Qos};
        use Column::{Reason, ReceivedAt, Retain, Seq, SizeBytes, Topic, Ts};
        let mut columns = Columns::default();
        (columns.names, columns.scales) = (vec!["x".into(), "y".into()], vec![0, 3]);
        for (columns, rest) in
            [(Columns::default(), &["payload"][..]), (columns, &["template", "payload_x", "payload_y", "payload"])]
        {
            let schema = parquet::schema::types::SchemaDescriptor::new(schema(&columns).unwrap());
            let names: Vec<String> = schema.columns().iter().map(|column| column.path().string()).collect();
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
            assert_eq!(names[COMMON..], *rest);
            let scales = (!columns.names.is_empty()).then(|| columns.scales.clone());
            let layout = Layout { scales };
            assert_eq!(names[layout.payload()], "payload");
            assert_eq!(layout.template().map(|at| names[at].as_str()), (rest.len() > 1).then_some("template"));
            assert_eq!(names[layout.end_of_finding()], rest[usize::from(rest.len() > 1)]);
        }
    }
}

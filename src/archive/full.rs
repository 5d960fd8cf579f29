//! A whole row of an object: read one after the other from an object in memory, and written in row groups.
//!
//! Bounded: of an object being read, its (compressed) bytes and one page a column are held; of one being written, its
//! (compressed) bytes and one row group. Does not know where objects are kept.

use std::sync::Arc;

use bytes::Bytes;
use parquet::column::page::PageReader;
use parquet::column::reader::{ColumnReaderImpl, get_column_reader};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::reader::SerializedPageReader;

use super::decode::decode;
use super::encode::{DIGEST_KEY, Digest};
use super::numbers::{Guarded, Numbers, Rebuild, no_payload};
use super::schema::{Column, Layout};
use super::shred::Context;

/// Rows taken from the columns at once.
const STEP: usize = 128;

/// A row with all its columns.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Full {
    pub(crate) device: ByteArray,
    pub(crate) category: ByteArray,
    pub(crate) received_at: i64,
    pub(crate) offset: i64,
    pub(crate) size: i32,
    pub(crate) topic: ByteArray,
    pub(crate) ts: Option<i64>,
    pub(crate) seq: Option<i64>,
    pub(crate) reason: Option<ByteArray>,
    pub(crate) qos: i32,
    pub(crate) retain: bool,
    pub(crate) content_type: Option<ByteArray>,
    pub(crate) node: ByteArray,
    pub(crate) payload: ByteArray,
}

impl Full {
    /// Where it stands among the rows of an object.
    pub(crate) fn place(&self) -> (&[u8], i64, i64) {
        (self.device.data(), self.received_at, self.offset)
    }

    /// What its payload's template may leave out.
    pub(crate) fn context(&self) -> Context<'_> {
        Context::new(self.device.data(), self.seq, self.ts, self.received_at)
    }

    /// The message time, of telemetry.
    pub(crate) fn telemetry_ts(&self) -> Option<i64> {
        self.ts.filter(|_| self.category.data() == b"telemetry")
    }
}

/// An object in memory, read from its first row to its last.
pub(crate) struct Scan {
    bytes: Arc<Bytes>,
    metadata: ParquetMetaData,
    layout: Layout,
    next_group: usize,
    columns: Option<(Columns, usize)>,
    digest: Digest,
    /// Nothing more comes: it is at its end, or was damaged.
    is_over: bool,
}

impl Scan {
    /// Reads the footer.
    pub(crate) fn new(bytes: Bytes) -> Result<Self, ParquetError> {
        let (metadata, layout) = decode(|| {
            let metadata = ParquetMetaDataReader::new().parse_and_finish(&bytes)?;
            let layout = Layout::of(&metadata)?;
            Ok((metadata, layout))
        })?;
        let (bytes, digest) = (Arc::new(bytes), Digest::default());
        Ok(Self { bytes, metadata, layout, next_group: 0, columns: None, digest, is_over: false })
    }

    /// Rows it says it has.
    pub(crate) fn row_count(&self) -> u64 {
        u64::try_from(self.metadata.file_metadata().num_rows()).unwrap_or(0)
    }

    /// An entry of its metadata.
    pub(crate) fn entry(&self, key: &str) -> Option<&str> {
        let entries = self.metadata.file_metadata().key_value_metadata()?;
        entries.iter().find(|entry| entry.key == key)?.value.as_deref()
    }

    /// The next rows, in order; none = that was all, or an error was before. Their sum is checked at the end.
    pub(crate) fn next_rows(&mut self) -> Result<Vec<Full>, ParquetError> {
        if self.is_over {
            return Ok(Vec::new());
        }
        let rows = decode(|| self.next());
        self.is_over = !rows.as_ref().is_ok_and(|rows| !rows.is_empty());
        rows
    }

    fn next(&mut self) -> Result<Vec<Full>, ParquetError> {
        loop {
            if let Some((columns, left)) = self.columns.as_mut().filter(|(_, left)| *left > 0) {
                let rows = columns.read((*left).min(STEP))?;
                *left -= rows.len();
                rows.iter().for_each(|row| self.digest.add(row.offset, row.received_at, row.payload.data()));
                return Ok(rows);
            }
            if self.next_group == self.metadata.num_row_groups() {
                self.check_digest()?;
                return Ok(Vec::new());
            }
            let group = self.metadata.row_group(self.next_group);
            let rows = usize::try_from(group.num_rows())?;
            self.columns = Some((Columns::open(&self.bytes, group, &self.layout)?, rows));
            self.next_group += 1;
        }
    }

    fn check_digest(&self) -> Result<(), ParquetError> {
        match self.entry(DIGEST_KEY) {
            Some(said) if said != self.digest.text() => {
                let found = self.digest.text();
                Err(ParquetError::General(format!("its rows have the checksum {found}, not {said} as it says")))
            }
            Some(_) => Ok(()),
            None => Err(ParquetError::General("it has no checksum".into())),
        }
    }
}

struct Columns {
    device: ColumnReaderImpl<ByteArrayType>,
    category: ColumnReaderImpl<ByteArrayType>,
    received_at: ColumnReaderImpl<Int64Type>,
    offset: ColumnReaderImpl<Int64Type>,
    size: ColumnReaderImpl<Int32Type>,
    topic: ColumnReaderImpl<ByteArrayType>,
    ts: ColumnReaderImpl<Int64Type>,
    seq: ColumnReaderImpl<Int64Type>,
    reason: ColumnReaderImpl<ByteArrayType>,
    qos: ColumnReaderImpl<Int32Type>,
    retain: ColumnReaderImpl<BoolType>,
    content_type: ColumnReaderImpl<ByteArrayType>,
    node: ColumnReaderImpl<ByteArrayType>,
    payloads: Payloads,
}

impl Columns {
    fn open(bytes: &Arc<Bytes>, group: &RowGroupMetaData, layout: &Layout) -> Result<Self, ParquetError> {
        Ok(Self {
            device: open(bytes, group, Column::DeviceId as usize)?,
            category: open(bytes, group, Column::Category as usize)?,
            received_at: open(bytes, group, Column::ReceivedAt as usize)?,
            offset: open(bytes, group, Column::JournalOffset as usize)?,
            size: open(bytes, group, Column::SizeBytes as usize)?,
            topic: open(bytes, group, Column::Topic as usize)?,
            ts: open(bytes, group, Column::Ts as usize)?,
            seq: open(bytes, group, Column::Seq as usize)?,
            reason: open(bytes, group, Column::Reason as usize)?,
            qos: open(bytes, group, Column::Qos as usize)?,
            retain: open(bytes, group, Column::Retain as usize)?,
            content_type: open(bytes, group, Column::ContentType as usize)?,
            node: open(bytes, group, Column::Node as usize)?,
            payloads: Payloads::open(bytes, group, layout)?,
        })
    }

    fn read(&mut self, count: usize) -> Result<Vec<Full>, ParquetError> {
        let mut device = required(&mut self.device, count)?.into_iter();
        let mut category = required(&mut self.category, count)?.into_iter();
        let mut received_at = required(&mut self.received_at, count)?.into_iter();
        let mut offset = required(&mut self.offset, count)?.into_iter();
        let mut size = required(&mut self.size, count)?.into_iter();
        let mut topic = required(&mut self.topic, count)?.into_iter();
        let mut ts = optional(&mut self.ts, count)?.into_iter();
        let mut seq = optional(&mut self.seq, count)?.into_iter();
        let mut reason = optional(&mut self.reason, count)?.into_iter();
        let mut qos = required(&mut self.qos, count)?.into_iter();
        let mut retain = required(&mut self.retain, count)?.into_iter();
        let mut content_type = optional(&mut self.content_type, count)?.into_iter();
        let mut node = required(&mut self.node, count)?.into_iter();
        let rows = (0..count).map(|_| {
            Some(Full {
                device: device.next()?,
                category: category.next()?,
                received_at: received_at.next()?,
                offset: offset.next()?,
                size: size.next()?,
                topic: topic.next()?,
                ts: ts.next()?,
                seq: seq.next()?,
                reason: reason.next()?,
                qos: qos.next()?,
                retain: retain.next()?,
                content_type: content_type.next()?,
                node: node.next()?,
                payload: ByteArray::new(),
            })
        });
        let mut rows = rows.collect::<Option<Vec<_>>>().ok_or_else(too_short)?;
        self.payloads.read(&mut rows)?;
        Ok(rows)
    }
}

/// Where payloads are read from.
struct Payloads {
    /// Those that are kept as they are.
    whole: ColumnReaderImpl<ByteArrayType>,
    /// The others, if the object has columns of numbers.
    taken_apart: Option<TakenApart>,
}

struct TakenApart {
    templates: ColumnReaderImpl<ByteArrayType>,
    numbers: Vec<ColumnReaderImpl<Int64Type>>,
    rebuild: Rebuild,
}

impl Payloads {
    fn open(bytes: &Arc<Bytes>, group: &RowGroupMetaData, layout: &Layout) -> Result<Self, ParquetError> {
        let taken_apart = |template| {
            let templates = open(bytes, group, template)?;
            let numbers = (0..layout.scales().len()).map(|number| open(bytes, group, Layout::number(number)));
            let numbers = numbers.collect::<Result<Vec<_>, _>>()?;
            Ok::<_, ParquetError>(TakenApart { templates, numbers, rebuild: Rebuild::new(layout.scales()) })
        };
        let taken_apart = layout.template().map(taken_apart).transpose()?;
        Ok(Self { whole: open(bytes, group, layout.payload())?, taken_apart })
    }

    /// Reads those of some rows into them.
    fn read(&mut self, rows: &mut [Full]) -> Result<(), ParquetError> {
        let Some(TakenApart { templates, numbers, rebuild }) = &mut self.taken_apart else {
            let payloads = required(&mut self.whole, rows.len())?;
            rows.iter_mut().zip(payloads).for_each(|(row, payload)| row.payload = payload);
            return Ok(());
        };
        let templates = optional(templates, rows.len())?;
        let whole = optional(&mut self.whole, rows.len())?;
        let mut read = Vec::with_capacity(numbers.len());
        for reader in numbers {
            let mut numbers = Numbers::default();
            numbers.read(reader, rows.len())?;
            read.push(Some(numbers));
        }
        for (index, ((row, template), whole)) in rows.iter_mut().zip(templates).zip(whole).enumerate() {
            row.payload = match template {
                None => whole.ok_or_else(no_payload)?,
                Some(text) => {
                    let template = rebuild.template(&text)?;
                    rebuild.payload(&template, row.context(), row.size, &read, index)?.into()
                }
            };
        }
        Ok(())
    }
}

fn open<T: DataType>(
    bytes: &Arc<Bytes>,
    group: &RowGroupMetaData,
    column: usize,
) -> Result<ColumnReaderImpl<T>, ParquetError> {
    let chunk = group.column(column);
    let rows = usize::try_from(group.num_rows())?;
    let pages = SerializedPageReader::new(Arc::clone(bytes), chunk, rows, None)?;
    reader(chunk, pages)
}

/// A reader of a column's pages.
pub(crate) fn reader<T: DataType>(
    chunk: &ColumnChunkMetaData,
    pages: impl PageReader + 'static,
) -> Result<ColumnReaderImpl<T>, ParquetError> {
    let pages: Box<dyn PageReader> = match chunk.column_descr().max_rep_level() {
        0 => Box::new(pages),
        _ => Box::new(Guarded::new(pages)),
    };
    let name = chunk.column_path().string();
    T::get_column_reader(get_column_reader(chunk.column_descr_ptr(), pages))
        .ok_or_else(|| ParquetError::General(format!("column {name} has another type")))
}

fn too_short() -> ParquetError {
    ParquetError::EOF("a column is too short".into())
}

/// The next `count` values of a column without nulls.
pub(crate) fn required<T: DataType>(reader: &mut ColumnReaderImpl<T>, count: usize) -> Result<Vec<T::T>, ParquetError> {
    let mut values = Vec::with_capacity(count);
    reader.read_records(count, None, None, &mut values)?;
    (values.len() == count).then_some(values).ok_or_else(too_short)
}

/// The next `count` values of a column with nulls.
pub(crate) fn optional<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    count: usize,
) -> Result<Vec<Option<T::T>>, ParquetError> {
    let (mut values, mut levels) = (Vec::new(), Vec::with_capacity(count));
    reader.read_records(count, Some(&mut levels), None, &mut values)?;
    let mut values = values.into_iter();
    let all = levels.iter().map(|level| if *level > 0 { values.next().map(Some) } else { Some(None) });
    let all = all.collect::<Option<Vec<_>>>().ok_or_else(too_short)?;
    (all.len() == count).then_some(all).ok_or_else(too_short)
}

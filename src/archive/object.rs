//! One archive object, read in ranges: its footer, the rows of one device, the payload of one row.
//!
//! Costs: the footer is one range (small objects come whole with it) and is cached, because objects never change. The rows
//! of a device are one range for each row group that may hold it: all columns but those that payloads are made of. The
//! payloads of neighbouring rows are one range more, and a page of each column that they have numbers in.
//!
//! Invariant: decompresses no page of payloads or numbers but those of the rows asked for. Does not know where an object
//! lies in time.

mod payloads;
mod telemetry;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    ColumnChunkMask, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData,
};
use parquet::file::page_index::offset_index::PageLocation;
use parquet::file::reader::SerializedPageReader;
use parquet::file::statistics::Statistics;
use quick_cache::{Weighter, sync::Cache};

use super::Error;
use super::bucket::Bucket;
use super::decode::decode;
use super::encode::{BATCH_KEY, DIGEST_KEY, PARTS_KEY};
use super::full::{optional, reader, required};
use super::key::MessageName;
use super::schema::{Column, Layout};
use super::shred::MAX_COLUMNS;
use super::source::Source;
use crate::domain::Timestamp;
pub use telemetry::PastMessage;
pub(crate) use telemetry::Place;

/// Bytes read from an object's end in the hope of its whole footer.
const TAIL_BYTES: u64 = 32 * 1024;
/// More columns than an object has.
const MAX_POSITION: usize = Column::Node as usize + 4 + MAX_COLUMNS;
/// Memory for footers.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;

/// Footers of objects seen lately.
pub(crate) type Footers = Cache<String, Arc<Footer>, Weight>;

/// An empty footer cache.
pub(crate) fn footers() -> Footers {
    Cache::with_weighter(512, CACHE_BYTES, Weight)
}

/// What is known of an object from its footer.
#[derive(Debug)]
pub(crate) struct Footer {
    metadata: ParquetMetaData,
    layout: Layout,
    weight: u64,
}

/// Weighs a footer by its memory.
#[derive(Clone, Debug)]
pub(crate) struct Weight;

impl Weighter<String, Arc<Footer>> for Weight {
    fn weight(&self, key: &String, footer: &Arc<Footer>) -> u64 {
        footer.weight + key.len() as u64
    }
}

/// A message found, here or in the journal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) received_at: Timestamp,
    pub(crate) offset: u64,
    pub(crate) category: String,
    pub(crate) size: u64,
}

impl Entry {
    /// Whether it is the message of that name.
    pub(crate) fn has_name(&self, name: &MessageName) -> bool {
        self.offset == name.offset && self.received_at == name.received_at && self.category == name.category
    }
}

/// A row found in an object.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) entry: Entry,
    group: usize,
    row: usize,
}

/// An object opened for reading.
#[derive(Debug)]
pub(crate) struct Object<'a> {
    bucket: &'a Bucket,
    key: Path,
    size: u64,
    footer: Arc<Footer>,
    /// The object's end, when it was just read: saves reading it again.
    tail: Option<(u64, Bytes)>,
}

impl<'a> Object<'a> {
    /// Opens an object of `size` bytes; `None` when it is gone.
    pub(crate) fn open(bucket: &'a Bucket, cache: &Footers, key: &Path, size: u64) -> Result<Option<Self>, Error> {
        let key = key.clone();
        if let Some(footer) = cache.get(key.as_ref()) {
            return Ok(Some(Self { bucket, key, size, footer, tail: None }));
        }
        match decode(|| load(bucket, &key, size)) {
            Ok((metadata, layout, start, tail)) => {
                let weight = metadata.memory_size() as u64 + layout.weight();
                let footer = Arc::new(Footer { metadata, layout, weight });
                cache.insert(key.to_string(), Arc::clone(&footer));
                Ok(Some(Self { bucket, key, size, footer, tail: Some((start, tail)) }))
            }
            Err(e) => gone(Error::reading(&key, e)),
        }
    }

    /// Receive times of its oldest and newest row.
    pub(crate) fn received(&self) -> Option<(Timestamp, Timestamp)> {
        let bounds = self.groups().map(|group| match group.column(Column::ReceivedAt as usize).statistics() {
            Some(Statistics::Int64(s)) => Some((Timestamp(*s.min_opt()?), Timestamp(*s.max_opt()?))),
            _ => None,
        });
        bounds.flatten().reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// Keys of all objects of its batch.
    pub(crate) fn batch(&self) -> Vec<Path> {
        self.entry(BATCH_KEY).unwrap_or_default().split_whitespace().map(Path::from).collect()
    }

    /// Ranges of offsets of what was put together into it.
    pub(crate) fn parts(&self) -> Vec<(u64, u64)> {
        let parts = self.entry(PARTS_KEY).unwrap_or_default().split_whitespace();
        parts
            .filter_map(|part| part.split_once('-'))
            .filter_map(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)))
            .collect()
    }

    /// Whether its statistics leave room for the device.
    pub(crate) fn may_hold(&self, device: &str) -> bool {
        self.groups().any(|group| may_hold(group, device))
    }

    /// Rows in it.
    pub(crate) fn row_count(&self) -> u64 {
        u64::try_from(self.footer.metadata.file_metadata().num_rows()).unwrap_or(0)
    }

    /// Checksum of its records.
    pub(crate) fn digest(&self) -> Option<&str> {
        self.entry(DIGEST_KEY)
    }

    /// The rows of a device, oldest first. `None`: the object is gone.
    pub(crate) fn rows_of(&self, device: &str) -> Result<Option<Vec<Found>>, Error> {
        let mut found = Vec::new();
        for (index, group) in self.groups().enumerate() {
            if may_hold(group, device)
                && let Err(e) = decode(|| self.group_rows(index, group, device, &mut found))
            {
                return gone(Error::reading(&self.key, e));
            }
        }
        Ok(Some(found))
    }

    /// Content type and payload of a row. `None`: the object is gone.
    pub(crate) fn content(&self, found: &Found) -> Result<Option<(String, Vec<u8>)>, Error> {
        decode(|| self.row_content(found)).map(Some).or_else(|e| gone(Error::reading(&self.key, e)))
    }

    fn groups(&self) -> impl Iterator<Item = &RowGroupMetaData> {
        self.footer.metadata.row_groups().iter()
    }

    fn entry(&self, key: &str) -> Option<&str> {
        let entries = self.footer.metadata.file_metadata().key_value_metadata()?;
        entries.iter().find(|entry| entry.key == key)?.value.as_deref()
    }

    fn group_rows(
        &self,
        index: usize,
        group: &RowGroupMetaData,
        device: &str,
        found: &mut Vec<Found>,
    ) -> Result<(), ParquetError> {
        let source = Arc::new(self.source(group)?);
        let all = 0..usize::try_from(group.num_rows())?;
        let devices = read::<ByteArrayType>(&source, group, Column::DeviceId, all)?;
        let start = devices.partition_point(|d| d.data() < device.as_bytes());
        let rows = start..start + devices[start..].partition_point(|d| d.data() == device.as_bytes());
        if rows.is_empty() {
            return Ok(());
        }
        let times = read::<Int64Type>(&source, group, Column::ReceivedAt, rows.clone())?;
        let offsets = read::<Int64Type>(&source, group, Column::JournalOffset, rows.clone())?;
        let sizes = read::<Int32Type>(&source, group, Column::SizeBytes, rows.clone())?;
        let categories = read::<ByteArrayType>(&source, group, Column::Category, rows.clone())?;
        let columns = times.into_iter().zip(offsets).zip(sizes).zip(categories).zip(rows);
        for ((((time, offset), size), category), row) in columns {
            let size = u64::try_from(size).unwrap_or(0);
            let (received_at, offset) = (Timestamp(time), offset.cast_unsigned());
            let entry = Entry { received_at, offset, category: text(&category), size };
            found.push(Found { entry, group: index, row });
        }
        Ok(())
    }

    fn row_content(&self, found: &Found) -> Result<(String, Vec<u8>), ParquetError> {
        let group = self.footer.metadata.row_group(found.group);
        let source = Arc::new(self.source(group)?);
        let place = [found.row];
        let mut types = open::<ByteArrayType>(&source, group, Column::ContentType as usize, None)?;
        let content_type = picked(&mut types, &place, optional)?.pop().flatten();
        let payload = self.payloads(found.group, &source, &place)?.pop();
        let payload = payload.ok_or_else(|| ParquetError::EOF("the payload is missing".into()))?;
        Ok((content_type.as_ref().map(text).unwrap_or_default(), payload.to_vec()))
    }

    /// A source that has everything of a row group but its payloads at hand.
    fn source(&self, group: &RowGroupMetaData) -> Result<Source, ParquetError> {
        let (start, _) = group.column(0).byte_range();
        let (end, _) = group.column(self.footer.layout.end_of_finding()).byte_range();
        let at_hand = match &self.tail {
            Some((at, bytes)) if *at <= start => (*at, bytes.clone()),
            _ => (start, self.bucket.get_range(&self.key, start..end).map_err(external)?),
        };
        Ok(Source { bucket: self.bucket.clone(), key: self.key.clone(), size: self.size, at_hand })
    }
}

/// Reads and checks a footer; also gives the bytes read from the object's end and where they start.
fn load(bucket: &Bucket, key: &Path, size: u64) -> Result<(ParquetMetaData, Layout, u64, Bytes), ParquetError> {
    let mut want = TAIL_BYTES;
    loop {
        let start = size.saturating_sub(want);
        let tail = bucket.get_range(key, start..size).map_err(external)?;
        let mut reader = ParquetMetaDataReader::new()
            .with_column_index_policy(PageIndexPolicy::Skip)
            .with_offset_index_policy(PageIndexPolicy::Optional)
            .with_offset_index_mask(ColumnChunkMask::columns(Column::Node as usize + 1..MAX_POSITION));
        match reader.try_parse_sized(&tail, size) {
            Ok(()) => {
                let metadata = reader.finish()?;
                let layout = Layout::of(&metadata)?;
                return Ok((metadata, layout, start, tail));
            }
            // Asks for more than was read, so that this ends.
            Err(ParquetError::NeedMoreData(needed)) if needed as u64 > want => want = needed as u64,
            Err(e) => return Err(e),
        }
    }
}

/// The bytes of a whole object; `None` when it is gone.
pub(crate) fn bytes_of(bucket: &Bucket, key: &Path) -> Result<Option<Bytes>, Error> {
    bucket.get(key).map(Some).or_else(gone)
}

/// An object that vanished (retention) is not an error.
fn gone<T>(error: Error) -> Result<Option<T>, Error> {
    match error {
        Error::Store { source: object_store::Error::NotFound { .. }, .. } => Ok(None),
        other => Err(other),
    }
}

fn external(error: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

fn text(value: &ByteArray) -> String {
    String::from_utf8_lossy(value.data()).into_owned()
}

/// Whether the statistics leave room for the device.
fn may_hold(group: &RowGroupMetaData, device: &str) -> bool {
    let Some(statistics) = group.column(Column::DeviceId as usize).statistics() else { return true };
    let device = device.as_bytes();
    statistics.min_bytes_opt().is_none_or(|min| min <= device)
        && statistics.max_bytes_opt().is_none_or(|max| device <= max)
}

fn open<T: DataType>(
    source: &Arc<Source>,
    group: &RowGroupMetaData,
    column: usize,
    pages: Option<Vec<PageLocation>>,
) -> Result<ColumnReaderImpl<T>, ParquetError> {
    let chunk = group.column(column);
    let rows = usize::try_from(group.num_rows())?;
    reader(chunk, SerializedPageReader::new(Arc::clone(source), chunk, rows, pages)?)
}

/// Values of neighbouring rows of a column without nulls.
fn read<T: DataType>(
    source: &Arc<Source>,
    group: &RowGroupMetaData,
    column: Column,
    rows: Range<usize>,
) -> Result<Vec<T::T>, ParquetError> {
    let mut reader = open::<T>(source, group, column as usize, None)?;
    reader.skip_records(rows.start)?;
    required(&mut reader, rows.len())
}

/// The values of some rows (in their order) of a column.
fn picked<T: DataType, V>(
    reader: &mut ColumnReaderImpl<T>,
    rows: &[usize],
    mut take: impl FnMut(&mut ColumnReaderImpl<T>, usize) -> Result<Vec<V>, ParquetError>,
) -> Result<Vec<V>, ParquetError> {
    let mut values = Vec::with_capacity(rows.len());
    let mut at = 0;
    for run in rows.chunk_by(|a, b| a + 1 == *b) {
        let start = run.first().copied().unwrap_or(at);
        reader.skip_records(start.saturating_sub(at))?;
        values.extend(take(reader, run.len())?);
        at = start + run.len();
    }
    Ok(values)
}

//! A device's telemetry within an object: which rows, by message time; and their payloads.
//!
//! Costs: row groups are passed over by their statistics of device and message time; of the others one range is read, all
//! columns but those that payloads are made of.

use std::sync::Arc;

use bytes::Bytes;
use parquet::data_type::{ByteArrayType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::statistics::Statistics;

use super::{Object, decode, gone, may_hold, open, picked, read, text};
use crate::archive::Error;
use crate::archive::full::{optional, required};
use crate::archive::schema::Column;
use crate::domain::Timestamp;

/// A row of telemetry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Place {
    /// Message time.
    pub(crate) ts: Timestamp,
    pub(crate) group: u32,
    pub(crate) row: u32,
}

/// A message as it was received.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PastMessage {
    /// Message time.
    pub ts: Timestamp,
    /// When it was received.
    pub received_at: Timestamp,
    /// As the sender said; empty = nothing.
    pub content_type: String,
    /// Exact bytes.
    pub payload: Bytes,
}

impl Object<'_> {
    /// Oldest and newest message time by its statistics; `None` = no message has one.
    pub(crate) fn times(&self) -> Option<(Timestamp, Timestamp)> {
        let each = self.groups().filter_map(times_of);
        each.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// The device's telemetry with a message time in `from..to`, in no order. `None`: the object is gone.
    pub(crate) fn telemetry_of(
        &self,
        device: &str,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Option<Vec<Place>>, Error> {
        let mut found = Vec::new();
        for (index, group) in self.groups().enumerate() {
            let overlaps = times_of(group).is_some_and(|(oldest, newest)| oldest < to && from <= newest);
            if overlaps && may_hold(group, device) {
                let places = decode(|| self.places(index, group, device));
                match places {
                    Ok(places) => found.extend(places.into_iter().filter(|p| from <= p.ts && p.ts < to)),
                    Err(e) => return gone(Error::reading(&self.key, e)),
                }
            }
        }
        Ok(Some(found))
    }

    fn places(&self, index: usize, group: &RowGroupMetaData, device: &str) -> Result<Vec<Place>, ParquetError> {
        let source = Arc::new(self.source(group)?);
        let all = 0..usize::try_from(group.num_rows())?;
        let devices = read::<ByteArrayType>(&source, group, Column::DeviceId, all)?;
        let start = devices.partition_point(|d| d.data() < device.as_bytes());
        let count = devices[start..].partition_point(|d| d.data() == device.as_bytes());
        if count == 0 {
            return Ok(Vec::new());
        }
        let categories = read::<ByteArrayType>(&source, group, Column::Category, start..start + count)?;
        let mut times = open::<Int64Type>(&source, group, Column::Ts as usize, None)?;
        times.skip_records(start)?;
        let times = optional(&mut times, count)?;
        let group = u32::try_from(index)?;
        let rows = times.into_iter().zip(categories).enumerate();
        let telemetry = rows.filter_map(|(nth, (ts, category))| {
            let row = u32::try_from(start + nth).ok()?;
            (category.data() == b"telemetry").then_some(Place { ts: Timestamp(ts?), group, row })
        });
        Ok(telemetry.collect())
    }

    /// The messages of some rows, in any order. `None`: the object is gone.
    pub(crate) fn messages(&self, places: &[Place]) -> Result<Option<Vec<PastMessage>>, Error> {
        let mut sorted = places.to_vec();
        sorted.sort_unstable_by_key(|p| (p.group, p.row));
        let mut found = Vec::with_capacity(sorted.len());
        for of_group in sorted.chunk_by(|a, b| a.group == b.group) {
            if let Err(e) = decode(|| self.group_messages(of_group, &mut found)) {
                return gone(Error::reading(&self.key, e));
            }
        }
        Ok(Some(found))
    }

    fn group_messages(&self, places: &[Place], found: &mut Vec<PastMessage>) -> Result<(), ParquetError> {
        let Some(first) = places.first() else { return Ok(()) };
        let index = first.group as usize;
        let group = self.footer.metadata.row_group(index);
        let source = Arc::new(self.source(group)?);
        let rows: Vec<usize> = places.iter().map(|place| place.row as usize).collect();
        let mut received = open::<Int64Type>(&source, group, Column::ReceivedAt as usize, None)?;
        let mut types = open::<ByteArrayType>(&source, group, Column::ContentType as usize, None)?;
        let received = picked(&mut received, &rows, required)?;
        let types = picked(&mut types, &rows, optional)?;
        let payloads = self.payloads(index, &source, &rows)?;
        let columns = received.into_iter().zip(types).zip(payloads).zip(places);
        found.extend(columns.map(|(((received_at, kind), payload), place)| PastMessage {
            ts: place.ts,
            received_at: Timestamp(received_at),
            content_type: kind.as_ref().map(text).unwrap_or_default(),
            payload,
        }));
        Ok(())
    }
}

/// Oldest and newest message time of a row group; without statistics it may be any.
fn times_of(group: &RowGroupMetaData) -> Option<(Timestamp, Timestamp)> {
    match group.column(Column::Ts as usize).statistics() {
        Some(Statistics::Int64(s)) => Some((Timestamp(*s.min_opt()?), Timestamp(*s.max_opt()?))),
        _ => Some((Timestamp(i64::MIN), Timestamp(i64::MAX))),
    }
}

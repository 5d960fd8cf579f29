//! Looking into an archive from outside: which objects there are, and all messages of some of them.
//!
//! Works on the object store alone, also while a server writes there. Bounded: a folder's listing, and one object at a time.

use std::ops::ControlFlow;

use object_store::path::Path;

use super::bucket::Bucket;
use super::full::{Full, Scan};
use super::key::{Hour, Listed, ROOT, date_of, standing};
use super::object::{Footers, Object, footers};
use super::{Error, message_name};
use crate::domain::{DeviceId, Timestamp};

const DAY_US: i64 = 86_400_000_000;

/// Which part of an archive, by time of receipt.
#[derive(Clone, Debug)]
pub struct Part {
    /// From then on …
    pub from: Timestamp,
    /// … until before then.
    pub to: Timestamp,
    /// Of this device only.
    pub device: Option<DeviceId>,
    /// Of this category only.
    pub category: Option<String>,
}

impl Default for Part {
    fn default() -> Self {
        Self { from: Timestamp(i64::MIN), to: Timestamp(i64::MAX), device: None, category: None }
    }
}

impl Part {
    fn has_day(&self, end: Timestamp) -> bool {
        self.from < end && end.plus_us(-DAY_US) < self.to
    }

    fn has_hour(&self, hour: Hour) -> bool {
        self.from < hour.end() && hour.end().plus_us(-DAY_US / 24) < self.to
    }

    fn has_row(&self, row: &Full) -> bool {
        (self.from.0..self.to.0).contains(&row.received_at)
            && self.device.as_ref().is_none_or(|device| device.as_str().as_bytes() == row.device.data())
            && self.category.as_ref().is_none_or(|category| category.as_bytes() == row.category.data())
    }
}

/// An object, as its name and footer tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectInfo {
    /// Its key in the archive.
    pub key: String,
    /// The node that wrote it.
    pub node: String,
    /// Lowest and highest journal offset in it.
    pub offsets: (u64, u64),
    /// Bytes as they are kept.
    pub size: u64,
    /// Messages, or those of the device asked for.
    pub messages: u64,
    /// When the oldest and newest was received.
    pub received: Option<(Timestamp, Timestamp)>,
    /// Oldest and newest message time.
    pub times: Option<(Timestamp, Timestamp)>,
    /// It was put together from others.
    pub is_compacted: bool,
}

/// An archived message, whole.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Archived {
    pub device: String,
    pub category: String,
    pub topic: String,
    pub received_at: Timestamp,
    pub ts: Option<Timestamp>,
    pub seq: Option<i64>,
    /// Why it is `invalid`.
    pub reason: Option<String>,
    pub qos: i32,
    pub is_retained: bool,
    pub content_type: Option<String>,
    pub node: String,
    pub offset: u64,
    pub payload: bytes::Bytes,
}

impl Archived {
    fn new(row: Full) -> Self {
        let text = |value: &parquet::data_type::ByteArray| String::from_utf8_lossy(value.data()).into_owned();
        Self {
            device: text(&row.device),
            category: text(&row.category),
            topic: text(&row.topic),
            received_at: Timestamp(row.received_at),
            ts: row.ts.map(Timestamp),
            seq: row.seq,
            reason: row.reason.as_ref().map(text),
            qos: row.qos,
            is_retained: row.retain,
            content_type: row.content_type.as_ref().map(text),
            node: text(&row.node),
            offset: row.offset.cast_unsigned(),
            payload: bytes::Bytes::copy_from_slice(row.payload.data()),
        }
    }

    /// Its name in a listing of raw data.
    pub fn name(&self) -> String {
        message_name(&self.device, &self.category, self.received_at, self.offset)
    }
}

/// Calls `each` with the folders of hours that have some of it, oldest first: which one, and what is to be read there.
pub(super) fn hours(
    bucket: &Bucket,
    part: &Part,
    each: &mut dyn FnMut(Hour, Vec<Listed>, Vec<Listed>) -> Result<ControlFlow<()>, Error>,
) -> Result<(), Error> {
    for date in bucket.folders(&Path::from(ROOT))? {
        if !date_of(&date).is_some_and(|end| part.has_day(end)) {
            continue;
        }
        for folder in bucket.folders(&date)? {
            let Some(hour) = Hour::parse(&folder).filter(|hour| part.has_hour(*hour)) else { continue };
            let (stand, covered) = standing(bucket.objects(&folder)?.into_iter().filter_map(Listed::new).collect());
            if each(hour, stand, covered)?.is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The beginning of the first day there is.
pub fn first_day(bucket: &Bucket) -> Result<Option<Timestamp>, Error> {
    let days = bucket.folders(&Path::from(ROOT))?;
    Ok(days.iter().find_map(date_of).map(|end| end.plus_us(-DAY_US)))
}

/// Calls `each` with every object of a part of the archive, oldest first, until it breaks. Objects that are in others already
/// are passed over.
pub fn objects(bucket: &Bucket, part: &Part, each: &mut dyn FnMut(ObjectInfo) -> ControlFlow<()>) -> Result<(), Error> {
    let footers = footers();
    hours(bucket, part, &mut |_, stand, _| {
        for listed in stand {
            let Some(info) = info(bucket, &footers, listed, part)? else { continue };
            if each(info).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    })
}

fn info(bucket: &Bucket, footers: &Footers, listed: Listed, part: &Part) -> Result<Option<ObjectInfo>, Error> {
    let Listed { name, key, size, .. } = listed;
    let Some(object) = Object::open(bucket, footers, &key, size)? else { return Ok(None) };
    let messages = match &part.device {
        None => object.row_count(),
        Some(device) => {
            let rows = object.rows_of(device.as_str())?.unwrap_or_default();
            let is_wanted = |category: &str| part.category.as_ref().is_none_or(|c| c == category);
            rows.iter().filter(|row| is_wanted(&row.entry.category)).count() as u64
        }
    };
    Ok((messages > 0).then(|| ObjectInfo {
        key: key.to_string(),
        offsets: (name.first, name.last),
        size,
        messages,
        received: object.received(),
        times: object.times(),
        is_compacted: name.times.is_some(),
        node: name.node,
    }))
}

/// Calls `each` with every message of a part of the archive until it breaks: by hour of receipt and object, in each by device
/// and time of receipt.
pub fn messages(bucket: &Bucket, part: &Part, each: &mut dyn FnMut(Archived) -> ControlFlow<()>) -> Result<(), Error> {
    let footers = footers();
    hours(bucket, part, &mut |_, stand, _| {
        for listed in stand {
            if let Some(device) = &part.device {
                let object = Object::open(bucket, &footers, &listed.key, listed.size)?;
                if !object.is_some_and(|object| object.may_hold(device.as_str())) {
                    continue;
                }
            }
            if rows_of(bucket, &listed, part, each)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    })
}

fn rows_of(
    bucket: &Bucket,
    listed: &Listed,
    part: &Part,
    each: &mut dyn FnMut(Archived) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Error> {
    let failed = |e| Error::reading(&listed.key, e);
    let mut scan = Scan::new(bucket.get(&listed.key)?).map_err(failed)?;
    loop {
        let rows = scan.next_rows().map_err(failed)?;
        if rows.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        for row in rows.into_iter().filter(|row| part.has_row(row)) {
            if each(Archived::new(row)).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
}

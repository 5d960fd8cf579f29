//! Looking into an archive from outside: which objects there are, and all messages of some of them.
//!
//! Works on the object store alone, also while a server writes there. Bounded: a folder's listing, and one object at a time.
//! When an object is gone that was listed, its hour is listed again: what was put together meanwhile has its messages.

use std::ops::ControlFlow;

use object_store::path::Path;

use super::bucket::Bucket;
use super::full::{Full, Scan};
use super::key::{Hour, Listed, ObjectName, ROOT, date_of};
use super::object::{Object, bytes_of, footers};
use super::walk::{Shelf, again};
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

/// Calls `each` with the hours that have some of it, oldest first, until it breaks.
pub(super) fn hours(
    bucket: &Bucket,
    part: &Part,
    each: &mut dyn FnMut(Hour) -> Result<ControlFlow<()>, Error>,
) -> Result<(), Error> {
    for date in bucket.folders(&Path::from(ROOT))? {
        if !date_of(&date).is_some_and(|end| part.has_day(end)) {
            continue;
        }
        for folder in bucket.folders(&date)? {
            let Some(hour) = Hour::parse(&folder).filter(|hour| part.has_hour(*hour)) else { continue };
            if each(hour)?.is_break() {
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
    let shelf = Shelf { bucket, footers: &footers };
    hours(bucket, part, &mut |hour| Ok(again(|| infos(shelf, hour, part))?.into_iter().try_for_each(&mut *each)))
}

/// The objects of an hour. `None`: one has gone since the listing.
fn infos(shelf: Shelf<'_>, hour: Hour, part: &Part) -> Result<Option<Vec<ObjectInfo>>, Error> {
    let mut infos = Vec::new();
    for Listed { name, key, size, .. } in shelf.objects(hour)? {
        let Some(object) = Object::open(shelf.bucket, shelf.footers, &key, size)? else { return Ok(None) };
        let messages = match &part.device {
            None => object.row_count(),
            Some(device) => {
                let Some(rows) = object.rows_of(device.as_str())? else { return Ok(None) };
                let is_wanted = |category: &str| part.category.as_ref().is_none_or(|c| c == category);
                rows.iter().filter(|row| is_wanted(&row.entry.category)).count() as u64
            }
        };
        if messages > 0 {
            infos.push(ObjectInfo {
                key: key.to_string(),
                offsets: (name.first, name.last),
                size,
                messages,
                received: object.received(),
                times: object.times(),
                is_compacted: name.times.is_some(),
                node: name.node,
            });
        }
    }
    Ok(Some(infos))
}

/// Calls `each` with every message of a part of the archive until it breaks: by hour of receipt and object, in each by device
/// and time of receipt.
pub fn messages(bucket: &Bucket, part: &Part, each: &mut dyn FnMut(Archived) -> ControlFlow<()>) -> Result<(), Error> {
    let footers = footers();
    let shelf = Shelf { bucket, footers: &footers };
    hours(bucket, part, &mut |hour| {
        let mut read = Vec::new();
        again(|| messages_of(shelf, hour, part, &mut read, each))
    })
}

/// The messages of an hour but those of objects that were `read` before. `None`: an object has gone since the listing.
fn messages_of(
    shelf: Shelf<'_>,
    hour: Hour,
    part: &Part,
    read: &mut Vec<ObjectName>,
    each: &mut dyn FnMut(Archived) -> ControlFlow<()>,
) -> Result<Option<ControlFlow<()>>, Error> {
    for listed in shelf.objects(hour)? {
        if read.contains(&listed.name) {
            continue;
        }
        if let Some(device) = &part.device {
            let object = Object::open(shelf.bucket, shelf.footers, &listed.key, listed.size)?;
            let Some(object) = object else { return Ok(None) };
            if !object.may_hold(device.as_str()) {
                continue;
            }
        }
        match rows_of(shelf.bucket, &listed, part, read, each)? {
            Some(ControlFlow::Continue(())) => read.push(listed.name),
            end => return Ok(end),
        }
    }
    Ok(Some(ControlFlow::Continue(())))
}

/// `None`: the object is gone.
fn rows_of(
    bucket: &Bucket,
    listed: &Listed,
    part: &Part,
    read: &[ObjectName],
    each: &mut dyn FnMut(Archived) -> ControlFlow<()>,
) -> Result<Option<ControlFlow<()>>, Error> {
    let Some(bytes) = bytes_of(bucket, &listed.key)? else { return Ok(None) };
    // (Of objects that are not in it the ranges say nothing: those of two journals under one id lie across each other.)
    let contained: Vec<&ObjectName> = read.iter().filter(|name| listed.name.covers(name)).collect();
    let is_new = |row: &Full| !contained.iter().any(|name| name.spans(row.offset.cast_unsigned()));
    let failed = |e| Error::reading(&listed.key, e);
    let mut scan = Scan::new(bytes).map_err(failed)?;
    loop {
        let rows = scan.next_rows().map_err(failed)?;
        if rows.is_empty() {
            return Ok(Some(ControlFlow::Continue(())));
        }
        for row in rows.into_iter().filter(|row| part.has_row(row) && is_new(row)) {
            if each(Archived::new(row)).is_break() {
                return Ok(Some(ControlFlow::Break(())));
            }
        }
    }
}

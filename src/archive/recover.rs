//! Where archiving goes on after a restart.
//!
//! The listing of the archive is the only truth; there is no position file that could be lost or disagree. It is enough
//! because of three rules: an object's folder is the hour in which its records were received, its name holds their lowest
//! and highest offset, and a batch's objects are all written, the one with its first record first, before the next batch
//! is begun. So whether the record with
//! offset `n` is archived shows in one folder: there is an object of this node that spans `n`. Starting at the oldest
//! record the journal still has, that question is asked once for each hour already archived.
//!
//! Only the last batch can be incomplete (it crossed an hour and the process died between its objects). Each object names
//! all objects of its batch, so that is seen, and the batch is written again with exactly its old bounds: same names, same
//! bytes, what exists is left alone.

use object_store::path::Path;

use super::Error;
use super::bucket::Bucket;
use super::key::{Hour, Listed, ObjectName};
use super::log::{Log, READ_BYTES, READ_RECORDS};
use super::object::{Footers, Object};
use super::walk::Shelf;
use crate::domain::Timestamp;

/// What to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Resume {
    /// Everything below is archived.
    pub(crate) next: u64,
    /// The first batch must end exactly here (exclusive): it was begun before.
    pub(crate) redo_until: Option<u64>,
}

/// Finds out by listing. `is_expired`: whether the objects of an hour may have been deleted for their age.
pub(crate) fn resume(
    bucket: &Bucket,
    footers: &Footers,
    log: &dyn Log,
    node: &str,
    is_expired: &dyn Fn(Hour) -> bool,
) -> Result<Resume, Error> {
    let mut next = log.first();
    while let Some((offset, received_at)) = record_at(log, next)? {
        next = offset;
        match batch_of(bucket, footers, node, (offset, received_at), is_expired)? {
            Some(Written { first, end, complete: false }) => return Ok(Resume { next: first, redo_until: Some(end) }),
            Some(Written { end, .. }) => next = end,
            None => match behind_expired(log, offset, is_expired)? {
                behind if behind == offset => break,
                behind => next = behind,
            },
        }
    }
    Ok(Resume { next, redo_until: None })
}

/// Behind the records from `next` on whose objects have gone for their age, and with them what says that they were archived.
/// Of what lies behind those the archive may have some still.
fn behind_expired(log: &dyn Log, next: u64, is_expired: &dyn Fn(Hour) -> bool) -> Result<u64, Error> {
    let mut reader = log.reader(next)?;
    let (mut behind, mut is_past) = (next, true);
    while is_past {
        let read = reader.read(READ_RECORDS, READ_BYTES, &mut |record| {
            is_past = is_past && is_expired(Hour::of(record.received_at));
            if is_past {
                behind = record.offset.0 + 1;
            }
        })?;
        if read == 0 {
            break;
        }
    }
    Ok(behind)
}

/// The first record at or behind `at`: one at `at` may have been trimmed.
fn record_at(log: &dyn Log, at: u64) -> Result<Option<(u64, Timestamp)>, Error> {
    let mut found = None;
    log.reader(at)?.read(1, 1, &mut |record| {
        found.get_or_insert((record.offset.0, record.received_at));
    })?;
    Ok(found)
}

struct Written {
    first: u64,
    end: u64,
    complete: bool,
}

/// The last batch of the unbroken run of objects in the record's folder that begins with the one holding the record.
fn batch_of(
    bucket: &Bucket,
    footers: &Footers,
    node: &str,
    (offset, received_at): (u64, Timestamp),
    is_expired: &dyn Fn(Hour) -> bool,
) -> Result<Option<Written>, Error> {
    let objects = Shelf { bucket, footers }.objects(Hour::of(received_at))?;
    let objects: Vec<Listed> = objects.into_iter().filter(|l| l.name.node == node && l.name.last >= offset).collect();
    let Some(Listed { key, size, .. }) = objects.first().filter(|l| l.name.spans(offset)) else { return Ok(None) };
    let Some(object) = Object::open(bucket, footers, key, *size)? else { return Ok(None) };
    // Another journal's object (the directory was emptied, the node id kept) spans the number but not the time.
    if !object.received().is_some_and(|(oldest, newest)| oldest <= received_at && received_at <= newest) {
        return Ok(None);
    }
    let mut last = &objects[0];
    for next in &objects[1..] {
        if next.name.first != last.name.last + 1 {
            break;
        }
        last = next;
    }
    let Some(object) = Object::open(bucket, footers, &last.key, last.size)? else { return Ok(None) };
    // (What was put together names the last batch in it: more than that is not to be written again.)
    let siblings: Vec<_> = object.batch().into_iter().filter_map(|key| Some((ObjectName::parse(&key)?, key))).collect();
    let first = siblings.iter().map(|(name, _)| name.first).min().unwrap_or(last.name.first);
    let mut written = Written { first, end: last.name.last + 1, complete: true };
    for (name, sibling) in siblings {
        written.end = written.end.max(name.last + 1);
        written.complete &= is_there(bucket, footers, &sibling, &name, is_expired)?;
    }
    Ok(Some(written))
}

/// Whether an object of a batch is there, or what it was put together into; or was there until its day was deleted.
fn is_there(
    bucket: &Bucket,
    footers: &Footers,
    key: &Path,
    name: &ObjectName,
    is_expired: &dyn Fn(Hour) -> bool,
) -> Result<bool, Error> {
    if bucket.size(key)?.is_some() {
        return Ok(true);
    }
    let Some(hour) = key.as_ref().rsplit_once('/').and_then(|(folder, _)| Hour::parse(&Path::from(folder))) else {
        return Ok(false);
    };
    if is_expired(hour) {
        return Ok(true);
    }
    let objects = Shelf { bucket, footers }.objects(hour)?;
    Ok(objects.iter().any(|listed| listed.name.covers(name)))
}

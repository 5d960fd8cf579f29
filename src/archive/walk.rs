//! Messages of one device that are in the archive, newest first; and one message by its name.
//!
//! Costs: a listing goes back hour by hour and opens, of each node, the newest object first, until `limit` messages are
//! found and nothing older can be among the newest. Of an object without the device it reads the footer only. A device
//! with fewer than `limit` messages would make it go back to the first day, so it stops after [`MAX_OBJECTS`] objects
//! (about a week of one node at one object a minute): older messages are in the archive, but not in the listing.
//! Reading by name opens one object.
//!
//! Invariant: an object of a node with higher offsets than another in the same hour is taken to be newer.

use std::cmp::Reverse;

use object_store::path::Path;

use super::Error;
use super::bucket::Bucket;
use super::key::{Hour, Listed, MessageName, ROOT, standing};
use super::object::{Entry, Footers, Object};
use super::tail::Wanted;
use crate::domain::Timestamp;

/// Objects a listing opens at most.
pub(crate) const MAX_OBJECTS: usize = 10_000;
/// Listings of one folder while objects of it are put together and removed.
const TRIES: usize = 5;

/// The newest messages seen so far.
#[derive(Clone, Debug)]
pub(crate) struct Newest {
    limit: usize,
    entries: Vec<Entry>,
}

impl Newest {
    /// Keeps `limit` messages.
    pub(crate) const fn new(limit: usize) -> Self {
        Self { limit, entries: Vec::new() }
    }

    /// Takes more in, in any order.
    pub(crate) fn add(&mut self, more: impl IntoIterator<Item = Entry>) {
        self.entries.extend(more);
        self.entries.sort_unstable_by_key(|entry| Reverse((entry.received_at, entry.offset)));
        self.entries.truncate(self.limit);
    }

    /// Whether messages received at or before `time` cannot matter any more.
    fn is_beyond(&self, time: Timestamp) -> bool {
        self.entries.len() >= self.limit && self.entries.last().is_none_or(|oldest| time < oldest.received_at)
    }

    /// Newest first.
    pub(crate) fn into_entries(self) -> Vec<Entry> {
        self.entries
    }
}

/// The archive, as a place to look for messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shelf<'a> {
    pub(crate) bucket: &'a Bucket,
    pub(crate) footers: &'a Footers,
}

impl<'a> Shelf<'a> {
    /// Adds the device's messages to `newest`, but those for which `skip(node, offset)`.
    pub(crate) fn list(
        self,
        wanted: Wanted<'_>,
        newest: &mut Newest,
        skip: &dyn Fn(&str, u64) -> bool,
    ) -> Result<(), Error> {
        let mut budget = MAX_OBJECTS;
        for date in self.bucket.folders(&Path::from(ROOT))?.iter().rev() {
            for folder in self.bucket.folders(date)?.iter().rev() {
                let Some(hour) = Hour::parse(folder) else { continue };
                if newest.is_beyond(hour.end().plus_us(-1)) {
                    return Ok(());
                }
                self.list_hour(hour, wanted, newest, skip, &mut budget)?;
                if budget == 0 {
                    tracing::info!(device_id = %wanted.device, %folder, "a listing stopped before the archive's first day");
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn list_hour(
        self,
        hour: Hour,
        wanted: Wanted<'_>,
        newest: &mut Newest,
        skip: &dyn Fn(&str, u64) -> bool,
        budget: &mut usize,
    ) -> Result<(), Error> {
        for _ in 0..TRIES {
            let mut found = newest.clone();
            if self.try_hour(hour, wanted, &mut found, skip, budget)?.is_some() {
                *newest = found;
                return Ok(());
            }
        }
        Err(Error::Interrupted)
    }

    /// `None`: an object has gone since the listing; another listing shows in which one its messages are now.
    fn try_hour(
        self,
        hour: Hour,
        wanted: Wanted<'_>,
        newest: &mut Newest,
        skip: &dyn Fn(&str, u64) -> bool,
        budget: &mut usize,
    ) -> Result<Option<()>, Error> {
        let mut heads = Vec::new();
        for of_node in self.objects(hour)?.chunk_by(|a, b| a.name.node == b.name.node) {
            let Some(head) = self.head(of_node.to_vec(), budget)? else { return Ok(None) };
            heads.extend(head);
        }
        while let Some(index) = (0..heads.len()).max_by_key(|&i| heads[i].newest) {
            let Head { newest: time, node, object, rest } = heads.swap_remove(index);
            if newest.is_beyond(time) {
                break;
            }
            let Some(rows) = tolerate(object.rows_of(wanted.device.as_str()))? else { return Ok(None) };
            let rows = rows.unwrap_or_default().into_iter().map(|found| found.entry);
            let rows = rows.filter(|e| wanted.category.is_none_or(|c| c == e.category));
            newest.add(rows.filter(|entry| !skip(&node, entry.offset)));
            let Some(head) = self.head(rest, budget)? else { return Ok(None) };
            heads.extend(head);
        }
        Ok(Some(()))
    }

    /// Opens the last of a node's objects, if there is one. `None`: it has gone since the listing.
    fn head(self, mut rest: Vec<Listed>, budget: &mut usize) -> Result<Option<Option<Head<'a>>>, Error> {
        while let Some(Listed { name, key, size, .. }) = rest.pop().filter(|_| *budget > 0) {
            *budget -= 1;
            let Some(object) = tolerate(Object::open(self.bucket, self.footers, &key, size))? else { return Ok(None) };
            if let Some((object, (_, newest))) = object.and_then(|o| o.received().map(|range| (o, range))) {
                return Ok(Some(Some(Head { newest, node: name.node, object, rest })));
            }
        }
        Ok(Some(None))
    }

    /// Content type and payload of a message.
    pub(crate) fn find(self, device: &str, name: &MessageName) -> Result<Option<(String, Vec<u8>)>, Error> {
        for _ in 0..TRIES {
            if let Some(found) = self.try_find(device, name)? {
                return Ok(found);
            }
        }
        Err(Error::Interrupted)
    }

    /// Outside `None`: an object has gone since the listing. Inside `None`: there is no such message.
    #[allow(clippy::type_complexity, reason = "an answer within an answer")]
    fn try_find(self, device: &str, name: &MessageName) -> Result<Option<Option<(String, Vec<u8>)>>, Error> {
        let objects = self.objects(Hour::of(name.received_at))?;
        for listed in objects.into_iter().filter(|listed| listed.name.spans(name.offset)) {
            let Some(object) = Object::open(self.bucket, self.footers, &listed.key, listed.size)? else {
                return Ok(None);
            };
            let Some(rows) = object.rows_of(device)? else { return Ok(None) };
            if let Some(found) = rows.iter().find(|found| found.entry.has_name(name)) {
                return Ok(object.content(found)?.map(Some));
            }
        }
        Ok(Some(None))
    }

    /// What is to be read of an hour, by node and first offset.
    pub(crate) fn objects(self, hour: Hour) -> Result<Vec<Listed>, Error> {
        let objects = self.bucket.objects(&hour.folder())?.into_iter();
        Ok(standing(objects.filter_map(Listed::new).collect()).0)
    }
}

/// The newest object of a node that has not been looked at, and the older ones.
struct Head<'a> {
    newest: Timestamp,
    node: String,
    object: Object<'a>,
    rest: Vec<Listed>,
}

/// One damaged object must not hide all others from a listing: it is reported and passed over (inside `None`).
fn tolerate<T>(result: Result<Option<T>, Error>) -> Result<Option<Option<T>>, Error> {
    match result {
        Err(Error::Damaged { key, source }) => {
            tracing::error!(%key, error = %source, "an archive object is damaged; its messages are not listed");
            Ok(Some(None))
        }
        other => Ok(other?.map(Some)),
    }
}

//! Messages of one device that are in the archive, newest first; and one message by its name.
//!
//! Costs: a listing goes back hour by hour and opens, of each node, the newest object first, until `limit` messages are
//! found and nothing older can be among the newest. Of an object without the device it reads the footer only. A device
//! with fewer than `limit` messages would make it go back to the first day, so it stops after [`MAX_LOOKS`] objects and
//! folders (about a week of one node at one object a minute) or after [`MAX_TIME`] (where a request takes 30 ms, about a
//! week of hours that were put together): older messages are in the archive, but not in the listing. Reading by name opens
//! one object.
//!
//! Invariant: an object of a node with higher offsets than another in the same hour is taken to be newer.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use object_store::path::Path;

use super::Error;
use super::bucket::Bucket;
use super::key::{Hour, Listed, MessageName, ROOT, standing};
use super::object::{Entry, Footers, Object};
use super::tail::Wanted;
use crate::domain::Timestamp;

/// Objects a listing opens and folders it lists, at most.
pub(crate) const MAX_LOOKS: usize = 10_000;
/// How long a listing goes on looking.
pub(crate) const MAX_TIME: Duration = Duration::from_secs(10);
/// Listings of one folder while objects of it are put together and removed.
const TRIES: usize = 5;

/// What a listing may still cost.
pub(crate) struct Budget<'a> {
    looks: usize,
    until: Instant,
    is_awaited: &'a dyn Fn() -> bool,
}

impl<'a> Budget<'a> {
    /// So many objects and folders, within so much time from now on, and only while somebody awaits the listing.
    pub(crate) fn new(looks: usize, time: Duration, is_awaited: &'a dyn Fn() -> bool) -> Self {
        Self { looks, until: Instant::now() + time, is_awaited }
    }

    /// Takes one object or folder off; `false` = nothing is left, and nothing comes back.
    fn take(&mut self) -> bool {
        let is_left = self.looks > 0 && Instant::now() < self.until && (self.is_awaited)();
        self.looks = if is_left { self.looks - 1 } else { 0 };
        is_left
    }
}

/// Tries until nothing was gone between its listing and its turn (`None`): another listing shows what it is in now.
pub(super) fn again<T>(mut attempt: impl FnMut() -> Result<Option<T>, Error>) -> Result<T, Error> {
    for _ in 0..TRIES {
        if let Some(done) = attempt()? {
            return Ok(done);
        }
    }
    Err(Error::Interrupted)
}

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
    /// Adds the device's messages to `newest`, but those for which `skip(node, offset)`: as many as `budget` allows.
    pub(crate) fn list(
        self,
        wanted: Wanted<'_>,
        newest: &mut Newest,
        skip: &dyn Fn(&str, u64) -> bool,
        budget: &mut Budget<'_>,
    ) -> Result<(), Error> {
        for date in self.folders(&Path::from(ROOT), budget)?.iter().rev() {
            for folder in self.folders(date, budget)?.iter().rev() {
                let Some(hour) = Hour::parse(folder) else { continue };
                if newest.is_beyond(hour.end().plus_us(-1)) {
                    return Ok(());
                }
                self.list_hour(hour, wanted, newest, skip, budget)?;
            }
        }
        if budget.looks == 0 {
            tracing::info!(device_id = %wanted.device, "a listing stopped before the archive's first day");
        }
        Ok(())
    }

    /// Folders in a folder; none when the budget is spent.
    fn folders(self, folder: &Path, budget: &mut Budget<'_>) -> Result<Vec<Path>, Error> {
        if budget.take() { self.bucket.folders(folder) } else { Ok(Vec::new()) }
    }

    fn list_hour(
        self,
        hour: Hour,
        wanted: Wanted<'_>,
        newest: &mut Newest,
        skip: &dyn Fn(&str, u64) -> bool,
        budget: &mut Budget<'_>,
    ) -> Result<(), Error> {
        *newest = again(|| {
            let mut found = newest.clone();
            Ok(self.try_hour(hour, wanted, &mut found, skip, budget)?.map(|()| found))
        })?;
        Ok(())
    }

    /// `None`: an object has gone since the listing; another listing shows in which one its messages are now.
    fn try_hour(
        self,
        hour: Hour,
        wanted: Wanted<'_>,
        newest: &mut Newest,
        skip: &dyn Fn(&str, u64) -> bool,
        budget: &mut Budget<'_>,
    ) -> Result<Option<()>, Error> {
        if !budget.take() {
            return Ok(Some(()));
        }
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
    fn head(self, mut rest: Vec<Listed>, budget: &mut Budget<'_>) -> Result<Option<Option<Head<'a>>>, Error> {
        while let Some(Listed { name, key, size, .. }) = rest.pop().filter(|_| budget.take()) {
            let Some(object) = tolerate(Object::open(self.bucket, self.footers, &key, size))? else { return Ok(None) };
            if let Some((object, (_, newest))) = object.and_then(|o| o.received().map(|range| (o, range))) {
                return Ok(Some(Some(Head { newest, node: name.node, object, rest })));
            }
        }
        Ok(Some(None))
    }

    /// Content type and payload of a message.
    pub(crate) fn find(self, device: &str, name: &MessageName) -> Result<Option<(String, Vec<u8>)>, Error> {
        again(|| self.try_find(device, name))
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
        Ok(self.contents(hour)?.0)
    }

    /// The objects of an hour, each part by node and first offset: those to be read, and those that are in one of them.
    pub(super) fn contents(self, hour: Hour) -> Result<(Vec<Listed>, Vec<Listed>), Error> {
        let objects = self.bucket.objects(&hour.folder())?.into_iter();
        Ok(standing(objects.filter_map(Listed::new).collect()))
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

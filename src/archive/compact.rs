//! Upkeep of the archive: the objects of a finished hour become few, and what is past its retention goes by whole days.
//!
//! ```text
//! pass n:    a b c            → write abc, whose name covers theirs; from now on listings pass a, b and c over
//! pass n+1:  a b c abc        → abc is older than a period and says that a, b and c are in it: remove them
//! ```
//!
//! Nothing is remembered between passes: the listing says it all, so a crash at any step repeats work and changes nothing.
//! Names are made of what is in an object, so two that do the same write the same. A reader that has listed a, b and c has a
//! period to read them; one that comes even later finds them gone, lists again and finds abc.
//!
//! Invariants: an object is removed only when another one, which is there and opens, covers its range **and** names it as a
//! part; what lies between parts that are put together is one of them. Of other nodes' objects only those of long finished
//! hours are touched: those of nodes that are no more.

use std::time::{Duration, Instant};

use bytes::Bytes;
use object_store::path::Path;
use tokio::sync::watch;

use super::Error;
use super::bucket::Bucket;
use super::key::{Hour, Listed, ObjectName, ROOT, date_of, is_expired, standing};
use super::merge::{Failed, merge};
use super::object::{Footers, Object, footers};
use crate::domain::Timestamp;
use crate::observe::{Board, TaskState, counted, metrics};

/// Its name on the task board.
pub const TASK: &str = "archive upkeep";

/// A larger object is left as it is.
const SMALL_BYTES: u64 = 16 * 1024 * 1024;
/// So much is put together at most: memory holds it twice.
const WHOLE_BYTES: u64 = 32 * 1024 * 1024;
/// So many: each takes a page a column of memory.
const MOST_PARTS: usize = 96;
/// Hours that ended longer ago are looked at …
const RECENT: Duration = Duration::from_secs(3 * 86_400);
/// … so often.
const WHOLE_EVERY: Duration = Duration::from_secs(86_400);
/// Other nodes put their own hours together; after so long they are taken not to.
const ABANDONED: Duration = Duration::from_secs(2 * 86_400);

/// What to do.
#[derive(Clone, Debug)]
pub struct UpkeepOptions {
    /// This node's id.
    pub node: uuid::Uuid,
    /// Between two passes; also how long after its end an hour is finished, and how long what was put together stays for
    /// those who are reading it.
    pub period: Duration,
    /// Whether hours are put together.
    pub compacts: bool,
    /// How long days are kept; `None` = for ever.
    pub keep: Option<Duration>,
    /// Where to say how it is; its clock is the one meant.
    pub board: Board,
}

/// What a pass did.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Done {
    /// Objects written.
    pub written: u64,
    /// Objects removed because they are in one of those.
    pub replaced: u64,
    /// Objects removed because their day is past its retention.
    pub expired: u64,
}

/// The task. Its calls block: give it a thread of its own.
#[derive(Debug)]
pub struct Upkeep {
    options: UpkeepOptions,
    node: String,
    bucket: Bucket,
    footers: Footers,
}

impl Upkeep {
    /// Upkeep of a bucket. Touches neither the disk nor the network.
    pub fn new(options: UpkeepOptions, bucket: Bucket) -> Self {
        let node = options.node.hyphenated().to_string();
        Self { options, node, bucket, footers: footers() }
    }

    /// Works until told to stop. Nothing that fails here is more than put off.
    pub fn run(self, mut stop: watch::Receiver<bool>) {
        self.options.board.set(TASK, TaskState::Running);
        let mut seen_all = None;
        while !*stop.borrow() {
            let now = self.options.board.clock().now();
            if let Err(error) = self.pass(now, &mut seen_all, &stop) {
                counted!(
                    warn,
                    metrics::ARCHIVE_UPKEEP_FAILURES,
                    [],
                    1,
                    error = &error as &dyn std::error::Error,
                    "the archive's upkeep failed; trying again later"
                );
                // Nobody has to be sent elsewhere for it.
                self.options.board.note(TASK, "the archive cannot be looked after");
            }
            let pause = self.options.period;
            self.bucket.runtime().block_on(async {
                tokio::select! {
                    _ = stop.wait_for(|stopping| *stopping) => {}
                    () = tokio::time::sleep(pause) => {}
                }
            });
        }
        self.options.board.set(TASK, TaskState::Stopped);
    }

    /// One pass: over all days, if such a pass came to its end (`seen_all`) a day ago or never, or over the recent ones only.
    pub(crate) fn pass(
        &self,
        now: Timestamp,
        seen_all: &mut Option<Timestamp>,
        stop: &watch::Receiver<bool>,
    ) -> Result<Done, Error> {
        let is_whole = seen_all.is_none_or(|at| now.since(at) >= WHOLE_EVERY);
        let mut done = Done::default();
        let mut failure = None;
        for date in self.bucket.folders(&Path::from(ROOT))? {
            let Some(end) = date_of(&date) else { continue };
            if *stop.borrow() {
                break;
            }
            if is_expired(end, self.options.keep, now) {
                done.expired += self.expire(&date)?;
            } else if self.options.compacts && (is_whole || now.since(end) < RECENT) {
                for folder in self.bucket.folders(&date)? {
                    let Some(hour) = Hour::parse(&folder).filter(|_| !*stop.borrow()) else { continue };
                    if is_whole {
                        // (What the archiver is writing there at this moment it writes again.)
                        self.bucket.sweep(&folder, &self.node)?;
                    }
                    if let Err(error) = self.hour(hour, now, &mut done) {
                        // A damaged object must not keep the others from being looked after.
                        failure.get_or_insert(error);
                    }
                }
            }
        }
        if is_whole {
            // Also where single hours failed: what is damaged stays so, and would make every pass one over all days.
            *seen_all = Some(now);
        }
        failure.map_or(Ok(done), Err)
    }

    /// Removes a day.
    fn expire(&self, date: &Path) -> Result<u64, Error> {
        let objects = self.bucket.objects(date)?;
        for object in &objects {
            self.bucket.delete(&object.location)?;
        }
        self.bucket.remove_empty(date)?;
        let count = objects.len() as u64;
        metrics::ARCHIVE_REMOVED.increment(&[("why", "expired")], count);
        tracing::info!(folder = %date, objects = count, "a day of the archive past its retention was deleted");
        Ok(count)
    }

    /// Looks after one hour, if it is over.
    pub(crate) fn hour(&self, hour: Hour, now: Timestamp, done: &mut Done) -> Result<(), Error> {
        if hour.end().plus(self.options.period) > now {
            return Ok(());
        }
        self.work_on(hour, self.ours(hour, now)?, now, done)
    }

    /// The objects of an hour that this node looks after.
    pub(crate) fn ours(&self, hour: Hour, now: Timestamp) -> Result<Vec<Listed>, Error> {
        let is_abandoned = now.since(hour.end()) >= ABANDONED;
        let objects = self.bucket.objects(&hour.folder())?.into_iter().filter_map(Listed::new);
        Ok(objects.filter(|listed| listed.name.node == self.node || is_abandoned).collect())
    }

    /// Removes what is in another one of these, and puts together what is not. Somebody else may have changed them meanwhile.
    pub(crate) fn work_on(
        &self,
        hour: Hour,
        objects: Vec<Listed>,
        now: Timestamp,
        done: &mut Done,
    ) -> Result<(), Error> {
        let (standing, covered) = standing(objects);
        for listed in &covered {
            done.replaced += u64::from(self.remove_covered(listed, &standing, now)?);
        }
        for of_node in standing.chunk_by(|a, b| a.name.node == b.name.node) {
            // Of a node that is gone, others may do the same at this moment, and have read another list. One whole a pass: then
            // they lie within each other, and never beside and over each other.
            let is_ours = of_node.first().is_some_and(|listed| listed.name.node == self.node);
            for group in groups(of_node).into_iter().take(if is_ours { usize::MAX } else { 1 }) {
                self.put_together(hour, group)?;
                done.written += 1;
            }
        }
        Ok(())
    }

    /// Removes an object that is in another one, after a while.
    fn remove_covered(&self, listed: &Listed, standing: &[Listed], now: Timestamp) -> Result<bool, Error> {
        let Some(cover) = standing.iter().find(|l| l.name.covers(&listed.name)) else { return Ok(false) };
        if cover.written_at.plus(self.options.period) > now {
            return Ok(false);
        }
        let Some(whole) = Object::open(&self.bucket, &self.footers, &cover.key, cover.size)? else { return Ok(false) };
        let range = (listed.name.first, listed.name.last);
        // (One of the same range as its cover is that cover's only part.)
        if !whole.parts().contains(&range) {
            counted!(
                error,
                metrics::ARCHIVE_UPKEEP_FAILURES,
                [],
                1,
                key = %listed.key,
                "an archive object lies within another one without being a part of it"
            );
            return Ok(false);
        }
        self.bucket.delete(&listed.key)?;
        metrics::ARCHIVE_REMOVED.increment(&[("why", "compacted")], 1);
        Ok(true)
    }

    fn put_together(&self, hour: Hour, parts: &[Listed]) -> Result<(), Error> {
        let started = Instant::now();
        let mut read: Vec<(ObjectName, Bytes)> = Vec::with_capacity(parts.len());
        for part in parts {
            read.push((part.name.clone(), self.bucket.get(&part.key)?));
        }
        let bytes_before: u64 = parts.iter().map(|part| part.size).sum();
        let whole = merge(read).map_err(|Failed { part, error }| Error::reading(&parts[part].key, error))?;
        let key = whole.name.key(hour);
        let size = whole.bytes.len() as u64;
        // Somebody else may have done the same: then it is there, to the byte.
        if self.bucket.put_new(&key, whole.bytes)? {
            metrics::ARCHIVE_COMPACTED.increment(&[], parts.len() as u64);
            metrics::ARCHIVE_COMPACT_SECONDS.observe(&[], started.elapsed());
            let objects = parts.len();
            let (records, bytes) = (whole.rows, size);
            tracing::info!(%key, objects, records, bytes_before, bytes, "archive objects were put together");
        }
        Ok(())
    }
}

/// Runs of neighbouring small objects of a node that are worth putting together. What is large ends a run: nothing may lie
/// between the parts of a whole that is not a part of it.
pub(crate) fn groups(objects: &[Listed]) -> Vec<&[Listed]> {
    // Two journals under one node's id: which of the two a range would stand for could not be told.
    if objects.windows(2).any(|pair| pair[1].name.first <= pair[0].name.last) {
        return Vec::new();
    }
    let mut found = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (index, listed) in objects.iter().enumerate() {
        let is_small = listed.size <= SMALL_BYTES;
        if !is_small || bytes + listed.size > WHOLE_BYTES || index - start >= MOST_PARTS {
            found.push(&objects[start..index]);
            (start, bytes) = (index, 0);
        }
        bytes += listed.size;
        if !is_small {
            start = index + 1;
            bytes = 0;
        }
    }
    found.push(objects.get(start..).unwrap_or_default());
    // One alone gets the name that says which times are in it.
    found.retain(|group| group.len() > 1 || group.first().is_some_and(|one| one.name.times.is_none()));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(objects: &[(u64, u64, u64, bool)], expected: &[&[u64]]) {
        const MIB: u64 = 1024 * 1024;
        let listed = objects.iter().map(|&(first, last, mib, is_whole)| {
            let times = is_whole.then_some((Timestamp(1), Timestamp(2)));
            let name = ObjectName { node: "n".into(), first, last, times };
            Listed { key: Path::from(name.to_string()), name, size: mib * MIB, written_at: Timestamp(0) }
        });
        let listed: Vec<Listed> = listed.collect();
        let got: Vec<Vec<u64>> =
            groups(&listed).into_iter().map(|g| g.iter().map(|l| l.name.first).collect()).collect();
        assert_eq!(got, expected, "{objects:?}");
    }

    #[test]
    fn neighbours_are_put_together_up_to_a_size_and_never_around_another() {
        check(&[], &[]);
        check(&[(0, 9, 1, false)], &[&[0]]);
        check(&[(0, 9, 1, true)], &[]);
        check(&[(0, 9, 1, false), (10, 19, 1, false), (25, 29, 1, true)], &[&[0, 10, 25]]);
        check(&[(0, 9, 1, false), (10, 19, 17, false), (20, 29, 1, false), (30, 39, 1, true)], &[&[0], &[20, 30]]);
        check(&[(0, 9, 16, true), (10, 19, 16, true), (20, 29, 1, true)], &[&[0, 10]]);
        check(&[(0, 30, 1, false), (10, 20, 1, false), (31, 40, 1, true)], &[]);
        let many: Vec<_> = (0..MOST_PARTS as u64 + 1).map(|n| (n, n, 0, true)).collect();
        check(&many, &[&many.iter().take(MOST_PARTS).map(|m| m.0).collect::<Vec<_>>()]);
    }
}

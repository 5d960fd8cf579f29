//! Whether an archive is whole: every object opens and keeps its checksum, holds what its name says, lies where it belongs,
//! and together they hold every journal offset of each node once.
//!
//! Bounded: one object at a time, per node the runs of offsets seen (one where nothing is missing), [`MAX_FAULTS`] faults.
//! Reads everything, changes nothing; a server may go on writing: objects that come while it reads are not looked at. But
//! where an object is gone that was listed, its hour is listed again and what was seen of it is forgotten: what was put
//! together meanwhile has its messages.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::Error;
use super::adopt;
use super::bucket::Bucket;
use super::full::Scan;
use super::inspect::{Part, hours};
use super::key::{Hour, Listed};
use super::object::{Object, bytes_of, footers};
use super::walk::{Shelf, again};
use crate::domain::Timestamp;
use crate::journal::LIFE;

/// Faults reported one by one; further ones are counted.
const MAX_FAULTS: usize = 1000;

/// What is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum ArchiveFault {
    /// It cannot be read, or its rows are not those its checksum was made of.
    Damaged { key: String, why: String },
    /// It has fewer or more messages than its footer says.
    Count { key: String, said: u64, found: u64 },
    /// A message in it does not belong there: its offset is not in the name, or it was received in another hour.
    Misplaced { key: String, offset: u64, received_at: Timestamp },
    /// It counts as contained in another one, which was not made of it: its messages are shown nowhere.
    NotAPart { key: String, cover: String },
    /// No object has these offsets of a node.
    Missing { node: String, first: u64, last: u64 },
    /// A message is in the archive twice.
    Twice { node: String, offset: u64, key: String },
}

impl fmt::Display for ArchiveFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged { key, why } => write!(f, "{key} is damaged: {why}"),
            Self::Count { key, said, found } => write!(f, "{key} says it has {said} messages and has {found}"),
            Self::Misplaced { key, offset, received_at } => {
                write!(f, "{key} holds offset {offset}, received at {received_at}, which does not belong there")
            }
            Self::NotAPart { key, cover } => {
                write!(
                    f,
                    "{key} lies within the offsets of {cover}, which was not made of it: its messages are not shown"
                )
            }
            Self::Missing { node, first, last } => write!(f, "offsets {first} to {last} of node {node} are missing"),
            Self::Twice { node, offset, key } => write!(f, "offset {offset} of node {node} is there again in {key}"),
        }
    }
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ArchiveReport {
    /// Objects read.
    pub objects: u64,
    /// Objects that are in others already, and not read.
    pub contained: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Messages in them.
    pub messages: u64,
    /// What is wrong, as it was found.
    pub faults: Vec<ArchiveFault>,
    /// Faults beyond those.
    pub omitted: u64,
}

impl ArchiveReport {
    /// Nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    fn add(&mut self, fault: ArchiveFault) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault);
        } else {
            self.omitted += 1;
        }
    }
}

/// Offsets of one node: runs by their first, with their exclusive ends.
#[derive(Clone, Default, Debug)]
struct Runs(BTreeMap<u64, u64>);

impl Runs {
    /// Adds sorted offsets; gives out those that are there already.
    fn add(&mut self, offsets: &[u64], twice: &mut dyn FnMut(u64)) {
        for run in offsets.chunk_by(|a, b| a + 1 == *b) {
            let (Some(&first), Some(&last)) = (run.first(), run.last()) else { continue };
            self.add_run(first, last + 1, twice);
        }
    }

    fn add_run(&mut self, first: u64, end: u64, twice: &mut dyn FnMut(u64)) {
        let (mut start, mut stop) = (first, end);
        let touching: Vec<(u64, u64)> = self
            .0
            .range(..=end)
            .rev()
            .map(|(start, end)| (*start, *end))
            .take_while(|(_, known_end)| *known_end >= first)
            .collect();
        for (known, known_end) in touching {
            (known.max(first)..known_end.min(end)).for_each(&mut *twice);
            self.0.remove(&known);
            (start, stop) = (start.min(known), stop.max(known_end));
        }
        self.0.insert(start, stop);
    }

    /// Between the first and the last.
    fn holes(&self) -> Vec<(u64, u64)> {
        let runs: Vec<_> = self.0.iter().collect();
        runs.windows(2).map(|pair| (*pair[0].1, *pair[1].0 - 1)).collect()
    }
}

/// What is known when some hours were read.
#[derive(Clone, Default)]
struct Seen {
    report: ArchiveReport,
    nodes: BTreeMap<String, Runs>,
}

/// Reads a part of an archive (its times; for continuity of offsets all of it is needed) and says what is wrong. `progress`
/// is told bytes done and bytes in all, as they were listed.
pub fn verify(bucket: &Bucket, part: &Part, progress: &mut dyn FnMut(u64, u64)) -> Result<ArchiveReport, Error> {
    let footers = footers();
    let shelf = Shelf { bucket, footers: &footers };
    let (mut all, mut bytes) = (Vec::new(), 0);
    hours(bucket, part, &mut |hour| {
        let (stand, covered) = shelf.contents(hour)?;
        bytes += stand.iter().map(|listed| listed.size).sum::<u64>();
        all.push((hour, (stand, covered)));
        Ok(ControlFlow::Continue(()))
    })?;
    let mut seen = Seen::default();
    for (hour, contents) in all {
        let mut listed = Some(contents);
        seen = again(|| {
            let contents = listed.take().map_or_else(|| shelf.contents(hour), Ok)?;
            read_hour(shelf, hour, contents, seen.clone(), &mut |done| progress(done, bytes))
        })?;
    }
    let Seen { mut report, nodes } = seen;
    let is_all = (part.from, part.to) == (Part::default().from, Part::default().to);
    for (node, runs) in nodes.iter().filter(|_| is_all) {
        for (first, last) in runs.holes().into_iter().filter_map(|hole| missing(node, hole)) {
            report.add(ArchiveFault::Missing { node: node.clone(), first, last });
        }
    }
    Ok(report)
}

/// What should be there of a hole. A restored journal goes on at the next multiple of [`LIFE`], adopted messages do with
/// each hour: what lies before such a beginning nobody has.
fn missing(node: &str, (first, last): (u64, u64)) -> Option<(u64, u64)> {
    let step = if node == adopt::NODE { adopt::HOUR_OFFSETS } else { LIFE };
    let begun = (last + 1) / step * step;
    let first = first.max(begun);
    (first <= last).then_some((first, last))
}

/// Adds an hour, of whose objects some are to be read and the others are in them, to what is known. `None`: one has gone
/// since the listing.
fn read_hour(
    shelf: Shelf<'_>,
    hour: Hour,
    (stand, covered): (Vec<Listed>, Vec<Listed>),
    mut seen: Seen,
    progress: &mut dyn FnMut(u64),
) -> Result<Option<Seen>, Error> {
    for listed in &covered {
        seen.report.contained += 1;
        let Some(cover) = stand.iter().find(|l| l.name.covers(&listed.name)) else { continue };
        let whole = match Object::open(shelf.bucket, shelf.footers, &cover.key, cover.size) {
            Ok(Some(whole)) => whole,
            // Reported when its turn comes, if it is still there.
            Ok(None) | Err(Error::Damaged { .. }) => continue,
            Err(error) => return Err(error),
        };
        if !whole.parts().contains(&(listed.name.first, listed.name.last)) {
            let (key, cover) = (listed.key.to_string(), cover.key.to_string());
            seen.report.add(ArchiveFault::NotAPart { key, cover });
        }
    }
    for listed in &stand {
        let Some(bytes) = bytes_of(shelf.bucket, &listed.key)? else { return Ok(None) };
        object(&bytes, hour, listed, &mut seen);
        seen.report.bytes += listed.size;
        progress(seen.report.bytes);
    }
    Ok(Some(seen))
}

fn object(bytes: &Bytes, hour: Hour, listed: &Listed, Seen { report, nodes }: &mut Seen) {
    let key = || listed.key.to_string();
    report.objects += 1;
    let mut offsets = Vec::new();
    let mut misplaced = None;
    let mut read = || {
        let mut scan = Scan::new(bytes.clone())?;
        let said = scan.row_count();
        loop {
            let rows = scan.next_rows()?;
            if rows.is_empty() {
                return Ok(said);
            }
            for row in rows {
                let (offset, received_at) = (row.offset.cast_unsigned(), Timestamp(row.received_at));
                if !listed.name.spans(offset) || Hour::of(received_at) != hour {
                    misplaced.get_or_insert((offset, received_at));
                }
                offsets.push(offset);
            }
        }
    };
    let said = match read() {
        Ok(said) => said,
        Err(error) => {
            let error: parquet::errors::ParquetError = error;
            report.add(ArchiveFault::Damaged { key: key(), why: error.to_string() });
            return;
        }
    };
    let found = offsets.len() as u64;
    report.messages += found;
    if found != said {
        report.add(ArchiveFault::Count { key: key(), said, found });
    }
    if let Some((offset, received_at)) = misplaced {
        report.add(ArchiveFault::Misplaced { key: key(), offset, received_at });
    }
    offsets.sort_unstable();
    let node = listed.name.node.clone();
    let mut twice = |offset| report.add(ArchiveFault::Twice { node: node.clone(), offset, key: key() });
    let within: Vec<u64> = offsets.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    within.into_iter().for_each(&mut twice);
    offsets.dedup();
    nodes.entry(listed.name.node.clone()).or_default().add(&offsets, &mut twice);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn nothing_is_missing_before_a_new_beginning_and_all_is_behind_it() {
        let check = |node: &str, hole, expected| assert_eq!(missing(node, hole), expected, "{node} {hole:?}");
        check("n", (5, 9), Some((5, 9)));
        check("n", (5, LIFE - 2), Some((5, LIFE - 2)));
        check("n", (5, LIFE - 1), None);
        check("n", (5, 3 * LIFE + 6), Some((3 * LIFE, 3 * LIFE + 6)));
        let hour = 490_000 * adopt::HOUR_OFFSETS;
        check(adopt::NODE, (hour + 7, hour + adopt::HOUR_OFFSETS - 1), None);
        check(adopt::NODE, (hour + 7, hour + 8), Some((hour + 7, hour + 8)));
    }

    proptest! {
        #[test]
        fn runs_are_the_set_of_their_offsets(adds in prop::collection::vec(prop::collection::btree_set(0u64..60, 0..20), 0..8)) {
            let (mut runs, mut model, mut twice, mut expected) = (Runs::default(), BTreeSet::<u64>::new(), Vec::<u64>::new(), Vec::<u64>::new());
            for add in adds {
                expected.extend(add.iter().filter(|offset| model.contains(*offset)));
                runs.add(&add.iter().copied().collect::<Vec<_>>(), &mut |offset| twice.push(offset));
                model.extend(add);
            }
            twice.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(twice, expected);
            let all: BTreeSet<u64> = runs.0.iter().flat_map(|(start, end)| *start..*end).collect();
            prop_assert_eq!(&all, &model);
            let span = model.first().copied().unwrap_or(0)..model.last().copied().unwrap_or(0);
            let holes: Vec<u64> = runs.holes().into_iter().flat_map(|(first, last)| first..=last).collect();
            prop_assert_eq!(holes, span.filter(|offset| !model.contains(offset)).collect::<Vec<_>>());
        }
    }
}

//! Sorting more than memory holds: records of bytes, in runs on disk that are merged.
//!
//! Invariant: memory holds one run (`run_bytes`), or one record a run while they are merged. Few runs are open however many
//! there were: [`FAN`] that were merged equally often become one. The files have no name as soon as they are open: they are
//! gone with the process, however it ends.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::Error;

/// Memory of a run.
const RUN_BYTES: usize = 64 * 1024 * 1024;
/// What a record takes beside its bytes.
const OVERHEAD: usize = 32;
/// Runs that become one: fewer of each size are open, and a record is written again only for each size that follows.
const FAN: usize = 64;

/// Takes records in any order.
#[derive(Debug)]
pub(super) struct Sorter {
    dir: PathBuf,
    run_bytes: usize,
    fan: usize,
    bytes: usize,
    records: Vec<Box<[u8]>>,
    /// Those merged most often first.
    runs: Vec<Run>,
}

/// Records in order, in a file.
#[derive(Debug)]
struct Run {
    file: File,
    /// How often they were merged.
    merges: u32,
}

impl Sorter {
    /// With room for its files in `dir`.
    pub(super) fn new(dir: &Path) -> Self {
        let (records, runs) = Default::default();
        Self { dir: dir.to_owned(), run_bytes: RUN_BYTES, fan: FAN, bytes: 0, records, runs }
    }

    /// One more record.
    pub(super) fn push(&mut self, record: &[u8]) -> Result<(), Error> {
        self.bytes += record.len() + OVERHEAD;
        self.records.push(record.into());
        if self.bytes >= self.run_bytes { self.spill() } else { Ok(()) }
    }

    /// All records in order; the same one more than once comes once.
    pub(super) fn sorted(mut self) -> Result<Sorted, Error> {
        self.spill()?;
        Sorted::of(self.dir, self.runs)
    }

    fn spill(&mut self) -> Result<(), Error> {
        if self.records.is_empty() {
            return Ok(());
        }
        self.records.sort_unstable();
        let mut out = Writer::create(&self.dir)?;
        for record in &self.records {
            out.push(record)?;
        }
        let file = out.finish()?;
        self.runs.push(Run { file, merges: 0 });
        self.records.clear();
        self.bytes = 0;
        self.merge()
    }

    /// Makes one of the last runs while there are [`FAN`] that were merged equally often.
    fn merge(&mut self) -> Result<(), Error> {
        while let Some(first) = self.runs.len().checked_sub(self.fan)
            && self.runs.last().is_some_and(|last| last.merges == self.runs[first].merges)
        {
            let merges = self.runs[first].merges + 1;
            let mut sorted = Sorted::of(self.dir.clone(), self.runs.split_off(first))?;
            let mut out = Writer::create(&self.dir)?;
            while let Some((record, more)) = sorted.next()? {
                for _ in 0..=more {
                    out.push(record)?;
                }
            }
            let file = out.finish()?;
            self.runs.push(Run { file, merges });
        }
        Ok(())
    }
}

/// A run that is being written.
struct Writer<'a> {
    dir: &'a Path,
    out: BufWriter<File>,
}

impl<'a> Writer<'a> {
    fn create(dir: &'a Path) -> Result<Self, Error> {
        let path = dir.join(format!(".import-{}", std::process::id()));
        let mut options = File::options();
        options.read(true).write(true).create_new(true);
        let file = options.open(&path).map_err(|source| failed(dir, source))?;
        std::fs::remove_file(&path).map_err(|source| failed(dir, source))?;
        Ok(Self { dir, out: BufWriter::with_capacity(1024 * 1024, file) })
    }

    fn push(&mut self, record: &[u8]) -> Result<(), Error> {
        let mut write = || -> std::io::Result<()> {
            let len = u32::try_from(record.len()).map_err(std::io::Error::other)?;
            self.out.write_all(&len.to_le_bytes())?;
            self.out.write_all(record)
        };
        write().map_err(|source| failed(self.dir, source))
    }

    fn finish(self) -> Result<File, Error> {
        self.out.into_inner().map_err(|error| failed(self.dir, error.into_error()))
    }
}

fn failed(dir: &Path, source: std::io::Error) -> Error {
    Error::Write { path: dir.to_owned(), source }
}

/// Gives records in order.
#[derive(Debug)]
pub(super) struct Sorted {
    dir: PathBuf,
    runs: Vec<BufReader<File>>,
    heads: BinaryHeap<Reverse<(Box<[u8]>, usize)>>,
    last: Option<Box<[u8]>>,
}

impl Sorted {
    fn of(dir: PathBuf, runs: Vec<Run>) -> Result<Self, Error> {
        let mut sorted = Self { dir, runs: Vec::new(), heads: BinaryHeap::new(), last: None };
        for Run { mut file, .. } in runs {
            file.seek(SeekFrom::Start(0)).map_err(|source| failed(&sorted.dir, source))?;
            sorted.runs.push(BufReader::with_capacity(128 * 1024, file));
        }
        for run in 0..sorted.runs.len() {
            sorted.refill(run)?;
        }
        Ok(sorted)
    }

    /// The next record, and how many more there were of it.
    pub(super) fn next(&mut self) -> Result<Option<(&[u8], u64)>, Error> {
        let Some(Reverse((record, run))) = self.heads.pop() else { return Ok(None) };
        self.refill(run)?;
        let mut more = 0;
        while self.heads.peek().is_some_and(|Reverse((next, _))| *next == record) {
            if let Some(Reverse((_, run))) = self.heads.pop() {
                self.refill(run)?;
            }
            more += 1;
        }
        Ok(Some((self.last.insert(record), more)))
    }

    fn refill(&mut self, run: usize) -> Result<(), Error> {
        let mut len = [0; 4];
        let input = &mut self.runs[run];
        match input.read_exact(&mut len) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other.map_err(|source| failed(&self.dir, source))?,
        }
        let mut record = vec![0; u32::from_le_bytes(len) as usize].into_boxed_slice();
        input.read_exact(&mut record).map_err(|source| failed(&self.dir, source))?;
        self.heads.push(Reverse((record, run)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_come_in_order_with_their_number_and_few_runs_are_open(
            records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5), 0..60),
            run_bytes in 1..400usize,
            fan in 2..6usize,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut sorter = Sorter { run_bytes, fan, ..Sorter::new(dir.path()) };
            let mut expected = std::collections::BTreeMap::<Vec<u8>, u64>::new();
            for record in records {
                sorter.push(&record).unwrap();
                // 60 runs become those of six sizes at most.
                prop_assert!(sorter.runs.len() <= 6 * (fan - 1), "{} of {fan}", sorter.runs.len());
                *expected.entry(record).or_default() += 1;
            }
            let mut sorted = sorter.sorted().unwrap();
            let mut found = Vec::new();
            while let Some((record, more)) = sorted.next().unwrap() {
                found.push((record.to_vec(), more + 1));
            }
            prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }
}

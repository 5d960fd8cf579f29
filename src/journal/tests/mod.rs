//! Tests of the journal as a whole, and what they share: made-up entries and a disk that fails on demand.

mod append;
mod copy;
mod crash;
mod damage;
mod format;
mod full;
mod reading;
mod spare;
mod trim;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::disk::Disk;
use super::{Cursor, Entry, Flags, Journal, Offset, Options, Recovery};
use crate::domain::Timestamp;

/// Long enough for anything that is going to happen.
const PATIENCE: Duration = Duration::from_secs(20);

const NODE: uuid::Uuid = uuid::Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);

fn options(dir: &Path) -> Options {
    Options { dir: dir.join("journal"), node_id: NODE, segment_bytes: 4096, max_bytes: 1 << 30, queue_bytes: 1 << 20 }
}

fn open(options: &Options) -> (Journal, Recovery) {
    Journal::open(options.clone()).expect("the journal opens")
}

/// The payload of the record that is to have this number: `len` bytes that no other record has.
fn payload(number: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (number.wrapping_mul(31) ^ i.wrapping_mul(7)) as u8).collect()
}

fn entry(payload: &[u8]) -> Entry<'_> {
    Entry {
        received_at: Timestamp(1_700_000_000_000_000),
        topic: "iot/m-1/telemetry",
        identity: "m-1",
        content_type: "application/json",
        flags: Flags { qos: 1, retain: false, dup: true },
        payload,
    }
}

/// Appends `count` records of `len` bytes from number `first` on, as one append, and waits until they are on disk.
async fn append(journal: &Journal, first: u64, count: u64, len: usize) -> Offset {
    let payloads: Vec<_> = (first..first + count).map(|n| payload(n, len)).collect();
    let entries: Vec<_> = payloads.iter().map(|p| entry(p)).collect();
    let end = journal.append(&entries).await.expect("the journal takes it");
    assert_eq!(end, Offset(first + count));
    journal.wait_durable(end).await.expect("it gets on disk");
    end
}

/// Reads to the durable end.
fn drain(cursor: &mut Cursor) -> Vec<(u64, Vec<u8>)> {
    let mut all = Vec::new();
    loop {
        let batch = cursor.next_batch(7, 2000).expect("the journal is readable");
        if batch.is_empty() {
            return all;
        }
        all.extend(batch.iter().map(|r| (r.offset.0, r.payload.to_vec())));
    }
}

/// Names of the files in the journal's directory, sorted.
fn files(options: &Options) -> Vec<String> {
    let dir = std::fs::read_dir(&options.dir).expect("the directory is there");
    let mut names: Vec<_> = dir.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn segment(options: &Options, first: u64) -> PathBuf {
    super::disk::segment_path(&options.dir, first)
}

/// Inverts the byte at `at` of the file.
fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0xff;
    std::fs::write(path, bytes).unwrap();
}

/// Where the nth record of the segment begins.
fn position_of(path: &Path, nth: usize) -> usize {
    let bytes = std::fs::read(path).unwrap();
    (0..nth).fold(super::format::SEGMENT_HEADER, |at, _| {
        at + u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize
    })
}

/// Switches of a [`FaultyDisk`], which its test keeps.
struct Faults {
    fail_sync: AtomicBool,
    /// Bytes that still fit; the write that exceeds them is done in part.
    space: AtomicI64,
    /// While it is shut, syncs wait.
    is_shut: Mutex<bool>,
    opened: Condvar,
    syncs: AtomicU64,
    /// While it is shut, removals wait; what they then fail with.
    removing: Mutex<(bool, bool)>,
    removed: Condvar,
    /// Lengths to which files without a name were cut.
    cuts: Mutex<Vec<u64>>,
}

impl Faults {
    fn none() -> Arc<Self> {
        Arc::new(Self {
            fail_sync: AtomicBool::new(false),
            space: AtomicI64::new(i64::MAX),
            is_shut: Mutex::new(false),
            opened: Condvar::new(),
            syncs: AtomicU64::new(0),
            removing: Mutex::new((false, false)),
            removed: Condvar::new(),
            cuts: Mutex::new(Vec::new()),
        })
    }

    fn shut(&self, is_shut: bool) {
        *self.is_shut.lock().unwrap() = is_shut;
        self.opened.notify_all();
    }

    /// Lets removals wait, or fail.
    fn removals(&self, wait: bool, fail: bool) {
        *self.removing.lock().unwrap() = (wait, fail);
        self.removed.notify_all();
    }

    /// Waits, or fails, as told.
    fn removal(&self, operation: &'static str, path: &Path) -> Result<(), super::Error> {
        let removing = self.removing.lock().unwrap();
        let (_, fail) = *self.removed.wait_timeout_while(removing, PATIENCE, |(wait, _)| *wait).unwrap().0;
        match fail {
            true => Err(super::Error::io(operation, path)(io::Error::other("the medium is gone"))),
            false => Ok(()),
        }
    }

    fn open(self: &Arc<Self>, options: &Options) -> Result<(Journal, Recovery), super::Error> {
        Journal::open_on(Arc::new(FaultyDisk(Arc::clone(self))), options.clone(), None)
    }
}

struct FaultyDisk(Arc<Faults>);

impl Disk for FaultyDisk {
    fn write_at(&self, file: &File, bytes: &[u8], position: u64) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        let len = bytes.len() as i64;
        let fits = self.0.space.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |s| (s >= len).then(|| s - len));
        if let Err(left) = fits {
            file.write_all_at(&bytes[..left as usize], position)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.write_all_at(bytes, position)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        let is_shut = self.0.is_shut.lock().unwrap();
        drop(self.0.opened.wait_timeout_while(is_shut, PATIENCE, |shut| *shut).unwrap());
        if self.0.fail_sync.load(Ordering::SeqCst) {
            return Err(io::Error::other("the medium is gone"));
        }
        file.sync_data()?;
        self.0.syncs.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        use std::os::unix::fs::MetadataExt;
        if file.metadata()?.nlink() == 0 {
            self.0.cuts.lock().unwrap().push(len);
        }
        file.set_len(len)
    }

    fn rename(&self, path: &Path, to: &Path) -> Result<(), super::Error> {
        self.0.removal("rename", path)?;
        super::disk::RealDisk.rename(path, to)
    }

    fn remove(&self, path: &Path) -> Result<(), super::Error> {
        self.0.removal("remove", path)?;
        super::disk::RealDisk.remove(path)
    }
}

//! Opening: what is in the directory, is it whole, and where does it end.
//!
//! Sealed segments were synced before their successor was made, so their headers and lengths must agree; the last one is
//! read to its end. Only a torn tail is cut. Reading sealed segments through is `verify`'s and the cursors' work.
//! Does not write anything before it is certain that the journal is sound.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::disk::{self, Disk};
use super::format::{self, SEGMENT_HEADER, SegmentHeader};
use super::scan::{Scanner, Step};
use super::shared::Segment;
use super::{Error, Fault, Offset, Options, Recovery};

/// A sound journal, ready to be appended to.
pub(super) struct Opened {
    pub segments: VecDeque<Segment>,
    /// The last segment's file; it ends with its last record.
    pub active: File,
    /// Whether it ends with the mark of an orderly close.
    pub is_marked: bool,
    pub recovery: Recovery,
}

/// Where a scan of the last segment ended.
pub(super) struct Tail {
    /// Bytes up to the end of the last record.
    pub good: u64,
    /// The offset after it.
    pub end: u64,
    /// Bytes behind it up to the last that is not zero.
    pub torn: u64,
    /// Whether the last record says that all before it was synced.
    pub is_marked: bool,
}

pub(super) fn open(disk: &dyn Disk, options: &Options) -> Result<Opened, Error> {
    let dir = &options.dir;
    make_dir(dir)?;
    let mut firsts = disk::list(dir)?;
    let unborn = drop_unborn(options, &mut firsts)?;
    let Some(&last) = firsts.last() else {
        return create_first(disk, options, unborn.unwrap_or(0));
    };
    let mut segments = check_chain(options, &firsts)?;
    let path = disk::segment_path(dir, last);
    let active = OpenOptions::new().read(true).write(true).open(&path).map_err(Error::io("open", &path))?;
    let tail = scan_last(&active, &path, last, format::seed(options.node_id))?;
    if let Some(next) = unborn.filter(|next| *next != tail.end) {
        let fault = Fault::Sequence { found: Offset(next) };
        return Err(Error::Damaged { file: path, position: tail.good, offset: Offset(tail.end), fault });
    }
    remove_unborn(dir, unborn)?;
    disk::remove_drafts(dir)?;
    // What a killed process had written but not synced is served as durable from here on, so it must be.
    disk.set_len(&active, tail.good).and_then(|()| active.sync_all()).map_err(Error::io("sync", &path))?;
    disk::sync_dir(dir)?;
    segments.push_back(Segment { first: last, end: tail.end, bytes: tail.good });
    let recovery = Recovery { first: Offset(firsts[0]), head: Offset(tail.end), cut_bytes: tail.torn };
    Ok(Opened { segments, active, is_marked: tail.is_marked, recovery })
}

fn make_dir(dir: &Path) -> Result<(), Error> {
    if !dir.is_dir() {
        fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        if let Some(parent) = dir.parent().filter(|p| !p.as_os_str().is_empty()) {
            disk::sync_dir(parent)?;
        }
    }
    Ok(())
}

fn create_first(disk: &dyn Disk, options: &Options, first: u64) -> Result<Opened, Error> {
    disk::remove_drafts(&options.dir)?;
    let header = SegmentHeader { node_id: options.node_id, first, previous: None };
    let active = disk::create_draft(disk, &options.dir, &header)?;
    disk::publish_draft(&options.dir, first)?;
    let segment = Segment { first, end: first, bytes: SEGMENT_HEADER as u64 };
    let recovery = Recovery { first: Offset(first), head: Offset(first), cut_bytes: 0 };
    Ok(Opened { segments: VecDeque::from([segment]), active, is_marked: true, recovery })
}

/// Takes a last segment from the list that has no header and nothing else: it was never used.
fn drop_unborn(options: &Options, firsts: &mut Vec<u64>) -> Result<Option<u64>, Error> {
    let Some(&last) = firsts.last() else { return Ok(None) };
    let path = disk::segment_path(&options.dir, last);
    if is_unborn(&path)? {
        firsts.pop();
        return Ok(Some(last));
    }
    Ok(None)
}

/// Whether the segment file is empty, a part of a header, or only zeros.
pub(super) fn is_unborn(path: &Path) -> Result<bool, Error> {
    let (file, len) = open_read(path)?;
    if read_header(&file, len, path)?.is_ok() {
        return Ok(false);
    }
    let used = Scanner::new(&file, 0, len, 0, 0).used_end().map_err(Error::io("read", path))?;
    Ok(used == 0 || len < SEGMENT_HEADER as u64)
}

fn remove_unborn(dir: &Path, first: Option<u64>) -> Result<(), Error> {
    let Some(first) = first else { return Ok(()) };
    let path = disk::segment_path(dir, first);
    fs::remove_file(&path).map_err(Error::io("remove", &path))
}

/// Checks each header against its file's name and the file before it; gives the sealed segments.
fn check_chain(options: &Options, firsts: &[u64]) -> Result<VecDeque<Segment>, Error> {
    let mut sealed = VecDeque::new();
    let mut previous: Option<(u64, u64, PathBuf)> = None;
    for &first in firsts {
        let path = disk::segment_path(&options.dir, first);
        let (file, len) = open_read(&path)?;
        let header = read_header(&file, len, &path)?
            .and_then(|h| (h.first == first).then_some(h).ok_or(Fault::FirstOffset { found: Offset(h.first) }))
            .map_err(|fault| Error::Header { file: path.clone(), first: Offset(first), fault })?;
        if header.node_id != options.node_id {
            return Err(Error::Node { file: path, found: header.node_id, expected: options.node_id });
        }
        if let Some((previous_first, previous_len, previous_path)) = previous {
            check_link(&options.dir, &header, previous_first, previous_len, previous_path)?;
            sealed.push_back(Segment { first: previous_first, end: first, bytes: previous_len });
        }
        previous = Some((first, len, path));
    }
    Ok(sealed)
}

/// Whether the segment of `header` was made right after the one found before it.
fn check_link(dir: &Path, header: &SegmentHeader, first: u64, len: u64, path: PathBuf) -> Result<(), Error> {
    let next = Offset(header.first);
    match header.previous {
        Some((sealed_first, sealed_len)) if sealed_first == first => {
            let found = Error::Length { file: path, found_bytes: len, expected_bytes: sealed_len, next };
            if sealed_len == len { Ok(()) } else { Err(found) }
        }
        Some((missing, _)) => Err(Error::Missing { file: disk::segment_path(dir, missing), next }),
        None => {
            let fault = Fault::FirstOffset { found: next };
            Err(Error::Header { file: disk::segment_path(dir, header.first), first: next, fault })
        }
    }
}

/// Reads the last segment through. Bad bytes that a later write follows are damage, not a torn tail.
pub(super) fn scan_last(file: &File, path: &Path, first: u64, seed: u32) -> Result<Tail, Error> {
    let io = |error| Error::io("read", path)(error);
    let len = file.metadata().map_err(io)?.len();
    let mut scanner = Scanner::new(file, SEGMENT_HEADER as u64, len, first, seed);
    let mut is_marked = false;
    let fault = loop {
        match scanner.step().map_err(io)? {
            Step::Record(head, bytes) => is_marked = head.next_offset(bytes) == head.offset,
            Step::End => break None,
            Step::Bad(fault) => break Some(fault),
        }
    };
    let (good, end) = (scanner.position, scanner.expected);
    let Some(fault) = fault else { return Ok(Tail { good, end, torn: 0, is_marked }) };
    if scanner.is_followed_by_later_write(end).map_err(io)? {
        return Err(Error::Damaged { file: path.to_owned(), position: good, offset: Offset(end), fault });
    }
    let used = Scanner::new(file, good, len, end, seed).used_end().map_err(io)?;
    Ok(Tail { good, end, torn: used - good, is_marked })
}

/// Opens a segment for reading and tells its length.
pub(super) fn open_read(path: &Path) -> Result<(File, u64), Error> {
    let file = disk::open_read(path)?;
    let len = file.metadata().map_err(Error::io("inspect", path))?.len();
    Ok((file, len))
}

/// The header, or why it is none.
pub(super) fn read_header(file: &File, len: u64, path: &Path) -> Result<Result<SegmentHeader, Fault>, Error> {
    let mut bytes = [0; SEGMENT_HEADER];
    let available = len.min(SEGMENT_HEADER as u64) as usize;
    file.read_exact_at(&mut bytes[..available], 0).map_err(Error::io("read", path))?;
    Ok(SegmentHeader::decode(&bytes[..available]))
}

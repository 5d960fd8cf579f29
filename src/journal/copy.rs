//! Copying a journal beside its writer, and going on behind a copy.
//!
//! Invariants: a copy holds every record that was on disk when it was begun, and only whole records; what is trimmed
//! meanwhile stays readable through the open files. A journal that goes on behind a copy never gives a number twice that
//! the original may have given after the copy was made: it skips to the next multiple of [`LIFE`].

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::disk;
use super::format::{self, SEGMENT_HEADER};
use super::recovery::{is_unborn, open_read, read_header};
use super::scan::{Scanner, Step};
use super::{Error, Offset};

/// Offsets a journal has before it could meet those of a journal that went on behind a copy of it: more than a node
/// takes in during ten years at 50 000 messages a second. 2⁵³ of them, as many as JSON numbers hold, are 512 lives.
pub const LIFE: u64 = 1 << 44;

/// How often the directory is listed again because a segment was trimmed between the list and its opening.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(1);

/// A journal as it stood at one moment.
#[derive(Debug)]
pub struct Copied {
    /// Whose it is.
    pub node_id: uuid::Uuid,
    /// The first record.
    pub first: Offset,
    /// Exclusive end.
    pub head: Offset,
    /// The segments, in order.
    pub segments: Vec<CopiedSegment>,
}

/// A segment of a copy.
#[derive(Debug)]
pub struct CopiedSegment {
    /// Its file's name.
    pub name: String,
    /// Open for reading, at its beginning.
    pub file: File,
    /// How much of it belongs to the copy.
    pub bytes: u64,
}

/// Takes hold of the journal in `dir`, which may be in use; `None` when there is none. Reads the last segment through.
pub fn copy(dir: &Path) -> Result<Option<Copied>, Error> {
    for _ in 1..TRIES {
        match try_copy(dir) {
            // A segment that is on its way out: its name goes in a moment.
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound && dir.is_dir() => {
                thread::sleep(PAUSE);
            }
            done => return done,
        }
    }
    try_copy(dir)
}

fn try_copy(dir: &Path) -> Result<Option<Copied>, Error> {
    if !dir.is_dir() {
        return Ok(None);
    }
    let mut firsts = disk::list(dir)?;
    if let Some(&last) = firsts.last()
        && is_unborn(&disk::segment_path(dir, last))?
    {
        firsts.pop();
    }
    let Some(&first) = firsts.first() else { return Ok(None) };
    let (mut segments, mut head, mut node_id) = (Vec::new(), first, None);
    for (at, &first) in firsts.iter().enumerate() {
        let path = disk::segment_path(dir, first);
        let (file, len) = open_read(&path)?;
        let header = read_header(&file, len, &path)?.map_err(|fault| Error::Header {
            file: path.clone(),
            first: Offset(first),
            fault,
        })?;
        node_id = Some(header.node_id);
        let is_last = at + 1 == firsts.len();
        let bytes = if is_last { whole_records(&file, &path, first, header.node_id, &mut head)? } else { len };
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        segments.push(CopiedSegment { name, file, bytes });
    }
    Ok(node_id.map(|node_id| Copied { node_id, first: Offset(first), head: Offset(head), segments }))
}

/// How many bytes of the segment are records; the one that is written right now is none yet. The writer cuts off the space
/// that it took ahead when it seals a segment, also while it is read here: then it is read again, to its new end.
fn whole_records(file: &File, path: &Path, first: u64, node: uuid::Uuid, head: &mut u64) -> Result<u64, Error> {
    let length = || Ok(file.metadata().map_err(Error::io("inspect", path))?.len());
    let mut len = length()?;
    loop {
        let mut scanner = Scanner::new(file, SEGMENT_HEADER as u64, len, first, format::seed(node));
        let scanned = loop {
            match scanner.step() {
                Ok(Step::Record(..)) => {}
                Ok(Step::End | Step::Bad(_)) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let Err(error) = scanned else {
            *head = scanner.expected;
            return Ok(scanner.position);
        };
        let before = std::mem::replace(&mut len, length()?);
        if error.kind() != io::ErrorKind::UnexpectedEof || len >= before {
            return Err(Error::io("read", path)(error));
        }
    }
}

/// Lets the journal in `dir`, a copy at rest, go on at the next multiple of [`LIFE`]; returns that offset. In between lies
/// a hole, as a salvage leaves it.
pub fn begin_new_life(dir: &Path) -> Result<Offset, Error> {
    let Some(&first) = disk::list(dir)?.last() else { return Err(Error::Unreadable { dir: dir.to_owned() }) };
    let path = disk::segment_path(dir, first);
    let file = OpenOptions::new().read(true).write(true).open(&path).map_err(Error::io("open", &path))?;
    let len = file.metadata().map_err(Error::io("inspect", &path))?.len();
    let header = read_header(&file, len, &path)?.map_err(|fault| Error::Header {
        file: path.clone(),
        first: Offset(first),
        fault,
    })?;
    let mut head = first;
    let end = whole_records(&file, &path, first, header.node_id, &mut head)?;
    let next = (head / LIFE + 1).saturating_mul(LIFE);
    let mut hole = Vec::new();
    format::encode_hole(&mut hole, format::seed(header.node_id), head, next - head);
    let write = || {
        file.set_len(end)?;
        file.write_all_at(&hole, end)?;
        file.sync_all()
    };
    write().map_err(Error::io("write", &path))?;
    Ok(Offset(next))
}

//! Making a damaged journal usable again, by giving up explicitly what cannot be read.
//!
//! Invariants: a readable record keeps its bytes and its offset; what is lost gets a hole record, so that offsets stay
//! without a gap; the damaged file is kept beside as `….damaged` until somebody removes it. Can be stopped anywhere and
//! run again. Does not touch a segment without damage, but for its header.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::disk::{self, RealDisk};
use super::format::{self, SEGMENT_HEADER, SegmentHeader};
use super::survey::{Piece, Survey};
use super::verify::{Report, survey_all};
use super::{Error, FindingKind};

/// What a salvage did.
#[derive(Clone, PartialEq, Debug, Default)]
#[allow(missing_docs)]
pub struct Salvage {
    /// What was found before.
    pub report: Report,
    /// Offsets given up; the journal has holes there.
    pub lost_records: u64,
    /// Segments written anew, and where their damaged originals are now.
    pub replaced: Vec<(PathBuf, PathBuf)>,
}

/// Repairs the journal in `dir`, which must not be open. A sound journal is left as it is. Files of two nodes mixed in
/// one directory are refused: nothing tells which to keep.
pub fn salvage(dir: &Path, on_progress: impl FnMut(u64, u64)) -> Result<Salvage, Error> {
    let all = survey_all(dir, on_progress)?;
    let mut done = Salvage { lost_records: all.report.lost_records, report: all.report, replaced: Vec::new() };
    if done.report.is_sound() {
        return Ok(done);
    }
    let node_id = all.node_id.ok_or_else(|| Error::Unreadable { dir: dir.to_owned() })?;
    if let Some(finding) = done.report.findings.iter().find(|f| f.kind == FindingKind::Node) {
        let found = all.surveys.iter().find(|s| s.path == finding.file).and_then(|s| s.header.ok());
        let found = found.map_or(node_id, |h| h.node_id);
        return Err(Error::Node { file: finding.file.clone(), found, expected: node_id });
    }
    let mut before: Option<(u64, u64)> = None;
    for survey in &all.surveys {
        let previous = before.or_else(|| survey.header.ok().and_then(|h| h.previous));
        let header = SegmentHeader { node_id, first: survey.first, previous };
        let mut len = survey.file_bytes;
        if survey.has_lost() || survey.header.is_err() {
            let aside = keep_aside(&survey.path)?;
            len = rewrite(dir, survey, &header)?;
            done.replaced.push((survey.path.clone(), aside));
        } else if survey.header != Ok(header) {
            patch(&survey.path, &header)?;
        }
        before = Some((survey.first, len));
    }
    Ok(done)
}

/// Gives the file a second name that says what it is.
fn keep_aside(path: &Path) -> Result<PathBuf, Error> {
    let mut number = 0_u32;
    loop {
        let mut name = path.as_os_str().to_owned();
        name.push(if number == 0 { ".damaged".to_owned() } else { format!(".damaged.{number}") });
        let aside = PathBuf::from(name);
        match fs::hard_link(path, &aside) {
            Ok(()) => return Ok(aside),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < u32::MAX => number += 1,
            Err(error) => return Err(Error::io("link", &aside)(error)),
        }
    }
}

/// Writes the segment anew from its good pieces and puts it in the place of the old one; returns its length.
fn rewrite(dir: &Path, survey: &Survey, header: &SegmentHeader) -> Result<u64, Error> {
    let draft = disk::draft_path(dir, survey.first);
    let to = disk::create_draft(&RealDisk, dir, header)?;
    let from = File::open(&survey.path).map_err(Error::io("open", &survey.path))?;
    let len = copy(&from, &to, &survey.pieces, format::seed(header.node_id)).map_err(Error::io("write", &draft))?;
    to.sync_all().map_err(Error::io("sync", &draft))?;
    disk::publish_draft(dir, survey.first)?;
    Ok(len)
}

fn copy(mut from: &File, mut to: &File, pieces: &[Piece], seed: u32) -> io::Result<u64> {
    let mut len = to.seek(SeekFrom::Start(SEGMENT_HEADER as u64))?;
    for piece in pieces {
        match *piece {
            Piece::Good { from: start, to: end } => {
                from.seek(SeekFrom::Start(start))?;
                len += io::copy(&mut from.take(end - start), &mut to)?;
            }
            Piece::Lost { first, end, .. } if end > first => {
                let mut hole = Vec::new();
                format::encode_hole(&mut hole, seed, first, end - first);
                to.write_all(&hole)?;
                len += hole.len() as u64;
            }
            Piece::Lost { .. } => {}
        }
    }
    Ok(len)
}

/// Replaces a segment's header. It lies in one sector; torn nevertheless, the next salvage writes it again.
fn patch(path: &Path, header: &SegmentHeader) -> Result<(), Error> {
    let write = || {
        let file = OpenOptions::new().write(true).open(path)?;
        file.write_all_at(&header.encode(), 0)?;
        file.sync_all()
    };
    write().map_err(Error::io("write", path))
}

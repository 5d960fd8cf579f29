//! Reading a whole journal that is not open, and saying in words what is wrong with it.
//!
//! Only reads. Agrees with opening: a journal without damage here opens, one with damage that opening looks at does not.

use std::fmt;
use std::path::{Path, PathBuf};

use super::disk;
use super::format::{self, SEGMENT_HEADER, SegmentHeader};
use super::recovery::{is_unborn, open_read, read_header};
use super::scan::{Scanner, Step};
use super::survey::{Piece, Survey};
use super::{Error, Fault, Offset, Record};

/// The most findings that are listed; more are only counted.
const MAX_FINDINGS: usize = 1000;

/// What is in a journal's directory.
#[derive(Clone, PartialEq, Debug, Default)]
#[allow(missing_docs)]
pub struct Report {
    pub segments: u64,
    pub bytes: u64,
    /// Readable ones.
    pub records: u64,
    /// Those that are damaged or missing now; what earlier salvages gave up is in the findings.
    pub lost_records: u64,
    pub first: Offset,
    /// Exclusive end.
    pub head: Offset,
    pub findings: Vec<Finding>,
    /// Further findings that are not listed.
    pub findings_omitted: u64,
    damage: u64,
}

/// Something worth knowing; its `Display` explains it.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub struct Finding {
    pub file: PathBuf,
    /// Byte position in the file.
    pub position: u64,
    /// The first offset concerned, and how many.
    pub offset: Offset,
    pub offsets: u64,
    pub kind: FindingKind,
}

/// Kinds of findings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum FindingKind {
    /// Harmless: the last write was cut short by a crash. Opening cuts it off.
    TornTail { bytes: u64 },
    /// Harmless: the process ended while it made this segment. Opening removes it.
    Unborn,
    /// Known: a salvage gave these offsets up, or a restored journal skips them.
    Hole,
    /// Damage: bytes that should be records are none.
    Lost { bytes: u64, fault: Fault },
    /// Damage: the segment's header is not readable or of another place.
    Header { fault: Fault },
    /// Damage: the segment does not follow on the one before it as it was when that was sealed.
    Link,
    /// Damage: the segment was written by another node than the first one.
    Node,
}

impl FindingKind {
    /// Whether the journal is not to be used without a salvage.
    pub fn is_damage(self) -> bool {
        match self {
            Self::TornTail { .. } | Self::Unborn | Self::Hole => false,
            Self::Lost { .. } | Self::Header { .. } | Self::Link | Self::Node => true,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.offset, self.offset.0.saturating_add(self.offsets.saturating_sub(1)));
        write!(f, "{}, byte {}: ", self.file.display(), self.position)?;
        match self.kind {
            FindingKind::TornTail { bytes } => write!(
                f,
                "the last {bytes} bytes are the beginning of a write that was never finished, from offset {first} on; \
                 nothing in it was acknowledged; the next start cuts it off"
            ),
            FindingKind::Unborn => {
                write!(f, "an empty segment for offset {first}, begun and never used; the next start removes it")
            }
            FindingKind::Hole => {
                write!(f, "offsets {first} to {last} were given up by an earlier salvage, or skipped after a restore")
            }
            FindingKind::Lost { bytes, fault } if self.offsets == 0 => write!(
                f,
                "{bytes} bytes where offset {first} should be are no record ({fault}); no record is missing by that; \
                 a salvage leaves the bytes out"
            ),
            FindingKind::Lost { bytes, fault } => write!(
                f,
                "offsets {first} to {last} are lost: {bytes} bytes are not readable as records ({fault}); they had been \
                 written whole, so the medium or another program has changed them; a salvage leaves them out"
            ),
            FindingKind::Header { fault } => write!(
                f,
                "the header of the segment of offset {first} is not readable ({fault}); a salvage writes it anew"
            ),
            FindingKind::Link => write!(
                f,
                "the segment before offset {first} is missing or has another length than when it was sealed; a salvage \
                 joins what is there"
            ),
            FindingKind::Node => write!(
                f,
                "the segment of offset {first} was written by another node: files of two journals are mixed here; put \
                 back the right one"
            ),
        }
    }
}

impl Report {
    /// Whether the journal can be opened and every record in it read.
    pub fn is_sound(&self) -> bool {
        self.damage == 0
    }

    fn add(&mut self, finding: Finding) {
        self.damage += u64::from(finding.kind.is_damage());
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        } else {
            self.findings_omitted += 1;
        }
    }

    fn add_survey(&mut self, survey: &Survey, is_unborn: bool) {
        let mut add = |position, offset, offsets, kind| {
            self.add(Finding { file: survey.path.clone(), position, offset: Offset(offset), offsets, kind });
        };
        match survey.header {
            _ if is_unborn => add(0, survey.first, 0, FindingKind::Unborn),
            Err(fault) => add(0, survey.first, 0, FindingKind::Header { fault }),
            Ok(header) if header.first != survey.first => {
                let fault = Fault::FirstOffset { found: Offset(header.first) };
                add(0, survey.first, 0, FindingKind::Header { fault });
            }
            Ok(_) => {}
        }
        for &(position, first, count) in &survey.holes {
            add(position, first, count, FindingKind::Hole);
        }
        let mut lost = 0;
        for piece in &survey.pieces {
            if let Piece::Lost { from, to, first, end, fault } = *piece {
                lost += end - first;
                add(from, first, end - first, FindingKind::Lost { bytes: to - from, fault });
            }
        }
        if let Some((position, bytes)) = survey.torn {
            add(position, survey.end, 0, FindingKind::TornTail { bytes });
        }
        self.segments += 1;
        self.bytes += survey.file_bytes;
        self.records += survey.records;
        self.lost_records += lost;
        self.head = Offset(survey.end);
    }
}

/// Reads the journal in `dir`, which must not be open for writing, and reports. `on_progress` is told bytes read and
/// bytes in all.
pub fn verify(dir: &Path, on_progress: impl FnMut(u64, u64)) -> Result<Report, Error> {
    survey_all(dir, on_progress).map(|all| all.report)
}

/// A journal read through.
pub(super) struct All {
    pub report: Report,
    pub surveys: Vec<Survey>,
    /// The node that wrote it, when anything tells.
    pub node_id: Option<uuid::Uuid>,
}

/// Reads every segment of the journal.
pub(super) fn survey_all(dir: &Path, mut on_progress: impl FnMut(u64, u64)) -> Result<All, Error> {
    let firsts = disk::list(dir)?;
    let mut total = 0;
    for &first in &firsts {
        total += open_read(&disk::segment_path(dir, first))?.1;
    }
    let node_id = find_node(dir, &firsts)?;
    let seed = node_id.map_or(0, format::seed);
    let mut report = Report { first: Offset(firsts.first().copied().unwrap_or(0)), ..Report::default() };
    let mut surveys: Vec<Survey> = Vec::new();
    for (i, &first) in firsts.iter().enumerate() {
        let path = disk::segment_path(dir, first);
        let next = firsts.get(i + 1).copied();
        let survey = Survey::of(&path, first, next, seed)?;
        report.add_survey(&survey, next.is_none() && is_unborn(&path)?);
        for kind in mismatches(&survey, surveys.last(), node_id) {
            report.add(Finding { file: path.clone(), position: 0, offset: Offset(first), offsets: 0, kind });
        }
        on_progress(report.bytes, total);
        surveys.push(survey);
    }
    Ok(All { report, surveys, node_id })
}

fn mismatches(survey: &Survey, before: Option<&Survey>, node_id: Option<uuid::Uuid>) -> Vec<FindingKind> {
    let Ok(header) = survey.header else { return Vec::new() };
    let mut kinds = Vec::new();
    if before.is_some_and(|b| header.previous != Some((b.first, b.file_bytes))) {
        kinds.push(FindingKind::Link);
    }
    if Some(header.node_id) != node_id {
        kinds.push(FindingKind::Node);
    }
    kinds
}

/// The node by the first readable header or, without one, by the header bytes under which a record is readable.
fn find_node(dir: &Path, firsts: &[u64]) -> Result<Option<uuid::Uuid>, Error> {
    let mut claimed = Vec::new();
    for &first in firsts {
        let path = disk::segment_path(dir, first);
        let (file, len) = open_read(&path)?;
        if let Ok(SegmentHeader { node_id, .. }) = read_header(&file, len, &path)? {
            return Ok(Some(node_id));
        }
        let mut bytes = [0; SEGMENT_HEADER];
        if std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 0).is_ok() {
            claimed.extend(SegmentHeader::claimed_node(&bytes).map(|node_id| (node_id, file, len, path)));
        }
    }
    for (node_id, file, len, path) in claimed {
        let found = Scanner::new(&file, 0, len, 0, format::seed(node_id)).find(0);
        if found.map_err(Error::io("read", &path))?.is_some() {
            return Ok(Some(node_id));
        }
    }
    Ok(None)
}

/// Shows up to `limit` records from offset `from` on, of a journal that is not open; returns how many there were.
pub fn inspect(dir: &Path, from: Offset, limit: u64, mut show: impl FnMut(Record<'_>)) -> Result<u64, Error> {
    let firsts = disk::list(dir)?;
    let start = firsts.partition_point(|first| *first <= from.0).saturating_sub(1);
    let mut shown = 0;
    for (i, &first) in firsts.iter().enumerate().skip(start) {
        let path = disk::segment_path(dir, first);
        let is_last = i + 1 == firsts.len();
        let (file, len) = open_read(&path)?;
        let header = match read_header(&file, len, &path)? {
            Ok(header) => header,
            Err(_) if is_last && is_unborn(&path)? => break,
            Err(fault) => return Err(Error::Header { file: path, first: Offset(first), fault }),
        };
        let seed = format::seed(header.node_id);
        let mut scanner = Scanner::new(&file, SEGMENT_HEADER as u64, len, first, seed);
        while shown < limit {
            match scanner.step().map_err(Error::io("read", &path))? {
                Step::Record(head, bytes) => {
                    if !head.is_hole() && head.offset >= from.0 {
                        show(head.record(bytes));
                        shown += 1;
                    }
                    continue;
                }
                Step::End => break,
                Step::Bad(fault) => {
                    let (position, offset) = (scanner.position, Offset(scanner.expected));
                    let is_damage = scanner.is_followed_by_later_write(offset.0).map_err(Error::io("read", &path))?;
                    if is_damage || !is_last {
                        return Err(Error::Damaged { file: path, position, offset, fault });
                    }
                    break;
                }
            }
        }
    }
    Ok(shown)
}

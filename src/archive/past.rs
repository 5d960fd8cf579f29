//! A device's telemetry in the archive and in the journal's tail, by message time: in pieces that follow one another.
//!
//! Where to look: objects are filed by time of receipt, and a message may have been received long after its time. The names
//! of objects that were put together, and the footers of the others, say which message times are in them. So a listing
//! from the first day on which the range could have been received tells which objects may matter; of those, row groups are
//! passed over by device and time.
//!
//! Bounded: of each object under way the places of the device's rows are held (24 bytes each, [`MAX_PLACES`] in all, or
//! they are read again), and the messages of one piece. An object that is gone when its turn comes was put together with
//! others: the listing is made again, and reading goes on behind the last piece.

use std::sync::Arc;

use object_store::path::Path;

use super::Error;
use super::key::{Hour, Listed, ROOT, standing};
use super::object::{Object, PastMessage, Place};
use super::reader::Inner;
use crate::domain::{DeviceId, Timestamp};

/// Message times a piece covers at most.
const STEP_US: i64 = 3_600_000_000;
/// Messages of a piece, but for those of one instant.
const PIECE: usize = 2048;
/// Places held in all.
const MAX_PLACES: usize = 500_000;
/// Listings made again for one piece.
const TRIES: usize = 5;

/// Any time.
const EVER: (Timestamp, Timestamp) = (Timestamp(i64::MIN), Timestamp(i64::MAX));

/// Which telemetry.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) device: DeviceId,
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
}

/// An object that may hold some of it.
#[derive(Debug)]
struct Candidate {
    key: Path,
    size: u64,
    /// Oldest and newest message time still of interest in it, or more.
    times: (Timestamp, Timestamp),
    /// The device's rows, ascending by time, once they are read.
    places: Option<Vec<Place>>,
}

/// Reads on, piece by piece. Blocks.
pub struct Past {
    inner: Arc<Inner>,
    span: Span,
    /// Everything before was given out.
    at: Timestamp,
    candidates: Vec<Candidate>,
    /// What is not archived yet.
    tail: Vec<PastMessage>,
}

impl std::fmt::Debug for Past {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Past").field("span", &self.span).field("at", &self.at).finish_non_exhaustive()
    }
}

/// What has happened to a piece.
enum Step {
    Messages(Vec<PastMessage>),
    Gone,
}

impl Past {
    /// The tail is read first: what leaves it meanwhile is in the listing.
    pub(super) fn open(inner: Arc<Inner>, span: Span) -> Result<Self, Error> {
        let tail = inner.tail_of(&span)?;
        let mut past = Self { at: span.from, inner, span, candidates: Vec::new(), tail };
        past.list()?;
        Ok(past)
    }

    /// The next messages: all of the device's between the end of the piece before and some later time, in no order. Some
    /// may be there twice: they came twice. `None` = that was all.
    pub fn next_piece(&mut self) -> Result<Option<Vec<PastMessage>>, Error> {
        let mut tries = 0;
        while let Some((start, end)) = self.next_step() {
            match self.step(start, end)? {
                Step::Messages(found) if found.is_empty() => tries = 0,
                Step::Messages(found) => return Ok(Some(found)),
                Step::Gone => {
                    tries += 1;
                    if tries > TRIES {
                        return Err(Error::Interrupted);
                    }
                    self.list()?;
                }
            }
        }
        Ok(None)
    }

    /// Which times come next.
    fn next_step(&self) -> Option<(Timestamp, Timestamp)> {
        let objects = self.candidates.iter().filter(|c| c.times.1 >= self.at).map(|c| c.times.0);
        let tail = self.tail.iter().map(|m| m.ts).filter(|ts| *ts >= self.at);
        let start = objects.chain(tail).min()?.max(self.at);
        (start < self.span.to).then(|| (start, start.plus_us(STEP_US).min(self.span.to)))
    }

    /// Lists what may matter from here on.
    fn list(&mut self) -> Result<(), Error> {
        let bucket = &self.inner.bucket;
        let first = Hour::of(self.at.plus_us(self.inner.ahead_us().saturating_neg())).date_folder();
        let listed = bucket.objects_from(&Path::from(ROOT), &first)?.into_iter();
        let mut by_folder: Vec<(Hour, Listed)> =
            listed.filter_map(|meta| Some((Hour::parse(&folder_of(&meta.location)?)?, Listed::new(meta)?))).collect();
        by_folder.sort_by_key(|(hour, _)| *hour);
        self.candidates.clear();
        for of_hour in by_folder.chunk_by(|a, b| a.0 == b.0) {
            for listed in standing(of_hour.iter().map(|(_, listed)| listed.clone()).collect()).0 {
                let Some(times) = self.inner.times_of(&listed)? else { continue };
                if times.0 < self.span.to && self.at <= times.1 {
                    let Listed { key, size, .. } = listed;
                    self.candidates.push(Candidate { key, size, times, places: None });
                }
            }
        }
        Ok(())
    }

    fn step(&mut self, start: Timestamp, mut end: Timestamp) -> Result<Step, Error> {
        let mut times: Vec<Timestamp> = Vec::new();
        for index in 0..self.candidates.len() {
            let (oldest, newest) = self.candidates[index].times;
            if oldest < end && start <= newest {
                if !self.load(index)? {
                    return Ok(Step::Gone);
                }
                times.extend(self.candidates[index].within(start, end).iter().map(|place| place.ts));
            }
        }
        times.extend(self.tail.iter().map(|m| m.ts).filter(|ts| (start..end).contains(ts)));
        if times.len() > PIECE {
            let (_, cut, _) = times.select_nth_unstable(PIECE);
            // (Messages of one instant stay together: what orders them is in their payloads.)
            end = if *cut > start { *cut } else { start.plus_us(1) };
        }
        let mut found: Vec<PastMessage> = self.tail.iter().filter(|m| (start..end).contains(&m.ts)).cloned().collect();
        for candidate in &self.candidates {
            let places = candidate.within(start, end);
            if !places.is_empty() {
                let object = self.inner.open(&candidate.key, candidate.size)?;
                let Some(object) = object else { return Ok(Step::Gone) };
                let Some(messages) = object.messages(places)? else { return Ok(Step::Gone) };
                found.extend(messages);
            }
        }
        self.at = end;
        self.let_go();
        Ok(Step::Messages(found))
    }

    /// Reads where the device's rows are; `false` = the object is gone.
    fn load(&mut self, index: usize) -> Result<bool, Error> {
        let candidate = &mut self.candidates[index];
        if candidate.places.is_some() {
            return Ok(true);
        }
        let Some(object) = self.inner.open(&candidate.key, candidate.size)? else { return Ok(false) };
        let Some(mut places) = object.telemetry_of(self.span.device.as_str(), self.at, self.span.to)? else {
            return Ok(false);
        };
        places.sort_unstable();
        // None: its turn is over.
        let none = (Timestamp(i64::MAX), Timestamp(i64::MIN));
        candidate.times = places.first().zip(places.last()).map_or(none, |(first, last)| (first.ts, last.ts));
        candidate.places = Some(places);
        Ok(true)
    }

    /// Lets go of what was given out, and of places that take too much memory.
    fn let_go(&mut self) {
        let at = self.at;
        self.candidates.retain(|candidate| candidate.times.1 >= at);
        let mut held = 0;
        for candidate in &mut self.candidates {
            if let Some(places) = &mut candidate.places {
                places.drain(..places.partition_point(|place| place.ts < at));
                places.shrink_to(places.len() * 2);
                held += places.len();
                if held > MAX_PLACES {
                    held -= places.len();
                    candidate.places = None;
                }
            }
        }
    }
}

impl Candidate {
    /// The places within `start..end`, of those that are read.
    fn within(&self, start: Timestamp, end: Timestamp) -> &[Place] {
        let places = self.places.as_deref().unwrap_or_default();
        let from = places.partition_point(|place| place.ts < start);
        let to = from + places[from..].partition_point(|place| place.ts < end);
        &places[from..to]
    }
}

/// The folder of an object.
fn folder_of(key: &Path) -> Option<Path> {
    key.as_ref().rsplit_once('/').map(|(folder, _)| Path::from(folder))
}

impl Inner {
    /// An object, opened; `None` = it is gone.
    fn open(&self, key: &Path, size: u64) -> Result<Option<Object<'_>>, Error> {
        Object::open(&self.bucket, &self.footers, key, size)
    }

    /// Which message times are in an object: by its name, or by its footer. `None` = none. One that is gone may have held
    /// any: its turn comes first, and the listing is made anew.
    fn times_of(&self, listed: &Listed) -> Result<Option<(Timestamp, Timestamp)>, Error> {
        if let Some(times) = listed.name.times {
            return Ok((times.0 <= times.1).then_some(times));
        }
        if let Some(times) = self.times.get(listed.key.as_ref()) {
            return Ok(times);
        }
        let Some(object) = self.open(&listed.key, listed.size)? else { return Ok(Some(EVER)) };
        let times = object.times();
        self.times.insert(listed.key.to_string(), times);
        Ok(times)
    }
}

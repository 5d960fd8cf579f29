//! Messages of the old bucket, an object each: `{device_id, timestamp, category, data}`, where `data` is what the meter said.
//!
//! The names are sorted by hour and meter first, so that what is written together is read together. A chunk is stored, then
//! archived: what is archived was stored before, so a name whose message is in the archive needs no second look. A message
//! that is stored with another time of receipt was received by a server itself; it is a duplicate, and not archived again.
//!
//! Invariant: memory holds one chunk. What is older than the database keeps goes to the archive alone; its meter is made known
//! all the same. What the archive would delete at once goes to the database alone; what neither keeps is refused.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use object_store::path::Path;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::meters::{Meters, Rows};
use super::name::{self, Name};
use super::report::{Kind, Ledger};
use super::row::{self, Wrong};
use super::sort::Sorter;
use super::{Error, Options};
use crate::archive::{Adopted, Adopter, Bucket};
use crate::domain::{Body, DeviceId, Message, Sequence, Telemetry, Timestamp};
use crate::payload;
use crate::store::{Page, Place, Store};

/// Messages of one chunk.
const CHUNK: usize = 4096;
/// Bytes of objects read at once (16 of them at least).
const CHUNK_BYTES: u64 = 16 * 1024 * 1024;
/// A larger object is no message.
const MAX_BYTES: u64 = 4 * 1024 * 1024;
/// Events of one meter and instant that are looked at.
const MAX_EVENTS: u32 = 16;
const HOUR_US: i64 = 3_600_000_000;

/// A name with what is known of its object.
struct Listed {
    key: String,
    name: Name,
    size: u64,
    /// When it was received, as far as the name or the object's date says.
    at: Timestamp,
}

/// Takes the messages over.
pub(super) fn run(
    options: &Options,
    bucket: &Bucket,
    mut adopter: Option<Adopter>,
    meters: &mut Meters,
    ledger: &mut Ledger<'_>,
) -> Result<(), Error> {
    let mut names = list(options, bucket, ledger)?.sorted()?;
    let (mut chunk, mut bytes) = (Vec::new(), 0);
    while let Some((record, _)) = names.next()? {
        let Some(listed) = unpack(record) else { continue };
        bytes += listed.size;
        chunk.push(listed);
        if chunk.len() >= CHUNK || bytes >= CHUNK_BYTES {
            take(options, bucket, std::mem::take(&mut chunk), &mut adopter, meters, ledger)?;
            bytes = 0;
        }
    }
    take(options, bucket, chunk, &mut adopter, meters, ledger)
}

/// All names, those refused that say no message.
fn list(options: &Options, bucket: &Bucket, ledger: &mut Ledger<'_>) -> Result<Sorter, Error> {
    let mut sorter = Sorter::new(&options.scratch);
    bucket.each_object(|meta| {
        let key = meta.location.as_ref();
        match name::parse(key) {
            Err((reason, detail)) => {
                ledger.read(Kind::Raw);
                ledger.refuse(Kind::Raw, reason, key, detail)
            }
            Ok(name) => {
                let at = name.at.map_or_else(|| meta.last_modified.timestamp_micros(), |at| at.0);
                let hour = at.max(0) / HOUR_US;
                let mut record = hour.to_be_bytes().to_vec();
                record.extend_from_slice(&at.max(0).to_be_bytes());
                record.extend_from_slice(&meta.size.to_be_bytes());
                record.extend_from_slice(key.as_bytes());
                sorter.push(&record)
            }
        }
    })?;
    Ok(sorter)
}

fn unpack(record: &[u8]) -> Option<Listed> {
    let (_, rest) = record.split_first_chunk::<8>()?;
    let (at, rest) = rest.split_first_chunk::<8>()?;
    let (size, key) = rest.split_first_chunk::<8>()?;
    let key = std::str::from_utf8(key).ok()?.to_owned();
    let name = name::parse(&key).ok()?;
    Some(Listed { key, name, size: u64::from_be_bytes(*size), at: Timestamp(i64::from_be_bytes(*at)) })
}

/// An object's body.
#[derive(Deserialize)]
struct Object<'a> {
    device_id: Option<String>,
    timestamp: Option<String>,
    category: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// Takes a chunk over.
fn take(
    options: &Options,
    bucket: &Bucket,
    chunk: Vec<Listed>,
    adopter: &mut Option<Adopter>,
    meters: &mut Meters,
    ledger: &mut Ledger<'_>,
) -> Result<(), Error> {
    let mut wanted = Vec::with_capacity(chunk.len());
    for listed in chunk {
        ledger.read(Kind::Raw);
        if options.before.is_some_and(|before| listed.name.at.is_some_and(|at| at >= before)) {
            ledger.tally(Kind::Raw).later += 1;
        } else if listed.size > MAX_BYTES {
            ledger.refuse(Kind::Raw, "too_large", &listed.key, format!("{} bytes", listed.size))?;
        } else if is_archived(adopter, &listed)? {
            ledger.tally(Kind::Raw).duplicate += 1;
        } else {
            wanted.push(listed);
        }
    }
    // A key is taken as it is listed; encoding it again would name another object.
    let path = |listed: &Listed| Path::parse(&listed.key).unwrap_or_else(|_| Path::from(listed.key.as_str()));
    let keys: Vec<Path> = wanted.iter().map(path).collect();
    let mut messages = Vec::with_capacity(wanted.len());
    for (listed, body) in wanted.iter().zip(bucket.get_all(&keys)) {
        match read(listed, &body?) {
            Ok(adopted) if options.before.is_some_and(|before| adopted.received_at >= before) => {
                ledger.tally(Kind::Raw).later += 1;
            }
            Ok(adopted) => messages.push((listed, adopted)),
            Err((reason, detail)) => ledger.refuse(Kind::Raw, reason, &listed.key, detail)?,
        }
    }
    store(options, messages, adopter, meters, ledger)
}

/// Whether a message of that name is there; only asked where the name says when it was received.
fn is_archived(adopter: &mut Option<Adopter>, listed: &Listed) -> Result<bool, Error> {
    let Name { device, kind, at } = &listed.name;
    match (adopter, at) {
        (Some(adopter), Some(at)) => Ok(adopter.has(device, kind.name(), *at)?),
        _ => Ok(false),
    }
}

/// The message in an object.
fn read(listed: &Listed, body: &Bytes) -> Result<Adopted, Wrong> {
    let object: Object<'_> = serde_json::from_slice(body).map_err(|error| ("malformed", error.to_string()))?;
    if let Some(other) = object.device_id.as_deref().filter(|id| *id != listed.name.device.as_str()) {
        return Err(("device_mismatch", format!("its body is about {other:?}")));
    }
    if let Some(other) = object.category.as_deref().filter(|c| name::kind(c) != Some(listed.name.kind)) {
        return Err(("category_mismatch", format!("its body is of category {other:?}")));
    }
    let data = object.data.ok_or(("no_data", "it has no member data".to_owned()))?;
    let said = object.timestamp.as_deref().and_then(row::time);
    // What was no JSON is kept there as a text.
    let payload = match serde_json::from_str::<String>(data.get()) {
        Ok(text) => text.into_bytes(),
        Err(_) => data.get().as_bytes().to_vec(),
    };
    let received_at = listed.name.at.or(said).unwrap_or(listed.at);
    Ok(Adopted { device: listed.name.device.clone(), kind: listed.name.kind, received_at, payload })
}

/// Stores and archives what is not there.
fn store(
    options: &Options,
    messages: Vec<(&Listed, Adopted)>,
    adopter: &mut Option<Adopter>,
    meters: &mut Meters,
    ledger: &mut Ledger<'_>,
) -> Result<(), Error> {
    let judge = |m: &Adopted| payload::decode(&m.device, m.kind, "", &m.payload, m.received_at, options.window);
    let judged: Vec<_> = messages.iter().map(|(_, adopted)| judge(adopted)).collect();
    let there = already_there(meters, judged.iter().filter_map(|judged| judged.as_ref().ok()))?;
    let (mut rows, mut adopted, mut seen) = (Rows::default(), Vec::new(), HashSet::new());
    let before = ledger.tally(Kind::Raw).archive_only;
    for ((listed, message), judged) in messages.into_iter().zip(judged) {
        let category = judged.as_ref().map_or("invalid", |message| message.body.kind());
        let is_archived = match adopter {
            Some(adopter) => adopter.has(&message.device, category, message.received_at)?,
            None => false,
        };
        let is_expired = options.raw_oldest.is_some_and(|oldest| message.received_at < oldest);
        let key = judged.as_ref().ok().map(|m| (m.device.clone(), m.ts, m.seq));
        let received = key.as_ref().and_then(|key| there.get(key).copied());
        let is_repeated = key.is_some_and(|key| !seen.insert(key));
        // One that is stored with its own time is from a run that was killed before it archived it, or not to be archived.
        if is_archived || is_repeated || received.is_some_and(|at| at != message.received_at || is_expired) {
            ledger.tally(Kind::Raw).duplicate += 1;
            continue;
        }
        match judged {
            Ok(judged) if is_expired && judged.ts < meters.oldest => {
                let detail = format!("received at {}: raise retention.raw_days", message.received_at);
                ledger.refuse(Kind::Raw, "older_than_raw_retention", &listed.key, detail)?;
            }
            Ok(judged) => {
                let tally = ledger.tally(Kind::Raw);
                tally.stored += 1;
                tally.archive_only += u64::from(judged.ts < meters.oldest);
                rows.push(judged, message.received_at);
            }
            // As in a server: kept in the archive with its reason, and told here.
            Err(refusal) => {
                let detail = match is_expired {
                    true => "older than retention.raw_days",
                    false => "kept in the archive as invalid",
                };
                ledger.refuse(Kind::Raw, refusal.name(), &listed.key, detail)?;
            }
        }
        if !is_expired {
            adopted.push(message);
        }
    }
    let measured = rows.measured_before(meters.oldest);
    meters.store(rows, ledger)?;
    // Before they are there: a run that is killed behind it does not meet them again.
    if let Some(store) = meters.store.as_ref().filter(|_| ledger.tally(Kind::Raw).archive_only > before) {
        store.note_archive_only(meters.oldest, &measured)?;
    }
    if let Some(adopter) = adopter {
        adopter.add(&adopted)?;
    }
    Ok(())
}

type Identity = (DeviceId, Timestamp, Sequence);

/// When those of these messages that are stored were received.
fn already_there<'a>(
    meters: &Meters,
    messages: impl Iterator<Item = &'a Message>,
) -> Result<HashMap<Identity, Timestamp>, Error> {
    let Some(store) = &meters.store else { return Ok(HashMap::new()) };
    let messages: Vec<&Message> = messages.filter(|message| message.ts >= meters.oldest).collect();
    let asked: Vec<Identity> = messages.iter().map(|m| (m.device.clone(), m.ts, m.seq)).collect();
    let received = store.received_at(&asked)?;
    let mut there: HashMap<Identity, Timestamp> = HashMap::new();
    for ((identity, message), received) in asked.into_iter().zip(&messages).zip(received) {
        let found = match (received, message.seq, &message.body) {
            (None, Sequence::Digest(_), Body::Telemetry(values)) => same_values(&**store, &identity, values)?,
            (None, Sequence::Digest(_), body) => same_event(&**store, &identity, body)?,
            (received, ..) => received,
        };
        there.extend(found.map(|at| (identity, at)));
    }
    Ok(there)
}

/// A message without a count is known by its bytes, and the old installation has written them anew: it is the same one
/// also when a row of its instant has the same values.
fn same_values(store: &dyn Store, (device, ts, _): &Identity, values: &Telemetry) -> Result<Option<Timestamp>, Error> {
    let mut found = None;
    store.scan_telemetry(device, *ts, ts.plus_us(1), &mut |row| {
        let is_same = row.seq.counted().is_none() && same(&row.values, values);
        found = found.or(is_same.then_some(row.received_at));
        std::ops::ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// The same for what has no values: an event of its instant and kind that says the same.
fn same_event(store: &dyn Store, (device, ts, _): &Identity, body: &Body) -> Result<Option<Timestamp>, Error> {
    let said = members(payload::body_json(body));
    // Backwards from the end of the instant, of whatever kind: so few are read.
    let events = store.events(device, None, Page::behind(Some(Place(ts.0, i64::MAX)), MAX_EVENTS))?.items;
    Ok(events.into_iter().take_while(|event| event.ts == *ts).find_map(|event| {
        let is_same = event.seq.counted().is_none() && event.kind == body.kind() && members(event.body) == said;
        is_same.then_some(event.received_at)
    }))
}

/// What an event says; a member without a value says nothing.
fn members(body: Value) -> Map<String, Value> {
    match body {
        Value::Object(members) => members.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        _ => Map::new(),
    }
}

/// Whether two messages say the same, in whatever order.
fn same(a: &Telemetry, b: &Telemetry) -> bool {
    let values = |telemetry: &Telemetry| {
        let mut all: Vec<(String, Vec<u64>)> = (telemetry.series.iter())
            .map(|series| (series.metric.name().to_owned(), series.values.iter().map(|v| v.to_bits()).collect()))
            .collect();
        all.sort_unstable();
        all
    };
    values(a) == values(b)
}

//! Messages that another installation received, put into the archive under the time at which it did.
//!
//! They are objects of a node of their own, [`NODE`], which no server has. Their offsets are the hour and a count within
//! it: gapless in an object, never used twice, ascending with the hours. Whether a message is there is asked of the
//! objects themselves, by device, category and time of receipt: there is no list beside them that could disagree.
//!
//! Invariant: adopting the same messages again writes nothing. One process adopts at a time: two would meet at the name of
//! an object, where the second is refused.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::Error;
use super::batch::Pending;
use super::bucket::Bucket;
use super::classify::classify;
use super::encode::Encoder;
use super::key::{Hour, ObjectName};
use super::object::{Footers, Object, footers};
use crate::domain::{DeviceId, Timestamp};
use crate::journal::{Flags, Offset, Record};
use crate::payload::{self, Kind, Window};

/// The node of adopted messages.
pub(crate) const NODE: &str = "696d706f-7274-8000-8000-000000000000";
/// Hours whose content is remembered.
const HOURS: usize = 48;
/// Numbers an hour has.
pub(super) const HOUR_OFFSETS: u64 = 1 << 32;

/// A message of another installation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Adopted {
    /// Who said it.
    pub device: DeviceId,
    /// On which topic.
    pub kind: Kind,
    /// When it was received there.
    pub received_at: Timestamp,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// Puts messages into the archive. Its calls block.
#[derive(Debug)]
pub struct Adopter {
    bucket: Bucket,
    footers: Footers,
    window: Window,
    hours: BTreeMap<Hour, Shelf>,
}

/// What is known of an hour.
#[derive(Debug, Default)]
struct Shelf {
    objects: Vec<(ObjectName, u64)>,
    /// Number of the next message.
    next: u64,
    /// What each device that was asked for has: time of receipt and category.
    devices: HashMap<DeviceId, HashSet<(Timestamp, Arc<str>)>>,
}

impl Adopter {
    /// Messages outside `window` (as seen from their receipt) become `invalid`, as they do in a server.
    pub fn new(bucket: Bucket, window: Window) -> Self {
        Self { bucket, footers: footers(), window, hours: BTreeMap::new() }
    }

    /// Whether a message of that device, category and time of receipt is there.
    pub fn has(&mut self, device: &DeviceId, category: &str, received_at: Timestamp) -> Result<bool, Error> {
        let hour = Hour::of(received_at);
        self.look(hour)?;
        let Some(shelf) = self.hours.get_mut(&hour) else { return Ok(false) };
        if !shelf.devices.contains_key(device) {
            let mut there = HashSet::new();
            for (name, size) in &shelf.objects {
                let object = Object::open(&self.bucket, &self.footers, &name.key(hour), *size)?;
                let rows = object.map(|object| object.rows_of(device.as_str())).transpose()?.flatten();
                let rows = rows.unwrap_or_default().into_iter();
                there.extend(rows.map(|row| (row.entry.received_at, Arc::from(row.entry.category))));
            }
            shelf.devices.insert(device.clone(), there);
        }
        Ok(shelf.devices[device].contains(&(received_at, Arc::from(category))))
    }

    /// Writes messages that are not there (see [`has`](Self::has)), an object an hour; on disk when it returns.
    pub fn add(&mut self, messages: &[Adopted]) -> Result<(), Error> {
        let mut hours: BTreeMap<Hour, Vec<&Adopted>> = BTreeMap::new();
        for message in messages {
            hours.entry(Hour::of(message.received_at)).or_default().push(message);
        }
        for (hour, mut messages) in hours {
            messages.sort_by_key(|message| message.received_at);
            self.look(hour)?;
            self.write(hour, &messages)?;
        }
        Ok(())
    }

    fn write(&mut self, hour: Hour, messages: &[&Adopted]) -> Result<(), Error> {
        let Some(shelf) = self.hours.get_mut(&hour) else { return Ok(()) };
        let mut pending = Pending::default();
        let mut categories = Vec::with_capacity(messages.len());
        for (message, offset) in messages.iter().zip(shelf.next..) {
            let topic = payload::topic(&message.device, message.kind);
            let record = Record {
                offset: Offset(offset),
                received_at: message.received_at,
                topic: &topic,
                identity: message.device.as_str(),
                content_type: "",
                flags: Flags::default(),
                payload: &message.payload,
            };
            pending.push(&record);
        }
        let batch = pending.take(
            |_| None,
            |record| {
                let class = classify(record, self.window);
                categories.push(class.category);
                class
            },
        );
        let Some(batch) = batch else { return Ok(()) };
        for part in batch.parts(NODE) {
            let key = part.name.key(hour);
            let (bytes, _) = Encoder::default()
                .encode(&batch, &part, key.as_ref())
                .map_err(|source| Error::Encode { key: key.to_string(), source })?;
            let size = bytes.len() as u64;
            if !self.bucket.put_new(&key, bytes)? {
                return Err(Error::Conflict { key: key.to_string() });
            }
            shelf.objects.push((part.name, size));
        }
        shelf.next += messages.len() as u64;
        for (message, category) in messages.iter().zip(categories) {
            if let Some(there) = shelf.devices.get_mut(&message.device) {
                there.insert((message.received_at, Arc::from(category)));
            }
        }
        Ok(())
    }

    /// Lists an hour, unless it is known.
    fn look(&mut self, hour: Hour) -> Result<(), Error> {
        if self.hours.contains_key(&hour) {
            return Ok(());
        }
        if self.hours.len() >= HOURS {
            self.hours.pop_first();
        }
        let listed = self.bucket.objects(&hour.folder())?;
        let named = listed.into_iter().filter_map(|meta| Some((ObjectName::parse(&meta.location)?, meta.size)));
        let objects: Vec<_> = named.filter(|(name, _)| name.node == NODE).collect();
        let first = hour.index() * HOUR_OFFSETS;
        let next = objects.iter().map(|(name, _)| name.last + 1).max().unwrap_or(first);
        self.hours.insert(hour, Shelf { objects, next, devices: HashMap::new() });
        Ok(())
    }
}

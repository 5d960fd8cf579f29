//! The meters that messages and points belong to: whether they are registered, and what the data make known of them.
//!
//! A meter nobody registered is registered inactive, with `metadata.quarantined`, as a server does with one it hears of:
//! its data are kept while somebody decides. What is taken over neither takes a meter online nor moves its position in the
//! count of its messages: the ledger of gaps is about what this server was there for.

use std::collections::{HashMap, HashSet};

use serde_json::json;

use super::Error;
use super::report::Ledger;
use crate::domain::metric::MAX_METRICS_PER_DEVICE;
use crate::domain::{Body, DEFAULT_DEVICE_TYPE, DeviceId, DeviceState, Message, Timestamp};
use crate::store::{Batch, EventRow, NewDevice, SharedStore, TelemetryRow};

/// See the module.
pub(super) struct Meters {
    /// `None`: a dry run.
    pub(super) store: Option<SharedStore>,
    /// Rows that are older are not stored; what they make known of their meter is.
    pub(super) oldest: Timestamp,
    /// Meters that are registered, as far as anybody asked.
    registered: HashSet<DeviceId>,
}

/// Rows to store, in one transaction.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) telemetry: Vec<TelemetryRow>,
    pub(super) events: Vec<EventRow>,
    /// Firmware said by the newest hellos, with their time of receipt.
    pub(super) firmware: HashMap<DeviceId, (Timestamp, String)>,
}

impl Rows {
    /// A message, as the collector would store it.
    pub(super) fn push(&mut self, message: Message, received_at: Timestamp) {
        let Message { device, ts, seq, body, .. } = message;
        let kind = body.kind();
        match body {
            Body::Telemetry(values) => self.telemetry.push(TelemetryRow { device, ts, seq, received_at, values }),
            body => {
                if let Body::Hello(hello) = &body
                    && self.firmware.get(&device).is_none_or(|(at, _)| *at <= received_at)
                {
                    self.firmware.insert(device.clone(), (received_at, hello.fw_version.clone()));
                }
                let body = crate::payload::body_json(&body);
                self.events.push(EventRow { device, ts, seq, received_at, kind: kind.to_owned(), body });
            }
        }
    }

    /// When the newest measurement was that each device's messages from before `oldest` hold.
    pub(super) fn measured_before(&self, oldest: Timestamp) -> Vec<(DeviceId, Timestamp)> {
        let mut newest: HashMap<&DeviceId, Timestamp> = HashMap::new();
        for row in self.telemetry.iter().filter(|row| row.ts < oldest) {
            let last = row.values.offsets_us.iter().max().map_or(row.ts, |offset_us| row.ts.plus_us(*offset_us));
            newest.entry(&row.device).and_modify(|at| *at = last.max(*at)).or_insert(last);
        }
        newest.into_iter().map(|(device, at)| (device.clone(), at)).collect()
    }

    fn devices(&self) -> HashSet<&DeviceId> {
        let measured = self.telemetry.iter().map(|row| &row.device);
        measured.chain(self.events.iter().map(|row| &row.device)).collect()
    }

    fn is_empty(&self) -> bool {
        self.telemetry.is_empty() && self.events.is_empty()
    }
}

impl Meters {
    pub(super) fn new(store: Option<SharedStore>, oldest: Timestamp) -> Self {
        Self { store, oldest, registered: HashSet::new() }
    }

    /// These are registered.
    pub(super) fn know(&mut self, devices: impl IntoIterator<Item = DeviceId>) {
        self.registered.extend(devices);
    }

    /// Stores rows, of older ones only what they make known of their meters; in a dry run nothing. How many were not there.
    pub(super) fn store(&mut self, rows: Rows, ledger: &mut Ledger<'_>) -> Result<usize, Error> {
        if rows.is_empty() {
            return Ok(0);
        }
        let registrations = self.registrations(&rows, ledger)?;
        let Some(store) = &self.store else { return Ok(rows.telemetry.len() + rows.events.len()) };
        let devices: Vec<DeviceId> = rows.devices().into_iter().cloned().collect();
        let mut states: HashMap<DeviceId, DeviceState> = store.device_states(&devices)?.into_iter().collect();
        let Rows { mut telemetry, mut events, firmware } = rows;
        // Before the rows, which let their meters be seen later than their hellos.
        for (device, (said_at, version)) in firmware {
            let state = states.entry(device).or_default();
            if state.fw_version.is_none() || state.last_seen.is_none_or(|seen| seen <= said_at) {
                state.fw_version = Some(version);
            }
        }
        for row in &mut telemetry {
            let state = states.entry(row.device.clone()).or_default();
            let dropped = row.values.dropped;
            state.absorb(&mut row.values, row.ts);
            if row.values.dropped > dropped {
                let most = MAX_METRICS_PER_DEVICE;
                ledger.note(format!("a meter has {most} types at most: values of others are in the archive only"));
            }
            state.last_seen = state.last_seen.max(Some(row.received_at));
        }
        for row in &events {
            let state = states.entry(row.device.clone()).or_default();
            state.last_seen = state.last_seen.max(Some(row.received_at));
        }
        telemetry.retain(|row| row.ts >= self.oldest && !row.values.is_empty());
        events.retain(|row| row.ts >= self.oldest);
        let states = states.into_iter().collect();
        let done = store.commit(&Batch { registrations, telemetry, events, states, ..Batch::default() })?;
        Ok(done.telemetry + done.events)
    }

    /// Those of the rows' meters that nobody has registered.
    fn registrations(&mut self, rows: &Rows, ledger: &mut Ledger<'_>) -> Result<Vec<NewDevice>, Error> {
        let mut new = Vec::new();
        let unknown: Vec<DeviceId> =
            rows.devices().into_iter().filter(|device| !self.registered.contains(*device)).cloned().collect();
        for device in unknown {
            let is_there = match &self.store {
                Some(store) => store.device(&device)?.is_some(),
                None => false,
            };
            if !is_there {
                ledger.quarantined.push(device.to_string());
                new.push(quarantined(&device));
            }
            self.registered.insert(device);
        }
        Ok(new)
    }
}

fn quarantined(device: &DeviceId) -> NewDevice {
    let metadata = json!({"quarantined": true});
    NewDevice {
        device_id: device.clone(),
        device_name: device.to_string(),
        device_type: DEFAULT_DEVICE_TYPE.into(),
        location: None,
        is_active: false,
        metadata: metadata.as_object().cloned().unwrap_or_default(),
        token_sha256: None,
    }
}

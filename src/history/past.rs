//! Archived messages as rows: decoded as the collector did, in order, each once.
//!
//! Invariant: what comes out is what the database had, whatever window its messages were judged by when they came. So types beyond the most a device may have are taken out, and of
//! messages that came twice the one that came first counts.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use super::Error;
use crate::archive::{Past, PastMessage, Reader};
use crate::domain::metric::MAX_METRICS_PER_DEVICE;
use crate::domain::{Body, DeviceId, DeviceState, Timestamp};
use crate::observe::metrics;
use crate::payload::{self, Kind, Window};
use crate::store::{Store, TelemetryRow};

/// Any time: the window may have been wider when the message came than it is now.
const ANY: Window = Window { past: Duration::MAX, future: Duration::MAX };

/// Counts how reading from the archive went.
fn count(result: &'static str) {
    metrics::HISTORY_PAST.increment(&[("result", result)], 1);
}

/// The rows of a device, oldest first.
pub(super) struct PastRows {
    past: Past,
    device: DeviceId,
    state: DeviceState,
    /// Received up to then: removed by somebody.
    purged_at: Option<Timestamp>,
    ready: VecDeque<TelemetryRow>,
}

impl PastRows {
    /// Rows with a message time in `range`.
    pub(super) fn open(
        archive: &Reader,
        store: &dyn Store,
        id: &DeviceId,
        range: Range<Timestamp>,
        purged_at: Option<Timestamp>,
    ) -> Result<Self, Error> {
        let state = store.device_states(std::slice::from_ref(id))?.pop().map(|(_, state)| state).unwrap_or_default();
        let past = archive.past(id, range.start, range.end).inspect_err(|_| count("failed"))?;
        count("read");
        Ok(Self { past, device: id.clone(), state, purged_at, ready: VecDeque::new() })
    }

    /// The same with nothing known of the device.
    pub(super) fn of_archive(archive: &Reader, id: &DeviceId, range: Range<Timestamp>) -> Result<Self, Error> {
        let past = archive.past(id, range.start, range.end)?;
        Ok(Self { past, device: id.clone(), state: DeviceState::default(), purged_at: None, ready: VecDeque::new() })
    }

    /// The next row without taking it.
    pub(super) fn peek(&mut self) -> Result<Option<&TelemetryRow>, Error> {
        while self.ready.is_empty() {
            let Some(messages) = self.past.next_piece().inspect_err(|_| count("failed"))? else { return Ok(None) };
            let mut rows: Vec<TelemetryRow> = messages.iter().filter_map(|message| self.row(message)).collect();
            rows.sort_unstable_by_key(|row| (row.ts, row.seq.to_i64(), row.received_at));
            rows.dedup_by_key(|row| (row.ts, row.seq.to_i64()));
            self.ready = rows.into();
        }
        Ok(self.ready.front())
    }

    /// Takes the row that [`peek`](Self::peek) has shown.
    pub(super) fn take(&mut self) -> Option<TelemetryRow> {
        self.ready.pop_front()
    }

    fn row(&self, message: &PastMessage) -> Option<TelemetryRow> {
        if self.purged_at.is_some_and(|at| message.received_at <= at) {
            return None;
        }
        let PastMessage { content_type, payload, received_at, .. } = message;
        let decoded = payload::decode(&self.device, Kind::Telemetry, content_type, payload, *received_at, ANY).ok();
        let decoded = decoded.filter(|decoded| decoded.ts == message.ts)?;
        let Body::Telemetry(mut values) = decoded.body else { return None };
        if self.state.latest.len() >= MAX_METRICS_PER_DEVICE {
            values.retain(|metric| self.state.latest.contains_key(metric));
        }
        let (ts, seq) = (decoded.ts, decoded.seq);
        Some(TelemetryRow { device: self.device.clone(), ts, seq, received_at: *received_at, values })
    }
}

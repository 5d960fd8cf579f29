//! What a test puts into the store in memory.

use super::*;
use crate::live::{Event, Hub};

/// Whose streams end at once.
pub fn closed_hub() -> Hub {
    let hub = Hub::default();
    hub.close();
    hub
}

impl Bench {
    /// Stores a datagram of (offset in ms, type, value) and widens the device's span to hold it.
    pub fn add_datagram(&self, id: &str, ts: Timestamp, seq: u32, samples: &[(i64, &str, f64)]) {
        let mut values = Telemetry::default();
        for (ms, name, value) in samples {
            values.push(ms * 1000, Metric::parse(name).unwrap(), None, *value);
        }
        let device = DeviceId::parse(id).unwrap();
        let span = samples.iter().map(|(ms, ..)| ms.abs() * 1000).max().unwrap_or(0);
        let mut content = self.store.lock();
        let seq = Sequence::Counted(seq);
        content.telemetry.push(TelemetryRow { device: device.clone(), ts, seq, received_at: ts, values });
        match content.states.iter_mut().find(|(d, _)| *d == device) {
            Some((_, state)) => state.span_us = state.span_us.max(span),
            None => content.states.push((device, DeviceState { span_us: span, ..DeviceState::default() })),
        }
    }

    pub fn with_state(&self, id: &str, state: DeviceState) {
        self.store.lock().states.push((DeviceId::parse(id).unwrap(), state));
    }

    /// As the collector stores it of a device that is there.
    pub fn set_connection(&self, id: &str, connection: Connection) {
        let mut content = self.store.lock();
        let found = content.devices.iter_mut().find(|d| d.device_id.as_str() == id);
        found.expect("is registered").connection = connection;
    }

    pub fn add_gap(&self, entry: GapEntry) {
        self.store.lock().gaps.push(entry);
    }
}

/// An answer, read whole.
pub struct Answer {
    pub status: u16,
    pub headers: actix_web::http::header::HeaderMap,
    pub bytes: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&self.bytes)))
    }
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
}

/// Until it is so; what never comes fails its test by name.
pub async fn soon(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what} does not come"));
}

impl FakeStore {
    /// Until somebody creates devices, or is about to, from this call on (not from the first look at what it returns: who is
    /// waited for may have been looked at before).
    pub fn next_creation(&self) -> impl Future<Output = ()> + '_ {
        let before = self.2.load(Ordering::SeqCst);
        soon("a creation", move || self.2.load(Ordering::SeqCst) != before)
    }

    /// Holds up whoever asks until what is returned is dropped.
    pub fn hold(&self) -> impl Sized + '_ {
        self.lock()
    }
}

impl Bench {
    pub fn bring_database_back(&self) {
        let mut content = self.store.lock();
        (content.is_away, content.is_going) = (false, false);
    }

    /// The database goes away as soon as devices have been created.
    pub fn take_database_away_after_a_creation(&self) {
        self.store.lock().is_going = true;
    }
}

/// Something happens to a device.
pub fn alert(device: &str) -> Event {
    Event::Alert(Alert {
        id: 1,
        device_id: DeviceId::parse(device).unwrap(),
        alert_type: "x".into(),
        severity: "info".into(),
        message: String::new(),
        created_at: NOW,
        cleared_at: None,
        acknowledged_at: None,
        acknowledged_by: None,
        rule: None,
        cleared_reason: None,
    })
}

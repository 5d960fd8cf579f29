//! Commands out to meters: from the store's row to the meter's MQTT session.
//!
//! Promise: a command in the store that has not expired is handed to its meter as soon as that is connected and
//! subscribed, also after a restart of the server, of many that wait some at a time, oldest first; what became of it is
//! written back. A command may be delivered again (the meter ignores a `cmd_id` it has done), it is never lost. Of several
//! nodes one that reaches the meter claims the command; when that one dies or loses the meter, another one that reaches it
//! delivers it again. A device that has a command key hears signed commands only.
//! Must not know: HTTP, packets.
//!
//! Start from [`Dispatcher`]; [`Handle`] is what the REST API holds. [`rollouts`] gives the commands of staged updates.

pub mod rollouts;
mod sessions;
mod task;

pub use task::{Dispatcher, Options, TASK};

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::mpsc;

use crate::domain::DeviceId;

/// Devices connected and subscribed to their commands; written by the dispatcher only.
#[derive(Clone, Debug, Default)]
pub struct Connected(Arc<RwLock<HashSet<DeviceId>>>);

impl Connected {
    pub(crate) fn insert(&self, device: DeviceId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(device);
    }

    fn remove(&self, device: &DeviceId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(device);
    }

    fn all(&self) -> Vec<DeviceId> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn contains(&self, device: &DeviceId) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(device)
    }
}

/// What the API may ask of the delivery side. Clones share it.
#[derive(Clone, Debug)]
pub struct Handle {
    tx: mpsc::Sender<Request>,
    connected: Connected,
}

/// What the API asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// There is a new command for this device in the store.
    Deliver(DeviceId),
    /// The device was deleted, disabled, or its credential changed: end its MQTT session now.
    Disconnect(DeviceId),
    /// The service account was changed or removed: end its MQTT sessions now.
    DisconnectService(String),
}

/// The dispatcher's end of a [`Handle`].
#[derive(Debug)]
pub struct Inbox {
    pub(crate) rx: mpsc::Receiver<Request>,
    pub(crate) connected: Connected,
}

impl Handle {
    /// A handle and the dispatcher's end of it.
    pub fn channel() -> (Self, Inbox) {
        let (tx, rx) = mpsc::channel(1024);
        let connected = Connected::default();
        (Self { tx, connected: connected.clone() }, Inbox { rx, connected })
    }

    /// Asks; does nothing when the process is stopping.
    pub async fn ask(&self, request: Request) {
        let _ = self.tx.send(request).await;
    }

    /// Whether the device is connected and subscribed to its commands now.
    pub fn is_connected(&self, device: &DeviceId) -> bool {
        self.connected.contains(device)
    }
}

//! Commands out to meters. (to be written; the handle is fixed)

use std::sync::Arc;

use crate::domain::DeviceId;

/// What the API may ask of the delivery side. Clones share it.
#[derive(Clone, Debug)]
pub struct Handle {
    tx: tokio::sync::mpsc::Sender<Request>,
    connected: Arc<std::sync::RwLock<std::collections::HashSet<DeviceId>>>,
}

/// What the API asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// There is a new command for this device in the store.
    Deliver(DeviceId),
    /// The device was deleted, disabled, or its credential changed: end its MQTT session now.
    Disconnect(DeviceId),
}

impl Handle {
    /// A handle, the dispatcher's end of it, and the set of connected devices that the dispatcher keeps.
    #[allow(clippy::type_complexity)]
    pub fn channel()
    -> (Self, tokio::sync::mpsc::Receiver<Request>, Arc<std::sync::RwLock<std::collections::HashSet<DeviceId>>>) {
        let (tx, rx) = tokio::sync::mpsc::channel(1024);
        let connected = Arc::default();
        (Self { tx, connected: Arc::clone(&connected) }, rx, connected)
    }

    /// Asks; does nothing when the process is stopping.
    pub async fn ask(&self, request: Request) {
        let _ = self.tx.send(request).await;
    }

    /// Whether the device is connected and subscribed to its commands now.
    pub fn is_connected(&self, device: &DeviceId) -> bool {
        self.connected.read().unwrap_or_else(std::sync::PoisonError::into_inner).contains(device)
    }
}

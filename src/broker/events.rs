//! What the command side hears of connections.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;

use super::stats::Counters;
use crate::domain::{CommandId, DeviceId};

/// Events waiting for the listener.
pub(super) const CAPACITY: usize = 4096;

/// How long a connection waits for a full channel.
const PATIENCE: Duration = Duration::from_secs(1);

/// Something happened to a device's command topic or to a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A client subscribed to `iot/{device}/command`, or came back to a session that is: commands can be sent.
    Ready {
        /// From the topic.
        device: DeviceId,
    },
    /// A client has the command: PUBCOMP, or PUBACK where QoS 1 was granted, or written where QoS 0 was.
    Delivered {
        /// The command.
        cmd_id: CommandId,
    },
    /// The last client that could take this device's commands is gone.
    Gone {
        /// From the topic.
        device: DeviceId,
    },
}

/// Hands events on; one that finds no room for a second is lost and counted.
pub(super) async fn send_all(tx: &mpsc::Sender<Event>, events: &mut Vec<Event>, counters: &Counters) {
    for event in events.drain(..) {
        if let Err(mpsc::error::TrySendError::Full(event)) = tx.try_send(event)
            && tokio::time::timeout(PATIENCE, tx.send(event)).await.is_err()
        {
            counters.events_lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

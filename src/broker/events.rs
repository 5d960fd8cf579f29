//! What the command side hears of connections.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use super::stats::Counters;
use crate::domain::{CommandId, DeviceId};

/// Events waiting for the listener.
const CAPACITY: usize = 4096;

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

/// The connections' end of the channel.
pub(super) struct Sender {
    tx: mpsc::Sender<Event>,
    /// Whether somebody has taken the other end: without a listener nobody waits for it.
    pub(super) is_taken: AtomicBool,
}

impl Sender {
    /// Both ends.
    pub(super) fn channel() -> (Self, mpsc::Receiver<Event>) {
        let (tx, rx) = mpsc::channel(CAPACITY);
        (Self { tx, is_taken: AtomicBool::new(false) }, rx)
    }

    /// Hands events on; one that finds no room for a second is lost and counted.
    pub(super) async fn send_all(&self, events: &mut Vec<Event>, counters: &Counters) {
        for event in events.drain(..) {
            let Err(mpsc::error::TrySendError::Full(event)) = self.tx.try_send(event) else { continue };
            let is_sent = self.is_taken.load(Ordering::Relaxed)
                && tokio::time::timeout(PATIENCE, self.tx.send(event)).await.is_ok();
            if !is_sent {
                counters.events_lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

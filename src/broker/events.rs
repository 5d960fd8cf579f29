//! What the command side hears of connections.
//!
//! Invariants: nothing is lost and nobody waits: what is not yet heard of a device is only its latest state. What is
//! kept is bounded by what is connected now, what was connected at the last hearing, and the commands in flight.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;

use crate::domain::{CommandId, DeviceId};

/// Something happened to a device's command topic or to a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A client subscribed to `iot/{device}/command`, or came back to a session that is, or the device has spoken through a
    /// source: commands can be sent.
    Ready {
        /// From the topic.
        device: DeviceId,
    },
    /// A client has the command: PUBCOMP, or PUBACK where QoS 1 was granted, or written where QoS 0 was.
    Delivered {
        /// The command.
        cmd_id: CommandId,
    },
    /// The last client, or source, that could take this device's commands is gone.
    Gone {
        /// From the topic.
        device: DeviceId,
    },
}

#[derive(Default)]
struct Unheard {
    /// Latest state of each device that has changed: `true` = ready.
    devices: HashMap<DeviceId, bool>,
    delivered: Vec<CommandId>,
    /// Devices that the listener believes to be ready.
    believed: HashSet<DeviceId>,
    has_ended: bool,
}

#[derive(Default)]
struct Shared {
    unheard: Mutex<Unheard>,
    news: Notify,
    is_taken: AtomicBool,
    elsewhere: OnceLock<Elsewhere>,
}

/// Whether a device can be reached by another way than by a connection of its own.
type Elsewhere = Box<dyn Fn(&DeviceId) -> bool + Send + Sync>;

impl Shared {
    fn unheard(&self) -> MutexGuard<'_, Unheard> {
        self.unheard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unheard {
    fn add(&mut self, event: Event) {
        match event {
            Event::Ready { device } => drop(self.devices.insert(device, true)),
            Event::Gone { device } if self.believed.contains(&device) => drop(self.devices.insert(device, false)),
            Event::Gone { device } => drop(self.devices.remove(&device)),
            Event::Delivered { cmd_id } => self.delivered.push(cmd_id),
        }
    }

    /// Receipts first: what is delivered need not be offered to a device that is ready again.
    fn take(&mut self) -> Vec<Event> {
        let mut events = Vec::with_capacity(self.delivered.len() + self.devices.len());
        events.extend(std::mem::take(&mut self.delivered).into_iter().map(|cmd_id| Event::Delivered { cmd_id }));
        for (device, is_ready) in std::mem::take(&mut self.devices) {
            if is_ready {
                self.believed.insert(device.clone());
                events.push(Event::Ready { device });
            } else {
                self.believed.remove(&device);
                events.push(Event::Gone { device });
            }
        }
        events
    }
}

/// The connections' end.
#[derive(Default)]
pub(super) struct Sender(Arc<Shared>);

impl Sender {
    /// Has this asked as well before a device counts as gone. The first one counts.
    pub(super) fn ask_also(&self, elsewhere: impl Fn(&DeviceId) -> bool + Send + Sync + 'static) {
        let _ = self.0.elsewhere.set(Box::new(elsewhere));
    }

    /// The listener's end; `Some` the first time only.
    pub(super) fn listen(&self) -> Option<Events> {
        (!self.0.is_taken.swap(true, Ordering::AcqRel)).then(|| Events(Arc::clone(&self.0)))
    }

    /// Tells, without waiting. A device counts as gone only where `is_gone` still says so: somebody else may have
    /// subscribed, and said so, in between.
    pub(super) fn tell(&self, events: &mut Vec<Event>, is_gone: impl Fn(&DeviceId) -> bool) {
        let is_gone =
            |device: &DeviceId| is_gone(device) && !self.0.elsewhere.get().is_some_and(|elsewhere| elsewhere(device));
        let mut unheard = self.0.unheard();
        for event in events.drain(..) {
            if !matches!(&event, Event::Gone { device } if !is_gone(device)) {
                unheard.add(event);
            }
        }
        drop(unheard);
        self.0.news.notify_one();
    }

    /// The broker has ended.
    pub(super) fn end(&self) {
        self.0.unheard().has_ended = true;
        self.0.news.notify_one();
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.end();
    }
}

/// The listener's end; see [`Broker::events`](super::Broker::events).
pub struct Events(Arc<Shared>);

impl Events {
    /// Waits for news and takes all there is: receipts, then the latest state of each device that has changed (a device
    /// that went and came back in between is [`Event::Ready`] again). `None` = the broker has ended. May be dropped
    /// half-way, nothing is lost.
    pub async fn next(&mut self) -> Option<Vec<Event>> {
        loop {
            {
                let mut unheard = self.0.unheard();
                let events = unheard.take();
                if !events.is_empty() {
                    return Some(events);
                }
                if unheard.has_ended {
                    return None;
                }
            }
            self.0.news.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(n: usize) -> DeviceId {
        DeviceId::parse(&format!("m{n}")).unwrap()
    }

    #[tokio::test]
    async fn however_late_the_listener_is_it_hears_every_receipt_and_the_latest_state_of_each_device() {
        let sender = Sender::default();
        let mut events = sender.listen().unwrap();
        assert!(sender.listen().is_none());
        let tell = |event| sender.tell(&mut vec![event], |_| true);
        let commands: Vec<_> = (0..10_000).map(|_| CommandId::random()).collect();
        for (n, cmd_id) in commands.iter().enumerate() {
            tell(Event::Ready { device: device(n) });
            tell(Event::Delivered { cmd_id: *cmd_id });
        }
        tell(Event::Gone { device: device(0) });
        let heard = events.next().await.unwrap();
        assert_eq!(heard.len(), 19_999);
        assert!(heard.iter().zip(&commands).all(|(e, c)| *e == Event::Delivered { cmd_id: *c }));
        tell(Event::Gone { device: device(0) }); // never heard of
        tell(Event::Gone { device: device(1) });
        tell(Event::Gone { device: device(2) });
        tell(Event::Ready { device: device(2) });
        let mut heard = events.next().await.unwrap();
        heard.sort_by_key(|e| matches!(e, Event::Ready { .. }));
        assert_eq!(heard, [Event::Gone { device: device(1) }, Event::Ready { device: device(2) }]);
        drop(sender);
        assert_eq!(events.next().await, None);
    }

    #[tokio::test]
    async fn a_device_that_somebody_else_serves_is_not_gone() {
        let sender = Sender::default();
        let mut events = sender.listen().unwrap();
        sender.tell(&mut vec![Event::Ready { device: device(1) }], |_| true);
        sender.tell(&mut vec![Event::Gone { device: device(1) }], |_| false);
        assert_eq!(events.next().await.unwrap(), [Event::Ready { device: device(1) }]);
    }
}

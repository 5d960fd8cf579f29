//! What of a session is kept over a restart of the server: taken out here as plain values, and put back.
//!
//! Messages are named by their position; the caller keeps them beside. What is not kept: QoS 0 messages, publishes of
//! the client that were not confirmed, topic aliases.

use std::time::{Duration, Instant};

use bytestring::ByteString;

use super::{Limits, Session, Start, Subscription};
use crate::mqtt::packet::{PacketId, QoS, Will};
use crate::mqtt::queue::{Delivery, Queue, Tag};

/// A session without its messages.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Saved {
    /// How long it is kept without a connection.
    pub expiry: Duration,
    /// Filters and options.
    pub subscriptions: Vec<(ByteString, Subscription)>,
    /// In flight to the client, in the order of sending.
    pub flights: Vec<SavedFlight>,
    /// QoS 2 ids of the client that are taken and not released.
    pub taken: Vec<PacketId>,
    /// A will that waits for its time.
    pub will: Option<Will>,
}

/// One message in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum SavedFlight {
    /// Sent, not acknowledged; the message is kept under this position.
    Sent { id: PacketId, position: u64 },
    /// The client has it; PUBCOMP has not come.
    Released { id: PacketId, tag: Option<Tag> },
}

impl Session {
    /// What is to be kept, with every message in flight and waiting (`queue`), as `(position, delivery)`.
    pub fn save<'a>(&'a self, queue: &'a Queue, mut each: impl FnMut(&'a Delivery)) -> Saved {
        let mut flights = Vec::new();
        for (flight, delivery) in self.outbound.flights() {
            flights.push(flight);
            delivery.into_iter().for_each(&mut each);
        }
        // Retained messages come back in the queue: more than that takes are not kept.
        let backlog = self.outbound.backlog().iter().filter(|d| d.qos > QoS::AtMostOnce).take(queue.room());
        let waiting = queue.iter().filter(|d| d.qos > QoS::AtMostOnce && d.tag.is_none());
        waiting.chain(backlog).for_each(each);
        Saved {
            expiry: self.start.expiry,
            subscriptions: self.subscriptions.iter().map(|(f, s)| (f.clone(), *s)).collect(),
            flights,
            taken: self.inbound.taken().collect(),
            will: self.will_due.and_then(|_| self.start.will.clone()),
        }
    }

    /// How many retained messages wait to be sent.
    pub fn backlog_len(&self) -> usize {
        self.outbound.backlog().len()
    }

    /// The session as it was, parked since `parked_at`. `message` gives the message kept under a position, once.
    pub fn restore(
        limits: Limits,
        saved: Saved,
        parked_at: Instant,
        mut message: impl FnMut(u64) -> Option<Delivery>,
    ) -> Self {
        let has_will = saved.will.is_some();
        let start = Start { expiry: saved.expiry.min(limits.max_expiry), will: saved.will, ..Start::default() };
        let mut this = Self::new(limits, start, parked_at);
        this.subscriptions = saved.subscriptions.into_iter().take(limits.max_subscriptions).collect();
        for flight in saved.flights {
            match flight {
                SavedFlight::Released { id, tag } => this.outbound.restore(id, tag, None),
                SavedFlight::Sent { id, position } => {
                    if let Some(delivery) = message(position) {
                        this.outbound.restore(id, delivery.tag, Some(delivery));
                    }
                }
            }
        }
        this.inbound.restore_taken(saved.taken.into_iter());
        let due = this.park(parked_at);
        this.will_due = due.filter(|_| has_will);
        this.is_dirty = false;
        this
    }
}

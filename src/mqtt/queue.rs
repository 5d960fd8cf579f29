//! Messages waiting for one subscriber: first in, first out, bounded by number and by bytes.
//!
//! Policy when full: the new message is refused and the caller counts it; the publisher never waits for a subscriber.
//! A tagged delivery (a command) is held at most once, from [`Queue::push`] until [`Queue::complete`].
//! Knows nothing of packet ids and acknowledgements: what has left the queue is the session's.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;

use super::packet::QoS;

/// A message in the server, shared by all its subscribers.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub struct Message {
    pub topic: ByteString,
    pub payload: Bytes,
}

impl Message {
    /// A message with memory of its own: slices of a receive buffer would keep that whole buffer alive.
    pub fn detached(topic: &str, payload: &[u8]) -> Arc<Self> {
        Arc::new(Self { topic: ByteString::from(topic), payload: Bytes::copy_from_slice(payload) })
    }

    /// What it counts for in a byte limit.
    pub fn size(&self) -> usize {
        self.topic.len() + self.payload.len() + 64
    }
}

/// The caller's name of a delivery whose completion it wants to know.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Tag(pub u128);

/// A message for one subscriber.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub struct Delivery {
    pub message: Arc<Message>,
    /// The lower of the publisher's and the subscription's.
    pub qos: QoS,
    /// Set when it is delivered because it was kept `[MQTT-3.3.1-8]`, clear for a live one `[MQTT-3.3.1-9]`.
    pub retain: bool,
    pub tag: Option<Tag>,
}

/// What came of a [`Queue::push`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pushed {
    /// It is in the queue.
    Queued,
    /// A delivery of this tag is in the queue or in flight already.
    Known,
    /// There is no room.
    Full,
}

/// See the module. Empty, it owns no heap memory.
#[derive(Debug)]
pub struct Queue {
    items: VecDeque<Delivery>,
    bytes: usize,
    tags: BTreeSet<Tag>,
    max_items: usize,
    max_bytes: usize,
}

impl Queue {
    /// An empty queue with its limits.
    pub const fn new(max_items: usize, max_bytes: usize) -> Self {
        Self { items: VecDeque::new(), bytes: 0, tags: BTreeSet::new(), max_items, max_bytes }
    }

    /// Puts a delivery at the end. One message fits an empty queue whatever its size.
    pub fn push(&mut self, delivery: Delivery) -> Pushed {
        if delivery.tag.is_some_and(|tag| self.tags.contains(&tag)) {
            return Pushed::Known;
        }
        let bytes = self.bytes + delivery.message.size();
        if self.items.len() >= self.max_items || (bytes > self.max_bytes && !self.items.is_empty()) {
            return Pushed::Full;
        }
        self.bytes = bytes;
        self.tags.extend(delivery.tag);
        self.items.push_back(delivery);
        Pushed::Queued
    }

    /// Takes the oldest. Its tag stays known.
    pub fn pop(&mut self) -> Option<Delivery> {
        let delivery = self.items.pop_front()?;
        self.bytes -= delivery.message.size();
        if self.items.is_empty() {
            self.items = VecDeque::new();
        }
        Some(delivery)
    }

    /// The delivery of this tag has been acknowledged.
    pub fn complete(&mut self, tag: Tag) {
        self.tags.remove(&tag);
    }

    /// The subscriber is gone for now. What waits at QoS 0 is let go, and so is what is tagged: its owner offers it anew.
    /// What is in flight stays known. Returns how many QoS 0 messages were let go.
    pub fn go_offline(&mut self) -> usize {
        let before = self.items.len();
        for delivery in &self.items {
            if let Some(tag) = delivery.tag {
                self.tags.remove(&tag);
            }
        }
        let tagged = self.items.iter().filter(|d| d.tag.is_some()).count();
        self.items.retain(|d| d.tag.is_none() && d.qos > QoS::AtMostOnce);
        self.items.shrink_to_fit();
        self.bytes = self.items.iter().map(|d| d.message.size()).sum();
        before - self.items.len() - tagged
    }

    /// Forgets everything, tags in flight too.
    pub fn clear(&mut self) {
        *self = Self::new(self.max_items, self.max_bytes);
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(payload: &str, qos: QoS, tag: Option<u128>) -> Delivery {
        Delivery { message: Message::detached("t", payload.as_bytes()), qos, retain: false, tag: tag.map(Tag) }
    }

    #[test]
    fn a_full_queue_refuses_and_keeps_what_it_has() {
        let mut queue = Queue::new(2, 1000);
        assert_eq!(queue.push(delivery("a", QoS::AtLeastOnce, None)), Pushed::Queued);
        assert_eq!(queue.push(delivery("b", QoS::AtLeastOnce, None)), Pushed::Queued);
        assert_eq!(queue.push(delivery("c", QoS::AtLeastOnce, None)), Pushed::Full);
        let mut narrow = Queue::new(100, 150);
        assert_eq!(narrow.push(delivery(&"x".repeat(500), QoS::AtLeastOnce, None)), Pushed::Queued);
        assert_eq!(narrow.push(delivery("y", QoS::AtLeastOnce, None)), Pushed::Full);
        narrow.pop().unwrap();
        assert_eq!(narrow.push(delivery("y", QoS::AtLeastOnce, None)), Pushed::Queued);
        assert_eq!(queue.pop().unwrap().message.payload, "a");
        assert_eq!(queue.pop().unwrap().message.payload, "b");
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn a_tag_is_held_once_from_push_to_completion() {
        let mut queue = Queue::new(9, 9000);
        assert_eq!(queue.push(delivery("c", QoS::ExactlyOnce, Some(7))), Pushed::Queued);
        assert_eq!(queue.push(delivery("c", QoS::ExactlyOnce, Some(7))), Pushed::Known);
        queue.pop().unwrap();
        assert_eq!(queue.push(delivery("c", QoS::ExactlyOnce, Some(7))), Pushed::Known, "in flight");
        queue.complete(Tag(7));
        assert_eq!(queue.push(delivery("c", QoS::ExactlyOnce, Some(7))), Pushed::Queued);
    }

    #[test]
    fn going_offline_lets_go_of_qos_0_and_of_tagged_ones_that_wait() {
        let mut queue = Queue::new(9, 9000);
        queue.push(delivery("in flight", QoS::ExactlyOnce, Some(1)));
        queue.pop().unwrap();
        queue.push(delivery("zero", QoS::AtMostOnce, None));
        queue.push(delivery("waits", QoS::ExactlyOnce, Some(2)));
        queue.push(delivery("one", QoS::AtLeastOnce, None));
        assert_eq!(queue.go_offline(), 1);
        assert_eq!(queue.push(delivery("in flight", QoS::ExactlyOnce, Some(1))), Pushed::Known);
        assert_eq!(queue.push(delivery("waits", QoS::ExactlyOnce, Some(2))), Pushed::Queued);
        assert_eq!(queue.pop().unwrap().message.payload, "one");
        assert_eq!(queue.len(), 1);
    }
}

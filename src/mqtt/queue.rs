//! Messages waiting for one subscriber: first in, first out, bounded by number and by bytes.
//!
//! Policy when full: the new message is refused and the caller counts it; the publisher never waits for a subscriber.
//! A tagged delivery (a command) is held at most once, from [`Queue::push`] until [`Queue::complete`].
//! Knows nothing of packet ids and acknowledgements: what has left the queue is the session's, and so is its room.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;

use super::packet::{Properties, Publish, QoS, SubscriptionId};

/// A message in the server, shared by all its subscribers.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub struct Message {
    pub topic: ByteString,
    pub payload: Bytes,
    /// Passed on as they came.
    pub properties: Option<Arc<Properties>>,
    /// From then on it is not worth delivering `[MQTT-3.3.2-5]`.
    pub expires_at: Option<Instant>,
}

impl Message {
    /// A message with memory of its own: slices of a receive buffer would keep that whole buffer alive.
    pub fn detached(topic: &str, payload: &[u8]) -> Arc<Self> {
        let (topic, payload) = (ByteString::from(topic), Bytes::copy_from_slice(payload));
        Arc::new(Self { topic, payload, properties: None, expires_at: None })
    }

    /// The message of a PUBLISH that came at `now`, with memory of its own.
    pub fn of(publish: &Publish, now: Instant) -> Arc<Self> {
        Arc::new(Self {
            topic: ByteString::from(&*publish.topic),
            payload: Bytes::copy_from_slice(&publish.payload),
            properties: publish.properties.as_ref().map(|p| Arc::new(p.detached())),
            expires_at: publish.expiry_s.and_then(|s| now.checked_add(Duration::from_secs(s.into()))),
        })
    }

    /// What it counts for in a byte limit.
    pub fn size(&self) -> usize {
        self.topic.len() + self.payload.len() + self.properties.as_ref().map_or(0, |p| p.size()) + 64
    }

    /// Whether it is no longer worth delivering.
    pub fn is_expired(&self, now: Instant) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// The caller's name of a delivery whose completion it wants to know.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Tag(pub u128);

/// The router's name of a shared subscription, `$share/…`; see [`Shares`](super::share::Shares).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ShareId(pub u32);

/// How a delivery came to its subscriber: by a shared subscription, and what the message was published with, for the
/// member that gets it instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Shared {
    pub id: ShareId,
    pub qos: QoS,
    pub retain: bool,
}

/// A message for one subscriber.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub struct Delivery {
    pub message: Arc<Message>,
    /// The lower of the publisher's and the subscription's.
    pub qos: QoS,
    /// Set when it is delivered because it was kept `[MQTT-3.3.1-8]`, or the subscription wants the flag as published
    /// `[MQTT-3.3.1-13]`; clear for another live one `[MQTT-3.3.1-12]`.
    pub retain: bool,
    /// Of the subscriptions it is for `[MQTT-3.3.4-3]`.
    pub ids: Vec<SubscriptionId>,
    pub tag: Option<Tag>,
    /// The shared subscription it was given out for: another member may have it instead.
    pub share: Option<Shared>,
    /// Its place among all deliveries, by which they are sent; given by [`Queue::push`], or taken from the [`Budget`] where
    /// it does not go through a queue. What is saved is named by it.
    pub position: u64,
    /// What it takes of what all may hold.
    pub room: Room,
}

impl Delivery {
    /// A plain delivery.
    pub const fn new(message: Arc<Message>, qos: QoS) -> Self {
        Self { message, qos, retain: false, ids: Vec::new(), tag: None, share: None, position: 0, room: Room(None) }
    }
}

/// What one message takes of a [`Budget`], from when it is queued until its subscriber has it or it is let go: given back
/// when this is dropped. A copy takes nothing.
#[derive(Default, Debug)]
pub struct Room(Option<(Arc<Budget>, usize)>);

impl Clone for Room {
    fn clone(&self) -> Self {
        Self(None)
    }
}

/// It does not tell one message from another.
impl PartialEq for Room {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some((budget, bytes)) = &self.0 {
            budget.items.fetch_sub(1, Ordering::Relaxed);
            budget.bytes.fetch_sub(*bytes, Ordering::Relaxed);
        }
    }
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

/// What all sessions together may hold, and the numbering of what goes through their queues.
#[derive(Debug)]
pub struct Budget {
    last_position: AtomicU64,
    items: AtomicUsize,
    bytes: AtomicUsize,
    max_items: usize,
    max_bytes: usize,
}

impl Budget {
    /// Nothing used yet.
    pub const fn new(max_items: usize, max_bytes: usize) -> Self {
        let (items, bytes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { last_position: AtomicU64::new(0), items, bytes, max_items, max_bytes }
    }

    /// A position nobody else has.
    pub fn take_position(&self) -> u64 {
        self.take_positions(1).start
    }

    /// So many of them.
    pub fn take_positions(&self, count: u64) -> Range<u64> {
        let first = self.last_position.fetch_add(count, Ordering::Relaxed) + 1;
        first..first + count
    }

    /// This position is taken.
    pub fn note_position(&self, position: u64) {
        self.last_position.fetch_max(position, Ordering::Relaxed);
    }

    /// Messages that wait or are in flight.
    pub fn items(&self) -> usize {
        self.items.load(Ordering::Relaxed)
    }

    /// Bytes of these.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Room for one message; `None` = there is none.
    pub fn room(self: &Arc<Self>, bytes: usize) -> Option<Room> {
        let (items, before, room) = self.claim(bytes);
        (items < self.max_items && before + bytes <= self.max_bytes).then_some(room)
    }

    /// The same for one that is there already.
    pub fn room_at_once(self: &Arc<Self>, bytes: usize) -> Room {
        self.claim(bytes).2
    }

    fn claim(self: &Arc<Self>, bytes: usize) -> (usize, usize, Room) {
        let items = self.items.fetch_add(1, Ordering::Relaxed);
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        (items, before, Room(Some((Arc::clone(self), bytes))))
    }
}

/// See the module. Empty, it owns no heap memory.
#[derive(Debug)]
pub struct Queue {
    items: VecDeque<Delivery>,
    bytes: usize,
    tags: BTreeSet<Tag>,
    max_items: usize,
    max_bytes: usize,
    budget: Arc<Budget>,
}

impl Queue {
    /// An empty queue with its limits, and its share of what all may hold.
    pub const fn new(max_items: usize, max_bytes: usize, budget: Arc<Budget>) -> Self {
        Self { items: VecDeque::new(), bytes: 0, tags: BTreeSet::new(), max_items, max_bytes, budget }
    }

    /// Puts a delivery at the end. One message fits an empty queue whatever its size, if all queues together have room; what has
    /// a tag, of which there are few, fits whatever others hold.
    pub fn push(&mut self, mut delivery: Delivery) -> Pushed {
        if delivery.tag.is_some_and(|tag| self.tags.contains(&tag)) {
            return Pushed::Known;
        }
        let size = delivery.message.size();
        let bytes = self.bytes + size;
        let is_full = self.items.len() >= self.max_items || (bytes > self.max_bytes && !self.items.is_empty());
        if is_full {
            return Pushed::Full;
        }
        let room = match delivery.tag {
            Some(_) => self.budget.room_at_once(size),
            None => {
                let Some(room) = self.budget.room(size) else { return Pushed::Full };
                room
            }
        };
        delivery.room = room;
        self.bytes = bytes;
        self.tags.extend(delivery.tag);
        delivery.position = self.budget.take_position();
        self.items.push_back(delivery);
        Pushed::Queued
    }

    /// Puts back what was saved, at its old position; the limits may have changed since. `false` = there is no room.
    pub fn restore(&mut self, mut delivery: Delivery) -> bool {
        if self.items.len() >= self.max_items {
            return false;
        }
        let size = delivery.message.size();
        let Some(room) = self.budget.room(size) else { return false };
        delivery.room = room;
        self.bytes += size;
        self.items.push_back(delivery);
        true
    }

    /// The position of the oldest.
    pub fn next_position(&self) -> Option<u64> {
        self.items.front().map(|d| d.position)
    }

    /// How many more it takes, if they are small.
    pub fn room(&self) -> usize {
        self.max_items.saturating_sub(self.items.len())
    }

    /// A delivery of this tag is in flight already.
    pub fn note_tag(&mut self, tag: Tag) {
        self.tags.insert(tag);
    }

    /// Takes the oldest, with its room. Its tag stays known.
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
        let gone = self.take_where(|d| d.tag.is_some() || d.qos == QoS::AtMostOnce);
        for tag in gone.iter().filter_map(|d| d.tag) {
            self.tags.remove(&tag);
        }
        gone.iter().filter(|d| d.tag.is_none()).count()
    }

    /// Takes out all that `is_meant`, in order.
    pub fn take_where(&mut self, is_meant: impl Fn(&Delivery) -> bool) -> Vec<Delivery> {
        if !self.items.iter().any(&is_meant) {
            return Vec::new();
        }
        let (taken, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.items).into_iter().partition(is_meant);
        self.items = kept.into();
        self.items.shrink_to_fit();
        self.bytes -= taken.iter().map(|d| d.message.size()).sum::<usize>();
        taken
    }

    /// Forgets everything, tags in flight too.
    pub fn clear(&mut self) {
        self.items = VecDeque::new();
        self.bytes = 0;
        self.tags = BTreeSet::new();
    }

    /// Whether there is no room for another.
    pub fn is_full(&self) -> bool {
        self.items.len() >= self.max_items || self.bytes >= self.max_bytes
    }

    /// What waits, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Delivery> {
        self.items.iter()
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
        Delivery { tag: tag.map(Tag), ..Delivery::new(Message::detached("t", payload.as_bytes()), qos) }
    }

    fn queue(max_items: usize, max_bytes: usize) -> Queue {
        Queue::new(max_items, max_bytes, Arc::new(Budget::new(1000, 1 << 20)))
    }

    #[test]
    fn all_queues_together_have_a_limit_and_give_back_what_they_let_go() {
        let budget = Arc::new(Budget::new(3, 1 << 20));
        let mut queues = [(); 2].map(|()| Queue::new(9, 9000, Arc::clone(&budget)));
        for n in 0..3 {
            assert_eq!(queues[n % 2].push(delivery("x", QoS::AtLeastOnce, None)), Pushed::Queued);
        }
        assert_eq!(queues[1].push(delivery("x", QoS::AtLeastOnce, None)), Pushed::Full);
        let mut idle = Queue::new(9, 9000, Arc::clone(&budget));
        assert_eq!(
            idle.push(delivery("x", QoS::ExactlyOnce, Some(1))),
            Pushed::Queued,
            "a command, whoever has all the room"
        );
        drop(idle);
        let in_flight = queues[0].pop().unwrap();
        assert_eq!(queues[1].push(delivery("x", QoS::AtMostOnce, None)), Pushed::Full, "it is in memory");
        drop((in_flight.clone(), in_flight));
        assert_eq!(queues[1].push(delivery("x", QoS::AtMostOnce, None)), Pushed::Queued);
        assert_eq!(queues[1].go_offline(), 1);
        queues[0].clear();
        assert_eq!(budget.items(), 1);
        drop(queues);
        assert_eq!((budget.items(), budget.bytes()), (0, 0));
    }

    #[test]
    fn a_full_queue_refuses_and_keeps_what_it_has() {
        let (mut queue, mut narrow) = (queue(2, 1000), queue(100, 150));
        assert_eq!(queue.push(delivery("a", QoS::AtLeastOnce, None)), Pushed::Queued);
        assert_eq!(queue.push(delivery("b", QoS::AtLeastOnce, None)), Pushed::Queued);
        assert_eq!(queue.push(delivery("c", QoS::AtLeastOnce, None)), Pushed::Full);
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
        let mut queue = queue(9, 9000);
        assert_eq!(queue.push(delivery("c", QoS::ExactlyOnce, Some(7))), Pushed::Queued);
        assert_eq!(queue.push(delivery("c", QoS::ExactlyOnce, Some(7))), Pushed::Known);
        queue.pop().unwrap();
        assert_eq!(queue.push(delivery("c", QoS::ExactlyOnce, Some(7))), Pushed::Known, "in flight");
        queue.complete(Tag(7));
        assert_eq!(queue.push(delivery("c", QoS::ExactlyOnce, Some(7))), Pushed::Queued);
    }

    #[test]
    fn going_offline_lets_go_of_qos_0_and_of_tagged_ones_that_wait() {
        let mut queue = queue(9, 9000);
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

//! One who watches: a place in the ring.
//!
//! A position is written `epoch-number`: the number of the last event that was seen, or passed over, in the process that made the
//! epoch up.

use std::fmt;
use std::sync::Arc;

use super::ring::Ring;
use super::{Event, Hub};

/// Events looked at in one go. They are taken hold of while everybody else waits, and looked at when nobody does.
const LOOKED_AT: usize = 512;

/// A place behind an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Position {
    epoch: Arc<str>,
    number: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.number)
    }
}

/// What there is for one who watches.
#[derive(Clone, PartialEq, Debug)]
pub enum Heard {
    /// These happened, each with the position behind it.
    Events(Vec<(Position, Arc<Event>)>),
    /// Events are missing here: so many of all devices, where that is known.
    Lost {
        /// Behind what is missing.
        position: Position,
        /// How many; `None` = nobody knows.
        events: Option<u64>,
    },
    /// Nothing more will come.
    Closed,
}

/// See the module. Gone when it is dropped.
#[derive(Debug)]
pub struct Watch {
    hub: Hub,
    epoch: Arc<str>,
    bell: tokio::sync::watch::Receiver<u64>,
    /// The number of the next event to look at.
    next: u64,
    /// Somebody comes back with a position that says nothing here.
    is_stranger: bool,
}

impl Watch {
    pub(super) fn begin(hub: Hub, ring: &Ring, last: Option<&str>) -> Self {
        let (epoch, bell): (Arc<str>, _) = (hub.0.epoch.as_str().into(), hub.0.bell.subscribe());
        let known = last.and_then(|last| {
            let (of, number) = last.rsplit_once('-')?;
            let number: u64 = number.parse().ok()?;
            (of == &*epoch && number < ring.next()).then_some(number)
        });
        let is_stranger = last.is_some() && known.is_none();
        Self { hub, epoch, bell, next: known.map_or(ring.next(), |number| number + 1), is_stranger }
    }

    /// Behind everything that was looked at.
    pub fn position(&self) -> Position {
        self.behind(self.next - 1)
    }

    fn behind(&self, number: u64) -> Position {
        Position { epoch: Arc::clone(&self.epoch), number }
    }

    /// What there is now of what is `wanted`, of `most` events at most. No events and [`is_behind`](Self::is_behind) = more is
    /// there to look at.
    pub fn take(&mut self, most: usize, wanted: impl Fn(&Event) -> bool) -> Heard {
        let part = match self.look() {
            Ok(part) => part,
            Err(heard) => return heard,
        };
        let mut events = Vec::new();
        for event in part {
            if events.len() >= most {
                break;
            }
            if *event == Event::Unseen {
                if !events.is_empty() {
                    break;
                }
                self.next += 1;
                return Heard::Lost { position: self.position(), events: None };
            }
            if wanted(&event) {
                events.push((self.behind(self.next), event));
            }
            self.next += 1;
        }
        Heard::Events(events)
    }

    /// Takes hold of what is to be looked at next; an error is what there is instead.
    fn look(&mut self) -> Result<Vec<Arc<Event>>, Heard> {
        self.bell.mark_unchanged();
        let hub = self.hub.clone();
        let inner = hub.lock();
        if inner.is_closed {
            return Err(Heard::Closed);
        }
        if std::mem::take(&mut self.is_stranger) {
            return Err(Heard::Lost { position: self.position(), events: None });
        }
        if let Some((next, events)) = inner.ring.missed_since(self.next) {
            self.next = next;
            return Err(Heard::Lost { position: self.position(), events });
        }
        Ok(inner.ring.from(self.next).take(LOOKED_AT).cloned().collect())
    }

    /// Whether there is something it has not looked at.
    pub fn is_behind(&self) -> bool {
        let inner = self.hub.lock();
        inner.is_closed || self.next < inner.ring.next()
    }

    /// Waits until something happens that it has not looked at.
    pub async fn wait(&mut self) {
        while !self.is_stranger && !self.is_behind() {
            if self.bell.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.hub.leave();
    }
}

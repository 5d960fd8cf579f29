//! What happens now, for those who watch: messages as they are stored, changes of presence, alerts and commands.
//!
//! ```text
//! collector ── readings ──► ┌──────────────┐ ──► watch (its own place in the ring)
//! database ─── changes ───► │ ring, bounded│ ──► watch
//!  (`follow`, any node's)   └──────────────┘ ──► …
//! ```
//!
//! Promise: memory is bounded by [`Options::keep_bytes`], however many watch and however slowly: an event is in memory once,
//! and a watch is a place in the ring. Whoever falls behind what is kept, or comes back too late, is told so, and of how much
//! where that is known; nothing is passed over in silence. While nobody watches, and has not for [`LINGER`], nothing is kept and
//! nothing is asked.
//! Must not know: HTTP, SQL, who may see what.
//!
//! Start from [`Hub`]; [`follow::follow`] is the task that reads the changes.

pub mod follow;
mod ring;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use watch::{Heard, Position, Watch};

use crate::domain::{DeviceId, DeviceState, Sequence, Timestamp};
use crate::observe::metrics;
use crate::store::{Alert, Command, TelemetryRow};
use ring::Ring;

/// So long after the last watch has gone everything is kept for its return.
pub const LINGER: Duration = Duration::from_secs(120);

/// Something that happened.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// A message with measurements was stored.
    Reading(TelemetryRow),
    /// A device came or went.
    Presence(DeviceId, Box<DeviceState>),
    /// An alert was raised, cleared or acknowledged.
    Alert(Alert),
    /// A command was given or came further.
    Command(Command),
    /// What happened here was not seen: the database was away for too long.
    Unseen,
}

/// A message's identity.
type Identity = (DeviceId, Timestamp, Sequence);

/// Kinds of events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Kind {
    Reading,
    Presence,
    Alert,
    Command,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Reading, Self::Presence, Self::Alert, Self::Command];

    /// Its name, as one of many and of all.
    pub const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Reading => ("reading", "readings"),
            Self::Presence => ("presence", "presence"),
            Self::Alert => ("alert", "alerts"),
            Self::Command => ("command", "commands"),
        }
    }
}

impl Event {
    /// What kind it is, and of which device.
    pub fn subject(&self) -> Option<(Kind, &DeviceId)> {
        match self {
            Self::Reading(row) => Some((Kind::Reading, &row.device)),
            Self::Presence(device, _) => Some((Kind::Presence, device)),
            Self::Alert(alert) => Some((Kind::Alert, &alert.device_id)),
            Self::Command(command) => Some((Kind::Command, &command.device)),
            Self::Unseen => None,
        }
    }

    /// Of a message, what tells it from all others.
    fn identity(&self) -> Option<Identity> {
        match self {
            Self::Reading(row) => Some((row.device.clone(), row.ts, row.seq)),
            _ => None,
        }
    }

    /// About how much memory it takes.
    fn size_bytes(&self) -> usize {
        let own = size_of::<Self>() + 256;
        own + match self {
            Self::Reading(row) => {
                let series = row.values.series.iter().map(|s| 96 + s.values.len() * size_of::<f64>());
                row.values.offsets_us.len() * size_of::<i64>() + series.sum::<usize>()
            }
            Self::Presence(_, state) => {
                size_of::<DeviceState>() + 96 * (state.latest.len() + state.sequence.open.len())
            }
            Self::Alert(alert) => alert.message.len() + alert.alert_type.len() + alert.severity.len(),
            Self::Command(command) => {
                let params = command.params.iter().map(|(name, value)| 64 + name.len() + value.to_string().len());
                command.detail.as_ref().map_or(0, String::len) + params.sum::<usize>()
            }
            Self::Unseen => 0,
        }
    }
}

/// How much is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Bytes of events kept for those who are slow or come back.
    pub keep_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { keep_bytes: 32 << 20 }
    }
}

/// Where everything that happens comes together. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Hub(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Tells this process's events from those of others, and of other times.
    epoch: String,
    inner: Mutex<Inner>,
    /// Grows with every change of what is there.
    bell: tokio::sync::watch::Sender<u64>,
    /// Whether the changes of the database are followed; rung when somebody begins to watch.
    followed: tokio::sync::watch::Sender<bool>,
    wanted: tokio::sync::Notify,
}

#[derive(Debug)]
struct Inner {
    ring: Ring,
    watches: usize,
    /// When the last watch went.
    left_at: Option<Instant>,
    /// Somebody watches since the changes of the database were not followed.
    is_unfollowed: bool,
    is_closed: bool,
}

impl Inner {
    fn is_watched(&self) -> bool {
        self.watches > 0 || self.left_at.is_some_and(|at| at.elapsed() < LINGER)
    }
}

impl Default for Hub {
    fn default() -> Self {
        Self::new(Options::default())
    }
}

impl Hub {
    /// Nothing has happened yet.
    pub fn new(options: Options) -> Self {
        let inner = Inner {
            ring: Ring::new(options.keep_bytes),
            watches: 0,
            left_at: None,
            is_unfollowed: false,
            is_closed: false,
        };
        Self(Arc::new(Shared {
            epoch: format!("{:08x}", rand::random::<u32>()),
            inner: Mutex::new(inner),
            bell: tokio::sync::watch::Sender::new(0),
            followed: tokio::sync::watch::Sender::new(false),
            wanted: tokio::sync::Notify::new(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring_bell(&self) {
        self.0.bell.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Whether it is of use to tell anything.
    pub fn is_watched(&self) -> bool {
        self.lock().is_watched()
    }

    /// Tells what happened, in order. A message that was told and is still kept is not told again.
    pub fn tell(&self, events: impl IntoIterator<Item = Event>) {
        if !self.is_watched() {
            return;
        }
        let events: Vec<(Arc<Event>, usize)> =
            events.into_iter().map(|event| (event.size_bytes(), Arc::new(event))).map(|(n, e)| (e, n)).collect();
        if events.is_empty() {
            return;
        }
        let dropped = {
            let mut inner = self.lock();
            if !inner.is_watched() {
                return;
            }
            inner.ring.push(events)
        };
        // What is let go of is freed without the lock.
        drop(dropped);
        self.ring_bell();
    }

    /// Begins to watch: from now on, or behind `last`, the last event somebody has seen. Changes of the database are told from
    /// now on too; where it does not answer in time, it is told that something is missing as soon as it does.
    pub async fn watch(&self, last: Option<&str>) -> Watch {
        let watch = self.enter(last);
        if self.lock().is_closed {
            return watch;
        }
        self.wait_followed(follow::PATIENCE).await;
        watch
    }

    async fn wait_followed(&self, patience: Duration) {
        let mut followed = self.0.followed.subscribe();
        if tokio::time::timeout(patience, followed.wait_for(|is| *is)).await.is_err() {
            let mut inner = self.lock();
            inner.is_unfollowed = !*self.0.followed.borrow();
        }
    }

    /// From now on the changes of the database are told.
    pub(crate) fn begin_following(&self) {
        let is_missing = {
            let mut inner = self.lock();
            self.0.followed.send_replace(true);
            std::mem::take(&mut inner.is_unfollowed)
        };
        if is_missing {
            self.tell([Event::Unseen]);
        }
    }

    /// Whether nobody watches. Then nothing is kept, and who begins to from now on waits until the changes are followed again.
    fn end_following(&self) -> bool {
        let dropped = {
            let mut inner = self.lock();
            if inner.is_watched() {
                return false;
            }
            self.0.followed.send_replace(false);
            inner.is_unfollowed = false;
            let empty = inner.ring.interrupted();
            std::mem::replace(&mut inner.ring, empty)
        };
        drop(dropped);
        true
    }

    fn enter(&self, last: Option<&str>) -> Watch {
        let mut inner = self.lock();
        if !inner.is_watched() {
            // Of what happened meanwhile nothing was kept.
            inner.ring = inner.ring.interrupted();
        }
        inner.watches += 1;
        metrics::STREAMS_OPEN.set(&[], inner.watches as f64);
        let watch = Watch::begin(self.clone(), &inner.ring, last);
        drop(inner);
        self.0.wanted.notify_one();
        watch
    }

    fn leave(&self) {
        let mut inner = self.lock();
        inner.watches = inner.watches.saturating_sub(1);
        inner.left_at = Some(Instant::now());
        metrics::STREAMS_OPEN.set(&[], inner.watches as f64);
    }

    /// Ends all watches, also those to come.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.ring_bell();
    }
}

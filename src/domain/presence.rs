//! Presence: is the meter there? By what it says and by its silence.
//!
//! Pure: time is an argument. Any message renews presence by its time of **receipt** (a last will carries the time of
//! the connect). Silence is found with [`Deadlines`], which holds one entry an online device and is not touched by every
//! message: an entry that comes due is asked again when the device was last heard.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::device::{DeviceState, Intervals};
use super::ids::DeviceId;
use super::message::Body;
use super::time::Timestamp;

/// Connection status as the API shows it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[allow(missing_docs)]
pub enum Connection {
    Online,
    Offline,
    #[default]
    Unknown,
}

impl Connection {
    /// As in the API and the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Offline => "offline",
            Self::Unknown => "unknown",
        }
    }

    /// What a message says of its sender: only its last will says that it is gone.
    pub const fn said_by(body: &Body) -> Self {
        match body {
            Body::Status { online: false } => Self::Offline,
            _ => Self::Online,
        }
    }

    /// Reads the API's word.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Online, Self::Offline, Self::Unknown].into_iter().find(|c| c.name() == name)
    }
}

/// What became of a device's presence.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PresenceChange {
    /// It is as it was.
    None,
    /// It is there now: clears the alert.
    WentOnline,
    /// It is gone: raises the alert.
    WentOffline,
}

impl DeviceState {
    /// Something was heard that says `connection` ([`Connection::said_by`]). Words are taken in the order of receipt and
    /// the later one counts, also when the clock was set back in between; between nodes see [`hearing`](super::hearing).
    pub fn heard(&mut self, connection: Connection, received_at: Timestamp) -> PresenceChange {
        let intervals = self.registration.as_ref().map(|r| r.intervals).unwrap_or_default();
        let merged = self.heard.hear(connection, received_at, intervals.presence_timeout());
        self.last_seen = self.heard.last().or(Some(received_at));
        self.change(merged)
    }

    /// Sets the connection: by hand, or because of its silence.
    pub fn connect(&mut self, connection: Connection) -> PresenceChange {
        self.heard.settle(connection);
        self.change(connection)
    }

    fn change(&mut self, connection: Connection) -> PresenceChange {
        let before = std::mem::replace(&mut self.connection, connection);
        match connection {
            Connection::Online if before != connection => PresenceChange::WentOnline,
            Connection::Offline if before != connection => PresenceChange::WentOffline,
            _ => PresenceChange::None,
        }
    }

    /// When silence becomes absence; `None` = not online, so there is nothing to wait for. The time before `started_at`
    /// (of this server, or of its reading being up to date again) was not its silence but ours.
    pub fn deadline(&self, intervals: Intervals, started_at: Timestamp) -> Option<Timestamp> {
        let seen = self.heard.last_online().or(self.last_seen);
        (self.connection == Connection::Online).then(|| deadline(seen, intervals, started_at))
    }
}

/// Last heard, or the start of listening if that is later, and the presence timeout. Absent **after** this instant.
pub fn deadline(last_seen: Option<Timestamp>, intervals: Intervals, started_at: Timestamp) -> Timestamp {
    last_seen.map_or(started_at, |seen| seen.max(started_at)).plus(intervals.presence_timeout())
}

/// Who must be heard by when. Bounded by the number of devices in it: the online ones.
#[derive(Clone, Debug, Default)]
pub struct Deadlines {
    /// Earliest first. An entry that is not the device's in `due` is void.
    heap: BinaryHeap<Reverse<(Timestamp, DeviceId)>>,
    due: HashMap<DeviceId, Timestamp>,
}

impl Deadlines {
    /// Sees to it that `device` is looked at by `deadline`. Cheap where it is in already: a later deadline is found out
    /// when the earlier one comes due, only an earlier one (a shorter interval) is entered.
    pub fn touch(&mut self, device: &DeviceId, deadline: Timestamp) {
        match self.due.get_mut(device) {
            Some(due) if *due <= deadline => return,
            Some(due) => *due = deadline,
            None => drop(self.due.insert(device.clone(), deadline)),
        }
        self.heap.push(Reverse((deadline, device.clone())));
        if self.heap.len() > 2 * self.due.len() + 64 {
            self.heap = self.due.iter().map(|(device, due)| Reverse((*due, device.clone()))).collect();
        }
    }

    /// Takes out the devices whose deadline has passed. `lookup` gives a device's deadline as it now is; `None` = not
    /// online any more.
    pub fn expired(&mut self, now: Timestamp, mut lookup: impl FnMut(&DeviceId) -> Option<Timestamp>) -> Vec<DeviceId> {
        let mut expired = Vec::new();
        while self.heap.peek().is_some_and(|Reverse((due, _))| *due < now) {
            let Some(Reverse((due, device))) = self.heap.pop() else { break };
            if self.due.get(&device) != Some(&due) {
                continue;
            }
            self.due.remove(&device);
            match lookup(&device) {
                None => {}
                Some(deadline) if deadline < now => expired.push(device),
                Some(deadline) => self.touch(&device, deadline),
            }
        }
        expired
    }

    /// The earliest instant at which [`expired`](Self::expired) may have something to say.
    pub fn next(&self) -> Option<Timestamp> {
        self.heap.peek().map(|Reverse((due, _))| *due)
    }

    /// How many devices are watched.
    pub fn len(&self) -> usize {
        self.due.len()
    }

    /// Whether no device is watched.
    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::Telemetry;

    fn s(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1_000_000)
    }

    fn id(n: u8) -> DeviceId {
        DeviceId::parse(&format!("m-{n}")).expect("valid")
    }

    #[test]
    fn any_message_makes_it_online_and_only_its_last_will_offline() {
        let mut state = DeviceState::default();
        let telemetry = Body::Telemetry(Telemetry::default());
        let mut check = |body: &Body, at, change, connection| {
            assert_eq!(
                (state.heard(Connection::said_by(body), s(at)), state.connection),
                (change, connection),
                "{body:?}"
            );
            state.last_seen
        };
        use PresenceChange::{None, WentOffline, WentOnline};
        check(&telemetry, 1, WentOnline, Connection::Online);
        check(&telemetry, 2, None, Connection::Online);
        check(&Body::Status { online: false }, 3, WentOffline, Connection::Offline);
        check(&Body::Status { online: false }, 4, None, Connection::Offline);
        check(&Body::Status { online: true }, 5, WentOnline, Connection::Online);
        let seen = check(&telemetry, 4, None, Connection::Online);
        assert_eq!(seen, Some(s(4)), "the clock was set back: the later word counts");
    }

    #[test]
    fn after_a_restart_of_the_server_everybody_has_a_whole_timeout() {
        let intervals = Intervals { send_interval_s: 10, hello_interval_s: 30 };
        let mut state = DeviceState { connection: Connection::Online, last_seen: Some(s(100)), ..Default::default() };
        assert_eq!(state.deadline(intervals, s(50)), Some(s(160)));
        assert_eq!(state.deadline(intervals, s(1000)), Some(s(1060)));
        state.connect(Connection::Offline);
        assert_eq!(state.deadline(intervals, s(1000)), None);
        let slow = Intervals { send_interval_s: 300, ..intervals };
        assert_eq!(deadline(Some(s(100)), slow, s(0)), s(700));
    }

    proptest! {
        /// Against looking at every device every time.
        #[test]
        fn silence_is_found_when_it_is_due_and_nobody_else_is_named(
            steps in proptest::collection::vec((0_u8..6, 0_i64..40, 0_i64..8), 1..120),
        ) {
            let (mut deadlines, mut model, mut now) = (Deadlines::default(), BTreeMap::new(), 0);
            for (device, timeout, elapsed) in steps {
                now += elapsed;
                let mut expired = deadlines.expired(s(now), |d| model.get(d).copied());
                expired.sort();
                let overdue: Vec<DeviceId> =
                    model.iter().filter(|(_, due)| **due < s(now)).map(|(d, _): (&DeviceId, _)| d.clone()).collect();
                prop_assert_eq!(&expired, &overdue);
                model.retain(|d, _| !overdue.contains(d));
                if timeout == 0 {
                    model.remove(&id(device));
                } else {
                    model.insert(id(device), s(now + timeout));
                    deadlines.touch(&id(device), s(now + timeout));
                }
                prop_assert!(deadlines.len() <= 6 && deadlines.heap.len() <= 2 * 6 + 64);
                prop_assert!(deadlines.next() <= deadlines.heap.iter().map(|r| r.0.0).min());
            }
        }
    }
}

//! Silence that becomes absence: of the devices this node hears, and, by one node for all, of those that nobody hears.
//!
//! Who is silent is judged by the state as it is in the database, under its lock: another node may have heard it. And by the
//! time up to which **every** node has stored what it received: one that lags behind has heard what nobody sees yet.

use std::time::{Duration, Instant};

use super::{Collector, Error, intervals};
use crate::collector::plan::Plan;
use crate::domain::presence::Connection;
use crate::domain::{DeviceId, DeviceState, Timestamp};
use crate::store::{Duty, Leader};

/// How often presence is looked at.
const PERIOD: Duration = Duration::from_secs(1);
/// How often one of several nodes looks for devices that none of them hears any more.
const SWEEP_PERIOD: Duration = Duration::from_secs(5);
/// Devices looked at in one transaction.
const AT_ONCE: usize = 1000;

/// When was looked for what.
pub(super) struct Looks {
    last: Instant,
    last_sweep: Instant,
    /// Since when the database has been there: before that, other nodes could not say that they live, and what they heard.
    back_since: Instant,
    /// Whether it has been away, for long enough that others may look dead, since this node began.
    was_away: bool,
    leader: Leader,
}

impl Looks {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { last: now, last_sweep: now, back_since: now, was_away: false, leader: Leader::new(Duty::Presence) }
    }

    pub(super) fn store_is_back(&mut self) {
        self.back_since = Instant::now();
        self.was_away = true;
    }
}

impl Collector {
    /// Takes devices offline that have been silent for longer than their timeout.
    pub(super) fn check_presence(&mut self, now: Timestamp) -> Result<(), Error> {
        if self.presence.last.elapsed() < PERIOD {
            return Ok(());
        }
        self.presence.last = Instant::now();
        let intake = self.journal.status();
        if intake.stalled.is_some() || intake.unreleased_bytes >= self.options.journal_max_bytes {
            // Nobody is listened to: the silence is ours, and its end gives grace.
            self.started_at = now;
        }
        let is_back_just_now = self.presence.back_since.elapsed() < self.options.node_timeout;
        if self.store.is_shared() && self.presence.was_away && is_back_just_now {
            // The others have yet to say that they live, and to store what they heard while the database was away.
            return Ok(());
        }
        // All that come due are looked at: what is known of them may have to be read first.
        let mut due = self.deadlines.expired(now, |_| Some(Timestamp(i64::MIN)));
        if !due.is_empty() {
            self.retry("load device states", |c| c.states.load(&*c.store, due.clone()))?;
            // One that was heard here needs no database to say so.
            due.retain(|id| match self.states.get(id).and_then(|state| self.deadline(state)) {
                Some(deadline) if deadline >= now => {
                    self.deadlines.touch(id, deadline);
                    false
                }
                Some(_) => true,
                None => self.store.is_shared() && self.states.get(id).is_none(),
            });
        }
        due.extend(self.sweep(now)?);
        due.sort_unstable();
        due.dedup();
        due.chunks(AT_ONCE).try_for_each(|part| self.judge(part, now))
    }

    fn deadline(&self, state: &DeviceState) -> Option<Timestamp> {
        state.deadline(intervals(state), self.started_at)
    }

    /// Takes those of the devices offline that are silent still when nobody can change their state any more.
    fn judge(&mut self, suspects: &[DeviceId], now: Timestamp) -> Result<(), Error> {
        let stored = self.retry("ask how far the nodes are", |c| c.store.heard_until())?;
        let (until, started_at, unknown) =
            (stored.map_or(now, |stored| stored.min(now)), self.started_at, self.options.unknown_devices);
        self.commit(suspects, |states| {
            let is_silent = |id: &&DeviceId| {
                let deadline = states.get(id).and_then(|state| state.deadline(intervals(state), started_at));
                deadline.is_some_and(|deadline| deadline < until)
            };
            let silent: Vec<&DeviceId> = suspects.iter().filter(is_silent).collect();
            let mut plan = Plan::new(states, unknown);
            for id in silent {
                plan.set_connection(id, Connection::Offline, now, "no message within its presence timeout");
            }
            plan.finish().0
        })?;
        for id in suspects {
            let Some(state) = self.states.get(id) else { continue };
            // What only other nodes hear is not watched here: the sweep finds it.
            let heard = &state.heard;
            let is_heard_here =
                heard.own.map_or(heard.elsewhere.is_empty(), |word| word.connection == Connection::Online);
            if let Some(deadline) = self.deadline(state).filter(|_| is_heard_here || !self.store.is_shared()) {
                // Behind a node that lags it is looked at again a little later.
                self.deadlines.touch(id, deadline.max(now));
            }
        }
        Ok(())
    }

    /// Devices that look silent to the database, when it is this node that looks for all.
    fn sweep(&mut self, now: Timestamp) -> Result<Vec<DeviceId>, Error> {
        let is_time = self.presence.last_sweep.elapsed() >= SWEEP_PERIOD;
        if !self.store.is_shared() || !is_time || self.presence.back_since.elapsed() < self.options.node_timeout {
            return Ok(Vec::new());
        }
        self.presence.last_sweep = Instant::now();
        self.retry("look for silent devices", |c| match c.presence.leader.leads(&*c.store)? {
            true => c.store.silent_devices(now, AT_ONCE),
            false => Ok(Vec::new()),
        })
    }
}

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
            // Nobody is listened to, up to this moment and not to that of the record last read: the silence is ours, and its
            // end gives grace.
            self.started_at = self.clock.now();
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

#[cfg(feature = "sqlite")]
#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;
    use crate::collector::plan::UnknownDevices;
    use crate::collector::{Handle, Options};
    use crate::domain::Clock;
    use crate::journal::{self, Entry, Flags, Journal};
    use crate::live::Hub;
    use crate::observe::trace::Tracer;
    use crate::observe::{Board, Progress};
    use crate::payload::{Classes, Window};
    use crate::store;

    const START: Timestamp = Timestamp(1_770_890_400_000_000);

    /// A collector whose journal is full once it has a record.
    fn open(dir: &std::path::Path, clock: &Clock) -> (Collector, Journal) {
        let of_journal = journal::Options {
            dir: dir.join("journal"),
            node_id: uuid::Uuid::nil(),
            segment_bytes: 1 << 20,
            max_bytes: 1,
            queue_bytes: 1 << 20,
        };
        let (journal, _) = Journal::open(of_journal).unwrap();
        let options = Options {
            unknown_devices: UnknownDevices::Refuse,
            window: Window { past: Duration::from_secs(3600), future: Duration::from_secs(3600) },
            batch_records: 100,
            batch_bytes: 1 << 20,
            max_cached_devices: 10,
            journal_max_bytes: 1,
            node_timeout: Duration::from_secs(10),
            tracer: Tracer::default(),
            classes: Classes::default(),
            live: Hub::default(),
        };
        let store = store::open(&format!("sqlite://{}", dir.join("a.db").display())).unwrap();
        let ((_, inbox), (_, stop)) = (Handle::channel(), watch::channel(false));
        let board = Board::new(clock.clone());
        let collector = Collector::open(options, store, &journal, inbox, stop, board, Progress::default()).unwrap();
        (collector, journal)
    }

    async fn fill(journal: &Journal) {
        let flags = Flags::default();
        let entry = Entry { received_at: START, topic: "t", identity: "", content_type: "", flags, payload: b"x" };
        let end = journal.append(&[entry]).await.unwrap();
        journal.wait_durable(end).await.unwrap();
    }

    #[tokio::test]
    async fn while_the_journal_is_full_the_silence_is_ours_up_to_now_however_old_what_is_read_is() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(START));
        let (mut collector, journal) = open(dir.path(), &clock);
        let now = START.plus(Duration::from_secs(7200));
        clock.set(now);
        let look = |collector: &mut Collector| {
            collector.presence.last = Instant::now().checked_sub(2 * PERIOD).unwrap();
            collector.check_presence(START).unwrap();
            collector.started_at
        };
        assert_eq!(look(&mut collector), START, "there is room");
        fill(&journal).await;
        assert_eq!(look(&mut collector), now);
    }

    #[tokio::test]
    async fn a_database_that_is_back_finds_no_silence_where_the_journal_was_full_meanwhile() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(START));
        let (mut collector, journal) = open(dir.path(), &clock);
        let now = START.plus(Duration::from_secs(7200));
        clock.set(now);
        let mut fail_times = |times: u32| {
            let mut left = times;
            let call = |_: &mut Collector| match left {
                0 => Ok(()),
                _ => {
                    left -= 1;
                    Err(store::Error::Interrupted)
                }
            };
            collector.retry("be tried", call).unwrap();
            collector.started_at
        };
        assert_eq!(fail_times(1), START, "there was room");
        fill(&journal).await;
        assert_eq!(fail_times(0), START, "it was not away");
        assert_eq!(fail_times(1), now);
    }
}

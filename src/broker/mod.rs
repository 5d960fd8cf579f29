//! The MQTT broker: listeners, log-in, permissions, connections, intake to the journal, fan-out, command delivery.
//!
//! Promises: a meter's publish is acknowledged only after the journal has it on disk; a subscriber, however slow, never
//! holds up a publisher; whatever one client sends harms no other. Must not know: what payloads mean, SQL rows.
//!
//! ```text
//! listen ─ gate ─ TLS ─ WebSocket ─ log-in ─ connection ──► mqtt::Session ──► intake (journal) ─durable─► hub ──► outboxes of sessions
//! ```
//! One task a connection owns the client's [`Session`](crate::mqtt::Session) while it is connected; the `hub` keeps it in
//! between, and holds what is shared: routes, retained messages, one bounded outbox a session.
//!
//! Persistent sessions and retained messages outlive the process (`persist`).
//!
//! An orderly [`Broker::stop`] fires no last wills: a restart of the server is not the end of the meters, and an
//! `offline` from each of them would be a storm of false news. Neither does [`Broker::disconnect`]: a will would register
//! a deleted device anew. Every other end without DISCONNECT fires it.
//!
//! Start from [`Broker`].

mod accept;
mod acl;
mod auth;
mod certified;
mod connection;
mod end;
mod events;
mod gate;
mod hub;
mod intake;
mod io;
mod listen;
mod login;
mod options;
mod persist;
mod refusals;
mod routes;
mod rules;
mod service_auth;
mod slot;
pub mod source;
mod stats;
mod store_auth;
mod stream;
mod subscribe;
mod sys;
mod traced;
mod upkeep;
mod will;
mod ws;

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use crate::audit;
use crate::domain::{Clock, CommandId, DeviceId};
use crate::journal::Journal;
use crate::observe::trace::Tracer;
use crate::observe::{Board, metrics};
use crate::payload::Kind;
use crate::store::{self, SharedStore};
use crate::tls::Revocations;
use certified::Certified;
use gate::Gate;
use hub::Hub;
use intake::Intake;
use refusals::Refusals;
use slot::Signals;

pub use auth::{Admitted, Authenticator, Credentials, Denied, Grant, Identity, OpenAuthenticator};
pub use events::{Event, Events};
pub use gate::Rate;
pub use listen::Listener;
pub use options::Options;
pub use service_auth::grant_of;
pub use stats::Stats;
pub use store_auth::{Rules, StoreAuthenticator};

/// How long a stop waits for the last save of sessions.
const LAST_SAVE: Duration = Duration::from_secs(5);

/// What the broker stands on.
#[derive(Clone)]
#[allow(missing_docs)]
pub struct Deps {
    pub journal: Journal,
    pub authenticator: Arc<dyn Authenticator>,
    pub clock: Clock,
    /// Where sessions and retained messages outlive the process; `None` = they do not.
    pub store: Option<SharedStore>,
    /// Where log-ins and refusals are noted.
    pub audit: audit::Log,
    /// What was revoked: whoever is connected with it is disconnected.
    pub revocations: Revocations,
    /// What of the messages is traced.
    pub tracer: Tracer,
}

/// The broker could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A listening socket cannot be used.
    #[error("cannot use listener {address:?}")]
    Listener {
        /// Where it is bound.
        address: Option<SocketAddr>,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// What was saved cannot be read.
    #[error("cannot load MQTT sessions and retained messages")]
    Load(#[source] store::Error),
}

/// Handle of the running broker; clones are the same broker. It runs until [`stop`](Self::stop).
#[derive(Clone)]
pub struct Broker {
    shared: Arc<Shared>,
    end: Arc<tokio::sync::Mutex<Ending>>,
}

/// What is waited for at the end.
struct Ending {
    /// Yields when every task of the broker has ended.
    ended: mpsc::Receiver<std::convert::Infallible>,
    /// Told to the saver then: there is one last save.
    all_ended: watch::Sender<bool>,
    saver: Option<JoinHandle<()>>,
}

/// What all tasks of the broker share.
struct Shared {
    options: Options,
    revocations: Revocations,
    certified: Certified,
    audit: audit::Log,
    refusals: Refusals,
    hub: Hub,
    intake: Arc<dyn Intake>,
    authenticator: Arc<dyn Authenticator>,
    clock: Clock,
    tracer: Tracer,
    gate: Arc<Gate>,
    sources: Arc<source::Sources>,
    /// Room for last wills that wait for the journal, in bytes.
    will_room: Arc<Semaphore>,
    stop: watch::Sender<bool>,
    /// Held (weakly counted) by each task; gone once stopped.
    alive: Mutex<Option<mpsc::Sender<std::convert::Infallible>>>,
}

/// [`Deps`], with anything that takes messages in.
struct StartParts {
    intake: Arc<dyn Intake>,
    authenticator: Arc<dyn Authenticator>,
    clock: Clock,
    store: Option<SharedStore>,
    audit: audit::Log,
    revocations: Revocations,
    tracer: Tracer,
}

impl Broker {
    /// Loads what was saved and starts serving the bound `listeners`.
    pub async fn start(options: Options, deps: Deps, listeners: Vec<Listener>) -> Result<Self, Error> {
        let Deps { journal, authenticator, clock, store, audit, revocations, tracer } = deps;
        let intake = Arc::new(journal);
        let parts = StartParts { intake, authenticator, clock, store, audit, revocations, tracer };
        Self::start_with(options, parts, listeners).await
    }

    async fn start_with(options: Options, parts: StartParts, listeners: Vec<Listener>) -> Result<Self, Error> {
        let StartParts { intake, authenticator, clock, store, audit, revocations, tracer } = parts;
        let listeners = listeners.into_iter().map(Listener::ready).collect::<Result<Vec<_>, _>>()?;
        let (alive, ended) = mpsc::channel(1);
        let gate = Gate::new(&options);
        let sources = Arc::new(source::Sources::default());
        let hub = Hub::new(options.clone(), store.is_some());
        let elsewhere = Arc::clone(&sources);
        hub.events.ask_also(move |device| elsewhere.have(device));
        let will_room = Arc::new(Semaphore::new(options.max_waiting_will_bytes));
        let shared = Arc::new(Shared {
            hub,
            options,
            revocations,
            certified: Certified::default(),
            audit,
            refusals: Refusals::default(),
            intake,
            authenticator,
            clock,
            tracer,
            gate,
            sources,
            will_room,
            stop: watch::Sender::new(false),
            alive: Mutex::new(Some(alive)),
        });
        let all_ended = watch::Sender::new(false);
        let saver = match store {
            Some(store) => Some(Self::start_saver(&shared, store, all_ended.subscribe()).await?),
            None => None,
        };
        for tls in listen::distinct(&listeners) {
            let counting = Arc::clone(&shared);
            let count = move |is_good| {
                counting.count(|c| if is_good { &c.tls_reloads } else { &c.tls_reload_failures });
            };
            shared.spawn(tls.keep_fresh(shared.stop.subscribe(), count));
        }
        for listener in listeners {
            shared.spawn(listen::listen(Arc::clone(&shared), listener));
        }
        shared.spawn(certified::watch(Arc::clone(&shared)));
        shared.spawn(gate::sweep(Arc::clone(&shared)));
        shared.spawn(upkeep::run(Arc::clone(&shared)));
        shared.spawn(sys::run(Arc::clone(&shared)));
        Ok(Self { shared, end: Arc::new(tokio::sync::Mutex::new(Ending { ended, all_ended, saver })) })
    }

    /// Loads what was saved and begins to save.
    async fn start_saver(
        shared: &Arc<Shared>,
        store: SharedStore,
        all_ended: watch::Receiver<bool>,
    ) -> Result<JoinHandle<()>, Error> {
        let (this, clock) = (Arc::clone(shared), (shared.clock.now(), tokio::time::Instant::now().into_std()));
        let load = move |store: &dyn store::Store| persist::load(&this.hub, &*this.authenticator, store, clock);
        let positions = store::run(&store, load).await.map_err(Error::Load)?;
        Ok(tokio::spawn(persist::run(Arc::clone(shared), store, positions, all_ended)))
    }

    /// What happens to command subscriptions and commands. `Some` the first time only. Connections never wait for the
    /// listener and it misses nothing: what it has not heard yet is kept, of each device the latest state.
    pub fn events(&self) -> Option<Events> {
        self.shared.hub.events.listen()
    }

    /// Queues a command, as a QoS 2 publish on `iot/{device}/command`, for the **connected** clients that subscribed to
    /// exactly that topic. `true` = at least one has it now, newly or from before; a command that is queued or in flight
    /// in a session is not queued there again. `false` = nobody is there, or the queue is full: offer it again on
    /// [`Event::Ready`]. What has not been sent when a client goes is forgotten; what was sent is completed by the
    /// session when it comes back. A device that is not connected here and has spoken through a source gets it there.
    pub fn send_command(&self, device: &DeviceId, command: CommandId, payload: Bytes) -> bool {
        let shared = &self.shared;
        shared.hub.send_command(device, command, &payload) || shared.sources.send_command(device, command, &payload)
    }

    /// An external broker as a source, for as long as the returned future is polled: it ends when the broker stops, and
    /// the broker waits for it.
    pub fn source(&self, options: source::Options, board: Board) -> impl Future<Output = ()> + Send + 'static {
        let alive = self.shared.alive.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let line = self.shared.sources.add(options.max_devices);
        let shared = Arc::clone(&self.shared);
        async move {
            source::run(shared, line, options, board).await;
            drop(alive);
        }
    }

    /// Ends at once the sessions of this identity, and of the client with this id, with all they hold. Their last wills
    /// are not published: the operator has ended them. Log-ins under way are judged anew; call it after the change.
    pub fn disconnect(&self, device: &DeviceId) {
        self.shared.sources.forget(device);
        self.shared.hub.dismiss(device);
        self.shared.hub.tell(&mut vec![Event::Gone { device: device.clone() }]);
    }

    /// The devices that are connected here by a credential of theirs.
    pub fn logged_in_devices(&self) -> Vec<DeviceId> {
        self.shared.hub.logged_in_devices()
    }

    /// The device was removed: what is kept of it for later subscribers goes.
    pub fn forget_retained(&self, device: &DeviceId) {
        self.shared.hub.forget_retained(device);
    }

    /// Ends at once the sessions of a device that were begun by another token than `now` (`None` = it has none any more).
    /// Those begun by a certificate stay. Call it after the change, too.
    pub fn disconnect_token(&self, device: &DeviceId, now: Option<[u8; 32]>) {
        self.shared.hub.dismiss_token(device, now);
    }

    /// Ends at once the sessions of a service account that were begun with another grant than `now` (`None` = it has none
    /// any more). Likewise: call it after the change.
    pub fn disconnect_service(&self, name: &str, now: Option<&Grant>) {
        self.shared.hub.dismiss_service(name, now);
    }

    /// Figures of now.
    pub fn stats(&self) -> Stats {
        self.shared.hub.stats()
    }

    /// Stops: listeners close, connections read no more, what the journal was given is acknowledged, connections close,
    /// sessions are saved. A client that does not take its last acknowledgements has two seconds. What is not done after
    /// `within` is cut off. `true` = all was done in time. No last wills are fired.
    pub async fn stop(&self, within: Duration) -> bool {
        let shared = &self.shared;
        shared.alive.lock().unwrap_or_else(PoisonError::into_inner).take();
        shared.stop.send_replace(true);
        shared.hub.signal_all(Signals::STOP);
        shared.sources.signal_all(Signals::STOP);
        let mut end = self.end.lock().await;
        let in_time = tokio::time::timeout(within, end.ended.recv()).await.is_ok();
        if !in_time {
            shared.hub.signal_all(Signals::ABORT);
            shared.sources.signal_all(Signals::ABORT);
        }
        end.all_ended.send_replace(true);
        if let Some(saver) = end.saver.take() {
            let _ = tokio::time::timeout(LAST_SAVE, saver).await;
        }
        shared.hub.events.end();
        in_time
    }
}

impl Shared {
    /// Runs a task that [`Broker::stop`] waits for; not when stopped.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let Some(alive) = self.alive.lock().unwrap_or_else(PoisonError::into_inner).clone() else { return };
        tokio::spawn(async move {
            task.await;
            drop(alive);
        });
    }

    fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Counts messages of meters that go to the journal; how many there are.
    fn count_received(&self, kinds: impl Iterator<Item = Kind>) -> usize {
        let mut counts = [0_u64; Kind::ALL.len()];
        kinds.for_each(|kind| counts[kind as usize] += 1);
        for (kind, count) in Kind::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0) {
            metrics::MESSAGES_RECEIVED.increment(&[("kind", kind.name())], count);
        }
        let total: u64 = counts.iter().sum();
        self.hub.counters.meter_messages.fetch_add(total, Ordering::Relaxed);
        usize::try_from(total).unwrap_or(usize::MAX)
    }

    fn count(&self, counter: impl FnOnce(&stats::Counters) -> &std::sync::atomic::AtomicU64) {
        counter(&self.hub.counters).fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;

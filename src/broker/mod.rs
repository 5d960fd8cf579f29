//! The MQTT broker: listeners, log-in, permissions, connections, intake to the journal, fan-out, command delivery.
//!
//! Promises: a meter's publish is acknowledged only after the journal has it on disk; a subscriber, however slow, never
//! holds up a publisher; whatever one client sends harms no other. Must not know: what payloads mean, SQL rows.
//!
//! ```text
//! accept ─ handshake ─ connection ──► mqtt::Session ──► intake (journal) ─durable─► hub ──► outboxes of sessions
//! ```
//! One task a connection owns the client's [`Session`](crate::mqtt::Session) while it is connected; the `hub` keeps it in
//! between, and holds what is shared: routes, retained messages, one bounded outbox a session.
//!
//! An orderly [`Broker::stop`] fires no last wills: a restart of the server is not the end of the meters, and an
//! `offline` from each of them would be a storm of false news. Neither does [`Broker::disconnect`]: a will would register
//! a deleted device anew. Every other end without DISCONNECT fires it.
//!
//! Start from [`Broker`].

mod accept;
mod acl;
mod auth;
mod connection;
mod events;
mod hub;
mod intake;
mod io;
mod options;
mod slot;
pub mod source;
mod stats;
mod store_auth;
mod will;

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::domain::{Clock, CommandId, DeviceId};
use crate::journal::Journal;
use crate::observe::Board;
use hub::Hub;
use intake::Intake;
use slot::Signals;

pub use auth::{Authenticator, Credentials, Denied, Identity, OpenAuthenticator};
pub use events::{Event, Events};
pub use options::Options;
pub use stats::Stats;
pub use store_auth::StoreAuthenticator;

/// What the broker stands on.
#[derive(Clone)]
#[allow(missing_docs)]
pub struct Deps {
    pub journal: Journal,
    pub authenticator: Arc<dyn Authenticator>,
    pub clock: Clock,
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
}

/// Handle of the running broker; clones are the same broker. It runs until [`stop`](Self::stop).
#[derive(Clone)]
pub struct Broker {
    shared: Arc<Shared>,
    /// Yields when every task of the broker has ended.
    ended: Arc<tokio::sync::Mutex<mpsc::Receiver<std::convert::Infallible>>>,
}

/// What all tasks of the broker share.
struct Shared {
    options: Options,
    hub: Hub,
    intake: Arc<dyn Intake>,
    authenticator: Arc<dyn Authenticator>,
    clock: Clock,
    sources: Arc<source::Sources>,
    connections: Arc<Semaphore>,
    stop: watch::Sender<bool>,
    /// Held (weakly counted) by each task; gone once stopped.
    alive: Mutex<Option<mpsc::Sender<std::convert::Infallible>>>,
}

impl Broker {
    /// Starts serving the bound `listeners`. Must be called inside a tokio runtime.
    pub fn start(options: Options, deps: Deps, listeners: Vec<TcpListener>) -> Result<Self, Error> {
        let Deps { journal, authenticator, clock } = deps;
        Self::start_with(options, Arc::new(journal), authenticator, clock, listeners)
    }

    fn start_with(
        options: Options,
        intake: Arc<dyn Intake>,
        authenticator: Arc<dyn Authenticator>,
        clock: Clock,
        listeners: Vec<TcpListener>,
    ) -> Result<Self, Error> {
        let listeners = listeners.into_iter().map(into_tokio).collect::<Result<Vec<_>, _>>()?;
        let (alive, ended) = mpsc::channel(1);
        let connections = Arc::new(Semaphore::new(options.max_connections));
        let sources = Arc::new(source::Sources::default());
        let hub = Hub::new(options.clone());
        let elsewhere = Arc::clone(&sources);
        hub.events.ask_also(move |device| elsewhere.have(device));
        let shared = Arc::new(Shared {
            hub,
            options,
            intake,
            authenticator,
            clock,
            sources,
            connections,
            stop: watch::Sender::new(false),
            alive: Mutex::new(Some(alive)),
        });
        for listener in listeners {
            shared.spawn(accept::listen(Arc::clone(&shared), listener));
        }
        shared.spawn(hub::expire(Arc::clone(&shared)));
        Ok(Self { shared, ended: Arc::new(tokio::sync::Mutex::new(ended)) })
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

    /// Figures of now.
    pub fn stats(&self) -> Stats {
        self.shared.hub.stats()
    }

    /// Stops: listeners close, connections read no more, what the journal was given is acknowledged, connections close.
    /// A client that does not take its last acknowledgements has two seconds. What is not done after `within` is cut off. `true` = all was done in time. No last wills are fired.
    pub async fn stop(&self, within: Duration) -> bool {
        let shared = &self.shared;
        shared.alive.lock().unwrap_or_else(PoisonError::into_inner).take();
        shared.stop.send_replace(true);
        shared.hub.signal_all(Signals::STOP);
        shared.sources.signal_all(Signals::STOP);
        let mut ended = self.ended.lock().await;
        let in_time = tokio::time::timeout(within, ended.recv()).await.is_ok();
        if !in_time {
            shared.hub.signal_all(Signals::ABORT);
            shared.sources.signal_all(Signals::ABORT);
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

    fn count(&self, counter: impl FnOnce(&stats::Counters) -> &std::sync::atomic::AtomicU64) {
        counter(&self.hub.counters).fetch_add(1, Ordering::Relaxed);
    }
}

fn into_tokio(listener: TcpListener) -> Result<tokio::net::TcpListener, Error> {
    let address = listener.local_addr().ok();
    listener
        .set_nonblocking(true)
        .and_then(|()| tokio::net::TcpListener::from_std(listener))
        .map_err(|source| Error::Listener { address, source })
}

#[cfg(test)]
mod tests;

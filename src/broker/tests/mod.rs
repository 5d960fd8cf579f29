//! The broker over real sockets, byte by byte, in front of a journal whose durable mark the tests hold.

mod client;
mod commands;
mod dismissal;
mod durability;
mod interop;
mod journal;
mod limits;
mod listeners;
mod model;
mod permissions;
mod relay;
mod restart;
mod sessions;
mod shares;
mod strangers;
mod v5;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::domain::Timestamp;
pub(super) use client::{Client, id, publish};
pub(super) use journal::FakeJournal;

/// A broker on a free port.
pub(super) struct Bed {
    pub(super) broker: Broker,
    pub(super) journal: Arc<FakeJournal>,
    pub(super) address: SocketAddr,
}

impl Bed {
    pub(super) async fn open() -> Self {
        Self::with(Options::default()).await
    }

    pub(super) async fn with(options: Options) -> Self {
        Self::guarded(options, Arc::new(OpenAuthenticator)).await
    }

    /// Sessions and retained messages outlive it in `store`.
    pub(super) async fn saving(options: Options, store: &SharedStore) -> Self {
        Self::build(options, Arc::new(OpenAuthenticator), Some(Arc::clone(store))).await
    }

    pub(super) async fn guarded(options: Options, authenticator: Arc<dyn Authenticator>) -> Self {
        Self::build(options, authenticator, None).await
    }

    async fn build(options: Options, authenticator: Arc<dyn Authenticator>, store: Option<SharedStore>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self::start(options, authenticator, store, vec![Listener::tcp(listener)]).await
    }

    /// On these listeners; `address` is that of the first.
    pub(super) async fn on(options: Options, listeners: Vec<Listener>) -> Self {
        Self::start(options, Arc::new(OpenAuthenticator), None, listeners).await
    }

    async fn start(
        options: Options,
        authenticator: Arc<dyn Authenticator>,
        store: Option<SharedStore>,
        listeners: Vec<Listener>,
    ) -> Self {
        let address = listeners[0].address().unwrap();
        let journal = Arc::new(FakeJournal::default());
        let clock = Clock::manual(Timestamp(1_000_000));
        let intake = Arc::clone(&journal) as Arc<dyn Intake>;
        let parts = StartParts {
            intake,
            authenticator,
            clock,
            store,
            audit: audit::Log::silent(),
            revocations: Revocations::default(),
            tracer: Tracer::default(),
        };
        let broker = Broker::start_with(options, parts, listeners).await.unwrap();
        Self { broker, journal, address }
    }

    /// A connected client with a clean session.
    pub(super) async fn client(&self, client_id: &str) -> Client {
        let mut client = Client::open(self.address).await;
        client.connect(client_id, true).await;
        client
    }

    /// A connected client with a session that stays, and whether there was one.
    pub(super) async fn stayer(&self, client_id: &str) -> (Client, bool) {
        let mut client = Client::open(self.address).await;
        let is_present = client.connect(client_id, false).await;
        (client, is_present)
    }

    /// Waits until the figures are as wanted.
    pub(super) async fn until(&self, what: &str, is_so: impl Fn(&Stats) -> bool) {
        let reached = async {
            while !is_so(&self.broker.stats()) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(20), reached).await.is_err() {
            panic!("never {what}: {:?}", self.broker.stats());
        }
    }
}

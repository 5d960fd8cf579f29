//! The REST API: health, devices, measurements, raw messages, alerts, commands, figures, and its own description.
//!
//! Promise: paths, status codes and body shapes as the contract says; nobody gets in by default; all answers are
//! bounded or streamed; no store call runs on an HTTP worker. Must not know: MQTT, the journal's files, SQL.
//!
//! Start from [`start`]; `routes` is the table of everything there is.

mod alerts;
mod auth;
mod body;
mod commands;
mod devices;
mod docs;
mod edge;
mod error;
mod etag;
mod gaps;
mod guard;
mod health;
pub mod key;
mod limits;
mod origin;
mod pages;
mod paging;
mod pulse;
mod query;
mod range;
mod raw;
mod routes;
mod scrape;
mod series;
mod show;
mod stats;
mod system;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::middleware::{Compress, from_fn};
use actix_web::{App, HttpRequest, HttpServer, web};
use tokio::sync::Semaphore;

pub use actix_web::dev::ServerHandle;
pub use auth::{Authenticator, Principal};
pub use error::{ApiError, Fault, Problem};
pub use limits::{Allowance, LimitOptions};
pub use pages::Page;
pub use raw::{RawFuture, RawMessages};
pub use routes::{Access, Route, document, routes};
pub use scrape::start_metrics;

use crate::domain::{Clock, DeviceId};
use crate::observe::{Board, Progress};
use crate::store::{DEFAULT_COMMAND_LIFE, SharedStore};
use crate::{collector, dispatch, journal};

/// What the API stands on. Everything in it is shared.
#[derive(Clone)]
#[allow(missing_docs)]
pub struct Services {
    pub store: SharedStore,
    /// Received messages as they came: `Arc::new(archive_reader)`.
    pub raw: Arc<dyn RawMessages>,
    pub collector: collector::Handle,
    pub dispatch: dispatch::Handle,
    pub board: Board,
    /// The journal's figures of now: `{ let j = journal.clone(); Arc::new(move || j.status()) }`.
    pub journal: Arc<dyn Fn() -> journal::Status + Send + Sync>,
    pub collector_progress: Progress,
    pub archiver_progress: Progress,
    pub clock: Clock,
    /// Renders the metrics page; `None` = there is none.
    pub metrics: Option<Arc<dyn Fn() -> String + Send + Sync>>,
    pub node_id: String,
    /// Who is asking; made with `open`, everybody is an administrator.
    pub authenticator: Arc<Authenticator>,
}

/// Who may read `/metrics` without a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MetricsAccess {
    /// Peers on a loopback address.
    #[default]
    Loopback,
    /// Nobody.
    Key,
    /// Anybody.
    Anyone,
}

impl MetricsAccess {
    fn admits(self, peer: Option<IpAddr>) -> bool {
        match self {
            Self::Loopback => peer.is_some_and(|ip| ip.to_canonical().is_loopback()),
            Self::Key => false,
            Self::Anyone => true,
        }
    }
}

/// Limits and extras.
#[derive(Clone, Debug)]
pub struct Options {
    /// HTTP worker threads.
    pub workers: usize,
    /// Largest body of a request.
    pub body_limit_bytes: usize,
    /// Most connections of a worker.
    pub max_connections: usize,
    /// Long reads at once; more wait.
    pub max_scans: usize,
    /// A client that takes nothing of a long answer for so long is cut off.
    pub stall_timeout: Duration,
    /// How long a stop waits for answers under way.
    pub stop_timeout: Duration,
    /// Requests a second.
    pub limits: LimitOptions,
    /// Who may read `/metrics` without a key.
    pub metrics_access: MetricsAccess,
    /// How long a command given without `expires_in_s` waits for its meter.
    pub command_life: Duration,
    /// Static pages anybody may load (`console::PAGES`).
    pub pages: &'static [Page],
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workers: 2,
            body_limit_bytes: 1 << 20,
            max_connections: 4096,
            max_scans: 16,
            stall_timeout: Duration::from_secs(30),
            stop_timeout: Duration::from_secs(5),
            limits: LimitOptions::default(),
            metrics_access: MetricsAccess::default(),
            command_life: DEFAULT_COMMAND_LIFE,
            pages: &[],
        }
    }
}

/// How long a request waits for another task.
const PATIENCE: Duration = Duration::from_secs(10);

/// What handlers share.
struct State {
    services: Services,
    options: Options,
    limits: limits::Limits,
    routes: routes::Table,
    scans: Arc<Semaphore>,
    pulse: pulse::Pulse,
}

type Shared = web::Data<State>;

impl State {
    fn new(services: Services, options: Options) -> Self {
        Self {
            limits: limits::Limits::new(options.limits),
            routes: routes::Table::new(options.pages),
            scans: Arc::new(Semaphore::new(options.max_scans.max(1))),
            pulse: pulse::Pulse::default(),
            services,
            options,
        }
    }

    fn of(request: &HttpRequest) -> &Shared {
        request.app_data::<Shared>().expect("app() registers the state for every request")
    }

    /// Tells the collector about a device; `false` = it knows no such device.
    async fn tell(&self, device: &DeviceId, kind: collector::RequestKind) -> Result<bool, ApiError> {
        let told = self.services.collector.tell(device.clone(), kind);
        match tokio::time::timeout(PATIENCE, told).await {
            Ok(answer) => answer.map_err(|_| ApiError::Stopping),
            Err(_) => Err(ApiError::Busy),
        }
    }

    /// Asks the dispatcher. What it misses while it is stuck it finds in the store later.
    async fn ask(&self, request: dispatch::Request) {
        if tokio::time::timeout(PATIENCE, self.services.dispatch.ask(request)).await.is_err() {
            tracing::warn!("the dispatcher is busy and was not told of a change");
        }
    }

    /// A store call away from the HTTP workers.
    async fn store<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn crate::store::Store) -> Result<T, crate::store::Error> + Send + 'static,
    ) -> Result<T, ApiError> {
        Ok(crate::store::run(&self.services.store, call).await?)
    }
}

/// The application of one worker.
fn app(
    state: Shared,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody + use<>>,
        Error = actix_web::Error,
        InitError = (),
    > + use<>,
> {
    let pages = state.options.pages;
    App::new()
        .app_data(state)
        .configure(routes::configure)
        .configure(|config| pages::configure(config, pages))
        .wrap(from_fn(guard::guard))
        .wrap(from_fn(edge::edge))
        .wrap(Compress::default())
}

/// Starts to serve on a bound socket. Must be called within a tokio runtime; the HTTP workers are threads of their own.
/// The future ends after [`ServerHandle::stop`].
pub fn start(
    services: Services,
    listener: TcpListener,
    options: Options,
) -> io::Result<(ServerHandle, impl Future<Output = io::Result<()>> + Send + 'static)> {
    listener.set_nonblocking(true)?;
    let (workers, max_connections, stop_timeout) = (options.workers, options.max_connections, options.stop_timeout);
    let max_scans = options.max_scans;
    let state = web::Data::new(State::new(services, options));
    let sweeper = Arc::downgrade(&state.clone().into_inner());
    let server = HttpServer::new(move || app(state.clone()))
        .workers(workers.max(1))
        // Long reads hold a thread each; ordinary calls always find one besides.
        .worker_max_blocking_threads(max_scans.max(1) + 16)
        .max_connections(max_connections)
        .client_request_timeout(Duration::from_secs(10))
        .shutdown_timeout(stop_timeout.as_secs().max(1))
        .disable_signals()
        .listen(listener)?
        .run();
    let handle = server.handle();
    let running = async move {
        let mut server = server;
        let mut minute = tokio::time::interval(Duration::from_secs(60));
        loop {
            tokio::select! {
                ended = &mut server => return ended,
                _ = minute.tick() => {
                    if let Some(state) = sweeper.upgrade() {
                        state.limits.sweep();
                    }
                }
            }
        }
    };
    Ok((handle, running))
}

/// A JSON answer.
fn json(status: actix_web::http::StatusCode, body: &impl serde::Serialize) -> actix_web::HttpResponse<BoxBody> {
    actix_web::HttpResponse::build(status).json(body)
}

//! The REST API: health, devices, measurements, raw messages, alerts, commands, figures, and its own description.
//!
//! Promise: paths, status codes and body shapes as the contract says; nobody gets in by default; all answers are
//! bounded or streamed; no store call runs on an HTTP worker. Must not know: MQTT, the journal's files, SQL.
//!
//! Start from [`start`]; `routes` is the table of everything there is.

mod alertmanager;
mod alerts;
pub mod audit;
mod auth;
mod body;
mod certificates;
mod claims;
mod command_key;
mod commands;
mod cors;
mod devices;
mod docs;
mod door;
mod edge;
mod energy;
mod enrol;
mod error;
mod etag;
mod firmware;
mod gaps;
mod guard;
mod health;
pub mod key;
pub mod keys;
mod limits;
mod log_level;
mod nodes;
mod oidc;
mod origin;
mod pages;
mod paging;
mod peer;
mod pulse;
mod query;
mod range;
mod raw;
mod record;
pub mod reference;
mod rollouts;
mod routes;
mod rules;
mod scrape;
mod series;
mod server;
pub mod services;
mod session;
mod show;
mod socket;
mod stats;
mod stream;
mod system;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod webhooks;
mod wire;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::{HttpRequest, web};
use tokio::sync::{Semaphore, watch};

pub use actix_web::dev::ServerHandle;
pub use auth::{Authenticator, Principal, SessionRules};
pub use error::{ApiError, Fault, Problem};
pub use limits::{Allowance, LimitOptions};
pub use pages::Page;
pub use peer::{Proxies, ProxyHeader};
pub use pulse::Pulse;
pub use raw::{RawFuture, RawMessages};
pub use routes::{Access, Route, document, routes};
pub use scrape::{Render, start_metrics};
pub use series::{ExportFault, Exporter};
pub use server::{SecureListener, start};

use crate::domain::{Clock, DeviceId};
use crate::history::History;
use crate::live::Hub;
use crate::observe::trace::Tracer;
use crate::observe::{Board, Progress, Seldom};
use crate::store::{DEFAULT_COMMAND_LIFE, SharedStore};
use crate::tls::{OwnCa, Revocations};
use crate::vault::Keyring;
use crate::{collector, dispatch, journal, keeper, notify};

/// What the API stands on. Everything in it is shared.
#[derive(Clone)]
#[allow(missing_docs)]
pub struct Services {
    pub store: SharedStore,
    /// Whether that answers.
    pub pulse: Pulse,
    /// Telemetry, wherever it is.
    pub history: History,
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
    pub metrics: Option<Arc<Render>>,
    /// What of the requests is traced.
    pub tracer: Tracer,
    pub node_id: String,
    /// What this node says of itself.
    pub said: Arc<crate::store::Beat>,
    /// The nodes on the same database.
    pub peers: keeper::Peers,
    /// Who is asking; made with `open`, everybody is an administrator.
    pub authenticator: Arc<Authenticator>,
    /// Where writes, log-ins and refusals are noted.
    pub audit: crate::audit::Log,
    /// Until it is true only what anybody may read is answered: the database has not yet said who may what.
    pub open: watch::Receiver<bool>,
    /// Where alerts come in.
    pub notices: notify::Desk,
    /// What happens now.
    pub live: Hub,
    /// Firmware images, and who is to know of new rollouts.
    pub campaigns: dispatch::rollouts::Campaigns,
    /// Seals what is kept of secrets.
    pub vault: Arc<Keyring>,
    /// Where this server's MQTT is, for meters that enrol.
    pub mqtt_port: u16,
    /// What certificates are issued with, and where it is told that one was revoked.
    pub pki: Pki,
}

/// The certificate authority, and what goes with it. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Pki {
    /// Our own, if there is one.
    pub own: OwnCa,
    /// File of the authorities that are trusted besides, or instead.
    pub client_ca_file: Option<PathBuf>,
    /// What handshakes refuse.
    pub revocations: Revocations,
    /// How long a device's certificate is good unless asked for otherwise.
    pub device_days: u32,
}

/// What a new meter is told, and how it may come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Newcomers {
    /// Host and port of its brokers; none = this server, as the meter has called it.
    pub brokers: Vec<(String, u16)>,
    /// Time between two samples.
    pub sampling_cadence_ms: u32,
    /// Time between two telemetry messages.
    pub send_interval_s: u32,
    /// Time between two hellos.
    pub hello_interval_s: u32,
    /// It may enrol over plain HTTP, from anywhere.
    pub is_plain_allowed: bool,
}

impl Default for Newcomers {
    fn default() -> Self {
        Self {
            brokers: Vec::new(),
            sampling_cadence_ms: 1000,
            send_interval_s: 10,
            hello_interval_s: 30,
            is_plain_allowed: false,
        }
    }
}

/// Who may read `/metrics` without a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MetricsAccess {
    /// Peers on this machine that come through no proxy.
    #[default]
    Loopback,
    /// Nobody.
    Key,
    /// Anybody.
    Anyone,
}

impl MetricsAccess {
    fn admits(self, peer: &peer::Peer) -> bool {
        match self {
            Self::Loopback => peer.is_near,
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
    /// Largest table of devices of an import.
    pub import_limit_bytes: usize,
    /// Streams of events at once.
    pub max_streams: usize,
    /// Largest firmware image.
    pub max_firmware_bytes: u64,
    /// Connections open at once; further ones are closed at once.
    pub max_connections: usize,
    /// The same of one address (IPv6: one /56); 0 = no limit.
    pub max_connections_per_address: usize,
    /// Long reads at once; more wait, for ten seconds at most.
    pub max_scans: usize,
    /// A client that takes nothing of its answer for so long is cut off.
    pub write_timeout: Duration,
    /// A client whose request line and headers take longer is refused.
    pub head_timeout: Duration,
    /// A body that takes longer to arrive is refused.
    pub body_timeout: Duration,
    /// A connection without a request for so long is closed.
    pub idle_timeout: Duration,
    /// Longest path and query.
    pub max_uri_bytes: usize,
    /// Origins whose pages may call; scheme, host and port as browsers write them.
    pub cors_origins: Vec<String>,
    /// Proxies of ours before this server.
    pub proxies: Proxies,
    /// How long a stop waits for answers under way.
    pub stop_timeout: Duration,
    /// Requests a second.
    pub limits: LimitOptions,
    /// Who may read `/metrics` without a key.
    pub metrics_access: MetricsAccess,
    /// How long a command given without `expires_in_s` waits for its meter.
    pub command_life: Duration,
    /// What a new meter is told.
    pub newcomers: Newcomers,
    /// Static pages anybody may load (`console::PAGES`).
    pub pages: &'static [Page],
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workers: 2,
            body_limit_bytes: 1 << 20,
            import_limit_bytes: 16 << 20,
            max_streams: 100,
            max_firmware_bytes: 64 << 20,
            max_connections: 8000,
            max_connections_per_address: 6400,
            max_scans: 16,
            write_timeout: Duration::from_secs(30),
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(15),
            max_uri_bytes: 8192,
            cors_origins: Vec::new(),
            proxies: Proxies::default(),
            stop_timeout: Duration::from_secs(5),
            limits: LimitOptions::default(),
            metrics_access: MetricsAccess::default(),
            command_life: DEFAULT_COMMAND_LIFE,
            newcomers: Newcomers::default(),
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
    streams: Arc<stream::Places>,
    /// Imports at once.
    imports: Arc<Semaphore>,
    /// Requests of clients that a proxy does not name.
    unread: Seldom,
}

type Shared = web::Data<State>;

impl State {
    fn new(services: Services, options: Options) -> Self {
        Self {
            limits: limits::Limits::new(options.limits),
            routes: routes::Table::new(options.pages),
            scans: Arc::new(Semaphore::new(options.max_scans.max(1))),
            streams: stream::Places::new(options.max_streams),
            imports: Arc::new(Semaphore::new(devices::MAX_IMPORTS)),
            unread: Seldom::default(),
            services,
            options,
        }
    }

    fn of(request: &HttpRequest) -> &Shared {
        request.app_data::<Shared>().expect("app() registers the state for every request")
    }

    /// Tells the collector about a device.
    async fn tell(&self, device: &DeviceId, kind: collector::RequestKind) -> Result<collector::Answer, ApiError> {
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

/// A JSON answer.
fn json(status: actix_web::http::StatusCode, body: &impl serde::Serialize) -> actix_web::HttpResponse<BoxBody> {
    actix_web::HttpResponse::build(status).json(body)
}

/// The answer that shows what was made, and says where it is.
fn created(place: &str, body: &impl serde::Serialize) -> actix_web::HttpResponse<BoxBody> {
    let mut response = json(actix_web::http::StatusCode::CREATED, body);
    if let Ok(place) = actix_web::http::header::HeaderValue::from_str(place) {
        response.headers_mut().insert(actix_web::http::header::LOCATION, place);
    }
    response
}

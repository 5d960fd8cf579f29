//! How far journal, collector and archiver have come, and what every task is doing.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, get, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Principal;
use super::error::ApiError;
use super::show::{Time, time};
use super::{State, json};
use crate::observe::Progress;
use crate::observe::board::Entry;

/// Figures of the whole process. All positions are exclusive ends.
#[derive(Serialize, ToSchema)]
pub struct SystemStatus {
    service: &'static str,
    version: &'static str,
    node_id: String,
    uptime_s: u64,
    #[schema(value_type = String, format = DateTime)]
    time: Time,
    /// Whether the API asks for no credential.
    open: bool,
    journal: JournalStatus,
    collector: ReaderStatus,
    archiver: ReaderStatus,
    nodes: NodesStatus,
    tasks: BTreeMap<&'static str, TaskStatus>,
}

/// The journal.
#[derive(Serialize, ToSchema)]
pub struct JournalStatus {
    /// The oldest record still kept.
    first: u64,
    /// End of what was accepted.
    head: u64,
    /// End of what is on disk.
    durable: u64,
    bytes: u64,
    segments: u64,
    /// Why nothing can be written now (a full disk); it is tried again and again.
    stalled: Option<String>,
    failed: bool,
}

/// Nodes on the same database, this one included; see `GET /api/nodes`.
#[derive(Serialize, ToSchema)]
pub struct NodesStatus {
    alive: usize,
    /// Silent for longer than nodes.timeout_s.
    dead: usize,
    /// Stopped in good order.
    stopped: usize,
}

/// A reader of the journal.
#[derive(Serialize, ToSchema)]
pub struct ReaderStatus {
    /// End of what is processed and committed.
    position: u64,
    /// Messages on disk and not yet processed.
    lag_messages: u64,
    /// Age of the oldest of them.
    lag_s: f64,
    last_error: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_error_at: Option<Time>,
}

/// A task.
#[derive(Serialize, ToSchema)]
pub struct TaskStatus {
    /// `starting running retrying stopped failed`.
    state: &'static str,
    #[schema(value_type = String, format = DateTime)]
    since: Time,
    reason: Option<String>,
    last_error: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_error_at: Option<Time>,
}

fn task(entry: &Entry) -> TaskStatus {
    let (last_error, at) = entry.last_error.clone().unzip();
    TaskStatus {
        state: entry.state.name(),
        since: Time(entry.since),
        reason: entry.state.reason().map(str::to_owned),
        last_error,
        last_error_at: time(at),
    }
}

/// How far everything has come. Data accepted before the call is stored once `collector.position` ≥ `journal.durable`.
#[utoipa::path(tag = "system", responses((status = 200, body = SystemStatus)))]
#[get("/api/system/status")]
pub async fn system_status(state: web::Data<State>, principal: Principal) -> Result<HttpResponse, ApiError> {
    principal.whole_fleet()?;
    let services = &state.services;
    // The journal first: what was acknowledged before this call lies below `durable`, and positions read later can
    // only be further.
    let journal = (services.journal)();
    let now = services.clock.now();
    let tasks = services.board.tasks();
    let reader = |name: &str, progress: &Progress| {
        let position = progress.position();
        let (last_error, at) = tasks.get(name).and_then(|t| t.last_error.clone()).unzip();
        ReaderStatus {
            position,
            lag_messages: journal.durable.0.saturating_sub(position),
            lag_s: progress.lag_s(now),
            last_error,
            last_error_at: time(at),
        }
    };
    let nodes = services.peers.census();
    let status = SystemStatus {
        service: "iot-meter",
        version: env!("CARGO_PKG_VERSION"),
        node_id: services.node_id.clone(),
        uptime_s: now.since(services.board.started_at()).as_secs(),
        time: Time(now),
        open: services.authenticator.is_open(),
        collector: reader("collector", &services.collector_progress),
        archiver: reader("archiver", &services.archiver_progress),
        journal: JournalStatus {
            first: journal.first.0,
            head: journal.head.0,
            durable: journal.durable.0,
            bytes: journal.bytes,
            segments: journal.segments,
            failed: journal.failed.is_some(),
            stalled: journal.stalled,
        },
        nodes: NodesStatus { alive: nodes.alive, dead: nodes.dead, stopped: nodes.stopped },
        tasks: tasks.iter().map(|(name, entry)| (*name, task(entry))).collect(),
    };
    Ok(json(StatusCode::OK, &status))
}

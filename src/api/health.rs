//! Is the process alive, is it ready, and its figures for Prometheus.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, get, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::error::ApiError;
use super::{State, json, scrape};
use crate::observe::TaskState;

/// Answer of the health calls.
#[derive(Serialize, ToSchema)]
pub struct Health {
    /// `healthy` or `alive`.
    status: &'static str,
    service: &'static str,
    version: &'static str,
    /// Seconds since the process started.
    uptime_s: u64,
}

/// Answer of the readiness call.
#[derive(Serialize, ToSchema)]
pub struct Readiness {
    /// `ready` or `not ready`.
    status: &'static str,
    /// Ready: each check and its state. Not ready: each failing check and the reason.
    checks: BTreeMap<String, String>,
}

fn health_of(state: &State, status: &'static str) -> Health {
    let uptime = state.services.clock.now().since(state.services.board.started_at());
    Health { status, service: "iot-meter", version: env!("CARGO_PKG_VERSION"), uptime_s: uptime.as_secs() }
}

/// The process answers.
#[utoipa::path(tag = "health", responses((status = 200, body = Health)))]
#[get("/health")]
pub async fn health(state: web::Data<State>) -> HttpResponse {
    json(StatusCode::OK, &health_of(&state, "healthy"))
}

/// The process is alive.
#[utoipa::path(tag = "health", responses((status = 200, body = Health)))]
#[get("/healthz")]
pub async fn healthz(state: web::Data<State>) -> HttpResponse {
    json(StatusCode::OK, &health_of(&state, "alive"))
}

/// Everything the process needs is there.
#[utoipa::path(tag = "health", responses(
    (status = 200, body = Readiness), (status = 503, description = "Not ready", body = Readiness)))]
#[get("/readyz")]
pub async fn readyz(state: web::Data<State>) -> HttpResponse {
    let mut all = BTreeMap::new();
    let mut failing = BTreeMap::new();
    let mut note = |name: &str, result: Result<&str, String>| match result {
        Ok(words) => drop(all.insert(name.to_owned(), words.to_owned())),
        Err(reason) => drop(failing.insert(name.to_owned(), reason)),
    };
    for (task, entry) in state.services.board.tasks() {
        let name = entry.state.name();
        match entry.state {
            TaskState::Running => note(task, Ok(name)),
            other => note(task, Err(other.reason().unwrap_or(name).to_owned())),
        }
    }
    let journal = (state.services.journal)();
    match (journal.failed, journal.stalled) {
        (Some(_), _) => note("journal", Err("a write to the journal failed".to_owned())),
        (None, Some(reason)) => note("journal", Err(reason)),
        (None, None) => note("journal", Ok("running")),
    }
    let access = match *state.services.open.borrow() {
        true => Ok("running"),
        false => Err("the API lets nobody in before the database has said who may what".to_owned()),
    };
    note("access", access);
    note("database", state.services.pulse.feel().await.map(|()| "running").map_err(str::to_owned));
    let (code, status, checks) = match failing.is_empty() {
        true => (StatusCode::OK, "ready", all),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready", failing),
    };
    json(code, &Readiness { status, checks })
}

/// All figures in the Prometheus text format; as OpenMetrics, with exemplars, for those who accept that.
#[utoipa::path(tag = "health", responses((status = 200, content(
    (String = "text/plain"), (String = "application/openmetrics-text")))))]
#[get("/metrics")]
pub async fn metrics_page(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let render = state.services.metrics.clone().ok_or_else(|| ApiError::NotFound("the metrics page was".to_owned()))?;
    Ok(scrape::page(&*render, &request))
}

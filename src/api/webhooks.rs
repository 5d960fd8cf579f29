//! What is on its way to GitHub, what got there, and what was given up.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, get, post, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Principal;
use super::error::ApiError;
use super::paging::{List, Paging, PagingParams};
use super::query::Params;
use super::record::Remark;
use super::show::{Time, time};
use super::{State, json, show};
use crate::store::{OutboxFilter, OutboxRow, OutboxState, Outcome};

/// An alert on its way to GitHub.
#[derive(Serialize, ToSchema)]
pub struct WebhookBody {
    id: i64,
    /// The alert, as Prometheus and Alertmanager know it.
    fingerprint: String,
    name: String,
    /// What is told: `firing` or `resolved`.
    status: &'static str,
    #[schema(value_type = String, format = DateTime)]
    starts_at: Time,
    /// `pending`, `done`, or `dead`: given up, until somebody sends it again.
    state: &'static str,
    attempts: u32,
    #[schema(value_type = String, format = DateTime)]
    created_at: Time,
    /// Of what is pending.
    #[schema(value_type = Option<String>, format = DateTime)]
    next_attempt_at: Option<Time>,
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<Time>,
    /// What the last try in vain met.
    last_error: Option<String>,
    /// What came of it: `opened`, `reopened`, `commented`, `known` (the issue is there and says so), `closed`,
    /// `closed_before`, `no_issue`, `overtaken` (it was not so any more), `dry_run`.
    result: Option<String>,
    /// `owner/name` of the issue's repository.
    repository: Option<String>,
    /// The issue's number.
    issue: Option<i64>,
}

impl From<OutboxRow> for WebhookBody {
    fn from(row: OutboxRow) -> Self {
        let is_pending = row.state == OutboxState::Pending;
        let (repository, issue) = row.issue.map(|issue| (issue.repository, issue.number)).unzip();
        Self {
            id: row.id,
            fingerprint: row.fingerprint,
            name: row.name,
            status: row.status.name(),
            starts_at: Time(row.starts_at),
            state: row.state.name(),
            attempts: row.attempts,
            created_at: Time(row.created_at),
            next_attempt_at: is_pending.then_some(Time(row.next_attempt_at)),
            finished_at: time(row.finished_at),
            last_error: row.last_error,
            result: row.result,
            repository,
            issue,
        }
    }
}

/// Alerts on their way to GitHub, newest first.
#[utoipa::path(tag = "alertmanager", params(
    ("state" = Option<String>, Query, description = "`pending`, `done` or `dead`"),
    ("fingerprint" = Option<String>, Query, description = "Of this alert, exactly"),
    PagingParams),
    responses((status = 200, body = Vec<WebhookBody>), (status = 400, body = super::Problem)))]
#[get("/api/webhooks")]
pub async fn list_webhooks(
    state: web::Data<State>,
    principal: Principal,
    mut params: Params,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    principal.whole_fleet()?;
    let wanted = params.read("state", "pending, done or dead", OutboxState::from_name);
    let filter = OutboxFilter { state: wanted, fingerprint: params.text("fingerprint").map(str::to_owned) };
    let paging = Paging::read(&mut params, List::Outbox);
    params.finish()?;
    let listing = state.store(move |s| s.outbox(&filter, paging.part())).await?;
    Ok(show::list(&request, paging, listing, WebhookBody::from))
}

/// Sends what was given up once more, from the first try; or what waits, now.
#[utoipa::path(tag = "alertmanager", params(("webhook_id" = i64, Path, description = "Its id")), responses(
    (status = 202, body = WebhookBody), (status = 404, body = super::Problem),
    (status = 409, description = "It is done", body = super::Problem)))]
#[post("/api/webhooks/{webhook_id}/retry")]
pub async fn retry_webhook(
    state: web::Data<State>,
    principal: Principal,
    path: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    principal.whole_fleet()?;
    let missing = || ApiError::NotFound("this webhook was".to_owned());
    let id: i64 = path.parse().map_err(|_| missing())?;
    let now = state.services.clock.now();
    match state.store(move |s| s.retry_notice(id, now)).await?.ok_or_else(missing)? {
        Outcome::Conflict => Err(ApiError::Conflict("this webhook is done: there is nothing to send again".to_owned())),
        Outcome::Done(row) => {
            let detail = Some(format!("{} {} {}", row.name, row.status.name(), row.fingerprint));
            Remark { detail, ..Remark::default() }.on(&request);
            state.services.notices.wake();
            Ok(json(StatusCode::ACCEPTED, &WebhookBody::from(row)))
        }
    }
}

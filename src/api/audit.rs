//! The audit log, read: a page of it, or all that matches as JSON lines.

use std::ops::ControlFlow;

use actix_web::{HttpRequest, HttpResponse, get, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::error::ApiError;
use super::paging::{List, Paging, PagingParams};
use super::query::Params;
use super::range::parse_time;
use super::show::Time;
use super::{State, series, show};
use crate::store::{AuditFilter, AuditOutcome, AuditRow};

/// An entry of the audit log.
#[derive(Serialize, ToSchema)]
pub struct AuditBody {
    /// From 1, without a gap.
    id: i64,
    #[schema(value_type = String, format = DateTime)]
    at: Time,
    /// Who: `key:<prefix>`, `user:<subject>`, `device:<id>`, `service:<name>`, `local` (the command line of the server's
    /// machine), `server`, `open` (no credentials are asked for), or `-` for nobody known.
    actor: String,
    /// From where.
    address: Option<String>,
    /// What: method and route, or a name such as `mqtt.connect`.
    action: String,
    /// On what.
    target: String,
    /// `done`, `refused` or `failed`.
    outcome: &'static str,
    request_id: Option<String>,
    detail: String,
    /// Hash of the entry before, in hexadecimal.
    prev_hash: String,
    /// Hash of this entry and of the one before.
    hash: String,
}

impl From<AuditRow> for AuditBody {
    fn from(row: AuditRow) -> Self {
        let AuditRow { id, entry, prev_hash, hash } = row;
        Self {
            id,
            at: Time(entry.at),
            actor: entry.actor,
            address: entry.address.map(|address| address.to_string()),
            action: entry.action,
            target: entry.target,
            outcome: entry.outcome.name(),
            request_id: entry.request_id,
            detail: entry.detail,
            prev_hash: hex::encode(prev_hash),
            hash: hex::encode(hash),
        }
    }
}

/// An entry as one line of JSON, with its end.
pub fn line(row: AuditRow) -> String {
    // Texts and numbers only: this cannot fail.
    serde_json::to_string(&AuditBody::from(row)).unwrap_or_default() + "\n"
}

/// The audit log, newest first; with `format=ndjson` all that matches, oldest first, as JSON lines.
#[utoipa::path(tag = "audit", params(
    ("actor" = Option<String>, Query, description = "Who, exactly"),
    ("action" = Option<String>, Query, description = "What the action begins with"),
    ("target" = Option<String>, Query, description = "On what, exactly"),
    ("outcome" = Option<String>, Query, description = "`done`, `refused` or `failed`"),
    ("from" = Option<String>, Query, description = "Not before: `-1h`, an RFC 3339 time, or epoch milliseconds"),
    ("to" = Option<String>, Query, description = "Before"),
    ("format" = Option<String>, Query, description = "`json` (a page) or `ndjson` (everything)"),
    PagingParams),
    responses((status = 200, body = Vec<AuditBody>), (status = 400, body = super::Problem)))]
#[get("/api/audit")]
pub async fn list_audit(
    state: web::Data<State>,
    mut params: Params,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let now = state.services.clock.now();
    let mut time =
        |name: &str| params.read(name, "-1h, an RFC 3339 time, or epoch milliseconds", |v| parse_time(v, now));
    let (from, to) = (time("from"), time("to"));
    let outcome = params.read("outcome", "done, refused or failed", AuditOutcome::from_name);
    let is_export = params.read("format", "json or ndjson", |v| match v {
        "json" => Some(false),
        "ndjson" => Some(true),
        _ => None,
    });
    let text = |name: &str| params.text(name).map(str::to_owned);
    let filter =
        AuditFilter { actor: text("actor"), action: text("action"), target: text("target"), outcome, from, to };
    let paging = Paging::read(&mut params, List::Audit);
    params.finish()?;
    if is_export != Some(true) {
        let listing = state.store(move |s| s.audit(&filter, paging.part())).await?;
        return Ok(show::list(&request, paging, listing, AuditBody::from));
    }
    series::stream::respond(&state, "application/x-ndjson", move |history, sink| {
        let mut flow = ControlFlow::Continue(());
        let mut each = |row| {
            sink.buffer().push_str(&line(row));
            flow = sink.flow();
            flow
        };
        history.store().scan_audit(&filter, &mut each)?;
        Ok(flow)
    })
    .await
}

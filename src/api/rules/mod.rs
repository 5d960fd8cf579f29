//! Alert rules: what is watched for, of which devices. Everybody sees those of its devices, administrators of all devices
//! change them.
//!
//! Invariant: what is received after a change was answered is judged by the rules as they are then, on this node; on others a
//! few seconds later. An alert whose rule is changed in what it judges, switched off or removed is cleared with the change.

mod bodies;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, delete, get, post, put, web};

pub use bodies::{PutRule, RuleBody};

use super::auth::Principal;
use super::body::Body;
use super::devices::MessageBody;
use super::error::ApiError;
use super::paging::{List, Paging, PagingParams};
use super::query::Params;
use super::record::Remark;
use super::{State, created, etag, json, show};
use crate::domain::Quantity;
use crate::domain::rule::{MAX_RULES, RuleId, Severity};
use crate::store::{AlertRule, RuleFilter, RuleOutcome};

fn missing() -> ApiError {
    ApiError::NotFound("this alert rule was".to_owned())
}

/// The rule, if it is about devices that the asker's key reaches only.
async fn find(state: &State, principal: &Principal, path: &str) -> Result<AlertRule, ApiError> {
    let id: i64 = path.parse().map_err(|_| missing())?;
    let rule = state.store(move |s| s.rule(RuleId(id))).await?.ok_or_else(missing)?;
    let is_seen = principal.device_prefix.as_deref().is_none_or(|prefix| rule.text.selector.lies_within(prefix));
    if is_seen { Ok(rule) } else { Err(missing()) }
}

/// The rule as it is now, or why it is not. Tells the collector, and the audit log.
fn done(state: &State, request: &HttpRequest, name: &str, outcome: RuleOutcome) -> Result<AlertRule, ApiError> {
    match outcome {
        RuleOutcome::Done(rule) => {
            state.services.collector.rules_changed();
            let (target, detail) = (Some(rule.id.to_string()), Some(rule.text.name.clone()));
            Remark { target, detail, ..Remark::default() }.on(request);
            Ok(rule)
        }
        RuleOutcome::NameTaken => Err(ApiError::Conflict(format!("the alert rule {name:?} exists already"))),
        RuleOutcome::TooMany => {
            Err(ApiError::Conflict(format!("there are {MAX_RULES} alert rules already; remove one first")))
        }
        RuleOutcome::Stale => Err(ApiError::Stale),
    }
}

/// Alert rules, newest first.
#[utoipa::path(tag = "alerts", params(
    ("enabled" = Option<bool>, Query, description = "Whether it is switched on"),
    ("metric" = Option<String>, Query, description = "What it watches"),
    ("severity" = Option<String>, Query, description = "`info`, `warning` or `critical`"),
    PagingParams),
    responses((status = 200, body = Vec<RuleBody>, headers(("X-Total-Count" = u64), ("Link" = String))),
        (status = 400, body = super::Problem)))]
#[get("/api/rules")]
pub async fn list_rules(
    state: web::Data<State>,
    principal: Principal,
    mut params: Params,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let filter = RuleFilter {
        is_enabled: params.flag("enabled"),
        quantity: params.read("metric", "the name of a metric", Quantity::parse),
        severity: params.read("severity", "info, warning or critical", Severity::from_name),
        device_prefix: principal.device_prefix,
    };
    let paging = Paging::read(&mut params, List::Rules);
    params.finish()?;
    let listing = state.store(move |s| s.rules(&filter, paging.part())).await?;
    Ok(show::list(&request, paging, listing, RuleBody::from))
}

/// Makes an alert rule.
#[utoipa::path(tag = "alerts", request_body = PutRule, responses(
    (status = 201, body = RuleBody, headers(("ETag" = String))),
    (status = 409, description = "The name is taken, or there are too many", body = super::Problem),
    (status = 422, body = super::Problem)))]
#[post("/api/rules")]
pub async fn create_rule(
    state: web::Data<State>,
    principal: Principal,
    request: HttpRequest,
    Body(body): Body<PutRule>,
) -> Result<HttpResponse, ApiError> {
    principal.whole_fleet()?;
    let text = body.into_text()?;
    let (name, now) = (text.name.clone(), state.services.clock.now());
    let outcome = state.store(move |s| s.create_rule(&text, &principal.name, now)).await?;
    let rule = done(&state, &request, &name, outcome)?;
    let (id, version) = (rule.id, rule.version);
    let body = RuleBody::from(rule);
    Ok(etag::tagged(created(&format!("/api/rules/{id}"), &body), &etag::tag(version, &body)))
}

/// One alert rule.
#[utoipa::path(tag = "alerts", params(("rule_id" = i64, Path, description = "Its id")), responses(
    (status = 200, body = RuleBody, headers(("ETag" = String))), (status = 304, description = "As the client has it"),
    (status = 404, body = super::Problem)))]
#[get("/api/rules/{rule_id}")]
pub async fn get_rule(
    state: web::Data<State>,
    principal: Principal,
    path: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let rule = find(&state, &principal, &path).await?;
    let version = rule.version;
    Ok(etag::respond(&request, version, &RuleBody::from(rule)))
}

/// Puts another rule in a rule's place. Unless only its name, severity or message changes, its open alerts are cleared and what
/// comes is judged anew.
#[utoipa::path(tag = "alerts", params(("rule_id" = i64, Path, description = "Its id"),
    ("If-Match" = Option<String>, Header, description = "Change only this version")),
    request_body = PutRule, responses((status = 200, body = RuleBody, headers(("ETag" = String))),
    (status = 404, body = super::Problem), (status = 409, description = "The name is taken", body = super::Problem),
    (status = 412, body = super::Problem), (status = 422, body = super::Problem)))]
#[put("/api/rules/{rule_id}")]
pub async fn update_rule(
    state: web::Data<State>,
    principal: Principal,
    path: web::Path<String>,
    request: HttpRequest,
    Body(body): Body<PutRule>,
) -> Result<HttpResponse, ApiError> {
    principal.whole_fleet()?;
    let before = find(&state, &principal, &path).await?;
    let expected = etag::precondition(request.headers(), before.version)?;
    let text = body.into_text()?;
    let (name, now) = (text.name.clone(), state.services.clock.now());
    let outcome = state.store(move |s| s.replace_rule(before.id, &text, expected, now)).await?.ok_or_else(missing)?;
    let rule = done(&state, &request, &name, outcome)?;
    let version = rule.version;
    let body = RuleBody::from(rule);
    Ok(etag::tagged(json(StatusCode::OK, &body), &etag::tag(version, &body)))
}

/// Removes an alert rule and clears its open alerts.
#[utoipa::path(tag = "alerts", params(("rule_id" = i64, Path, description = "Its id"),
    ("If-Match" = Option<String>, Header, description = "Remove only this version")),
    responses((status = 200, body = MessageBody), (status = 404, body = super::Problem),
    (status = 412, body = super::Problem)))]
#[delete("/api/rules/{rule_id}")]
pub async fn delete_rule(
    state: web::Data<State>,
    principal: Principal,
    path: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    principal.whole_fleet()?;
    let before = find(&state, &principal, &path).await?;
    let expected = etag::precondition(request.headers(), before.version)?;
    let (id, now) = (before.id, state.services.clock.now());
    let outcome = state.store(move |s| s.delete_rule(id, expected, now)).await?.ok_or_else(missing)?;
    let rule = done(&state, &request, &before.text.name, outcome)?;
    Ok(MessageBody::ok(format!("the alert rule {:?} is removed", rule.text.name)))
}

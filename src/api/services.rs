//! Service accounts: programs that log in to MQTT, what they may read and write. Tokens are shown once.
//!
//! Invariant: whatever changes what an account may do also ends its sessions.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, delete, get, post, put, web};
use garde::Validate;
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Principal;
use super::body::{Body, Contract, Fields, Rule};
use super::devices::MessageBody;
use super::error::{ApiError, Fault};
use super::paging::{List, Paging, PagingParams};
use super::query::Params;
use super::record::Remark;
use super::show::{Time, time};
use super::{State, etag, json, show};
use crate::dispatch;
use crate::domain::Timestamp;
use crate::mqtt::topic;
use crate::store::{Outcome, Place, ServiceAccount, ServiceChange};
use crate::vault::token::{self, Kind};

/// Most filters of an account, in each direction.
const MAX_FILTERS: usize = 64;

/// A service account; never its token.
#[derive(Serialize, ToSchema)]
pub struct ServiceBody {
    name: String,
    /// Filters it may subscribe to, or to parts of them.
    read: Vec<String>,
    /// Filters of topics it may publish to.
    write: Vec<String>,
    /// `valid`, `revoked` or `expired`.
    state: &'static str,
    created_by: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Time,
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Time>,
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Time>,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_used_at: Option<Time>,
    /// The MQTT password; only in the answer that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl ServiceBody {
    fn new(account: ServiceAccount, now: Timestamp) -> Self {
        Self {
            state: account.state(now),
            name: account.name,
            read: account.read,
            write: account.write,
            created_by: account.created_by,
            created_at: Time(account.created_at),
            expires_at: time(account.expires_at),
            revoked_at: time(account.revoked_at),
            last_used_at: time(account.last_used_at),
            token: None,
        }
    }
}

/// Whether an account may have this name: the MQTT user name.
pub fn is_service_name(name: &str) -> bool {
    let is_letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=64).contains(&name.len()) && name.bytes().all(is_letter)
}

/// What is wrong with a list of filters; `None` = nothing.
pub fn fault_of_filters(filters: &[String]) -> Option<String> {
    if filters.len() > MAX_FILTERS {
        return Some(format!("must be at most {MAX_FILTERS} filters"));
    }
    let is_good = |filter: &&String| topic::is_valid_filter(filter) && !filter.starts_with(topic::SHARE);
    let bad = filters.iter().find(|filter| !is_good(filter))?;
    Some(format!("holds {:?}, which is not a topic filter", bad.chars().take(64).collect::<String>()))
}

fn check_name(name: &str, (): &()) -> garde::Result {
    is_service_name(name).then_some(()).ok_or_else(|| garde::Error::new("must be 1 to 64 of A-Z a-z 0-9 . _ -"))
}

fn check_filters(filters: &Option<Vec<String>>, (): &()) -> garde::Result {
    filters.as_deref().and_then(fault_of_filters).map_or(Ok(()), |fault| Err(garde::Error::new(fault)))
}

/// A member that is a time.
pub(super) fn time_field(fields: &mut Fields, name: &str) -> Option<Timestamp> {
    let text = fields.text(name)?;
    let read = Timestamp::parse_rfc3339(&text);
    if read.is_none() {
        fields.fault(Fault::new(name, "must be a time such as 2026-02-12T10:00:00Z"));
    }
    read
}

/// Body of a new account.
#[derive(Debug, Validate, ToSchema)]
pub struct CreateService {
    /// 1 to 64 of `A-Z a-z 0-9 . _ -`: the MQTT user name.
    #[garde(required, inner(custom(check_name)))]
    #[schema(required = true, nullable = false, example = "grafana")]
    name: Option<String>,
    /// None by default.
    #[garde(custom(check_filters))]
    #[schema(example = json!(["iot/+/telemetry"]))]
    read: Option<Vec<String>>,
    /// None by default.
    #[garde(custom(check_filters))]
    write: Option<Vec<String>>,
    /// Never by default.
    #[garde(skip)]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

impl Contract for CreateService {
    const RULE: Rule = Rule::Strict;

    fn read(fields: &mut Fields) -> Self {
        Self {
            name: fields.text("name"),
            read: fields.take("read", "an array of strings"),
            write: fields.take("write", "an array of strings"),
            expires_at: time_field(fields, "expires_at"),
        }
    }
}

/// Body of a change: at least one field.
#[derive(Debug, Validate, ToSchema)]
pub struct UpdateService {
    #[garde(custom(check_filters))]
    read: Option<Vec<String>>,
    #[garde(custom(check_filters))]
    write: Option<Vec<String>>,
    #[garde(skip)]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// `true` = make a new token, which is shown in the answer; the old one is void at once.
    #[garde(skip)]
    rotate: Option<bool>,
}

impl Contract for UpdateService {
    const RULE: Rule = Rule::Strict;

    fn read(fields: &mut Fields) -> Self {
        Self {
            read: fields.take("read", "an array of strings"),
            write: fields.take("write", "an array of strings"),
            expires_at: time_field(fields, "expires_at"),
            rotate: fields.take("rotate", "true or false"),
        }
    }
}

/// Makes a service account; its token is shown in this answer only.
#[utoipa::path(tag = "services", request_body = CreateService, responses(
    (status = 201, body = ServiceBody), (status = 409, description = "The name is taken", body = super::Problem),
    (status = 422, body = super::Problem)))]
#[post("/api/services")]
pub async fn create_service(
    state: web::Data<State>,
    principal: Principal,
    Body(body): Body<CreateService>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    principal.whole_fleet()?;
    Remark { target: body.name.clone(), ..Remark::default() }.on(&request);
    let now = state.services.clock.now();
    if body.expires_at.is_some_and(|end| end <= now) {
        return Err(ApiError::Invalid(vec![Fault::new("expires_at", "is in the past")]));
    }
    let token = token::generate(Kind::Service);
    let account = ServiceAccount {
        name: body.name.ok_or(ApiError::Internal("a validated body lacks a required field"))?,
        token_sha256: token.sha256,
        read: body.read.unwrap_or_default(),
        write: body.write.unwrap_or_default(),
        created_at: now,
        created_by: principal.name,
        expires_at: body.expires_at,
        revoked_at: None,
        last_used_at: None,
    };
    let kept = account.clone();
    if state.store(move |s| s.create_service(&kept)).await? == Outcome::Conflict {
        return Err(ApiError::Conflict(format!("the service account {:?} exists already", account.name)));
    }
    let mut body = ServiceBody::new(account, now);
    body.token = Some(token.text.to_string());
    Ok(json(StatusCode::CREATED, &body))
}

/// All service accounts, newest first.
#[utoipa::path(tag = "services", params(PagingParams),
    responses((status = 200, body = Vec<ServiceBody>, headers(("X-Total-Count" = u64), ("Link" = String))),
        (status = 400, body = super::Problem)))]
#[get("/api/services")]
pub async fn list_services(
    state: web::Data<State>,
    principal: Principal,
    mut params: Params,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    principal.whole_fleet()?;
    let paging = Paging::read(&mut params, List::Services);
    params.finish()?;
    let now = state.services.clock.now();
    let accounts = state.store(|s| s.services()).await?;
    let listing = paging.part_of(accounts, |account| Place(account.created_at.0, etag::version_of(&account.name)));
    Ok(show::list(&request, paging, listing, |account| ServiceBody::new(account, now)))
}

/// Changes what an account may do, or its token. Its sessions end.
#[utoipa::path(tag = "services", params(("name" = String, Path, description = "The account")),
    request_body = UpdateService, responses((status = 200, body = ServiceBody), (status = 404, body = super::Problem),
    (status = 422, body = super::Problem)))]
#[put("/api/services/{name}")]
pub async fn update_service(
    state: web::Data<State>,
    principal: Principal,
    path: web::Path<String>,
    Body(body): Body<UpdateService>,
) -> Result<HttpResponse, ApiError> {
    principal.whole_fleet()?;
    let now = state.services.clock.now();
    let token = body.rotate.unwrap_or(false).then(|| token::generate(Kind::Service));
    let change = ServiceChange {
        token_sha256: token.as_ref().map(|token| token.sha256),
        read: body.read,
        write: body.write,
        expires_at: body.expires_at,
        revoked_at: None,
    };
    if change == ServiceChange::default() {
        let names = "must hold at least one of read, write, expires_at, rotate";
        return Err(ApiError::Invalid(vec![Fault::new("body", names)]));
    }
    let name = path.into_inner();
    let wanted = name.clone();
    let account = state.store(move |s| s.update_service(&wanted, &change)).await?.ok_or_else(missing)?;
    state.ask(dispatch::Request::DisconnectService(name)).await;
    let mut body = ServiceBody::new(account, now);
    body.token = token.map(|token| token.text.to_string());
    Ok(json(StatusCode::OK, &body))
}

/// Removes a service account; its sessions end at once.
#[utoipa::path(tag = "services", params(("name" = String, Path, description = "The account")),
    responses((status = 200, body = MessageBody), (status = 404, body = super::Problem)))]
#[delete("/api/services/{name}")]
pub async fn delete_service(
    state: web::Data<State>,
    principal: Principal,
    path: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    principal.whole_fleet()?;
    let name = path.into_inner();
    let wanted = name.clone();
    if !state.store(move |s| s.delete_service(&wanted)).await? {
        return Err(missing());
    }
    state.ask(dispatch::Request::DisconnectService(name)).await;
    Ok(MessageBody::ok("the service account is removed".to_owned()))
}

fn missing() -> ApiError {
    ApiError::NotFound("this service account was".to_owned())
}

//! API keys: made, listed, revoked. By administrators of all devices only: a key limited to some could make one that is not.
//!
//! Invariant: a key's text is in the answer that made it and nowhere else; a digest is in no answer.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, delete, get, post, web};
use garde::Validate;
use serde::Serialize;
use utoipa::ToSchema;

use super::body::{Body, Contract, Fields, Rule};
use super::error::{ApiError, Fault};
use super::paging::{List, Paging, PagingParams};
use super::query::Params;
use super::show::{Time, time};
use super::{State, created, json, key, show};
use crate::domain::Timestamp;
use crate::store::{ApiKey, Role};

/// Microseconds of a day.
const DAY_US: i64 = 86_400_000_000;
/// Longest life of a key that ends, in days.
const MAX_DAYS: i64 = 36_500;

/// An API key, never its text.
#[derive(Serialize, ToSchema)]
pub struct KeyBody {
    /// The public part, which names it.
    prefix: String,
    name: String,
    role: &'static str,
    /// Beginning of the ids of the only devices it reaches; null = all.
    devices: Option<String>,
    /// `valid`, `expired` or `revoked`.
    state: &'static str,
    #[schema(value_type = String, format = DateTime)]
    created_at: Time,
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Time>,
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Time>,
    /// Exact to a minute.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_used_at: Option<Time>,
    last_used_from: Option<String>,
    /// The text, in the answer that made it only.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

impl KeyBody {
    fn of(key: ApiKey, now: Timestamp) -> Self {
        Self {
            state: state_of(&key, now),
            prefix: key.prefix,
            name: key.name,
            role: key.role.name(),
            devices: key.device_prefix,
            created_at: Time(key.created_at),
            expires_at: time(key.expires_at),
            revoked_at: time(key.revoked_at),
            last_used_at: time(key.last_used_at),
            last_used_from: key.last_used_from.map(|address| address.to_string()),
            key: None,
        }
    }
}

/// What a key is at `now`.
pub fn state_of(key: &ApiKey, now: Timestamp) -> &'static str {
    match key.revoked_at {
        Some(_) => "revoked",
        None if key.is_good(now) => "valid",
        None => "expired",
    }
}

/// Body of a new key.
#[derive(Debug, Validate, ToSchema)]
pub struct CreateKey {
    /// What it is for.
    #[garde(required, inner(length(chars, min = 1, max = 128)))]
    #[schema(required, nullable = false)]
    name: Option<String>,
    /// `viewer` reads; `operator` also writes devices, alerts and commands; `admin` may do everything.
    #[garde(required, inner(custom(is_role)))]
    #[schema(required, nullable = false)]
    role: Option<String>,
    /// Beginning of the ids of the only devices it is to reach.
    #[garde(inner(custom(is_prefix)))]
    devices: Option<String>,
    /// When it ends: an RFC 3339 time, or a date.
    #[garde(inner(custom(is_end)))]
    expires_at: Option<String>,
    /// Instead: days until it ends.
    #[garde(inner(range(min = 1, max = MAX_DAYS)), custom(one_end(&self.expires_at)))]
    expires_in_days: Option<i64>,
}

impl Contract for CreateKey {
    const RULE: Rule = Rule::Strict;

    fn read(fields: &mut Fields) -> Self {
        Self {
            name: fields.text("name"),
            role: fields.text("role"),
            devices: fields.text("devices"),
            expires_at: fields.text("expires_at"),
            expires_in_days: fields.take("expires_in_days", "a whole number"),
        }
    }
}

fn is_role(text: &str, (): &()) -> garde::Result {
    let known = Role::from_name(text).map(drop);
    known.ok_or_else(|| garde::Error::new("must be viewer, operator or admin"))
}

fn is_prefix(text: &str, (): &()) -> garde::Result {
    let is_good = (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if is_good { Ok(()) } else { Err(garde::Error::new("must be 1 to 128 of A-Z a-z 0-9 . _ -")) }
}

fn is_end(text: &str, (): &()) -> garde::Result {
    let read = key::parse_end(text).map(drop);
    read.ok_or_else(|| garde::Error::new("must be an RFC 3339 time or a date such as 2027-01-31"))
}

fn one_end(at: &Option<String>) -> impl FnOnce(&Option<i64>, &()) -> garde::Result + '_ {
    move |days, ()| match days.is_some() && at.is_some() {
        true => Err(garde::Error::new("cannot be given together with expires_at")),
        false => Ok(()),
    }
}

/// All keys, newest first.
#[utoipa::path(tag = "keys", params(PagingParams),
    responses((status = 200, body = Vec<KeyBody>), (status = 400, body = super::Problem)))]
#[get("/api/keys")]
pub async fn list_keys(
    state: web::Data<State>,
    mut params: Params,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let paging = Paging::read(&mut params, List::Keys);
    params.finish()?;
    let now = state.services.clock.now();
    let listing = state.store(move |s| s.list_api_keys(paging.part())).await?;
    Ok(show::list(&request, paging, listing, |key| KeyBody::of(key, now)))
}

/// Makes a key. Its text is shown in this answer only.
#[utoipa::path(tag = "keys", request_body = CreateKey,
    responses((status = 201, body = KeyBody), (status = 422, body = super::Problem)))]
#[post("/api/keys")]
pub async fn create_key(state: web::Data<State>, Body(body): Body<CreateKey>) -> Result<HttpResponse, ApiError> {
    let lacking = ApiError::Internal("a validated body lacks a required field");
    let role = body.role.as_deref().and_then(Role::from_name);
    let (Some(name), Some(role)) = (body.name, role) else { return Err(lacking) };
    let now = state.services.clock.now();
    let ends = body.expires_at.as_deref().and_then(key::parse_end);
    let ends = ends.or(body.expires_in_days.map(|days| now.plus_us(days * DAY_US)));
    if ends.is_some_and(|end| end <= now) {
        return Err(ApiError::Invalid(vec![Fault::new("expires_at", "is past")]));
    }
    let (text, mut made) = key::generate(&name, role, body.devices, now);
    made.expires_at = ends;
    let stored = made.clone();
    state.store(move |s| s.create_api_key(&stored)).await?;
    let location = format!("/api/keys/{}", made.prefix);
    let shown = KeyBody { key: Some(text), ..KeyBody::of(made, now) };
    Ok(created(&location, &shown))
}

/// Revokes a key for good: the next request with it is refused, on every node, and the sessions begun with it are over.
#[utoipa::path(tag = "keys", params(("prefix" = String, Path, description = "The key's public part")),
    responses((status = 200, body = KeyBody), (status = 404, body = super::Problem)))]
#[delete("/api/keys/{prefix}")]
pub async fn revoke_key(state: web::Data<State>, path: web::Path<String>) -> Result<HttpResponse, ApiError> {
    let (prefix, now) = (path.into_inner(), state.services.clock.now());
    let revoked =
        state.store(move |s| if s.revoke_api_key(&prefix, now)? { s.api_key(&prefix) } else { Ok(None) }).await?;
    let key = revoked.ok_or_else(|| ApiError::NotFound("this key was".to_owned()))?;
    Ok(json(StatusCode::OK, &KeyBody::of(key, now)))
}

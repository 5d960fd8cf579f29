//! Sessions of the console: begun with a key or by the issuer, shown, ended.
//!
//! Invariant: a session gives what the key or token it was begun with gives, never more; the browser keeps nothing but a
//! cookie that no script can read.

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, HeaderValue, LOCATION, SET_COOKIE};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, delete, get, post, web};
use garde::Validate;
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::{Credential, Denied, Failure, Principal, Via, session};
use super::body::{Body, Contract, Fields, Rule};
use super::error::ApiError;
use super::limits::Kind;
use super::peer::Peer;
use super::query::Params;
use super::record::Remark;
use super::show::{Time, time};
use super::{State, guard, json, key, oidc};
use crate::domain::Timestamp;
use crate::observe::metrics;
use crate::store::WebSession;

/// Sessions somebody may have at once; the oldest goes first.
const MAX_OF_ACTOR: usize = 32;

/// Who is logged in.
#[derive(Serialize, ToSchema)]
pub struct SessionBody {
    /// `key:<prefix>`, `user:<subject>`, or `open`.
    actor: String,
    role: &'static str,
    /// Beginning of the ids of the only devices that are reached; null = all.
    devices: Option<String>,
    /// What a write has to bring in the header `X-CSRF-Token`; null where no cookie is used.
    csrf_token: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Time>,
}

/// How one may log in.
#[derive(Serialize, ToSchema)]
pub struct WaysBody {
    key: bool,
    /// Address of the issuer's log-in, where there is one.
    oidc: Option<&'static str>,
}

impl SessionBody {
    fn of(principal: Principal) -> Self {
        let (csrf_token, expires_at) = match principal.via {
            Via::Session { csrf_token, expires_at, .. } => (Some(csrf_token), Some(expires_at)),
            Via::Open | Via::Alertmanager | Via::Key | Via::Token => (None, None),
        };
        Self {
            actor: principal.name,
            role: principal.role.name(),
            devices: principal.device_prefix,
            csrf_token,
            expires_at: time(expires_at),
        }
    }
}

/// Body of a log-in.
#[derive(Validate, ToSchema)]
pub struct LogIn {
    /// An API key.
    #[garde(required, inner(length(bytes, min = 1, max = 256)))]
    #[schema(required, nullable = false, format = Password)]
    key: Option<String>,
}

impl Contract for LogIn {
    const RULE: Rule = Rule::Strict;

    fn read(fields: &mut Fields) -> Self {
        Self { key: fields.text("key") }
    }
}

fn peer(request: &HttpRequest) -> Peer {
    request.extensions().get::<Peer>().copied().unwrap_or_default()
}

/// Begins a session for `principal`, who proved to be that until `ends`.
pub(super) async fn begin(
    state: &State,
    principal: &Principal,
    key_prefix: Option<String>,
    request: &HttpRequest,
) -> Result<(SessionBody, String), ApiError> {
    let now = state.services.clock.now();
    let rules = state.services.authenticator.session_rules();
    let text = key::random_token();
    let expires_at: Timestamp = now.plus(rules.life);
    let new = WebSession {
        id_sha256: session::digest(&text),
        actor: principal.name.clone(),
        key_prefix,
        role: principal.role,
        device_prefix: principal.device_prefix.clone(),
        created_at: now,
        last_used_at: now,
        expires_at,
    };
    let via = Via::Session { id_sha256: new.id_sha256, csrf_token: session::csrf_token(&text), expires_at };
    state.store(move |s| s.create_web_session(&new, MAX_OF_ACTOR)).await?;
    metrics::WEB_SESSIONS.increment(&[("event", "begun")], 1);
    let cookie = session::set_cookie(&text, rules.life.as_secs(), peer(request).is_plain_near);
    Ok((SessionBody::of(Principal { via, ..principal.clone() }), cookie))
}

/// An answer that nobody keeps.
fn fresh(mut response: HttpResponse) -> HttpResponse {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The same with a cookie.
fn with_cookie(response: HttpResponse, cookie: &str) -> HttpResponse {
    let mut response = fresh(response);
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers_mut().append(SET_COOKIE, value);
    }
    response
}

/// Begins a session with a key. The answer sets a cookie (`HttpOnly`, `SameSite=Strict`, `Secure` but on a plain connection
/// of this machine); writes with it need the header `X-CSRF-Token` too.
#[utoipa::path(tag = "session", request_body = LogIn,
    responses((status = 201, body = SessionBody), (status = 401, body = super::Problem),
    (status = 422, body = super::Problem)))]
#[post("/api/session")]
pub async fn log_in(
    state: web::Data<State>,
    request: HttpRequest,
    Body(body): Body<LogIn>,
) -> Result<HttpResponse, ApiError> {
    // Whoever guesses learns nothing more once it has guessed too often, and a good key is no way to unlimited sessions.
    guard::check_log_in(&state, &request)?;
    guard::count_later(&state, &request, Kind::Write)?;
    let address = peer(&request).address;
    let text = body.key.unwrap_or_default();
    let claimed = key::prefix_of(text.trim()).map(str::to_owned);
    let credential = Credential::Key(text.trim().to_owned());
    let found = state.services.authenticator.identify(&state.services.store, &credential, address).await;
    let principal = match found {
        Ok(principal) => principal,
        Err(Failure::Store(error)) => return Err(error.into()),
        Err(Failure::Nothing) => return Err(ApiError::Unauthenticated),
        Err(Failure::Denied(Denied { reason, claimed, .. })) => {
            Remark { target: Some(claimed), detail: Some(reason.to_owned()), ..Remark::default() }.on(&request);
            guard::count_later(&state, &request, Kind::Login)?;
            return Err(ApiError::Unauthenticated);
        }
    };
    Remark { actor: Some(principal.name.clone()), ..Remark::default() }.on(&request);
    if principal.via == Via::Open {
        return Ok(json(StatusCode::CREATED, &SessionBody::of(principal)));
    }
    let (body, cookie) = begin(&state, &principal, claimed, &request).await?;
    Ok(with_cookie(json(StatusCode::CREATED, &body), &cookie))
}

/// Who is asking, and the CSRF token of their session.
#[utoipa::path(tag = "session", responses((status = 200, body = SessionBody)))]
#[get("/api/session")]
pub async fn get_session(principal: Principal) -> HttpResponse {
    fresh(json(StatusCode::OK, &SessionBody::of(principal)))
}

/// Ends the session of the cookie.
#[utoipa::path(tag = "session", responses((status = 204, description = "It is over")))]
#[delete("/api/session")]
pub async fn log_out(
    state: web::Data<State>,
    principal: Principal,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    if let Via::Session { id_sha256, .. } = principal.via
        && state.store(move |s| s.end_web_session(&id_sha256)).await?
    {
        metrics::WEB_SESSIONS.increment(&[("event", "ended")], 1);
    }
    let cookie = session::clear_cookie(peer(&request).is_plain_near);
    Ok(with_cookie(HttpResponse::NoContent().finish(), &cookie))
}

/// How one may log in to the console.
#[utoipa::path(tag = "session", responses((status = 200, body = WaysBody)))]
#[get("/api/session/ways")]
pub async fn log_in_ways(state: web::Data<State>) -> HttpResponse {
    let has_issuer = state.services.authenticator.issuer().is_some_and(|issuer| issuer.has_log_in());
    json(StatusCode::OK, &WaysBody { key: true, oidc: has_issuer.then_some("/api/session/oidc") })
}

/// Sends the browser to the issuer to log in.
#[utoipa::path(tag = "session", responses((status = 303, description = "To the issuer"),
    (status = 404, description = "No issuer is configured", body = super::Problem)))]
#[get("/api/session/oidc")]
pub async fn begin_oidc(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    guard::count_later(&state, &request, Kind::Login)?;
    let (url, cookie) = oidc::begin(&state, peer(&request).is_plain_near).await?;
    Ok(with_cookie(HttpResponse::SeeOther().insert_header((LOCATION, url)).finish(), &cookie))
}

/// Where the issuer sends the browser back to.
#[utoipa::path(tag = "session", params(
    ("code" = Option<String>, Query, description = "What the issuer gave"),
    ("state" = Option<String>, Query, description = "What it was given")),
    responses((status = 303, description = "To the console"), (status = 400, body = super::Problem),
    (status = 401, body = super::Problem),
    (status = 404, description = "No issuer is configured", body = super::Problem)))]
#[get("/api/session/oidc/callback")]
pub async fn finish_oidc(
    state: web::Data<State>,
    params: Params,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let peer = peer(&request);
    Remark::default().on(&request);
    // Before the issuer is asked: anybody can make up an answer to a log-in.
    guard::count_later(&state, &request, Kind::Login)?;
    let principal = match oidc::finish(&state, &params, request.headers(), peer.is_plain_near).await {
        Ok(principal) => principal,
        Err(oidc::Failed { detail, error }) => {
            Remark { detail: Some(detail), ..Remark::default() }.on(&request);
            return Err(error);
        }
    };
    Remark { actor: Some(principal.name.clone()), ..Remark::default() }.on(&request);
    let (_, cookie) = begin(&state, &principal, None, &request).await?;
    let response = with_cookie(HttpResponse::SeeOther().insert_header((LOCATION, "/")).finish(), &cookie);
    Ok(with_cookie(response, &oidc::clear_cookie(peer.is_plain_near)))
}

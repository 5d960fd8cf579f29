//! The gate before every handler: the route table says who may, the limits say how often. Deny by default: a path or
//! method that is not in the table reaches no handler. What browsers may be talked into is refused first (`origin`).

use std::net::IpAddr;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, web};

use super::State;
use super::auth::{Authenticator, Principal};
use super::error::ApiError;
use super::limits::{Kind, Standing, Who};
use super::origin;
use super::routes::{Access, Verdict};
use super::socket::Secure;
use crate::observe::metrics;

/// The layer itself.
pub(super) async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let state = web::Data::clone(State::of(request.request()));
    let peer = request.peer_addr().map(|a| a.ip());
    let mut standing = None;
    let admitted = admit(&state, &request, peer, &mut standing).await;
    let mut response = match admitted {
        Ok(principal) => {
            if let Some(principal) = principal {
                request.extensions_mut().insert(principal);
            }
            next.call(request).await?.map_into_boxed_body()
        }
        Err(error) => {
            count_refusal(&error, &request);
            request.error_response(error).map_into_boxed_body()
        }
    };
    if let Some(standing) = standing {
        show(&mut response, standing);
    }
    Ok(response)
}

/// Who may pass, as whom.
async fn admit(
    state: &State,
    request: &ServiceRequest,
    peer: Option<IpAddr>,
    standing: &mut Option<Standing>,
) -> Result<Option<Principal>, ApiError> {
    let (access, kind) = match state.routes.judge(request.match_pattern().as_deref(), request.method()) {
        Verdict::Known(access, kind) => (access, kind),
        Verdict::OtherMethods(methods) => return Err(ApiError::MethodNotAllowed(methods)),
        Verdict::Unknown => return Err(ApiError::NotFound("this path was".to_owned())),
    };
    origin::check_write(request.head())?;
    if let Access::Open = access {
        return Ok(None);
    }
    if state.services.authenticator.is_open() {
        origin::check_host(request.head(), peer)?;
    }
    count(state, kind, Who::peer(peer), standing)?;
    let role = match access {
        Access::Metrics if state.options.metrics_access.admits(peer) => return Ok(None),
        Access::Metrics => crate::store::Role::Viewer,
        Access::Role(role) => role,
        Access::Certificate => {
            return has_certificate(state, request).then_some(None).ok_or(ApiError::CertificateNeeded);
        }
        Access::Open => return Ok(None),
    };
    let principal = match state.services.authenticator.identify(&state.services.store, request.headers()).await {
        Err(ApiError::Unauthenticated) if Authenticator::has_credential(request.headers()) => {
            count(state, Kind::Login, Who::peer(peer), standing)?;
            return Err(ApiError::Unauthenticated);
        }
        other => other?,
    };
    if !state.services.authenticator.is_open() {
        count(state, kind, Who::Key(principal.name.clone()), standing)?;
    }
    if principal.role < role {
        let (needed, has) = (role.name(), principal.role.name());
        return Err(ApiError::Forbidden(format!("this call needs the role {needed}; this key has {has}")));
    }
    Ok(Some(principal))
}

/// Whether the connection has a client certificate that is still good; of whom is asked later.
fn has_certificate(state: &State, request: &ServiceRequest) -> bool {
    let secure = request.request().conn_data::<Secure>();
    let peer = secure.and_then(|secure| secure.peer.as_ref());
    peer.is_some_and(|peer| peer.standing(state.services.clock.now()).is_ok())
}

/// Counts a request and remembers the tightest standing.
fn count(state: &State, kind: Kind, who: Who, standing: &mut Option<Standing>) -> Result<(), ApiError> {
    let Some(now) = state.limits.count(kind, who) else { return Ok(()) };
    if standing.is_none_or(|s| now.remaining <= s.remaining) {
        *standing = Some(now);
    }
    let Some(retry_after_s) = now.retry_after_s else { return Ok(()) };
    metrics::HTTP_RATE_LIMITED.increment(&[("limit", kind.name())], 1);
    Err(ApiError::TooMany { retry_after_s })
}

fn count_refusal(error: &ApiError, request: &ServiceRequest) {
    let reason = match error {
        ApiError::Unauthenticated if Authenticator::has_credential(request.headers()) => "bad_credential",
        ApiError::Unauthenticated | ApiError::CertificateNeeded => "no_credential",
        ApiError::Forbidden(_) => "forbidden",
        _ => return,
    };
    metrics::HTTP_AUTH_REFUSALS.increment(&[("reason", reason)], 1);
}

fn show(response: &mut ServiceResponse<BoxBody>, standing: Standing) {
    let headers = response.headers_mut();
    let mut insert = |name: &'static str, value: u64| {
        headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
    };
    insert("ratelimit-limit", u64::from(standing.limit));
    insert("ratelimit-remaining", u64::from(standing.remaining));
    insert("ratelimit-reset", standing.reset_s);
}

/// The kind of request a route is, for the limits.
pub(super) fn kind_of(method: &Method, pattern: &str) -> Kind {
    match *method {
        Method::GET => Kind::Read,
        Method::POST if pattern.ends_with("/commands") => Kind::Command,
        _ => Kind::Write,
    }
}

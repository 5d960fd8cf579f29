//! The gate before every handler: the route table says who may, the limits say how often. Deny by default: a path or
//! method that is not in the table reaches no handler. What browsers may be talked into is refused first (`origin`), and what
//! came of a write goes into the audit log (`record`).
//!
//! Invariant: a principal that is limited to some devices passes no route for administrators but those of one device: what
//! such routes show or change is everybody's.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{HeaderName, HeaderValue, LOCATION, WWW_AUTHENTICATE};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpRequest, web};

use super::auth::{Credential, Failure, Principal, Via, session};
use super::error::ApiError;
use super::limits::{Kind, Standing, Who};
use super::peer::Peer;
use super::record::Draft;
use super::routes::{Access, Verdict};
use super::socket::Secure;
use super::{State, cors, etag, firmware, origin};
use crate::observe::metrics;
use crate::store::{self, Role};

/// Why a request does not pass.
enum Stop {
    /// The error says it all.
    Error(ApiError),
    /// A bad credential.
    Denied(super::auth::Denied),
    /// A question of a page of another site what it may send.
    Preflight,
}

impl From<ApiError> for Stop {
    fn from(error: ApiError) -> Self {
        Self::Error(error)
    }
}

/// The layer itself.
pub(super) async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let state = web::Data::clone(State::of(request.request()));
    let peer = peer_of(&state, &request);
    request.extensions_mut().insert(peer);
    let page = cors::allowed(request.head(), &state.options.cors_origins).cloned();
    let mut draft = Draft::of(&state, &request, peer);
    let credential = Credential::of(request.headers(), peer.is_plain_near);
    let is_script = request.headers().get("sec-fetch-mode").is_some_and(|mode| mode.as_bytes() != b"navigate");
    let mut standing = None;
    let admitted = admit(&state, &request, peer, &credential, page.is_some(), &mut standing).await;
    let mut response = match admitted {
        Ok(principal) => {
            if let Some(principal) = principal {
                draft.let_in(&state, &principal);
                request.extensions_mut().insert(principal);
            }
            request.extensions_mut().insert(draft);
            let response = next.call(request).await?.map_into_boxed_body();
            let counted_later = response.request().extensions().get::<Standing>().copied();
            standing = counted_later.or(standing);
            if let Some(draft) = Draft::take(response.request()) {
                note(draft, &state, &response);
            }
            response
        }
        Err(Stop::Preflight) => request.into_response(cors::preflight()).map_into_boxed_body(),
        Err(Stop::Denied(denied)) => {
            draft.denied(&state, &denied);
            metrics::HTTP_AUTH_REFUSALS.increment(&[("reason", "bad_credential")], 1);
            request.error_response(ApiError::Unauthenticated).map_into_boxed_body()
        }
        Err(Stop::Error(error)) => {
            count_refusal(&error);
            let response = request.error_response(error).map_into_boxed_body();
            note(draft, &state, &response);
            response
        }
    };
    let headers = response.headers_mut();
    if is_script && headers.contains_key(WWW_AUTHENTICATE) {
        // The browser must not ask for a password by itself: the page does.
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"iot-meter\""));
    }
    if !state.options.cors_origins.is_empty() {
        cors::vary(headers);
    }
    if let Some(page) = page {
        cors::open(headers, page);
    }
    if let Some(standing) = standing {
        show(&mut response, standing);
    }
    Ok(response)
}

fn peer_of(state: &State, request: &ServiceRequest) -> Peer {
    let socket = request.peer_addr().map(|a| a.ip());
    let is_tls = request.request().conn_data::<Secure>().is_some();
    let peer = Peer::of(request.headers(), socket, is_tls, &state.options.proxies);
    if peer.is_unread
        && let Some(requests) = state.unread.note(state.services.clock.now())
    {
        let (proxy, header) = (socket.map(tracing::field::display), state.options.proxies.header.name());
        tracing::warn!(
            count = requests,
            peer = proxy,
            name = header,
            "a proxy does not say who its client is: it counts as the proxy itself"
        );
    }
    peer
}

fn note(draft: Draft, state: &State, response: &ServiceResponse<BoxBody>) {
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    draft.finished(state, response.request(), location, response.status());
}

/// Who may pass, as whom.
async fn admit(
    state: &State,
    request: &ServiceRequest,
    peer: Peer,
    credential: &Credential,
    is_known_page: bool,
    standing: &mut Option<Standing>,
) -> Result<Option<Principal>, Stop> {
    if is_known_page && cors::is_preflight(request.head()) {
        return Err(Stop::Preflight);
    }
    if request.uri().path_and_query().is_some_and(|p| p.as_str().len() > state.options.max_uri_bytes) {
        return Err(ApiError::UriTooLong { limit_bytes: state.options.max_uri_bytes }.into());
    }
    let pattern = request.match_pattern();
    let (access, kind) = match state.routes.judge(pattern.as_deref(), request.method()) {
        Verdict::Known(access, kind) => (access, kind),
        Verdict::OtherMethods(methods) => return Err(ApiError::MethodNotAllowed(methods).into()),
        Verdict::Unknown => return Err(ApiError::NotFound("this path was".to_owned()).into()),
    };
    if !is_known_page {
        origin::check_write(request.head())?;
    }
    let authenticator = &state.services.authenticator;
    // Its token is no matter of the database: what it has to say may be that this one is away.
    let is_alertmanager = access == Access::Alertmanager && authenticator.is_alertmanager(credential);
    let is_anybodys = access == Access::Metrics || access == Access::Open && request.method() == Method::GET;
    if !is_anybodys && !is_alertmanager && !*state.services.open.borrow() {
        let source = "it was away at the start".into();
        return Err(ApiError::from(store::Error::Unavailable { operation: "say who may what", source }).into());
    }
    if let Access::Open = access {
        return Ok(None);
    }
    let address = peer.address;
    if authenticator.is_open() {
        origin::check_host(request.head(), address)?;
    }
    count(state, kind, Who::peer(address), standing)?;
    let role = match access {
        Access::Metrics if state.options.metrics_access.admits(&peer) => return Ok(None),
        Access::Metrics => Role::Viewer,
        Access::Role(role) => role,
        Access::Alertmanager if is_alertmanager => {
            let principal = Principal::alertmanager();
            count(state, kind, Who::Key(principal.name.clone()), standing)?;
            return Ok(Some(principal));
        }
        Access::Alertmanager => Role::Operator,
        Access::Link => match firmware::is_signed(state, request.path(), request.query_string()) {
            Some(true) => return Ok(None),
            Some(false) => {
                let text = "this link is not valid, or its time is over";
                return Err(ApiError::Forbidden(text.to_owned()).into());
            }
            None => Role::Admin,
        },
        Access::Certificate => {
            return match has_certificate(state, request) {
                true => Ok(None),
                false => Err(ApiError::CertificateNeeded.into()),
            };
        }
        Access::Open => return Ok(None),
    };
    let principal = match authenticator.identify(&state.services.store, credential, address).await {
        Ok(principal) => principal,
        Err(Failure::Nothing) => return Err(ApiError::Unauthenticated.into()),
        Err(Failure::Store(error)) => return Err(ApiError::from(error).into()),
        Err(Failure::Denied(denied)) => {
            // A session that is over is no attempt at guessing: its page just goes on asking.
            if denied.reason != "session" {
                count(state, Kind::Login, Who::peer(address), standing)?;
            }
            return Err(Stop::Denied(denied));
        }
    };
    if !authenticator.is_open() {
        count(state, kind, Who::Key(principal.name.clone()), standing)?;
    }
    let verdict = judge(&principal, role, access, pattern.as_deref(), request);
    let is_untagged = state.routes.is_untagged(pattern.as_deref(), request.method());
    let verdict = verdict.and_then(|()| if is_untagged { etag::untagged(request.headers()) } else { Ok(()) });
    if verdict.is_err() {
        // Known, though not allowed: the audit says who.
        request.extensions_mut().insert(principal);
        return Err(verdict.err().unwrap_or(ApiError::Unauthenticated).into());
    }
    Ok(Some(principal))
}

/// Whether somebody known may.
fn judge(
    principal: &Principal,
    role: Role,
    access: Access,
    pattern: Option<&str>,
    request: &ServiceRequest,
) -> Result<(), ApiError> {
    if let Via::Session { csrf_token, .. } = &principal.via
        && !matches!(*request.method(), Method::GET | Method::HEAD)
    {
        let given = request.headers().get(session::CSRF_HEADER).and_then(|v| v.to_str().ok());
        if !session::is_csrf_token(given, csrf_token) {
            metrics::AUTH_FAILURES.increment(&[("reason", "csrf")], 1);
            let text = "a write with the session's cookie needs the header X-CSRF-Token, as GET /api/session has it";
            return Err(ApiError::Forbidden(text.to_owned()));
        }
    }
    if principal.role < role {
        let (needed, has) = (role.name(), principal.role.name());
        return Err(ApiError::Forbidden(format!("this call needs the role {needed}; this key has {has}")));
    }
    let is_of_one_device = pattern.is_some_and(|p| p.starts_with("/api/devices/{id"));
    if matches!(access, Access::Metrics | Access::Alertmanager) || (role == Role::Admin && !is_of_one_device) {
        principal.whole_fleet()?;
    }
    Ok(())
}

/// Whether the connection has a client certificate that is still good; of whom is asked later.
fn has_certificate(state: &State, request: &ServiceRequest) -> bool {
    let secure = request.request().conn_data::<Secure>();
    let peer = secure.and_then(|secure| secure.peer.as_ref());
    peer.is_some_and(|peer| peer.standing(state.services.clock.now()).is_ok())
}

/// Counts a request and remembers the tightest standing.
fn count(state: &State, kind: Kind, who: Who, standing: &mut Option<Standing>) -> Result<(), ApiError> {
    state.limits.count(kind, who).map_or(Ok(()), |now| stands(kind, now, standing))
}

fn stands(kind: Kind, now: Standing, standing: &mut Option<Standing>) -> Result<(), ApiError> {
    if standing.is_none_or(|s| now.remaining <= s.remaining) {
        *standing = Some(now);
    }
    let Some(retry_after_s) = now.retry_after_s else { return Ok(()) };
    metrics::HTTP_RATE_LIMITED.increment(&[("limit", kind.name())], 1);
    Err(ApiError::TooMany { retry_after_s })
}

/// Counts a request of a peer on an open route, which passes uncounted. The answer says how the peer stands.
pub(super) fn count_later(state: &State, request: &HttpRequest, kind: Kind) -> Result<(), ApiError> {
    note_standing(request, |peer, standing| count(state, kind, peer, standing))
}

/// Refuses a peer that has no log-in left, before anything is looked up for it. Counts nothing.
pub(super) fn check_log_in(state: &State, request: &HttpRequest) -> Result<(), ApiError> {
    note_standing(request, |peer, standing| {
        state.limits.spent(peer).map_or(Ok(()), |now| stands(Kind::Login, now, standing))
    })
}

/// Leaves the tightest standing with the request, for the guard to show.
fn note_standing(
    request: &HttpRequest,
    judge: impl FnOnce(Who, &mut Option<Standing>) -> Result<(), ApiError>,
) -> Result<(), ApiError> {
    let peer = request.extensions().get::<Peer>().copied().unwrap_or_default();
    let mut standing = request.extensions().get::<Standing>().copied();
    let judged = judge(Who::peer(peer.address), &mut standing);
    if let Some(standing) = standing {
        request.extensions_mut().insert(standing);
    }
    judged
}

fn count_refusal(error: &ApiError) {
    let reason = match error {
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

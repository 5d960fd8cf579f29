//! Requests from pages of other sites: only those of configured origins, and those with a key, never with our cookie.
//!
//! Off unless `http.cors_origins` names origins. `Access-Control-Allow-Credentials` is never sent, so a browser neither
//! sends the session's cookie along nor shows the answer to a request that had one. Pure.

use actix_web::HttpResponse;
use actix_web::dev::RequestHead;
use actix_web::http::Method;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue, ORIGIN, VARY};

/// What a page may send and read besides what every page may.
const REQUEST_HEADERS: &str = "authorization, content-type, if-match, if-none-match, last-event-id, traceparent, \
                               tracestate, x-api-key, x-request-id";
const ANSWER_HEADERS: &str = "etag, link, location, ratelimit-limit, ratelimit-remaining, ratelimit-reset, retry-after, \
                              traceresponse, x-request-id, x-total-count";

/// The request's origin, if it is one of those.
pub(super) fn allowed<'a>(head: &'a RequestHead, origins: &[String]) -> Option<&'a HeaderValue> {
    let origin = head.headers.get(ORIGIN)?;
    origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()).then_some(origin)
}

/// Whether it asks, before the real request, what is allowed.
pub(super) fn is_preflight(head: &RequestHead) -> bool {
    head.method == Method::OPTIONS && head.headers.contains_key("access-control-request-method")
}

/// The answer to that.
pub(super) fn preflight() -> HttpResponse {
    HttpResponse::NoContent()
        .insert_header(("access-control-allow-methods", "GET, HEAD, POST, PUT, DELETE"))
        .insert_header(("access-control-allow-headers", REQUEST_HEADERS))
        .insert_header(("access-control-max-age", "600"))
        .finish()
}

/// Lets a page of `origin` read the answer.
pub(super) fn open(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(HeaderName::from_static("access-control-allow-origin"), origin);
    headers.insert(HeaderName::from_static("access-control-expose-headers"), HeaderValue::from_static(ANSWER_HEADERS));
}

/// Tells caches that the answer depends on who asks.
pub(super) fn vary(headers: &mut HeaderMap) {
    headers.append(VARY, HeaderValue::from_static("origin"));
}

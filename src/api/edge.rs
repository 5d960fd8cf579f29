//! What every answer gets, whoever made it: a request id, its place in the caller's trace, the problem body of an error,
//! security headers, a log line.
//!
//! Invariant: an error is logged here and nowhere else, and its inside text goes to the log only.
//!
//! A caller's `traceparent` and `tracestate` are taken up (W3C Trace Context). The answer names the span that it was in
//! `traceresponse`, as the draft of W3C's Distributed Tracing working group has it (Level 2 defines no header of answers).

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{self, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::web::Bytes;
use actix_web::{Error, HttpMessage, HttpResponse};

use super::State;
use super::error::{ApiError, problem};
use crate::domain::Timestamp;
use crate::observe::metrics;
use crate::observe::trace::{self, Context, Current, Span, SpanId, SpanKind, Tracer};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACE_PARENT: &str = "traceparent";
const TRACE_STATE: &str = "tracestate";
const TRACE_RESPONSE: HeaderName = HeaderName::from_static("traceresponse");
const POLICY: HeaderName = HeaderName::from_static("content-security-policy");

/// Headers of every answer.
const SECURITY: [(HeaderName, HeaderValue); 5] = [
    (HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff")),
    (HeaderName::from_static("x-frame-options"), HeaderValue::from_static("DENY")),
    (HeaderName::from_static("referrer-policy"), HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("strict-transport-security"), HeaderValue::from_static("max-age=31536000")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// An answer that is no page may load and run nothing.
const NO_PAGE: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");

/// The request's id, for those within.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct RequestId(pub String);

/// The client's id when it is short and printable, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|v| v.to_str().ok());
    let good = |id: &&str| {
        (1..=128).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'))
    };
    given.filter(good).map_or_else(new_request_id, str::to_owned)
}

/// An id for a request that has none, or whose own cannot be read.
pub(super) fn new_request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Headers of every answer that is no page.
pub(super) fn headers(id: &str) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let id = HeaderValue::from_str(id).ok().map(|value| (REQUEST_ID, value));
    SECURITY.into_iter().chain([(POLICY, NO_PAGE)]).chain(id)
}

/// The caller's place in its trace. More than one `traceparent` is none (section 3.2); several `tracestate`s are one list
/// (section 3.3.1.1).
fn caller(headers: &HeaderMap) -> Option<Context> {
    let mut parents = headers.get_all(TRACE_PARENT).filter_map(|v| v.to_str().ok());
    let parent = parents.next().filter(|_| parents.next().is_none())?;
    let states: Vec<&str> = headers.get_all(TRACE_STATE).filter_map(|v| v.to_str().ok()).collect();
    let states = (!states.is_empty()).then(|| states.join(","));
    Context::parse(parent, states.as_deref())
}

/// Counts and logs a request whose head could not be read: of its method and path nothing is known.
pub(super) fn refused(id: &str, status: StatusCode, inside: Option<String>) {
    metrics::http_unread(status.as_str());
    match inside {
        Some(error) => tracing::error!(request_id = id, status = status.as_u16(), error, "request failed"),
        None => tracing::debug!(request_id = id, status = status.as_u16(), "request head not read"),
    }
}

/// The outermost layer but compression.
pub(super) async fn edge(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let id = request_id(request.headers());
    request.extensions_mut().insert(RequestId(id.clone()));
    let (method, path) = (request.method().clone(), request.path().to_owned());
    let services = &State::of(request.request()).services;
    let (clock, tracer) = (services.clock.clone(), services.tracer.clone());
    let started = clock.now();
    let (context, parent) = tracer.begin(caller(request.headers()).as_ref());
    let current = Current { context: context.clone(), request_id: Some(id.as_str().into()), tracer: tracer.clone() };
    if method == Method::HEAD {
        // The connection remembers that the client wants no body.
        request.head_mut().method = Method::GET;
    }
    let under_way = UnderWay::new();
    let response = trace::within(current.clone(), next.call(request)).await?.map_into_boxed_body();
    drop(under_way);
    let status = response.status();
    let inside = response.response().error().and_then(|e| e.as_error::<ApiError>()).and_then(ApiError::inside);
    let mut response = with_problem(response, &id);
    if method == Method::HEAD {
        response = response.map_body(|_, body| BoxBody::new(Unread(body.size())));
    }
    let headers = response.headers_mut();
    for (name, value) in self::headers(&id) {
        if name != POLICY || !headers.contains_key(POLICY) {
            headers.insert(name, value);
        }
    }
    if let Ok(value) = HeaderValue::from_str(&context.traceparent()) {
        headers.insert(TRACE_RESPONSE, value);
    }
    let ended = clock.now();
    let took = ended.since(started);
    let route = response.request().match_pattern().map(|p| super::routes::plain(&p));
    let route = route.as_deref().unwrap_or("none");
    metrics::http_request(route, known(&method), status.as_u16(), took, &context);
    trace::within(current, async { log(&id, &method, &path, status, took.as_millis(), inside) }).await;
    if tracer.records(&context) {
        record(&tracer, Place { context, parent, from: started, to: ended }, &method, route, &path, status);
    }
    Ok(response)
}

/// The body of an answer to HEAD: its head is that of GET, and nothing is made that nobody gets. (The connection would take it
/// out of the body to the end and send nothing, of a stream that has no end for ever.)
struct Unread(BodySize);

impl MessageBody for Unread {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        self.0
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        Poll::Ready(None)
    }
}

/// Where and when a request was answered.
struct Place {
    context: Context,
    parent: Option<SpanId>,
    from: Timestamp,
    to: Timestamp,
}

/// The request as a span, named and described as OpenTelemetry's conventions for HTTP servers say.
fn record(tracer: &Tracer, place: Place, method: &Method, route: &str, path: &str, status: StatusCode) {
    let Place { context, parent, from, to } = place;
    tracer.record(Span {
        name: format!("{} {route}", known(method)).into(),
        context,
        parent,
        kind: SpanKind::Server,
        start: from,
        end: to,
        attributes: vec![
            ("http.request.method", known(method).to_owned().into()),
            ("http.route", route.to_owned().into()),
            ("url.path", path.to_owned().into()),
            ("http.response.status_code", u64::from(status.as_u16()).into()),
        ],
        is_error: status.is_server_error(),
    });
}

/// Counts a request as under way while it lives, also when the client goes away meanwhile.
struct UnderWay;

impl UnderWay {
    fn new() -> Self {
        metrics::HTTP_IN_FLIGHT.add(&[], 1.0);
        Self
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        metrics::HTTP_IN_FLIGHT.add(&[], -1.0);
    }
}

/// The method as a label: what clients invent counts as one.
fn known(method: &Method) -> &str {
    let all = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::HEAD, Method::OPTIONS];
    if all.contains(method) { method.as_str() } else { "other" }
}

/// Writes the problem body of an error answer.
fn with_problem(response: ServiceResponse<BoxBody>, id: &str) -> ServiceResponse<BoxBody> {
    if response.response().error().is_none() {
        return response;
    }
    let (request, response) = response.into_parts();
    let error = response.error().and_then(|e| e.as_error::<ApiError>());
    let body = problem(response.status(), error, id);
    let text = serde_json::to_string(&body).unwrap_or_default();
    let mut answer = HttpResponse::build(response.status()).content_type("application/problem+json").body(text);
    for (name, value) in response.headers().iter().filter(|(name, _)| *name != CONTENT_TYPE) {
        answer.headers_mut().append(name.clone(), value.clone());
    }
    ServiceResponse::new(request, answer)
}

fn log(id: &str, method: &Method, path: &str, status: StatusCode, ms: u128, inside: Option<String>) {
    let status = status.as_u16();
    match inside {
        Some(error) => tracing::error!(request_id = id, %method, path, status, ms, error, "request failed"),
        // `/readyz` that says no has served: why not stands in its answer, and in the log of what is not ready.
        None if status >= 500 && path != "/readyz" => {
            tracing::warn!(request_id = id, %method, path, status, ms, "request not served")
        }
        None => tracing::debug!(request_id = id, %method, path, status, ms, "request"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_id_is_kept_when_it_cannot_hurt_a_log() {
        let check = |given: &str, kept: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_str(given).unwrap());
            assert_eq!(request_id(&headers) == given, kept, "{given:?}");
        };
        check("abc-123", true);
        check("", false);
        check("a b", false);
        check("x\"y", false);
        check(&"a".repeat(129), false);
        assert_eq!(request_id(&HeaderMap::new()).len(), 36);
    }

    #[test]
    fn the_callers_trace_is_taken_up_when_it_says_one_place() {
        const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let check = |given: &[(&'static str, &'static str)], expected: Option<Option<&str>>| {
            let mut headers = HeaderMap::new();
            for (name, value) in given {
                headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            let found = caller(&headers);
            assert_eq!(found.as_ref().map(|c| c.tracestate()), expected, "{given:?}");
        };
        check(&[], None);
        check(&[("tracestate", "a=1")], None);
        check(&[("traceparent", "nonsense"), ("tracestate", "a=1")], None);
        check(&[("traceparent", PARENT), ("traceparent", PARENT)], None);
        check(&[("traceparent", PARENT)], Some(None));
        check(&[("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")], Some(Some("a=1,b=2")));
        check(&[("traceparent", PARENT), ("tracestate", "a")], Some(None));
    }
}

//! The span in which the running code works, so that log lines, exemplars and calls to others find it.
//!
//! It belongs to a future ([`within`]) or to a call on another thread ([`carry`]); it is never passed as an argument, for
//! what needs it stands far from what knows it.

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;

use super::context::Context;
use super::span::{Span, SpanKind, Value};
use super::tracer::Tracer;
use crate::domain::Clock;

/// What the running code works for.
#[derive(Clone, Debug)]
pub struct Current {
    /// The span.
    pub context: Context,
    /// The id of the HTTP request, where it is one.
    pub request_id: Option<Arc<str>>,
    /// Where spans below it go.
    pub tracer: Tracer,
}

tokio::task_local! {
    static CURRENT: Current;
}

/// Runs a future in a span.
pub fn within<F: Future>(current: Current, work: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(current, work)
}

/// Takes the span of now along into a call that runs elsewhere.
pub fn carry<T>(call: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let current = CURRENT.try_with(Clone::clone).ok();
    move || match current {
        Some(current) => CURRENT.sync_scope(current, call),
        None => call(),
    }
}

/// Shows what the running code works for; `None` = nothing in particular.
pub fn look<T>(f: impl FnOnce(&Current) -> T) -> Option<T> {
    CURRENT.try_with(f).ok()
}

/// The headers that take the trace along to somebody else.
pub fn outgoing() -> Vec<(&'static str, String)> {
    let headers = |current: &Current| {
        let parent = ("traceparent", current.context.traceparent());
        let state = current.context.tracestate().map(|state| ("tracestate", state.to_owned()));
        std::iter::once(parent).chain(state).collect()
    };
    look(headers).unwrap_or_default()
}

/// Does some work as a span below that of now, where that is recorded; what it calls finds the new one.
pub fn in_span<T, E>(
    name: &'static str,
    kind: SpanKind,
    attributes: &[(&'static str, &'static str)],
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let above = look(|current| current.tracer.records(&current.context).then(|| current.clone())).flatten();
    let Some(above) = above else { return work() };
    let clock = Clock::system();
    let (context, start) = (above.context.child(), clock.now());
    let done = CURRENT.sync_scope(Current { context: context.clone(), ..above.clone() }, work);
    above.tracer.record(Span {
        name: Cow::Borrowed(name),
        context,
        parent: Some(above.context.span_id),
        kind,
        start,
        end: clock.now(),
        attributes: attributes.iter().map(|(key, value)| (*key, Value::from(*value))).collect(),
        is_error: done.is_err(),
    });
    done
}

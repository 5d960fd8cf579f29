//! Traces across processes: what a caller says is taken up, what we call is told, and spans of what is sampled are recorded.
//!
//! Promise: the way of a message costs nothing while nothing is sampled, and never waits for a collector. Must not know
//! who uses it.
//!
//! Start from [`Tracer`] (what is recorded) and [`Context`] (a place in a trace); [`look`] finds the place of now.

mod context;
mod current;
#[cfg(feature = "otel")]
pub mod otlp;
mod span;
mod tracer;

pub use context::{Context, SpanId, TraceId};
pub use current::{Current, carry, in_span, look, outgoing, within};
pub use span::{Span, SpanKind, Value};
pub use tracer::Tracer;

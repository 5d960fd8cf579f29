//! A span that has ended: what it was, when, and where in its trace.

use std::borrow::Cow;

use super::context::{Context, SpanId};
use crate::domain::Timestamp;

/// Which side of a call it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpanKind {
    /// Within the process.
    Internal,
    /// Answers somebody.
    Server,
    /// Asks somebody.
    Client,
    /// Takes a message.
    Consumer,
}

/// What is known about a span beside its name; names as in OpenTelemetry's semantic conventions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// Words.
    Text(Cow<'static, str>),
    /// A number.
    Int(i64),
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

/// A span.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Span {
    /// What was done; few different ones.
    pub name: Cow<'static, str>,
    /// The span itself.
    pub context: Context,
    /// Whatever it is a part of.
    pub parent: Option<SpanId>,
    /// Which side.
    pub kind: SpanKind,
    /// From when.
    pub start: Timestamp,
    /// Until when.
    pub end: Timestamp,
    /// Details.
    pub attributes: Vec<(&'static str, Value)>,
    /// It did not succeed.
    pub is_error: bool,
}

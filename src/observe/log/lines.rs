//! One line an event: what every line has, what the event says, and the trace and request it belongs to.
//!
//! Invariant: a line of JSON is one object with each member once; a warning or an error that is written is counted here, and
//! nowhere else.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{self, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::domain::Clock;
use crate::observe::metrics::{LOG_MESSAGES, ROOMS};
use crate::observe::trace::{self, Current};

/// How lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lines {
    /// For people.
    Text,
    /// For machines.
    Json,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        count(event);
        if *self == Self::Json {
            return writer.write_str(&json(event));
        }
        let mut line = String::new();
        let text = format::Format::default().with_ansi(writer.has_ansi_escapes());
        text.format_event(context, Writer::new(&mut line), event)?;
        let belonging = trace::look(belonging).unwrap_or_default();
        let belonging = belonging.iter().filter(|(name, _)| event.fields().all(|field| field.name() != *name));
        writer.write_str(line.trim_end_matches('\n'))?;
        belonging.into_iter().try_for_each(|(name, value)| write!(writer, " {name}={value}"))?;
        writer.write_char('\n')
    }
}

/// What belongs to every line of a piece of work.
fn belonging(current: &Current) -> Vec<(&'static str, String)> {
    let request = current.request_id.iter().map(|id| ("request_id", id.to_string()));
    let Current { context, .. } = current;
    let place = [("trace_id", context.trace_id.to_string()), ("span_id", context.span_id.to_string())];
    request.chain(place).collect()
}

fn count(event: &Event<'_>) {
    let level = match *event.metadata().level() {
        Level::ERROR => "error",
        Level::WARN => "warn",
        _ => return,
    };
    let mut parts = event.metadata().target().split("::");
    let room = parts.next().filter(|name| *name == "iot_meter").and_then(|_| parts.next());
    let room = room.filter(|room| ROOMS.contains(room)).unwrap_or("other");
    LOG_MESSAGES.increment(&[("level", level), ("room", room)], 1);
}

fn json(event: &Event<'_>) -> String {
    let metadata = event.metadata();
    let mut object = Object(String::with_capacity(256));
    object.member("timestamp", Clock::system().now().to_string());
    object.member("level", metadata.level().as_str());
    object.member("target", metadata.target());
    event.record(&mut object);
    for (name, value) in trace::look(belonging).unwrap_or_default() {
        if event.fields().all(|field| field.name() != name) {
            object.member(name, value);
        }
    }
    object.0.push_str("}\n");
    object.0
}

/// A JSON object being written.
struct Object(String);

impl Object {
    fn member(&mut self, name: &str, value: impl Into<serde_json::Value>) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        let _ = write!(self.0, "{}:{}", serde_json::Value::from(name), value.into());
    }
}

impl Visit for Object {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.member(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.member(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.member(field.name(), value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.member(field.name(), u64::try_from(value).unwrap_or(u64::MAX));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.member(field.name(), value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.member(field.name(), value);
    }

    /// With all it is caused by.
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        self.member(field.name(), text);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.member(field.name(), format!("{value:?}"));
    }
}

//! Publishes that are traced: their span, the journal's below it, and where the collector goes on from there.
//!
//! A publisher says its place in a trace by the user properties `traceparent` and `tracestate` (MQTT 5); subscribers get them
//! as they came `[MQTT-3.3.2-17]`. Invariant: a publish that is not sampled costs one comparison and no memory. A connection
//! that ends before its publishes are confirmed records no spans of them.

use super::connection::Taken;
use crate::domain::Timestamp;
use crate::journal::Offset;
use crate::mqtt::{Publish, Reason};
use crate::observe::trace::{Context, Span, SpanId, SpanKind, Tracer};
use crate::payload::Kind;

/// A publish that is recorded.
#[derive(Debug)]
pub(super) struct Traced {
    publish: Context,
    parent: Option<SpanId>,
    received_at: Timestamp,
    journal: Option<(u64, Context)>,
}

/// Begins the span of a publish, if it is to have one.
pub(super) fn begin(tracer: &Tracer, publish: &Publish, now: impl FnOnce() -> Timestamp) -> Option<Box<Traced>> {
    let (context, parent) = tracer.begin_recorded(|| caller(publish))?;
    Some(Box::new(Traced { publish: context, parent, received_at: now(), journal: None }))
}

fn caller(publish: &Publish) -> Option<Context> {
    let user = &publish.properties.as_ref()?.user;
    let find = |wanted: &str| user.iter().find(|(name, _)| &**name == wanted).map(|(_, value)| &**value);
    Context::parse(find("traceparent")?, find("tracestate"))
}

/// Notes where the journal has put the messages of meters among `items`, which end at `end`.
pub(super) fn journalled(tracer: &Tracer, items: &mut [Taken], end: Offset) {
    if !tracer.is_on() {
        return;
    }
    let count = items.iter().filter(|item| item.meter.is_some()).count() as u64;
    let first = end.0.saturating_sub(count);
    for (offset, item) in (first..).zip(items.iter_mut().filter(|item| item.meter.is_some())) {
        if let Some(traced) = &mut item.traced {
            let context = traced.publish.child();
            tracer.journalled(offset, context.clone());
            traced.journal = Some((offset, context));
        }
    }
}

impl Traced {
    /// Records the spans of a publish that is on disk and routed.
    pub(super) fn finish(
        self,
        tracer: &Tracer,
        publish: &Publish,
        meter: Option<Kind>,
        reason: Reason,
        now: Timestamp,
    ) {
        let Self { publish: context, parent, received_at, journal } = self;
        if let Some((offset, below)) = journal {
            tracer.record(Span {
                name: "journal".into(),
                context: below,
                parent: Some(context.span_id),
                kind: SpanKind::Internal,
                start: received_at,
                end: now,
                attributes: vec![("journal.offset", offset.into())],
                is_error: false,
            });
        }
        tracer.record(Span {
            name: meter.map_or("publish".into(), |kind| format!("publish iot/+/{}", kind.topic_suffix()).into()),
            context,
            parent,
            kind: SpanKind::Consumer,
            start: received_at,
            end: now,
            attributes: vec![
                ("messaging.system", "mqtt".into()),
                ("messaging.operation.type", "receive".into()),
                ("messaging.destination.name", publish.topic.to_string().into()),
                ("mqtt.qos", u64::from(publish.qos.level()).into()),
                ("mqtt.reason_code", u64::from(reason as u8).into()),
            ],
            is_error: reason.is_error(),
        });
    }
}

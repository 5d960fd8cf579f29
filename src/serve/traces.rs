//! Where spans of this process go: to the collector of the settings, if there is one.

use tokio::sync::watch;

use super::supervise::Tasks;
use crate::config::Settings;
use crate::observe::trace::Tracer;

/// The tracer of all tasks. What sends its spans ends when `stopping` says so.
#[cfg(feature = "otel")]
pub(super) fn start(
    settings: &Settings,
    node_id: uuid::Uuid,
    stopping: watch::Receiver<bool>,
    tasks: &mut Tasks,
) -> Tracer {
    use crate::observe::trace::otlp;

    let trace = &settings.trace;
    if trace.endpoint.is_empty() {
        return Tracer::default();
    }
    let (tracer, spans) = Tracer::new(trace.sample_ratio, trace.queue);
    let options = otlp::Options {
        endpoint: trace.endpoint.clone(),
        headers: trace.headers.iter().map(|(name, value)| (name.clone(), value.reveal().to_owned())).collect(),
        node_id: node_id.to_string(),
    };
    tasks.spawn(otlp::TASK, async move {
        otlp::export(options, spans, stopping).await;
        Ok(())
    });
    tracer
}

/// Nothing here sends spans; `config` refuses a collector that was asked for.
#[cfg(not(feature = "otel"))]
pub(super) fn start(_: &Settings, _: uuid::Uuid, _: watch::Receiver<bool>, _: &mut Tasks) -> Tracer {
    Tracer::default()
}

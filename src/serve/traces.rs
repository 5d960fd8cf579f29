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
) -> anyhow::Result<Tracer> {
    use crate::observe::trace::otlp;

    let trace = &settings.trace;
    if trace.endpoint.is_empty() {
        return Ok(Tracer::default());
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
    Ok(tracer)
}

/// Nothing here sends spans: a collector that was asked for is an error, not a silence.
#[cfg(not(feature = "otel"))]
pub(super) fn start(
    settings: &Settings,
    _: uuid::Uuid,
    _: watch::Receiver<bool>,
    _: &mut Tasks,
) -> anyhow::Result<Tracer> {
    match settings.trace.endpoint.is_empty() {
        true => Ok(Tracer::default()),
        false => {
            anyhow::bail!("trace.endpoint is set and this executable cannot send spans: build it with --features otel")
        }
    }
}

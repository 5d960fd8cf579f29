//! Spans on their way to a collector: OTLP over HTTP, in protocol buffers (`/v1/traces`).
//!
//! Invariants: nobody waits for the collector; what it does not take after a few tries is counted and forgotten, and what comes
//! meanwhile waits in the tracer's bounded queue. Does not know what is traced.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue as Any, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind as OtlpKind;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as OtlpSpan, Status, status::StatusCode};
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::span::{Span, SpanKind, Value};
use crate::domain::Timestamp;
use crate::observe::backoff::Backoff;
use crate::observe::counted;
use crate::observe::metrics::TRACE_SPANS;

/// The name on the task board.
pub const TASK: &str = "trace export";

/// Most spans of one request.
const BATCH: usize = 512;
/// How long spans gather for a request.
const GATHER: Duration = Duration::from_secs(1);
/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Tries of one batch.
const TRIES: u32 = 4;
/// Longest answer read.
const MAX_ANSWER: u64 = 64 * 1024;

/// Where to.
#[derive(Clone)]
pub struct Options {
    /// `http://host:port`, or with the whole path.
    pub endpoint: String,
    /// What the collector wants to see besides.
    pub headers: Vec<(String, String)>,
    /// Which of several nodes this is.
    pub node_id: String,
}

/// Without the headers, which may hold a key.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("endpoint", &self.endpoint)
            .field("node_id", &self.node_id)
            .finish_non_exhaustive()
    }
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the collector cannot be reached")]
    Unreachable(#[source] Box<ureq::Error>),
    #[error("the collector answers with status {0}")]
    Status(u16),
    #[error("the sending broke off")]
    BrokeOff,
}

impl Error {
    /// Whether another try may help: what the OTLP specification calls retryable.
    const fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Status(429 | 502 | 503 | 504))
    }
}

/// Sends spans until `stop` says so, then what is left, once.
pub async fn export(options: Options, mut spans: mpsc::Receiver<Span>, mut stop: watch::Receiver<bool>) {
    let url = url(&options.endpoint);
    let mut sender = Sender { agent: agent(), url, options, has_complained: false };
    let mut is_stopping = false;
    while !is_stopping {
        let mut batch = Vec::new();
        tokio::select! {
            count = spans.recv_many(&mut batch, BATCH) => is_stopping = count == 0,
            _ = stop.wait_for(|stops| *stops) => is_stopping = true,
        }
        let enough = tokio::time::sleep(GATHER);
        tokio::pin!(enough);
        while !is_stopping && batch.len() < BATCH {
            let room = BATCH - batch.len();
            tokio::select! {
                count = spans.recv_many(&mut batch, room) => is_stopping = count == 0,
                () = &mut enough => break,
                _ = stop.wait_for(|stops| *stops) => is_stopping = true,
            }
        }
        sender.send(batch, &mut stop).await;
    }
    loop {
        let mut batch = Vec::new();
        while batch.len() < BATCH && spans.try_recv().map(|span| batch.push(span)).is_ok() {}
        if batch.is_empty() {
            return;
        }
        sender.send(batch, &mut stop).await;
    }
}

/// The address with the path of the protocol, where it has none.
fn url(endpoint: &str) -> String {
    let endpoint = endpoint.trim_end_matches('/');
    let authority = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    if authority.contains('/') { endpoint.to_owned() } else { format!("{endpoint}/v1/traces") }
}

struct Sender {
    agent: ureq::Agent,
    url: String,
    options: Options,
    /// Said once, until it works again.
    has_complained: bool,
}

impl Sender {
    async fn send(&mut self, spans: Vec<Span>, stop: &mut watch::Receiver<bool>) {
        if spans.is_empty() {
            return;
        }
        let count = spans.len() as u64;
        let body = encode(&spans, &self.options.node_id);
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        for attempt in 1..=TRIES {
            match self.post(body.clone()).await {
                Ok(refused) => {
                    TRACE_SPANS.increment(&[("result", "exported")], count.saturating_sub(refused));
                    TRACE_SPANS.increment(&[("result", "failed")], refused.min(count));
                    self.has_complained = false;
                    return;
                }
                Err(error) if attempt == TRIES || !error.is_transient() || *stop.borrow() => {
                    counted!(
                        warn if !self.has_complained,
                        TRACE_SPANS,
                        [("result", "failed")],
                        count,
                        error = &error as &dyn std::error::Error,
                        endpoint = self.url,
                        spans = count,
                        "the collector does not take spans; they are lost until it does"
                    );
                    self.has_complained = true;
                    return;
                }
                Err(_) => {
                    // A stop leaves one more try.
                    let pause = tokio::time::sleep(backoff.next_pause());
                    tokio::select! {
                        () = pause => {}
                        _ = stop.wait_for(|stops| *stops) => {}
                    }
                }
            }
        }
    }

    /// Sends a batch; how many spans of it the collector refused.
    async fn post(&self, body: Vec<u8>) -> Result<u64, Error> {
        let (agent, url, headers) = (self.agent.clone(), self.url.clone(), self.options.headers.clone());
        let call = tokio::task::spawn_blocking(move || {
            let mut request = agent.post(&url).header("Content-Type", "application/x-protobuf");
            for (name, value) in &headers {
                request = request.header(name, value);
            }
            let mut response = request.send(&body).map_err(|e| Error::Unreachable(Box::new(e)))?;
            let status = response.status().as_u16();
            if !(200..300).contains(&status) {
                return Err(Error::Status(status));
            }
            // An answer that cannot be read refuses nothing.
            let answer = response.body_mut().with_config().limit(MAX_ANSWER).read_to_vec().unwrap_or_default();
            let answer = ExportTraceServiceResponse::decode(answer.as_slice()).unwrap_or_default();
            let refused = answer.partial_success.map_or(0, |partial| partial.rejected_spans);
            Ok(u64::try_from(refused).unwrap_or(0))
        });
        call.await.unwrap_or(Err(Error::BrokeOff))
    }
}

fn agent() -> ureq::Agent {
    // One that cannot be read is passed over, as `rustls-native-certs` advises.
    let roots = rustls_native_certs::load_native_certs().certs;
    let roots: Vec<_> = roots.iter().map(|der| Certificate::from_der(der.as_ref()).to_owned()).collect();
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(TIMEOUT))
        .max_redirects(0)
        .proxy(None)
        .tls_config(tls)
        .user_agent(concat!("iot-meter/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

fn encode(spans: &[Span], node_id: &str) -> Vec<u8> {
    let resource = Resource {
        attributes: vec![
            text("service.name", "iot-meter"),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("service.instance.id", node_id),
        ],
        ..Resource::default()
    };
    let scope = InstrumentationScope {
        name: "iot-meter".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let scope_spans =
        ScopeSpans { scope: Some(scope), spans: spans.iter().map(span).collect(), ..ScopeSpans::default() };
    let resource_spans =
        ResourceSpans { resource: Some(resource), scope_spans: vec![scope_spans], ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans] }.encode_to_vec()
}

fn span(span: &Span) -> OtlpSpan {
    let kind = match span.kind {
        SpanKind::Internal => OtlpKind::Internal,
        SpanKind::Server => OtlpKind::Server,
        SpanKind::Client => OtlpKind::Client,
        SpanKind::Consumer => OtlpKind::Consumer,
    };
    let attribute = |(key, value): &(&'static str, Value)| match value {
        Value::Text(value) => text(key, value),
        Value::Int(number) => attribute(key, AnyValue::IntValue(*number)),
    };
    let status = Status { code: StatusCode::Error.into(), message: String::new() };
    OtlpSpan {
        trace_id: span.context.trace_id.0.to_be_bytes().to_vec(),
        span_id: span.context.span_id.0.to_be_bytes().to_vec(),
        trace_state: span.context.tracestate().unwrap_or_default().to_owned(),
        parent_span_id: span.parent.map_or_else(Vec::new, |parent| parent.0.to_be_bytes().to_vec()),
        flags: u32::from(span.context.flags()),
        name: span.name.to_string(),
        kind: kind.into(),
        start_time_unix_nano: nanos(span.start),
        end_time_unix_nano: nanos(span.end.max(span.start)),
        attributes: span.attributes.iter().map(attribute).collect(),
        status: span.is_error.then_some(status),
        ..OtlpSpan::default()
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, AnyValue::StringValue(value.to_owned()))
}

fn attribute(key: &str, value: AnyValue) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(Any { value: Some(value) }), ..KeyValue::default() }
}

fn nanos(at: Timestamp) -> u64 {
    u64::try_from(at.0).unwrap_or(0).saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_the_protocol_is_added_where_there_is_none() {
        let check = |endpoint: &str, expected: &str| assert_eq!(url(endpoint), expected);
        check("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces");
        check("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces");
        check("https://otlp.example/tenant/v1/traces", "https://otlp.example/tenant/v1/traces");
    }
}

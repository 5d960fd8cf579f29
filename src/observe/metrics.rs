//! Metric handles and the one recorder behind them.
//!
//! The recorder belongs to this room and is made at first use, so there is nothing to install, no order to keep and no
//! second installation to fail. A metric whose labels have a closed set of values keeps one handle a combination in a
//! flat table, made when it is first used: counting is a few string comparisons and one atomic addition, never a lookup in a map. Labels with an
//! open set (route, task) are bounded at [`MAX_OPEN_SERIES`] combinations; everything beyond counts as `other`.
//! Does not know what is counted: that is the catalogue's business.

use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use metrics::{Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

pub use super::catalogue::*;
pub use super::openmetrics::Exposition;
use super::trace::{self, Context};
use super::{Board, exemplars, openmetrics, process};

/// Most label combinations of a metric with an open label set.
pub const MAX_OPEN_SERIES: usize = 1024;

/// How often [`upkeep`] is to be called.
pub const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Label names with their values, all of the metric's labels in any order.
pub type LabelValues<'a> = &'a [(&'a str, &'a str)];

static METADATA: Metadata<'static> = Metadata::new("iot_meter", Level::INFO, None);

static RECORDER: LazyLock<(PrometheusRecorder, PrometheusHandle)> = LazyLock::new(|| {
    let mut builder = PrometheusBuilder::new();
    for def in CATALOGUE {
        if let Kind::Histogram(buckets) = def.kind {
            builder = builder
                .set_buckets_for_metric(Matcher::Full(def.name.to_owned()), buckets)
                .expect("the catalogue's bucket lists are not empty: a test looks");
        }
    }
    let recorder = builder.build_recorder();
    for def in CATALOGUE {
        let (name, help) = (def.name.into(), def.help.into());
        match def.kind {
            Kind::Counter => recorder.describe_counter(name, None, help),
            Kind::Gauge => recorder.describe_gauge(name, None, help),
            Kind::Histogram(_) => recorder.describe_histogram(name, None, help),
        }
    }
    let handle = recorder.handle();
    (recorder, handle)
});

/// A kind of handle: how it is registered.
pub trait Handle: Clone + Send + Sync + 'static {
    /// The handle of one series.
    fn register(recorder: &dyn Recorder, key: &Key) -> Self;
}

impl Handle for metrics::Counter {
    fn register(recorder: &dyn Recorder, key: &Key) -> Self {
        recorder.register_counter(key, &METADATA)
    }
}

impl Handle for metrics::Gauge {
    fn register(recorder: &dyn Recorder, key: &Key) -> Self {
        recorder.register_gauge(key, &METADATA)
    }
}

impl Handle for metrics::Histogram {
    fn register(recorder: &dyn Recorder, key: &Key) -> Self {
        recorder.register_histogram(key, &METADATA)
    }
}

/// One combination of a closed label set.
#[derive(Debug)]
struct Series<H> {
    values: Vec<&'static str>,
    handle: OnceLock<H>,
}

/// A metric of the catalogue with the handles of its series.
#[derive(Debug)]
pub struct Metric<H> {
    def: &'static MetricDef,
    closed: OnceLock<Vec<Series<H>>>,
    open: OnceLock<RwLock<HashMap<String, H>>>,
}

/// Only grows.
pub type Counter = Metric<metrics::Counter>;
/// Goes up and down.
pub type Gauge = Metric<metrics::Gauge>;
/// Durations and sizes in buckets.
pub type Histogram = Metric<metrics::Histogram>;

impl<H: Handle> Metric<H> {
    /// The metric of a definition.
    pub const fn new(def: &'static MetricDef) -> Self {
        Self { def, closed: OnceLock::new(), open: OnceLock::new() }
    }

    /// The handle of one series, to be kept where even a few comparisons are too many. `None` when the labels are not the
    /// metric's (a mistake in the caller; debug builds stop there).
    pub fn with(&self, labels: LabelValues<'_>) -> Option<H> {
        let found = match self.def.is_closed() {
            true => self.closed_index(labels).map(|index| self.of_closed(&self.closed()[index]).clone()),
            false => self.open_handle(labels),
        };
        debug_assert!(found.is_some(), "{} has no series {labels:?}", self.def.name);
        found
    }

    /// Makes all series of a closed label set, unless it is a gauge.
    pub(super) fn prepare(&self) {
        if self.def.is_closed() && self.def.kind != Kind::Gauge {
            for series in self.closed() {
                self.of_closed(series);
            }
        }
    }

    fn apply(&self, labels: LabelValues<'_>, act: impl FnOnce(&H)) {
        if !self.def.is_closed() {
            if let Some(handle) = self.with(labels) {
                act(&handle);
            }
            return;
        }
        let index = self.closed_index(labels);
        debug_assert!(index.is_some(), "{} has no series {labels:?}", self.def.name);
        if let Some(index) = index {
            act(self.of_closed(&self.closed()[index]));
        }
    }

    /// Place of a combination in the flat table: a number whose digits are the values' places, one digit a label.
    fn closed_index(&self, labels: LabelValues<'_>) -> Option<usize> {
        if labels.len() != self.def.labels.len() {
            return None;
        }
        self.def.labels.iter().try_fold(0, |index, (name, values)| {
            let value = value_of(labels, name)?;
            Some(index * values.len() + values.iter().position(|v| *v == value)?)
        })
    }

    fn closed(&self) -> &[Series<H>] {
        let series = |values| Series { values, handle: OnceLock::new() };
        self.closed.get_or_init(|| self.def.combinations().into_iter().map(series).collect())
    }

    fn of_closed<'a>(&self, series: &'a Series<H>) -> &'a H {
        series.handle.get_or_init(|| self.register(&series.values))
    }

    fn open_handle(&self, labels: LabelValues<'_>) -> Option<H> {
        if labels.len() != self.def.labels.len() {
            return None;
        }
        let values: Vec<&str> =
            self.def.labels.iter().map(|(name, _)| value_of(labels, name)).collect::<Option<_>>()?;
        let key = values.join("\u{1f}");
        let map = self.open.get_or_init(RwLock::default);
        if let Some(handle) = map.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Some(handle.clone());
        }
        let mut map = map.write().unwrap_or_else(PoisonError::into_inner);
        if map.len() >= MAX_OPEN_SERIES && !map.contains_key(&key) {
            let other = vec!["other"; values.len()];
            return Some(map.entry("other".to_owned()).or_insert_with(|| self.register(&other)).clone());
        }
        Some(map.entry(key).or_insert_with(|| self.register(&values)).clone())
    }

    fn register(&self, values: &[&str]) -> H {
        let labels: Vec<Label> = self
            .def
            .labels
            .iter()
            .zip(values)
            .map(|((name, _), value)| Label::new(*name, (*value).to_owned()))
            .collect();
        H::register(&RECORDER.0, &Key::from_parts(self.def.name, labels))
    }
}

fn value_of<'a>(labels: LabelValues<'a>, name: &str) -> Option<&'a str> {
    labels.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
}

impl Counter {
    /// Adds `n`.
    pub fn increment(&self, labels: LabelValues<'_>, n: u64) {
        self.apply(labels, |c| c.increment(n));
    }

    /// Raises the counter to a total kept elsewhere (never lowers it).
    pub fn raise_to(&self, labels: LabelValues<'_>, total: u64) {
        self.apply(labels, |c| c.absolute(total));
    }
}

impl Gauge {
    /// Sets the value.
    pub fn set(&self, labels: LabelValues<'_>, value: f64) {
        self.apply(labels, |g| g.set(value));
    }

    /// Sets all series of a closed label set, from the values of their labels.
    pub fn set_all(&self, value: impl Fn(&[&'static str]) -> f64) {
        for series in self.closed() {
            self.of_closed(series).set(value(&series.values));
        }
    }

    /// Says of a series that its value is not known any more: NaN, which no rule compares with anything. One that was never
    /// set stays away.
    pub fn forget(&self, labels: LabelValues<'_>) {
        let series = self.closed_index(labels).and_then(|index| self.closed().get(index));
        debug_assert!(series.is_some(), "{} has no closed series {labels:?}", self.def.name);
        if let Some(handle) = series.and_then(|series| series.handle.get()) {
            handle.set(f64::NAN);
        }
    }

    /// Adds to the value.
    pub fn add(&self, labels: LabelValues<'_>, delta: f64) {
        self.apply(labels, |g| g.increment(delta));
    }
}

impl Histogram {
    /// Records a duration in seconds; of a sampled request it becomes an exemplar.
    pub fn observe(&self, labels: LabelValues<'_>, took: Duration) {
        self.apply(labels, |h| h.record(took.as_secs_f64()));
        trace::look(|current| exemplars::note(self.def, labels, took.as_secs_f64(), &current.context));
    }

    /// Makes an observation that was recorded before an exemplar.
    pub fn exemplify(&self, labels: LabelValues<'_>, took: Duration, context: &Context) {
        exemplars::note(self.def, labels, took.as_secs_f64(), context);
    }

    /// Records a duration within a known span.
    pub fn observe_in(&self, labels: LabelValues<'_>, took: Duration, context: &Context) {
        self.apply(labels, |h| h.record(took.as_secs_f64()));
        exemplars::note(self.def, labels, took.as_secs_f64(), context);
    }
}

/// One HTTP request answered. `route` is the route's pattern, never the path itself.
pub fn http_request(route: &str, method: &str, status: u16, took: Duration, context: &Context) {
    let mut text = [0; 3];
    let status = three_digits(status, &mut text);
    let labels = [("route", route), ("method", method), ("status", status)];
    HTTP_REQUESTS.increment(&labels, 1);
    HTTP_REQUEST_SECONDS.observe_in(&labels, took, context);
}

/// One HTTP request answered of which nothing could be read.
pub fn http_unread(status: &str) {
    HTTP_REQUESTS.increment(&[("route", "none"), ("method", "other"), ("status", status)], 1);
}

/// Shows a route with its usual answer and the failures that alerts look for, before the first of them: a rate sees the
/// first event only where there was a zero before.
pub fn http_route(route: &str, method: &str, success: &str) {
    for status in [success, "500", "503"] {
        HTTP_REQUESTS.increment(&[("route", route), ("method", method), ("status", status)], 0);
    }
}

/// Connections of the database's pool, and how many of them nobody uses.
pub fn database_pool(all: u32, idle: u32) {
    DATABASE_CONNECTIONS.set(&[("state", "idle")], f64::from(idle));
    DATABASE_CONNECTIONS.set(&[("state", "busy")], f64::from(all.saturating_sub(idle)));
}

fn three_digits(status: u16, text: &mut [u8; 3]) -> &str {
    for (place, divisor) in [100, 10, 1].into_iter().enumerate() {
        text[place] = b'0' + u8::try_from(status / divisor % 10).unwrap_or(0);
    }
    std::str::from_utf8(text).unwrap_or("000")
}

/// Makes the series that are known beforehand, so that a count shows as 0 before the first event.
fn prepare() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        prepare_closed();
        BUILD_INFO.set(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    });
}

/// What every task is doing. Costs little: also at each look at the page, so that what ends the process shows before it does.
pub fn task_states(board: &Board) {
    for (task, entry) in board.tasks() {
        for state in TASK_STATES {
            let is = f64::from(u8::from(entry.state.name() == state));
            TASK_STATE.set(&[("task", task), ("state", state)], is);
        }
    }
}

/// One round of upkeep: process figures, task states and uptime from the board, and the histograms' pending samples are
/// folded into their buckets (without this they grow). Call it at start and every [`UPKEEP_EVERY`].
pub fn upkeep(board: &Board) {
    prepare();
    let now = board.clock().now();
    PROCESS_START_TIME.set(&[], board.started_at().0 as f64 / 1e6);
    UPTIME_SECONDS.set(&[], now.since(board.started_at()).as_secs_f64());
    task_states(board);
    process::sample();
    RECORDER.1.run_upkeep();
}

/// The metrics page.
pub fn render(form: Exposition) -> String {
    prepare();
    let mut page = RECORDER.1.render();
    process::render_cpu(&mut page);
    match form {
        Exposition::Text => page,
        Exposition::OpenMetrics => openmetrics::of_text(&page),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Clock;

    fn line(start: &str) -> Option<String> {
        render(Exposition::Text).lines().find(|l| l.starts_with(start)).map(str::to_owned)
    }

    #[test]
    fn a_closed_series_shows_as_zero_before_its_first_event() {
        assert_eq!(
            line("iot_meter_messages_refused_total{kind=\"status\",reason=\"bad_seq\"}").as_deref(),
            Some("iot_meter_messages_refused_total{kind=\"status\",reason=\"bad_seq\"} 0")
        );
    }

    #[test]
    fn a_gauge_shows_what_was_set_and_nothing_else() {
        static LEFT: Gauge = Gauge::new(&MetricDef {
            name: "iot_meter_of_a_test_seconds",
            kind: Kind::Gauge,
            unit: "seconds",
            labels: &[("of", &["server", "device"])],
            help: "",
        });
        LEFT.forget(&[("of", "device")]);
        LEFT.set(&[("of", "server")], 5.0);
        let of = |of: &str| line(&format!("iot_meter_of_a_test_seconds{{of=\"{of}\"}}"));
        assert_eq!(of("server").as_deref(), Some("iot_meter_of_a_test_seconds{of=\"server\"} 5"));
        assert_eq!(of("device"), None, "what nobody knows is not zero");
        LEFT.forget(&[("of", "server")]);
        assert_eq!(of("server").as_deref(), Some("iot_meter_of_a_test_seconds{of=\"server\"} NaN"));
    }

    #[test]
    fn counting_names_the_series_by_its_labels_in_any_order() {
        http_request("/t/{id}", "GET", 404, Duration::from_millis(3), &Context::root(false));
        HTTP_REQUESTS.increment(&[("status", "404"), ("method", "GET"), ("route", "/t/{id}")], 2);
        let found = line("iot_meter_http_requests_total{route=\"/t/{id}\"");
        assert_eq!(
            found.as_deref(),
            Some("iot_meter_http_requests_total{route=\"/t/{id}\",method=\"GET\",status=\"404\"} 3")
        );
        assert!(line("iot_meter_http_request_duration_seconds_bucket{route=\"/t/{id}\"").is_some());
    }

    #[test]
    fn an_open_label_set_is_bounded() {
        let before = MAX_OPEN_SERIES + 10;
        for i in 0..before {
            TASK_STATE.set(&[("task", &format!("t{i}")), ("state", "running")], 1.0);
        }
        let map = TASK_STATE.open.get().expect("was used").read().expect("nobody panicked");
        assert!(map.len() <= MAX_OPEN_SERIES + 1);
        assert!(map.contains_key("other"));
    }

    #[test]
    fn every_metric_of_the_catalogue_has_its_index_in_range() {
        for def in CATALOGUE.iter().filter(|d| d.is_closed()) {
            let size: usize = def.labels.iter().map(|(_, values)| values.len()).product();
            assert_eq!(def.combinations().len(), size, "{}", def.name);
        }
    }

    #[test]
    fn upkeep_shows_the_process() {
        upkeep(&Board::new(Clock::system()));
        let resident = line("iot_meter_process_resident_memory_bytes ").expect("is sampled");
        let value: f64 = resident.rsplit(' ').next().expect("has a value").parse().expect("is a number");
        assert!(value > 1e6, "{resident}");
        assert!(line("iot_meter_process_cpu_seconds_total ").is_some());
        assert!(line("iot_meter_uptime_seconds ").is_some());
    }
}

//! Exemplars: for each bucket of a histogram the last traced observation in it, so that a slow one leads to its trace.
//!
//! Kept beside the recorder, which knows none. Invariant: bounded; only what is sampled is kept, so that a link never leads
//! nowhere; nothing but such an observation takes the lock.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use super::catalogue::{Kind, MetricDef};
use super::metrics::LabelValues;
use super::trace::Context;
use crate::domain::Clock;

/// Most buckets that have one.
const MAX_KEPT: usize = 8192;

/// By the line of the bucket as the recorder writes it, up to the value: what follows the value.
type Kept = HashMap<String, String>;

static KEPT: LazyLock<Mutex<Kept>> = LazyLock::new(Mutex::default);

fn kept() -> MutexGuard<'static, Kept> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Remembers an observation of a histogram.
pub(super) fn note(def: &MetricDef, labels: LabelValues<'_>, value: f64, context: &Context) {
    let Kind::Histogram(bounds) = def.kind else { return };
    if !context.is_sampled() {
        return;
    }
    let at_s = Clock::system().now().0 as f64 / 1e6;
    let key = bucket(def, labels, bounds.iter().find(|bound| value <= **bound));
    let mut kept = kept();
    if kept.len() < MAX_KEPT || kept.contains_key(&key) {
        kept.insert(key, format!(" # {{trace_id=\"{}\"}} {value} {at_s:.3}", context.trace_id));
    }
}

/// What is to be written behind the line of a bucket; `series` is its text up to the value.
pub(super) fn of(series: &str) -> Option<String> {
    kept().get(series).cloned()
}

/// The line of a bucket.
fn bucket(def: &MetricDef, labels: LabelValues<'_>, bound: Option<&f64>) -> String {
    let mut text = format!("{}_bucket{{", def.name);
    for (name, _) in def.labels {
        let value = labels.iter().find(|(n, _)| n == name).map_or("", |(_, value)| *value);
        let value = value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
        let _ = write!(text, "{name}=\"{value}\",");
    }
    let bound = bound.map_or_else(|| "+Inf".to_owned(), ToString::to_string);
    let _ = write!(text, "le=\"{bound}\"}}");
    text
}

//! The metrics page as OpenMetrics 1.0: the recorder's page, rewritten where the two formats differ.
//!
//! Counters are named without `_total` in their head, units have a line, whole bounds are written `1.0`, exemplars follow their
//! buckets, and the end is marked. Pure but for the exemplars. Does not know any metric.

use super::catalogue::{CATALOGUE, Kind};
use super::exemplars;

/// A form of the page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Exposition {
    /// The text format of Prometheus.
    #[default]
    Text,
    /// OpenMetrics, with exemplars.
    OpenMetrics,
}

impl Exposition {
    /// What somebody who sends this `Accept` likes best of what there is (RFC 9110 section 12.5.1).
    pub fn wanted(accept: Option<&str>) -> Self {
        let (mut text, mut any, mut open) = (None, None, None);
        for range in accept.unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let Some(kind) = parts.next().map(str::to_ascii_lowercase) else { continue };
            let (mut weight, mut is_known) = (1.0_f32, true);
            for part in parts {
                match part.split_once('=').map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim())) {
                    Some((name, value)) if name == "q" => weight = value.parse().unwrap_or(0.0),
                    Some((name, value)) if name == "version" => is_known = matches!(value, "1.0.0" | "0.0.1" | "0.0.4"),
                    _ => {}
                }
            }
            let best = match kind.as_str() {
                "application/openmetrics-text" if is_known => &mut open,
                "text/plain" | "text/*" => &mut text,
                "*/*" => &mut any,
                _ => continue,
            };
            *best = Some(best.map_or(weight, |w: f32| w.max(weight)));
        }
        match open {
            Some(open) if open > 0.0 && open >= text.or(any).unwrap_or(0.0) => Self::OpenMetrics,
            _ => Self::Text,
        }
    }

    /// Its `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Rewrites the page of the text format.
pub(super) fn of_text(page: &str) -> String {
    let mut out = String::with_capacity(page.len() + page.len() / 4);
    for line in page.lines().filter(|line| !line.is_empty()) {
        match line.strip_prefix("# ") {
            Some(head) => put_head(&mut out, head),
            None => put_sample(&mut out, line),
        }
        out.push('\n');
    }
    out.push_str("# EOF\n");
    out
}

/// `HELP name text` or `TYPE name kind`.
fn put_head(out: &mut String, head: &str) {
    let mut words = head.splitn(3, ' ');
    let (word, name, rest) =
        (words.next().unwrap_or_default(), words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let def = CATALOGUE.iter().find(|def| def.name == name);
    let is_counter = def.is_some_and(|def| def.kind == Kind::Counter);
    let family = if is_counter { name.strip_suffix("_total").unwrap_or(name) } else { name };
    out.push_str(&format!("# {word} {family} {}", rest.replace('"', "\\\"")));
    let unit = def.map_or("", |def| def.unit);
    if word == "TYPE" && !unit.is_empty() && family.ends_with(&format!("_{unit}")) {
        out.push_str(&format!("\n# UNIT {family} {unit}"));
    }
}

fn put_sample(out: &mut String, line: &str) {
    let (series, value) = line.rsplit_once(' ').unwrap_or((line, ""));
    let whole = |bound: &str| bound.bytes().all(|b| b.is_ascii_digit()) && !bound.is_empty();
    let bound = series.rsplit_once("le=\"").and_then(|(head, bound)| Some((head, bound.strip_suffix("\"}")?)));
    match bound {
        Some((head, bound)) if whole(bound) => out.push_str(&format!("{head}le=\"{bound}.0\"}} {value}")),
        _ => out.push_str(line),
    }
    if let Some(exemplar) = bound.and_then(|_| exemplars::of(series)) {
        out.push_str(&exemplar);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::observe::metrics::{self, HTTP_REQUEST_SECONDS};
    use crate::observe::trace::Context;

    #[test]
    fn open_metrics_is_for_those_who_ask_for_it() {
        let check = |accept: &str, expected: Exposition| {
            assert_eq!(Exposition::wanted(Some(accept)), expected, "{accept:?}");
        };
        assert_eq!(Exposition::wanted(None), Exposition::Text);
        check("", Exposition::Text);
        check("*/*", Exposition::Text);
        check("text/html,application/xhtml+xml", Exposition::Text);
        check("application/openmetrics-text; version=1.0.0", Exposition::OpenMetrics);
        check("Application/OpenMetrics-Text;Version=0.0.1;Q=0.5,text/plain;q=0.4", Exposition::OpenMetrics);
        check("application/openmetrics-text", Exposition::OpenMetrics);
        check("application/openmetrics-text;q=0", Exposition::Text);
        check("application/openmetrics-text;version=2.0.0,text/plain;version=0.0.4;q=0.5", Exposition::Text);
        check("text/plain,application/openmetrics-text;q=0.9", Exposition::Text);
        // As Prometheus 2 and 3 ask.
        check(
            "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            Exposition::OpenMetrics,
        );
        check(
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,*/*;q=0.1",
            Exposition::OpenMetrics,
        );
    }

    /// Name of a sample line.
    fn name(line: &str) -> &str {
        line.split(['{', ' ']).next().unwrap_or_default()
    }

    #[test]
    fn the_page_keeps_the_rules_of_open_metrics() {
        let context = Context::root(true);
        HTTP_REQUEST_SECONDS.observe_in(
            &[("route", "/o/\"q\""), ("method", "GET"), ("status", "200")],
            Duration::from_millis(700),
            &context,
        );
        let page = metrics::render(Exposition::OpenMetrics);
        assert!(page.ends_with("\n# EOF\n") && page.matches("# EOF").count() == 1);
        let mut families = BTreeSet::new();
        let mut family = ("", "");
        let mut exemplars = Vec::new();
        for line in page.lines().take_while(|line| *line != "# EOF") {
            assert!(!line.is_empty() && line.trim() == line, "{line:?}");
            if let Some(head) = line.strip_prefix("# ") {
                let words: Vec<&str> = head.splitn(3, ' ').collect();
                match words[0] {
                    "TYPE" => {
                        assert!(families.insert(words[1]), "{line}: twice");
                        family = (words[1], words[2]);
                    }
                    "UNIT" => assert!(words[1].ends_with(&format!("_{}", words[2])) && words[1] == family.0, "{line}"),
                    "HELP" => {}
                    other => panic!("{other}: {line}"),
                }
                continue;
            }
            let suffix = name(line).strip_prefix(family.0).unwrap_or_else(|| panic!("{line} is not of {family:?}"));
            let allowed: &[&str] = match family.1 {
                "counter" => &["_total"],
                "gauge" => &[""],
                "histogram" => &["_bucket", "_count", "_sum"],
                other => panic!("{other}"),
            };
            assert!(allowed.contains(&suffix), "{line} of {family:?}");
            if let Some((_, exemplar)) = line.split_once(" # ") {
                assert_eq!(suffix, "_bucket");
                exemplars.push(exemplar);
            }
            let bound = line.split_once("le=\"").and_then(|(_, rest)| rest.split('"').next());
            assert!(bound.is_none_or(|b| b == "+Inf" || b.contains('.')), "{line}");
        }
        let kinds = ["iot_meter_journal_fsync_duration_seconds seconds", "iot_meter_journal_size_bytes bytes"];
        for unit in kinds {
            assert!(page.contains(&format!("\n# UNIT {unit}\n")) || !page.contains(name(unit)), "{unit}");
        }
        let ours = format!("{{trace_id=\"{}\"}} 0.7 ", context.trace_id);
        assert_eq!(exemplars.iter().filter(|e| e.starts_with(&ours)).count(), 1, "{exemplars:?}");
        let line = page.lines().find(|line| line.contains(&ours)).unwrap();
        assert!(line.contains("le=\"1.0\"") && line.contains(r#"route="/o/\"q\"""#), "{line}");
    }

    #[test]
    fn what_is_not_sampled_is_no_exemplar() {
        let context = Context::root(false);
        let labels = [("route", "/unsampled"), ("method", "GET"), ("status", "200")];
        HTTP_REQUEST_SECONDS.observe_in(&labels, Duration::from_millis(7), &context);
        let page = metrics::render(Exposition::OpenMetrics);
        assert!(!page.contains(&context.trace_id.to_string()) && page.contains("/unsampled"));
    }
}

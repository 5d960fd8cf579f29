//! What is deployed around the server speaks of things that exist: rules and dashboards name metrics of the catalogue, every
//! alert has its page and its test.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use iot_meter::observe::catalogue::{CATALOGUE, MetricDef};

use crate::grafana::{faults_of, reads};

pub fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every `iot_meter_…` of a text.
pub fn metrics_named(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    text.match_indices("iot_meter_")
        .map(|(at, _)| text[at..].chars().take_while(|c| is_part(*c)).collect::<String>())
        .collect()
}

/// The metric of the catalogue a name is a series of.
pub fn definition(name: &str) -> Option<&'static MetricDef> {
    let metric = |name: &str| CATALOGUE.iter().copied().find(|def| def.name == name);
    let parts = ["_bucket", "_sum", "_count"];
    metric(name).or_else(|| parts.iter().find_map(|part| metric(name.strip_suffix(part)?)))
}

/// Whether a name is a series of a metric of the catalogue.
fn is_in_catalogue(name: &str) -> bool {
    definition(name).is_some()
}

/// The alerts of the rules file, in order.
fn alerts() -> Vec<String> {
    let rules = read("deploy/prometheus/rules.yml");
    rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ").map(str::to_owned)).collect()
}

#[test]
fn the_metrics_that_rules_and_runbooks_name_exist() {
    let files = ["deploy/prometheus/rules.yml", "deploy/prometheus/rules_test.yml", "docs/runbooks.md"];
    for file in files.into_iter().chain(["README.md", "docs/operations.md", "docs/migration.md", "docs/reference.md"]) {
        // Names of secrets are no metrics, nor is the family of a name.
        let is_none = |name: &String| is_in_catalogue(name) || name.ends_with("_key") || name.ends_with('_');
        let named: Vec<String> = metrics_named(&read(file)).into_iter().filter(|name| !is_none(name)).collect();
        assert!(named.is_empty(), "{file} names {named:?}, which nobody counts");
    }
}

#[test]
fn every_alert_has_its_page_and_tests_that_it_fires_and_that_it_stays_quiet() {
    let alerts = alerts();
    assert!(alerts.len() >= 20, "the rules were not understood: {alerts:?}");
    let (rules, tests, pages) =
        (read("deploy/prometheus/rules.yml"), read("deploy/prometheus/rules_test.yml"), read("docs/runbooks.md"));
    for alert in &alerts {
        let anchor = format!("docs/runbooks.md#{}\n", alert.to_lowercase());
        assert_eq!(rules.matches(&anchor).count(), 1, "{alert} has no link to its page");
        assert!(pages.contains(&format!("\n## {alert}\n")), "{alert} has no page");
        for (what, expected) in [("fires", "exp_alerts:\n          - exp_labels:"), ("is quiet", "exp_alerts: []\n")] {
            let cases: Vec<&str> = tests.split(&format!("  # {alert} {what}\n")).skip(1).collect();
            assert!(!cases.is_empty(), "it is not tested that {alert} {what}");
            for case in cases {
                let case = case.split("\n  # ").next().unwrap_or(case);
                assert!(case.contains(&format!("- alertname: {alert}\n")), "{alert} {what}: it asks for another one");
                assert!(format!("{case}\n").contains(expected), "{alert} {what}: it expects something else");
            }
        }
    }
    let pages = pages.lines().filter(|line| line.starts_with("## ")).count();
    assert_eq!(pages, alerts.len(), "a page without an alert");
}

#[test]
fn rules_read_series_of_the_catalogue_and_their_tests_feed_them_as_the_server_does() {
    let exprs = exprs(&read("deploy/prometheus/rules.yml"));
    assert_eq!(exprs.len(), alerts().len(), "the rules were not understood: {exprs:#?}");
    let faults: Vec<_> = exprs.iter().map(|expr| (expr, faults_of(expr))).filter(|(_, f)| !f.is_empty()).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    let tests = read("deploy/prometheus/rules_test.yml");
    let fed: Vec<&str> = tests.split("- {series: '").skip(1).filter_map(|rest| rest.split('\'').next()).collect();
    assert!(fed.len() > 100, "the tests of the rules were not understood: {fed:?}");
    let mut faults = Vec::new();
    for series in fed {
        faults.extend(faults_of(series).into_iter().map(|fault| format!("{series}: {fault}")));
        for (name, matchers) in &reads(series).selectors {
            let labels = definition(name).map_or(&[][..], |def| def.labels).iter();
            let missing = labels.filter(|(label, _)| matchers.iter().all(|matcher| matcher.label != *label));
            faults.extend(missing.map(|(label, _)| format!("{series} has no {label}")));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// The expressions of a rules file, in order: behind `expr:`, or the lines below it that are indented further.
fn exprs(rules: &str) -> Vec<String> {
    let mut lines = rules.lines().peekable();
    let mut all = Vec::new();
    while let Some(line) = lines.next() {
        let Some((indent, expr)) = line.split_once("expr: ") else { continue };
        let mut expr = expr.trim_start_matches('|').to_owned();
        while let Some(more) = lines.next_if(|line| line.starts_with(indent) && line[indent.len()..].starts_with(' ')) {
            expr.push_str(more);
        }
        all.push(expr);
    }
    all
}

/// Every `IotMeter…` of a text.
fn alerts_named(text: &str) -> BTreeSet<String> {
    let name = |at: usize| text[at..].chars().take_while(char::is_ascii_alphanumeric).collect::<String>();
    text.match_indices("IotMeter").map(|(at, _)| name(at)).collect()
}

#[test]
fn alerts_and_severities_are_called_the_same_everywhere() {
    let alerts: BTreeSet<String> = alerts().into_iter().collect();
    let routing = read("deploy/alertmanager/alertmanager.yml");
    let documents = ["docs/runbooks.md", "docs/operations.md", "README.md", "CHANGELOG.md"].map(read);
    for text in documents.iter().chain([&routing]) {
        let unknown: Vec<_> = alerts_named(text).into_iter().filter(|name| !alerts.contains(name)).collect();
        assert!(unknown.is_empty(), "there are no alerts {unknown:?}");
    }
    let rules = read("deploy/prometheus/rules.yml");
    let severities: BTreeSet<&str> = rules
        .lines()
        .filter_map(|line| line.split_once("severity: ")?.1.split(',').next())
        .filter(|word| !word.contains(' '))
        .collect();
    assert_eq!(severities, ["critical", "info", "warning"].into());
    // The middle one is how everything goes unless something else is said.
    for severity in ["critical", "info"] {
        assert!(routing.contains(&format!("matchers: ['severity = {severity}']")), "{severity} is not routed");
    }
    let counted = format!("| {} rules;", alerts.len());
    assert!(read("docs/migration.md").contains(&counted), "docs/migration.md counts the rules otherwise: {counted}");
}

//! The dashboards speak of things that exist: metrics, labels and values of the catalogue, paths, parameters and members of
//! the API; and they are of a shape that Grafana reads. Whether their queries find anything is asked in `live`.

#[cfg(feature = "ops-tests")]
mod live;
mod promql;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use iot_meter::domain::derived::Derived;
use iot_meter::domain::metric::Known;
use serde_json::{Value, json};

use crate::ops::{definition, read};
use promql::Matcher;
pub use promql::reads;

const PROMETHEUS: &str = "iot-meter-prometheus";
const API: &str = "iot-meter-api";
/// Series that are not the server's: of Prometheus itself, of kube-state-metrics and the kubelet.
const FOREIGN: [&str; 8] = [
    "ALERTS",
    "up",
    "container_memory_working_set_bytes",
    "kube_pod_container_status_restarts_total",
    "kube_statefulset_replicas",
    "kube_statefulset_status_replicas_ready",
    "kubelet_volume_stats_capacity_bytes",
    "kubelet_volume_stats_used_bytes",
];
const KINDS: [&str; 5] = ["heatmap", "stat", "state-timeline", "table", "timeseries"];
/// Labels that Prometheus adds.
const ADDED: [&str; 3] = ["instance", "job", "le"];

/// A dashboard.
struct Board {
    /// The file's name without its ending.
    name: String,
    json: Value,
}

fn list<'a>(of: &'a Value, name: &str) -> &'a [Value] {
    of[name].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(of: &'a Value, name: &str) -> &'a str {
    of[name].as_str().unwrap_or_default()
}

fn boards() -> Vec<Board> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/grafana/dashboards");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["broker", "device", "energy", "fleet", "overview", "security", "storage"]);
    let board = |name: String| {
        let text = read(&format!("deploy/grafana/dashboards/{name}.json"));
        Board { name, json: serde_json::from_str(&text).unwrap() }
    };
    names.into_iter().map(board).collect()
}

impl Board {
    /// All panels, those of closed rows too, without the rows.
    fn panels(&self) -> Vec<&Value> {
        let open = list(&self.json, "panels").iter();
        let all = open.flat_map(|panel| std::iter::once(panel).chain(list(panel, "panels")));
        all.filter(|panel| panel["type"] != "row").collect()
    }

    /// (where, query): of panels, annotations and variables.
    fn queries(&self) -> Vec<(String, &Value)> {
        let of_panels = self.panels().into_iter().flat_map(|panel| {
            let place = format!("{}: {}", self.name, text(panel, "title"));
            list(panel, "targets").iter().map(move |target| (place.clone(), target))
        });
        let of_notes = list(&self.json["annotations"], "list").iter().filter(|note| note["builtIn"] != 1).map(|note| {
            let query = if note["target"].is_object() { &note["target"] } else { note };
            (format!("{}: annotation {}", self.name, text(note, "name")), query)
        });
        let of_variables = self.variables().iter().filter(|v| v["type"] == "query").map(|variable| {
            let query = &variable["query"];
            let query = if query["infinityQuery"].is_object() { &query["infinityQuery"] } else { query };
            (format!("{}: variable {}", self.name, text(variable, "name")), query)
        });
        of_panels.chain(of_notes).chain(of_variables).collect()
    }

    fn variables(&self) -> &[Value] {
        list(&self.json["templating"], "list")
    }
}

/// All PromQL of the dashboards, by place. `label_values(…)` of a variable is no PromQL, but a selector and a label.
fn promql() -> Vec<(String, String)> {
    let boards = boards();
    let of_query = |query: &Value| query["expr"].as_str().or_else(|| query["query"].as_str()).map(str::to_owned);
    let all = boards.iter().flat_map(Board::queries);
    all.filter_map(|(place, query)| Some((place, of_query(query)?))).filter(|(_, expr)| !expr.is_empty()).collect()
}

/// All queries of the API, by place.
fn rest() -> Vec<(String, Value)> {
    let boards = boards();
    let all: Vec<_> = boards.iter().flat_map(Board::queries).collect();
    all.into_iter().filter(|(_, query)| query["url"].is_string()).map(|(place, query)| (place, query.clone())).collect()
}

/// What is wrong with the series an expression reads.
pub fn faults_of(expr: &str) -> Vec<String> {
    let found = reads(expr.strip_prefix("label_values").unwrap_or(expr).trim_start_matches('('));
    let mut faults = Vec::new();
    let mut labels: BTreeSet<&str> = ADDED.into();
    for (name, matchers) in &found.selectors {
        match definition(name) {
            // The label of label_values(metric, label), or a foreign series.
            None if FOREIGN.contains(&name.as_str()) || labels.contains(name.as_str()) => {
                labels.extend(["pod", "persistentvolumeclaim", "namespace", "statefulset"]);
            }
            None => faults.push(format!("{name} is counted by nobody")),
            Some(def) => {
                labels.extend(def.labels.iter().map(|(label, _)| *label));
                faults.extend(matchers.iter().filter_map(|matcher| fault_of(matcher, def.labels)));
            }
        }
    }
    let known = |label: &&String| !labels.contains(label.as_str());
    faults.extend(found.grouping.iter().filter(known).map(|label| format!("nothing has the label {label}")));
    faults
}

/// What is wrong with a matcher of a metric with these labels.
fn fault_of(matcher: &Matcher, labels: &[(&str, &[&str])]) -> Option<String> {
    if ADDED.contains(&matcher.label.as_str()) {
        return None;
    }
    let Some((_, values)) = labels.iter().find(|(label, _)| *label == matcher.label) else {
        return Some(format!("it has no label {}", matcher.label));
    };
    // Of an open set every value is good.
    let missing = matcher.value.split('|').find(|value| !values.is_empty() && !values.contains(value));
    missing.map(|value| format!("{} is never {value:?}", matcher.label))
}

#[test]
fn every_query_reads_series_of_the_catalogue() {
    let all = promql();
    assert!(all.len() > 100, "the dashboards were not understood: {all:?}");
    let faults: Vec<_> = all
        .iter()
        .flat_map(|(place, expr)| faults_of(expr).into_iter().map(move |f| format!("{place}: {f}")))
        .collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn a_query_of_what_nobody_counts_is_found_out() {
    let check = |expr: &str, expected: &str| assert_eq!(faults_of(expr), [expected], "{expr}");
    check("rate(iot_meter_messages_total[5m])", "iot_meter_messages_total is counted by nobody");
    check(r#"iot_meter_ready{check="disk"}"#, "check is never \"disk\"");
    check(r#"iot_meter_ready{check=~"journal|disk"}"#, "check is never \"disk\"");
    check(r#"iot_meter_ready{part="journal"}"#, "it has no label part");
    check("sum by (device_id) (iot_meter_ready)", "nothing has the label device_id");
}

#[test]
fn every_legend_names_labels_of_its_query() {
    for board in boards() {
        for (place, query) in board.queries().into_iter().filter(|(_, q)| q["expr"].is_string()) {
            let found = reads(text(query, "expr"));
            let grouped: BTreeSet<&str> = found.grouping.iter().map(String::as_str).collect();
            let labels = text(query, "legendFormat").split("{{").skip(1).filter_map(|rest| rest.split("}}").next());
            for label in labels {
                let is_plain = grouped.is_empty() && ["instance", "persistentvolumeclaim"].contains(&label);
                assert!(grouped.contains(label) || is_plain, "{place}: {label} is not in the answer");
            }
        }
    }
}

/// The OpenAPI document.
fn contract() -> Value {
    serde_json::to_value(iot_meter::api::document()).unwrap()
}

/// The members of a path's answer: (name, schema).
fn members(contract: &Value, operation: &Value) -> BTreeMap<String, Value> {
    let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"];
    let mut found = BTreeMap::new();
    let mut schemas = vec![if schema["items"].is_object() { &schema["items"] } else { schema }];
    while let Some(schema) = schemas.pop() {
        if let Some(name) = text(schema, "$ref").strip_prefix("#/components/schemas/") {
            schemas.push(&contract["components"]["schemas"][name]);
        }
        schemas.extend(list(schema, "allOf"));
        let properties = schema["properties"].as_object().into_iter().flatten();
        found.extend(properties.map(|(name, schema)| (name.clone(), schema.clone())));
    }
    found
}

/// Whether a column of this type can be made of a member with this schema.
fn fits(kind: &str, schema: &Value) -> bool {
    let types = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        one => vec![one.as_str().unwrap_or("string")],
    };
    match kind {
        "timestamp" => schema["format"] == "date-time",
        "number" => types.contains(&"integer") || types.contains(&"number"),
        other => types.contains(&other) && schema["format"] != "date-time",
    }
}

#[test]
fn every_question_to_the_api_is_one_that_it_answers() {
    let (contract, all) = (contract(), rest());
    assert!(all.len() > 25, "the dashboards were not understood: {all:?}");
    for (place, query) in &all {
        let path = text(query, "url").replace("${device}", "{id}");
        let operation = &contract["paths"][&path]["get"];
        assert!(operation.is_object(), "{place}: nobody answers {path}");
        let parameters: Vec<&str> = list(operation, "parameters").iter().map(|p| text(p, "name")).collect();
        for parameter in list(&query["url_options"], "params") {
            assert!(parameters.contains(&text(parameter, "key")), "{place}: {path} takes no {parameter}");
        }
        let members = members(&contract, operation);
        for column in list(query, "columns") {
            let schema = members.get(text(column, "selector")).unwrap_or_else(|| panic!("{place}: no {column}"));
            assert!(fits(text(column, "type"), schema), "{place}: {column} of {schema}");
        }
    }
}

#[test]
fn uids_are_unique_and_data_sources_provisioned() {
    let mut uids = BTreeSet::new();
    let sources = read("deploy/grafana/provisioning/datasources/iot-meter.yml");
    for board in boards() {
        let uid = text(&board.json, "uid");
        assert_eq!(uid, format!("iot-meter-{}", board.name));
        assert!(uids.insert(uid.to_owned()), "{uid} twice");
        let of_variables = board.variables().iter().filter(|v| v["type"] == "query").map(|v| &v["datasource"]["uid"]);
        let of_panels =
            board.panels().into_iter().flat_map(|panel| list(panel, "targets")).map(|t| &t["datasource"]["uid"]);
        for uid in of_variables.chain(of_panels) {
            let uid = uid.as_str().unwrap();
            assert!([PROMETHEUS, API].contains(&uid), "{}: {uid}", board.name);
            assert!(sources.contains(&format!("\n    uid: {uid}\n")), "{uid} is not provisioned");
        }
    }
    // Links from one dashboard to another.
    for board in boards() {
        let text = board.json.to_string();
        for (at, _) in text.match_indices("\"/d/") {
            let uid = text[at + 4..].split(['?', '"', '/']).next().unwrap();
            assert!(uids.contains(uid), "{} links to {uid}", board.name);
        }
    }
}

#[test]
fn dashboards_are_of_a_shape_that_grafana_reads() {
    for board in boards() {
        let (name, json) = (&board.name, &board.json);
        assert!(json["id"].is_null() && json["schemaVersion"].as_u64() >= Some(39), "{name}");
        for part in ["title", "description", "refresh"] {
            assert!(!text(json, part).is_empty(), "{name} has no {part}");
        }
        assert_eq!(json["tags"][0], json["links"][0]["tags"][0], "{name} does not link to the others");
        let mut ids = BTreeSet::new();
        let closed = list(json, "panels").iter().flat_map(|row| list(row, "panels"));
        for panel in list(json, "panels").iter().chain(closed) {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{name}: an id twice");
        }
        overlaps(name, list(json, "panels"));
        for panel in board.panels() {
            let place = format!("{name}: {}", text(panel, "title"));
            assert!(KINDS.contains(&text(panel, "type")), "{place}: {}", panel["type"]);
            assert!(!text(panel, "title").is_empty() && text(panel, "description").ends_with('.'), "{place}");
            assert!(!text(&panel["fieldConfig"]["defaults"], "unit").is_empty(), "{place} has no unit");
            let references: BTreeSet<&str> = list(panel, "targets").iter().map(|t| text(t, "refId")).collect();
            assert!(
                !references.is_empty() && references.len() == list(panel, "targets").len(),
                "{place}: {references:?}"
            );
        }
    }
}

#[test]
fn what_is_repeated_is_repeated_for_something() {
    let mut count = 0;
    for board in boards() {
        for panel in list(&board.json, "panels").iter().filter(|panel| panel["repeat"].is_string()) {
            let (place, variable) = (format!("{}: {}", board.name, panel["title"]), text(panel, "repeat"));
            let found = board.variables().iter().find(|v| text(v, "name") == variable);
            assert_eq!(
                found.map(|v| &v["multi"]),
                Some(&Value::Bool(true)),
                "{place}: {variable} has one value at most"
            );
            // Beside repeated panels there is no room.
            assert_eq!((&panel["gridPos"]["x"], &panel["gridPos"]["w"]), (&json!(0), &json!(24)), "{place}");
            assert!(text(panel, "title").contains(variable), "{place}: which is which?");
            count += 1;
        }
    }
    assert!(count >= 2, "the dashboards were not understood");
}

#[test]
fn every_quantity_of_a_device_is_shown_in_its_unit() {
    // What Grafana calls them.
    let words = |unit: &str| match unit {
        "V" => "volt",
        "A" => "amp",
        "Hz" => "hertz",
        "%" => "percent",
        "Cel" => "celsius",
        "W" => "watt",
        "VA" => "voltamp",
        "var" => "voltampreact",
        "" => "none",
        other => panic!("what does Grafana call {other}?"),
    };
    let boards = boards();
    let device = boards.iter().find(|board| board.name == "device").unwrap();
    let unit_of = |panel: &Value, name: &str| {
        let overrides = list(&panel["fieldConfig"], "overrides");
        let of_name = overrides.iter().find(|rule| rule["matcher"] == json!({"id": "byName", "options": name}));
        of_name.map(|rule| text(&rule["properties"][0], "value").to_owned())
    };
    let measured = Known::ALL.map(|metric| ("$quantity", metric.name(), metric.unit()));
    let derived = Derived::ALL.map(|quantity| ("Power", quantity.name(), quantity.unit()));
    for (title, name, unit) in measured.into_iter().chain(derived) {
        let panel = device.panels().into_iter().find(|panel| text(panel, "title") == title).unwrap();
        assert_eq!(unit_of(panel, name).as_deref(), Some(words(unit)), "{title}: {name}");
    }
}

/// Panels lie side by side within 24 columns; those of a closed row are looked at by themselves.
fn overlaps(name: &str, panels: &[Value]) {
    let mut taken = BTreeSet::new();
    for panel in panels {
        let at = |side: &str| panel["gridPos"][side].as_u64().unwrap();
        assert!(at("w") > 0 && at("h") > 0 && at("x") + at("w") <= 24, "{name}: {}", panel["gridPos"]);
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(taken.insert((x, y)), "{name}: {} lies on another", panel["title"]);
            }
        }
        overlaps(name, list(panel, "panels"));
    }
}

#[test]
fn kubernetes_gets_every_file_of_grafana() {
    let kustomization = read("deploy/grafana/kustomization.yaml");
    let named: Vec<&str> =
        kustomization.lines().filter_map(|line| line.trim().strip_prefix("files: [")?.strip_suffix(']')).collect();
    for file in &named {
        assert!(!read(&format!("deploy/grafana/{file}")).is_empty(), "{file}");
    }
    for board in boards() {
        assert!(named.contains(&format!("dashboards/{}.json", board.name).as_str()), "{} is left out", board.name);
    }
    for folder in ["datasources", "dashboards"] {
        assert!(named.contains(&format!("provisioning/{folder}/iot-meter.yml").as_str()), "{folder}");
    }
}

//! The route table as text, for the documentation. Made from the document that is served at `/api/openapi.json`, in the order
//! of the route table, so that a route that is served is in it. Must not know: where the text goes.

use std::fmt::Write as _;

use utoipa::openapi::RefOr;
use utoipa::openapi::path::{Operation, ParameterIn};

use super::routes::{Access, access_of, document, operations, plain, position};

/// An operation with what the text says of it.
struct Call {
    tag: String,
    method: &'static str,
    path: String,
    operation: Operation,
    access: Access,
    position: usize,
}

/// All calls; those of a tag together, tags and calls in the order of the route table.
fn calls() -> Vec<Call> {
    let mut calls: Vec<Call> = operations(document())
        .filter_map(|(method, pattern, operation)| {
            let id = operation.operation_id.as_deref()?;
            let (access, position) = (access_of(id)?, position(id)?);
            let tag = operation.tags.as_ref().and_then(|tags| tags.first().cloned()).unwrap_or_default();
            Some(Call { tag, method, path: plain(&pattern), operation, access, position })
        })
        .collect();
    calls.sort_by_key(|call| call.position);
    let mut tags: Vec<String> = Vec::new();
    for call in &calls {
        if !tags.contains(&call.tag) {
            tags.push(call.tag.clone());
        }
    }
    calls.sort_by_key(|call| (tags.iter().position(|tag| *tag == call.tag), call.position));
    calls
}

/// A table a tag: each call with what it gives, what it may be asked with, and who may.
pub fn markdown() -> String {
    let mut text = String::new();
    let mut tag = None;
    for call in calls() {
        if tag.as_ref() != Some(&call.tag) {
            let gap = if tag.is_some() { "\n" } else { "" };
            let _ = writeln!(text, "{gap}### {}\n\n| call | gives | who |\n|---|---|---|", call.tag);
            tag = Some(call.tag.clone());
        }
        let summary = call.operation.summary.as_deref().unwrap_or_default();
        let parameters = query_of(&call.operation);
        let _ = writeln!(
            text,
            "| `{} {}` | {}{parameters} | {} |",
            call.method,
            call.path,
            in_a_cell(summary),
            who(call.access)
        );
    }
    text
}

/// A path and its methods.
type Path = (String, Vec<&'static str>);

/// One table: a row a tag, with its paths and their methods.
pub fn overview() -> String {
    let mut rows: Vec<(String, Vec<Path>)> = Vec::new();
    for call in calls() {
        if rows.last().is_none_or(|(tag, _)| *tag != call.tag) {
            rows.push((call.tag.clone(), Vec::new()));
        }
        let Some((_, paths)) = rows.last_mut() else { continue };
        match paths.iter_mut().find(|(path, _)| *path == call.path) {
            Some((_, methods)) => methods.push(call.method),
            None => paths.push((call.path, vec![call.method])),
        }
    }
    let mut text = String::from("| | calls |\n|---|---|\n");
    let in_order = |methods: &[&str]| {
        let found = ["GET", "POST", "PUT", "DELETE"].into_iter().filter(|method| methods.contains(method));
        found.collect::<Vec<_>>().join(" ")
    };
    for (tag, paths) in rows {
        let calls: Vec<String> =
            paths.iter().map(|(path, methods)| format!("`{} {path}`", in_order(methods))).collect();
        let _ = writeln!(text, "| {tag} | {} |", calls.join(", "));
    }
    text
}

/// The parameters of the query.
fn query_of(operation: &Operation) -> String {
    let names: Vec<String> = operation
        .parameters
        .iter()
        .flatten()
        .filter_map(|parameter| match parameter {
            RefOr::T(it) if matches!(it.parameter_in, ParameterIn::Query) => Some(format!("`{}`", it.name)),
            _ => None,
        })
        .collect();
    if names.is_empty() { String::new() } else { format!(" Query: {}.", names.join(" ")) }
}

fn who(access: Access) -> String {
    match access {
        Access::Open => "anybody".to_owned(),
        Access::Certificate => "a meter, by its certificate".to_owned(),
        Access::Metrics => "as `metrics.access` says".to_owned(),
        Access::Alertmanager => "Alertmanager, or operator".to_owned(),
        Access::Link => "a signed link, or admin".to_owned(),
        Access::Role(role) => role.name().to_owned(),
    }
}

/// Text of one line that does not end a cell.
pub fn in_a_cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::super::routes;
    use super::*;

    #[test]
    fn every_route_has_a_row_and_stands_in_the_overview() {
        let (table, overview) = (markdown(), overview());
        for route in routes() {
            let (method, path) = (route.method.as_str(), plain(&route.pattern));
            assert_eq!(table.matches(&format!("| `{method} {path}` | ")).count(), 1, "{method} {path}");
            let stands = |methods: &str| methods.split(' ').any(|m| m == method);
            let mut cells = overview.split('`').skip(1).step_by(2);
            assert!(cells.any(|cell| cell.rsplit_once(' ').is_some_and(|(m, p)| p == path && stands(m))), "{path}");
        }
        assert!(!table.contains("|  |"), "a call without a summary:\n{table}");
    }

    #[test]
    fn a_row_says_what_may_be_asked_and_by_whom() {
        let table = markdown();
        let row = |call: &str| table.lines().find(|line| line.contains(call)).expect("is in the table");
        assert!(row("`GET /api/devices`").contains("`per_page`") && row("`GET /api/devices`").ends_with("| viewer |"));
        assert!(row("`GET /healthz`").ends_with("| anybody |"));
        assert!(row("`POST /api/keys`").ends_with("| admin |"));
        assert_eq!(in_a_cell("a |\n  b"), "a \\| b");
    }
}

//! The one route table: every handler with the role it needs. The router, the OpenAPI document and the guard are all
//! made from it, so that none of them can know a route the others do not.

use std::collections::{HashMap, HashSet};

use actix_web::http::Method;
use actix_web::web;
use utoipa::openapi::path::Parameter;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Content, RefOr, Response, SecurityRequirement};
use utoipa::{Modify, OpenApi};

use super::guard::kind_of;
use super::limits::Kind;
use super::{
    alertmanager, alerts, audit, certificates, claims, command_key, commands, devices, docs, energy, enrol, firmware,
    gaps, health, keys, log_level, nodes, raw, rollouts, rules, series, services, session, stats, stream, system,
    webhooks,
};
use crate::observe::metrics;
use crate::store::Role;

/// Who may call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Anybody.
    Open,
    /// Whoever brings a good client certificate, over HTTPS.
    Certificate,
    /// As configured for the metrics page, else a viewer.
    Metrics,
    /// Alertmanager, by the token that is configured for it; else an operator of all devices.
    Alertmanager,
    /// Whoever brings a signed link that is not over; else an administrator of all devices.
    Link,
    /// A key with this role or a greater one.
    Role(Role),
}

const OPEN: Access = Access::Open;
const METRICS: Access = Access::Metrics;
const CERTIFICATE: Access = Access::Certificate;
const ALERTMANAGER: Access = Access::Alertmanager;
const LINK: Access = Access::Link;
const VIEWER: Access = Access::Role(Role::Viewer);
const OPERATOR: Access = Access::Role(Role::Operator);
const ADMIN: Access = Access::Role(Role::Admin);

macro_rules! routes {
    ($($access:ident $room:ident :: $handler:ident),* $(,)?) => {
        /// The API's description, gathered from the handlers.
        #[derive(OpenApi)]
        #[openapi(
            paths($($room::$handler),*),
            components(schemas(super::error::Problem, super::error::Fault)),
            modifiers(&Common),
            info(
                title = "iot-meter",
                description = "Power meters on trains: devices, measurements, alerts and commands.",
                license(name = "MIT", identifier = "MIT"),
            ),
        )]
        struct Document;

        /// (operation, who may).
        const ACCESS: &[(&str, Access)] = &[$((stringify!($handler), $access)),*];

        fn add_services(config: &mut web::ServiceConfig) {
            $(config.service($room::$handler);)*
        }
    };
}

routes! {
    OPEN health::health,
    OPEN health::healthz,
    OPEN health::readyz,
    METRICS health::metrics_page,
    OPEN session::log_in,
    VIEWER session::get_session,
    VIEWER session::log_out,
    OPEN session::log_in_ways,
    OPEN session::begin_oidc,
    OPEN session::finish_oidc,
    ADMIN keys::list_keys,
    ADMIN keys::create_key,
    ADMIN keys::revoke_key,
    ADMIN audit::list_audit,
    VIEWER docs::openapi_json,
    VIEWER docs::docs_entry,
    VIEWER docs::docs_page,
    VIEWER system::system_status,
    VIEWER nodes::list_nodes,
    ADMIN log_level::get_log_level,
    ADMIN log_level::set_log_level,
    VIEWER stats::stats,
    VIEWER devices::list_devices,
    OPERATOR devices::create_device,
    // Before those with an id, which would take its name for one.
    OPERATOR devices::import_devices,
    VIEWER devices::get_device,
    OPERATOR devices::update_device,
    OPERATOR devices::delete_device,
    OPERATOR devices::rotate_token,
    OPERATOR devices::heartbeat,
    VIEWER devices::device_status,
    OPERATOR devices::set_device_status,
    VIEWER series::device_metrics,
    VIEWER series::latest,
    VIEWER energy::device_energy,
    VIEWER energy::fleet_energy,
    VIEWER stream::stream_events,
    VIEWER raw::list_raw_data,
    VIEWER raw::read_raw_data,
    VIEWER gaps::device_gaps,
    VIEWER alerts::list_alerts,
    VIEWER alerts::device_alerts,
    OPERATOR alerts::create_alert,
    OPERATOR alerts::acknowledge_alert,
    VIEWER rules::list_rules,
    ADMIN rules::create_rule,
    VIEWER rules::get_rule,
    ADMIN rules::update_rule,
    ADMIN rules::delete_rule,
    OPERATOR commands::create_command,
    VIEWER commands::device_commands,
    VIEWER commands::get_command,
    OPERATOR commands::cancel_command,
    OPERATOR commands::acknowledge_command,
    OPERATOR command_key::create_command_key,
    VIEWER firmware::list_firmware,
    ADMIN firmware::upload_firmware,
    ADMIN firmware::delete_firmware,
    LINK firmware::download_firmware,
    VIEWER rollouts::list_rollouts,
    ADMIN rollouts::create_rollout,
    VIEWER rollouts::get_rollout,
    VIEWER rollouts::rollout_devices,
    ADMIN rollouts::pause_rollout,
    ADMIN rollouts::resume_rollout,
    ADMIN rollouts::abort_rollout,
    OPEN enrol::enrol,
    ADMIN enrol::allow_enrolment,
    ADMIN claims::list_claims,
    ADMIN claims::create_claim,
    ADMIN claims::revoke_claim,
    ADMIN services::list_services,
    ADMIN services::create_service,
    ADMIN services::update_service,
    ADMIN services::delete_service,
    ALERTMANAGER alertmanager::take_alerts,
    ADMIN webhooks::list_webhooks,
    ADMIN webhooks::retry_webhook,
    ADMIN certificates::list_certificates,
    ADMIN certificates::issue_certificate,
    // Before those with a serial, which would take these names for one.
    CERTIFICATE certificates::renew_certificate,
    OPEN certificates::read_authority,
    VIEWER certificates::read_revoked,
    ADMIN certificates::get_certificate,
    ADMIN certificates::revoke_certificate,
}

/// The OpenAPI document.
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    document.info.version = env!("CARGO_PKG_VERSION").to_owned();
    document
}

const JSON: &str = "application/json";
const PROBLEM_JSON: &str = "application/problem+json";

/// What every operation has in common: security, and the errors any call may answer.
struct Common;

impl Modify for Common {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_with(Default::default);
        let mut basic = Http::new(HttpAuthScheme::Basic);
        basic.description = Some("The key as password; any user name.".to_owned());
        components.add_security_scheme(
            "client_certificate",
            SecurityScheme::MutualTls { description: None, deprecated: None, extensions: None },
        );
        components.add_security_scheme("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
        components.add_security_scheme("basic", SecurityScheme::Http(basic));
        let header = ApiKey::Header(ApiKeyValue::new("X-API-Key"));
        components.add_security_scheme("api_key", SecurityScheme::ApiKey(header));
        let cookie = ApiKey::Cookie(ApiKeyValue::with_description(
            super::auth::session::SECURE_COOKIE,
            "The console's session. Writes need the header X-CSRF-Token besides, as GET /api/session tells it.",
        ));
        components.add_security_scheme("session", SecurityScheme::ApiKey(cookie));
        for item in document.paths.paths.values_mut() {
            for operation in [&mut item.put, &mut item.delete].into_iter().flatten() {
                let stale = || problem_response("`If-Match` names what is not its version");
                operation.responses.responses.entry("412".to_owned()).or_insert_with(stale);
            }
            let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
            for operation in operations.into_iter().flatten() {
                complete(operation);
            }
        }
    }
}

fn complete(operation: &mut utoipa::openapi::path::Operation) {
    let access = operation.operation_id.as_deref().and_then(access_of);
    let mut errors = vec![
        ("429", "Too many requests"),
        ("414", "The path and query are too long"),
        ("503", "Something this call needs is away; try again"),
    ];
    if access == Some(Access::Certificate) {
        operation.security = Some(vec![SecurityRequirement::new("client_certificate", Vec::<String>::new())]);
    } else if access != Some(Access::Open) {
        let schemes = ["bearer", "api_key", "basic", "session"];
        let needed = schemes.map(|name| SecurityRequirement::new(name, Vec::<String>::new()));
        operation.security = Some(needed.into());
        errors.extend([("401", "No valid key"), ("403", "The key may not do this")]);
    }
    let role = match access {
        Some(Access::Role(role)) => Some(role),
        Some(Access::Alertmanager) => Some(Role::Operator),
        Some(Access::Link) => Some(Role::Admin),
        _ => None,
    };
    if let Some(role) = role {
        let sentence = format!("Needs the role {}.", role.name());
        let text = operation.description.take().map_or_else(|| sentence.clone(), |d| format!("{d}\n\n{sentence}"));
        operation.description = Some(text);
    }
    if has_json_body(operation) {
        errors.extend([
            ("400", "The body is not JSON"),
            ("413", "The body is too large"),
            ("415", "The body is of another type, or encoded"),
        ]);
    }
    as_problems(operation);
    for (status, words) in errors {
        operation.responses.responses.entry(status.to_owned()).or_insert_with(|| problem_response(words));
    }
}

fn has_json_body(operation: &utoipa::openapi::path::Operation) -> bool {
    matches!(&operation.request_body, Some(RefOr::T(body)) if body.content.contains_key(JSON))
}

/// Handlers name the body of an error only; what it is sent as is the same for all.
fn as_problems(operation: &mut utoipa::openapi::path::Operation) {
    for response in operation.responses.responses.values_mut() {
        let RefOr::T(response) = response else { continue };
        if response.content.get(JSON).is_some_and(is_problem)
            && let Some(content) = response.content.swap_remove(JSON)
        {
            response.content.insert(PROBLEM_JSON.to_owned(), content);
        }
    }
}

fn is_problem(content: &RefOr<Content>) -> bool {
    let RefOr::T(content) = content else { return false };
    matches!(&content.schema, Some(RefOr::Ref(schema)) if schema.ref_location.ends_with("/schemas/Problem"))
}

fn problem_response(words: &str) -> RefOr<Response> {
    let reference = utoipa::openapi::Ref::from_schema_name("Problem");
    let mut response = Response::new(words);
    response.content.insert(PROBLEM_JSON.to_owned(), Content::new(Some(reference)).into());
    RefOr::T(response)
}

pub(super) fn access_of(operation: &str) -> Option<Access> {
    ACCESS.iter().find(|(name, _)| *name == operation).map(|(_, access)| *access)
}

/// Where an operation stands in the table.
pub(super) fn position(operation: &str) -> Option<usize> {
    ACCESS.iter().position(|(name, _)| *name == operation)
}

/// A row of the table as the guard needs it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// Method.
    pub method: Method,
    /// Path with `{names}`.
    pub pattern: String,
    /// Who may.
    pub access: Access,
    /// It compares `If-Match` with the tag of what it changes.
    pub compares_tags: bool,
}

impl Route {
    /// It changes what is there, of which there are no tags.
    pub fn is_untagged(&self) -> bool {
        matches!(self.method, Method::PUT | Method::DELETE) && !self.compares_tags
    }
}

/// What the table says of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Known(Access, Kind),
    /// The path has other methods only: their names.
    OtherMethods(String),
    Unknown,
}

/// The table, to look requests up in.
#[derive(Debug, Default)]
pub struct Table {
    rows: HashMap<String, Vec<(Method, Access)>>,
    /// What is changed without tags.
    untagged: HashSet<(String, Method)>,
}

impl Table {
    /// All API routes, and `pages` which anybody may read.
    pub fn new(pages: &[super::Page]) -> Self {
        let mut table = Self::default();
        for route in routes() {
            if route.is_untagged() {
                table.untagged.insert((route.pattern.clone(), route.method.clone()));
            }
            table.rows.entry(route.pattern).or_default().push((route.method, route.access));
        }
        table.add_shadowed();
        for page in pages {
            table.rows.insert(page.path.to_owned(), vec![(Method::GET, Access::Open)]);
        }
        table
    }

    /// A path that a name could stand for as well (`/api/devices/import`) hides of its neighbour with the name only the
    /// methods it has itself: a device may be called so.
    fn add_shadowed(&mut self) {
        let is_name = |part: &str| part.starts_with('{');
        let covers = |wide: &str, narrow: &str| {
            let parts = || wide.split('/').zip(narrow.split('/'));
            let same_length = wide.split('/').count() == narrow.split('/').count();
            same_length && wide != narrow && parts().all(|(w, n)| w == n || is_name(w) && !is_name(n))
        };
        let mut hidden = Vec::new();
        for narrow in self.rows.keys() {
            let wide = self.rows.iter().filter(|(wide, _)| covers(wide, narrow));
            hidden.extend(wide.flat_map(|(_, row)| row.iter().map(|entry| (narrow.clone(), entry.clone()))));
        }
        for (narrow, (method, access)) in hidden {
            let row = self.rows.entry(narrow).or_default();
            if !row.iter().any(|(known, _)| *known == method) {
                row.push((method, access));
            }
        }
    }

    /// Whether `If-Match` has nothing there to be compared with.
    pub(super) fn is_untagged(&self, pattern: Option<&str>, method: &Method) -> bool {
        pattern.is_some_and(|pattern| self.untagged.contains(&(plain(pattern), method.clone())))
    }

    pub(super) fn judge(&self, pattern: Option<&str>, method: &Method) -> Verdict {
        let Some(pattern) = pattern.map(plain) else { return Verdict::Unknown };
        let Some(row) = self.rows.get(&pattern) else { return Verdict::Unknown };
        match row.iter().find(|(m, _)| m == method) {
            Some((_, access)) => Verdict::Known(*access, kind_of(method, &pattern)),
            None => Verdict::OtherMethods(row.iter().map(|(m, _)| m.as_str()).collect::<Vec<_>>().join(", ")),
        }
    }
}

/// A pattern without the regular expressions of its parts.
pub(super) fn plain(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut skipping = false;
    for letter in pattern.chars() {
        match letter {
            ':' => skipping = true,
            '}' => skipping = false,
            _ => {}
        }
        if !skipping {
            out.push(letter);
        }
    }
    out
}

/// Every operation of a document: its method, its pattern, and itself.
pub(super) fn operations(
    document: utoipa::openapi::OpenApi,
) -> impl Iterator<Item = (&'static str, String, utoipa::openapi::path::Operation)> {
    document.paths.paths.into_iter().flat_map(|(pattern, item)| {
        let all = [("GET", item.get), ("POST", item.post), ("PUT", item.put), ("DELETE", item.delete)];
        all.into_iter().filter_map(move |(method, operation)| Some((method, pattern.clone(), operation?)))
    })
}

/// Every route of the API. Read from the document, so that a route that is not described is not served.
pub fn routes() -> Vec<Route> {
    operations(document())
        .filter_map(|(method, pattern, operation)| {
            let access = access_of(operation.operation_id.as_deref()?)?;
            let method = match method {
                "POST" => Method::POST,
                "PUT" => Method::PUT,
                "DELETE" => Method::DELETE,
                _ => Method::GET,
            };
            let is_tag = |it: &RefOr<Parameter>| matches!(it, RefOr::T(it) if it.name == "If-Match");
            let compares_tags = operation.parameters.iter().flatten().any(is_tag);
            Some(Route { method, pattern, access, compares_tags })
        })
        .collect()
}

/// Puts every route on the metrics page, before its first request.
pub(super) fn show_in_metrics() {
    for (method, pattern, operation) in operations(document()) {
        let statuses = operation.responses.responses.keys();
        let success = statuses.filter(|status| status.starts_with(['2', '3'])).min();
        metrics::http_route(&plain(&pattern), method, success.map_or("200", String::as_str));
    }
}

/// Adds all handlers.
pub(super) fn configure(config: &mut web::ServiceConfig) {
    add_services(config);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_handler_of_the_table_is_described_once() {
        let routes = routes();
        assert_eq!(routes.len(), ACCESS.len(), "{routes:#?}");
        assert!(document().to_json().unwrap().contains("\"openapi\":\"3.1"));
    }

    #[test]
    fn what_a_call_may_be_refused_with_is_described() {
        let document = serde_json::to_value(document()).unwrap();
        let check = |path: &str, method: &str, status: &str| {
            assert!(document["paths"][path][method]["responses"][status].is_object(), "{method} {path} {status}");
        };
        check("/api/devices/{id}", "delete", "400");
        check("/api/session/oidc/callback", "get", "404");
        for route in routes().iter().filter(|route| matches!(route.method, Method::PUT | Method::DELETE)) {
            check(&route.pattern, &route.method.as_str().to_ascii_lowercase(), "412");
        }
    }

    #[test]
    fn patterns_lose_their_regular_expressions() {
        assert_eq!(plain("/a/{id}/raw/{file:.*}"), "/a/{id}/raw/{file}");
    }
}

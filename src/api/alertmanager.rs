//! Where Alertmanager tells of alerts (`webhook_configs` of its configuration).
//!
//! 202 means: on disk, in the database or, while that is away, beside it. Alertmanager repeats what is answered with 5xx.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, post, web};
use garde::Validate;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::body::{Body, Contract, Fields, Rule};
use super::error::{ApiError, Fault};
use super::{State, json};
use crate::notify::alertmanager::{self, Alert};

/// The route: what is told here is nothing that somebody did (see `record`).
pub(super) const PATH: &str = "/api/alertmanager/webhook";

/// What Alertmanager sends, version 4; other members are ignored.
#[derive(ToSchema)]
#[schema(example = json!({"version": "4", "alerts": [{
    "status": "firing", "fingerprint": "1a30ba71cca2921f", "startsAt": "2026-02-12T10:00:00Z",
    "labels": {"alertname": "IotMeterDown", "severity": "critical", "service": "iot-meter"},
    "annotations": {"summary": "iot-meter does not answer"}}]}))]
#[allow(dead_code, reason = "describes what notify::alertmanager reads")]
pub struct AlertmanagerBody {
    /// `4`.
    version: String,
    /// At most 1000.
    alerts: Vec<AlertmanagerAlert>,
}

/// An alert of it.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "describes what notify::alertmanager reads")]
pub struct AlertmanagerAlert {
    /// `firing` or `resolved`.
    status: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    #[schema(format = DateTime)]
    starts_at: String,
    #[schema(format = DateTime)]
    ends_at: Option<String>,
    #[schema(rename = "generatorURL")]
    generator_url: Option<String>,
    fingerprint: String,
}

/// The alerts of such a body.
#[derive(Debug, Validate)]
pub struct Told {
    #[garde(skip)]
    alerts: Vec<Alert>,
}

impl Contract for Told {
    const RULE: Rule = Rule::Foreign;

    fn read(fields: &mut Fields) -> Self {
        let taken = alertmanager::MEMBERS.into_iter();
        let members: Map<String, Value> =
            taken.filter_map(|name| Some((name.to_owned(), fields.take(name, "JSON")?))).collect();
        let alerts = alertmanager::read(&members).unwrap_or_else(|complaints| {
            complaints.into_iter().for_each(|c| fields.fault(Fault::new(c.field, c.message)));
            Vec::new()
        });
        Self { alerts }
    }
}

/// What became of the alerts.
#[derive(Serialize, ToSchema)]
pub struct AcceptedBody {
    /// Alerts to be told to GitHub.
    queued: usize,
    /// Alerts known already.
    repeated: usize,
}

/// Takes alerts from Alertmanager: each becomes an issue on GitHub, which is closed when the alert is over. Its bearer token
/// is the setting `alertmanager.token`, which works while the database is away too, or a key.
#[utoipa::path(tag = "alertmanager", request_body = AlertmanagerBody, responses(
    (status = 202, description = "On disk", body = AcceptedBody), (status = 400, body = super::Problem),
    (status = 413, body = super::Problem), (status = 422, body = super::Problem)))]
#[post("/api/alertmanager/webhook")]
pub async fn take_alerts(state: web::Data<State>, Body(body): Body<Told>) -> Result<HttpResponse, ApiError> {
    let accepted = state.services.notices.accept(body.alerts).await?;
    Ok(json(StatusCode::ACCEPTED, &AcceptedBody { queued: accepted.queued, repeated: accepted.repeated }))
}

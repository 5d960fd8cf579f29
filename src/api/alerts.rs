//! Alerts: raised by the system or by hand, cleared by the system, acknowledged by people.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, get, post, web};
use garde::Validate;
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::{Principal, Target};
use super::body::{Body, Contract, Fields, Rule};
use super::error::ApiError;
use super::paging::{List, Paging, PagingParams};
use super::query::Params;
use super::show::{Time, time};
use super::{State, devices, json, show};
use crate::domain::DeviceId;
use crate::store::{self, Alert, AlertFilter, NewAlert, Page, Store};

/// An alert.
#[derive(Serialize, ToSchema)]
pub struct AlertBody {
    id: i64,
    device_id: String,
    alert_type: String,
    severity: String,
    message: String,
    acknowledged: bool,
    #[schema(value_type = Option<String>, format = DateTime)]
    acknowledged_at: Option<Time>,
    acknowledged_by: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Time,
    /// `open`, or `cleared` when the condition has gone.
    state: &'static str,
    #[schema(value_type = Option<String>, format = DateTime)]
    cleared_at: Option<Time>,
    /// The alert rule that raised it.
    rule_id: Option<i64>,
    /// Why it was cleared, unless the condition has gone: `rule_changed`, `rule_disabled`, `rule_deleted`,
    /// `device_not_selected`, or `superseded` (by the alert of a newer loss, after this one was acknowledged).
    cleared_reason: Option<String>,
}

impl From<Alert> for AlertBody {
    fn from(a: Alert) -> Self {
        Self {
            id: a.id,
            device_id: a.device_id.to_string(),
            alert_type: a.alert_type,
            severity: a.severity,
            message: a.message,
            acknowledged: a.acknowledged_at.is_some(),
            acknowledged_at: time(a.acknowledged_at),
            acknowledged_by: a.acknowledged_by,
            created_at: Time(a.created_at),
            state: if a.cleared_at.is_some() { "cleared" } else { "open" },
            cleared_at: time(a.cleared_at),
            rule_id: a.rule.map(|rule| rule.0),
            cleared_reason: a.cleared_reason,
        }
    }
}

/// Body of an alert raised by hand.
#[derive(Debug, Validate, ToSchema)]
pub struct CreateAlert {
    /// `manual` by default.
    #[garde(inner(length(chars, min = 1, max = 64)))]
    alert_type: Option<String>,
    /// `info` by default; the system uses `info`, `warning` and `critical`.
    #[garde(inner(length(chars, min = 1, max = 32)))]
    severity: Option<String>,
    #[garde(inner(length(chars, max = 4096)))]
    message: Option<String>,
}

impl Contract for CreateAlert {
    const RULE: Rule = Rule::Lenient;

    fn read(fields: &mut Fields) -> Self {
        Self {
            alert_type: fields.text("alert_type"),
            severity: fields.text("severity"),
            message: fields.text("message"),
        }
    }
}

fn filter(params: &mut Params, device: Option<DeviceId>) -> AlertFilter {
    let is_open = params.read("state", "open or cleared", |v| match v {
        "open" => Some(true),
        "cleared" => Some(false),
        _ => None,
    });
    let acknowledged = params.flag("acknowledged");
    let severity = params.text("severity").map(str::to_owned);
    AlertFilter { device, acknowledged, severity, is_open, ..AlertFilter::default() }
}

/// Alerts of all devices, newest first.
#[utoipa::path(tag = "alerts", params(
    ("acknowledged" = Option<bool>, Query, description = "Seen by somebody"),
    ("severity" = Option<String>, Query, description = "Severity"),
    ("state" = Option<String>, Query, description = "`open` or `cleared`"),
    ("device" = Option<String>, Query, description = "Device id"),
    PagingParams),
    responses((status = 200, body = Vec<AlertBody>), (status = 400, body = super::Problem)))]
#[get("/api/alerts")]
pub async fn list_alerts(
    state: web::Data<State>,
    principal: Principal,
    mut params: Params,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let device = params.read("device", "a device id", DeviceId::parse);
    let filter = AlertFilter { id_prefix: principal.device_prefix, ..filter(&mut params, device) };
    let paging = Paging::read(&mut params, List::Alerts);
    params.finish()?;
    let listing = state.store(move |s| s.alerts(&filter, paging.part())).await?;
    Ok(show::list(&request, paging, listing, AlertBody::from))
}

/// Alerts of a device, newest first.
#[utoipa::path(tag = "alerts", params(("id" = String, Path, description = "Device id"),
    ("acknowledged" = Option<bool>, Query, description = "Seen by somebody"),
    ("severity" = Option<String>, Query, description = "Severity"),
    ("state" = Option<String>, Query, description = "`open` or `cleared`"),
    PagingParams),
    responses((status = 200, body = Vec<AlertBody>), (status = 400, body = super::Problem),
    (status = 404, body = super::Problem)))]
#[get("/api/devices/{id}/alerts")]
pub async fn device_alerts(
    state: web::Data<State>,
    Target(id): Target,
    mut params: Params,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let filter = filter(&mut params, Some(id.clone()));
    let paging = Paging::read(&mut params, List::Alerts);
    params.finish()?;
    devices::find(&state, &id).await?;
    let listing = state.store(move |s| s.alerts(&filter, paging.part())).await?;
    Ok(show::list(&request, paging, listing, AlertBody::from))
}

/// Raises an alert by hand.
#[utoipa::path(tag = "alerts", params(("id" = String, Path, description = "Device id")), request_body = CreateAlert,
    responses((status = 201, body = AlertBody), (status = 400, body = super::Problem),
    (status = 404, body = super::Problem)))]
#[post("/api/devices/{id}/alerts")]
pub async fn create_alert(
    state: web::Data<State>,
    Target(id): Target,
    Body(body): Body<CreateAlert>,
) -> Result<HttpResponse, ApiError> {
    let new = NewAlert {
        alert_type: body.alert_type.unwrap_or_else(|| "manual".to_owned()),
        severity: body.severity.unwrap_or_else(|| "info".to_owned()),
        message: body.message.unwrap_or_default(),
    };
    let (wanted, now) = (id.clone(), state.services.clock.now());
    let created = state.store(move |s| s.create_alert(&wanted, &new, now)).await?;
    let alert = created.ok_or_else(|| ApiError::no_device(id.as_str()))?;
    Ok(json(StatusCode::CREATED, &AlertBody::from(alert)))
}

/// Whether the asker's key reaches the alert's device.
fn is_reachable(store: &dyn Store, principal: &Principal, alert: i64) -> Result<bool, store::Error> {
    if principal.device_prefix.is_none() {
        return Ok(true);
    }
    let id_prefix = principal.device_prefix.clone();
    let filter = AlertFilter { id: Some(alert), id_prefix, ..AlertFilter::default() };
    Ok(!store.alerts(&filter, Page::behind(None, 1))?.items.is_empty())
}

/// Marks an alert as seen.
#[utoipa::path(tag = "alerts", params(("alert_id" = i64, Path, description = "Alert id")),
    responses((status = 200, body = AlertBody), (status = 404, body = super::Problem)))]
#[post("/api/alerts/{alert_id}/acknowledge")]
pub async fn acknowledge_alert(
    state: web::Data<State>,
    principal: Principal,
    path: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let missing = || ApiError::NotFound("this alert was".to_owned());
    let id: i64 = path.parse().map_err(|_| missing())?;
    let now = state.services.clock.now();
    let acknowledged = state
        .store(move |s| match is_reachable(s, &principal, id)? {
            true => s.acknowledge_alert(id, &principal.name, now),
            false => Ok(None),
        })
        .await?;
    Ok(json(StatusCode::OK, &AlertBody::from(acknowledged.ok_or_else(missing)?)))
}

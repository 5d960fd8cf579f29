//! Is the device there: heartbeat and status by REST, for devices that cannot or do not say it over MQTT.

use actix_web::{HttpRequest, HttpResponse, get, post, put, web};
use garde::Validate;
use serde::Serialize;
use utoipa::ToSchema;

use super::bodies::status_name;
use super::{MessageBody, find};
use crate::api::auth::Target;
use crate::api::body::{Body, Contract, Fields, Rule};
use crate::api::error::ApiError;
use crate::api::show::{Time, time};
use crate::api::{State, etag};
use crate::collector::{Answer, RequestKind};
use crate::domain::presence::Connection;
use crate::domain::{DeviceId, DeviceState};

/// Whether a device is there.
#[derive(Serialize, ToSchema)]
pub struct StatusBody {
    device_id: String,
    /// `online`, `offline` or `unknown`.
    connection_status: &'static str,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_seen: Option<Time>,
    fw_version: Option<String>,
    /// `active` or `inactive`.
    status: &'static str,
    /// How often its count started again.
    reboots: u64,
    /// Holes in its count that are still open.
    open_gaps: usize,
    /// The furthest number of its count.
    last_seq: Option<u32>,
}

/// Body of a status set by hand.
#[derive(Debug, Validate, ToSchema)]
pub struct SetStatus {
    /// `online`, `offline` or `unknown`.
    #[garde(required, inner(custom(check_connection)))]
    #[schema(required = true, nullable = false)]
    connection_status: Option<String>,
    #[garde(inner(length(chars, min = 1, max = 64)))]
    fw_version: Option<String>,
}

impl StatusBody {
    /// Of a device with what its messages made known.
    pub(in crate::api) fn of(device: &DeviceId, state: &DeviceState) -> Self {
        Self {
            device_id: device.to_string(),
            connection_status: state.connection.name(),
            last_seen: time(state.last_seen),
            fw_version: state.fw_version.clone(),
            status: status_name(state.registration.as_ref().is_none_or(|registration| registration.is_active)),
            reboots: state.sequence.reboots,
            open_gaps: state.sequence.open.len(),
            last_seq: state.sequence.head.map(|(seq, _)| seq),
        }
    }

    /// What can be set of it: what else its messages make known does not make a setting stale.
    fn version(&self) -> i64 {
        etag::version_of(&(self.connection_status, &self.fw_version))
    }
}

fn check_connection(name: &str, (): &()) -> garde::Result {
    match Connection::from_name(name) {
        Some(_) => Ok(()),
        None => Err(garde::Error::new("must be online, offline or unknown")),
    }
}

impl Contract for SetStatus {
    const RULE: Rule = Rule::Lenient;

    fn read(fields: &mut Fields) -> Self {
        Self { connection_status: fields.text("connection_status"), fw_version: fields.text("fw_version") }
    }
}

async fn tell(state: &State, id: &DeviceId, kind: RequestKind) -> Result<(), ApiError> {
    match state.tell(id, kind).await? {
        Answer::Done => Ok(()),
        Answer::NoDevice => Err(ApiError::no_device(id.as_str())),
        Answer::Stale => Err(ApiError::Stale),
    }
}

async fn status_of(state: &State, id: &DeviceId) -> Result<StatusBody, ApiError> {
    let device = find(state, id).await?;
    let wanted = [id.clone()];
    let states = state.store(move |s| s.device_states(&wanted)).await?;
    let sequence = states.into_iter().next().map(|(_, s)| s.sequence).unwrap_or_default();
    Ok(StatusBody {
        device_id: device.device_id.to_string(),
        connection_status: device.connection.name(),
        last_seen: time(device.last_seen),
        fw_version: device.fw_version,
        status: status_name(device.is_active),
        reboots: sequence.reboots,
        open_gaps: sequence.open.len(),
        last_seq: sequence.head.map(|(seq, _)| seq),
    })
}

/// Says that the device is there.
#[utoipa::path(tag = "devices", params(("id" = String, Path, description = "Device id")),
    responses((status = 200, body = MessageBody), (status = 404, body = crate::api::Problem)))]
#[post("/api/devices/{id}/heartbeat")]
pub async fn heartbeat(state: web::Data<State>, Target(id): Target) -> Result<HttpResponse, ApiError> {
    tell(&state, &id, RequestKind::Heartbeat).await?;
    Ok(MessageBody::ok(format!("Heartbeat of {id} received")))
}

/// Whether the device is there.
#[utoipa::path(tag = "devices", params(("id" = String, Path, description = "Device id")),
    responses((status = 200, body = StatusBody, headers(("ETag" = String))),
    (status = 304, description = "Not changed"), (status = 404, body = crate::api::Problem)))]
#[get("/api/devices/{id}/status")]
pub async fn device_status(
    state: web::Data<State>,
    Target(id): Target,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let status = status_of(&state, &id).await?;
    Ok(etag::respond(&request, status.version(), &status))
}

/// Sets by hand whether the device is there.
#[utoipa::path(tag = "devices", params(("id" = String, Path, description = "Device id"),
    ("If-Match" = Option<String>, Header, description = "Set only where this is the status")),
    request_body = SetStatus, responses((status = 200, body = StatusBody), (status = 400, body = crate::api::Problem),
    (status = 404, body = crate::api::Problem), (status = 412, body = crate::api::Problem)))]
#[put("/api/devices/{id}/status")]
pub async fn set_device_status(
    state: web::Data<State>,
    Target(id): Target,
    Body(body): Body<SetStatus>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let connection = body.connection_status.as_deref().and_then(Connection::from_name);
    let connection = connection.ok_or(ApiError::Internal("a validated body lacks a required field"))?;
    let before = status_of(&state, &id).await?;
    let is_bound = etag::precondition(request.headers(), before.version())?.is_some();
    // The collector compares once more: what a meter says meanwhile is not overwritten.
    let expected = Connection::from_name(before.connection_status).map(|was| (was, before.fw_version));
    let expected = expected.filter(|_| is_bound);
    tell(&state, &id, RequestKind::SetStatus { connection, fw_version: body.fw_version, expected }).await?;
    Ok(HttpResponse::Ok().json(status_of(&state, &id).await?))
}

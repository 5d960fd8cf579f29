//! Devices: the registry, their presence, their MQTT tokens.
//!
//! Invariant: whatever takes away a device's right to connect (deletion, deactivation, a new token) also ends its
//! session, and every change reaches the collector before the answer is sent.

mod bodies;
mod import;
mod presence;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, delete, get, post, put, web};

pub use bodies::{CreateDevice, DeviceBody, MessageBody, TokenBody, UpdateDevice};
pub use import::*;
pub use presence::*;

use super::auth::{Principal, Target};
use super::body::Body;
use super::error::ApiError;
use super::paging::{List, Paging, PagingParams};
use super::query::Params;
use super::{State, created, etag, json, key, show};
use crate::collector::RequestKind;
use crate::dispatch;
use crate::domain::DeviceId;
use crate::domain::presence::Connection;
use crate::store::{Device, DeviceFilter, Outcome, Revocation, Store};

/// Most metadata conditions of a list.
const MAX_METADATA_FILTERS: usize = 16;

/// The device, or 404.
pub(super) async fn find(state: &State, id: &DeviceId) -> Result<Device, ApiError> {
    let wanted = id.clone();
    let found = state.store(move |s| s.device(&wanted)).await?;
    found.ok_or_else(|| ApiError::no_device(id.as_str()))
}

/// Lets the collector forget what it has cached of the device.
pub(super) async fn reload(state: &State, id: &DeviceId) {
    tell(state, id, RequestKind::Reload).await;
}

async fn tell(state: &State, id: &DeviceId, kind: RequestKind) {
    if state.tell(id, kind).await.is_err() {
        tracing::warn!(device_id = %id, "the collector is busy or stopping and was not told of a change");
    }
}

pub(super) async fn disconnect(state: &State, id: &DeviceId) {
    state.ask(dispatch::Request::Disconnect(id.clone())).await;
}

/// Reads the filters of the device list.
pub(super) fn filter(params: &mut Params) -> DeviceFilter {
    let is_active = params.read("status", "active or inactive", |v| match v {
        "active" => Some(true),
        "inactive" => Some(false),
        _ => None,
    });
    let connection = params.read("connection_status", "online, offline or unknown", Connection::from_name);
    let metadata: Vec<(String, String)> =
        params.with_prefix("metadata.").map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    if metadata.len() > MAX_METADATA_FILTERS {
        params.fault("metadata", format!("may be given at most {MAX_METADATA_FILTERS} times"));
    }
    let text = |name: &str| params.text(name).map(str::to_owned);
    let device_type = text("type").or_else(|| text("device_type"));
    let (location, q) = (text("location"), text("q"));
    DeviceFilter { id_prefix: None, is_active, device_type, connection, location, q, metadata }
}

/// Devices that match all conditions, newest first.
#[utoipa::path(tag = "devices", params(
    ("status" = Option<String>, Query, description = "`active` or `inactive`"),
    ("type" = Option<String>, Query, description = "Device type"),
    ("connection_status" = Option<String>, Query, description = "`online`, `offline` or `unknown`"),
    ("location" = Option<String>, Query, description = "Location, as registered"),
    ("q" = Option<String>, Query, description = "Part of id or name"),
    ("metadata.KEY" = Option<String>, Query, description = "Value of the metadata member KEY"),
    PagingParams),
    responses((status = 200, body = Vec<DeviceBody>, headers(("X-Total-Count" = u64), ("Link" = String))),
        (status = 400, body = super::Problem)))]
#[get("/api/devices")]
pub async fn list_devices(
    state: web::Data<State>,
    principal: Principal,
    mut params: Params,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let filter = DeviceFilter { id_prefix: principal.device_prefix, ..filter(&mut params) };
    let paging = Paging::read(&mut params, List::Devices);
    params.finish()?;
    let listing = state.store(move |s| s.devices(&filter, paging.part())).await?;
    Ok(show::list(&request, paging, listing, DeviceBody::from))
}

/// Registers a device and makes its MQTT token, which is shown in this answer only.
#[utoipa::path(tag = "devices", request_body = CreateDevice, responses(
    (status = 201, body = DeviceBody), (status = 400, body = super::Problem),
    (status = 409, description = "The id is taken", body = super::Problem)))]
#[post("/api/devices")]
pub async fn create_device(
    state: web::Data<State>,
    principal: Principal,
    Body(body): Body<CreateDevice>,
) -> Result<HttpResponse, ApiError> {
    let token = key::random_token();
    let new =
        body.into_new(key::digest(&token)).ok_or(ApiError::Internal("a validated body lacks a required field"))?;
    let id = new.device_id.clone();
    principal.must_reach(&id)?;
    let now = state.services.clock.now();
    let Outcome::Done(device) = state.store(move |s| s.create_device(&new, now)).await? else {
        return Err(ApiError::Conflict(format!("device {:?} exists already", id.as_str())));
    };
    reload(&state, &id).await;
    let mut body = DeviceBody::from(device);
    let tag = etag::tag(body.version, &body);
    body.token = Some(token);
    Ok(etag::tagged(created(&format!("/api/devices/{id}"), &body), &tag))
}

/// One device.
#[utoipa::path(tag = "devices", params(("id" = String, Path, description = "Device id")), responses(
    (status = 200, body = DeviceBody, headers(("ETag" = String))), (status = 304, description = "Not changed"),
    (status = 404, body = super::Problem)))]
#[get("/api/devices/{id}")]
pub async fn get_device(
    state: web::Data<State>,
    Target(id): Target,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let body = DeviceBody::from(find(&state, &id).await?);
    Ok(etag::respond(&request, body.version, &body))
}

/// Changes the named fields of a device.
#[utoipa::path(tag = "devices", params(("id" = String, Path, description = "Device id"),
    ("If-Match" = Option<String>, Header, description = "Change only this version")),
    request_body = UpdateDevice, responses((status = 200, body = DeviceBody), (status = 400, body = super::Problem),
    (status = 404, body = super::Problem), (status = 412, body = super::Problem)))]
#[put("/api/devices/{id}")]
pub async fn update_device(
    state: web::Data<State>,
    Target(id): Target,
    Body(body): Body<UpdateDevice>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let change = body.into_change()?;
    let current = find(&state, &id).await?;
    let expected = etag::precondition(request.headers(), current.version)?;
    let (wanted, now) = (id.clone(), state.services.clock.now());
    let is_switched_off = change.is_active == Some(false);
    let updated = state.store(move |s| s.update_device(&wanted, &change, expected, now)).await?;
    let device = match updated {
        None => return Err(ApiError::no_device(id.as_str())),
        Some(Outcome::Conflict) => return Err(ApiError::Stale),
        Some(Outcome::Done(device)) => device,
    };
    reload(&state, &id).await;
    if is_switched_off {
        disconnect(&state, &id).await;
    }
    let body = DeviceBody::from(device);
    Ok(etag::tagged(json(StatusCode::OK, &body), &etag::tag(body.version, &body)))
}

/// Removes a device, its credential, its commands and alerts, and ends its session; its data too with `purge`.
#[utoipa::path(tag = "devices", params(("id" = String, Path, description = "Device id"),
    ("purge" = Option<bool>, Query, description = "Remove its data too"),
    ("If-Match" = Option<String>, Header, description = "Remove only this version")),
    responses((status = 200, body = MessageBody), (status = 400, body = super::Problem),
    (status = 404, body = super::Problem), (status = 412, body = super::Problem)))]
#[delete("/api/devices/{id}")]
pub async fn delete_device(
    state: web::Data<State>,
    principal: Principal,
    Target(id): Target,
    mut params: Params,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let purge = params.flag("purge").unwrap_or(false);
    params.finish()?;
    let current = find(&state, &id).await?;
    let expected = etag::precondition(request.headers(), current.version)?;
    // First the session, so that nothing new comes in while the rows go; once more for one begun meanwhile.
    disconnect(&state, &id).await;
    let wanted = id.clone();
    let revocation =
        Revocation { at: state.services.clock.now(), by: principal.name, reason: "the device was deleted".to_owned() };
    match state.store(move |s| s.remove_device(&wanted, expected, purge, &revocation)).await? {
        None => return Err(ApiError::no_device(id.as_str())),
        Some(Outcome::Conflict) => return Err(ApiError::Stale),
        Some(Outcome::Done(())) => {}
    }
    disconnect(&state, &id).await;
    tell(&state, &id, RequestKind::Deleted).await;
    // Until the collector was told, it may have stored what the device had said before, and so have made it known again.
    let wanted = id.clone();
    // (Or its state, and with `purge` its data, of which nothing must be found by whoever is registered next.)
    let once_more = move |s: &dyn Store| {
        let is_to_go = s.device(&wanted)?.is_none_or(|device| device.is_only_heard_of());
        Ok(is_to_go && s.delete_device(&wanted, purge)?)
    };
    if state.store(once_more).await? {
        tell(&state, &id, RequestKind::Deleted).await;
    }
    Ok(MessageBody::ok(format!("Device {id} deleted")))
}

/// Makes a new MQTT token, which is shown in this answer only; the old one is void at once and the session ended.
#[utoipa::path(tag = "devices", params(("id" = String, Path, description = "Device id")),
    responses((status = 201, body = TokenBody), (status = 404, body = super::Problem)))]
#[post("/api/devices/{id}/token")]
pub async fn rotate_token(state: web::Data<State>, Target(id): Target) -> Result<HttpResponse, ApiError> {
    let token = key::random_token();
    let (wanted, digest) = (id.clone(), key::digest(&token));
    if !state.store(move |s| s.set_device_token(&wanted, Some(digest))).await? {
        return Err(ApiError::no_device(id.as_str()));
    }
    reload(&state, &id).await;
    disconnect(&state, &id).await;
    Ok(json(StatusCode::CREATED, &TokenBody { device_id: id.to_string(), token }))
}

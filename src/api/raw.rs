//! Received messages as they came: a listing, and the exact bytes of one.

use std::future::Future;
use std::pin::Pin;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY};
use actix_web::{HttpRequest, HttpResponse, get, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Target;
use super::error::ApiError;
use super::query::Params;
use super::show::Time;
use super::{State, devices};
use crate::archive::{self, RawEntry, Reader};
use crate::domain::DeviceId;

/// An answer of the archive, to be awaited.
pub type RawFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, archive::Error>> + Send + 'a>>;

/// What the archive must do for the API; a seam, so that handlers are tested without one.
pub trait RawMessages: Send + Sync + 'static {
    /// The newest messages of a device, newest first.
    fn list<'a>(
        &'a self,
        device: &'a DeviceId,
        category: Option<&'a str>,
        limit: usize,
    ) -> RawFuture<'a, Vec<RawEntry>>;
    /// Content type and bytes of a message; `None` = no such message.
    fn read<'a>(&'a self, device: &'a DeviceId, filename: &'a str) -> RawFuture<'a, Option<(String, Vec<u8>)>>;
}

impl RawMessages for Reader {
    fn list<'a>(
        &'a self,
        device: &'a DeviceId,
        category: Option<&'a str>,
        limit: usize,
    ) -> RawFuture<'a, Vec<RawEntry>> {
        Box::pin(Self::list(self, device, category, limit))
    }

    fn read<'a>(&'a self, device: &'a DeviceId, filename: &'a str) -> RawFuture<'a, Option<(String, Vec<u8>)>> {
        Box::pin(Self::read(self, device, filename))
    }
}

/// The kinds of messages.
const CATEGORIES: [&str; 6] = ["telemetry", "hello", "status", "command_ack", "ota_status", "invalid"];

/// A received message.
#[derive(Serialize, ToSchema)]
pub struct RawBody {
    /// `{device_id}/{category}/{time}.json`
    filename: String,
    /// Bytes.
    size: u64,
    /// When it was received.
    #[schema(value_type = String, format = DateTime)]
    last_modified: Time,
}

/// The newest messages of a device as they came, newest first.
#[utoipa::path(tag = "data", params(("id" = String, Path, description = "Device id"),
    ("limit" = Option<u64>, Query, description = "1 to 1000, default 100"),
    ("prefix" = Option<String>, Query,
        description = "Category: `telemetry hello status command_ack ota_status invalid`")),
    responses((status = 200, body = Vec<RawBody>), (status = 400, body = super::Problem),
    (status = 404, body = super::Problem)))]
#[get("/api/devices/{id}/raw-data")]
pub async fn list_raw_data(
    state: web::Data<State>,
    Target(id): Target,
    mut params: Params,
) -> Result<HttpResponse, ApiError> {
    let limit = params.number("limit", 1..=1000).and_then(|n| usize::try_from(n).ok()).unwrap_or(100);
    let expected = format!("one of {}", CATEGORIES.join(", "));
    let category = params.read("prefix", &expected, |v| CATEGORIES.into_iter().find(|c| *c == v.trim_end_matches('/')));
    params.finish()?;
    let entries = state.services.raw.list(&id, category, limit).await?;
    if entries.is_empty() {
        devices::find(&state, &id).await?;
    }
    let show = |e: RawEntry| RawBody { filename: e.filename, size: e.size, last_modified: Time(e.last_modified) };
    Ok(HttpResponse::Ok().json(entries.into_iter().map(show).collect::<Vec<_>>()))
}

/// The exact bytes of a message named by the listing.
#[utoipa::path(tag = "data", params(("id" = String, Path, description = "Device id"),
    ("filename" = String, Path, description = "As in the listing; it holds slashes")),
    responses((status = 200, description = "The bytes as received", content_type = "application/json"),
    (status = 404, body = super::Problem)))]
#[get("/api/devices/{id}/raw-data/{filename:.*}")]
pub async fn read_raw_data(
    state: web::Data<State>,
    Target(id): Target,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let given = request.match_info().get("filename").unwrap_or_default().replace("%2F", "/").replace("%2f", "/");
    let own = given.split_once('/').is_some_and(|(device, _)| device == id.as_str());
    let filename = if own { given } else { format!("{id}/{given}") };
    let found = state.services.raw.read(&id, &filename).await?;
    let (kind, bytes) = found.ok_or_else(|| ApiError::NotFound("this message was".to_owned()))?;
    // The sender chose the content type: a browser must not run what a meter sent.
    let kind = match kind.as_str() {
        "" | "application/json" => "application/json",
        "application/cbor" => "application/cbor",
        _ => "application/octet-stream",
    };
    Ok(HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "private, max-age=31536000, immutable"))
        .insert_header((CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox; frame-ancestors 'none'"))
        .insert_header((CONTENT_DISPOSITION, "attachment"))
        .content_type(kind)
        .body(bytes))
}

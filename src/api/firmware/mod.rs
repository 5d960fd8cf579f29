//! Firmware images: taken in, listed, and handed out by links that end.
//!
//! Invariants: an image is stored while it comes in, never whole in memory, and what is not taken leaves nothing; of a device
//! type there is one image of a version. A link is good for its image and time only, and shows nothing else.

mod multipart;
mod range;
mod upload;

use actix_web::body::SizedStream;
use actix_web::http::StatusCode;
use actix_web::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_RANGE, ContentEncoding, ETAG,
};
use actix_web::{HttpRequest, HttpResponse, delete, get, post, web};
use serde::Serialize;
use utoipa::ToSchema;

use self::range::Wanted;
use super::auth::Principal;
use super::devices::MessageBody;
use super::error::ApiError;
use super::paging::{List, Paging, PagingParams};
use super::query::Params;
use super::record::Remark;
use super::show::Time;
use super::{State, created, etag, show};
use crate::dispatch::rollouts::link_of;
use crate::observe::metrics;
use crate::store::{Firmware, FirmwareFilter, Outcome};

/// Read from the object store at once.
const PIECE_BYTES: u64 = 256 * 1024;

/// A firmware image.
#[derive(Serialize, ToSchema)]
pub struct FirmwareBody {
    id: i64,
    /// As a meter says it in its hello.
    version: String,
    /// The type of the devices it is for.
    device_type: String,
    size_bytes: u64,
    /// SHA-256 of the image in hexadecimal.
    sha256: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Time,
    created_by: String,
}

impl From<Firmware> for FirmwareBody {
    fn from(image: Firmware) -> Self {
        Self {
            id: image.id,
            version: image.version,
            device_type: image.device_type,
            size_bytes: image.size_bytes,
            sha256: hex::encode(image.sha256),
            created_at: Time(image.created_at),
            created_by: image.created_by,
        }
    }
}

/// What is sent: the parts of a form.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes what upload reads")]
pub struct FirmwareForm {
    /// 1 to 64 bytes.
    version: String,
    /// 1 to 64 characters.
    device_type: String,
    /// The image; at most `firmware.max_bytes`.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
}

/// Takes an image in. It is stored while it comes, and its SHA-256 is computed.
#[utoipa::path(tag = "firmware", request_body(content = FirmwareForm, content_type = "multipart/form-data"), responses(
    (status = 201, body = FirmwareBody), (status = 400, body = super::Problem),
    (status = 409, description = "There is an image of that type and version", body = super::Problem),
    (status = 413, body = super::Problem), (status = 415, body = super::Problem), (status = 422, body = super::Problem)))]
#[post("/api/firmware")]
pub async fn upload_firmware(
    state: web::Data<State>,
    principal: Principal,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    principal.whole_fleet()?;
    let taken = upload::take(&state, &request, payload).await?;
    let (object, images) = (taken.stored.object.clone(), state.services.campaigns.images.clone());
    let new = crate::store::NewFirmware {
        object: taken.stored.object,
        version: taken.version,
        device_type: taken.device_type,
        size_bytes: taken.stored.size_bytes,
        sha256: taken.stored.sha256,
        created_at: state.services.clock.now(),
        created_by: principal.name,
    };
    let added = state.store(move |s| s.add_firmware(&new)).await;
    if let Ok(Outcome::Done(image)) = added {
        Remark { detail: Some(detail(&image)), ..Remark::default() }.on(&request);
        let place = format!("/api/firmware/{}", image.id);
        return Ok(created(&place, &FirmwareBody::from(image)));
    }
    // What it leaves when this fails too is swept up later.
    let _ = images.remove(&object).await;
    added?;
    Err(upload::exists())
}

fn detail(image: &Firmware) -> String {
    format!("{} {} {}", image.device_type, image.version, &hex::encode(image.sha256)[..16])
}

/// Images, newest first.
#[utoipa::path(tag = "firmware", params(
    ("device_type" = Option<String>, Query, description = "For this type, exactly"),
    ("version" = Option<String>, Query, description = "Of this version, exactly"), PagingParams),
    responses((status = 200, body = Vec<FirmwareBody>), (status = 400, body = super::Problem)))]
#[get("/api/firmware")]
pub async fn list_firmware(
    state: web::Data<State>,
    principal: Principal,
    mut params: Params,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    principal.whole_fleet()?;
    let text = |name: &str| params.text(name).map(str::to_owned);
    let filter = FirmwareFilter { device_type: text("device_type"), version: text("version") };
    let paging = Paging::read(&mut params, List::Firmware);
    params.finish()?;
    let listing = state.store(move |s| s.firmwares(&filter, paging.part())).await?;
    Ok(show::list(&request, paging, listing, FirmwareBody::from))
}

fn missing() -> ApiError {
    ApiError::NotFound("this firmware was".to_owned())
}

/// Removes an image that no open rollout needs.
#[utoipa::path(tag = "firmware", params(("firmware_id" = i64, Path, description = "Its id")), responses(
    (status = 200, body = MessageBody), (status = 404, body = super::Problem),
    (status = 409, description = "A rollout that is not over needs it", body = super::Problem)))]
#[delete("/api/firmware/{firmware_id}")]
pub async fn delete_firmware(
    state: web::Data<State>,
    principal: Principal,
    path: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    principal.whole_fleet()?;
    let id: i64 = path.parse().map_err(|_| missing())?;
    match state.store(move |s| s.remove_firmware(id)).await?.ok_or_else(missing)? {
        Outcome::Conflict => {
            let text = "a rollout that is not over needs this firmware; abort it first, or wait for its end";
            Err(ApiError::Conflict(text.to_owned()))
        }
        Outcome::Done(image) => {
            Remark { detail: Some(detail(&image)), ..Remark::default() }.on(&request);
            // Nothing knows the object any more: what fails now is swept up later.
            let _ = state.services.campaigns.images.remove(&image.object).await;
            Ok(MessageBody::ok(format!("firmware {} for {} was removed", image.version, image.device_type)))
        }
    }
}

/// The bytes of an image, by the signed link that a `start_ota` command holds, or by an administrator's credential.
///
/// One range of bytes may be asked for (RFC 9110, section 14).
#[utoipa::path(tag = "firmware", params(("firmware_id" = i64, Path, description = "Its id"),
    ("expires" = Option<i64>, Query, description = "End of the link, seconds since 1970"),
    ("signature" = Option<String>, Query, description = "The link's signature"),
    ("Range" = Option<String>, Header, description = "`bytes=0-1023`"),
    ("If-Range" = Option<String>, Header, description = "The `ETag` that the range is of")),
    responses((status = 200, description = "The image", content_type = "application/octet-stream"),
    (status = 206, description = "A part of it", content_type = "application/octet-stream"),
    (status = 304, description = "The client has it"), (status = 404, body = super::Problem),
    (status = 416, description = "It has no such bytes", body = super::Problem)))]
#[get("/api/firmware/{firmware_id}/download")]
pub async fn download_firmware(
    state: web::Data<State>,
    path: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let id: i64 = path.parse().map_err(|_| missing())?;
    let image = state.store(move |s| s.firmware(id)).await?.ok_or_else(missing)?;
    let (tag, size) = (format!("\"{}\"", hex::encode(image.sha256)), image.size_bytes);
    if etag::is_known(request.headers(), &tag) {
        return Ok(HttpResponse::NotModified().insert_header((ETAG, tag)).finish());
    }
    let (range, result) = match range::wanted(request.headers(), size, &tag) {
        Wanted::Whole => (0..size, "whole"),
        Wanted::Part(range) => (range, "part"),
        Wanted::Nothing => return Err(ApiError::NoSuchRange { size_bytes: size }),
    };
    metrics::FIRMWARE_DOWNLOADS.increment(&[("result", result)], 1);
    let mut response = HttpResponse::Ok();
    if result == "part" {
        response.status(StatusCode::PARTIAL_CONTENT);
        response.insert_header((CONTENT_RANGE, format!("bytes {}-{}/{size}", range.start, range.end - 1)));
    }
    response
        .insert_header((ETAG, tag))
        .insert_header((ACCEPT_RANGES, "bytes"))
        .insert_header((CACHE_CONTROL, "private, no-transform, max-age=86400"))
        .insert_header((CONTENT_DISPOSITION, "attachment"))
        // Ranges are of these bytes, not of others that they could be packed into.
        .insert_header(ContentEncoding::Identity)
        .content_type("application/octet-stream");
    let length = range.end - range.start;
    let images = state.services.campaigns.images.clone();
    // The first piece decides whether there is an answer at all.
    let first = images.read(&image.object, range.start..range.end.min(range.start + PIECE_BYTES)).await?;
    let begun = (images, image.object, range.start, range.end, Some(first));
    Ok(response.body(SizedStream::new(length, futures_util::stream::unfold(begun, piece))))
}

type Pieces = (crate::archive::Images, String, u64, u64, Option<web::Bytes>);

/// The next piece of an image. An error breaks the answer off: its length says that it is not whole.
async fn piece(from: Pieces) -> Option<(Result<web::Bytes, std::io::Error>, Pieces)> {
    let (images, object, at, end, first) = from;
    if at >= end {
        return None;
    }
    let read = match first {
        Some(bytes) => Ok(bytes),
        None => images.read(&object, at..end.min(at + PIECE_BYTES)).await,
    };
    match read {
        Ok(bytes) if !bytes.is_empty() => {
            metrics::FIRMWARE_SENT_BYTES.increment(&[], bytes.len() as u64);
            let next = at + bytes.len() as u64;
            Some((Ok(bytes), (images, object, next, end, None)))
        }
        Ok(_) => {
            Some((Err(std::io::Error::other("the image is shorter than it was")), (images, object, end, end, None)))
        }
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "a firmware image cannot be read on; broken off");
            Some((Err(std::io::Error::other("broken off")), (images, object, end, end, None)))
        }
    }
}

/// Whether a request brings a link's signature; `Some(false)` = it is not good, or its time is over.
pub(super) fn is_signed(state: &State, path: &str, query: &str) -> Option<bool> {
    let params = Params::parse(query);
    let signature = params.text("signature")?;
    let id = path.strip_prefix("/api/firmware/").and_then(|rest| rest.strip_suffix("/download"));
    let (Some(id), Some(expires_s)) =
        (id.and_then(|id| id.parse().ok()), params.text("expires").and_then(|text| text.parse().ok()))
    else {
        return Some(false);
    };
    let now = state.services.clock.now();
    Some(state.services.vault.is_link_good(&link_of(id), expires_s, signature, now))
}

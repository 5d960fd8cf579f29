//! Certificates of devices: issued, renewed, listed, revoked; the authority and its list of revoked ones.
//!
//! All of it is an administrator's, but the authority's own certificate and its list of revoked ones, which others must be
//! able to read. A device renews its certificate itself, by the one it has.
//!
//! Invariants: a private key is made only where no request was given, shown once, and kept nowhere; what is revoked here is
//! refused by this node before the answer is sent, by every other within a second.

mod bodies;
mod issue;

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, delete, get, post, web};

pub use bodies::{CertificateBody, IssueCertificate, IssuedBody, RenewCertificate, RevokeCertificate};

use super::auth::Principal;
use super::body::Body;
use super::error::ApiError;
use super::paging::{List, Paging, PagingParams};
use super::query::Params;
use super::record::Remark;
use super::socket::Secure;
use super::{State, created, devices, etag, json, show};
use crate::domain::{DeviceId, Timestamp};
use crate::pki::{KeySource, Revoked, serial_of};
use crate::store::{Certificate, CertificateFilter, Revocation};
use issue::{Wish, issue};
pub(super) use issue::{authority, refused};

const DAY: Duration = Duration::from_secs(86_400);

/// How long a list of revoked certificates may be believed.
const CRL_LIFE: Duration = DAY;

/// Issues a certificate for a registered device: for the key of its request, or with a key made here that this answer alone
/// shows.
#[utoipa::path(tag = "certificates", request_body = IssueCertificate, responses((status = 201, body = IssuedBody),
    (status = 404, body = super::Problem),
    (status = 409, description = "No authority here could sign, or the device is disabled or has 8 good certificates",
    body = super::Problem), (status = 422, body = super::Problem)))]
#[post("/api/certificates")]
pub async fn issue_certificate(
    state: web::Data<State>,
    principal: Principal,
    Body(body): Body<IssueCertificate>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let device = body.device_id.ok_or(ApiError::Internal("a validated body lacks a required field"))?;
    devices::find(&state, &device).await?;
    let wish = Wish { csr: body.csr, certificate: None, follows: None, days: body.days };
    answer_issued(&state, &request, &principal.name, "certificate.issue", device, wish).await
}

/// Renews the certificate the client has brought (HTTPS only): the same device, the same key or that of a new request. The
/// old one stays good until it ends.
#[utoipa::path(tag = "certificates", request_body = RenewCertificate, responses((status = 201, body = IssuedBody),
    (status = 401, description = "No client certificate, or none that is good", body = super::Problem),
    (status = 409, description = "No authority here could sign, or the device has 8 good certificates",
    body = super::Problem), (status = 422, body = super::Problem)))]
#[post("/api/certificates/renew")]
pub async fn renew_certificate(
    state: web::Data<State>,
    Body(body): Body<RenewCertificate>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let secure = request.conn_data::<Secure>().cloned();
    let peer = secure.and_then(|secure| secure.peer).ok_or(ApiError::CertificateNeeded)?;
    let device = peer.common_name().and_then(DeviceId::parse).ok_or(ApiError::CertificateNeeded)?;
    // TLS knows what was revoked a moment ago; the store knows it now.
    let (id, serial) = (device.clone(), peer.serial().to_owned());
    let found = state.store(move |s| Ok((s.device_credential(&id)?, s.certificate(&serial)?))).await?;
    let (credential, certificate) = found;
    let is_revoked = certificate.is_some_and(|certificate| certificate.revocation.is_some());
    if is_revoked || !credential.is_some_and(|credential| credential.is_active) {
        return Err(ApiError::CertificateNeeded);
    }
    let (certificate, follows) = (Some(peer.certificate().to_vec()), Some(peer.serial().to_owned()));
    let wish = Wish { csr: body.csr, certificate, follows, days: None };
    answer_issued(&state, &request, &format!("device:{device}"), "certificate.renew", device, wish).await
}

async fn answer_issued(
    state: &web::Data<State>,
    request: &HttpRequest,
    actor: &str,
    action: &'static str,
    device: DeviceId,
    wish: Wish,
) -> Result<HttpResponse, ApiError> {
    let (certificate, chain, private_key) = issue(state, device.clone(), wish, actor.to_owned()).await?;
    note(request, actor, action, &certificate.serial, format!("for {device}"));
    let place = format!("/api/certificates/{}", certificate.serial);
    let certificate = CertificateBody::new(certificate, state.services.clock.now());
    let mut response = created(&place, &IssuedBody { certificate, chain, private_key });
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Certificates that were issued here, newest first.
#[utoipa::path(tag = "certificates", params(
    ("device" = Option<String>, Query, description = "Device id"),
    ("expiring_within_days" = Option<u32>, Query,
        description = "Only those good now that end within so many days, and that the device has not renewed"),
    PagingParams),
    responses((status = 200, body = Vec<CertificateBody>), (status = 400, body = super::Problem)))]
#[get("/api/certificates")]
pub async fn list_certificates(
    state: web::Data<State>,
    _principal: Principal,
    mut params: Params,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let now = state.services.clock.now();
    let device = params.read("device", "a device id", DeviceId::parse);
    let days = params.number("expiring_within_days", 0..=36_500).and_then(|days| u32::try_from(days).ok());
    let paging = Paging::read(&mut params, List::Certificates);
    params.finish()?;
    let expiring = days.map(|days| (now, now.plus(DAY * days)));
    let filter = CertificateFilter { device, id_prefix: None, expiring };
    let listing = state.store(move |s| s.certificates(&filter, paging.part())).await?;
    Ok(show::list(&request, paging, listing, |certificate| CertificateBody::new(certificate, now)))
}

/// The certificate of the authority that signs here, or of those that are trusted instead (PEM). It is no secret.
#[utoipa::path(tag = "certificates", responses(
    (status = 200, body = String, content_type = "application/x-pem-file"), (status = 404, body = super::Problem)))]
#[get("/api/certificates/ca")]
pub async fn read_authority(state: web::Data<State>) -> Result<HttpResponse, ApiError> {
    let pki = state.services.pki.clone();
    let read = tokio::task::spawn_blocking(move || {
        let own = pki.own.pem()?;
        Ok::<_, crate::tls::Error>(own.or_else(|| std::fs::read_to_string(pki.client_ca_file?).ok()))
    });
    let pem = read.await.map_err(|_| ApiError::Internal("reading the authority panicked"))??;
    Ok(pem_answer(pem.ok_or_else(|| ApiError::NotFound("a certificate authority was".to_owned()))?))
}

/// The authority's signed list of revoked certificates (PEM), for whoever else trusts it.
#[utoipa::path(tag = "certificates", responses(
    (status = 200, body = String, content_type = "application/x-pem-file"), (status = 409, body = super::Problem)))]
#[get("/api/certificates/crl")]
pub async fn read_revoked(state: web::Data<State>) -> Result<HttpResponse, ApiError> {
    let now = state.services.clock.now();
    let revoked = state.store(move |s| s.revoked_certificates(now)).await?;
    let pki = state.services.pki.clone();
    let sign = tokio::task::spawn_blocking(move || {
        let entries: Vec<_> = revoked.into_iter().map(|r| Revoked { serial: r.serial, at: r.revoked_at }).collect();
        authority(&pki.own)?.crl(&entries, now, CRL_LIFE).map_err(refused)
    });
    Ok(pem_answer(sign.await.map_err(|_| ApiError::Internal("signing a list panicked"))??))
}

fn pem_answer(pem: String) -> HttpResponse {
    HttpResponse::Ok().content_type("application/x-pem-file").body(pem)
}

/// One certificate.
#[utoipa::path(tag = "certificates", params(("serial" = String, Path, description = "Serial number, hex")), responses(
    (status = 200, body = CertificateBody, headers(("ETag" = String))), (status = 304, description = "Not changed"),
    (status = 404, body = super::Problem)))]
#[get("/api/certificates/{serial}")]
pub async fn get_certificate(
    state: web::Data<State>,
    _principal: Principal,
    serial: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let certificate = find(&state, &serial).await?;
    let version = version(&certificate);
    Ok(etag::respond(&request, version, &CertificateBody::new(certificate, state.services.clock.now())))
}

/// Revokes a certificate for good: whoever is connected with it is disconnected, the next handshake is refused. One that
/// this server does not know is taken for one of its own authority, and revoked by its serial (by keys for all devices).
#[utoipa::path(tag = "certificates", params(("serial" = String, Path, description = "Serial number, hex"),
    ("If-Match" = Option<String>, Header, description = "Revoke only this version")),
    request_body = RevokeCertificate, responses((status = 200, body = CertificateBody),
    (status = 404, body = super::Problem), (status = 412, body = super::Problem),
    (status = 422, body = super::Problem)))]
#[delete("/api/certificates/{serial}")]
pub async fn revoke_certificate(
    state: web::Data<State>,
    principal: Principal,
    serial: web::Path<String>,
    Body(body): Body<RevokeCertificate>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let serial = serial_of(&serial).ok_or_else(missing)?;
    let known = look_up(&state, &serial).await?;
    let until = match known {
        Some(_) => None,
        None => Some(authority_end(&state).await?.ok_or_else(missing)?),
    };
    // Of one that is not known nobody has a tag: no version is -1.
    etag::precondition(request.headers(), known.as_ref().map_or(-1, version))?;
    let now = state.services.clock.now();
    let reason = body.reason.unwrap_or_default();
    let revocation = Revocation { at: now, by: principal.name.clone(), reason: reason.clone() };
    let wanted = serial.clone();
    let revoked = state.store(move |s| s.revoke_certificate(&wanted, &revocation, until)).await?;
    let certificate = revoked.ok_or_else(missing)?;
    state.services.pki.revocations.add([(serial.clone(), certificate.not_after)]);
    note(&request, &principal.name, "certificate.revoke", &serial, reason);
    Ok(json(StatusCode::OK, &CertificateBody::new(certificate, now)))
}

/// The version of a certificate: when it was revoked.
fn version(certificate: &Certificate) -> i64 {
    certificate.revocation.as_ref().map_or(0, |revocation| revocation.at.micros())
}

fn missing() -> ApiError {
    ApiError::NotFound("this certificate was".to_owned())
}

async fn find(state: &State, serial: &str) -> Result<Certificate, ApiError> {
    let serial = serial_of(serial).ok_or_else(missing)?;
    look_up(state, &serial).await?.ok_or_else(missing)
}

async fn look_up(state: &State, serial: &str) -> Result<Option<Certificate>, ApiError> {
    let wanted = serial.to_owned();
    state.store(move |s| s.certificate(&wanted)).await
}

/// When the authority that signs here ends, and with it all that it has signed; `None` = there is none.
async fn authority_end(state: &State) -> Result<Option<Timestamp>, ApiError> {
    let own = state.services.pki.own.clone();
    let read = tokio::task::spawn_blocking(move || own.not_after());
    Ok(read.await.map_err(|_| ApiError::Internal("reading the authority panicked"))??)
}

/// What the audit log says of it.
fn note(request: &HttpRequest, actor: &str, action: &'static str, serial: &str, detail: String) {
    let (actor, target) = (Some(actor.to_owned()), Some(serial.to_owned()));
    Remark { actor, action: Some(action), target, detail: Some(detail) }.on(request);
}

/// Whose key a new certificate is for.
fn key_source<'a>(csr: Option<&'a str>, certificate: Option<&'a str>) -> KeySource<'a> {
    match (csr, certificate) {
        (Some(csr), _) => KeySource::Request(csr),
        (None, Some(certificate)) => KeySource::Certificate(certificate),
        (None, None) => KeySource::New,
    }
}

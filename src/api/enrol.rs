//! Enrolment: a new meter presents a claim once, and gets all it needs to be one of the fleet.
//!
//! Invariants: whoever may not is told one thing, whatever the reason: nothing is learnt of claims, of devices, or of what
//! has been tried before. Everything a meter gets is made for this answer and kept nowhere in clear; what is kept is kept
//! in one transaction. Only HTTPS all the way, unless the meter is on this machine or the settings say otherwise.

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, HOST, HeaderValue};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, delete, post, web};
use garde::Validate;
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::{Principal, Target};
use super::body::{Body, Contract, Fields, Rule};
use super::certificates::{authority, refused};
use super::devices::{self, MessageBody};
use super::error::{ApiError, Fault};
use super::limits::Kind;
use super::peer::Peer;
use super::record::Remark;
use super::show::Time;
use super::{Newcomers, State, command_key, guard, json, key};
use crate::domain::{DEFAULT_DEVICE_TYPE, DeviceId};
use crate::observe::trace;
use crate::pki::{KeySource, MAX_REQUEST_BYTES, Validity};
use crate::store::{Certificate, NewDevice, NewEnrolment, Outcome};
use crate::vault::{Purpose, Secret32, token};

/// What a new meter says.
#[derive(Debug, Validate, ToSchema)]
pub struct Enrol {
    #[garde(required)]
    #[schema(value_type = String, example = "dc-meter-007")]
    device_id: Option<DeviceId>,
    #[garde(required, inner(length(min = 1, max = 256)))]
    #[schema(required = true, nullable = false)]
    claim_token: Option<String>,
    /// A certificate signing request (PKCS #10, PEM). Only its public key is taken. Without one a key is made, and given in
    /// the answer.
    #[garde(inner(length(min = 1, max = MAX_REQUEST_BYTES)))]
    csr: Option<String>,
    /// The id by default.
    #[garde(inner(length(chars, min = 1, max = 256)))]
    device_name: Option<String>,
    #[garde(inner(length(chars, min = 1, max = 64)))]
    device_type: Option<String>,
    /// `true` = an MQTT password is wanted too. There is one in any case where this server issues no certificates.
    #[garde(skip)]
    mqtt_token: Option<bool>,
}

impl Contract for Enrol {
    const RULE: Rule = Rule::Strict;

    fn read(fields: &mut Fields) -> Self {
        let text = fields.text("device_id");
        let device_id = text.as_deref().and_then(DeviceId::parse);
        if text.is_some() && device_id.is_none() {
            fields.fault(Fault::new("device_id", "must be 1 to 128 of A-Z a-z 0-9 . _ - and not start with . or -"));
        }
        Self {
            device_id,
            claim_token: fields.text("claim_token"),
            csr: fields.text("csr"),
            device_name: fields.text("device_name"),
            device_type: fields.text("device_type"),
            mqtt_token: fields.take("mqtt_token", "true or false"),
        }
    }
}

/// A broker's address.
#[derive(Serialize, ToSchema)]
pub struct BrokerBody {
    host: String,
    port: u16,
}

/// How a meter is to work.
#[derive(Serialize, ToSchema)]
pub struct ConfigurationBody {
    brokers: Vec<BrokerBody>,
    sampling_cadence_ms: u32,
    send_interval_s: u32,
    hello_interval_s: u32,
}

/// What a meter is given, once.
#[derive(Serialize, ToSchema)]
pub struct EnrolledBody {
    device_id: String,
    /// Its certificate, PEM; absent where certificates come from elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    /// Certificates of the issuers, PEM: also what the server's certificate is checked against.
    #[serde(skip_serializing_if = "Option::is_none")]
    chain: Option<String>,
    /// The private key, PEM; only where no request was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    private_key: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_expires_at: Option<Time>,
    /// The key that its commands are signed with: 64 hexadecimal digits.
    command_key: String,
    /// Its MQTT password, where it wants one or has no certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    mqtt_token: Option<String>,
    configuration: ConfigurationBody,
}

/// The certificate's part of an answer.
struct Issued {
    certificate: Certificate,
    chain: String,
    private_key: Option<String>,
}

/// A new meter presents a claim and is given its certificate, command key and configuration. Once: a second time, and
/// whatever else does not fit, is answered alike.
#[utoipa::path(tag = "enrolment", request_body = Enrol, responses((status = 201, body = EnrolledBody),
    (status = 403, description = "The claim does not let this device in", body = super::Problem),
    (status = 422, body = super::Problem)))]
#[post("/api/enrol")]
pub async fn enrol(
    state: web::Data<State>,
    Body(body): Body<Enrol>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    check_way(&state, &request)?;
    let (Some(device), Some(claim_token)) = (body.device_id.clone(), body.claim_token.clone()) else {
        return Err(ApiError::Internal("a validated body lacks a required field"));
    };
    let answer = take_in(&state, &request, &device, &claim_token, body).await;
    let prefix = token::prefix_of(token::Kind::Claim, claim_token.as_bytes());
    let remark = Remark {
        actor: prefix.map(|prefix| format!("claim:{prefix}")),
        action: Some("device.enrol"),
        target: Some(device.to_string()),
        detail: answer.as_ref().err().map(|error| match error {
            ApiError::Forbidden(_) => "the claim does not let it in".to_owned(),
            error => error.to_string(),
        }),
    };
    remark.on(&request);
    let mut response = json(StatusCode::CREATED, &answer?);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// What can be said before anything is looked up.
fn check_way(state: &State, request: &HttpRequest) -> Result<(), ApiError> {
    let peer = request.extensions().get::<Peer>().copied().unwrap_or_default();
    if !peer.is_private && !state.options.newcomers.is_plain_allowed {
        return Err(ApiError::Forbidden("enrolment is possible over HTTPS only".to_owned()));
    }
    guard::count_later(state, request, Kind::Login)
}

async fn take_in(
    state: &web::Data<State>,
    request: &HttpRequest,
    device: &DeviceId,
    claim_token: &str,
    body: Enrol,
) -> Result<EnrolledBody, ApiError> {
    let no = || ApiError::Forbidden("this claim does not let this device in".to_owned());
    let now = state.services.clock.now();
    let prefix = token::prefix_of(token::Kind::Claim, claim_token.as_bytes()).unwrap_or_default().to_owned();
    let (wanted, id) = (prefix.clone(), device.clone());
    let (claim, may_enrol) = state.store(move |s| s.claim_for(&wanted, &id)).await?;
    let is_same = token::is_same(claim_token.as_bytes(), claim.as_ref().map(|claim| &claim.token_sha256));
    if !(is_same && may_enrol && claim.is_some_and(|claim| claim.admits(device, now))) {
        return Err(no());
    }
    let issued = issue(state, device.clone(), body.csr, format!("claim:{prefix}")).await?;
    let mqtt_token = (issued.is_none() || body.mqtt_token == Some(true)).then(key::random_token);
    let (command_key, sealed) = command_key::make(state, device);
    let new = NewEnrolment {
        claim_prefix: prefix,
        device: NewDevice {
            device_id: device.clone(),
            device_name: body.device_name.unwrap_or_else(|| device.to_string()),
            device_type: body.device_type.unwrap_or_else(|| DEFAULT_DEVICE_TYPE.to_owned()),
            location: None,
            is_active: true,
            metadata: serde_json::Map::new(),
            token_sha256: mqtt_token.as_deref().map(key::digest),
        },
        secret: (Purpose::CommandKey.name(), sealed),
        certificate: issued.as_ref().map(|issued| issued.certificate.clone()),
    };
    if state.store(move |s| s.enrol(&new, now)).await? == Outcome::Conflict {
        return Err(no());
    }
    devices::reload(state, device).await;
    // Who was here by an earlier credential is not any more.
    devices::disconnect(state, device).await;
    let configuration = configuration(&state.options.newcomers, state.services.mqtt_port, request);
    Ok(answer(device, issued, &command_key, mqtt_token, configuration))
}

fn answer(
    device: &DeviceId,
    issued: Option<Issued>,
    command_key: &Secret32,
    mqtt_token: Option<String>,
    configuration: ConfigurationBody,
) -> EnrolledBody {
    let expires_at = issued.as_ref().map(|issued| Time(issued.certificate.not_after));
    let (certificate, chain, private_key) = match issued {
        Some(Issued { certificate, chain, private_key }) => (Some(certificate.pem), Some(chain), private_key),
        None => (None, None, None),
    };
    EnrolledBody {
        device_id: device.to_string(),
        certificate,
        chain,
        private_key,
        certificate_expires_at: expires_at,
        command_key: hex::encode(**command_key),
        mqtt_token,
        configuration,
    }
}

/// A certificate, not yet kept; `None` = there is no authority here that could sign.
async fn issue(
    state: &web::Data<State>,
    device: DeviceId,
    csr: Option<String>,
    by: String,
) -> Result<Option<Issued>, ApiError> {
    let (pki, now) = (state.services.pki.clone(), state.services.clock.now());
    let work = move || {
        let ca = match authority(&pki.own) {
            Ok(ca) => ca,
            Err(ApiError::Conflict(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let key = csr.as_deref().map_or(KeySource::New, KeySource::Request);
        let issued = ca.issue_device(&device, key, Validity { now, days: pki.device_days }).map_err(refused)?;
        let certificate = Certificate::new(issued.pem, issued.facts, Some(device), by, now);
        Ok(Some(Issued { certificate, chain: ca.pem().to_owned(), private_key: issued.key_pem }))
    };
    let done = tokio::task::spawn_blocking(trace::carry(work)).await;
    done.map_err(|_| ApiError::Internal("issuing a certificate panicked"))?
}

/// Without brokers in the settings it is this server, under the name the meter has called.
fn configuration(newcomers: &Newcomers, mqtt_port: u16, request: &HttpRequest) -> ConfigurationBody {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let host = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => host.split(':').next().unwrap_or_default(),
    };
    let here = || vec![BrokerBody { host: host.to_owned(), port: mqtt_port }];
    let named = newcomers.brokers.iter().map(|(host, port)| BrokerBody { host: host.clone(), port: *port });
    ConfigurationBody {
        brokers: if newcomers.brokers.is_empty() { here() } else { named.collect() },
        sampling_cadence_ms: newcomers.sampling_cadence_ms,
        send_interval_s: newcomers.send_interval_s,
        hello_interval_s: newcomers.hello_interval_s,
    }
}

/// Lets a device enrol once more: it was replaced, or its credentials are lost. What it has goes on until it enrols.
#[utoipa::path(tag = "enrolment", params(("id" = String, Path, description = "Device id")),
    responses((status = 200, body = MessageBody), (status = 404, body = super::Problem)))]
#[delete("/api/devices/{id}/enrolment")]
pub async fn allow_enrolment(
    state: web::Data<State>,
    _principal: Principal,
    Target(id): Target,
) -> Result<HttpResponse, ApiError> {
    let (wanted, now) = (id.clone(), state.services.clock.now());
    if !state.store(move |s| s.allow_enrolment(&wanted, now)).await? {
        return Err(ApiError::no_device(id.as_str()));
    }
    Ok(MessageBody::ok(format!("{id} may enrol once more")))
}

//! Claims: what new meters enrol with. Limited in number, time and devices; the token is shown once.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, delete, get, post, web};
use garde::Validate;
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Principal;
use super::body::{Body, Contract, Fields, Rule};
use super::devices::MessageBody;
use super::error::{ApiError, Fault};
use super::paging::{List, Paging, PagingParams};
use super::query::Params;
use super::show::{Time, time};
use super::{State, etag, json, show};
use crate::domain::{DevicePattern, Timestamp};
use crate::store::{Claim, Place};
use crate::vault::token::{self, Kind};

/// How long a claim is good when nobody says.
const DEFAULT_LIFE: Duration = Duration::from_secs(7 * 86_400);

/// A claim; never its token.
#[derive(Serialize, ToSchema)]
pub struct ClaimBody {
    /// The public part of the token.
    prefix: String,
    name: String,
    devices: String,
    max_uses: u32,
    uses: u32,
    /// `valid`, `revoked`, `expired` or `used up`.
    state: &'static str,
    created_by: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Time,
    #[schema(value_type = String, format = DateTime)]
    expires_at: Time,
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Time>,
    /// The token; only in the answer that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl ClaimBody {
    fn new(claim: Claim, now: Timestamp) -> Self {
        Self {
            state: claim.state(now),
            prefix: claim.prefix,
            name: claim.name,
            devices: claim.devices.to_string(),
            max_uses: claim.max_uses,
            uses: claim.uses,
            created_by: claim.created_by,
            created_at: Time(claim.created_at),
            expires_at: Time(claim.expires_at),
            revoked_at: time(claim.revoked_at),
            token: None,
        }
    }
}

fn check_pattern(text: &str, (): &()) -> garde::Result {
    let words = "must be 1 to 128 of A-Z a-z 0-9 . _ - and the wildcards * and ?";
    DevicePattern::parse(text).map(drop).ok_or_else(|| garde::Error::new(words))
}

/// Body of a new claim.
#[derive(Debug, Validate, ToSchema)]
pub struct CreateClaim {
    #[garde(required, inner(length(chars, min = 1, max = 128)))]
    #[schema(required = true, nullable = false, example = "depot 7")]
    name: Option<String>,
    /// Which devices: a prefix of their ids, or a pattern of the whole id with `*` and `?`.
    #[garde(required, inner(custom(check_pattern)))]
    #[schema(required = true, nullable = false, example = "depot7-*")]
    devices: Option<String>,
    /// How many devices; 1 by default.
    #[garde(inner(range(min = 1, max = 1_000_000)))]
    max_uses: Option<u32>,
    /// Seconds until it ends; a week by default.
    #[garde(inner(range(min = 1, max = 31_536_000)))]
    expires_in_s: Option<u32>,
    /// Instead: when it ends.
    #[garde(skip)]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

impl Contract for CreateClaim {
    const RULE: Rule = Rule::Strict;

    fn read(fields: &mut Fields) -> Self {
        let expires_in_s = fields.take("expires_in_s", "a positive integer");
        let expires_at = super::services::time_field(fields, "expires_at");
        if expires_in_s.is_some() && expires_at.is_some() {
            fields.fault(Fault::new("expires_at", "is given as well as expires_in_s; one of them is enough"));
        }
        Self {
            name: fields.text("name"),
            devices: fields.text("devices"),
            max_uses: fields.take("max_uses", "a positive integer"),
            expires_in_s,
            expires_at,
        }
    }
}

/// Makes a claim; its token is shown in this answer only.
#[utoipa::path(tag = "enrolment", request_body = CreateClaim, responses(
    (status = 201, body = ClaimBody), (status = 422, body = super::Problem)))]
#[post("/api/claims")]
pub async fn create_claim(
    state: web::Data<State>,
    principal: Principal,
    Body(body): Body<CreateClaim>,
) -> Result<HttpResponse, ApiError> {
    principal.whole_fleet()?;
    let now = state.services.clock.now();
    let life = body.expires_in_s.map_or(DEFAULT_LIFE, |s| Duration::from_secs(s.into()));
    let unread = ApiError::Internal("a validated body lacks a required field");
    let (Some(name), Some(devices)) = (body.name, body.devices.as_deref().and_then(DevicePattern::parse)) else {
        return Err(unread);
    };
    let token = token::generate(Kind::Claim);
    let claim = Claim {
        prefix: token.prefix,
        token_sha256: token.sha256,
        name,
        devices,
        max_uses: body.max_uses.unwrap_or(1),
        uses: 0,
        created_at: now,
        created_by: principal.name,
        expires_at: body.expires_at.unwrap_or(now.plus(life)),
        revoked_at: None,
    };
    if claim.expires_at <= now {
        return Err(ApiError::Invalid(vec![Fault::new("expires_at", "is in the past")]));
    }
    let kept = claim.clone();
    state.store(move |s| s.create_claim(&kept)).await?;
    let mut body = ClaimBody::new(claim, now);
    body.token = Some(token.text.to_string());
    Ok(json(StatusCode::CREATED, &body))
}

/// All claims, newest first, also those that are over.
#[utoipa::path(tag = "enrolment", params(PagingParams),
    responses((status = 200, body = Vec<ClaimBody>, headers(("X-Total-Count" = u64), ("Link" = String))),
        (status = 400, body = super::Problem)))]
#[get("/api/claims")]
pub async fn list_claims(
    state: web::Data<State>,
    principal: Principal,
    mut params: Params,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    principal.whole_fleet()?;
    let paging = Paging::read(&mut params, List::Claims);
    params.finish()?;
    let now = state.services.clock.now();
    let claims = state.store(|s| s.claims()).await?;
    let listing = paging.part_of(claims, |claim| Place(claim.created_at.0, etag::version_of(&claim.prefix)));
    Ok(show::list(&request, paging, listing, |claim| ClaimBody::new(claim, now)))
}

/// Revokes a claim for good. Who has enrolled by it stays.
#[utoipa::path(tag = "enrolment", params(("prefix" = String, Path, description = "The public part of the token")),
    responses((status = 200, body = MessageBody), (status = 404, body = super::Problem)))]
#[delete("/api/claims/{prefix}")]
pub async fn revoke_claim(
    state: web::Data<State>,
    principal: Principal,
    path: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    principal.whole_fleet()?;
    let (prefix, now) = (path.into_inner(), state.services.clock.now());
    if !state.store(move |s| s.revoke_claim(&prefix, now)).await? {
        return Err(ApiError::NotFound("this claim was".to_owned()));
    }
    Ok(MessageBody::ok("the claim is revoked".to_owned()))
}

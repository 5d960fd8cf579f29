//! Staged updates: begun, watched, paused, resumed, given up.

mod bodies;
#[cfg(test)]
mod tests;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, get, post, web};

pub use bodies::{CreateRollout, ResumeRollout, RolloutBody, RolloutDeviceBody};

use super::auth::Principal;
use super::body::Body;
use super::error::{ApiError, Fault};
use super::paging::{List, Paging, PagingParams};
use super::query::Params;
use super::record::Remark;
use super::{State, created, etag, json, show};
use crate::domain::rollout::{Action, MAX_STAGES, RolloutState, StageFault, UpdateState};
use crate::store::{Created, MAX_ROLLOUT_DEVICES, Outcome, Rollout};

fn missing() -> ApiError {
    ApiError::NotFound("this rollout was".to_owned())
}

async fn find(state: &State, path: &str) -> Result<Rollout, ApiError> {
    let id: i64 = path.parse().map_err(|_| missing())?;
    state.store(move |s| s.rollout(id)).await?.ok_or_else(missing)
}

/// Begins a rollout: the active devices of the firmware's type, or some of them, are updated stage by stage.
#[utoipa::path(tag = "firmware", request_body = CreateRollout, responses((status = 201, body = RolloutBody),
    (status = 409, description = "A device is in another rollout, or meters cannot reach this server", body = super::Problem),
    (status = 422, body = super::Problem)))]
#[post("/api/rollouts")]
pub async fn create_rollout(
    state: web::Data<State>,
    principal: Principal,
    request: HttpRequest,
    Body(body): Body<CreateRollout>,
) -> Result<HttpResponse, ApiError> {
    principal.whole_fleet()?;
    if state.services.campaigns.public_url.is_none() {
        let text = "http.public_url is not set, and no listener's address says how meters reach this server: set it to \
                    what is to stand before /api/firmware in the links that they are given";
        return Err(ApiError::Conflict(text.to_owned()));
    }
    let new = body.into_new(state.services.clock.now(), principal.name)?;
    let firmware = new.firmware;
    let rollout = match state.store(move |s| s.create_rollout(&new)).await? {
        Created::Done(rollout) => *rollout,
        refused => return Err(refusal(refused, firmware)),
    };
    state.services.campaigns.wake();
    let devices = rollout.plan.ends.last().copied().unwrap_or(0);
    let detail = Some(format!("{} {} for {devices} devices", rollout.device_type, rollout.version));
    Remark { target: Some(rollout.id.to_string()), detail, ..Remark::default() }.on(&request);
    Ok(created(&format!("/api/rollouts/{}", rollout.id), &RolloutBody::from(rollout)))
}

/// Why there is none.
fn refusal(created: Created, firmware: i64) -> ApiError {
    let invalid = |field: &str, message: String| ApiError::Invalid(vec![Fault::new(field, message)]);
    match created {
        Created::Done(_) => ApiError::Internal("a rollout that was made is no refusal"),
        Created::NoFirmware => invalid("firmware_id", format!("names no firmware: there is no {firmware}")),
        Created::NoDevices => {
            let text = "no active device of the firmware's type is selected".to_owned();
            ApiError::Conflict(text)
        }
        Created::TooMany => ApiError::Conflict(format!("more than {MAX_ROLLOUT_DEVICES} devices are selected")),
        Created::NotSelectable(devices) => {
            let names: Vec<&str> = devices.iter().map(|device| device.as_str()).collect();
            let names = names.join(", ");
            invalid("device_ids", format!("holds devices that are not active ones of the firmware's type: {names}"))
        }
        Created::Busy(device, rollout) => {
            let text = format!("device {device} is in rollout {rollout}, which is not over; wait for it, or abort it");
            ApiError::Conflict(text)
        }
        Created::Stages(fault) => match fault {
            StageFault::Number => invalid("stages", format!("must be 1 to {MAX_STAGES}")),
            StageFault::Last => invalid("stages", "must end with \"100%\"".to_owned()),
            StageFault::Falling(index) => {
                invalid(&format!("stages[{index}]"), "reaches fewer devices than the stage before it".to_owned())
            }
        },
    }
}

/// Rollouts, newest first.
#[utoipa::path(tag = "firmware", params(
    ("state" = Option<String>, Query, description = "`running`, `paused`, `completed` or `aborted`"), PagingParams),
    responses((status = 200, body = Vec<RolloutBody>), (status = 400, body = super::Problem)))]
#[get("/api/rollouts")]
pub async fn list_rollouts(
    state: web::Data<State>,
    principal: Principal,
    mut params: Params,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    principal.whole_fleet()?;
    let wanted = params.read("state", "running, paused, completed or aborted", RolloutState::from_name);
    let paging = Paging::read(&mut params, List::Rollouts);
    params.finish()?;
    let listing = state.store(move |s| s.rollouts(wanted, paging.part())).await?;
    Ok(show::list(&request, paging, listing, RolloutBody::from))
}

/// One rollout and how far it has come.
#[utoipa::path(tag = "firmware", params(("rollout_id" = i64, Path, description = "Its id")), responses(
    (status = 200, body = RolloutBody), (status = 304, description = "As the client has it"),
    (status = 404, body = super::Problem)))]
#[get("/api/rollouts/{rollout_id}")]
pub async fn get_rollout(
    state: web::Data<State>,
    principal: Principal,
    path: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    principal.whole_fleet()?;
    let rollout = find(&state, &path).await?;
    let version = rollout.changed_at.0;
    Ok(etag::respond(&request, version, &RolloutBody::from(rollout)))
}

/// The devices of a rollout in the order in which they are updated, and what became of each.
#[utoipa::path(tag = "firmware", params(("rollout_id" = i64, Path, description = "Its id"),
    ("state" = Option<String>, Query,
        description = "`waiting sent downloading verifying applying confirmed failed skipped cancelled`"), PagingParams),
    responses((status = 200, body = Vec<RolloutDeviceBody>), (status = 400, body = super::Problem),
    (status = 404, body = super::Problem)))]
#[get("/api/rollouts/{rollout_id}/devices")]
pub async fn rollout_devices(
    state: web::Data<State>,
    principal: Principal,
    path: web::Path<String>,
    mut params: Params,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    principal.whole_fleet()?;
    let expected = format!("one of {}", UpdateState::ALL.map(UpdateState::name).join(", "));
    let wanted = params.read("state", &expected, UpdateState::from_name);
    let paging = Paging::read(&mut params, List::RolloutDevices);
    params.finish()?;
    let id = find(&state, &path).await?.id;
    let listing = state.store(move |s| s.rollout_devices(id, wanted, paging.part())).await?;
    Ok(show::list(&request, paging, listing, RolloutDeviceBody::from))
}

async fn act(
    state: &State,
    principal: &Principal,
    path: &str,
    request: &HttpRequest,
    action: Action,
) -> Result<HttpResponse, ApiError> {
    principal.whole_fleet()?;
    let before = find(state, path).await?;
    let expected = etag::precondition(request.headers(), before.changed_at.0)?;
    let (id, now) = (before.id, state.services.clock.now());
    match state.store(move |s| s.act_on_rollout(id, action, expected, now)).await?.ok_or_else(missing)? {
        Outcome::Conflict => {
            // Somebody may have been faster: what it was before need not be why.
            let rollout = find(state, path).await?;
            if expected.is_some() && rollout.changed_at != before.changed_at {
                return Err(ApiError::Stale);
            }
            let needed = match action {
                Action::Pause => "running",
                Action::Resume { .. } => "paused",
                Action::Abort => "running or paused",
            };
            let is = rollout.progress.state.name();
            Err(ApiError::Conflict(format!("only a rollout that is {needed} can be; this one is {is}")))
        }
        Outcome::Done(rollout) => {
            let detail = Some(format!("{} {}", rollout.device_type, rollout.version));
            Remark { detail, ..Remark::default() }.on(request);
            state.services.campaigns.wake();
            Ok(json(StatusCode::OK, &RolloutBody::from(rollout)))
        }
    }
}

/// Pauses a rollout: no further device is told; those under way go on and are followed.
#[utoipa::path(tag = "firmware", params(("rollout_id" = i64, Path, description = "Its id")), responses(
    (status = 200, body = RolloutBody), (status = 404, body = super::Problem),
    (status = 409, description = "It does not run", body = super::Problem)))]
#[post("/api/rollouts/{rollout_id}/pause")]
pub async fn pause_rollout(
    state: web::Data<State>,
    principal: Principal,
    path: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    act(&state, &principal, &path, &request, Action::Pause).await
}

/// Resumes a paused rollout. Failures so far are accepted and count no more; with `retry_failed` those devices are tried again.
#[utoipa::path(tag = "firmware", params(("rollout_id" = i64, Path, description = "Its id")),
    request_body = ResumeRollout, responses((status = 200, body = RolloutBody), (status = 404, body = super::Problem),
    (status = 409, description = "It is not paused", body = super::Problem), (status = 422, body = super::Problem)))]
#[post("/api/rollouts/{rollout_id}/resume")]
pub async fn resume_rollout(
    state: web::Data<State>,
    principal: Principal,
    path: web::Path<String>,
    request: HttpRequest,
    Body(body): Body<ResumeRollout>,
) -> Result<HttpResponse, ApiError> {
    act(&state, &principal, &path, &request, Action::Resume { retry: body.is_retry() }).await
}

/// Gives a rollout up, for good: commands that nobody has got are cancelled. A device that is under way may finish its update.
#[utoipa::path(tag = "firmware", params(("rollout_id" = i64, Path, description = "Its id")), responses(
    (status = 200, body = RolloutBody), (status = 404, body = super::Problem),
    (status = 409, description = "It is over", body = super::Problem)))]
#[post("/api/rollouts/{rollout_id}/abort")]
pub async fn abort_rollout(
    state: web::Data<State>,
    principal: Principal,
    path: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    act(&state, &principal, &path, &request, Action::Abort).await
}

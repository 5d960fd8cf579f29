//! Commands to meters: given, listed, cancelled, and acknowledged by REST for meters that cannot over MQTT.
//!
//! Invariant: a command is stored before anybody is asked to deliver it. A finished command keeps its end: what says
//! otherwise later is answered 409.

mod bodies;
#[cfg(test)]
mod tests;

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, delete, get, post, put, web};

pub use bodies::{AckCommand, CommandBody, CreateCommand, CreatedBody};

use super::auth::{Principal, Target};
use super::body::Body;
use super::error::ApiError;
use super::paging::{List, Paging, PagingParams};
use super::query::Params;
use super::{State, devices, etag, json, show};
use crate::dispatch;
use crate::domain::CommandId;
use crate::domain::command::{CommandKind, CommandStatus};
use crate::domain::message::AckResult;
use crate::store::{self, Command, CommandChange, CommandFilter, NewCommand, Outcome, Page, Store};

/// Commands that may wait for a device to receive them.
const MAX_WAITING: u64 = 1000;

/// Gives a command: 201 when the meter is connected, 202 when the command waits for it.
#[utoipa::path(tag = "commands", params(("id" = String, Path, description = "Device id")),
    request_body = CreateCommand, responses((status = 201, body = CreatedBody),
    (status = 202, description = "Waits for the meter", body = CreatedBody), (status = 400, body = super::Problem),
    (status = 404, body = super::Problem),
    (status = 409, description = "Too many commands wait for the meter", body = super::Problem)))]
#[post("/api/devices/{id}/commands")]
pub async fn create_command(
    state: web::Data<State>,
    principal: Principal,
    Target(id): Target,
    Body(body): Body<CreateCommand>,
) -> Result<HttpResponse, ApiError> {
    let (cmd, params, life_s) = body.into_parts()?;
    let now = state.services.clock.now();
    let new = NewCommand {
        cmd_id: CommandId::random(),
        device: id.clone(),
        cmd,
        params,
        created_at: now,
        created_by: principal.name,
        expires_at: now.plus(life_s.map_or(state.options.command_life, Duration::from_secs)),
    };
    let given = state.store(move |s| give(s, &new)).await?;
    let command = match given.ok_or_else(|| ApiError::no_device(id.as_str()))? {
        Outcome::Done(command) => command,
        Outcome::Conflict => {
            let text = "commands wait for this device already: cancel some, or wait until it has received them";
            return Err(ApiError::Conflict(format!("{MAX_WAITING} {text}")));
        }
    };
    let mut is_connected = state.services.dispatch.is_connected(&id);
    if !is_connected && state.services.store.is_shared() {
        let device = id.clone();
        is_connected = !state.store(move |s| s.holders(&device)).await?.is_empty();
    }
    state.ask(dispatch::Request::Deliver(id)).await;
    let (code, message) = match is_connected {
        true => (StatusCode::CREATED, "the command is on its way"),
        false => (StatusCode::ACCEPTED, "the device is not connected; the command waits for it"),
    };
    Ok(json(code, &CreatedBody::new(&command, message)))
}

/// Adds a command; `Conflict` = as many wait as may. Of several who ask at once a few more may pass: what counts is that there
/// is an end. Rollouts have theirs: a device is in one at a time.
fn give(store: &dyn Store, new: &NewCommand) -> Result<Option<Outcome<Command>>, store::Error> {
    let mut waiting = 0;
    for status in [CommandStatus::Pending, CommandStatus::Sent] {
        let filter = CommandFilter { device: Some(new.device.clone()), status: Some(status) };
        waiting += store.commands(&filter, Page::offset(0, 1))?.total.unwrap_or(0);
    }
    match waiting < MAX_WAITING {
        true => Ok(store.create_command(new)?.map(Outcome::Done)),
        false => Ok(Some(Outcome::Conflict)),
    }
}

/// Commands of a device, newest first.
#[utoipa::path(tag = "commands", params(("id" = String, Path, description = "Device id"),
    ("status" = Option<String>, Query, description = "A command state"),
    PagingParams),
    responses((status = 200, body = Vec<CommandBody>), (status = 400, body = super::Problem),
    (status = 404, body = super::Problem)))]
#[get("/api/devices/{id}/commands")]
pub async fn device_commands(
    state: web::Data<State>,
    principal: Principal,
    Target(id): Target,
    mut params: Params,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let names = CommandStatus::ALL.map(CommandStatus::name).join(", ");
    let status = params.read("status", &format!("one of {names}"), CommandStatus::from_name);
    let paging = Paging::read(&mut params, List::Commands);
    params.finish()?;
    devices::find(&state, &id).await?;
    let filter = CommandFilter { device: Some(id), status };
    let listing = state.store(move |s| s.commands(&filter, paging.part())).await?;
    Ok(show::list(&request, paging, listing, |command| CommandBody::shown_to(&principal, command)))
}

/// The command a path names, when the asker may reach its device.
async fn find(state: &State, principal: &Principal, text: &str) -> Result<Command, ApiError> {
    let missing = || ApiError::NotFound("this command was".to_owned());
    let id = CommandId::parse(text).ok_or_else(missing)?;
    let command = state.store(move |s| s.command(id)).await?.ok_or_else(missing)?;
    if principal.may_reach(&command.device) { Ok(command) } else { Err(missing()) }
}

/// One command.
#[utoipa::path(tag = "commands", params(("cmd_id" = String, Path, description = "Command id")),
    responses((status = 200, body = CommandBody, headers(("ETag" = String))),
    (status = 304, description = "Not changed"), (status = 404, body = super::Problem)))]
#[get("/api/commands/{cmd_id}")]
pub async fn get_command(
    state: web::Data<State>,
    principal: Principal,
    path: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let command = find(&state, &principal, &path).await?;
    Ok(etag::respond(&request, step(&command), &CommandBody::shown_to(&principal, command)))
}

/// The version of a command: how far it is.
fn step(command: &Command) -> i64 {
    CommandStatus::ALL.iter().position(|s| *s == command.status).and_then(|n| i64::try_from(n).ok()).unwrap_or(0)
}

/// The state that `If-Match` wants the command to be in; `None` = any.
fn expected(request: &HttpRequest, command: &Command) -> Result<Option<CommandStatus>, ApiError> {
    let version = etag::precondition(request.headers(), step(command))?;
    Ok(version.map(|_| command.status))
}

async fn advance(
    state: &State,
    command: &Command,
    from: Option<CommandStatus>,
    to: CommandStatus,
    detail: Option<String>,
) -> Result<Outcome<Command>, ApiError> {
    let at = state.services.clock.now();
    let change = CommandChange { cmd_id: command.cmd_id, device: None, to, detail, at };
    let advanced = state.store(move |s| s.advance_command_from(from, &change)).await?;
    advanced.ok_or_else(|| ApiError::NotFound("this command was".to_owned()))
}

/// What a command is by now that could not be changed; it must be `from` still, where that is said.
async fn unchanged(
    state: &State,
    principal: &Principal,
    path: &str,
    from: Option<CommandStatus>,
) -> Result<Command, ApiError> {
    let command = find(state, principal, path).await?;
    match from.is_none_or(|from| from == command.status) {
        true => Ok(command),
        false => Err(ApiError::Stale),
    }
}

/// Cancels a command that is still pending.
#[utoipa::path(tag = "commands", params(("cmd_id" = String, Path, description = "Command id"),
    ("If-Match" = Option<String>, Header, description = "Cancel only in this state")),
    responses((status = 200, body = CommandBody), (status = 404, body = super::Problem),
    (status = 409, description = "It is under way or done", body = super::Problem),
    (status = 412, body = super::Problem)))]
#[delete("/api/commands/{cmd_id}")]
pub async fn cancel_command(
    state: web::Data<State>,
    principal: Principal,
    path: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let command = find(&state, &principal, &path).await?;
    let from = expected(&request, &command)?;
    let detail = Some(format!("cancelled by {}", principal.name));
    match advance(&state, &command, from, CommandStatus::Cancelled, detail).await? {
        Outcome::Done(command) => Ok(json(StatusCode::OK, &CommandBody::shown_to(&principal, command))),
        Outcome::Conflict => {
            let now = unchanged(&state, &principal, &path, from).await?.status.name();
            Err(ApiError::Conflict(format!("only a pending command can be cancelled; this one is {now}")))
        }
    }
}

/// Acknowledges a command in place of the meter.
///
/// Saying the same again is fine. An acknowledgement that contradicts how the command has ended (by the meter, by time,
/// by cancellation) changes nothing and is answered 409.
#[utoipa::path(tag = "commands", params(("cmd_id" = String, Path, description = "Command id"),
    ("If-Match" = Option<String>, Header, description = "Acknowledge only in this state")),
    request_body = AckCommand, responses((status = 200, body = CommandBody), (status = 400, body = super::Problem),
    (status = 404, body = super::Problem),
    (status = 409, description = "It has ended otherwise", body = super::Problem),
    (status = 412, body = super::Problem)))]
#[put("/api/commands/{cmd_id}/ack")]
pub async fn acknowledge_command(
    state: web::Data<State>,
    principal: Principal,
    path: web::Path<String>,
    Body(body): Body<AckCommand>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let (result, detail) = body.into_parts()?;
    let command = find(&state, &principal, &path).await?;
    let (from, to) = (expected(&request, &command)?, CommandStatus::from(result));
    match advance(&state, &command, from, to, detail).await? {
        Outcome::Done(command) => {
            // The collector derives the meter's intervals from what it has accepted.
            let configures = CommandKind::from_name(&command.cmd).is_some_and(CommandKind::configures);
            if to == CommandStatus::Accepted && configures {
                devices::reload(&state, &command.device).await;
            }
            Ok(json(StatusCode::OK, &CommandBody::shown_to(&principal, command)))
        }
        Outcome::Conflict => {
            let command = unchanged(&state, &principal, &path, from).await?;
            if command.status == to {
                return Ok(json(StatusCode::OK, &CommandBody::shown_to(&principal, command)));
            }
            Err(ApiError::Conflict(format!("the command is {} already", command.status.name())))
        }
    }
}

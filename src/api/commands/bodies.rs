//! What goes in and out about a command.

use garde::Validate;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{AckResult, params};
use crate::api::body::{Contract, Fields, Rule};
use crate::api::error::ApiError;
use crate::api::show::{Time, time};
use crate::store::Command;

/// The longest life of a command: 30 days.
const MAX_LIFE_S: u64 = 30 * 86_400;

/// A command and how far it has come.
#[derive(Serialize, ToSchema)]
pub struct CommandBody {
    cmd_id: String,
    device_id: String,
    cmd: String,
    #[schema(value_type = Object)]
    params: Map<String, Value>,
    /// `pending sent delivered accepted rejected error unsupported expired cancelled timeout`.
    status: &'static str,
    detail: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Time,
    created_by: String,
    #[schema(value_type = String, format = DateTime)]
    expires_at: Time,
    #[schema(value_type = Option<String>, format = DateTime)]
    sent_at: Option<Time>,
    #[schema(value_type = Option<String>, format = DateTime)]
    delivered_at: Option<Time>,
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<Time>,
}

impl From<Command> for CommandBody {
    fn from(c: Command) -> Self {
        Self {
            cmd_id: c.cmd_id.to_string(),
            device_id: c.device.to_string(),
            cmd: c.cmd,
            params: c.params,
            status: c.status.name(),
            detail: c.detail,
            created_at: Time(c.created_at),
            created_by: c.created_by,
            expires_at: Time(c.expires_at),
            sent_at: time(c.sent_at),
            delivered_at: time(c.delivered_at),
            finished_at: time(c.finished_at),
        }
    }
}

/// A command just given.
#[derive(Serialize, ToSchema)]
pub struct CreatedBody {
    cmd_id: String,
    device_id: String,
    cmd: String,
    /// Always `pending`.
    status: &'static str,
    message: &'static str,
    #[schema(value_type = String, format = DateTime)]
    expires_at: Time,
}

impl CreatedBody {
    pub(super) fn new(command: &Command, message: &'static str) -> Self {
        Self {
            cmd_id: command.cmd_id.to_string(),
            device_id: command.device.to_string(),
            cmd: command.cmd.clone(),
            status: "pending",
            message,
            expires_at: Time(command.expires_at),
        }
    }
}

/// Command, parameters, and seconds to live.
type Parts = (String, Map<String, Value>, Option<u64>);

fn check_cmd(cmd: &str, (): &()) -> garde::Result {
    match params::is_known(cmd) {
        true => Ok(()),
        false => Err(garde::Error::new(format!("must be one of {}", params::names()))),
    }
}

/// Body of a new command.
#[derive(Debug, Validate, ToSchema)]
pub struct CreateCommand {
    /// `update_config start_ota reboot factory_reset request_status`.
    #[garde(required, inner(custom(check_cmd)))]
    #[schema(required = true, nullable = false, example = "update_config")]
    cmd: Option<String>,
    /// By command; see the meter protocol.
    #[garde(skip)]
    #[schema(value_type = Option<Object>)]
    params: Option<Map<String, Value>>,
    /// Seconds to wait for the meter, a day by default.
    #[garde(inner(range(min = 1, max = MAX_LIFE_S)))]
    expires_in_s: Option<u64>,
}

impl Contract for CreateCommand {
    const RULE: Rule = Rule::Lenient;

    fn read(fields: &mut Fields) -> Self {
        Self {
            cmd: fields.text("cmd"),
            params: fields.object("params"),
            expires_in_s: fields.take("expires_in_s", "a whole number of seconds"),
        }
    }
}

impl CreateCommand {
    /// Command, parameters without nulls, and life; 400 naming every bad parameter.
    pub(super) fn into_parts(self) -> Result<Parts, ApiError> {
        let cmd = self.cmd.unwrap_or_default();
        let mut given = self.params.unwrap_or_default();
        let faults = params::faults(&cmd, &given);
        if !faults.is_empty() {
            return Err(ApiError::Bad(faults));
        }
        given.retain(|_, value| !value.is_null());
        Ok((cmd, given, self.expires_in_s))
    }
}

fn check_result(result: &str, (): &()) -> garde::Result {
    match AckResult::from_name(result) {
        Some(_) => Ok(()),
        None => Err(garde::Error::new("must be accepted, rejected, error or unsupported")),
    }
}

/// Body of an acknowledgement.
#[derive(Debug, Validate, ToSchema)]
pub struct AckCommand {
    /// `accepted rejected error unsupported`.
    #[garde(required, inner(custom(check_result)))]
    #[schema(required = true, nullable = false)]
    result: Option<String>,
    #[garde(inner(length(max = 1024)))]
    detail: Option<String>,
}

impl Contract for AckCommand {
    const RULE: Rule = Rule::Lenient;

    fn read(fields: &mut Fields) -> Self {
        Self { result: fields.text("result"), detail: fields.text("detail") }
    }
}

impl AckCommand {
    pub(super) fn into_parts(self) -> Result<(AckResult, Option<String>), ApiError> {
        let result = self.result.as_deref().and_then(AckResult::from_name);
        Ok((result.ok_or(ApiError::Internal("a validated body lacks a required field"))?, self.detail))
    }
}

//! What goes in and out about a command.

use garde::Validate;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::AckResult;
use crate::api::auth::Principal;
use crate::api::body::{Contract, Fields, Rule};
use crate::api::error::{ApiError, Fault};
use crate::api::show::{Time, time};
use crate::dispatch::rollouts::unsigned;
use crate::payload;
use crate::store::{Command, Role};

/// The longest life of a command: 30 days.
const MAX_LIFE_S: u64 = 30 * 86_400;

/// A command and how far it has come.
#[derive(Serialize, ToSchema)]
pub struct CommandBody {
    cmd_id: String,
    device_id: String,
    cmd: String,
    /// An `fw_url` that is a link of this server has its signature for administrators of all devices only.
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
    /// As it may be shown to everybody who may see the device.
    fn from(mut command: Command) -> Self {
        if let Some(Value::String(url)) = command.params.get_mut("fw_url") {
            let shown = unsigned(url).len();
            url.truncate(shown);
        }
        Self::whole(command)
    }
}

impl CommandBody {
    /// As `asker` may see it: who may fetch every image may have the link.
    pub(super) fn shown_to(asker: &Principal, command: Command) -> Self {
        match asker.role == Role::Admin && asker.whole_fleet().is_ok() {
            true => Self::whole(command),
            false => Self::from(command),
        }
    }

    fn whole(c: Command) -> Self {
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

/// Body of a new command. Command and parameters are judged together while it is read.
#[derive(Debug, Validate, ToSchema)]
pub struct CreateCommand {
    /// `update_config start_ota reboot factory_reset request_status`.
    #[garde(required)]
    #[schema(required = true, nullable = false, example = "update_config")]
    cmd: Option<String>,
    /// By command; see the meter protocol.
    #[garde(skip)]
    #[schema(value_type = Option<Object>)]
    params: Option<Map<String, Value>>,
    /// Seconds to wait for the meter; as configured by default (a day unless changed).
    #[garde(inner(range(min = 1, max = MAX_LIFE_S)))]
    expires_in_s: Option<u64>,
}

impl Contract for CreateCommand {
    const RULE: Rule = Rule::Lenient;

    fn read(fields: &mut Fields) -> Self {
        let cmd = fields.text("cmd");
        let mut params = fields.object("params");
        if let Some(given) = &mut params {
            given.retain(|_, value| !value.is_null());
        }
        if let (Some(cmd), false) = (&cmd, fields.is_faulty("params")) {
            let faults = payload::validate_command(cmd, params.as_ref().unwrap_or(&Map::new())).err();
            faults.into_iter().flatten().for_each(|f| fields.fault(Fault::new(f.field, f.message)));
        }
        Self { cmd, params, expires_in_s: fields.take("expires_in_s", "a whole number of seconds") }
    }
}

impl CreateCommand {
    /// Command, parameters without nulls, and life.
    pub(super) fn into_parts(self) -> Result<Parts, ApiError> {
        let cmd = self.cmd.ok_or(ApiError::Internal("a validated body lacks a required field"))?;
        Ok((cmd, self.params.unwrap_or_default(), self.expires_in_s))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::body::parse;

    #[test]
    fn every_fault_of_a_command_is_named_at_once() {
        let check = |body: &str, expected: &[&str]| {
            let faults = parse::<CreateCommand>(body.as_bytes()).map_or_else(|e| e.faults().to_vec(), |_| Vec::new());
            let fields: Vec<_> = faults.iter().map(|f| f.field.as_str()).collect();
            assert_eq!(fields, expected, "{body}");
        };
        check(r#"{"cmd":"reboot","colour":"ignored"}"#, &[]);
        check("{}", &["cmd"]);
        check(r#"{"cmd":5,"params":[]}"#, &["cmd", "params"]);
        check(r#"{"cmd":"update_config","params":[]}"#, &["params"]);
        check(r#"{"cmd":"explode","params":{"a":1},"expires_in_s":0}"#, &["cmd", "expires_in_s"]);
        check(
            r#"{"cmd":"update_config","params":{"send_interval_s":0,"x":1,"brokers":[{}]},"expires_in_s":0}"#,
            &["params.send_interval_s", "params.x", "params.brokers[0].host", "params.brokers[0].port", "expires_in_s"],
        );
    }

    #[test]
    fn null_means_absent_among_parameters_too() {
        let body = br#"{"cmd":"update_config","params":{"send_interval_s":9,"brokers":null}}"#;
        let (_, params, _) = parse::<CreateCommand>(body).unwrap().into_parts().unwrap();
        assert_eq!(params.keys().collect::<Vec<_>>(), ["send_interval_s"]);
        let error = parse::<CreateCommand>(br#"{"cmd":"update_config","params":{"brokers":null}}"#).unwrap_err();
        assert!(matches!(&error, ApiError::Bad(faults) if faults[0].message.contains("at least one")), "{error}");
    }
}

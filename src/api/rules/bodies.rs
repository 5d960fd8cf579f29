//! What goes in and out about an alert rule.

use garde::Validate;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::body::{Contract, Fields, Rule};
use crate::api::error::{ApiError, Fault};
use crate::api::show::Time;
use crate::domain::alert::AlertKind;
use crate::domain::rule::{Condition, MAX_FOR_S, MAX_MESSAGE_CHARS, MAX_NAME_CHARS, Op, Selector, Severity};
use crate::domain::{DevicePattern, Quantity};
use crate::store::{AlertRule, RuleText};

/// An alert rule.
#[derive(Serialize, ToSchema)]
pub struct RuleBody {
    id: i64,
    /// Its alerts' `alert_type`.
    name: String,
    /// A measured type, or `active_power`, `apparent_power` or `reactive_power`.
    metric: String,
    /// `gt`, `ge`, `lt`, `le`, `eq` or `ne`.
    op: &'static str,
    threshold: f64,
    /// Once raised, an alert stays until the comparison with this fails; `null` = with `threshold`.
    clear_threshold: Option<f64>,
    /// How long the condition must hold, from sample to sample; 0 = one sample is enough.
    for_s: u32,
    /// Which devices: a prefix of their ids, or a pattern of the whole id with `*` and `?`; `null` = all.
    devices: Option<String>,
    /// Only devices of this type; `null` = of any.
    device_type: Option<String>,
    /// `info`, `warning` or `critical`.
    severity: &'static str,
    /// What its alerts' messages begin with.
    message: Option<String>,
    enabled: bool,
    #[schema(value_type = String, format = DateTime)]
    created_at: Time,
    created_by: String,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Time,
}

impl From<AlertRule> for RuleBody {
    fn from(rule: AlertRule) -> Self {
        let RuleText { name, condition, selector, severity, message, is_enabled } = rule.text;
        Self {
            id: rule.id.0,
            name,
            metric: condition.quantity.name().to_owned(),
            op: condition.op.name(),
            threshold: condition.threshold,
            clear_threshold: condition.clear,
            for_s: condition.for_s,
            devices: selector.devices.map(|pattern| pattern.to_string()),
            device_type: selector.device_type,
            severity: severity.name(),
            message,
            enabled: is_enabled,
            created_at: Time(rule.created_at),
            created_by: rule.created_by,
            updated_at: Time(rule.updated_at),
        }
    }
}

fn refuse(words: &str) -> garde::Result {
    Err(garde::Error::new(words))
}

fn check_name(name: &str, (): &()) -> garde::Result {
    if AlertKind::ALL.iter().any(|kind| kind.name() == name) {
        return refuse("is the type of alerts that the server raises by itself; take another name");
    }
    match (1..=MAX_NAME_CHARS).contains(&name.chars().count()) && !name.chars().any(char::is_control) {
        true => Ok(()),
        false => refuse(&format!("must be 1 to {MAX_NAME_CHARS} characters, none of them a control character")),
    }
}

fn check_metric(name: &str, (): &()) -> garde::Result {
    let words =
        "must be 1 to 64 of A-Z a-z 0-9 . _ -: a measured type, or active_power, apparent_power, reactive_power";
    Quantity::parse(name).map_or_else(|| refuse(words), |_| Ok(()))
}

fn check_op(name: &str, (): &()) -> garde::Result {
    Op::from_name(name).map_or_else(|| refuse("must be gt, ge, lt, le, eq or ne"), |_| Ok(()))
}

fn check_severity(name: &str, (): &()) -> garde::Result {
    Severity::from_name(name).map_or_else(|| refuse("must be info, warning or critical"), |_| Ok(()))
}

fn check_pattern(text: &str, (): &()) -> garde::Result {
    let words = "must be 1 to 128 of A-Z a-z 0-9 . _ - and the wildcards * and ?";
    DevicePattern::parse(text).map_or_else(|| refuse(words), |_| Ok(()))
}

/// Body of a rule, whole: what is left out is as it is by default.
#[derive(Debug, Validate, ToSchema)]
pub struct PutRule {
    /// 1 to 64 characters, unique: its alerts' `alert_type`.
    #[garde(required, inner(custom(check_name)))]
    #[schema(required = true, nullable = false, example = "overvoltage")]
    name: Option<String>,
    /// A measured type, or `active_power`, `apparent_power` or `reactive_power`.
    #[garde(required, inner(custom(check_metric)))]
    #[schema(required = true, nullable = false, example = "voltage_dc")]
    metric: Option<String>,
    /// `gt`, `ge`, `lt`, `le`, `eq` or `ne`.
    #[garde(required, inner(custom(check_op)))]
    #[schema(required = true, nullable = false, example = "gt")]
    op: Option<String>,
    /// In the metric's registered unit; values sent in another one are not judged.
    #[garde(required)]
    #[schema(required = true, nullable = false, example = 900)]
    threshold: Option<f64>,
    /// Once raised, an alert stays until the comparison with this fails: at most `threshold` with `gt` and `ge`, at least with
    /// `lt` and `le`. `threshold` by default.
    #[garde(skip)]
    clear_threshold: Option<f64>,
    /// How long the condition must hold, from sample to sample, in seconds; 0 by default: one sample is enough.
    #[garde(inner(range(max = MAX_FOR_S)))]
    for_s: Option<u32>,
    /// Which devices: a prefix of their ids, or a pattern of the whole id with `*` and `?`. All by default.
    #[garde(inner(custom(check_pattern)))]
    #[schema(example = "dc-*")]
    devices: Option<String>,
    /// Only devices of this type. Of any by default.
    #[garde(inner(length(chars, min = 1, max = 64)))]
    device_type: Option<String>,
    /// `info`, `warning` (default) or `critical`.
    #[garde(inner(custom(check_severity)))]
    severity: Option<String>,
    /// What its alerts' messages begin with.
    #[garde(inner(length(chars, min = 1, max = MAX_MESSAGE_CHARS)))]
    message: Option<String>,
    /// `true` by default.
    #[garde(skip)]
    enabled: Option<bool>,
}

impl Contract for PutRule {
    const RULE: Rule = Rule::Strict;

    fn read(fields: &mut Fields) -> Self {
        let body = Self {
            name: fields.text("name"),
            metric: fields.text("metric"),
            op: fields.text("op"),
            threshold: fields.take("threshold", "a number"),
            clear_threshold: fields.take("clear_threshold", "a number"),
            for_s: fields.take("for_s", &format!("a whole number from 0 to {MAX_FOR_S}")),
            devices: fields.text("devices"),
            device_type: fields.text("device_type"),
            severity: fields.text("severity"),
            message: fields.text("message"),
            enabled: fields.take("enabled", "true or false"),
        };
        let op = body.op.as_deref().and_then(Op::from_name);
        if let (Some(op), Some(threshold), Some(clear)) = (op, body.threshold, body.clear_threshold)
            && !op.may_clear_at(threshold, clear)
        {
            let words = match op {
                Op::Gt | Op::Ge => "must be at most threshold",
                Op::Lt | Op::Le => "must be at least threshold",
                Op::Eq | Op::Ne => "is not for eq and ne",
            };
            fields.fault(Fault::new("clear_threshold", words));
        }
        body
    }
}

impl PutRule {
    /// The rule that it says; fails only when the body was not validated.
    pub fn into_text(self) -> Result<RuleText, ApiError> {
        self.text().ok_or(ApiError::Internal("a validated body lacks a required field"))
    }

    fn text(self) -> Option<RuleText> {
        Some(RuleText {
            name: self.name?,
            condition: Condition {
                quantity: Quantity::parse(&self.metric?)?,
                op: Op::from_name(&self.op?)?,
                threshold: self.threshold?,
                clear: self.clear_threshold,
                for_s: self.for_s.unwrap_or(0),
            },
            selector: Selector {
                devices: self.devices.as_deref().and_then(DevicePattern::parse),
                device_type: self.device_type,
            },
            severity: self.severity.as_deref().map_or(Some(Severity::Warning), Severity::from_name)?,
            message: self.message,
            is_enabled: self.enabled.unwrap_or(true),
        })
    }
}

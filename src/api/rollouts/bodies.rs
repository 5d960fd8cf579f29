//! What goes in and out about a rollout.

use std::time::Duration;

use garde::Validate;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::api::body::{Contract, Fields, Rule};
use crate::api::error::{ApiError, Fault};
use crate::api::show::{Time, time};
use crate::domain::rollout::{Limits, MAX_STAGES, StageSize, Tally};
use crate::domain::{DeviceId, Timestamp};
use crate::store::{DeviceFilter, NewRollout, Rollout, RolloutDevice};

/// Most devices that are named one by one.
const MAX_NAMED: usize = 10_000;
/// Stages when nobody says otherwise.
const STAGES: [StageSize; 3] = [StageSize::Percent(1), StageSize::Percent(10), StageSize::Percent(100)];
const WEEK_S: u64 = 7 * 86_400;

/// How many devices stand where.
#[derive(Serialize, ToSchema)]
pub struct CountsBody {
    devices: u32,
    waiting: u32,
    under_way: u32,
    confirmed: u32,
    /// Those that were accepted by resuming are counted too.
    failed: u32,
    skipped: u32,
    cancelled: u32,
}

impl From<Tally> for CountsBody {
    fn from(tally: Tally) -> Self {
        Self {
            devices: tally.total(),
            waiting: tally.waiting,
            under_way: tally.under_way,
            confirmed: tally.confirmed,
            failed: tally.failed + tally.forgiven,
            skipped: tally.skipped,
            cancelled: tally.cancelled,
        }
    }
}

/// A rollout and how far it has come.
#[derive(Serialize, ToSchema)]
pub struct RolloutBody {
    id: i64,
    firmware_id: i64,
    version: String,
    device_type: String,
    /// `running`, `paused`, `completed` or `aborted`.
    state: &'static str,
    /// Why it is paused: `by_hand`, `too_many_failed` or `too_few_confirmed`.
    reason: Option<&'static str>,
    /// The stage it is in, from 1.
    stage: u32,
    /// When that stage was passed, while it is watched (`soak_s`).
    #[schema(value_type = Option<String>, format = DateTime)]
    passed_at: Option<Time>,
    counts: CountsBody,
    /// The same of each stage.
    stages: Vec<CountsBody>,
    max_parallel: u32,
    max_failed_pct: u8,
    min_confirmed_pct: u8,
    device_timeout_s: u64,
    soak_s: u64,
    #[schema(value_type = String, format = DateTime)]
    created_at: Time,
    created_by: String,
    #[schema(value_type = String, format = DateTime)]
    changed_at: Time,
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Time>,
}

impl From<Rollout> for RolloutBody {
    fn from(rollout: Rollout) -> Self {
        let limits = rollout.plan.limits;
        Self {
            id: rollout.id,
            firmware_id: rollout.firmware,
            version: rollout.version,
            device_type: rollout.device_type,
            state: rollout.progress.state.name(),
            reason: rollout.progress.pause.map(|reason| reason.name()),
            stage: rollout.progress.stage + 1,
            passed_at: time(rollout.progress.passed_at),
            counts: rollout.tally.iter().copied().fold(Tally::default(), Tally::plus).into(),
            stages: rollout.tally.into_iter().map(CountsBody::from).collect(),
            max_parallel: limits.max_parallel,
            max_failed_pct: limits.max_failed_pct,
            min_confirmed_pct: limits.min_confirmed_pct,
            device_timeout_s: limits.device_timeout.as_secs(),
            soak_s: limits.soak.as_secs(),
            created_at: Time(rollout.created_at),
            created_by: rollout.created_by,
            changed_at: Time(rollout.changed_at),
            ended_at: time(rollout.ended_at),
        }
    }
}

/// A device of a rollout.
#[derive(Serialize, ToSchema)]
pub struct RolloutDeviceBody {
    device_id: String,
    /// From 1.
    stage: u32,
    /// `waiting sent downloading verifying applying confirmed failed skipped cancelled`.
    state: &'static str,
    /// Of a failure: `refused unsupported error withdrawn unanswered update_failed timeout`; of a skip: `already_there gone`.
    reason: Option<&'static str>,
    /// The device's words.
    detail: Option<String>,
    /// The command it was given last.
    cmd_id: Option<String>,
    /// How many commands it was given.
    attempts: u32,
    /// What it said last, 0 to 100.
    progress_pct: Option<f64>,
    #[schema(value_type = Option<String>, format = DateTime)]
    sent_at: Option<Time>,
    #[schema(value_type = String, format = DateTime)]
    changed_at: Time,
}

impl From<RolloutDevice> for RolloutDeviceBody {
    fn from(device: RolloutDevice) -> Self {
        Self {
            device_id: device.device.to_string(),
            stage: device.stage + 1,
            state: device.state.name(),
            reason: device.reason.map(|reason| reason.name()),
            detail: device.detail,
            cmd_id: device.cmd_id.map(|id| id.to_string()),
            attempts: device.attempts,
            progress_pct: device.progress_pct,
            sent_at: time(device.sent_at),
            changed_at: Time(device.changed_at),
        }
    }
}

/// Body of a new rollout.
#[derive(Debug, Validate, ToSchema)]
pub struct CreateRollout {
    #[garde(required)]
    #[schema(required = true, nullable = false, example = 1)]
    firmware_id: Option<i64>,
    /// These devices; without them all active ones of the firmware's type. At most 10 000.
    #[garde(inner(length(min = 1, max = MAX_NAMED)))]
    #[schema(value_type = Option<Vec<String>>)]
    device_ids: Option<Vec<DeviceId>>,
    /// Only devices whose id begins with this.
    #[garde(inner(length(min = 1, max = 128)))]
    device_prefix: Option<String>,
    /// Only devices of this location.
    #[garde(inner(length(min = 1, max = 256)))]
    location: Option<String>,
    /// How far each stage reaches: a number of devices, or a percentage; those of the stages before are counted in. The last
    /// one is `100%`. By default `["1%", "10%", "100%"]`.
    #[garde(skip)]
    #[schema(value_type = Option<Vec<String>>, example = json!(["5", "10%", "100%"]))]
    stages: Option<Vec<StageSize>>,
    /// Devices under way at once; 50 by default.
    #[garde(inner(range(min = 1, max = 1000)))]
    max_parallel: Option<u32>,
    /// With more failures than this, in percent of the devices of the stages so far, it pauses; 10 by default.
    #[garde(inner(range(max = 100)))]
    max_failed_pct: Option<u8>,
    /// A stage is passed when so many percent of the devices so far have confirmed; 90 by default.
    #[garde(inner(range(min = 1, max = 100)))]
    min_confirmed_pct: Option<u8>,
    /// How long a device may take from its command to its confirmation; an hour by default.
    #[garde(inner(range(min = 10, max = WEEK_S)))]
    device_timeout_s: Option<u64>,
    /// How long a passed stage is watched before the next begins; 0 by default.
    #[garde(inner(range(max = WEEK_S)))]
    soak_s: Option<u64>,
}

/// `["5", "10%"]`, or numbers in place of counts.
fn stages(fields: &mut Fields) -> Option<Vec<StageSize>> {
    let given: Vec<Value> = fields.take("stages", "a list")?;
    if given.is_empty() || given.len() > MAX_STAGES {
        fields.fault(Fault::new("stages", format!("must be 1 to {MAX_STAGES}")));
        return None;
    }
    let mut sizes = Vec::with_capacity(given.len());
    for (index, value) in given.iter().enumerate() {
        let size = match value {
            Value::String(text) => StageSize::parse(text),
            Value::Number(number) => StageSize::parse(&number.to_string()),
            _ => None,
        };
        match size {
            Some(size) => sizes.push(size),
            None => {
                let rule = "must be a number of devices from 1, or a percentage from \"1%\" to \"100%\"";
                fields.fault(Fault::new(format!("stages[{index}]"), rule));
            }
        }
    }
    Some(sizes)
}

fn device_ids(fields: &mut Fields) -> Option<Vec<DeviceId>> {
    let given: Vec<String> = fields.take("device_ids", "a list of device ids")?;
    let mut ids = Vec::with_capacity(given.len());
    for (index, text) in given.iter().enumerate() {
        match DeviceId::parse(text) {
            Some(id) => ids.push(id),
            None => fields.fault(Fault::new(format!("device_ids[{index}]"), "is not a device id")),
        }
    }
    ids.sort_unstable();
    ids.dedup();
    Some(ids)
}

impl Contract for CreateRollout {
    const RULE: Rule = Rule::Strict;

    fn read(fields: &mut Fields) -> Self {
        const WHOLE: &str = "a whole number";
        Self {
            firmware_id: fields.take("firmware_id", WHOLE),
            device_ids: device_ids(fields),
            device_prefix: fields.text("device_prefix"),
            location: fields.text("location"),
            stages: stages(fields),
            max_parallel: fields.take("max_parallel", WHOLE),
            max_failed_pct: fields.take("max_failed_pct", "a whole number from 0 to 100"),
            min_confirmed_pct: fields.take("min_confirmed_pct", "a whole number from 1 to 100"),
            device_timeout_s: fields.take("device_timeout_s", WHOLE),
            soak_s: fields.take("soak_s", WHOLE),
        }
    }
}

impl CreateRollout {
    /// As the store wants it.
    pub(super) fn into_new(self, now: Timestamp, by: String) -> Result<NewRollout, ApiError> {
        Ok(NewRollout {
            firmware: self.firmware_id.ok_or(ApiError::Internal("a validated body lacks a required field"))?,
            devices: self.device_ids.unwrap_or_default(),
            filter: DeviceFilter { id_prefix: self.device_prefix, location: self.location, ..DeviceFilter::default() },
            stages: self.stages.unwrap_or_else(|| STAGES.to_vec()),
            limits: Limits {
                max_parallel: self.max_parallel.unwrap_or(50),
                max_failed_pct: self.max_failed_pct.unwrap_or(10),
                min_confirmed_pct: self.min_confirmed_pct.unwrap_or(90),
                device_timeout: Duration::from_secs(self.device_timeout_s.unwrap_or(3600)),
                soak: Duration::from_secs(self.soak_s.unwrap_or(0)),
            },
            created_at: now,
            created_by: by,
        })
    }
}

/// Body of a resumption; may be empty.
#[derive(Debug, Validate, ToSchema)]
pub struct ResumeRollout {
    /// Devices that failed are tried again; else their failures are accepted. `false` by default.
    #[garde(skip)]
    retry_failed: Option<bool>,
}

impl Contract for ResumeRollout {
    const RULE: Rule = Rule::Strict;

    fn read(fields: &mut Fields) -> Self {
        Self { retry_failed: fields.take("retry_failed", "true or false") }
    }
}

impl ResumeRollout {
    pub(super) fn is_retry(&self) -> bool {
        self.retry_failed.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::body::parse;

    #[test]
    fn every_fault_of_a_rollout_is_named_at_once() {
        let check = |body: &str, expected: &[&str]| {
            let faults = parse::<CreateRollout>(body.as_bytes()).map_or_else(|e| e.faults().to_vec(), |_| Vec::new());
            let mut fields: Vec<_> = faults.iter().map(|f| f.field.as_str()).collect();
            fields.sort_unstable();
            assert_eq!(fields, expected, "{body}");
        };
        check(r#"{"firmware_id": 1}"#, &[]);
        check(r#"{"firmware_id": 1, "stages": [1, "5", "10%", "100%"], "device_ids": ["a", "a"], "soak_s": 5}"#, &[]);
        check("{}", &["firmware_id"]);
        check(
            r#"{"firmware_id": "x", "stages": ["0%", true, "100%"], "device_ids": ["a", "b/c"], "colour": 1,
                "max_parallel": 0, "max_failed_pct": 101, "min_confirmed_pct": 0, "device_timeout_s": 1, "soak_s": -1}"#,
            &[
                "colour",
                "device_ids[1]",
                "device_timeout_s",
                "firmware_id",
                "max_failed_pct",
                "max_parallel",
                "min_confirmed_pct",
                "soak_s",
                "stages[0]",
                "stages[1]",
            ],
        );
        check(r#"{"firmware_id": 1, "stages": [], "device_ids": []}"#, &["device_ids", "stages"]);
    }
}

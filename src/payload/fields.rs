//! The members of each kind of message but telemetry; the same for both versions.

use crate::domain::message::{AckResult, CommandAck, Hello, OtaState, OtaStatus};
use crate::domain::{Body, CommandId, Message, Refusal};

use super::draft::{Draft, Field, Scalar};
use super::{Context, Kind};

/// Longest firmware version kept, in bytes; a longer one is refused.
const MAX_VERSION_LEN: usize = 64;
/// How much of a meter's words is kept, in bytes.
const MAX_DETAIL_LEN: usize = 1024;

/// Refuses a payload that names another device than the topic; `Ok(false)` when it names none.
pub(super) fn names_device(context: &Context<'_>, draft: &Draft<'_>) -> Result<bool, Refusal> {
    match draft.optional(Field::DeviceId) {
        None => Ok(false),
        Some(Scalar::Text(id)) if *id == context.device.as_str() => Ok(true),
        Some(_) => Err(Refusal::DeviceMismatch),
    }
}

/// The body of a message that is not telemetry; `Err(NoMeasurements)` for telemetry, which has no such members.
pub(super) fn body(kind: Kind, draft: &Draft<'_>) -> Result<Body, Refusal> {
    match kind {
        Kind::Telemetry => Err(Refusal::NoMeasurements),
        Kind::Hello => Ok(Body::Hello(Hello {
            fw_version: version(draft, Field::FwVersion)?,
            uptime_s: unsigned(draft, Field::UptimeS)?,
            broker_connections: u32::try_from(unsigned(draft, Field::BrokerConnections)?)
                .map_err(|_| Refusal::BadField)?,
            buf_usage_pct: percent(draft, Field::BufUsagePct)?,
            temp_internal: match draft.optional(Field::TempInternal) {
                None => None,
                Some(value) => Some(value.number().ok_or(Refusal::BadField)?),
            },
        })),
        Kind::Status => match text(draft, Field::Status)? {
            "online" => Ok(Body::Status { online: true }),
            "offline" => Ok(Body::Status { online: false }),
            _ => Err(Refusal::BadField),
        },
        Kind::CommandAck => Ok(Body::CommandAck(CommandAck {
            cmd_id: command_id(draft)?,
            result: AckResult::from_name(text(draft, Field::Result)?).ok_or(Refusal::BadField)?,
            detail: detail(draft)?,
        })),
        Kind::OtaStatus => Ok(Body::OtaStatus(OtaStatus {
            cmd_id: command_id(draft)?,
            state: OtaState::from_name(text(draft, Field::OtaState)?).ok_or(Refusal::BadField)?,
            progress_pct: percent(draft, Field::ProgressPct)?,
            fw_version_target: version(draft, Field::FwVersionTarget)?,
            detail: detail(draft)?,
        })),
    }
}

/// A digest of the bytes, for a message without a counter: the first 8 bytes of their SHA-256, with the one bit set
/// that is not stored.
pub(super) fn digest(context: &Context<'_>) -> crate::domain::Sequence {
    use sha2::{Digest, Sha256};
    let hash = Sha256::digest(context.payload);
    let first = hash.iter().take(8).fold(0_u64, |digest, byte| digest << 8 | u64::from(*byte));
    crate::domain::Sequence::Digest(first | 1 << 63)
}

/// A text cut to `max` bytes, at a character.
pub(super) fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

fn text<'d>(draft: &'d Draft<'_>, field: Field) -> Result<&'d str, Refusal> {
    draft.get(field).and_then(Scalar::text).ok_or(Refusal::BadField)
}

fn version(draft: &Draft<'_>, field: Field) -> Result<String, Refusal> {
    let version = text(draft, field)?;
    if (1..=MAX_VERSION_LEN).contains(&version.len()) { Ok(version.to_owned()) } else { Err(Refusal::BadField) }
}

fn unsigned(draft: &Draft<'_>, field: Field) -> Result<u64, Refusal> {
    draft.get(field).and_then(Scalar::unsigned).ok_or(Refusal::BadField)
}

fn percent(draft: &Draft<'_>, field: Field) -> Result<f64, Refusal> {
    draft.get(field).and_then(Scalar::number).filter(|n| (0.0..=100.0).contains(n)).ok_or(Refusal::BadField)
}

fn command_id(draft: &Draft<'_>) -> Result<CommandId, Refusal> {
    CommandId::parse(text(draft, Field::CmdId)?).ok_or(Refusal::BadField)
}

fn detail(draft: &Draft<'_>) -> Result<Option<String>, Refusal> {
    match draft.optional(Field::Detail) {
        None => Ok(None),
        Some(value) => Ok(Some(cut(value.text().ok_or(Refusal::BadField)?, MAX_DETAIL_LEN).to_owned())),
    }
}

/// The message of a payload whose parts are judged.
pub(super) fn assemble(
    context: &Context<'_>,
    version: u8,
    ts: crate::domain::Timestamp,
    seq: crate::domain::Sequence,
    body: Body,
) -> Message {
    Message { device: context.device.clone(), ts, seq, version, body }
}

//! What goes in and out about a device.

use actix_web::HttpResponse;
use garde::Validate;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::api::body::{Contract, Fields, Rule};
use crate::api::error::{ApiError, Fault};
use crate::api::show::{Time, time};
use crate::domain::{DEFAULT_DEVICE_TYPE, DeviceId};
use crate::store::{Device, DeviceChange, NewDevice};

/// Largest metadata as JSON text.
const MAX_METADATA_BYTES: usize = 65_536;

/// A device.
#[derive(Serialize, ToSchema)]
pub struct DeviceBody {
    id: i64,
    device_id: String,
    device_name: String,
    device_type: String,
    location: Option<String>,
    /// `active` or `inactive`.
    status: &'static str,
    /// `online`, `offline` or `unknown`.
    connection_status: &'static str,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_seen: Option<Time>,
    fw_version: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Time,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Time,
    #[schema(value_type = Object)]
    metadata: Map<String, Value>,
    /// The MQTT password of the device; only in the answer to its registration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<String>,
    #[serde(skip)]
    pub(super) version: i64,
}

/// `active` or `inactive`.
pub(super) fn status_name(is_active: bool) -> &'static str {
    if is_active { "active" } else { "inactive" }
}

impl From<Device> for DeviceBody {
    fn from(d: Device) -> Self {
        Self {
            id: d.id,
            device_id: d.device_id.to_string(),
            device_name: d.device_name,
            device_type: d.device_type,
            location: d.location,
            status: status_name(d.is_active),
            connection_status: d.connection.name(),
            last_seen: time(d.last_seen),
            fw_version: d.fw_version,
            created_at: Time(d.created_at),
            updated_at: Time(d.updated_at),
            metadata: d.metadata,
            token: None,
            version: d.version,
        }
    }
}

/// A sentence.
#[derive(Serialize, ToSchema)]
pub struct MessageBody {
    message: String,
}

impl MessageBody {
    /// 200 with a sentence.
    pub fn ok(message: String) -> HttpResponse {
        HttpResponse::Ok().json(Self { message })
    }
}

/// A device's new MQTT password.
#[derive(Serialize, ToSchema)]
#[allow(missing_docs)]
pub struct TokenBody {
    pub device_id: String,
    pub token: String,
}

fn check_device_id(id: &str, (): &()) -> garde::Result {
    match DeviceId::is_valid(id) {
        true => Ok(()),
        false => Err(garde::Error::new("must be 1 to 128 of A-Z a-z 0-9 . _ - and not start with . or -")),
    }
}

fn check_status(status: &str, (): &()) -> garde::Result {
    match status {
        "active" | "inactive" => Ok(()),
        _ => Err(garde::Error::new("must be active or inactive")),
    }
}

fn check_metadata(metadata: &Map<String, Value>, (): &()) -> garde::Result {
    let size = serde_json::to_vec(metadata).map_or(usize::MAX, |text| text.len());
    if size <= MAX_METADATA_BYTES {
        return Ok(());
    }
    Err(garde::Error::new(format!("must be at most {MAX_METADATA_BYTES} bytes of JSON")))
}

fn check_optional_metadata(metadata: &Option<Map<String, Value>>, context: &()) -> garde::Result {
    metadata.as_ref().map_or(Ok(()), |m| check_metadata(m, context))
}

/// Body of a registration.
#[derive(Clone, Debug, Validate, ToSchema)]
pub struct CreateDevice {
    /// 1 to 128 of `A-Z a-z 0-9 . _ -`, not starting with `.` or `-`.
    #[garde(required, inner(custom(check_device_id)))]
    #[schema(required = true, nullable = false, example = "dc-meter-007")]
    device_id: Option<String>,
    #[garde(required, inner(length(chars, min = 1, max = 256)))]
    #[schema(required = true, nullable = false)]
    device_name: Option<String>,
    #[garde(inner(length(chars, min = 1, max = 64)))]
    device_type: Option<String>,
    #[garde(inner(length(chars, max = 256)))]
    location: Option<String>,
    /// `active` (default) or `inactive`.
    #[garde(inner(custom(check_status)))]
    status: Option<String>,
    #[garde(custom(check_optional_metadata))]
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
}

impl Contract for CreateDevice {
    const RULE: Rule = Rule::Lenient;

    fn read(fields: &mut Fields) -> Self {
        Self {
            device_id: fields.text("device_id"),
            device_name: fields.text("device_name"),
            device_type: fields.text("device_type"),
            location: fields.text("location"),
            status: fields.text("status"),
            metadata: fields.object("metadata"),
        }
    }
}

impl CreateDevice {
    /// Whether the device is as this says; what is not given may be as it likes.
    pub(super) fn is_said_of(&self, device: &Device) -> bool {
        let is = |said: &Option<String>, has: &str| said.as_ref().is_none_or(|said| said == has);
        is(&self.device_id, device.device_id.as_str())
            && is(&self.device_name, &device.device_name)
            && is(&self.device_type, &device.device_type)
            && is(&self.location, device.location.as_deref().unwrap_or_default())
            && is(&self.status, status_name(device.is_active))
            && self.metadata.as_ref().is_none_or(|said| *said == device.metadata)
    }

    /// The device to add, with its token's digest; `None` only when the body was not validated.
    pub(super) fn into_new(self, token_sha256: [u8; 32]) -> Option<NewDevice> {
        Some(NewDevice {
            device_id: DeviceId::parse(&self.device_id?)?,
            device_name: self.device_name?,
            device_type: self.device_type.unwrap_or_else(|| DEFAULT_DEVICE_TYPE.to_owned()),
            location: self.location,
            is_active: self.status.as_deref() != Some("inactive"),
            metadata: self.metadata.unwrap_or_default(),
            token_sha256: Some(token_sha256),
        })
    }
}

/// Body of a change: at least one field. `name` and `type` are read as `device_name` and `device_type`.
#[derive(Debug, Validate, ToSchema)]
pub struct UpdateDevice {
    #[garde(inner(length(chars, min = 1, max = 256)))]
    device_name: Option<String>,
    #[garde(inner(length(chars, min = 1, max = 64)))]
    device_type: Option<String>,
    #[garde(inner(length(chars, max = 256)))]
    location: Option<String>,
    /// `active` or `inactive`.
    #[garde(inner(custom(check_status)))]
    status: Option<String>,
    #[garde(custom(check_optional_metadata))]
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
}

impl Contract for UpdateDevice {
    const RULE: Rule = Rule::Lenient;

    fn read(fields: &mut Fields) -> Self {
        Self {
            device_name: fields.text("device_name").or_else(|| fields.text("name")),
            device_type: fields.text("device_type").or_else(|| fields.text("type")),
            location: fields.text("location"),
            status: fields.text("status"),
            metadata: fields.object("metadata"),
        }
    }
}

impl UpdateDevice {
    /// The change; 400 when there is none.
    pub(super) fn into_change(self) -> Result<DeviceChange, ApiError> {
        let change = DeviceChange {
            device_name: self.device_name,
            device_type: self.device_type,
            location: self.location,
            is_active: self.status.map(|s| s == "active"),
            metadata: self.metadata,
        };
        if change != DeviceChange::default() {
            return Ok(change);
        }
        let names = "must hold at least one of device_name, device_type, location, status, metadata";
        Err(ApiError::Bad(vec![Fault::new("body", names)]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::body::parse;

    #[test]
    fn a_registration_names_all_its_faults() {
        let check = |body: &str, expected: &[&str]| {
            let mut faults: Vec<String> = match parse::<CreateDevice>(body.as_bytes()) {
                Ok(_) => Vec::new(),
                Err(error) => error.faults().iter().map(|f| f.field.clone()).collect(),
            };
            faults.sort();
            assert_eq!(faults, expected, "{body}");
        };
        check(r#"{"device_id":"a","device_name":"A","colour":"ignored"}"#, &[]);
        check("{}", &["device_id", "device_name"]);
        check(r#"{"device_id":".a","device_name":"","status":"gone"}"#, &["device_id", "device_name", "status"]);
        check(r#"{"device_id":5,"device_name":null,"metadata":[]}"#, &["device_id", "device_name", "metadata"]);
    }

    #[test]
    fn a_change_of_nothing_is_refused() {
        assert!(parse::<UpdateDevice>(br#"{"colour":1}"#).unwrap().into_change().is_err());
        let change = parse::<UpdateDevice>(br#"{"name":"n","status":"inactive"}"#).unwrap().into_change().unwrap();
        assert_eq!((change.device_name.as_deref(), change.is_active), (Some("n"), Some(false)));
    }
}

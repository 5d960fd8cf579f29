//! The key that a device's commands are signed with: made here, shown once, kept sealed.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, post, web};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Target;
use super::error::ApiError;
use super::{State, json};
use crate::domain::DeviceId;
use crate::store::Sealed;
use crate::vault::{self, Purpose, Secret32};

/// A command key, twice: whichever form the meter wants.
#[derive(Serialize, ToSchema)]
pub struct CommandKeyBody {
    device_id: String,
    /// 64 hexadecimal digits.
    command_key: String,
    /// The same 32 bytes.
    command_key_base64: String,
}

/// A new key, and what is to be kept of it.
pub(super) fn make(state: &State, id: &DeviceId) -> (Secret32, Sealed) {
    let vault = &state.services.vault;
    let key = vault::random_32();
    let envelope = vault.seal(Purpose::CommandKey, id.as_str(), &*key);
    (key, Sealed { key_id: vault.current().to_string(), envelope })
}

/// Makes a new command key, which is shown in this answer only. From now on the device gets signed commands; what was
/// signed by an earlier key and is still under way the device refuses.
#[utoipa::path(tag = "devices", params(("id" = String, Path, description = "Device id")),
    responses((status = 201, body = CommandKeyBody), (status = 404, body = super::Problem)))]
#[post("/api/devices/{id}/command-key")]
pub async fn create_command_key(state: web::Data<State>, Target(id): Target) -> Result<HttpResponse, ApiError> {
    let (key, sealed) = make(&state, &id);
    let (wanted, now) = (id.clone(), state.services.clock.now());
    let is_kept = state.store(move |s| s.set_device_secret(&wanted, Purpose::CommandKey.name(), &sealed, now)).await?;
    if !is_kept {
        return Err(ApiError::no_device(id.as_str()));
    }
    let body = CommandKeyBody {
        device_id: id.to_string(),
        command_key: hex::encode(key.as_slice()),
        command_key_base64: STANDARD.encode(key.as_slice()),
    };
    Ok(json(StatusCode::CREATED, &body))
}

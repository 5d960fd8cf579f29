//! Figures about everything.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, get, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Principal;
use super::error::ApiError;
use super::{State, json};

/// Counts of devices, alerts and commands.
#[derive(Serialize, ToSchema)]
pub struct StatsBody {
    total_devices: u64,
    device_by_status: Vec<StatusCount>,
    device_by_connection: Vec<ConnectionCount>,
    unacknowledged_alerts: u64,
    commands_by_status: Vec<StatusCount>,
}

/// How many have a status.
#[derive(Serialize, ToSchema)]
pub struct StatusCount {
    status: String,
    count: u64,
}

/// How many have a connection status.
#[derive(Serialize, ToSchema)]
pub struct ConnectionCount {
    connection_status: String,
    count: u64,
}

/// Counts of devices, alerts and commands.
#[utoipa::path(tag = "system", responses((status = 200, body = StatsBody)))]
#[get("/api/stats")]
pub async fn stats(state: web::Data<State>, principal: Principal) -> Result<HttpResponse, ApiError> {
    principal.whole_fleet()?;
    let stats = state.store(|s| s.stats()).await?;
    let by_status = |counts: Vec<(String, u64)>| {
        counts.into_iter().map(|(status, count)| StatusCount { status, count }).collect::<Vec<_>>()
    };
    let commands = stats.commands_by_status();
    let connections = stats.device_by_connection.into_iter();
    let body = StatsBody {
        total_devices: stats.total_devices,
        device_by_status: by_status(stats.device_by_status),
        device_by_connection: connections
            .map(|(connection_status, count)| ConnectionCount { connection_status, count })
            .collect(),
        unacknowledged_alerts: stats.unacknowledged_alerts,
        commands_by_status: by_status(commands),
    };
    Ok(json(StatusCode::OK, &body))
}

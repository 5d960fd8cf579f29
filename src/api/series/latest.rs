//! The newest value of each type, by sample time.

use actix_web::{HttpResponse, get, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::{PointBody, known_state};
use crate::api::State;
use crate::api::auth::Target;
use crate::api::error::ApiError;
use crate::api::show::Time;
use crate::series::Quantity;

/// The newest value of a type, and how old it is.
#[derive(Serialize, ToSchema)]
pub struct LatestBody {
    #[serde(flatten)]
    point: PointBody,
    /// Seconds since it was measured; negative when the meter's clock is ahead.
    age_s: f64,
}

/// The newest value of each type, by sample time.
#[utoipa::path(tag = "data", params(("id" = String, Path, description = "Device id")),
    responses((status = 200, body = Vec<LatestBody>), (status = 404, body = crate::api::Problem)))]
#[get("/api/devices/{id}/latest")]
pub async fn latest(state: web::Data<State>, Target(id): Target) -> Result<HttpResponse, ApiError> {
    let known = known_state(&state, &id).await?;
    let now = state.services.clock.now();
    let show = |(metric, newest): (crate::domain::Metric, crate::domain::device::Latest)| {
        let is_plausible = metric.is_plausible(newest.value);
        let quantity = Quantity::Measured(metric);
        let usual = Some(quantity.unit()).filter(|unit| !unit.is_empty());
        let point = PointBody {
            time: Time(newest.ts),
            device_id: id.to_string(),
            metric: quantity.name().to_owned(),
            value: newest.value,
            unit: newest.unit.as_deref().or(usual).map(str::to_owned),
            quality: (!is_plausible).then_some("out_of_range"),
        };
        LatestBody { point, age_s: now.0.saturating_sub(newest.ts.0) as f64 / 1e6 }
    };
    Ok(HttpResponse::Ok().json(known.latest.into_iter().map(show).collect::<Vec<_>>()))
}

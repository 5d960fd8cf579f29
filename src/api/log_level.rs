//! What is logged, asked for and changed while the process runs. A change holds until the next one, or the next start.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, get, put};
use garde::Validate;
use serde::Serialize;
use utoipa::ToSchema;

use super::body::{Body, Contract, Fields, Rule};
use super::error::ApiError;
use super::json;
use super::record::Remark;
use crate::observe::log::{self, LevelError};

/// What is logged.
#[derive(Serialize, ToSchema)]
pub struct LogLevel {
    /// A level (`off error warn info debug trace`), or `target=level` separated by commas; as the setting `log.level`.
    level: String,
}

/// What is to be logged.
#[derive(Debug, Validate, ToSchema)]
pub struct NewLogLevel {
    /// A level (`off error warn info debug trace`), or `target=level` separated by commas.
    #[garde(required, inner(length(bytes, max = 1024), custom(is_filter)))]
    #[schema(required, nullable = false)]
    level: Option<String>,
}

impl Contract for NewLogLevel {
    const RULE: Rule = Rule::Strict;

    fn read(fields: &mut Fields) -> Self {
        Self { level: fields.text("level") }
    }
}

fn is_filter(text: &str, (): &()) -> garde::Result {
    log::check_filter(text).map_err(|error| garde::Error::new(format!("must be one: {error}")))
}

/// Not a matter of the request: it was checked.
fn refused(error: LevelError) -> ApiError {
    ApiError::Conflict(error.to_string())
}

/// What is logged now.
#[utoipa::path(tag = "system", responses((status = 200, body = LogLevel)))]
#[get("/api/system/log-level")]
pub async fn get_log_level() -> Result<HttpResponse, ApiError> {
    let level = log::filter().ok_or_else(|| refused(LevelError::NotStarted))?;
    Ok(json(StatusCode::OK, &LogLevel { level }))
}

/// Changes what is logged, from now until the next change or start. SIGUSR1 and SIGUSR2 do it by a step.
#[utoipa::path(tag = "system", request_body = NewLogLevel, responses(
    (status = 200, body = LogLevel), (status = 422, description = "Not a level", body = super::error::Problem)))]
#[put("/api/system/log-level")]
pub async fn set_log_level(Body(body): Body<NewLogLevel>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let level = body.level.unwrap_or_default();
    let before = log::set_filter(&level).map_err(refused)?;
    Remark { detail: Some(format!("from {before} to {level}")), ..Remark::default() }.on(&request);
    tracing::info!(before, value = level, "the log level was changed");
    Ok(json(StatusCode::OK, &LogLevel { level }))
}

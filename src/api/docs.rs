//! The API's description of itself: the OpenAPI document, and a page for it that loads nothing from elsewhere.

use std::sync::{Arc, LazyLock};

use actix_web::http::header::{CONTENT_SECURITY_POLICY, LOCATION};
use actix_web::{HttpResponse, get, web};
use utoipa_swagger_ui::{Config, serve};

use super::error::ApiError;
use super::routes::document;

/// The page's own scripts; it styles itself inline and has a few pictures as data.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      font-src 'self' data:; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'";

static DOCUMENT: LazyLock<String> = LazyLock::new(|| document().to_json().unwrap_or_default());
static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| Arc::new(Config::from("/api/openapi.json")));

/// This document.
#[utoipa::path(tag = "docs", responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json")))]
#[get("/api/openapi.json")]
pub async fn openapi_json() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(DOCUMENT.as_str())
}

/// Leads to the browsable page.
#[utoipa::path(tag = "docs", responses((status = 308, description = "See /api/docs/")))]
#[get("/api/docs")]
pub async fn docs_entry() -> HttpResponse {
    HttpResponse::PermanentRedirect().insert_header((LOCATION, "/api/docs/")).finish()
}

/// The browsable page and its parts.
#[utoipa::path(tag = "docs", params(("file" = String, Path, description = "Empty for the page itself")),
    responses((status = 200, description = "A part of the page"), (status = 404, body = super::Problem)))]
#[get("/api/docs/{file:.*}")]
pub async fn docs_page(file: web::Path<String>) -> Result<HttpResponse, ApiError> {
    let found = serve(&file, Arc::clone(&CONFIG)).map_err(|_| ApiError::Internal("the docs page is broken"))?;
    let file = found.ok_or_else(|| ApiError::NotFound("this part of the page was".to_owned()))?;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .content_type(file.content_type)
        .body(file.bytes.into_owned()))
}

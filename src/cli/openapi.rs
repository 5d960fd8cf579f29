//! `openapi`: the API's description, as the server gives it at `/api/openapi.json`.

use std::process::ExitCode;

use clap::Args;

use super::global::Global;
use super::output;

/// Print the OpenAPI document of the REST API
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  iot-meter openapi > openapi.json")]
pub(super) struct OpenapiArgs {}

pub(super) fn run(_args: OpenapiArgs, _global: &Global) -> anyhow::Result<ExitCode> {
    output::print_text(&(serde_json::to_string_pretty(&crate::api::document())? + "\n"))?;
    Ok(ExitCode::SUCCESS)
}

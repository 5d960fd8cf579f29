//! `check-config`: the settings in force with their sources, or every fault; and the documented defaults.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::global::{Global, Output};
use super::output;
use super::serve::check_files;
use crate::config::{ConfigError, default_toml, effective_json, effective_text};

/// Check the settings and print what is in force, each with its source; secrets stay hidden
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iot-meter check-config --config /etc/iot-meter/iot-meter.toml
  iot-meter check-config --output json
  iot-meter check-config --print-default > iot-meter.toml   every key with its default, unit and range

Exit code 78 when something is wrong; all faults are listed at once.")]
pub(super) struct CheckConfigArgs {
    /// Print the documented file of all defaults instead
    #[arg(long)]
    print_default: bool,
}

pub(super) fn run(args: CheckConfigArgs, global: &Global) -> anyhow::Result<ExitCode> {
    if args.print_default {
        output::print_text(&default_toml())?;
        return Ok(ExitCode::SUCCESS);
    }
    let checked = global.load(Vec::new()).and_then(|loaded| check_files(&loaded).map(|()| loaded));
    match checked {
        Ok(loaded) => {
            output::print(global.output, &effective_json(&loaded), || effective_text(&loaded))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            if global.output == Output::Json {
                output::print(global.output, &faults_json(&error), String::new)?;
            }
            Err(error.into())
        }
    }
}

fn faults_json(error: &ConfigError) -> serde_json::Value {
    let fault = |f: &crate::config::Fault| json!({"key": f.key, "source": f.source.to_string(), "message": f.message});
    json!({"faults": error.faults.iter().map(fault).collect::<Vec<_>>()})
}

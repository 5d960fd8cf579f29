//! `migrate`: brings the database's tables up to this build.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::global::Global;
use super::output;
use crate::store;

/// Bring the database's tables up to this version (`serve` does it too when it starts)
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iot-meter migrate --data-dir /var/lib/iot-meter
  iot-meter migrate --dry-run        say what would be done")]
pub(super) struct MigrateArgs {
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: MigrateArgs, global: &Global) -> anyhow::Result<ExitCode> {
    global.log_quietly()?;
    let settings = global.load(Vec::new())?.settings;
    let url = &settings.database.url;
    anyhow::ensure!(!args.dry_run, "--dry-run is not part of this build yet");
    super::global::make_data_dir(&settings.data_dir)?;
    let store = store::open(url.reveal()).with_context(|| format!("cannot migrate {}", url.redacted()))?;
    store.ping().with_context(|| format!("{} does not answer", url.redacted()))?;
    let done = json!({"database": url.redacted(), "migrated": true});
    output::print(global.output, &done, || format!("{} is up to date\n", url.redacted()))?;
    Ok(ExitCode::SUCCESS)
}

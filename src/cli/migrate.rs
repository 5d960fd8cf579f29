//! `migrate`: brings the database's tables up to this build.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::global::{Global, make_data_dir};
use super::output;
use crate::store::{self, Engine};

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
    if !args.dry_run {
        make_data_dir(&settings.data_dir)?;
    }
    let names =
        store::migrate(url.reveal(), args.dry_run).with_context(|| format!("cannot migrate {}", url.redacted()))?;
    let engines =
        store::engines(url.reveal()).with_context(|| format!("cannot look at the tables of {}", url.redacted()))?;
    let shown: Vec<_> =
        engines.iter().map(|e| json!({"name": e.name, "version": e.version, "tables": e.tables})).collect();
    let answer = json!({"database": url.redacted(), "dry_run": args.dry_run, "migrations": names, "extensions": shown});
    output::print(global.output, &answer, || describe(&names, args.dry_run) + &describe_engines(&engines))?;
    Ok(ExitCode::SUCCESS)
}

fn describe(names: &[String], dry_run: bool) -> String {
    let verb = if dry_run { "would apply" } else { "applied" };
    match names.is_empty() {
        true => "the database is up to date\n".to_owned(),
        false => names.iter().map(|name| format!("{verb} {name}\n")).collect(),
    }
}

/// `timescaledb 2.17.2: telemetry hypertable, device_events hypertable`
fn describe_engines(engines: &[Engine]) -> String {
    let line = |engine: &Engine| match engine.tables.is_empty() {
        true => format!("{} {}: no table is spread or cut by it; see deploy/sql\n", engine.name, engine.version),
        false => format!("{} {}: {}\n", engine.name, engine.version, engine.tables.join(", ")),
    };
    engines.iter().map(line).collect()
}

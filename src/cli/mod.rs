//! The command line: one file a subcommand, each with its arguments, its help and a `run`.
//!
//! Promise: exit codes are 0 good, 1 failed while running, 2 bad usage, 78 bad configuration; answers go to stdout,
//! everything else to stderr; `--output json` gives one JSON value instead of text; what is written is for its user alone.
//! Composition only: a subcommand calls the room that does the work. Completions and manual pages come from the same
//! definitions.
//!
//! Start from [`main`].

mod archive;
mod audit;
mod backup;
mod check_config;
mod claim;
mod client;
mod completions;
mod desk;
mod device;
mod global;
mod healthcheck;
mod import;
mod journal;
mod key;
mod live;
mod load;
mod migrate;
mod openapi;
mod output;
mod pki;
mod progress;
mod reference;
mod restore;
mod runtime;
mod serve;
mod service;
mod simulate;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::api::ExportFault;
use crate::config::ConfigError;
use crate::{load as generator, simulate as fleet};
use global::Global;

/// Exit code of bad usage: clap's.
const EXIT_USAGE: u8 = 2;
/// Exit code of a bad configuration (`EX_CONFIG` of sysexits).
const EXIT_CONFIG: u8 = 78;

const EXAMPLES: &str = "\
Examples:
  iot-meter serve --demo 20 --open        see twenty simulated meters being measured
  iot-meter serve --data-dir /var/lib/iot-meter
  iot-meter check-config                  what is in force, and where each value came from
  iot-meter device add dc-meter-007       register a meter at the server running on this machine

Settings: flag, then environment (IOT_METER__SECTION__KEY), then file, then default.";

/// Collects power measurements from meters on trains: MQTT broker, collector, REST API, console and metrics in one process.
#[derive(Debug, Parser)]
#[command(name = "iot-meter", version, after_help = EXAMPLES, arg_required_else_help = true, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
    Simulate(simulate::SimulateArgs),
    Load(load::LoadArgs),
    Migrate(migrate::MigrateArgs),
    CheckConfig(check_config::CheckConfigArgs),
    Healthcheck(healthcheck::HealthcheckArgs),
    Openapi(openapi::OpenapiArgs),
    Key(key::KeyArgs),
    Pki(pki::PkiArgs),
    Audit(audit::AuditArgs),
    Device(device::DeviceArgs),
    Claim(claim::ClaimArgs),
    Service(service::ServiceArgs),
    Journal(journal::JournalArgs),
    Archive(archive::ArchiveArgs),
    Backup(backup::BackupArgs),
    Restore(restore::RestoreArgs),
    Import(import::ImportArgs),
    Completions(completions::CompletionsArgs),
    Man(completions::ManArgs),
}

impl Command {
    /// Whether all it writes are files that somebody has asked for to give away: measurements, manual pages.
    fn writes_for_others(&self) -> bool {
        matches!(self, Self::Archive(_) | Self::Man(_))
    }
}

/// Every command with its options, as a table for the documentation.
pub fn reference() -> String {
    reference::markdown(Cli::command())
}

/// Runs the command line of the process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(EXIT_USAGE));
        }
    };
    run(cli).unwrap_or_else(|error| report(&error))
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let global = &cli.global;
    if !cli.command.writes_for_others() {
        // Whoever begins the data directory, its database is for this user alone, and so are keys that go elsewhere.
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    }
    match cli.command {
        Command::Serve(args) => serve::run(args, global),
        Command::Simulate(args) => simulate::run(args, global),
        Command::Load(args) => load::run(args, global),
        Command::Migrate(args) => migrate::run(args, global),
        Command::CheckConfig(args) => check_config::run(args, global),
        Command::Healthcheck(args) => healthcheck::run(args, global),
        Command::Openapi(args) => openapi::run(args, global),
        Command::Key(args) => key::run(args, global),
        Command::Pki(args) => pki::run(args, global),
        Command::Audit(args) => audit::run(args, global),
        Command::Device(args) => device::run(args, global),
        Command::Claim(args) => claim::run(args, global),
        Command::Service(args) => service::run(args, global),
        Command::Journal(args) => journal::run(args, global),
        Command::Archive(args) => archive::run(args, global),
        Command::Backup(args) => backup::run(args, global),
        Command::Restore(args) => restore::run(args, global),
        Command::Import(args) => import::run(args, global),
        Command::Completions(args) => completions::run(args, Cli::command()),
        Command::Man(args) => completions::run_man(args, Cli::command()),
    }
}

/// Says what went wrong, with its causes, and chooses the exit code.
fn report(error: &anyhow::Error) -> ExitCode {
    if output::is_broken_pipe(error) {
        // The reader has seen enough (`| head`).
        return ExitCode::SUCCESS;
    }
    if let Some(config) = error.downcast_ref::<ConfigError>() {
        say(format_args!("error: {config}"));
        return ExitCode::from(EXIT_CONFIG);
    }
    say(format_args!("error: {error:#}"));
    if is_bad_usage(error) { ExitCode::from(EXIT_USAGE) } else { ExitCode::FAILURE }
}

/// Whether options were refused by the room that was given them.
fn is_bad_usage(error: &anyhow::Error) -> bool {
    let is_of_fleet = |error: &fleet::Error| matches!(error, fleet::Error::OutOfRange { .. });
    let is_of_load = |error: &generator::Error| match error {
        generator::Error::OutOfRange { .. } => true,
        generator::Error::Simulate(error) => is_of_fleet(error),
        _ => false,
    };
    error.is::<ExportFault>()
        || error.downcast_ref::<fleet::Error>().is_some_and(is_of_fleet)
        || error.downcast_ref::<generator::Error>().is_some_and(is_of_load)
}

/// A line on stderr. Where that cannot be written (a file on a disk that is full or has failed), the exit code says it alone.
fn say(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_subcommand_has_help_with_examples() {
        fn check(command: &clap::Command, path: &str) {
            for command in command.get_subcommands().filter(|c| c.get_name() != "help") {
                let path = format!("{path} {}", command.get_name());
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Example") && help.contains(&path), "{path} has no example");
                assert!(command.get_about().is_some(), "{path}");
                check(command, &path);
            }
        }
        let mut cli = Cli::command();
        cli.build();
        check(&cli, "iot-meter");
    }

    #[test]
    fn usage_errors_exit_with_2_and_help_with_0() {
        let code = |args: &[&str]| Cli::try_parse_from(args).expect_err("is no command to run").exit_code();
        assert_eq!(code(&["iot-meter", "serve", "--nonsense"]), 2);
        assert_eq!(code(&["iot-meter", "nonsense"]), 2);
        assert_eq!(code(&["iot-meter", "--help"]), 0);
        assert_eq!(code(&["iot-meter", "serve", "--help"]), 0);
    }

    #[test]
    fn values_that_cannot_be_meant_are_bad_usage() {
        let check = |line: &str, is_good: bool| {
            let parsed = Cli::try_parse_from(line.split(' '));
            assert_eq!(parsed.map(drop).map_err(|e| e.exit_code()), if is_good { Ok(()) } else { Err(2) }, "{line}");
        };
        for speed in ["0.1", "1000", "7"] {
            check(&format!("iot-meter simulate --speed {speed}"), true);
        }
        for speed in ["0", "0.09", "1001", "NaN", "inf", "fast"] {
            check(&format!("iot-meter simulate --speed {speed}"), false);
        }
        check("iot-meter simulate --claim x", false);
        check("iot-meter simulate --claim x --api http://h", true);
        check("iot-meter load --broker http://h", false);
        check("iot-meter load --broker mqtts://h", true);
        check("iot-meter key create --name n --expires 2026-01-31", false);
        check("iot-meter key create --name n --expires 9999-01-31", true);
        for command in ["revoke", "renew"] {
            check(&format!("iot-meter pki {command} xyz"), false);
            check(&format!("iot-meter pki {command} 4F:0a"), true);
        }
        check("iot-meter archive export --device m1 --out x --format xml", false);
        check("iot-meter archive export --device m1 --out x --format ndjson", true);
    }

    #[test]
    fn options_that_a_room_refuses_are_bad_usage_and_what_fails_later_is_not() {
        let brokers = vec!["mqtt://h".parse::<fleet::BrokerUrl>().expect("is one"); 6];
        let fleet = fleet::Options { brokers, ..fleet::Options::default() };
        assert!(is_bad_usage(&fleet.check().expect_err("are too many").into()));
        let load = generator::Options { prefix: "/".to_owned(), ..generator::Options::default() };
        assert!(is_bad_usage(&load.check().expect_err("is no id").into()));
        assert!(is_bad_usage(&ExportFault::Format("xml".to_owned()).into()));
        let refused = generator::Error::Refused { device_id: "m".to_owned(), code: 5 };
        assert!(!is_bad_usage(&refused.into()));
        assert!(!is_bad_usage(&anyhow::anyhow!("the disk is full")));
    }
}

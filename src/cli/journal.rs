//! `journal`: what is in the journal's files, read while no server runs on them.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::global::Global;

/// Check and look into the journal of a data directory; no server may run on it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iot-meter journal verify --data-dir /var/lib/iot-meter     exit code 1 when something is damaged
  iot-meter journal verify --salvage                         give up damaged records, keep all others
  iot-meter journal inspect --from 120000 --limit 20
  iot-meter journal inspect --output json | jq .topic        one object a record")]
pub(super) struct JournalArgs {
    #[command(subcommand)]
    pub(super) command: JournalCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum JournalCommand {
    /// Read every record and explain what is wrong, with offsets
    Verify {
        /// Rewrite damaged segments without their damaged records; the old files are kept beside them
        #[arg(long)]
        salvage: bool,
        /// The journal's directory [default: journal in the data directory]
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Show records
    Inspect {
        /// First offset [default: the first there is]
        #[arg(long, value_name = "OFFSET", default_value_t = 0)]
        from: u64,
        /// Records at most
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u64,
        /// The journal's directory [default: journal in the data directory]
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

impl JournalCommand {
    /// The directory meant.
    fn dir(&self, global: &Global) -> anyhow::Result<PathBuf> {
        let (Self::Verify { dir, .. } | Self::Inspect { dir, .. }) = self;
        match dir {
            Some(dir) => Ok(dir.clone()),
            None => Ok(global.load(Vec::new())?.settings.data_dir.join("journal")),
        }
    }
}

pub(super) fn run(args: JournalArgs, global: &Global) -> anyhow::Result<ExitCode> {
    global.log_quietly()?;
    let dir = args.command.dir(global)?;
    anyhow::ensure!(dir.is_dir(), "{} is no directory", dir.display());
    anyhow::bail!("the journal is not part of this build yet")
}
